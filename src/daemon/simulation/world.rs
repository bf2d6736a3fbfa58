//! A machine with a spool on it, the daemon and the supervisors that run there, and who goes on next.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use super::actors::{Living, Serving, Went};
use super::oracle::Seen;
use crate::id::Name;
use crate::input::{Input, Undelivered};
use crate::layout::Layout;
use crate::lock;
use crate::picture;
use crate::reserve;
use crate::simulated::{self, Killed, Machine, Notifying, Tree, on};
use crate::spool::{self, Settings, Spool};
use crate::store;
use crate::time::Timestamp;

/// How long nobody waits for anything but an agent, or a user.
pub(super) const LONG: Duration = Duration::from_secs(31);
/// How often all may go on before they must have come to rest.
const ROUNDS_MAX: u32 = 2000;

/// A spool, and who works on it.
pub(super) struct World {
    pub(super) spool: Spool,
    pub(super) host: Name,
    pub(super) daemon: Option<Living>,
    pub(super) supervisors: Vec<Serving>,
    /// The commands that were dropped, each with the step after which it was on disk.
    pub(super) dropped: Vec<(String, u64)>,
    /// How many tasks were submitted.
    pub(super) submitted: u32,
    /// How often a task's file was edited.
    pub(super) edits: u64,
    /// How often the power has gone.
    boot: u32,
}

impl World {
    /// A new spool with one slot on a new machine, all of it on disk. Nobody works there yet.
    pub(super) fn new() -> World {
        let mut machine = Machine::new();
        machine.processes.current = machine.processes.start(0);
        simulated::put(Some(machine));
        let settings = Settings {
            format: spool::FORMAT,
            id: uuid::Uuid::from_u128(7),
            created_at: Timestamp::from_micros(0),
            directory: None,
            settle_ms: 1000,
            workspaces_bytes_max: None,
        };
        let spool = Spool { layout: Layout::new("/spool"), settings, state_dir: "/state".into() };
        for folder in spool.layout.folders() {
            store::make_dir(&folder).unwrap();
        }
        store::replace(&spool.layout, &spool.layout.spool_record(), &picture::pretty(&spool.settings))
            .unwrap();
        let host = spool.host().unwrap();
        spool::make_queue(&spool.layout, &queue(), &host, &Default::default()).unwrap();
        reserve::refill(&spool.layout).unwrap();
        let one_slot = b"{\"slots\": 1}\n";
        store::replace(&spool.layout, &spool.layout.queue_record(&queue()), one_slot).unwrap();
        let two_units = b"{\"resources\": {\"unit\": 2}}\n";
        store::replace(&spool.layout, &spool.layout.host_settings(&host), two_units).unwrap();
        on(|machine| machine.tree.sync_all());
        World {
            spool,
            host,
            daemon: None,
            supervisors: Vec::new(),
            dropped: Vec::new(),
            submitted: 0,
            edits: 0,
            boot: 0,
        }
    }

    /// The same spool, as it is on this disk, after the machine has started again; who had a machine before has none.
    pub(super) fn on_another_machine(&self, tree: Tree, seen: &Seen) -> World {
        let mut machine = Machine::new();
        machine.pass(LONG);
        machine.boot(self.boot + 1);
        machine.processes.current = machine.processes.start(0);
        machine.tree = tree;
        machine.processes.begun.clone_from(&seen.begun);
        machine.processes.taken.clone_from(&seen.taken);
        simulated::put(Some(machine));
        World {
            spool: self.spool.clone(),
            host: self.host.clone(),
            daemon: None,
            supervisors: Vec::new(),
            dropped: self.dropped.clone(),
            submitted: self.submitted,
            edits: self.edits,
            boot: self.boot + 1,
        }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.spool.layout
    }

    /// Goes on as process `pid`; that may be killed under way.
    fn run_as<T>(pid: u32, go_on: impl FnOnce() -> T) -> Result<T, Killed> {
        on(|machine| machine.processes.current = pid);
        catch_unwind(AssertUnwindSafe(go_on)).map_err(|panic| match panic.downcast::<Killed>() {
            Ok(killed) => *killed,
            Err(panic) => resume_unwind(panic),
        })
    }

    /// Starts a daemon where there is none.
    ///
    /// # Panics
    /// When it cannot work: the disk takes all, and the lock is free.
    pub(super) fn start_daemon(&mut self) -> Result<(), Killed> {
        assert!(self.daemon.is_none());
        let pid = on(|machine| machine.processes.start(0));
        match World::run_as(pid, || Living::start(pid, &self.spool)) {
            Ok(living) => self.daemon = Some(living.unwrap_or_else(|error| panic!("no daemon: {error}"))),
            Err(killed) => {
                on(|machine| machine.processes.end(pid));
                return Err(killed);
            }
        }
        Ok(())
    }

    /// Lets the daemon go on, if there is one.
    pub(super) fn as_daemon<T>(&mut self, go_on: impl FnOnce(&mut Living) -> T) -> Result<Option<T>, Killed> {
        let Some(living) = &mut self.daemon else { return Ok(None) };
        match World::run_as(living.pid, || go_on(living)) {
            Ok(done) => Ok(Some(done)),
            Err(killed) => {
                self.kill_daemon();
                Err(killed)
            }
        }
    }

    pub(super) fn kill_daemon(&mut self) {
        if let Some(living) = self.daemon.take() {
            on(|machine| machine.processes.end(living.pid));
        }
    }

    pub(super) fn end_daemon(&mut self) -> Result<(), Killed> {
        let Some(living) = self.daemon.take() else { return Ok(()) };
        let pid = living.pid;
        let ended = World::run_as(pid, || living.end());
        on(|machine| machine.processes.end(pid));
        ended.map(|ended| ended.unwrap_or_else(|error| panic!("no end in order: {error}")))
    }

    pub(super) fn kill_supervisor(&mut self, at: usize) {
        let serving = self.supervisors.remove(at);
        on(|machine| machine.processes.end(serving.pid));
        serving.gone();
    }

    /// Lets a supervisor go on; tells whether it did something.
    pub(super) fn step_supervisor(&mut self, at: usize) -> Result<bool, Killed> {
        let serving = &mut self.supervisors[at];
        match World::run_as(serving.pid, || serving.go_on()) {
            Ok(Went::Idle) => Ok(false),
            Ok(Went::On) => Ok(true),
            Ok(Went::Ended) => {
                self.kill_supervisor(at);
                Ok(true)
            }
            Err(killed) => {
                self.kill_supervisor(at);
                Err(killed)
            }
        }
    }

    /// Takes care of supervisors that a daemon has started.
    pub(super) fn welcome(&mut self) {
        let started = on(|machine| std::mem::take(&mut machine.processes.started));
        self.supervisors.extend(started.into_iter().map(|(pid, number, to)| Serving::new(pid, number, to)));
    }

    /// Lets threads of the daemon that wait for locks get those that are free.
    pub(super) fn get_locks(&mut self) -> Result<bool, Killed> {
        let free = on(|machine| {
            let waiting = std::mem::take(&mut machine.processes.waiting);
            let (free, held) =
                waiting.into_iter().partition::<Vec<_>, _>(|waiting| !machine.is_locked(&waiting.lock));
            machine.processes.waiting = held;
            free
        });
        let any = !free.is_empty();
        for waiting in free {
            self.as_daemon(|_| {
                drop(lock::wait_exclusive(&waiting.lock));
                let _ = waiting.inputs.send(Input::RunEnded(waiting.run));
            })?;
        }
        Ok(any)
    }

    /// Lets the notifiers end that were started: each third one without success. Tells whether there were any.
    pub(super) fn end_notifiers(&mut self) -> bool {
        let notifying = on(|machine| std::mem::take(&mut machine.processes.notifying));
        for Notifying { notice, inputs, .. } in &notifying {
            let fails = on(|machine| {
                machine.processes.notified += 1;
                let fails = machine.processes.notified.is_multiple_of(3);
                machine.processes.taken.extend((!fails).then_some(*notice));
                fails
            });
            let undelivered = fails.then(|| Undelivered { message: "exit code 1".to_owned(), output: None });
            let _ = inputs.send(Input::Notified { notice: *notice, undelivered });
        }
        !notifying.is_empty()
    }

    /// Whether all notices are delivered.
    pub(super) fn has_told_all(&self) -> bool {
        self.daemon.as_ref().is_none_or(|living| living.daemon.notices.are_delivered())
    }

    pub(super) fn step_daemon(&mut self) -> Result<bool, Killed> {
        let decided = self.as_daemon(Living::decide)?;
        self.welcome();
        Ok(decided.is_some_and(|decided| decided.unwrap_or_else(|error| panic!("the daemon ends: {error}"))))
    }

    pub(super) fn step_checkpoint(&mut self) -> Result<bool, Killed> {
        let written = self.as_daemon(Living::checkpoint)?;
        Ok(written.is_some_and(|written| written.unwrap_or_else(|error| panic!("no checkpoint: {error}"))))
    }

    /// Lets all go on until nobody has anything to do.
    ///
    /// # Panics
    /// When that is never.
    pub(super) fn settle(&mut self) -> Result<(), Killed> {
        for _ in 0..ROUNDS_MAX {
            let mut busy = self.as_daemon(Living::look)?.unwrap_or(false);
            busy |= self.step_daemon()?;
            busy |= self.step_checkpoint()?;
            for at in (0..self.supervisors.len()).rev() {
                busy |= self.step_supervisor(at)?;
            }
            busy |= self.get_locks()?;
            busy |= self.end_notifiers();
            if !busy {
                return Ok(());
            }
        }
        panic!("they never come to rest");
    }

    /// Lets time pass, and all go on.
    pub(super) fn wait(&mut self, time: Duration) -> Result<(), Killed> {
        on(|machine| machine.pass(time));
        self.settle()
    }

    /// A hint comes that something changed in the queues' folders, and all go on.
    pub(super) fn look_soon(&mut self) -> Result<(), Killed> {
        self.as_daemon(|living| living.daemon.look_soon())?;
        self.wait(Duration::from_secs(1))
    }

    /// All that runs is gone, and this is on disk.
    pub(super) fn lose_power(&mut self, tree: Tree) {
        self.kill_all();
        self.boot += 1;
        let boot = self.boot;
        on(|machine| {
            machine.tree = tree;
            machine.boot(boot);
        });
    }

    pub(super) fn kill_all(&mut self) {
        self.kill_daemon();
        while !self.supervisors.is_empty() {
            self.kill_supervisor(0);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Open files and processes speak to the machine when they end.
        (self.daemon, self.supervisors) = (None, Vec::new());
        simulated::put(None);
    }
}

pub(super) fn queue() -> Name {
    "default".parse().unwrap()
}
