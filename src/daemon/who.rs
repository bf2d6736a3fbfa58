//! Who the daemon is, `.local/daemon.json`: for people and `status`.
//!
//! To the next daemon two things count: that it is there, since then its daemon did not end in order; and `stopped`, since
//! then something may not be on disk that reads as if it were.

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::id::{Name, TaskId};
use crate::layout::Layout;
use crate::notice::{Notice, NoticeId};
use crate::process;
use crate::refusal::Refusal;
use crate::reserve;
use crate::shortage::Shortage;
use crate::spool;
use crate::store::{self, StoreError};
use crate::time::Timestamp;

/// How many refused edits are told.
const REFUSED_MAX: usize = 20;
/// How many notices that were given up.
const FAILED_MAX: usize = 20;

/// The record of a daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DaemonRecord {
    pub(crate) pid: u32,
    pub(crate) host: Name,
    pub(crate) version: String,
    pub(crate) started_at: Timestamp,
    /// What this version can do: drivers of agents, kinds of workspaces.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) capabilities: Vec<String>,
    /// Why nothing is admitted or started any more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) stopped: Option<String>,
    /// Why nothing is admitted or started for now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) short: Option<Short>,
    /// The last edits by hand that were refused, of tasks that were not edited better since and have not started.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) refused_edits: Vec<RefusedEdit>,
    /// The last notices that were given up, whose notifiers have delivered none since.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) failed_notices: Vec<FailedNotice>,
}

/// A notice that was not delivered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FailedNotice {
    pub(crate) notice: NoticeId,
    pub(crate) at: Timestamp,
    pub(crate) queue: Name,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) task: Option<TaskId>,
    pub(crate) argv: Vec<String>,
    pub(crate) message: String,
    /// The end of what the notifier printed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) output: Option<String>,
}

impl FailedNotice {
    pub(super) fn new(notice: &Notice, at: Timestamp, message: &str, output: Option<&str>) -> FailedNotice {
        FailedNotice {
            notice: notice.id,
            at,
            queue: notice.queue.clone(),
            task: notice.task,
            argv: notice.argv.clone(),
            message: message.to_owned(),
            output: output.map(ToOwned::to_owned),
        }
    }

    /// In words, for people.
    pub(crate) fn words(&self) -> String {
        let of = self.task.map_or_else(|| format!("queue {}", self.queue), |task| format!("task {task}"));
        let program = self.argv.first().map(String::as_str).unwrap_or_default();
        let last = self.output.as_ref().and_then(|output| output.lines().last());
        let last = last.map(|last| format!(" ({last})")).unwrap_or_default();
        format!("of {of} not delivered by {program}: {}{last}", self.message)
    }
}

/// A text that could not be a task's spec.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RefusedEdit {
    pub(crate) task: TaskId,
    pub(crate) at: Timestamp,
    /// Where it lies, from the spool's folder.
    pub(crate) file: String,
    pub(crate) refusal: Refusal,
}

/// A shortage, as long as it lasts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Short {
    pub(crate) of: Shortage,
    pub(crate) since: Timestamp,
    /// What could not be done.
    pub(crate) message: String,
    /// What must be free on the spool's file system, the reserve included, before the daemon goes on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) needed_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) needed_inodes: Option<u64>,
}

/// What a task may ask for, as `SORT:NAME`.
const CAPABILITIES: [&str; 4] =
    ["driver:exec", "workspace:worktree", "workspace:directory", "workspace:none"];

impl DaemonRecord {
    /// This process, from now on.
    pub(super) fn new(host: Name) -> DaemonRecord {
        DaemonRecord {
            pid: process::id(),
            host,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: clock::now(),
            capabilities: CAPABILITIES.map(ToOwned::to_owned).into(),
            stopped: None,
            short: None,
            refused_edits: Vec::new(),
            failed_notices: Vec::new(),
        }
    }

    /// Says why the daemon has stopped.
    pub(super) fn stop(&mut self, layout: &Layout, reason: String) {
        self.stopped = Some(reason);
        // Where this fails too, the record of its start tells that it did not end in order.
        let _ = self.draw(layout);
    }

    /// Says that an edit was refused.
    pub(super) fn tell_refused(&mut self, layout: &Layout, refused: RefusedEdit) {
        self.refused_edits.push(refused);
        let over = self.refused_edits.len().saturating_sub(REFUSED_MAX);
        self.refused_edits.drain(..over);
        self.tell(layout);
    }

    /// Says so no more: the task was edited well, or has started.
    pub(super) fn forget_refused(&mut self, layout: &Layout, task: TaskId) {
        if self.refused_edits.iter().any(|refused| refused.task == task) {
            self.refused_edits.retain(|refused| refused.task != task);
            self.tell(layout);
        }
    }

    /// Says that a notice was given up.
    pub(super) fn tell_failed(&mut self, layout: &Layout, failed: FailedNotice) {
        self.failed_notices.push(failed);
        let over = self.failed_notices.len().saturating_sub(FAILED_MAX);
        self.failed_notices.drain(..over);
        self.tell(layout);
    }

    /// Says so no more of a notifier that has delivered one.
    pub(super) fn forget_failed(&mut self, layout: &Layout, argv: &[String]) {
        if self.failed_notices.iter().any(|failed| failed.argv == argv) {
            self.failed_notices.retain(|failed| failed.argv != argv);
            self.tell(layout);
        }
    }

    /// Draws it; where that cannot be done stderr has it.
    pub(super) fn tell(&self, layout: &Layout) {
        if let Err(error) = self.draw(layout) {
            tracing::error!("{error}");
        }
    }

    pub(super) fn draw(&self, layout: &Layout) -> Result<(), StoreError> {
        reserve::spend(layout, || store::draw(layout, &layout.daemon_record(), &spool::pretty(self)))
    }
}

/// Reads what the daemon that runs, or ran last, says of itself.
pub(crate) fn daemon_record(layout: &Layout) -> Option<DaemonRecord> {
    let bytes = store::read_if_there(&layout.daemon_record()).ok()??;
    serde_json::from_slice(&bytes).ok()
}
