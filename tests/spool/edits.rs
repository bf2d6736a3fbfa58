//! What users write into the files of tasks: with any editor, by several at once, with a daemon or without one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::check::{self, check};
use crate::sandbox::{Sandbox, files_below, name_of, read_json};

fn pause(sandbox: &Sandbox) {
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
}

fn go_on(sandbox: &Sandbox) {
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).unwrap();
}

/// A task that waits in a paused queue, and says a word when it runs.
fn submit(sandbox: &Sandbox, name: &str) -> String {
    sandbox.submit(name, &json!({"shell": "echo old"}))
}

fn file_of(sandbox: &Sandbox, task: &str) -> PathBuf {
    sandbox.wait(&format!("the file of {task}"), || {
        let places = sandbox.places(task);
        let place = places.iter().find(|place| place.ends_with(".json"))?;
        Some(sandbox.spool("queue").join(place))
    })
}

/// The lines that tell of edits of a task, taken or refused.
fn edits(sandbox: &Sandbox, task: &str, kind: &str) -> Vec<Value> {
    sandbox.log().into_iter().filter(|line| line["task"] == task && line["type"] == kind).collect()
}

fn wait_edited(sandbox: &Sandbox, task: &str, count: usize) -> Value {
    sandbox.wait(&format!("{count} edits of {task}"), || {
        let mut edits = edits(sandbox, task, "task.edited");
        (edits.len() == count).then(|| edits.pop())?
    })
}

fn wait_refused(sandbox: &Sandbox, task: &str) -> Value {
    sandbox.wait(&format!("a refused edit of {task}"), || edits(sandbox, task, "edit.refused").pop())
}

/// What lies in `refused/` and is no reason.
fn refused(sandbox: &Sandbox) -> Vec<PathBuf> {
    let all = files_below(&sandbox.spool("refused")).into_iter();
    all.filter(|path| !name_of(path).ends_with(".why.json") && name_of(path) != ".keep").collect()
}

#[test]
fn whatever_editor_saves_a_ready_task_the_new_text_runs() {
    let mut sandbox = Sandbox::new();
    pause(&sandbox);
    sandbox.start();
    let editors = [
        "sed -i s/old/new/ \"$1\"",
        "sed s/old/new/ \"$1\" > ../in-place; cat ../in-place > \"$1\"",
        "sed s/old/new/ \"$1\" > \"$1.tmp\"; mv \"$1.tmp\" \"$1\"",
        // As vim does: a file of its own beside it, the old one moved aside, a new one written.
        "cd \"$(dirname \"$1\")\"; n=$(basename \"$1\"); : > .$n.swp; mv $n $n~; sed s/old/new/ $n~ > $n; rm $n~ .$n.swp",
    ];
    let tasks: Vec<String> = (0..editors.len()).map(|n| submit(&sandbox, &format!("n{n}"))).collect();
    for (task, editor) in tasks.iter().zip(editors) {
        sandbox.sh(editor, &file_of(&sandbox, task));
        let line = wait_edited(&sandbox, task, 1);
        assert_eq!((&line["by"], &line["spec"]["shell"]), (&json!("hand"), &json!("echo new")), "{line}");
    }
    go_on(&sandbox);
    for task in &tasks {
        assert_eq!(sandbox.outcome(task), "succeeded");
        assert_eq!(sandbox.output(task), "new\n");
    }
    check(&mut sandbox);
}

#[test]
fn nothing_starts_from_a_file_that_somebody_still_writes() {
    let mut sandbox = Sandbox::new();
    pause(&sandbox);
    sandbox.start();
    let task = submit(&sandbox, "slow");
    let path = file_of(&sandbox, &task);
    // It would make sense already, but for what comes.
    let mut file = File::create(&path).unwrap();
    file.write_all(b"{\"shell\": \"echo new\"}").unwrap();
    go_on(&sandbox);
    let (_, outcome) = sandbox.carry_out("other", &json!({"run": ["true"]}));
    assert_eq!((outcome.as_str(), sandbox.moves(&task).len()), ("succeeded", 1), "it has not started");
    file.write_all(b"\n\n").unwrap();
    drop(file);
    assert_eq!(sandbox.outcome(&task), "succeeded");
    assert_eq!(sandbox.output(&task), "new\n");
    check(&mut sandbox);
}

#[test]
fn what_cannot_be_a_spec_is_put_away_and_the_last_good_one_runs() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(100);
    pause(&sandbox);
    sandbox.start();
    let other = sandbox.outside("other");
    fs::write(&other, r#"{"shell": "echo new"}"#).unwrap();
    type Damage = fn(&Path, &Path);
    let damages: [(&str, &str, Damage); 12] = [
        ("invalid_json", "$", |path, _| fs::write(path, "{\"shell\": ").unwrap()),
        ("unknown_key", "$.shel", |path, _| fs::write(path, r#"{"shel": "x"}"#).unwrap()),
        ("unknown_key", "$.rank", |path, _| fs::write(path, r#"{"shell": "x", "rank": 3}"#).unwrap()),
        ("conflict", "$.queue", |path, _| fs::write(path, r#"{"shell": "x", "queue": "o"}"#).unwrap()),
        ("wrong_type", "$.env.A", |path, _| fs::write(path, r#"{"shell": "x", "env": {"A": 1}}"#).unwrap()),
        ("not_found", "", |path, _| fs::write(path, r#"{"prompt": "x", "agent": "nobody"}"#).unwrap()),
        ("empty", "", |path, _| fs::write(path, "").unwrap()),
        ("too_large", "", |path, _| File::create(path).unwrap().set_len(1 << 30).unwrap()),
        ("hard_link", "", |path, other| {
            fs::remove_file(path).and_then(|()| fs::hard_link(other, path)).unwrap();
        }),
        ("symlink", "", |path, other| fs::remove_file(path).and_then(|()| symlink(other, path)).unwrap()),
        ("not_a_file", "", |path, _| fs::remove_file(path).and_then(|()| fs::create_dir(path)).unwrap()),
        ("not_a_file", "", |path, _| {
            fs::remove_file(path).unwrap();
            let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
            rustix::fs::mknodat(rustix::fs::CWD, path, fifo, mode, 0).unwrap();
        }),
    ];
    let tasks: Vec<String> = (0..damages.len()).map(|n| submit(&sandbox, &format!("n{n}"))).collect();
    for (task, (kind, place, damage)) in tasks.iter().zip(&damages) {
        let path = file_of(&sandbox, task);
        // So that no moment is taken for a removal.
        let beside = path.with_file_name(format!(".{task}.swp"));
        fs::write(&beside, "").unwrap();
        damage(&path, &other);
        let line = wait_refused(&sandbox, task);
        assert_eq!(line["refusal"]["kind"], *kind, "{line}");
        if place.starts_with('$') {
            assert_eq!(line["refusal"]["path"].as_str().unwrap_or("$"), *place, "{line}");
        }
        sandbox.wait_until("the last good spec", || {
            // A fifo that is still there would be waited for.
            let is_file = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
            is_file && read_json(&path).is_some_and(|there| there["shell"] == "echo old")
        });
        fs::remove_file(beside).unwrap();
    }
    // The folder has nothing in it that could be listed.
    assert_eq!(refused(&sandbox).len(), damages.len() - 1);
    let status = String::from_utf8(sandbox.gitspool(&["status"]).output().unwrap().stdout).unwrap();
    assert!(status.contains(&format!("edit     of {} refused", tasks[11])), "{status}");
    go_on(&sandbox);
    for task in &tasks {
        assert_eq!(sandbox.outcome(task), "succeeded");
        assert_eq!(sandbox.output(task), "old\n");
    }
    sandbox.wait_until("nothing more to say", || {
        read_json(&sandbox.spool(".local/daemon.json"))
            .is_some_and(|record| record["refused_edits"].is_null())
    });
    let told = edits(&sandbox, &tasks[0], "edit.refused").pop().unwrap();
    let text = refused(&sandbox).into_iter().find(|path| name_of(path).contains(&tasks[0])).unwrap();
    assert_eq!(fs::read_to_string(&text).unwrap(), "{\"shell\": ");
    let why = text.with_file_name(name_of(&text) + ".why.json");
    assert_eq!(read_json(&why).unwrap(), told["refusal"]);
    // What the log says of it, fsck can draw again.
    sandbox.stop();
    fs::write(&why, "{").unwrap();
    assert!(check::findings(&sandbox).iter().any(|finding| finding.contains("why")), "it is found");
    sandbox.run(sandbox.gitspool(&["fsck", "--repair"]));
    assert_eq!(read_json(&why).unwrap(), told["refusal"]);
    check(&mut sandbox);
}

#[test]
fn an_edit_and_a_move_in_one_go_are_both_done() {
    let mut sandbox = Sandbox::new();
    pause(&sandbox);
    sandbox.start();
    let task = submit(&sandbox, "both");
    let path = file_of(&sandbox, &task);
    let aside = sandbox.outside("aside.json");
    fs::write(&aside, r#"{"shell": "echo new"}"#).unwrap();
    fs::rename(&path, path.with_file_name(format!("10-{task}.json"))).unwrap();
    fs::rename(aside, path.with_file_name(format!("10-{task}.json"))).unwrap();
    sandbox.wait_until("both", || {
        let last = sandbox.moves(&task).pop().unwrap();
        last["state"]["rank"] == 10 && edits(&sandbox, &task, "task.edited").len() == 1
    });
    go_on(&sandbox);
    assert_eq!(sandbox.outcome(&task), "succeeded");
    assert_eq!(sandbox.output(&task), "new\n");
    check(&mut sandbox);
}

#[test]
fn what_was_edited_while_no_daemon_ran_is_adopted_by_the_next_however_the_last_one_ended() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(100);
    pause(&sandbox);
    for kill in [false, true] {
        sandbox.start();
        let [good, bad, long] =
            ["good", "bad", "long"].map(|name| submit(&sandbox, &format!("{name}{kill}")));
        match kill {
            true => sandbox.kill(),
            false => sandbox.stop(),
        }
        fs::write(file_of(&sandbox, &good), r#"{"shell": "echo new"}"#).unwrap();
        fs::write(file_of(&sandbox, &bad), r#"{"shell": "#).unwrap();
        let text = json!({"shell": "echo $X | wc -c", "env": {"X": "x".repeat(30_000)}});
        fs::write(file_of(&sandbox, &long), text.to_string()).unwrap();
        sandbox.start();
        wait_edited(&sandbox, &good, 1);
        wait_edited(&sandbox, &long, 1);
        wait_refused(&sandbox, &bad);
        // Once more, with what was edited known from the log only.
        sandbox.kill();
        fs::remove_file(sandbox.spool(".local/checkpoint.json")).unwrap_or_default();
        sandbox.start();
        go_on(&sandbox);
        for (task, says) in [(&good, "new\n"), (&bad, "old\n"), (&long, "30001\n")] {
            assert_eq!(sandbox.outcome(task), "succeeded");
            assert_eq!(sandbox.output(task), says);
        }
        pause(&sandbox);
        check(&mut sandbox);
    }
}

#[test]
fn what_a_user_takes_back_while_no_daemon_runs_is_no_leftover_of_a_crash() {
    let mut sandbox = Sandbox::new();
    pause(&sandbox);
    sandbox.start();
    let task = submit(&sandbox, "back");
    let path = file_of(&sandbox, &task);
    let old = fs::read(&path).unwrap();
    fs::write(&path, r#"{"shell": "echo new"}"#).unwrap();
    wait_edited(&sandbox, &task, 1);
    sandbox.kill();
    fs::remove_file(sandbox.spool(".local/checkpoint.json")).unwrap_or_default();
    fs::write(&path, &old).unwrap();
    // As `cp -p` from a copy that was made before does.
    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    sandbox.start();
    wait_edited(&sandbox, &task, 2);
    go_on(&sandbox);
    assert_eq!(sandbox.outcome(&task), "succeeded");
    assert_eq!(sandbox.output(&task), "old\n");
    check(&mut sandbox);
}

#[test]
fn what_is_saved_after_the_start_is_put_away_and_told() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let gate = sandbox.gate("gate");
    let task = sandbox.submit("early", &json!({"shell": format!("{gate}; echo old")}));
    sandbox.wait_in("active", &task);
    let late = sandbox.spool(&format!("queue/default/ready/50-{task}.json"));
    fs::write(&late, r#"{"shell": "echo new"}"#).unwrap();
    let line = wait_refused(&sandbox, &task);
    assert_eq!(line["refusal"]["kind"], "conflict", "{line}");
    sandbox.wait_until("it put away", || !late.exists());
    let texts: Vec<String> = refused(&sandbox).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(texts, [r#"{"shell": "echo new"}"#]);
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    assert_eq!(sandbox.output(&task), "old\n");
    check(&mut sandbox);
}

#[test]
fn another_time_in_the_file_of_a_waiting_task_is_the_one_it_waits_for() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let task = sandbox.submit("later", &json!({"shell": "echo ran", "delay_seconds": 10_000}));
    sandbox.wait_in("waiting", &task);
    let path = file_of(&sandbox, &task);
    fs::write(&path, r#"{"shell": "echo ran", "delay_seconds": 20000}"#).unwrap();
    let line = wait_edited(&sandbox, &task, 1);
    assert_eq!(line["state"]["is"], "waiting");
    fs::write(&path, r#"{"shell": "echo ran"}"#).unwrap();
    assert_eq!(wait_edited(&sandbox, &task, 2)["state"]["is"], "ready");
    assert_eq!(sandbox.outcome(&task), "succeeded");
    check(&mut sandbox);
}

#[test]
fn a_file_that_is_removed_while_an_editor_has_it_is_a_cancel_all_the_same() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(100);
    pause(&sandbox);
    sandbox.start();
    let task = submit(&sandbox, "gone");
    let path = file_of(&sandbox, &task);
    let swap = path.with_file_name(format!(".50-{task}.json.swp"));
    fs::write(&swap, "").unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(sandbox.outcome(&task), "cancelled");
    fs::remove_file(swap).unwrap();
    check(&mut sandbox);
}

/// Each task runs with the spec that the log had last before it started, and nothing that anybody saved is lost.
#[test]
fn of_an_edit_and_a_start_one_wins_and_no_text_is_lost() {
    const TASKS: usize = 24;
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(100);
    sandbox.set_slots(2);
    pause(&sandbox);
    sandbox.start();
    let tasks: Vec<String> = (0..TASKS).map(|n| submit(&sandbox, &format!("n{n}"))).collect();
    let paths: Vec<PathBuf> = tasks.iter().map(|task| file_of(&sandbox, task)).collect();
    go_on(&sandbox);
    let mut saved = BTreeSet::new();
    for round in 0..6 {
        for (n, path) in paths.iter().enumerate() {
            let text = json!({"shell": format!("echo {n}-{round}")}).to_string();
            let aside = sandbox.outside("aside");
            fs::write(&aside, &text).unwrap();
            match (n + round) % 3 {
                // As an editor does that moves nothing.
                0 if path.exists() => {
                    let Ok(mut file) = File::options().write(true).truncate(true).open(path) else {
                        continue;
                    };
                    file.write_all(text.as_bytes()).unwrap();
                }
                0 => continue,
                _ => fs::rename(aside, path).unwrap(),
            }
            saved.insert(text);
        }
        if round == 2 {
            sandbox.kill();
            sandbox.start();
        }
        sandbox.let_work(Duration::from_millis(40));
    }
    for task in &tasks {
        sandbox.outcome(task);
    }
    sandbox.wait_until("all put away", || paths.iter().all(|path| !path.exists()));
    let log = sandbox.log();
    for task in &tasks {
        let mut spec = Value::Null;
        for line in log.iter().filter(|line| line["task"] == *task) {
            match line["type"].as_str().unwrap() {
                "task.submitted" | "task.edited" => spec = line["spec"]["shell"].clone(),
                _ => {}
            }
        }
        let said = sandbox.output(task);
        assert_eq!(format!("echo {}", said.trim_end()), spec.as_str().unwrap(), "{task}");
    }
    let texts: BTreeSet<String> =
        refused(&sandbox).iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let logged: BTreeSet<&str> = log
        .iter()
        .filter(|line| line["type"] == "task.edited")
        .filter_map(|line| line["spec"]["shell"].as_str())
        .collect();
    // A version that another save came over before anybody looked is its user's doing.
    let kept = |text: &String| {
        let shell = serde_json::from_str::<Value>(text).unwrap()["shell"].clone();
        texts.contains(text) || logged.contains(shell.as_str().unwrap())
    };
    let last: Vec<&String> = saved.iter().filter(|text| text.contains("-5\"")).collect();
    assert!(!last.is_empty());
    for text in last {
        assert!(kept(text), "{text} is nowhere");
    }
    check(&mut sandbox);
}

/// What a verb of the command line says, and its exit code.
fn verb(sandbox: &Sandbox, editor: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut command = sandbox.gitspool(arguments);
    command.env("EDITOR", editor);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn gitspool_edit_changes_what_has_not_started_and_overwrites_nobody() {
    let mut sandbox = Sandbox::new();
    pause(&sandbox);
    sandbox.start();
    let task = submit(&sandbox, "edited");
    let edit = |editor: &str, arguments: &[&str]| {
        verb(&sandbox, editor, &[&["edit", task.as_str()], arguments].concat())
    };
    let spec = || read_json(&file_of(&sandbox, &task)).unwrap();
    assert_eq!(edit("sed -i s/old/new/", &[]), (0, format!("{task} ready\n"), String::new()));
    sandbox.wait_until("the edit in the file", || spec()["shell"] == "echo new");
    assert_eq!(edit("true", &[]).0, 0, "nothing was changed");
    assert_eq!(edit("", &["--set", "env.A=1", "--set", "timeout_seconds=60"]).0, 0);
    sandbox
        .wait_until("the keys in the file", || spec()["env"]["A"] == "1" && spec()["timeout_seconds"] == 60);
    let from = sandbox.outside("from.json");
    fs::write(&from, r#"{"name": "edited", "shell": "echo from"}"#).unwrap();
    assert_eq!(edit("", &["--from", from.to_str().unwrap()]).0, 0);
    assert_eq!(edits(&sandbox, &task, "task.edited").len(), 3);
    assert!(edits(&sandbox, &task, "task.edited").iter().all(|line| line["by"] == "command"));
    // Somebody else saves while the editor is open: nobody is overwritten, and nothing lost.
    let other = "sh -c 'echo \"{\\\"shell\\\": \\\"echo other\\\"}\" > $FILE; sed -i s/from/mine/ \"$1\"' x";
    let other = other.replace("$FILE", file_of(&sandbox, &task).to_str().unwrap());
    let (code, _, said) = edit(&other, &[]);
    assert!(code == 1 && said.contains("edited meanwhile") && said.contains("is kept in"), "{code} {said}");
    let kept = said.split("is kept in ").nth(1).unwrap().lines().next().unwrap();
    assert!(fs::read_to_string(kept).unwrap().contains("echo mine"), "{said}");
    sandbox.wait_until("the other's edit", || spec()["shell"] == "echo other");
    // What cannot be a spec is not even sent.
    let (code, _, said) = edit("sed -i s/shell/shel/", &[]);
    assert!(code == 2 && said.contains("unknown key") && said.contains("is kept in"), "{code} {said}");
    let (code, _, said) = edit("", &["--set", "queue=other"]);
    assert!(code == 1 && said.contains("stays in queue"), "{code} {said}");
    go_on(&sandbox);
    assert_eq!(sandbox.outcome(&task), "succeeded");
    assert_eq!(sandbox.output(&task), "other\n");
    let (code, _, said) = edit("", &["--set", "name=x"]);
    assert!(code == 1 && said.contains("rerun"), "{code} {said}");
    let refusal = sandbox.ask("late.json", &json!({"type": "edit", "target": task, "set": {"name": "x"}}));
    assert_eq!(refusal["refusal"]["kind"], "conflict", "{refusal}");
    check(&mut sandbox);
}

#[test]
fn gitspool_rerun_submits_a_live_or_ended_task_once_more() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let (first, _) = sandbox.carry_out("first", &json!({"shell": "echo $WHAT", "env": {"WHAT": "old"}}));
    let rerun = |arguments: &[&str]| {
        let (code, said, error) = verb(&sandbox, "", &[&["rerun", first.as_str()], arguments].concat());
        assert_eq!((code, error.as_str()), (0, ""), "{said}");
        said.trim().to_owned()
    };
    let same = rerun(&["--confirm"]);
    let other = rerun(&["--set", "env.WHAT=new", "--rank", "7", "--held", "--confirm"]);
    assert_eq!((sandbox.outcome(&same).as_str(), sandbox.output(&same).as_str()), ("succeeded", "old\n"));
    assert_eq!(sandbox.moves(&other)[0]["state"], json!({"is": "held", "rank": 7, "attempts": 0}));
    sandbox.run(sandbox.gitspool(&["release", &other]));
    assert_eq!((sandbox.outcome(&other).as_str(), sandbox.output(&other).as_str()), ("succeeded", "new\n"));
    assert_eq!(sandbox.moves(&other)[0]["spec"]["rerun_of"], first.as_str());
    check(&mut sandbox);
}

#[test]
fn an_edit_between_two_attempts_counts_for_the_next_and_keeps_to_lanes_and_scopes() {
    let mut sandbox = Sandbox::new();
    sandbox.set_queue(&json!({"slots": 1, "lanes": {"review": {"slots": 1}}}));
    sandbox.start();
    let task = sandbox.submit("task", &json!({"shell": "false", "tenant": "a"}));
    assert_eq!(sandbox.outcome(&task), "failed");
    pause(&sandbox);
    let retried = sandbox.ask("retry.json", &json!({"type": "retry", "target": task}));
    assert_eq!(retried["state"]["is"], "ready", "{retried}");
    let edit = |name: &str, of: Value, set: Value| {
        let mut command = of;
        (command["type"], command["target"], command["set"]) = ("edit".into(), task.as_str().into(), set);
        sandbox.ask(&format!("{name}.json"), &command)
    };
    let lane = edit("lane", json!({}), json!({"lane": "nowhere"}))["refusal"].clone();
    assert_eq!(lane["path"], "$.set.lane", "{lane}");
    let others = edit("others", json!({"tenant": "b"}), json!({"lane": "review"}))["refusal"].clone();
    assert_eq!(others["kind"], "not_found", "{others}");
    let edited = edit("edit", json!({"tenant": "a"}), json!({"lane": "review", "shell": "echo again"}));
    assert!(edited["refusal"].is_null(), "{edited}");
    go_on(&sandbox);
    let ended = || sandbox.moves(&task).into_iter().any(|line| line["state"]["outcome"] == "succeeded");
    sandbox.wait("the second end", || ended().then_some(()));
    assert_eq!(fs::read_to_string(sandbox.run_dir(&task, 2).join("output.log")).unwrap(), "again\n");
    check(&mut sandbox);
}
