//! Everything that can make the daemon decide: one closed type, one channel, one thread that reads it.

use std::path::PathBuf;

use crate::command::Asked;
use crate::event::Origin;
use crate::id::RunId;
use crate::notice::NoticeId;
use crate::refusal::Refusal;
use crate::retention::Tally;
use crate::shortage::Shortage;

/// One thing that happened. Each source is a thread of its own, named in `daemon`.
#[derive(Debug)]
pub(crate) enum Input {
    /// A dropped file was taken: what it asks for, or why it cannot be.
    Dropped { origin: Origin, asked: Result<Asked, Refusal> },
    /// The inbox was looked through, and nothing waits in it.
    InboxEmpty,
    /// A run may have ended: its supervisor says so, or its lock is free.
    RunEnded(RunId),
    /// A supervisor's process has ended; the number is the daemon's own for it.
    SupervisorGone(u64),
    /// The tree is on disk up to this line, or could not be brought there.
    Checkpointed(Result<u64, Failure>),
    /// What had ended long since was removed, or could not be.
    Collected(Collected),
    /// A notifier was run; why the notice is not delivered, if it is not.
    Notified { notice: NoticeId, undelivered: Option<Undelivered> },
    /// The inbox cannot be looked through for now.
    Short(Failure),
    /// Something could not be made durable, and why.
    SyncFailed(String),
    /// Somebody asks the daemon to end.
    EndAsked,
}

/// What another thread could not do, in words, and whether that is for a shortage.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) why: String,
    pub(crate) shortage: Option<Shortage>,
}

/// Why a notice was not delivered, and the end of what its notifier printed.
#[derive(Debug)]
pub(crate) struct Undelivered {
    pub(crate) message: String,
    pub(crate) output: Option<String>,
}

/// What came of a removal.
#[derive(Debug)]
pub(crate) struct Collected {
    /// The command that asked for it.
    pub(crate) origin: Option<Origin>,
    /// The task or the run, when one was asked for.
    pub(crate) target: Option<String>,
    /// How much was removed; and texts that no task needs that has ended.
    pub(crate) result: Result<(Tally, Vec<PathBuf>), Refusal>,
}
