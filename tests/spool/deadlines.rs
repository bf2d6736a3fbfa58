//! Deadlines: what has not started by then ends as expired, and what still runs as timed out.

use std::fs;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::Sandbox;

/// So many seconds from now.
fn within(seconds: i64) -> String {
    (Utc::now() + TimeDelta::seconds(seconds)).to_rfc3339()
}

fn pause(sandbox: &Sandbox) {
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
}

fn resume(sandbox: &Sandbox) {
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
}

/// The spec in the file of a live task.
fn spec(sandbox: &Sandbox, folder: &str, name: &str) -> Value {
    serde_json::from_slice(&fs::read(sandbox.spool(&format!("queue/default/{folder}/{name}"))).unwrap())
        .unwrap()
}

fn last_move(sandbox: &Sandbox, task: &str) -> Value {
    sandbox.moves(task).pop().unwrap()
}

#[test]
fn what_has_not_started_by_its_deadline_expires_wherever_it_is_and_what_needs_it_is_blocked() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let gate = sandbox.gate("gate");
    let active = sandbox.submit("active", &json!({"shell": gate}));
    sandbox.wait_until("a run", || sandbox.run_record(&active)["status"] == "running");
    pause(&sandbox);
    let ready = sandbox.submit("ready", &json!({"shell": "true", "deadline_seconds": 2}));
    let held = sandbox.submit("held", &json!({"shell": "true", "held": true, "deadline_at": within(2)}));
    let waiting =
        sandbox.submit("waiting", &json!({"shell": "true", "needs": [active], "deadline_seconds": 2}));
    let timer = sandbox.submit("timer", &json!({"shell": "true", "delay_seconds": 1, "deadline_seconds": 2}));
    let later = sandbox.submit("later", &json!({"shell": "true", "deadline_seconds": 10_000}));
    let blocked = sandbox.submit("blocked", &json!({"shell": "true", "needs": [ready]}));
    let after = sandbox.submit("after", &json!({"shell": "true", "after_failed": [held]}));
    let (_, said) = sandbox.json(&["why", &later]);
    let told = said[0]["reasons"].as_array().unwrap().last().unwrap().clone();
    assert!(told["kind"] == "deadline" && told["left_seconds"].as_u64().unwrap() > 9_000, "{said:?}");
    for task in [&ready, &held, &waiting, &timer] {
        assert_eq!(sandbox.outcome(task), "expired");
        let last = last_move(&sandbox, task);
        assert!(last["by"] == "daemon" && last["reason"].as_str().unwrap().contains("deadline"), "{last}");
        assert!(sandbox.places(task)[0].contains("/expired/"));
    }
    assert_eq!(sandbox.outcome(&blocked), "blocked");
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&active), "succeeded");
    resume(&sandbox);
    for task in [&after, &later] {
        assert_eq!(sandbox.outcome(task), "succeeded");
    }
    let (_, listed) = sandbox.json(&["ls", "--state", "expired"]);
    assert_eq!(listed.iter().filter(|row| row["task"].is_string()).count(), 4, "{listed:?}");
    assert!(sandbox.run(sandbox.gitspool(&["show", &ready])).contains("deadline"));
    let why = sandbox.gitspool(&["why", &ready]).output().unwrap();
    assert!(String::from_utf8_lossy(&why.stdout).contains("expired"), "{why:?}");
    check(&mut sandbox);
}

#[test]
fn a_deadline_that_comes_while_no_daemon_runs_is_seen_by_the_next_and_nothing_starts_behind_it() {
    let mut sandbox = Sandbox::new();
    pause(&sandbox);
    sandbox.start();
    let task = sandbox.submit("job", &json!({"shell": "true", "deadline_seconds": 3}));
    let edited = sandbox.submit("edited", &json!({"shell": "true", "deadline_seconds": 3}));
    sandbox.kill();
    let name = format!("50-{edited}.json");
    let mut longer = spec(&sandbox, "ready", &name);
    longer["deadline_at"] = within(10_000).into();
    fs::write(sandbox.spool("queue/default/ready").join(&name), longer.to_string()).unwrap();
    resume(&sandbox);
    sandbox.let_work(std::time::Duration::from_millis(3100));
    // Never taken either, and late when it is.
    sandbox
        .drop_by_mv("late.json", json!({"shell": "true", "deadline_at": "2020-01-01T00:00:00Z"}).to_string());
    sandbox.start();
    assert_eq!(sandbox.outcome(&task), "expired");
    assert_eq!(sandbox.outcome(&edited), "succeeded", "somebody gave it more time before it came");
    let late = sandbox.receipt("late.json")["task"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.outcome(&late), "expired");
    for task in [&task, &late] {
        assert!(sandbox.moves(task).iter().all(|line| line["state"]["is"] != "active"));
    }
    check(&mut sandbox);
}

#[test]
fn a_run_ends_at_the_deadline_of_its_task_and_no_attempt_is_begun_behind_it() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let retry = json!({"max": 5, "backoff_seconds": 1000});
    let long = json!({"shell": "sleep 1000", "deadline_seconds": 2, "timeout_seconds": 900, "retry": retry});
    let (task, outcome) = sandbox.carry_out("long", &long);
    assert_eq!(
        (outcome.as_str(), last_move(&sandbox, &task)["state"]["attempts"].as_u64()),
        ("timed_out", Some(1))
    );
    assert!(last_move(&sandbox, &task)["evidence"]["message"].as_str().unwrap().contains("deadline"));
    // It fails long before; but the next attempt would come behind it.
    let (task, outcome) =
        sandbox.carry_out("fails", &json!({"shell": "exit 1", "deadline_seconds": 60, "retry": retry}));
    assert_eq!((outcome.as_str(), sandbox.moves(&task).len()), ("failed", 3));
    // Between two attempts it has not started the next.
    let gate = sandbox.gate("gate");
    let at_once = json!({"max": 5, "backoff_seconds": 0});
    let shell = format!("{gate}; exit 1");
    let task = sandbox.submit("between", &json!({"shell": shell, "deadline_seconds": 5, "retry": at_once}));
    sandbox.wait_until("a run", || sandbox.run_record(&task)["status"] == "running");
    pause(&sandbox);
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "expired");
    assert_eq!(last_move(&sandbox, &task)["state"]["attempts"], 1);
    check(&mut sandbox);
}

#[test]
fn a_deadline_is_edited_by_command_and_by_hand_and_stays_fixed_when_it_is_not() {
    let mut sandbox = Sandbox::new();
    pause(&sandbox);
    sandbox.start();
    let task = sandbox.submit("job", &json!({"shell": "true", "deadline_seconds": 10_000}));
    let name = format!("50-{task}.json");
    let deadline = |sandbox: &Sandbox| spec(sandbox, "ready", &name)["deadline_at"].clone();
    let first = deadline(&sandbox);
    assert!(first.is_string());
    let edit = |set: &[&str]| {
        let arguments = [&["edit", &task][..], set].concat();
        sandbox.run(sandbox.gitspool(&arguments));
    };
    edit(&["--set", "timeout_seconds=5"]);
    sandbox.wait_until("the edit", || spec(&sandbox, "ready", &name)["timeout_seconds"] == 5);
    assert_eq!(deadline(&sandbox), first, "it stays fixed");
    edit(&["--set", "deadline_seconds=20000"]);
    sandbox.wait_until("the edit", || deadline(&sandbox) != first);
    // Who leaves out what is fixed gets it drawn again; who removes both has none.
    let path = sandbox.spool("queue/default/ready").join(&name);
    let second = deadline(&sandbox);
    fs::write(&path, r#"{"shell": "echo", "deadline_seconds": 20000}"#).unwrap();
    sandbox.wait_until("the file", || {
        deadline(&sandbox) == second && spec(&sandbox, "ready", &name)["shell"] == "echo"
    });
    edit(&["--set", "deadline_at=null", "--set", "deadline_seconds=null"]);
    sandbox.wait_until("the edit", || deadline(&sandbox).is_null());
    edit(&["--set", "deadline_at=2020-01-01T00:00:00Z"]);
    assert_eq!(sandbox.outcome(&task), "expired");
    check(&mut sandbox);
}

#[test]
fn what_has_expired_is_retried_with_a_new_deadline_and_a_repeat_of_its_submit_is_known() {
    let mut sandbox = Sandbox::new();
    pause(&sandbox);
    sandbox.start();
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let command = json!({"id": id, "shell": "true", "deadline_seconds": 1});
    let task = sandbox.submit("job", &command);
    let fixed = sandbox.submit("fixed", &json!({"shell": "true", "deadline_at": within(1)}));
    for again in ["live", "ended", "removed"] {
        let receipt = sandbox.ask(&format!("{again}.json"), &{
            let mut command = command.clone();
            command["name"] = "job".into();
            command
        });
        assert!(
            receipt["accepted"] == true && receipt["note"].as_str().unwrap().contains("submitted already"),
            "{again}: {receipt}"
        );
        assert_eq!(sandbox.outcome(&task), "expired");
        assert_eq!(sandbox.outcome(&fixed), "expired");
        if again == "ended" {
            let refused = sandbox.ask("retry.json", &json!({"type": "retry", "target": fixed}));
            assert_eq!(refused["refusal"]["kind"], "conflict", "{refused}");
            resume(&sandbox);
            sandbox.wait_until("a retry that starts in time", || {
                if last_move(&sandbox, &task)["state"]["outcome"] == "expired" {
                    sandbox.ask("retry.json", &json!({"type": "retry", "target": task}));
                }
                last_move(&sandbox, &task)["state"]["outcome"] == "succeeded"
            });
            sandbox.run(sandbox.gitspool(&["gc", "--keep", "0"]));
            return removed(sandbox, &command);
        }
    }
}

/// The end of the test above: what was removed is known, too.
fn removed(mut sandbox: Sandbox, command: &Value) {
    let mut command = command.clone();
    command["name"] = "job".into();
    let receipt = sandbox.ask("removed.json", &command);
    assert!(
        receipt["accepted"] == true && receipt["note"].as_str().unwrap().contains("removed"),
        "{receipt}"
    );
    check(&mut sandbox);
}

#[test]
fn deadlines_that_make_no_sense_are_refused_and_the_command_line_takes_times_and_lengths() {
    let mut sandbox = Sandbox::new();
    pause(&sandbox);
    sandbox.start();
    for (deadline, kind, path) in [
        (json!({"deadline_at": within(9), "deadline_seconds": 9}), "conflict", "$.deadline_seconds"),
        (json!({"deadline_seconds": 0}), "invalid_value", "$.deadline_seconds"),
        (json!({"deadline_at": "soon"}), "wrong_type", "$.deadline_at"),
        (json!({"deadline_at": within(9), "start_at": within(99)}), "conflict", "$.deadline_at"),
        (json!({"deadline_seconds": 9, "delay_seconds": 9}), "conflict", "$.deadline_seconds"),
    ] {
        let mut command = deadline.clone();
        command["shell"] = "true".into();
        let refusal = sandbox.ask("wrong.json", &command)["refusal"].clone();
        assert_eq!((&refusal["kind"], &refusal["path"]), (&kind.into(), &path.into()), "{command}");
    }
    for (deadline, seconds) in [("1h30m", json!(5400)), (within(5400).as_str(), Value::Null)] {
        let arguments = ["submit", "--workspace", "none", "--deadline", deadline, "--shell", "true"];
        let task = sandbox.run(sandbox.gitspool(&arguments)).trim().to_owned();
        sandbox.wait_in("ready", &task);
        let spec = spec(&sandbox, "ready", &format!("50-{task}.json"));
        assert!(spec["deadline_at"].is_string() && spec["deadline_seconds"] == seconds, "{spec}");
        let again = sandbox.run(sandbox.gitspool(&["rerun", &task])).trim().to_owned();
        sandbox.wait_in("ready", &again);
        sandbox.cancel("stop.json", &task);
        sandbox.cancel("stop.json", &again);
    }
    check(&mut sandbox);
}
