//! `gitspool run`: submit a task, see its output, answer with its outcome.

use serde_json::json;

use super::interrupt::Interrupts;
use super::output::{self, Begun, Followed, Form, Wanted};
use super::submit::{self, TaskArguments};
use super::{Answer, CliError, Context, print_json, runs, talk};
use crate::id::{RunId, TaskId};
use crate::layout::Layout;
use crate::outcome::{Evidence, Outcome};
use crate::spec::Output;

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
    let kept = arguments.task.output();
    let mut interrupts = Interrupts::new()?;
    let (task, _) = submit::submit(&spool, arguments.task, None)?;
    let run = match output::await_run(context, layout, &task.to_string(), None, &mut interrupts)? {
        Begun::Run(run) => run,
        Begun::Never => return Ok(Answer::No),
        Begun::Interrupted => return Ok(left(task)),
    };
    let mut streams = match context.json {
        true => Vec::new(),
        false => {
            output::streams(layout, run, kept, Wanted::All, Form::choose(context, false)).unwrap_or_default()
        }
    };
    match output::follow(layout, run, &mut streams, &mut interrupts)? {
        Followed::Ended => tell_end(context, layout, run),
        Followed::Interrupted => Ok(left(task)),
        Followed::Abandoned => Ok(output::answer(run, Followed::Abandoned)),
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

impl TaskArguments {
    /// Which files the task's output goes to.
    fn output(&self) -> Output {
        if self.apart { Output::Apart } else { Output::Merged }
    }
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
