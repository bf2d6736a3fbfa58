//! `gitspool rerank`

use serde_json::json;

use super::asking::ask;
use super::submit::rank;
use super::{Answer, CliError, Context};

/// Give a task that has not started another place in the order of dispatch
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Its id, the end of it, or its name
    #[arg(value_name = "ID")]
    task: String,
    /// From 0 to 99, the lowest first
    #[arg(value_parser = rank, allow_negative_numbers = true)]
    rank: u8,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let command = json!({"type": "rerank", "rank": arguments.rank});
    ask(context, &context.open()?.layout, &arguments.task, command)
}
