//! A task's life: the pure state machine. It knows no clock, disk or process.
//!
//! ```text
//! held <-> waiting -> ready -> active -> ended
//!   \         \         \        `-> cancelling -> ended
//!    `---------`---------`--> ended (cancelled, or its deadline came, before it started)
//! ```
//!
//! A held task may be ready once it is released, too; and a ready one be held. An active one may be tried again: then it
//! waits, or is ready or held. What has ended without success may be retried on request: then it waits, or is ready.

use serde::{Deserialize, Serialize};

use crate::id::{Name, Rank, TaskId};
use crate::needs::OnFailedNeed;
use crate::outcome::Outcome;
use crate::resource::Assigned;
use crate::time::Timestamp;

/// Where a task stands. `attempts` counts the runs so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum State {
    /// Rests until somebody releases it; then it waits for other tasks and for its time, if it has any.
    Held {
        rank: Rank,
        attempts: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        needs: bool,
    },
    /// Waits for the other tasks that its spec names, with `needs`; for its time, with `until`; or for both.
    Waiting {
        rank: Rank,
        attempts: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        needs: bool,
    },
    /// Waits for a slot.
    Ready { rank: Rank, attempts: u32 },
    /// Run number `attempt` carries it out on `host`.
    Active {
        attempt: u32,
        host: Name,
        /// That of the next attempt.
        #[serde(default)]
        rank: Rank,
        /// The units that it has of the host's resources.
        #[serde(default, skip_serializing_if = "Assigned::is_empty")]
        assigned: Assigned,
    },
    /// As active, but somebody asked for its end.
    Cancelling {
        attempt: u32,
        host: Name,
        #[serde(default, skip_serializing_if = "Rank::is_default")]
        rank: Rank,
        /// It has them until its run is over.
        #[serde(default, skip_serializing_if = "Assigned::is_empty")]
        assigned: Assigned,
    },
    /// Over; `attempts` is 0 when it never started.
    Ended {
        outcome: Outcome,
        attempts: u32,
        /// That of a further attempt, if somebody asks for one.
        #[serde(default, skip_serializing_if = "Rank::is_default")]
        rank: Rank,
        /// The task that it waited for in vain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<TaskId>,
    },
}

/// What can happen to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    HoldAsked,
    ReleaseAsked,
    /// The time that it waited for has come.
    Due,
    /// The tasks that it waited for have all ended as it wants them to.
    NeedsMet,
    /// It has not started, and its deadline has come.
    DeadlinePassed,
    /// One of them has ended otherwise.
    NeedFailed {
        need: TaskId,
        then: OnFailedNeed,
    },
    RankAsked(Rank),
    /// It is to wait for another time, or for none.
    TimeAsked(Option<Timestamp>),
    Started {
        host: Name,
        assigned: Assigned,
    },
    CancelAsked,
    /// Somebody wants a further attempt of what has ended; `waits` when other tasks must end first.
    RetryAsked {
        waits: bool,
    },
    /// A run is over, and the task's policy says what comes next.
    RunEnded {
        attempt: u32,
        outcome: Outcome,
        next: Next,
    },
}

/// What comes after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The task ends as the run did.
    End,
    /// Another attempt, when that time has come.
    Again { until: Option<Timestamp> },
    /// Somebody must decide whether there is another attempt.
    Hold,
}

/// What must be done when a task's state has changed. Every effect is safe to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    /// Draw the task's file in the folder of its state, and nowhere else.
    Place,
    /// Tell the run to end.
    AskCancel { attempt: u32 },
    /// See to it that the run has, or has had, its supervisor.
    Supervise { attempt: u32 },
}

/// Advances a task by one event. An event that means nothing in a state leaves it as it is.
#[must_use]
pub(crate) fn transition(state: State, event: &Event) -> (State, Vec<Effect>) {
    let next = next(state.clone(), event);
    let effects = if next == state { Vec::new() } else { owed(&next) };
    (next, effects)
}

fn next(state: State, event: &Event) -> State {
    match state {
        State::Held { .. } => next_of_held(state, event),
        State::Waiting { .. } => next_of_waiting(state, event),
        State::Ready { rank, attempts } => match event {
            Event::HoldAsked => State::Held { rank, attempts, until: None, needs: false },
            Event::RankAsked(rank) => State::Ready { rank: *rank, attempts },
            Event::TimeAsked(Some(until)) => {
                State::Waiting { rank, attempts, until: Some(*until), needs: false }
            }
            Event::Started { host, assigned } => {
                let (host, assigned) = (host.clone(), assigned.clone());
                State::Active { attempt: attempts + 1, host, rank, assigned }
            }
            Event::CancelAsked => unstarted(Outcome::Cancelled, rank, attempts),
            Event::DeadlinePassed => unstarted(Outcome::Expired, rank, attempts),
            Event::ReleaseAsked
            | Event::Due
            | Event::TimeAsked(None)
            | Event::NeedsMet
            | Event::NeedFailed { .. }
            | Event::RetryAsked { .. }
            | Event::RunEnded { .. } => state,
        },
        State::Active { attempt, ref host, rank, ref assigned } => match event {
            Event::CancelAsked => {
                State::Cancelling { attempt, host: host.clone(), rank, assigned: assigned.clone() }
            }
            Event::RunEnded { attempt: ended, outcome, next } if *ended == attempt => match *next {
                Next::End => State::Ended { outcome: *outcome, attempts: attempt, rank, because: None },
                Next::Again { until: None } => State::Ready { rank, attempts: attempt },
                Next::Again { until } => State::Waiting { rank, attempts: attempt, until, needs: false },
                Next::Hold => State::Held { rank, attempts: attempt, until: None, needs: false },
            },
            Event::RunEnded { .. }
            | Event::HoldAsked
            | Event::ReleaseAsked
            | Event::Due
            | Event::NeedsMet
            | Event::DeadlinePassed
            | Event::NeedFailed { .. }
            | Event::RankAsked(_)
            | Event::RetryAsked { .. }
            | Event::TimeAsked(_)
            | Event::Started { .. } => state,
        },
        State::Cancelling { attempt, rank, .. } => match event {
            // Whoever cancels a task wants no other attempt.
            Event::RunEnded { attempt: ended, outcome, .. } if *ended == attempt => {
                State::Ended { outcome: *outcome, attempts: attempt, rank, because: None }
            }
            Event::RunEnded { .. }
            | Event::CancelAsked
            | Event::HoldAsked
            | Event::ReleaseAsked
            | Event::Due
            | Event::NeedsMet
            | Event::DeadlinePassed
            | Event::NeedFailed { .. }
            | Event::RankAsked(_)
            | Event::RetryAsked { .. }
            | Event::TimeAsked(_)
            | Event::Started { .. } => state,
        },
        State::Ended { .. } => next_of_ended(state, event),
    }
}

/// The same of a task that is held.
fn next_of_held(state: State, event: &Event) -> State {
    let State::Held { rank, attempts, until, needs } = state else { return state };
    match event {
        Event::ReleaseAsked if needs || until.is_some() => State::Waiting { rank, attempts, until, needs },
        Event::ReleaseAsked => State::Ready { rank, attempts },
        Event::RankAsked(rank) => State::Held { rank: *rank, attempts, until, needs },
        Event::TimeAsked(until) => State::Held { rank, attempts, until: *until, needs },
        Event::CancelAsked => unstarted(Outcome::Cancelled, rank, attempts),
        Event::DeadlinePassed => unstarted(Outcome::Expired, rank, attempts),
        // Whatever becomes of what it waits for: that is looked at when it is released.
        Event::NeedsMet | Event::NeedFailed { .. } => state,
        Event::HoldAsked
        | Event::Due
        | Event::Started { .. }
        | Event::RetryAsked { .. }
        | Event::RunEnded { .. } => state,
    }
}

/// The same of a task that waits.
fn next_of_waiting(state: State, event: &Event) -> State {
    let State::Waiting { rank, attempts, until, needs } = state else { return state };
    match event {
        Event::HoldAsked => State::Held { rank, attempts, until, needs },
        // Whoever releases it wants it to start now, whatever it waits for.
        Event::ReleaseAsked => State::Ready { rank, attempts },
        Event::Due if !needs => State::Ready { rank, attempts },
        Event::NeedsMet if needs => match until {
            Some(_) => State::Waiting { rank, attempts, until, needs: false },
            None => State::Ready { rank, attempts },
        },
        Event::NeedFailed { need, then } if needs => match then.outcome() {
            Some(outcome) => State::Ended { outcome, attempts, rank, because: Some(*need) },
            None => State::Held { rank, attempts, until, needs: false },
        },
        Event::RankAsked(rank) => State::Waiting { rank: *rank, attempts, until, needs },
        Event::TimeAsked(None) if !needs => State::Ready { rank, attempts },
        Event::TimeAsked(until) => State::Waiting { rank, attempts, until: *until, needs },
        Event::CancelAsked => unstarted(Outcome::Cancelled, rank, attempts),
        Event::DeadlinePassed => unstarted(Outcome::Expired, rank, attempts),
        Event::Due
        | Event::NeedsMet
        | Event::NeedFailed { .. }
        | Event::Started { .. }
        | Event::RetryAsked { .. }
        | Event::RunEnded { .. } => state,
    }
}

/// The same of a task that has ended.
fn next_of_ended(state: State, event: &Event) -> State {
    let State::Ended { outcome, attempts, rank, .. } = state else { return state };
    match event {
        Event::RetryAsked { waits } if outcome != Outcome::Succeeded => match waits {
            true => State::Waiting { rank, attempts, until: None, needs: true },
            false => State::Ready { rank, attempts },
        },
        Event::RetryAsked { .. }
        | Event::HoldAsked
        | Event::ReleaseAsked
        | Event::Due
        | Event::NeedsMet
        | Event::DeadlinePassed
        | Event::NeedFailed { .. }
        | Event::RankAsked(_)
        | Event::TimeAsked(_)
        | Event::CancelAsked
        | Event::Started { .. }
        | Event::RunEnded { .. } => state,
    }
}

/// What has ended while no run of it lived.
fn unstarted(outcome: Outcome, rank: Rank, attempts: u32) -> State {
    State::Ended { outcome, attempts, rank, because: None }
}

/// What a task found in `state` after a crash still owes: the same as what brought it there asked for.
pub(crate) fn owed(state: &State) -> Vec<Effect> {
    match state {
        State::Held { .. } | State::Waiting { .. } | State::Ready { .. } | State::Ended { .. } => {
            vec![Effect::Place]
        }
        State::Active { attempt, .. } => vec![Effect::Place, Effect::Supervise { attempt: *attempt }],
        State::Cancelling { attempt, .. } => vec![
            Effect::Place,
            Effect::AskCancel { attempt: *attempt },
            // Last: a supervisor that starts now finds the command waiting.
            Effect::Supervise { attempt: *attempt },
        ],
    }
}

impl State {
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self, State::Ended { .. })
    }

    /// Whether it waits for other tasks, or would if it were released.
    pub(crate) fn waits_for_others(&self) -> bool {
        match self {
            State::Held { needs, .. } | State::Waiting { needs, .. } => *needs,
            State::Ready { .. } | State::Active { .. } | State::Cancelling { .. } | State::Ended { .. } => {
                false
            }
        }
    }

    /// Whether it would end if its deadline came.
    pub(crate) fn may_expire(&self) -> bool {
        self.live_attempt().is_none() && !self.is_ended()
    }

    /// The run that is carrying the task out now.
    pub(crate) fn live_attempt(&self) -> Option<u32> {
        match self {
            State::Active { attempt, .. } | State::Cancelling { attempt, .. } => Some(*attempt),
            State::Held { .. } | State::Waiting { .. } | State::Ready { .. } | State::Ended { .. } => None,
        }
    }

    /// The units that a live run has.
    pub(crate) fn assigned(&self) -> Option<&Assigned> {
        match self {
            State::Active { assigned, .. } | State::Cancelling { assigned, .. } => Some(assigned),
            State::Held { .. } | State::Waiting { .. } | State::Ready { .. } | State::Ended { .. } => None,
        }
    }

    /// How many attempts have begun and are over.
    pub(crate) fn attempts_over(&self) -> u32 {
        match self {
            State::Held { attempts, .. }
            | State::Waiting { attempts, .. }
            | State::Ready { attempts, .. }
            | State::Ended { attempts, .. } => *attempts,
            State::Active { attempt, .. } | State::Cancelling { attempt, .. } => attempt.saturating_sub(1),
        }
    }

    /// The word for the state on the command line.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            State::Held { .. } => "held",
            State::Waiting { .. } => "waiting",
            State::Ready { .. } => "ready",
            State::Active { .. } => "active",
            State::Cancelling { .. } => "cancelling",
            State::Ended { outcome, .. } => outcome.word(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Name {
        "here".parse().unwrap()
    }

    fn time() -> Option<Timestamp> {
        Some(Timestamp::from_micros(1))
    }

    fn need() -> TaskId {
        "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
    }

    fn units() -> Assigned {
        [("gpu".parse().unwrap(), [0, 7].into())].into()
    }

    fn started() -> Event {
        Event::Started { host: host(), assigned: units() }
    }

    fn all_states() -> Vec<State> {
        let rank = Rank::try_from(7).unwrap();
        let mut states = vec![
            State::Ready { rank, attempts: 1 },
            State::Active { attempt: 2, host: host(), rank, assigned: Assigned::new() },
            State::Active { attempt: 2, host: host(), rank, assigned: units() },
            State::Cancelling { attempt: 2, host: host(), rank, assigned: Assigned::new() },
            State::Cancelling { attempt: 2, host: host(), rank, assigned: units() },
        ];
        for needs in [false, true] {
            states.push(State::Held { rank, attempts: 0, until: None, needs });
            states.push(State::Held { rank, attempts: 1, until: time(), needs });
            states.push(State::Waiting { rank, attempts: 1, until: time(), needs });
            states.push(State::Waiting { rank, attempts: 0, until: None, needs });
        }
        states.extend(Outcome::ALL.map(|outcome| State::Ended { outcome, attempts: 2, rank, because: None }));
        let outcome = Outcome::Blocked;
        states.push(State::Ended { outcome, attempts: 0, rank, because: Some(need()) });
        states
    }

    fn all_events() -> Vec<Event> {
        let mut events = vec![
            Event::HoldAsked,
            Event::ReleaseAsked,
            Event::Due,
            Event::RankAsked(Rank::try_from(10).unwrap()),
            Event::TimeAsked(None),
            Event::TimeAsked(Some(Timestamp::from_micros(2))),
            Event::Started { host: host(), assigned: units() },
            Event::CancelAsked,
            Event::NeedsMet,
            Event::DeadlinePassed,
            Event::RetryAsked { waits: false },
            Event::RetryAsked { waits: true },
        ];
        events.extend(OnFailedNeed::ALL.map(|then| Event::NeedFailed { need: need(), then }));
        for attempt in 1..=3 {
            for next in [Next::End, Next::Again { until: None }, Next::Again { until: time() }, Next::Hold] {
                events.extend(Outcome::ALL.map(|outcome| Event::RunEnded { attempt, outcome, next }));
            }
        }
        events
    }

    #[test]
    fn a_changed_state_owes_what_recovery_would_owe() {
        for state in all_states() {
            for event in all_events() {
                let (next, effects) = transition(state.clone(), &event);
                let expected = if next == state { vec![] } else { owed(&next) };
                assert_eq!(effects, expected, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn nothing_but_a_retry_moves_what_has_ended_and_nothing_what_succeeded() {
        for state in all_states().into_iter().filter(State::is_ended) {
            for event in all_events() {
                let (next, _) = transition(state.clone(), &event);
                let retried = matches!(event, Event::RetryAsked { .. }) && state.word() != "succeeded";
                assert_eq!(next != state, retried, "{state:?} {event:?}");
                if retried {
                    assert!(!next.is_ended() && next.live_attempt().is_none(), "{next:?}");
                    assert_eq!(next.attempts_over(), state.attempts_over());
                }
            }
        }
        for state in all_states().into_iter().filter(|state| !state.is_ended()) {
            for waits in [false, true] {
                assert_eq!(transition(state.clone(), &Event::RetryAsked { waits }).0, state);
            }
        }
    }

    #[test]
    fn a_task_that_waits_for_others_and_a_time_waits_for_both_and_a_held_one_for_nobody() {
        let rank = Rank::default();
        let waiting = |until, needs| State::Waiting { rank, attempts: 0, until, needs };
        let after = |state: State, events: &[Event]| {
            events.iter().fold(state, |state, event| transition(state, event).0)
        };
        let both = waiting(time(), true);
        assert_eq!(after(both.clone(), &[Event::Due]), both, "its time alone does not help");
        assert_eq!(after(both.clone(), &[Event::NeedsMet]), waiting(time(), false));
        assert_eq!(after(both.clone(), &[Event::NeedsMet, Event::Due]).word(), "ready");
        assert_eq!(after(waiting(None, true), &[Event::NeedsMet]).word(), "ready");
        assert_eq!(after(both.clone(), &[Event::ReleaseAsked]).word(), "ready");
        assert_eq!(after(both.clone(), &[Event::HoldAsked, Event::ReleaseAsked]), both);
        for (then, word) in
            [(OnFailedNeed::Block, "blocked"), (OnFailedNeed::Skip, "skipped"), (OnFailedNeed::Hold, "held")]
        {
            let failed = Event::NeedFailed { need: need(), then };
            assert_eq!(after(both.clone(), std::slice::from_ref(&failed)).word(), word);
            assert_eq!(after(both.clone(), &[Event::HoldAsked, failed.clone()]).word(), "held");
            assert_eq!(after(waiting(time(), false), &[failed]), waiting(time(), false));
        }
        let held =
            after(waiting(None, true), &[Event::NeedFailed { need: need(), then: OnFailedNeed::Hold }]);
        assert_eq!(after(held, &[Event::ReleaseAsked]).word(), "ready", "it waits no more");
    }

    #[test]
    fn only_a_ready_task_starts_and_each_start_is_a_new_attempt() {
        for state in all_states() {
            let (next, effects) = transition(state.clone(), &started());
            let starts = effects.iter().any(|effect| matches!(effect, Effect::Supervise { .. }));
            assert_eq!(starts, matches!(state, State::Ready { .. }), "{state:?} {next:?}");
        }
        let (next, _) = transition(State::Ready { rank: Rank::default(), attempts: 1 }, &started());
        let rank = Rank::default();
        assert_eq!(next, State::Active { attempt: 2, host: host(), rank, assigned: units() });
    }

    #[test]
    fn only_a_waiting_task_is_made_ready_by_its_time_and_one_that_was_held_waits_on() {
        for state in all_states() {
            let (next, _) = transition(state.clone(), &Event::Due);
            let waits = matches!(state, State::Waiting { needs: false, .. });
            assert_eq!(next != state, waits, "{state:?} {next:?}");
        }
        let rank = Rank::default();
        let waiting = State::Waiting { rank, attempts: 1, until: time(), needs: false };
        let (held, _) = transition(waiting.clone(), &Event::HoldAsked);
        assert_eq!(held, State::Held { rank, attempts: 1, until: time(), needs: false });
        assert_eq!(transition(held, &Event::ReleaseAsked).0, waiting);
        assert_eq!(transition(waiting, &Event::ReleaseAsked).0, State::Ready { rank, attempts: 1 });
    }

    #[test]
    fn the_end_of_another_attempt_means_nothing() {
        for state in all_states() {
            let event = Event::RunEnded { attempt: 1, outcome: Outcome::Succeeded, next: Next::Hold };
            assert_eq!(transition(state.clone(), &event).0, state, "live attempt is 2");
        }
    }

    #[test]
    fn another_attempt_keeps_the_rank_and_a_cancel_wins_over_it() {
        let rank = Rank::try_from(7).unwrap();
        let active = State::Active { attempt: 2, host: host(), rank, assigned: units() };
        let ended = |next| Event::RunEnded { attempt: 2, outcome: Outcome::Failed, next };
        for (next, state) in [
            (Next::End, State::Ended { outcome: Outcome::Failed, attempts: 2, rank, because: None }),
            (Next::Again { until: None }, State::Ready { rank, attempts: 2 }),
            (
                Next::Again { until: time() },
                State::Waiting { rank, attempts: 2, until: time(), needs: false },
            ),
            (Next::Hold, State::Held { rank, attempts: 2, until: None, needs: false }),
        ] {
            assert_eq!(transition(active.clone(), &ended(next)).0, state);
            let (cancelling, _) = transition(active.clone(), &Event::CancelAsked);
            assert!(transition(cancelling, &ended(next)).0.is_ended());
        }
    }

    #[test]
    fn a_run_has_its_units_until_it_is_over_also_while_it_is_cancelled() {
        for state in all_states() {
            for event in all_events() {
                let (next, _) = transition(state.clone(), &event);
                if state.live_attempt().is_some() && next.live_attempt().is_some() {
                    assert_eq!(next.assigned(), state.assigned(), "{state:?} {event:?}");
                }
            }
        }
        let with_none = r#"{"is":"active","attempt":1,"host":"here"}"#;
        let state: State = serde_json::from_str(with_none).unwrap();
        assert!(state.assigned().is_some_and(Assigned::is_empty), "as older versions wrote it");
    }

    #[test]
    fn a_cancelled_ready_task_never_starts() {
        let ready = State::Ready { rank: Rank::default(), attempts: 0 };
        let (ended, _) = transition(ready, &Event::CancelAsked);
        assert_eq!(ended, unstarted(Outcome::Cancelled, Rank::default(), 0));
        assert_eq!(transition(ended.clone(), &started()), (ended, vec![]));
    }

    #[test]
    fn a_deadline_ends_what_has_not_started_and_nothing_that_runs() {
        for state in all_states() {
            let (next, _) = transition(state.clone(), &Event::DeadlinePassed);
            if state.is_ended() || state.live_attempt().is_some() {
                assert_eq!(next, state);
            } else {
                assert_eq!((next.word(), next.attempts_over()), ("expired", state.attempts_over()));
            }
        }
    }

    #[test]
    fn a_state_reads_back_as_it_was_written() {
        for state in all_states() {
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state, "{text}");
        }
    }
}
