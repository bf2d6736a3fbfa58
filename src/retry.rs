//! What comes after a run that did not succeed: another attempt, a hold, or the end. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::RunId;
use crate::outcome::Outcome;
use crate::refusal::{Kind, Refusal};

/// How often a run may be lost or interrupted beyond the attempts that its policy grants: a job that takes its supervisor
/// or the machine down with it must not do so for ever.
const BROKEN_MAX: u32 = 4;

/// The longest wait between two attempts that may be asked for: a year.
const BACKOFF_SECONDS_MAX: u64 = 366 * 24 * 3600;

/// When a task is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Retry {
    /// How many attempts there may be beside the first.
    pub(crate) max: u32,
    /// After which outcomes.
    pub(crate) on: Vec<Outcome>,
    /// How long to wait before the second attempt; twice as long before each further one.
    pub(crate) backoff_seconds: u64,
    /// But never longer than this.
    pub(crate) backoff_seconds_max: u64,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            max: 0,
            on: vec![Outcome::Failed, Outcome::Signalled, Outcome::TimedOut],
            backoff_seconds: 1,
            backoff_seconds_max: 3600,
        }
    }
}

/// What comes after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Its outcome is the task's.
    End,
    /// Another attempt, so much later.
    Again(Duration),
    /// Somebody must decide whether it may be done again.
    Hold,
}

impl Retry {
    /// Checks what the types do not say.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let refuse = |path: &str, message: &str| Err(Refusal::new(Kind::InvalidValue, message).at(path));
        for (number, outcome) in self.on.iter().enumerate() {
            let path = format!("$.retry.on[{number}]");
            match outcome {
                Outcome::Failed | Outcome::Signalled | Outcome::TimedOut => {}
                Outcome::Succeeded
                | Outcome::Cancelled
                | Outcome::Blocked
                | Outcome::Skipped
                | Outcome::Expired => {
                    return refuse(&path, "what ended so is over");
                }
                Outcome::Interrupted | Outcome::Lost => {
                    let refusal =
                        Refusal::new(Kind::InvalidValue, "nobody knows what such a run has done already");
                    return Err(refusal.at(path).hint("declare the task \"repeatable\": true"));
                }
            }
        }
        if self.backoff_seconds > BACKOFF_SECONDS_MAX || self.backoff_seconds_max > BACKOFF_SECONDS_MAX {
            return refuse("$.retry", "a wait is a year at most");
        }
        Ok(())
    }

    /// What comes after `run` of a task, which ended with `outcome`.
    ///
    /// Whether an interrupted or lost run may be done again only its owner knows: one that is declared `repeatable` is,
    /// another is held.
    pub(crate) fn after(&self, repeatable: bool, run: RunId, outcome: Outcome) -> After {
        match outcome {
            Outcome::Succeeded
            | Outcome::Cancelled
            | Outcome::Blocked
            | Outcome::Skipped
            | Outcome::Expired => After::End,
            Outcome::Failed | Outcome::Signalled | Outcome::TimedOut => {
                let again = self.on.contains(&outcome) && run.attempt <= self.max;
                if again { After::Again(self.backoff(run)) } else { After::End }
            }
            Outcome::Interrupted | Outcome::Lost => {
                let again = repeatable && run.attempt <= self.max.saturating_add(BROKEN_MAX);
                if again { After::Again(self.backoff(run)) } else { After::Hold }
            }
        }
    }

    /// The wait after `run`: exponential, and of that the upper half at random, so that what failed together does not come
    /// back together. (Called "equal jitter" by M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)
    /// The chance lies in the run's id, so the same run always waits equally long.
    fn backoff(&self, run: RunId) -> Duration {
        let doubled = 1u64.checked_shl(run.attempt.saturating_sub(1)).unwrap_or(u64::MAX);
        let longest = self.backoff_seconds.saturating_mul(doubled).min(self.backoff_seconds_max);
        let millis = longest.saturating_mul(1000);
        let digest = Sha256::digest(run.to_string().as_bytes());
        let chance = digest.iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        Duration::from_millis(millis / 2 + chance % (millis / 2 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(attempt: u32) -> RunId {
        RunId { task: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(), attempt }
    }

    fn policy(max: u32) -> Retry {
        Retry { max, backoff_seconds: 10, backoff_seconds_max: 60, ..Retry::default() }
    }

    #[test]
    fn what_failed_is_tried_again_as_often_as_was_asked_for() {
        for outcome in [Outcome::Failed, Outcome::Signalled, Outcome::TimedOut] {
            let again: Vec<bool> = (1..=4)
                .map(|attempt| matches!(policy(2).after(false, run(attempt), outcome), After::Again(_)))
                .collect();
            assert_eq!(again, [true, true, false, false], "{outcome:?}");
            assert_eq!(Retry::default().after(true, run(1), outcome), After::End);
        }
        let only_timeouts = Retry { on: vec![Outcome::TimedOut], ..policy(2) };
        assert_eq!(only_timeouts.after(false, run(1), Outcome::Failed), After::End);
    }

    #[test]
    fn what_succeeded_or_was_cancelled_is_over() {
        for outcome in
            [Outcome::Succeeded, Outcome::Cancelled, Outcome::Blocked, Outcome::Skipped, Outcome::Expired]
        {
            assert_eq!(policy(5).after(true, run(1), outcome), After::End);
        }
    }

    #[test]
    fn what_nobody_saw_end_is_done_again_only_if_that_may_be_and_not_for_ever() {
        for outcome in [Outcome::Interrupted, Outcome::Lost] {
            assert_eq!(policy(5).after(false, run(1), outcome), After::Hold);
            let again =
                (1..100).take_while(|attempt| policy(1).after(true, run(*attempt), outcome) != After::Hold);
            assert_eq!(again.count(), 5);
        }
    }

    #[test]
    fn waits_grow_to_their_bound_and_are_spread_over_the_upper_half() {
        let wait = |attempt| match policy(100).after(false, run(attempt), Outcome::Failed) {
            After::Again(wait) => wait.as_millis(),
            After::End | After::Hold => panic!("attempt {attempt} is the last"),
        };
        for (attempt, longest) in [(1, 10_000), (2, 20_000), (3, 40_000), (4, 60_000), (70, 60_000)] {
            assert!((longest / 2..=longest).contains(&wait(attempt)), "attempt {attempt}: {}", wait(attempt));
        }
        assert_eq!(wait(3), wait(3));
        let several: std::collections::BTreeSet<u128> = (4..40).map(wait).collect();
        assert!(several.len() > 30, "{several:?}");
        let none = Retry { backoff_seconds: 0, ..policy(1) };
        assert_eq!(none.after(false, run(1), Outcome::Failed), After::Again(Duration::ZERO));
    }

    #[test]
    fn a_policy_that_makes_no_sense_is_refused_with_its_place() {
        let path = |retry: Retry| retry.check().unwrap_err().path.unwrap();
        assert_eq!(path(Retry { on: vec![Outcome::Failed, Outcome::Lost], ..policy(1) }), "$.retry.on[1]");
        assert_eq!(path(Retry { on: vec![Outcome::Succeeded], ..policy(1) }), "$.retry.on[0]");
        assert_eq!(path(Retry { backoff_seconds: u64::MAX, ..policy(1) }), "$.retry");
        assert!(policy(u32::MAX).check().is_ok());
    }
}
