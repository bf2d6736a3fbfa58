//! `gitspool rerun`

use serde_json::json;

use super::asking::answer;
use super::dropping::drop_command;
use super::submit::rank;
use super::{Answer, CliError, Context, edit, find, print, print_json, talk};
use crate::answer::Receipt;
use crate::clock;

/// Submit a task once more, as a new one: with the spec of one that is there or has ended, and what you change of it
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Its id, the end of it, or its name
    #[arg(value_name = "ID")]
    task: String,
    /// A key of the spec and its value, JSON or else a text, as `timeout_seconds=60` or `env.CC=clang`; `null` removes it
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Its place in the order of dispatch, 0 to 99, the lowest first
    #[arg(long, value_parser = rank, allow_negative_numbers = true)]
    rank: Option<u8>,
    /// Wait until it is released
    #[arg(long)]
    held: bool,
    /// Wait until the daemon has admitted it, and fail when it is refused
    #[arg(long)]
    confirm: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let layout = context.open()?.layout;
    let found = find::target(&layout, &arguments.task)?.found;
    let Some(spec) = find::spec(&found)? else {
        let file = found.path.display();
        return Err(CliError::Usage(format!("{file} is no spec; wait until the task is settled")));
    };
    if let Some(branch) = spec.workspace.branch.as_ref().filter(|_| found.place.has_started()) {
        talk(&format!("gitspool: the branch {branch} must not be there; or --set workspace.branch=OTHER"));
    }
    let task = clock::new_id();
    let mut command =
        serde_json::to_value(spec.without_fixed_deadline()).expect("because a spec has string keys");
    command["rerun_of"] = json!(found.task);
    crate::edit::merge(&mut command, edit::set(&arguments.set)?, true);
    command["type"] = "submit".into();
    command["id"] = json!(task);
    if let Some(rank) = arguments.rank {
        command["rank"] = rank.into();
    }
    if arguments.held {
        command["held"] = true.into();
    }
    let dropped = drop_command(&layout, &command)?;
    if arguments.confirm
        && let Some(Receipt { refusal: Some(refusal), .. }) = answer(context, &layout, &dropped)?
    {
        return Err(CliError::Refused(refusal));
    }
    if context.json {
        print_json(&json!({"task": task, "rerun_of": found.task}))?;
    } else {
        print(&format!("{task}\n"))?;
    }
    Ok(Answer::Yes)
}
