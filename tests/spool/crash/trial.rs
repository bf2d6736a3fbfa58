//! One scenario with one fault, from its start to the verdict: what a fault may leave, and what must be there after it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde_json::{Value, json};

use super::scenario::{self, Scenario};
use crate::check::problems;
use crate::crashpoint::call::{Call, Role};
use crate::crashpoint::{Fault, Plan, Seen, Site, Traced, Victims};
use crate::sandbox::{Sandbox, files_below, name_of, read_json};

/// How long a sticky fault lasts from its first call on, if the program does not end before.
const STICKS_FOR: Duration = Duration::from_millis(1500);

const EARLY_AGENT: &str = "an agent before its run's first line is on disk";

/// What came of a trial.
pub(super) struct Trial {
    pub(super) seen: Seen,
    /// How the program ended: `exit status: 0`.
    pub(super) ended: String,
    pub(super) problems: Vec<String>,
}

/// What was there when the fault was over, and must still be there at the end.
struct Before {
    log: Vec<String>,
    receipts: BTreeMap<String, Value>,
    /// Records of which a reader saw a part only.
    torn: Vec<String>,
}

/// Runs `scenario` with `fault` at `site`; with `then`, the next daemon is killed at that call of its own.
pub(super) fn run(scenario: &Scenario, fault: Fault, site: &Site, then: Option<&Site>) -> Trial {
    let sandbox = (scenario.prepare)();
    let (first, status, output) = carry_out(scenario, &sandbox, fault, site);
    let mut seen = first;
    let mut problems = ending_problems(scenario, fault, &seen, status, &output);
    problems.extend(failed_sync_problems(fault, &seen, status, &sandbox));
    // Where a task is removed no agent is started: what git does in its worktree is done as an agent would.
    let no_agent = |problem: &String| scenario.name == "remove a task" && *problem == EARLY_AGENT;
    problems.extend(order_problems(&seen).into_iter().filter(|problem| !no_agent(problem)));
    let before = look(&sandbox);
    if scenario.name == "init" {
        sandbox.run(sandbox.gitspool(&["init"]));
    }
    let mut before = vec![before];
    if let Some(site) = then {
        let everything = Fault::Kill { victims: Victims::All, torn: false };
        seen = carry_out(scenario::named("run"), &sandbox, everything, site).0;
        problems.extend(order_problems(&seen));
        before.push(look(&sandbox));
    }
    problems.extend(recover(&sandbox, &before));
    problems.extend(history_problems(scenario, fault, &sandbox));
    if scenario.name == "submit by the command line" {
        problems.extend(submit_problems(&sandbox, status, &output));
    }
    // What an error has kept from being done is refused, and promised to nobody.
    let refused = || sandbox.log().iter().any(|line| line["type"] == "command.refused");
    let may_refuse = matches!(fault, Fault::Fail { .. });
    if scenario.name == "set a queue" && !(may_refuse && refused()) {
        let settings = read_json(&sandbox.spool("queue/nightly/queue.json"));
        let expected = json!({"slots": 3, "lanes": {"build": {"slots": 1}}});
        let differs = settings.as_ref() != Some(&expected);
        problems.extend(differs.then(|| format!("the queue's settings are {settings:?}")));
    }
    problems.extend(notice_problems(fault, &sandbox));
    problems.extend(work_problems(&sandbox));
    if scenario.name == "remove a task" {
        problems.extend(removal_problems(&sandbox, matches!(fault, Fault::Fail { .. })));
    }
    let is_failure = matches!(fault, Fault::Fail { .. });
    problems.extend(seen.panics.iter().filter(|_| is_failure).map(|said| format!("a panic: {said}")));
    if sandbox.daemon_log().contains("panicked at") {
        problems.push("a panic of the daemon".to_owned());
    }
    if !problems.is_empty() {
        problems.push(format!("its daemons said:\n{}", sandbox.daemon_log()));
        let log: Vec<String> = sandbox.log().iter().map(short).collect();
        problems.push(format!("the log:\n{}", log[log.len().saturating_sub(30)..].join("\n")));
        let calls: Vec<&str> = seen.calls.iter().map(|call| call.description.as_str()).collect();
        problems.push(format!("calls:\n{}", calls.join("\n")));
    }
    Trial { seen, ended: status.to_string(), problems }
}

/// What an agent left lies where it left it, or is on a ref whole.
fn work_problems(sandbox: &Sandbox) -> Vec<String> {
    let id =
        read_json(&sandbox.spool("spool.json")).map(|settings| settings["id"].clone()).unwrap_or_default();
    let work = sandbox.path("state").join(id.as_str().unwrap_or_default()).join("work");
    let is_safe = |run: &&str| {
        let stands = fs::read(work.join(run).join("left.txt")).is_ok_and(|left| left == b"left\n");
        let kept = format!("refs/gitspool/kept/{run}");
        let shows = |what: &str, expected: &str| {
            let mut command = sandbox.command("git");
            command.args(["cat-file", "blob", what]).current_dir(sandbox.repository());
            let shown = command.output().unwrap();
            shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains(expected)
        };
        stands
            || shows(&format!("{kept}:left.txt"), "left\n")
                && shows(&format!("{kept}^2:manifest"), "below/.git/HEAD")
    };
    let told = sandbox.told("whole");
    let lost = told.lines().filter(|run| !is_safe(run));
    lost.map(|run| format!("what the agent of {run} left is neither where it was nor kept")).collect()
}

fn short(line: &Value) -> String {
    line.to_string().chars().take(400).collect()
}

/// Carries out the scenario's program to the end of its last process. Daemons that are missed are started again.
fn carry_out(
    scenario: &Scenario,
    sandbox: &Sandbox,
    fault: Fault,
    site: &Site,
) -> (Seen, ExitStatus, String) {
    let arguments = (scenario.arguments)(sandbox);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = sandbox.gitspool(&arguments);
    let said = fs::File::create(sandbox.path("said")).unwrap();
    let stderr = fs::File::options().create(true).append(true).open(sandbox.path("daemon.log")).unwrap();
    command.stdout(said).stderr(stderr).stdin(Stdio::null());
    let state = sandbox.path("state");
    let plan = Plan {
        fault,
        site: site.clone(),
        marker: format!("GITSPOOL_STATE_DIR={}", state.display()),
        roots: vec![sandbox.path("spool"), state, sandbox.path("repository")],
        pipes: matches!(fault, Fault::Kill { .. } | Fault::None),
    };
    let mut traced = Traced::start(command, plan).expect("because it was tried before");
    let mut hit_at = None;
    let status = sandbox.wait("the end of the traced program", || {
        if traced.is_hit() && hit_at.get_or_insert_with(Instant::now).elapsed() > STICKS_FOR {
            traced.lift();
        }
        traced.ended()
    });
    let _ = fs::copy(sandbox.spool(".local/daemon.json"), sandbox.path("daemon.json.then"));
    // Without it a supervisor goes on, and would wait for room for ever.
    traced.lift();
    // What goes on without its daemon ends by itself, but for a cancel, which needs the next one.
    if !status.success() && scenario.name != "init" && scenario.name != "submit by the command line" {
        let waits = || !traced.is_over() && !fault.kills_all();
        if waits() {
            sandbox.drain();
        }
    }
    sandbox.wait_until("the end of all that it started", || traced.is_over());
    (traced.seen(), status, fs::read_to_string(sandbox.path("said")).unwrap())
}

/// How a program may end: a fault is answered by a documented exit code, never by a signal of its own.
fn ending_problems(
    scenario: &Scenario,
    fault: Fault,
    seen: &Seen,
    status: ExitStatus,
    output: &str,
) -> Vec<String> {
    let killed = match fault {
        Fault::Kill { victims: Victims::All, .. } => seen.hit.is_some(),
        Fault::Kill { victims: Victims::Only(role), .. } => seen.hit.is_some() && role == Role::Daemon,
        Fault::None | Fault::Fail { .. } => false,
    };
    let codes: &[i32] = match fault {
        Fault::Fail { .. } if seen.hit.is_some() => &[0, 2],
        Fault::None | Fault::Kill { .. } | Fault::Fail { .. } => &[0],
    };
    let mut problems = Vec::new();
    let well = status.code().is_some_and(|code| codes.contains(&code));
    let was_killed = killed && status.signal() == Some(9);
    if !(well || was_killed) {
        problems.push(format!("{} ended with {status}, having said {output:?}", scenario.name));
    }
    problems
}

/// After a failed sync the daemon stops and says so: another try would succeed, and mean nothing.
fn failed_sync_problems(fault: Fault, seen: &Seen, status: ExitStatus, sandbox: &Sandbox) -> Vec<String> {
    let is_sync = |call: &Call| call.role == Role::Daemon && matches!(call.name, "fsync" | "fdatasync");
    let failed = seen.hit.as_ref().filter(|call| is_sync(call) && call.failed);
    // Who is interrupted tries again.
    let interrupted = matches!(fault, Fault::Fail { errno: Errno::INTR, .. });
    let sticky = matches!(fault, Fault::Fail { sticky: true, .. });
    let Some(call) = failed.filter(|_| !interrupted) else { return Vec::new() };
    let said = fs::read(sandbox.path("daemon.json.then")).unwrap_or_default();
    let said: Value = serde_json::from_slice(&said).unwrap_or_default();
    let mut problems = Vec::new();
    if status.code() != Some(2) {
        problems.push(format!("after a failed {} the daemon ended with {status}", call.description));
    }
    // Where nothing more can be written, it cannot be said either.
    if !sticky && said["stopped"].as_str().is_none_or(|why| !why.contains("sync")) {
        problems.push(format!("after a failed {} daemon.json says {said}", call.description));
    }
    problems
}

/// What is told only when it is on disk: no receipt before the log's last line is synced, no agent before its run's first;
/// and not that before what the run is about.
pub(super) fn order_problems(seen: &Seen) -> Vec<String> {
    let mut problems = Vec::new();
    let mut log_synced = false;
    for call in &seen.calls {
        let about = |text: &str| call.description.contains(text);
        if about("/now.jsonl") {
            // A new file that replaces it was synced before.
            log_synced = call.is_synced() || (call.name == "rename" && about("ASIDE ->"));
        }
        if call.name == "rename" && about("ASIDE -> spool/receipts") && !log_synced {
            problems.push(format!("a receipt before its line is on disk: {}", call.description));
        }
    }
    let first_sync = seen.calls.iter().position(|call| {
        call.is_synced() && call.role == Role::Supervisor && call.description.contains("events.jsonl")
    });
    let first_agent = seen.calls.iter().position(|call| call.role == Role::Launch && call.name == "execve");
    if let Some(agent) = first_agent
        && first_sync.is_none_or(|sync| sync > agent)
    {
        problems.push(EARLY_AGENT.to_owned());
    }
    problems.extend(begin_problems(seen));
    problems
}

/// What a run is about, and its folder, are on disk before its first line is written.
fn begin_problems(seen: &Seen) -> Vec<String> {
    let of_supervisors = seen.calls.iter().enumerate().filter(|(_, call)| call.role == Role::Supervisor);
    let mut first_lines: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, call) in of_supervisors.clone().filter(|(_, call)| call.name == "write") {
        let folder = call.description.strip_suffix("/events.jsonl").and_then(|of| of.rsplit(' ').next());
        folder.map(|folder| first_lines.entry(folder).or_insert(at));
    }
    let mut problems = Vec::new();
    for (folder, line) in first_lines {
        let record = format!("{folder}/task.json");
        let date = folder.rsplit_once('/').map_or("", |(date, _)| date);
        for needed in [&record, folder, date] {
            let synced = |call: &Call| call.is_synced() && call.description.ends_with(&format!(" {needed}"));
            let is_early = of_supervisors.clone().any(|(at, call)| at < line && synced(call));
            problems.extend((!is_early).then(|| format!("a run's first line before {needed} is on disk")));
        }
    }
    problems
}

fn look(sandbox: &Sandbox) -> Before {
    let paths = files_below(&sandbox.spool("receipts"));
    let receipts = paths.iter().filter_map(|path| Some((path.display().to_string(), read_json(path)?)));
    Before {
        log: sandbox.log().iter().map(ToString::to_string).collect(),
        receipts: receipts.collect(),
        torn: torn(sandbox),
    }
}

/// The records that are there and not whole. Not even a crash shows a part of one to a reader.
fn torn(sandbox: &Sandbox) -> Vec<String> {
    let folders = ["queue", "receipts", "runs", "refused", ".local/daemon.json", ".local/checkpoint.json"];
    let files = folders.iter().flat_map(|folder| files_below(&sandbox.spool(folder)));
    let is_record = |path: &PathBuf| {
        let name = name_of(path);
        // Of refused files only the reason is ours.
        let is_ours = !path.starts_with(sandbox.spool("refused")) || name.ends_with(".why.json");
        name.ends_with(".json") && is_ours
    };
    let torn = files.filter(is_record).filter(|path| read_json(path).is_none());
    torn.map(|path| path.display().to_string()).collect()
}

/// Lets daemons do all there is to do, and compares with what was there before.
fn recover(sandbox: &Sandbox, before: &[Before]) -> Vec<String> {
    sandbox.drain();
    sandbox.wait_until("the end of all processes", || sandbox.processes().is_empty());
    let mut found = spool_problems(sandbox);
    let trips = |line: &Value| line["type"] == "queue.paused" && line["by"] == "daemon";
    if sandbox.log().iter().any(trips) && !sandbox.spool("queue/default/PAUSED").exists() {
        found.push("a breaker has tripped, and its file is not there".to_owned());
    }
    if scenario::go_on(sandbox) {
        sandbox.drain();
        found.extend(spool_problems(sandbox));
    }
    let tree = files_below(&sandbox.spool("queue"));
    sandbox.drain();
    if files_below(&sandbox.spool("queue")) != tree {
        found.push("a second recovery changed what the first had left".to_owned());
    }
    let log: Vec<String> = sandbox.log().iter().map(ToString::to_string).collect();
    for before in before {
        found.extend(before.torn.iter().map(|path| format!("a reader saw a part of {path}")));
        if log.get(..before.log.len()) != Some(&before.log[..]) {
            found.push("lines of the log are gone or others".to_owned());
        }
        for (path, receipt) in &before.receipts {
            let now = files_below(&sandbox.spool("receipts"));
            let is_there = now
                .iter()
                .filter_map(|path| read_json(path))
                .any(|other| other["claim"] == receipt["claim"] && other["accepted"] == receipt["accepted"]);
            if !is_there {
                found.push(format!("a receipt is gone or says another thing: {path}: {receipt}"));
            }
        }
    }
    found
}

/// What is wrong with the spool. What the command line was writing when it was killed stays for the user to remove.
fn spool_problems(sandbox: &Sandbox) -> Vec<String> {
    // What could not be deleted of a workspace waits in the trash, in nobody's way.
    let found = problems(sandbox).into_iter().filter(|problem| !problem.contains("left_in_trash"));
    let is_aside = |problem: &String| problem.starts_with("left over: inbox/.") && problem.ends_with(".tmp");
    found.into_iter().filter(|problem| !is_aside(problem)).collect()
}

/// Each task has ended, as its job did, and each job ran at most once.
fn history_problems(scenario: &Scenario, fault: Fault, sandbox: &Sandbox) -> Vec<String> {
    let mut problems = Vec::new();
    let told = sandbox.told("ran");
    let count = |what: &str, run: &str| told.lines().filter(|line| *line == format!("{what} {run}")).count();
    let log = sandbox.log();
    let submitted = log.iter().filter(|line| line["type"] == "task.submitted");
    let mut known = 0;
    for task in submitted.filter_map(|line| line["task"].as_str()) {
        let Some(last) = sandbox.moves(task).pop() else { continue };
        let attempts = ["attempts", "attempt"].iter().find_map(|key| last["state"][*key].as_u64());
        let runs = (1..=attempts.unwrap_or(1).max(1)).map(|attempt| format!("{task}.{attempt}"));
        let runs: Vec<_> = runs.map(|run| (count("begin", &run), count("end", &run))).collect();
        known += runs.iter().map(|(begun, ended)| begun + ended).sum::<usize>();
        let (begun, ended) = runs[runs.len() - 1];
        // What is tried again has failed, and not begun again.
        let earlier = runs[..runs.len() - 1].iter().all(|(begun, ended)| *begun <= 1 && *ended == 0);
        let unseen = sandbox.unseen(task);
        let outcome = unseen.as_deref().or(last["state"]["outcome"].as_str()).unwrap_or("none");
        let why = last["evidence"]["message"].as_str().unwrap_or_default();
        // For a shortage no run is given up that could begin later.
        let says_why = !why.is_empty() && (!fault.is_shortage() || !why.contains("could not begin"));
        let is_failure = matches!(fault, Fault::Fail { .. });
        let right = match outcome {
            "succeeded" => (begun, ended) == (1, 1),
            "cancelled" => begun <= 1 && ended == 0 && scenario.cancels(),
            "lost" => begun <= 1 && matches!(fault, Fault::Kill { .. }),
            // Only what was not begun may fail, and only when something was made to fail. Where the launch stage cannot
            // even write down why, its exit code must do.
            "failed" if scenario.name == "trip a breaker" => begun == 0,
            "failed" => is_failure && begun == 0 && (says_why || last["evidence"]["exit_code"] == 126),
            "blocked" => begun == 0,
            "none" => last["state"]["is"] == "held" && begun == 0,
            _ => false,
        };
        if !right || !earlier {
            problems
                .push(format!("{task} began {begun} times, ended {ended} times, and is {}", short(&last)));
        }
    }
    if told.lines().count() != known {
        problems.push(format!("jobs ran that nobody submitted, or more than one attempt: {told}"));
    }
    let prepared = scenario.tasks();
    let there = log.iter().filter(|line| line["type"] == "task.submitted").count();
    // What could not be read or kept because of an error is refused, and its receipt says so; but not for a shortage.
    let refused = log.iter().filter(|line| line["refusal"]["kind"] == "unreadable").count();
    let refused = if matches!(fault, Fault::Fail { .. }) && !fault.is_shortage() { refused } else { 0 };
    if there + refused < prepared {
        problems
            .push(format!("{prepared} tasks were accepted or dropped, {there} are there, {refused} refused"));
    }
    problems
}

/// Each end of which somebody is to be told has one final notice; each notice was taken at least once, or given up because of
/// an error; and nothing was taken that is not in the log.
fn notice_problems(fault: Fault, sandbox: &Sandbox) -> Vec<String> {
    let (log, told) = (sandbox.log(), sandbox.told("notices"));
    let lines = |kind: &str| log.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    let id = |line: &Value| line["notice"].as_str().unwrap_or_default().to_owned();
    let mut problems = Vec::new();
    let notices: Vec<String> = lines("notice").iter().map(|line| id(line)).collect();
    for notice in &notices {
        let ends = |kind: &str| lines(kind).iter().filter(|line| id(line) == *notice).count();
        let (delivered, failed) = (ends("notice.delivered"), ends("notice.failed"));
        let taken = told.lines().any(|line| line == notice);
        let is_right = match (delivered, failed) {
            (1, 0) => taken,
            (0, 1) => matches!(fault, Fault::Fail { .. }),
            _ => false,
        };
        problems.extend((!is_right).then(|| {
            format!("notice {notice} was delivered {delivered} times, given up {failed} times; {taken}")
        }));
    }
    let unknown = told.lines().filter(|line| !notices.iter().any(|notice| notice == line));
    problems.extend(unknown.map(|line| format!("{line} was taken, and is not in the log")));
    for end in log.iter().filter(|line| line["state"]["is"] == "ended") {
        let submitted = lines("task.submitted").into_iter().find(|line| line["task"] == end["task"]);
        let wants = submitted.is_some_and(|line| line["spec"]["notify"].is_object());
        let finals = lines("notice")
            .into_iter()
            .filter(|line| line["task"] == end["task"] && line["is_final"] == true)
            .count();
        problems.extend((finals != usize::from(wants)).then(|| format!("{finals} notices tell of {end}")));
    }
    problems
}

/// The task is gone, but when an error had its removal refused; and what was in its worktree is there or on its ref.
fn removal_problems(sandbox: &Sandbox, may_refuse: bool) -> Vec<String> {
    let log = sandbox.log();
    let task = log.iter().find_map(|line| line["task"].as_str()).unwrap_or_default();
    let left: Vec<PathBuf> = ["queue", "runs", ".local/trash"]
        .iter()
        .flat_map(|folder| files_below(&sandbox.spool(folder)))
        .filter(|path| path.display().to_string().contains(task))
        .collect();
    let refused = may_refuse && log.iter().any(|line| line["type"] == "command.refused");
    let mut problems = Vec::new();
    if !refused && !left.is_empty() {
        problems.push(format!("of a removed task is left {left:?}"));
    }
    let stands = || files_below(&sandbox.path("state")).iter().any(|path| name_of(path) == "left.txt");
    let mut show = sandbox.command("git");
    show.args(["cat-file", "-e", &format!("refs/gitspool/kept/{task}.1:left.txt")]);
    show.current_dir(sandbox.repository());
    let is_kept = show.output().is_ok_and(|output| output.status.success());
    if !(is_kept || (refused && stands())) {
        problems.push("what nobody had committed is neither there nor on its ref".to_owned());
    }
    problems
}

/// What the command line said is so: with exit code 0 the task that it names is there, else nobody was promised one.
fn submit_problems(sandbox: &Sandbox, status: ExitStatus, output: &str) -> Vec<String> {
    let task = output.trim();
    let there = !task.is_empty() && !sandbox.moves(task).is_empty();
    if status.success() && !there {
        return vec![format!("submit promised {output:?}, which is not there")];
    }
    Vec::new()
}

impl Fault {
    fn is_shortage(self) -> bool {
        let shortages = [Errno::NOSPC, Errno::DQUOT, Errno::MFILE, Errno::NOMEM];
        matches!(self, Fault::Fail { errno, .. } if shortages.contains(&errno))
    }

    fn kills_all(self) -> bool {
        matches!(self, Fault::Kill { victims: Victims::All, .. })
    }
}

/// What the verdict is when something is damaged between a scenario without any fault and the next daemon.
pub(super) fn run_with_damage(scenario: &Scenario, damage: fn(&Sandbox)) -> Vec<String> {
    let nowhere = Site { matching: String::new(), number: 0 };
    let sandbox = (scenario.prepare)();
    carry_out(scenario, &sandbox, Fault::None, &nowhere);
    let before = look(&sandbox);
    damage(&sandbox);
    let mut problems = recover(&sandbox, &[before]);
    problems.extend(history_problems(scenario, Fault::None, &sandbox));
    problems
}

/// Counts the calls of a scenario without any fault; it must go well.
pub(super) fn count(scenario: &Scenario) -> Vec<Call> {
    let nowhere = Site { matching: String::new(), number: 0 };
    let Trial { seen, problems, .. } = run(scenario, Fault::None, &nowhere, None);
    assert!(problems.is_empty(), "{} without any fault: {}", scenario.name, problems.join("\n"));
    seen.calls
}
