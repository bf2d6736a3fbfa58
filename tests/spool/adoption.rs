//! Whoever is killed, at whatever point of a run: what is done about it is what the table in `spool-layout.md` says.
//!
//! Real processes are killed at real points. Where a point is too short to be met, strace holds the supervisor in the
//! system call there. After a reboot all processes are gone and the run's log bears another boot; a pid is reused by
//! writing that of a living process there; and a clock is a year off by the times on record.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, entries, files_below, json_lines, signal};

/// Where a run is when somebody is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    BeforeLock,
    AfterLock,
    AfterStart,
    AfterExit,
    AfterRecord,
    AfterUnlock,
}

const WHEN: [When; 6] = [
    When::BeforeLock,
    When::AfterLock,
    When::AfterStart,
    When::AfterExit,
    When::AfterRecord,
    When::AfterUnlock,
];

/// What else has happened before somebody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Normal,
    PidReused,
    ClockOff,
    Reboot,
}

const THEN: [Then; 4] = [Then::Normal, Then::PidReused, Then::ClockOff, Then::Reboot];

/// A system call in which strace holds the supervisor.
struct Hold {
    strace: Child,
}

/// A run that is at its point.
struct Scene {
    sandbox: Sandbox,
    task: String,
    supervisor: u32,
    hold: Option<Hold>,
}

impl When {
    /// The call of the supervisor in which it is held there, for longer than any test waits: on the run's lock or its
    /// log, and which of them.
    fn call(self) -> Option<(&'static str, &'static str)> {
        match self {
            When::BeforeLock => Some(("lock", "flock:delay_enter=600s:when=1")),
            // A run without a repository begins, has its workspace, starts its agent and ends by one write each.
            When::AfterLock => Some(("events.jsonl", "write:delay_enter=600s:when=1")),
            When::AfterExit => Some(("events.jsonl", "write:delay_enter=600s:when=4")),
            // The begin and the end are synced, nothing between.
            When::AfterRecord => Some(("events.jsonl", "fdatasync:delay_exit=600s:when=2")),
            When::AfterStart | When::AfterUnlock => None,
        }
    }

    /// Whether a run with this log can be there.
    fn is_told_by(self, lines: &[Value]) -> bool {
        let has = |kind: &str| lines.iter().any(|line| line["type"] == kind);
        match self {
            When::BeforeLock | When::AfterLock => lines.is_empty(),
            When::AfterStart | When::AfterExit => has("agent.started") && !has("run.ended"),
            When::AfterRecord | When::AfterUnlock => has("run.ended"),
        }
    }
}

/// Whether strace is there and may attach; says so if it may not.
fn can_hold() -> bool {
    let Ok(mut sleeper) = Command::new("sleep").arg("1000").spawn() else { return false };
    let pid = sleeper.id().to_string();
    let mut strace = Command::new("strace");
    let strace = strace.args(["-qq", "-o", "/dev/null", "-p", &pid]).stderr(Stdio::null()).spawn();
    let can = strace.is_ok_and(|mut strace| {
        let ended_early = loop {
            if is_traced(sleeper.id()) {
                break false;
            }
            if strace.try_wait().is_ok_and(|ended| ended.is_some()) {
                break true;
            }
            std::thread::yield_now();
        };
        let _ = strace.kill();
        let _ = strace.wait();
        !ended_early
    });
    let _ = sleeper.kill();
    let _ = sleeper.wait();
    if !can {
        eprintln!(
            "SKIPPED: no strace that may attach; with it (apt-get install strace) kills at points that are too short \
             to be met are tested too"
        );
    }
    can
}

fn is_traced(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|by| by.trim() != "0"))
}

fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

impl Hold {
    fn begin(sandbox: &Sandbox, path: &str, call: &str) -> Hold {
        let name = call.split(':').next().unwrap_or_default();
        let mut strace = sandbox.command("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-P", path, "-e", &format!("trace={name}")]);
        strace.args(["-e", &format!("inject={call}"), "-p", &sandbox.daemon_pid().to_string()]);
        let hold = Hold { strace: strace.stderr(Stdio::null()).spawn().unwrap() };
        let daemon = sandbox.daemon_pid();
        sandbox.wait_until("strace to attach to the daemon", || {
            let threads = entries(format!("/proc/{daemon}/task").as_ref());
            let number = |path: &std::path::PathBuf| crate::sandbox::name_of(path).parse().unwrap_or(0);
            !threads.is_empty() && threads.iter().map(number).all(is_traced)
        });
        hold
    }

    /// Lets go on what it held.
    fn release(mut self, sandbox: &Sandbox) {
        signal(self.strace.id(), Signal::TERM);
        sandbox.wait("strace's end", || self.strace.try_wait().unwrap());
    }
}

impl Scene {
    /// A daemon, and a run that is at `when`; its agent ends with code 3.
    fn at(when: When) -> Scene {
        let mut sandbox = Sandbox::new();
        sandbox.start();
        sandbox.wait_until("the daemon", || sandbox.daemon_log().contains("watching"));
        // The id is told before, so that the run's path is known. Each has its own: what is left of a run is killed by it.
        static SCENES: AtomicU32 = AtomicU32::new(0);
        let scene = SCENES.fetch_add(1, Ordering::Relaxed);
        let task = format!("01890a5d-ac96-774b-bcce-{:08x}{scene:04x}", std::process::id());
        let run_dir = sandbox.spool("runs/2023-06-30").join(format!("{task}.1"));
        let hold =
            when.call().map(|(file, call)| Hold::begin(&sandbox, run_dir.join(file).to_str().unwrap(), call));
        let begun = sandbox.outside("begun");
        let gate = match when {
            When::AfterStart | When::AfterUnlock => sandbox.gate("gate"),
            When::BeforeLock | When::AfterLock | When::AfterExit | When::AfterRecord => ":".to_owned(),
        };
        let shell = format!("echo yes >> {}; {gate}; exit 3", begun.display());
        sandbox.submit("job", &json!({"id": task, "shell": shell, "workspace": {"kind": "none"}}));
        let supervisor = sandbox.wait("its supervisor", || sandbox.supervisors().first().copied());
        match when {
            When::AfterStart => drop(sandbox.wait_told("begun")),
            When::AfterUnlock => {
                sandbox.wait_told("begun");
                // So that it does not hear of the end.
                signal(sandbox.daemon_pid(), Signal::STOP);
                sandbox.open_gate("gate");
            }
            When::BeforeLock | When::AfterLock | When::AfterExit | When::AfterRecord => {}
        }
        let log = run_dir.join("events.jsonl");
        let mut seen = 0;
        sandbox.wait_until("the run to come to its point", || {
            let told = when.is_told_by(&json_lines(&log));
            let opened = when != When::AfterLock || log.exists();
            let stays = hold.is_none() || state_of(supervisor) == Some('t');
            seen = if told && opened && stays { seen + 1 } else { 0 };
            // A stop for another call is a short one.
            seen > 10
        });
        if when == When::AfterUnlock {
            let is_held = || {
                let file = File::open(run_dir.join("lock")).unwrap();
                file.try_lock_shared().is_err()
            };
            sandbox.wait_until("the lock to be free", || !is_held());
        }
        Scene { sandbox, task, supervisor, hold }
    }

    fn kill_supervisor(&mut self) {
        signal(self.supervisor, Signal::KILL);
        // Who is held dies when he is let go, and does nothing more.
        if let Some(hold) = self.hold.take() {
            hold.release(&self.sandbox);
        }
        let gone = || matches!(state_of(self.supervisor), None | Some('Z' | 'X'));
        self.sandbox.wait_until("the supervisor's end", gone);
    }

    /// Kills the agent, or the launch stage that will become it; at other points there is none.
    fn kill_agent(&self) {
        let is_agent = |process: &&crate::sandbox::Process| {
            process.run.is_some() || process.arguments.get(1).is_some_and(|verb| verb == "launch")
        };
        let ended = self.sandbox.run_log(&self.task).iter().any(|line| line["type"] == "run.ended");
        for process in self.sandbox.processes().iter().filter(is_agent).filter(|_| !ended) {
            signal(process.pid, Signal::KILL);
            // A launch stage that is dying would still take the order to become the agent.
            let gone = || matches!(state_of(process.pid), None | Some('Z' | 'X'));
            if process.run.is_none() {
                self.sandbox.wait_until("the end of a launch stage", gone);
            }
        }
    }

    /// Replaces a text in the run's log by one that is as long, as if it had been written so.
    fn forge(&self, forged: impl Fn(&str) -> String) {
        let dir = self.sandbox.first_run(&self.task);
        let log = dir.join("events.jsonl");
        let Ok(text) = fs::read_to_string(&log) else { return };
        let forged = forged(&text);
        assert_eq!(text.len(), forged.len(), "who lives knows how long its log is");
        fs::write(log, forged).unwrap();
    }

    /// Puts another process's pid, or other times, on record; returns that process.
    fn forge_for(&self, then: Then) -> Option<Child> {
        match then {
            Then::Normal | Then::Reboot => None,
            Then::PidReused => {
                let pid = self.supervisor.to_string();
                let other = stranger(pid.len());
                let (old, new) = (format!("\"pid\":{pid},"), format!("\"pid\":{},", other.id()));
                self.forge(|text| text.replacen(&old, &new, 1));
                Some(other)
            }
            Then::ClockOff => {
                self.forge(|text| text.replace("\"at\":\"20", "\"at\":\"21"));
                let later = SystemTime::now() + Duration::from_secs(365 * 24 * 3600);
                // A fifo would be waited for.
                for file in files_below(&self.sandbox.spool("runs")).iter().filter(|file| file.is_file()) {
                    File::open(file).unwrap().set_modified(later).unwrap();
                }
                None
            }
        }
    }

    /// Ends all that is left, as a reboot does, and lets the run have begun before it.
    fn reboot(&mut self) {
        self.kill_supervisor();
        self.sandbox.processes().iter().for_each(|process| signal(process.pid, Signal::KILL));
        self.forge(|text| {
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
            text.replacen(boot.trim(), "00000000-0000-4000-8000-000000000000", 1)
        });
    }
}

/// A process that has nothing to do with any run, whose number has so many digits.
fn stranger(digits: usize) -> Child {
    loop {
        let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
        if sleeper.id().to_string().len() == digits {
            return sleeper;
        }
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}

/// What the table says: the word at its row and column.
fn expected(killed: &str, when: When, then: Then) -> String {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/spool-layout.md")).unwrap();
    let rows = document.lines().filter(|line| line.starts_with(&format!("| {killed} | ")));
    let rows: Vec<Vec<&str>> =
        rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let rows: Vec<&Vec<&str>> = rows.iter().filter(|row| row.len() == 6).collect();
    let row = rows[WHEN.iter().position(|one| *one == when).unwrap()];
    row[2 + THEN.iter().position(|one| *one == then).unwrap()].to_owned()
}

/// Kills who is to be killed, and looks what comes of it.
fn try_one(killed: &str, when: When, then: Then) {
    let mut scene = Scene::at(when);
    let stopped = when == When::AfterUnlock;
    let daemon_lives = matches!(killed, "supervisor" | "agent") && then != Then::Reboot;
    // Before the kill: who lives may look right after it.
    let other = scene.forge_for(then);
    // Before a reboot the daemon goes first, so that it cannot tell of the others.
    if matches!(killed, "daemon" | "all") || then == Then::Reboot {
        scene.sandbox.kill();
    }
    if killed == "supervisor" || killed == "all" {
        scene.kill_supervisor();
    }
    if killed == "agent" || killed == "all" {
        scene.kill_agent();
    }
    if then == Then::Reboot {
        scene.reboot();
    }
    if stopped && daemon_lives {
        signal(scene.sandbox.daemon_pid(), Signal::CONT);
    }
    if !daemon_lives {
        scene.sandbox.start();
        // It has decided when it is done with its start.
        let starts = || scene.sandbox.daemon_log().matches("watching").count() == 2;
        scene.sandbox.wait_until("the next daemon", starts);
    }
    if let Some(hold) = scene.hold.take() {
        hold.release(&scene.sandbox);
    }
    scene.sandbox.open_gate("gate");
    let word = expected(killed, when, then);
    let outcome = match &*word {
        "lost" | "interrupted" => word.clone(),
        "wait" if when == When::AfterStart => "signalled".to_owned(),
        "wait" | "start" | "adopt" | "file away" => "failed".to_owned(),
        other => panic!("{other:?} is no word of the table"),
    };
    let cell = format!("{killed} {when:?} {then:?}: {word}");
    assert_eq!(scene.sandbox.outcome(&scene.task), outcome, "{cell}");
    assert_eq!(scene.sandbox.told("begun").lines().count(), 1, "{cell}: it began once");
    let last = scene.sandbox.moves(&scene.task).pop().unwrap();
    if outcome == "failed" {
        assert_eq!(last["evidence"]["exit_code"], 3, "{cell}: {last}");
    }
    if let Some(mut other) = other {
        assert!(other.try_wait().unwrap().is_none(), "{cell}: a stranger was killed");
        other.kill().unwrap();
        other.wait().unwrap();
    }
    check(&mut scene.sandbox);
    eprintln!("{{\"cell\":{cell:?}}}");
}

/// Tries the row's cells: all of them when that is asked for, else one at each point, so that the rows together try
/// everything that may happen then at each.
fn try_row(killed: &str) {
    let all = std::env::var_os("GITSPOOL_ADOPTION").is_some_and(|which| which == "all");
    let can_hold = can_hold();
    let row = ["daemon", "supervisor", "agent", "all"].iter().position(|one| *one == killed).unwrap();
    for (at, when) in WHEN.into_iter().enumerate().filter(|(_, when)| can_hold || when.call().is_none()) {
        for (column, then) in THEN.into_iter().enumerate() {
            if all || (row + at) % THEN.len() == column {
                try_one(killed, when, then);
            }
        }
    }
}

#[test]
fn a_killed_daemon_is_followed_by_one_that_does_what_the_table_says() {
    try_row("daemon");
}

#[test]
fn a_killed_supervisor_is_found_out_as_the_table_says() {
    try_row("supervisor");
}

#[test]
fn a_killed_agent_is_told_as_the_table_says() {
    try_row("agent");
}

#[test]
fn when_all_are_killed_the_next_daemon_does_what_the_table_says() {
    try_row("all");
}

#[test]
fn an_end_that_a_killed_supervisor_wrote_is_synced_before_the_task_ends() {
    if !can_hold() {
        return;
    }
    let mut scene = Scene::at(When::AfterRecord);
    scene.sandbox.kill();
    scene.kill_supervisor();
    let trace = scene.sandbox.path("trace");
    let strace = ["strace", "-f", "-qq", "-y", "-e", "trace=fsync,write", "-o", trace.to_str().unwrap()];
    scene.sandbox.start_under(&strace.map(ToOwned::to_owned));
    assert_eq!(scene.sandbox.outcome(&scene.task), "failed");
    check(&mut scene.sandbox);
    let trace = fs::read_to_string(trace).unwrap();
    let place = |call: &str, file: &str, text: &str| {
        trace.lines().position(|line| line.contains(call) && line.contains(file) && line.contains(text))
    };
    let synced = place("fsync(", "/events.jsonl>", "").expect("because the run's log is synced");
    let ended = place("write(", "/now.jsonl>", "seq").expect("because the log is written to");
    let last = trace.lines().enumerate().filter(|(_, line)| line.contains("/now.jsonl>")).map(|(at, _)| at);
    assert!(ended < synced && synced < last.last().unwrap(), "the start's line, the sync, the end's line");
}
