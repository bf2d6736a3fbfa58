//! What was applied is taken back, and the other ways of applying.

use std::fs;

use serde_json::{Value, json};

use super::{WAYS, applies, done, git, read, said, status, whole};
use crate::check::check;

#[test]
fn what_was_applied_is_taken_back_and_can_be_applied_again() {
    for option in ["--squash", "--merge", "--rebase"] {
        let shell = "echo agent > agent; git rm -q folder/below.txt; git add agent; git commit -qm one; echo two > agent";
        let (mut sandbox, task) = done(shell, &json!({"cleanup": "all"}));
        sandbox.sh(
            "cd $1; echo user > user; git add user; git commit -qm user; echo un > un",
            &sandbox.repository(),
        );
        let before = whole(&sandbox);
        applies(&sandbox, &[&task, option]);
        assert_eq!(read(&sandbox, "agent"), "two\n");
        let (code, answer) = said(&sandbox, &["undo", &task]);
        assert_eq!((code, &answer["answer"]), (0, &json!("undone")), "{answer}");
        assert_eq!(whole(&sandbox), before);
        assert_eq!(sandbox.run_log(&task).pop().unwrap()["type"], "result.undone");
        assert_eq!(sandbox.run_record(&task)["applied"], Value::Null);
        let (code, answer) = said(&sandbox, &["undo", &task]);
        assert_eq!((code, &answer["kind"]), (2, &json!("not_applied")), "{answer}");
        applies(&sandbox, &[&task, option]);
        assert_eq!(read(&sandbox, "agent"), "two\n");
        check(&mut sandbox);
    }
}

#[test]
fn a_branch_that_went_on_gets_a_commit_that_takes_the_change_away() {
    let (mut sandbox, task) = done("echo agent > agent; echo changed > file.txt", &json!({}));
    applies(&sandbox, &[&task]);
    sandbox.sh("cd $1; echo user > user; git add user; git commit -qm user", &sandbox.repository());
    let (code, answer) = said(&sandbox, &["undo", &task, "--dry-run"]);
    assert_eq!((code, &answer["files"]), (0, &json!(["agent", "file.txt"])), "{answer}");
    let (code, answer) = said(&sandbox, &["undo", &task]);
    assert_eq!((code, &answer["answer"]), (0, &json!("undone")), "{answer}");
    assert_eq!((read(&sandbox, "file.txt"), read(&sandbox, "user")), ("first\n".into(), "user\n".into()));
    assert!(!sandbox.repository().join("agent").exists());
    assert_eq!(git(&sandbox, &["rev-list", "--count", "HEAD"]), "4");
    assert_eq!(status(&sandbox), "");
    check(&mut sandbox);
}

#[test]
fn what_the_user_has_changed_since_is_never_lost_by_an_undo() {
    let (mut sandbox, task) = done("echo agent > agent", &json!({}));
    applies(&sandbox, &[&task]);
    fs::write(sandbox.repository().join("agent"), "mine").unwrap();
    let (code, answer) = said(&sandbox, &["undo", &task]);
    assert_eq!((code, &answer["answer"]), (1, &json!("left")), "{answer}");
    assert_eq!(read(&sandbox, "agent"), "mine");
    sandbox.sh("cd $1; git commit -qam mine", &sandbox.repository());
    let (code, answer) = said(&sandbox, &["undo", &task]);
    assert_eq!((code, &answer["answer"], &answer["paths"]), (1, &json!("conflicts"), &json!(["agent"])));
    assert_eq!((read(&sandbox, "agent"), status(&sandbox)), ("mine".into(), String::new()));
    git(&sandbox, &["reset", "-q", "--hard", "HEAD~2"]);
    let (code, answer) = said(&sandbox, &["undo", &task]);
    assert_eq!((code, &answer["answer"]), (1, &json!("gone_already")), "{answer}");
    applies(&sandbox, &[&task]);
    check(&mut sandbox);
}

#[test]
fn a_rebase_brings_the_commits_with_their_authors_on_top() {
    let shell = "echo one > one; git add one; git commit -qm one --author 'An Agent <agent@example.org>'
        echo two > two; git add two; git commit -qm two; echo three > three";
    let (mut sandbox, task) = done(shell, &json!({"cleanup": "all"}));
    sandbox.sh("cd $1; echo user > user; git add user; git commit -qm user", &sandbox.repository());
    applies(&sandbox, &[&task, "--rebase"]);
    let log = git(&sandbox, &["log", "--format=%s|%an|%cn", "--reverse", "HEAD~3..HEAD"]);
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], "one|An Agent|Somebody");
    assert!(lines[2].starts_with("Uncommitted work of run"), "{log}");
    assert_eq!(git(&sandbox, &["log", "--format=%s", "-1", "HEAD~3"]), "user");
    assert_eq!((read(&sandbox, "three"), status(&sandbox)), ("three\n".into(), String::new()));
    check(&mut sandbox);
}

#[test]
fn a_patch_has_all_of_it_and_is_written_over_nothing() {
    for (way, shell, _) in WAYS {
        let (mut sandbox, task) = done(shell, &json!({"cleanup": "all"}));
        let before = whole(&sandbox);
        let patch = sandbox.outside("result.patch");
        let (_, answer) = said(&sandbox, &["apply", &task, "--patch", patch.to_str().unwrap()]);
        assert_eq!(whole(&sandbox), before, "{answer}");
        let again = sandbox.gitspool(&["apply", &task, "--patch", patch.to_str().unwrap()]).output().unwrap();
        assert_eq!(again.status.code(), Some(2), "{again:?}");
        git(&sandbox, &["apply", "--index", patch.to_str().unwrap()]);
        let patched = git(&sandbox, &["write-tree"]);
        git(&sandbox, &["reset", "-q", "--hard"]);
        applies(&sandbox, &[&task]);
        assert_eq!(git(&sandbox, &["rev-parse", "HEAD^{tree}"]), patched, "{way}");
        check(&mut sandbox);
    }
}

#[test]
fn each_branch_is_undone_by_itself() {
    let (mut sandbox, task) = done("echo new > new", &json!({}));
    let first = git(&sandbox, &["rev-parse", "HEAD"]);
    for branch in ["one", "two"] {
        git(&sandbox, &["branch", branch]);
        applies(&sandbox, &[&task, "--onto", branch]);
    }
    git(&sandbox, &["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
    let (code, answer) = said(&sandbox, &["apply", &task, "--onto", "alias"]);
    assert_eq!((code, &answer["answer"]), (1, &json!("left")), "{answer}");
    assert_eq!(git(&sandbox, &["symbolic-ref", "refs/heads/alias"]), "refs/heads/main");
    applies(&sandbox, &[&task]);
    let (_, answer) = said(&sandbox, &["undo", &task, "--onto", "one"]);
    assert_eq!(answer["undone"]["branch"], "one");
    assert_eq!(sandbox.run_record(&task)["applied"].as_array().unwrap().len(), 2);
    for branch in ["main", "two"] {
        let (_, answer) = said(&sandbox, &["undo", &task]);
        assert_eq!(answer["undone"]["branch"], branch);
    }
    assert_eq!(git(&sandbox, &["rev-parse", "one", "two", "main"]), [&first[..]; 3].join("\n"));
    check(&mut sandbox);
}
