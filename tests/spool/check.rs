//! What must hold of a spool at rest, whatever happened to it before: the invariants of `spool-layout.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::sandbox::{Sandbox, entries, files_below, json_lines, name_of, names, read_json};

/// The folders of a queue that hold tasks.
const FOLDERS: [&str; 10] =
    ["held", "waiting", "ready", "active", "done", "failed", "cancelled", "blocked", "skipped", "expired"];

/// A task as the log tells it.
struct Told {
    queue: String,
    state: Value,
    /// Whether it was moved last since its run had ended.
    by_run: bool,
}

impl Told {
    fn is_ended(&self) -> bool {
        self.state["is"] == "ended"
    }

    /// How many runs it has had.
    fn attempts(&self) -> u64 {
        self.state["attempts"].as_u64().or_else(|| self.state["attempt"].as_u64()).unwrap_or(0)
    }

    /// How many of them are over.
    fn attempts_over(&self) -> u64 {
        self.attempts() - u64::from(self.state["attempt"].is_number())
    }

    /// Where its file lies, for the task with this id.
    fn place(&self, task: &str, date: &str) -> String {
        let (queue, state) = (&self.queue, &self.state);
        let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
        match text("is").as_str() {
            "held" => format!("{queue}/held/{task}.json"),
            "waiting" => format!("{queue}/waiting/{task}.json"),
            "ready" => format!("{queue}/ready/{:02}-{task}.json", state["rank"].as_u64().unwrap_or(0)),
            "active" | "cancelling" => format!("{queue}/active/{}/{task}.json", text("host")),
            _ => format!("{queue}/{}/{date}/{task}.json", folder_of(&text("outcome"))),
        }
    }
}

fn folder_of(outcome: &str) -> &'static str {
    match outcome {
        "succeeded" => "done",
        "cancelled" => "cancelled",
        "blocked" => "blocked",
        "skipped" => "skipped",
        "expired" => "expired",
        _ => "failed",
    }
}

/// The day in a UUIDv7.
pub(crate) fn date_of(task: &str) -> String {
    let millis = i64::from_str_radix(&task.replace('-', "")[..12], 16).unwrap_or(0);
    let at = chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default();
    at.format("%Y-%m-%d").to_string()
}

/// Ends the daemon if one runs, and checks the spool. Fails with all that is wrong.
pub(crate) fn check(sandbox: &mut Sandbox) {
    if sandbox.daemon_lives() {
        let taken = |folder: &str| names(&sandbox.spool(folder)).is_empty();
        sandbox.wait_until("an answer to all that was dropped", || taken("inbox") && taken(".local/claimed"));
        sandbox.stop();
    }
    let problems = problems(sandbox);
    assert!(
        problems.is_empty(),
        "{} problems:\n{}\n{}",
        problems.len(),
        problems.join("\n"),
        sandbox.daemon_log()
    );
}

/// All that is wrong with a spool whose daemon has ended.
pub(crate) fn problems(sandbox: &Sandbox) -> Vec<String> {
    let mut problems = Vec::new();
    let log = sandbox.log();
    check_numbers("the spool's log", &log, &mut problems);
    let tasks = fold(sandbox, &log, &mut problems);
    check_given(&log, &mut problems);
    check_paused(&log, &tasks, &mut problems);
    check_tree(sandbox, &tasks, &mut problems);
    check_answers(sandbox, &log, &tasks, &mut problems);
    check_runs(sandbox, &tasks, &mut problems);
    let alive = sandbox.processes();
    for process in &alive {
        let task =
            process.run.as_ref().and_then(|run| run.split_once('.')).and_then(|(task, _)| tasks.get(task));
        if task.is_some_and(Told::is_ended) {
            problems.push(format!("a process of an ended run lives: {process:?}"));
        }
    }
    let mut leftover_in = vec!["inbox", ".local/claimed"];
    if alive.is_empty() {
        leftover_in.push(".local/tmp");
    }
    for folder in leftover_in {
        for name in names(&sandbox.spool(folder)) {
            problems.push(format!("left over: {folder}/{name}"));
        }
    }
    // Which may be removed at any time, but nobody does so here.
    for line in log.iter().filter(|line| line["type"] == "reader.marked") {
        let reader = line["reader"].as_str().unwrap_or_default();
        let file = read_json(&sandbox.spool(&format!("readers/{reader}.json"))).unwrap_or_default();
        if file["seq"].as_u64() < line["seq"].as_u64() {
            problems.push(format!("the reader's file does not tell what was marked: {line}"));
        }
    }
    problems.extend(findings(sandbox));
    problems
}

/// Between the line that pauses a queue and the one that lets it go on nothing of it starts.
fn check_paused(log: &[Value], tasks: &BTreeMap<String, Told>, problems: &mut Vec<String>) {
    let mut paused = BTreeSet::new();
    for line in log {
        let queue = line["queue"].as_str().unwrap_or_default();
        match line["type"].as_str() {
            Some("queue.paused") => drop(paused.insert(queue)),
            Some("queue.resumed") => drop(paused.remove(queue)),
            Some("task.moved") if line["state"]["is"] == "active" && line["by"] == "daemon" => {
                let queue = line["task"].as_str().and_then(|task| tasks.get(task)).map(|task| &task.queue);
                if queue.is_some_and(|queue| paused.contains(queue.as_str())) {
                    problems.push(format!("a task of a paused queue starts: {line}"));
                }
            }
            _ => {}
        }
    }
}

/// What the program itself finds wrong with the spool, a finding in each line.
pub(crate) fn findings(sandbox: &Sandbox) -> Vec<String> {
    let output = sandbox.gitspool(&["fsck"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut findings: Vec<String> = said.lines().map(|line| format!("fsck: {line}")).collect();
    if output.status.code() != Some(i32::from(!findings.is_empty())) || !output.stderr.is_empty() {
        let error = String::from_utf8_lossy(&output.stderr);
        findings.push(format!("fsck ended with {}: {error}", output.status));
    }
    findings
}

/// The lines of a log are numbered from 1, without gaps.
fn check_numbers(what: &str, lines: &[Value], problems: &mut Vec<String>) {
    for (expected, line) in (1_u64..).zip(lines) {
        if line["seq"] != expected {
            problems.push(format!("{what}: line {expected} is {line}"));
            return;
        }
    }
}

/// The last state of each task; what has ended stays so.
fn fold(sandbox: &Sandbox, log: &[Value], problems: &mut Vec<String>) -> BTreeMap<String, Told> {
    let mut tasks: BTreeMap<String, Told> = BTreeMap::new();
    for line in log.iter().filter(|line| line.get("state").is_some()) {
        let task = line["task"].as_str().unwrap_or_default().to_owned();
        let state = line["state"].clone();
        if line["type"] == "task.submitted" {
            let text = line["spec"]["text_sha256"].as_str().map(|name| sandbox.spool("texts").join(name));
            let spec =
                text.map_or_else(|| Some(line["spec"].clone()), |path| read_json(&path)).unwrap_or_default();
            let queue = spec["queue"].as_str().unwrap_or("no queue").to_owned();
            if tasks.insert(task, Told { queue, state, by_run: false }).is_some() {
                problems.push(format!("submitted twice: {line}"));
            }
            continue;
        }
        match tasks.get_mut(&task) {
            None => problems.push(format!("moved before it was submitted: {line}")),
            Some(told) if told.is_ended() && !is_retry(told, line) => {
                problems.push(format!("moved after its end: {line}"))
            }
            Some(told) => {
                if state["attempt"].as_u64().is_some_and(|attempt| attempt < told.attempts()) {
                    problems.push(format!("an attempt that goes back: {line}"));
                }
                told.state = state;
                told.by_run = line["by"] == "run";
            }
        }
    }
    tasks
}

/// A unit of a resource has one run at a time.
fn check_given(log: &[Value], problems: &mut Vec<String>) {
    let mut had: BTreeMap<String, String> = BTreeMap::new();
    for line in log.iter().filter(|line| line["state"].is_object()) {
        let task = line["task"].as_str().unwrap_or_default();
        had.retain(|_, holder| holder != task);
        for (name, units) in line["state"]["assigned"].as_object().into_iter().flatten() {
            for unit in units.as_array().into_iter().flatten() {
                if let Some(other) = had.insert(format!("{name} {unit}"), task.to_owned()) {
                    problems.push(format!("{name} {unit} has {other}, and is given again: {line}"));
                }
            }
        }
    }
}

/// Whether a command retries what has ended without success.
fn is_retry(told: &Told, line: &Value) -> bool {
    let waits = line["state"]["is"] == "ready" || line["state"]["is"] == "waiting";
    waits && line["by"] == "command" && line["spec"].is_object() && told.state["outcome"] != "succeeded"
}

/// The tasks of which a line is left, and else nothing need be.
fn removed(sandbox: &Sandbox) -> BTreeSet<String> {
    let days = files_below(&sandbox.spool("removed")).into_iter();
    let text: String = days.map(|day| std::fs::read_to_string(day).unwrap()).collect();
    text.lines().map(|line| line[..36].to_owned()).collect()
}

/// Each task lies where the log says, once; nothing else lies there.
fn check_tree(sandbox: &Sandbox, tasks: &BTreeMap<String, Told>, problems: &mut Vec<String>) {
    let removed = removed(sandbox);
    let is_there = |place: &String| sandbox.spool("queue").join(place).exists();
    let places = tasks.iter().map(|(task, told)| (task, told.place(task, &date_of(task))));
    let mut expected: BTreeSet<String> = places
        .filter(|(task, place)| !removed.contains(*task) || is_there(place))
        .map(|(_, place)| place)
        .collect();
    for queue in entries(&sandbox.spool("queue")) {
        let files = FOLDERS.iter().flat_map(|folder| files_below(&queue.join(folder)));
        for file in files.filter(|file| name_of(file) != ".keep") {
            let place = file.strip_prefix(sandbox.spool("queue")).unwrap().to_str().unwrap().to_owned();
            if !expected.remove(&place) {
                problems.push(format!("no task of the log lies here: {place}"));
            }
            if read_json(&file).is_none() {
                problems.push(format!("torn: {place}"));
            }
        }
    }
    problems.extend(expected.iter().map(|place| format!("the log says that a task lies here: {place}")));
}

/// Each command was answered by one line, and has the receipt of that line; each refused file lies beside its reason.
fn check_answers(
    sandbox: &Sandbox,
    log: &[Value],
    tasks: &BTreeMap<String, Told>,
    problems: &mut Vec<String>,
) {
    let receipts: Vec<Value> =
        files_below(&sandbox.spool("receipts")).iter().filter_map(|path| read_json(path)).collect();
    let by_seq: BTreeMap<u64, &Value> =
        receipts.iter().map(|receipt| (receipt["seq"].as_u64().unwrap_or(0), receipt)).collect();
    if receipts.len() != files_below(&sandbox.spool("receipts")).len() || by_seq.len() != receipts.len() {
        problems.push("receipts are torn, or answer the same line".to_owned());
    }
    let mut claims = BTreeSet::new();
    for line in log.iter().filter(|line| line["command"].is_object()) {
        if !claims.insert(line["command"]["claim"].to_string()) {
            problems.push(format!("answered twice: {line}"));
        }
        let refused = line["type"] == "command.refused";
        match line["seq"].as_u64().and_then(|seq| by_seq.get(&seq)) {
            Some(receipt)
                if receipt["accepted"] == !refused && receipt["claim"] == line["command"]["claim"] => {}
            other => problems.push(format!("a wrong or no receipt ({other:?}) for {line}")),
        }
    }
    for receipt in &receipts {
        if receipt["accepted"] == true
            && receipt["task"].as_str().is_some_and(|task| !tasks.contains_key(task))
        {
            problems.push(format!("accepted and lost: {receipt}"));
        }
        let Some(refused) = receipt["refused_file"].as_str() else { continue };
        let why = read_json(&sandbox.spool(&format!("{refused}.why.json")));
        if why.as_ref() != receipt.get("refusal") || sandbox.spool(refused).symlink_metadata().is_err() {
            problems.push(format!("the refused file or its reason is not there: {receipt}"));
        }
    }
    // Somebody may drop a file that is called like a reason.
    let refused: BTreeSet<_> = receipts
        .iter()
        .filter_map(|receipt| Some(sandbox.spool(receipt["refused_file"].as_str()?)))
        .collect();
    let whys = files_below(&sandbox.spool("refused"))
        .into_iter()
        .filter(|path| name_of(path).ends_with(".why.json") && !refused.contains(path));
    let refusals = receipts.iter().filter(|receipt| receipt["accepted"] == false).count();
    let whys = whys.count();
    // Beside those of refused edits: one for each, but where a crash came between its line and that.
    let edits = log.iter().filter(|line| line["type"] == "edit.refused").count();
    if !(refusals..=refusals + edits).contains(&whys) {
        problems
            .push(format!("{refusals} receipts refuse, {edits} edits, and {whys} reasons lie in refused/"));
    }
}

/// Each run's log is whole, and agrees with the task's state and with `run.json`.
fn check_runs(sandbox: &Sandbox, tasks: &BTreeMap<String, Told>, problems: &mut Vec<String>) {
    for dir in entries(&sandbox.spool("runs")).iter().flat_map(|day| entries(day)) {
        let run = name_of(&dir);
        let (task, attempt) = run.split_once('.').unwrap_or_default();
        let known =
            tasks.get(task).is_some_and(|told| attempt.parse::<u64>().is_ok_and(|it| it <= told.attempts()));
        if !known {
            problems.push(format!("the log knows of no run {run}"));
        }
    }
    let removed = removed(sandbox);
    let gone: BTreeSet<String> =
        sandbox.log().iter().filter_map(|line| Some(line["target"].as_str()?.to_owned())).collect();
    for (task, told) in tasks.iter().filter(|(task, _)| !removed.contains(*task)) {
        for attempt in 1..=told.attempts_over() {
            let dir = sandbox.run_dir(task, u32::try_from(attempt).unwrap());
            if gone.contains(&format!("{task}.{attempt}")) {
                if dir.exists() {
                    problems.push(format!("{task}.{attempt} was removed, and is there"));
                }
                continue;
            }
            let lines = json_lines(&dir.join("events.jsonl"));
            check_run(&format!("{task}.{attempt}"), &dir, &lines, problems);
            let last = attempt == told.attempts();
            if last && told.by_run && told.is_ended() && record_of(&lines)["outcome"] != told.state["outcome"]
            {
                problems.push(format!("{task}.{attempt}: its log says another outcome than {}", told.state));
            }
        }
    }
}

fn check_run(run: &str, dir: &Path, lines: &[Value], problems: &mut Vec<String>) {
    check_numbers(run, lines, problems);
    let count = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    let begins = lines.first().is_some_and(|line| line["type"] == "run.started" && line["run"] == run);
    if !begins || count("run.started") != 1 || count("run.ended") != 1 {
        problems.push(format!("{run}: does not begin once and end once: {lines:?}"));
    }
    if count("agent.started") > 1 || count("run.stopping") > 1 {
        problems.push(format!("{run}: begins or stops its agent twice: {lines:?}"));
    }
    let is_settled = |line: &Value| {
        ["workspace.settled", "result.applied", "result.undone"].iter().any(|kind| line["type"] == *kind)
    };
    let end = lines.iter().position(|line| line["type"] == "run.ended");
    if lines.iter().position(is_settled).is_some_and(|settled| end.is_none_or(|end| settled < end)) {
        problems.push(format!("{run}: its workspace is looked at again before its end: {lines:?}"));
    }
    for line in lines.iter().filter(|line| line["type"] == "command.acknowledged") {
        let ends = |other: &&Value| other["type"] == "command.ended" && other["command"] == line["command"];
        if lines.iter().filter(ends).count() != 1 {
            problems.push(format!("{run}: a command does not end once: {line}"));
        }
    }
    let (record, expected) = (read_json(&dir.join("run.json")).unwrap_or_default(), record_of(lines));
    if record != expected {
        problems.push(format!(
            "{run}: run.json is not the fold of the log\n  is        {record}\n  should be {expected}"
        ));
    }
}

/// What `run.json` must say, from the lines of a run's log.
fn record_of(lines: &[Value]) -> Value {
    let mut record = Map::new();
    for line in lines {
        let mut take = |keys: &[&str]| {
            for key in keys {
                if let Some(value) = line.get(*key) {
                    record.insert((*key).to_owned(), value.clone());
                }
            }
        };
        match line["type"].as_str().unwrap_or_default() {
            "run.started" => take(&["run", "host", "item", "pid", "boot", "token_sha256", "cgroup"]),
            "workspace.ready" => take(&["workspace"]),
            "session" => take(&["session"]),
            "run.ended" => take(&["outcome", "evidence", "delivered", "error", "output_truncated"]),
            "workspace.settled" => take(&["delivered"]),
            _ => {}
        }
        let status = match line["type"].as_str().unwrap_or_default() {
            "run.started" => Some("preparing"),
            "agent.started" => Some("running"),
            "run.stopping" => Some("stopping"),
            "run.ended" => Some("ended"),
            _ => None,
        };
        record.extend(status.map(|status| ("status".to_owned(), json!(status))));
        match line["type"].as_str().unwrap_or_default() {
            "run.started" => record.insert("started_at".to_owned(), line["at"].clone()),
            "run.ended" => record.insert("finished_at".to_owned(), line["at"].clone()),
            "summary" => record.insert("summary".to_owned(), line["text"].clone()),
            _ => None,
        };
        let moved = ["applied", "undone"].iter().find_map(|key| line.get(*key));
        if let Some(moved) =
            moved.filter(|_| line["type"].as_str().unwrap_or_default().starts_with("result."))
        {
            let all = record.remove("applied").unwrap_or_default();
            let mut all = all.as_array().cloned().unwrap_or_default();
            all.retain(|other| other["branch"] != moved["branch"]);
            all.extend(Some(moved.clone()).filter(|moved| moved["how"] != "undo"));
            if !all.is_empty() {
                record.insert("applied".to_owned(), all.into());
            }
        }
        record.insert("last_seq".to_owned(), line["seq"].clone());
    }
    Value::Object(record)
}
