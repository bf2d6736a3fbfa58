//! `gitspool mark-read`

use serde_json::json;

use super::asking::report;
use super::dropping::drop_command;
use super::{Answer, CliError, Context, attention, find, scope, talk};
use crate::id::{Name, TaskId};
use crate::spool::Spool;

/// How many tasks one command names.
const MARKED_MAX: usize = 500;

/// Say what a reader has seen: tasks, or all of them, up to a version; what changed since stays unread
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Ids, ends of ids, or names
    #[arg(value_name = "ID", required_unless_present = "all")]
    tasks: Vec<String>,
    /// Who has seen them
    #[arg(long, value_name = "NAME")]
    reader: Name,
    /// The version that was seen: that of the task, or the `max_version` of the look at all of them
    #[arg(long, value_name = "VERSION")]
    up_to: u64,
    /// All tasks; with a tenant or a project, all of that
    #[arg(long, conflicts_with = "tasks")]
    all: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let Arguments { reader, up_to, .. } = arguments;
    if arguments.all && scope().is_whole() {
        let command = json!({"type": "mark_read", "reader": reader, "version": up_to, "all": true});
        let dropped = drop_command(&spool.layout, &command)?;
        return report(context, &spool.layout, &dropped, reader.as_str());
    }
    let tasks =
        if arguments.all { unread(&spool, reader, *up_to)? } else { named(&spool, &arguments.tasks)? };
    if tasks.is_empty() {
        talk(&format!("gitspool: {reader} has read all of that"));
        return Ok(Answer::Yes);
    }
    for some in tasks.chunks(MARKED_MAX) {
        let command = json!({"type": "mark_read", "reader": reader, "version": up_to, "tasks": some});
        let dropped = drop_command(&spool.layout, &command)?;
        report(context, &spool.layout, &dropped, reader.as_str())?;
    }
    Ok(Answer::Yes)
}

/// All are looked up first: a mistyped one marks nothing.
fn named(spool: &Spool, texts: &[String]) -> Result<Vec<TaskId>, CliError> {
    texts.iter().map(|text| Ok(find::target(&spool.layout, text)?.found.task)).collect()
}

/// What the reader has not read of the scope; what runs now may have changed as well.
fn unread(spool: &Spool, reader: &Name, up_to: u64) -> Result<Vec<TaskId>, CliError> {
    let look = attention::look(spool, Some(reader), None)?;
    let changes = look.wanting.iter().map(|one| &one.changed.change);
    Ok(changes.filter(|change| change.version <= up_to).map(|change| change.task).collect())
}
