//! The launches of a run: each start of a supervisor and of an agent that its files tell of, with what went wrong.

use serde_json::{Value, json};

use super::CliError;
use crate::id::RunId;
use crate::jsonl;
use crate::launched::Launch;
use crate::layout::Layout;
use crate::record::Event;
use crate::redact;
use crate::store;

/// The launches of a run, in the order in which they were.
pub(super) fn of_run(layout: &Layout, run: RunId) -> Result<Vec<Value>, CliError> {
    let paths = layout.run(run);
    let log = jsonl::parse::<Event>(&store::read_if_there(&paths.log())?.unwrap_or_default());
    let before = jsonl::parse::<Launch>(&store::read_if_there(&paths.launches())?.unwrap_or_default());
    let mut launches: Vec<Value> = Vec::new();
    for line in before.lines {
        if let Launch::SupervisorEnded { tries, message } = line.event {
            let error = if message.is_empty() { "it ended without a word".to_owned() } else { message };
            launches.push(
                json!({"of": "supervisor", "at": line.at, "begun": false, "try": tries, "error": error}),
            );
        }
    }
    for line in &log.lines {
        match &line.event {
            // Of a run that could not be begun a daemon writes the first line.
            Event::Started { pid, host, token_sha256, .. } => {
                let of = if token_sha256.is_empty() { "daemon" } else { "supervisor" };
                launches.push(json!({"of": of, "pid": pid, "host": host, "at": line.at}));
            }
            Event::AgentStarted { pid, argv } => {
                launches.push(json!({"of": "agent", "pid": pid, "argv": argv, "at": line.at}));
            }
            Event::WorkspaceReady { .. }
            | Event::Stopping { .. }
            | Event::Acknowledged { .. }
            | Event::CommandEnded { .. }
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
    for (of, path) in [("supervisor", paths.supervisor_error()), ("agent", paths.launch_error())] {
        let Some(error) = store::read_if_there(&path)? else { continue };
        let error: Value = String::from_utf8_lossy(&error).trim_end().into();
        // What one has said that could not begin it is told there.
        if launches.iter().any(|launch| launch["error"] == error) {
            continue;
        }
        match launches.iter_mut().rfind(|launch| launch["of"] == of) {
            Some(launch) => launch["error"] = error,
            None => launches.push(json!({"of": of, "error": error})),
        }
    }
    launches.iter_mut().for_each(redact::value);
    Ok(launches)
}

/// A launch on one line.
pub(super) fn words(launch: &Value) -> String {
    let text = |key: &str| launch[key].as_str().unwrap_or_default();
    let mut words = text("of").to_owned();
    if let Some(pid) = launch["pid"].as_u64() {
        words.push_str(&format!(", pid {pid}"));
    }
    words.push_str(&if text("at").is_empty() { String::new() } else { format!(", at {}", text("at")) });
    if launch["begun"] == false {
        words.push_str(", did not begin it");
    }
    if launch["argv"].is_array() {
        words.push_str(&format!(": {}", launch["argv"]));
    }
    if !text("error").is_empty() {
        words.push_str(&format!(" ({})", text("error")));
    }
    words
}
