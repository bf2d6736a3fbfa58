//! `gitspool resume`

use serde_json::json;

use super::asking::report;
use super::dropping::drop_command;
use super::{Answer, CliError, Context};
use crate::id::Name;

/// Let a queue go on that is paused: by a user, or since too many of its runs broke one after the other
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[arg(value_name = "QUEUE", default_value = "default")]
    queue: Name,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let layout = context.open()?.layout;
    let dropped = drop_command(&layout, &json!({"type": "resume", "queue": arguments.queue}))?;
    report(context, &layout, &dropped, &format!("queue {}", arguments.queue))
}
