//! `gitspool say`

use serde_json::json;

use super::asking::ask;
use super::{Answer, CliError, Context};
use crate::command::Say;

/// Say something to the agent of a task that runs; refused where the agent cannot hear it
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The task's id, the end of it, or its name
    #[arg(value_name = "ID")]
    task: String,
    /// What to say
    text: String,
    /// Between two steps of the turn (the default)
    #[arg(long, group = "when")]
    steer: bool,
    /// After the turn
    #[arg(long, group = "when")]
    follow_up: bool,
    /// At once; the turn ends
    #[arg(long, group = "when")]
    interrupt: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let how = match (arguments.follow_up, arguments.interrupt) {
        (true, _) => Say::FollowUp,
        (_, true) => Say::Interrupt,
        (false, false) => Say::Steer,
    };
    let command = json!({"type": how.kind(), "text": arguments.text});
    ask(context, &context.open()?.layout, &arguments.task, command)
}
