//! What answers a command: the receipt that a line of the log owes, and where a refused file lies. Pure; `receipt` writes.

use serde::{Deserialize, Serialize};

use crate::event::{Event, Origin};
use crate::id::TaskId;
use crate::jsonl::Line;
use crate::refusal::Refusal;
use crate::task::State;
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
    pub(crate) state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) note: Option<String>,
    /// The line that answered the same command under the same key before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) repeats: Option<u64>,
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
        let (task, note, repeats, refusal) = match &line.event {
            Event::Submitted { task, note, .. } => (Some(*task), note.clone(), None, None),
            Event::Moved { task, .. } | Event::Edited { task, .. } => (Some(*task), None, None, None),
            Event::Accepted { task, note, repeats, .. } => (*task, Some(note.clone()), *repeats, None),
            Event::Marked { mark, .. } => (None, Some(mark.words()), None, None),
            Event::Refused { refusal, .. } => (None, None, None, Some(refusal.clone())),
            Event::Paused { queue, .. } => (None, Some(format!("queue {queue} is paused")), None, None),
            Event::Resumed { queue, .. } => (None, Some(format!("queue {queue} goes on")), None, None),
            Event::Collected { removed, target: Some(_), .. } if removed.is_nothing() => {
                (None, Some("nothing: it was removed already".to_owned()), None, None)
            }
            Event::Collected { removed, .. } => (None, Some(removed.words()), None, None),
            Event::EditRefused { .. }
            | Event::Notice(_)
            | Event::Delivered { .. }
            | Event::NotDelivered { .. }
            | Event::DaemonStarted { .. }
            | Event::DaemonStopped { .. }
            | Event::Unknown => return None,
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
            repeats,
            refusal,
            refused_file: None,
        };
        Some((origin, receipt))
    }
}
