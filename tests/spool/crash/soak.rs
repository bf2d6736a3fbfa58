//! Carries out many cases, a few at a time, and says what came of them.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::case::Case;
use super::{scenario, trial};

/// Set by `scripts/soak`: how many minutes there are for all cases, instead of a few of them.
pub(super) fn minutes() -> Option<u64> {
    std::env::var("GITSPOOL_SOAK_MINUTES").ok()?.parse().ok()
}

/// The seed of what is chosen; printed, and to be given again in `CRASH_SEED`.
pub(super) fn seed() -> u64 {
    let given = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    eprintln!("CRASH_SEED={seed}");
    seed
}

/// The one case to carry out, if somebody asks for one.
pub(super) fn asked_for() -> Option<Case> {
    std::env::var("CRASH_CASE").ok().map(|text| Case::read(&text))
}

/// Prints the calls of the scenario that somebody asks for in `CRASH_COUNT`.
pub(super) fn count_asked_for() -> bool {
    let Ok(name) = std::env::var("CRASH_COUNT") else { return false };
    for call in trial::count(scenario::named(&name)) {
        eprintln!("{:4} {}", call.number, call.description);
    }
    true
}

#[derive(Default)]
struct Done {
    tried: BTreeMap<&'static str, u64>,
    hit: BTreeMap<&'static str, u64>,
    ended: BTreeMap<String, u64>,
    failures: Vec<String>,
}

/// What came of the cases.
pub(super) struct Result {
    done: Done,
    planned: BTreeMap<&'static str, u64>,
    seconds: u64,
}

/// Carries out the cases in their order, until all are done or the time is over.
pub(super) fn carry_out(cases: Vec<Case>, time: Option<Duration>) -> Result {
    let begin = Instant::now();
    let mut planned: BTreeMap<&'static str, u64> = BTreeMap::new();
    cases.iter().for_each(|case| *planned.entry(case.scenario.name).or_default() += 1);
    let left = Mutex::new(VecDeque::from(cases));
    let done = Mutex::new(Done::default());
    // A case waits more than it works.
    let workers = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while time.is_none_or(|time| begin.elapsed() < time) {
                    let Some(case) = left.lock().unwrap().pop_front() else { break };
                    carry_out_one(&case, &done);
                }
            });
        }
    });
    Result { done: done.into_inner().unwrap(), planned, seconds: begin.elapsed().as_secs() }
}

fn carry_out_one(case: &Case, done: &Mutex<Done>) {
    let tried = || trial::run(case.scenario, case.fault(), &case.site, case.then.as_ref());
    // A test that waits in vain panics.
    let tried = catch_unwind(AssertUnwindSafe(tried));
    let mut done = done.lock().unwrap();
    *done.tried.entry(case.scenario.name).or_default() += 1;
    let problems = match tried {
        Err(panic) => vec![panic.downcast_ref::<String>().cloned().unwrap_or_default()],
        Ok(trial) => {
            *done.ended.entry(trial.ended).or_default() += 1;
            if trial.seen.hit.is_some() {
                *done.hit.entry(case.scenario.name).or_default() += 1;
            }
            let at = trial.seen.hit.map(|call| call.description);
            let mut problems = trial.problems;
            if at.is_none() && case.must_come {
                problems.push("there is no such call: nothing was tried".to_owned());
            }
            if !problems.is_empty() {
                problems.insert(0, format!("at: {}", at.unwrap_or_default()));
            }
            problems
        }
    };
    if !problems.is_empty() {
        let failure = format!("CRASH_CASE='{case}'\n{}", problems.join("\n"));
        eprintln!("{failure}");
        done.failures.push(failure);
    }
}

impl Result {
    /// Writes `target/soak/<verb>.json`.
    pub(super) fn write(&self, verb: &str, what: &str, seed: u64, calls: &BTreeMap<&'static str, usize>) {
        let sum = |counts: &BTreeMap<&'static str, u64>| counts.values().sum::<u64>();
        let scenarios: Value = self
            .planned
            .iter()
            .map(|(name, planned)| {
                let of = |counts: &BTreeMap<&'static str, u64>| counts.get(name).copied().unwrap_or(0);
                let (tried, hit) = (of(&self.done.tried), of(&self.done.hit));
                let counts = json!({"calls": calls.get(name), "cases": planned, "tried": tried, "hit": hit});
                ((*name).to_owned(), counts)
            })
            .collect::<serde_json::Map<String, Value>>()
            .into();
        let names: Vec<&str> =
            self.done.failures.iter().filter_map(|failure| failure.lines().next()).collect();
        let skipped = sum(&self.planned) - sum(&self.done.tried);
        let result = json!({
            "what": what,
            "count": sum(&self.done.tried),
            "hit": sum(&self.done.hit),
            "seeds": [seed],
            "scenarios": scenarios,
            "ended": self.done.ended,
            "failures": names,
            "negative_controls": "a log cut behind a receipt, a job that ran twice or only in part, a torn receipt, a missing \
                record, a sync left out: each is found (what_a_broken_program_would_leave_is_seen)",
            "skipped": if skipped > 0 { json!(format!("{skipped} cases, for want of time")) } else { Value::Null },
            "commit": commit(),
            "date": chrono::Utc::now().format("%Y-%m-%d").to_string(),
            "seconds": self.seconds,
        });
        let folder = write(verb, &result);
        fs::write(folder.join(format!("{verb}.failures")), self.done.failures.join("\n\n")).unwrap();
    }

    /// Fails with all that was wrong, and tells how to have it again.
    pub(super) fn assert_well(&self) {
        eprintln!(
            "{} cases in {} s, {} of them came to their call; ended: {:?}",
            self.done.tried.values().sum::<u64>(),
            self.seconds,
            self.done.hit.values().sum::<u64>(),
            self.done.ended
        );
        let failures = &self.done.failures;
        assert!(failures.is_empty(), "{} cases failed:\n\n{}", failures.len(), failures.join("\n\n"));
    }
}

/// Writes what came of a verb, and returns the folder.
fn write(verb: &str, result: &Value) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{verb}.json")), format!("{result:#}\n")).unwrap();
    folder
}

/// Says in the result that nothing was done.
pub(super) fn skip(verb: &str, what: &str) {
    if minutes().is_some() {
        let why = "no seccomp notifications here";
        write(verb, &json!({"what": what, "count": 0, "skipped": why, "commit": commit()}));
    }
}

fn commit() -> String {
    let mut command = Command::new("git");
    command.args(["rev-parse", "--short", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    command
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
