//! Tasks that wait for others: they start when those have ended as they want them to, and never when that cannot be any
//! more; however wide and deep, and whoever is killed.

use std::fs;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, read_json};

fn states(sandbox: &Sandbox, task: &str) -> Vec<String> {
    let word = |line: &Value| line["state"]["is"].as_str().unwrap().to_owned();
    sandbox.moves(task).iter().map(word).collect()
}

/// A task that runs until the gate of that name is opened, and then ends with that code.
fn gated(sandbox: &Sandbox, name: &str, code: u8) -> String {
    sandbox.submit(name, &json!({"shell": format!("{}; exit {code}", sandbox.gate(name))}))
}

fn ended(sandbox: &Sandbox, task: &str) -> Value {
    let last = sandbox.moves(task).pop().unwrap();
    assert_eq!(last["state"]["is"], "ended", "{last}");
    last
}

fn verb(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let output = sandbox.gitspool(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_task_starts_when_what_it_needs_has_succeeded_and_its_file_names_it_by_its_id() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (one, two) = (gated(&sandbox, "one", 0), gated(&sandbox, "two", 0));
    let task = sandbox.submit("task", &json!({"shell": "true", "needs": ["one", two[28..]]}));
    sandbox.wait_in("waiting", &task);
    let spec = read_json(&sandbox.spool(&format!("queue/default/waiting/{task}.json"))).unwrap();
    assert_eq!(spec["needs"], json!([one, two]));
    assert_eq!(
        sandbox.moves(&task)[0]["state"],
        json!({"is": "waiting", "rank": 50, "attempts": 0, "needs": true})
    );
    sandbox.open_gate("one");
    assert_eq!(sandbox.outcome(&one), "succeeded");
    assert_eq!(states(&sandbox, &task), ["waiting"], "it needs both");
    sandbox.open_gate("two");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    assert_eq!(states(&sandbox, &task), ["waiting", "ready", "active", "ended"]);
    assert_eq!(sandbox.moves(&task)[1]["by"], "daemon");
    // What has ended already is found by its whole id, and needs no waiting.
    let late = sandbox.submit("late", &json!({"shell": "true", "needs": [one], "after": [two]}));
    assert_eq!((sandbox.outcome(&late).as_str(), states(&sandbox, &late).len()), ("succeeded", 3));
    check(&mut sandbox);
}

#[test]
fn a_need_that_has_not_succeeded_blocks_in_turn_and_lets_those_go_on_that_wait_for_any_end() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let first = gated(&sandbox, "first", 3);
    let needs = |of: &str| json!({"shell": "true", "needs": [of]});
    let second = sandbox.submit("second", &needs(&first));
    let third = sandbox.submit("third", &needs(&second));
    let any = sandbox.submit("any", &json!({"shell": "true", "after": [third, first]}));
    let remedy = sandbox.submit("remedy", &json!({"shell": "true", "after_failed": ["third"]}));
    let needless = sandbox.submit("needless", &json!({"shell": "true", "after_failed": ["any"]}));
    sandbox.open_gate("first");
    for (task, outcome) in [
        (&second, "blocked"),
        (&third, "blocked"),
        (&any, "succeeded"),
        (&remedy, "succeeded"),
        (&needless, "skipped"),
    ] {
        assert_eq!(sandbox.outcome(task), outcome);
    }
    let line = ended(&sandbox, &second);
    assert_eq!((&line["by"], &line["state"]["because"]), (&"daemon".into(), &first.as_str().into()));
    assert_eq!(line["reason"], format!("it needs task {first}, which failed"));
    assert_eq!(ended(&sandbox, &third)["reason"], format!("it needs task {second}, which was blocked"));
    assert_eq!(ended(&sandbox, &needless)["state"]["because"], any);
    // One that comes too late does not wait.
    let late = sandbox.submit("late", &needs(&third));
    assert_eq!((sandbox.outcome(&late).as_str(), states(&sandbox, &late).len()), ("blocked", 2));
    let waited = sandbox.gitspool(&["wait", &late]).output().unwrap();
    let said = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert!(waited.status.code() == Some(1) && said.contains("blocked"), "{said}");
    check(&mut sandbox);
}

#[test]
fn a_task_says_what_becomes_of_it_when_its_need_has_not_succeeded() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let first = gated(&sandbox, "first", 0);
    let with = |then: &str| json!({"shell": "true", "needs": [first], "on_failed_need": then});
    let [block, skip, hold] = ["block", "skip", "hold"].map(|then| sandbox.submit(then, &with(then)));
    let after_skip = sandbox.submit("after-skip", &json!({"shell": "true", "needs": [skip]}));
    sandbox.cancel("cancel.json", &first);
    assert_eq!(sandbox.outcome(&block), "blocked");
    assert_eq!(sandbox.outcome(&skip), "skipped");
    assert_eq!(sandbox.outcome(&after_skip), "blocked", "what was skipped has not succeeded");
    sandbox.wait_in("held", &hold);
    let held = sandbox.moves(&hold).pop().unwrap();
    assert!(held["reason"].as_str().unwrap().contains("was cancelled: release it"), "{held}");
    sandbox.ask("release.json", &json!({"type": "release", "target": hold}));
    assert_eq!(sandbox.outcome(&hold), "succeeded");
    check(&mut sandbox);
}

#[test]
fn a_need_that_is_tried_again_has_not_ended() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let retry = json!({"max": 1, "backoff_seconds": 3600});
    let first = sandbox.submit("first", &json!({"shell": "[ $GITSPOOL_ATTEMPT = 2 ]", "retry": retry}));
    let task = sandbox.submit("task", &json!({"shell": "true", "needs": [first]}));
    sandbox.wait_in("waiting", &first);
    assert_eq!(states(&sandbox, &task), ["waiting"]);
    sandbox.ask("now.json", &json!({"type": "release", "target": first}));
    assert_eq!(sandbox.outcome(&task), "succeeded");
    check(&mut sandbox);
}

#[test]
fn a_task_with_needs_and_a_time_waits_for_both() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let first = gated(&sandbox, "first", 0);
    let never = "9999-01-01T00:00:00Z";
    let far = sandbox.submit("far", &json!({"shell": "true", "needs": [first], "start_at": never}));
    let soon = sandbox.submit("soon", &json!({"shell": "true", "needs": [first], "delay_seconds": 1}));
    let timer = sandbox.submit("timer", &json!({"shell": "true", "delay_seconds": 2}));
    assert_eq!(sandbox.outcome(&timer), "succeeded");
    assert_eq!(states(&sandbox, &soon), ["waiting"], "its time has come, its need has not succeeded");
    sandbox.open_gate("first");
    assert_eq!(sandbox.outcome(&soon), "succeeded");
    sandbox.wait_until("its needs", || states(&sandbox, &far).len() == 2);
    let far_now = sandbox.moves(&far).pop().unwrap();
    assert!(far_now["state"]["needs"].is_null() && far_now["state"]["until"].is_string(), "{far_now}");
    let why: Value = serde_json::from_str(&verb(&sandbox, &["why", "--json", &far])).unwrap();
    assert_eq!(why["reasons"][0]["kind"], "waiting", "{why}");
    check(&mut sandbox);
}

#[test]
fn who_releases_a_task_starts_it_and_a_held_one_is_blocked_only_when_it_is_released() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let first = gated(&sandbox, "first", 1);
    let needs = json!({"shell": "true", "needs": [first]});
    let [now, held, by_hand, gone] =
        ["now", "held", "by-hand", "gone"].map(|name| sandbox.submit(name, &needs));
    let after_gone = sandbox.submit("after-gone", &json!({"shell": "true", "needs": [gone]}));
    let ask = |name: &str, kind: &str, task: &str| {
        let receipt = sandbox.ask(&format!("{name}.json"), &json!({"type": kind, "target": task}));
        assert_eq!(receipt["accepted"], true, "{receipt}");
        receipt["state"].clone()
    };
    assert_eq!(ask("now", "release", &now)["is"], "ready");
    let state = ask("hold", "hold", &held);
    assert_eq!((&state["is"], &state["needs"]), (&"held".into(), &true.into()));
    sandbox.wait_in("waiting", &by_hand);
    let queue = sandbox.spool("queue/default");
    let file = format!("{by_hand}.json");
    fs::rename(queue.join("waiting").join(&file), queue.join("ready").join(&file)).unwrap();
    fs::remove_file(queue.join(format!("waiting/{gone}.json"))).unwrap();
    assert_eq!(sandbox.outcome(&now), "succeeded");
    assert_eq!(sandbox.outcome(&by_hand), "succeeded");
    assert_eq!(sandbox.outcome(&after_gone), "blocked");
    sandbox.open_gate("first");
    assert_eq!(sandbox.outcome(&first), "failed");
    assert_eq!(states(&sandbox, &held), ["waiting", "held"]);
    ask("release-held", "release", &held);
    assert_eq!(sandbox.outcome(&held), "blocked");
    check(&mut sandbox);
}

#[test]
fn what_a_task_may_not_wait_for_is_refused_with_its_place() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let twins =
        ["a", "b"].map(|file| sandbox.submit(file, &json!({"shell": "true", "held": true, "name": "twin"})));
    let itself = "01890a5d-ac96-774b-bcce-b302099a8057";
    let many: Vec<&str> = vec![&twins[0]; 200];
    for (name, edges, kind, path) in [
        ("gone", json!({"needs": [twins[0], "nobody"]}), "not_found", "$.needs[1]"),
        ("twins", json!({"after": ["twin"]}), "ambiguous", "$.after[0]"),
        ("self", json!({"after_failed": [itself], "id": itself}), "conflict", "$.after_failed[0]"),
        ("name", json!({"needs": ["name"]}), "conflict", "$.needs[0]"),
        ("number", json!({"needs": [5]}), "wrong_type", "$.needs[0]"),
        ("text", json!({"needs": "a"}), "wrong_type", "$.needs"),
        ("many", json!({"needs": many, "after": many}), "invalid_value", "$.after"),
        (
            "never",
            json!({"needs": [twins[0]], "after_failed": [&twins[0][20..]]}),
            "conflict",
            "$.after_failed[0]",
        ),
        ("then", json!({"on_failed_need": "hold"}), "conflict", "$.on_failed_need"),
        ("word", json!({"needs": [twins[0]], "on_failed_need": "holt"}), "wrong_type", "$.on_failed_need"),
    ] {
        let mut command = edges.clone();
        command["shell"] = "true".into();
        let refusal = sandbox.ask(&format!("{name}.json"), &command)["refusal"].clone();
        assert_eq!((&refusal["kind"], &refusal["path"]), (&kind.into(), &path.into()), "{refusal}");
        assert!(name != "word" || refusal.to_string().contains("did you mean"), "{refusal}");
    }
    check(&mut sandbox);
}

#[test]
fn a_repeat_of_a_submit_is_one_also_when_the_names_in_it_mean_others_by_now() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let first = sandbox.submit("first", &json!({"shell": "true"}));
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let held =
        json!({"shell": "true", "name": "x", "held": true, "id": id, "needs": [first], "after": ["t"]});
    gated(&sandbox, "t", 0);
    sandbox.submit("task", &held);
    sandbox.open_gate("t");
    sandbox.wait_until("an end", || verb(&sandbox, &["ls"]).lines().count() == 2);
    let again = sandbox.ask("again.json", &held);
    assert_eq!((&again["accepted"], &again["task"]), (&true.into(), &id.into()), "{again}");
    let mut other = held.clone();
    other["needs"] = json!([]);
    assert_eq!(sandbox.ask("other.json", &other)["refusal"]["path"], "$.id");
    check(&mut sandbox);
}

#[test]
fn an_end_that_no_daemon_saw_is_seen_by_the_next_with_all_that_follows_from_it() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (good, bad) = (gated(&sandbox, "good", 0), gated(&sandbox, "bad", 1));
    let goes = sandbox.submit("goes", &json!({"shell": "true", "needs": [good], "after": [bad]}));
    let blocked = sandbox.submit("blocked", &json!({"shell": "true", "needs": [bad]}));
    let last = sandbox.submit("last", &json!({"shell": "true", "after_failed": [blocked]}));
    sandbox.wait_in("active", &bad);
    sandbox.wait_in("active", &good);
    sandbox.kill();
    ["good", "bad"].iter().for_each(|name| sandbox.open_gate(name));
    sandbox.wait_until("their ends", || {
        [&good, &bad].iter().all(|task| sandbox.run_record(task)["status"] == "ended")
    });
    sandbox.start();
    for (task, outcome) in [(&goes, "succeeded"), (&blocked, "blocked"), (&last, "succeeded")] {
        assert_eq!(sandbox.outcome(task), outcome);
    }
    check(&mut sandbox);
}

#[test]
fn what_a_torn_log_tells_of_an_end_alone_is_completed_by_the_next_daemon() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let first = gated(&sandbox, "first", 1);
    let second = sandbox.submit("second", &json!({"shell": "true", "needs": [first]}));
    let third = sandbox.submit("third", &json!({"shell": "true", "needs": [second]}));
    sandbox.open_gate("first");
    assert_eq!(sandbox.outcome(&third), "blocked");
    sandbox.kill();
    // As if the power had gone while the batch was written: the end of the first is there, its followers are not.
    let hosts = crate::sandbox::entries(&sandbox.spool("events"));
    let log = hosts[0].join("now.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let is_first_end =
        |line: &&str| line.contains(&format!("\"task\":\"{first}\"")) && line.contains("\"ended\"");
    let end = text.lines().find(is_first_end).unwrap();
    let kept = text.find(end).unwrap() + end.len() + 1;
    fs::write(&log, &text.as_bytes()[..kept + 20]).unwrap();
    for task in [&second, &third] {
        let place = sandbox.places(task).pop().unwrap();
        let waiting = sandbox.spool(&format!("queue/default/waiting/{task}.json"));
        fs::rename(sandbox.spool("queue").join(place), waiting).unwrap();
    }
    assert_eq!(states(&sandbox, &second), ["waiting"]);
    sandbox.start();
    for task in [&second, &third] {
        assert_eq!(sandbox.outcome(task), "blocked");
    }
    check(&mut sandbox);
}

#[test]
fn a_need_of_which_nobody_knows_any_more_how_it_ended_holds_who_waits_for_it() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (first, other) = (gated(&sandbox, "first", 0), gated(&sandbox, "other", 0));
    let task = sandbox.submit("task", &json!({"shell": "true", "needs": [first, other]}));
    sandbox.open_gate("first");
    assert_eq!(sandbox.outcome(&first), "succeeded");
    sandbox.stop();
    let file = sandbox.spool("queue").join(sandbox.places(&first).pop().unwrap());
    fs::rename(&file, sandbox.outside("file")).unwrap();
    sandbox.start();
    sandbox.wait_in("held", &task);
    let held = sandbox.moves(&task).pop().unwrap();
    assert!(held["reason"].as_str().unwrap().contains(&first), "{held}");
    sandbox.open_gate("other");
    sandbox.ask("release.json", &json!({"type": "release", "target": task}));
    assert_eq!(sandbox.outcome(&task), "succeeded");
    fs::rename(sandbox.outside("file"), &file).unwrap();
    check(&mut sandbox);
}

#[test]
fn a_thousand_that_wait_for_one_and_a_chain_of_a_thousand_are_blocked_at_once() {
    let mut sandbox = Sandbox::new();
    let id = |kind: u32, number: u32| format!("01890a5d-ac96-774b-bcce-{kind:04}{number:08}");
    let first = id(0, 0);
    let drop = |kind: u32, number: u32, mut command: Value| {
        command["id"] = id(kind, number).into();
        command["shell"] = "true".into();
        // Of the same time, files are taken in the order of their names.
        sandbox.drop_by_mv(&format!("{kind}-{number:04}.json"), command.to_string());
    };
    drop(0, 0, json!({"held": true}));
    for number in 0..1_000 {
        drop(1, number, json!({"needs": [first]}));
        let before = if number == 0 { first.clone() } else { id(2, number - 1) };
        drop(2, number, json!({"needs": [before]}));
    }
    sandbox.start();
    sandbox.wait_until("all", || sandbox.log_has(&id(1, 999)) && sandbox.log_has(&id(2, 999)));
    sandbox.cancel("cancel.json", &first);
    assert_eq!(sandbox.outcome(&id(2, 999)), "blocked");
    let blocked: Vec<u64> = sandbox
        .log()
        .iter()
        .filter(|line| line["state"]["outcome"] == "blocked")
        .map(|line| line["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(blocked.len(), 2_000);
    assert_eq!(blocked[1_999] - blocked[0], 1_999, "in one go");
    check(&mut sandbox);
}

#[test]
fn ls_show_and_why_tell_for_whom_a_task_waits_without_a_daemon() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let first = sandbox.submit("first", &json!({"shell": "true", "held": true}));
    let done = sandbox.submit("done", &json!({"shell": "true"}));
    assert_eq!(sandbox.outcome(&done), "succeeded");
    let arguments =
        ["submit", "--confirm", "--needs", &first, "--after", "first", "--after", &done, "--shell", "true"];
    let task = verb(&sandbox, &arguments).trim().to_owned();
    sandbox.stop();
    let why: Value = serde_json::from_str(&verb(&sandbox, &["why", "--json", &task])).unwrap();
    let reasons = json!([
        {"kind": "no_daemon"},
        {"kind": "task", "edge": "needs", "task": first, "state": "held"},
        {"kind": "task", "edge": "after", "task": first, "state": "held"},
    ]);
    assert_eq!(why["reasons"], reasons, "{why}");
    let words = verb(&sandbox, &["why", &task]);
    assert!(words.contains(&format!("it needs the success of task {first}, which is held")), "{words}");
    let show = verb(&sandbox, &["show", &task]);
    assert!(show.contains(&format!("{first} (held, waited for)")), "{show}");
    assert!(show.contains(&format!("{done} (succeeded)")), "{show}");
    let ls = verb(&sandbox, &["ls"]);
    assert!(ls.contains(&format!("(after {}, {}", &first[28..], &first[28..])), "{ls}");
    let said = verb(&sandbox, &["daemon", "--drain"]);
    assert!(said.contains("1 task waits for"), "{said}");
    check(&mut sandbox);
}
