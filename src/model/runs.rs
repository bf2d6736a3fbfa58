//! What a daemon does about the runs of live tasks, step by step: `daemon/supervise`, by the real table of `recovery`.

use crate::outcome::Outcome;
use crate::recovery::{self, Duty, Found, Logged};

use super::disk::RunLine;
use super::stand::Stand;
use super::world::{Heard, Input, Stage, Supervisor, Todo, Waits, World};
use super::{Fault, Protocol};

impl Protocol {
    /// Whether a run's lock is found held.
    pub(super) fn seems_held(&self, world: &World, task: usize) -> bool {
        let run = &world.disk.runs[task];
        if self.has(Fault::PidTrusted) && run.has_begun() {
            return run.pid_reused || world.supervisors.iter().any(|one| one.run == task && one.owns());
        }
        // Who judges by age takes a run that has begun and does not end for dead.
        let is_old = self.has(Fault::AgeTrusted) && run.has_begun() && run.outcome().is_none();
        world.lock_is_held(task) && !is_old
    }

    pub(super) fn look_at_run(&self, world: &mut World, at: usize, task: usize, after: Heard) {
        let daemon = world.daemon(at);
        if !daemon.known[task].is_some_and(Stand::is_live) {
            return;
        }
        if daemon.waits[task] != Waits::No {
            assert_eq!(recovery::duty(Found::Expected), Duty::Wait);
        } else if self.seems_held(world, task) {
            assert_eq!(recovery::duty(Found::Held), Duty::Adopt);
            world.daemon(at).waits[task] = Waits::Lock;
        } else {
            world.daemon(at).first([Todo::ReadRun { task, after }]);
        }
    }

    pub(super) fn read_run(&self, world: &mut World, at: usize, task: usize, after: Heard) {
        let logged = world.disk.runs[task].logged(world.disk.boot);
        let daemon = world.daemon(at);
        if after == Heard::SupervisorGone && logged == Logged::NotBegun {
            daemon.false_starts[task] += 1;
            if daemon.false_starts[task] < self.bounds.false_starts_max {
                return daemon.hear(Input::StartAgain(task));
            }
            return daemon.first([Todo::LockRun { task, duty: Duty::GiveUp(Outcome::Failed) }]);
        }
        if after == Heard::SupervisorGone {
            daemon.false_starts[task] = 0;
        }
        match recovery::duty(Found::Free(logged)) {
            Duty::Start => daemon.first([Todo::Give { task }]),
            // Who says that a run is over has seen to it that its end is on disk.
            Duty::FileAway if after == Heard::Over || self.has(Fault::EndNotSynced) => {
                daemon.first([Todo::FileAway { task }]);
            }
            Duty::FileAway => daemon.first([Todo::SyncRun { task }, Todo::FileAway { task }]),
            duty @ Duty::GiveUp(_) => daemon.first([Todo::LockRun { task, duty }]),
            Duty::Wait | Duty::Adopt | Duty::LookAgain => {
                unreachable!("because the lock is free and the log is there")
            }
        }
    }

    pub(super) fn lock_run(&self, world: &mut World, at: usize, task: usize, duty: Duty) {
        if self.seems_held(world, task) {
            world.daemon(at).waits[task] = Waits::Lock;
            return;
        }
        let lock = world.disk.runs[task].lock;
        let daemon = world.daemon(at);
        daemon.holds = Some((task, lock));
        // A run that never began has nothing to be killed.
        let kills = duty != Duty::GiveUp(Outcome::Failed);
        let kill = kills.then_some(Todo::KillMarked { task });
        daemon.first(kill.into_iter().chain([Todo::WriteEnd { task, duty }]));
    }

    /// Writes the end of a run that has no supervisor, if its log has none.
    pub(super) fn write_end(&self, world: &mut World, at: usize, task: usize, duty: Duty) {
        let boot = world.disk.boot;
        let run = &mut world.disk.runs[task];
        if run.outcome().is_none() {
            let outcome = match (duty, recovery::duty(Found::Free(run.logged(boot)))) {
                (Duty::GiveUp(Outcome::Failed), _) => Outcome::Failed,
                (_, Duty::GiveUp(outcome)) => outcome,
                (_, Duty::Wait | Duty::Start | Duty::Adopt | Duty::FileAway | Duty::LookAgain) => {
                    Outcome::Lost
                }
            };
            if !run.has_begun() {
                run.log.push(RunLine::Started { boot });
            }
            run.log.push(RunLine::Ended(outcome));
        }
        world.daemon(at).first([Todo::SyncRun { task }, Todo::FileAway { task }, Todo::UnlockRun]);
    }
}

impl World {
    /// A daemon gives a run to a supervisor.
    pub(super) fn give(&mut self, at: usize, task: usize) {
        let supervisor =
            Supervisor { run: task, stage: Stage::Given, holds: None, daemon: Some(at), heard_cancel: false };
        self.supervisors.push(supervisor);
        self.daemon(at).waits[task] = Waits::Supervisor;
    }
}
