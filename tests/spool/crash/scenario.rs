//! What is done while the fault comes: each scenario is one program on a prepared spool, which ends by itself.

use std::fs;
use std::io::Write;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, entries};

/// A program on a prepared spool.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Makes the spool.
    pub(super) prepare: fn() -> Sandbox,
    /// The program's arguments, after the spool's.
    pub(super) arguments: fn(&Sandbox) -> Vec<String>,
    /// Calls that crashes have been hard on, by a text in their description and the number among those that have it.
    pub(super) hard: &'static [(&'static str, u64)],
}

pub(super) const SCENARIOS: [Scenario; 28] = [
    Scenario { name: "init", prepare: Sandbox::without_spool, arguments: init, hard: &[("rename", 1)] },
    Scenario {
        name: "submit by the command line",
        prepare: Sandbox::new,
        arguments: submit,
        hard: &[("rename", 1), ("fsync", 1), ("fsync", 2)],
    },
    Scenario {
        name: "admit",
        prepare: dropped,
        arguments: drain,
        hard: &[
            ("claimed/ID.job.json", 1),
            ("write spool/events", 1),
            ("fdatasync", 1),
            ("fdatasync", 2),
            ("-> spool/queue/default/ready", 1),
            ("-> spool/receipts", 1),
            ("unlink", 1),
        ],
    },
    Scenario { name: "admit a long one", prepare: dropped_long, arguments: drain, hard: &[("texts", 1)] },
    Scenario {
        name: "refuse",
        prepare: dropped_senseless,
        arguments: drain,
        hard: &[("-> spool/refused", 1), ("-> spool/refused", 2), ("-> spool/receipts", 1)],
    },
    Scenario {
        name: "run",
        prepare: ready,
        arguments: drain,
        hard: &[
            ("-> spool/queue/default/active", 1),
            ("task.json", 1),
            ("supervisor flock", 1),
            ("write spool/runs", 1),
            ("supervisor fdatasync", 1),
            ("launch execve", 1),
            ("supervisor fdatasync", 2),
            ("daemon fdatasync", 3),
            ("-> spool/queue/default/done", 1),
            ("checkpoint.json", 1),
        ],
    },
    Scenario {
        name: "retry",
        prepare: ready_to_fail_once,
        arguments: drain,
        hard: &[
            ("daemon fdatasync", 3),
            ("daemon fdatasync", 4),
            ("supervisor fdatasync", 3),
            ("task.json", 2),
        ],
    },
    Scenario {
        name: "wait for a time",
        prepare: waiting_till_now,
        arguments: drain,
        hard: &[("-> spool/queue/default/ready", 1)],
    },
    Scenario {
        name: "run of a prompt",
        prepare: ready_prompt,
        arguments: drain,
        hard: &[("launch unlink spool/.local/tmp", 1)],
    },
    Scenario {
        name: "run in a worktree",
        prepare: ready_in_worktree,
        arguments: drain,
        hard: &[
            ("gitspool-intent.json", 1),
            ("gitspool-made.json", 1),
            ("stage rename", 1),
            ("kept", 1),
            ("trash", 1),
        ],
    },
    Scenario {
        name: "cancel a ready task",
        prepare: ready_and_cancelled,
        arguments: drain,
        hard: &[("-> spool/queue/default/cancelled", 1)],
    },
    Scenario {
        name: "cancel what others wait for",
        prepare: held_and_cancelled_with_others,
        arguments: drain,
        hard: &[("-> spool/queue/default/blocked", 1), ("-> spool/queue/default/blocked", 2)],
    },
    Scenario {
        name: "retry on request",
        prepare: failed_and_retried,
        arguments: drain,
        hard: &[("-> spool/queue/default/ready", 1), ("unlink spool/queue/default/failed", 1)],
    },
    Scenario {
        name: "cancel a running task",
        prepare: ready_and_cancels_itself,
        arguments: drain,
        hard: &[("commands/0001-cancel.json", 1), ("daemon fdatasync", 3), ("supervisor fdatasync", 2)],
    },
    Scenario {
        name: "rerank",
        prepare: ready_and_reranked,
        arguments: drain,
        hard: &[("-> spool/queue/default/ready/07-ID.json", 1)],
    },
    Scenario {
        name: "hold, release and by hand",
        prepare: moved_about,
        arguments: drain,
        hard: &[("held", 1)],
    },
    Scenario {
        name: "edit by hand",
        prepare: edited_by_hand,
        arguments: drain,
        hard: &[("write spool/events", 1), ("-> spool/refused", 2), ("-> spool/queue/default/ready", 1)],
    },
    Scenario {
        name: "edit",
        prepare: ready_and_edited,
        arguments: drain,
        hard: &[("-> spool/queue/default/ready", 1)],
    },
    Scenario {
        name: "note",
        prepare: ready_with_note,
        arguments: drain,
        hard: &[("cli rename spool/inbox", 1)],
    },
    Scenario {
        name: "mark as read",
        prepare: ready_and_marked,
        arguments: drain,
        hard: &[("-> spool/readers", 1), ("fsync spool/readers", 1)],
    },
    Scenario {
        name: "rotate",
        prepare: long_log,
        arguments: drain,
        hard: &[("now.jsonl ->", 1), ("fsync spool/events", 1), ("write spool/events", 1)],
    },
    Scenario {
        name: "run with units and a lock",
        prepare: ready_with_units,
        arguments: drain,
        hard: &[("daemon fdatasync", 2), ("-> spool/queue/default/done", 1)],
    },
    Scenario {
        name: "set a queue",
        prepare: dropped_settings,
        arguments: drain,
        hard: &[("nightly/queue.json", 1), ("nightly/queue.json", 2), ("fdatasync", 2)],
    },
    Scenario {
        name: "trip a breaker",
        prepare: ready_and_broken,
        arguments: drain,
        hard: &[("-> spool/queue/default/PAUSED", 1), ("-> spool/queue/default/failed", 1)],
    },
    Scenario {
        name: "tell of a run",
        prepare: ready_and_told,
        arguments: drain,
        hard: &[
            ("daemon write spool/events", 3),
            ("daemon fdatasync", 3),
            ("notifier execve", 1),
            ("notifier write PIPE", 2),
            ("daemon write spool/events", 5),
        ],
    },
    Scenario {
        name: "gc",
        prepare: ended_and_collected,
        arguments: drain,
        hard: &[
            ("-> spool/removed", 1),
            ("-> spool/.local/trash", 1),
            ("unlink spool/queue/default/done", 1),
            ("unlink spool/texts", 1),
        ],
    },
    Scenario {
        name: "remove a task",
        prepare: ended_in_worktree_and_removed,
        arguments: drain,
        hard: &[
            ("kept", 1),
            ("-> state/ID/trash", 1),
            ("-> spool/removed", 1),
            ("-> spool/.local/trash", 1),
            ("unlink spool/queue/default/done", 1),
        ],
    },
    Scenario {
        name: "checkpoint",
        prepare: without_checkpoint,
        arguments: drain,
        hard: &[("checkpoint.json", 1), ("now.jsonl", 1)],
    },
];

impl Scenario {
    /// How many tasks were accepted, or safely dropped, before the program started.
    pub(super) fn tasks(&self) -> usize {
        match self.name {
            "init" | "submit by the command line" | "refuse" | "set a queue" => 0,
            "hold, release and by hand" | "checkpoint" | "cancel what others wait for" => 3,
            "rotate" | "edit by hand" | "trip a breaker" => 2,
            _ => 1,
        }
    }

    /// Whether somebody asks for the end of a task.
    pub(super) fn cancels(&self) -> bool {
        self.name.starts_with("cancel") || self.name == "checkpoint"
    }
}

/// The scenario with this name.
pub(super) fn named(name: &str) -> &'static Scenario {
    SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap_or_else(|| panic!("no scenario {name:?}"))
}

fn init(_: &Sandbox) -> Vec<String> {
    vec!["init".to_owned()]
}

fn submit(sandbox: &Sandbox) -> Vec<String> {
    ["submit", "--workspace", "none", "--shell", &job(sandbox, "true")].map(ToOwned::to_owned).into()
}

fn drain(_: &Sandbox) -> Vec<String> {
    ["daemon", "--drain"].map(ToOwned::to_owned).into()
}

/// A line of sh that tells outside when it begins and when it ends.
fn job(sandbox: &Sandbox, work: &str) -> String {
    let ran = sandbox.outside("ran").display().to_string();
    format!("echo begin $GITSPOOL_RUN >> {ran}; {work}; echo end $GITSPOOL_RUN >> {ran}")
}

pub(super) fn plain_job(sandbox: &Sandbox) -> Value {
    json!({"shell": job(sandbox, "true"), "workspace": {"kind": "none"}})
}

/// A spool whose queue is paused.
fn paused() -> Sandbox {
    let sandbox = Sandbox::new();
    pause(&sandbox);
    sandbox
}

fn pause(sandbox: &Sandbox) {
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
}

/// Lets the queue go on; tells whether it was paused.
pub(super) fn go_on(sandbox: &Sandbox) -> bool {
    fs::remove_file(sandbox.spool("queue/default/PAUSED")).is_ok()
}

fn dropped() -> Sandbox {
    let sandbox = paused();
    sandbox.drop_by_mv("job.json", plain_job(&sandbox).to_string());
    sandbox
}

fn dropped_settings() -> Sandbox {
    let sandbox = paused();
    let settings = json!({"type": "set", "queue": "nightly", "slots": 3, "lanes": {"build": {"slots": 1}}});
    sandbox.drop_by_mv("set.json", settings.to_string());
    sandbox
}

fn dropped_long() -> Sandbox {
    let sandbox = paused();
    let mut command = plain_job(&sandbox);
    command["env"] = json!({"LONG": "x".repeat(40_000)});
    sandbox.drop_by_mv("job.json", command.to_string());
    sandbox
}

fn dropped_senseless() -> Sandbox {
    let sandbox = paused();
    sandbox.set_settle_ms(0);
    sandbox.drop_by_mv("wrong.json", "{");
    sandbox
}

/// Has `command` admitted; the queue is paused after that.
fn admitted(sandbox: &Sandbox, name: &str, command: &Value) -> String {
    pause(sandbox);
    sandbox.drop_by_mv(&format!("{name}.json"), command.to_string());
    sandbox.drain();
    sandbox.receipt(&format!("{name}.json"))["task"].as_str().expect("because it is accepted").to_owned()
}

fn ready() -> Sandbox {
    let sandbox = Sandbox::new();
    admitted(&sandbox, "job", &plain_job(&sandbox));
    go_on(&sandbox);
    sandbox
}

fn ready_with_units() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.set_host(&json!({"resources": {"gpu": 1}}));
    let mut wants = plain_job(&sandbox);
    wants["resources"] = json!({"gpu": 1});
    wants["locks"] = json!({"db": "exclusive"});
    admitted(&sandbox, "job", &wants);
    go_on(&sandbox);
    sandbox
}

/// Somebody is told of it, of its begin and of its end, and that the queue is empty then.
fn ready_and_told() -> Sandbox {
    let sandbox = Sandbox::new();
    let tell = format!("echo $GITSPOOL_NOTICE_ID >> {}", sandbox.outside("notices").display());
    let argv = ["/bin/sh", "-c", &tell];
    sandbox.set_queue(&json!({"notify_empty": argv}));
    let mut job = plain_job(&sandbox);
    job["notify"] = json!({"argv": argv, "mode": "milestones"});
    admitted(&sandbox, "job", &job);
    go_on(&sandbox);
    sandbox
}

/// Its first attempt fails, and the next one, which may come at once, does not.
fn ready_to_fail_once() -> Sandbox {
    let sandbox = Sandbox::new();
    let job = json!({
        "shell": job(&sandbox, "[ $GITSPOOL_ATTEMPT = 2 ] || exit 3"),
        "workspace": {"kind": "none"},
        "retry": {"max": 1, "backoff_seconds": 0},
    });
    admitted(&sandbox, "job", &job);
    go_on(&sandbox);
    sandbox
}

/// Its time has come since it was admitted, and no daemon has seen that.
fn waiting_till_now() -> Sandbox {
    const SOON: TimeDelta = TimeDelta::milliseconds(400);
    loop {
        let sandbox = Sandbox::new();
        let mut job = plain_job(&sandbox);
        let until = Utc::now() + SOON;
        job["start_at"] = until.to_rfc3339().into();
        admitted(&sandbox, "job", &job);
        // On a slow machine the time has come before the task was there.
        if sandbox.receipt("job.json")["state"]["is"] == "waiting" {
            go_on(&sandbox);
            sandbox.let_work((until - Utc::now()).to_std().unwrap_or_default());
            return sandbox;
        }
    }
}

/// A run comes to nothing, and another task must not start because of that.
fn ready_and_broken() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.set_queue(&json!({"slots": 1, "breaker": 1}));
    let profile = json!({"driver": "exec", "argv": ["/no/such/program"]});
    fs::write(sandbox.spool("agents/default.json"), profile.to_string()).unwrap();
    admitted(&sandbox, "job", &json!({"prompt": "do it", "workspace": {"kind": "none"}}));
    admitted(&sandbox, "next", &plain_job(&sandbox));
    go_on(&sandbox);
    sandbox
}

fn ready_prompt() -> Sandbox {
    let sandbox = Sandbox::new();
    let argv = ["/bin/sh", "-c", &job(&sandbox, "grep -q 'Do it' && true")];
    fs::write(sandbox.spool("agents/default.json"), json!({"driver": "exec", "argv": argv}).to_string())
        .unwrap();
    admitted(&sandbox, "job", &json!({"prompt": "Do it.", "workspace": {"kind": "none"}}));
    go_on(&sandbox);
    sandbox
}

fn ready_in_worktree() -> Sandbox {
    let sandbox = Sandbox::of_repository();
    let whole = sandbox.outside("whole").display().to_string();
    // What it says to be whole it has left: a fault may have come to its own programs.
    let work = format!(
        "{{ git commit -q --allow-empty -m second && git init -q --template= below && echo more >> file.txt && mkfifo fifo \
         && echo left > left.txt && echo $GITSPOOL_RUN >> {whole} || true; }}"
    );
    let command = json!({"shell": job(&sandbox, &work), "workspace": {"kind": "worktree", "cleanup": "all"}});
    admitted(&sandbox, "job", &command);
    go_on(&sandbox);
    sandbox
}

fn ready_and_cancelled() -> Sandbox {
    let sandbox = Sandbox::new();
    let task = admitted(&sandbox, "job", &plain_job(&sandbox));
    sandbox.drop_by_mv("cancel.json", json!({"type": "cancel", "target": task}).to_string());
    sandbox
}

/// Of a cancelled task one needs the success, and another the failure of that one.
fn held_and_cancelled_with_others() -> Sandbox {
    let sandbox = Sandbox::new();
    let with = |key: &str, value: Value| {
        let mut job = plain_job(&sandbox);
        job[key] = value;
        job
    };
    let one = admitted(&sandbox, "one", &with("held", true.into()));
    let two = admitted(&sandbox, "two", &with("needs", json!([one])));
    admitted(&sandbox, "three", &with("after_failed", json!([two])));
    go_on(&sandbox);
    sandbox.drop_by_mv("cancel.json", json!({"type": "cancel", "target": one}).to_string());
    sandbox
}

/// Its first attempt has failed, and a second one is asked for, which does not.
fn failed_and_retried() -> Sandbox {
    let sandbox = Sandbox::new();
    let shell = job(&sandbox, "[ $GITSPOOL_ATTEMPT = 2 ] || exit 3");
    let task = admitted(&sandbox, "job", &json!({"shell": shell, "workspace": {"kind": "none"}}));
    go_on(&sandbox);
    sandbox.drain();
    sandbox.drop_by_mv("retry.json", json!({"type": "retry", "target": task}).to_string());
    sandbox
}

fn ready_and_cancels_itself() -> Sandbox {
    let sandbox = Sandbox::new();
    let work = format!(
        "printf '{{\"type\":\"cancel\",\"target\":\"%s\"}}' $GITSPOOL_TASK > {0}/cancel; mv {0}/cancel {1}; sleep 1000",
        sandbox.path("outside").display(),
        sandbox.spool("inbox/cancel.json").display()
    );
    admitted(&sandbox, "job", &json!({"shell": job(&sandbox, &work), "workspace": {"kind": "none"}}));
    go_on(&sandbox);
    sandbox
}

fn ready_and_reranked() -> Sandbox {
    let sandbox = Sandbox::new();
    let task = admitted(&sandbox, "job", &plain_job(&sandbox));
    sandbox.drop_by_mv("rerank.json", json!({"type": "rerank", "target": task, "rank": 7}).to_string());
    sandbox
}

fn ready_and_marked() -> Sandbox {
    let sandbox = Sandbox::new();
    let task = admitted(&sandbox, "job", &plain_job(&sandbox));
    let mark = json!({"type": "mark_read", "reader": "me", "tasks": [task], "version": 2});
    sandbox.drop_by_mv("mark.json", mark.to_string());
    sandbox
}

/// One task is to be held, another released, and a third has been moved by hand.
fn moved_about() -> Sandbox {
    let sandbox = Sandbox::new();
    let mut held = plain_job(&sandbox);
    held["held"] = true.into();
    let tasks = [
        admitted(&sandbox, "one", &plain_job(&sandbox)),
        admitted(&sandbox, "two", &held),
        admitted(&sandbox, "three", &plain_job(&sandbox)),
    ];
    let target = |kind: &str, task: usize| json!({"type": kind, "target": tasks[task]}).to_string();
    sandbox.drop_by_mv("hold.json", target("hold", 0));
    sandbox.drop_by_mv("release.json", target("release", 1));
    let file = |folder: &str| sandbox.spool("queue/default").join(format!("{folder}-{}.json", tasks[2]));
    fs::rename(file("ready/50"), file("ready/10")).unwrap();
    sandbox
}

/// One task was edited while no daemon ran, and another so that it cannot be one.
fn edited_by_hand() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.set_settle_ms(0);
    let tasks = ["one", "two"].map(|name| admitted(&sandbox, name, &plain_job(&sandbox)));
    let file = |task: &str| sandbox.spool(&format!("queue/default/ready/50-{task}.json"));
    let mut spec = plain_job(&sandbox);
    spec["env"] = json!({"NEW": "x"});
    fs::write(file(&tasks[0]), spec.to_string()).unwrap();
    fs::write(file(&tasks[1]), r#"{"shel": "true"}"#).unwrap();
    go_on(&sandbox);
    sandbox
}

/// A command gives it another spec.
fn ready_and_edited() -> Sandbox {
    let sandbox = Sandbox::new();
    let task = admitted(&sandbox, "job", &plain_job(&sandbox));
    let set = json!({"env": {"NEW": "x"}});
    sandbox.drop_by_mv("edit.json", json!({"type": "edit", "target": task, "set": set}).to_string());
    sandbox
}

fn ready_with_note() -> Sandbox {
    let sandbox = Sandbox::new();
    let command = json!({"shell": job(&sandbox, "gitspool note hello"), "workspace": {"kind": "none"}});
    admitted(&sandbox, "job", &command);
    go_on(&sandbox);
    sandbox
}

/// A log of more than 8 MiB, which the next line begins anew, and a file to admit.
fn long_log() -> Sandbox {
    const ENOUGH: usize = 8 * 1024 * 1024;
    let sandbox = Sandbox::new();
    admitted(&sandbox, "job", &plain_job(&sandbox));
    let path = entries(&sandbox.spool("events"))[0].join("now.jsonl");
    let last = sandbox.log().pop().expect("because a daemon has run");
    let mut log = fs::File::options().append(true).open(path).unwrap();
    let (mut seq, mut bytes) = (last["seq"].as_u64().unwrap(), 0);
    while bytes <= ENOUGH {
        seq += 1;
        // Of a line's 64 KiB most: what a daemon found wrong with its log.
        let repaired: Vec<String> = (0..20).map(|_| "x".repeat(3_000)).collect();
        let line = json!({
            "seq": seq, "at": last["at"], "type": "daemon.started", "pid": 1, "version": "0", "repaired": repaired
        });
        let line = format!("{line}\n");
        log.write_all(line.as_bytes()).unwrap();
        bytes += line.len();
    }
    sandbox.drop_by_mv("more.json", plain_job(&sandbox).to_string());
    sandbox
}

/// A task that has ended, and whose spec is a text; all that has ended is to be removed.
fn ended_and_collected() -> Sandbox {
    let sandbox = Sandbox::new();
    let mut command = plain_job(&sandbox);
    command["env"] = json!({"LONG": "x".repeat(40_000)});
    admitted(&sandbox, "job", &command);
    go_on(&sandbox);
    sandbox.drain();
    sandbox.drop_by_mv("gc.json", json!({"type": "gc", "keep": 0}).to_string());
    sandbox
}

/// A task that has ended, whose worktree stands with something that nobody has committed; it is to be removed.
fn ended_in_worktree_and_removed() -> Sandbox {
    let sandbox = Sandbox::of_repository();
    let work = "echo left > left.txt; echo more >> file.txt";
    let command = json!({"shell": job(&sandbox, work), "workspace": {"kind": "worktree"}});
    let task = admitted(&sandbox, "job", &command);
    go_on(&sandbox);
    sandbox.drain();
    sandbox.drop_by_mv("rm.json", json!({"type": "rm", "target": task}).to_string());
    sandbox
}

fn without_checkpoint() -> Sandbox {
    let sandbox = Sandbox::new();
    for name in ["one", "two", "three"] {
        admitted(&sandbox, name, &plain_job(&sandbox));
    }
    let task = sandbox.receipt("two.json")["task"].as_str().unwrap().to_owned();
    sandbox.drop_by_mv("cancel.json", json!({"type": "cancel", "target": task}).to_string());
    sandbox.drain();
    fs::remove_file(sandbox.spool(".local/checkpoint.json")).unwrap();
    sandbox
}
