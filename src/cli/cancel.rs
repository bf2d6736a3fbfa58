//! `gitspool cancel`

use serde_json::json;

use super::asking::{Asked, report, resolve};
use super::dropping::drop_command;
use super::{Answer, CliError, Context, print, print_json, runs, talk};
use crate::id::TaskId;
use crate::layout::Layout;

/// End tasks: one that waits never starts, one that runs is asked to end and then killed
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Ids, ends of ids, or names
    #[arg(required = true, value_name = "ID")]
    tasks: Vec<String>,
    /// Why, for the records
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let layout = &spool.layout;
    // All are looked up first: a mistyped one ends nothing.
    let asked = arguments.tasks.iter().map(|text| resolve(layout, text)).collect::<Result<Vec<_>, _>>()?;
    let mut all = Answer::Yes;
    for asked in asked {
        let target = match asked {
            Asked::Live(task) => task.to_string(),
            Asked::Pending(text) => text,
            Asked::Ended(found) => {
                let word = runs::state_word(&found, runs::last(layout, found.task)?.as_ref());
                tell_ended(context, found.task, word)?;
                continue;
            }
        };
        if cancel(context, layout, &target, arguments.reason.as_deref())? == Answer::No {
            all = Answer::No;
        }
    }
    Ok(all)
}

fn cancel(
    context: &Context,
    layout: &Layout,
    target: &str,
    reason: Option<&str>,
) -> Result<Answer, CliError> {
    let mut command = json!({"type": "cancel", "target": target});
    if let Some(reason) = reason {
        command["reason"] = reason.into();
    }
    let dropped = drop_command(layout, &command)?;
    report(context, layout, &dropped, target)
}

fn tell_ended(context: &Context, task: TaskId, word: &str) -> Result<(), CliError> {
    if context.json {
        return print_json(&json!({"task": task, "state": word}));
    }
    print(&format!("{task} {word}\n"))?;
    talk(&format!("gitspool: {task} ended already"));
    Ok(())
}
