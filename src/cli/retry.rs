//! `gitspool retry`

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::json;

use super::asking::{Asked, report, resolve};
use super::dropping::drop_command;
use super::{Answer, CliError, Context, find, talk};
use crate::id::TaskId;
use crate::layout::{self, Layout};
use crate::outcome::Outcome;
use crate::picture::{self, End};
use crate::spec::Spec;
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

/// The tasks that were blocked or skipped because of these, and because of those in turn, each behind all that it
/// waits for. They are younger than what they waited for, so that only the days since then are looked through.
fn dependents(layout: &Layout, causes: &[TaskId]) -> Result<Vec<TaskId>, CliError> {
    let Some(first) = causes.iter().map(|task| task.date().to_string()).min() else { return Ok(Vec::new()) };
    let mut because: BTreeMap<TaskId, Vec<TaskId>> = BTreeMap::new();
    let mut specs: HashMap<TaskId, Spec> = HashMap::new();
    for queue in find::queues(layout)? {
        for folder in [Outcome::Blocked, Outcome::Skipped].map(Outcome::folder) {
            let dates = store::names(&layout.ended(&queue, folder))?.into_iter();
            for date in dates.filter(|date| time::is_date(date) && *date >= first) {
                let names = store::names(&layout.ended(&queue, folder).join(date))?;
                for task in names.iter().filter_map(|name| layout::parse_task_name(name)) {
                    let bytes = store::read_if_there(&layout.ended_task(&queue, folder, task))?;
                    let bytes = bytes.unwrap_or_default();
                    if let End::Told(State::Ended { because: Some(cause), .. }) = picture::end_in(&bytes) {
                        because.entry(cause).or_default().push(task);
                        specs.insert(task, serde_json::from_slice(&bytes).unwrap_or_default());
                    }
                }
            }
        }
    }
    let mut all = BTreeSet::new();
    let mut next: Vec<TaskId> = causes.to_vec();
    while !next.is_empty() {
        next = next.iter().flat_map(|cause| because.remove(cause).unwrap_or_default()).collect();
        all.extend(&next);
    }
    Ok(in_order(&all, |task| {
        specs.get(&task).into_iter().flat_map(Spec::edges).map(|(_, need)| need).collect()
    }))
}

/// The tasks so that each comes behind all of them that it waits for.
fn in_order(tasks: &BTreeSet<TaskId>, needs: impl Fn(TaskId) -> BTreeSet<TaskId>) -> Vec<TaskId> {
    let mut waits_for: HashMap<TaskId, usize> = HashMap::new();
    let mut followers: HashMap<TaskId, Vec<TaskId>> = HashMap::new();
    for task in tasks {
        let among = needs(*task).into_iter().filter(|need| tasks.contains(need)).collect::<Vec<_>>();
        waits_for.insert(*task, among.len());
        among.into_iter().for_each(|need| followers.entry(need).or_default().push(*task));
    }
    let mut ordered: Vec<TaskId> = tasks.iter().filter(|task| waits_for[task] == 0).copied().collect();
    let mut at = 0;
    while let Some(task) = ordered.get(at).copied() {
        at += 1;
        for follower in followers.remove(&task).unwrap_or_default() {
            let left = waits_for.entry(follower).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                ordered.push(follower);
            }
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_comes_behind_all_that_it_waits_for_whichever_of_them_blocked_it() {
        let id = |n: u32| format!("01890a5d-ac96-774b-bcce-b302{n:08x}").parse::<TaskId>().unwrap();
        let edges = [(1, vec![4, 3]), (2, vec![9]), (3, vec![2]), (4, vec![3, 2])];
        let needs = |task| {
            let of = edges.iter().find(|(n, _)| id(*n) == task).map(|(_, to)| to.clone());
            of.unwrap_or_default().into_iter().map(id).collect()
        };
        let tasks = (1..=4).map(id).collect();
        assert_eq!(in_order(&tasks, needs), [2, 3, 4, 1].map(id));
    }
}
