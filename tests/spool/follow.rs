//! The output of runs: the times beside it, its limits, and who follows it and waits for it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, json_lines, names, signal};

/// The time of a line, in microseconds.
fn micros(line: &Value) -> i64 {
    let at = chrono::DateTime::parse_from_rfc3339(line["at"].as_str().unwrap()).unwrap();
    at.timestamp_micros()
}

fn bytes(line: &Value) -> u64 {
    line["bytes"].as_u64().unwrap()
}

/// How often a process has gone to sleep so far.
fn sleeps(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn the_index_tells_when_output_came_and_costs_a_silent_run_nothing() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (first, second) = (sandbox.gate("first"), sandbox.gate("second"));
    let many = "i=0; while [ $i -lt 5000 ]; do echo $i; i=$((i+1)); done";
    // What it waits with is not the supervisor's child.
    let task = sandbox.submit("job", &json!({"shell": format!("{many}; {first}; echo more; {second}")}));
    let index = || json_lines(&sandbox.first_run(&task).join("output.index"));
    let printed = || sandbox.output(&task).len() as u64;
    sandbox.wait_until("all lines and their times", || {
        sandbox.output(&task).ends_with("4999\n")
            && index().last().is_some_and(|line| bytes(line) == printed())
    });
    let before = index();
    assert!(before.windows(2).all(|pair| bytes(&pair[0]) < bytes(&pair[1])), "{before:?}");
    let lasted = micros(&before[before.len() - 1]) - micros(&before[0]);
    assert!((before.len() as i64 - 2) * 9_000 <= lasted, "one each 10 ms: {} in {lasted}", before.len());
    let supervisor = sandbox.supervisors()[0];
    sandbox.let_work(Duration::from_millis(100));
    let slept = sleeps(supervisor);
    sandbox.let_work(Duration::from_millis(700));
    assert_eq!(sleeps(supervisor), slept, "a run that prints nothing wakes nobody");
    assert_eq!(index(), before);
    sandbox.open_gate("first");
    sandbox.wait_until("one more time", || index().len() == before.len() + 1);
    assert!(micros(&index()[before.len()]) - micros(&before[before.len() - 1]) >= 700_000);
    assert_eq!(bytes(&index()[before.len()]), printed());
    sandbox.open_gate("second");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    assert_eq!(index().len(), before.len() + 1, "its end brings no more");
    let silent = sandbox.carry_out("silent", &json!({"run": ["true"]})).0;
    assert!(!names(&sandbox.first_run(&silent)).contains(&"output.index".to_owned()));
    let apart = sandbox.carry_out("apart", &json!({"shell": "echo a; echo bb >&2", "output": "apart"})).0;
    for (name, expected) in [("stdout.index", 2), ("stderr.index", 3)] {
        let lines = json_lines(&sandbox.first_run(&apart).join(name));
        assert_eq!(lines.last().map(bytes), Some(expected), "{name}");
    }
    check(&mut sandbox);
}

#[test]
fn a_killed_supervisor_leaves_an_index_that_can_be_read() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let gate = sandbox.gate("never");
    let task = sandbox.submit("job", &json!({"shell": format!("echo one; sleep 0.05; echo two; {gate}")}));
    let index = sandbox.wait("the times of both lines", || {
        let lines = json_lines(&sandbox.first_run(&task).join("output.index"));
        lines.last().is_some_and(|line| bytes(line) == 8).then_some(lines)
    });
    signal(sandbox.supervisors()[0], Signal::KILL);
    assert_eq!(sandbox.outcome(&task), "lost");
    assert_eq!(json_lines(&sandbox.first_run(&task).join("output.index")), index);
    check(&mut sandbox);
}

/// A job that prints as fast as it can until its gate is open.
fn torrent(sandbox: &Sandbox) -> String {
    let gate = sandbox.gate("enough");
    format!("echo begin; yes abcdefgh & {gate}; kill $!; wait; echo end")
}

/// Has a task print far more than it may, and checks what is kept meanwhile and at the end.
fn a_torrent_is_kept_within(mut sandbox: Sandbox, place: &Path) {
    const BYTES_MAX: u64 = 256 * 1024;
    const PRINTED_BYTES: u64 = 256 * 1024 * 1024;
    sandbox.start();
    let shell = torrent(&sandbox);
    let task = sandbox.submit("torrent", &json!({"shell": shell, "output_bytes_max": BYTES_MAX}));
    let path = || sandbox.first_run(&task).join("output.log");
    let mut most = 0;
    sandbox.wait_until("a lot of output", || {
        let Ok(meta) = fs::metadata(path()) else { return false };
        most = most.max(meta.blocks() * 512);
        meta.len() > PRINTED_BYTES
    });
    eprintln!("{}: at most {} KiB of the disk", place.display(), most / 1024);
    assert!(most < PRINTED_BYTES / 4, "{most} bytes lay on {}", place.display());
    sandbox.open_gate("enough");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let text = sandbox.output(&task);
    let (head, rest) = text.split_once("[gitspool: ").unwrap();
    let (left_out, tail) = rest.split_once(" bytes left out]\n").unwrap();
    let left_out: u64 = left_out.parse().unwrap();
    assert!(head.starts_with("begin\nabcdefgh\n") && head.ends_with("h\n"), "whole lines");
    assert!(tail.starts_with("abcdefgh\n") && tail.ends_with("abcdefgh\nend\n") | tail.ends_with("\nend\n"));
    assert!(!text.contains('\0'));
    let kept = (head.len() + tail.len()) as u64;
    assert!(kept <= BYTES_MAX && kept > BYTES_MAX - 100, "{kept} bytes are kept");
    assert_eq!(sandbox.run_record(&task)["output_truncated"], left_out);
    let index = json_lines(&sandbox.first_run(&task).join("output.index"));
    let last = index.last().unwrap();
    assert_eq!((bytes(last), &last["left_out"]["bytes"]), (kept + left_out, &left_out.into()));
    check(&mut sandbox);
}

#[test]
fn output_beyond_its_limit_keeps_head_and_tail_and_little_of_the_disk() {
    let mut places: Vec<PathBuf> = vec![std::env::temp_dir()];
    places.extend(Some(PathBuf::from("/dev/shm")).filter(|place| place.is_dir()));
    for place in places {
        let folder = tempfile::Builder::new().prefix("gitspool-test-").tempdir_in(&place).unwrap();
        let sandbox = Sandbox::at(folder.path());
        sandbox.run(sandbox.gitspool(&["init"]));
        a_torrent_is_kept_within(sandbox, &place);
    }
}

#[test]
fn a_little_too_much_is_cut_at_the_end_and_what_fits_is_left_as_it_is() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let print = |bytes: u64| json!({"shell": format!("head -c {bytes} /dev/zero | tr '\\0' x"), "output_bytes_max": 5000});
    let fits = sandbox.carry_out("fits", &print(5000)).0;
    assert_eq!(sandbox.output(&fits), "x".repeat(5000));
    assert_eq!(sandbox.run_record(&fits)["output_truncated"], Value::Null);
    let long = sandbox.carry_out("long", &print(5001)).0;
    let halves = "x".repeat(2500);
    assert_eq!(sandbox.output(&long), format!("{halves}\n[gitspool: 1 bytes left out]\n{halves}"));
    assert_eq!(sandbox.run_record(&long)["output_truncated"], 1);
    let receipt = sandbox.ask("small.json", &json!({"run": ["true"], "output_bytes_max": 4095}));
    assert_eq!(receipt["refusal"]["path"], "$.output_bytes_max", "{receipt}");
    check(&mut sandbox);
}
