//! What a task is doing, in words: for who waits, and for who has waited in vain.

use std::time::Duration;

use super::find::{Found, Place};
use super::output;
use super::shown::{clip, lasted};
use super::{CliError, runs};
use crate::clock;
use crate::id::RunId;
use crate::jsonl;
use crate::layout::Layout;
use crate::record::{Event, Record};
use crate::redact;
use crate::spec::Spec;
use crate::store;

/// How much of a line is told.
const LINE_CHARS_MAX: usize = 200;

/// What a task is doing.
pub(super) struct Doing {
    pub(super) run: Option<RunId>,
    /// The word for where it stands; for one that runs, how far its run is.
    pub(super) state: &'static str,
    /// How long it has been there; of one that does not run, since it was submitted.
    pub(super) since: Duration,
    /// The last line of its output, if it has printed any.
    pub(super) line: Option<String>,
    /// All of it, in words that follow its name.
    pub(super) what: String,
}

/// What a live task is doing.
pub(super) fn doing(layout: &Layout, found: &Found, spec: &Spec) -> Result<Doing, CliError> {
    let name = spec.name.as_ref().map(|name| format!("({name}) ")).unwrap_or_default();
    let record = runs::last(layout, found.task)?.filter(|_| matches!(found.place, Place::Active(_)));
    let Some(record) = record else {
        let since = clock::now().since(found.task.made_at());
        let state = found.place.word();
        let what = format!("{name}is {state}, submitted {} ago", lasted(since));
        return Ok(Doing { run: None, state, since, line: None, what });
    };
    let (run, state) = (record.run, runs::status_word(&record));
    let since = clock::now().since(record.finished_at.unwrap_or(record.started_at));
    let line = last_line(layout, run, spec)?;
    let how = match record.outcome {
        Some(_) => format!("{name}is active, run {run} has ended: {state}, {} ago", lasted(since)),
        None => format!("{name}is active, run {run} is {state} for {}", lasted(since)),
    };
    let last = match &line {
        Some(line) => format!("; it printed last: {line}"),
        None => last_event(layout, &record)?,
    };
    Ok(Doing { run: Some(run), state, since, line, what: how + &last })
}

/// The last line that a run has printed, without secrets of known form.
pub(super) fn last_line(layout: &Layout, run: RunId, spec: &Spec) -> Result<Option<String>, CliError> {
    let line = output::last_line(layout, run, spec)?;
    Ok(line.map(|line| clip(&redact::text(&line), LINE_CHARS_MAX)))
}

fn last_event(layout: &Layout, record: &Record) -> Result<String, CliError> {
    let bytes = store::read_if_there(&layout.run(record.run).log())?.unwrap_or_default();
    let log = jsonl::parse::<Event>(&bytes);
    let Some(line) = log.lines.last() else { return Ok(String::new()) };
    let value = serde_json::to_value(&line.event).expect("because an event has string keys");
    let of_type = value["type"].as_str().unwrap_or("unknown");
    Ok(format!(
        "; it has printed nothing, its last event is {of_type}, {} ago",
        lasted(clock::now().since(line.at))
    ))
}
