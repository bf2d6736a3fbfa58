//! What a supervisor and its agent do, step by step: `supervisor/*`, by the real state machine of `run`.

use std::time::Duration;

use crate::outcome::Evidence;
use crate::run::{self, Effect, Event, Limits};

use super::disk::{Agent, RunLine};
use super::world::{Input, RunStand, Stage, Supervisor, World};
use super::{Fault, Protocol, now};

/// What a supervisor may do, beside what only it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next thing before the run lives, and after.
    LockRun,
    ReadLog,
    SyncBegin,
    SyncEnd,
    Unlock,
    TellDaemon,
    /// What the run hears.
    Prepared,
    CancelSeen,
    ExitSeen,
    TreeGone,
    GraceOver,
    Settled,
    /// Only by a fault: the lock is given up, and then the end is written.
    UnlockEarly,
    WriteEndLate,
}

/// No time passes in a model: what waits for a time may happen at once, or late.
const LIMITS: Limits = Limits { timeout: None, deadline: None, idle: None, grace: Duration::ZERO };

impl Protocol {
    /// What the supervisor may do now; some of it may turn out to be impossible.
    pub(super) fn steps(&self, supervisor: &Supervisor) -> Vec<Step> {
        match &supervisor.stage {
            Stage::Given => vec![Step::LockRun],
            Stage::Locked => vec![Step::ReadLog],
            Stage::Begun => vec![Step::SyncBegin],
            Stage::Lives(stand) => match stand {
                RunStand::Preparing => vec![Step::Prepared, Step::CancelSeen],
                RunStand::Running => vec![Step::ExitSeen, Step::CancelSeen],
                RunStand::Stopping(_) | RunStand::Killing(_) => {
                    vec![Step::ExitSeen, Step::TreeGone, Step::GraceOver, Step::CancelSeen]
                }
                RunStand::Settling { .. } => vec![Step::Settled, Step::CancelSeen],
                RunStand::Over(_) if supervisor.holds.is_some() => vec![Step::UnlockEarly],
                RunStand::Over(_) => vec![Step::WriteEndLate],
            },
            Stage::Ended => vec![Step::SyncEnd],
            Stage::Recorded | Stage::CameLate => vec![Step::Unlock],
            Stage::Tells => vec![Step::TellDaemon],
        }
    }

    /// Does it; tells whether that was possible.
    pub(super) fn step(&self, world: &mut World, at: usize, step: Step) -> bool {
        let task = world.supervisors[at].run;
        match step {
            Step::LockRun => {
                let free = !world.lock_is_held(task);
                if free {
                    world.supervisors[at].holds = Some(world.disk.runs[task].lock);
                    world.supervisors[at].stage = Stage::Locked;
                }
                free
            }
            Step::ReadLog => self.read_log(world, at),
            Step::SyncBegin => {
                if !self.has(Fault::BeginNotSynced) {
                    world.disk.runs[task].sync();
                }
                world.supervisors[at].stage = Stage::Lives(RunStand::Preparing);
                true
            }
            Step::SyncEnd => {
                world.disk.runs[task].sync();
                // Under a fault its lock is gone by now.
                let done = if world.supervisors[at].holds.is_some() { Stage::Recorded } else { Stage::Tells };
                world.supervisors[at].stage = done;
                true
            }
            Step::Unlock => {
                world.supervisors[at].holds = None;
                world.supervisors[at].stage = Stage::Tells;
                true
            }
            Step::TellDaemon => {
                let supervisor = world.supervisors.remove(at);
                if let Some(daemon) = supervisor.daemon {
                    world.daemon(daemon).hear(Input::RunEnded(task));
                }
                true
            }
            Step::UnlockEarly => {
                world.supervisors[at].holds = None;
                true
            }
            Step::WriteEndLate => {
                self.write_run_ended(world, at);
                true
            }
            Step::Prepared => self.hear(world, at, &Event::Prepared),
            Step::CancelSeen => self.see_cancel(world, at),
            Step::ExitSeen => self.see_exit(world, at),
            Step::TreeGone => {
                let run = &world.disk.runs[task];
                let unseen = matches!(run.agent, Agent::Alive | Agent::Exited | Agent::Killed);
                let gone = !unseen && (!run.child || self.has(Fault::TreeNotAwaited));
                gone && self.hear(world, at, &Event::TreeGone)
            }
            Step::GraceOver => world.disk.runs[task].is_alive() && self.hear(world, at, &Event::TimePassed),
            Step::Settled => self.hear(world, at, &Event::Settled),
        }
    }

    /// Begins the run, unless it had begun.
    fn read_log(&self, world: &mut World, at: usize) -> bool {
        let boot = world.disk.boot;
        let run = &mut world.disk.runs[world.supervisors[at].run];
        if run.has_begun() && !self.has(Fault::BeginNotChecked) {
            if !self.has(Fault::LateNotSynced) {
                run.sync();
            }
            world.supervisors[at].stage = Stage::CameLate;
        } else {
            run.log.push(RunLine::Started { boot });
            world.supervisors[at].stage = Stage::Begun;
        }
        true
    }

    fn see_cancel(&self, world: &mut World, at: usize) -> bool {
        let news = world.disk.runs[world.supervisors[at].run].cancel && !world.supervisors[at].heard_cancel;
        if news {
            world.supervisors[at].heard_cancel = true;
            self.hear(world, at, &Event::CancelAsked { reason: None });
        }
        news
    }

    fn see_exit(&self, world: &mut World, at: usize) -> bool {
        let run = &mut world.disk.runs[world.supervisors[at].run];
        let evidence = match run.agent {
            Agent::Exited => Evidence { exit_code: Some(0), ..Evidence::default() },
            Agent::Killed => Evidence { signal: Some(9), ..Evidence::default() },
            Agent::None | Agent::Alive | Agent::Gone => return false,
        };
        run.agent = Agent::Gone;
        self.hear(world, at, &Event::Exited { evidence });
        true
    }

    /// Moves the run by one event, as the real state machine says; tells whether that moved it.
    fn hear(&self, world: &mut World, at: usize, event: &Event) -> bool {
        let Stage::Lives(before) = world.supervisors[at].stage else { return false };
        let (next, effects) = run::transition(before.state(), event, now(), LIMITS);
        let after = RunStand::of(&next);
        world.supervisors[at].stage = Stage::Lives(after);
        for effect in effects {
            let holds = world.supervisors[at].holds;
            let run = &mut world.disk.runs[world.supervisors[at].run];
            match effect {
                Effect::Launch => {
                    run.agent = Agent::Alive;
                    run.starts += 1;
                    run.leaked = holds.filter(|_| self.has(Fault::LockLeaked));
                }
                Effect::Kill => run.kill_marked(),
                Effect::Finish { .. } if !self.has(Fault::UnlockedBeforeEnd) => {
                    self.write_run_ended(world, at);
                }
                // The agent ends when it likes; what is to be settled or waited for is an event of its own.
                Effect::Terminate
                | Effect::Settle
                | Effect::Prepare
                | Effect::WakeAt(_)
                | Effect::Finish { .. } => {}
            }
        }
        after != before
    }

    fn write_run_ended(&self, world: &mut World, at: usize) {
        let supervisor = &mut world.supervisors[at];
        if let Stage::Lives(RunStand::Over(outcome)) = supervisor.stage {
            world.disk.runs[supervisor.run].log.push(RunLine::Ended(outcome));
            supervisor.stage = Stage::Ended;
        }
    }
}
