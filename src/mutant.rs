//! Ways of breaking a promise on purpose: what proves that the checks of power cuts can fail.
//!
//! None of them is in a normal build. `scripts/soak power` builds one with each of the first four, and every such build must
//! be caught. In tests a thread may have one for a while, and `daemon::simulation` must catch each.

/// A promise that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Lines of logs are not synced: what is accepted is in memory only.
    NoLogSync,
    /// Folders are not synced: a renamed file may be gone, or be back where it was.
    NoDirSync,
    /// Records get their names before their contents are synced.
    PublishBeforeSync,
    /// Long texts are not synced before the line that names them.
    TextUnsynced,
    /// Lines are carried out and answered, and then synced.
    AnsweredBeforeSync,
    /// Files are decided about before it is on disk that they were taken.
    ClaimUnsynced,
    /// A checkpoint is written, and nothing is synced before it.
    CheckpointUnsynced,
    /// A supervisor does not look whether its run has begun.
    BeginUnchecked,
    /// A run whose supervisor's number some process has is taken for alive.
    PidTrusted,
    /// A daemon that starts believes the log that it reads, and does not sync it.
    LogTrusted,
}

/// Whether this promise is broken here.
#[cfg(not(test))]
pub(crate) const fn breaks(mutant: Mutant) -> bool {
    match mutant {
        Mutant::NoLogSync => cfg!(gitspool_mutant = "no_log_sync"),
        Mutant::NoDirSync => cfg!(gitspool_mutant = "no_dir_sync"),
        Mutant::PublishBeforeSync => cfg!(gitspool_mutant = "publish_before_sync"),
        Mutant::TextUnsynced => cfg!(gitspool_mutant = "text_unsynced"),
        Mutant::AnsweredBeforeSync
        | Mutant::ClaimUnsynced
        | Mutant::CheckpointUnsynced
        | Mutant::BeginUnchecked
        | Mutant::PidTrusted
        | Mutant::LogTrusted => false,
    }
}

#[cfg(test)]
pub(crate) use tests::{breaks, with};

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static HERE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether the thread has this one now.
    pub(crate) fn breaks(mutant: Mutant) -> bool {
        HERE.get() == Some(mutant)
    }

    /// Does something with a promise broken.
    pub(crate) fn with<T>(mutant: Mutant, doing: impl FnOnce() -> T) -> T {
        HERE.set(Some(mutant));
        let done = doing();
        HERE.set(None);
        done
    }

    #[test]
    fn a_promise_is_broken_only_where_that_is_asked_for() {
        assert!(!breaks(Mutant::NoLogSync));
        assert!(with(Mutant::NoLogSync, || breaks(Mutant::NoLogSync) && !breaks(Mutant::NoDirSync)));
        assert!(!breaks(Mutant::NoLogSync));
    }
}
