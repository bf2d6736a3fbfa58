//! What is done to a spool, what of it is found, and what is left of that by a repair and by the next daemon.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Damage, Story, last_seq, logs, record};
use crate::sandbox::{Sandbox, entries, files_below, name_of};

type Kinds = &'static [&'static str];

const STRANGER: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const AT: &str = "2026-11-20T15:04:05.123456Z";

/// A damage that a repair, or the next daemon, mends as far as it is told here.
fn damage(
    name: &'static str,
    found: Kinds,
    left: Kinds,
    then: Kinds,
    is_done: fn(&Sandbox, &Story),
) -> Damage {
    Damage { name, is_done, found, left, then, moves: false }
}

/// One that is mended.
fn mended(name: &'static str, found: Kinds, is_done: fn(&Sandbox, &Story)) -> Damage {
    damage(name, found, &[], &[], is_done)
}

/// One that stays.
fn stays(name: &'static str, found: Kinds, is_done: fn(&Sandbox, &Story)) -> Damage {
    damage(name, found, found, found, is_done)
}

/// One that the next daemon mends.
fn daemons(name: &'static str, found: Kinds, is_done: fn(&Sandbox, &Story)) -> Damage {
    damage(name, found, found, &[], is_done)
}

/// What is permitted.
fn permitted(name: &'static str, is_done: fn(&Sandbox, &Story)) -> Damage {
    damage(name, &[], &[], &[], is_done)
}

/// The same of a damage by which tasks get other states.
fn moving(damage: Damage) -> Damage {
    Damage { moves: true, ..damage }
}

pub(crate) fn all() -> Vec<Damage> {
    [
        of_logs(),
        of_compressed_segments(),
        of_lines(),
        of_notices(),
        of_local(),
        of_answers(),
        of_readers(),
        of_waiting_tasks(),
        of_other_tasks(),
        of_strays(),
        of_run_files(),
        of_run_logs(),
        of_what_happens_once(),
        of_live_runs(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

// --- what damages do

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, change(text)).unwrap();
}

fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = record(path);
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Rewrites the lines of a log; what gives `None` is left out.
fn edit_lines(path: &Path, mut change: impl FnMut(usize, &str) -> Option<String>) {
    let all = |text: String| {
        let lines = text.lines().enumerate().filter_map(|(number, line)| change(number, line));
        lines.map(|line| line + "\n").collect()
    };
    edit(path, all);
}

fn append(path: &Path, line: &Value) {
    edit(path, |text| format!("{text}{line}\n"));
}

/// A further line of the spool's log.
fn log(sandbox: &Sandbox, mut line: Value) {
    line["seq"] = (last_seq(sandbox) + 1).into();
    line["at"] = AT.into();
    append(&logs(sandbox).1, &line);
}

fn moved(sandbox: &Sandbox, task: &str, state: Value) {
    log(sandbox, json!({"type": "task.moved", "task": task, "state": state, "by": "daemon"}));
}

/// A further line of a run's log.
fn run_log(sandbox: &Sandbox, task: &str, mut line: Value) {
    let path = sandbox.first_run(task).join("events.jsonl");
    let last = sandbox.run_log(task).last().unwrap()["seq"].as_u64().unwrap();
    line["seq"] = (last + 1).into();
    line["at"] = AT.into();
    append(&path, &line);
}

/// The file of a task.
fn file(sandbox: &Sandbox, task: &str) -> PathBuf {
    sandbox.spool("queue").join(&sandbox.places(task)[0])
}

fn in_run(sandbox: &Sandbox, task: &str, name: &str) -> PathBuf {
    sandbox.first_run(task).join(name)
}

fn only(folder: &Path) -> PathBuf {
    entries(folder)[0].clone()
}

/// The file of the one key that was used.
fn key(sandbox: &Sandbox) -> PathBuf {
    files_below(&sandbox.spool("keys")).remove(0)
}

/// The receipt of that name.
fn receipt(sandbox: &Sandbox, name: &str) -> PathBuf {
    let all = files_below(&sandbox.spool("receipts"));
    all.into_iter().find(|path| name_of(path) == name).unwrap()
}

fn refused(sandbox: &Sandbox, name: &str) -> PathBuf {
    let all = files_below(&sandbox.spool("refused"));
    all.into_iter().find(|path| name_of(path) == name).unwrap()
}

fn no_checkpoint(sandbox: &Sandbox) {
    fs::remove_file(sandbox.spool(".local/checkpoint.json")).unwrap();
}

// --- the damages

fn of_logs() -> Vec<Damage> {
    vec![
        mended("a torn last line", &["line_unfinished"], |sandbox, _| {
            edit(&logs(sandbox).1, |text| text + "{\"seq\":99,\"at");
        }),
        stays("a corrupt line in the middle", &["line_unreadable"], |sandbox, _| {
            let daemon = |line: &str| line.contains("daemon.started");
            edit_lines(&logs(sandbox).1, |_, line| {
                Some(if daemon(line) { "x".repeat(line.len()) } else { line.into() })
            });
        }),
        stays("a line that is gone", &["line_missing"], |sandbox, _| {
            edit_lines(&logs(sandbox).1, |_, line| (!line.contains("daemon.started")).then(|| line.into()));
        }),
        stays("a line that is there twice", &["line_repeated"], |sandbox, _| {
            edit(&logs(sandbox).1, |text| {
                let last = text.lines().last().unwrap().to_owned();
                text + &last + "\n"
            });
        }),
        stays("a segment under another number", &["segment_misnamed"], |sandbox, _| {
            let sealed = logs(sandbox).0;
            let (day, _) =
                name_of(&sealed).rsplit_once('-').map(|(day, n)| (day.to_owned(), n.to_owned())).unwrap();
            fs::rename(&sealed, sealed.with_file_name(format!("{day}-000000000001.jsonl"))).unwrap();
        }),
        stays(
            "a segment that is cut",
            &["line_missing", "line_unreadable", "segment_misnamed"],
            |sandbox, _| {
                edit(&logs(sandbox).0, |text| text[..text.len() - 3].to_owned());
            },
        ),
        moving(permitted("the oldest segment is gone", |sandbox, _| {
            fs::remove_file(logs(sandbox).0).unwrap()
        })),
        moving(damage(
            "the growing log is gone",
            &["log_behind"],
            &["log_behind"],
            &["line_missing"],
            |sandbox, _| {
                fs::remove_file(logs(sandbox).1).unwrap();
            },
        )),
        moving(damage(
            "the last lines are gone",
            &["log_behind"],
            &["log_behind"],
            &["line_missing"],
            |sandbox, _| {
                let lines = fs::read_to_string(logs(sandbox).1).unwrap().lines().count();
                edit_lines(&logs(sandbox).1, |number, line| (number + 4 < lines).then(|| line.into()));
            },
        )),
        stays("a text of a live task is gone", &["text_missing"], |sandbox, _| {
            fs::remove_file(only(&sandbox.spool("texts"))).unwrap();
        }),
        stays("a text of a live task is another", &["text_differs"], |sandbox, _| {
            fs::write(only(&sandbox.spool("texts")), "{}").unwrap();
        }),
        mended("a text that no line names", &["text_unnamed"], |sandbox, _| {
            fs::write(sandbox.spool("texts").join("ab".repeat(32)), "{}").unwrap();
        }),
    ]
}

fn of_compressed_segments() -> Vec<Damage> {
    vec![
        permitted("a segment is compressed", |sandbox, _| {
            sandbox.sh("gzip $1", &logs(sandbox).0);
        }),
        permitted("a segment is there compressed, too", |sandbox, _| {
            sandbox.sh("gzip -k $1", &logs(sandbox).0);
        }),
        mended("a compressed segment says something else", &["segment_differs"], |sandbox, _| {
            sandbox.sh("echo other | gzip > $1.gz", &logs(sandbox).0);
        }),
        mended(
            "a compressed segment is torn, and the plain one there",
            &["segment_differs"],
            |sandbox, _| {
                sandbox.sh("gzip -k $1; truncate -s -9 $1.gz", &logs(sandbox).0);
            },
        ),
        stays("what is left of removed tasks is torn", &["removed_unreadable"], |sandbox, _| {
            sandbox.sh("mkdir -p $1; echo torn > $1/2023-06-30", &sandbox.spool("removed"));
        }),
        permitted("a run that was being removed is left", |sandbox, story| {
            let run = format!("{}.1", story.done);
            sandbox.sh(
                &format!("mkdir -p $1/{run}; touch $1/{run}/events.jsonl"),
                &sandbox.spool(".local/trash"),
            );
        }),
        stays("a compressed segment is torn", &["unreadable"], |sandbox, _| {
            sandbox.sh("gzip $1; truncate -s -9 $1.gz", &logs(sandbox).0);
        }),
    ]
}

fn of_lines() -> Vec<Damage> {
    vec![
        moving(stays("a move of a task that nobody submitted", &["task_never_submitted"], |sandbox, _| {
            moved(sandbox, STRANGER, json!({"is": "held", "rank": 50, "attempts": 0}));
        })),
        damage(
            "a live task submitted again",
            &["receipt_missing", "submitted_twice"],
            &["submitted_twice"],
            &["submitted_twice"],
            |sandbox, story| {
                let mut line = sandbox.moves(&story.held)[0].clone();
                line["command"]["claim"] = STRANGER.into();
                log(sandbox, line);
            },
        ),
        moving(damage(
            "a move after the end",
            &["moved_after_end"],
            &["moved_after_end"],
            &["moved_after_end"],
            |sandbox, story| {
                moved(sandbox, &story.done, json!({"is": "held", "rank": 50, "attempts": 1}));
            },
        )),
        stays("an edit of a task that runs", &["edited_while_active"], |sandbox, story| {
            let moves = sandbox.moves(&story.active);
            let (spec, state) = (moves[0]["spec"].clone(), moves[1]["state"].clone());
            let task = &story.active;
            log(
                sandbox,
                json!({"type": "task.edited", "task": task, "state": state, "spec": spec, "by": "hand"}),
            );
        }),
        moving(damage(
            "an attempt that was left out",
            &["attempt_repeated", "run_not_begun", "task_misplaced"],
            &["attempt_repeated", "run_not_begun"],
            &["attempt_repeated"],
            |sandbox, story| {
                let host = record(&in_run(sandbox, &story.done, "task.json"))["host"].clone();
                moved(sandbox, &story.ready, json!({"is": "active", "attempt": 3, "host": host}));
            },
        )),
        moving(damage(
            "a unit that is given twice",
            &["given_twice", "run_not_begun", "task_misplaced"],
            &["given_twice", "run_not_begun"],
            &["given_twice"],
            |sandbox, story| {
                let host = record(&in_run(sandbox, &story.done, "task.json"))["host"].clone();
                for task in [&story.active, &story.ready] {
                    let state = json!({"is": "active", "attempt": 1, "host": host, "assigned": {"gpu": [0]}});
                    moved(sandbox, task, state);
                }
            },
        )),
        damage(
            "a claim that is answered twice",
            &["answered_twice"],
            &["answered_twice"],
            &["answered_twice", "receipt_differs"],
            |sandbox, story| {
                let command = sandbox.moves(&story.held)[0]["command"].clone();
                log(
                    sandbox,
                    json!({"type": "command.accepted", "command": command, "kind": "hold", "task": null, "note": ""}),
                );
            },
        ),
    ]
}

fn of_notices() -> Vec<Damage> {
    vec![
        stays("an end that is told twice", &["notice_repeated"], |sandbox, story| {
            let notice = json!({
                "type": "notice", "notice": STRANGER, "queue": "default", "task": story.done, "reasons": {"ended": 1},
                "count": 1, "is_final": true, "timeout_seconds": 30,
            });
            log(sandbox, notice);
        }),
        stays("what became of no notice", &["notice_unknown"], |sandbox, _| {
            log(sandbox, json!({"type": "notice.delivered", "notice": STRANGER, "tries": 1}));
        }),
        moving(damage(
            "an end that nobody is told of",
            &["notice_missing", "task_misplaced"],
            &["notice_missing"],
            &[],
            |sandbox, story| {
                let first = sandbox.moves(&story.held).remove(0);
                let (task, state, mut spec) = (&story.held, &first["state"], first["spec"].clone());
                spec["notify"] = json!({"mode": "final"});
                log(
                    sandbox,
                    json!({"type": "task.edited", "task": task, "state": state, "spec": spec, "by": "command"}),
                );
                moved(sandbox, task, json!({"is": "ended", "outcome": "cancelled", "attempts": 0}));
            },
        )),
    ]
}

fn of_local() -> Vec<Damage> {
    vec![
        mended("a checkpoint that makes no sense", &["checkpoint_unreadable"], |sandbox, _| {
            fs::write(sandbox.spool(".local/checkpoint.json"), "{\"seq\":").unwrap();
        }),
        mended("a checkpoint that forgets a task", &["checkpoint_differs"], |sandbox, _| {
            edit_json(&sandbox.spool(".local/checkpoint.json"), |it| {
                drop(it["tasks"].as_array_mut().unwrap().pop())
            });
        }),
        mended("a checkpoint that tells another state", &["checkpoint_differs"], |sandbox, _| {
            edit_json(&sandbox.spool(".local/checkpoint.json"), |it| {
                it["tasks"][0]["state"] = json!({"is": "ready", "rank": 7, "attempts": 0});
            });
        }),
        mended(
            "a checkpoint that tells of a queue that is not paused",
            &["checkpoint_differs"],
            |sandbox, _| {
                edit_json(&sandbox.spool(".local/checkpoint.json"), |it| {
                    it["queues"] = json!({"default": {"broken": 5, "paused": true}});
                });
            },
        ),
        permitted("the checkpoint is gone", |sandbox, _| no_checkpoint(sandbox)),
        daemons("the record of a daemon that is gone", &["daemon_gone"], |sandbox, _| {
            let record = json!({"pid": 1, "host": "vm", "version": "0", "started_at": AT});
            fs::write(sandbox.spool(".local/daemon.json"), record.to_string()).unwrap();
        }),
        daemons("the record of a daemon that makes no sense", &["daemon_record_unreadable"], |sandbox, _| {
            fs::write(sandbox.spool(".local/daemon.json"), "{").unwrap();
        }),
        mended("what a process was writing that is gone", &["left_in_tmp"], |sandbox, _| {
            fs::write(sandbox.spool(".local/tmp/99999999-ab"), "half").unwrap();
        }),
        mended("what nobody was writing", &["left_in_tmp"], |sandbox, _| {
            fs::write(sandbox.spool(".local/tmp/something"), "half").unwrap();
        }),
        mended("a claimed file that is answered", &["claim_answered"], |sandbox, story| {
            let command = sandbox.moves(&story.held)[0]["command"].clone();
            let name =
                format!("{}.{}", command["claim"].as_str().unwrap(), command["name"].as_str().unwrap());
            fs::write(sandbox.spool(".local/claimed").join(name), "{\"run\": [\"true\"]}").unwrap();
        }),
        permitted("a claimed file that is not answered", |sandbox, _| {
            fs::write(sandbox.spool(".local/claimed").join(format!("{STRANGER}.x.json")), "{").unwrap();
        }),
        stays("a claimed file without a claim", &["unexplained"], |sandbox, _| {
            fs::write(sandbox.spool(".local/claimed/x.json"), "{}").unwrap();
        }),
        daemons("the name of this machine is gone", &["host_unknown"], |sandbox, _| {
            for state in entries(&sandbox.path("state")) {
                fs::remove_file(state.join("host.json")).ok();
            }
        }),
        stays("a workspace of no run", &["workspace_of_no_run"], |sandbox, _| {
            for state in
                entries(&sandbox.path("state")).iter().filter(|state| state.join("host.json").exists())
            {
                fs::create_dir_all(state.join(format!("work/{STRANGER}.1"))).unwrap();
            }
        }),
        stays("a workspace that is half deleted", &["left_in_trash"], |sandbox, story| {
            for state in
                entries(&sandbox.path("state")).iter().filter(|state| state.join("host.json").exists())
            {
                fs::create_dir_all(state.join(format!("trash/{}.1", story.done))).unwrap();
            }
        }),
    ]
}

fn of_readers() -> Vec<Damage> {
    vec![
        permitted("the file of a reader is gone", |sandbox, _| {
            fs::remove_file(sandbox.spool("readers/me.json")).unwrap()
        }),
        mended("the file of a reader is torn", &["reader_unreadable"], |sandbox, _| {
            fs::write(sandbox.spool("readers/me.json"), "{").unwrap()
        }),
        mended("the file of a reader tells of what was not marked", &["reader_differs"], |sandbox, story| {
            edit_json(&sandbox.spool("readers/me.json"), |me| me["read"][&story.done] = 9.into());
        }),
        mended("the file of a reader is another's", &["reader_unreadable"], |sandbox, _| {
            edit_json(&sandbox.spool("readers/me.json"), |me| me["reader"] = "you".into());
        }),
        stays("the file of a reader of whom no line tells", &["reader_unreadable"], |sandbox, _| {
            fs::copy(sandbox.spool("readers/me.json"), sandbox.spool("readers/you.json")).unwrap();
        }),
    ]
}

fn of_answers() -> Vec<Damage> {
    vec![
        permitted("a receipt is gone", |sandbox, _| {
            fs::remove_file(receipt(sandbox, "failed.json")).unwrap()
        }),
        mended("all receipts are gone, with their folder", &["folder_missing"], |sandbox, _| {
            fs::remove_dir_all(sandbox.spool("receipts")).unwrap();
        }),
        mended("a receipt behind the checkpoint is gone", &["receipt_missing"], |sandbox, _| {
            no_checkpoint(sandbox);
            fs::remove_file(receipt(sandbox, "failed.json")).unwrap();
        }),
        permitted("the file of a key is gone", |sandbox, _| fs::remove_file(key(sandbox)).unwrap()),
        mended("the file of a key is torn", &["key_unreadable"], |sandbox, _| {
            fs::write(key(sandbox), "{").unwrap()
        }),
        mended("the file of a key tells of another task", &["key_differs"], |sandbox, _| {
            let mut used: Value = serde_json::from_slice(&fs::read(key(sandbox)).unwrap()).unwrap();
            used["receipt"]["task"] = STRANGER.into();
            fs::write(key(sandbox), used.to_string()).unwrap();
        }),
        stays("the file of a key that nobody used", &["key_differs"], |sandbox, _| {
            let name = format!("{}.json", "ab".repeat(32));
            fs::create_dir_all(sandbox.spool("keys/ab")).unwrap();
            fs::copy(key(sandbox), sandbox.spool("keys/ab").join(name)).unwrap();
        }),
        mended("an empty receipt", &["receipt_unreadable"], |sandbox, _| {
            fs::write(receipt(sandbox, "wrong.json"), "").unwrap();
        }),
        mended("an earlier receipt that is torn", &["receipt_unreadable"], |sandbox, _| {
            let all = files_below(&sandbox.spool("receipts"));
            let earlier = all.into_iter().find(|path| name_of(path).starts_with("wrong~")).unwrap();
            edit(&earlier, |text| text[..40].to_owned());
        }),
        mended("a receipt that says something else", &["receipt_differs"], |sandbox, _| {
            edit_json(&receipt(sandbox, "failed.json"), |it| it["accepted"] = false.into());
        }),
        stays("a receipt of a command that nobody answered", &["receipt_of_no_line"], |sandbox, _| {
            let path = receipt(sandbox, "failed.json");
            edit_json(&path, |it| it["claim"] = STRANGER.into());
        }),
        mended("a receipt under another name", &["receipt_misplaced"], |sandbox, _| {
            let path = receipt(sandbox, "failed.json");
            fs::copy(&path, path.with_file_name("other.json")).unwrap();
        }),
        stays("somebody's own file among the receipts", &["receipt_unreadable"], |sandbox, _| {
            fs::write(receipt(sandbox, "failed.json").with_file_name("mine.json"), "{}").unwrap();
        }),
        stays("a receipt that is far too long", &["unreadable"], |sandbox, _| {
            let path = receipt(sandbox, "failed.json").with_file_name("huge.json");
            fs::File::create(path).unwrap().set_len(64 << 20).unwrap();
        }),
        mended("an empty reason", &["why_unreadable"], |sandbox, _| {
            fs::write(refused(sandbox, "once.json.why.json"), "").unwrap();
        }),
        mended("another reason", &["why_differs"], |sandbox, _| {
            edit_json(&refused(sandbox, "once.json.why.json"), |it| it["kind"] = "empty".into());
        }),
        stays("a refused file of which no line tells", &["refused_unknown"], |sandbox, _| {
            fs::write(refused(sandbox, "wrong.json").with_file_name("other.json"), "").unwrap();
        }),
        permitted("a refused file and its reason are gone", |sandbox, _| {
            fs::remove_dir_all(only(&sandbox.spool("refused"))).unwrap();
        }),
    ]
}

fn of_waiting_tasks() -> Vec<Damage> {
    vec![
        moving(permitted("the file of a held task is gone", |sandbox, story| {
            fs::remove_file(file(sandbox, &story.held)).unwrap();
        })),
        mended(
            "the file of a task that was moved behind the checkpoint is gone",
            &["task_missing"],
            |sandbox, story| {
                no_checkpoint(sandbox);
                fs::remove_file(file(sandbox, &story.held)).unwrap();
            },
        ),
        permitted("the file of an ended task is gone", |sandbox, story| {
            fs::remove_file(file(sandbox, &story.done)).unwrap();
        }),
        permitted("the file of an active task is gone", |sandbox, story| {
            fs::remove_file(file(sandbox, &story.active)).unwrap();
        }),
        mended("a waiting task lies in two places", &["task_twice"], |sandbox, story| {
            let ready = file(sandbox, &story.ready);
            fs::copy(ready, sandbox.spool("queue/default/held").join(format!("{}.json", story.ready)))
                .unwrap();
        }),
        mended("an ended task lies in two places", &["task_twice"], |sandbox, story| {
            let done = file(sandbox, &story.done);
            fs::copy(&done, sandbox.spool("queue/default/held").join(name_of(&done))).unwrap();
        }),
        moving(permitted("a ready task is held by hand", |sandbox, story| {
            fs::rename(
                file(sandbox, &story.ready),
                sandbox.spool("queue/default/held").join(format!("{}.json", story.ready)),
            )
            .unwrap();
        })),
        permitted("a held task is released by hand, without a rank", |sandbox, story| {
            let held = file(sandbox, &story.held);
            let to = sandbox.spool("queue/default/ready").join(name_of(&held));
            fs::rename(&held, &to).unwrap();
            fs::rename(to, held).unwrap();
        }),
        moving(damage(
            "a ready task lies among the ended ones",
            &["task_misplaced"],
            &["task_misplaced"],
            &["task_twice"],
            |sandbox, story| {
                let day = only(&sandbox.spool("queue/default/done"));
                fs::rename(file(sandbox, &story.ready), day.join(format!("{}.json", story.ready))).unwrap();
            },
        )),
        mended("a waiting task lies in another queue", &["task_misplaced"], |sandbox, story| {
            fs::create_dir_all(sandbox.spool("queue/other/held")).unwrap();
            let held = file(sandbox, &story.held);
            fs::rename(&held, sandbox.spool("queue/other/held").join(name_of(&held))).unwrap();
        }),
    ]
}

fn of_other_tasks() -> Vec<Damage> {
    vec![
        mended("an ended task lies under another outcome", &["task_misplaced"], |sandbox, story| {
            let day = only(&sandbox.spool("queue/default/failed"));
            let done = file(sandbox, &story.done);
            fs::rename(&done, day.join(name_of(&done))).unwrap();
        }),
        mended("an ended task lies under another day", &["task_misplaced"], |sandbox, story| {
            let done = file(sandbox, &story.done);
            fs::create_dir(sandbox.spool("queue/default/done/2020-01-01")).unwrap();
            fs::rename(&done, sandbox.spool("queue/default/done/2020-01-01").join(name_of(&done))).unwrap();
        }),
        permitted("the file of a held task was edited", |sandbox, story| {
            edit_json(&file(sandbox, &story.held), |it| it["run"] = json!(["false"]));
        }),
        mended("the end in the file of a failed task was edited", &["task_differs"], |sandbox, story| {
            edit_json(&file(sandbox, &story.failed), |it| it["state"]["attempts"] = json!(7));
        }),
        mended("the file of a held task makes no sense", &["task_unreadable"], |sandbox, story| {
            fs::write(file(sandbox, &story.held), "{").unwrap();
        }),
        mended("the file of an ended task was edited", &["task_differs"], |sandbox, story| {
            edit_json(&file(sandbox, &story.done), |it| it["shell"] = json!("false"));
        }),
        permitted("an editor has a task's file", |sandbox, story| {
            let ready = file(sandbox, &story.ready);
            fs::write(ready.with_file_name(format!(".{}.swp", name_of(&ready))), "").unwrap();
        }),
        mended("the file of a task is empty", &["task_unreadable"], |sandbox, story| {
            fs::write(file(sandbox, &story.done), "").unwrap();
        }),
        stays("the file of a task that no line tells of", &["task_not_in_log"], |sandbox, story| {
            let ready = file(sandbox, &story.ready);
            fs::copy(&ready, ready.with_file_name(format!("50-{STRANGER}.json"))).unwrap();
        }),
        daemons("a folder of waiting tasks is gone", &["folder_missing", "task_missing"], |sandbox, _| {
            fs::remove_dir_all(sandbox.spool("queue/default/held")).unwrap();
        }),
        daemons("all tasks are gone", &["folder_missing", "task_missing"], |sandbox, _| {
            no_checkpoint(sandbox);
            fs::remove_dir_all(sandbox.spool("queue")).unwrap();
            fs::create_dir_all(sandbox.spool("queue/default")).unwrap();
            fs::write(sandbox.spool("queue/default/queue.json"), "{\"slots\": 2}").unwrap();
            fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
        }),
    ]
}

fn of_strays() -> Vec<Damage> {
    vec![
        stays("a file among the ready tasks that is none", &["unexplained"], |sandbox, _| {
            fs::write(sandbox.spool("queue/default/ready/notes.txt"), "").unwrap();
        }),
        stays("a queue that no queue can be called", &["unexplained"], |sandbox, _| {
            fs::create_dir_all(sandbox.spool("queue/my queue/ready")).unwrap();
        }),
        stays("a file beside the folders of the spool", &["unexplained"], |sandbox, _| {
            fs::write(sandbox.spool("notes.txt"), "").unwrap();
        }),
        stays("a day that is none", &["unexplained"], |sandbox, _| {
            fs::create_dir(sandbox.spool("receipts/2026-13-99")).unwrap();
        }),
        stays("a folder where a profile belongs", &["wrong_sort"], |sandbox, _| {
            fs::create_dir(sandbox.spool("agents/other.json")).unwrap();
        }),
        stays("a file in a run that nobody knows", &["unexplained"], |sandbox, story| {
            fs::write(in_run(sandbox, &story.done, "core"), "").unwrap();
        }),
        permitted("what belongs to git, and what was dropped", |sandbox, _| {
            fs::create_dir_all(sandbox.spool(".git/objects")).unwrap();
            fs::write(sandbox.spool(".gitignore"), "queue/\n").unwrap();
            fs::write(sandbox.spool("inbox/.half.tmp"), "{").unwrap();
        }),
    ]
}

fn of_run_files() -> Vec<Damage> {
    vec![
        stays("a run of no task", &["run_of_no_task"], |sandbox, story| {
            fs::create_dir(sandbox.first_run(&story.done).with_file_name(format!("{STRANGER}.1"))).unwrap();
            let day = sandbox.spool("runs/2023-06-30");
            fs::create_dir(&day).unwrap();
            fs::rename(
                sandbox.first_run(&story.done).with_file_name(format!("{STRANGER}.1")),
                day.join(format!("{STRANGER}.1")),
            )
            .unwrap();
        }),
        stays("a run of a task that has not had so many", &["run_too_early"], |sandbox, story| {
            fs::create_dir(sandbox.first_run(&story.done).with_file_name(format!("{}.2", story.done)))
                .unwrap();
        }),
        stays("a run under another day", &["run_misplaced"], |sandbox, story| {
            fs::create_dir_all(sandbox.spool(&format!("runs/2020-01-01/{}.1", story.done))).unwrap();
        }),
        permitted("the run of an ended task is gone", |sandbox, story| {
            fs::remove_dir_all(sandbox.first_run(&story.done)).unwrap();
        }),
        permitted("the record of a run that has ended is gone", |sandbox, story| {
            fs::remove_file(in_run(sandbox, &story.done, "run.json")).unwrap();
        }),
        mended("a record that makes no sense", &["record_unreadable"], |sandbox, story| {
            fs::write(in_run(sandbox, &story.done, "run.json"), "{\"run\":").unwrap();
        }),
        mended("a record that says something else", &["record_differs"], |sandbox, story| {
            edit_json(&in_run(sandbox, &story.done, "run.json"), |it| it["evidence"]["exit_code"] = 7.into());
        }),
        stays("an assignment with another spec", &["assignment_differs"], |sandbox, story| {
            edit_json(&in_run(sandbox, &story.done, "task.json"), |it| it["spec"]["shell"] = "false".into());
        }),
        stays("an assignment that makes no sense", &["assignment_unreadable"], |sandbox, story| {
            fs::write(in_run(sandbox, &story.done, "task.json"), "{").unwrap();
        }),
        permitted("the assignment of a run that has ended is gone", |sandbox, story| {
            fs::remove_file(in_run(sandbox, &story.done, "task.json")).unwrap();
        }),
        stays("a command that makes no sense", &["command_unreadable"], |sandbox, story| {
            fs::write(in_run(sandbox, &story.done, "commands/0009-note.json"), "{").unwrap();
        }),
        stays("a note that nobody heard", &["command_unheard"], |sandbox, story| {
            let heard = in_run(sandbox, &story.done, "commands/0001-note.json");
            fs::copy(heard, in_run(sandbox, &story.done, "commands/0009-note.json")).unwrap();
        }),
        permitted("a note that nobody heard and nobody was promised", |sandbox, story| {
            fs::write(
                in_run(sandbox, &story.done, "commands/0009-note.json"),
                "{\"type\": \"note\", \"text\": \"x\"}",
            )
            .unwrap();
        }),
        permitted("a cancel that came too late", |sandbox, story| {
            fs::write(in_run(sandbox, &story.done, "commands/0009-cancel.json"), "{\"type\": \"cancel\"}")
                .unwrap();
        }),
        mended("a file instead of a fifo", &["wake_left", "wrong_sort"], |sandbox, story| {
            fs::write(in_run(sandbox, &story.done, "wake"), "").unwrap();
        }),
    ]
}

fn of_run_logs() -> Vec<Damage> {
    vec![
        mended("a torn last line of a run's log", &["line_unfinished"], |sandbox, story| {
            edit(&in_run(sandbox, &story.done, "events.jsonl"), |text| text + "{\"seq");
        }),
        stays("the end of a run is gone", &["record_differs", "run_not_ended"], |sandbox, story| {
            edit_lines(&in_run(sandbox, &story.done, "events.jsonl"), |_, line| {
                (!line.contains("run.ended")).then(|| line.into())
            });
        }),
        damage(
            "a run with another outcome than its task",
            &["outcome_differs", "record_differs"],
            &["outcome_differs"],
            &["outcome_differs"],
            |sandbox, story| {
                edit(&in_run(sandbox, &story.done, "events.jsonl"), |text| {
                    text.replace("\"succeeded\"", "\"failed\"")
                });
            },
        ),
        stays(
            "the begin of a run is gone",
            &["line_missing", "record_differs", "run_log_foreign"],
            |sandbox, story| {
                edit_lines(&in_run(sandbox, &story.done, "events.jsonl"), |number, line| {
                    (number > 0).then(|| line.into())
                });
            },
        ),
    ]
}

fn of_what_happens_once() -> Vec<Damage> {
    vec![
        damage(
            "a run that has begun twice",
            &["begun_twice", "record_differs"],
            &["begun_twice"],
            &["begun_twice"],
            |sandbox, story| {
                run_log(sandbox, &story.done, sandbox.run_log(&story.done)[0].clone());
            },
        ),
        damage(
            "a run that has ended twice",
            &["ended_twice", "record_differs"],
            &["ended_twice"],
            &["ended_twice"],
            |sandbox, story| {
                let end = sandbox
                    .run_log(&story.done)
                    .into_iter()
                    .find(|line| line["type"] == "run.ended")
                    .unwrap();
                run_log(sandbox, &story.done, end);
            },
        ),
        damage(
            "an agent that was started twice",
            &["agent_started_twice", "record_differs"],
            &["agent_started_twice"],
            &["agent_started_twice"],
            |sandbox, story| {
                run_log(sandbox, &story.done, json!({"type": "agent.started", "pid": 1, "argv": []}));
            },
        ),
        damage(
            "a command that never ends",
            &["command_open", "record_differs"],
            &["command_open"],
            &["command_open"],
            |sandbox, story| {
                run_log(
                    sandbox,
                    &story.done,
                    json!({"type": "command.acknowledged", "command": 9, "kind": "note"}),
                );
            },
        ),
    ]
}

fn of_live_runs() -> Vec<Damage> {
    vec![
        moving(daemons("the run of an active task is gone", &["run_not_begun"], |sandbox, story| {
            fs::remove_dir_all(sandbox.first_run(&story.active)).unwrap();
        })),
        moving(daemons(
            "a run whose supervisor is gone",
            &["record_differs", "run_abandoned"],
            |sandbox, story| {
                unend(sandbox, story);
            },
        )),
        moving(daemons(
            "the same, without a lock",
            &["lock_missing", "record_differs", "run_abandoned"],
            |sandbox, story| {
                unend(sandbox, story);
                fs::remove_file(in_run(sandbox, &story.active, "lock")).unwrap();
            },
        )),
        moving(daemons(
            "the same, without an assignment",
            &["assignment_missing", "record_differs", "run_abandoned"],
            |sandbox, story| {
                unend(sandbox, story);
                fs::remove_file(in_run(sandbox, &story.active, "task.json")).unwrap();
            },
        )),
        moving(daemons(
            "the same, and its task is cancelling",
            &["cancel_missing", "record_differs", "run_abandoned"],
            |sandbox, story| {
                unend(sandbox, story);
                let host = record(&in_run(sandbox, &story.done, "task.json"))["host"].clone();
                moved(sandbox, &story.active, json!({"is": "cancelling", "attempt": 1, "host": host}));
            },
        )),
    ]
}

/// Takes the end of the active task's run back.
fn unend(sandbox: &Sandbox, story: &Story) {
    edit_lines(&in_run(sandbox, &story.active, "events.jsonl"), |_, line| {
        (!line.contains("run.ended")).then(|| line.into())
    });
}
