//! Counted resources and named locks: each unit has one run at a time, whoever is killed; a task gets all that it wants or
//! waits, and `why` tells for what.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::Sandbox;

/// A line of sh that has each of the units for a moment, and tells when somebody else has one.
fn use_units(sandbox: &Sandbox, resource: &str, seconds: &str) -> String {
    let (units, wrong) = (sandbox.outside("unit"), sandbox.outside("wrong"));
    let (units, wrong) = (units.display(), wrong.display());
    let each = |what: &str| format!("for unit in $(echo ${resource} | tr , ' '); do {what}; done");
    let take = each(&format!("mkdir {units}-$unit || echo ${{GITSPOOL_RUN}} >> {wrong}"));
    let give = each(&format!("rmdir {units}-$unit"));
    format!("{take}; sleep {seconds}; {give}")
}

fn kinds(sandbox: &Sandbox, task: &str) -> Vec<String> {
    let (_, said) = sandbox.json(&["why", task]);
    let kind = |reason: &Value| reason["kind"].as_str().unwrap().to_owned();
    said[0]["reasons"].as_array().unwrap().iter().map(kind).collect()
}

fn reason(sandbox: &Sandbox, task: &str, kind: &str) -> Value {
    let (_, said) = sandbox.json(&["why", task]);
    let reasons = said[0]["reasons"].as_array().unwrap();
    reasons.iter().find(|reason| reason["kind"] == kind).unwrap_or_else(|| panic!("{kind}: {said:?}")).clone()
}

fn wait_active(sandbox: &Sandbox, task: &str) {
    sandbox.wait_until("a run", || sandbox.run_record(task)["status"] == "running");
}

#[test]
fn a_run_is_told_its_units_and_no_other_has_them_meanwhile() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(6);
    sandbox.set_host(&json!({"resources": {"gpu": 3, "port": {"from": 8000, "count": 2}}}));
    sandbox.start();
    let mut tasks = Vec::new();
    for number in 0..12 {
        let wanted = if number % 3 == 0 { json!({"gpu": 2}) } else { json!({"gpu": 1, "port": number % 2}) };
        let shell = use_units(&sandbox, "GITSPOOL_RESOURCE_GPU", "0.05");
        tasks.push(sandbox.submit(&format!("n{number}"), &json!({"shell": shell, "resources": wanted})));
    }
    for task in &tasks {
        assert_eq!(sandbox.outcome(task), "succeeded");
    }
    assert_eq!(sandbox.told("wrong"), "");
    let say = "echo $GITSPOOL_RESOURCE_PORT $GITSPOOL_RESOURCE_GPU $CUDA_VISIBLE_DEVICES";
    let wanted = json!({"port": 2, "gpu": 3});
    let (task, _) = sandbox.carry_out("all", &json!({"shell": say, "resources": wanted}));
    assert_eq!(sandbox.output(&task), "8000,8001 0,1,2 0,1,2\n");
    let own =
        json!({"shell": say, "resources": {"gpu": 1, "port": 0}, "env": {"CUDA_VISIBLE_DEVICES": "mine"}});
    let (task, _) = sandbox.carry_out("own", &own);
    assert_eq!(sandbox.output(&task), "0 mine\n");
    let (task, _) = sandbox.carry_out("none", &json!({"shell": "env"}));
    let said = sandbox.output(&task);
    assert!(!said.contains("GITSPOOL_RESOURCE") && !said.contains("CUDA"), "{said}");
    check(&mut sandbox);
}

#[test]
fn no_unit_is_given_twice_however_often_the_daemon_is_killed() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(4);
    sandbox.set_host(&json!({"resources": {"gpu": 2}}));
    let shell = use_units(&sandbox, "GITSPOOL_RESOURCE_GPU", "0.3");
    for number in 0..16 {
        let units = 1 + u32::from(number % 4 == 3);
        let command = json!({"shell": shell, "resources": {"gpu": units}});
        sandbox.drop_by_mv(&format!("n{number}.json"), command.to_string());
    }
    let ended = |sandbox: &Sandbox| sandbox.log().iter().filter(|line| line["by"] == "run").count();
    for round in 0..12_u64 {
        sandbox.start();
        let before = sandbox.log().len();
        sandbox.wait_until("its start", || sandbox.log().len() > before);
        sandbox.let_work(Duration::from_millis(40 * round));
        sandbox.kill();
    }
    sandbox.start();
    sandbox.wait_until("all ends", || ended(&sandbox) == 16);
    assert_eq!(sandbox.told("wrong"), "");
    let outcomes = sandbox.log().into_iter().filter(|line| line["by"] == "run");
    assert!(outcomes.into_iter().all(|line| line["state"]["outcome"] == "succeeded"));
    check(&mut sandbox);
}

#[test]
fn a_run_keeps_its_units_and_locks_while_it_is_cancelled_also_across_a_restart() {
    let mut sandbox = Sandbox::new();
    sandbox.set_host(&json!({"resources": {"gpu": 1}}));
    sandbox.start();
    let begun = sandbox.outside("begun");
    let shell = format!("trap '' TERM; echo yes >> {}; {}", begun.display(), sandbox.gate("gate"));
    let stubborn =
        json!({"shell": shell, "resources": {"gpu": 1}, "locks": {"db": "shared"}, "grace_seconds": 600});
    let first = sandbox.submit("first", &stubborn);
    sandbox.wait_told("begun");
    let next = sandbox.submit("next", &json!({"shell": "true", "resources": {"gpu": 1}}));
    let writer = sandbox.submit("writer", &json!({"shell": "true", "locks": {"db": "exclusive"}}));
    sandbox.cancel("cancel.json", &first);
    sandbox.wait_until("the cancel", || sandbox.moves(&first).last().unwrap()["state"]["is"] == "cancelling");
    assert_eq!(sandbox.moves(&first).last().unwrap()["state"]["assigned"], json!({"gpu": [0]}));
    sandbox.kill();
    sandbox.start();
    sandbox.carry_out("other", &json!({"shell": "true"}));
    assert_eq!((sandbox.moves(&next).len(), sandbox.moves(&writer).len()), (1, 1), "they wait still");
    assert_eq!(reason(&sandbox, &next, "resource")["taken_by"], json!([first]));
    assert_eq!(reason(&sandbox, &writer, "lock")["taken_by"], json!([first]));
    sandbox.open_gate("gate");
    for task in [&next, &writer] {
        assert_eq!(sandbox.outcome(task), "succeeded");
    }
    check(&mut sandbox);
}

#[test]
fn why_tells_what_is_lacking_how_much_is_free_and_who_has_it() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(9);
    sandbox.set_host(&json!({"resources": {"gpu": 3, "port": 1}}));
    sandbox.start();
    let gate = sandbox.gate("gate");
    let has =
        sandbox.submit("has", &json!({"shell": gate, "resources": {"gpu": 2}, "locks": {"db": "shared"}}));
    let reader = sandbox.submit("reader", &json!({"shell": gate, "locks": {"db": "shared"}}));
    wait_active(&sandbox, &has);
    wait_active(&sandbox, &reader);
    let wants = |name: &str, resources: Value, locks: Value| {
        sandbox.submit(name, &json!({"shell": "true", "resources": resources, "locks": locks}))
    };
    let much = wants("much", json!({"gpu": 2}), json!({"db": "exclusive"}));
    let never = wants("never", json!({"gpu": 4, "tape": 1}), json!({}));
    let note = sandbox.receipt("never.json")["note"].clone();
    assert!(note.as_str().unwrap().contains("wants 4 of gpu"), "{note}");
    let little = wants("little", json!({"gpu": 1}), json!({}));
    let late = wants("late", json!({}), json!({"db": "shared"}));
    let (_, outcome) = sandbox.carry_out("other", &json!({"shell": "true", "resources": {"port": 1}}));
    assert_eq!(outcome, "succeeded", "what nobody waits for is had");
    let gpu =
        json!({"kind": "resource", "name": "gpu", "wanted": 2, "free": 1, "count": 3, "taken_by": [has]});
    assert_eq!(reason(&sandbox, &much, "resource"), gpu);
    let mut holders = vec![has.clone(), reader.clone()];
    holders.sort();
    let lock = json!({"kind": "lock", "name": "db", "mode": "exclusive", "taken_by": holders});
    assert_eq!(reason(&sandbox, &much, "lock"), lock);
    assert_eq!(kinds(&sandbox, &never), ["never", "never", "behind"]);
    assert_eq!(
        reason(&sandbox, &never, "never"),
        json!({"kind": "never", "name": "gpu", "wanted": 4, "count": 3})
    );
    let kept = |name: &str| json!({"kind": "reserved", "name": name, "by": much});
    assert_eq!(reason(&sandbox, &little, "reserved"), kept("gpu"));
    assert_eq!(reason(&sandbox, &late, "reserved"), kept("db"));
    let words = sandbox.gitspool(&["why", &much]).output().unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("wants 2 of gpu, and 1 of 3 are free") && words.contains(&has), "{words}");
    let (_, status) = sandbox.json(&["status"]);
    let host = &status[0]["host"];
    assert_eq!(host["resources"]["gpu"], json!({"count": 3, "free": 1, "taken_by": [has]}));
    assert_eq!(host["locks"]["db"], json!({"mode": "shared", "taken_by": holders}));
    sandbox.open_gate("gate");
    for task in [&much, &little, &late] {
        assert_eq!(sandbox.outcome(task), "succeeded");
    }
    assert_eq!(kinds(&sandbox, &never), ["never", "never"]);
    sandbox.stop();
    // It keeps nobody waiting who waits for an end.
    let drained = sandbox.gitspool(&["daemon", "--drain"]).output().unwrap();
    let said = String::from_utf8_lossy(&drained.stderr).into_owned();
    assert!(drained.status.success() && said.contains("1 task waits for what is never free"), "{said}");
    sandbox.start();
    sandbox.set_host(&json!({"resources": {"gpu": 4, "tape": 1}}));
    assert_eq!(sandbox.outcome(&never), "succeeded");
    check(&mut sandbox);
}

#[test]
fn what_is_half_saved_or_senseless_changes_nothing_and_status_and_doctor_tell() {
    let mut sandbox = Sandbox::new();
    sandbox.set_host(&json!({"resources": {"gpu": 1}}));
    sandbox.start();
    let path = sandbox.spool("hosts").join(sandbox.host_file());
    let job = json!({"shell": "true", "resources": {"gpu": 1}});
    assert_eq!(sandbox.carry_out("first", &job).1, "succeeded");
    for (number, bad) in
        ["{\"resources\": {\"gpu\": ", "{\"resources\": {\"gpu\": -1}}", "{\"resource\": {}}"]
            .into_iter()
            .enumerate()
    {
        fs::write(&path, bad).unwrap();
        let words = |text: &str| sandbox.daemon_log().matches(text).count();
        sandbox.wait_until("a word about it", || words("the earlier settings stay") > number);
        assert_eq!(sandbox.carry_out(&format!("bad{number}"), &job).1, "succeeded", "{bad}");
        let (code, status) = sandbox.json(&["status"]);
        assert!(
            code == 1 && status[0]["host"]["error"].as_str().is_some_and(|error| error.contains("hosts"))
        );
        let (code, said) = sandbox.json(&["doctor"]);
        let told = |row: &Value| row["verdict"] == "fail" && row["what"].as_str().unwrap().contains("hosts");
        assert!(code == 1 && said.iter().any(told), "{said:?}");
    }
    // Not even a file.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let waits = sandbox.submit("waits", &json!({"shell": "true", "resources": {"gpu": 2}}));
    sandbox.wait_until("a reason", || kinds(&sandbox, &waits) == ["host_settings"]);
    assert_eq!(sandbox.carry_out("folder", &job).1, "succeeded");
    fs::remove_dir(&path).unwrap();
    sandbox.set_host(&json!({"resources": {"gpu": 2}}));
    assert_eq!(sandbox.outcome(&waits), "succeeded");
    check(&mut sandbox);
}

#[test]
fn a_host_that_shrinks_gives_nothing_until_enough_is_free() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(9);
    sandbox.set_host(&json!({"resources": {"gpu": 3}}));
    sandbox.start();
    let (one, two) = (sandbox.gate("one"), sandbox.gate("two"));
    let first = sandbox.submit("first", &json!({"shell": one, "resources": {"gpu": 1}}));
    let second = sandbox.submit("second", &json!({"shell": two, "resources": {"gpu": 2}}));
    wait_active(&sandbox, &first);
    wait_active(&sandbox, &second);
    sandbox.set_host(&json!({"resources": {"gpu": 2, "seen": 1}}));
    // Who gets of what is new tells that the daemon has looked.
    sandbox.carry_out("seen", &json!({"shell": "true", "resources": {"seen": 1}}));
    let waits = sandbox.submit("waits", &json!({"shell": "true", "resources": {"gpu": 1}}));
    sandbox.open_gate("one");
    assert_eq!(sandbox.outcome(&first), "succeeded");
    sandbox.carry_out("other", &json!({"shell": "true"}));
    let lacks = reason(&sandbox, &waits, "resource");
    assert_eq!((&lacks["free"], &lacks["count"]), (&0.into(), &2.into()), "{lacks}");
    assert_eq!(sandbox.moves(&waits).len(), 1);
    sandbox.open_gate("two");
    assert_eq!(sandbox.outcome(&waits), "succeeded");
    check(&mut sandbox);
}

#[test]
fn what_cannot_be_asked_for_is_refused_with_its_place() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    for (name, key, value, kind, path) in [
        ("negative", "resources", json!({"gpu": -1}), "wrong_type", "$.resources.gpu"),
        ("array", "resources", json!(["gpu"]), "wrong_type", "$.resources"),
        ("many", "resources", json!({"gpu": 1025}), "invalid_value", "$.resources"),
        ("same", "resources", json!({"a:b": 1, "a.b": 1}), "invalid_value", "$.resources.a:b"),
        ("mode", "locks", json!({"db": "read"}), "wrong_type", "$.locks.db"),
    ] {
        let refusal =
            sandbox.ask(&format!("{name}.json"), &json!({"shell": "true", key: value}))["refusal"].clone();
        assert_eq!((&refusal["kind"], &refusal["path"]), (&kind.into(), &path.into()), "{refusal}");
    }
    let spec = |arguments: &[&str]| {
        let arguments = [&["submit", "--held", "--workspace", "none"], arguments, &["--", "true"]].concat();
        let task = sandbox.run(sandbox.gitspool(&arguments));
        let told = sandbox.wait("its line", || sandbox.moves(task.trim()).pop());
        told["spec"].clone()
    };
    let asked = spec(&["--resource", "gpu=2", "--resource", "port", "--lock", "db", "--lock", "log=shared"]);
    assert_eq!(asked["resources"], json!({"gpu": 2, "port": 1}));
    assert_eq!(asked["locks"], json!({"db": "exclusive", "log": "shared"}));
    check(&mut sandbox);
}
