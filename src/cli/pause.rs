//! `gitspool pause`

use serde_json::json;

use super::asking::report;
use super::dropping::drop_command;
use super::{Answer, CliError, Context};
use crate::id::Name;

/// Have a queue start nothing more, until `gitspool resume`; what runs goes on
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[arg(value_name = "QUEUE", default_value = "default")]
    queue: Name,
    /// Why, for whoever asks `status` or `why`
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let layout = context.open()?.layout;
    let mut command = json!({"type": "pause", "queue": arguments.queue});
    if let Some(reason) = &arguments.reason {
        command["reason"] = reason.as_str().into();
    }
    let dropped = drop_command(&layout, &command)?;
    report(context, &layout, &dropped, &format!("queue {}", arguments.queue))
}
