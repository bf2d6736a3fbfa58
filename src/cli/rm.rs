//! `gitspool rm`

use std::time::Duration;

use serde_json::{Value, json};

use super::asking::answer_within;
use super::dropping::drop_command;
use super::find;
use super::{Answer, CliError, Context, gc, print, print_json, talk};
use crate::gc::{One, plan_one};
use crate::id::TaskId;
use crate::layout::Layout;
use crate::removed;
use crate::spool::Spool;

/// Keeping what a large worktree holds takes a while.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Remove tasks that have ended, with all their runs; or single runs, but never the last one of a task
///
/// What `gc` would remove of them goes, whatever is to be kept of their queues; and before that their worktrees, of which
/// all that git does not ignore is put on a ref first. A task that is live is refused. Its id is never used again. The
/// daemon does it; with --dry-run nothing is changed, and it is printed what would go.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Ids, ends of ids, or names; a run is TASK.ATTEMPT
    #[arg(required = true, value_name = "TASK|RUN")]
    tasks: Vec<String>,
    /// Print what would go, with its size on the disk, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    // All are looked up first: a mistyped one removes nothing.
    let all = arguments.tasks.iter().map(|text| find(&spool.layout, text)).collect::<Result<Vec<_>, _>>()?;
    let several = all.len() > 1;
    let mut answer = Answer::Yes;
    for one in all {
        let done =
            if arguments.dry_run { tell(context, &spool, one) } else { ask(context, &spool.layout, one) };
        match done {
            Ok(()) => {}
            // The others may go all the same.
            Err(error @ CliError::Refused(_)) if several => {
                talk(&format!("gitspool: {}: {error}", one.target()));
                answer = Answer::No;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// The task or run that a text names; also one that was removed, since a repeat is no mistake.
fn find(layout: &Layout, text: &str) -> Result<One, CliError> {
    let id = text.split_once('.').map_or(text, |(task, _)| task);
    let gone =
        || id.parse::<TaskId>().ok().filter(|task| matches!(removed::look(layout, *task), Ok(Some(_))));
    match find::look_for(layout, text)? {
        Some(target) => Ok(One { task: target.found.task, attempt: target.attempt }),
        None => match gone() {
            Some(task) => Ok(One { task, attempt: None }),
            None => Err(find::not_found(layout, text)),
        },
    }
}

/// Prints what would go.
fn tell(context: &Context, spool: &Spool, one: One) -> Result<(), CliError> {
    if let Some(found) = find::exact(&spool.layout, one.task)?
        && !found.place.is_ended()
    {
        return Err(CliError::Usage(format!(
            "task {} has not ended, it is {}",
            one.task,
            found.place.word()
        )));
    }
    let plan = plan_one(spool, one).map_err(CliError::Refused)?;
    gc::tell_plan(context, &spool.layout, &plan)
}

/// Has it done by the daemon.
fn ask(context: &Context, layout: &Layout, one: One) -> Result<(), CliError> {
    let command = json!({"type": "rm", "target": one.target()});
    let dropped = drop_command(layout, &command)?;
    let Some(receipt) = answer_within(context, layout, &dropped, PATIENCE)? else {
        if context.json {
            print_json(&json!({"command": dropped.name, "accepted": Value::Null}))?;
        }
        return Ok(());
    };
    if context.json {
        print_json(&receipt)?;
    }
    if let Some(refusal) = receipt.refusal {
        return Err(CliError::Refused(refusal));
    }
    if !context.json {
        print(&format!("{}: removed {}\n", one.target(), receipt.note.unwrap_or_default()))?;
    }
    Ok(())
}
