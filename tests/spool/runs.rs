//! Runs: how they end, what they leave, and that no process of theirs is left.

use std::fs;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::Sandbox;

/// Whether a process sleeps for this many seconds; each test has a number of its own.
fn sleeps(seconds: u32) -> bool {
    let wanted = format!("sleep\0{seconds}\0");
    let pids = crate::sandbox::entries(std::path::Path::new("/proc"));
    pids.iter().any(|pid| fs::read(pid.join("cmdline")).is_ok_and(|line| line == wanted.as_bytes()))
}

fn evidence(sandbox: &Sandbox, task: &str) -> Value {
    sandbox.run_record(task)["evidence"].clone()
}

#[test]
fn the_outcome_says_how_the_agent_ended() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    for (name, command, outcome, seen) in [
        ("good", json!({"shell": "exit 0"}), "succeeded", json!({"exit_code": 0})),
        ("bad", json!({"shell": "exit 7"}), "failed", json!({"exit_code": 7})),
        ("shot", json!({"shell": "kill -SEGV $$"}), "signalled", json!({"signal": 11})),
        ("own", json!({"shell": "exit 127"}), "failed", json!({"exit_code": 127})),
    ] {
        let (task, ended) = sandbox.carry_out(name, &command);
        assert_eq!((ended.as_str(), evidence(&sandbox, &task)), (outcome, seen), "{name}");
    }
    check(&mut sandbox);
}

#[test]
fn a_program_that_cannot_start_fails_as_in_a_shell_and_says_why() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    for (name, program, code) in [("missing", "/no/such/program", 127), ("plain", "/etc/passwd", 126)] {
        let (task, outcome) = sandbox.carry_out(name, &json!({"run": [program]}));
        let seen = evidence(&sandbox, &task);
        assert_eq!((outcome.as_str(), &seen["exit_code"]), ("failed", &json!(code)), "{seen}");
        assert!(seen["message"].as_str().unwrap().contains(program), "{seen}");
    }
    check(&mut sandbox);
}

#[test]
fn a_run_that_takes_too_long_is_ended_as_timed_out() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (task, outcome) = sandbox.carry_out("long", &json!({"shell": "sleep 70001", "timeout_seconds": 1}));
    assert_eq!(outcome, "timed_out");
    assert_eq!(evidence(&sandbox, &task)["signal"], 15);
    assert!(!sleeps(70001));
    check(&mut sandbox);
}

#[test]
fn stdout_and_stderr_go_into_one_file_or_two() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let shell = "echo one; echo two >&2; echo three";
    let (merged, _) = sandbox.carry_out("merged", &json!({"shell": shell}));
    assert_eq!(sandbox.output(&merged), "one\ntwo\nthree\n");
    let (apart, _) = sandbox.carry_out("apart", &json!({"shell": shell, "output": "apart"}));
    let read = |name: &str| fs::read_to_string(sandbox.first_run(&apart).join(name)).unwrap_or_default();
    assert_eq!((read("stdout.log").as_str(), read("stderr.log").as_str()), ("one\nthree\n", "two\n"));
    assert_eq!(read("output.log"), "");
    check(&mut sandbox);
}

#[test]
fn an_agent_gets_its_spool_its_run_its_variables_and_an_empty_place_of_its_own() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let shell =
        "echo $GITSPOOL_RUN $GITSPOOL_TASK $GITSPOOL_ATTEMPT $GITSPOOL_DIR $MINE; umask; ls -A | wc -l; pwd";
    let (task, _) = sandbox.carry_out("env", &json!({"shell": shell, "env": {"MINE": "yes"}}));
    let spool = sandbox.path("spool");
    let expected = format!("{task}.1 {task} 1 {} yes\n0022\n0\n", spool.display());
    let output = sandbox.output(&task);
    let place =
        output.strip_prefix(&expected).unwrap_or_else(|| panic!("{output} does not begin with {expected}"));
    assert!(place.starts_with(sandbox.path("state").to_str().unwrap()), "{place}");
    check(&mut sandbox);
}

/// Leaves a process in a session of its own, one forked twice, and one that has wiped its environment.
fn scatter(seconds: u32) -> String {
    format!(
        "setsid sleep {seconds} & ( ( setsid sleep {seconds} & ) & ); env -i setsid sleep {seconds} & \
         until [ \"$(pgrep -cfx 'sleep {seconds}')\" = 3 ]; do sleep 0.02; done"
    )
}

#[test]
fn no_process_outlives_its_agent_whatever_it_did_to_escape() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (_, outcome) = sandbox.carry_out("scatter", &json!({"shell": format!("{}; exit 0", scatter(70002))}));
    assert_eq!(outcome, "succeeded");
    assert!(!sleeps(70002));
    check(&mut sandbox);
}

#[test]
fn cancel_ends_every_process_of_a_run() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let told = sandbox.outside("ready");
    let shell = format!("{}; echo yes > {}; sleep 70004", scatter(70003), told.display());
    let task = sandbox.submit("scatter", &json!({"shell": shell}));
    sandbox.wait_told("ready");
    assert_eq!(sandbox.cancel("stop.json", &task)["accepted"], true);
    assert_eq!(sandbox.outcome(&task), "cancelled");
    assert!(!sleeps(70003) && !sleeps(70004));
    check(&mut sandbox);
}

#[test]
fn who_ignores_term_is_killed_after_the_grace() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let shell = format!(
        "trap '' TERM; echo yes > {}; while :; do sleep 0.1; done",
        sandbox.outside("ready").display()
    );
    let task = sandbox.submit("deaf", &json!({"shell": shell, "grace_seconds": 1}));
    sandbox.wait_told("ready");
    sandbox.cancel("stop.json", &task);
    assert_eq!(sandbox.outcome(&task), "cancelled");
    assert_eq!(evidence(&sandbox, &task)["signal"], 9);
    check(&mut sandbox);
}

#[test]
fn who_hears_term_can_end_in_its_own_way_and_is_cancelled_still() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let ready = sandbox.outside("ready");
    let shell =
        format!("trap 'echo bye; exit 3' TERM; echo yes > {}; while :; do sleep 0.05; done", ready.display());
    let task = sandbox.submit("polite", &json!({"shell": shell}));
    sandbox.wait_told("ready");
    sandbox.cancel("stop.json", &task);
    assert_eq!(sandbox.outcome(&task), "cancelled");
    assert_eq!(evidence(&sandbox, &task)["exit_code"], 3);
    assert!(sandbox.output(&task).ends_with("bye\n"), "{}", sandbox.output(&task));
    check(&mut sandbox);
}

#[test]
fn a_cancelled_ready_task_never_starts() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
    sandbox.start();
    let shell = format!("echo ran > {}", sandbox.outside("ran").display());
    let task = sandbox.submit("never", &json!({"shell": shell}));
    let receipt = sandbox.ask("stop.json", &json!({"type": "cancel", "target": task, "reason": "no more"}));
    assert_eq!((&receipt["accepted"], &receipt["task"]), (&json!(true), &json!(task)));
    sandbox.wait_in("cancelled", &task);
    assert_eq!(sandbox.moves(&task)[1]["reason"], "no more");
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
    sandbox.carry_out("other", &json!({"run": ["true"]}));
    assert_eq!(sandbox.told("ran"), "");
    assert!(!sandbox.first_run(&task).exists());
    check(&mut sandbox);
}

#[test]
fn a_cancel_is_acknowledged_and_ended_in_the_run_log_and_a_second_one_is_taken_too() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let ready = sandbox.outside("ready");
    let gate = sandbox.gate("gate");
    let shell =
        format!("trap '{gate}; exit 0' TERM; echo yes > {}; while :; do sleep 0.02; done", ready.display());
    let task = sandbox.submit("slow", &json!({"shell": shell, "grace_seconds": 60}));
    sandbox.wait_told("ready");
    assert_eq!(sandbox.cancel("first.json", &task)["state"]["is"], "cancelling");
    let second = sandbox.cancel("second.json", &task);
    assert_eq!(second["accepted"], true, "{second}");
    let about_commands = || -> Vec<(String, String)> {
        let log = sandbox.run_log(&task);
        let about = log.iter().filter(|line| line["command"].is_u64());
        about
            .map(|line| {
                (line["type"].as_str().unwrap().to_owned(), line["kind"].as_str().unwrap().to_owned())
            })
            .collect()
    };
    sandbox.wait_until("an acknowledged cancel", || !about_commands().is_empty());
    assert_eq!(about_commands(), [("command.acknowledged".to_owned(), "cancel".to_owned())]);
    sandbox.wait_in("active", &task);
    assert_eq!(
        sandbox.run_record(&task)["status"],
        "stopping",
        "terminal only when the process tree is gone"
    );
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "cancelled");
    assert_eq!(about_commands().last().unwrap().0, "command.ended");
    let log = sandbox.run_log(&task);
    let end = log.iter().find(|line| line["type"] == "command.ended").unwrap();
    assert_eq!(end["result"], "done", "{end}");
    check(&mut sandbox);
}

#[test]
fn a_cancel_after_the_end_is_accepted_and_changes_nothing() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (task, _) = sandbox.carry_out("done", &json!({"run": ["true"]}));
    let moves = sandbox.moves(&task);
    for target in [task.clone(), format!("{task}.1")] {
        let receipt = sandbox.cancel("late.json", &target);
        assert_eq!((&receipt["accepted"], &receipt["task"]), (&json!(true), &json!(task)), "{receipt}");
        assert!(receipt["note"].as_str().unwrap().contains("done"), "{receipt}");
    }
    assert_eq!(sandbox.moves(&task), moves);
    sandbox.wait_in("done", &task);
    for kind in ["hold", "release"] {
        let receipt = sandbox.ask("late.json", &json!({"type": kind, "target": task}));
        assert_eq!(receipt["refusal"]["kind"], "conflict", "{receipt}");
    }
    check(&mut sandbox);
}

#[test]
fn hold_release_and_rerank_move_a_task_that_waits() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
    sandbox.start();
    let task = sandbox.submit("waits", &json!({"run": ["true"]}));
    let ask = |name: &str, mut command: Value| {
        command["target"] = task.clone().into();
        let receipt = sandbox.ask(name, &command);
        assert_eq!(receipt["accepted"], true, "{receipt}");
        receipt
    };
    ask("hold.json", json!({"type": "hold"}));
    sandbox.wait_in("held", &task);
    ask("rank.json", json!({"type": "rerank", "rank": 3}));
    assert!(ask("hold.json", json!({"type": "hold"}))["note"].is_string(), "it is held already");
    ask("release.json", json!({"type": "release"}));
    sandbox.wait_in("ready", &task);
    assert_eq!(sandbox.places(&task), [format!("default/ready/03-{task}.json")]);
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
    assert_eq!(sandbox.outcome(&task), "succeeded");
    check(&mut sandbox);
}

#[test]
fn two_runs_in_one_directory_never_overlap() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(4);
    sandbox.start();
    let place = sandbox.outside("place");
    fs::create_dir(&place).unwrap();
    std::os::unix::fs::symlink(&place, sandbox.outside("also")).unwrap();
    let shell =
        "mkdir inside || echo overlap >> ../overlaps; sleep 0.1; rmdir inside; echo $GITSPOOL_RUN >> ../ran";
    let tasks: Vec<String> = (0..8)
        .map(|n| {
            let directory = sandbox.outside(if n % 2 == 0 { "place" } else { "also" });
            let command = json!({"shell": shell, "directory": directory, "workspace": {"kind": "directory"}});
            sandbox.submit(&format!("n{n}"), &command)
        })
        .collect();
    for task in &tasks {
        assert_eq!(sandbox.outcome(task), "succeeded", "{}", sandbox.output(task));
    }
    assert_eq!((sandbox.told("overlaps").as_str(), sandbox.told("ran").lines().count()), ("", 8));
    check(&mut sandbox);
}

#[test]
fn a_run_that_waits_for_a_directory_can_be_cancelled() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let gate = sandbox.gate("gate");
    let command = |shell: &str| json!({"shell": shell, "directory": sandbox.path("outside")});
    let first = sandbox.submit("first", &command(&format!("echo yes > in; {gate}")));
    sandbox.wait_told("in");
    // The same place under another name, which is seen only when the run is begun.
    let other_name = sandbox.path("outside").join(".");
    let second = sandbox.submit("second", &json!({"shell": "echo ran > second", "directory": other_name}));
    sandbox.wait_until("the second run", || !sandbox.run_log(&second).is_empty());
    sandbox.cancel("stop.json", &second);
    assert_eq!(sandbox.outcome(&second), "cancelled");
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&first), "succeeded");
    assert_eq!(sandbox.told("second"), "");
    check(&mut sandbox);
}

#[test]
fn a_run_whose_place_has_a_very_long_name_fails_and_says_so_in_short() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let directory = format!("/{}", "a".repeat(100_000));
    let command = json!({"run": ["true"], "directory": directory, "workspace": {"kind": "directory"}});
    let (task, outcome) = sandbox.carry_out("long", &command);
    assert_eq!(outcome, "failed");
    assert!(evidence(&sandbox, &task)["message"].as_str().unwrap().len() < 10_000);
    check(&mut sandbox);
}

#[test]
fn a_run_whose_agent_lost_its_profile_fails_however_long_the_reason_is() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
    let profile = sandbox.spool("agents/default.json");
    fs::write(&profile, json!({"driver": "exec", "argv": ["true"]}).to_string()).unwrap();
    sandbox.start();
    let task = sandbox.submit("ask", &json!({"prompt": "Say bye."}));
    fs::write(&profile, json!({"driver": "exec", "argv": ["true"], "x".repeat(100_000): 1}).to_string())
        .unwrap();
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
    assert_eq!(sandbox.outcome(&task), "failed");
    assert!(evidence(&sandbox, &task)["message"].as_str().unwrap().contains("unknown key"));
    check(&mut sandbox);
}

#[test]
fn a_run_goes_on_and_ends_once_when_its_log_and_its_record_take_nothing() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (begun, gate) = (sandbox.outside("begun"), sandbox.gate("gate"));
    let task =
        sandbox.submit("job", &json!({"shell": format!("echo yes > {}; {gate}; exit 3", begun.display())}));
    sandbox.wait_told("begun");
    sandbox.wait_until("a running run", || sandbox.run_record(&task)["status"] == "running");
    let dir = sandbox.first_run(&task);
    // A log that somebody else has changed takes nothing more, and a folder is no place for a record.
    let log = fs::read(dir.join("events.jsonl")).unwrap();
    fs::write(dir.join("events.jsonl"), &log[..log.len() - 1]).unwrap();
    fs::remove_file(dir.join("run.json")).unwrap();
    fs::create_dir(dir.join("run.json")).unwrap();
    sandbox.cancel("stop.json", &task);
    sandbox.wait_until("the run's end", || {
        sandbox.run_log(&task).iter().any(|line| line["type"] == "run.ended")
    });
    fs::remove_dir(dir.join("run.json")).unwrap();
    assert_eq!(sandbox.outcome(&task), "cancelled");
    assert!(dir.join("supervisor.error").exists());
    check(&mut sandbox);
}
