//! What users and programs drop, and how: each form of a command file, each way of writing one.

use std::fs;
use std::io::Write;

use serde_json::json;

use crate::check::check;
use crate::sandbox::{Sandbox, names};

#[test]
fn every_form_of_a_command_file_becomes_a_task_named_after_it() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let full = json!({
        "type": "submit", "run": ["/bin/sh", "-c", "echo \"$WHO in $GITSPOOL_TASK\""], "name": "chosen",
        "queue": "default", "rank": 7, "item": "card-7", "env": {"WHO": "full"}, "timeout_seconds": 60,
        "grace_seconds": 1, "output": "merged", "workspace": {"kind": "none", "cleanup": "never"},
    });
    sandbox.drop_by_mv("run.json", json!({"run": ["echo", "by run"]}).to_string());
    sandbox.drop_by_mv("shell.json", json!({"shell": "echo by shell | cat"}).to_string());
    sandbox.drop_by_mv("full.json", full.to_string());
    sandbox.drop_by_mv("plain.sh", "echo by plain\n");
    sandbox.drop_by_mv("bang.sh", "#!/bin/sh -e\necho by bang\nfalse\necho never\n");
    for (file, name, said, outcome) in [
        ("run.json", "run", "by run\n", "succeeded"),
        ("shell.json", "shell", "by shell\n", "succeeded"),
        ("plain.sh", "plain", "by plain\n", "succeeded"),
        ("bang.sh", "bang", "by bang\n", "failed"),
    ] {
        let task = sandbox.receipt(file)["task"].as_str().unwrap().to_owned();
        assert_eq!(sandbox.outcome(&task), outcome, "{file}");
        assert_eq!(sandbox.output(&task), said, "{file}");
        assert_eq!(sandbox.moves(&task)[0]["spec"]["name"], name, "{file}");
    }
    let task = sandbox.receipt("full.json")["task"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.outcome(&task), "succeeded");
    assert_eq!(sandbox.output(&task), format!("full in {task}\n"));
    assert_eq!(sandbox.run_record(&task)["item"], "card-7");
    assert_eq!(sandbox.moves(&task)[0]["spec"]["name"], "chosen");
    check(&mut sandbox);
}

#[test]
fn a_script_with_its_x_bit_set_runs_by_the_interpreter_that_it_names() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let script = sandbox.outside("words.sh");
    fs::write(&script, "#!/usr/bin/awk -f\nBEGIN { print \"by awk\" }\n").unwrap();
    sandbox.sh("chmod +x \"$1\" && cp -p \"$1\" ../spool/inbox/", &script);
    let task = sandbox.receipt("words.sh")["task"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.outcome(&task), "succeeded", "{}", sandbox.output(&task));
    assert_eq!(sandbox.output(&task), "by awk\n");
    check(&mut sandbox);
}

#[test]
fn a_prompt_is_carried_out_by_the_default_agent_in_a_worktree() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.start();
    let agent = "cat > prompt.txt; echo changed > file.txt; git add -A; git commit -qm 'by the agent'";
    let profile = json!({"driver": "exec", "argv": ["/bin/sh", "-c", agent]});
    fs::write(sandbox.spool("agents/default.json"), profile.to_string()).unwrap();
    sandbox.drop_by_cp("fix-login.md", "Fix the login.\nSlowly.\n".as_bytes());
    let task = sandbox.receipt("fix-login.md")["task"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.outcome(&task), "succeeded", "{}", sandbox.output(&task));
    let delivered = &sandbox.run_record(&task)["delivered"];
    assert_eq!((&delivered["commits"], &delivered["dirty"]), (&json!(1), &json!(false)), "{delivered}");
    let repository = sandbox.repository();
    let read = |what: &str| sandbox.git(&repository, &["show", what]);
    assert_eq!(read("gitspool/fix-login:file.txt"), "changed\n");
    let prompt = read("gitspool/fix-login:prompt.txt");
    for part in ["Fix the login.\nSlowly.\n", &format!("{task}.1"), "secret"] {
        assert!(prompt.contains(part), "{part}: {prompt}");
    }
    let kept = fs::read_to_string(sandbox.first_run(&task).join("turns/1/prompt.md")).unwrap();
    assert!(kept.contains("$GITSPOOL_TOKEN") && !prompt.contains("$GITSPOOL_TOKEN"), "{kept}");
    assert_eq!(fs::read_to_string(repository.join("file.txt")).unwrap(), "first\n");
    check(&mut sandbox);
}

#[test]
fn writers_that_rename_and_writers_that_do_not_are_both_served() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let bytes = |text: &str| json!({"run": ["echo", text]}).to_string();
    sandbox.drop_by_mv("mv.json", bytes("mv"));
    sandbox.drop_by_cat("cat.json", bytes("cat").as_bytes());
    sandbox.drop_by_cp("cp.json", bytes("cp").as_bytes());
    let inbox = sandbox.spool("inbox");
    sandbox.sh("cd \"$1\" && echo '{\"run\": [\"echo\", \"echo\"]}' > echo.json", &inbox);
    // As editors save: a swap file, a backup, and a new file under the name.
    let editor = "cd \"$1\" && echo x > .vi.json.swp && echo '{\"run\": [\"echo\", \"vi\"]}' > vi.json.tmp \
                  && mv vi.json.tmp vi.json && rm .vi.json.swp";
    sandbox.sh(editor, &inbox);
    for name in ["mv", "cat", "cp", "echo", "vi"] {
        let task = sandbox.receipt(&format!("{name}.json"))["task"].as_str().unwrap().to_owned();
        assert_eq!(sandbox.outcome(&task), "succeeded");
        assert_eq!(sandbox.output(&task), format!("{name}\n"));
    }
    check(&mut sandbox);
}

#[test]
fn a_file_that_makes_sense_is_not_taken_before_its_writer_closes_it() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(50);
    sandbox.start();
    let mut writer = sandbox.begin_to_write("slow.json", b"{\"run\":[\"echo\"]}");
    // Each of these is answered after the inbox was looked through with the half-written file in it.
    for name in ["one", "two", "three"] {
        sandbox.carry_out(name, &json!({"run": ["true"]}));
        writer.write_all(b" ").unwrap();
    }
    assert_eq!(sandbox.receipt_now("slow.json"), None);
    writer.write_all(b"x").unwrap();
    drop(writer);
    let receipt = sandbox.receipt("slow.json");
    assert_eq!(receipt["refusal"]["kind"], "invalid_json", "only the whole of it counts: {receipt}");
    let mut writer = sandbox.begin_to_write("slow-too.json", b"{\"run\":[\"echo\"]}");
    sandbox.carry_out("four", &json!({"run": ["true"]}));
    writer.write_all(b"\n").unwrap();
    drop(writer);
    assert_eq!(sandbox.receipt("slow-too.json")["accepted"], true);
    check(&mut sandbox);
}

#[test]
fn many_files_that_are_still_being_written_delay_no_other() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let begun = (0..600).map(|n| sandbox.begin_to_write(&format!("open-{n}.json"), b"{\"run\":[\"true\"]"));
    let begun: Vec<fs::File> = begun.collect();
    sandbox.carry_out("other", &json!({"run": ["true"]}));
    for (n, mut writer) in begun.into_iter().enumerate() {
        // All but one are given up.
        writer.write_all(if n == 0 { b"}" } else { b"x" }).unwrap();
    }
    let task = sandbox.receipt("open-0.json")["task"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.outcome(&task), "succeeded");
    check(&mut sandbox);
}

#[test]
fn a_thousand_files_dropped_at_once_are_all_answered() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let line = "cd \"$1\" && i=0; while [ $i -lt 1000 ]; do \
                printf '{\"run\":[\"true\"],\"held\":true}' > n$i.json; i=$((i+1)); done";
    sandbox.sh(line, &sandbox.spool("inbox"));
    sandbox.wait_until("a thousand held tasks", || names(&sandbox.spool("queue/default/held")).len() == 1000);
    sandbox.wait_until("a thousand receipts", || {
        (0..1000).all(|n| {
            sandbox.receipt_now(&format!("n{n}.json")).is_some_and(|receipt| receipt["accepted"] == true)
        })
    });
    check(&mut sandbox);
}

#[test]
fn a_name_that_is_dropped_twice_keeps_both_receipts() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let first = sandbox.ask("same.json", &json!({"run": ["true"]}));
    let second = sandbox.ask("same.json", &json!({"run": ["true"]}));
    let third = sandbox.ask("same.json", &json!({"run": []}));
    assert_ne!(first["task"], second["task"]);
    assert_eq!(third["accepted"], false);
    let all: Vec<_> = crate::sandbox::files_below(&sandbox.spool("receipts"))
        .iter()
        .filter_map(|path| crate::sandbox::read_json(path))
        .collect();
    for receipt in [first, second, third] {
        assert!(all.contains(&receipt), "{receipt}");
    }
    sandbox.wait_until("the end of both", || {
        sandbox.log().iter().filter(|line| line["by"] == "run").count() == 2
    });
    check(&mut sandbox);
}

#[test]
fn an_id_makes_a_repeat_the_same_task_and_another_spec_a_conflict() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let id = uuid::Uuid::now_v7().to_string();
    let command = json!({"id": id, "run": ["true"], "name": "once"});
    assert_eq!(sandbox.submit("a", &command), id);
    let again = sandbox.ask("b.json", &command);
    assert_eq!((&again["accepted"], &again["task"]), (&json!(true), &json!(id)), "{again}");
    sandbox.outcome(&id);
    let after = sandbox.ask("c.json", &command);
    assert_eq!(
        (&after["accepted"], &after["task"]),
        (&json!(true), &json!(id)),
        "after its end too: {after}"
    );
    let other = sandbox.ask("d.json", &json!({"id": id, "run": ["false"], "name": "once"}));
    assert_eq!(other["refusal"]["kind"], "conflict", "{other}");
    assert_eq!(sandbox.log().iter().filter(|line| line["type"] == "task.submitted").count(), 1);
    check(&mut sandbox);
}

#[test]
fn submit_prints_the_id_of_a_task_that_a_later_daemon_carries_out() {
    let mut sandbox = Sandbox::new();
    let printed = sandbox.run(sandbox.gitspool(&[
        "submit",
        "--workspace",
        "none",
        "--name",
        "later",
        "--",
        "echo",
        "late",
    ]));
    let task = printed.trim();
    assert_eq!(sandbox.log().len(), 0, "no daemon has run yet");
    sandbox.drain();
    assert_eq!(sandbox.outcome(task), "succeeded");
    assert_eq!(sandbox.output(task), "late\n");
    assert_eq!(sandbox.moves(task)[0]["spec"]["name"], "later");
    check(&mut sandbox);
}

#[test]
fn a_spec_too_long_for_a_log_line_is_kept_whole() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let long = "x".repeat(300_000);
    let script = format!("cat > {} <<'END'\n{long}\nEND\n", sandbox.outside("long").display());
    let (task, outcome) = sandbox.carry_out("long", &json!({"script": script}));
    assert_eq!(outcome, "succeeded");
    assert_eq!(sandbox.told("long").trim_end(), long);
    assert!(sandbox.moves(&task)[0]["spec"]["text_sha256"].is_string());
    check(&mut sandbox);
}
