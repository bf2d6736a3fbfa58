//! What a run did, brought onto a branch of the user's: all of it, or nothing; and nothing of the user's is lost.

mod kills;
mod odd;
mod undo;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::Sandbox;

/// A sandbox with a run that has ended, and its task.
fn done(shell: &str, workspace: &Value) -> (Sandbox, String) {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let (task, outcome) =
        sandbox.carry_out("work", &json!({"shell": shell, "name": "work", "workspace": workspace}));
    assert_eq!(outcome, "succeeded", "{}", sandbox.output(&task));
    sandbox.stop();
    (sandbox, task)
}

/// What `verb` answers.
fn said(sandbox: &Sandbox, arguments: &[&str]) -> (i32, Value) {
    let (code, mut rows) = sandbox.json(arguments);
    assert_eq!(rows.len(), 1, "{arguments:?}: {rows:?}");
    (code, rows.remove(0))
}

fn applies(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let (code, answer) = said(sandbox, &[&["apply"], arguments].concat());
    assert_eq!((code, &answer["answer"]), (0, &json!("applied")), "{answer}");
    answer
}

fn git(sandbox: &Sandbox, arguments: &[&str]) -> String {
    sandbox.git(&sandbox.repository(), arguments).trim_end().to_owned()
}

fn status(sandbox: &Sandbox) -> String {
    git(sandbox, &["status", "--porcelain", "--ignored"])
}

fn read(sandbox: &Sandbox, name: &str) -> String {
    fs::read_to_string(sandbox.repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All that a user has: refs, index, files.
fn whole(sandbox: &Sandbox) -> (String, String, String, Vec<(PathBuf, Vec<u8>)>) {
    let repository = sandbox.repository();
    let files = walkdir::WalkDir::new(&repository).sort_by_file_name().into_iter().flatten();
    let files = files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    let files = files.filter(|path| !path.starts_with(repository.join(".git")));
    let files = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    let refs = git(sandbox, &["for-each-ref", "refs/heads", "refs/tags", "refs/stash"]);
    (refs, git(sandbox, &["ls-files", "--stage"]), git(sandbox, &["rev-parse", "HEAD"]), files)
}

/// Each way in which a file can come, committed and not.
const WAYS: [(&str, &str, &str); 8] = [
    ("committed", "echo new > made; git add made; git commit -qm made", "A\tmade"),
    ("uncommitted", "echo more >> file.txt", "M\tfile.txt"),
    (
        "binary",
        r"printf '\000\001\377\n\r\n' > bin; git add bin; git commit -qm bin; printf '\000\377' >> bin",
        "A\tbin",
    ),
    (
        "deleted",
        "git rm -q file.txt; git commit -qm gone; rm folder/below.txt",
        "D\tfile.txt\nD\tfolder/below.txt",
    ),
    ("renamed", "git mv file.txt other.txt; git commit -qm moved", "D\tfile.txt\nA\tother.txt"),
    (
        "mode",
        "chmod +x file.txt; git commit -qam mode; chmod +x folder/below.txt",
        "M\tfile.txt\nM\tfolder/below.txt",
    ),
    ("untracked", "mkdir deep; echo u > deep/untracked", "A\tdeep/untracked"),
    (
        "link",
        "ln -s file.txt link; rm file.txt; mkdir file.txt; echo in > file.txt/in",
        "D\tfile.txt\nA\tfile.txt/in\nA\tlink",
    ),
];

fn arrives(way: &str, cleanup: &str) {
    let (_, shell, expected) = WAYS.iter().find(|(name, ..)| *name == way).unwrap();
    let (mut sandbox, task) = done(shell, &json!({"cleanup": cleanup}));
    let answer = applies(&sandbox, &[&task]);
    assert_eq!(status(&sandbox), "", "{way}");
    let changed = git(&sandbox, &["diff", "--name-status", "--no-renames", "HEAD~1", "HEAD"]);
    assert_eq!(changed, *expected, "{way}: {answer}");
    assert_eq!(git(&sandbox, &["log", "--format=%s|%an", "-1"]), "Apply work|Somebody");
    if way == "mode" {
        let mode = fs::metadata(sandbox.repository().join("folder/below.txt")).unwrap().permissions().mode();
        assert_eq!(mode & 0o100, 0o100);
    }
    if way == "binary" {
        assert_eq!(fs::read(sandbox.repository().join("bin")).unwrap(), b"\x00\x01\xff\n\r\n\x00\xff");
    }
    check(&mut sandbox);
}

#[test]
fn a_committed_file_arrives() {
    arrives("committed", "never");
}

#[test]
fn an_uncommitted_change_arrives_from_a_worktree_that_stands() {
    arrives("uncommitted", "never");
}

#[test]
fn a_binary_file_arrives_byte_for_byte() {
    arrives("binary", "worktree");
}

#[test]
fn a_deleted_file_goes() {
    arrives("deleted", "all");
}

#[test]
fn a_renamed_file_arrives_under_its_new_name() {
    arrives("renamed", "all");
}

#[test]
fn a_changed_mode_arrives() {
    arrives("mode", "never");
}

#[test]
fn an_untracked_file_arrives() {
    arrives("untracked", "all");
}

#[test]
fn a_file_that_became_a_folder_and_a_link_arrive() {
    arrives("link", "worktree");
}

#[test]
fn what_was_left_in_a_worktree_after_the_end_arrives_too() {
    let (mut sandbox, task) = done("echo one > one", &json!({}));
    let root = sandbox.run_record(&task)["workspace"]["root"].as_str().unwrap().to_owned();
    fs::write(Path::new(&root).join("later"), "two").unwrap();
    applies(&sandbox, &["work"]);
    assert_eq!((read(&sandbox, "one").as_str(), read(&sandbox, "later").as_str()), ("one\n", "two"));
    assert!(Path::new(&root).join("later").exists());
    check(&mut sandbox);
}

#[test]
fn it_is_told_and_the_second_time_nothing_changes() {
    let (mut sandbox, task) = done("echo new > new", &json!({}));
    let before = git(&sandbox, &["rev-parse", "HEAD"]);
    let applied = applies(&sandbox, &[&task])["applied"].clone();
    assert_eq!((&applied["branch"], &applied["before"]), (&json!("main"), &json!(before)));
    assert_eq!(applied["after"], git(&sandbox, &["rev-parse", "HEAD"]));
    let last = sandbox.run_log(&task).pop().unwrap();
    assert_eq!((&last["type"], &last["applied"]), (&json!("result.applied"), &applied));
    assert_eq!(sandbox.run_record(&task)["applied"], json!([applied]));
    assert!(sandbox.run(sandbox.gitspool(&["show", &task])).contains("main (squash)"));
    let kept = format!("refs/gitspool/applied/{task}.1");
    assert_eq!(git(&sandbox, &["rev-parse", &format!("{kept}^1")]), before);
    let now = whole(&sandbox);
    let (code, again) = said(&sandbox, &["apply", &task]);
    assert_eq!((code, &again["answer"]), (0, &json!("applied_already")), "{again}");
    assert_eq!(whole(&sandbox), now);
    assert_eq!(sandbox.run_log(&task).pop().unwrap(), last);
    check(&mut sandbox);
}

#[test]
fn it_is_merged_with_what_came_onto_the_branch_meanwhile_as_one_commit_or_as_a_merge() {
    for (option, parents) in [("--squash", 1), ("--merge", 2)] {
        let shell = "echo agent > agent; git add agent; git commit -qm first; echo more > more; git add more; git commit -qm second";
        let (mut sandbox, task) = done(shell, &json!({"cleanup": "worktree"}));
        sandbox.sh("cd $1; echo user > user; git add user; git commit -qm user", &sandbox.repository());
        applies(&sandbox, &[&task, option, "--message", "by hand"]);
        assert_eq!(git(&sandbox, &["log", "--format=%s", "-1"]), "by hand");
        assert_eq!(git(&sandbox, &["log", "--format=%P", "-1"]).split(' ').count(), parents);
        assert_eq!((read(&sandbox, "user"), read(&sandbox, "more")), ("user\n".into(), "more\n".into()));
        assert_eq!(status(&sandbox), "");
        check(&mut sandbox);
    }
}

#[test]
fn conflicts_are_shown_and_change_nothing() {
    let (mut sandbox, task) = done("echo agent > file.txt; echo fine > fine", &json!({}));
    sandbox.sh("cd $1; echo user > file.txt; git commit -qam user", &sandbox.repository());
    let before = whole(&sandbox);
    for arguments in [&["apply", &task][..], &["apply", &task, "--merge"], &["apply", &task, "--dry-run"]] {
        let (code, answer) = said(&sandbox, arguments);
        assert_eq!((code, &answer["answer"]), (1, &json!("conflicts")), "{answer}");
        assert_eq!(answer["paths"], json!(["file.txt"]));
        assert!(answer["said"][0].as_str().unwrap().contains("CONFLICT (content)"), "{answer}");
    }
    assert_eq!(whole(&sandbox), before);
    assert_eq!(sandbox.run_record(&task)["applied"], Value::Null);
    check(&mut sandbox);
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let (mut sandbox, task) = done("echo new > new", &json!({}));
    let before = whole(&sandbox);
    let (code, answer) = said(&sandbox, &["apply", &task, "--dry-run"]);
    assert_eq!((code, &answer["answer"], &answer["files"]), (0, &json!("would_apply"), &json!(["new"])));
    fs::write(sandbox.repository().join("new"), "mine").unwrap();
    let (code, answer) = said(&sandbox, &["apply", &task, "--dry-run"]);
    assert!(code == 1 && answer["stays"].as_str().unwrap().contains("new lies in"), "{answer}");
    fs::remove_file(sandbox.repository().join("new")).unwrap();
    assert_eq!(whole(&sandbox), before);
    check(&mut sandbox);
}

#[test]
fn a_branch_that_is_checked_out_nowhere_moves_and_no_checkout_does() {
    let (mut sandbox, task) = done("echo new > new", &json!({}));
    git(&sandbox, &["branch", "other"]);
    let before = whole(&sandbox);
    applies(&sandbox, &[&task, "--onto", "other"]);
    assert_eq!(git(&sandbox, &["show", "other:new"]), "new");
    let after = whole(&sandbox);
    assert_eq!((before.1, before.2, before.3), (after.1, after.2, after.3));
    let (code, answer) = said(&sandbox, &["apply", &task, "--onto", "nowhere"]);
    assert_eq!((code, &answer["kind"]), (2, &json!("no_branch")), "{answer}");
    check(&mut sandbox);
}

/// What a user has in the way, and what is told of it.
const IN_THE_WAY: [(&str, &str); 9] = [
    ("echo mine > file.txt", "file.txt"),
    ("echo mine > file.txt; git add file.txt", "file.txt"),
    ("echo mine > new", "new lies in"),
    ("echo new > .git/info/exclude; echo mine > new", "new lies in"),
    ("echo new > .git/info/exclude; mkdir new; echo mine > new/ignored", "new/ignored lies in"),
    ("git update-index --assume-unchanged file.txt; echo mine > file.txt", "file.txt"),
    (
        "git switch -qc side; git commit -q --allow-empty -m s; git switch -q main; git commit -q --allow-empty -m m; git merge -q --no-commit side",
        "merge",
    ),
    ("git commit -q --allow-empty -m two; git rebase -q -x false HEAD~1 2>/dev/null || true", "rebase"),
    (": > .git/index.lock", "git is at work"),
];

#[test]
fn what_a_user_has_in_the_way_stays_and_a_branch_is_left_instead() {
    for (deed, word) in IN_THE_WAY {
        let (mut sandbox, task) = done("echo agent > file.txt; echo new > new", &json!({"cleanup": "all"}));
        sandbox.sh(&format!("cd $1; {deed}"), &sandbox.repository());
        let before = whole(&sandbox);
        let (code, answer) = said(&sandbox, &["apply", &task, "--onto", "main"]);
        assert_eq!((code, &answer["answer"]), (1, &json!("left")), "{deed}: {answer}");
        assert!(answer["why"].as_str().unwrap().contains(word), "{deed}: {answer}");
        let left = answer["left"].as_str().unwrap();
        assert_eq!(git(&sandbox, &["show", &format!("{left}:file.txt")]), "agent", "{deed}");
        let (code, again) = said(&sandbox, &["apply", &task, "--onto", "main"]);
        assert_eq!(
            (code, &again["left"], &again["commit"]),
            (1, &answer["left"], &answer["commit"]),
            "{deed}"
        );
        git(&sandbox, &["update-ref", "-d", &format!("refs/heads/{left}")]);
        assert_eq!(whole(&sandbox), before, "{deed}");
        assert_eq!(sandbox.repository().join(".git/index.lock").exists(), deed.contains("index.lock"));
        check(&mut sandbox);
    }
}

#[test]
fn changes_that_touch_nothing_of_it_go_along() {
    let (mut sandbox, task) = done("echo agent > file.txt", &json!({}));
    let deed = "cd $1; echo staged > staged; git add staged; echo mine > folder/below.txt; echo un > untracked; echo x.o > .git/info/exclude; echo i > x.o";
    sandbox.sh(deed, &sandbox.repository());
    let before = status(&sandbox);
    applies(&sandbox, &[&task]);
    assert_eq!(status(&sandbox), before);
    assert_eq!(
        (read(&sandbox, "file.txt"), read(&sandbox, "folder/below.txt")),
        ("agent\n".into(), "mine\n".into())
    );
    check(&mut sandbox);
}

#[test]
fn what_cannot_be_applied_is_refused_with_its_kind() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let (nothing, _) = sandbox.carry_out("nothing", &json!({"run": ["true"]}));
    let place = sandbox.outside("place");
    fs::create_dir(&place).unwrap();
    let workspace = json!({"kind": "directory"});
    let (directory, _) =
        sandbox.carry_out("directory", &json!({"run": ["true"], "directory": place, "workspace": workspace}));
    let gate = sandbox.gate("gate");
    let live = sandbox.submit("live", &json!({"shell": gate}));
    sandbox.wait_until("its begin", || !sandbox.run_log(&live).is_empty());
    let (code, answer) = said(&sandbox, &["apply", &nothing]);
    assert_eq!((code, &answer["answer"]), (1, &json!("nothing_to_apply")));
    for (task, kind) in [(&directory, "not_a_worktree"), (&live, "live")] {
        let (code, answer) = said(&sandbox, &["apply", task]);
        assert_eq!((code, &answer["kind"]), (2, &json!(kind)), "{answer}");
    }
    let (code, answer) = said(&sandbox, &["undo", &nothing]);
    assert_eq!((code, &answer["kind"]), (2, &json!("not_applied")), "{answer}");
    sandbox.open_gate("gate");
    sandbox.outcome(&live);
    check(&mut sandbox);
}

#[test]
fn what_is_there_already_is_told() {
    let (mut sandbox, task) = done("echo new > new; git add new; git commit -qm new", &json!({}));
    git(&sandbox, &["cherry-pick", "gitspool/work"]);
    let (code, answer) = said(&sandbox, &["apply", &task]);
    assert_eq!((code, &answer["answer"]), (1, &json!("there_already")), "{answer}");
    check(&mut sandbox);
}
