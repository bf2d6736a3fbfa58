//! Keys of commands: whoever is not sure whether a command came through drops it again, and nothing is done twice.

use std::fs;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, files_below};

/// A job that tells that it ran.
fn job(sandbox: &Sandbox, key: &str) -> Value {
    json!({"shell": format!("echo x >> {}", sandbox.outside("ran").display()), "key": key})
}

#[test]
fn a_repeat_starts_nothing_and_is_answered_with_the_first_task_even_when_that_has_ended() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let job = job(&sandbox, "k");
    let task = sandbox.submit("first", &job);
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let first = sandbox.receipt("first.json");
    for (name, stop) in [("again", false), ("after", true)] {
        if stop {
            sandbox.stop();
            sandbox.start();
        }
        let repeat = sandbox.ask(&format!("{name}.json"), &job);
        assert_eq!((&repeat["accepted"], &repeat["task"]), (&json!(true), &json!(task)), "{repeat}");
        assert_eq!(repeat["repeats"], first["seq"]);
    }
    // Nor does it matter whether the file of the ended task is there.
    let (done, aside) = (sandbox.spool("queue/default/done"), sandbox.path("done"));
    fs::rename(&done, &aside).unwrap();
    assert_eq!(sandbox.ask("deleted.json", &job)["task"], json!(task));
    fs::remove_dir_all(&done).or_else(|_| if done.exists() { Err(()) } else { Ok(()) }).unwrap();
    fs::rename(&aside, &done).unwrap();
    assert_eq!(sandbox.told("ran"), "x\n");
    check(&mut sandbox);
}

#[test]
fn another_request_under_a_key_is_a_conflict_and_what_was_refused_has_not_used_it() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let job = job(&sandbox, "k");
    let refused = sandbox.ask("refused.json", &json!({"run": ["true"], "key": "k", "queue": "nowhere"}));
    assert_eq!(refused["refusal"]["kind"], "not_found");
    sandbox.submit("first", &job);
    for other in [
        json!({"run": ["true"], "key": "k"}),
        json!({"type": "cancel", "target": "first", "key": "k"}),
        json!({"shell": job["shell"], "key": "k", "rank": 10}),
    ] {
        let answer = sandbox.ask("other.json", &other);
        assert_eq!(
            (&answer["refusal"]["kind"], &answer["refusal"]["path"]),
            (&json!("conflict"), &json!("$.key"))
        );
    }
    // In another scope it is another key.
    let mut scoped = job.clone();
    scoped["tenant"] = "acme".into();
    assert_eq!(sandbox.ask("scoped.json", &scoped)["repeats"], Value::Null);
    check(&mut sandbox);
}

#[test]
fn many_repeats_at_once_start_one_task() {
    let mut sandbox = Sandbox::new();
    let job = job(&sandbox, "k").to_string();
    for number in 0..50 {
        sandbox.drop_by_mv(&format!("n{number}.json"), &job);
    }
    sandbox.start();
    let receipts: Vec<Value> = (0..50).map(|number| sandbox.receipt(&format!("n{number}.json"))).collect();
    let firsts = receipts.iter().filter(|receipt| receipt["repeats"].is_null()).count();
    assert!(
        firsts == 1 && receipts.iter().all(|receipt| receipt["task"] == receipts[0]["task"]),
        "{receipts:?}"
    );
    sandbox.stop();
    sandbox.drain();
    assert_eq!(sandbox.told("ran"), "x\n");
    check(&mut sandbox);
}

#[test]
fn a_repeat_is_known_though_the_daemon_was_killed_before_the_file_of_the_key_was_drawn() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let job = job(&sandbox, "k");
    let task = sandbox.submit("first", &job);
    assert_eq!(sandbox.outcome(&task), "succeeded");
    sandbox.kill();
    // As a crash between line and file leaves it.
    let _ = fs::remove_file(sandbox.spool(".local/checkpoint.json"));
    for key in files_below(&sandbox.spool("keys")) {
        fs::remove_file(key).unwrap();
    }
    sandbox.start();
    assert_eq!(sandbox.ask("again.json", &job)["task"], json!(task));
    // What cannot be read is not taken for unused.
    fs::write(&files_below(&sandbox.spool("keys"))[0], "{").unwrap();
    assert_eq!(sandbox.ask("torn.json", &job)["refusal"]["kind"], "unreadable");
    assert_eq!(sandbox.told("ran"), "x\n");
    sandbox.stop();
    sandbox.run(sandbox.gitspool(&["fsck", "--repair"]));
    check(&mut sandbox);
}
