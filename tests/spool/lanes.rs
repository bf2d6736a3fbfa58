//! Lanes, and what `queue.json` says: each lane has slots of its own among those of its queue, and settings that make no
//! sense change nothing.

use std::fs;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, entries, names};

fn active(sandbox: &Sandbox) -> usize {
    let hosts = entries(&sandbox.spool("queue/default/active"));
    hosts.iter().map(|host| names(host).len()).sum()
}

fn of_lane(sandbox: &Sandbox, name: &str, lane: &str) -> String {
    sandbox.submit(name, &json!({"shell": sandbox.gate("gate"), "lane": lane}))
}

fn wait_active(sandbox: &Sandbox, task: &str) {
    sandbox.wait_until("a run", || sandbox.run_record(task)["status"] == "running");
}

#[test]
fn a_lane_has_slots_of_its_own_and_who_is_behind_a_full_one_goes_first() {
    let mut sandbox = Sandbox::new();
    sandbox.set_queue(
        &json!({"slots": 3, "lanes": {"review": {"slots": 1}, "build": {"slots": 2}, "shut": {"slots": 0}}}),
    );
    sandbox.start();
    let first = of_lane(&sandbox, "first", "review");
    let second = of_lane(&sandbox, "second", "review");
    let shut = of_lane(&sandbox, "shut", "shut");
    let builds: Vec<String> = (0..3).map(|n| of_lane(&sandbox, &format!("build{n}"), "build")).collect();
    for task in [&first, &builds[0], &builds[1]] {
        wait_active(&sandbox, task);
    }
    assert_eq!(active(&sandbox), 3);
    let (_, said) = sandbox.json(&["why", &second]);
    let reasons = said[0]["reasons"].as_array().unwrap();
    let lane = json!({"kind": "lane", "queue": "default", "lane": "review", "slots": 1, "taken_by": [first]});
    assert!(reasons.contains(&lane), "{said:?}");
    let (_, status) = sandbox.json(&["status"]);
    let review = json!({"lane": "review", "slots": 1, "active": 1, "ready": 1, "waiting": 0, "held": 0});
    assert!(status[0]["queues"][0]["lanes"].as_array().unwrap().contains(&review), "{status:?}");
    // A lane with more slots counts at once.
    sandbox.set_queue(
        &json!({"slots": 4, "lanes": {"review": {"slots": 2}, "build": {"slots": 2}, "shut": {"slots": 0}}}),
    );
    wait_active(&sandbox, &second);
    assert_eq!(active(&sandbox), 4, "and the queue has no more");
    sandbox.open_gate("gate");
    for task in [&first, &second].into_iter().chain(&builds) {
        assert_eq!(sandbox.outcome(task), "succeeded");
    }
    let (_, said) = sandbox.json(&["why", &shut]);
    assert_eq!(said[0]["reasons"][0]["slots"], 0, "{said:?}");
    sandbox.stop();
    // What cannot start keeps nobody waiting.
    sandbox.drain();
    assert_eq!(sandbox.moves(&shut).len(), 1);
    check(&mut sandbox);
}

#[test]
fn a_lane_that_is_not_listed_is_refused_where_some_are() {
    let mut sandbox = Sandbox::new();
    sandbox.set_queue(&json!({"lanes": {"review": {"slots": 1}}}));
    sandbox.start();
    let receipt = sandbox.ask("wrong.json", &json!({"shell": "true", "lane": "reviews"}));
    let refusal = &receipt["refusal"];
    assert_eq!((&refusal["kind"], &refusal["path"]), (&"not_found".into(), &"$.lane".into()), "{receipt}");
    assert!(refusal["hint"].as_str().unwrap().contains("review"), "{receipt}");
    sandbox.set_queue(&json!({"slots": 1}));
    sandbox.wait_until("the new settings", || {
        sandbox.ask("any.json", &json!({"shell": "true", "lane": "reviews"}))["accepted"] == true
    });
    check(&mut sandbox);
}

#[test]
fn settings_that_make_no_sense_change_nothing_and_status_and_doctor_tell() {
    let mut sandbox = Sandbox::new();
    sandbox.set_queue(&json!({"slots": 1, "lanes": {"review": {"slots": 1}}}));
    sandbox.start();
    let gate = sandbox.gate("gate");
    let first = sandbox.submit("first", &json!({"shell": gate}));
    wait_active(&sandbox, &first);
    let waits = sandbox.submit("waits", &json!({"shell": gate}));
    let path = sandbox.spool("queue/default/queue.json");
    for bad in [
        "{\"slots\": ",
        "{\"slots\": 7, \"lane\": {}}",
        "{\"slots\": 7, \"lanes\": {\"x\": 1}}",
        "[]",
        "\u{0}",
    ] {
        let said = sandbox.daemon_log().len();
        fs::write(&path, bad).unwrap();
        sandbox.wait_until("a word about it", || {
            sandbox.daemon_log()[said..].contains("the earlier settings stay")
        });
        let (code, status) = sandbox.json(&["status"]);
        assert!(code == 1 && status[0]["queues"][0]["error"].is_string(), "{bad}: {status:?}");
        let (code, said) = sandbox.json(&["doctor"]);
        let told =
            |row: &Value| row["verdict"] == "fail" && row["what"].as_str().unwrap().contains("queue.json");
        assert!(code == 1 && said.iter().any(told), "{said:?}");
        assert_eq!(active(&sandbox), 1, "{bad}");
    }
    let said = sandbox.daemon_log().len();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    sandbox
        .wait_until("a word about it", || sandbox.daemon_log()[said..].contains("the earlier settings stay"));
    assert_eq!((active(&sandbox), sandbox.json(&["status"]).0), (1, 1));
    // The next daemon knows of no good ones, and starts nothing more.
    sandbox.stop();
    sandbox.start();
    let free = sandbox.submit("free", &json!({"shell": gate}));
    sandbox.run(sandbox.gitspool(&["queue", "set", "other", "--slots", "2"]));
    sandbox.carry_out("elsewhere", &json!({"shell": "true", "queue": "other"}));
    assert_eq!((active(&sandbox), sandbox.moves(&free).len()), (1, 1));
    fs::remove_dir(&path).unwrap();
    sandbox.set_slots(2);
    wait_active(&sandbox, &waits);
    assert_eq!(sandbox.moves(&free).len(), 1, "there are two slots again");
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&waits), "succeeded");
    check(&mut sandbox);
}

#[test]
fn the_settings_of_a_queue_whose_folder_is_removed_are_written_again() {
    let mut sandbox = Sandbox::new();
    let settings = json!({"slots": 1, "lanes": {"review": {"slots": 1}}});
    sandbox.set_queue(&settings);
    sandbox.start();
    let gate = sandbox.gate("gate");
    let first = sandbox.submit("first", &json!({"shell": gate}));
    wait_active(&sandbox, &first);
    let waits = sandbox.submit("waits", &json!({"shell": gate}));
    sandbox.wait_in("ready", &waits);
    // At once: the daemon would draw a folder while the next one is emptied.
    fs::rename(sandbox.spool("queue/default"), sandbox.path("removed")).unwrap();
    sandbox.wait_in("ready", &waits);
    let path = sandbox.spool("queue/default/queue.json");
    let read = || serde_json::from_slice::<Value>(&fs::read(&path).ok()?).ok();
    sandbox.wait_until("the settings", || read() == Some(settings.clone()));
    assert!(sandbox.daemon_log().contains("were gone"));
    assert_eq!(sandbox.moves(&waits).len(), 1, "there is one slot still");
    sandbox.open_gate("gate");
    for task in [&first, &waits] {
        assert_eq!(sandbox.outcome(task), "succeeded");
    }
    check(&mut sandbox);
}
