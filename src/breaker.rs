//! The breaker of a queue: when so many of its runs have broken one after the other, nothing more of it starts. Pure.
//!
//! A run is broken when it came to nothing by no doing of its agent: nobody saw how it ended, or its agent could not be
//! started. What an agent does, also that it fails, says nothing against the queue; nor does a program that a task names itself. How many there were stands in the lines
//! of the log that tell the ends of runs, so that folding them needs no rules; a queue that is paused and goes on begins anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::id::{Name, TaskId};
use crate::outcome::Outcome;

/// How many runs may break one after the other, where a queue does not say otherwise.
pub(crate) const BROKEN_MAX: u32 = 5;

/// What the end of a run says of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It came to nothing.
    Broken,
    /// Its agent did something.
    Worked,
    /// Somebody ended it before, the machine went down, or the task names a program that cannot be started: that is
    /// nothing about the queue.
    Neither,
}

/// How a queue stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Breaker {
    /// How many of its runs have broken one after the other, up to now.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(crate) broken: u32,
    /// Whether it is paused, by whomever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) paused: bool,
}

/// All queues of which there is something to say.
pub(crate) type Breakers = BTreeMap<Name, Breaker>;

/// For serde, which leaves out what says nothing.
pub(crate) fn is_none(broken: &u32) -> bool {
    *broken == 0
}

/// The same of a setting.
pub(crate) fn is_usual(broken_max: &u32) -> bool {
    *broken_max == BROKEN_MAX
}

/// How far a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Its agent was started.
    Begun,
    /// It was not.
    NotBegun,
    /// It was not, and is a program that the task itself names.
    NoProgram,
}

/// What a run says that ended with `outcome`.
pub(crate) fn ending(outcome: Outcome, came: Came) -> Ending {
    match outcome {
        Outcome::Lost => Ending::Broken,
        Outcome::Failed if came == Came::NotBegun => Ending::Broken,
        Outcome::Failed if came == Came::NoProgram => Ending::Neither,
        Outcome::Succeeded | Outcome::Failed | Outcome::Signalled | Outcome::TimedOut => Ending::Worked,
        Outcome::Cancelled
        | Outcome::Interrupted
        | Outcome::Blocked
        | Outcome::Skipped
        | Outcome::Expired => Ending::Neither,
    }
}

impl Breaker {
    /// How many runs have broken one after the other, when one more has ended.
    pub(crate) fn broken_after(self, ending: Ending) -> u32 {
        match ending {
            Ending::Broken => self.broken.saturating_add(1),
            Ending::Worked => 0,
            Ending::Neither => self.broken,
        }
    }

    /// Whether the queue is to be paused now.
    pub(crate) fn trips(self, broken_max: u32) -> bool {
        !self.paused && broken_max > 0 && self.broken >= broken_max
    }
}

/// Folds one line of the log in; `queue_of` tells the queue of a task that is known.
pub(crate) fn step(breakers: &mut Breakers, event: &Event, queue_of: impl FnOnce(TaskId) -> Option<Name>) {
    let (queue, next) = match event {
        Event::Moved { task, broken, by: crate::event::By::Run, .. } => {
            let Some(queue) = queue_of(*task) else { return };
            let paused = breakers.get(&queue).is_some_and(|breaker| breaker.paused);
            (queue, Breaker { broken: *broken, paused })
        }
        Event::Paused { queue, .. } => {
            let broken = breakers.get(queue).map_or(0, |breaker| breaker.broken);
            (queue.clone(), Breaker { broken, paused: true })
        }
        Event::Resumed { queue, .. } => (queue.clone(), Breaker::default()),
        Event::Submitted { .. }
        | Event::Moved { .. }
        | Event::Edited { .. }
        | Event::EditRefused { .. }
        | Event::Accepted { .. }
        | Event::Marked { .. }
        | Event::Refused { .. }
        | Event::Collected { .. }
        | Event::Notice(_)
        | Event::Delivered { .. }
        | Event::NotDelivered { .. }
        | Event::DaemonStarted { .. }
        | Event::DaemonStopped { .. }
        | Event::Unknown => return,
    };
    if next == Breaker::default() {
        breakers.remove(&queue);
    } else {
        breakers.insert(queue, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::By;
    use crate::id::Rank;
    use crate::task::State;

    #[test]
    fn only_what_came_to_nothing_by_no_doing_of_an_agent_counts_as_broken() {
        for came in [Came::Begun, Came::NotBegun, Came::NoProgram] {
            let failed = match came {
                Came::Begun => Ending::Worked,
                Came::NotBegun => Ending::Broken,
                Came::NoProgram => Ending::Neither,
            };
            for (outcome, expected) in [
                (Outcome::Succeeded, Ending::Worked),
                (Outcome::Failed, failed),
                (Outcome::Signalled, Ending::Worked),
                (Outcome::TimedOut, Ending::Worked),
                (Outcome::Cancelled, Ending::Neither),
                (Outcome::Interrupted, Ending::Neither),
                (Outcome::Lost, Ending::Broken),
                (Outcome::Blocked, Ending::Neither),
                (Outcome::Skipped, Ending::Neither),
                (Outcome::Expired, Ending::Neither),
            ] {
                assert_eq!(ending(outcome, came), expected, "{outcome:?} {came:?}");
            }
        }
    }

    #[test]
    fn it_trips_once_when_so_many_have_broken_one_after_the_other() {
        let mut breaker = Breaker::default();
        for (ending, broken, trips) in [
            (Ending::Broken, 1, false),
            (Ending::Worked, 0, false),
            (Ending::Broken, 1, false),
            (Ending::Neither, 1, false),
            (Ending::Broken, 2, false),
            (Ending::Broken, 3, true),
        ] {
            breaker.broken = breaker.broken_after(ending);
            assert_eq!((breaker.broken, breaker.trips(3)), (broken, trips), "{ending:?}");
            assert!(!breaker.trips(0), "0 is for any number");
        }
        assert!(!Breaker { paused: true, ..breaker }.trips(3), "it is paused already");
        assert_eq!(Breaker { broken: u32::MAX, paused: false }.broken_after(Ending::Broken), u32::MAX);
    }

    #[test]
    fn the_lines_tell_how_a_queue_stands_and_who_resumes_it_begins_anew() {
        let task: TaskId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let queue: Name = "default".parse().unwrap();
        let moved = |by, broken| Event::Moved {
            task,
            state: State::Held { rank: Rank::default(), attempts: 1, until: None, needs: false },
            by,
            command: None,
            reason: None,
            evidence: None,
            spec: None,
            broken,
        };
        let paused = Event::Paused { queue: queue.clone(), by: By::Daemon, command: None, reason: None };
        let resumed = Event::Resumed { queue: queue.clone(), by: By::Hand, command: None };
        let mut breakers = Breakers::new();
        for (event, broken, is_paused) in [
            (moved(By::Run, 4), 4, false),
            (moved(By::Command, 0), 4, false),
            (moved(By::Run, 5), 5, false),
            (paused, 5, true),
            (moved(By::Run, 0), 0, true),
            (moved(By::Run, 1), 1, true),
            (resumed, 0, false),
        ] {
            step(&mut breakers, &event, |_| Some(queue.clone()));
            let breaker = breakers.get(&queue).copied().unwrap_or_default();
            assert_eq!(breaker, Breaker { broken, paused: is_paused }, "{event:?}");
        }
        assert_eq!(breakers, Breakers::new(), "what says nothing is left out");
        step(&mut breakers, &moved(By::Run, 3), |_| None);
        assert_eq!(breakers, Breakers::new(), "nobody knows whose run that was");
    }
}
