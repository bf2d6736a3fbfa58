//! The command by which a reader says what they have seen.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::of_shape;
use crate::id::Name;
use crate::json::Shape;
use crate::refusal::{Kind, Refusal};

/// How many tasks one command may mark as read: so many fit into a line of the log.
const MARKED_MAX: usize = 500;

const MARK_READ: Shape =
    Shape(&[("type", None), ("reader", None), ("tasks", None), ("all", None), ("version", None)]);

/// What a reader has seen: tasks, or all of them, up to a version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct MarkRead {
    pub(crate) reader: Name,
    pub(crate) version: u64,
    #[serde(default)]
    pub(crate) all: bool,
    /// Targets; `None` stands for all tasks.
    pub(crate) tasks: Option<Vec<String>>,
}

/// Reads it.
pub(super) fn parse(map: Map<String, Value>) -> Result<MarkRead, Refusal> {
    let mark_read: MarkRead = of_shape(map, &MARK_READ)?;
    match (&mark_read.tasks, mark_read.all) {
        (Some(_), true) => {
            Err(Refusal::new(Kind::Conflict, "all tasks are read, or those that are named").at("$.all"))
        }
        (None, false) => Err(Refusal::new(Kind::MissingKey, "which tasks are read is not said")
            .at("$.tasks")
            .hint("give \"tasks\": [...], or \"all\": true")),
        (Some(tasks), false) if tasks.is_empty() || tasks.len() > MARKED_MAX => {
            let message = format!("one command marks 1 to {MARKED_MAX} tasks");
            Err(Refusal::new(Kind::InvalidValue, message).at("$.tasks"))
        }
        (Some(_), false) | (None, true) => Ok(mark_read),
    }
}
