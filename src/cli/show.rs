//! `gitspool show`

use serde_json::{Value, json};

use super::find::{self, Found, Place};
use super::needs::Need;
use super::run::because;
use super::{Answer, CliError, Context, launches, needs, notices, print, print_json, runs, shown};
use crate::clock;
use crate::id::RunId;
use crate::layout::Layout;
use crate::record::Record;
use crate::redact;
use crate::spec::{Spec, Work};
use crate::time::Timestamp;

/// Show all that is known of a task: what it is, where it stands, and its runs
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The id of a task or a run, the end of it, or a name
    #[arg(value_name = "ID")]
    task: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let layout = spool.layout.clone();
    let target = find::target(&layout, &arguments.task)?;
    let found = target.found;
    let wanted = |run: &RunId| target.attempt.is_none_or(|attempt| attempt == run.attempt);
    let (mut records, mut not_begun) = (Vec::new(), None);
    for run in runs::of_task(&layout, found.task).into_iter().filter(wanted) {
        let launches = launches::of_run(&layout, run)?;
        match runs::record(&layout, run)? {
            Some(record) => records.push((record, launches)),
            None if launches.is_empty() => {}
            None => not_begun = Some((run, launches)),
        }
    }
    if let (Some(attempt), [], None) = (target.attempt, &records[..], &not_begun) {
        return Err(CliError::NotFound(format!("task {} has no run {attempt}", found.task)));
    }
    let spec = find::spec(&found)?;
    let word = runs::state_word(&found, runs::last(&layout, found.task)?.as_ref());
    let needs = spec.as_ref().map_or(Ok(vec![]), |spec| needs::of(&layout, spec))?;
    let is_told = spec.as_ref().is_some_and(|spec| spec.notify.is_some());
    let mut open = if is_told { notices::open(&spool)? } else { Vec::new() };
    open.retain(|notice| notice.task == Some(found.task));
    if context.json {
        let mut value = value(&found, spec.as_ref(), word, &records);
        if !needs.is_empty() {
            value["waits_for"] = json!(needs);
        }
        if !open.is_empty() {
            value["open_notices"] = open.iter().map(|notice| notice.id.to_string()).collect();
        }
        if let (Some((run, launches)), Value::Array(runs)) = (&not_begun, &mut value["runs"]) {
            runs.push(json!({"run": run, "status": "not begun", "launches": launches}));
        }
        print_json(&value)?;
    } else {
        print(&text(&layout, &found, spec.as_ref(), word, &needs, &records, clock::now()))?;
        for notice in &open {
            print(&format!("\nnotice        {}\n  status      not delivered yet\n", notice.id))?;
        }
        if let Some((run, launches)) = &not_begun {
            let launches: String = launches
                .iter()
                .map(|launch| format!("  launch      {}\n", launches::words(launch)))
                .collect();
            print(&format!("\nrun           {run}\n  status      not begun\n{launches}"))?;
        }
    }
    Ok(Answer::Yes)
}

fn value(found: &Found, spec: Option<&Spec>, word: &str, records: &[(Record, Vec<Value>)]) -> Value {
    let mut value = json!({
        "task": found.task,
        "state": word,
        "queue": found.queue,
        "path": found.path,
        "submitted_at": found.task.made_at(),
        "spec": spec,
    });
    match &found.place {
        Place::Ready(rank) => value["rank"] = u8::from(*rank).into(),
        Place::Active(host) => value["host"] = host.to_string().into(),
        Place::Held | Place::Waiting | Place::Ended(_) => {}
    }
    redact::value(&mut value);
    let run = |(record, launches): &(Record, Vec<Value>)| {
        let mut run = runs::shown(record);
        run["launches"] = launches.clone().into();
        run
    };
    value["runs"] = records.iter().map(run).collect();
    value
}

/// Lines of a key and its value; a value of several lines goes on below it.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, key: &str, value: impl AsRef<str>) {
        let value = value.as_ref().trim_end();
        if !value.is_empty() {
            let value = value.replace('\n', "\n              ");
            self.0.push_str(&format!("{key:<12}  {value}\n"));
        }
    }

    fn add_some<T: ToString>(&mut self, key: &str, value: Option<T>) {
        if let Some(value) = value {
            self.add(key, value.to_string());
        }
    }
}

fn text(
    layout: &Layout,
    found: &Found,
    spec: Option<&Spec>,
    word: &str,
    needs: &[Need],
    records: &[(Record, Vec<Value>)],
    now: Timestamp,
) -> String {
    let mut lines = Lines::default();
    lines.add("task", found.task.to_string());
    lines.add("state", word);
    match &found.place {
        Place::Ready(rank) => lines.add("rank", rank.to_string()),
        Place::Active(host) => lines.add("host", host.to_string()),
        Place::Held | Place::Waiting | Place::Ended(_) => {}
    }
    lines.add("queue", found.queue.to_string());
    lines.add("submitted", moment(found.task.made_at(), now));
    lines.add("file", found.path.display().to_string());
    match spec {
        Some(spec) => add_spec(&mut lines, spec),
        None => lines.add("spec", "its file cannot be read"),
    }
    for Need { edge, task, state, is_met } in needs {
        let met = if *is_met { "" } else { ", waited for" };
        lines.add(&edge.key().replace('_', " "), format!("{task} ({state}{met})"));
    }
    for (record, launches) in records {
        lines.0.push('\n');
        add_run(&mut lines, layout, record, now);
        launches.iter().for_each(|launch| lines.add("  launch", launches::words(launch)));
    }
    lines.0
}

fn add_spec(lines: &mut Lines, spec: &Spec) {
    lines.add_some("name", spec.name.as_ref());
    lines.add_some("tenant", spec.tenant.as_ref());
    lines.add_some("project", spec.project.as_ref());
    lines.add_some("item", spec.item.as_ref());
    let (key, work) = match spec.work() {
        Work::Run(argv) => ("run", serde_json::to_string(argv).unwrap_or_default()),
        Work::Shell(line) => ("shell", line.to_owned()),
        Work::Script(text) => ("script", text.to_owned()),
        Work::Prompt(text) => ("prompt", text.to_owned()),
    };
    lines.add(key, redact::text(&work));
    lines.add_some("extra", spec.extra.as_deref().map(redact::text));
    lines.add_some("agent", spec.agent.as_ref());
    lines.add_some("directory", spec.directory.as_ref());
    let workspace = serde_json::to_value(&spec.workspace).unwrap_or_default();
    for (key, shown) in
        [("kind", "workspace"), ("base", "  base"), ("branch", "  branch"), ("cleanup", "  cleanup")]
    {
        // What is said of every task says nothing.
        if let Some(text) = workspace[key].as_str().filter(|text| *text != "never") {
            lines.add(shown, text);
        }
    }
    for (name, value) in &spec.env {
        let value =
            if redact::is_secret_name(name) { redact::HIDDEN.to_owned() } else { redact::text(value) };
        lines.add("env", format!("{name}={value}"));
    }
    lines.add_some("output", spec.output_bytes_max.map(|bytes| format!("at most {bytes} bytes")));
    lines.add_some("start at", spec.start_at);
    lines.add_some("delay", spec.delay_seconds.map(|seconds| format!("{seconds} s")));
    lines.add_some("deadline", spec.deadline_at);
    lines.add_some("timeout", spec.timeout_seconds.map(|seconds| format!("{seconds} s")));
    lines.add_some("idle timeout", spec.idle_timeout_seconds.map(|seconds| format!("{seconds} s")));
    lines.add_some("notify", spec.notify.as_ref().map(|notify| redact::text(&notify.words())));
    lines.add_some("lane", spec.lane.as_ref());
    for (name, units) in &spec.resources {
        lines.add("resource", format!("{units} {name}"));
    }
    for (name, mode) in &spec.locks {
        lines.add("lock", format!("{name} ({})", mode.word()));
    }
}

fn add_run(lines: &mut Lines, layout: &Layout, record: &Record, now: Timestamp) {
    lines.add("run", record.run.to_string());
    let evidence = record.evidence.as_ref().map(because).unwrap_or_default();
    lines.add("  status", redact::text(&format!("{}{evidence}", runs::status_word(record))));
    lines.add("  host", record.host.to_string());
    lines.add("  started", moment(record.started_at, now));
    if let Some(at) = record.finished_at {
        lines.add(
            "  finished",
            format!("{} (took {})", moment(at, now), shown::lasted(at.since(record.started_at))),
        );
    }
    if let Some(workspace) = &record.workspace {
        lines.add("  workspace", workspace.path.display().to_string());
        lines.add_some("  branch", workspace.branch.as_ref());
        lines.add_some("  base", workspace.base_commit.as_ref());
    }
    if let Some(delivered) = &record.delivered {
        lines.add_some("  head", delivered.head_commit.as_ref());
        let (files, plus, minus) = (delivered.files_changed, delivered.insertions, delivered.deletions);
        let clean = if delivered.dirty { ", dirty" } else { "" };
        lines.add(
            "  commits",
            format!("{} ({files} files changed, +{plus} -{minus}){clean}", delivered.commits),
        );
        lines.add_some("  dirty", delivered.dirty_summary.as_deref().map(redact::text));
        lines.add_some("  kept", delivered.kept_ref.as_ref());
        for blocker in &delivered.blockers {
            lines.add("  stays", redact::text(&blocker.what));
        }
        lines.add_some("  takes", delivered.bytes.map(|bytes| format!("{bytes} bytes of the disk")));
        lines.add("  removed", if delivered.removed { "the workspace is gone" } else { "" });
    }
    for applied in &record.applied {
        let onto =
            format!("{} ({}), {} -> {}", applied.branch, applied.how.word(), applied.before, applied.after);
        lines.add("  applied", onto);
    }
    lines.add_some("  session", record.session.as_deref().map(redact::text));
    lines.add_some("  summary", record.summary.as_deref().map(redact::text));
    lines.add_some("  left out", record.output_truncated.map(|bytes| format!("{bytes} bytes of output")));
    lines.add_some("  error", record.error.as_deref().map(redact::text));
    lines.add("  files", layout.run(record.run).dir().display().to_string());
}

fn moment(at: Timestamp, now: Timestamp) -> String {
    format!("{at} ({} ago)", shown::age(at, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_spec_are_hidden_in_both_forms() {
        let spec = Spec {
            run: Some(vec!["curl".into(), "https://me:hunter2@host/".into()]),
            env: [("MY_TOKEN".into(), "abc".into()), ("PLAIN".into(), "here".into())].into(),
            ..Spec::default()
        };
        let task = "01890a5d-ac96-774b-bcce-b302099a8001".parse().unwrap();
        let queue = "default".parse().unwrap();
        let found = Found { task, queue, place: Place::Held, path: "/x".into() };
        let plain = text(&Layout::new("/s"), &found, Some(&spec), "held", &[], &[], task.made_at());
        for shown in [plain, value(&found, Some(&spec), "held", &[]).to_string()] {
            assert!(!shown.contains("hunter2") && !shown.contains("abc"), "{shown}");
            assert!(shown.contains("here") && shown.contains("MY_TOKEN"), "{shown}");
        }
    }
}
