//! Further attempts: what was not successful is tried again as its task says, each attempt in a run of its own.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, signal};

fn states(sandbox: &Sandbox, task: &str) -> Vec<String> {
    let word = |line: &Value| line["state"]["is"].as_str().unwrap().to_owned();
    sandbox.moves(task).iter().map(word).collect()
}

/// The outcomes of a task's runs, as their own records tell them.
fn outcomes(sandbox: &Sandbox, task: &str, runs: u32) -> Vec<String> {
    let outcome = |attempt| {
        let bytes = fs::read(sandbox.run_dir(task, attempt).join("run.json")).unwrap();
        let record: Value = serde_json::from_slice(&bytes).unwrap();
        record["outcome"].as_str().unwrap_or_default().to_owned()
    };
    (1..=runs).map(outcome).collect()
}

/// A job that succeeds at its third attempt.
fn third(sandbox: &Sandbox) -> String {
    let told = sandbox.outside("attempts");
    format!("echo $GITSPOOL_ATTEMPT >> {}; [ $GITSPOOL_ATTEMPT = 3 ]", told.display())
}

/// Kills the supervisor of the one run there is.
fn kill_supervisor(sandbox: &Sandbox, task: &str, attempt: u32) {
    let pid = sandbox.wait("the agent's start", || {
        let bytes = fs::read(sandbox.run_dir(task, attempt).join("run.json")).ok()?;
        let record: Value = serde_json::from_slice(&bytes).ok()?;
        (record["status"] == "running").then(|| record["pid"].as_u64())?
    });
    signal(u32::try_from(pid).unwrap(), Signal::KILL);
}

#[test]
fn what_failed_is_tried_again_and_every_attempt_keeps_its_run() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let retry = json!({"max": 5, "backoff_seconds": 0});
    let command = json!({"shell": third(&sandbox), "retry": retry, "rank": 7});
    let (task, outcome) = sandbox.carry_out("third", &command);
    assert_eq!((outcome.as_str(), sandbox.told("attempts").as_str()), ("succeeded", "1\n2\n3\n"));
    assert_eq!(outcomes(&sandbox, &task, 3), ["failed", "failed", "succeeded"]);
    assert_eq!(states(&sandbox, &task), ["ready", "active", "ready", "active", "ready", "active", "ended"]);
    let again = sandbox.moves(&task)[2].clone();
    assert_eq!(again["state"], json!({"is": "ready", "rank": 7, "attempts": 1}));
    assert_eq!((&again["by"], &again["reason"]), (&"run".into(), &"attempt 1 failed".into()));
    check(&mut sandbox);
}

#[test]
fn attempts_are_limited_and_only_after_the_outcomes_that_were_named() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let twice = json!({"shell": "exit 3", "retry": {"max": 1, "backoff_seconds": 0}});
    let (task, outcome) = sandbox.carry_out("twice", &twice);
    assert_eq!((outcome.as_str(), outcomes(&sandbox, &task, 2).len()), ("failed", 2));
    assert!(!sandbox.run_dir(&task, 3).exists());
    let other = json!({"shell": "exit 3", "retry": {"max": 5, "on": ["timed_out"], "backoff_seconds": 0}});
    let (task, outcome) = sandbox.carry_out("other", &other);
    assert_eq!((outcome.as_str(), states(&sandbox, &task).len()), ("failed", 3));
    check(&mut sandbox);
}

#[test]
fn an_attempt_waits_its_backoff_also_through_a_killed_daemon_and_can_be_had_at_once() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let command = json!({"shell": "[ $GITSPOOL_ATTEMPT = 2 ]", "retry": {"max": 1, "backoff_seconds": 3600}});
    let task = sandbox.submit("waits", &command);
    sandbox.wait_in("waiting", &task);
    sandbox.kill();
    sandbox.start();
    sandbox.wait_in("waiting", &task);
    let last = sandbox.moves(&task).pop().unwrap();
    assert!(last["state"]["until"].as_str() > last["at"].as_str(), "{last}");
    sandbox.ask("now.json", &json!({"type": "release", "target": task}));
    assert_eq!(sandbox.outcome(&task), "succeeded");
    check(&mut sandbox);
}

#[test]
fn a_cancel_wins_over_another_attempt_while_it_runs_and_while_it_waits() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let retry = json!({"max": 5, "backoff_seconds": 3600});
    let waits = sandbox.submit("waits", &json!({"shell": "false", "retry": retry}));
    let runs = sandbox.submit("runs", &json!({"shell": "sleep 600", "retry": retry, "repeatable": true}));
    sandbox.wait_in("waiting", &waits);
    sandbox.wait_in("active", &runs);
    for (name, task) in [("a.json", &waits), ("b.json", &runs)] {
        sandbox.cancel(name, task);
        assert_eq!(sandbox.outcome(task), "cancelled");
    }
    check(&mut sandbox);
}

#[test]
fn a_lost_run_is_repeated_when_that_may_be_and_held_when_it_may_not() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let line = "[ $GITSPOOL_ATTEMPT = 2 ] || sleep 600";
    let retry = json!({"backoff_seconds": 0});
    let again = sandbox.submit("again", &json!({"shell": line, "repeatable": true, "retry": retry}));
    kill_supervisor(&sandbox, &again, 1);
    assert_eq!(sandbox.outcome(&again), "succeeded");
    assert_eq!(outcomes(&sandbox, &again, 2), ["lost", "succeeded"]);
    let once = sandbox.submit("once", &json!({"shell": line, "repeatable": false}));
    kill_supervisor(&sandbox, &once, 1);
    sandbox.wait_in("held", &once);
    let held = sandbox.moves(&once).pop().unwrap();
    assert!(held["reason"].as_str().unwrap().contains("lost") && held["evidence"].is_object(), "{held}");
    sandbox.ask("release.json", &json!({"type": "release", "target": once}));
    assert_eq!(sandbox.outcome(&once), "succeeded");
    let ends = sandbox.submit("ends", &json!({"shell": "sleep 600"}));
    kill_supervisor(&sandbox, &ends, 1);
    sandbox.wait_in("held", &ends);
    let why = sandbox.gitspool(&["why", "--json", &ends]).output().unwrap();
    let why: Value = serde_json::from_slice(&why.stdout).unwrap();
    assert_eq!(
        (&why["reasons"][1]["kind"], &why["reasons"][1]["outcome"]),
        (&"unseen".into(), &"lost".into())
    );
    let waited = sandbox.gitspool(&["wait", &ends]).output().unwrap();
    let said = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert!(waited.status.code() == Some(1) && said.contains("lost"), "{said}");
    assert_eq!(sandbox.cancel("cancel.json", &ends)["state"]["outcome"], "cancelled", "and never failed");
    check(&mut sandbox);
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_with_its_place() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    for (name, retry, kind, path) in [
        ("lost.json", json!({"max": 1, "on": ["lost"]}), "invalid_value", "$.retry.on[0]"),
        ("long.json", json!({"max": 1, "backoff_seconds": 1e12 as u64}), "invalid_value", "$.retry"),
        ("key.json", json!({"maximum": 1}), "unknown_key", "$.retry.maximum"),
        ("text.json", json!({"max": "many"}), "wrong_type", "$.retry.max"),
    ] {
        let refusal = sandbox.ask(name, &json!({"shell": "true", "retry": retry}))["refusal"].clone();
        assert_eq!((&refusal["kind"], &refusal["path"]), (&kind.into(), &path.into()), "{refusal}");
    }
    check(&mut sandbox);
}
