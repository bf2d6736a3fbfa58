//! `gitspool fsck`: finds each damage that is done to a copy of one spool, mends what the logs can mend and no more, and
//! finds nothing where nothing is wrong, also while everybody works.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, entries, files_below, json_lines, log_bytes, name_of, read_json, signal};

mod damages;

/// A spool in which much has happened, at rest: what is damaged are copies of it.
pub(crate) struct Story {
    folder: tempfile::TempDir,
    pub(crate) done: String,
    pub(crate) failed: String,
    pub(crate) held: String,
    pub(crate) ready: String,
    /// Active, and its run has ended when no daemon ran.
    pub(crate) active: String,
    /// How each task ends when a daemon takes the spool up.
    states: BTreeMap<String, String>,
}

static STORY: LazyLock<Story> = LazyLock::new(Story::tell);

impl Story {
    fn tell() -> Story {
        let folder = tempfile::Builder::new().prefix("gitspool-story-").tempdir().unwrap();
        let mut sandbox = Sandbox::at(folder.path());
        sandbox.run(sandbox.gitspool(&["init"]));
        sandbox.set_settle_ms(20);
        fs::write(
            sandbox.spool("agents/default.json"),
            json!({"driver": "exec", "argv": ["cat"]}).to_string(),
        )
        .unwrap();
        sandbox.start();
        let note = "printf '{\"type\": \"note\", \"token\": \"%s\", \"summary\": \"so far\"}' $GITSPOOL_TOKEN \
                    > $GITSPOOL_DIR/inbox/.n.tmp; mv $GITSPOOL_DIR/inbox/.n.tmp $GITSPOOL_DIR/inbox/note.json; \
                    until ls $GITSPOOL_DIR/receipts/*/note.json; do sleep 0.02; done; touch kept";
        let (done, _) = sandbox.carry_out("done", &json!({"shell": note}));
        seal(&mut sandbox);
        let (failed, _) = sandbox.carry_out("failed", &json!({"script": "exit 3", "output": "apart"}));
        sandbox.carry_out("done", &json!({"prompt": "Say it again."}));
        let long = json!({"shell": format!("true {}", "x".repeat(20_000)), "held": true});
        sandbox.submit("long", &long);
        let cancelled = sandbox.submit("cancelled", &json!({"run": ["sleep", "600"]}));
        sandbox.wait_until("a run", || sandbox.run_record(&cancelled)["status"] == "running");
        sandbox.cancel("cancel.json", &cancelled);
        assert_eq!(sandbox.outcome(&cancelled), "cancelled");
        for _ in 0..2 {
            sandbox.ask("wrong.json", &json!({"runn": ["true"]}));
        }
        sandbox.ask("once.json", &json!({"runn": ["true"]}));
        let mark = json!({"type": "mark_read", "reader": "me", "tasks": [done], "version": 3});
        assert_eq!(sandbox.ask("mark.json", &mark)["accepted"], true);
        let active = sandbox.submit("active", &json!({"shell": sandbox.gate("gate")}));
        sandbox.wait_until("a run", || sandbox.run_record(&active)["status"] == "running");
        fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
        let held = sandbox.submit("held", &json!({"run": ["true"], "held": true, "key": "k"}));
        let ready = sandbox.submit("ready", &json!({"run": ["true"], "rank": 10}));
        sandbox.submit("later", &json!({"run": ["true"]}));
        sandbox.stop();
        sandbox.open_gate("gate");
        let ended = || sandbox.run_record(&active)["status"] == "ended" && sandbox.processes().is_empty();
        sandbox.wait_until("the end of a run", ended);
        // As it was before the daemon compressed it: most damages are done to text.
        let sealed = logs(&sandbox).0;
        if name_of(&sealed).ends_with(".gz") {
            sandbox.sh("gunzip $1", &sealed);
        }
        let mut story = Story { folder, done, failed, held, ready, active, states: BTreeMap::new() };
        let copy = story.copy();
        assert_eq!(found(&copy), (0, vec![]), "a spool at rest");
        copy.drain();
        story.states = states(&copy);
        story
    }

    /// A copy that can be damaged.
    fn copy(&self) -> Sandbox {
        let sandbox = Sandbox::without_spool();
        let mut command = Command::new("cp");
        command.arg("-a");
        command.args(["spool", "state", "outside"].map(|part| self.folder.path().join(part)));
        assert!(command.arg(sandbox.path(".")).status().unwrap().success());
        sandbox
    }
}

/// Makes what the log has the log of an earlier day, so that the next daemon seals it.
fn seal(sandbox: &mut Sandbox) {
    sandbox.stop();
    let day = sandbox.log()[0]["at"].as_str().unwrap()[..10].to_owned();
    let logs = files_below(&sandbox.spool("events"));
    for path in logs.into_iter().chain(files_below(&sandbox.spool("receipts"))) {
        let text = fs::read_to_string(&path).unwrap();
        fs::write(
            path,
            text.replace(&format!("\"at\":\"{day}"), "\"at\":\"2023-06-30")
                .replace(&format!("\"at\": \"{day}"), "\"at\": \"2023-06-30"),
        )
        .unwrap();
    }
    sandbox.start();
}

/// What fsck finds: its exit code, and the kinds, sorted, each once.
fn found(sandbox: &Sandbox) -> (i32, Vec<String>) {
    let (code, rows) = fsck(sandbox, &["fsck", "--json"]);
    (code, kinds(&rows, false))
}

fn kinds(rows: &[Value], mended: bool) -> Vec<String> {
    let rows = rows.iter().filter(|row| row["mended"] == mended);
    let kinds: BTreeSet<String> = rows.map(|row| row["kind"].as_str().unwrap().to_owned()).collect();
    kinds.into_iter().collect()
}

fn fsck(sandbox: &Sandbox, arguments: &[&str]) -> (i32, Vec<Value>) {
    let output = sandbox.gitspool(arguments).output().unwrap();
    let rows = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(rows.iter().all(|row| row["severity"].is_string() && row["how"].is_string()), "{rows:?}");
    assert!(!error.contains("panicked") && output.status.code() != Some(2), "{error}");
    (output.status.code().unwrap(), rows)
}

/// The last states of all tasks, by the log.
fn states(sandbox: &Sandbox) -> BTreeMap<String, String> {
    let log = all_lines(sandbox);
    let lines = log.iter().filter(|line| line["state"].is_object());
    let told = |line: &Value| {
        let state = &line["state"];
        (line["task"].as_str().unwrap().to_owned(), format!("{} {}", state["is"], state["outcome"]))
    };
    lines.map(told).collect()
}

/// The lines of the log that can be read.
fn all_lines(sandbox: &Sandbox) -> Vec<Value> {
    let files = entries(&sandbox.spool("events")).into_iter().flat_map(|host| entries(&host));
    let text: Vec<String> =
        files.map(|path| String::from_utf8_lossy(&log_bytes(&path)).into_owned()).collect();
    text.iter().flat_map(|text| text.lines()).filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The contents of all files of the spool, wherever they lie; but for huge ones.
fn contents(sandbox: &Sandbox) -> BTreeSet<Vec<u8>> {
    let files = files_below(&sandbox.path("spool"));
    let plain = files.into_iter().filter(|path| path.symlink_metadata().unwrap().is_file());
    plain
        .filter(|path| path.metadata().unwrap().len() < 1 << 22)
        .map(|path| fs::read(path).unwrap())
        .collect()
}

/// Each entry below a folder with its size and times, and the number of its file.
fn listing(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().flatten();
    let row = |entry: walkdir::DirEntry| {
        let it = entry.metadata().unwrap();
        format!(
            "{} {} {} {}.{} {}",
            entry.path().display(),
            it.ino(),
            it.len(),
            it.mtime(),
            it.mtime_nsec(),
            it.ctime_nsec()
        )
    };
    entries.map(row).collect()
}

/// A damage, and what must become of it.
pub(crate) struct Damage {
    pub(crate) name: &'static str,
    pub(crate) is_done: fn(&Sandbox, &Story),
    /// The kinds that are found.
    pub(crate) found: &'static [&'static str],
    /// Those that `--repair` leaves.
    pub(crate) left: &'static [&'static str],
    /// Those that are there when a daemon has taken the spool up.
    pub(crate) then: &'static [&'static str],
    /// Whether a task becomes what it would not have without the damage, by what the damaged log or a hand says.
    pub(crate) moves: bool,
}

/// Does a damage to a copy and checks what becomes of it. Returns what was wrong with that.
fn try_damage(story: &Story, damage: &Damage) -> Vec<String> {
    let sandbox = story.copy();
    (damage.is_done)(&sandbox, story);
    let mut wrong = Vec::new();
    let mut expect = |when: &str, is: (i32, Vec<String>), kinds: &[&str]| {
        let expected: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        if is != (i32::from(!kinds.is_empty()), expected.clone()) {
            wrong.push(format!("{}: {when}: {is:?} instead of {expected:?}", damage.name));
        }
    };
    let before = listing(sandbox.path("spool").as_path());
    expect("found", found(&sandbox), damage.found);
    let dry = listing(sandbox.path("spool").as_path()) == before;
    let had = contents(&sandbox);
    let (code, rows) = fsck(&sandbox, &["fsck", "--repair", "--json"]);
    expect("left by the repair", (code, kinds(&rows, false)), damage.left);
    let lost = had.difference(&contents(&sandbox)).count();
    expect("found after the repair", found(&sandbox), damage.left);
    let status = sandbox.gitspool(&["daemon", "--drain"]).output().unwrap();
    expect("found after a daemon", found(&sandbox), damage.then);
    let states = states(&sandbox);
    if !dry {
        wrong.push(format!("{}: a dry run has changed something", damage.name));
    }
    // The command that was answered already is in no need of its file.
    if lost > usize::from(damage.found.contains(&"claim_answered")) {
        wrong.push(format!("{}: the repair has lost {lost} contents: {rows:?}", damage.name));
    }
    if !status.status.success() {
        wrong.push(format!("{}: {}", damage.name, String::from_utf8_lossy(&status.stderr)));
    }
    if !damage.moves && states != story.states {
        wrong.push(format!("{}: tasks become {states:?} instead of {:?}", damage.name, story.states));
    }
    wrong
}

#[test]
fn each_damage_is_found_and_mended_as_far_as_the_logs_say_how() {
    let story = &*STORY;
    let damages = damages::all();
    assert!(damages.len() >= 60, "{} damages", damages.len());
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let mut wrong = Vec::new();
            while let Some(damage) = damages.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                wrong.extend(try_damage(story, damage));
            }
            wrong
        };
        let workers: Vec<_> = (0..6).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn each_kind_of_finding_is_shown_to_be_found() {
    let document = include_str!("../../spool-layout.md");
    let section = document.split_once("\n## Findings\n").unwrap().1.split_once("\n## ").unwrap().0;
    let told = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let told: BTreeSet<&str> = told.map(|(kind, _)| kind).collect();
    let damages = damages::all();
    let shown: BTreeSet<&str> = damages.iter().flat_map(|damage| damage.found).copied().collect();
    // For these somebody must live, as in the next two tests.
    let live = BTreeSet::from(["lock_held", "run_not_filed", "record_missing"]);
    let missing: Vec<_> = told.difference(&shown).filter(|kind| !live.contains(*kind)).collect();
    assert!(missing.is_empty() && shown.is_subset(&told), "{missing:?} of {told:?}");
}

#[test]
fn a_lock_that_is_held_after_the_end_is_found() {
    let sandbox = STORY.copy();
    let lock = fs::File::open(sandbox.first_run(&STORY.done).join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(found(&sandbox), (1, vec!["lock_held".to_owned()]));
    drop(lock);
    assert_eq!(found(&sandbox), (0, vec![]));
}

#[test]
fn what_a_supervisor_and_a_daemon_that_live_have_not_done_is_found() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = sandbox.submit("slow", &json!({"shell": sandbox.gate("gate")}));
    sandbox.wait_until("a run", || sandbox.run_record(&task)["status"] == "running");
    assert_eq!(found(&sandbox), (0, vec![]));
    fs::remove_file(sandbox.first_run(&task).join("run.json")).unwrap();
    assert_eq!(found(&sandbox), (1, vec!["record_missing".to_owned()]));
    let daemon = sandbox.daemon_pid();
    signal(daemon, Signal::STOP);
    sandbox.open_gate("gate");
    sandbox.wait_until("the end of the run", || sandbox.run_record(&task)["status"] == "ended");
    assert_eq!(found(&sandbox), (1, vec!["run_not_filed".to_owned()]));
    signal(daemon, Signal::CONT);
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let task = sandbox.submit("again", &json!({"shell": sandbox.gate("other")}));
    sandbox.wait_until("a run", || sandbox.run_record(&task)["status"] == "running");
    sandbox.kill();
    let gone = (1, vec!["daemon_gone".to_owned()]);
    assert_eq!(found(&sandbox), gone, "its run goes on");
    sandbox.open_gate("other");
    sandbox.wait_until("the end of the run", || sandbox.processes().is_empty());
    assert_eq!(found(&sandbox), gone, "its run has ended");
    sandbox.drain();
    check(&mut sandbox);
}

#[test]
fn nothing_is_found_while_a_daemon_and_many_runs_are_at_work() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(4);
    sandbox.start();
    let mut looks = 0;
    for round in 0..8 {
        for number in 0..12 {
            let command = match number % 4 {
                0 => json!({"shell": "sleep 0.05"}),
                1 => json!({"run": ["false"], "rank": 5}),
                2 => json!({"shell": "true", "held": number == 2}),
                _ => json!({"runn": []}),
            };
            sandbox.drop_by_mv(&format!("job-{round}-{number}.json"), command.to_string());
        }
        for _ in 0..2 {
            assert_eq!(found(&sandbox), (0, vec![]), "look {looks}");
            looks += 1;
        }
    }
    check(&mut sandbox);
}

#[test]
fn with_a_daemon_a_repair_touches_only_runs_that_nobody_lives() {
    let mut sandbox = STORY.copy();
    sandbox.start();
    sandbox.wait_in("done", &STORY.active);
    let record = sandbox.first_run(&STORY.done).join("run.json");
    let good = fs::read(&record).unwrap();
    fs::write(&record, "{").unwrap();
    let file = sandbox.spool("queue").join(&sandbox.places(&STORY.failed)[0]);
    fs::write(&file, "{}").unwrap();
    let (code, rows) = fsck(&sandbox, &["fsck", "--repair", "--json"]);
    assert_eq!((code, kinds(&rows, true)), (1, vec!["record_unreadable".to_owned()]));
    assert_eq!(kinds(&rows, false), ["task_differs"]);
    assert_eq!((fs::read(&record).unwrap(), fs::read(&file).unwrap()), (good, b"{}".to_vec()));
    sandbox.stop();
    let (code, rows) = fsck(&sandbox, &["fsck", "--repair", "--json"]);
    assert_eq!((code, kinds(&rows, true)), (0, vec!["task_differs".to_owned()]));
    check(&mut sandbox);
}

#[test]
fn what_is_found_is_told_in_words_that_steer_no_terminal() {
    let sandbox = STORY.copy();
    fs::write(sandbox.spool("queue/default/ready/\u{1b}[31mred"), "").unwrap();
    let output = sandbox.gitspool(&["fsck"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("unexplained") && said.contains("red") && !said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn a_folder_of_waiting_tasks_that_is_gone_when_a_daemon_starts_cancels_none_of_them() {
    let sandbox = STORY.copy();
    for folder in ["held", "waiting", "ready"] {
        fs::remove_dir_all(sandbox.spool("queue/default").join(folder)).unwrap();
    }
    sandbox.drain();
    assert_eq!(states(&sandbox), STORY.states);
    assert_eq!(found(&sandbox), (0, vec![]));
}

/// The files of the log: the sealed segment, and the one that grows.
pub(crate) fn logs(sandbox: &Sandbox) -> (PathBuf, PathBuf) {
    let host = entries(&sandbox.spool("events"))[0].clone();
    let sealed = entries(&host).into_iter().find(|path| name_of(path) != "now.jsonl").unwrap();
    (sealed, host.join("now.jsonl"))
}

/// The last number of the log.
pub(crate) fn last_seq(sandbox: &Sandbox) -> u64 {
    json_lines(&logs(sandbox).1).last().unwrap()["seq"].as_u64().unwrap()
}

pub(crate) fn record(path: &Path) -> Value {
    read_json(path).unwrap()
}
