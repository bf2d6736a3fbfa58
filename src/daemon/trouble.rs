//! Why a daemon ends that nobody asked to, and why a run is not to be had.

use std::path::PathBuf;

use crate::jsonl;
use crate::log::LogError;
use crate::shortage::Shortage;
use crate::spool::SpoolError;
use crate::store::{self, StoreError};
use crate::watch::WatchError;

/// Why the daemon cannot work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error("another daemon{pid} holds {}", spool.display())]
    Held { pid: String, spool: PathBuf },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error("admission stopped: {0}")]
    Stopped(String),
}

impl DaemonError {
    /// What there was too little of, if that was it.
    pub(super) fn shortage(&self) -> Option<Shortage> {
        self.store().and_then(StoreError::shortage)
    }

    pub(super) fn is_failed_sync(&self) -> bool {
        self.store().is_some_and(StoreError::is_failed_sync)
    }

    /// What went wrong with a file, if that was it.
    pub(super) fn store(&self) -> Option<&StoreError> {
        match self {
            DaemonError::Store(error) | DaemonError::Spool(SpoolError::Store(error)) => Some(error),
            DaemonError::Log(error) => error.store(),
            DaemonError::Spool(_)
            | DaemonError::Watch(_)
            | DaemonError::Held { .. }
            | DaemonError::Thread(_)
            | DaemonError::Stopped(_) => None,
        }
    }
}

/// Why a run could not be started, watched or closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("no process or thread is to be had: {0}")]
    Start(std::io::Error),
}

impl RunError {
    /// What there was too little of to start something, if that was it.
    pub(super) fn shortage(&self) -> Option<Shortage> {
        match self {
            RunError::Start(error) => store::shortage(error),
            RunError::Store(_) | RunError::Log(_) => None,
        }
    }

    /// What went wrong with a file, if that was it.
    pub(super) fn store(&self) -> Option<&StoreError> {
        match self {
            RunError::Store(error) => Some(error),
            RunError::Log(error) => error.store(),
            RunError::Start(_) => None,
        }
    }
}

/// What was wrong with the log, short enough for a line of it.
pub(super) fn in_short(messages: Vec<String>) -> Vec<String> {
    const MESSAGES_MAX: usize = 20;
    const BYTES_MAX: usize = 1024;
    let rest = messages.len().saturating_sub(MESSAGES_MAX);
    let first = messages.iter().take(MESSAGES_MAX).map(|message| jsonl::clip(message, BYTES_MAX));
    first.chain((rest > 0).then(|| format!("... and {rest} more"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wrong_fits_into_a_line_however_much_it_was() {
        assert_eq!(in_short(vec!["one".to_owned()]), ["one"]);
        let many = in_short(vec!["\u{1}".repeat(10_000); 2_000]);
        assert_eq!(many.last().unwrap(), "... and 1980 more");
        assert!(serde_json::to_string(&many).unwrap().len() < jsonl::LINE_BYTES_MAX / 2);
    }
}
