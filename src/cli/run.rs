//! `gitspool run`: submit a task, see its output, answer with its outcome.

use serde_json::json;

use super::follow::{self, Begun, Followed, Followee, Label};
use super::interrupt::Interrupts;
use super::output::{Form, View, Wanted};
use super::submit::{self, TaskArguments};
use super::{Answer, CliError, Context, print_json, runs, talk};
use crate::id::{RunId, TaskId};
use crate::layout::Layout;
use crate::outcome::{Evidence, Outcome};

/// Submit a task and follow its output; exit with 0 when it has succeeded, else with 1
///
/// Ctrl-C ends the following only: the task goes on. With --json the output is left out, and its end is printed.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    task: TaskArguments,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let layout = &spool.layout;
    let mut interrupts = Interrupts::new()?;
    let (task, _) = submit::submit(&spool, arguments.task, None)?;
    let run = match follow::await_run(context, layout, &task.to_string(), None, &mut interrupts)? {
        Begun::Run(run) => run,
        Begun::Never => return Ok(Answer::No),
        Begun::Interrupted => return Ok(left(task)),
    };
    let form = Form::choose(context, false);
    let wanted = if context.json { Wanted::Nothing } else { Wanted::All };
    let view = View { form, wanted, timestamps: false, since: None, tail: None };
    let mut followee = Followee::new(layout, run, false, Label::default())?;
    followee.open(layout, &view)?;
    match follow::follow(layout, &mut [followee], &view, &mut interrupts)?[..] {
        [(run, Followed::Ended)] => tell_end(context, layout, run),
        [(run, followed @ Followed::Abandoned)] => Ok(follow::answer(run, followed)),
        _ => Ok(left(task)),
    }
}

fn left(task: TaskId) -> Answer {
    talk(&format!(
        "gitspool: task {task} goes on; `gitspool logs -f {task}` shows it, `gitspool cancel {task}` ends it"
    ));
    Answer::No
}

fn tell_end(context: &Context, layout: &Layout, run: RunId) -> Result<Answer, CliError> {
    let record = runs::record(layout, run)?;
    let outcome = record.as_ref().and_then(|record| record.outcome).unwrap_or(Outcome::Lost);
    let evidence = record.and_then(|record| record.evidence).unwrap_or_default();
    if context.json {
        print_json(&json!({"task": run.task, "run": run, "outcome": outcome, "evidence": evidence}))?;
    }
    if outcome == Outcome::Succeeded {
        return Ok(Answer::Yes);
    }
    talk(&format!("gitspool: task {} {}{}", run.task, outcome.word(), because(&evidence)));
    Ok(Answer::No)
}

/// The evidence of an end, in words that follow the outcome's.
pub(super) fn because(evidence: &Evidence) -> String {
    let words = evidence.words();
    if words.is_empty() { words } else { format!(" ({words})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_evidence_is_told_in_words() {
        let evidence = Evidence { exit_code: Some(3), signal: None, message: Some("no".to_owned()) };
        assert_eq!(because(&evidence), " (exit code 3, no)");
        assert_eq!(because(&Evidence::default()), "");
    }
}
