//! The breaker of a queue, and queues that are paused by a command or by hand.

use std::fs;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, names, signal};

/// A spool whose agent is not installed.
fn without_agent() -> Sandbox {
    let sandbox = Sandbox::new();
    let profile = json!({"driver": "exec", "argv": ["/no/such/program"]});
    fs::write(sandbox.spool("agents/default.json"), profile.to_string()).unwrap();
    sandbox
}

/// What comes to nothing there before its agent begins.
fn broken() -> Value {
    json!({"prompt": "do it", "workspace": {"kind": "none"}})
}

fn paused(sandbox: &Sandbox) -> Option<String> {
    fs::read_to_string(sandbox.spool("queue/default/PAUSED")).ok()
}

fn lines(sandbox: &Sandbox, of_type: &str) -> Vec<Value> {
    sandbox.log().into_iter().filter(|line| line["type"] == of_type).collect()
}

/// What the log says of how many runs broke one after the other, run by run.
fn counted(sandbox: &Sandbox) -> Vec<u64> {
    let ends = lines(sandbox, "task.moved").into_iter().filter(|line| line["by"] == "run");
    ends.map(|line| line["broken"].as_u64().unwrap_or(0)).collect()
}

fn ready(sandbox: &Sandbox) -> usize {
    names(&sandbox.spool("queue/default/ready")).iter().filter(|name| *name != ".keep").count()
}

/// Submits so many that come to nothing, while nothing starts.
fn submit_broken(sandbox: &Sandbox, count: usize) {
    for number in 0..count {
        sandbox.submit(&format!("broken{number}"), &broken());
    }
}

#[test]
fn after_five_runs_that_came_to_nothing_a_queue_starts_no_more_until_it_is_resumed() {
    let mut sandbox = without_agent();
    sandbox.set_slots(1);
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
    sandbox.start();
    submit_broken(&sandbox, 8);
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
    sandbox.wait_until("the breaker", || counted(&sandbox).len() == 5 && paused(&sandbox).is_some());
    assert_eq!((counted(&sandbox), ready(&sandbox)), (vec![1, 2, 3, 4, 5], 3));
    let last = lines(&sandbox, "queue.paused").pop().unwrap();
    let reason = last["reason"].as_str().unwrap();
    assert!(last["by"] == "daemon" && last["queue"] == "default", "{last}");
    assert!(reason.starts_with("5 runs in a row") && reason.contains("/no/such/program"), "{reason}");
    assert_eq!(paused(&sandbox).unwrap(), format!("{reason}\n"));
    let (_, status) = sandbox.json(&["status"]);
    let queue = &status[0]["queues"][0];
    assert_eq!((&queue["paused"], &queue["paused_because"]), (&true.into(), &reason.into()));
    assert!(sandbox.run(sandbox.gitspool(&["queue"])).contains("`gitspool resume default`"));
    let waits = names(&sandbox.spool("queue/default/ready")).into_iter().max().unwrap();
    let (_, said) = sandbox.json(&["why", &waits[3..39]]);
    let expected = json!({"kind": "paused", "queue": "default", "because": reason});
    assert!(said[0]["reasons"].as_array().unwrap().contains(&expected), "{said:?}");
    let (_, said) = sandbox.json(&["doctor"]);
    let told = |row: &Value| row["verdict"] == "warn" && row["what"].as_str().unwrap().contains(reason);
    let row = said.iter().find(|row| told(row)).expect("because doctor tells");
    assert!(row["fix"].as_str().unwrap().contains("gitspool resume default"), "{row}");
    // Neither a restart nor a kill lets it go on.
    for kill in [false, true] {
        if kill {
            sandbox.kill()
        } else {
            sandbox.stop()
        }
        sandbox.start();
        sandbox.ask("elsewhere.json", &json!({"type": "set", "queue": "other", "slots": 1}));
        assert_eq!((ready(&sandbox), paused(&sandbox).is_some()), (3, true));
    }
    sandbox.run(sandbox.gitspool(&["resume"]));
    sandbox.wait_until("the others", || counted(&sandbox).len() == 8);
    assert_eq!(counted(&sandbox)[5..], [1, 2, 3]);
    assert_eq!(
        (lines(&sandbox, "queue.resumed").pop().unwrap()["by"].clone(), paused(&sandbox)),
        ("command".into(), None)
    );
    check(&mut sandbox);
}

#[test]
fn what_an_agent_does_trips_no_breaker_and_a_queue_may_have_none() {
    let mut sandbox = without_agent();
    sandbox.start();
    sandbox.run(sandbox.gitspool(&["queue", "set", "default", "--slots", "1", "--breaker", "2"]));
    for (number, command) in [
        json!({"shell": "exit 127"}),
        json!({"shell": "kill -9 $$"}),
        json!({"shell": "exit 1"}),
        broken(),
        json!({"run": ["/no/such/program"]}),
        json!({"shell": "true"}),
        broken(),
        json!({"shell": "exit 126"}),
        json!({"shell": "sleep 1000", "timeout_seconds": 1}),
    ]
    .iter()
    .enumerate()
    {
        sandbox.carry_out(&format!("job{number}"), command);
    }
    assert_eq!((counted(&sandbox), paused(&sandbox)), (vec![0, 0, 0, 1, 1, 0, 1, 0, 0], None));
    sandbox.run(sandbox.gitspool(&["queue", "set", "default", "--breaker", "0"]));
    for number in 0..7 {
        sandbox.carry_out(&format!("broken{number}"), &broken());
    }
    assert_eq!((counted(&sandbox).last(), paused(&sandbox)), (Some(&7), None));
    // A number that holds again holds at once with the next end.
    sandbox.run(sandbox.gitspool(&["queue", "set", "default", "--breaker", "3"]));
    sandbox.carry_out("last", &broken());
    sandbox.wait_until("the breaker", || paused(&sandbox).is_some());
    check(&mut sandbox);
}

#[test]
fn runs_that_nobody_saw_end_trip_a_breaker_and_who_removes_the_file_resets_it() {
    let mut sandbox = without_agent();
    sandbox.set_queue(&json!({"slots": 1, "breaker": 2}));
    sandbox.start();
    let kill_one = |sandbox: &Sandbox, name: &str| {
        let task = sandbox.submit(name, &json!({"shell": "sleep 1000"}));
        sandbox.wait_until("the agent", || sandbox.run_record(&task)["status"] == "running");
        let pid = sandbox.run_record(&task)["pid"].as_u64().unwrap();
        signal(u32::try_from(pid).unwrap(), rustix::process::Signal::KILL);
        sandbox.wait_in("held", &task);
    };
    kill_one(&sandbox, "one");
    kill_one(&sandbox, "two");
    sandbox.wait_until("the breaker", || paused(&sandbox).is_some());
    assert!(paused(&sandbox).unwrap().contains("lost"));
    let waits = sandbox.submit("waits", &json!({"shell": "true"}));
    // While no daemon runs; the checkpoint says that it was there.
    sandbox.stop();
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
    sandbox.start();
    assert_eq!(sandbox.outcome(&waits), "succeeded");
    assert_eq!(lines(&sandbox, "queue.resumed").pop().unwrap()["by"], "hand");
    kill_one(&sandbox, "three");
    assert_eq!((counted(&sandbox), paused(&sandbox)), (vec![1, 2, 0, 1], None));
    check(&mut sandbox);
}

#[test]
fn a_queue_is_paused_and_resumed_by_commands_and_by_hand_and_the_log_tells_by_whom() {
    let mut sandbox = without_agent();
    sandbox.start();
    sandbox.run(sandbox.gitspool(&["pause", "default", "--reason", "lunch"]));
    // The daemon may not have been there yet.
    sandbox.wait_until("the file", || paused(&sandbox).as_deref() == Some("lunch\n"));
    let again = sandbox.ask("again.json", &json!({"type": "pause", "queue": "default"}));
    assert!(again["accepted"] == true && again["note"].as_str().unwrap().contains("already"), "{again}");
    let waits = sandbox.submit("waits", &json!({"shell": "true"}));
    assert!(sandbox.json(&["why", &waits]).1[0]["reasons"][0]["because"] == "lunch");
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
    assert_eq!(sandbox.outcome(&waits), "succeeded");
    // Whole, so that the daemon does not see it before it says why.
    fs::write(sandbox.path("why"), "the disk is being changed\nback at two\n").unwrap();
    fs::rename(sandbox.path("why"), sandbox.spool("queue/default/PAUSED")).unwrap();
    sandbox.wait_until("a line", || lines(&sandbox, "queue.paused").len() == 2);
    let waits = sandbox.submit("later", &json!({"shell": "true"}));
    sandbox.run(sandbox.gitspool(&["resume", "default"]));
    assert_eq!(sandbox.outcome(&waits), "succeeded");
    let by = |of_type: &str| -> Vec<(Value, Value)> {
        lines(&sandbox, of_type)
            .into_iter()
            .map(|line| (line["by"].clone(), line["reason"].clone()))
            .collect()
    };
    let expected = [("command", "lunch"), ("hand", "the disk is being changed")];
    assert_eq!(by("queue.paused"), expected.map(|(by, reason)| (by.into(), reason.into())));
    assert_eq!(by("queue.resumed"), ["hand", "command"].map(|by| (by.into(), Value::Null)));
    let not = sandbox.ask("not.json", &json!({"type": "resume", "queue": "default"}));
    assert!(not["note"].as_str().unwrap().contains("is not paused"), "{not}");
    for (command, kind, path) in [
        (json!({"type": "pause", "queue": "defualt"}), "not_found", "$.queue"),
        (json!({"type": "pause"}), "missing_key", "$"),
        (json!({"type": "resume", "queue": "default", "reason": "x"}), "unknown_key", "$.reason"),
        (json!({"type": "resume", "queue": "default", "tenant": "t"}), "not_permitted", "$.queue"),
    ] {
        let refusal = sandbox.ask("wrong.json", &command)["refusal"].clone();
        assert_eq!((&refusal["kind"], &refusal["path"]), (&kind.into(), &path.into()), "{command}");
    }
    check(&mut sandbox);
}

#[test]
fn a_queue_whose_whole_folder_is_removed_stays_paused() {
    let mut sandbox = without_agent();
    sandbox.start();
    sandbox.run(sandbox.gitspool(&["pause"]));
    let waits = sandbox.submit("waits", &json!({"shell": "true"}));
    sandbox.wait_in("ready", &waits);
    fs::rename(sandbox.spool("queue/default"), sandbox.path("removed")).unwrap();
    sandbox.wait_in("ready", &waits);
    sandbox.wait_until("the file", || paused(&sandbox).is_some());
    assert_eq!(sandbox.moves(&waits).len(), 1);
    sandbox.run(sandbox.gitspool(&["resume"]));
    assert_eq!(sandbox.outcome(&waits), "succeeded");
    check(&mut sandbox);
}
