//! Promises that are broken on purpose: each must be found out, or nothing that is found to hold means anything.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::sequences::{BEGIN, Bounds, Tally, explore, explore_recovery, explore_unsynced};
use super::verbs::Verb;
use super::walk::{walk, words_of};
use crate::mutant::{Mutant, with};
use crate::simulated;

/// How a broken promise comes to light.
#[derive(Clone, Copy, Debug)]
enum By {
    /// When this is done, and a power cut or a kill at any call.
    Doing(Verb),
    /// When the power goes during the recovery from a power cut after this was done.
    Recovering(Verb),
    /// When a daemon is killed under way that has not synced a line, and the power goes during the recovery.
    Killing(Verb),
    /// By one of sixty walks, from this seed on.
    Walking(u64),
}

const FAULTS: [(Mutant, By); 10] = [
    (Mutant::NoLogSync, By::Doing(Verb::Submit)),
    (Mutant::NoDirSync, By::Doing(Verb::Submit)),
    (Mutant::PublishBeforeSync, By::Recovering(Verb::Submit)),
    (Mutant::TextUnsynced, By::Doing(Verb::SubmitLong)),
    (Mutant::AnsweredBeforeSync, By::Doing(Verb::Submit)),
    (Mutant::ClaimUnsynced, By::Doing(Verb::Submit)),
    (Mutant::CheckpointUnsynced, By::Walking(1)),
    (Mutant::BeginUnchecked, By::Walking(1)),
    (Mutant::PidTrusted, By::Doing(Verb::Submit)),
    (Mutant::LogTrusted, By::Killing(Verb::Submit)),
];

/// What tells that a promise is broken; nothing when nothing does.
fn told_of(mutant: Mutant, by: By) -> Option<String> {
    let tell = || match by {
        By::Doing(verb) => {
            let bounds = Bounds { states_max: 24, kills: true, recut_one_in: 1 };
            explore(&BEGIN, &[verb], bounds, &mut Tally::default()).err()
        }
        By::Recovering(verb) => explore_recovery(&[verb], 8, &mut Tally::default()).err(),
        By::Killing(verb) => explore_unsynced(verb, &mut Tally::default()).err(),
        By::Walking(first) => (first..first + 60).find_map(|seed| walk(seed).err()),
    };
    // What is broken may go so wrong that nobody can go on.
    let told = with(mutant, || catch_unwind(AssertUnwindSafe(tell)));
    simulated::put(None);
    told.unwrap_or_else(|panic| Some(words_of(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_promise_is_found_out() {
        for (mutant, by) in FAULTS {
            let told = told_of(mutant, by).unwrap_or_else(|| panic!("{mutant:?} is not found out"));
            let told = told.lines().next().unwrap_or_default();
            println!("{{\"mistake\":\"{mutant:?}\",\"found\":{}}}", serde_json::json!(told));
        }
    }
}
