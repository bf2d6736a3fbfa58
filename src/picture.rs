//! What the pictures of a spool look like: where each lies, and its bytes. Pure.
//!
//! The daemon and the supervisors draw them; `audit` compares with them what lies there. Each is spelled here once, so
//! that the two cannot differ.

use std::path::PathBuf;

use serde::Serialize;

use crate::id::{Name, TaskId};
use crate::layout::Layout;
use crate::task::State;

/// A record as people like to read it.
pub(crate) fn pretty<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(record).expect("because records have string keys");
    bytes.push(b'\n');
    bytes
}

/// Where the file of a task lies; its content is the spec.
pub(crate) fn place(layout: &Layout, queue: &Name, task: TaskId, state: &State) -> PathBuf {
    match state {
        State::Held { .. } => layout.held_task(queue, task),
        State::Waiting { .. } => layout.waiting_task(queue, task),
        State::Ready { rank, .. } => layout.ready_task(queue, *rank, task),
        State::Active { host, .. } | State::Cancelling { host, .. } => layout.active_task(queue, host, task),
        State::Ended { outcome, .. } => layout.ended_task(queue, outcome.folder(), task),
    }
}
