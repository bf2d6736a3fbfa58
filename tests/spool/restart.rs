//! Daemons and supervisors that are killed, and what the next daemon makes of what they left.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, entries, files_below, names, read_json, signal};

fn supervisor_of(sandbox: &Sandbox, task: &str) -> u32 {
    sandbox.wait("the supervisor's pid", || sandbox.run_record(task)["pid"].as_u64()).try_into().unwrap()
}

/// Submits a job that tells when it has begun, goes on when the gate opens, and ends with this exit code.
fn begin(sandbox: &Sandbox, code: u8) -> String {
    let (begun, gate) = (sandbox.outside("begun"), sandbox.gate("gate"));
    let task = sandbox
        .submit("job", &json!({"shell": format!("echo yes >> {}; {gate}; exit {code}", begun.display())}));
    sandbox.wait_told("begun");
    task
}

fn now_log(sandbox: &Sandbox) -> PathBuf {
    entries(&sandbox.spool("events"))[0].join("now.jsonl")
}

fn wait_for_checkpoint(sandbox: &Sandbox) {
    let last = || sandbox.log().last().and_then(|line| line["seq"].as_u64());
    sandbox.wait_until("a checkpoint of all", || {
        let checkpoint = read_json(&sandbox.spool(".local/checkpoint.json")).unwrap_or_default();
        checkpoint["seq"].as_u64() == last()
    });
}

#[test]
fn a_job_goes_on_without_its_daemon_and_the_next_one_files_its_exit_code() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = begin(&sandbox, 7);
    sandbox.kill();
    sandbox.start();
    sandbox.wait_until("the second daemon", || {
        sandbox.log().iter().filter(|line| line["type"] == "daemon.started").count() == 2
    });
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "failed");
    assert_eq!(sandbox.moves(&task).last().unwrap()["evidence"]["exit_code"], 7);
    assert_eq!(sandbox.told("begun").lines().count(), 1, "it ran once");
    check(&mut sandbox);
}

#[test]
fn a_job_that_ended_while_no_daemon_ran_is_filed_with_its_exit_code() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = begin(&sandbox, 9);
    sandbox.kill();
    sandbox.open_gate("gate");
    sandbox.wait_until("the run's end", || sandbox.supervisors().is_empty());
    assert_eq!(sandbox.run_record(&task)["outcome"], "failed");
    sandbox.wait_in("active", &task);
    sandbox.drain();
    sandbox.wait_in("failed", &task);
    assert_eq!(sandbox.moves(&task).last().unwrap()["evidence"]["exit_code"], 9);
    check(&mut sandbox);
}

#[test]
fn a_daemon_that_is_asked_to_end_leaves_its_runs_to_the_next() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = begin(&sandbox, 0);
    sandbox.stop();
    assert_eq!(sandbox.supervisors().len(), 1);
    sandbox.start();
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    check(&mut sandbox);
}

/// A job with a grandchild in a session of its own.
fn begin_with_grandchild(sandbox: &Sandbox) -> String {
    let begun = sandbox.outside("begun");
    let shell = format!("( setsid sh -c 'echo yes > {}; sleep 80001; :' & ); sleep 80002", begun.display());
    let task = sandbox.submit("job", &json!({"shell": shell}));
    sandbox.wait_told("begun");
    task
}

fn of_run(sandbox: &Sandbox) -> Vec<u32> {
    sandbox
        .processes()
        .into_iter()
        .filter(|process| process.run.is_some())
        .map(|process| process.pid)
        .collect()
}

#[test]
fn a_killed_supervisor_takes_its_processes_along_and_its_run_is_lost() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = begin_with_grandchild(&sandbox);
    signal(supervisor_of(&sandbox, &task), Signal::KILL);
    assert_eq!(sandbox.outcome(&task), "lost");
    assert_eq!(of_run(&sandbox), Vec::<u32>::new());
    sandbox.wait_in("held", &task);
    check(&mut sandbox);
}

#[test]
fn when_daemon_and_supervisor_are_killed_the_next_daemon_ends_what_is_left() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = begin_with_grandchild(&sandbox);
    sandbox.kill();
    signal(supervisor_of(&sandbox, &task), Signal::KILL);
    sandbox.wait_until("the supervisor's end", || sandbox.supervisors().is_empty());
    assert_ne!(of_run(&sandbox), Vec::<u32>::new(), "the grandchild escaped");
    sandbox.start();
    assert_eq!(sandbox.outcome(&task), "lost");
    assert_eq!(of_run(&sandbox), Vec::<u32>::new());
    check(&mut sandbox);
}

#[test]
fn a_supervisor_that_is_asked_to_end_says_that_the_run_was_interrupted() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = begin_with_grandchild(&sandbox);
    signal(supervisor_of(&sandbox, &task), Signal::TERM);
    assert_eq!(sandbox.outcome(&task), "interrupted");
    check(&mut sandbox);
}

#[test]
fn a_supervisor_that_comes_too_late_begins_nothing() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = begin(&sandbox, 0);
    let supervise = || {
        let mut command = sandbox.command(env!("CARGO_BIN_EXE_gitspool"));
        command.arg("supervise").arg(sandbox.first_run(&task));
        command
    };
    let mut waits = supervise().spawn().unwrap();
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let status = sandbox.wait("its end", || waits.try_wait().unwrap());
    assert_eq!(status.code(), Some(100), "the run had begun");
    assert_eq!(supervise().status().unwrap().code(), Some(100), "it has ended, too");
    assert_eq!(sandbox.told("begun").lines().count(), 1);
    check(&mut sandbox);
}

#[test]
fn a_second_daemon_is_told_who_holds_the_spool() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    sandbox.carry_out("one", &json!({"run": ["true"]}));
    for arguments in [&["daemon"][..], &["daemon", "--drain"]] {
        let output = sandbox.gitspool(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("(pid {})", sandbox.daemon_pid())), "{said}");
    }
    sandbox.carry_out("two", &json!({"run": ["true"]}));
    check(&mut sandbox);
}

#[test]
fn drain_does_all_there_is_to_do_and_leaves_what_is_held_or_paused() {
    let mut sandbox = Sandbox::new();
    fs::create_dir(sandbox.spool("queue/still")).unwrap();
    fs::write(sandbox.spool("queue/still/PAUSED"), "").unwrap();
    for n in 0..10 {
        sandbox.drop_by_mv(&format!("n{n}.json"), json!({"shell": "exit 0"}).to_string());
    }
    sandbox.drop_by_mv("held.json", json!({"run": ["true"], "held": true}).to_string());
    sandbox.drop_by_mv("paused.json", json!({"run": ["true"], "queue": "still"}).to_string());
    sandbox.drop_by_mv("bad.json", "{");
    sandbox.drain();
    assert_eq!(sandbox.log().iter().filter(|line| line["state"]["outcome"] == "succeeded").count(), 10);
    assert_eq!(sandbox.receipt("bad.json")["accepted"], false);
    for (name, place) in [("held.json", "default/held/"), ("paused.json", "still/ready/")] {
        let task = sandbox.receipt(name)["task"].as_str().unwrap().to_owned();
        assert!(sandbox.places(&task)[0].starts_with(place));
    }
    sandbox.drain();
    check(&mut sandbox);
}

#[test]
fn drain_carries_out_what_a_job_drops_as_its_last_act() {
    const JOBS: usize = 12;
    let mut sandbox = Sandbox::new();
    let script = format!(
        "echo ran >> {ran}\n[ $(wc -l < {ran}) -ge {JOBS} ] || {{ cp $0 {aside}; mv {aside} {inbox}/again.sh; }}\n",
        ran = sandbox.outside("ran").display(),
        aside = sandbox.outside("aside").display(),
        inbox = sandbox.spool("inbox").display()
    );
    sandbox.drop_by_mv("first.sh", script);
    sandbox.drain();
    assert_eq!(sandbox.told("ran").lines().count(), JOBS);
    check(&mut sandbox);
}

/// A spool with tasks in every state, whose daemon was killed.
fn killed_in_the_midst(checkpoint: bool) -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(1);
    sandbox.start();
    sandbox.carry_out("done", &json!({"run": ["true"]}));
    sandbox.carry_out("failed", &json!({"run": ["false"]}));
    sandbox.submit("held", &json!({"run": ["true"], "held": true, "rank": 3}));
    begin(&sandbox, 0);
    for n in 0..3 {
        sandbox.submit(&format!("ready-{n}"), &json!({"run": ["true"], "rank": 20 + n}));
    }
    if checkpoint {
        wait_for_checkpoint(&sandbox);
    }
    sandbox.kill();
    sandbox
}

/// Carries the rest out, and looks that all came out as it would have.
fn ends_well(mut sandbox: Sandbox) {
    sandbox.start();
    sandbox.open_gate("gate");
    for (name, outcome) in
        [("done", "succeeded"), ("failed", "failed"), ("job", "succeeded"), ("ready-2", "succeeded")]
    {
        let task = sandbox.receipt(&format!("{name}.json"))["task"].as_str().unwrap().to_owned();
        assert_eq!(sandbox.outcome(&task), outcome, "{name}");
    }
    let held = sandbox.receipt("held.json")["task"].as_str().unwrap().to_owned();
    sandbox.wait_in("held", &held);
    assert_eq!(sandbox.told("begun").lines().count(), 1);
    check(&mut sandbox);
}

#[test]
fn a_torn_last_line_of_the_log_is_cut_and_told() {
    let sandbox = killed_in_the_midst(false);
    let mut log = File::options().append(true).open(now_log(&sandbox)).unwrap();
    log.write_all(b"{\"seq\":99,\"at\":\"2026-11-20T15:04").unwrap();
    drop(log);
    sandbox.drop_by_mv("more.json", json!({"run": ["true"]}).to_string());
    sandbox.open_gate("gate");
    sandbox.drain();
    let told = |line: &Value| {
        line["type"] == "daemon.started" && line["repaired"].to_string().contains("cut 32 bytes")
    };
    assert_eq!(sandbox.log().iter().filter(|line| told(line)).count(), 1);
    ends_well(sandbox);
}

#[test]
fn a_torn_last_line_of_a_runs_log_is_cut_when_its_end_is_recorded() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = begin(&sandbox, 0);
    sandbox.kill();
    signal(supervisor_of(&sandbox, &task), Signal::KILL);
    sandbox.wait_until("the supervisor's end", || sandbox.supervisors().is_empty());
    let path = sandbox.first_run(&task).join("events.jsonl");
    File::options().append(true).open(path).unwrap().write_all(b"{\"seq\":4,\"at\":\"20").unwrap();
    sandbox.start();
    assert_eq!(sandbox.outcome(&task), "lost");
    check(&mut sandbox);
}

#[test]
fn notes_that_a_supervisor_was_killed_over_are_heard_behind_the_end_of_its_run() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = begin(&sandbox, 0);
    sandbox.kill();
    sandbox.open_gate("gate");
    sandbox.wait_until("the run's end", || sandbox.supervisors().is_empty());
    // The first was being answered, the second was not looked at.
    let run = sandbox.first_run(&task);
    fs::create_dir_all(run.join("commands")).unwrap();
    for (number, text) in [(1, "one"), (2, "two")] {
        let note = json!({"type": "note", "text": text, "claim": uuid::Uuid::now_v7()});
        fs::write(run.join(format!("commands/000{number}-note.json")), note.to_string()).unwrap();
    }
    let seq = sandbox.run_log(&task).last().unwrap()["seq"].as_u64().unwrap() + 1;
    let heard = json!({
        "seq": seq, "at": "2026-01-02T03:04:05.000006Z", "type": "command.acknowledged", "command": 1, "kind": "note"
    });
    let mut log = File::options().append(true).open(run.join("events.jsonl")).unwrap();
    log.write_all(format!("{heard}\n{{\"seq\":{},\"at\":\"20", seq + 1).as_bytes()).unwrap();
    sandbox.drain();
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let told: Vec<(Value, Value)> = sandbox
        .run_log(&task)
        .into_iter()
        .filter(|line| line["seq"].as_u64() >= Some(seq))
        .map(|line| (line["type"].clone(), line.get("text").unwrap_or(&line["command"]).clone()))
        .collect();
    let line = |kind: &str, what: Value| (json!(kind), what);
    let expected = [
        line("command.acknowledged", json!(1)),
        line("note", json!("one")),
        line("command.ended", json!(1)),
        line("command.acknowledged", json!(2)),
        line("note", json!("two")),
        line("command.ended", json!(2)),
    ];
    assert_eq!(told, expected);
    check(&mut sandbox);
}

#[test]
fn run_json_is_drawn_again_when_its_supervisor_was_killed_before_it_did() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = begin(&sandbox, 5);
    let path = sandbox.first_run(&task).join("run.json");
    let before = sandbox.wait("run.json, which the job need not wait for", || fs::read(&path).ok());
    sandbox.kill();
    sandbox.open_gate("gate");
    sandbox.wait_until("the run's end", || sandbox.supervisors().is_empty());
    // As it is after a kill between the last line of the log and the picture of it.
    fs::write(&path, before).unwrap();
    sandbox.drain();
    assert_eq!(sandbox.run_record(&task)["outcome"], "failed");
    check(&mut sandbox);
}

#[test]
fn a_killed_daemon_without_a_checkpoint_loses_nothing() {
    ends_well(killed_in_the_midst(false));
}

#[test]
fn a_killed_daemon_with_a_checkpoint_loses_nothing() {
    ends_well(killed_in_the_midst(true));
}

#[test]
fn a_missing_checkpoint_costs_nothing_but_time() {
    let sandbox = killed_in_the_midst(true);
    fs::remove_file(sandbox.spool(".local/checkpoint.json")).unwrap();
    ends_well(sandbox);
}

#[test]
fn a_corrupt_checkpoint_costs_nothing_but_time() {
    let sandbox = killed_in_the_midst(true);
    let path = sandbox.spool(".local/checkpoint.json");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    ends_well(sandbox);
}

#[test]
fn the_queues_folders_are_drawn_from_the_log_when_they_are_gone() {
    let sandbox = killed_in_the_midst(false);
    let _ = fs::remove_file(sandbox.spool(".local/checkpoint.json"));
    fs::remove_dir_all(sandbox.spool("queue/default")).unwrap();
    ends_well(sandbox);
}

#[test]
fn what_a_killed_process_left_in_tmp_is_removed_and_what_is_in_use_is_not() {
    let mut sandbox = Sandbox::new();
    let tmp = sandbox.spool(".local/tmp");
    // The names say which process was writing: one that is gone, and this one.
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let left = tmp.join(format!("{}-left", gone.id()));
    let used = tmp.join(format!("{}-used", std::process::id()));
    fs::write(&left, "half of a rec").unwrap();
    fs::write(&used, "half of a rec").unwrap();
    sandbox.start();
    sandbox.carry_out("one", &json!({"run": ["true"]}));
    assert!(!left.exists() && used.exists());
    fs::remove_file(used).unwrap();
    check(&mut sandbox);
}

#[test]
fn what_a_process_left_in_tmp_that_nobody_reaped_is_removed() {
    let mut sandbox = Sandbox::new();
    let mut ended = std::process::Command::new("true").stdout(std::process::Stdio::piped()).spawn().unwrap();
    // The end of its output is its own end; it stays a zombie until somebody waits for it.
    std::io::copy(&mut ended.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
    let stat = || fs::read_to_string(format!("/proc/{}/stat", ended.id())).unwrap_or_default();
    sandbox.wait_until("a zombie", || stat().contains(") Z "));
    let left = sandbox.spool(".local/tmp").join(format!("{}-left", ended.id()));
    fs::write(&left, "half of a rec").unwrap();
    sandbox.start();
    sandbox.carry_out("one", &json!({"run": ["true"]}));
    assert!(!left.exists());
    ended.wait().unwrap();
    check(&mut sandbox);
}

/// What a user does while no daemon runs counts as if one had run.
fn by_hand_meanwhile(end: fn(&mut Sandbox)) {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
    sandbox.start();
    let tasks: Vec<String> =
        (0..4).map(|n| sandbox.submit(&format!("n{n}"), &json!({"run": ["true"]}))).collect();
    end(&mut sandbox);
    let ready =
        |rank: u8, task: usize| sandbox.spool(&format!("queue/default/ready/{rank}-{}.json", tasks[task]));
    fs::remove_file(ready(50, 0)).unwrap();
    fs::rename(ready(50, 1), ready(10, 1)).unwrap();
    fs::rename(ready(50, 2), sandbox.spool(&format!("queue/default/held/{}.json", tasks[2]))).unwrap();
    sandbox.start();
    let moved = [("ended", 0), ("ready", 1), ("held", 2)]
        .map(|(state, task)| sandbox.wait_by_hand(&tasks[task], state));
    assert_eq!(moved[0]["state"]["outcome"], "cancelled");
    assert_eq!(moved[1]["state"]["rank"], 10);
    sandbox.wait_in("cancelled", &tasks[0]);
    assert_eq!(sandbox.moves(&tasks[3]).len(), 1, "nobody touched it");
    check(&mut sandbox);
}

#[test]
fn a_ready_file_removed_while_no_daemon_ran_is_a_cancel_by_hand() {
    by_hand_meanwhile(|sandbox| {
        wait_for_checkpoint(sandbox);
        sandbox.kill();
    });
}

#[test]
fn what_is_done_by_hand_right_after_a_daemon_was_asked_to_end_counts() {
    by_hand_meanwhile(Sandbox::stop);
}

#[test]
fn what_a_power_cut_has_torn_is_drawn_again() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(1);
    sandbox.start();
    // The same name twice, and a refusal.
    sandbox.carry_out("again", &json!({"run": ["true"]}));
    sandbox.carry_out("again", &json!({"run": ["false"]}));
    sandbox.drop_by_mv("wrong.json", "{");
    sandbox.receipt("wrong.json");
    sandbox.kill();
    // As a cut leaves what was not synced: empty or full of NUL. And there was no time for a checkpoint.
    let checkpoint = sandbox.spool(".local/checkpoint.json");
    if checkpoint.exists() {
        fs::remove_file(checkpoint).unwrap();
    }
    let receipts = files_below(&sandbox.spool("receipts"));
    let tasks = ["done", "failed"].map(|folder| files_below(&sandbox.spool("queue/default").join(folder)));
    let whys = files_below(&sandbox.spool("refused"))
        .into_iter()
        .filter(|path| path.ends_with("wrong.json.why.json"));
    let records = files_below(&sandbox.spool("runs")).into_iter().filter(|path| path.ends_with("run.json"));
    let pictures: Vec<PathBuf> =
        receipts.into_iter().chain(tasks.concat()).chain(whys).chain(records).collect();
    assert_eq!(pictures.len(), 3 + 2 + 1 + 2, "{pictures:?}");
    for (path, torn) in pictures.iter().zip([&b""[..], &[0; 600]].iter().cycle()) {
        fs::write(path, torn).unwrap();
    }
    sandbox.drain();
    check(&mut sandbox);
    assert_eq!(files_below(&sandbox.spool("receipts")).len(), 3, "nothing torn is kept");
}

#[test]
fn what_an_earlier_daemon_of_the_same_number_left_in_tmp_is_removed() {
    let sandbox = Sandbox::new();
    let tmp = sandbox.spool(".local/tmp");
    let line = format!(
        "echo torn > {}/$$-left; exec {} --spool \"$1\" daemon --drain",
        tmp.display(),
        env!("CARGO_BIN_EXE_gitspool")
    );
    sandbox.sh(&line, &sandbox.spool(""));
    assert_eq!(names(&tmp), Vec::<String>::new());
}
