//! Repositories that are odd, or that somebody means ill with.

use std::fs;

use serde_json::json;

use super::{applies, done, git, read, said, status, whole};
use crate::check::check;
use crate::sandbox::Sandbox;

#[test]
fn nothing_that_the_repository_or_the_result_names_runs() {
    let shell = r#"
        printf '*.f filter=evil\n*.m merge=evil\n*.d diff=evil\n' > .gitattributes; echo f > a.d; echo more >> x.m
        git add .; git commit -qm attributes"#;
    let mut sandbox = Sandbox::of_repository();
    sandbox.sh("cd $1; echo base > x.m; git add x.m; git commit -qm base", &sandbox.repository());
    sandbox.start();
    let (task, _) = sandbox.carry_out("work", &json!({"shell": shell}));
    let ran = sandbox.outside("ran").display().to_string();
    let deed = format!(
        "cd $1; for key in filter.evil.clean filter.evil.smudge filter.evil.process merge.evil.driver diff.evil.command diff.evil.textconv \
         core.fsmonitor core.editor; do git config $key 'touch {ran}; cat'; done
         for hook in post-merge post-checkout pre-commit post-commit reference-transaction post-index-change pre-merge-commit; do
         printf '#!/bin/sh\\ntouch {ran}\\n' > .git/hooks/$hook; chmod 755 .git/hooks/$hook; done"
    );
    sandbox.sh(&deed, &sandbox.repository());
    applies(&sandbox, &[&task, "--merge"]);
    let (code, answer) = said(&sandbox, &["undo", &task]);
    assert_eq!((code, &answer["answer"]), (0, &json!("undone")), "{answer}");
    assert_eq!(sandbox.told("ran"), "");
    assert!(!sandbox.outside("ran").exists());
    let (filtered, _) = sandbox.carry_out("filtered", &json!({"shell": "echo '*.f filter=evil' > .gitattributes; echo f > a.f; git config --unset filter.evil.clean; git -c filter.evil.process= -c filter.evil.clean=cat add .; git -c core.hooksPath=/dev/null commit -qm f"}));
    let _ = fs::remove_file(sandbox.outside("ran"));
    sandbox.stop();
    let _ = fs::remove_file(sandbox.outside("ran"));
    let (code, answer) = said(&sandbox, &["apply", &filtered]);
    assert_eq!((code, &answer["answer"]), (1, &json!("left")), "{answer}");
    assert!(answer["why"].as_str().unwrap().contains("goes through a filter"), "{answer}");
    check(&mut sandbox);
}

#[test]
fn a_detached_head_needs_the_name_of_a_branch() {
    let (mut sandbox, task) = done("echo new > new", &json!({}));
    git(&sandbox, &["switch", "-q", "--detach"]);
    let (code, answer) = said(&sandbox, &["apply", &task]);
    assert_eq!((code, &answer["kind"]), (2, &json!("detached")), "{answer}");
    applies(&sandbox, &[&task, "--onto", "main"]);
    assert_eq!((git(&sandbox, &["show", "main:new"]), status(&sandbox)), ("new".into(), String::new()));
    check(&mut sandbox);
}

#[test]
fn a_branch_that_is_checked_out_in_another_worktree_of_the_user_moves_with_it() {
    let (mut sandbox, task) = done("echo new > new", &json!({}));
    let beside = sandbox.path("beside");
    git(&sandbox, &["worktree", "add", "-q", "-b", "side", beside.to_str().unwrap()]);
    let before = whole(&sandbox);
    applies(&sandbox, &[&task, "--onto", "side"]);
    assert_eq!(fs::read_to_string(beside.join("new")).unwrap(), "new\n");
    assert_eq!(sandbox.git(&beside, &["status", "--porcelain"]), "");
    assert_eq!(whole(&sandbox).3, before.3);
    fs::remove_dir_all(&beside).unwrap();
    let (code, answer) = said(&sandbox, &["undo", &task]);
    assert_eq!((code, &answer["answer"]), (1, &json!("left")), "{answer}");
    assert!(answer["why"].as_str().unwrap().contains("is gone"), "{answer}");
    check(&mut sandbox);
}

#[test]
fn names_of_every_kind_and_line_ends_arrive() {
    let shell = r#"printf a > "$(printf 'new\nline "q" \\ \303\244')"; echo lower > name; echo upper > NAME; printf 'a\r\nb\r\n' > crlf
        printf dash > -rf; git add .; git commit -qm names"#;
    let (mut sandbox, task) = done(shell, &json!({"cleanup": "all"}));
    git(&sandbox, &["config", "core.autocrlf", "input"]);
    applies(&sandbox, &[&task]);
    assert_eq!(read(&sandbox, "new\nline \"q\" \\ ä"), "a");
    assert_eq!((read(&sandbox, "name"), read(&sandbox, "NAME")), ("lower\n".into(), "upper\n".into()));
    assert_eq!(read(&sandbox, "crlf"), "a\r\nb\r\n");
    assert_eq!(status(&sandbox), "");
    check(&mut sandbox);
}

#[test]
fn a_sparse_checkout_stays_sparse_and_a_submodule_is_recorded() {
    let shell = "echo in > in; echo out > folder/out; git add .; git commit -qm both
        git update-index --add --cacheinfo 160000,4b825dc642cb6eb9a060e54bf8d69288fbee4904,sub; mkdir sub; git commit -qm sub";
    let (mut sandbox, task) = done(shell, &json!({"cleanup": "all"}));
    git(&sandbox, &["sparse-checkout", "set", "--cone", "nowhere"]);
    applies(&sandbox, &[&task]);
    assert!(sandbox.repository().join("in").exists() && !sandbox.repository().join("folder").exists());
    assert_eq!(git(&sandbox, &["ls-tree", "HEAD", "sub"]).split(' ').next(), Some("160000"));
    assert_eq!(git(&sandbox, &["show", "HEAD:folder/out"]), "out");
    assert_eq!(status(&sandbox), "");
    check(&mut sandbox);
}

#[test]
fn what_was_not_committed_arrives_with_the_ends_of_lines_that_git_would_store() {
    let mut sandbox = Sandbox::of_repository();
    let mut command = sandbox.command("git");
    command.args(["config", "--global", "core.autocrlf", "true"]);
    sandbox.run(command);
    sandbox.start();
    let shell = r"printf 'two\r\n' >> file.txt; printf 'a\r\nb\r\n' > new; printf '\000\r\n' > bin; grep -c first file.txt";
    let (task, _) = sandbox.carry_out("work", &json!({"shell": shell, "workspace": {"cleanup": "all"}}));
    sandbox.stop();
    applies(&sandbox, &[&task]);
    assert_eq!(git(&sandbox, &["show", "HEAD:file.txt"]), "first\ntwo");
    assert_eq!(git(&sandbox, &["show", "HEAD:new"]), "a\nb");
    assert_eq!(read(&sandbox, "new"), "a\r\nb\r\n");
    assert_eq!(git(&sandbox, &["cat-file", "-s", "HEAD:bin"]), "3");
    assert_eq!(status(&sandbox), "");
    check(&mut sandbox);
}

#[test]
fn what_was_not_committed_and_goes_through_a_filter_is_refused() {
    let mut sandbox = Sandbox::of_repository();
    let mut command = sandbox.command("git");
    command.args(["config", "--global", "filter.loud.clean", "tr a-z A-Z"]);
    sandbox.run(command);
    sandbox.start();
    let shell = "echo '*.f filter=loud' > .gitattributes; git add .; git commit -qm rules; echo quiet > a.f";
    let (task, _) = sandbox.carry_out("work", &json!({"shell": shell, "workspace": {"cleanup": "all"}}));
    sandbox.stop();
    let before = whole(&sandbox);
    let (code, answer) = said(&sandbox, &["apply", &task]);
    assert_eq!((code, &answer["kind"]), (2, &json!("not_whole")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("a.f was not committed"), "{answer}");
    assert_eq!(whole(&sandbox), before);
    check(&mut sandbox);
}
