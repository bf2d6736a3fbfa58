//! Asking for something about a task: finding it, dropping the command, and telling what was answered.

use std::time::Duration;

use serde_json::{Value, json};

use super::dropping::{Dropped, drop_command};
use super::find::{self, Found};
use super::pending::{self, receipt_of, watch};
use super::{Answer, CliError, Context, print, print_json, runs, talk};
use crate::answer::Receipt;
use crate::clock;
use crate::hint::Hints;
use crate::id::TaskId;
use crate::layout::Layout;
use crate::lock;
use crate::redact;

/// How long to wait for an answer when a daemon runs.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a text on the command line was found to be.
pub(super) enum Asked {
    Live(TaskId),
    Ended(Found),
    /// Its submission is not answered yet; the daemon will know it by this text.
    Pending(String),
}

/// Finds the task that a command is to be about.
pub(super) fn resolve(layout: &Layout, text: &str) -> Result<Asked, CliError> {
    match find::look_for(layout, text)? {
        Some(target) if target.found.place.is_ended() => Ok(Asked::Ended(target.found)),
        Some(target) => Ok(Asked::Live(target.found.task)),
        None if pending::command_of(layout, text)?.is_some() => Ok(Asked::Pending(text.to_owned())),
        // It may have been admitted between the two looks.
        None => find::target(layout, text).map(|target| Asked::Live(target.found.task)),
    }
}

/// Asks for something about a live task. `command` has all but its target.
pub(super) fn ask(
    context: &Context,
    layout: &Layout,
    text: &str,
    mut command: Value,
) -> Result<Answer, CliError> {
    let target = match resolve(layout, text)? {
        Asked::Live(task) => task.to_string(),
        Asked::Pending(text) => text,
        Asked::Ended(found) => {
            let word = runs::state_word(&found, runs::last(layout, found.task)?.as_ref());
            talk(&format!("gitspool: task {} has ended: {word}", found.task));
            return Ok(Answer::No);
        }
    };
    command["target"] = target.clone().into();
    let dropped = drop_command(layout, &command)?;
    report(context, layout, &dropped, &target)
}

/// Waits for the answer to a dropped command, and tells it.
pub(super) fn report(
    context: &Context,
    layout: &Layout,
    dropped: &Dropped,
    what: &str,
) -> Result<Answer, CliError> {
    let Some(receipt) = answer(context, layout, dropped)? else {
        if context.json {
            print_json(&json!({"command": dropped.name, "accepted": null}))?;
        }
        return Ok(Answer::Yes);
    };
    if context.json {
        let mut value = serde_json::to_value(&receipt).expect("because a receipt has string keys");
        redact::value(&mut value);
        print_json(&value)?;
    }
    if let Some(refusal) = &receipt.refusal {
        return Err(CliError::Refused(refusal.clone()));
    }
    if !context.json {
        let task = receipt.task.map_or_else(|| what.to_owned(), |task| task.to_string());
        let word = receipt.state.as_ref().map_or("accepted", |state| state.word());
        print(&format!("{task} {word}\n"))?;
        receipt.note.iter().for_each(|note| talk(&format!("gitspool: {note}")));
    }
    Ok(Answer::Yes)
}

/// The receipt for a dropped command; `None` when no daemon runs that could give one.
///
/// # Errors
/// When a daemon runs and does not answer.
pub(super) fn answer(
    context: &Context,
    layout: &Layout,
    dropped: &Dropped,
) -> Result<Option<Receipt>, CliError> {
    answer_within(context, layout, dropped, PATIENCE)
}

/// The same of a command that may take long.
pub(super) fn answer_within(
    context: &Context,
    layout: &Layout,
    dropped: &Dropped,
    patience: Duration,
) -> Result<Option<Receipt>, CliError> {
    let mut hints = Hints::new();
    let began = clock::now().date();
    let until = clock::monotonic() + patience;
    loop {
        let mut dates = vec![clock::now().date(), began.clone()];
        dates.dedup();
        dates.iter().for_each(|date| watch(&mut hints, &layout.receipts_of(date)));
        // Before the look, so that the last answer of a daemon that ends is seen.
        let daemon_runs = lock::is_held(layout.root())?;
        if let Some(receipt) = receipt_of(layout, &dropped.name, &dates)? {
            return Ok(Some(receipt));
        }
        if !daemon_runs {
            context.no_daemon("the command takes effect with the next one");
            return Ok(None);
        }
        let now = clock::monotonic();
        if until <= now {
            let receipt = layout.receipt(&began, &dropped.name);
            return Err(CliError::Usage(format!(
                "the daemon has not answered within {} s; the answer will lie at {}",
                patience.as_secs(),
                receipt.display()
            )));
        }
        hints.wait(&[], now, Some(until));
    }
}
