//! What a checkpoint says: up to which line of the log the tree is known to be on disk, and what was live then. Pure.

use serde::{Deserialize, Serialize};

use crate::breaker::Breakers;
use crate::id::TaskId;
use crate::jsonl::SEQ_MAX;
use crate::notice;
use crate::task::State;

/// A checkpoint, `.local/checkpoint.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// The last line whose moves are on disk.
    pub(crate) seq: u64,
    pub(crate) tasks: Vec<Checked>,
    /// How queues stood of which there is something to say.
    #[serde(default, skip_serializing_if = "Breakers::is_empty")]
    pub(crate) queues: Breakers,
    /// Who is to be told, and of what.
    #[serde(skip_serializing_if = "notice::Checked::is_empty", default)]
    pub(crate) notices: notice::Checked,
}

/// A live task at a checkpoint. Its spec lies in the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Checked {
    pub(crate) task: TaskId,
    pub(crate) state: State,
    pub(crate) spec_seq: u64,
}

impl Checkpoint {
    /// Reads a checkpoint; `None` when it makes no sense.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Checkpoint> {
        let checkpoint: Option<Checkpoint> = serde_json::from_slice(bytes).ok();
        checkpoint.filter(|checkpoint| checkpoint.seq <= SEQ_MAX)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("because a checkpoint has string keys")
    }
}
