//! What is kept of a run: every kind of mess in one worktree, all of it removed, and all of it brought back.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::Sandbox;

/// An agent that leaves all that it can. Where `$HOST` stands is a folder for what is to be compared.
const MESS: &str = r#"
set -e
printf '*.o\n/ignored/\n' > .gitignore; printf '* text=auto eol=crlf\n*.f filter=loud\n' > .gitattributes
git add .; git commit -qm rules
git config filter.loud.clean 'tr a-z A-Z'; git config core.autocrlf true; git config core.checkStat minimal
git commit -q --allow-empty -m lost; git reset -q --hard HEAD~1
echo of-the-stash > file.txt; git stash -q
echo committed > committed; git add committed; git commit -qm committed
printf 'staged\n' > both; git add both; printf 'and changed\r\n' > both
printf 'only staged' > staged; git add staged; git rm -q --cached folder/below.txt
printf 'a\r\nb' > line.f; head -c 100000 /dev/urandom > binary; : > empty
printf odd > "$(printf 'new\nline \377 "q" \\')"; printf dash > -rf
printf x > program; chmod 755 program; printf p > private; chmod 600 private; printf r > read-only; chmod 444 read-only
mkdir -p hollow/deep; mkdir locked; printf i > locked/inside; chmod 500 locked; mkdir plain; printf 1 > plain/1
ln -s file.txt link; ln -s /nowhere/at/all dangling; ln -s .. up; mkfifo fifo plain/fifo
printf hidden > file.txt; git update-index --assume-unchanged file.txt
printf later > intended; git add -N intended
git init -q below; cd below; echo mine > x; git add x; git commit -qm x; echo dirty > x; echo more > y; cd ..
mkdir a.git; echo no > a.git/config; mkdir .GIT; echo in > .GIT/odd; mkdir -p ignored; echo gone > ignored/x; echo gone > x.o
mkdir -p deep/er; git init -q deep/er/inner; echo i > deep/er/inner/file
"#;

/// All that lies in a folder, with its mode and its content; but for git's own file or folder at the top.
fn pictured(top: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(top).unwrap().to_owned();
            if below == Path::new(".git") {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).unwrap();
            let kind = metadata.file_type();
            let content = if kind.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if kind.is_dir() {
                folders.push(path);
                Vec::new()
            } else if kind.is_fifo() {
                b"fifo".to_vec()
            } else {
                fs::read(&path).unwrap()
            };
            all.push((below, metadata.mode(), content));
        }
    }
    all.sort();
    all
}

/// What git says of a worktree.
fn told(sandbox: &Sandbox, top: &Path) -> [String; 3] {
    let index = sandbox.git(top, &["ls-files", "--stage", "-v", "--abbrev=40"]);
    let head = sandbox.git(top, &["rev-parse", "HEAD"]);
    let stashes = sandbox.git(top, &["stash", "list", "--format=%H"]);
    [index, head, stashes]
}

/// Runs an agent that leaves something and waits, so that it can be looked at.
fn left(sandbox: &mut Sandbox, deed: &str, workspace: &Value) -> (String, PathBuf) {
    sandbox.start();
    let gate = sandbox.gate("gate");
    let ready = sandbox.outside("ready");
    let shell = format!(
        "{deed}\npwd > {}.aside; mv {}.aside {}; {gate}",
        ready.display(),
        ready.display(),
        ready.display()
    );
    let task = sandbox.submit("messy", &json!({"shell": shell, "workspace": workspace}));
    sandbox.wait_told("ready");
    let top = PathBuf::from(sandbox.told("ready").trim_end());
    (task, top)
}

fn restore(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let said = sandbox.run(sandbox.gitspool(&[&["--json", "kept", "restore"], arguments].concat()));
    serde_json::from_str(&said).unwrap()
}

#[test]
fn every_kind_of_mess_is_kept_and_comes_back_bit_by_bit() {
    let mut sandbox = Sandbox::of_repository();
    let (task, top) = left(&mut sandbox, MESS, &json!({"cleanup": "all"}));
    let is_ignored = |path: &Path| path.starts_with("ignored") || path == Path::new("x.o");
    let mut before = pictured(&top);
    before.retain(|(path, ..)| !is_ignored(path));
    let said = told(&sandbox, &top);
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "succeeded", "{}", sandbox.output(&task));
    let delivered = sandbox.run_record(&task)["delivered"].clone();
    assert_eq!((&delivered["removed"], &delivered["dirty"]), (&json!(true), &json!(true)), "{delivered}");
    assert!(!top.exists());
    let repository = sandbox.repository();
    sandbox.git(&repository, &["stash", "drop", "-q"]);
    sandbox.git(&repository, &["reflog", "expire", "--expire=now", "--all"]);
    sandbox.git(&repository, &["gc", "-q", "--prune=now"]);
    assert_eq!(sandbox.git(&repository, &["fsck", "--strict", "--no-dangling"]), "");

    let new = sandbox.outside("restored");
    let answer = restore(&sandbox, &[&task, "--worktree", new.to_str().unwrap()]);
    assert_eq!((&answer["worktree"], &answer["stashes"]), (&json!(new), &json!(1)), "{answer}");
    let after = pictured(&new);
    let names =
        |all: &[(PathBuf, u32, Vec<u8>)]| all.iter().map(|(path, ..)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    for (one, other) in before.iter().zip(&after) {
        assert_eq!(one, other);
    }
    assert_eq!(told(&sandbox, &new), said);
    let lost = sandbox.git(&new, &["log", "-g", "--format=%s", "HEAD"]);
    assert!(lost.lines().any(|line| line == "lost"), "{lost}");
    sandbox.git(&new, &["-C", "below", "log", "-1"]);
    check(&mut sandbox);
}

#[test]
fn what_is_ignored_is_kept_by_choice() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let shell = "echo /build/ > .gitignore; mkdir -p build/deep; echo out > build/deep/out";
    let workspace = json!({"cleanup": "all", "keep_ignored": true});
    let (task, _) = sandbox.carry_out("built", &json!({"shell": shell, "workspace": workspace}));
    let new = sandbox.outside("restored");
    restore(&sandbox, &[&task, "--worktree", new.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(new.join("build/deep/out")).unwrap(), "out\n");
    check(&mut sandbox);
}

#[test]
fn what_is_kept_is_listed_shown_and_made_a_branch_without_a_daemon_and_nothing_is_written_over() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let shell = "echo two > file.txt; git commit -qam second; echo new > new.txt";
    let command = json!({"shell": shell, "name": "messy", "workspace": {"cleanup": "all"}});
    let (task, _) = sandbox.carry_out("messy", &command);
    let (clean, _) = sandbox.carry_out("clean", &json!({"run": ["true"]}));
    sandbox.stop();
    let lines = sandbox.run(sandbox.gitspool(&["--json", "kept"]));
    let listed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["run"], &listed[0]["task"]), (&json!(format!("{task}.1")), &json!(task)));
    assert!(listed[0]["bytes"].as_u64().unwrap() > 0, "{listed:?}");
    assert!(sandbox.run(sandbox.gitspool(&["kept", "list"])).contains(&task));
    let shown: Value =
        serde_json::from_str(&sandbox.run(sandbox.gitspool(&["--json", "kept", "show", "messy"]))).unwrap();
    assert_eq!(
        (&shown["uncommitted"]["files_changed"], &shown["branch"]),
        (&json!(1), &json!("refs/heads/gitspool/messy"))
    );
    assert!(sandbox.run(sandbox.gitspool(&["kept", "show", &task])).contains("1 files changed, +1 -0"));

    let tip = restore(&sandbox, &["messy", "--branch", "again"])["commit"].as_str().unwrap().to_owned();
    let repository = sandbox.repository();
    assert_eq!(sandbox.git(&repository, &["show", &format!("{tip}:new.txt")]), "new\n");
    assert_eq!(sandbox.git(&repository, &["log", "--format=%s", "main..again"]).lines().count(), 2);
    assert_eq!(sandbox.git(&repository, &["status", "--porcelain"]), "");

    let there = sandbox.outside("there");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("precious"), "mine").unwrap();
    for (arguments, word) in [
        (&["messy", "--branch", "main"][..], "main exists already"),
        (&["messy", "--branch", "a..b"], "cannot be the name of a branch"),
        (&["messy", "--worktree", there.to_str().unwrap()], "is there already"),
        (&["messy", "--worktree", "/nowhere/at/all"], "make that folder first"),
        (&[&clean, "--branch", "b"], "nothing is kept of"),
        (&["messy"], "--worktree"),
    ] {
        let output = sandbox.gitspool(&[&["kept", "restore"], arguments].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word), "{arguments:?}: {said}");
    }
    assert_eq!(fs::read_to_string(there.join("precious")).unwrap(), "mine");
    let beside = sandbox.outside("beside");
    restore(&sandbox, &["messy", "--worktree", beside.to_str().unwrap(), "--branch", "third"]);
    assert_eq!(sandbox.git(&beside, &["branch", "--show-current"]), "third\n");
    assert_eq!(sandbox.git(&beside, &["status", "--porcelain"]), "?? new.txt\n");
    check(&mut sandbox);
}
