//! `gitspool retry`

use serde_json::json;

use super::asking::{Asked, report, resolve};
use super::dropping::drop_command;
use super::{Answer, CliError, Context};

/// Give tasks a further attempt that have ended without success; their runs are kept, and counted on
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Ids, ends of ids, or names
    #[arg(required = true, value_name = "ID")]
    tasks: Vec<String>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let layout = &spool.layout;
    // All are looked up first: a mistyped one retries nothing.
    let asked = arguments.tasks.iter().map(|text| resolve(layout, text)).collect::<Result<Vec<_>, _>>()?;
    let mut all = Answer::Yes;
    for asked in asked {
        let target = match asked {
            Asked::Live(task) => task.to_string(),
            Asked::Ended(found) => found.task.to_string(),
            Asked::Pending(text) => text,
        };
        let dropped = drop_command(layout, &json!({"type": "retry", "target": target}))?;
        if report(context, layout, &dropped, &target)? == Answer::No {
            all = Answer::No;
        }
    }
    Ok(all)
}
