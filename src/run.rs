//! A run's life, as its supervisor decides it: the pure state machine. It knows no clock, disk or process.
//!
//! ```text
//! preparing -> running -> stopping -> (killing ->) settling -> ended
//! ```
//!
//! However the agent ends, the run goes through `stopping`: it is over only when no process of it is left.

use std::time::Duration;

use crate::outcome::{Evidence, Outcome};
use crate::time::Moment;

/// How long what an agent left running has between SIGTERM and SIGKILL, when the agent itself has ended.
pub(crate) const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// How long after a SIGKILL the process tree is looked at again.
pub(crate) const KILL_AGAIN: Duration = Duration::from_millis(20);

/// How a run will end: decided when it is stopped, recorded when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    pub(crate) evidence: Evidence,
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its workspace is being made.
    Preparing,
    /// Its agent runs, until `deadline` at most.
    Running { deadline: Option<Moment> },
    /// Its processes were asked to end; at `kill_at` they are killed.
    Stopping { ending: Ending, kill_at: Moment },
    /// Its processes were killed; at `again_at` it is looked whether any is left.
    Killing { ending: Ending, again_at: Moment },
    /// No process is left; what it leaves in its workspace is being recorded, unless that was given up.
    Settling { ending: Ending, given_up: bool },
    /// Over.
    Ended { ending: Ending },
}

/// What can happen to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The workspace is ready.
    Prepared,
    /// The workspace could not be made, or the agent not be started.
    Failed {
        message: String,
    },
    /// The agent's own process ended.
    Exited {
        evidence: Evidence,
    },
    /// No process of the run is left.
    TreeGone,
    CancelAsked {
        reason: Option<String>,
    },
    /// The machine, or whoever manages its processes, wants the supervisor to end.
    ShutdownAsked,
    TimePassed,
    /// Its agent has printed nothing since then.
    Silent {
        since: Moment,
    },
    /// What the run leaves is recorded.
    Settled,
}

/// What must be done when a run's state has changed. Every effect is safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Make the workspace.
    Prepare,
    /// Start the agent.
    Launch,
    /// Ask all processes of the run to end.
    Terminate,
    /// Kill all processes of the run.
    Kill,
    /// Record what the run leaves in its workspace.
    Settle,
    /// Record the end.
    Finish { ending: Ending },
    /// Wake up at this time at the latest.
    WakeAt(Moment),
}

/// The limits of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From the agent's start to its end; `None` is no limit.
    pub(crate) timeout: Option<Duration>,
    /// By when it must be over, however late its agent starts; `None` is no limit.
    pub(crate) deadline: Option<Moment>,
    /// From one thing that the agent prints to the next; `None` is no limit.
    pub(crate) idle: Option<Duration>,
    /// Between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
}

/// Advances a run by one event that happened at `at`.
///
/// Every state answers every event by name: no `_` arm.
#[must_use]
pub(crate) fn transition(state: State, event: &Event, at: Moment, limits: Limits) -> (State, Vec<Effect>) {
    let next = next(state.clone(), event, at, limits);
    let effects = if next == state { Vec::new() } else { owed(&next) };
    (next, effects)
}

fn next(state: State, event: &Event, at: Moment, limits: Limits) -> State {
    match state {
        State::Preparing => match event {
            Event::Prepared => begun(at, limits),
            Event::Failed { message } => stop(failed(message), at + limits.grace),
            Event::CancelAsked { reason } => stop(cancelled(reason.as_deref()), at + limits.grace),
            Event::ShutdownAsked => stop(interrupted(), at + limits.grace),
            Event::Exited { .. }
            | Event::TreeGone
            | Event::TimePassed
            | Event::Silent { .. }
            | Event::Settled => state,
        },
        State::Running { deadline } => match event {
            Event::Exited { evidence } => stop(of_exit(evidence), at + LEFTOVER_GRACE.min(limits.grace)),
            Event::Failed { message } => stop(failed(message), at + limits.grace),
            Event::CancelAsked { reason } => stop(cancelled(reason.as_deref()), at + limits.grace),
            Event::ShutdownAsked => stop(interrupted(), at + limits.grace),
            Event::TimePassed if deadline.is_some_and(|deadline| deadline <= at) => {
                stop(out_of_time(at, limits), at + limits.grace)
            }
            Event::Silent { since } if limits.idle.is_some_and(|idle| *since + idle <= at) => {
                stop(fell_silent(limits.idle), at + limits.grace)
            }
            Event::TimePassed | Event::Silent { .. } | Event::Prepared | Event::TreeGone | Event::Settled => {
                state
            }
        },
        State::Stopping { ending, kill_at } => match event {
            Event::Exited { evidence } => State::Stopping { ending: ending.seen(evidence), kill_at },
            Event::TreeGone => State::Settling { ending, given_up: false },
            Event::TimePassed if kill_at <= at => State::Killing { ending, again_at: at + KILL_AGAIN },
            Event::TimePassed
            | Event::Silent { .. }
            | Event::CancelAsked { .. }
            | Event::ShutdownAsked
            | Event::Prepared
            | Event::Failed { .. }
            | Event::Settled => State::Stopping { ending, kill_at },
        },
        State::Killing { ending, again_at } => match event {
            Event::Exited { evidence } => State::Killing { ending: ending.seen(evidence), again_at },
            Event::TreeGone => State::Settling { ending, given_up: false },
            Event::TimePassed if again_at <= at => State::Killing { ending, again_at: at + KILL_AGAIN },
            Event::TimePassed
            | Event::Silent { .. }
            | Event::CancelAsked { .. }
            | Event::ShutdownAsked
            | Event::Prepared
            | Event::Failed { .. }
            | Event::Settled => State::Killing { ending, again_at },
        },
        State::Settling { ending, given_up } => match event {
            Event::Settled => State::Ended { ending },
            // The workspace is left as it is: nothing is lost by not describing it.
            Event::CancelAsked { .. } | Event::ShutdownAsked => State::Settling { ending, given_up: true },
            Event::Exited { .. }
            | Event::TreeGone
            | Event::TimePassed
            | Event::Silent { .. }
            | Event::Prepared
            | Event::Failed { .. } => State::Settling { ending, given_up },
        },
        State::Ended { .. } => state,
    }
}

/// What a run found in `state` owes.
pub(crate) fn owed(state: &State) -> Vec<Effect> {
    match state {
        State::Preparing => vec![Effect::Prepare],
        State::Running { deadline } => {
            let mut effects = vec![Effect::Launch];
            effects.extend(deadline.map(Effect::WakeAt));
            effects
        }
        State::Stopping { kill_at, .. } => vec![Effect::Terminate, Effect::WakeAt(*kill_at)],
        State::Killing { again_at, .. } => vec![Effect::Kill, Effect::WakeAt(*again_at)],
        State::Settling { given_up: false, .. } => vec![Effect::Settle],
        State::Settling { given_up: true, .. } => vec![Effect::Kill],
        State::Ended { ending } => vec![Effect::Finish { ending: ending.clone() }],
    }
}

/// A run whose workspace is ready: no agent is started behind its deadline.
fn begun(at: Moment, limits: Limits) -> State {
    if limits.deadline.is_some_and(|deadline| deadline <= at) {
        return stop(out_of_time(at, limits), at + limits.grace);
    }
    let timeout = limits.timeout.map(|timeout| at + timeout);
    State::Running { deadline: timeout.into_iter().chain(limits.deadline).min() }
}

fn stop(ending: Ending, kill_at: Moment) -> State {
    State::Stopping { ending, kill_at }
}

fn failed(message: &str) -> Ending {
    Ending { outcome: Outcome::Failed, evidence: Evidence::of(message) }
}

fn cancelled(reason: Option<&str>) -> Ending {
    Ending { outcome: Outcome::Cancelled, evidence: Evidence::of(reason.unwrap_or("cancel was asked for")) }
}

fn interrupted() -> Ending {
    Ending { outcome: Outcome::Interrupted, evidence: Evidence::of("the supervisor was told to end") }
}

fn out_of_time(at: Moment, limits: Limits) -> Ending {
    let message = match limits.deadline {
        Some(deadline) if deadline <= at => "the deadline of its task has come".to_owned(),
        Some(_) | None => format!("still running after {} s", limits.timeout.unwrap_or_default().as_secs()),
    };
    Ending { outcome: Outcome::TimedOut, evidence: Evidence::of(message) }
}

fn fell_silent(idle: Option<Duration>) -> Ending {
    let seconds = idle.unwrap_or_default().as_secs();
    Ending {
        outcome: Outcome::TimedOut,
        evidence: Evidence::of(format!("it printed nothing for {seconds} s")),
    }
}

fn of_exit(evidence: &Evidence) -> Ending {
    let outcome = match (evidence.exit_code, evidence.signal) {
        (Some(0), _) => Outcome::Succeeded,
        (Some(_), _) => Outcome::Failed,
        (None, Some(_)) => Outcome::Signalled,
        (None, None) => Outcome::Lost,
    };
    Ending { outcome, evidence: evidence.clone() }
}

impl Ending {
    /// The same ending, with how the agent's process went.
    fn seen(self, exit: &Evidence) -> Ending {
        let evidence = Evidence { message: self.evidence.message, ..exit.clone() };
        Ending { evidence, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        timeout: Some(Duration::from_secs(60)),
        deadline: None,
        idle: Some(Duration::from_secs(5)),
        grace: Duration::from_secs(10),
    };

    fn at(seconds: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(seconds))
    }

    fn ending() -> Ending {
        of_exit(&Evidence { exit_code: Some(3), ..Evidence::default() })
    }

    fn all_states() -> Vec<State> {
        vec![
            State::Preparing,
            State::Running { deadline: None },
            State::Running { deadline: Some(at(60)) },
            State::Stopping { ending: ending(), kill_at: at(10) },
            State::Killing { ending: ending(), again_at: at(11) },
            State::Settling { ending: ending(), given_up: false },
            State::Settling { ending: ending(), given_up: true },
            State::Ended { ending: ending() },
        ]
    }

    fn all_events() -> Vec<Event> {
        vec![
            Event::Prepared,
            Event::Failed { message: "no".into() },
            Event::Exited { evidence: Evidence { exit_code: Some(0), ..Evidence::default() } },
            Event::Exited { evidence: Evidence { signal: Some(9), ..Evidence::default() } },
            Event::TreeGone,
            Event::CancelAsked { reason: None },
            Event::ShutdownAsked,
            Event::TimePassed,
            Event::Silent { since: at(0) },
            Event::Silent { since: at(97) },
            Event::Settled,
        ]
    }

    #[test]
    fn a_deadline_ends_a_run_whatever_its_timeout_and_starts_no_agent_behind_it() {
        let limits = Limits { deadline: Some(at(50)), ..LIMITS };
        let outcome = |state: &State| match state {
            State::Stopping { ending, .. } => Some((ending.outcome, ending.evidence.words())),
            State::Preparing
            | State::Running { .. }
            | State::Killing { .. }
            | State::Settling { .. }
            | State::Ended { .. } => None,
        };
        let late = (Outcome::TimedOut, "the deadline of its task has come".to_owned());
        let (running, _) = transition(State::Preparing, &Event::Prepared, at(5), limits);
        assert_eq!(running, State::Running { deadline: Some(at(50)) }, "it comes before the timeout");
        assert_eq!(transition(running.clone(), &Event::TimePassed, at(49), limits).0, running);
        assert_eq!(outcome(&transition(running, &Event::TimePassed, at(50), limits).0), Some(late.clone()));
        let (stopping, effects) = transition(State::Preparing, &Event::Prepared, at(50), limits);
        assert_eq!(outcome(&stopping), Some(late));
        assert!(!effects.contains(&Effect::Launch), "{effects:?}");
        let limits = Limits { timeout: None, ..limits };
        let (running, _) = transition(State::Preparing, &Event::Prepared, at(5), limits);
        assert_eq!(running, State::Running { deadline: Some(at(50)) });
    }

    #[test]
    fn a_changed_state_owes_what_recovery_would_owe() {
        for state in all_states() {
            for event in all_events() {
                for now in [at(0), at(100)] {
                    let (next, effects) = transition(state.clone(), &event, now, LIMITS);
                    let expected = if next == state { vec![] } else { owed(&next) };
                    assert_eq!(effects, expected, "{state:?} {event:?}");
                }
            }
        }
    }

    #[test]
    fn the_outcome_is_fixed_when_a_run_is_stopped_and_an_ended_run_never_changes() {
        for state in all_states() {
            let fixed = match &state {
                State::Preparing | State::Running { .. } => continue,
                State::Stopping { ending, .. }
                | State::Killing { ending, .. }
                | State::Settling { ending, .. }
                | State::Ended { ending } => ending.outcome,
            };
            for event in all_events() {
                let (next, _) = transition(state.clone(), &event, at(100), LIMITS);
                match next {
                    State::Preparing | State::Running { .. } => panic!("{state:?} {event:?} went back"),
                    State::Stopping { ending, .. }
                    | State::Killing { ending, .. }
                    | State::Settling { ending, .. }
                    | State::Ended { ending } => assert_eq!(ending.outcome, fixed),
                }
            }
        }
        for event in all_events() {
            let ended = State::Ended { ending: ending() };
            assert_eq!(transition(ended.clone(), &event, at(100), LIMITS), (ended, vec![]));
        }
    }

    #[test]
    fn no_run_ends_while_a_process_of_it_is_left() {
        for state in all_states() {
            for event in all_events() {
                let (next, _) = transition(state.clone(), &event, at(100), LIMITS);
                if matches!(next, State::Settling { .. }) && !matches!(state, State::Settling { .. }) {
                    assert_eq!(event, Event::TreeGone, "{state:?}");
                }
                if matches!(next, State::Ended { .. }) && !matches!(state, State::Ended { .. }) {
                    assert!(
                        matches!(state, State::Settling { .. }) && event == Event::Settled,
                        "{state:?} {event:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn only_a_running_agent_that_is_silent_for_too_long_is_ended_for_it() {
        for state in all_states() {
            for (since, ends) in [(at(95), true), (at(96), false)] {
                let (next, _) = transition(state.clone(), &Event::Silent { since }, at(100), LIMITS);
                let ends = ends && matches!(state, State::Running { .. });
                assert_eq!(next != state, ends, "{state:?} {since:?}");
                if let State::Stopping { ending, .. } = next
                    && ends
                {
                    assert_eq!(ending.outcome, Outcome::TimedOut);
                    assert_eq!(ending.evidence.message.as_deref(), Some("it printed nothing for 5 s"));
                }
            }
        }
        let patient = Limits { idle: None, ..LIMITS };
        let running = State::Running { deadline: None };
        let silent = Event::Silent { since: at(0) };
        assert_eq!(transition(running.clone(), &silent, at(100), patient).0, running);
    }

    #[test]
    fn a_stubborn_run_is_killed_after_its_grace_and_keeps_its_evidence() {
        let running = State::Running { deadline: Some(at(60)) };
        let (stopping, effects) = transition(running, &Event::TimePassed, at(60), LIMITS);
        assert_eq!(effects, [Effect::Terminate, Effect::WakeAt(at(70))]);
        let (killing, effects) = transition(stopping, &Event::TimePassed, at(70), LIMITS);
        assert_eq!(effects[0], Effect::Kill);
        let exit = Event::Exited { evidence: Evidence { signal: Some(9), ..Evidence::default() } };
        let (killing, _) = transition(killing, &exit, at(70), LIMITS);
        let (settling, _) = transition(killing, &Event::TreeGone, at(70), LIMITS);
        let State::Settling { ending, .. } = settling else { panic!("{settling:?}") };
        assert_eq!((ending.outcome, ending.evidence.signal), (Outcome::TimedOut, Some(9)));
        assert_eq!(ending.evidence.message.as_deref(), Some("still running after 60 s"));
    }
}
