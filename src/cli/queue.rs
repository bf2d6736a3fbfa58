//! `gitspool queue`

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::asking::report;
use super::dropping::drop_command;
use super::status::{self, QueueStatus};
use super::{Answer, CliError, Context, print, print_json, shown};
use crate::id::Name;

/// List the queues with their settings and how many tasks they have, or set what a queue's queue.json says
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    Set(SetArguments),
}

/// Change some of the settings of a queue, and leave the others; a queue that is not there is made
#[derive(clap::Args)]
struct SetArguments {
    #[arg(value_name = "QUEUE")]
    queue: Name,
    /// How many of its tasks may run at once; 0 starts nothing
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// A lane, and how many of the queue's tasks that run may be of it; may be given several times
    #[arg(long, value_name = "NAME=N")]
    lane: Vec<String>,
    /// Remove a lane: its tasks have the queue's slots then
    #[arg(long, value_name = "NAME")]
    no_lane: Vec<String>,
    /// How many of its runs may break one after the other before it is paused; 0 for any number
    #[arg(long, value_name = "N")]
    breaker: Option<u32>,
    /// What a task has that does not say it, as timeout_seconds=60 or workspace.kind=none; a number, JSON or a text
    #[arg(long, value_name = "KEY=VALUE")]
    default: Vec<String>,
    /// Remove a default
    #[arg(long, value_name = "KEY")]
    no_default: Vec<String>,
    /// The program that is run when the queue has no work any more, then each of its arguments in turn
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    notify_empty: Vec<String>,
    /// Run none
    #[arg(long, conflicts_with = "notify_empty")]
    no_notify_empty: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    match &arguments.verb {
        None => list(context),
        Some(Verb::Set(arguments)) => set(context, arguments),
    }
}

fn list(context: &Context) -> Result<Answer, CliError> {
    let queues = status::queues(&context.open()?)?;
    if context.json {
        queues.iter().try_for_each(|queue| print_json(&queue.value()))?;
        return Ok(Answer::Yes);
    }
    print(&status::tables(&queues))?;
    let defaults: Vec<Vec<String>> = queues.iter().flat_map(default_cells).collect();
    let told = queues.iter().filter_map(|queue| Some(vec![queue.name.to_string(), queue.notify_empty()?]));
    let told: Vec<Vec<String>> = told.collect();
    if !told.is_empty() {
        print(&format!("\n{}", shown::table(&["QUEUE", "NOTIFY EMPTY"], &told)))?;
    }
    if !defaults.is_empty() {
        print(&format!("\n{}", shown::table(&["QUEUE", "DEFAULT", "VALUE"], &defaults)))?;
    }
    Ok(Answer::Yes)
}

fn default_cells(queue: &QueueStatus) -> Vec<Vec<String>> {
    let value = queue.value();
    let defaults = value["settings"]["defaults"].as_object().into_iter().flatten();
    defaults.map(|(key, value)| vec![queue.name.to_string(), key.clone(), value.to_string()]).collect()
}

fn set(context: &Context, arguments: &SetArguments) -> Result<Answer, CliError> {
    let mut lanes = Map::new();
    for lane in &arguments.lane {
        let (name, slots) = lane.split_once('=').unwrap_or((lane, ""));
        let slots: u32 = slots
            .parse()
            .map_err(|_| CliError::Usage(format!("--lane {lane} has no number of slots: write NAME=N")))?;
        lanes.insert(name.to_owned(), json!({"slots": slots}));
    }
    lanes.extend(arguments.no_lane.iter().map(|lane| (lane.clone(), Value::Null)));
    let mut defaults = Map::new();
    for default in &arguments.default {
        let Some((key, value)) = default.split_once('=') else {
            return Err(CliError::Usage(format!("--default {default} has no value: write KEY=VALUE")));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        put(&mut defaults, key, value);
    }
    arguments.no_default.iter().for_each(|key| put(&mut defaults, key, Value::Null));
    let mut command = json!({"type": "set", "queue": arguments.queue});
    if let Some(slots) = arguments.slots {
        command["slots"] = slots.into();
    }
    if let Some(breaker) = arguments.breaker {
        command["breaker"] = breaker.into();
    }
    for (key, map) in [("lanes", lanes), ("defaults", defaults)] {
        if !map.is_empty() {
            command[key] = map.into();
        }
    }
    if !arguments.notify_empty.is_empty() {
        command["notify_empty"] = json!(arguments.notify_empty);
    } else if arguments.no_notify_empty {
        command["notify_empty"] = Value::Null;
    }
    let layout = context.open()?.layout;
    let dropped = drop_command(&layout, &command)?;
    report(context, &layout, &dropped, &format!("queue {}", arguments.queue))
}

/// Puts a value at `a.b`.
fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(map.insert(key.to_owned(), value)),
        Some((key, rest)) => {
            let inner = map.entry(key).or_insert_with(|| json!({}));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}
