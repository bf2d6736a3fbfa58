//! `gitspool submit`: the options of a task, and dropping it.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::asking::answer;
use super::dropping::{Dropped, drop_command};
use super::{Answer, CliError, Context, print, print_json, talk};
use crate::answer::Receipt;
use crate::clock;
use crate::id::TaskId;
use crate::spool::Spool;
use crate::time;

/// Submit a task, and print its id; it is durable then, and starts when a daemon runs and a slot is free
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) task: TaskArguments,
    /// Wait until the daemon has admitted it, and fail when it is refused
    #[arg(long)]
    confirm: bool,
    /// A key by which a repeat is known: it starts nothing, and prints the task of the first. Waits like --confirm
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

/// What a task is, on the command line.
#[derive(clap::Args)]
pub(crate) struct TaskArguments {
    /// The program to run and its arguments
    #[arg(last = true, value_name = "ARGV")]
    argv: Vec<String>,
    /// A line for /bin/sh -c
    #[arg(long, value_name = "LINE")]
    shell: Option<String>,
    /// What an agent is asked to do
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The profile in agents/ that carries out a prompt
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Text that is added to the prompt
    #[arg(long, value_name = "TEXT")]
    extra: Option<String>,
    /// A name for the task and its branch
    #[arg(long)]
    name: Option<String>,
    /// The queue; `default` when absent
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// The lane of the queue whose slots it shares
    #[arg(long, value_name = "NAME")]
    lane: Option<String>,
    /// So many units of a resource of its host; 1 when no number is given; may be given several times
    #[arg(long, value_name = "NAME[=N]")]
    resource: Vec<String>,
    /// A lock that it has alone while it runs, or shares with others; may be given several times
    #[arg(long, value_name = "NAME[=shared]")]
    lock: Vec<String>,
    /// The work item (a card, an issue) that the task is for
    #[arg(long)]
    item: Option<String>,
    /// Its place in the order of dispatch, 0 to 99, the lowest first
    #[arg(long, value_parser = rank, allow_negative_numbers = true)]
    rank: Option<u8>,
    /// Wait until it is released
    #[arg(long)]
    held: bool,
    /// Let it wait until this time, RFC 3339 like 2026-11-20T15:04:05Z
    #[arg(long, value_name = "TIME", conflicts_with = "delay")]
    start_at: Option<String>,
    /// Let it wait so many seconds from when it is admitted
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    delay: Option<u64>,
    /// End it as expired if it has not started by then, and as timed_out if it still runs: a time, or a length of time from
    /// when it is admitted, as 90, 90s, 10m, 1h30m or 2d
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// Let it start only when this task has succeeded: an id, the end of one, or a name; may be given several times
    #[arg(long, value_name = "ID")]
    needs: Vec<String>,
    /// Let it start only when this task has ended, however
    #[arg(long, value_name = "ID")]
    after: Vec<String>,
    /// Let it start only when this task has ended without success
    #[arg(long, value_name = "ID")]
    after_failed: Vec<String>,
    /// What becomes of it when what it needs has not succeeded: it ends as blocked (the default) or as skipped, or is held
    #[arg(long, value_name = "WHAT", requires = "needs", value_parser = ["block", "skip", "hold"])]
    on_failed_need: Option<String>,
    /// Try it again so often when it has not succeeded
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// But only after these outcomes: failed, signalled, timed_out; all of them when absent
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',', requires = "retries", value_parser = ["failed", "signalled", "timed_out"])]
    retry_on: Vec<String>,
    /// How long to wait before the second attempt, and twice as long before each further one; 1 when absent
    #[arg(long, value_name = "SECONDS", requires = "retries", value_parser = seconds, allow_negative_numbers = true)]
    backoff: Option<u64>,
    /// Do it again when a run was interrupted or lost: it may be done twice. Without this it is held then
    #[arg(long)]
    repeatable: bool,
    /// Tell somebody of it: of nothing, of its end (the default with --notifier), or of milestones until then, too
    #[arg(long, value_name = "MODE", value_parser = ["none", "final", "milestones"])]
    notify: Option<String>,
    /// The program that is run for each notice, then each of its arguments in turn; without it notices stand in the log only
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    notifier: Vec<String>,
    /// So many notices at most before the final one, 100 at the most; 12 when absent
    #[arg(long, value_name = "N")]
    notices_max: Option<u32>,
    /// So far apart at least, 3600 at the most; 10 when absent
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    notice_interval: Option<u64>,
    /// How long the notifier may take, 600 at the most; 30 when absent
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    notifier_timeout: Option<u64>,
    /// The place that the work is about; the current folder when absent
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Where it works: a worktree (the default in a repository), the directory itself, or none (a private folder)
    #[arg(long, value_name = "KIND", value_parser = ["worktree", "directory", "none"])]
    workspace: Option<String>,
    /// The commit that a worktree starts from
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// The branch to make for a worktree
    #[arg(long)]
    branch: Option<String>,
    /// What is removed at the end; uncommitted work is kept on a ref first
    #[arg(long, value_name = "WHAT", value_parser = ["never", "worktree", "all"])]
    cleanup: Option<String>,
    /// Keep what git ignores too
    #[arg(long)]
    keep_ignored: bool,
    /// A variable for the task's environment; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// End it as timed_out after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    timeout: Option<u64>,
    /// End it as timed_out when it has printed nothing for so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    idle_timeout: Option<u64>,
    /// How long its processes have between SIGTERM and SIGKILL
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    grace: Option<u64>,
    /// Keep stdout and stderr in two files
    #[arg(long)]
    apart: bool,
    /// Keep so much of its output at most, the begin and the end; 4096 at least
    #[arg(long, value_name = "BYTES")]
    output_bytes_max: Option<u64>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let keyed = arguments.key.is_some();
    let (mut task, dropped) = submit(&spool, arguments.task, arguments.key)?;
    if arguments.confirm || keyed {
        match answer(context, &spool.layout, &dropped)? {
            Some(Receipt { refusal: Some(refusal), .. }) => return Err(CliError::Refused(refusal)),
            Some(Receipt { task: Some(first), note, .. }) => {
                task = first;
                note.iter().for_each(|note| talk(&format!("gitspool: {note}")));
            }
            Some(_) => {}
            None if keyed => {
                talk("gitspool: if the key was used before, the task is another; its receipt will tell")
            }
            None => {}
        }
    }
    if context.json {
        print_json(&json!({"task": task}))?;
    } else {
        print(&format!("{task}\n"))?;
    }
    Ok(Answer::Yes)
}

/// Drops the command that submits a task, and returns the task's id.
pub(super) fn submit(
    spool: &Spool,
    arguments: TaskArguments,
    key: Option<String>,
) -> Result<(TaskId, Dropped), CliError> {
    let task = clock::new_id();
    let mut command = command(task, arguments)?;
    put(&mut command, "key", key);
    let dropped = drop_command(&spool.layout, &Value::Object(command))?;
    Ok((task, dropped))
}

fn command(task: TaskId, arguments: TaskArguments) -> Result<Map<String, Value>, CliError> {
    let works = [!arguments.argv.is_empty(), arguments.shell.is_some(), arguments.prompt.is_some()];
    if works.iter().filter(|given| **given).count() != 1 {
        let what = "say what to do, in one way: -- PROGRAM ARGUMENT..., --shell LINE or --prompt TEXT";
        return Err(CliError::Usage(what.to_owned()));
    }
    let directory = directory(&arguments)?;
    let mut workspace = Map::new();
    put(&mut workspace, "kind", arguments.workspace);
    put(&mut workspace, "base", arguments.base);
    put(&mut workspace, "branch", arguments.branch);
    put(&mut workspace, "cleanup", arguments.cleanup);
    put(&mut workspace, "keep_ignored", arguments.keep_ignored.then_some(true));
    let mut command = Map::new();
    put(&mut command, "type", Some("submit"));
    put(&mut command, "id", Some(task.to_string()));
    put(&mut command, "run", (!arguments.argv.is_empty()).then_some(arguments.argv));
    put(&mut command, "shell", arguments.shell);
    put(&mut command, "prompt", arguments.prompt);
    put(&mut command, "agent", arguments.agent);
    put(&mut command, "extra", arguments.extra);
    put(&mut command, "name", arguments.name);
    put(&mut command, "queue", arguments.queue);
    put(&mut command, "lane", arguments.lane);
    put(&mut command, "resources", resources(&arguments.resource)?);
    put(&mut command, "locks", locks(&arguments.lock));
    put(&mut command, "item", arguments.item);
    put(&mut command, "rank", arguments.rank);
    put(&mut command, "held", arguments.held.then_some(true));
    put(&mut command, "start_at", arguments.start_at);
    put(&mut command, "delay_seconds", arguments.delay);
    match arguments.deadline.as_deref().map(|text| (text, time::parse_duration(text))) {
        Some((_, Some(length))) => put(&mut command, "deadline_seconds", Some(length.as_secs())),
        Some((text, None)) => put(&mut command, "deadline_at", Some(text)),
        None => {}
    }
    let lists =
        [("needs", arguments.needs), ("after", arguments.after), ("after_failed", arguments.after_failed)];
    for (key, list) in lists {
        put(&mut command, key, (!list.is_empty()).then_some(list));
    }
    put(&mut command, "on_failed_need", arguments.on_failed_need);
    let mut retry = Map::new();
    put(&mut retry, "max", arguments.retries);
    put(&mut retry, "on", (!arguments.retry_on.is_empty()).then_some(arguments.retry_on));
    put(&mut retry, "backoff_seconds", arguments.backoff);
    put(&mut command, "retry", (!retry.is_empty()).then_some(retry));
    put(&mut command, "repeatable", arguments.repeatable.then_some(true));
    let mut notify = Map::new();
    put(&mut notify, "mode", arguments.notify);
    put(&mut notify, "argv", (!arguments.notifier.is_empty()).then_some(arguments.notifier));
    put(&mut notify, "notices_max", arguments.notices_max);
    put(&mut notify, "min_interval_seconds", arguments.notice_interval);
    put(&mut notify, "timeout_seconds", arguments.notifier_timeout);
    put(&mut command, "notify", (!notify.is_empty()).then_some(notify));
    put(&mut command, "directory", directory);
    put(&mut command, "workspace", (!workspace.is_empty()).then_some(workspace));
    put(&mut command, "env", environment(&arguments.env)?);
    put(&mut command, "timeout_seconds", arguments.timeout);
    put(&mut command, "idle_timeout_seconds", arguments.idle_timeout);
    put(&mut command, "grace_seconds", arguments.grace);
    put(&mut command, "output", arguments.apart.then_some("apart"));
    put(&mut command, "output_bytes_max", arguments.output_bytes_max);
    Ok(command)
}

/// Reads a rank; what is said of another comes behind clap's "invalid value".
pub(super) fn rank(text: &str) -> Result<u8, &'static str> {
    text.parse().ok().filter(|rank| *rank < 100).ok_or("a rank is a whole number from 0 to 99")
}

/// Reads a length of time.
pub(super) fn seconds(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "seconds are a whole number, 0 or more")
}

fn put<T: Into<Value>>(map: &mut Map<String, Value>, key: &str, value: Option<T>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value.into());
    }
}

/// The absolute path of the task's place; absent for the workspace `none`.
fn directory(arguments: &TaskArguments) -> Result<Option<String>, CliError> {
    if arguments.workspace.as_deref() == Some("none") && arguments.directory.is_none() {
        return Ok(None);
    }
    let directory = arguments.directory.clone().unwrap_or_else(|| PathBuf::from("."));
    let absolute = directory.canonicalize().map_err(|error| {
        CliError::Usage(format!("the directory {} is not there: {error}", directory.display()))
    })?;
    absolute.into_os_string().into_string().map(Some).map_err(|path| {
        CliError::Usage(format!("the directory {} has a name that is not UTF-8", path.display()))
    })
}

/// Reads `gpu=2`, and `gpu` as one of them.
fn resources(given: &[String]) -> Result<Option<Map<String, Value>>, CliError> {
    let mut resources = Map::new();
    for resource in given {
        let (name, units) = resource.split_once('=').unwrap_or((resource, "1"));
        let units: u32 = units.parse().map_err(|_| {
            CliError::Usage(format!("--resource {resource} has no number of units: write NAME=N"))
        })?;
        resources.insert(name.to_owned(), units.into());
    }
    Ok((!resources.is_empty()).then_some(resources))
}

/// Reads `db=shared`, and `db` as an exclusive one; what else a mode may be called, the command's check knows.
fn locks(given: &[String]) -> Option<Map<String, Value>> {
    let locks = given.iter().map(|lock| lock.split_once('=').unwrap_or((lock, "exclusive")));
    let locks: Map<String, Value> = locks.map(|(name, mode)| (name.to_owned(), mode.into())).collect();
    (!locks.is_empty()).then_some(locks)
}

fn environment(given: &[String]) -> Result<Option<Map<String, Value>>, CliError> {
    let mut variables = Map::new();
    for variable in given {
        let Some((name, value)) = variable.split_once('=') else {
            return Err(CliError::Usage(format!("--env {variable} has no value: write NAME=VALUE")));
        };
        variables.insert(name.to_owned(), value.into());
    }
    Ok((!variables.is_empty()).then_some(variables))
}
