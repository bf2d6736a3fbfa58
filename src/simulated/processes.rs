//! The processes of a machine in memory: numbers that are given again, parents and children, and what each is for.
//!
//! Only what others can see of them is here. What a daemon or a supervisor does is the program itself, which whoever
//! drives the machine keeps; an agent does nothing until it is told to end.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crossbeam_channel::Sender;

use super::Machine;
use crate::environment;
use crate::id::RunId;
use crate::input::Input;
use crate::launch;
use crate::notice::NoticeId;
use crate::outcome::Evidence;
use crate::process::Reaped;

/// How many numbers there are for processes. Few, so that a number comes again soon.
const NUMBERS: u32 = 40;
const KILL: i32 = 9;
const TERMINATE: i32 = 15;

/// The processes of a machine.
#[derive(Default)]
pub(crate) struct Processes {
    living: BTreeMap<u32, Process>,
    /// The number that was given last.
    last: u32,
    /// Which process is running.
    pub(crate) current: u32,
    /// Which boot of the machine it is.
    pub(crate) boot: u32,
    /// The runs whose agents have started, in their order, from the beginning of the world.
    pub(crate) begun: Vec<RunId>,
    /// Supervisors that were started and that nobody has taken care of yet.
    pub(crate) started: Vec<(u32, u64, Sender<Input>)>,
    /// Threads of daemons that wait for locks.
    pub(crate) waiting: Vec<Waiting>,
    /// Notifiers that have not ended.
    pub(crate) notifying: Vec<Notifying>,
    /// How many notifiers have ended.
    pub(crate) notified: u64,
    /// The notices that notifiers have taken, in their order, from the beginning of the world.
    pub(crate) taken: Vec<NoticeId>,
}

/// A notifier of a daemon, which ends with it.
pub(crate) struct Notifying {
    pub(crate) daemon: u32,
    pub(crate) notice: NoticeId,
    pub(crate) inputs: Sender<Input>,
}

/// A thread that waits for the lock of a run.
pub(crate) struct Waiting {
    pub(crate) daemon: u32,
    pub(crate) run: RunId,
    pub(crate) lock: PathBuf,
    pub(crate) inputs: Sender<Input>,
}

/// A process, as others see it.
#[derive(Debug, Default)]
struct Process {
    parent: u32,
    /// The run that it bears the marker of.
    run: Option<RunId>,
    /// It ends with its parent, as the kernel was asked to see to.
    is_tied: bool,
    /// It ends only when it is killed.
    is_stubborn: bool,
    ended: Option<Evidence>,
    /// What it was given on its stdin, and whether more may come.
    given: Vec<u8>,
    is_fed: bool,
}

impl Processes {
    /// Starts a process as a child of another.
    pub(crate) fn start(&mut self, parent: u32) -> u32 {
        let taken = |number: &u32| self.living.contains_key(number);
        loop {
            self.last = self.last % NUMBERS + 1;
            if !taken(&self.last) {
                break;
            }
        }
        self.living.insert(self.last, Process { parent, is_fed: true, ..Process::default() });
        self.last
    }

    /// A process ends, and with it those that are tied to it; its other children are nobody's then.
    pub(crate) fn end(&mut self, number: u32) {
        self.living.remove(&number);
        self.waiting.retain(|waiting| waiting.daemon != number);
        self.notifying.retain(|notifying| notifying.daemon != number);
        self.living.retain(|_, process| process.parent != number || !process.is_tied);
        let children = self.living.values_mut().filter(|process| process.parent == number);
        children.for_each(|process| process.parent = 0);
    }

    pub(crate) fn is_alive(&self, number: u32) -> bool {
        self.living.get(&number).is_some_and(|process| process.ended.is_none())
    }

    pub(crate) fn marked(&self, run: RunId) -> Vec<u32> {
        let bears = |process: &Process| process.run == Some(run) && process.ended.is_none();
        self.living.iter().filter(|(_, process)| bears(process)).map(|(number, _)| *number).collect()
    }

    pub(crate) fn kill_marked(&mut self, run: RunId) -> usize {
        let marked = self.marked(run);
        marked.iter().for_each(|number| drop(self.living.remove(number)));
        marked.len()
    }

    /// Takes note of a child of the running process that has ended.
    pub(crate) fn reap(&mut self) -> Reaped {
        let current = self.current;
        let mut children = self.living.iter_mut().filter(|(_, process)| process.parent == current).peekable();
        if children.peek().is_none() {
            return Reaped::NoneLeft;
        }
        let ended = children.find_map(|(number, process)| Some((*number, process.ended.take()?)));
        match ended {
            Some((number, evidence)) => {
                self.living.remove(&number);
                Reaped::Child { pid: number, evidence }
            }
            None => Reaped::NoneYet,
        }
    }

    /// Sends a signal to all children of the running process.
    pub(crate) fn signal_children(&mut self, signal: i32) {
        let current = self.current;
        for process in self.living.values_mut().filter(|process| process.parent == current) {
            if signal == KILL || (signal == TERMINATE && !process.is_stubborn) {
                process.ended.get_or_insert(Evidence { signal: Some(signal), ..Evidence::default() });
            }
        }
    }

    /// The agents that run: their processes and runs.
    pub(crate) fn agents(&self) -> Vec<(u32, RunId)> {
        let run = |process: &Process| process.run.filter(|_| process.ended.is_none());
        self.living.iter().filter_map(|(number, process)| Some((*number, run(process)?))).collect()
    }

    /// An agent ends by itself.
    pub(crate) fn exit(&mut self, number: u32, code: i32) {
        if let Some(process) = self.living.get_mut(&number) {
            process.ended.get_or_insert(Evidence { exit_code: Some(code), ..Evidence::default() });
        }
    }

    /// From now on only a kill ends it.
    pub(crate) fn make_stubborn(&mut self, number: u32) {
        self.living.entry(number).and_modify(|process| process.is_stubborn = true);
    }

    /// A process gets something on its stdin.
    ///
    /// A launch stage that has got its order becomes the agent.
    pub(crate) fn give(&mut self, number: u32, bytes: &[u8]) -> bool {
        let Some(process) = self.living.get_mut(&number).filter(|process| process.ended.is_none()) else {
            return false;
        };
        process.given.extend_from_slice(bytes);
        if let Some((_, surroundings)) = launch::decode(&process.given) {
            let is_run = |name: &std::ffi::OsString| name == environment::RUN;
            let run = surroundings.variables.iter().find(|(name, _)| is_run(name));
            let run = run.and_then(|(_, run)| run.to_str()?.parse().ok());
            if let Some(run) = run {
                (process.run, process.is_tied) = (Some(run), true);
                self.begun.push(run);
            }
        }
        true
    }

    /// Nothing more will come on its stdin.
    pub(crate) fn starve(&mut self, number: u32) {
        self.living.entry(number).and_modify(|process| process.is_fed = false);
    }

    /// An agent starts a process in a session of its own, which outlives it.
    pub(crate) fn fork(&mut self, agent: u32) {
        let Some(Process { parent, run, .. }) = self.living.get(&agent) else { return };
        let (parent, run) = (*parent, *run);
        let child = self.start(parent);
        self.living.entry(child).and_modify(|process| process.run = run);
    }

    /// Takes the next text that ends with NUL from a process's stdin.
    pub(crate) fn take(&mut self, number: u32) -> Option<Vec<u8>> {
        let given = &mut self.living.get_mut(&number)?.given;
        let end = given.iter().position(|byte| *byte == 0)?;
        Some(given.drain(..=end).take(end).collect())
    }

    pub(crate) fn is_fed(&self, number: u32) -> bool {
        self.living.get(&number).is_some_and(|process| process.is_fed)
    }
}

impl Machine {
    /// The power goes, and comes again: for the `boot`th time since the beginning of the world.
    pub(crate) fn boot(&mut self, boot: u32) {
        self.processes.living.clear();
        self.processes.started.clear();
        self.processes.waiting.clear();
        self.processes.notifying.clear();
        self.processes.boot = boot;
        self.made = u64::from(boot) << 32;
        self.close_all();
    }
}
