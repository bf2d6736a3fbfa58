//! Kills and errors at each call that changes files: nothing accepted is lost, nothing starts twice, nobody panics.
//!
//! A few cases run with all tests: those that are known to be hard, and some that a seed chooses. The seed and each case
//! that fails are printed; `CRASH_SEED` chooses the same again, `CRASH_CASE` repeats one, `CRASH_COUNT=run` prints the calls
//! of a scenario. `scripts/soak kill` and `scripts/soak errors` go through all of them.

mod case;
mod scenario;
mod soak;
mod trial;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::crashpoint::{self, Seen, call::Call};
use crate::sandbox::{Sandbox, entries, files_below};
use case::{Case, Chance};
use scenario::{SCENARIOS, Scenario};

/// How many cases the seed chooses beside the hard ones.
const CHOSEN: usize = 12;

/// Carries out the case that is asked for; or all in the time that there is; or the hard ones and a few.
fn go_through(
    verb: &str,
    what: &str,
    hard: Vec<Case>,
    all: fn(&'static Scenario, &[Call]) -> Vec<Case>,
    more: fn() -> Vec<Case>,
) {
    if !crashpoint::is_available() {
        return soak::skip(verb, what);
    }
    if soak::count_asked_for() {
        return;
    }
    if let Some(case) = soak::asked_for() {
        return soak::carry_out(vec![case], None).assert_well();
    }
    let seed = soak::seed();
    let mut chance = Chance(seed);
    let minutes = soak::minutes();
    // Without the time for all, two scenarios are enough to choose from.
    let counted: Vec<&'static Scenario> = match minutes {
        Some(_) => SCENARIOS.iter().collect(),
        None => (0..2).map(|_| &SCENARIOS[chance.below(SCENARIOS.len())]).collect(),
    };
    let calls: Vec<(&'static Scenario, Vec<Call>)> =
        counted.into_iter().map(|scenario| (scenario, trial::count(scenario))).collect();
    let mut chosen: Vec<Case> = calls.iter().flat_map(|(scenario, calls)| all(scenario, calls)).collect();
    chance.shuffle(&mut chosen);
    let mut doubled = more();
    chance.shuffle(&mut doubled);
    if minutes.is_none() {
        chosen.truncate(CHOSEN);
        doubled.truncate(CHOSEN / 4);
    }
    let cases = [hard, chosen, doubled].concat();
    let result = soak::carry_out(cases, minutes.map(|minutes| Duration::from_secs(minutes * 60)));
    if minutes.is_some() {
        let calls: BTreeMap<&'static str, usize> =
            calls.iter().map(|(scenario, calls)| (scenario.name, calls.len())).collect();
        result.write(verb, what, seed, &calls);
    }
    result.assert_well();
}

#[test]
fn a_kill_at_any_call_loses_nothing_and_starts_nothing_twice() {
    let what = "SIGKILL before the n-th call that changes a file, or tells another process";
    go_through("kill", what, case::hard_kills(), case::kills, case::double_kills);
}

#[test]
fn an_error_at_any_call_is_told_and_loses_nothing() {
    let what = "the n-th call that changes a file, or starts something, fails";
    go_through("errors", what, case::hard_errors(), case::errors, Vec::new);
}

/// Carries out one case, which must come to its call and leave nothing wrong.
fn goes_well(case: &str) {
    if !crashpoint::is_available() {
        return;
    }
    let case = Case::read(case);
    let trial = trial::run(case.scenario, case.fault(), &case.site, None);
    assert!(trial.seen.hit.is_some(), "{case} is not hit");
    assert_eq!(trial.problems, Vec::<String>::new(), "{case}");
}

#[test]
fn a_run_whose_first_line_cannot_be_synced_begins_again() {
    goes_well("run|EIO|supervisor fdatasync|1");
    goes_well("run|EIO-stays|fsync spool/runs/DATE/ID.1|1");
}

#[test]
fn what_finds_no_room_waits_for_it_and_is_neither_given_up_nor_refused() {
    goes_well("run|ENOSPC-stays|supervisor openat spool/runs|1");
    goes_well("run|EDQUOT|supervisor write s|1");
    goes_well("run|EMFILE|supervisor openat spool/runs|2");
    goes_well("admit|ENOSPC-stays|daemon write spool/events|2");
    goes_well("admit|EDQUOT|daemon write spool/events|2");
}

#[test]
fn a_daemon_that_gets_no_thread_for_hints_says_so_and_does_not_panic() {
    // The second is the watcher's own.
    goes_well("run|EAGAIN|daemon clone3|1");
    goes_well("run|EAGAIN|daemon clone3|2");
}

#[test]
fn after_a_failed_sync_of_a_checkpoint_or_a_folder_the_daemon_stops_and_says_so() {
    goes_well("admit|EIO|fsync spool/queue/default/ready|1");
    goes_well("admit|EIO|fsync spool/.local/claimed|1");
    goes_well("rotate|EIO|fsync spool/events/vm|2");
}

#[test]
fn a_submit_by_the_command_line_is_five_calls_in_this_order() {
    if !crashpoint::is_available() {
        return;
    }
    let calls = trial::count(scenario::named("submit by the command line"));
    let calls: Vec<&str> = calls.iter().map(|call| call.description.as_str()).collect();
    let expected = [
        "cli openat spool/inbox/.ID.json.tmp",
        "cli write spool/inbox/.ID.json.tmp",
        "cli fsync spool/inbox/.ID.json.tmp",
        "cli rename spool/inbox/.ID.json.tmp -> spool/inbox/ID.json",
        "cli fsync spool/inbox",
    ];
    assert_eq!(calls, expected);
}

/// Cuts the log behind its first line, as if the others had never come to the disk.
fn cut_the_log(sandbox: &Sandbox) {
    let log = entries(&sandbox.spool("events"))[0].join("now.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(log, text.split_inclusive('\n').next().unwrap()).unwrap();
}

fn run_once_more(sandbox: &Sandbox) {
    let told = sandbox.told("ran");
    fs::write(sandbox.outside("ran"), told.repeat(2)).unwrap();
}

fn run_unseen(sandbox: &Sandbox) {
    let told = sandbox.told("ran");
    fs::write(sandbox.outside("ran"), told.lines().next().unwrap().to_owned() + "\n").unwrap();
}

fn tear_a_receipt(sandbox: &Sandbox) {
    let receipt = &files_below(&sandbox.spool("receipts"))[0];
    let bytes = fs::read(receipt).unwrap();
    fs::write(receipt, &bytes[..bytes.len() / 2]).unwrap();
}

fn remove_the_run_record(sandbox: &Sandbox) {
    let runs = files_below(&sandbox.spool("runs"));
    fs::remove_file(runs.iter().find(|path| path.ends_with("run.json")).unwrap()).unwrap();
}

#[test]
fn what_a_broken_program_would_leave_is_seen() {
    if !crashpoint::is_available() {
        return;
    }
    let run = scenario::named("run");
    for damage in [cut_the_log, run_once_more, run_unseen, tear_a_receipt, remove_the_run_record] {
        assert_ne!(trial::run_with_damage(run, damage), Vec::<String>::new());
    }
    let calls = trial::count(scenario::named("admit"));
    assert_eq!(
        trial::order_problems(&Seen { calls: calls.clone(), ..Seen::default() }),
        Vec::<String>::new()
    );
    let unsynced = calls.into_iter().filter(|call| call.name != "fdatasync").collect();
    assert_ne!(trial::order_problems(&Seen { calls: unsynced, ..Seen::default() }), Vec::<String>::new());
    let calls = trial::count(run);
    let is_synced = |call: &Call, end: &str| call.name == "fsync" && call.description.ends_with(end);
    for omitted in ["/events.jsonl", "/task.json", "runs/DATE/ID.1", "runs/DATE"] {
        let left = |call: &&Call| call.name != "fdatasync" || !omitted.ends_with("jsonl");
        let calls = calls.iter().filter(left).filter(|call| !is_synced(call, omitted)).cloned().collect();
        let problems = trial::order_problems(&Seen { calls, ..Seen::default() });
        assert_ne!(problems, Vec::<String>::new(), "{omitted}");
    }
}
