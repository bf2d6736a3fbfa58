//! Readers: what runs, what changed and was not read, and what was; and commands to runs with what became of them.

use std::fs;

use serde_json::{Value, json};

use crate::check::{check, date_of};
use crate::sandbox::{Sandbox, read_json};

/// What wants the attention of somebody.
fn attention(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let arguments = [&["attention", "--json"], arguments].concat();
    let output = sandbox.gitspool(&arguments).output().unwrap();
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Its tasks, each with what it wants.
fn wants(sandbox: &Sandbox, arguments: &[&str]) -> Vec<(String, String)> {
    let look = attention(sandbox, arguments);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    look["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| (text(&task["task"]), text(&task["attention"])))
        .collect()
}

fn mark(sandbox: &Sandbox, tasks: &[&str], version: u64) -> Value {
    let mark = json!({"type": "mark_read", "reader": "me", "tasks": tasks, "version": version});
    sandbox.ask("mark.json", &mark)
}

fn version(sandbox: &Sandbox) -> u64 {
    attention(sandbox, &[])["max_version"].as_u64().unwrap()
}

fn unread(task: &str) -> (String, String) {
    (task.to_owned(), "unread".to_owned())
}

const ME: [&str; 2] = ["--reader", "me"];

#[test]
fn what_runs_comes_first_then_what_is_unread_and_what_was_seen_is_not_told_again() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (done, _) = sandbox.carry_out("done", &json!({"run": ["true"]}));
    let held = sandbox.submit("held", &json!({"run": ["true"], "held": true}));
    let active = sandbox.submit("active", &json!({"shell": sandbox.gate("gate")}));
    sandbox.wait_until("a run", || sandbox.run_record(&active)["status"] == "running");
    let (failed, _) = sandbox.carry_out("failed", &json!({"run": ["false"]}));
    let runs = (active.clone(), "active".to_owned());
    let all = [runs.clone(), unread(&failed), unread(&held), unread(&done)];
    assert_eq!(wants(&sandbox, &ME), all);
    assert_eq!(wants(&sandbox, &[]), all, "who has no name has read nothing");
    let look = attention(&sandbox, &[&ME[..], &["--limit", "1"]].concat());
    assert_eq!(
        (&look["active"], &look["unread"], look["tasks"].as_array().unwrap().len()),
        (&json!(1), &json!(3), 1)
    );
    assert_eq!(look["by_state"], json!({"active": 1, "held": 1, "succeeded": 1, "failed": 1}));
    assert_eq!(wants(&sandbox, &[&ME[..], &["--queue", "other"]].concat()), []);
    // What was seen is read; what is marked is not what is active.
    let seen = version(&sandbox);
    let marked = mark(&sandbox, &[&done, "held", &active], seen);
    assert_eq!((&marked["accepted"], &marked["task"]), (&json!(true), &Value::Null), "{marked}");
    assert_eq!(wants(&sandbox, &ME), [runs.clone(), unread(&failed)]);
    // A change that came after what was seen stays unread, however late the mark of that comes.
    sandbox.ask("rank.json", &json!({"type": "rerank", "target": held, "rank": 7}));
    assert_eq!(wants(&sandbox, &ME), [runs, unread(&held), unread(&failed)]);
    mark(&sandbox, &[&held], seen);
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&active), "succeeded");
    assert_eq!(wants(&sandbox, &ME), [unread(&active), unread(&held), unread(&failed)]);
    // All up to a version; an older mark takes nothing back.
    let end = version(&sandbox).to_string();
    sandbox.run(sandbox.gitspool(&["mark-read", "--all", "--reader", "me", "--up-to", &end]));
    sandbox.run(sandbox.gitspool(&["mark-read", "failed", "--reader", "me", "--up-to", "1"]));
    assert_eq!((wants(&sandbox, &ME), wants(&sandbox, &["--reader", "you"]).len()), (vec![], 4));
    check(&mut sandbox);
}

#[test]
fn a_mark_survives_kills_and_restarts_and_a_removed_file_means_that_nothing_is_read() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (done, _) = sandbox.carry_out("done", &json!({"run": ["true"]}));
    let (other, _) = sandbox.carry_out("other", &json!({"run": ["true"]}));
    let file = sandbox.spool("readers/me.json");
    mark(&sandbox, &[&done], version(&sandbox));
    sandbox.kill();
    // As if the line had just been written, and nothing done about it.
    fs::remove_file(&file).unwrap();
    sandbox.start();
    sandbox.wait_until("the mark to be drawn again", || file.exists());
    assert_eq!(wants(&sandbox, &ME), [unread(&other)]);
    sandbox.stop();
    let drawn = read_json(&file).unwrap();
    sandbox.start();
    mark(&sandbox, &[&done], 1);
    assert_eq!(read_json(&file).unwrap()["read"], drawn["read"]);
    fs::remove_file(&file).unwrap();
    assert_eq!(wants(&sandbox, &ME), [unread(&other), unread(&done)]);
    mark(&sandbox, &[&other], version(&sandbox));
    assert_eq!(wants(&sandbox, &ME), [unread(&done)]);
    check(&mut sandbox);
}

#[test]
fn a_mark_that_makes_no_sense_is_refused_with_its_place() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (done, _) = sandbox.carry_out("done", &json!({"run": ["true"], "tenant": "ours"}));
    for (mut command, kind, path) in [
        (json!({"tasks": [done], "version": 1_000}), "invalid_value", "$.version"),
        (json!({"tasks": [done, "nobody"], "version": 1}), "not_found", "$.tasks[1]"),
        (json!({"tasks": [done], "version": 1, "tenant": "theirs"}), "not_found", "$.tasks[0]"),
        (json!({"all": true, "version": 1, "tenant": "ours"}), "conflict", "$.all"),
        (json!({"all": true, "tasks": [done], "version": 1}), "conflict", "$.all"),
        (json!({"version": 1}), "missing_key", "$.tasks"),
        (json!({"tasks": [], "version": 1}), "invalid_value", "$.tasks"),
        (json!({"tasks": [done]}), "missing_key", "$"),
        (json!({"tasks": [done], "version": 1, "reader": "a/b"}), "wrong_type", "$.reader"),
    ] {
        command["type"] = "mark_read".into();
        if command["reader"].is_null() {
            command["reader"] = "me".into();
        }
        let refusal = sandbox.ask("mark.json", &command)["refusal"].clone();
        assert_eq!(
            (&refusal["kind"], &refusal["path"]),
            (&json!(kind), &json!(path)),
            "{command}: {refusal}"
        );
    }
    assert!(!sandbox.spool("readers").exists());
    // In a scope, all is all of that.
    let (free, _) = sandbox.carry_out("free", &json!({"run": ["true"]}));
    let end = version(&sandbox).to_string();
    let all = ["mark-read", "--all", "--reader", "me", "--up-to", &end, "--tenant", "ours"];
    sandbox.run(sandbox.gitspool(&all));
    assert_eq!(wants(&sandbox, &ME), [unread(&free)]);
    check(&mut sandbox);
}

#[test]
fn a_reader_who_marks_one_by_one_has_a_short_file_and_what_is_unread_stays_so() {
    const TASKS: usize = 1_300;
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(0);
    sandbox.start();
    let names: Vec<String> = (0..TASKS).map(|n| format!("t{n}")).collect();
    for name in &names {
        sandbox.drop_by_mv(&format!("{name}.json"), json!({"run": ["true"]}).to_string());
    }
    names.iter().for_each(|name| assert_eq!(sandbox.receipt(&format!("{name}.json"))["accepted"], true));
    let look = |arguments: &[&str]| attention(&sandbox, arguments)["unread"].clone();
    assert_eq!(look(&ME), json!(TASKS));
    let end = version(&sandbox);
    let marked: Vec<&str> = names.iter().skip(100).map(String::as_str).collect();
    for some in marked.chunks(400) {
        assert_eq!(mark(&sandbox, some, end)["accepted"], true);
    }
    assert_eq!(look(&ME), json!(100));
    let file = read_json(&sandbox.spool("readers/me.json")).unwrap();
    assert_eq!(
        (file["read"].as_object().map_or(0, serde_json::Map::len), file["unread"].as_object().unwrap().len()),
        (0, 100)
    );
    // Below the floor one by one as well.
    mark(&sandbox, &["t7"], end);
    sandbox.ask("rank.json", &json!({"type": "rerank", "target": "t200", "rank": 7}));
    assert_eq!(look(&ME), json!(100));
    let wanting = attention(&sandbox, &ME);
    assert_eq!((&wanting["tasks"][0]["name"], &wanting["tasks"][1]["name"]), (&json!("t200"), &json!("t99")));
    check(&mut sandbox);
}

#[test]
fn a_supervisor_that_ends_before_it_has_begun_its_run_is_told_as_a_launch() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = sandbox.submit("late", &json!({"run": ["true"], "held": true}));
    let run = sandbox.spool(&format!("runs/{}/{task}.1", date_of(&task)));
    // Whoever wants the lock would have to make a folder for it.
    fs::create_dir_all(&run).unwrap();
    std::os::unix::fs::symlink(sandbox.outside("nowhere/lock"), run.join("lock")).unwrap();
    sandbox.ask("release.json", &json!({"type": "release", "target": task}));
    let show = || -> Value {
        serde_json::from_str(&sandbox.run(sandbox.gitspool(&["show", &task, "--json"]))).unwrap()
    };
    sandbox.wait_until("two launches in vain", || {
        show()["runs"][0]["launches"].as_array().is_some_and(|launches| launches.len() >= 2)
    });
    let told = &show()["runs"][0];
    assert_eq!((&told["status"], &told["launches"][1]["try"]), (&json!("not begun"), &json!(2)));
    assert!(told["launches"][0]["error"].as_str().unwrap().contains("lock"), "{told}");
    assert!(sandbox.run(sandbox.gitspool(&["show", &task])).contains("did not begin it"));
    fs::remove_file(run.join("lock")).unwrap();
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let launches = show()["runs"][0]["launches"].as_array().unwrap().clone();
    let begun: Vec<&Value> = launches.iter().filter(|launch| launch["begun"].is_null()).collect();
    assert_eq!((&begun[0]["of"], &begun[1]["of"], begun.len()), (&json!("supervisor"), &json!("agent"), 2));
    assert_eq!(begun[0]["error"], Value::Null);
    check(&mut sandbox);
}

#[test]
fn a_command_to_a_run_is_pending_then_acknowledged_then_ended_and_ends_with_its_run() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let commands = |run: &str, arguments: &[&str]| -> Vec<Value> {
        let said = sandbox.run(sandbox.gitspool(&[&["commands", run, "--json"], arguments].concat()));
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let line = format!(
        "trap '' TERM; gitspool note --confirm one; echo x > {}; sleep 600",
        sandbox.outside("noted").display()
    );
    let task = sandbox.submit("agent", &json!({"shell": line, "grace_seconds": 600}));
    sandbox.wait_told("noted");
    assert_eq!(sandbox.cancel("cancel.json", &task)["accepted"], true);
    sandbox.wait_until("the cancel to be read", || {
        commands(&task, &["--since", "1"])[0]["state"] == "acknowledged"
    });
    let [note, cancel] = &commands(&task, &[])[..] else { panic!() };
    assert_eq!((&note["seq"], &note["type"], &note["state"]), (&json!(1), &json!("note"), &json!("ended")));
    assert_eq!((&note["result"], &note["text"]), (&json!("done"), &json!("one")));
    assert_eq!(
        (&cancel["seq"], &cancel["type"], &cancel["result"]),
        (&json!(2), &json!("cancel"), &Value::Null)
    );
    // Its supervisor is killed, with a command that nobody has read: that ends with the run, in the same write.
    let run = sandbox.first_run(&task);
    let pid = sandbox.run_record(&task)["pid"].as_u64().unwrap();
    crate::sandbox::signal(u32::try_from(pid).unwrap(), rustix::process::Signal::STOP);
    let asked = r#"{"type": "note", "text": "late", "claim": "01890a5d-ac96-774b-bcce-b302099a8057", "at": "2026-11-20T15:04:05.123456Z"}"#;
    fs::write(run.join("commands/0003-note.json"), asked).unwrap();
    assert_eq!(commands(&task, &["--since", "2"])[0]["state"], "pending");
    crate::sandbox::signal(u32::try_from(pid).unwrap(), rustix::process::Signal::KILL);
    assert_eq!(sandbox.outcome(&task), "lost");
    let log = sandbox.run_log(&task);
    let ends: Vec<&Value> = log.iter().rev().take(3).map(|line| &line["type"]).collect();
    assert_eq!(ends, ["run.ended", "command.ended", "command.ended"]);
    for command in commands(&task, &["--since", "1"]) {
        assert_eq!(
            (&command["state"], &command["result"]),
            (&json!("ended"), &json!("the run ended")),
            "{command}"
        );
    }
    // What was started for it is told.
    let shown: Value =
        serde_json::from_str(&sandbox.run(sandbox.gitspool(&["show", &task, "--json"]))).unwrap();
    let launches = shown["runs"][0]["launches"].as_array().unwrap();
    assert_eq!((&launches[0]["of"], &launches[0]["pid"]), (&json!("supervisor"), &json!(pid)));
    assert_eq!((&launches[1]["of"], &launches[1]["argv"][0]), (&json!("agent"), &json!("/bin/sh")));
    fs::remove_file(run.join("commands/0003-note.json")).unwrap();
    check(&mut sandbox);
}
