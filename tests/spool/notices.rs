//! Notices: who is told of tasks and of empty queues, with which data, how often; and that nobody who is told badly, slowly or
//! never keeps anything else from going on.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, entries, names, read_json};

/// Makes a notifier of lines of sh. `$OUT` is the folder outside.
fn notifier(sandbox: &Sandbox, name: &str, lines: &str) -> String {
    let path = sandbox.outside(name);
    fs::write(&path, format!("#!/bin/sh\nOUT={}\n{lines}\n", sandbox.path("outside").display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// One that puts what it is told into a file for each notice and try.
fn teller(sandbox: &Sandbox) -> String {
    fs::create_dir_all(sandbox.outside("told")).unwrap();
    let lines = "cat > $OUT/.$$; mv $OUT/.$$ $OUT/told/$GITSPOOL_NOTICE_ID.$GITSPOOL_NOTICE_TRIES.json";
    notifier(sandbox, "tell", lines)
}

/// What such a notifier was told, the oldest notice first.
fn told(sandbox: &Sandbox) -> Vec<Value> {
    entries(&sandbox.outside("told"))
        .iter()
        .map(|path| read_json(path).expect("because it is whole"))
        .collect()
}

/// What was told of a task, or of a queue.
fn told_of(sandbox: &Sandbox, task: Option<&str>) -> Vec<Value> {
    told(sandbox).into_iter().filter(|notice| notice["task"].as_str() == task).collect()
}

fn lines(sandbox: &Sandbox, kind: &str) -> Vec<Value> {
    sandbox.log().into_iter().filter(|line| line["type"] == kind).collect()
}

/// The notices in the log of a task, or of a queue.
fn notices(sandbox: &Sandbox, task: Option<&str>) -> Vec<Value> {
    lines(sandbox, "notice").into_iter().filter(|line| line["task"].as_str() == task).collect()
}

/// Waits until each notice has its end, and a task its final one; returns that.
fn final_of(sandbox: &Sandbox, task: &str) -> Value {
    sandbox.wait(&format!("the final notice of {task}"), || {
        let last = notices(sandbox, Some(task)).pop().filter(|line| line["is_final"] == true)?;
        let ended = |line: &Value| line["notice"] == last["notice"] && line["type"] != "notice";
        (last.get("argv").is_none() || sandbox.log().iter().any(ended)).then_some(last)
    })
}

/// A job that is told of by `argv`, in the given mode.
fn job(shell: &str, mode: &str, argv: &[&str]) -> Value {
    json!({"shell": shell, "workspace": {"kind": "none"}, "notify": {"mode": mode, "argv": argv}})
}

#[test]
fn who_is_told_of_an_end_has_the_same_data_in_its_environment_and_on_its_stdin() {
    let mut sandbox = Sandbox::new();
    let lines = "env > $OUT/env; cat > $OUT/stdin; pwd -P > $OUT/place; ls -l /proc/self/fd > $OUT/open;
        echo $$ $(ps -o pgid= -p $$) > $OUT/group; printf '%s\\n' \"$@\" > $OUT/arguments; echo all > $OUT/whole";
    let tell = notifier(&sandbox, "tell", lines);
    sandbox.start();
    let place = sandbox.path("home").canonicalize().unwrap();
    let awkward = "$(touch nowhere) `id` 'x' \"y\" %s";
    let command = json!({
        "shell": "exit 3", "item": awkward, "tenant": "acme", "directory": place, "workspace": {"kind": "directory"},
        "notify": {"argv": [tell, "", awkward]}, "env": {"NOT_MINE": "x"},
    });
    let (task, outcome) = sandbox.carry_out("first", &command);
    let notice = final_of(&sandbox, &task);
    assert_eq!((outcome.as_str(), sandbox.wait_told("whole").as_str()), ("failed", "all\n"));
    let object: Value = serde_json::from_str(&sandbox.told("stdin")).unwrap();
    assert_eq!((&object["status"], &object["item"]), (&json!("failed"), &json!(awkward)));
    assert_eq!((&object["name"], &object["tenant"]), (&json!("first"), &json!("acme")));
    assert_eq!((&object["evidence"], &object["reasons"]), (&json!({"exit_code": 3}), &json!({"ended": 1})));
    assert_eq!(
        (&object["is_final"], &object["count"], &object["tries"]),
        (&json!(true), &json!(1), &json!(1))
    );
    assert_eq!((&object["run"], &object["notice"]), (&json!(format!("{task}.1")), &notice["notice"]));
    let variables = sandbox.told("env");
    let variables: BTreeMap<&str, &str> = variables.lines().filter_map(|line| line.split_once('=')).collect();
    let is =
        |key: &str| variables.get(format!("GITSPOOL_NOTICE_{key}").as_str()).copied().unwrap_or_default();
    for key in ["task", "status", "name", "item", "queue", "at", "run", "count", "is_final", "tries", "spool"]
    {
        let value = object[key].as_str().map_or_else(|| object[key].to_string(), ToOwned::to_owned);
        assert_eq!(is(&key.to_uppercase()), value, "{key}");
    }
    assert_eq!((is("ID"), is("EXIT_CODE")), (object["notice"].as_str().unwrap(), "3"));
    assert_eq!(is("REASONS"), "ended=1");
    let others = ["GITSPOOL_DIR", "GITSPOOL_TENANT"].map(|name| variables[name]);
    assert_eq!(others, [sandbox.path("spool").to_str().unwrap(), "acme"]);
    assert!(!variables.contains_key("NOT_MINE") && !variables.contains_key("GITSPOOL_TOKEN"));
    // The arguments came through as they are, and no shell has read them.
    assert_eq!(sandbox.told("arguments"), format!("\n{awkward}\n"));
    assert_eq!(sandbox.told("place").trim_end(), place.to_str().unwrap());
    let open: Vec<String> =
        sandbox.told("open").lines().filter_map(|line| Some(line.split_once("-> ")?.1.to_owned())).collect();
    let ours = open.iter().filter(|path| path.contains("/spool/") || path.contains("socket"));
    assert_eq!(ours.count(), 0, "{open:?}");
    let group = sandbox.told("group");
    let (pid, of) = group.trim().split_once(' ').unwrap();
    assert_eq!(pid, of.trim(), "it leads a group of its own");
    check(&mut sandbox);
}

#[test]
fn milestones_are_told_at_once_or_together_and_the_final_notice_counts_what_was_left_out() {
    let mut sandbox = Sandbox::new();
    let tell = teller(&sandbox);
    sandbox.start();
    let gate = sandbox.gate("gate");
    let with = |shell: &str, more: Value| {
        let mut command = job(shell, "milestones", &[&tell]);
        command["notify"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        command
    };
    // Each at once.
    let shell = "gitspool note --confirm one; gitspool note --confirm two; [ $GITSPOOL_ATTEMPT = 2 ]";
    let mut each = with(shell, json!({"min_interval_seconds": 0}));
    each["retry"] = json!({"max": 1, "backoff_seconds": 0});
    let (each, _) = sandbox.carry_out("each", &each);
    final_of(&sandbox, &each);
    let reasons: Vec<Value> =
        told_of(&sandbox, Some(&each)).iter().map(|notice| notice["reasons"].clone()).collect();
    let one = |kind: &str| json!({kind: 1});
    let attempt = [one("started"), one("note"), one("note")];
    assert_eq!(reasons[..3], attempt);
    assert_eq!(reasons[3..], [&[one("tried_again")], &attempt[..], &[one("ended")]].concat());
    let counts: Vec<Value> =
        told_of(&sandbox, Some(&each)).iter().map(|notice| notice["count"].clone()).collect();
    assert_eq!(counts, (1..=8).map(|count| json!(count)).collect::<Vec<_>>());
    // One at once, and what came within the hour with the final one.
    let (together, _) = sandbox.carry_out("together", &with(shell, json!({"min_interval_seconds": 3600})));
    final_of(&sandbox, &together);
    let reasons: Vec<Value> =
        told_of(&sandbox, Some(&together)).iter().map(|notice| notice["reasons"].clone()).collect();
    assert_eq!(reasons, [one("started"), json!({"note": 2, "ended": 1})]);
    // One at once, and what came within the second when that was over.
    let waits = with(
        &format!("gitspool note --confirm a; gitspool note --confirm b; {gate}"),
        json!({"min_interval_seconds": 1}),
    );
    let waits = sandbox.submit("waits", &waits);
    let second = sandbox.wait("the second notice", || told_of(&sandbox, Some(&waits)).into_iter().nth(1));
    assert_eq!((&second["reasons"], &second["is_final"]), (&json!({"note": 2}), &json!(false)));
    sandbox.open_gate("gate");
    final_of(&sandbox, &waits);
    // No more than one.
    let (limited, _) =
        sandbox.carry_out("limited", &with(shell, json!({"min_interval_seconds": 0, "notices_max": 1})));
    let last = final_of(&sandbox, &limited);
    let first = told_of(&sandbox, Some(&limited)).remove(0);
    assert_eq!((&first["limit_reached"], &first["reasons"]), (&json!(true), &one("started")));
    assert_eq!((&last["dropped"], &last["count"], &last["reasons"]), (&json!(2), &json!(2), &one("ended")));
    // None but the final one.
    let (quiet, _) = sandbox.carry_out("quiet", &with("true", json!({"mode": "final"})));
    final_of(&sandbox, &quiet);
    assert_eq!(told_of(&sandbox, Some(&quiet)).len(), 1);
    let nobody = with("true", json!({"mode": "none"}));
    let (nobody, _) = sandbox.carry_out("nobody", &nobody);
    assert_eq!(notices(&sandbox, Some(&nobody)), Vec::<Value>::new());
    check(&mut sandbox);
}

#[test]
fn each_end_has_one_final_notice_and_so_has_each_end_after_a_retry() {
    let mut sandbox = Sandbox::new();
    let tell = teller(&sandbox);
    sandbox.start();
    let (task, _) = sandbox.carry_out("again", &job("[ $GITSPOOL_ATTEMPT = 2 ]", "milestones", &[&tell]));
    let first = final_of(&sandbox, &task);
    sandbox.ask("retry.json", &json!({"type": "retry", "target": task}));
    sandbox.wait_in("done", &task);
    let second = sandbox
        .wait("another final notice", || Some(final_of(&sandbox, &task)).filter(|last| *last != first));
    assert_eq!((&first["status"], &second["status"]), (&json!("failed"), &json!("succeeded")));
    assert_eq!((&first["count"], &second["count"]), (&json!(2), &json!(2)), "it begins anew");
    // Of what never started, too; and of what was blocked with it.
    let held = json!({"run": ["true"], "held": true, "notify": {"argv": [tell]}});
    let held = sandbox.submit("held", &held);
    let needs =
        sandbox.submit("needs", &json!({"run": ["true"], "needs": [held], "notify": {"argv": [tell]}}));
    sandbox.cancel("stop.json", &held);
    let ends = [held, needs].map(|task| final_of(&sandbox, &task));
    assert_eq!(ends.each_ref().map(|end| end["status"].as_str().unwrap()), ["cancelled", "blocked"]);
    assert!(ends.iter().all(|end| end["run"].is_null()), "{ends:?}");
    let finals = notices(&sandbox, Some(&task)).iter().filter(|line| line["is_final"] == true).count();
    assert_eq!((finals, told_of(&sandbox, Some(&task)).len()), (2, 4));
    check(&mut sandbox);
}

#[test]
fn a_queue_tells_once_that_it_has_no_work_any_more_and_what_came_of_it() {
    let mut sandbox = Sandbox::new();
    let tell = teller(&sandbox);
    sandbox.start();
    let set = ["queue", "set", "default", "--slots", "2", "--notify-empty", &tell, "--notify-empty", "--now"];
    sandbox.run(sandbox.gitspool(&set));
    let gate = sandbox.gate("gate");
    let held = sandbox.submit("held", &json!({"run": ["true"], "held": true}));
    let first = sandbox.submit("first", &json!({"shell": gate}));
    let second = sandbox.submit("second", &json!({"shell": "exit 3"}));
    let third = sandbox.submit("third", &json!({"run": ["true"], "after": [first]}));
    sandbox.wait_in("failed", &second);
    assert_eq!(notices(&sandbox, None), Vec::<Value>::new(), "something runs, and something waits");
    sandbox.open_gate("gate");
    sandbox.wait_in("done", &third);
    let empty = sandbox.wait("the queue's notice", || told_of(&sandbox, None).pop());
    assert_eq!(empty["reasons"], json!({"queue_empty": 1}));
    assert_eq!(empty["ended"], json!({"succeeded": 2, "failed": 1}), "what is held is no work");
    assert_eq!((&empty["queue"], &empty["task"]), (&json!("default"), &Value::Null));
    // A held task that is cancelled was no work; one that is released is.
    let other = sandbox.submit("other", &json!({"run": ["true"], "held": true}));
    sandbox.cancel("stop.json", &other);
    sandbox.wait_in("cancelled", &other);
    assert_eq!(notices(&sandbox, None).len(), 1);
    sandbox.ask("go.json", &json!({"type": "release", "target": held}));
    let again = sandbox.wait("another notice", || told_of(&sandbox, None).into_iter().nth(1));
    assert_eq!(again["ended"], json!({"succeeded": 1}));
    // A queue whose last work is held has none any more.
    fs::write(sandbox.spool("queue/default/PAUSED"), "").unwrap();
    let ready = sandbox.submit("ready", &json!({"run": ["true"]}));
    sandbox.ask("hold.json", &json!({"type": "hold", "target": ready}));
    let third = sandbox.wait("a third notice", || told_of(&sandbox, None).into_iter().nth(2));
    assert_eq!(third["ended"], Value::Null);
    let (code, queues) = sandbox.json(&["queue"]);
    assert_eq!((code, &queues[0]["settings"]["notify_empty"]), (0, &json!([tell, "--now"])));
    sandbox.run(sandbox.gitspool(&["queue", "set", "default", "--no-notify-empty"]));
    let (_, queues) = sandbox.json(&["queue"]);
    assert_eq!(queues[0]["settings"]["notify_empty"], Value::Null);
    check(&mut sandbox);
}

#[test]
fn a_notice_that_was_not_delivered_when_the_daemon_was_killed_is_delivered_again_under_the_same_id() {
    let mut sandbox = Sandbox::new();
    let gate = sandbox.gate("gate");
    let lines = format!(
        "echo $GITSPOOL_NOTICE_ID $GITSPOOL_NOTICE_TRIES >> $OUT/ids; {gate}; echo $GITSPOOL_NOTICE_ID >> $OUT/through"
    );
    let tell = notifier(&sandbox, "tell", &lines);
    sandbox.start();
    let (task, _) = sandbox.carry_out("slow", &job("true", "final", &[&tell]));
    let first = sandbox.wait_told("ids");
    sandbox.kill();
    sandbox.start();
    let both =
        sandbox.wait("the second try", || Some(sandbox.told("ids")).filter(|ids| ids.lines().count() == 2));
    assert_eq!(both, first.repeat(2));
    // Nothing is left of the first.
    let tellers = || sandbox.processes().iter().filter(|process| process.arguments.contains(&tell)).count();
    sandbox.wait_until("the end of the first notifier", || tellers() == 1);
    let (_, status) = sandbox.json(&["status"]);
    let (_, shown) = sandbox.json(&["show", &task]);
    assert_eq!(
        (&status[0]["open_notices"], shown[0]["open_notices"].as_array().unwrap().len()),
        (&json!(1), 1)
    );
    // The same after an end in order, and from the checkpoint that it leaves.
    sandbox.stop();
    assert_eq!(
        read_json(&sandbox.spool(".local/checkpoint.json")).unwrap()["notices"]["open"][0]["task"],
        json!(task)
    );
    let (_, status) = sandbox.json(&["status"]);
    assert_eq!(status[0]["open_notices"], 1, "without a daemon, too");
    sandbox.start();
    sandbox.wait("the third try", || Some(sandbox.told("ids")).filter(|ids| *ids == first.repeat(3)));
    sandbox.open_gate("gate");
    let notice = final_of(&sandbox, &task);
    assert_eq!(sandbox.told("through"), format!("{}\n", notice["notice"].as_str().unwrap()));
    assert_eq!(lines_of_end(&sandbox, &notice), ["notice.delivered"]);
    let (_, status) = sandbox.json(&["status"]);
    assert_eq!(status[0]["open_notices"], 0);
    check(&mut sandbox);
}

/// What the log tells of a notice behind its own line.
fn lines_of_end(sandbox: &Sandbox, notice: &Value) -> Vec<String> {
    let of = |line: &Value| line["notice"] == notice["notice"] && line["type"] != "notice";
    let ends = sandbox.log().into_iter().filter(of);
    ends.map(|line| line["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_waits_until_the_last_notice_is_old_enough_is_told_by_the_next_daemon() {
    let mut sandbox = Sandbox::new();
    let tell = teller(&sandbox);
    sandbox.start();
    let gate = sandbox.gate("gate");
    let mut command = job(&format!("gitspool note --confirm a; {gate}"), "milestones", &[&tell]);
    command["notify"]["min_interval_seconds"] = json!(3);
    let task = sandbox.submit("waits", &command);
    sandbox.wait_until("the note", || lines(&sandbox, "command.accepted").len() == 1);
    sandbox.kill();
    sandbox.start();
    let second = sandbox.wait("the second notice", || told_of(&sandbox, Some(&task)).into_iter().nth(1));
    assert_eq!((&second["reasons"], &second["count"]), (&json!({"note": 1}), &json!(2)));
    // The same from a checkpoint.
    sandbox.stop();
    let known = &read_json(&sandbox.spool(".local/checkpoint.json")).unwrap()["notices"]["tasks"][&task];
    assert_eq!(known["sent"], 2);
    sandbox.start();
    sandbox.open_gate("gate");
    assert_eq!((&final_of(&sandbox, &task)["count"], told_of(&sandbox, Some(&task)).len()), (&json!(3), 3));
    check(&mut sandbox);
}

#[test]
fn what_a_daemon_with_drain_has_to_tell_is_told_when_it_ends() {
    let mut sandbox = Sandbox::new();
    let tell = teller(&sandbox);
    sandbox.drop_by_mv("one.json", job("true", "final", &[&tell]).to_string());
    sandbox.drain();
    assert_eq!(told(&sandbox).len(), 1);
    check(&mut sandbox);
}

#[test]
fn a_queue_says_who_is_told_of_its_tasks_and_each_task_may_say_otherwise() {
    let mut sandbox = Sandbox::new();
    let tell = teller(&sandbox);
    sandbox.set_queue(&json!({"defaults": {"notify": {"argv": [tell], "min_interval_seconds": 0}}}));
    sandbox.start();
    let plain = sandbox.submit("plain", &json!({"run": ["true"]}));
    let more = sandbox.submit("more", &json!({"run": ["true"], "notify": {"mode": "milestones"}}));
    let none = sandbox.submit("none", &json!({"run": ["true"], "notify": {"mode": "none"}}));
    final_of(&sandbox, &plain);
    final_of(&sandbox, &more);
    sandbox.wait_in("done", &none);
    let counts = [plain, more, none].map(|task| notices(&sandbox, Some(&task)).len());
    assert_eq!(counts, [1, 2, 0]);
    // Without a notifier the lines are all there is.
    let lines_only =
        sandbox.submit("lines", &json!({"run": ["true"], "notify": {"argv": [], "mode": "final"}}));
    final_of(&sandbox, &lines_only);
    // Who is told may be edited until the start.
    let held = sandbox.submit("held", &json!({"run": ["true"], "held": true}));
    let edit = json!({"type": "edit", "target": held, "set": {"notify": {"mode": "none"}}});
    assert_eq!(sandbox.ask("edit.json", &edit)["accepted"], true);
    sandbox.ask("go.json", &json!({"type": "release", "target": held}));
    sandbox.wait_in("done", &held);
    assert_eq!(notices(&sandbox, Some(&held)), Vec::<Value>::new());
    check(&mut sandbox);
}

#[test]
fn what_makes_no_notifier_is_refused_with_its_place() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let with = |notify: Value| json!({"run": ["true"], "notify": notify});
    for (number, (command, kind, path)) in [
        (with(json!({"argv": [""]})), "invalid_value", "$.notify.argv[0]"),
        (with(json!({"argv": ["a", "x\u{0}y"]})), "contains_nul", "$.notify.argv[1]"),
        (with(json!({"argv": ["a", "x".repeat(9000)]})), "too_large", "$.notify.argv"),
        (with(json!({"argv": "a b"})), "wrong_type", "$.notify.argv"),
        (with(json!({"mode": "all"})), "wrong_type", "$.notify.mode"),
        (with(json!({"notices_max": 101})), "invalid_value", "$.notify.notices_max"),
        (with(json!({"min_interval_seconds": 3601})), "invalid_value", "$.notify.min_interval_seconds"),
        (with(json!({"timeout_seconds": 0})), "invalid_value", "$.notify.timeout_seconds"),
        (with(json!({"argvs": []})), "unknown_key", "$.notify.argvs"),
        (with(json!([])), "wrong_type", "$.notify"),
        (json!({"type": "set", "queue": "default", "notify_empty": []}), "invalid_value", "$.notify_empty"),
        (
            json!({"type": "set", "queue": "default", "notify_empty": [""]}),
            "invalid_value",
            "$.notify_empty[0]",
        ),
        (
            json!({"type": "set", "queue": "default", "defaults": {"notify": {"argv": [""]}}}),
            "invalid_value",
            "$.defaults.notify.argv[0]",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let receipt = sandbox.ask(&format!("wrong{number}.json"), &command);
        let refusal = (&receipt["refusal"]["kind"], &receipt["refusal"]["path"]);
        assert_eq!(refusal, (&json!(kind), &json!(path)), "{command}: {receipt}");
    }
    check(&mut sandbox);
}

/// A processor's share is no reason to fail: all of them come to their end while others go on.
#[test]
fn bad_notifiers_are_given_up_and_delay_nobody_and_nobody_is_told_of_that() {
    let mut sandbox = Sandbox::new();
    let good = teller(&sandbox);
    let bad: Vec<(&str, String, &str)> = vec![
        (
            "fails",
            notifier(
                &sandbox,
                "fails",
                "echo out; echo 'no server for ghp_0123456789abcdef0123456789abcdef0123' >&2; exit 3",
            ),
            "exit code 3",
        ),
        ("missing", sandbox.outside("missing").to_str().unwrap().to_owned(), "cannot start"),
        ("folder", sandbox.path("home").to_str().unwrap().to_owned(), "cannot start"),
        ("killed", notifier(&sandbox, "killed", "kill -9 $$"), "signal 9"),
        ("kills", notifier(&sandbox, "kills", "kill -9 $PPID; sleep 1000"), "without a word"),
        (
            "endless",
            notifier(&sandbox, "endless", "trap '' TERM; while :; do sleep 1000; done"),
            "longer than 1 s",
        ),
    ];
    sandbox.start();
    let mut tasks = Vec::new();
    for (name, program, words) in &bad {
        let mut command = job("true", "final", &[program]);
        command["notify"]["timeout_seconds"] = json!(1);
        tasks.push((sandbox.submit(name, &command), *words));
    }
    // Five tries take longer than this, and four at once are tried: still it is told.
    let (task, _) = sandbox.carry_out("good", &job("true", "final", &[&good]));
    final_of(&sandbox, &task);
    for (task, words) in &tasks {
        let notice = final_of(&sandbox, task);
        assert_eq!(lines_of_end(&sandbox, &notice), ["notice.failed"]);
        let failed = lines(&sandbox, "notice.failed")
            .into_iter()
            .find(|line| line["notice"] == notice["notice"])
            .unwrap();
        assert_eq!(failed["tries"], 5);
        assert!(failed["message"].as_str().unwrap().contains(words), "{failed}");
        assert_eq!(notices(&sandbox, Some(task)).len(), 1, "nobody is told of a failure");
    }
    let failed = lines(&sandbox, "notice.failed");
    let output = failed.iter().find_map(|line| line["output"].as_str()).unwrap();
    assert_eq!(output, "out\nno server for [hidden]");
    let (_, status) = sandbox.json(&["status"]);
    assert_eq!(status[0]["failed_notices"].as_array().unwrap().len(), bad.len());
    let shown = String::from_utf8(sandbox.gitspool(&["status"]).output().unwrap().stdout).unwrap();
    assert!(
        shown.contains("not delivered by") && shown.contains("exit code 3 (no server for [hidden])"),
        "{shown}"
    );
    let doctor = String::from_utf8(sandbox.gitspool(&["doctor"]).output().unwrap().stdout).unwrap();
    assert!(doctor.contains("exit code 3"), "{doctor}");
    // Nothing of them is left, also of what was killed with its parent: the next try ends that.
    let marker = |arguments: &[String]| arguments.iter().any(|argument| argument.contains("endless"));
    assert!(!sandbox.processes().iter().any(|process| marker(&process.arguments)));
    // One that is mended is told of no more.
    notifier(&sandbox, "fails", "exit 0");
    let (task, _) = sandbox.carry_out("mended", &job("true", "final", &[&bad[0].1]));
    assert_eq!(lines_of_end(&sandbox, &final_of(&sandbox, &task)), ["notice.delivered"]);
    let (_, status) = sandbox.json(&["status"]);
    assert_eq!(status[0]["failed_notices"].as_array().unwrap().len(), bad.len() - 1);
    check(&mut sandbox);
}

#[test]
fn rude_notifiers_deliver_and_leave_nothing_behind() {
    let mut sandbox = Sandbox::new();
    let rude: Vec<(&str, String)> = vec![
        // It forks, and stays in a session of its own, with all that it was given.
        ("stays", notifier(&sandbox, "stays", "setsid sleep 4000 & echo $! > $OUT/stays.pid; exit 0")),
        ("stubborn", notifier(&sandbox, "stubborn", "(trap '' TERM; setsid sleep 4001) & exit 0")),
        ("loud", notifier(&sandbox, "loud", "head -c 1000000000 /dev/zero; echo end >&2")),
        ("deaf", notifier(&sandbox, "deaf", "exec 0<&-; exit 0")),
        ("closed", notifier(&sandbox, "closed", "exec 0<&- 1>&- 2>&-; exit 0")),
        ("unread", notifier(&sandbox, "unread", "sleep 0.2; exit 0")),
    ];
    sandbox.start();
    let long = "x".repeat(900_000);
    let mut tasks = Vec::new();
    for (name, program) in &rude {
        // The data is small, however long the task.
        let mut command = job(&format!("true {long}"), "final", &[program]);
        command["item"] = json!("i".repeat(1024));
        command["notify"]["timeout_seconds"] = json!(60);
        tasks.push(sandbox.submit(name, &command));
    }
    for task in &tasks {
        let notice = final_of(&sandbox, task);
        assert_eq!(lines_of_end(&sandbox, &notice), ["notice.delivered"], "{notice}");
        assert!(notice.to_string().len() < 16_000);
    }
    assert!(sandbox.outside("stays.pid").exists());
    let left: Vec<Vec<String>> = sandbox.processes().into_iter().map(|process| process.arguments).collect();
    assert!(!left.iter().flatten().any(|argument| argument.starts_with("400")), "{left:?}");
    assert!(names(&sandbox.spool(".local/tmp")).is_empty());
    // What was told is told, also when the long specs that asked for it are gone.
    sandbox.run(sandbox.gitspool(&["gc", "--keep", "0"]));
    assert!(names(&sandbox.spool("texts")).is_empty());
    check(&mut sandbox);
}

#[test]
fn a_notifier_that_submits_a_task_which_is_told_of_goes_on_as_long_as_it_does_and_delays_nobody() {
    let mut sandbox = Sandbox::new();
    let lines = "[ $(ls $OUT/chain | wc -l) -ge 5 ] && exit 0
        : > $OUT/chain/$GITSPOOL_NOTICE_ID; gitspool submit --workspace none -- true";
    fs::create_dir_all(sandbox.outside("chain")).unwrap();
    let tell = notifier(&sandbox, "tell", lines);
    sandbox.set_queue(&json!({"slots": 1, "defaults": {"notify": {"argv": [tell]}}}));
    sandbox.start();
    sandbox.submit("first", &json!({"run": ["true"]}));
    let other = json!({"run": ["true"], "notify": {"mode": "none"}});
    sandbox.carry_out("other", &other);
    sandbox.wait_until("six notices", || lines_with(&sandbox, "notice.delivered") == 6);
    assert_eq!(lines_with(&sandbox, "notice"), 6);
    check(&mut sandbox);
}

fn lines_with(sandbox: &Sandbox, kind: &str) -> usize {
    lines(sandbox, kind).len()
}

#[test]
fn a_notifier_that_hangs_keeps_no_other_waiting_and_is_gone_when_the_daemon_is() {
    let mut sandbox = Sandbox::new();
    let good = teller(&sandbox);
    let hangs =
        notifier(&sandbox, "hangs", "echo $$ >> $OUT/hung; trap '' TERM; setsid sleep 4002 & sleep 4003");
    sandbox.start();
    let hanging: Vec<String> =
        (0..12).map(|n| sandbox.submit(&format!("hangs{n}"), &job("true", "final", &[&hangs]))).collect();
    hanging.iter().for_each(|task| drop(sandbox.outcome(task)));
    sandbox.wait_until("two that hang", || sandbox.told("hung").lines().count() == 2);
    let (task, _) = sandbox.carry_out("good", &job("true", "final", &[&good]));
    assert_eq!(lines_of_end(&sandbox, &final_of(&sandbox, &task)), ["notice.delivered"]);
    assert_eq!(sandbox.told("hung").lines().count(), 2, "two of one program at once");
    sandbox.stop();
    sandbox.wait_until("the end of all processes", || sandbox.processes().is_empty());
    // From the checkpoint alone: what is open is open still.
    notifier(&sandbox, "hangs", "exit 0");
    sandbox.drain();
    assert_eq!((lines_with(&sandbox, "notice"), lines_with(&sandbox, "notice.delivered")), (13, 13));
    check(&mut sandbox);
}

#[test]
fn a_run_that_nobody_saw_end_is_a_milestone_and_not_an_end() {
    let mut sandbox = Sandbox::new();
    let tell = teller(&sandbox);
    sandbox.start();
    let mut command = job("kill -9 $PPID; sleep 1000", "milestones", &[&tell]);
    command["notify"]["min_interval_seconds"] = json!(0);
    let task = sandbox.submit("lost", &command);
    sandbox.wait_in("held", &task);
    let last = sandbox.wait("the notice that it is held", || {
        told_of(&sandbox, Some(&task)).into_iter().find(|notice| notice["reasons"]["held"] == 1)
    });
    assert_eq!((&last["status"], &last["is_final"]), (&json!("held"), &json!(false)));
    assert!(last["reason"].as_str().unwrap().contains("nobody knows"), "{last}");
    // What the killed supervisor was about to draw lies in `.local/tmp` until a daemon starts.
    sandbox.stop();
    sandbox.start();
    check(&mut sandbox);
}

#[test]
fn the_command_line_says_who_is_told_and_shows_it() {
    let mut sandbox = Sandbox::new();
    let tell = teller(&sandbox);
    sandbox.start();
    let arguments = [
        "submit",
        "--confirm",
        "--workspace",
        "none",
        "--notify",
        "milestones",
        "--notifier",
        &tell,
        "--notifier",
        "-x",
        "--notices-max",
        "3",
        "--notice-interval",
        "0",
        "--notifier-timeout",
        "7",
        "--",
        "true",
    ];
    let task = sandbox.run(sandbox.gitspool(&arguments)).trim().to_owned();
    final_of(&sandbox, &task);
    let (_, shown) = sandbox.json(&["show", &task]);
    let expected = json!({"argv": [tell, "-x"], "mode": "milestones", "notices_max": 3, "min_interval_seconds": 0, "timeout_seconds": 7});
    assert_eq!(shown[0]["spec"]["notify"], expected);
    let text = sandbox.run(sandbox.gitspool(&["show", &task]));
    assert!(text.contains("milestones (at most 3, 0 s apart), by ["), "{text}");
    let (_, events) = sandbox.json(&["events"]);
    let kinds =
        ["notice", "notice.delivered"].map(|kind| events.iter().filter(|line| line["type"] == kind).count());
    assert_eq!(kinds, [2, 2]);
    sandbox.run(sandbox.gitspool(&["queue", "set", "default", "--notify-empty", "/nowhere/to-be-found"]));
    let doctor = sandbox.gitspool(&["doctor"]).output().unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(said.contains("the notifier /nowhere/to-be-found of queue default is not to be found"), "{said}");
    assert_eq!(doctor.status.code(), Some(1));
    check(&mut sandbox);
}
