//! Kills and errors at each call that changes files: nothing accepted is lost, nothing starts twice, nobody panics.
//!
//! A few cases run with all tests: those that are known to be hard, and some that a seed chooses. The seed and each case
//! that fails are printed; `CRASH_SEED` chooses the same again, `CRASH_CASE` repeats one. `scripts/soak kill` and
//! `scripts/soak errors` go through all of them.

mod case;
mod scenario;
mod soak;
mod trial;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::crashpoint::{self, call::Call};
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
