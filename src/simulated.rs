//! A machine in memory: its disk, its processes, its clock. For tests, in which a thread may have one of its own.
//!
//! While a thread has one, `disk`, `process` and `clock` ask it instead of the system. What runs on it is the program
//! itself; see `daemon::simulation`. Nothing happens by itself on it: whoever drives it says which process goes on.

mod cut;
mod files;
mod lot;
mod processes;
mod tree;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::id::{RunId, TaskId};
use crate::input::Input;
use crate::notice::NoticeId;
use crate::process::Pipe;
use crate::time::{Moment, Timestamp};

pub(crate) use files::{Handle, open};
pub(crate) use lot::Lot;
pub(crate) use processes::{Notifying, Processes, Waiting};
pub(crate) use tree::Tree;

/// A machine.
pub(crate) struct Machine {
    pub(crate) tree: Tree,
    open: BTreeMap<u64, files::Open>,
    opened: u64,
    pub(crate) processes: Processes,
    /// Microseconds since 1970, as the machine believes.
    pub(crate) wall: i64,
    pub(crate) uptime: Duration,
    made: u64,
    /// How many calls have changed the disk, or made a change durable.
    pub(crate) steps: u64,
    pub(crate) ends: Option<Ends>,
    /// What was on the disk before each call, while somebody wants to know that.
    pub(crate) recorded: Option<Vec<Recorded>>,
}

/// The disk before a call that changed it, which runs' agents had started, and which notices were taken.
pub(crate) struct Recorded {
    pub(crate) tree: Tree,
    pub(crate) begun: Vec<RunId>,
    pub(crate) taken: Vec<NoticeId>,
}

/// When the process that is running is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Before this call.
    pub(crate) step: u64,
    /// If that writes, after half of it.
    pub(crate) half: bool,
}

/// What a killed process unwinds with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Killed;

thread_local! {
    static HERE: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

impl Machine {
    pub(crate) fn new() -> Machine {
        Machine {
            tree: Tree::new(),
            open: BTreeMap::new(),
            opened: 0,
            processes: Processes::default(),
            wall: 1_789_000_000_000_000,
            uptime: Duration::ZERO,
            made: 0,
            steps: 0,
            ends: None,
            recorded: None,
        }
    }

    /// Takes note that the disk is about to be changed; `true` when the process is killed before it is.
    fn step(&mut self) -> Option<Ends> {
        let now = self.recorded.is_some().then(|| self.recorded_now());
        if let (Some(recorded), Some(now)) = (&mut self.recorded, now) {
            recorded.push(now);
        }
        self.steps += 1;
        self.wall += 1;
        self.tree.at = (self.wall / 1_000_000, self.wall % 1_000_000 * 1000);
        self.ends.take_if(|ends| ends.step < self.steps)
    }

    /// What is on the disk, and what others have seen.
    pub(crate) fn recorded_now(&self) -> Recorded {
        let Processes { begun, taken, .. } = &self.processes;
        Recorded { tree: self.tree.clone(), begun: begun.clone(), taken: taken.clone() }
    }

    /// Time passes, on all clocks.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.uptime += time;
        self.wall += i64::try_from(time.as_micros()).expect("because it is short");
    }

    /// A number that no other call has given.
    fn make(&mut self) -> u64 {
        self.made += 1;
        self.made
    }
}

/// Gives the thread a machine, or takes it away; returns the one that it had.
pub(crate) fn put(machine: Option<Machine>) -> Option<Machine> {
    HERE.with(|here| here.replace(machine))
}

/// Asks the thread's machine, if it has one.
pub(crate) fn ask<T>(question: impl FnOnce(&mut Machine) -> T) -> Option<T> {
    HERE.with(|here| here.borrow_mut().as_mut().map(question))
}

/// Asks the machine that the thread has.
///
/// # Panics
/// When it has none.
pub(crate) fn on<T>(question: impl FnOnce(&mut Machine) -> T) -> T {
    ask(question).expect("because the thread has a machine")
}

/// Changes the disk of the thread's machine, if it has one, unless the process is killed before.
pub(super) fn change<T>(change: impl FnOnce(&mut Machine) -> T) -> Option<T> {
    if ask(|machine| machine.step())?.is_some() {
        std::panic::resume_unwind(Box::new(Killed));
    }
    ask(change)
}

pub(super) fn write(handle: u64, bytes: &[u8]) -> std::io::Result<usize> {
    match on(Machine::step) {
        Some(Ends { half: true, .. }) => {
            // What came of it nobody is told any more.
            let _ = on(|machine| machine.write(handle, &bytes[..bytes.len() / 2]));
            std::panic::resume_unwind(Box::new(Killed))
        }
        Some(_) => std::panic::resume_unwind(Box::new(Killed)),
        None => on(|machine| machine.write(handle, bytes)),
    }
}

pub(crate) fn now() -> Option<Timestamp> {
    ask(|machine| {
        machine.wall += 1;
        Timestamp::from_micros(machine.wall)
    })
}

pub(crate) fn monotonic() -> Option<Moment> {
    ask(|machine| Moment::from_origin(machine.uptime))
}

pub(crate) fn new_id() -> Option<TaskId> {
    ask(|machine| {
        let millis = u64::try_from(machine.wall / 1000).unwrap_or_default();
        let mut rest = [0; 10];
        rest[2..].copy_from_slice(&machine.make().to_be_bytes());
        TaskId::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &rest).into_uuid())
    })
}

pub(crate) fn new_secret() -> Option<String> {
    ask(|machine| format!("{:032x}", machine.make()))
}

/// Starts a supervisor that serves a daemon, which has a number for it; whoever drives the machine takes care of it.
pub(crate) fn start_supervisor(number: u64, inputs: &Sender<Input>) -> Option<Pipe> {
    ask(|machine| {
        let pid = machine.processes.start(0);
        machine.processes.started.push((pid, number, inputs.clone()));
        Pipe::Simulated(pid)
    })
}

/// Starts a notifier for a notice; whoever drives the machine takes care of it. `false` when the thread has no machine.
pub(crate) fn start_notifier(notice: NoticeId, inputs: &Sender<Input>) -> bool {
    let started = ask(|machine| {
        let daemon = machine.processes.current;
        machine.processes.notifying.push(Notifying { daemon, notice, inputs: inputs.clone() });
    });
    started.is_some()
}

/// Has somebody wait for the lock of a run, for the process that is running; `false` when the thread has no machine.
pub(crate) fn wait_for_lock(run: RunId, lock: &Path, inputs: &Sender<Input>) -> bool {
    let waits = ask(|machine| {
        let daemon = machine.processes.current;
        let waiting = Waiting { daemon, run, lock: lock.to_owned(), inputs: inputs.clone() };
        machine.processes.waiting.push(waiting);
    });
    waits.is_some()
}
