//! Launches of supervisors that came to nothing. Pure.

use serde::{Deserialize, Serialize};

/// What a daemon notes in `launches.jsonl` of a run that was given to a supervisor and not begun. It may not write to the
/// run's log, whose first line says that the run has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Launch {
    #[serde(rename = "supervisor.ended")]
    SupervisorEnded {
        /// How often that has happened, one after the other.
        tries: u32,
        /// What it has said, if it could say something.
        message: String,
    },
    /// A type that a newer version writes; it is passed over.
    #[serde(other)]
    Unknown,
}
