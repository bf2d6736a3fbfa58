//! The output of runs: the times beside it, its limits, and who follows it and waits for it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, json_lines, names, signal};
use crate::terminal::on_terminal;

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

/// Whether a file has its whole length, and zeros right before the last 20,000 bytes. How much of the disk it has does not
/// tell: some file systems set more aside for a file that grows.
fn has_hole(path: &Path, len: u64) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let mut byte = [1];
    file.metadata().unwrap().len() == len
        && file.read_exact_at(&mut byte, len - 20_000).is_ok()
        && byte == [0]
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
    // The same with a hole, which nobody is left to close.
    let shell = format!("seq 100000; {gate}");
    let task = sandbox.submit("long", &json!({"shell": shell, "output_bytes_max": 20_000}));
    sandbox.wait_until("a hole", || has_hole(&sandbox.first_run(&task).join("output.log"), 588_895));
    let pid = sandbox.run_record(&task)["pid"].as_u64().unwrap();
    signal(u32::try_from(pid).unwrap(), Signal::KILL);
    assert_eq!(sandbox.outcome(&task), "lost");
    let shown = said(&sandbox, &["logs", "long"]);
    assert!(shown.starts_with("1\n2\n") && shown.ends_with("\n100000\n") && !shown.contains('\0'));
    assert!(shown.contains(" bytes left out]\n") && shown.len() < 60_000, "{}", shown.len());
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
    // On a busy machine the agent may be far ahead for a moment.
    sandbox.wait_until("little on the disk of a lot of output", || {
        let Ok(meta) = fs::metadata(path()) else { return false };
        let on_disk = meta.blocks() * 512;
        most = most.max(on_disk);
        assert!(on_disk < 4 * PRINTED_BYTES, "{on_disk} bytes lie on {}", place.display());
        meta.len() > PRINTED_BYTES && on_disk < PRINTED_BYTES / 16
    });
    eprintln!("{}: at most {} KiB of the disk", place.display(), most / 1024);
    sandbox.open_gate("enough");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let text = sandbox.output(&task);
    let (head, rest) = text.split_once("[gitspool: ").unwrap();
    let (left_out, tail) = rest.split_once(" bytes left out]\n").unwrap();
    let left_out: u64 = left_out.parse().unwrap();
    assert!(head.starts_with("begin\nabcdefgh\n") && head.ends_with("h\n"), "whole lines");
    assert!(tail.starts_with("abcdefgh\n") && tail.ends_with("end\n"));
    assert!(!text.contains('\0'));
    let kept = (head.len() + tail.len()) as u64;
    assert!(kept <= BYTES_MAX && kept > BYTES_MAX - 100, "{kept} bytes are kept");
    assert_eq!(sandbox.run_record(&task)["output_truncated"], left_out);
    let index = json_lines(&sandbox.first_run(&task).join("output.index"));
    let last = index.last().unwrap();
    let apart = index.windows(2).map(|pair| micros(&pair[1]) - micros(&pair[0]));
    let close = apart.filter(|micros| *micros < 9_000).count();
    assert!(close <= 2, "{close} of {} lines are close together, more than the last two", index.len());
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
    let apart = json!({"shell": "seq 2000; seq 3000 >&2", "output": "apart", "output_bytes_max": 4096});
    let apart = sandbox.carry_out("apart", &apart).0;
    let kept = ["stdout.log", "stderr.log"].map(|name| {
        let text = fs::read_to_string(sandbox.first_run(&apart).join(name)).unwrap();
        let told = text.lines().find(|line| line.starts_with('[')).unwrap().to_owned();
        text.len() - told.len() - 1
    });
    let printed = 8893 + 13_893;
    let left_out = &sandbox.run_record(&apart)["output_truncated"];
    assert_eq!(left_out, printed - kept.iter().sum::<usize>(), "of both files together");
    // Whatever lies where the times should be, and whoever put it there.
    let index = "$(find $GITSPOOL_DIR/runs -name $GITSPOOL_RUN)/output.index";
    for (name, make) in [("folder", "mkdir"), ("fifo", "mkfifo"), ("link", "ln -s /dev/full")] {
        let print = json!({"shell": format!("{make} {index}; seq 3000"), "output_bytes_max": 9000});
        let (task, outcome) = sandbox.carry_out(name, &print);
        assert_eq!(outcome, "succeeded", "only the times are missing: {name}");
        let output = sandbox.output(&task);
        assert!(output.contains("bytes left out") && output.len() < 9050, "{name}");
        assert_eq!(said(&sandbox, &["logs", "-t", name]).lines().next(), Some("- 1"), "{name}");
        sandbox.sh("rm -r \"$1\"", &sandbox.first_run(&task).join("output.index"));
    }
    let receipt = sandbox.ask("small.json", &json!({"run": ["true"], "output_bytes_max": 4095}));
    assert_eq!(receipt["refusal"]["path"], "$.output_bytes_max", "{receipt}");
    check(&mut sandbox);
}

/// What a verb says on stdout; it must succeed.
fn said(sandbox: &Sandbox, arguments: &[&str]) -> String {
    sandbox.run(sandbox.gitspool(arguments))
}

/// Starts a verb whose stdout goes to a file outside.
fn begin(sandbox: &Sandbox, name: &str, arguments: &[&str]) -> Child {
    let [stdout, stderr] =
        ["", ".err"].map(|end| File::create(sandbox.outside(&format!("{name}{end}"))).unwrap());
    sandbox.gitspool(arguments).stdout(stdout).stderr(stderr).spawn().unwrap()
}

/// Waits for the end of a verb, and gives its exit code.
fn end(sandbox: &Sandbox, child: &mut Child) -> Option<i32> {
    sandbox.wait("the end of a verb", || child.try_wait().unwrap()).code()
}

#[test]
fn two_runs_are_followed_at_once_behind_their_names_until_both_have_ended() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let [one, two] = ["one", "two"].map(|name| sandbox.gate(name));
    let first = sandbox.submit("build", &json!({"shell": format!("echo a; {one}; printf b")}));
    let second =
        sandbox.submit("test-it", &json!({"shell": format!("echo c; {two}; echo d >&2"), "output": "apart"}));
    let mut both = begin(&sandbox, "both", &["logs", "-f", "build", "test-it"]);
    sandbox.wait_until("their first lines", || sandbox.told("both").lines().count() == 2);
    let mut lines: Vec<String> = sandbox.told("both").lines().map(ToOwned::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["build   | a", "test-it | c"]);
    sandbox.open_gate("one");
    assert_eq!(sandbox.outcome(&first), "succeeded");
    sandbox.wait_until("the last line", || sandbox.told("both").ends_with("build   | b\n"));
    assert!(both.try_wait().unwrap().is_none(), "the other goes on");
    let slept = sleeps(both.id());
    sandbox.let_work(Duration::from_millis(1000));
    assert!(sleeps(both.id()) - slept <= 2, "it waits and does not look again and again");
    sandbox.open_gate("two");
    assert_eq!(end(&sandbox, &mut both), Some(0));
    assert!(sandbox.told("both").ends_with("test-it | d\n"));
    assert_eq!(sandbox.outcome(&second), "succeeded");
    assert_eq!(
        said(&sandbox, &["logs", "test-it", "build"]),
        "test-it | c\ntest-it | d\nbuild   | a\nbuild   | b\n"
    );
    assert_eq!(said(&sandbox, &["logs", "build"]), "a\nb", "one alone is as it was printed");
    assert_eq!(
        said(&sandbox, &["logs", "-f", "test-it", "build", "--tail", "1"]).lines().count(),
        3,
        "of each file"
    );
    check(&mut sandbox);
}

#[test]
fn lines_are_shown_with_their_times_and_since_a_time() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let [first, second] = ["first", "second"].map(|name| sandbox.gate(name));
    let shell = format!("echo a; echo b >&2; {first}; echo c >&2; {second}; echo d");
    let task = sandbox.submit("job", &json!({"shell": shell, "output": "apart"}));
    let times = |name: &str| json_lines(&sandbox.first_run(&task).join(name));
    for (gate, index, lines) in [("first", "stderr.index", 1), ("second", "stderr.index", 2)] {
        sandbox.wait_until("a line and its time", || {
            times("stdout.index").len() == 1 && times(index).len() == lines
        });
        // So that the next one is later.
        sandbox.let_work(Duration::from_millis(5));
        sandbox.open_gate(gate);
    }
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let at = |name: &str, n: usize| times(name)[n]["at"].as_str().unwrap().to_owned();
    let [a, d] = [0, 1].map(|n| at("stdout.index", n));
    let [b, c] = [0, 1].map(|n| at("stderr.index", n));
    let shown = said(&sandbox, &["logs", "job", "--timestamps"]);
    let mut expected =
        [(&a, 'a'), (&b, 'b'), (&c, 'c'), (&d, 'd')].map(|(at, text)| format!("{at} {text}\n"));
    assert_eq!(
        shown,
        {
            expected.sort();
            expected.concat()
        },
        "both streams by time"
    );
    assert_eq!(said(&sandbox, &["logs", "job", "--since", &c]), "d\nc\n");
    assert_eq!(said(&sandbox, &["logs", "job", "-t", "--since", &c]), format!("{c} c\n{d} d\n"));
    assert_eq!(said(&sandbox, &["logs", "-f", "job", "--stderr", "--since", &c]), "c\n");
    assert_eq!(said(&sandbox, &["logs", "job", "--since", "1h", "-n", "1"]), "d\nc\n", "one of each");
    assert_eq!(said(&sandbox, &["logs", "job", "--since", "0s"]), "");
    let line = said(&sandbox, &["--json", "logs", "job", "-t", "--since", &d]);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["at"], &line["text"], &line["stream"]), (&json!(d), &json!("d"), &json!("stdout")));
    fs::remove_file(sandbox.first_run(&task).join("stdout.index")).unwrap();
    let output = sandbox.gitspool(&["logs", "job", "-t", "--stdout", "--since", "0s"]).output().unwrap();
    assert_eq!(output.stdout, b"- a\n- d\n", "what has no index is shown whole");
    assert!(String::from_utf8(output.stderr).unwrap().contains("no times are known"));
    check(&mut sandbox);
}

#[test]
fn what_was_left_out_is_told_in_its_place_while_the_agent_prints_and_after() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let gate = sandbox.gate("enough");
    let lines = |from: u32, to: u32| (from..=to).map(|n| format!("{n}\n")).collect::<String>();
    let shell = format!("seq 1 100000; sleep 0.05; seq 100001 200000; {gate}; echo end");
    let task = sandbox.submit("job", &json!({"shell": shell, "output_bytes_max": 20_000}));
    sandbox.wait_until("all lines, most of them given back", || {
        has_hole(&sandbox.first_run(&task).join("output.log"), 1_288_895)
    });
    let live = said(&sandbox, &["logs", "job"]);
    assert!(live.starts_with(&lines(1, 1000)) && live.ends_with(&lines(199_000, 200_000)));
    assert!(
        live.len() < 60_000 && !live.contains('\0') && live.contains(" bytes left out]\n"),
        "{}",
        live.len()
    );
    assert_eq!(said(&sandbox, &["logs", "job", "-n", "2"]), lines(199_999, 200_000));
    let far = said(&sandbox, &["logs", "job", "-n", "100000"]);
    assert!(far.contains("bytes left out]") && far.ends_with("\n200000\n"));
    let mut follower = begin(&sandbox, "followed", &["logs", "-f", "job"]);
    let path = sandbox.first_run(&task).join("output.log");
    let mut tail = sandbox.begin_sh("exec tail -n 1 -F \"$1\" > tail 2>&1", &path);
    sandbox.wait_until("the end of it", || sandbox.told("tail") == "200000\n");
    sandbox.wait_until("what was there", || sandbox.told("followed").ends_with("\n200000\n"));
    sandbox.open_gate("enough");
    assert_eq!(end(&sandbox, &mut follower), Some(0));
    assert_eq!(sandbox.told("followed"), live + "end\n", "what it has read is not read again");
    sandbox.wait_until("who looks with tail -F", || sandbox.told("tail").ends_with("\nend\n"));
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let times = json_lines(&sandbox.first_run(&task).join("output.index"));
    let shown = said(&sandbox, &["logs", "job", "-t"]);
    let of = |text: &str| shown.lines().find_map(|line| line.strip_suffix(&format!(" {text}")));
    let at = |from: i64| {
        chrono::DateTime::parse_from_rfc3339(of("end").unwrap()).unwrap().timestamp_micros() - from
    };
    assert!(at(micros(&times[times.len() - 1])) <= 0, "{shown}");
    assert!(at(micros(&times[0])) >= 50_000 && of("1").is_some(), "what follows a gap keeps its time");
    check(&mut sandbox);
}

#[test]
fn a_new_attempt_of_a_followed_task_is_followed_too() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let gate = sandbox.gate("gate");
    let task = sandbox.submit("job", &json!({"shell": format!("echo first; {gate}")}));
    let other = sandbox.submit("other", &json!({"run": ["true"]}));
    let mut follower = begin(&sandbox, "followed", &["logs", "-f", "job", "other"]);
    sandbox.wait_until("the first line", || sandbox.told("followed").contains("first"));
    sandbox.outcome(&other);
    // A daemon that will not hear of the run's end, and so may start another.
    signal(sandbox.daemon_pid(), Signal::STOP);
    sandbox.open_gate("gate");
    sandbox.wait_until("the run's end", || sandbox.run_record(&task)["status"] == "ended");
    sandbox.let_work(Duration::from_millis(50));
    assert!(follower.try_wait().unwrap().is_none(), "the task has not ended");
    let next = sandbox.first_run(&task).with_file_name(format!("{task}.2"));
    let aside = sandbox.outside("next");
    fs::create_dir(&aside).unwrap();
    fs::write(aside.join("output.log"), "second\n").unwrap();
    for name in ["run.json", "events.jsonl"] {
        let text = fs::read_to_string(sandbox.first_run(&task).join(name)).unwrap();
        fs::write(aside.join(name), text.replace(&format!("{task}.1"), &format!("{task}.2"))).unwrap();
    }
    fs::rename(&aside, &next).unwrap();
    sandbox.wait_until("the second line", || sandbox.told("followed").contains("second"));
    signal(sandbox.daemon_pid(), Signal::CONT);
    assert_eq!(end(&sandbox, &mut follower), Some(0));
    assert_eq!(sandbox.told("followed"), "job   | first\njob.2 | second\n");
    fs::remove_dir_all(next).unwrap();
    check(&mut sandbox);
}

#[test]
fn waiting_for_several_ends_with_the_worst_of_them_or_with_the_first() {
    let mut sandbox = Sandbox::new();
    fs::create_dir(sandbox.spool("queue/other")).unwrap();
    sandbox.start();
    let gate = sandbox.gate("gate");
    let good = sandbox.submit("good", &json!({"run": ["true"], "queue": "other"}));
    assert_eq!(sandbox.outcome(&good), "succeeded");
    let slow = sandbox.submit("slow", &json!({"shell": format!("echo working; {gate}; exit 3")}));
    let any = ["wait", "--any", "slow", "good"];
    assert_eq!(said(&sandbox, &any), format!("{good} succeeded\n"));
    assert_eq!(said(&sandbox, &["wait", "--queue", "other"]), "", "none is live");
    let code = |arguments: &[&str]| {
        let output = sandbox.gitspool(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    sandbox.wait_until("its output", || sandbox.output(&slow) == "working\n");
    let (given_up, told) = code(&["wait", "slow", "good", "--timeout", "0s"]);
    assert_eq!(given_up, 1, "{told}");
    assert!(told.contains("(slow) is active") && told.contains("is running for"), "{told}");
    assert!(told.contains("it printed last: working"), "{told}");
    for wrong in [
        &["wait", "slow", "--timeout", "soon"][..],
        &["wait"],
        &["wait", "slow", "--output", "("],
        &["wait", "slow", "--event", "run.end"],
    ] {
        assert_eq!(code(wrong).0, 2, "{wrong:?}");
    }
    assert_eq!(code(&["wait", "--queue", "nowhere"]).0, 1);
    let mut all = begin(&sandbox, "all", &["wait", "--queue", "default"]);
    let mut first = begin(&sandbox, "first", &["--json", "wait", "--any", "slow"]);
    let idle = [all.id(), first.id()];
    sandbox.let_work(Duration::from_millis(300));
    let slept = idle.map(sleeps);
    sandbox.let_work(Duration::from_millis(1000));
    assert!(idle.iter().zip(slept).all(|(pid, slept)| sleeps(*pid) - slept <= 1), "they wait for a hint");
    sandbox.open_gate("gate");
    assert_eq!([&mut all, &mut first].map(|child| end(&sandbox, child)), [Some(1); 2]);
    assert_eq!(sandbox.told("all"), format!("{slow} failed\n"));
    let told: Value = serde_json::from_str(&sandbox.told("first")).unwrap();
    assert_eq!((&told["task"], &told["outcome"]), (&json!(slow), &json!("failed")));
    check(&mut sandbox);
}

#[test]
fn a_queue_is_waited_for_with_what_the_inbox_has_for_it_and_without_a_daemon_that_is_said_once() {
    let mut sandbox = Sandbox::new();
    let named = ["submit", "--workspace", "none", "--name", "one", "--", "true"];
    let task = said(&sandbox, &named).trim().to_owned();
    let mut waiting = begin(&sandbox, "waiting", &["wait", "--queue", "default"]);
    sandbox.wait_until("a word about the daemon", || sandbox.told("waiting.err").contains("no daemon runs"));
    let later = sandbox.gate("later");
    sandbox.drop_by_mv("later.json", json!({"shell": later, "name": "later"}).to_string());
    sandbox.start();
    assert_eq!(end(&sandbox, &mut waiting), Some(0));
    assert_eq!(sandbox.told("waiting"), format!("{task} succeeded\n"), "what came later is not waited for");
    sandbox.wait_until("the run of the later one", || said(&sandbox, &["ls"]).contains("active"));
    let later_task = said(&sandbox, &["--json", "show", "later"]);
    let later_task: Value = serde_json::from_str(&later_task).unwrap();
    let later_task = later_task["task"].as_str().unwrap().to_owned();
    sandbox.stop();
    let mut waiting = begin(&sandbox, "again", &["wait", "later"]);
    sandbox.wait_until("a word about the daemon", || sandbox.told("again.err").contains("no daemon runs"));
    sandbox.open_gate("later");
    // What makes it look again.
    let beside = sandbox.spool("queue/default").join(&sandbox.places(&later_task)[0]["default/".len()..]);
    for _ in 0..3 {
        fs::write(beside.with_file_name("x"), "").unwrap();
        fs::remove_file(beside.with_file_name("x")).unwrap();
        sandbox.let_work(Duration::from_millis(50));
    }
    assert!(waiting.try_wait().unwrap().is_none(), "only a daemon files it away");
    sandbox.start();
    assert_eq!(end(&sandbox, &mut waiting), Some(0));
    assert_eq!(sandbox.told("again.err").lines().count(), 1);
    check(&mut sandbox);
}

#[test]
fn an_event_or_a_line_of_output_can_be_waited_for() {
    let mut sandbox = Sandbox::new();
    let mut started = {
        said(&sandbox, &["submit", "--workspace", "none", "--name", "early", "--", "true"]);
        begin(&sandbox, "started", &["wait", "early", "--event", "run.ended"])
    };
    sandbox.start();
    assert_eq!(end(&sandbox, &mut started), Some(0));
    assert!(sandbox.told("started").ends_with(" run.ended\n"));
    let [ready, over] = ["ready", "over"].map(|name| sandbox.gate(name));
    let shell = format!("echo starting; {ready}; printf 'listening on port 8080\\nmore'; {over}; exit 1");
    let task = sandbox.submit("server", &json!({"shell": shell}));
    let other = sandbox.submit("other", &json!({"run": ["echo", "nothing"]}));
    let pattern = r"^listening on port \d+$";
    let mut any = begin(&sandbox, "any", &["wait", "--any", "other", "server", "--output", pattern]);
    let mut both = begin(&sandbox, "both", &["--json", "wait", "server", "other", "--output", pattern]);
    let mut never = begin(&sandbox, "never", &["wait", "server", "--output", "^more.$"]);
    let event = said(&sandbox, &["--json", "wait", "server", "--event", "agent.started"]);
    let event: Value = serde_json::from_str(&event).unwrap();
    assert!(event["event"]["pid"].is_u64(), "{event}");
    sandbox.wait_until("a word about the other", || sandbox.told("any.err").contains("ended without"));
    assert!(any.try_wait().unwrap().is_none(), "one that ended without it does not count");
    sandbox.open_gate("ready");
    assert_eq!(end(&sandbox, &mut any), Some(0));
    assert!(
        sandbox.told("any").ends_with(&format!("{task} listening on port 8080\n")),
        "{}",
        sandbox.told("any")
    );
    assert_eq!(end(&sandbox, &mut both), Some(1), "{}", sandbox.told("both.err"));
    let lines = json_lines(&sandbox.outside("both"));
    let line = lines.iter().find(|line| line["task"] == task.as_str()).unwrap();
    assert_eq!(line["line"], "listening on port 8080");
    assert!(lines.iter().any(|line| line["task"] == other.as_str() && line["outcome"] == "succeeded"));
    assert!(never.try_wait().unwrap().is_none());
    sandbox.open_gate("over");
    assert_eq!(end(&sandbox, &mut never), Some(1));
    assert_eq!(sandbox.outcome(&task), "failed");
    assert_eq!(
        said(&sandbox, &["wait", "server", "--output", "^more$"]),
        format!("{task} more\n"),
        "a last line without end"
    );
    check(&mut sandbox);
}

#[test]
fn a_terminal_shows_who_is_waited_for_and_nothing_else_does() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let gate = sandbox.gate("gate");
    let shell = format!("printf 'step 1 \\033[31mof 2\\n'; {gate}");
    let task = sandbox.submit("bars", &json!({"shell": shell}));
    sandbox.wait_until("its output", || !sandbox.output(&task).is_empty());
    let other = sandbox.carry_out("other", &json!({"run": ["echo", "x"]})).0;
    let watch = |term: &str| {
        let mut command = sandbox.gitspool(&["wait", "bars", "--timeout", "2"]);
        command.env("TERM", term);
        let (code, shown) = on_terminal(command);
        assert_eq!(code, Some(1));
        String::from_utf8(shown).unwrap()
    };
    let shown = watch("xterm");
    assert!(shown.contains("1 active") && shown.contains("bars running"), "{shown:?}");
    assert!(shown.contains("step 1 \\u{1b}[31mof 2") && !shown.contains("\u{1b}[31m"), "{shown:?}");
    let logs = |name: &str, value: &str| {
        let mut command = sandbox.gitspool(&["logs", "bars", &other, "bars"]);
        command.env(name, value);
        String::from_utf8(on_terminal(command).1).unwrap()
    };
    assert!(logs("LANG", "C").starts_with("\u{1b}[36mbars  |\u{1b}[0m step"), "{}", logs("LANG", "C"));
    assert!(!logs("NO_COLOR", "1").contains('\u{1b}'), "{}", logs("NO_COLOR", "1"));
    let plain = watch("dumb");
    assert!(!plain.contains('\u{1b}') && plain.contains("given up"), "{plain:?}");
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    check(&mut sandbox);
}
