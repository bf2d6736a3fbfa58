//! Kills at each call of an `apply` and of an `undo`: the state before or the state after, or what the next call finishes.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use super::{done, git, said};
use crate::check::check;
use crate::crashpoint::{self, Fault, Plan, Seen, Site, Traced, Victims};
use crate::sandbox::Sandbox;

/// What the run did: a file of each kind of change.
const DEED: &str = "echo changed > file.txt; mkdir new; echo new > new/file; git rm -q folder/below.txt; git add .; git commit -qm one;
    echo late > late; mkdir folder; echo inside > folder/inside";

/// How many calls are chosen when not all of them are tried.
const CHOSEN: u64 = 16;

/// Runs a verb with a kill before its n-th call.
fn killed(sandbox: &Sandbox, arguments: &[&str], number: u64) -> Seen {
    let mut command = sandbox.gitspool(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    let state = sandbox.path("state");
    let fault = if number == 0 { Fault::None } else { Fault::Kill { victims: Victims::All, torn: false } };
    let plan = Plan {
        fault,
        site: Site { matching: String::new(), number },
        marker: format!("GITSPOOL_STATE_DIR={}", state.display()),
        roots: vec![sandbox.path("spool"), state, sandbox.path("repository")],
        pipes: false,
    };
    let mut traced = Traced::start(command, plan).expect("because it was tried before");
    sandbox.wait("the end of the traced program", || traced.ended());
    sandbox.wait_until("the end of all that it started", || traced.is_over());
    traced.seen()
}

/// What of a user's an interrupted call must never touch.
fn prepare(sandbox: &Sandbox) {
    let deed = "cd $1; echo user > user; git add user; git commit -qm user; echo staged > staged; git add staged; echo un > untracked;
        echo x.o > .git/info/exclude; echo i > x.o";
    sandbox.sh(deed, &sandbox.repository());
}

fn of_user(sandbox: &Sandbox) -> Vec<String> {
    let files = ["user", "staged", "untracked", "x.o"];
    let mut found: Vec<String> = files
        .iter()
        .map(|name| fs::read_to_string(sandbox.repository().join(name)).unwrap_or_default())
        .collect();
    found.push(git(sandbox, &["ls-files", "--stage", "staged", "user"]));
    found
}

fn tree_of_files(sandbox: &Sandbox) -> String {
    let status = git(sandbox, &["status", "--porcelain", "--untracked-files=all"]);
    format!("{}\n{status}", git(sandbox, &["rev-parse", "HEAD^{tree}"]))
}

fn goes_through(verb: &str, opposite: &str) {
    if !crashpoint::is_available() {
        return;
    }
    let (mut sandbox, task) = done(DEED, &json!({"cleanup": "all"}));
    prepare(&sandbox);
    let user = of_user(&sandbox);
    if verb == "undo" {
        said(&sandbox, &[opposite, &task]);
    }
    let before = tree_of_files(&sandbox);
    let calls = killed(&sandbox, &[verb, &task], 0).calls.len() as u64;
    let after = tree_of_files(&sandbox);
    assert_ne!(before, after);
    said(&sandbox, &[opposite, &task]);
    let step = if std::env::var_os("CRASH_ALL").is_some() { 1 } else { (calls / CHOSEN).max(1) };
    for number in (1..=calls).rev().step_by(usize::try_from(step).unwrap()) {
        let hit = killed(&sandbox, &[verb, &task], number).hit;
        let place = format!("{verb}, killed before call {number} of {calls}: {hit:?}");
        let (code, answer) = said(&sandbox, &[verb, &task]);
        let is_done = verb == "undo" && answer["kind"] == "not_applied";
        assert!(code == 0 || is_done, "{place}: {answer}");
        assert_eq!(tree_of_files(&sandbox), after, "{place}: {answer}");
        assert_eq!(of_user(&sandbox), user, "{place}");
        assert_eq!(sandbox.run_record(&task)["applied"].is_null(), verb == "undo", "{place}");
        assert!(!sandbox.repository().join(".git/index.lock").exists(), "{place}");
        let (code, answer) = said(&sandbox, &[opposite, &task]);
        assert_eq!((code, tree_of_files(&sandbox)), (0, before.clone()), "{place}: {answer}");
    }
    assert_eq!(git(&sandbox, &["for-each-ref", "refs/gitspool/aside"]), "");
    // What was about to be drawn lies in `.local/tmp` until a daemon starts.
    sandbox.drain();
    check(&mut sandbox);
}

#[test]
fn an_apply_that_is_killed_at_any_call_is_done_or_not_done_or_finished_by_the_next() {
    goes_through("apply", "undo");
}

#[test]
fn an_undo_that_is_killed_at_any_call_is_done_or_not_done_or_finished_by_the_next() {
    goes_through("undo", "apply");
}
