//! `gitspool hold`

use serde_json::json;

use super::asking::ask;
use super::{Answer, CliError, Context};

/// Keep a ready or waiting task from starting until it is released
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Its id, the end of it, or its name
    #[arg(value_name = "ID")]
    task: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    ask(context, &context.open()?.layout, &arguments.task, json!({"type": "hold"}))
}
