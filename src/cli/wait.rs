//! `gitspool wait`

use std::time::Duration;

use serde_json::json;

use super::find::{self, Found};
use super::pending::{self, Admitted, watch};
use super::submit::seconds;
use super::{Answer, CliError, Context, print, print_json, runs, talk};
use crate::clock;
use crate::hint::Hints;
use crate::id::TaskId;
use crate::layout::Layout;
use crate::lock;
use crate::store;
use crate::time::Moment;

/// How often to look without a hint: file systems may keep their hints to themselves.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How soon to look again for a task that is nowhere: its file was removed, and is not filed away yet.
const AGAIN: Duration = Duration::from_millis(100);

/// Wait until tasks have ended; exit with 0 when all have succeeded, else with 1
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Ids, ends of ids, or names
    #[arg(required = true, value_name = "ID")]
    tasks: Vec<String>,
    /// Wait for the first that ends, and answer for it
    #[arg(long)]
    any: bool,
    /// Give up after so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    timeout: Option<u64>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let layout = &spool.layout;
    let until = arguments.timeout.map(|seconds| clock::monotonic() + Duration::from_secs(seconds));
    if arguments.any {
        // One that has ended already answers, whatever becomes of the others.
        for text in &arguments.tasks {
            let target = find::look_for(layout, text)?.filter(|target| target.found.place.is_ended());
            if let Some(target) = target {
                return Ok(if ended(context, layout, &target.found)? { Answer::Yes } else { Answer::No });
            }
        }
    }
    let mut waiting = Vec::new();
    for text in &arguments.tasks {
        match pending::await_admission(context, layout, text, until, None)? {
            Admitted::Task(target) => waiting.push(target.found),
            Admitted::NotYet(command) => {
                talk(&format!(
                    "gitspool: given up: the task {text} is not admitted yet, inbox/{command} waits"
                ));
                return Ok(Answer::No);
            }
        }
    }
    if waiting.iter().any(|found| !found.place.is_ended()) && !lock::is_held(layout.root())? {
        context.no_daemon("what has not ended waits");
    }
    wait(context, layout, waiting, arguments.any, until)
}

fn wait(
    context: &Context,
    layout: &Layout,
    mut waiting: Vec<Found>,
    any: bool,
    until: Option<Moment>,
) -> Result<Answer, CliError> {
    let mut all = Answer::Yes;
    let mut hints = Hints::new();
    loop {
        // A task that moves on leaves its folder, and a hint there.
        waiting.iter().filter_map(|found| found.path.parent()).for_each(|folder| watch(&mut hints, folder));
        let mut patience = LOOK_EVERY;
        for mut found in std::mem::take(&mut waiting) {
            if !store::exists(&found.path) {
                let there = find::exact(layout, found.task)?;
                // Where it lies now is not watched yet.
                patience = patience.min(if there.is_some() { Duration::ZERO } else { AGAIN });
                found = there.unwrap_or(found);
            }
            if !found.place.is_ended() {
                waiting.push(found);
                continue;
            }
            if !ended(context, layout, &found)? {
                all = Answer::No;
            }
            if any {
                return Ok(all);
            }
        }
        if waiting.is_empty() {
            return Ok(all);
        }
        let now = clock::monotonic();
        if until.is_some_and(|until| until <= now) {
            waiting.iter().try_for_each(|found| tell_given_up(layout, found))?;
            return Ok(Answer::No);
        }
        hints.wait(&[], now, Some(until.map_or(now + patience, |until| until.min(now + patience))));
    }
}

/// Prints how a task ended; tells whether it succeeded.
fn ended(context: &Context, layout: &Layout, found: &Found) -> Result<bool, CliError> {
    let last = runs::last(layout, found.task)?;
    let word = runs::state_word(found, last.as_ref());
    if context.json {
        let run = last.map(|record| record.run);
        print_json(&json!({"task": found.task, "run": run, "outcome": word}))?;
    } else {
        print(&format!("{} {word}\n", found.task))?;
    }
    Ok(word == "succeeded")
}

fn tell_given_up(layout: &Layout, found: &Found) -> Result<(), CliError> {
    let Found { task, place, .. } = found;
    let run = running(layout, *task)?.unwrap_or_default();
    talk(&format!("gitspool: given up: task {task} is {}{run}", place.word()));
    Ok(())
}

/// What a task's last run is doing, in words.
fn running(layout: &Layout, task: TaskId) -> Result<Option<String>, CliError> {
    let Some(record) = runs::last(layout, task)? else { return Ok(None) };
    let status = runs::status_word(&record);
    let what = if record.outcome.is_some() { "has ended" } else { "is" };
    Ok(Some(format!(", run {} {what}: {status}", record.run)))
}
