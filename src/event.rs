//! The lines of the spool's log: every move of every task, and what became of every command.
//!
//! State lines carry the full new state, so that folding a log needs no rules.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::breaker;
use crate::command;
use crate::id::{Name, TaskId};
use crate::key::Key;
use crate::notice::{Notice, NoticeId};
use crate::outcome::Evidence;
use crate::reader::Mark;
use crate::refusal::Refusal;
use crate::retention::Tally;
use crate::spec::Spec;
use crate::task::State;

/// The largest spec that stands in a line itself, in bytes of JSON.
pub(crate) const INLINE_BYTES_MAX: usize = 16 * 1024;

/// One event of the spool's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Event {
    /// A task exists from here on.
    #[serde(rename = "task.submitted")]
    Submitted {
        task: TaskId,
        state: State,
        spec: SpecText,
        command: Origin,
        /// What its submitter should know.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        note: Option<String>,
    },
    /// A task's state is another from here on.
    #[serde(rename = "task.moved")]
    Moved {
        task: TaskId,
        state: State,
        by: By,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        command: Option<Origin>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        evidence: Option<Evidence>,
        /// Of a task that had ended: its spec, which counts from here on.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        spec: Option<SpecText>,
        /// How many runs of its queue have broken one after the other, up to this one; by a run only.
        #[serde(skip_serializing_if = "breaker::is_none", default)]
        broken: u32,
    },
    /// A task's spec is another from here on.
    #[serde(rename = "task.edited")]
    Edited {
        task: TaskId,
        state: State,
        spec: SpecText,
        by: By,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        command: Option<Origin>,
    },
    /// What a user made of a task's file cannot be its spec, or comes too late: it lies among what was refused.
    #[serde(rename = "edit.refused")]
    EditRefused {
        task: TaskId,
        /// Names the refused file, once and for all.
        claim: TaskId,
        /// The name that it had.
        name: String,
        refusal: Refusal,
    },
    /// A command was carried out that changed no task's state, or was passed on to a run.
    #[serde(rename = "command.accepted")]
    Accepted {
        command: Origin,
        kind: String,
        task: Option<TaskId>,
        note: String,
        /// The line that answered the same command under the same key before.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        repeats: Option<u64>,
    },
    /// A reader has seen tasks up to a version.
    #[serde(rename = "reader.marked")]
    Marked {
        command: Origin,
        #[serde(flatten)]
        mark: Mark,
    },
    #[serde(rename = "command.refused")]
    Refused { command: Origin, refusal: Refusal },
    /// Nothing of a queue starts from here on.
    #[serde(rename = "queue.paused")]
    Paused {
        queue: Name,
        /// `Daemon` when too many of its runs broke.
        by: By,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        command: Option<Origin>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// It goes on.
    #[serde(rename = "queue.resumed")]
    Resumed {
        queue: Name,
        by: By,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        command: Option<Origin>,
    },
    /// What had ended long since was removed.
    #[serde(rename = "gc.done")]
    Collected {
        removed: Tally,
        /// The task or the run, when one was asked for.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        target: Option<String>,
        /// Absent when the daemon did it by itself.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        command: Option<Origin>,
    },
    /// Somebody is to be told of a task or a queue.
    #[serde(rename = "notice")]
    Notice(Box<Notice>),
    /// A notifier has taken a notice.
    #[serde(rename = "notice.delivered")]
    Delivered { notice: NoticeId, tries: u32 },
    /// None has, and it is not tried any more.
    #[serde(rename = "notice.failed")]
    NotDelivered {
        notice: NoticeId,
        tries: u32,
        message: String,
        /// The end of what it printed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        output: Option<String>,
    },
    #[serde(rename = "daemon.started")]
    DaemonStarted { pid: u32, version: String, repaired: Vec<String> },
    #[serde(rename = "daemon.stopped")]
    DaemonStopped { pid: u32 },
    /// A type that a newer version writes; it is passed over.
    #[serde(other)]
    Unknown,
}

/// Who moved a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// A command file.
    Command,
    /// A person who moved, edited or removed the task's file.
    Hand,
    /// The daemon: a slot was free, or too many runs broke.
    Daemon,
    /// The task's run, by ending.
    Run,
}

/// The command file that a line answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Names the claimed file, once and for all.
    pub(crate) claim: TaskId,
    /// The name under which it was dropped, and under which its receipt lies.
    pub(crate) name: String,
    /// By which a repeat of it is known, if it was accepted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) key: Option<Box<Key>>,
}

impl Origin {
    pub(crate) fn new(claim: TaskId, name: impl Into<String>) -> Origin {
        Origin { claim, name: name.into(), key: None }
    }
}

/// A spec in a line: itself, or the name of the text that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum SpecText {
    Elsewhere { text_sha256: String },
    Here(Arc<Spec>),
}

impl Event {
    /// The command file that this line answers, if any.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        match self {
            Event::Submitted { command, .. }
            | Event::Accepted { command, .. }
            | Event::Marked { command, .. }
            | Event::Refused { command, .. } => Some(command),
            Event::Moved { command, .. }
            | Event::Edited { command, .. }
            | Event::Paused { command, .. }
            | Event::Resumed { command, .. }
            | Event::Collected { command, .. } => command.as_ref(),
            Event::EditRefused { .. }
            | Event::Notice(_)
            | Event::Delivered { .. }
            | Event::NotDelivered { .. }
            | Event::DaemonStarted { .. }
            | Event::DaemonStopped { .. }
            | Event::Unknown => None,
        }
    }

    /// The spec that a task has from this line on, if it tells one.
    pub(crate) fn spec(&self) -> Option<&SpecText> {
        match self {
            Event::Submitted { spec, .. } | Event::Edited { spec, .. } => Some(spec),
            Event::Moved { spec, .. } => spec.as_ref(),
            Event::EditRefused { .. }
            | Event::Accepted { .. }
            | Event::Marked { .. }
            | Event::Refused { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Collected { .. }
            | Event::Notice(_)
            | Event::Delivered { .. }
            | Event::NotDelivered { .. }
            | Event::DaemonStarted { .. }
            | Event::DaemonStopped { .. }
            | Event::Unknown => None,
        }
    }

    /// The task that is another behind this line, for whoever reads: its state is, or something was said in its run.
    pub(crate) fn changed(&self) -> Option<TaskId> {
        match self {
            Event::Submitted { task, .. } | Event::Moved { task, .. } | Event::Edited { task, .. } => {
                Some(*task)
            }
            Event::Accepted { kind, task, repeats: None, .. } if command::is_for_runs(kind) => *task,
            Event::EditRefused { .. }
            | Event::Accepted { .. }
            | Event::Marked { .. }
            | Event::Refused { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Collected { .. }
            | Event::Notice(_)
            | Event::Delivered { .. }
            | Event::NotDelivered { .. }
            | Event::DaemonStarted { .. }
            | Event::DaemonStopped { .. }
            | Event::Unknown => None,
        }
    }

    /// The task whose state this line tells, and the state.
    pub(crate) fn state(&self) -> Option<(TaskId, &State)> {
        match self {
            Event::Submitted { task, state, .. }
            | Event::Moved { task, state, .. }
            | Event::Edited { task, state, .. } => Some((*task, state)),
            Event::Accepted { .. }
            | Event::EditRefused { .. }
            | Event::Marked { .. }
            | Event::Refused { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Collected { .. }
            | Event::Notice(_)
            | Event::Delivered { .. }
            | Event::NotDelivered { .. }
            | Event::DaemonStarted { .. }
            | Event::DaemonStopped { .. }
            | Event::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonl::{self, Line};
    use crate::time::Timestamp;

    #[test]
    fn a_line_of_a_newer_version_is_passed_over() {
        let text = b"{\"seq\":1,\"at\":\"2026-11-20T15:04:05.123456Z\",\"type\":\"task.praised\",\"by\":9}\n";
        let parsed = jsonl::parse::<Event>(text);
        assert_eq!(parsed.lines.len(), 1, "{:?}", parsed.bad);
        assert_eq!(parsed.lines[0].event, Event::Unknown);
    }

    #[test]
    fn a_spec_reads_back_from_its_line_and_is_not_taken_for_a_reference() {
        let task: TaskId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let command = Origin::new(task, "x.json");
        let state = State::Ready { rank: crate::id::Rank::default(), attempts: 0 };
        for spec in [
            SpecText::Here(Arc::new(Spec { run: Some(vec!["true".into()]), ..Spec::default() })),
            SpecText::Elsewhere { text_sha256: "ab".into() },
        ] {
            let (state, command) = (state.clone(), command.clone());
            let event = Event::Submitted { task, state, spec, command, note: None };
            let mut bytes = Vec::new();
            let line = Line { seq: 1, at: Timestamp::from_micros(5), event };
            jsonl::write(&mut bytes, &line);
            assert_eq!(jsonl::parse::<Event>(&bytes).lines, [line]);
        }
    }
}
