//! `gitspool rm`: one task goes, or one run of it, and nothing else; what was in its worktree is kept.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, files_below};

fn plain() -> Value {
    json!({"shell": "echo out", "workspace": {"kind": "none"}})
}

/// All files of the spool that tell of a task; but for logs, answers and what is left of removed ones.
fn of_task(sandbox: &Sandbox, task: &str) -> BTreeSet<String> {
    let all = ["queue", "runs", ".local/trash"].map(|folder| files_below(&sandbox.spool(folder))).concat();
    let names = all.iter().map(|path| path.display().to_string());
    names.filter(|path| path.contains(task)).collect()
}

/// Asks for a removal; what was answered.
fn rm(sandbox: &Sandbox, target: &str) -> Value {
    sandbox.ask("rm.json", &json!({"type": "rm", "target": target}))
}

fn note(receipt: &Value) -> &str {
    assert_eq!(receipt["accepted"], true, "{receipt}");
    receipt["note"].as_str().unwrap_or_default()
}

#[test]
fn a_task_that_has_ended_goes_with_its_runs_and_nothing_else_and_its_id_stays_known() {
    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let mut long = plain();
    long["env"] = json!({"LONG": "x".repeat(40_000)});
    long["id"] = ID.into();
    long["name"] = "long".into();
    let (task, _) = sandbox.carry_out("long", &long);
    let (other, _) = sandbox.carry_out("other", &plain());
    let failing =
        json!({"shell": "exit 4", "retry": {"max": 2, "backoff_seconds": 0}, "workspace": {"kind": "none"}});
    let (failed, _) = sandbox.carry_out("failed", &failing);
    let others = of_task(&sandbox, &other);
    let before = of_task(&sandbox, &task);
    assert_eq!((before.len() > 5, files_below(&sandbox.spool("texts")).len()), (true, 1));

    let output = sandbox.gitspool(&["rm", "--dry-run", "--json", "long", &failed]).output().unwrap();
    let rows: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let goes: Vec<&str> = rows.iter().map(|row| row["goes"].as_str().unwrap()).collect();
    assert_eq!(goes, ["task", "text", "task"], "{rows:?}");
    assert_eq!(rows[2]["paths"].as_array().unwrap().len(), 4, "three runs and the file");
    assert_eq!(of_task(&sandbox, &task), before, "a dry run has changed something");

    let said = sandbox.run(sandbox.gitspool(&["rm", "long", &failed]));
    assert!(said.contains("1 task, 1 run, 1 text") && said.contains("1 task, 3 runs"), "{said}");
    for gone in [&task, &failed] {
        assert_eq!(of_task(&sandbox, gone), BTreeSet::new());
    }
    assert_eq!((of_task(&sandbox, &other), files_below(&sandbox.spool("texts")).len()), (others, 0));
    let done = sandbox.log().into_iter().find(|line| line["type"] == "gc.done").unwrap();
    assert_eq!((&done["target"], &done["removed"]["tasks"]), (&ID.into(), &1.into()));
    // A repeat is no mistake, and the id is used for nothing else.
    assert!(note(&rm(&sandbox, &task)).contains("removed already"));
    assert!(sandbox.run(sandbox.gitspool(&["rm", &task])).contains("already"));
    assert!(note(&sandbox.ask("long.json", &long)).contains("removed since"));
    let why = sandbox.gitspool(&["show", &task]).output().unwrap();
    assert!(String::from_utf8_lossy(&why.stderr).contains("was removed"), "{why:?}");
    check(&mut sandbox);
}

#[test]
fn what_is_live_or_is_none_is_refused_and_stays() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let gate = sandbox.gate("gate");
    let runs = sandbox.submit("runs", &json!({"shell": gate, "tenant": "one"}));
    sandbox.wait_until("a run", || sandbox.run_record(&runs)["status"] == "running");
    let held = sandbox.submit("held", &json!({"shell": "true", "held": true}));
    for (target, kind) in [
        (runs.as_str(), "conflict"),
        (&format!("{runs}.1"), "conflict"),
        (&held, "conflict"),
        ("held", "conflict"),
        ("nobody", "not_found"),
        ("01890a5d-ac96-774b-bcce-b302099a8057", "not_found"),
        (&format!("{runs}.x"), "invalid_value"),
    ] {
        let receipt = rm(&sandbox, target);
        assert_eq!(
            (&receipt["refusal"]["kind"], &receipt["refusal"]["path"]),
            (&kind.into(), &"$.target".into()),
            "{target}: {receipt}"
        );
    }
    let output = sandbox.gitspool(&["rm", "--dry-run", &held]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("has not ended"), "{output:?}");
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&runs), "succeeded");
    let elsewhere = json!({"type": "rm", "target": runs, "tenant": "two"});
    assert_eq!(sandbox.ask("scope.json", &elsewhere)["refusal"]["kind"], "not_found");
    assert!(
        note(&sandbox.ask("scope.json", &json!({"type": "rm", "target": runs, "tenant": "one"})))
            .contains("1 task")
    );
    assert_eq!(sandbox.moves(&held).len(), 1);
    sandbox.cancel("stop.json", &held);
    check(&mut sandbox);
}

#[test]
fn a_run_goes_alone_unless_it_is_the_last_of_its_task_and_its_number_is_not_used_again() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let failing =
        json!({"shell": "exit 4", "retry": {"max": 2, "backoff_seconds": 0}, "workspace": {"kind": "none"}});
    let (task, outcome) = sandbox.carry_out("failing", &failing);
    assert_eq!(outcome, "failed");
    let run = |attempt: u32| format!("{task}.{attempt}");
    let last = rm(&sandbox, &run(3));
    assert!(
        last["refusal"]["kind"] == "conflict"
            && last["refusal"]["hint"].as_str().unwrap().contains("gitspool rm"),
        "{last}"
    );
    assert_eq!(rm(&sandbox, &run(4))["refusal"]["kind"], "not_found");
    assert!(note(&rm(&sandbox, &run(1))).contains("1 run"));
    assert!(note(&rm(&sandbox, &run(1))).contains("already"));
    assert!(of_task(&sandbox, &run(1)).is_empty() && !of_task(&sandbox, &run(2)).is_empty());
    sandbox.run(sandbox.gitspool(&["show", &task]));
    assert!(note(&rm(&sandbox, &run(2))).contains("1 run"));
    sandbox.ask("retry.json", &json!({"type": "retry", "target": task}));
    sandbox.wait_until("the next attempt", || {
        let last = sandbox.moves(&task).pop().unwrap();
        last["state"]["is"] == "ended" && last["state"]["attempts"] == 4
    });
    check(&mut sandbox);
}

#[test]
fn what_is_in_a_worktree_is_kept_before_it_goes_and_what_could_not_be_kept_stays() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let repository = sandbox.repository();
    let work = "git commit -q --allow-empty -m second; echo left > left.txt; echo more >> file.txt";
    let (task, outcome) = sandbox.carry_out("work", &json!({"shell": work}));
    assert_eq!(outcome, "succeeded");
    let place = sandbox.run_record(&task)["workspace"]["root"].as_str().unwrap().to_owned();
    // Somebody has worked there since.
    fs::write(format!("{place}/later.txt"), "later\n").unwrap();
    let output = sandbox.gitspool(&["rm", "--dry-run", &task]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains(&place), "{output:?}");
    let said = sandbox.run(sandbox.gitspool(&["rm", &task]));
    assert!(said.contains("1 worktree"), "{said}");
    assert!(!fs::exists(&place).unwrap() && of_task(&sandbox, &task).is_empty());
    let show =
        |what: &str| sandbox.git(&repository, &["show", &format!("refs/gitspool/kept/{task}.1:{what}")]);
    assert_eq!(
        (show("left.txt"), show("later.txt"), show("file.txt")),
        ("left\n".into(), "later\n".into(), "first\nmore\n".into())
    );
    assert!(sandbox.git(&repository, &["log", "--format=%s", "gitspool/work"]).starts_with("second\n"));
    assert!(!sandbox.git(&repository, &["worktree", "list"]).contains(&task));

    // A private folder is in no repository, and an unfinished merge cannot be kept whole.
    let (private, _) =
        sandbox.carry_out("private", &json!({"shell": "echo mine > mine", "workspace": {"kind": "none"}}));
    let merge = "git checkout -q -b other && echo a > file.txt && git commit -qam a && git checkout -q - \
                 && echo b > file.txt && git commit -qam b; git merge -q other; true";
    let (merging, _) = sandbox.carry_out("merging", &json!({"shell": merge}));
    for task in [&private, &merging] {
        let root = sandbox.run_record(task)["workspace"]["root"].as_str().unwrap().to_owned();
        let files = of_task(&sandbox, task);
        let refusal = rm(&sandbox, task)["refusal"].clone();
        assert!(
            refusal["kind"] == "conflict" && refusal["hint"].as_str().unwrap().contains(&root),
            "{refusal}"
        );
        let told: BTreeSet<String> = files.difference(&of_task(&sandbox, task)).cloned().collect();
        assert!(told.is_empty() && fs::exists(&root).unwrap(), "{told:?}");
    }
    let root = sandbox.run_record(&private)["workspace"]["root"].as_str().unwrap().to_owned();
    fs::remove_dir_all(root).unwrap();
    assert!(note(&rm(&sandbox, &private)).contains("1 task"));
    check(&mut sandbox);
}

#[test]
fn many_removals_at_once_are_all_carried_out_and_a_killed_daemon_goes_on_with_them() {
    const COUNT: usize = 20;
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let tasks: Vec<String> =
        (0..COUNT).map(|number| sandbox.submit(&format!("job{number}"), &plain())).collect();
    tasks.iter().for_each(|task| assert_eq!(sandbox.outcome(task), "succeeded"));
    sandbox.let_work_until(std::time::Duration::from_secs(5), || of_task(&sandbox, &tasks[0]).len() > 3);
    for (number, task) in tasks.iter().enumerate() {
        sandbox.drop_by_mv(&format!("rm{number}.json"), json!({"type": "rm", "target": task}).to_string());
    }
    sandbox.wait_until("one of them", || tasks.iter().any(|task| of_task(&sandbox, task).is_empty()));
    sandbox.kill();
    sandbox.start();
    for number in 0..COUNT {
        let receipt = sandbox.receipt(&format!("rm{number}.json"));
        assert_eq!(receipt["accepted"], true, "{receipt}");
    }
    for task in &tasks {
        assert_eq!(of_task(&sandbox, task), BTreeSet::new());
    }
    check(&mut sandbox);
}
