//! `gitspool rerank`

use serde_json::json;

use super::asking::ask;
use super::{Answer, CliError, Context};

/// Give a waiting task another place in the order of dispatch
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Its id, the end of it, or its name
    #[arg(value_name = "ID")]
    task: String,
    /// From 0 to 99, the lowest first
    #[arg(value_parser = clap::value_parser!(u8).range(0..=99))]
    rank: u8,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let command = json!({"type": "rerank", "rank": arguments.rank});
    ask(context, &context.open()?.layout, &arguments.task, command)
}
