//! What somebody waits for in the runs of a task: an event of a type, or a line of output.
//!
//! Each line is looked at once, from the first run on, however late the waiting begins.

use regex_lite::{Regex, RegexBuilder};
use serde_json::{Value, json};

use super::output::{self, Form, Stream, View, Wanted, harmless};
use super::series::{Go, Log, Series};
use super::{CliError, runs};
use crate::hint::Hints;
use crate::id::{RunId, TaskId};
use crate::layout::Layout;
use crate::record;
use crate::redact;
use crate::spec::Spec;

use super::pending::watch;

/// How large a compiled pattern may be.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// What is waited for.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// The run's log has an event of this type.
    Event(String),
    /// A line of its output matches.
    Output(Regex),
}

impl Condition {
    /// The same, in words that follow "without".
    pub(super) fn words(&self) -> String {
        match self {
            Condition::Event(of_type) => format!("an event {of_type}"),
            Condition::Output(pattern) => format!("output like {}", pattern.as_str()),
        }
    }
}

/// Reads the type of an event.
pub(super) fn event_type(text: &str) -> Result<String, String> {
    let known = record::TYPES.contains(&text);
    known.then(|| text.to_owned()).ok_or_else(|| format!("the types are {}", record::TYPES.join(", ")))
}

/// Reads a pattern.
pub(super) fn pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| error.to_string())
}

/// What was waited for, as it is shown.
pub(super) struct Met {
    pub(super) run: RunId,
    /// In words of a line.
    pub(super) text: String,
    /// The key under which `value` is shown in JSON.
    pub(super) key: &'static str,
    pub(super) value: Value,
}

/// Looks for a condition in the runs of one task.
pub(super) struct Search {
    task: TaskId,
    /// The run that is looked at, once there is one.
    run: Option<(RunId, Source)>,
}

/// What is read, and what is looked for in it.
enum Source {
    Log(Box<Series>, String),
    Output(Vec<Stream>, Regex),
}

impl Search {
    pub(super) fn new(task: TaskId) -> Search {
        Search { task, run: None }
    }

    /// Looks at what is new; `None` while it is not there. `is_over`: nothing more will come.
    pub(super) fn look(
        &mut self,
        layout: &Layout,
        condition: &Condition,
        spec: &Spec,
        hints: &mut Hints,
        is_over: bool,
    ) -> Result<Option<Met>, CliError> {
        watch(hints, &layout.runs_of(&self.task.date()));
        let last = runs::attempts(layout, self.task);
        loop {
            let attempt = self.run.as_ref().map_or(1, |(run, _)| run.attempt);
            if attempt > last {
                return Ok(None);
            }
            let run = RunId { task: self.task, attempt };
            watch(hints, layout.run(run).dir());
            let (_, source) = self.run.get_or_insert_with(|| (run, Source::of(layout, run, condition, spec)));
            // There is one after it, so it has ended.
            let is_whole = is_over || attempt < last;
            if let Some(met) = source.look(run, is_whole)? {
                return Ok(Some(met));
            }
            if attempt >= last {
                return Ok(None);
            }
            let next = RunId { task: self.task, attempt: attempt + 1 };
            self.run = Some((next, Source::of(layout, next, condition, spec)));
        }
    }
}

impl Source {
    fn of(layout: &Layout, run: RunId, condition: &Condition, spec: &Spec) -> Source {
        match condition {
            Condition::Event(of_type) => {
                let series = Series::new(Log::Run(layout.run(run).log()), 0);
                Source::Log(Box::new(series), of_type.clone())
            }
            Condition::Output(pattern) => {
                let (form, wanted) = (Form::Raw, Wanted::All);
                let view = View { form, wanted, timestamps: false, since: None, tail: None };
                let streams = output::streams(layout, run, spec, &view, "").unwrap_or_default();
                Source::Output(streams, pattern.clone())
            }
        }
    }

    fn look(&mut self, run: RunId, is_whole: bool) -> Result<Option<Met>, CliError> {
        match self {
            Source::Log(series, of_type) => {
                let mut met = None;
                series.read(&mut |line| {
                    if line.value["type"] != of_type.as_str() {
                        return Ok(Go::On);
                    }
                    let mut value = line.value;
                    redact::value(&mut value);
                    met = Some(Met { run, text: of_type.clone(), key: "event", value });
                    Ok(Go::Stop)
                })?;
                Ok(met)
            }
            Source::Output(streams, pattern) => {
                for stream in streams {
                    while let Some(line) = stream.next_line(is_whole)? {
                        let text = String::from_utf8_lossy(&line.text);
                        if pattern.is_match(&text) {
                            let value = json!(text);
                            return Ok(Some(Met { run, text: harmless(&line.text), key: "line", value }));
                        }
                    }
                }
                Ok(None)
            }
        }
    }
}
