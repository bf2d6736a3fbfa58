//! `gitspool commands`: what was asked of a run, and what became of it.

use serde_json::{Value, json};

use super::{Answer, CliError, Context, find, follow, print, print_json, shown};
use crate::clock;
use crate::id::RunId;
use crate::jsonl::{self, Line};
use crate::layout::{self, Layout};
use crate::record::{self, Event};
use crate::redact;
use crate::store;
use crate::time::Timestamp;

/// The largest page.
const PAGE_MAX: u64 = 500;

/// List what was asked of a run, the first first: pending, acknowledged (its supervisor has read it) or ended
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The id of a task or a run, the end of it, or a name; of a task its last run counts
    #[arg(value_name = "ID")]
    run: String,
    /// Only those with a higher number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    since: u64,
    /// At most so many, 500 at the most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=PAGE_MAX))]
    limit: u64,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let layout = context.open()?.layout;
    let target = find::target(&layout, &arguments.run)?;
    let run = follow::run_of(&layout, &target.found, target.attempt)?;
    let mut commands = of_run(&layout, run, arguments.since)?;
    commands.truncate(usize::try_from(arguments.limit).unwrap_or(usize::MAX));
    if context.json {
        commands.iter().try_for_each(print_json)?;
    } else if !commands.is_empty() {
        let rows: Vec<Vec<String>> = commands.iter().map(cells).collect();
        print(&shown::table(&["SEQ", "TYPE", "STATE", "RESULT", "ASKED", "WHAT"], &rows))?;
    }
    Ok(Answer::Yes)
}

/// The commands to a run with numbers above `since`.
fn of_run(layout: &Layout, run: RunId, since: u64) -> Result<Vec<Value>, CliError> {
    let paths = layout.run(run);
    // The files first: what is in the log by then was asked.
    let mut files: Vec<(u64, String, String)> = store::names(&paths.commands())?
        .into_iter()
        .filter_map(|name| {
            let (number, kind) = layout::parse_command(&name)?;
            Some((number, kind, name))
        })
        .filter(|(number, ..)| *number > since)
        .collect();
    files.sort();
    let mut asked = Vec::new();
    for (number, kind, name) in files {
        let bytes = store::read_if_there(&paths.commands().join(name))?.unwrap_or_default();
        asked.push((number, kind, serde_json::from_slice::<Value>(&bytes).unwrap_or_default()));
    }
    let log = jsonl::parse::<Event>(&store::read_if_there(&paths.log())?.unwrap_or_default());
    let is_over = record::of_log(run, &log).is_some_and(|record| record.outcome.is_some());
    Ok(asked
        .into_iter()
        .map(|(number, kind, said)| told(run, number, &kind, said, &log.lines, is_over))
        .collect())
}

/// A command as it is shown: what its file says, and how far it has come by the log.
fn told(run: RunId, number: u64, kind: &str, said: Value, lines: &[Line<Event>], is_over: bool) -> Value {
    let heard = lines
        .iter()
        .find(|line| matches!(&line.event, Event::Acknowledged { command, .. } if *command == number));
    let ended = lines.iter().find_map(|line| {
        let Event::CommandEnded { command, result, .. } = &line.event else { return None };
        (*command == number).then(|| (line.at, result.clone()))
    });
    let state = match (heard, &ended) {
        (_, Some(_)) => "ended",
        // Of a run that is over nothing comes any more, whatever it has heard.
        _ if is_over => "ended",
        (Some(_), None) => "acknowledged",
        (None, None) => "pending",
    };
    let mut value = json!({"run": run, "seq": number, "type": kind, "state": state});
    let result = ended.as_ref().map(|(_, result)| result.clone());
    let result = result.or_else(|| (state == "ended").then(|| "the run ended".to_owned()));
    let times = [("acknowledged_at", heard.map(|line| line.at)), ("ended_at", ended.map(|(at, _)| at))];
    for (key, at) in times {
        at.into_iter().for_each(|at| value[key] = at.to_string().into());
    }
    result.into_iter().for_each(|result| value["result"] = result.into());
    if let (Value::Object(said), Value::Object(value)) = (said, &mut value) {
        for (key, said) in said.into_iter().filter(|(key, said)| !said.is_null() && key != "type") {
            value.entry(key).or_insert(said);
        }
    }
    redact::value(&mut value);
    value
}

fn cells(command: &Value) -> Vec<String> {
    let text = |key: &str| command[key].as_str().unwrap_or_default().to_owned();
    let at = text("at").parse::<Timestamp>().ok();
    let what = ["reason", "text", "summary", "session"].map(text);
    vec![
        command["seq"].to_string(),
        text("type"),
        text("state"),
        text("result"),
        at.map(|at| format!("{} ago", shown::age(at, clock::now()))).unwrap_or_default(),
        shown::clip(&what.iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join("; "), 60),
    ]
}
