//! The feed of changes, and lists in pages: nothing is missed, and nothing comes twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, files_below, json_lines};

fn say(sandbox: &Sandbox, arguments: &[&str]) -> Vec<Value> {
    let said = sandbox.run(sandbox.gitspool(&[arguments, &["--json"]].concat()));
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A page of the feed: the tasks in it, the cursor, and whether there is more.
fn page(sandbox: &Sandbox, since: u64, more: &[&str]) -> (Vec<Value>, u64, bool) {
    let since = since.to_string();
    let mut lines = say(sandbox, &[&["changes", "--since", &since], more].concat());
    let end = lines.pop().unwrap();
    (lines, end["cursor"].as_u64().unwrap(), end["more"] == true)
}

/// The last change of each task, as the log has it.
fn versions(sandbox: &Sandbox) -> BTreeMap<String, u64> {
    let changes = sandbox.log().into_iter().filter(|line| {
        let kind = line["type"].as_str().unwrap();
        kind == "task.submitted" || kind == "task.moved" || line["kind"] == "note"
    });
    changes.map(|line| (line["task"].as_str().unwrap().to_owned(), line["seq"].as_u64().unwrap())).collect()
}

#[test]
fn pages_of_the_feed_miss_nothing_and_repeat_nothing_while_tasks_change() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(2);
    sandbox.start();
    let over = AtomicBool::new(false);
    let (mut seen, mut cursor): (BTreeMap<String, u64>, u64) = (BTreeMap::new(), 0);
    let mut pages = 0;
    thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let tasks: Vec<String> = (0..40)
                .map(|n| {
                    let held = n % 4 == 0;
                    sandbox.submit(&format!("t{n}"), &json!({"run": ["true"], "held": held}))
                })
                .collect();
            for (n, task) in tasks.iter().enumerate().filter(|(n, _)| n % 4 == 0) {
                let command = json!({"type": "rerank", "target": task, "rank": n});
                sandbox.ask(&format!("rank{n}.json"), &command);
                sandbox.ask(&format!("release{n}.json"), &json!({"type": "release", "target": task}));
            }
            tasks.iter().for_each(|task| assert_eq!(sandbox.outcome(task), "succeeded"));
            over.store(true, Ordering::SeqCst);
        });
        loop {
            let last = over.load(Ordering::SeqCst);
            let (tasks, next, more) = page(&sandbox, cursor, &["--limit", "3"]);
            assert!(tasks.len() <= 3 && (more || tasks.len() < 3 || !last));
            let mut before = cursor;
            for task in &tasks {
                let version = task["version"].as_u64().unwrap();
                assert!(before < version && version <= next, "{tasks:?} behind {before}");
                before = version;
                let old = seen.insert(task["task"].as_str().unwrap().to_owned(), version);
                assert!(old < Some(version), "a change comes once, and never back");
            }
            assert!(next > cursor || (next == cursor && tasks.is_empty() && !more), "{cursor} {next}");
            (cursor, pages) = (next, pages + 1);
            if last && !more {
                break;
            }
        }
        changing.join().unwrap();
    });
    assert!(pages > 10, "{pages}");
    assert_eq!(seen, versions(&sandbox));
    // Behind the end there is nothing, and who asks there is told the same place.
    assert_eq!(page(&sandbox, cursor, &[]), (vec![], cursor, false));
    check(&mut sandbox);
}

#[test]
fn a_feed_says_when_what_it_should_begin_with_is_gone() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    sandbox.carry_out("one", &json!({"run": ["true"]}));
    sandbox.stop();
    let logs: Vec<_> = files_below(&sandbox.spool("events"));
    let text = std::fs::read_to_string(&logs[0]).unwrap();
    let rest: String = text.split_inclusive('\n').skip(3).collect();
    std::fs::write(&logs[0], &rest).unwrap();
    let end = |since: &str| say(&sandbox, &["changes", "--since", since]).pop().unwrap();
    assert_eq!((&end("0")["gap"], &end("3")["gap"]), (&json!(true), &Value::Null));
    std::fs::write(&logs[0], text).unwrap();
    check(&mut sandbox);
}

#[test]
fn a_filter_leaves_out_while_scanning_and_the_cursor_is_the_last_line_scanned() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let held = sandbox.submit("held", &json!({"run": ["true"], "held": true}));
    for n in 0..6 {
        let task = sandbox.submit(&format!("t{n}"), &json!({"run": ["true"]}));
        assert_eq!(sandbox.outcome(&task), "succeeded");
    }
    let last = sandbox.submit("last", &json!({"run": ["false"]}));
    assert_eq!(sandbox.outcome(&last), "failed");
    // A page of a task that has moved on since tells its state then, and what it is.
    let moves: Vec<u64> = sandbox.moves(&last).iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    let (tasks, _, _) = page(&sandbox, moves[0] - 1, &["--limit", "1", "--state", "active"]);
    assert_eq!((&tasks[0]["name"], &tasks[0]["version"]), (&json!("last"), &json!(moves[1])));
    let (tasks, cursor, _) = page(&sandbox, 0, &["--state", "held", "--limit", "2"]);
    assert_eq!((&tasks[0]["task"], tasks.len()), (&json!(held), 1));
    // What does not fit fills no page, and is not gone through again.
    let (tasks, cursor, more) = page(&sandbox, cursor, &["--state", "failed", "--limit", "2"]);
    assert_eq!((&tasks[0]["task"], tasks.len(), more), (&json!(last), 1, false));
    assert_eq!(cursor, sandbox.log().last().unwrap()["seq"].as_u64().unwrap());
    assert_eq!(page(&sandbox, 0, &["--queue", "other"]).0, Vec::<Value>::new());
    check(&mut sandbox);
}

#[test]
fn what_an_agent_says_of_its_run_is_a_change_and_a_repeated_command_is_none() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let gate = sandbox.gate("gate");
    let line = format!(
        "gitspool note --confirm --summary said; echo x > {}; {gate}",
        sandbox.outside("said").display()
    );
    let task = sandbox.submit("agent", &json!({"shell": line, "key": "k"}));
    sandbox.wait_told("said");
    let (tasks, cursor, _) = page(&sandbox, 0, &[]);
    assert_eq!((&tasks[0]["task"], &tasks[0]["state"]), (&json!(task), &json!("active")));
    let noted = sandbox.log().into_iter().find(|line| line["kind"] == "note").unwrap();
    assert_eq!(
        (&tasks[0]["version"], tasks[0]["run"].as_str()),
        (&noted["seq"], Some(&*format!("{task}.1")))
    );
    sandbox.ask("again.json", &json!({"shell": line, "key": "k"}));
    let (tasks, next, _) = page(&sandbox, cursor, &[]);
    assert!(tasks.is_empty() && next > cursor);
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    // Whose file was removed is told of as far as the log tells.
    let (done, aside) = (sandbox.spool("queue/default/done"), sandbox.path("done"));
    std::fs::rename(&done, &aside).unwrap();
    let (tasks, _, _) = page(&sandbox, 0, &[]);
    let told = (&tasks[0]["state"], &tasks[0]["name"], &tasks[0]["path"]);
    assert_eq!(told, (&json!("succeeded"), &json!("agent"), &Value::Null));
    std::fs::rename(&aside, &done).unwrap();
    check(&mut sandbox);
}

#[test]
fn pages_of_a_list_have_each_task_once_in_the_order_of_the_whole() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    for n in 0..5 {
        let ended = sandbox.submit(&format!("e{n}"), &json!({"run": ["true"]}));
        sandbox.outcome(&ended);
    }
    std::fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
    for n in 0..9 {
        let job = json!({"run": ["true"], "rank": 20 - n % 3, "held": n % 3 == 0});
        sandbox.submit(&format!("l{n}"), &job);
    }
    for options in [&["ls", "--all"][..], &["ls"], &["ls", "--state", "ended"], &["ls", "--runs"]] {
        let key = if options.contains(&"--runs") { "run" } else { "task" };
        let ids = |rows: &[Value]| -> Vec<Value> { rows.iter().map(|row| row[key].clone()).collect() };
        let whole = ids(&say(&sandbox, options));
        assert!(whole.len() >= 5, "{options:?}");
        let (mut paged, mut last): (Vec<Value>, Option<String>) = (Vec::new(), None);
        loop {
            let place: Vec<&str> = last.iter().flat_map(|last| ["--page", last]).collect();
            let rows = say(&sandbox, &[options, &["--limit", "2"], &place].concat());
            let Some(row) = rows.last() else { break };
            last = Some(row["page"].as_str().unwrap().to_owned());
            paged.extend(ids(&rows));
            assert!(paged.len() <= whole.len(), "{options:?}");
        }
        assert_eq!(paged, whole, "{options:?}");
    }
    let wrong = sandbox.gitspool(&["ls", "--page", "nonsense"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    check(&mut sandbox);
}

#[test]
fn a_follower_of_the_feed_hears_of_each_task_and_its_last_change_is_the_last_it_hears() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let told = sandbox.outside("feed");
    let mut follow = sandbox.gitspool(&["changes", "--follow", "--json"]);
    let mut follower = follow.stdout(std::fs::File::create(&told).unwrap()).spawn().unwrap();
    let tasks: BTreeSet<String> =
        (0..5).map(|n| sandbox.submit(&format!("t{n}"), &json!({"run": ["true"]}))).collect();
    tasks.iter().for_each(|task| assert_eq!(sandbox.outcome(task), "succeeded"));
    sandbox.wait_until("the feed to tell of all ends", || {
        let ended = json_lines(&told).into_iter().filter(|line| line["state"] == "succeeded");
        ended.map(|line| line["task"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>() == tasks
    });
    follower.kill().unwrap();
    follower.wait().unwrap();
    let versions: Vec<u64> = json_lines(&told).iter().map(|line| line["version"].as_u64().unwrap()).collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    check(&mut sandbox);
}
