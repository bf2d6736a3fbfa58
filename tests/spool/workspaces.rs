//! Workspaces: a worktree and a branch for each run, and nothing lost of what was made there.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Process, Sandbox, read_json, signal};
use rustix::process::Signal;

fn delivered(sandbox: &Sandbox, task: &str) -> Value {
    sandbox.run_record(task)["delivered"].clone()
}

fn workspace(sandbox: &Sandbox, task: &str) -> Value {
    sandbox.run_record(task)["workspace"].clone()
}

fn branches(sandbox: &Sandbox) -> Vec<String> {
    let said =
        sandbox.git(&sandbox.repository(), &["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
    said.lines().map(ToOwned::to_owned).collect()
}

fn worktrees(sandbox: &Sandbox) -> usize {
    sandbox.git(&sandbox.repository(), &["worktree", "list", "--porcelain"]).matches("worktree ").count()
}

const COMMIT_AND_MORE: &str =
    "echo two > file.txt; git commit -qam second; echo new > new.txt; echo three > file.txt";

#[test]
fn a_run_works_in_a_worktree_of_its_own_and_what_it_made_is_recorded() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let (task, outcome) =
        sandbox.carry_out("clean", &json!({"shell": "echo two > file.txt; git commit -qam second; pwd"}));
    assert_eq!(outcome, "succeeded", "{}", sandbox.output(&task));
    let repository = sandbox.repository();
    let made = workspace(&sandbox, &task);
    assert_eq!((&made["kind"], &made["branch"]), (&json!("worktree"), &json!("gitspool/clean")));
    assert_eq!(sandbox.output(&task).trim(), made["path"]);
    assert_eq!(made["base_commit"], sandbox.git(&repository, &["rev-parse", "main"]).trim());
    let left = delivered(&sandbox, &task);
    assert_eq!(left["head_commit"], sandbox.git(&repository, &["rev-parse", "gitspool/clean"]).trim());
    assert_eq!((&left["commits"], &left["files_changed"]), (&json!(1), &json!(1)));
    assert_eq!(
        (&left["dirty"], &left["removed"], &left["kept_ref"]),
        (&json!(false), &json!(false), &Value::Null)
    );
    assert!(
        Path::new(made["path"].as_str().unwrap()).join("file.txt").exists(),
        "nothing is removed unasked"
    );
    assert_eq!(sandbox.git(&repository, &["status", "--porcelain"]), "", "the user's checkout is as it was");
    assert_eq!(sandbox.git(&repository, &["branch", "--show-current"]).trim(), "main");
    check(&mut sandbox);
}

#[test]
fn uncommitted_work_is_kept_on_a_ref_and_told_as_dirty() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let (task, outcome) = sandbox.carry_out("dirty", &json!({"shell": COMMIT_AND_MORE}));
    assert_eq!(outcome, "succeeded");
    let left = delivered(&sandbox, &task);
    assert_eq!((&left["dirty"], &left["commits"]), (&json!(true), &json!(1)), "{left}");
    let kept = format!("refs/gitspool/kept/{task}.1");
    assert_eq!(left["kept_ref"], kept.as_str());
    let read = |file: &str| sandbox.git(&sandbox.repository(), &["show", &format!("{kept}:{file}")]);
    assert_eq!((read("new.txt").as_str(), read("file.txt").as_str()), ("new\n", "three\n"));
    let record = sandbox.run_record(&task);
    assert!(record["error"].as_str().unwrap().contains(&kept), "{record}");
    let log = sandbox.run_log(&task);
    assert!(log.iter().any(|line| line["type"] == "log" && line["level"] == "warn"), "{log:?}");
    check(&mut sandbox);
}

#[test]
fn cleanup_removes_the_worktree_or_the_branch_too_and_loses_nothing() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let submit = |name: &str| json!({"shell": COMMIT_AND_MORE, "workspace": {"cleanup": name}, "name": name});
    let (worktree, _) = sandbox.carry_out("worktree", &submit("worktree"));
    let (all, _) = sandbox.carry_out("all", &submit("all"));
    for task in [&worktree, &all] {
        let left = delivered(&sandbox, task);
        assert_eq!((&left["removed"], &left["dirty"]), (&json!(true), &json!(true)), "{left}");
        assert!(!Path::new(workspace(&sandbox, task)["root"].as_str().unwrap()).exists());
        let head = left["head_commit"].as_str().unwrap();
        let kept = left["kept_ref"].as_str().unwrap();
        assert_eq!(sandbox.git(&sandbox.repository(), &["show", &format!("{kept}:new.txt")]), "new\n");
        sandbox.git(&sandbox.repository(), &["merge-base", "--is-ancestor", head, kept]);
    }
    assert_eq!(branches(&sandbox), ["gitspool/worktree", "main"]);
    assert_eq!(worktrees(&sandbox), 1, "only the user's own is left");
    check(&mut sandbox);
}

#[test]
fn two_tasks_of_one_name_get_two_branches() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let command = json!({"shell": "echo $GITSPOOL_RUN > file.txt; git commit -qam mine", "name": "twin"});
    let tasks = [sandbox.submit("a", &command), sandbox.submit("b", &command)];
    let made: Vec<String> = tasks
        .iter()
        .map(|task| {
            assert_eq!(sandbox.outcome(task), "succeeded", "{}", sandbox.output(task));
            workspace(&sandbox, task)["branch"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_ne!(made[0], made[1]);
    for (task, branch) in tasks.iter().zip(&made) {
        assert!(branch.starts_with("gitspool/twin"), "{branch}");
        let file = sandbox.git(&sandbox.repository(), &["show", &format!("{branch}:file.txt")]);
        assert_eq!(file, format!("{task}.1\n"));
    }
    check(&mut sandbox);
}

#[test]
fn base_branch_and_a_folder_below_the_top_are_as_asked() {
    let mut sandbox = Sandbox::of_repository();
    let repository = sandbox.repository();
    fs::write(repository.join("file.txt"), "second\n").unwrap();
    sandbox.git(&repository, &["commit", "-qam", "second"]);
    sandbox.start();
    let command = json!({
        "shell": "cat below.txt ../file.txt", "directory": repository.join("folder"),
        "workspace": {"base": "main~1", "branch": "mine/own"},
    });
    let (task, outcome) = sandbox.carry_out("below", &command);
    assert_eq!((outcome.as_str(), sandbox.output(&task).as_str()), ("succeeded", "below\nfirst\n"));
    assert_eq!(workspace(&sandbox, &task)["branch"], "mine/own");
    let (taken, outcome) = sandbox.carry_out("taken", &command);
    assert_eq!(outcome, "failed");
    let said = sandbox.run_record(&taken)["evidence"]["message"].clone();
    assert!(said.as_str().unwrap().contains("mine/own"), "{said}");
    check(&mut sandbox);
}

#[test]
fn a_worktree_that_cannot_be_made_fails_the_run_and_starts_no_agent() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let shell = format!("echo ran > {}", sandbox.outside("ran").display());
    let plain = sandbox.outside("plain");
    fs::create_dir(&plain).unwrap();
    for (name, directory) in [("plain", json!(plain)), ("gone", json!("/no/such/place"))] {
        let command = json!({"shell": shell, "directory": directory, "workspace": {"kind": "worktree"}});
        let (task, outcome) = sandbox.carry_out(name, &command);
        assert_eq!(outcome, "failed", "{name}");
        assert_eq!(
            sandbox.run_record(&task)["error"],
            Value::Null,
            "nothing was left that could not be recorded"
        );
        let message = sandbox.run_record(&task)["evidence"]["message"].clone();
        assert!(message.as_str().is_some_and(|message| !message.is_empty()), "{name}: {message}");
    }
    let (task, outcome) =
        sandbox.carry_out("directory", &json!({"shell": shell, "directory": "/no/such/place"}));
    assert_eq!(outcome, "failed", "{}", sandbox.run_record(&task));
    assert_eq!(sandbox.told("ran"), "");
    check(&mut sandbox);
}

#[test]
fn the_users_own_work_is_not_touched_by_a_run_beside_it() {
    let mut sandbox = Sandbox::of_repository();
    let repository = sandbox.repository();
    fs::write(repository.join("file.txt"), "half done\n").unwrap();
    fs::write(repository.join("staged.txt"), "staged\n").unwrap();
    sandbox.git(&repository, &["add", "staged.txt"]);
    let status = sandbox.git(&repository, &["status", "--porcelain"]);
    let head = sandbox.git(&repository, &["rev-parse", "HEAD"]);
    sandbox.start();
    let (task, outcome) = sandbox.carry_out(
        "beside",
        &json!({"shell": "cat file.txt; ls; echo z > file.txt", "workspace": {"cleanup": "all"}}),
    );
    assert_eq!(
        (outcome.as_str(), sandbox.output(&task).as_str()),
        ("succeeded", "first\nfile.txt\nfolder\n")
    );
    assert_eq!(sandbox.git(&repository, &["status", "--porcelain"]), status);
    assert_eq!(sandbox.git(&repository, &["rev-parse", "HEAD"]), head);
    assert_eq!(fs::read_to_string(repository.join("file.txt")).unwrap(), "half done\n");
    check(&mut sandbox);
}

#[test]
fn a_cancelled_runs_work_is_kept() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let gate = sandbox.gate("gate");
    let shell = format!("echo half > half.txt; echo yes > {}; {gate}", sandbox.outside("ready").display());
    let task = sandbox.submit("half", &json!({"shell": shell, "workspace": {"cleanup": "all"}}));
    sandbox.wait_told("ready");
    sandbox.cancel("stop.json", &task);
    assert_eq!(sandbox.outcome(&task), "cancelled");
    let kept = format!("refs/gitspool/kept/{task}.1:half.txt");
    assert_eq!(sandbox.git(&sandbox.repository(), &["show", &kept]), "half\n");
    check(&mut sandbox);
}

#[test]
fn a_bare_repository_is_nobodys_workspace() {
    let mut sandbox = Sandbox::new();
    let bare = sandbox.outside("bare.git");
    sandbox.git(&sandbox.path("."), &["init", "-q", "--bare", bare.to_str().unwrap()]);
    sandbox.start();
    let (task, outcome) = sandbox.carry_out("in-it", &json!({"shell": "touch in-it", "directory": bare}));
    let evidence = &sandbox.run_record(&task)["evidence"];
    assert_eq!(outcome, "failed", "{evidence}");
    assert!(evidence["message"].as_str().unwrap().contains("bare repository"), "{evidence}");
    assert!(!bare.join("in-it").exists());
    check(&mut sandbox);
}

#[test]
fn what_only_a_worktree_can_have_is_refused_where_there_will_be_none() {
    let mut sandbox = Sandbox::new();
    fs::create_dir(sandbox.outside("plain")).unwrap();
    sandbox.start();
    for (key, workspace) in [
        ("base", json!({"base": "main"})),
        ("branch", json!({"branch": "b"})),
        ("cleanup", json!({"cleanup": "all"})),
    ] {
        let command = json!({"run": ["true"], "directory": sandbox.outside("plain"), "workspace": workspace});
        let refusal = &sandbox.ask(&format!("{key}.json"), &command)["refusal"];
        assert_eq!(refusal["kind"], "conflict", "{refusal}");
        assert_eq!(refusal["path"], format!("$.workspace.{key}"));
    }
    check(&mut sandbox);
}

#[test]
fn a_run_whose_worktree_was_half_deleted_says_where_its_work_is() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    // What git ignores takes a while to delete, and no time to keep.
    let shell = "echo ignored > .gitignore; mkdir ignored; cd ignored; seq 1 30000 | xargs touch";
    let command = json!({"shell": shell, "workspace": {"cleanup": "worktree"}});
    let task = sandbox.submit("slow", &command);
    let state = sandbox.spool("spool.json");
    let id = read_json(&state).unwrap()["id"].as_str().unwrap().to_owned();
    let trashed = sandbox.path("state").join(id).join("trash").join(format!("{task}.1"));
    let stage = |process: &Process| process.arguments.iter().any(|argument| argument == "settle");
    sandbox.wait_until("its worktree to be in the trash", || trashed.exists());
    let found = sandbox.processes().into_iter().find(stage).expect("the files take longer to delete");
    signal(found.pid, Signal::KILL);
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let record = sandbox.run_record(&task);
    let error = record["error"].as_str().unwrap();
    let kept = format!("refs/gitspool/kept/{task}.1");
    assert!(error.contains("its workspace is gone") && error.contains(&kept), "{error}");
    assert!(error.contains("(signal 9)"), "{error}");
    assert_eq!(sandbox.git(&sandbox.repository(), &["show", &format!("{kept}:.gitignore")]), "ignored\n");
}
