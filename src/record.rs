//! The lines of a run's log, and the record that they fold into.
//!
//! The supervisor writes the lines; anybody may fold them. `run.json` is the fold, drawn for `jq`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::applied::Applied;
use crate::command::ToRun;
use crate::id::{Name, RunId};
use crate::jsonl::{self, Line, Parsed};
use crate::outcome::{Evidence, Outcome};
use crate::redact;
use crate::time::Timestamp;
use crate::workspace::{Delivered, Workspace};

/// Stands for the host of a run whose first line is lost.
const UNKNOWN_HOST: &str = "unknown";

/// One event of a run's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Event {
    /// This attempt has begun, and may never begin again.
    #[serde(rename = "run.started")]
    Started {
        run: RunId,
        host: Name,
        pid: u32,
        /// Which boot of the machine: a run of an earlier one was interrupted.
        boot: String,
        /// The SHA-256 of the run's secret, by which its agent is known.
        token_sha256: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        item: Option<String>,
        /// The control group that holds the run's processes.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        cgroup: Option<PathBuf>,
    },
    #[serde(rename = "workspace.ready")]
    WorkspaceReady { workspace: Workspace },
    #[serde(rename = "agent.started")]
    AgentStarted { pid: u32, argv: Vec<String> },
    /// Its processes are asked to end.
    #[serde(rename = "run.stopping")]
    Stopping { outcome: Outcome, message: Option<String> },
    #[serde(rename = "command.acknowledged")]
    Acknowledged { command: u64, kind: String },
    #[serde(rename = "command.ended")]
    CommandEnded { command: u64, kind: String, result: String },
    /// The agent's word.
    #[serde(rename = "note")]
    Note { text: String },
    #[serde(rename = "session")]
    Session { session: String },
    #[serde(rename = "summary")]
    Summary { text: String },
    /// What the supervisor has to say.
    #[serde(rename = "log")]
    Log { level: Level, text: String },
    /// The run is over.
    #[serde(rename = "run.ended")]
    Ended {
        outcome: Outcome,
        evidence: Evidence,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        delivered: Option<Delivered>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<String>,
        /// How many bytes of the agent's output were left out.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        output_truncated: Option<u64>,
    },
    /// Its workspace was looked at again, when it was over.
    #[serde(rename = "workspace.settled")]
    WorkspaceSettled { delivered: Delivered },
    /// Its result was brought onto a branch.
    #[serde(rename = "result.applied")]
    ResultApplied { applied: Applied },
    /// That was undone.
    #[serde(rename = "result.undone")]
    ResultUndone { undone: Applied },
    /// A type that a newer version writes; it is passed over.
    #[serde(other)]
    Unknown,
}

/// The types of lines, as logs spell them.
pub(crate) const TYPES: [&str; 14] = [
    "run.started",
    "workspace.ready",
    "agent.started",
    "run.stopping",
    "command.acknowledged",
    "command.ended",
    "note",
    "session",
    "summary",
    "log",
    "run.ended",
    "workspace.settled",
    "result.applied",
    "result.undone",
];

/// How serious a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    Info,
    Warn,
    Error,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Preparing,
    Running,
    Stopping,
    Ended,
}

/// What a run's log says, in one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) run: RunId,
    pub(crate) host: Name,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) item: Option<String>,
    pub(crate) status: Status,
    /// Of the supervisor, for people.
    pub(crate) pid: u32,
    pub(crate) boot: String,
    pub(crate) token_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) evidence: Option<Evidence>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) workspace: Option<Workspace>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) delivered: Option<Delivered>,
    /// What was applied and not undone, for each branch the last, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) applied: Vec<Applied>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) summary: Option<String>,
    /// What went wrong beside the outcome: a dirty workspace, a failed clean-up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) error: Option<String>,
    /// How many bytes of its output were left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) output_truncated: Option<u64>,
    /// The number of the last line that is folded in.
    pub(crate) last_seq: u64,
}

/// Folds a run's lines; `None` when none of them says that it has begun.
pub(crate) fn fold(lines: &[Line<Event>]) -> Option<Record> {
    lines.iter().fold(None, step)
}

/// What the log of `run` says; `None` when the run has not begun. Any whole line says that it has, also one that cannot
/// be read: the first is on disk before an agent starts, and a run never begins twice. What only that first line tells is
/// not known when it is lost, but how the run ended is.
pub(crate) fn of_log(run: RunId, log: &Parsed<Event>) -> Option<Record> {
    if !log.has_lines() {
        return None;
    }
    let begun = log.lines.iter().position(|line| matches!(line.event, Event::Started { .. }));
    match begun {
        Some(begun) => fold(&log.lines[begun..]),
        None => log.lines.iter().fold(Some(unknown(run, log)), step),
    }
}

/// The record of a run of which only its id is known.
fn unknown(run: RunId, log: &Parsed<Event>) -> Record {
    let started = Event::Started {
        run,
        host: UNKNOWN_HOST.parse().expect("because it is a name"),
        pid: 0,
        boot: String::new(),
        token_sha256: String::new(),
        item: None,
        cgroup: None,
    };
    let at = log.lines.first().map_or(Timestamp::from_micros(0), |line| line.at);
    begin(&Line { seq: 1, at, event: started }).expect("because that begins a record")
}

/// Folds one more line in.
pub(crate) fn step(record: Option<Record>, line: &Line<Event>) -> Option<Record> {
    let Some(mut record) = record else { return begin(line) };
    record.last_seq = line.seq;
    match &line.event {
        Event::WorkspaceReady { workspace } => record.workspace = Some(workspace.clone()),
        Event::AgentStarted { .. } => record.status = Status::Running,
        Event::Stopping { .. } => record.status = Status::Stopping,
        Event::WorkspaceSettled { delivered } if record.outcome.is_some() => {
            record.delivered = Some(delivered.clone());
        }
        Event::ResultApplied { applied } if record.outcome.is_some() => {
            applied.add_to(&mut record.applied);
        }
        Event::ResultUndone { undone } => undone.add_to(&mut record.applied),
        Event::Session { session } => record.session = Some(session.clone()),
        Event::Summary { text } => record.summary = Some(text.clone()),
        // The first end counts.
        Event::Ended { outcome, evidence, delivered, error, output_truncated }
            if record.outcome.is_none() =>
        {
            record.status = Status::Ended;
            record.finished_at = Some(line.at);
            record.outcome = Some(*outcome);
            record.evidence = Some(evidence.clone());
            record.delivered.clone_from(delivered);
            record.error.clone_from(error);
            record.output_truncated = *output_truncated;
        }
        Event::Ended { .. }
        | Event::Started { .. }
        | Event::WorkspaceSettled { .. }
        | Event::ResultApplied { .. }
        | Event::Acknowledged { .. }
        | Event::CommandEnded { .. }
        | Event::Note { .. }
        | Event::Log { .. }
        | Event::Unknown => {}
    }
    Some(record)
}

fn begin(line: &Line<Event>) -> Option<Record> {
    let Event::Started { run, host, pid, boot, token_sha256, item, cgroup } = &line.event else {
        return None;
    };
    Some(Record {
        run: *run,
        host: host.clone(),
        item: item.clone(),
        status: Status::Preparing,
        pid: *pid,
        boot: boot.clone(),
        token_sha256: token_sha256.clone(),
        cgroup: cgroup.clone(),
        started_at: line.at,
        finished_at: None,
        outcome: None,
        evidence: None,
        workspace: None,
        delivered: None,
        applied: Vec::new(),
        session: None,
        summary: None,
        error: None,
        output_truncated: None,
        last_seq: line.seq,
    })
}

/// What a run's log says of an order when it is carried out: nothing of a cancel, which is a matter of processes.
pub(crate) fn words(order: &ToRun) -> Vec<Event> {
    let ToRun::Note { text, summary, session } = order else { return Vec::new() };
    let text = text.iter().map(|text| Event::Note { text: said(text) });
    let summary = summary.iter().map(|text| Event::Summary { text: said(text) });
    text.chain(summary)
        .chain(session.iter().map(|session| Event::Session { session: said(session) }))
        .collect()
}

/// A text for the log: without secrets of known form, and short enough for a line.
pub(crate) fn said(text: &str) -> String {
    const TEXT_BYTES_MAX: usize = 8 * 1024;
    jsonl::clip(&redact::text(text), TEXT_BYTES_MAX)
}

/// The commands to a run that were acknowledged and have not ended: number and kind. A kind has the length of a word,
/// whatever somebody else wrote into the log, so that a line can take it again.
pub(crate) fn open_commands(lines: &[Line<Event>]) -> Vec<(u64, String)> {
    const KIND_BYTES_MAX: usize = 64;
    let mut open: Vec<(u64, String)> = Vec::new();
    for line in lines {
        match &line.event {
            Event::Acknowledged { command, kind } => open.push((*command, jsonl::clip(kind, KIND_BYTES_MAX))),
            Event::CommandEnded { command, .. } => open.retain(|(open, _)| open != command),
            Event::Started { .. }
            | Event::WorkspaceReady { .. }
            | Event::AgentStarted { .. }
            | Event::Stopping { .. }
            | Event::Note { .. }
            | Event::Session { .. }
            | Event::Summary { .. }
            | Event::Log { .. }
            | Event::Ended { .. }
            | Event::WorkspaceSettled { .. }
            | Event::ResultApplied { .. }
            | Event::ResultUndone { .. }
            | Event::Unknown => {}
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(events: Vec<Event>) -> Vec<Line<Event>> {
        (1..)
            .zip(events)
            .map(|(seq, event)| Line { seq, at: Timestamp::from_micros(i64::try_from(seq).unwrap()), event })
            .collect()
    }

    fn started() -> Event {
        Event::Started {
            run: "01890a5d-ac96-774b-bcce-b302099a8057.1".parse().unwrap(),
            host: "here".parse().unwrap(),
            pid: 1,
            boot: "b".into(),
            token_sha256: "t".into(),
            item: None,
            cgroup: None,
        }
    }

    fn ended(outcome: Outcome) -> Event {
        Event::Ended {
            outcome,
            evidence: Evidence::default(),
            delivered: None,
            error: None,
            output_truncated: None,
        }
    }

    #[test]
    fn the_first_end_counts() {
        let record = fold(&lines(vec![started(), ended(Outcome::Lost), ended(Outcome::Succeeded)])).unwrap();
        assert_eq!((record.outcome, record.last_seq), (Some(Outcome::Lost), 3));
        assert_eq!(fold(&lines(vec![ended(Outcome::Lost)])), None, "what never began has no record");
    }

    #[test]
    fn a_run_whose_first_line_is_lost_has_begun_and_ended_as_its_log_says() {
        let run = "01890a5d-ac96-774b-bcce-b302099a8057.1".parse().unwrap();
        let mut log = Vec::new();
        for line in lines(vec![started(), ended(Outcome::Succeeded)]) {
            jsonl::write(&mut log, &line);
        }
        let whole = of_log(run, &jsonl::parse(&log)).unwrap();
        assert_eq!((whole.outcome, whole.host.as_str()), (Some(Outcome::Succeeded), "here"));
        let first = log.iter().position(|byte| *byte == b'\n').unwrap();
        for byte in 0..first {
            let mut damaged = log.clone();
            damaged[byte] = 0;
            let record = of_log(run, &jsonl::parse(&damaged)).unwrap();
            assert_eq!((record.outcome, record.run, record.last_seq), (whole.outcome, run, 2), "byte {byte}");
            damaged.truncate(first + 1);
            let record = of_log(run, &jsonl::parse(&damaged)).unwrap();
            assert_eq!((record.outcome, record.status), (None, Status::Preparing), "byte {byte}");
        }
        for torn in 0..=first {
            assert_eq!(of_log(run, &jsonl::parse(&log[..torn])), None, "cut at {torn}: no agent was started");
        }
    }

    #[test]
    fn the_types_are_those_that_can_be_read() {
        for of_type in TYPES.into_iter().chain(["run.praised"]) {
            let bare: Result<Event, _> = serde_json::from_value(serde_json::json!({"type": of_type}));
            assert_eq!(bare.is_ok(), of_type == "run.praised", "a known type has keys: {of_type}");
        }
        let source = include_str!("record.rs");
        let named = source.lines().filter(|line| line.trim_start().starts_with("#[serde(rename = \""));
        assert_eq!(named.count(), TYPES.len());
    }

    #[test]
    fn an_acknowledged_command_is_open_until_it_has_ended() {
        let kind = "cancel".to_owned();
        let mut events = vec![started(), Event::Acknowledged { command: 1, kind: kind.clone() }];
        assert_eq!(open_commands(&lines(events.clone())), [(1, kind.clone())]);
        events.push(Event::CommandEnded { command: 1, kind, result: "done".into() });
        assert_eq!(open_commands(&lines(events)), []);
    }
}
