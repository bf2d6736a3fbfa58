//! Until when a task must have started: fixed when it is admitted. Pure.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Spec;
use crate::refusal::{Kind, Refusal};
use crate::time::Timestamp;

/// Refuses a submit that says two deadlines; the spec of a task that was admitted has both keys.
pub(crate) fn check_said(map: &Map<String, Value>) -> Result<(), Refusal> {
    let is_said = |key: &str| map.get(key).is_some_and(|value| !value.is_null());
    if is_said("deadline_at") && is_said("deadline_seconds") {
        let message = "a task has a time by which it starts, or so many seconds, and not both";
        return Err(Refusal::new(Kind::Conflict, message).at("$.deadline_seconds"));
    }
    Ok(())
}

impl Spec {
    /// Fixes the deadline of a task that is admitted at `now`, or told at `now` to have another one.
    pub(crate) fn fix_deadline(&mut self, now: Timestamp) {
        if let Some(seconds) = self.deadline_seconds {
            self.deadline_at = Some(now.plus(Duration::from_secs(seconds)));
        }
    }

    /// The same of a task that was `earlier` until `now`. What it says anew counts, and what it leaves out stays fixed.
    pub(crate) fn fix_deadline_anew(&mut self, earlier: &Spec, now: Timestamp) {
        let seconds_stay = self.deadline_seconds == earlier.deadline_seconds;
        let time_stays = self.deadline_at == earlier.deadline_at;
        match self.deadline_seconds {
            Some(_) if !seconds_stay => self.fix_deadline(now),
            Some(_) if self.deadline_at.is_none() => self.deadline_at = earlier.deadline_at,
            // Another time was said, from when on does not matter any more.
            Some(_) if !time_stays => self.deadline_seconds = None,
            Some(_) | None => {}
        }
    }

    /// Takes over when that was from an earlier submit that was the same.
    pub(crate) fn expire_as(&mut self, earlier: &Spec) {
        if self.deadline_at.is_none() && self.deadline_seconds == earlier.deadline_seconds {
            self.deadline_at = earlier.deadline_at;
        }
    }

    /// The spec as it was said, without what was fixed when its task was admitted.
    pub(crate) fn without_fixed_deadline(&self) -> Spec {
        Spec { deadline_at: self.deadline_at.filter(|_| self.deadline_seconds.is_none()), ..self.clone() }
    }

    pub(super) fn check_deadline(&self) -> Result<(), Refusal> {
        if self.deadline_seconds == Some(0) {
            let refusal = Refusal::new(Kind::InvalidValue, "a deadline is at least 1 second away");
            return Err(refusal.at("$.deadline_seconds"));
        }
        // Of a time and of a number of seconds nobody knows here which comes first.
        let never = |path: &str| {
            let refusal = Refusal::new(Kind::Conflict, "its deadline comes before it may start");
            Err(refusal.at(path).hint("let it start earlier, or give it more time"))
        };
        match (self.start_at, self.deadline_at, self.delay_seconds, self.deadline_seconds) {
            (Some(start), Some(deadline), _, None) if deadline <= start => never("$.deadline_at"),
            (_, _, Some(delay), Some(deadline)) if deadline <= delay => never("$.deadline_seconds"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp::from_micros(seconds * 1_000_000))
    }

    fn spec(deadline_at: Option<Timestamp>, deadline_seconds: Option<u64>) -> Spec {
        Spec { run: Some(vec!["true".to_owned()]), deadline_at, deadline_seconds, ..Spec::default() }
    }

    #[test]
    fn what_an_edit_says_anew_counts_and_what_it_leaves_out_stays_fixed() {
        let now = Timestamp::from_micros(100_000_000);
        let mut admitted = spec(None, Some(10));
        admitted.fix_deadline(now);
        assert_eq!(admitted, spec(at(110), Some(10)));
        let later = Timestamp::from_micros(105_000_000);
        for (edited, expected) in [
            (spec(at(110), Some(10)), spec(at(110), Some(10))),
            (spec(None, Some(10)), spec(at(110), Some(10))),
            (spec(at(110), Some(30)), spec(at(135), Some(30))),
            (spec(None, Some(30)), spec(at(135), Some(30))),
            (spec(at(200), Some(10)), spec(at(200), None)),
            (spec(at(110), None), spec(at(110), None)),
            (spec(None, None), spec(None, None)),
        ] {
            let mut spec = edited.clone();
            spec.fix_deadline_anew(&admitted, later);
            assert_eq!(spec, expected, "{edited:?}");
        }
    }

    #[test]
    fn a_repeat_is_known_though_its_deadline_would_be_another() {
        let admitted = spec(at(110), Some(10));
        let mut repeat = spec(None, Some(10));
        assert_eq!(admitted.without_fixed_deadline(), repeat);
        repeat.expire_as(&admitted);
        assert_eq!(repeat, admitted);
        let mut other = spec(None, Some(11));
        other.expire_as(&admitted);
        assert_ne!(other, admitted);
        assert_eq!(spec(at(5), None).without_fixed_deadline(), spec(at(5), None));
    }

    #[test]
    fn a_deadline_that_lets_nothing_start_is_refused() {
        for (start_at, delay, deadline_at, deadline, path) in [
            (at(5), None, at(5), None, "$.deadline_at"),
            (None, Some(5), None, Some(5), "$.deadline_seconds"),
            (None, None, None, Some(0), "$.deadline_seconds"),
        ] {
            let spec = Spec { start_at, delay_seconds: delay, ..spec(deadline_at, deadline) };
            assert_eq!(spec.check().expect_err("nothing").path.as_deref(), Some(path));
        }
        assert!(Spec { start_at: at(5), ..spec(at(6), None) }.check().is_ok());
    }
}
