//! Further attempts on request: nothing else moves what has ended, and nothing what has succeeded.

use std::fs;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, read_json};

fn states(sandbox: &Sandbox, task: &str) -> Vec<String> {
    let word = |line: &Value| line["state"]["is"].as_str().unwrap().to_owned();
    sandbox.moves(task).iter().map(word).collect()
}

fn retry(sandbox: &Sandbox, name: &str, task: &str) -> Value {
    sandbox.ask(&format!("{name}.json"), &json!({"type": "retry", "target": task}))
}

/// Waits for the end that follows so many lines about a task.
fn next_outcome(sandbox: &Sandbox, task: &str, lines: usize) -> String {
    sandbox.wait("a further end", || {
        let last = sandbox.moves(task).into_iter().skip(lines).last()?;
        last["state"]["outcome"].as_str().map(ToOwned::to_owned)
    })
}

#[test]
fn what_failed_gets_a_further_attempt_with_its_rank_and_the_next_number() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let long = "x".repeat(20_000);
    let shell = format!("[ $GITSPOOL_ATTEMPT = 2 ] # {long}");
    let task = sandbox.submit("task", &json!({"shell": shell, "rank": 7}));
    assert_eq!(sandbox.outcome(&task), "failed");
    let place = sandbox.spool("queue").join(sandbox.places(&task).pop().unwrap());
    let state = json!({"is": "ended", "outcome": "failed", "attempts": 1, "rank": 7});
    assert_eq!(read_json(&place).unwrap()["state"], state);
    let receipt = retry(&sandbox, "retry", &task);
    assert_eq!(receipt["state"], json!({"is": "ready", "rank": 7, "attempts": 1}), "{receipt}");
    assert_eq!(next_outcome(&sandbox, &task, 3), "succeeded");
    assert_eq!(states(&sandbox, &task), ["ready", "active", "ended", "ready", "active", "ended"]);
    let line = sandbox.moves(&task).remove(3);
    assert_eq!((&line["by"], line["spec"].is_object()), (&"command".into(), true), "{line}");
    assert!(sandbox.run_dir(&task, 1).exists() && sandbox.run_dir(&task, 2).exists());
    check(&mut sandbox);
}

#[test]
fn what_lives_or_has_succeeded_or_was_edited_is_not_retried() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let held = sandbox.submit("held", &json!({"shell": "true", "held": true}));
    let done = sandbox.submit("done", &json!({"shell": "true"}));
    let failed = sandbox.submit("failed", &json!({"shell": "false"}));
    assert_eq!((sandbox.outcome(&done).as_str(), sandbox.outcome(&failed).as_str()), ("succeeded", "failed"));
    let refused = |name: &str, task: &str| {
        let refusal = retry(&sandbox, name, task)["refusal"].clone();
        (refusal["kind"].as_str().unwrap().to_owned(), refusal.to_string())
    };
    let (kind, said) = refused("a", &held);
    assert!(kind == "conflict" && said.contains("it is held"), "{said}");
    let (kind, said) = refused("b", &done);
    assert!(kind == "conflict" && said.contains("rerun"), "{said}");
    assert_eq!(refused("c", "01890a5d-ac96-774b-bcce-b302099a8057").0, "not_found");
    let place = sandbox.spool("queue").join(sandbox.places(&failed).pop().unwrap());
    let text = fs::read_to_string(&place).unwrap();
    fs::write(&place, text.replace("\"false\"", "\"true\"")).unwrap();
    let (kind, said) = refused("d", &failed);
    assert!(kind == "conflict" && said.contains("edited"), "{said}");
    // Laid out otherwise it says the same.
    let value: Value = serde_json::from_str(&text).unwrap();
    fs::write(&place, value.to_string()).unwrap();
    assert_eq!(retry(&sandbox, "e", &failed)["accepted"], true);
    assert_eq!(next_outcome(&sandbox, &failed, 3), "failed");
    check(&mut sandbox);
}

#[test]
fn a_retry_under_a_key_is_one_retry_however_often_it_is_asked_for() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = sandbox.submit("task", &json!({"shell": "false"}));
    assert_eq!(sandbox.outcome(&task), "failed");
    let command = json!({"type": "retry", "target": task, "key": "once"});
    let first = sandbox.ask("first.json", &command);
    assert_eq!(next_outcome(&sandbox, &task, 3), "failed");
    let again = sandbox.ask("again.json", &command);
    assert_eq!((&again["accepted"], &again["repeats"]), (&true.into(), &first["seq"]), "{again}");
    assert_eq!(states(&sandbox, &task).len(), 6);
    check(&mut sandbox);
}

#[test]
fn a_cancelled_task_is_retried_and_a_file_of_an_older_version_tells_enough() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let cancelled = sandbox.submit("cancelled", &json!({"shell": "true", "held": true}));
    let failed = sandbox.submit("failed", &json!({"shell": "[ $GITSPOOL_ATTEMPT = 2 ]"}));
    sandbox.cancel("cancel.json", &cancelled);
    assert_eq!(
        (sandbox.outcome(&cancelled).as_str(), sandbox.outcome(&failed).as_str()),
        ("cancelled", "failed")
    );
    for task in [&cancelled, &failed] {
        let place = sandbox.spool("queue").join(sandbox.places(task).pop().unwrap());
        let mut value = read_json(&place).unwrap();
        value.as_object_mut().unwrap().retain(|key, _| key != "state" && key != "sha256");
        fs::write(&place, value.to_string()).unwrap();
    }
    for (name, task) in [("a", &cancelled), ("b", &failed)] {
        assert_eq!(retry(&sandbox, name, task)["accepted"], true);
    }
    assert_eq!(next_outcome(&sandbox, &cancelled, 2), "succeeded");
    assert_eq!(next_outcome(&sandbox, &failed, 3), "succeeded");
    check(&mut sandbox);
}

#[test]
fn what_is_blocked_is_retried_when_its_need_can_still_succeed_and_waits_for_it() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let need = sandbox
        .submit("need", &json!({"shell": format!("[ $GITSPOOL_ATTEMPT = 2 ] && {}", sandbox.gate("g"))}));
    let task = sandbox.submit("task", &json!({"shell": "true", "needs": [need]}));
    assert_eq!(sandbox.outcome(&task), "blocked");
    let refusal = retry(&sandbox, "early", &task)["refusal"].clone();
    let hint = refusal["hint"].as_str().unwrap();
    assert!(refusal["kind"] == "conflict" && hint.contains(&format!("gitspool retry {need}")), "{refusal}");
    assert_eq!(retry(&sandbox, "need", &need)["accepted"], true);
    let receipt = retry(&sandbox, "task", &task);
    assert_eq!(receipt["state"], json!({"is": "waiting", "rank": 50, "attempts": 0, "needs": true}));
    sandbox.wait_in("waiting", &task);
    sandbox.open_gate("g");
    assert_eq!(next_outcome(&sandbox, &task, 3), "succeeded");
    check(&mut sandbox);
}

#[test]
fn a_retry_survives_a_killed_daemon_with_and_without_a_checkpoint_behind_the_end() {
    for checkpoint in [true, false] {
        let mut sandbox = Sandbox::new();
        sandbox.start();
        let task = sandbox.submit("task", &json!({"shell": "[ $GITSPOOL_ATTEMPT = 2 ]"}));
        assert_eq!(sandbox.outcome(&task), "failed");
        if checkpoint {
            // An end in order writes one.
            sandbox.stop();
            sandbox.start();
        }
        fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
        assert_eq!(retry(&sandbox, "retry", &task)["accepted"], true);
        sandbox.wait_in("ready", &task);
        sandbox.kill();
        // As if it had been killed between the two steps of the move.
        let place = sandbox.spool("queue").join(sandbox.places(&task).pop().unwrap());
        let date = sandbox.run_dir(&task, 1).parent().unwrap().file_name().unwrap().to_owned();
        let ended = sandbox.spool("queue/default/failed").join(date);
        fs::create_dir_all(&ended).unwrap();
        fs::copy(&place, ended.join(format!("{task}.json"))).unwrap();
        sandbox.start();
        sandbox.wait_in("ready", &task);
        fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
        assert_eq!(next_outcome(&sandbox, &task, 4), "succeeded");
        check(&mut sandbox);
    }
}

#[test]
fn the_verb_retries_with_a_need_all_that_was_blocked_because_of_it() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let need = sandbox.submit("need", &json!({"shell": "[ $GITSPOOL_ATTEMPT = 2 ]"}));
    let other = sandbox.submit("other", &json!({"shell": "false"}));
    let [one, two] =
        ["one", "two"].map(|name| sandbox.submit(name, &json!({"shell": "true", "needs": [need]})));
    let skip = json!({"shell": "true", "needs": [one], "on_failed_need": "skip"});
    let three = sandbox.submit("three", &skip);
    let four = sandbox.submit("four", &json!({"shell": "true", "needs": [three, two]}));
    let not_this = sandbox.submit("not-this", &json!({"shell": "true", "needs": [other]}));
    for task in [&one, &two, &four, &not_this] {
        assert_eq!(sandbox.outcome(task), "blocked");
    }
    assert_eq!(sandbox.outcome(&three), "skipped");
    let output = sandbox.gitspool(&["retry", "--dependents", "need"]).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.lines().count() == 5, "{said}");
    for task in [&need, &one, &two, &three, &four] {
        let before = sandbox.moves(task).iter().position(|line| line["state"]["is"] == "ended").unwrap();
        assert_eq!(next_outcome(&sandbox, task, before + 1), "succeeded");
    }
    assert_eq!(states(&sandbox, &not_this).last().unwrap(), "ended");
    check(&mut sandbox);
}

#[test]
fn the_verb_retries_several_by_their_names() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let tasks =
        ["one", "two"].map(|name| sandbox.submit(name, &json!({"shell": "[ $GITSPOOL_ATTEMPT = 2 ]"})));
    tasks.iter().for_each(|task| assert_eq!(sandbox.outcome(task), "failed"));
    let output = sandbox.gitspool(&["retry", "one", &tasks[1][24..]]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.matches("ready").count() == 2, "{said}");
    tasks.iter().for_each(|task| assert_eq!(next_outcome(&sandbox, task, 3), "succeeded"));
    let output = sandbox.gitspool(&["retry", "--json", "one"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "it has succeeded");
    check(&mut sandbox);
}
