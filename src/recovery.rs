//! What a daemon does about the run of a live task, from what it finds of it. Pure.
//!
//! Nothing is decided by a pid, by a time, or by who was killed: only by the run's lock, by its log, and by which boot of
//! the machine this is. So one table serves for a daemon that starts, for one whose supervisor ended, and for one that
//! looks again; and a pid that was given to another process, or a clock that jumped, changes nothing.

use crate::outcome::Outcome;

/// What is found of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Found {
    /// Somebody holds its lock, which is the only sign of life.
    Held,
    Free(Logged),
}

/// Which boot of the machine the run began in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Boot {
    This,
    Earlier,
}

/// What the log of a run says whose lock is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Logged {
    /// There is no `run.started`.
    NotBegun,
    /// `run.started` is there, and no `run.ended`.
    Begun(Boot),
    /// `run.ended` is there.
    Ended,
    /// The log is gone with the run's folder, and the run may live: its supervisor makes the folder again.
    Uprooted,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Duty {
    /// The run is given to a supervisor.
    Start,
    /// A thread waits for its lock.
    Adopt,
    /// The task ends as the run's log says.
    FileAway,
    /// Under the run's lock: what is left of it is killed, and its end written with this outcome.
    GiveUp(Outcome),
    /// It is looked at again a moment later.
    LookAgain,
}

/// Decides what is done about a run.
#[must_use]
pub(crate) fn duty(found: Found) -> Duty {
    match found {
        // Whoever holds the lock will say how the run ended, or the lock is free with him gone.
        Found::Held => Duty::Adopt,
        Found::Free(Logged::NotBegun) => Duty::Start,
        Found::Free(Logged::Begun(boot)) => Duty::GiveUp(abandoned(boot)),
        Found::Free(Logged::Ended) => Duty::FileAway,
        Found::Free(Logged::Uprooted) => Duty::LookAgain,
    }
}

/// How a run ended whose supervisor is gone without a word.
fn abandoned(boot: Boot) -> Outcome {
    match boot {
        Boot::This => Outcome::Lost,
        Boot::Earlier => Outcome::Interrupted,
    }
}
