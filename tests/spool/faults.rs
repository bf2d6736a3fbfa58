//! Disks that do not do what they are told, days that pass, and control groups.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::check::check;
use crate::sandbox::{Sandbox, files_below, read_json, signal};

/// Whether strace is there and may trace; says so if it may not.
fn can_inject() -> bool {
    let traced =
        Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let can = traced.is_ok_and(|status| status.success());
    if !can {
        eprintln!(
            "SKIPPED: no strace that may trace; with it (apt-get install strace) failing syncs are tested too"
        );
    }
    can
}

/// Makes the `nth` fdatasync of each process on `path` fail, as a broken disk does.
fn failing_sync(path: &Path, nth: u32) -> Vec<String> {
    let inject = format!("inject=fdatasync:error=EIO:when={nth}");
    let path = path.to_str().unwrap();
    ["strace", "-f", "-qq", "-o", "/dev/null", "-P", path, "-e", "trace=fdatasync", "-e", &inject]
        .map(ToOwned::to_owned)
        .into()
}

#[test]
fn after_a_failed_sync_nothing_is_accepted_and_the_next_daemon_loses_nothing() {
    if !can_inject() {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.start();
    sandbox.stop();
    let host = sandbox.path("spool/events").read_dir().unwrap().next().unwrap().unwrap().file_name();
    let log = sandbox.spool("events").join(host).join("now.jsonl");
    // The first sync is that of the daemon's own start.
    sandbox.start_under(&failing_sync(&log, 2));
    sandbox.wait_until("the daemon's start", || sandbox.daemon_log().matches("watching").count() == 2);
    sandbox.drop_by_mv(
        "one.json",
        json!({"shell": "echo ran >> ran", "workspace": {"kind": "none"}}).to_string(),
    );
    assert_eq!(sandbox.wait_for_end().code(), Some(2));
    let record = read_json(&sandbox.spool(".local/daemon.json")).unwrap();
    assert!(record["stopped"].as_str().is_some_and(|why| why.contains("now.jsonl")), "{record}");
    assert_eq!(sandbox.receipt_now("one.json"), None, "what is not durable is not accepted");
    sandbox.start();
    let receipt = sandbox.receipt("one.json");
    assert_eq!(receipt["accepted"], true, "{receipt}");
    assert_eq!(sandbox.outcome(receipt["task"].as_str().unwrap()), "succeeded");
    check(&mut sandbox);
}

#[test]
fn a_run_whose_end_cannot_be_synced_gets_a_new_log_that_can() {
    if !can_inject() {
        return;
    }
    let mut sandbox = Sandbox::new();
    let task = "01890a5d-ac96-774b-bcce-b302099a8057";
    let log = sandbox.spool("runs/2023-06-30").join(format!("{task}.1")).join("events.jsonl");
    sandbox.start_under(&failing_sync(&log, 2));
    let command = json!({"id": task, "shell": "exit 3", "workspace": {"kind": "none"}});
    let (_, outcome) = sandbox.carry_out("one", &command);
    assert_eq!(outcome, "failed");
    assert_eq!(sandbox.run_record(task)["evidence"]["exit_code"], 3);
    let said = fs::read_to_string(sandbox.first_run(task).join("supervisor.error")).unwrap();
    assert!(said.contains("cannot sync"), "{said}");
    check(&mut sandbox);
}

#[test]
fn the_log_of_an_earlier_day_is_sealed_and_compressed_and_its_numbers_go_on() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    sandbox.carry_out("one", &json!({"run": ["true"], "workspace": {"kind": "none"}}));
    sandbox.stop();
    let before = sandbox.log();
    let folder = sandbox.spool("events").read_dir().unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(folder.join("now.jsonl")).unwrap();
    let at = before[0]["at"].as_str().unwrap();
    fs::write(folder.join("now.jsonl"), text.replace(&at[..10], "2023-06-30")).unwrap();
    for receipt in files_below(&sandbox.spool("receipts")) {
        let text = fs::read_to_string(&receipt).unwrap();
        fs::write(receipt, text.replace(&at[..10], "2023-06-30")).unwrap();
    }
    sandbox.start();
    sandbox.carry_out("two", &json!({"run": ["true"], "workspace": {"kind": "none"}}));
    let sealed = folder.join(format!("2023-06-30-{:012}.jsonl", before.len()));
    let compressed = folder.join(format!("2023-06-30-{:012}.jsonl.gz", before.len()));
    sandbox.wait_until("compression", || compressed.is_file() && !sealed.exists());
    assert_eq!(sandbox.sh("zcat $1", &compressed), text.replace(&at[..10], "2023-06-30"));
    let events = sandbox.run(sandbox.gitspool(&["events"]));
    assert_eq!(events.lines().count(), sandbox.log().len());
    // Without a checkpoint the next daemon goes through all of it.
    sandbox.stop();
    fs::remove_file(sandbox.spool(".local/checkpoint.json")).unwrap();
    sandbox.start();
    let seqs: Vec<u64> = sandbox.log().iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    check(&mut sandbox);
}

/// A control group of this test's own, if the system lets us make one.
fn own_group(name: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mounted =
        fields.find(|fields| fields.get(2) == Some(&"cgroup2")).map(|fields| PathBuf::from(fields[1]));
    let group = mounted.map(|mounted| mounted.join(format!("gitspool-test-{name}-{}", std::process::id())));
    let made = group.filter(|group| fs::create_dir(group).is_ok() && group.join("cgroup.kill").exists());
    if made.is_none() {
        eprintln!("SKIPPED: no control group of version 2 can be made here; as root it could");
    }
    made
}

#[test]
fn a_control_group_finds_even_what_wiped_its_marker_after_the_supervisor_was_killed() {
    let Some(group) = own_group("wiped") else { return };
    let mut sandbox = Sandbox::new();
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.display());
    sandbox.start_under(&["sh".to_owned(), "-c".to_owned(), enter, "sh".to_owned()]);
    let escaped = sandbox.outside("escaped");
    let shell = format!(
        "setsid env -i sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' & sleep 1000",
        escaped.display()
    );
    let task = sandbox.submit("escape", &json!({"shell": shell, "workspace": {"kind": "none"}}));
    let pid: u32 = sandbox.wait_told("escaped").trim().parse().unwrap();
    let supervisor = sandbox.run_record(&task)["pid"].as_u64().unwrap();
    signal(u32::try_from(supervisor).unwrap(), Signal::KILL);
    assert_eq!(sandbox.outcome(&task), "lost");
    sandbox.wait_until("the end of what escaped", || !Path::new(&format!("/proc/{pid}")).exists());
    check(&mut sandbox);
    sandbox.wait_until("the group to be empty", || {
        let below = group.read_dir().unwrap().flatten().map(|entry| entry.path());
        below.filter(|path| path.is_dir()).for_each(|path| drop(fs::remove_dir(path)));
        fs::remove_dir(&group).is_ok()
    });
}
