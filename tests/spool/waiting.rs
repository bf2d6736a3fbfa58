//! Tasks that wait for a time: they start when it has come, also when no daemon ran then, and by hand they are files like
//! all others.

use std::fs;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::Sandbox;

const NEVER: &str = "9999-01-01T00:00:00Z";

fn never(sandbox: &Sandbox, name: &str) -> String {
    sandbox.submit(name, &json!({"shell": "true", "start_at": NEVER, "rank": 20}))
}

fn states(sandbox: &Sandbox, task: &str) -> Vec<String> {
    let word = |line: &Value| line["state"]["is"].as_str().unwrap().to_owned();
    sandbox.moves(task).iter().map(word).collect()
}

#[test]
fn a_task_starts_when_its_time_has_come_and_not_before() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let delayed = sandbox.submit("delayed", &json!({"shell": "true", "delay_seconds": 1}));
    let past = json!({"shell": "true", "start_at": "2020-01-01T01:00:00+01:00"});
    let past = sandbox.submit("past", &past);
    for task in [&delayed, &past] {
        assert_eq!(sandbox.outcome(task), "succeeded");
    }
    assert_eq!(states(&sandbox, &past), ["ready", "active", "ended"]);
    assert_eq!(states(&sandbox, &delayed), ["waiting", "ready", "active", "ended"]);
    let moves = sandbox.moves(&delayed);
    assert_eq!(moves[1]["by"], "daemon");
    // Times in UTC sort like texts.
    let (until, ready) = (moves[0]["state"]["until"].as_str().unwrap(), moves[1]["at"].as_str().unwrap());
    assert!(moves[0]["at"].as_str().unwrap() < until && until <= ready, "{moves:?}");
    check(&mut sandbox);
}

#[test]
fn a_time_that_comes_while_no_daemon_runs_is_seen_by_the_next() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = sandbox.submit("soon", &json!({"shell": "true", "delay_seconds": 1}));
    sandbox.kill();
    let until = sandbox.moves(&task)[0]["state"]["until"].as_str().unwrap().to_owned();
    let now = || sandbox.sh("date -u +%Y-%m-%dT%H:%M:%S.999999Z", &sandbox.spool(""));
    sandbox.wait_until("its time", || now().trim() > until.as_str());
    assert_eq!(states(&sandbox, &task), ["waiting"]);
    sandbox.start();
    assert_eq!(sandbox.outcome(&task), "succeeded");
    check(&mut sandbox);
}

#[test]
fn a_waiting_task_is_held_released_ranked_and_cancelled_by_commands() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = never(&sandbox, "task");
    sandbox.wait_in("waiting", &task);
    let ask = |name: &str, command: Value| {
        let receipt = sandbox.ask(&format!("{name}.json"), &command);
        assert_eq!(receipt["accepted"], true, "{receipt}");
        receipt["state"].clone()
    };
    let until = sandbox.moves(&task)[0]["state"]["until"].clone();
    let ranked = ask("rerank", json!({"type": "rerank", "target": task, "rank": 7}));
    assert_eq!(ranked, json!({"is": "waiting", "rank": 7, "attempts": 0, "until": until}));
    let held = ask("hold", json!({"type": "hold", "target": task}));
    assert_eq!(held, json!({"is": "held", "rank": 7, "attempts": 0, "until": until}));
    sandbox.wait_in("held", &task);
    let waits_on = ask("release", json!({"type": "release", "target": task}));
    assert_eq!(waits_on["is"], "waiting");
    sandbox.wait_in("waiting", &task);
    assert_eq!(ask("now", json!({"type": "release", "target": task}))["is"], "ready");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let gone = never(&sandbox, "gone");
    assert_eq!(sandbox.cancel("cancel.json", &gone)["state"]["outcome"], "cancelled");
    check(&mut sandbox);
}

#[test]
fn mv_and_rm_of_a_waiting_task_mean_what_they_say_whether_a_daemon_runs_or_not() {
    for runs in [true, false] {
        let mut sandbox = Sandbox::new();
        fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
        sandbox.start();
        let tasks = ["held", "now", "ranked", "gone"].map(|name| never(&sandbox, name));
        let ready = sandbox.submit("ready", &json!({"shell": "true"}));
        let [held, now, ranked, gone] = &tasks;
        let late = json!({"shell": "true", "held": true, "delay_seconds": 100_000});
        let late = sandbox.submit("late", &late);
        tasks.iter().for_each(|task| sandbox.wait_in("waiting", task));
        if !runs {
            sandbox.stop();
        }
        let queue = sandbox.spool("queue/default");
        let mv = |from: &str, to: &str| fs::rename(queue.join(from), queue.join(to)).unwrap();
        mv(&format!("waiting/{held}.json"), &format!("held/{held}.json"));
        mv(&format!("waiting/{now}.json"), &format!("ready/{now}.json"));
        mv(&format!("waiting/{ranked}.json"), &format!("ready/3-{ranked}.json"));
        mv(&format!("ready/50-{ready}.json"), &format!("waiting/{ready}.json"));
        mv(&format!("held/{late}.json"), &format!("ready/{late}.json"));
        fs::remove_file(queue.join(format!("waiting/{gone}.json"))).unwrap();
        if !runs {
            sandbox.start();
        }
        sandbox.wait_by_hand(held, "held");
        assert_eq!(sandbox.wait_by_hand(now, "ready")["state"]["rank"], 20, "its rank is still known");
        assert_eq!(sandbox.wait_by_hand(ranked, "ready")["state"]["rank"], 3);
        assert_eq!(sandbox.wait_by_hand(gone, "ended")["state"]["outcome"], "cancelled");
        sandbox.wait_by_hand(&late, "ready");
        for (folder, task) in [("held", held), ("ready", now), ("ready", ranked), ("ready", &late)] {
            sandbox.wait_in(folder, task);
        }
        // Put back: there is nothing that it would wait for.
        sandbox.wait_in("ready", &ready);
        sandbox.wait_until("a word about it", || sandbox.daemon_log().contains("put back"));
        assert_eq!(states(&sandbox, &ready), ["ready"]);
        check(&mut sandbox);
    }
}

#[test]
fn the_folder_of_waiting_tasks_that_is_gone_is_drawn_again() {
    for runs in [true, false] {
        let mut sandbox = Sandbox::new();
        sandbox.start();
        let task = never(&sandbox, "task");
        sandbox.wait_in("waiting", &task);
        if !runs {
            sandbox.stop();
        }
        fs::remove_dir_all(sandbox.spool("queue/default/waiting")).unwrap();
        if !runs {
            sandbox.start();
        }
        sandbox.wait_in("waiting", &task);
        assert_eq!(states(&sandbox, &task), ["waiting"]);
        check(&mut sandbox);
    }
}

#[test]
fn a_daemon_that_drains_waits_for_no_time_and_says_what_it_leaves() {
    let mut sandbox = Sandbox::new();
    sandbox.drop_by_mv("later.json", json!({"shell": "true", "start_at": NEVER}).to_string());
    sandbox.drop_by_mv("now.json", json!({"shell": "true"}).to_string());
    let output = sandbox.gitspool(&["daemon", "--drain"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("1 task waits for"), "{said}");
    let states: Vec<Value> = sandbox.log().iter().map(|line| line["state"]["is"].clone()).collect();
    assert!(states.contains(&"waiting".into()) && states.contains(&"ended".into()), "{states:?}");
    check(&mut sandbox);
}

#[test]
fn a_time_that_is_none_and_two_times_are_refused() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let both = json!({"shell": "true", "start_at": NEVER, "delay_seconds": 1});
    let wrong = json!({"shell": "true", "start_at": "tomorrow"});
    let negative = json!({"shell": "true", "delay_seconds": -1});
    for (name, command, kind, path) in [
        ("both", both, "conflict", "$.delay_seconds"),
        ("wrong", wrong, "wrong_type", "$.start_at"),
        ("negative", negative, "wrong_type", "$.delay_seconds"),
    ] {
        let refusal = sandbox.ask(&format!("{name}.json"), &command)["refusal"].clone();
        assert_eq!((&refusal["kind"], &refusal["path"]), (&kind.into(), &path.into()), "{refusal}");
    }
    check(&mut sandbox);
}
