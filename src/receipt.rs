//! Receipts: what became of each command, under the command's own name.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Event, Origin};
use crate::id::TaskId;
use crate::jsonl::Line;
use crate::layout::Layout;
use crate::refusal::Refusal;
use crate::spool;
use crate::store::{self, StoreError};
use crate::time::Timestamp;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The name under which the command was dropped.
    pub(crate) command: String,
    pub(crate) claim: TaskId,
    pub(crate) accepted: bool,
    /// The log line that answers the command.
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) task: Option<TaskId>,
    /// The task's state after the command.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) state: Option<crate::task::State>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) refusal: Option<Refusal>,
    /// Where a refused file lies now, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) refused_file: Option<String>,
}

impl Receipt {
    /// The receipt that a log line owes; `None` when the line answers no command.
    pub(crate) fn of(line: &Line<Event>) -> Option<(Origin, Receipt)> {
        let origin = line.event.origin()?.clone();
        let (task, note, refusal) = match &line.event {
            Event::Submitted { task, .. } | Event::Moved { task, .. } => (Some(*task), None, None),
            Event::Accepted { task, note, .. } => (*task, Some(note.clone()), None),
            Event::Refused { refusal, .. } => (None, None, Some(refusal.clone())),
            Event::DaemonStarted { .. } | Event::DaemonStopped { .. } | Event::Unknown => return None,
        };
        let receipt = Receipt {
            command: origin.name.clone(),
            claim: origin.claim,
            accepted: refusal.is_none(),
            seq: line.seq,
            at: line.at,
            task,
            state: line.event.state().map(|(_, state)| state.clone()),
            note,
            refusal,
            refused_file: None,
        };
        Some((origin, receipt))
    }
}

/// Writes a receipt under its command's name; an earlier one of that name is kept beside it. Safe to repeat. Returns the
/// files that must be synced before the answer may be forgotten.
pub(crate) fn write(layout: &Layout, receipt: &Receipt) -> Result<Vec<PathBuf>, StoreError> {
    let date = receipt.claim.date();
    let path = layout.receipt(&date, &receipt.command);
    let bytes = spool::pretty(receipt);
    // What is no JSON was left by a power cut, and is drawn again: its line is in the log.
    let there: Option<Value> =
        store::read_if_there(&path)?.and_then(|there| serde_json::from_slice(&there).ok());
    let Some(there) = there else {
        store::draw(layout, &path, &bytes)?;
        return Ok(vec![path]);
    };
    match there["seq"].as_u64() {
        Some(seq) if seq == receipt.seq => Ok(vec![path]),
        Some(seq) if seq > receipt.seq => {
            let earlier = layout.earlier_receipt(&date, &receipt.command, receipt.seq);
            store::draw(layout, &earlier, &bytes)?;
            Ok(vec![earlier])
        }
        // One that is none of ours is kept too, under the number 0.
        seq => {
            let earlier = layout.earlier_receipt(&date, &receipt.command, seq.unwrap_or(0));
            store::rename(&path, &earlier)?;
            store::draw(layout, &path, &bytes)?;
            Ok(vec![earlier, path])
        }
    }
}
