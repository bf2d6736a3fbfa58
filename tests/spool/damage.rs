//! What nobody should do to a spool, and what hostile jobs do: no daemon ends, hangs or spins for it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::check::{check, findings};
use crate::sandbox::{Sandbox, entries, signal};

/// Whether the daemon still admits and carries out.
fn is_at_work(sandbox: &mut Sandbox, name: &str) {
    assert_eq!(sandbox.carry_out(name, &json!({"run": ["true"]})).1, "succeeded");
    assert!(sandbox.daemon_lives());
}

#[test]
fn a_fifo_or_an_endless_file_where_settings_should_be_is_not_waited_for() {
    let mut sandbox = Sandbox::new();
    fs::create_dir(sandbox.spool("queue/other")).unwrap();
    sandbox.start();
    // It knows the settings then.
    is_at_work(&mut sandbox, "before");
    let (settings, profile) =
        (sandbox.spool("queue/default/queue.json"), sandbox.spool("agents/default.json"));
    for make in ["mkfifo", "ln -s /dev/zero", "truncate -s 9T"] {
        let make = format!("{make} \"$1.new\"; mv -f \"$1.new\" \"$1\"");
        sandbox.sh(&make, &settings);
        sandbox.sh(&make, &profile);
        is_at_work(&mut sandbox, "plain");
        assert_eq!(sandbox.ask("prompt.json", &json!({"prompt": "x"}))["refusal"]["kind"], "not_found");
        sandbox.stop();
        sandbox.start();
        // How many of that queue may run it was never told; it starts none, and works.
        let elsewhere = json!({"run": ["true"], "queue": "other"});
        assert_eq!(sandbox.carry_out("elsewhere", &elsewhere).1, "succeeded");
        let waits = sandbox.submit("waits", &json!({"run": ["true"]}));
        sandbox.save("queue/default", "queue.json", "{}");
        assert_eq!(sandbox.outcome(&waits), "succeeded");
    }
    check(&mut sandbox);
}

#[test]
fn however_long_the_reason_and_however_broken_the_log_a_line_takes_it() {
    let mut sandbox = Sandbox::new();
    let profile = sandbox.spool("agents/default.json");
    fs::write(&profile, r#"{"driver": "exec", "argv": ["true"]}"#).unwrap();
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
    sandbox.start();
    let task = sandbox.submit("prompt", &json!({"prompt": "x"}));
    fs::write(&profile, json!({"k".repeat(200_000): 1}).to_string()).unwrap();
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
    assert_eq!(sandbox.outcome(&task), "failed");
    sandbox.stop();
    check(&mut sandbox);
    let now = entries(&sandbox.spool("events"))[0].join("now.jsonl");
    let log = fs::read(&now).unwrap();
    fs::write(&now, [&log[..], "{\"no\": \"line\"}\n".repeat(2000).as_bytes()].concat()).unwrap();
    sandbox.start();
    is_at_work(&mut sandbox, "after");
}

#[test]
fn folders_that_are_removed_under_a_daemon_are_made_again_and_cost_no_task() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let gate = sandbox.gate("gate");
    let running = sandbox.submit(
        "running",
        &json!({"shell": format!("echo yes > {}; {gate}", sandbox.outside("begun").display())}),
    );
    sandbox.wait_told("begun");
    sandbox.wait_in("active", &running);
    for folder in [".local", "queue", "receipts", "texts", "queue/default/active"] {
        // Whoever writes meanwhile may make the folder again.
        sandbox.wait_until("its removal", || fs::remove_dir_all(sandbox.spool(folder)).is_ok());
        is_at_work(&mut sandbox, &format!("after-{}", folder.replace(['/', '.'], "-")));
    }
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&running), "succeeded");
    sandbox.stop();
}

/// A job that says when it begins and ends with its gate; all of `runs` and of the daemon's own folder is removed then.
fn uproot(sandbox: &mut Sandbox) -> String {
    sandbox.start();
    let gate = sandbox.gate("gate");
    let begun = sandbox.outside("begun");
    let task = sandbox.submit("job", &json!({"shell": format!("echo yes >> {}; {gate}", begun.display())}));
    sandbox.wait_told("begun");
    sandbox.wait_in("active", &task);
    for folder in ["runs", ".local/tmp"] {
        fs::remove_dir_all(sandbox.spool(folder)).unwrap();
    }
    task
}

#[test]
fn a_run_goes_on_and_its_end_is_told_when_its_folder_is_removed_under_it() {
    let mut sandbox = Sandbox::new();
    let task = uproot(&mut sandbox);
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    check(&mut sandbox);
}

#[test]
fn a_run_whose_folder_was_removed_is_not_started_twice_by_the_next_daemon() {
    let mut sandbox = Sandbox::new();
    let task = uproot(&mut sandbox);
    sandbox.kill();
    sandbox.start();
    is_at_work(&mut sandbox, "other");
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    assert_eq!(sandbox.told("begun"), "yes\n");
    check(&mut sandbox);
}

#[test]
fn a_daemon_whose_spool_is_gone_ends_and_touches_no_other_at_its_place() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    is_at_work(&mut sandbox, "before");
    fs::rename(sandbox.path("spool"), sandbox.path("elsewhere")).unwrap();
    sandbox.run(sandbox.gitspool(&["init"]));
    sandbox.drop_by_mv("new.json", r#"{"run": ["true"]}"#);
    // A hint, so that it looks soon.
    fs::write(sandbox.path("elsewhere/queue/default/ready/hint"), "").unwrap();
    while sandbox.daemon_lives() {
        sandbox.let_work(Duration::from_millis(5));
    }
    assert!(sandbox.spool("inbox/new.json").exists());
    sandbox.drain();
    assert_eq!(sandbox.receipt("new.json")["accepted"], true);
    check(&mut sandbox);
}

/// A job whose spool is moved to `elsewhere` while it runs, from under its daemon; its gate is open then.
fn moved_away(sandbox: &mut Sandbox) -> String {
    sandbox.start();
    let shell = format!("echo yes > {}; {}", sandbox.outside("begun").display(), sandbox.gate("gate"));
    let task = sandbox.submit("job", &json!({"shell": shell, "name": "job"}));
    sandbox.wait_in("active", &task);
    // Its word, not the log's: that comes before the program is started, for which the folder must be there.
    sandbox.wait_told("begun");
    fs::rename(sandbox.path("spool"), sandbox.path("elsewhere")).unwrap();
    fs::write(sandbox.path("elsewhere/queue/default/ready/hint"), "").unwrap();
    while sandbox.daemon_lives() {
        sandbox.let_work(Duration::from_millis(5));
    }
    sandbox.open_gate("gate");
    task
}

#[test]
fn no_spool_is_made_where_one_was_moved_away_and_what_runs_waits_for_it_to_come_back() {
    let mut sandbox = Sandbox::new();
    let task = moved_away(&mut sandbox);
    // It looks for its folder and does not find it: first at its end.
    sandbox.let_work(Duration::from_millis(1500));
    assert!(!sandbox.path("spool").exists(), "{:?}", entries(&sandbox.path("spool")));
    assert_eq!(sandbox.supervisors().len(), 1);
    fs::remove_file(sandbox.path("elsewhere/queue/default/ready/hint")).unwrap();
    fs::rename(sandbox.path("elsewhere"), sandbox.path("spool")).unwrap();
    sandbox.start();
    assert_eq!(sandbox.outcome(&task), "succeeded");
    check(&mut sandbox);
}

#[test]
fn a_supervisor_whose_whole_spool_was_removed_ends_with_its_run() {
    let mut sandbox = Sandbox::new();
    moved_away(&mut sandbox);
    fs::remove_dir_all(sandbox.path("elsewhere")).unwrap();
    sandbox.wait_until("the supervisor to end", || sandbox.supervisors().is_empty());
    assert!(!sandbox.path("spool").exists());
}

#[test]
fn a_ready_task_whose_file_could_not_be_drawn_is_not_taken_for_a_removed_one() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    is_at_work(&mut sandbox, "before");
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
    let tmp = sandbox.spool(".local/tmp");
    // Whoever writes meanwhile makes the folder again.
    let block = "until [ -f \"$1\" ]; do rm -rf \"$1\"; touch \"$1\"; done";
    sandbox.sh(block, &tmp);
    sandbox.drop_by_mv("job.json", r#"{"run": ["true"]}"#);
    let submitted = || sandbox.log().into_iter().find(|line| line["command"]["name"] == "job.json");
    let task = sandbox.wait("its line", submitted)["task"].as_str().unwrap().to_owned();
    sandbox.sh("rm \"$1\"", &tmp);
    // Longer than it takes until a checkpoint is due.
    sandbox.let_work(Duration::from_secs(3));
    sandbox.kill();
    sandbox.start();
    assert_eq!(sandbox.receipt("job.json")["state"]["is"], "ready");
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
    assert_eq!(sandbox.outcome(&task), "succeeded");
    check(&mut sandbox);
}

#[test]
fn what_a_repositorys_filter_leaves_running_while_work_is_kept_is_ended_with_the_run() {
    let mut sandbox = Sandbox::of_repository();
    let filter = sandbox.outside("filter");
    sandbox.sh(
        "printf '#!/bin/sh\\nsetsid sleep 80003 >/dev/null 2>&1 &\\ncat\\n' > \"$1\"; chmod +x \"$1\"",
        &filter,
    );
    sandbox.start();
    let shell = format!(
        "git config filter.x.clean {}; echo '* filter=x' > .gitattributes; echo 2 > file.txt",
        filter.display()
    );
    let task = sandbox.submit("job", &json!({"shell": shell}));
    assert_eq!(sandbox.outcome(&task), "succeeded");
    let left = sandbox
        .processes()
        .into_iter()
        .filter(|process| process.arguments.iter().any(|word| word == "80003"));
    assert_eq!(left.count(), 0);
    check(&mut sandbox);
}

#[test]
fn a_spool_whose_path_no_record_can_hold_is_not_made() {
    let sandbox = Sandbox::new();
    for name in [&b"a\xffb"[..], b"a\nb"] {
        let path = sandbox.path("outside").join(std::ffi::OsStr::from_bytes(name));
        let mut command = sandbox.command(env!("CARGO_BIN_EXE_gitspool"));
        let output = command.arg("--spool").arg(&path).arg("init").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!path.exists());
    }
}

#[test]
fn what_an_agent_forges_in_the_log_of_its_run_ends_no_daemon() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let line = |seq: u64, rest: &Value| {
        let mut line = json!({"seq": seq, "at": "2026-11-20T15:04:05.123456Z"});
        line.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        format!("{line}\n")
    };
    let ended = |bytes: usize| {
        let evidence = json!({"message": "x".repeat(bytes)});
        line(9, &json!({"type": "run.ended", "outcome": "succeeded", "evidence": evidence}))
    };
    let acknowledged = |seq: u64, kind: &str| {
        line(seq, &json!({"type": "command.acknowledged", "command": 7, "kind": kind}))
    };
    for (name, forged, outcome) in [
        ("long", ended(60_000), "succeeded"),
        ("too-long", ended(1_000_000), "lost"),
        ("kind", acknowledged(9, &"x".repeat(64_000)), "lost"),
        ("number", acknowledged(u64::MAX, "cancel") + &acknowledged(u64::MAX - 1, "cancel"), "lost"),
    ] {
        let begun = format!("begun-{name}");
        let shell = format!("echo yes > {}; exec sleep 600", sandbox.outside(&begun).display());
        let task = sandbox.submit(name, &json!({"shell": shell}));
        sandbox.wait_told(&begun);
        sandbox.wait_until("the run", || sandbox.run_record(&task)["status"] == "running");
        let log = sandbox.first_run(&task).join("events.jsonl");
        let there = fs::read(&log).unwrap();
        fs::write(&log, [&there[..], forged.as_bytes()].concat()).unwrap();
        sandbox.supervisors().into_iter().for_each(|pid| signal(pid, Signal::KILL));
        assert_eq!(sandbox.outcome(&task), outcome, "{name}");
        is_at_work(&mut sandbox, &format!("after-{name}"));
    }
    sandbox.stop();
    sandbox.start();
    is_at_work(&mut sandbox, "at-last");
    sandbox.stop();
}

#[test]
fn a_number_after_which_there_is_none_is_not_believed() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    is_at_work(&mut sandbox, "before");
    sandbox.stop();
    let last = u64::MAX;
    let last_seq = |sandbox: &Sandbox| sandbox.log().last().and_then(|line| line["seq"].as_u64()).unwrap();
    let before = last_seq(&sandbox);
    fs::write(sandbox.spool(".local/checkpoint.json"), json!({"seq": last, "tasks": []}).to_string())
        .unwrap();
    let host = entries(&sandbox.spool("events"))[0].clone();
    let forged = host.join(format!("2026-11-20-{last}.jsonl"));
    fs::write(&forged, "").unwrap();
    sandbox.start();
    let commands = "cd $GITSPOOL_DIR/runs/*/$GITSPOOL_RUN && mkdir -p commands && cd commands";
    let told = sandbox.outside("forged").display().to_string();
    let shell = format!("{commands} && echo '{{}}' > {last}-note.json && echo yes > {told}; sleep 600");
    let task = sandbox.submit("deaf", &json!({"shell": shell}));
    sandbox.wait_told("forged");
    assert_eq!(sandbox.cancel("stop.json", &task)["accepted"], true);
    assert_eq!(sandbox.outcome(&task), "cancelled");
    is_at_work(&mut sandbox, "after");
    assert!((before..before + 50).contains(&last_seq(&sandbox)), "{before} and {}", last_seq(&sandbox));
    sandbox.stop();
    // Both are found, since no row of the specification explains them.
    let found = findings(&sandbox);
    assert!(found.len() == 2 && found.iter().all(|line| line.contains("unexplained")), "{found:?}");
    fs::remove_file(forged).unwrap();
    fs::remove_file(sandbox.first_run(&task).join(format!("commands/{last}-note.json"))).unwrap();
    check(&mut sandbox);
}

#[test]
fn a_run_whose_first_line_is_lost_never_begins_again_and_ends_as_its_log_says() {
    let zeros = |line: &[u8]| vec![0_u8; line.len()];
    let other =
        |line: &[u8]| String::from_utf8_lossy(line).replace("run.started", "run.stirred").into_bytes();
    for (name, damage) in [("zeros", &zeros as &dyn Fn(&[u8]) -> Vec<u8>), ("other", &other)] {
        let mut sandbox = Sandbox::new();
        sandbox.start();
        let shell = |what: &str| {
            let begun = sandbox.outside(&format!("begun-{what}"));
            json!({"shell": format!("echo yes >> {}; {}", begun.display(), sandbox.gate(what))})
        };
        let (ends, killed) = (shell("ends"), shell("killed"));
        let (ends, killed) = (sandbox.submit("ends", &ends), sandbox.submit("killed", &killed));
        sandbox.wait_told("begun-ends");
        sandbox.wait_told("begun-killed");
        sandbox.kill();
        sandbox.open_gate("ends");
        let ended = || sandbox.run_log(&ends).last().is_some_and(|line| line["type"] == "run.ended");
        sandbox.wait_until("an end without a daemon", ended);
        sandbox.supervisors().into_iter().for_each(|pid| signal(pid, Signal::KILL));
        sandbox.wait_until("the end of all", || sandbox.processes().is_empty());
        for task in [&ends, &killed] {
            let log = sandbox.first_run(task).join("events.jsonl");
            let bytes = fs::read(&log).unwrap();
            let first = bytes.iter().position(|byte| *byte == b'\n').unwrap();
            fs::write(&log, [&damage(&bytes[..first]), &bytes[first..]].concat()).unwrap();
        }
        sandbox.start();
        assert_eq!(sandbox.outcome(&ends), "succeeded", "{name}");
        assert_eq!(sandbox.outcome(&killed), "lost", "{name}");
        assert_eq!(
            (sandbox.told("begun-ends"), sandbox.told("begun-killed")),
            ("yes\n".into(), "yes\n".into())
        );
        let record = sandbox.run_record(&ends);
        assert_eq!((&record["outcome"], &record["host"]), (&json!("succeeded"), &json!("unknown")));
        is_at_work(&mut sandbox, "after");
        sandbox.stop();
    }
}
