//! What users do by hand in a queue's folders: every `mv`, `rm` and `touch` is a command, and logged.

use std::fs;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, names};

fn pause(sandbox: &Sandbox) {
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
}

fn go_on(sandbox: &Sandbox) {
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
}

/// A job that tells its task's id.
fn tell_id(sandbox: &Sandbox, rank: u8) -> Value {
    json!({"shell": format!("echo $GITSPOOL_TASK >> {}", sandbox.outside("order").display()), "rank": rank})
}

fn order(sandbox: &Sandbox, count: usize) -> Vec<String> {
    sandbox.wait(&format!("{count} jobs"), || {
        let told: Vec<String> = sandbox.told("order").lines().map(ToOwned::to_owned).collect();
        (told.len() == count).then_some(told)
    })
}

/// What `ls ready/` prints, without rank and extension.
fn listed(sandbox: &Sandbox) -> Vec<String> {
    let said = sandbox.sh("ls \"$1\"", &sandbox.spool("queue/default/ready"));
    said.lines().map(|name| name[3..].trim_end_matches(".json").to_owned()).collect()
}

#[test]
fn ls_of_ready_is_the_order_of_dispatch() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(1);
    pause(&sandbox);
    sandbox.start();
    for (n, rank) in [50, 10, 50, 99, 0, 9, 10].into_iter().enumerate() {
        sandbox.submit(&format!("n{n}"), &tell_id(&sandbox, rank));
    }
    let listed = listed(&sandbox);
    go_on(&sandbox);
    assert_eq!(order(&sandbox, 7), listed);
    check(&mut sandbox);
}

#[test]
fn mv_in_ready_reranks() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(1);
    pause(&sandbox);
    sandbox.start();
    let tasks: Vec<String> =
        (0..4).map(|n| sandbox.submit(&format!("n{n}"), &tell_id(&sandbox, 50))).collect();
    let ready = sandbox.spool("queue/default/ready");
    let mv = |task: &str, to: &str| {
        fs::rename(ready.join(format!("50-{task}.json")), ready.join(format!("{to}-{task}.json"))).unwrap()
    };
    mv(&tasks[3], "10");
    mv(&tasks[0], "99");
    // As a person would write it.
    mv(&tasks[2], "5");
    for (task, rank) in [(3, 10), (0, 99), (2, 5)] {
        assert_eq!(sandbox.wait_by_hand(&tasks[task], "ready")["state"]["rank"], rank);
    }
    let expected: Vec<String> = [2, 3, 1, 0].iter().map(|n| tasks[*n].clone()).collect();
    sandbox.wait_until("the new order", || listed(&sandbox) == expected);
    go_on(&sandbox);
    assert_eq!(order(&sandbox, 4), expected);
    check(&mut sandbox);
}

#[test]
fn mv_to_held_holds_and_mv_back_releases_whatever_the_name() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(1);
    pause(&sandbox);
    sandbox.start();
    let (kept, plain) =
        (sandbox.submit("kept", &tell_id(&sandbox, 20)), sandbox.submit("plain", &tell_id(&sandbox, 20)));
    let (ready, held) = (sandbox.spool("queue/default/ready"), sandbox.spool("queue/default/held"));
    // `mv ready/20-X.json held/` keeps the name; the other takes the name that files in held/ have.
    sandbox.sh(&format!("mv \"$1\"/20-{kept}.json ../spool/queue/default/held/"), &ready);
    fs::rename(ready.join(format!("20-{plain}.json")), held.join(format!("{plain}.json"))).unwrap();
    for task in [&kept, &plain] {
        sandbox.wait_by_hand(task, "held");
        sandbox.wait_in("held", task);
    }
    go_on(&sandbox);
    sandbox.carry_out("other", &json!({"run": ["true"]}));
    assert_eq!(sandbox.told("order"), "", "what is held does not start");
    pause(&sandbox);
    sandbox.sh(&format!("mv \"$1\"/{kept}.json ../spool/queue/default/ready/"), &held);
    fs::rename(held.join(format!("{plain}.json")), ready.join(format!("30-{plain}.json"))).unwrap();
    assert_eq!(sandbox.wait_by_hand(&kept, "ready")["state"]["rank"], 20, "its rank is still known");
    assert_eq!(sandbox.wait_by_hand(&plain, "ready")["state"]["rank"], 30);
    go_on(&sandbox);
    assert_eq!(order(&sandbox, 2), [kept, plain]);
    check(&mut sandbox);
}

#[test]
fn rm_cancels() {
    let mut sandbox = Sandbox::new();
    pause(&sandbox);
    sandbox.start();
    let ready = sandbox.submit("ready", &tell_id(&sandbox, 50));
    let mut command = tell_id(&sandbox, 50);
    command["held"] = true.into();
    let held = sandbox.submit("held", &command);
    fs::remove_file(sandbox.spool(&format!("queue/default/ready/50-{ready}.json"))).unwrap();
    fs::remove_file(sandbox.spool(&format!("queue/default/held/{held}.json"))).unwrap();
    for task in [&ready, &held] {
        let line = sandbox.wait_by_hand(task, "ended");
        assert_eq!(line["state"]["outcome"], "cancelled", "{line}");
        sandbox.wait_in("cancelled", task);
    }
    go_on(&sandbox);
    let (_, outcome) = sandbox.carry_out("other", &json!({"run": ["true"]}));
    assert_eq!((outcome.as_str(), sandbox.told("order").as_str()), ("succeeded", ""), "they never started");
    check(&mut sandbox);
}

#[test]
fn nothing_starts_in_a_queue_while_paused_exists() {
    let mut sandbox = Sandbox::new();
    fs::create_dir(sandbox.spool("queue/other")).unwrap();
    pause(&sandbox);
    sandbox.start();
    let waits = sandbox.submit("waits", &tell_id(&sandbox, 50));
    for n in 0..5 {
        let (_, outcome) =
            sandbox.carry_out(&format!("goes-{n}"), &json!({"run": ["true"], "queue": "other"}));
        assert_eq!(outcome, "succeeded");
    }
    assert_eq!(sandbox.moves(&waits).len(), 1, "it was submitted, and nothing more");
    go_on(&sandbox);
    assert_eq!(order(&sandbox, 1), [waits]);
    check(&mut sandbox);
}

#[test]
fn new_slots_count_at_once_and_a_torn_queue_json_changes_nothing() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(1);
    sandbox.start();
    let gate = sandbox.gate("gate");
    for n in 0..4 {
        sandbox.submit(&format!("n{n}"), &json!({"shell": gate}));
    }
    let host = fs::read_dir(sandbox.spool("queue/default/active")).unwrap().next().unwrap().unwrap().path();
    let active = || names(&host).len();
    sandbox.wait_until("one run", || active() == 1);
    fs::write(sandbox.spool("queue/default/queue.json"), "{\"slots\": ").unwrap();
    sandbox.wait_until("a word about it", || sandbox.daemon_log().contains("queue.json"));
    assert_eq!(active(), 1);
    sandbox.set_slots(3);
    sandbox.wait_until("three runs", || active() == 3);
    sandbox.open_gate("gate");
    sandbox.wait_until("all four ended", || {
        sandbox.log().iter().filter(|line| line["by"] == "run").count() == 4
    });
    check(&mut sandbox);
}
