//! `gitspool gc` and what queues keep: what goes is told beforehand, is no more than that, and stays known; nothing that is
//! live, or still stands, is touched; and who is killed under way leaves nothing wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::check::{check, findings};
use crate::sandbox::{Sandbox, entries, files_below, name_of};

fn job() -> Value {
    json!({"shell": "echo out; echo $GITSPOOL_RUN", "workspace": {"kind": "none"}})
}

/// Every path below the spool, with the content of files; but for what says that a daemon lives.
fn tree(sandbox: &Sandbox) -> BTreeMap<String, Vec<u8>> {
    let top = sandbox.spool(".");
    let all = walkdir::WalkDir::new(&top).into_iter().flatten().filter(|entry| !entry.file_type().is_dir());
    let below = |path: &Path| path.strip_prefix(&top).unwrap().display().to_string();
    all.map(|entry| (below(entry.path()), fs::read(entry.path()).unwrap_or_default())).collect()
}

/// What a verb prints, a value for each line.
fn told(mut command: Command) -> Vec<Value> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn ended(sandbox: &Sandbox) -> Vec<String> {
    let folders = ["done", "failed", "cancelled"].map(|folder| sandbox.spool("queue/default").join(folder));
    folders.iter().flat_map(|folder| files_below(folder)).map(|path| name_of(&path)).collect()
}

/// A spool in which all sorts of tasks have ended, and one waits.
fn full(sandbox: &mut Sandbox) -> Vec<String> {
    sandbox.start();
    let (one, _) = sandbox.carry_out("one", &job());
    let (two, _) = sandbox.carry_out("two", &json!({"script": "echo bad >&2; exit 3", "output": "apart"}));
    let long = json!({"shell": format!("true {}", "x".repeat(20_000)), "workspace": {"kind": "none"}});
    let (three, _) = sandbox.carry_out("three", &long);
    let retried =
        json!({"shell": "exit 4", "retry": {"max": 1, "backoff_seconds": 0}, "workspace": {"kind": "none"}});
    let (four, _) = sandbox.carry_out("four", &retried);
    let cancelled = sandbox.submit("five", &json!({"run": ["true"], "held": true}));
    sandbox.cancel("stop.json", &cancelled);
    assert_eq!(sandbox.outcome(&cancelled), "cancelled");
    let mut held = long.clone();
    held["held"] = true.into();
    held["name"] = "other".into();
    sandbox.submit("held", &held);
    sandbox.ask("wrong.json", &json!({"runn": 1}));
    let (last, _) = sandbox.carry_out("last", &job());
    vec![one, two, three, four, cancelled, last]
}

#[test]
fn a_dry_run_changes_nothing_and_tells_exactly_what_goes() {
    let mut sandbox = Sandbox::new();
    let tasks = full(&mut sandbox);
    sandbox.stop();
    let before = tree(&sandbox);
    let limits = ["--keep", "1"];
    let rows = told(sandbox.gitspool(&[&["gc", "--dry-run", "--json"], &limits[..]].concat()));
    assert_eq!(tree(&sandbox), before, "a dry run has changed something");
    let goes: BTreeSet<&str> = rows.iter().filter_map(|row| row["task"].as_str()).collect();
    assert_eq!(goes, tasks[..5].iter().map(String::as_str).collect());
    assert!(rows.iter().all(|row| row["bytes"].as_u64().is_some_and(|bytes| bytes > 0)), "{rows:?}");

    sandbox.start();
    let receipt = &told(sandbox.gitspool(&[&["gc", "--json"], &limits[..]].concat()))[0];
    assert_eq!(receipt["accepted"], true, "{receipt}");
    check(&mut sandbox);
    let paths =
        rows.iter().flat_map(|row| row["paths"].as_array().unwrap()).map(|path| path.as_str().unwrap());
    let paths: Vec<&str> = paths.collect();
    let after = tree(&sandbox);
    let is_told =
        |path: &str| paths.iter().any(|told| path == *told || path.starts_with(&format!("{told}/")));
    let gone: Vec<&String> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    assert!(gone.iter().all(|path| is_told(path)), "{gone:?} are gone, and {paths:?} were told");
    assert!(after.keys().all(|path| !is_told(path)), "of {paths:?} something is left");
    assert!(rows.iter().any(|row| row["goes"] == "text"), "{rows:?}");
    let line = sandbox.log().into_iter().find(|line| line["type"] == "gc.done").unwrap();
    assert_eq!((&line["removed"]["tasks"], &line["removed"]["runs"]), (&5.into(), &5.into()));
    assert_eq!(ended(&sandbox), [format!("{}.json", tasks[5])]);
}

#[test]
fn a_text_that_a_live_task_needs_stays() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let long = json!({"shell": format!("true {}", "x".repeat(20_000)), "name": "same", "workspace": {"kind": "none"}});
    sandbox.carry_out("one", &long);
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
    let waits = sandbox.submit("two", &long);
    told(sandbox.gitspool(&["gc", "--keep", "0", "--json"]));
    assert_eq!((ended(&sandbox).len(), files_below(&sandbox.spool("texts")).len()), (0, 1));
    // And nobody needs it in memory only.
    sandbox.stop();
    sandbox.start();
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
    assert_eq!(sandbox.outcome(&waits), "succeeded");
    told(sandbox.gitspool(&["gc", "--keep", "0", "--json"]));
    assert_eq!(files_below(&sandbox.spool("texts")).len(), 0);
    check(&mut sandbox);
}

#[test]
fn the_id_of_a_removed_task_is_never_used_again_and_who_asks_is_told() {
    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let ran = sandbox.outside("ran").display().to_string();
    let job = json!({"id": ID, "name": "once", "shell": format!("echo ran >> {ran}"), "workspace": {"kind": "none"}});
    sandbox.carry_out("once", &job);
    let key = json!({"type": "gc", "keep": 0, "key": "k"});
    sandbox.ask("gc.json", &key);
    assert_eq!(ended(&sandbox).len(), 0);
    for verb in ["show", "wait", "logs", "events", "why"] {
        let output = sandbox.gitspool(&[verb, ID]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{verb}: {said}");
        assert!(said.contains("removed since by gc"), "{verb}: {said}");
    }
    let again = sandbox.ask("again.json", &job);
    assert_eq!((&again["accepted"], &again["task"]), (&true.into(), &ID.into()));
    assert!(again["note"].as_str().unwrap().contains("removed since"), "{again}");
    let other = sandbox.ask("other.json", &json!({"id": ID, "run": ["true"]}));
    assert_eq!(other["refusal"]["kind"], "conflict");
    assert!(sandbox.cancel("cancel.json", ID)["note"].as_str().unwrap().contains("ended already"));
    assert_eq!(sandbox.ask("repeat.json", &key)["repeats"], sandbox.receipt("gc.json")["seq"]);
    // Not even when the whole log is gone through again.
    sandbox.stop();
    fs::remove_file(sandbox.spool(".local/checkpoint.json")).unwrap();
    sandbox.start();
    assert!(sandbox.ask("later.json", &job)["note"].as_str().unwrap().contains("removed since"));
    assert_eq!((ended(&sandbox).len(), sandbox.told("ran").lines().count()), (0, 1));
    check(&mut sandbox);
}

#[test]
fn who_waits_for_a_task_that_was_removed_knows_how_it_ended() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let plain =
        |shell: &str, needs: &[&str]| json!({"shell": shell, "needs": needs, "workspace": {"kind": "none"}});
    let (good, _) = sandbox.carry_out("good", &plain("true", &[]));
    let (bad, _) = sandbox.carry_out("bad", &plain("false", &[]));
    let gate = sandbox.submit("gate", &plain(&sandbox.gate("gate"), &[]));
    let waits = sandbox.submit("waits", &plain("true", &[&good, &gate]));
    told(sandbox.gitspool(&["gc", "--keep", "0", "--json"]));
    assert_eq!(ended(&sandbox).len(), 0);
    let reasons = told(sandbox.gitspool(&["why", "--json", &waits]));
    assert!(!reasons[0].to_string().contains(&good), "{reasons:?}");
    // Also for a daemon that starts, and for who is submitted later.
    sandbox.stop();
    sandbox.start();
    let later = sandbox.submit("later", &plain("true", &[&good]));
    let blocked = sandbox.submit("blocked", &plain("true", &[&bad]));
    sandbox.open_gate("gate");
    for (task, outcome) in [(&waits, "succeeded"), (&later, "succeeded"), (&blocked, "blocked")] {
        assert_eq!(sandbox.outcome(task), outcome);
    }
    check(&mut sandbox);
}

#[test]
fn a_task_whose_workspace_stands_stays_with_its_runs_and_is_named() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (leaves, _) =
        sandbox.carry_out("leaves", &json!({"shell": "echo work > file", "workspace": {"kind": "none"}}));
    sandbox.carry_out("plain", &job());
    let output = sandbox.gitspool(&["gc", "--dry-run", "--keep", "0"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&leaves) && said.contains("its workspace stands"), "{said}");
    let receipt = &told(sandbox.gitspool(&["gc", "--keep", "0", "--json"]))[0];
    assert!(receipt["note"].as_str().unwrap().contains("1 task stays"), "{receipt}");
    assert_eq!(ended(&sandbox), [format!("{leaves}.json")]);
    assert!(sandbox.first_run(&leaves).join("events.jsonl").is_file());
    fs::remove_dir_all(
        entries(&sandbox.path("state"))
            .into_iter()
            .find(|path| path.join("work").is_dir())
            .unwrap()
            .join("work")
            .join(format!("{leaves}.1")),
    )
    .unwrap();
    told(sandbox.gitspool(&["gc", "--keep", "0", "--json"]));
    assert_eq!(ended(&sandbox).len(), 0);
    check(&mut sandbox);
}

#[test]
fn what_a_queue_keeps_the_daemon_keeps_by_itself_and_other_queues_keep_all() {
    let mut sandbox = Sandbox::new();
    fs::create_dir(sandbox.spool("queue/other")).unwrap();
    sandbox.start();
    let mut elsewhere = job();
    elsewhere["queue"] = "other".into();
    sandbox.carry_out("elsewhere", &elsewhere);
    let tasks: Vec<String> = ["a", "b", "c"].map(|name| sandbox.carry_out(name, &job()).0).into();
    sandbox.stop();
    fs::write(
        sandbox.spool("queue/default/queue.json"),
        json!({"slots": 2, "retention": {"count": 2}}).to_string(),
    )
    .unwrap();
    let doctor = sandbox.gitspool(&["doctor"]).output().unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(said.contains("beyond what queue default keeps"), "{said}");
    sandbox.start();
    sandbox.wait_until("the oldest to go", || ended(&sandbox).len() == 2);
    sandbox.wait_until("a line of it", || sandbox.log().iter().any(|line| line["type"] == "gc.done"));
    assert_eq!(ended(&sandbox), tasks[1..].iter().map(|task| format!("{task}.json")).collect::<Vec<_>>());
    assert_eq!(files_below(&sandbox.spool("queue/other/done")).len(), 1);
    // A command has its own limits, for one queue if it says so.
    let refused = sandbox.ask("gc.json", &json!({"type": "gc", "keep": 0, "queue": "othr"}));
    assert_eq!(refused["refusal"]["kind"], "not_found");
    let confined = sandbox.ask("gc1.json", &json!({"type": "gc", "keep": 0, "tenant": "t"}));
    assert_eq!(confined["refusal"]["kind"], "not_permitted");
    sandbox.ask("gc2.json", &json!({"type": "gc", "keep": 0, "queue": "other"}));
    assert_eq!((ended(&sandbox).len(), files_below(&sandbox.spool("queue/other/done")).len()), (2, 0));
    check(&mut sandbox);
}

#[test]
fn a_budget_is_kept_with_the_oldest_output_going_first_and_head_and_tail_of_the_rest_stay() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let large = json!({"shell": "yes 0123456789 | head -c 3000000", "output_bytes_max": 200_000, "workspace": {"kind": "none"}});
    let tasks: Vec<String> = ["a", "b", "c", "d"].map(|name| sandbox.carry_out(name, &large).0).into();
    let before: Vec<String> = tasks.iter().map(|task| sandbox.output(task)).collect();
    assert!(before.iter().all(|output| output.len() < 210_000 && output.contains("bytes left out")));
    let rows = told(sandbox.gitspool(&["gc", "--dry-run", "--json", "--bytes", "600000"]));
    let goes: Vec<&str> = rows.iter().filter_map(|row| row["task"].as_str()).collect();
    assert_eq!(goes, [&tasks[0], &tasks[1]], "{rows:?}");
    told(sandbox.gitspool(&["gc", "--bytes", "600000", "--json"]));
    assert_eq!(ended(&sandbox).len(), 2);
    assert_eq!(
        [sandbox.output(&tasks[2]), sandbox.output(&tasks[3])],
        [before[2].clone(), before[3].clone()]
    );
    check(&mut sandbox);
}

#[test]
fn a_daemon_that_is_killed_while_it_removes_leaves_nothing_wrong_and_the_next_goes_on() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    for number in 0..40 {
        sandbox.submit(&format!("job-{number}"), &json!({"run": ["true"], "workspace": {"kind": "none"}}));
    }
    sandbox.wait_until("the ends", || ended(&sandbox).len() == 40);
    sandbox.drop_by_mv("gc.json", json!({"type": "gc", "keep": 3}).to_string());
    sandbox.wait_until("the first to go", || ended(&sandbox).len() < 40);
    sandbox.kill();
    // Killed between the claim and its answer, it is answered by the next.
    let found: Vec<String> =
        findings(&sandbox).into_iter().filter(|finding| !finding.contains("daemon_gone")).collect();
    assert!(found.iter().all(|finding| finding.contains("left_in_tmp")), "{found:?}");
    sandbox.start();
    assert_eq!(sandbox.receipt("gc.json")["accepted"], true);
    assert_eq!(ended(&sandbox).len(), 3);
    assert!(entries(&sandbox.spool("runs")).iter().all(|day| entries(day).len() <= 3));
    assert!(!sandbox.spool(".local/trash").exists() || entries(&sandbox.spool(".local/trash")).is_empty());
    check(&mut sandbox);
}

/// Makes what lies there of today that of a day long ago.
fn make_old(sandbox: &Sandbox, day: &str) {
    for folder in ["receipts", "refused"] {
        let folder = sandbox.spool(folder);
        let today = entries(&folder)[0].clone();
        sandbox.sh(&format!("mv $1/{} $1/{day}; touch -d {day} $1/{day}", name_of(&today)), &folder);
    }
}

#[test]
fn answers_and_segments_go_with_the_last_task_of_their_days() {
    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let mut old = job();
    old["id"] = ID.into();
    old["name"] = "old".into();
    sandbox.carry_out("old", &old);
    sandbox.ask("wrong.json", &json!({"runn": 1}));
    let folder = entries(&sandbox.spool("events"))[0].clone();
    // Two segments of that day and before, one of them compressed; the newest is never removed.
    for day in ["2023-06-29", "2023-06-30"] {
        sandbox.stop();
        let last = sandbox.log().last().unwrap()["seq"].as_u64().unwrap();
        fs::rename(folder.join("now.jsonl"), folder.join(format!("{day}-{last:012}.jsonl"))).unwrap();
        sandbox.start();
    }
    sandbox.stop();
    let answers = |sandbox: &Sandbox| {
        let folders = ["receipts", "refused"].map(|folder| sandbox.spool(folder).join("2023-06-30"));
        folders.iter().filter(|folder| folder.exists()).count()
    };
    make_old(&sandbox, "2023-06-30");
    sandbox.start();
    let rows = told(sandbox.gitspool(&["gc", "--keep", "1", "--json"]));
    assert_eq!(
        (rows[0]["note"].as_str(), answers(&sandbox)),
        (Some("nothing"), 2),
        "its task is still there"
    );
    told(sandbox.gitspool(&["gc", "--keep", "0", "--json"]));
    assert_eq!(answers(&sandbox), 0);
    let segments: Vec<String> =
        entries(&folder).iter().map(|path| name_of(path)).filter(|name| name != "now.jsonl").collect();
    assert!(segments.len() == 1 && segments[0].starts_with("2023-06-30"), "{segments:?}");
    // What the log still tells is well, and the id is known without it.
    assert_eq!(findings(&sandbox), Vec::<String>::new());
    let again = sandbox.ask("again.json", &old);
    assert!(again["note"].as_str().unwrap().contains("removed since"), "{again}");
    sandbox.stop();
    fs::remove_file(sandbox.spool(".local/checkpoint.json")).unwrap();
    sandbox.start();
    assert_eq!(sandbox.carry_out("more", &job()).1, "succeeded");
    sandbox.stop();
    assert_eq!(findings(&sandbox), Vec::<String>::new());
}
