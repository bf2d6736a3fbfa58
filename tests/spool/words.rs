//! What is said to an agent, and what an agent says: steering, notes, and the secret that proves who speaks.

use std::fs;

use serde_json::json;

use crate::check::check;
use crate::sandbox::{Sandbox, files_below};

#[test]
fn what_an_exec_agent_cannot_hear_is_refused_with_a_reason() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let gate = sandbox.gate("gate");
    let task = sandbox.submit("deaf", &json!({"shell": gate}));
    sandbox.wait_until("the run", || sandbox.run_record(&task)["status"] == "running");
    let waiting = sandbox.submit("held", &json!({"run": ["true"], "held": true}));
    for kind in ["steer", "follow_up", "interrupt"] {
        let say = |target: &str| {
            sandbox.ask(&format!("{kind}.json"), &json!({"type": kind, "target": target, "text": "faster"}))
        };
        let receipt = say(&task);
        assert_eq!(receipt["refusal"]["kind"], "unsupported", "{receipt}");
        assert!(receipt["refusal"]["message"].as_str().unwrap().contains("exec"), "{receipt}");
        assert_eq!(say(&waiting)["refusal"]["kind"], "conflict", "it does not run");
        assert_eq!(say("nobody")["refusal"]["kind"], "not_found");
    }
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    assert!(sandbox.run_log(&task).iter().all(|line| line["type"] != "command.acknowledged"));
    sandbox.cancel("stop.json", &waiting);
    check(&mut sandbox);
}

#[test]
fn a_note_with_a_runs_secret_reaches_that_run_and_the_secret_stands_in_no_file() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let gate = sandbox.gate("gate");
    let shell = |who: &str| {
        let note = format!(
            r#"{{"type":"note","token":"%s","text":"half way","summary":"done by {who}","session":"session-{who}"}}"#
        );
        let told = sandbox.outside(&format!("token-{who}"));
        format!(
            "printf '{note}' $GITSPOOL_TOKEN > $GITSPOOL_DIR/inbox/note-{who}.json; {gate}; echo $GITSPOOL_TOKEN > {}",
            told.display()
        )
    };
    let tasks = ["ann", "bob"].map(|who| (who, sandbox.submit(who, &json!({"shell": shell(who)}))));
    for (who, task) in &tasks {
        assert_eq!(sandbox.receipt(&format!("note-{who}.json"))["task"], *task.as_str());
        sandbox.wait_until("the note in the run", || sandbox.run_record(task)["session"].is_string());
        let record = sandbox.run_record(task);
        assert_eq!(record["session"], format!("session-{who}"));
        assert_eq!(record["summary"], format!("done by {who}"));
        let log = sandbox.run_log(task);
        assert!(log.iter().any(|line| line["type"] == "note" && line["text"] == "half way"), "{log:?}");
    }
    let wrong = sandbox.ask("wrong.json", &json!({"type": "note", "token": "0".repeat(32), "text": "me"}));
    assert_eq!(wrong["refusal"]["kind"], "not_permitted", "{wrong}");
    sandbox.open_gate("gate");
    for (who, task) in &tasks {
        assert_eq!(sandbox.outcome(task), "succeeded");
        let token = sandbox.wait_told(&format!("token-{who}"));
        let token = token.trim();
        assert_eq!(token.len(), 32);
        let late = sandbox.ask("late.json", &json!({"type": "note", "token": token, "text": "too late"}));
        assert_eq!(late["refusal"]["kind"], "not_permitted", "a secret ends with its run: {late}");
        // That file was refused, so it lies there as it was dropped; nothing else has the secret.
        fs::remove_file(sandbox.spool(late["refused_file"].as_str().unwrap())).unwrap();
        fs::write(sandbox.spool(late["refused_file"].as_str().unwrap()), "").unwrap();
        for file in files_below(&sandbox.path("spool")) {
            // Some are only there for a moment.
            let Ok(bytes) = fs::read(&file) else {
                assert!(!file.exists(), "{} cannot be read", file.display());
                continue;
            };
            let there = bytes.windows(token.len()).any(|window| window == token.as_bytes());
            assert!(!there, "the secret stands in {}", file.display());
        }
    }
    check(&mut sandbox);
}

#[test]
fn a_note_that_is_an_agents_last_word_is_heard_if_it_is_accepted() {
    const RUNS: usize = 24;
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(4);
    sandbox.start();
    let shell = |n: usize| {
        format!(
            r#"printf '{{"type":"note","token":"%s","text":"bye"}}' $GITSPOOL_TOKEN > $GITSPOOL_DIR/inbox/last-{n}.json"#
        )
    };
    let tasks: Vec<String> =
        (0..RUNS).map(|n| sandbox.submit(&format!("run-{n}"), &json!({"shell": shell(n)}))).collect();
    for (n, task) in tasks.iter().enumerate() {
        assert_eq!(sandbox.outcome(task), "succeeded");
        let receipt = sandbox.receipt(&format!("last-{n}.json"));
        let log = sandbox.run_log(task);
        let count = |kind: &str| log.iter().filter(|line| line["type"] == kind).count();
        let heard = [count("command.acknowledged"), count("note"), count("command.ended")];
        let heard_once = if receipt["accepted"] == true { [1, 1, 1] } else { [0, 0, 0] };
        assert_eq!(heard, heard_once, "{receipt}: {log:?}");
        let commands = sandbox.first_run(task).join("commands");
        let there = fs::read_dir(commands).map_or(0, Iterator::count);
        assert_eq!(there, heard[0], "what is not heard does not lie there unread");
    }
    check(&mut sandbox);
}
