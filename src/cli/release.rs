//! `gitspool release`

use serde_json::json;

use super::asking::ask;
use super::{Answer, CliError, Context};

/// Let a held task start when its turn comes, or its time; and a waiting one at once
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Its id, the end of it, or its name
    #[arg(value_name = "ID")]
    task: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    ask(context, &context.open()?.layout, &arguments.task, json!({"type": "release"}))
}
