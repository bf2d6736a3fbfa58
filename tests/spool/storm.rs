//! Many kills under load: nothing that was accepted is lost, nothing runs twice, no process is left.
//!
//! The seed is printed; `STORM_SEED` repeats the same kills (not the same interleaving, which is the machine's).

use std::collections::BTreeMap;
use std::process::Child;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::check::{check, problems};
use crate::sandbox::{Sandbox, files_below, names, read_json, signal};

/// How many kills a storm has.
const KILLS: u32 = 200;
/// How many producers drop jobs meanwhile.
const PRODUCERS: u32 = 3;

/// A small generator of numbers that follow from a seed (splitmix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

fn seed() -> u64 {
    let given = std::env::var("STORM_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0)
}

/// Drops jobs until `outside/end` is there, in all the ways that sh has, a few of them senseless; notes each name that
/// it has dropped. A job notes first of all that it runs.
fn producer(sandbox: &Sandbox, number: u32) -> Child {
    let line = r#"
        cd "$1"; i=0
        while [ ! -e end ]; do
            i=$((i+1)); name=p__N__-$i.json; to=../spool/inbox
            work='sleep 0.0'$((i % 10))
            if [ $((i % 11)) = 0 ]; then work='( setsid sleep 90001 & ); sleep 0.05'; fi
            if [ $((i % 13)) = 0 ]; then work='exit 3'; fi
            text='{"shell":"echo $GITSPOOL_RUN >> __RAN__; '$work'","rank":'$((i % 100))'}'
            if [ $((i % 17)) = 0 ]; then text='{"shell":'; fi
            case $((i % 3)) in
                0) printf %s "$text" > $to/$name ;;
                1) printf %s "$text" > part__N__; mv part__N__ $to/$name ;;
                2) { printf %.12s "$text"; sleep 0.02; printf %s "${text#????????????}"; } > $to/$name ;;
            esac
            echo $name >> dropped__N__
            sleep 0.1
        done"#;
    let ran = sandbox.outside("ran").display().to_string();
    let line = line.replace("__N__", &number.to_string()).replace("__RAN__", &ran);
    sandbox.begin_sh(&line, &sandbox.path("outside"))
}

/// Asks for the end of some live task.
fn cancel_one(sandbox: &Sandbox, chance: &mut Chance, number: u32) {
    let live: Vec<String> = ["ready", "active"]
        .iter()
        .flat_map(|folder| files_below(&sandbox.spool("queue/default").join(folder)))
        .map(|path| path.file_stem().unwrap().to_string_lossy().chars().rev().take(36).collect::<String>())
        .map(|reversed| reversed.chars().rev().collect())
        .filter(|task: &String| task.len() == 36)
        .collect();
    if !live.is_empty() {
        let task = &live[usize::try_from(chance.below(live.len() as u64)).unwrap()];
        sandbox.drop_by_mv(
            &format!("cancel-{number}.json"),
            json!({"type": "cancel", "target": task}).to_string(),
        );
    }
}

/// Whether some supervisor has been started and has not come to its first line: the moment in which a kill of the daemon
/// makes the next one start another supervisor for the same run.
fn a_run_is_about_to_begin(sandbox: &Sandbox) -> bool {
    let active = files_below(&sandbox.spool("queue/default/active"));
    let runs = active.iter().filter_map(|path| Some(sandbox.first_run(path.file_stem()?.to_str()?)));
    runs.into_iter().any(|run| run.join("task.json").exists() && !run.join("events.jsonl").exists())
}

fn kill_one(sandbox: &mut Sandbox, chance: &mut Chance, killed: &mut BTreeMap<&str, u32>) {
    let what = ["daemon", "daemon", "supervisor", "both"][usize::try_from(chance.below(4)).unwrap()];
    *killed.entry(what).or_default() += 1;
    let supervisors = sandbox.supervisors();
    let first = usize::try_from(chance.below(supervisors.len().max(1) as u64)).unwrap();
    let count = if what == "both" { 1 + chance.below(4) } else { 1 };
    let daemon_first = chance.below(2) == 0;
    if what != "supervisor" && daemon_first {
        sandbox.kill();
    }
    if what != "daemon" {
        for pid in supervisors
            .iter()
            .cycle()
            .skip(first)
            .take(supervisors.len().min(usize::try_from(count).unwrap()))
        {
            signal(*pid, Signal::KILL);
        }
    }
    if what != "supervisor" && !daemon_first {
        sandbox.kill();
    }
}

/// Starts a daemon if none lives. One may have given up, too: what a killed one was about to start holds its lock for an
/// instant longer.
fn see_to_a_daemon(sandbox: &mut Sandbox) {
    if !sandbox.daemon_lives() {
        sandbox.start();
    }
}

/// How far a daemon comes before the next kill: some do not come to their first line.
fn work_time(chance: &mut Chance) -> Duration {
    let millis = if chance.below(3) == 0 { chance.below(40) } else { chance.below(300) };
    Duration::from_micros(millis * 1000 + chance.below(1000))
}

/// Many runs are lost one after the other here, and the queue is to go on.
fn set_slots(sandbox: &Sandbox, slots: u64) {
    sandbox.set_queue(&json!({"slots": slots, "breaker": 0}));
}

#[test]
fn a_storm_of_kills_loses_nothing_and_runs_nothing_twice() {
    let seed = seed();
    eprintln!("STORM_SEED={seed}");
    let mut chance = Chance(seed);
    let mut sandbox = Sandbox::new();
    set_slots(&sandbox, 4);
    sandbox.set_settle_ms(300);
    sandbox.start();
    let producers: Vec<Child> = (0..PRODUCERS).map(|number| producer(&sandbox, number)).collect();
    let mut killed = BTreeMap::new();
    for number in 0..KILLS {
        sandbox.let_work(work_time(&mut chance));
        see_to_a_daemon(&mut sandbox);
        if chance.below(4) == 0 {
            cancel_one(&sandbox, &mut chance, number);
        }
        if chance.below(20) == 0 {
            set_slots(&sandbox, 2 + chance.below(3));
        }
        if chance.below(3) == 0 {
            sandbox.let_work_until(Duration::from_millis(200), || a_run_is_about_to_begin(&sandbox));
        }
        kill_one(&mut sandbox, &mut chance, &mut killed);
        see_to_a_daemon(&mut sandbox);
    }
    sandbox.open_gate("end");
    for mut producer in producers {
        sandbox.wait("a producer's end", || producer.try_wait().unwrap());
    }
    set_slots(&sandbox, 4);
    see_to_a_daemon(&mut sandbox);
    sandbox.wait_until("everything's end", || nothing_waits(&sandbox));
    check(&mut sandbox);
    check_executions(&sandbox, &killed);
    let tree = |sandbox: &Sandbox| files_below(&sandbox.spool("queue"));
    let before = tree(&sandbox);
    sandbox.drain();
    assert_eq!(tree(&sandbox), before, "there was nothing left to recover");
    assert_eq!(problems(&sandbox), Vec::<String>::new());
}

fn nothing_waits(sandbox: &Sandbox) -> bool {
    let live = ["ready", "active"].map(|folder| files_below(&sandbox.spool("queue/default").join(folder)));
    let waiting = live.iter().flatten().filter(|path| !path.ends_with(".keep")).count();
    waiting == 0
        && names(&sandbox.spool("inbox")).is_empty()
        && names(&sandbox.spool(".local/claimed")).is_empty()
}

/// What was dropped was answered; what was accepted ran once, or its record says why it may not have.
fn check_executions(sandbox: &Sandbox, killed: &BTreeMap<&str, u32>) {
    let mut ran: BTreeMap<String, u32> = BTreeMap::new();
    for run in sandbox.told("ran").lines() {
        *ran.entry(run.to_owned()).or_default() += 1;
    }
    let mut moves: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in sandbox.log().into_iter().filter(|line| line.get("state").is_some()) {
        moves.entry(line["task"].as_str().unwrap().to_owned()).or_default().push(line);
    }
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    let mut problems: Vec<String> = Vec::new();
    let receipts: Vec<Value> =
        files_below(&sandbox.spool("receipts")).iter().filter_map(|path| read_json(path)).collect();
    for name in (0..PRODUCERS)
        .flat_map(|n| sandbox.told(&format!("dropped{n}")).lines().map(ToOwned::to_owned).collect::<Vec<_>>())
    {
        let receipts: Vec<&Value> = receipts.iter().filter(|receipt| receipt["command"] == name).collect();
        let [receipt] = receipts[..] else {
            problems.push(format!("{name} has {} receipts", receipts.len()));
            continue;
        };
        let Some(task) = receipt["task"].as_str() else {
            if receipt["refusal"]["kind"] != "invalid_json" {
                problems.push(format!("{name}: {receipt}"));
            }
            continue;
        };
        let moves = moves.remove(task).unwrap_or_default();
        let outcome = moves.last().and_then(|line| line["state"]["outcome"].as_str());
        let outcome = sandbox.unseen(task).unwrap_or_else(|| outcome.unwrap_or("none").to_owned());
        let times = ran.remove(&format!("{task}.1")).unwrap_or(0);
        let right = match outcome.as_str() {
            "succeeded" | "failed" => times == 1,
            "lost" | "cancelled" => times <= 1,
            // Nothing in a storm sends signals to agents, or ends supervisors politely.
            _ => false,
        };
        if !right {
            problems.push(format!("{task} ran {times} times and ended as {outcome}: {moves:?}"));
        }
        *outcomes.entry(outcome).or_default() += 1;
    }
    problems.extend(ran.iter().map(|(run, times)| format!("{run} ran {times} times, and nobody dropped it")));
    eprintln!("killed: {killed:?}; ended: {outcomes:?}");
    assert!(
        problems.is_empty(),
        "{} problems:\n{}\n{}",
        problems.len(),
        problems.join("\n"),
        sandbox.daemon_log()
    );
    assert!(
        outcomes.get("succeeded").is_some_and(|count| *count > KILLS / 4),
        "a storm without much work: {outcomes:?}"
    );
}
