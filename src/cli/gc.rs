//! `gitspool gc`

use std::time::Duration;

use serde_json::{Value, json};

use super::asking::answer_within;
use super::dropping::drop_command;
use super::{Answer, CliError, Context, print, print_json, scope, talk};
use crate::clock;
use crate::escape;
use crate::gc::{self, Plan};
use crate::id::Name;
use crate::layout::Layout;
use crate::retention::Asked;
use crate::spool::Spool;
use crate::time;
use crate::workspace::kept_ref;

/// Removing a million tasks takes minutes.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// Remove what has ended: tasks with their runs, the oldest first, and what nothing needs any more
///
/// Without a limit each queue's `retention` in queue.json holds, which the daemon keeps each day by itself. A task that is
/// live is never touched, nor is one whose workspace still stands, nor, unless you ask for it, what is kept on refs in
/// repositories. Worktrees that were to go and could not are looked at again. The daemon does
/// it; with --dry-run nothing is changed, and it is printed what would go.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print what would go, with its size on the disk, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Tasks that ended so long ago, as 30d, 12h, 90
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// All but the N of each queue that ended last
    #[arg(long, value_name = "N")]
    keep: Option<u64>,
    /// The oldest, until those of each queue take no more than so many bytes of the disk
    #[arg(long, value_name = "N")]
    bytes: Option<u64>,
    /// Kept refs of runs that ended so long ago; they keep what runs left, and never go unless you say this or the next
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    kept_older_than: Option<Duration>,
    /// The oldest kept refs, until the others keep no more than so many bytes of repositories that nothing else keeps
    #[arg(long, value_name = "N")]
    kept_bytes: Option<u64>,
    /// The oldest worktrees of runs that are over, clean ones first, until the others take no more than so many bytes of the
    /// disk; what is in them is kept on refs first
    #[arg(long, value_name = "N")]
    workspaces_bytes: Option<u64>,
    /// Only tasks of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<Name>,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    time::parse_duration(text).ok_or("a length of time is told as 90, 90s, 10m, 1h30m or 2d")
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    if !scope().is_whole() {
        return Err(CliError::Usage(
            "gc is about the whole spool: leave out --tenant and --project, and their variables".to_owned(),
        ));
    }
    let spool = context.open()?;
    let asked = Asked {
        older_than_seconds: arguments.older_than.map(|age| age.as_secs()),
        keep: arguments.keep,
        bytes: arguments.bytes,
        kept_older_than_seconds: arguments.kept_older_than.map(|age| age.as_secs()),
        kept_bytes: arguments.kept_bytes,
        workspaces_bytes: arguments.workspaces_bytes,
        queue: arguments.queue.clone(),
    };
    if arguments.dry_run { tell(context, &spool, &asked) } else { ask(context, &spool.layout, &asked) }
}

/// Prints what would go.
fn tell(context: &Context, spool: &Spool, asked: &Asked) -> Result<Answer, CliError> {
    tell_plan(context, &spool.layout, &gc::plan(spool, asked, clock::now())?)?;
    Ok(Answer::Yes)
}

/// Prints what a plan says, with the size of each thing.
pub(super) fn tell_plan(context: &Context, layout: &Layout, plan: &Plan) -> Result<(), CliError> {
    for (bytes, row) in rows(layout, plan) {
        if context.json {
            print_json(&row)?;
            continue;
        }
        for path in row["paths"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            print(&format!("{bytes:>12}  {}\n", escape::line(path)))?;
        }
    }
    for (task, place) in &plan.stays {
        talk(&format!("gitspool: task {task} stays: its workspace stands, {}", place.display()));
    }
    for worktree in &plan.worktrees {
        for blocker in &worktree.blockers {
            let (run, what) = (worktree.run, &blocker.what);
            talk(&format!("gitspool: the worktree of {run} is looked at again, which could not go: {what}"));
        }
    }
    talk(&format!("gitspool: would remove {}", plan.tally().words()));
    Ok(())
}

/// All that goes, with its size, in the order in which it goes.
fn rows(layout: &Layout, plan: &Plan) -> Vec<(u64, Value)> {
    let below =
        |path: &std::path::Path| path.strip_prefix(layout.root()).unwrap_or(path).display().to_string();
    let mut rows = Vec::new();
    for leaving in &plan.tasks {
        let paths: Vec<String> = leaving.paths(layout).iter().map(|path| below(path)).collect();
        let row = json!({
            "goes": "task", "task": leaving.task, "queue": leaving.queue, "state": leaving.folder,
            "ended_at": leaving.ended_at, "bytes": leaving.bytes, "paths": paths,
        });
        rows.push((leaving.bytes, row));
    }
    for worktree in plan.free_worktrees() {
        let bytes = worktree.bytes.unwrap_or_default();
        let row = json!({
            "goes": "worktree", "run": worktree.run, "bytes": bytes, "paths": [worktree.root], "dirty": worktree.dirty,
        });
        rows.push((bytes, row));
    }
    for (kept, bytes) in &plan.kept {
        let row = json!({
            "goes": "kept_ref", "run": kept.run, "bytes": bytes, "repository": kept.repository,
            "commit": kept.commit.to_string(), "paths": [kept_ref(kept.run)],
        });
        rows.push((*bytes, row));
    }
    for other in &plan.others {
        let row = json!({"goes": other.what.word(), "bytes": other.bytes, "paths": [below(&other.path)]});
        rows.push((other.bytes, row));
    }
    rows
}

/// Has it done by the daemon.
fn ask(context: &Context, layout: &Layout, asked: &Asked) -> Result<Answer, CliError> {
    let mut command = serde_json::to_value(asked).expect("because it has string keys");
    command["type"] = "gc".into();
    let dropped = drop_command(layout, &command)?;
    let Some(receipt) = answer_within(context, layout, &dropped, PATIENCE)? else {
        if context.json {
            print_json(&json!({"command": dropped.name, "accepted": null}))?;
        }
        return Ok(Answer::Yes);
    };
    if context.json {
        print_json(&receipt)?;
    }
    if let Some(refusal) = receipt.refusal {
        return Err(CliError::Refused(refusal));
    }
    if !context.json {
        print(&format!("removed {}\n", receipt.note.unwrap_or_default()))?;
    }
    Ok(Answer::Yes)
}
