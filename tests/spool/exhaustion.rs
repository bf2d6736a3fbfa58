//! Full file systems, no inodes, too few open files: nothing is refused, lost or killed for it, and all goes on by itself.
//!
//! Each test has a small file system in memory of its own, mounted where the spool is; that needs root. What else can be
//! short (a quota, memory) is tried by making single calls fail, see `crash`.

mod levels;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, entries, names};

/// A file system in memory; it is unmounted with the test, also with one that fails.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A spool on a file system of its own with so many files at most; says so where none can be mounted.
fn small(megabytes: u32, inodes: u32) -> Option<(Mounted, Sandbox)> {
    let sandbox = Sandbox::without_spool();
    let place = sandbox.path("spool");
    fs::create_dir(&place).unwrap();
    let options = format!("size={megabytes}m,nr_inodes={inodes},mode=700");
    let mut mount = Command::new("mount");
    let mounted = mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&place).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: full file systems; only root can mount one");
        return None;
    }
    let mounted = Mounted(place);
    sandbox.run(sandbox.gitspool(&["init"]));
    Some((mounted, sandbox))
}

/// A job that says that it ran.
fn job(sandbox: &Sandbox) -> Value {
    json!({"shell": format!("echo $GITSPOOL_TASK >> {}", sandbox.outside("ran").display())})
}

/// The same, with a line that is longer than what the log's last block may have left.
fn large(sandbox: &Sandbox) -> Value {
    let mut job = job(sandbox);
    job["env"] = json!({"LONG": "x".repeat(12_000)});
    job
}

/// A job that says that it has begun, waits for a gate, and says that it ran.
fn gated(sandbox: &Sandbox, name: &str) -> Value {
    let begun = sandbox.outside(&format!("begun-{name}"));
    let ran = sandbox.outside("ran");
    let gate = sandbox.gate("gate");
    json!({"shell": format!("echo yes > {}; {gate}; echo $GITSPOOL_TASK >> {}", begun.display(), ran.display())})
}

fn begin(sandbox: &Sandbox, names: &[&str]) -> Vec<String> {
    let tasks: Vec<String> = names.iter().map(|name| sandbox.submit(name, &gated(sandbox, name))).collect();
    names.iter().for_each(|name| drop(sandbox.wait_told(&format!("begun-{name}"))));
    for task in &tasks {
        sandbox.wait_until("its agent in the log", || sandbox.run_record(task)["status"] == "running");
    }
    tasks
}

/// Writes a command into the inbox under a name that is left alone.
fn stage(sandbox: &Sandbox, name: &str, command: &Value) {
    fs::write(sandbox.spool("inbox").join(format!(".{name}.tmp")), command.to_string()).unwrap();
}

/// Gives a staged command its name; that takes no room.
fn publish(sandbox: &Sandbox, name: &str) {
    let inbox = sandbox.spool("inbox");
    fs::rename(inbox.join(format!(".{name}.tmp")), inbox.join(name)).unwrap();
}

/// Uses all the room that there is.
fn fill(sandbox: &Sandbox) {
    let mut filler = File::options().create(true).append(true).open(sandbox.spool("filler")).unwrap();
    for bytes in [1 << 20, 1 << 12, 1] {
        while filler.write_all(&vec![b'x'; bytes]).is_ok() {}
    }
}

/// Uses all the files that there can be.
fn fill_with_files(sandbox: &Sandbox) {
    let folder = sandbox.spool("fillers");
    let _ = fs::create_dir(&folder);
    let made = (0..).take_while(|number: &u32| File::create(folder.join(number.to_string())).is_ok());
    assert!(made.count() > 0);
}

/// Makes a little room.
fn give_back(sandbox: &Sandbox, bytes: u64) {
    let filler = File::options().write(true).open(sandbox.spool("filler")).unwrap();
    filler.set_len(filler.metadata().unwrap().len() - bytes).unwrap();
}

fn make_room(sandbox: &Sandbox) {
    let _ = fs::remove_file(sandbox.spool("filler"));
    let _ = fs::remove_dir_all(sandbox.spool("fillers"));
}

/// What `status` says of the shortage; absent when there is none.
fn short(sandbox: &Sandbox) -> Option<Value> {
    let output = sandbox.gitspool(&["--json", "status"]).output().unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let short = Some(status["daemon"]["short"].clone()).filter(|short| !short.is_null());
    // One that has not got so far yet is missed, which is another reason to say no.
    if status["daemon"]["running"] == true {
        assert_eq!(output.status.code(), Some(i32::from(short.is_some())), "{status}");
    }
    short
}

fn wait_short(sandbox: &Sandbox) -> Value {
    sandbox.wait("a shortage in status", || short(sandbox))
}

fn wait_well(sandbox: &Sandbox) {
    sandbox.wait_until("the end of the shortage", || short(sandbox).is_none());
    sandbox.wait_until("the reserve", || reserve(sandbox) == 32);
}

fn reserve(sandbox: &Sandbox) -> usize {
    names(&sandbox.spool(".local/reserve")).len()
}

/// Each of the tasks has ended well, and ran once.
fn ran_once(sandbox: &Sandbox, tasks: usize) {
    let mut ran: Vec<String> = sandbox.told("ran").lines().map(ToOwned::to_owned).collect();
    ran.sort();
    let all = ran.len();
    ran.dedup();
    assert_eq!((ran.len(), all), (tasks, tasks), "{}", sandbox.daemon_log());
}

fn said(sandbox: &Sandbox, text: &str) -> usize {
    sandbox.daemon_log().matches(text).count()
}

#[test]
fn a_full_disk_stops_admission_says_so_and_all_goes_on_by_itself_when_there_is_room() {
    let Some((_mounted, mut sandbox)) = small(24, 4000) else { return };
    stage(&sandbox, "one.json", &large(&sandbox));
    for name in ["two.json", "three.json"] {
        stage(&sandbox, name, &job(&sandbox));
    }
    stage(&sandbox, "wrong.json", &json!({"type": "nonsense"}));
    stage(&sandbox, "long.json", &json!({"run": ["true", "x".repeat(40_000)], "name": "long"}));
    sandbox.start();
    sandbox.carry_out("before", &job(&sandbox));
    fill(&sandbox);
    publish(&sandbox, "one.json");
    let told = wait_short(&sandbox);
    assert_eq!(told["of"], "space", "{told}");
    for name in ["two.json", "wrong.json", "long.json", "three.json"] {
        publish(&sandbox, name);
    }
    // Longer than it takes to settle, and to look again.
    sandbox.let_work(Duration::from_secs(3));
    assert!(sandbox.daemon_lives());
    let mut left = names(&sandbox.spool("inbox"));
    // The first may have been taken before it was seen that the disk is full.
    left.retain(|name| name.ends_with(".json") && name != "one.json");
    assert_eq!(left, ["long.json", "three.json", "two.json", "wrong.json"], "they stay where they are");
    let dropped = ["one.json", "two.json", "wrong.json", "long.json", "three.json"];
    assert!(dropped.iter().all(|name| sandbox.receipt_now(name).is_none()));
    let output = sandbox.gitspool(&["status"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("the file system is full") && text.contains("must be free"), "{text}");
    assert_eq!(sandbox.gitspool(&["doctor"]).output().unwrap().status.code(), Some(1));
    let errors = sandbox.daemon_log().lines().filter(|line| line.contains("ERROR")).count();
    assert_eq!(errors, 1, "{}", sandbox.daemon_log());
    make_room(&sandbox);
    wait_well(&sandbox);
    for name in ["one.json", "two.json", "three.json"] {
        let receipt = sandbox.receipt(name);
        assert_eq!(sandbox.outcome(receipt["task"].as_str().unwrap()), "succeeded");
    }
    assert_eq!(sandbox.receipt("long.json")["accepted"], true);
    assert_eq!(sandbox.receipt("wrong.json")["refusal"]["kind"], "unknown_type");
    assert_eq!(said(&sandbox, "there is room again"), 1);
    check(&mut sandbox);
    ran_once(&sandbox, 4);
}

#[test]
fn runs_go_on_a_full_disk_and_their_ends_are_recorded_by_the_reserve() {
    let Some((_mounted, mut sandbox)) = small(24, 4000) else { return };
    sandbox.set_slots(8);
    sandbox.start();
    let tasks = begin(&sandbox, &["a", "b", "c", "d", "e", "f", "g", "h"]);
    sandbox.wait_until("the reserve", || reserve(&sandbox) == 32);
    fill(&sandbox);
    sandbox.open_gate("gate");
    for task in &tasks {
        assert_eq!(sandbox.outcome(task), "succeeded");
        assert_eq!(sandbox.run_record(task)["outcome"], "succeeded");
    }
    assert_eq!(wait_short(&sandbox)["of"], "space");
    assert!(reserve(&sandbox) < 32);
    make_room(&sandbox);
    wait_well(&sandbox);
    check(&mut sandbox);
    ran_once(&sandbox, 8);
}

#[test]
fn a_file_system_that_takes_no_more_files_is_told_as_such_and_ends_are_recorded() {
    let Some((_mounted, mut sandbox)) = small(64, 600) else { return };
    stage(&sandbox, "later.json", &job(&sandbox));
    sandbox.start();
    let tasks = begin(&sandbox, &["a", "b"]);
    sandbox.wait_until("the reserve", || reserve(&sandbox) == 32);
    fill_with_files(&sandbox);
    sandbox.open_gate("gate");
    for task in &tasks {
        assert_eq!(sandbox.outcome(task), "succeeded");
    }
    publish(&sandbox, "later.json");
    assert_eq!(wait_short(&sandbox)["of"], "inodes");
    make_room(&sandbox);
    wait_well(&sandbox);
    assert_eq!(sandbox.outcome(sandbox.receipt("later.json")["task"].as_str().unwrap()), "succeeded");
    check(&mut sandbox);
    ran_once(&sandbox, 3);
}

#[test]
fn a_running_task_can_be_cancelled_on_a_full_disk() {
    let Some((_mounted, mut sandbox)) = small(24, 4000) else { return };
    sandbox.start();
    let tasks = begin(&sandbox, &["a", "b"]);
    sandbox.wait_until("the reserve", || reserve(&sandbox) == 32);
    stage(&sandbox, "large.json", &large(&sandbox));
    stage(&sandbox, "later.json", &json!({"run": ["true"], "name": "later"}));
    // A line that no block of the log has room for as it is: some of it is written, and taken back.
    let reason = "x".repeat(4000);
    stage(&sandbox, "stop.json", &json!({"type": "cancel", "target": tasks[0], "reason": reason}));
    stage(&sandbox, "stop-later.json", &json!({"type": "cancel", "target": "later"}));
    fill(&sandbox);
    publish(&sandbox, "large.json");
    wait_short(&sandbox);
    publish(&sandbox, "later.json");
    publish(&sandbox, "stop.json");
    publish(&sandbox, "stop-later.json");
    assert_eq!(sandbox.outcome(&tasks[0]), "cancelled");
    assert_eq!(sandbox.receipt("stop.json")["accepted"], true);
    assert!(short(&sandbox).is_some());
    sandbox.let_work(Duration::from_secs(2));
    assert_eq!(sandbox.receipt_now("stop-later.json"), None, "its task is not there yet");
    make_room(&sandbox);
    assert_eq!(sandbox.receipt("stop-later.json")["accepted"], true);
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&tasks[1]), "succeeded");
    wait_well(&sandbox);
    check(&mut sandbox);
}

#[test]
fn whatever_fills_and_frees_the_disk_under_load_each_dropped_file_runs_once() {
    let Some((_mounted, mut sandbox)) = small(24, 8000) else { return };
    sandbox.set_slots(4);
    sandbox.start();
    // One that finds no room before its reserve is there cannot start.
    sandbox.wait_until("the reserve", || reserve(&sandbox) == 32);
    for round in 0..3_u32 {
        let name = |number: u32| format!("job-{round}-{number}.json");
        for number in 0..20 {
            stage(&sandbox, &name(number), &job(&sandbox));
        }
        for number in 0..20 {
            publish(&sandbox, &name(number));
            if number == 5 * (round + 1) {
                fill(&sandbox);
            }
        }
        wait_short(&sandbox);
        make_room(&sandbox);
        // The next round begins in the middle of what this one has left.
        sandbox.wait_until("some room", || short(&sandbox).is_none());
    }
    sandbox.wait_until("all to be run", || sandbox.told("ran").lines().count() >= 60);
    check(&mut sandbox);
    ran_once(&sandbox, 60);
    let failed = sandbox.log().into_iter().filter(|line| line["state"]["outcome"] == "failed");
    assert_eq!(failed.count(), 0);
}

#[test]
fn a_daemon_starts_on_a_full_disk_and_records_what_ended_meanwhile() {
    let Some((_mounted, mut sandbox)) = small(24, 4000) else { return };
    sandbox.start();
    let tasks = begin(&sandbox, &["a", "b"]);
    let waiting = sandbox.submit("waiting", &job(&sandbox));
    sandbox.wait_until("the reserve", || reserve(&sandbox) == 32);
    sandbox.kill();
    fill(&sandbox);
    sandbox.open_gate("gate");
    let over = |task: &String| sandbox.run_log(task).last().is_some_and(|line| line["type"] == "run.ended");
    sandbox.wait_until("their ends, without a daemon", || tasks.iter().all(over));
    sandbox.start();
    for task in &tasks {
        assert_eq!(sandbox.outcome(task), "succeeded");
    }
    wait_short(&sandbox);
    sandbox.let_work(Duration::from_secs(1));
    assert_eq!(sandbox.moves(&waiting).len(), 1, "nothing starts for now");
    make_room(&sandbox);
    assert_eq!(sandbox.outcome(&waiting), "succeeded");
    wait_well(&sandbox);
    check(&mut sandbox);
    ran_once(&sandbox, 3);
}

#[test]
fn a_spec_that_is_too_long_for_what_is_left_waits_for_room_and_is_not_refused() {
    let Some((_mounted, mut sandbox)) = small(48, 4000) else { return };
    sandbox.start();
    sandbox.wait_until("the reserve", || reserve(&sandbox) == 32);
    // In a spec each of these bytes takes six.
    let script = format!("echo $GITSPOOL_TASK >> {}; exit\n", sandbox.outside("ran").display());
    let script = script + &"\u{1}".repeat(700_000);
    fs::write(sandbox.spool("inbox/.long.sh.tmp"), script).unwrap();
    fill(&sandbox);
    give_back(&sandbox, 2 << 20);
    publish(&sandbox, "long.sh");
    let told = wait_short(&sandbox);
    assert!(told["message"].as_str().unwrap().contains("No space left"), "{told}");
    assert!(sandbox.log().iter().all(|line| line["type"] != "command.refused"));
    make_room(&sandbox);
    let task =
        sandbox.wait("its line", || sandbox.log().into_iter().find(|line| line["type"] == "task.submitted"));
    assert_eq!(sandbox.outcome(task["task"].as_str().unwrap()), "succeeded");
    wait_well(&sandbox);
    check(&mut sandbox);
    ran_once(&sandbox, 1);
}

#[test]
fn a_supervisor_that_finds_no_room_for_the_first_line_waits_until_there_is() {
    let Some((_mounted, mut sandbox)) = small(24, 4000) else { return };
    sandbox.start();
    let task = sandbox.submit("first", &job(&sandbox));
    assert_eq!(sandbox.outcome(&task), "succeeded");
    sandbox.stop();
    // What a daemon has made of a second attempt.
    let (first, second) = (sandbox.first_run(&task), sandbox.first_run(&task).with_extension("2"));
    fs::create_dir(&second).unwrap();
    let assignment = fs::read_to_string(first.join("task.json")).unwrap();
    fs::write(second.join("task.json"), assignment.replace(&format!("{task}.1"), &format!("{task}.2")))
        .unwrap();
    fill(&sandbox);
    let mut supervise = sandbox.command(env!("CARGO_BIN_EXE_gitspool"));
    let mut supervisor = supervise.arg("supervise").arg(&second).spawn().unwrap();
    // Longer than a daemon would have patience with one that ends.
    sandbox.let_work(Duration::from_secs(3));
    assert_eq!(supervisor.try_wait().unwrap(), None);
    let log = || fs::read(second.join("events.jsonl")).unwrap_or_default();
    assert_eq!(log(), b"", "nothing is left of a first line that was not written");
    assert_eq!(reserve(&sandbox), 32, "what is kept for ends is not for beginnings");
    make_room(&sandbox);
    assert!(supervisor.wait().unwrap().success());
    assert!(String::from_utf8_lossy(&log()).contains("\"succeeded\""));
    assert_eq!(sandbox.told("ran"), format!("{task}\n").repeat(2));
}

#[test]
fn a_line_of_a_run_that_finds_no_room_leaves_no_part_of_it_and_comes_with_the_end() {
    let Some((_mounted, mut sandbox)) = small(24, 4000) else { return };
    sandbox.start();
    let task = begin(&sandbox, &["a"]).remove(0);
    sandbox.wait_until("the reserve", || reserve(&sandbox) == 32);
    let (run, commands) = (sandbox.first_run(&task), sandbox.first_run(&task).join("commands"));
    fs::create_dir_all(&commands).unwrap();
    let note =
        json!({"type": "note", "text": "x".repeat(7000), "claim": task, "at": "2026-11-20T15:04:05.123456Z"});
    fs::write(commands.join("staged"), note.to_string()).unwrap();
    // A daemon would give up some of the reserve to say that it is short.
    sandbox.kill();
    fill(&sandbox);
    fs::rename(commands.join("staged"), commands.join("0001-note.json")).unwrap();
    File::options().write(true).open(run.join("wake")).unwrap().write_all(b".").unwrap();
    // The first thing that could not be recorded is told in a file, which a full disk has room for the name of only.
    sandbox.wait_until("a line without room", || run.join("supervisor.error").exists());
    let log = fs::read_to_string(run.join("events.jsonl")).unwrap();
    assert!(log.ends_with('\n') && !log.contains("xxx"), "{log}");
    sandbox.open_gate("gate");
    sandbox.start();
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let last = sandbox.run_log(&task);
    assert!(last.iter().any(|line| line["type"] == "note"), "{last:?}");
    make_room(&sandbox);
    wait_well(&sandbox);
    check(&mut sandbox);
}

#[test]
fn a_daemon_that_is_asked_to_end_on_a_full_disk_ends_in_order() {
    let Some((_mounted, mut sandbox)) = small(24, 4000) else { return };
    sandbox.start();
    let tasks = begin(&sandbox, &["a"]);
    sandbox.wait_until("the reserve", || reserve(&sandbox) == 32);
    stage(&sandbox, "later.json", &large(&sandbox));
    fill(&sandbox);
    publish(&sandbox, "later.json");
    wait_short(&sandbox);
    sandbox.stop();
    sandbox.open_gate("gate");
    make_room(&sandbox);
    sandbox.start();
    assert_eq!(sandbox.outcome(&tasks[0]), "succeeded");
    assert_eq!(sandbox.outcome(sandbox.receipt("later.json")["task"].as_str().unwrap()), "succeeded");
    check(&mut sandbox);
    ran_once(&sandbox, 2);
}

#[test]
fn a_submit_on_a_full_disk_promises_nothing_leaves_nothing_and_names_the_way_out() {
    let Some((_mounted, mut sandbox)) = small(24, 4000) else { return };
    for fill in [fill, fill_with_files] {
        fill(&sandbox);
        let output = sandbox.gitspool(&["submit", "--", "true"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(2), &b""[..]), "{said}");
        assert!(said.contains("spool/inbox/.") && said.contains("; make room"), "{said}");
        assert_eq!(names(&sandbox.spool("inbox")), Vec::<String>::new());
        make_room(&sandbox);
    }
    sandbox.run(sandbox.gitspool(&["submit", "--", "true"]));
    sandbox.drain();
    check(&mut sandbox);
}

#[test]
fn an_agent_that_fills_the_disk_itself_ends_as_it_says_and_stops_nobody_else_for_good() {
    let Some((_mounted, mut sandbox)) = small(24, 4000) else { return };
    sandbox.start();
    let filler = sandbox.spool("filler").display().to_string();
    let shell = format!("yes > {filler}; yes; echo done > {}; exit 7", sandbox.outside("said").display());
    let greedy = sandbox.submit("greedy", &json!({"shell": shell}));
    sandbox.wait_told("said");
    assert_eq!(sandbox.outcome(&greedy), "failed");
    assert_eq!(sandbox.run_record(&greedy)["evidence"]["exit_code"], 7);
    make_room(&sandbox);
    fs::write(sandbox.first_run(&greedy).join("output.log"), "").unwrap();
    let (_, outcome) = sandbox.carry_out("after", &job(&sandbox));
    assert_eq!(outcome, "succeeded");
    wait_well(&sandbox);
    check(&mut sandbox);
}

#[test]
fn a_daemon_with_few_open_files_runs_all_that_is_dropped_and_refuses_nothing() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(40);
    let limit = "ulimit -n 48; exec \"$@\"";
    sandbox.start_under(&["/bin/sh", "-c", limit, "sh"].map(ToOwned::to_owned));
    for number in 0..30 {
        sandbox.drop_by_mv(&format!("job-{number}.json"), gated(&sandbox, "all").to_string());
    }
    sandbox.wait_until("a shortage", || said(&sandbox, "no more files can be opened") > 0);
    sandbox.open_gate("gate");
    sandbox.wait_until("all to be run", || sandbox.told("ran").lines().count() >= 30);
    check(&mut sandbox);
    ran_once(&sandbox, 30);
    let outcomes = sandbox.log().into_iter().filter(|line| line["state"]["is"] == "ended");
    assert!(outcomes.into_iter().all(|line| line["state"]["outcome"] == "succeeded"));
}

#[test]
fn a_file_system_that_became_read_only_ends_the_daemon_and_the_next_one_goes_on() {
    let Some((mounted, mut sandbox)) = small(24, 4000) else { return };
    sandbox.start();
    sandbox.carry_out("before", &job(&sandbox));
    stage(&sandbox, "later.json", &job(&sandbox));
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        sandbox.wait_until("the mount", || {
            mount.args(["-o", &format!("remount,{how}")]).arg(&mounted.0).status().unwrap().success()
        });
    };
    // What nothing writes to can be made read-only.
    remount("ro");
    let daemon = sandbox.daemon_pid();
    crate::sandbox::signal(daemon, rustix::process::Signal::TERM);
    remount_later(&mounted.0, &mut sandbox);
    publish(&sandbox, "later.json");
    sandbox.start();
    assert_eq!(sandbox.outcome(sandbox.receipt("later.json")["task"].as_str().unwrap()), "succeeded");
    check(&mut sandbox);
    ran_once(&sandbox, 2);
}

/// Waits for the end of a daemon that could not write, and lets the next one.
fn remount_later(place: &Path, sandbox: &mut Sandbox) {
    assert_eq!(sandbox.wait_for_end().code(), Some(2), "{}", sandbox.daemon_log());
    let mut mount = Command::new("mount");
    assert!(mount.args(["-o", "remount,rw"]).arg(place).status().unwrap().success());
}

#[test]
fn a_reserve_that_somebody_removed_is_made_again_and_holds_blocks() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    sandbox.wait_until("the reserve", || reserve(&sandbox) == 32);
    fs::remove_dir_all(sandbox.spool(".local/reserve")).unwrap();
    // Whatever happens in a queue makes the daemon look.
    sandbox.carry_out("job", &job(&sandbox));
    sandbox.wait_until("the reserve", || reserve(&sandbox) == 32);
    check(&mut sandbox);
    let blocks = |path: &PathBuf| std::os::unix::fs::MetadataExt::blocks(&path.metadata().unwrap());
    let kept: u64 = entries(&sandbox.spool(".local/reserve")).iter().map(blocks).sum();
    assert!(kept * 512 >= 4 << 20, "{kept} blocks");
}
