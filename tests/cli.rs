//! The verbs of the command line, on the real binary.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and uses the system as any program does"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

/// A spool, a repository and a home of its own.
struct Sandbox {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Sandbox {
    fn new() -> Sandbox {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox { folder, daemon: None };
        sandbox.expect(0, &["init"]);
        sandbox
    }

    fn with_daemon() -> Sandbox {
        let mut sandbox = Sandbox::new();
        sandbox.start();
        sandbox
    }

    fn start(&mut self) {
        let mut command = self.command(&["daemon"]);
        let mut daemon = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(daemon.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("watching"), "{line}");
        self.daemon = Some(daemon);
    }

    fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            signal("TERM", daemon.id());
            daemon.wait().unwrap();
        }
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gitspool"));
        command.args(arguments).env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.folder.path());
        command.env("GITSPOOL_DIR", self.spool()).env("GITSPOOL_STATE_DIR", self.folder.path().join("state"));
        command
    }

    /// Runs a verb to its end.
    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a verb, checks its exit code, and gives its stdout and stderr.
    fn expect(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        let texts = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {texts:?}");
        let [stdout, stderr] = texts;
        (stdout, stderr)
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let arguments: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        let output = self.run(&arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Submits a task and gives its id. The workspace `none` needs no repository.
    fn submit(&self, options: &[&str], shell: &str) -> String {
        let line = ["submit", "--workspace", "none", "--shell", shell];
        let arguments: Vec<&str> = line.iter().chain(options).copied().collect();
        self.expect(0, &arguments).0.trim().to_owned()
    }

    /// Starts a verb that goes on, and gives the lines of its stdout.
    fn begin(&self, arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
        let mut child =
            self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        (child, stdout)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.run(&["cancel", "slow"]);
        self.stop();
    }
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

fn line(lines: &mut impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line
}

/// The exit code and stderr of a verb that was begun.
fn end(mut child: Child) -> (Option<i32>, String) {
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (child.wait().unwrap().code(), stderr)
}

#[test]
fn without_a_daemon_verbs_read_and_say_what_is_missing() {
    let spool = Sandbox::new();
    let task = spool.submit(&["--name", "first"], "true");
    for verb in [&["show", task.as_str()][..], &["logs", "first"], &["wait", &task, "--timeout", "0"]] {
        let (_, said) = spool.expect(1, verb);
        assert!(said.contains("not admitted yet"), "{verb:?}: {said}");
    }
    let (_, said) = spool.expect(1, &["show", "nobody"]);
    assert!(said.contains("\"nobody\"") && said.contains("ls --all"), "{said}");
    let (_, said) = spool.expect(0, &["ls"]);
    assert!(said.contains("no daemon runs"), "{said}");
    let (_, said) = spool.expect(0, &["cancel", &task]);
    assert!(said.contains("no daemon runs"), "{said}");
    let status = &spool.json(&["status"])[0];
    assert_eq!((&status["daemon"]["running"], &status["inbox"]), (&Value::Bool(false), &Value::from(2)));
    spool.expect(1, &["status"]);
    spool.expect(0, &["doctor"]);
    assert_eq!(spool.expect(0, &["fsck"]).0, "", "what waits in the inbox is no fault");
    assert_eq!(spool.expect(0, &["fsck", "--repair", "--json"]), (String::new(), String::new()));
}

#[test]
fn run_shows_the_output_and_answers_with_the_outcome() {
    let spool = Sandbox::with_daemon();
    let none = ["run", "--workspace", "none", "--shell"];
    let run = |shell: &str, code| spool.expect(code, &[&none[..], &[shell]].concat());
    assert_eq!(run("echo out; echo err >&2", 0).0, "out\nerr\n");
    let (output, said) = run("printf 'raw\\033[31m'; exit 3", 1);
    assert_eq!(output, "raw\u{1b}[31m", "a pipe gets every byte");
    assert!(said.contains("failed (exit code 3)"), "{said}");
    let ended = &spool.json(&[&none[..], &["kill -9 $$"]].concat())[0];
    assert_eq!((&ended["outcome"], &ended["evidence"]["signal"]), (&"signalled".into(), &9.into()));
}

#[test]
fn an_interrupt_ends_the_following_and_not_the_task() {
    let spool = Sandbox::with_daemon();
    let shell = "echo begun; sleep 600";
    let (child, mut lines) = spool.begin(&["run", "--workspace", "none", "--name", "slow", "--shell", shell]);
    assert_eq!(line(&mut lines), "begun\n");
    signal("INT", child.id());
    let (code, said) = end(child);
    assert!(code == Some(1) && said.contains("goes on"), "{code:?} {said}");
    assert_eq!(spool.json(&["ls"])[0]["state"], "active");
    let (_, said) = spool.expect(1, &["wait", "slow", "--timeout", "0"]);
    assert!(said.contains("active") && said.contains("running"), "{said}");
    spool.expect(0, &["cancel", "slow"]);
    assert_eq!(spool.expect(1, &["wait", "slow"]).0.split_whitespace().nth(1), Some("cancelled"));
}

#[test]
fn logs_follow_from_before_the_run_until_its_end() {
    let mut spool = Sandbox::new();
    let task = spool.submit(&["--apart"], "echo one; echo two >&2; echo three");
    let (child, mut lines) = spool.begin(&["logs", "-f", &task, "--stdout"]);
    spool.start();
    assert_eq!(line(&mut lines), "one\n");
    let run = &spool.json(&["show", &task])[0]["runs"][0];
    assert_eq!(run["run"], format!("{task}.1"));
    assert_eq!(line(&mut lines), "three\n");
    assert_eq!(end(child).0, Some(0));
    let (output, _) = spool.expect(0, &["logs", &task]);
    assert!(output.starts_with("one\nthree\ntwo\n"), "{output}");
    assert_eq!(spool.expect(0, &["logs", &task, "--stdout", "--tail", "1"]).0, "three\n");
    let said = &spool.json(&["logs", &format!("{task}.1"), "--stdout"])[1];
    assert_eq!((&said["stream"], &said["text"]), (&"stdout".into(), &"three".into()));
    let (_, said) = spool.expect(1, &["logs", &task, "--run", "2"]);
    assert!(said.contains("no run 2"), "{said}");
}

#[test]
fn events_are_replayed_from_a_number_and_followed_to_the_end() {
    let mut spool = Sandbox::new();
    let task = spool.submit(&[], "true");
    let (child, lines) = spool.begin(&["events", "-f", &task]);
    spool.start();
    let seqs: Vec<u64> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(end(child).0, Some(0));
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let rest = spool.json(&["events", &task, "--after", "2", "--limit", "1"]);
    assert_eq!((rest.len(), &rest[0]["seq"]), (1, &3.into()));
    assert_eq!(
        spool.json(&["events", "-f", &task, "--after", "99"]),
        [Value::Null; 0],
        "an ended run's events end"
    );
    spool.expect(0, &["wait", &task]);
    let types: Vec<Value> = spool.json(&["events"]).iter().map(|event| event["type"].clone()).collect();
    assert_eq!(types, ["daemon.started", "task.submitted", "task.moved", "task.moved"]);
}

#[test]
fn commands_tell_what_was_answered() {
    let spool = Sandbox::with_daemon();
    let task = spool.submit(&["--held", "--name", "build", "--confirm"], "true");
    let word = |arguments: &[&str]| spool.expect(0, arguments).0.trim().replace(&task, "ID");
    assert_eq!(word(&["rerank", "build", "10"]), "ID held");
    let (_, said) = spool.expect(1, &["say", &task, "hello", "--interrupt"]);
    assert!(said.contains("refused") && said.contains("does not run"), "{said}");
    assert_eq!(word(&["cancel", &task[28..], "--reason", "enough"]), "ID cancelled");
    assert_eq!(word(&["cancel", &task]), "ID cancelled", "an ended task's cancel is no error");
    let (_, said) = spool.expect(1, &["release", "build"]);
    assert!(said.contains("has ended"), "{said}");
    spool.expect(1, &["hold", "nobody"]);
    let (_, said) = spool.expect(1, &["submit", "--confirm", "--queue", "nope", "--", "true"]);
    assert!(said.contains("refused") && said.contains("nope"), "{said}");
}

#[test]
fn a_task_that_waits_for_a_time_is_listed_shown_counted_and_released() {
    let spool = Sandbox::with_daemon();
    let at = ["--start-at", "9999-01-01T00:00:00Z", "--confirm", "--name", "later"];
    let task = spool.submit(&at, "true");
    let delayed = spool.submit(&["--delay", "100000", "--confirm"], "true");
    let listed: Vec<Value> = spool.json(&["ls", "--state", "waiting"]);
    let listed: Vec<&Value> = listed.iter().map(|row| &row["task"]).collect();
    assert_eq!(listed, [&Value::from(task.as_str()), &delayed.as_str().into()]);
    let shown = spool.expect(0, &["show", "later"]).0;
    assert!(shown.contains("waiting") && shown.contains("9999-01-01T00:00:00.000000Z"), "{shown}");
    assert_eq!(spool.json(&["status"])[0]["queues"][0]["waiting"], 2);
    assert_eq!(
        (why(&spool, "later"), why(&spool, &delayed)),
        (vec!["waiting".to_owned()], vec!["waiting".to_owned()])
    );
    assert!(spool.expect(0, &["why", "later"]).0.contains("9999-01-01"));
    let (_, said) = spool.expect(1, &["wait", "later", "--timeout", "0"]);
    assert!(said.contains("is waiting"), "{said}");
    assert_eq!(spool.expect(0, &["release", "later"]).0, format!("{task} ready\n"));
    spool.expect(0, &["wait", &task]);
    spool.expect(2, &["submit", "--delay", "1", "--start-at", "2030-01-01T00:00:00Z", "--", "true"]);
}

#[test]
fn a_task_that_is_tried_again_is_waited_for_to_its_last_attempt_and_shows_all() {
    let spool = Sandbox::with_daemon();
    let again = ["--retries", "3", "--backoff", "0", "--retry-on", "failed,timed_out", "--repeatable"];
    let task = spool.submit(&again, "[ $GITSPOOL_ATTEMPT = 2 ]");
    assert_eq!(spool.expect(0, &["wait", &task]).0, format!("{task} succeeded\n"));
    let shown = spool.expect(0, &["show", &task]).0;
    assert!(shown.contains(&format!("{task}.1")) && shown.contains(&format!("{task}.2")), "{shown}");
    spool.expect(2, &["submit", "--backoff", "1", "--", "true"]);
}

#[test]
fn waiting_ends_with_all_or_with_the_first_and_tells_a_refusal() {
    let spool = Sandbox::with_daemon();
    let slow = spool.submit(&["--name", "slow"], "sleep 600");
    let good = spool.submit(&[], "true");
    let bad = spool.submit(&[], "exit 1");
    let (output, _) = spool.expect(1, &["wait", &good, &bad]);
    assert!(
        output.contains(&format!("{good} succeeded")) && output.contains(&format!("{bad} failed")),
        "{output}"
    );
    assert_eq!(spool.expect(0, &["wait", "--any", &slow, &good]).0, format!("{good} succeeded\n"));
    let refused = spool.submit(&["--queue", "nope"], "true");
    let (_, said) = spool.expect(1, &["wait", &refused]);
    assert!(said.contains("nope"), "{said}");
    assert_eq!(spool.json(&["ls", "--state", "failed"])[0]["task"], bad);
    assert_eq!(spool.json(&["ls", "--all"]).len(), 3);
}

#[test]
fn what_agents_and_users_write_never_steers_a_terminal() {
    let spool = Sandbox::with_daemon();
    let note = "gitspool note --summary \"$(printf 'title\\033]0;x\\007')\" --session \"$(printf '\\342\\200\\256')\" --confirm";
    let task = spool.submit(&["--item", "card\u{202e}7"], note);
    spool.expect(0, &["wait", &task]);
    for arguments in [
        &["show", task.as_str()][..],
        &["ls", "--runs"],
        &["ls", "--all"],
        &["events", &task],
        &["--json", "show", &task],
    ] {
        let (output, _) = spool.expect(0, arguments);
        let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!output.contains(harmful), "{arguments:?}: {output:?}");
    }
    let run = &spool.json(&["show", &task])[0]["runs"][0];
    assert_eq!((&run["session"], &run["item"]), (&"\u{202e}".into(), &"card\u{202e}7".into()));
    assert_eq!(run.get("token_sha256"), None);
    assert_eq!(spool.json(&["ls", "--runs", "--item", "card\u{202e}7"]).len(), 1);
    assert_eq!(spool.json(&["ls", "--runs", "--item", "other"]).len(), 0);
}

#[test]
fn what_nothing_would_come_of_is_told_with_its_way_out() {
    let spool = Sandbox::with_daemon();
    for nothing in [&["submit"][..], &["run", "--shell", "true", "--prompt", "x"]] {
        let (_, said) = spool.expect(2, nothing);
        assert!(said.contains("--shell LINE"), "{nothing:?}: {said}");
    }
    let (_, said) = spool.expect(1, &["ls", "--queue", "nowhere"]);
    assert!(said.contains("nowhere"), "{said}");
    let (root, said) = spool.expect(0, &["init"]);
    assert!(root.trim_end().ends_with("spool") && said.contains("already"), "{root}{said}");
    let (_, said) = spool.expect(2, &["init", "--directory", "/"]);
    assert!(said.contains("spool.json"), "{said}");

    spool.expect(1, &["run", "--name", "missing", "--workspace", "none", "--", "/no/such/program"]);
    for logs in [&["logs", "missing"][..], &["logs", "-f", "missing"]] {
        let (output, said) = spool.expect(0, logs);
        assert!(output.is_empty() && said.contains("cannot start /no/such/program"), "{said}");
    }
}

#[test]
fn a_note_from_outside_a_run_is_an_error() {
    let spool = Sandbox::new();
    let (_, said) = spool.expect(2, &["note", "hello"]);
    assert!(said.contains("GITSPOOL_TOKEN"), "{said}");
}

#[test]
fn following_a_run_that_nobody_can_end_any_more_ends() {
    let mut spool = Sandbox::with_daemon();
    let task = spool.submit(&["--name", "slow"], "echo begun; sleep 600");
    let (child, mut lines) = spool.begin(&["logs", "-f", &task]);
    assert_eq!(line(&mut lines), "begun\n");
    spool.stop();
    let pid = spool.json(&["show", &task])[0]["runs"][0]["pid"].as_u64().unwrap();
    signal("KILL", u32::try_from(pid).unwrap());
    let (code, said) = end(child);
    assert!(code == Some(1) && said.contains("lost its supervisor"), "{code:?} {said}");
    spool.start();
    assert_eq!(spool.expect(1, &["wait", &task]).0, format!("{task} lost\n"));
}

#[test]
fn what_the_daemon_refuses_is_the_answer_no_of_every_verb() {
    let spool = Sandbox::with_daemon();
    let prompt = ["--workspace", "none", "--prompt", "do it"];
    for verb in [&["run"][..], &["submit", "--confirm"]] {
        let (_, said) = spool.expect(1, &[verb, &prompt].concat());
        assert!(said.contains("refused") && said.contains("agents/default.json"), "{said}");
    }
    let task = spool.expect(0, &[&["submit"][..], &prompt].concat()).0.trim().to_owned();
    for verb in [&["wait", &task][..], &["logs", "--follow", &task]] {
        let (_, said) = spool.expect(1, verb);
        assert!(said.contains("refused") && said.contains("agents/default.json"), "{said}");
    }
    for (option, value, says) in [
        ("--rank", "100", "a whole number from 0 to 99"),
        ("--rank", "-1", "a whole number from 0 to 99"),
        ("--timeout", "soon", "a whole number, 0 or more"),
        ("--name", "../x", "is not a name"),
    ] {
        let (_, said) = spool.expect(2, &["submit", option, value, "--", "true"]);
        assert!(said.contains(says), "what is not even sent is a mistake of the call: {said}");
    }
}

#[test]
fn a_record_of_the_spool_that_makes_no_sense_is_named_with_its_place_and_the_way_out() {
    let spool = Sandbox::new();
    let record = spool.spool().join("spool.json");
    let good = std::fs::read_to_string(&record).unwrap();
    for (text, says) in [
        ("{", "ends before its JSON does"),
        ("[]", "no object"),
        ("{}", "\"format\" is missing"),
        (&good.replace("1000", "-5"), "-5 stands where a whole number, 0 or more, belongs (at $.settle_ms)"),
        (&good.replace("1000", "1000, \"directory\": \"src\""), "absolute path (at $.directory)"),
    ] {
        std::fs::write(&record, text).unwrap();
        for verb in [&["ls"][..], &["daemon", "--drain"], &["init"]] {
            let (_, said) = spool.expect(2, verb);
            let is_told = said.contains("spool.json") && said.contains(says) && said.contains("mend it");
            assert!(is_told, "{verb:?} of {text}: {said}");
        }
    }
    std::fs::write(&record, good).unwrap();
    let mut elsewhere = spool.command(&["ls"]);
    let output = elsewhere.env("GITSPOOL_STATE_DIR", "state").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("absolute path"));
}

#[test]
fn submitting_under_a_key_again_prints_the_task_of_the_first() {
    let sandbox = Sandbox::with_daemon();
    let first = sandbox.expect(0, &["submit", "--key", "nightly", "--", "true"]).0;
    assert_eq!(sandbox.expect(0, &["submit", "--key", "nightly", "--", "true"]).0, first);
    let output = sandbox.command(&["submit", "--key", "nightly", "--", "false"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nightly"), "{output:?}");
}

/// The kinds of the reasons that `why` tells.
fn why(sandbox: &Sandbox, task: &str) -> Vec<String> {
    let told = sandbox.json(&["why", task]).remove(0);
    told["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| reason["kind"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn why_tells_every_reason_at_once_and_each_is_gone_when_its_cause_is() {
    let mut sandbox = Sandbox::new();
    let submit = |arguments: &[&str]| {
        let arguments =
            [&["submit", "--workspace", "directory"], arguments, &["--", "sleep", "600"]].concat();
        sandbox.expect(0, &arguments).0.trim().to_owned()
    };
    let (first, second, held) = (submit(&[]), submit(&[]), submit(&["--held"]));
    assert_eq!(why(&sandbox, &first), ["not_admitted", "no_daemon"]);
    let queue = sandbox.spool().join("queue/default");
    std::fs::write(queue.join("queue.json"), r#"{"slots": 1}"#).unwrap();
    sandbox.start();
    sandbox.expect(0, &["wait", "--event", "agent.started", &first]);
    assert_eq!(why(&sandbox, &first), Vec::<String>::new());
    assert_eq!(sandbox.run(&["why", &first]).status.code(), Some(1), "it runs");
    sandbox.expect(0, &["rerank", &second, "60"]);
    assert_eq!(why(&sandbox, &second), ["slots", "directory"]);
    assert_eq!(why(&sandbox, &held), ["held", "slots", "directory"]);
    std::fs::write(queue.join("PAUSED"), "").unwrap();
    sandbox.expect(0, &["release", &held]);
    assert_eq!(why(&sandbox, &second), ["paused", "slots", "directory", "behind"]);
    let (words, _) = sandbox.expect(0, &["why", &second]);
    assert!(words.contains("PAUSED") && words.contains(&first) && words.contains(&held), "{words}");
    sandbox.stop();
    assert_eq!(why(&sandbox, &second)[0], "no_daemon");
    std::fs::write(queue.join("queue.json"), "{").unwrap();
    assert!(why(&sandbox, &second).contains(&"settings".to_owned()));
    std::fs::write(queue.join("queue.json"), r#"{"slots": 0}"#).unwrap();
    assert!(why(&sandbox, &second).contains(&"no_slots".to_owned()));
    sandbox.start();
    sandbox.expect(0, &["cancel", &first]);
    assert_eq!(sandbox.run(&["wait", &first]).status.code(), Some(1));
    assert_eq!(sandbox.run(&["why", &first]).status.code(), Some(1), "it has ended");
    assert_eq!(sandbox.run(&["why", "nothing"]).status.code(), Some(1));
}
