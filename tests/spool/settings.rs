//! Settings of queues: changed by commands that lose nothing of each other, and the defaults that tasks take from them.

use std::fs;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, read_json};

fn settings(sandbox: &Sandbox, queue: &str) -> Value {
    read_json(&sandbox.spool(&format!("queue/{queue}/queue.json"))).unwrap_or_default()
}

/// The spec of a task, as its first line in the log has it.
fn spec(sandbox: &Sandbox, task: &str) -> Value {
    sandbox.moves(task)[0]["spec"].clone()
}

#[test]
fn a_task_takes_what_it_does_not_say_from_its_queue_and_keeps_it() {
    let mut sandbox = Sandbox::new();
    let defaults = json!({
        "timeout_seconds": 60, "rank": 20, "env": {"WHO": "queue", "WHERE": "queue"}, "retry": {"max": 2},
        "workspace": {"cleanup": "all"}, "resources": {"gpu": 1}, "lane": "build", "grace_seconds": 3,
    });
    sandbox.set_queue(&json!({"lanes": {"build": {"slots": 1}}, "defaults": defaults}));
    sandbox.set_host(&json!({"resources": {"gpu": 1}}));
    sandbox.start();
    let say = "echo $WHO $WHERE $GITSPOOL_RESOURCE_GPU";
    let (task, outcome) = sandbox.carry_out("plain", &json!({"shell": say, "env": {"WHO": "task"}}));
    assert_eq!((outcome.as_str(), sandbox.output(&task).as_str()), ("succeeded", "task queue 0\n"));
    let fixed = spec(&sandbox, &task);
    let file = read_json(&sandbox.spool("queue").join(&sandbox.places(&task)[0])).unwrap();
    assert_eq!(fixed, file, "the file shows what it took");
    for (key, value) in
        [("timeout_seconds", json!(60)), ("grace_seconds", json!(3)), ("lane", json!("build"))]
    {
        assert_eq!(fixed[key], value, "{fixed}");
    }
    assert_eq!(
        fixed["workspace"],
        json!({"kind": "none", "cleanup": "never"}),
        "only a worktree is cleaned up"
    );
    assert_eq!(sandbox.moves(&task)[0]["state"]["rank"], 20);
    sandbox.drop_by_cp("script.sh", b"echo $WHO");
    let script = sandbox.receipt("script.sh")["task"].as_str().unwrap().to_owned();
    assert_eq!(
        (sandbox.outcome(&script).as_str(), sandbox.output(&script).as_str()),
        ("succeeded", "queue\n")
    );
    let own = json!({"shell": "true", "rank": 50, "timeout_seconds": 5, "resources": {"gpu": 0}, "grace_seconds": 10});
    let own = sandbox.submit("own", &own);
    assert_eq!(sandbox.moves(&own)[0]["state"]["rank"], 50);
    let said = spec(&sandbox, &own);
    assert_eq!((&said["timeout_seconds"], &said["grace_seconds"]), (&json!(5), &json!(10)), "{said}");
    assert_eq!(sandbox.outcome(&own), "succeeded");
    // What is wrong by a default is told to be.
    sandbox.set_queue(&json!({"defaults": {"start_at": "2020-01-01T00:00:00Z"}}));
    sandbox.wait_until("a word about it", || sandbox.daemon_log().contains("$.defaults.start_at"));
    check(&mut sandbox);
}

#[test]
fn a_command_changes_what_it_names_and_makes_a_queue_that_is_not_there() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let set = |name: &str, changes: Value| {
        let mut command = json!({"type": "set", "queue": "nightly"});
        command.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        sandbox.ask(&format!("{name}.json"), &command)
    };
    let made = set("make", json!({"slots": 1, "lanes": {"a": {"slots": 1}}}));
    assert!(made["accepted"] == true && made["note"].as_str().unwrap().contains("nightly"), "{made}");
    assert_eq!(settings(&sandbox, "nightly"), json!({"slots": 1, "lanes": {"a": {"slots": 1}}}));
    let (_, outcome) = sandbox.carry_out("there", &json!({"shell": "true", "queue": "nightly", "lane": "a"}));
    assert_eq!(outcome, "succeeded");
    set("more", json!({"lanes": {"b": {"slots": 2}}, "defaults": {"timeout_seconds": 9}}));
    let both = json!({"a": {"slots": 1}, "b": {"slots": 2}});
    let expected = json!({"slots": 1, "lanes": both, "defaults": {"timeout_seconds": 9}});
    assert_eq!(settings(&sandbox, "nightly"), expected);
    set("less", json!({"lanes": {"a": null}, "defaults": {"timeout_seconds": null}, "slots": null}));
    assert_eq!(settings(&sandbox, "nightly"), json!({"lanes": {"b": {"slots": 2}}}));
    for (name, changes, kind, path) in [
        ("negative", json!({"slots": -1}), "wrong_type", "$.slots"),
        ("lane", json!({"lanes": {"c": {"slot": 1}}}), "unknown_key", "$.lanes.c.slot"),
        ("default", json!({"defaults": {"name": "x"}}), "invalid_value", "$.defaults.name"),
        ("key", json!({"slot": 1}), "unknown_key", "$.slot"),
        ("scope", json!({"slots": 1, "tenant": "acme"}), "not_permitted", "$.queue"),
        ("tenant", json!({"defaults": {"tenant": "acme"}}), "invalid_value", "$.defaults.tenant"),
    ] {
        let refusal = set(name, changes)["refusal"].clone();
        assert_eq!((&refusal["kind"], &refusal["path"]), (&kind.into(), &path.into()), "{refusal}");
    }
    // What somebody is writing is not written over.
    let path = sandbox.spool("queue/nightly/queue.json");
    fs::write(&path, "{\"slots\": ").unwrap();
    let refusal = set("torn", json!({"slots": 3}))["refusal"].clone();
    assert!(refusal["kind"] == "conflict" && refusal["hint"].as_str().unwrap().contains("mend"), "{refusal}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"slots\": ");
    fs::remove_file(&path).unwrap();
    assert_eq!(set("again", json!({"slots": 3}))["accepted"], true);
    assert_eq!(settings(&sandbox, "nightly"), json!({"slots": 3}));
    check(&mut sandbox);
}

#[test]
fn of_many_who_change_a_queue_at_once_each_is_heard() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let set = |number: u32| {
        let lane = format!("lane{number}={number}");
        sandbox.gitspool(&["queue", "set", "default", "--lane", &lane]).spawn().unwrap()
    };
    let mut all: Vec<_> = (0..12).map(set).collect();
    for child in &mut all {
        assert!(sandbox.wait("its end", || child.try_wait().unwrap()).success());
    }
    let lanes = settings(&sandbox, "default")["lanes"].clone();
    assert_eq!(lanes.as_object().unwrap().len(), 12, "{lanes}");
    assert_eq!(lanes["lane7"], json!({"slots": 7}));
    assert_eq!(settings(&sandbox, "default")["slots"], 2, "what nobody named stays");
    check(&mut sandbox);
}

#[test]
fn queues_are_listed_with_their_settings_and_set_without_a_daemon_too() {
    let mut sandbox = Sandbox::new();
    let arguments =
        ["queue", "set", "ci", "--slots", "3", "--lane", "review=1", "--default", "timeout_seconds=60"];
    let more = ["--default", "workspace.kind=none", "--default", "env.WHO=queue"];
    let said = sandbox.gitspool(&[&arguments[..], &more].concat()).output().unwrap();
    assert!(
        said.status.success() && String::from_utf8_lossy(&said.stderr).contains("no daemon runs"),
        "{said:?}"
    );
    sandbox.drain();
    let expected = json!({
        "slots": 3, "lanes": {"review": {"slots": 1}},
        "defaults": {"timeout_seconds": 60, "workspace": {"kind": "none"}, "env": {"WHO": "queue"}},
    });
    assert_eq!(settings(&sandbox, "ci"), expected);
    let held = json!({"shell": "true", "queue": "ci", "lane": "review", "held": true});
    sandbox.drop_by_mv("held.json", held.to_string());
    sandbox.drain();
    let (code, rows) = sandbox.json(&["queue"]);
    let ci = rows.iter().find(|row| row["queue"] == "ci").unwrap();
    assert_eq!((code, &ci["settings"], &ci["held"]), (0, &expected, &json!(1)), "{rows:?}");
    let review = json!({"lane": "review", "slots": 1, "active": 0, "ready": 0, "waiting": 0, "held": 1});
    assert_eq!(ci["lanes"], json!([review]));
    let listed = sandbox.run(sandbox.gitspool(&["queue"]));
    for text in ["default", "ci", "review", "timeout_seconds", "60"] {
        assert!(listed.contains(text), "{text}: {listed}");
    }
    let wrong = sandbox.gitspool(&["queue", "set", "ci", "--lane", "review"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let removed = ["queue", "set", "ci", "--no-lane", "review", "--no-default", "env.WHO"];
    sandbox.run(sandbox.gitspool(&removed));
    sandbox.drain();
    let rest = json!({"slots": 3, "defaults": {"timeout_seconds": 60, "workspace": {"kind": "none"}}});
    assert_eq!(settings(&sandbox, "ci"), rest);
    check(&mut sandbox);
}
