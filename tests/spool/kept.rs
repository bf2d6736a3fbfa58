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

/// Work in a submodule that nobody has pushed, and a conflict without a merge.
const DEEP_MESS: &str = r#"
set -e
git init -q LIB; (cd LIB; echo lib > lib; git add lib; git commit -qm lib)
git -c protocol.file.allow=always submodule --quiet add LIB sub; git commit -qm sub
cd sub; echo unpushed > lib; git commit -qam unpushed; echo dirty > lib; git stash -q; echo untracked > new; cd ..
echo ours > file.txt; git stash -q; echo theirs > file.txt; git commit -qam theirs; git stash pop -q || true
"#;

#[test]
fn a_submodule_with_commits_of_its_own_and_a_conflict_come_back() {
    let mut sandbox = Sandbox::of_repository();
    let lib = sandbox.outside("lib").display().to_string();
    let (task, top) = left(&mut sandbox, &DEEP_MESS.replace("LIB", &lib), &json!({"cleanup": "all"}));
    let (before, said) = (pictured(&top), told(&sandbox, &top));
    assert!(said[0].contains(" 2\tfile.txt") && said[0].contains("160000"), "{}", said[0]);
    let inside = |top: &Path| {
        ["log --format=%H", "stash list --format=%H", "status --porcelain", "rev-parse HEAD"]
            .map(|words| sandbox.git(&top.join("sub"), &words.split(' ').collect::<Vec<_>>()))
    };
    let sub = inside(&top);
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "succeeded", "{}", sandbox.output(&task));
    assert!(!top.exists(), "{}", sandbox.run_record(&task)["delivered"]);
    let new = sandbox.outside("restored");
    restore(&sandbox, &[&task, "--worktree", new.to_str().unwrap()]);
    // The submodule's own `.git` leads to where its repository lies now.
    let but_git = |all: Vec<(PathBuf, u32, Vec<u8>)>| {
        all.into_iter().filter(|(path, ..)| path != Path::new("sub/.git")).collect::<Vec<_>>()
    };
    assert_eq!(but_git(before), but_git(pictured(&new)));
    assert_eq!((told(&sandbox, &new), inside(&new)), (said, sub));
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
    let lines = sandbox.run(sandbox.gitspool(&["--json", "kept", "list", "--bytes"]));
    let listed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["run"], &listed[0]["task"]), (&json!(format!("{task}.1")), &json!(task)));
    assert!(listed[0]["bytes"].as_u64().unwrap() > 0, "{listed:?}");
    assert!(sandbox.run(sandbox.gitspool(&["kept"])).contains(&task));
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

fn kept_refs(sandbox: &Sandbox) -> Vec<String> {
    let said =
        sandbox.git(&sandbox.repository(), &["for-each-ref", "--format=%(refname)", "refs/gitspool/kept"]);
    said.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn kept_refs_are_dropped_by_an_age_or_a_size_that_somebody_says_and_by_nothing_else() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let dirty = json!({"shell": "head -c 50000 /dev/urandom > new", "workspace": {"cleanup": "all"}});
    let (one, _) = sandbox.carry_out("one", &dirty);
    let (two, _) = sandbox.carry_out("two", &dirty);
    let names = [&one, &two].map(|task| format!("refs/gitspool/kept/{task}.1"));
    let foreign = "refs/gitspool/kept/01890a5d-ac96-774b-bcce-b302099a8057.1";
    sandbox.git(&sandbox.repository(), &["update-ref", foreign, "HEAD"]);
    sandbox.run(sandbox.gitspool(&["gc", "--keep", "1"]));
    sandbox.run(sandbox.gitspool(&["gc"]));
    assert_eq!(kept_refs(&sandbox).len(), 3, "also of a task that is gone");
    let told = sandbox.run(sandbox.gitspool(&["--json", "gc", "--dry-run", "--kept-bytes", "70000"]));
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["goes"], &told[0]["paths"][0]), (&json!("kept_ref"), &json!(names[0])));
    assert_eq!(kept_refs(&sandbox).len(), 3);
    let said = sandbox.run(sandbox.gitspool(&["gc", "--kept-bytes", "70000"]));
    assert!(said.contains("1 kept ref, which alone kept"), "{said}");
    assert_eq!(kept_refs(&sandbox), [foreign, &names[1]]);
    sandbox.run(sandbox.gitspool(&["gc", "--kept-older-than", "1h"]));
    assert_eq!(kept_refs(&sandbox).len(), 2);
    sandbox.run(sandbox.gitspool(&["gc", "--kept-older-than", "0s"]));
    assert_eq!(kept_refs(&sandbox), [foreign], "what is another spool's stays");
    let done = sandbox.log().into_iter().rfind(|line| line["type"] == "gc.done").unwrap();
    assert_eq!((&done["removed"]["kept"], &done["removed"]["tasks"]), (&json!(1), &json!(0)), "{done}");
    check(&mut sandbox);
}

#[test]
fn what_blocks_a_removal_is_told_and_looked_at_again() {
    let mut sandbox = Sandbox::of_repository();
    let (task, top) = left(&mut sandbox, "echo new > new.txt", &json!({"cleanup": "worktree"}));
    let mut cat = sandbox.command("cat");
    let mut cat = cat.current_dir(&top).stdin(std::process::Stdio::piped()).spawn().unwrap();
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let delivered = sandbox.run_record(&task)["delivered"].clone();
    assert_eq!(
        (&delivered["removed"], &delivered["blockers"][0]["kind"]),
        (&json!(false), &json!("process"))
    );
    assert!(delivered["bytes"].as_u64().unwrap() > 0 && top.join("new.txt").exists(), "{delivered}");
    let status: Value = serde_json::from_str(&sandbox.run(sandbox.gitspool(&["--json", "status"]))).unwrap();
    assert_eq!(status["worktrees"]["blocked"][0]["run"], format!("{task}.1"), "{status}");
    let name = format!("{} (cat)", cat.id());
    for verb in [&["status"][..], &["show", &task], &["doctor"]] {
        let said = sandbox.gitspool(verb).output().unwrap().stdout;
        assert!(String::from_utf8_lossy(&said).contains(&name), "{verb:?}");
    }
    let said = sandbox.run(sandbox.gitspool(&["gc"]));
    assert!(said.contains("nothing") && top.exists(), "{said}");
    drop(cat.stdin.take());
    cat.wait().unwrap();
    let said = sandbox.run(sandbox.gitspool(&["gc"]));
    assert!(said.contains("1 worktree:") && !top.exists(), "{said}");
    let delivered = sandbox.run_record(&task)["delivered"].clone();
    assert_eq!((&delivered["removed"], &delivered["blockers"]), (&json!(true), &Value::Null), "{delivered}");
    assert_eq!(sandbox.run_log(&task).last().unwrap()["type"], "workspace.settled");
    let kept = format!("{}:new.txt", delivered["kept_ref"].as_str().unwrap());
    assert_eq!(sandbox.git(&sandbox.repository(), &["show", &kept]), "new\n");
    check(&mut sandbox);
}

#[test]
fn what_cannot_be_looked_at_stays_and_is_told_until_it_can() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let config = sandbox.repository().join(".git/config");
    let good = fs::read(&config).unwrap();
    let shell = "echo left > left.txt; echo '[' >> $(git rev-parse --git-common-dir)/config";
    let (task, outcome) =
        sandbox.carry_out("broken", &json!({"shell": shell, "workspace": {"cleanup": "all"}}));
    assert_eq!(outcome, "succeeded");
    let root = PathBuf::from(sandbox.run_record(&task)["workspace"]["root"].as_str().unwrap());
    assert!(root.join("left.txt").exists());
    let said = sandbox.run(sandbox.gitspool(&["--json", "status"]));
    let status: Value = serde_json::from_str(&said).unwrap();
    let blocker = &status["worktrees"]["blocked"][0]["blockers"][0];
    assert!(blocker["kind"] == "failed" && blocker["what"].as_str().unwrap().contains("config"), "{status}");
    fs::write(&config, good).unwrap();
    let said = sandbox.gitspool(&["gc", "--dry-run"]).output().unwrap().stderr;
    assert!(
        String::from_utf8_lossy(&said).contains("is looked at again"),
        "{}",
        String::from_utf8_lossy(&said)
    );
    sandbox.run(sandbox.gitspool(&["gc"]));
    assert!(!root.exists());
    let delivered = sandbox.run_record(&task)["delivered"].clone();
    assert_eq!((&delivered["removed"], &delivered["dirty"]), (&json!(true), &json!(true)), "{delivered}");
    let kept = format!("refs/gitspool/kept/{task}.1:left.txt");
    assert_eq!(sandbox.git(&sandbox.repository(), &["show", &kept]), "left\n");
    check(&mut sandbox);
}

#[test]
fn beyond_a_budget_the_oldest_clean_worktrees_go_and_nothing_goes_that_is_not_kept() {
    let mut sandbox = Sandbox::of_repository();
    let path = sandbox.spool("spool.json");
    let mut settings: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    settings["workspaces_bytes_max"] = 2_500_000.into();
    fs::write(&path, settings.to_string()).unwrap();
    sandbox.start();
    let large = "head -c 1000000 /dev/urandom > large";
    let dirty = json!({"shell": large, "name": "dirty"});
    let clean = json!({"shell": format!("{large}; git add large; git commit -qm large"), "name": "clean"});
    let (dirty, _) = sandbox.carry_out("dirty", &dirty);
    let (first, _) = sandbox.carry_out("first", &clean);
    let root = |task: &str| {
        let root = sandbox.run_record(task)["workspace"]["root"].as_str().unwrap().to_owned();
        PathBuf::from(root)
    };
    let (dirty_root, first_root) = (root(&dirty), root(&first));
    assert!(dirty_root.exists() && first_root.exists());
    let (last, _) = sandbox.carry_out("last", &clean);
    sandbox.wait_until("the first clean one to go", || !first_root.exists());
    sandbox.wait_until("its record", || sandbox.run_record(&first)["delivered"]["removed"] == true);
    let last_root = PathBuf::from(sandbox.run_record(&last)["workspace"]["root"].as_str().unwrap());
    assert!(dirty_root.exists() && last_root.exists());
    let head = sandbox.run_record(&first)["delivered"]["head_commit"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.git(&sandbox.repository(), &["rev-parse", "gitspool/clean"]).trim(), head);
    sandbox.run(sandbox.gitspool(&["gc", "--workspaces-bytes", "0"]));
    assert!(!dirty_root.exists() && !last_root.exists());
    let kept = format!("refs/gitspool/kept/{dirty}.1:large");
    assert_eq!(sandbox.git(&sandbox.repository(), &["cat-file", "-s", &kept]).trim(), "1000000");
    check(&mut sandbox);
}
