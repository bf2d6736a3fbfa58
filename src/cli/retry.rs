//! `gitspool retry`

use std::collections::BTreeMap;

use serde_json::json;

use super::asking::{Asked, report, resolve};
use super::dropping::drop_command;
use super::{Answer, CliError, Context, find, talk};
use crate::id::TaskId;
use crate::layout::{self, Layout};
use crate::outcome::Outcome;
use crate::picture::{self, End};
use crate::store;
use crate::task::State;
use crate::time;

/// Give tasks a further attempt that have ended without success; their runs are kept, and counted on
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Ids, ends of ids, or names
    #[arg(required = true, value_name = "ID")]
    tasks: Vec<String>,
    /// And all that were blocked or skipped because of them, and because of those in turn; they wait again. One that lives
    /// again already stays as it is
    #[arg(long)]
    dependents: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let layout = &spool.layout;
    // All are looked up first: a mistyped one retries nothing.
    let asked = arguments.tasks.iter().map(|text| resolve(layout, text)).collect::<Result<Vec<_>, _>>()?;
    let (mut targets, mut causes) = (Vec::new(), Vec::new());
    for asked in asked {
        match asked {
            Asked::Live(task) => {
                causes.push(task);
                targets.extend((!arguments.dependents).then(|| task.to_string()));
            }
            Asked::Ended(found) => {
                causes.push(found.task);
                targets.push(found.task.to_string());
            }
            Asked::Pending(text) => targets.push(text),
        }
    }
    let dependents = if arguments.dependents { dependents(layout, &causes)? } else { Vec::new() };
    let several = targets.len() + dependents.len() > 1;
    let mut all = Answer::Yes;
    for target in targets.into_iter().chain(dependents.iter().map(ToString::to_string)) {
        let dropped = drop_command(layout, &json!({"type": "retry", "target": target}))?;
        match report(context, layout, &dropped, &target) {
            Ok(answer) => all = if answer == Answer::No { answer } else { all },
            // The others may be retried all the same.
            Err(error @ CliError::Refused(_)) if several => {
                talk(&format!("gitspool: {target}: {error}"));
                all = Answer::No;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The tasks that were blocked or skipped because of these, and because of those in turn, each behind the one because of
/// which it was. They are younger than what they waited for, so that only the days since then are looked through.
fn dependents(layout: &Layout, causes: &[TaskId]) -> Result<Vec<TaskId>, CliError> {
    let Some(first) = causes.iter().map(|task| task.date().to_string()).min() else { return Ok(Vec::new()) };
    let mut because: BTreeMap<TaskId, Vec<TaskId>> = BTreeMap::new();
    for queue in find::queues(layout)? {
        for folder in [Outcome::Blocked, Outcome::Skipped].map(Outcome::folder) {
            let dates = store::names(&layout.ended(&queue, folder))?.into_iter();
            for date in dates.filter(|date| time::is_date(date) && *date >= first) {
                let names = store::names(&layout.ended(&queue, folder).join(date))?;
                for task in names.iter().filter_map(|name| layout::parse_task_name(name)) {
                    let bytes = store::read_if_there(&layout.ended_task(&queue, folder, task))?;
                    if let End::Told(State::Ended { because: Some(cause), .. }) =
                        picture::end_in(&bytes.unwrap_or_default())
                    {
                        because.entry(cause).or_default().push(task);
                    }
                }
            }
        }
    }
    let mut all = Vec::new();
    let mut next: Vec<TaskId> = causes.to_vec();
    while !next.is_empty() {
        next = next.iter().flat_map(|cause| because.remove(cause).unwrap_or_default()).collect();
        all.extend(&next);
    }
    Ok(all)
}
