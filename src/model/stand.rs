//! Where a task stands: the real state without what the protocol does not look at.

use crate::id::Rank;
use crate::outcome::Outcome;
use crate::resource::Assigned;
use crate::task;
use crate::time::Timestamp;

/// A task's state, without what the protocol does not look at: its rank, its time, its host and the number of its attempt, which is
/// always the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stand {
    Held { waits: bool },
    Waiting,
    Ready,
    Active,
    Cancelling,
    Ended { outcome: Outcome, started: bool },
}

/// The one attempt that a task has: nothing in the protocol makes another yet.
pub(super) const ATTEMPT: u32 = 1;

impl Stand {
    pub(super) fn state(self) -> task::State {
        let (rank, attempt) = (Rank::default(), ATTEMPT);
        let host = || "here".parse().unwrap();
        let until = Some(Timestamp::from_micros(0));
        match self {
            Stand::Held { waits } => {
                task::State::Held { rank, attempts: 0, until: until.filter(|_| waits), needs: false }
            }
            Stand::Waiting => task::State::Waiting { rank, attempts: 0, until, needs: false },
            Stand::Ready => task::State::Ready { rank, attempts: 0 },
            Stand::Active => task::State::Active { attempt, host: host(), rank, assigned: Assigned::new() },
            Stand::Cancelling => {
                task::State::Cancelling { attempt, host: host(), rank, assigned: Assigned::new() }
            }
            Stand::Ended { outcome, started } => {
                task::State::Ended { outcome, attempts: u32::from(started), rank, because: None }
            }
        }
    }

    pub(super) fn of(state: &task::State) -> Stand {
        let stand = match state {
            task::State::Held { until, .. } => Stand::Held { waits: until.is_some() },
            task::State::Waiting { .. } => Stand::Waiting,
            task::State::Ready { .. } => Stand::Ready,
            task::State::Active { .. } => Stand::Active,
            task::State::Cancelling { .. } => Stand::Cancelling,
            task::State::Ended { outcome, attempts, .. } => {
                Stand::Ended { outcome: *outcome, started: *attempts > 0 }
            }
        };
        assert_eq!(stand.state(), *state, "a model's task has one attempt");
        stand
    }

    pub(super) fn is_ended(self) -> bool {
        matches!(self, Stand::Ended { .. })
    }

    pub(super) fn is_live(self) -> bool {
        matches!(self, Stand::Active | Stand::Cancelling)
    }

    /// Whether a run is, or was, owed to it.
    pub(super) fn has_started(self) -> bool {
        match self {
            Stand::Held { .. } | Stand::Waiting | Stand::Ready => false,
            Stand::Active | Stand::Cancelling => true,
            Stand::Ended { started, .. } => started,
        }
    }

    /// The folder of its file.
    pub(super) fn place(self) -> Places {
        match self {
            Stand::Held { .. } => Places::HELD,
            Stand::Waiting => Places::WAITING,
            Stand::Ready => Places::READY,
            Stand::Active | Stand::Cancelling => Places::ACTIVE,
            Stand::Ended { outcome, .. } => match outcome.folder() {
                "done" => Places::DONE,
                "cancelled" => Places::CANCELLED,
                _ => Places::FAILED,
            },
        }
    }
}

/// Folders in which a task's file lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Places(u8);

impl Places {
    pub(super) const NONE: Places = Places(0);
    pub(super) const HELD: Places = Places(1);
    pub(super) const READY: Places = Places(2);
    pub(super) const ACTIVE: Places = Places(4);
    pub(super) const DONE: Places = Places(8);
    pub(super) const FAILED: Places = Places(16);
    pub(super) const CANCELLED: Places = Places(32);
    pub(super) const WAITING: Places = Places(64);

    pub(super) fn has(self, place: Places) -> bool {
        self.0 & place.0 != 0
    }

    pub(super) fn with(self, place: Places) -> Places {
        Places(self.0 | place.0)
    }

    pub(super) fn without(self, place: Places) -> Places {
        Places(self.0 & !place.0)
    }

    /// Those of them that are a user's too.
    pub(super) fn queued(self) -> Places {
        Places(self.0 & (Places::HELD.0 | Places::READY.0 | Places::WAITING.0))
    }
}
