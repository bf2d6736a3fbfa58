//! A state of the model: the disk, the processes that live, and what may still happen to them.

use crate::outcome::{Evidence, Outcome};
use crate::recovery::Duty;
use crate::run;
use crate::task::Effect;

use super::disk::{Agent, At, Disk, FILES, Line, TASKS};
use super::stand::{Places, Stand};
use super::{Bounds, Fault, Protocol};

/// The most daemons that live at once.
pub(super) const DAEMONS: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) disk: Disk,
    pub(super) daemons: [Option<Daemon>; DAEMONS],
    pub(super) supervisors: Vec<Supervisor>,
    /// The kernel has a hint for the inbox, or the daemon has one that it did not follow yet.
    pub(super) hint: bool,
    /// The kernel lost hints, and says so.
    pub(super) overflow: bool,
    pub(super) left: Left,
}

/// How often things may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) daemon_kills: u8,
    pub(super) supervisor_kills: u8,
    pub(super) agent_kills: u8,
    pub(super) cuts: u8,
    pub(super) by_hand: u8,
    pub(super) overflows: u8,
    pub(super) second_daemons: u8,
}

/// One thing that a daemon's deciding thread does next. A crash may come between any two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Todo {
    /// Draws what the lines behind the checkpoint tell, and answers their commands.
    Redo,
    LookAtQueues,
    Write,
    Sync,
    Perform {
        task: usize,
        effect: Effect,
        from: Places,
        to: Places,
    },
    DrawReceipt {
        file: usize,
    },
    RemoveClaimed {
        file: usize,
    },
    /// Does for all live tasks what their states owe.
    DoOwed,
    BeginToTake,
    /// Reads the log of a run whose lock was free a moment ago.
    ReadRun {
        task: usize,
        after: Heard,
    },
    /// Takes a run's lock, to end it.
    LockRun {
        task: usize,
        duty: Duty,
    },
    KillMarked {
        task: usize,
    },
    WriteEnd {
        task: usize,
        duty: Duty,
    },
    SyncRun {
        task: usize,
    },
    UnlockRun,
    FileAway {
        task: usize,
    },
    /// Gives a run to a supervisor.
    Give {
        task: usize,
    },
}

/// What a daemon knows of a run when it looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Heard {
    Nothing,
    /// A supervisor said that it is over.
    Over,
    /// Its supervisor ended without a word.
    SupervisorGone,
}

/// What a daemon waits for, of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Waits {
    #[default]
    No,
    /// For a supervisor of its own.
    Supervisor,
    /// For the lock.
    Lock,
}

/// What a daemon was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Input {
    Dropped(usize),
    /// By its supervisor.
    RunEnded(usize),
    /// By the thread that waited for its lock.
    LockFreed(usize),
    SupervisorGone(usize),
    /// The time has come to look at it again.
    StartAgain(usize),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Daemon {
    pub(super) todo: Vec<Todo>,
    pub(super) known: [Option<Stand>; TASKS],
    /// Decided, and not written yet.
    pub(super) batch: Vec<Line>,
    /// Files that the inbox's thread has claimed and not passed on.
    pub(super) claimed: [bool; FILES],
    /// A set: from different threads, inputs come in any order.
    pub(super) inputs: Vec<Input>,
    pub(super) waits: [Waits; TASKS],
    pub(super) false_starts: [u8; TASKS],
    /// The run whose lock it holds, and the lock's file.
    pub(super) holds: Option<(usize, u8)>,
    /// Whether the inbox's thread has begun.
    pub(super) takes: bool,
    /// The checkpoint that is being written: what was live, and what has got a line since.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Whether the log is not as long as it should be, since another daemon wrote to it.
    pub(super) log_changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Checkpoint {
    pub(super) tasks: [Option<Stand>; TASKS],
    pub(super) task_since: [bool; TASKS],
    pub(super) file_since: [bool; FILES],
}

/// How far a supervisor is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// It was given the run, and waits for its lock.
    Given,
    Locked,
    /// It wrote `run.started`.
    Begun,
    Lives(RunStand),
    /// It wrote `run.ended`.
    Ended,
    /// That is on disk.
    Recorded,
    /// It found that the run had begun.
    CameLate,
    /// It holds no lock any more, and says that the run is over.
    Tells,
}

/// A run's state as its supervisor knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RunStand {
    Preparing,
    Running,
    Stopping(Outcome),
    Killing(Outcome),
    Settling { outcome: Outcome, given_up: bool },
    Over(Outcome),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Supervisor {
    pub(super) run: usize,
    pub(super) stage: Stage,
    /// The lock's file that it holds.
    pub(super) holds: Option<u8>,
    /// The daemon that listens to it.
    pub(super) daemon: Option<usize>,
    pub(super) heard_cancel: bool,
}

impl Supervisor {
    /// Whether it may write to its run's log, and to nothing but that its run belongs.
    pub(super) fn owns(&self) -> bool {
        match self.stage {
            Stage::Given | Stage::Tells | Stage::CameLate => false,
            Stage::Locked | Stage::Begun | Stage::Lives(_) | Stage::Ended | Stage::Recorded => true,
        }
    }
}

impl RunStand {
    pub(super) fn state(self) -> run::State {
        let ending = |outcome| run::Ending { outcome, evidence: Evidence::default() };
        let now = super::now();
        match self {
            RunStand::Preparing => run::State::Preparing,
            RunStand::Running => run::State::Running { deadline: None },
            RunStand::Stopping(outcome) => run::State::Stopping { ending: ending(outcome), kill_at: now },
            RunStand::Killing(outcome) => run::State::Killing { ending: ending(outcome), again_at: now },
            RunStand::Settling { outcome, given_up } => {
                run::State::Settling { ending: ending(outcome), given_up }
            }
            RunStand::Over(outcome) => run::State::Ended { ending: ending(outcome) },
        }
    }

    pub(super) fn of(state: &run::State) -> RunStand {
        match state {
            run::State::Preparing => RunStand::Preparing,
            run::State::Running { .. } => RunStand::Running,
            run::State::Stopping { ending, .. } => RunStand::Stopping(ending.outcome),
            run::State::Killing { ending, .. } => RunStand::Killing(ending.outcome),
            run::State::Settling { ending, given_up } => {
                RunStand::Settling { outcome: ending.outcome, given_up: *given_up }
            }
            run::State::Ended { ending } => RunStand::Over(ending.outcome),
        }
    }
}

impl World {
    pub(super) fn new(bounds: &Bounds) -> World {
        let mut disk = Disk::default();
        if bounds.submitted {
            for task in 0..bounds.tasks {
                disk.files[task].at = At::Inbox;
                disk.files[task].kept = At::Inbox;
            }
        }
        World {
            disk,
            daemons: [None, None],
            supervisors: Vec::new(),
            hint: false,
            overflow: false,
            left: bounds.left,
        }
    }

    /// Whether somebody holds the lock that a run's path names.
    pub(super) fn lock_is_held(&self, task: usize) -> bool {
        let lock = self.disk.runs[task].lock;
        let by_supervisor = self
            .supervisors
            .iter()
            .any(|supervisor| supervisor.run == task && supervisor.holds == Some(lock));
        let by_daemon = self.daemons.iter().flatten().any(|daemon| daemon.holds == Some((task, lock)));
        by_supervisor || by_daemon || self.disk.runs[task].leaked == Some(lock)
    }

    /// How many processes may write to the log of a run.
    pub(super) fn owners(&self, task: usize) -> usize {
        let supervisors =
            self.supervisors.iter().filter(|supervisor| supervisor.run == task && supervisor.owns()).count();
        let closes = |daemon: &&Daemon| {
            daemon.todo.iter().any(|todo| {
                matches!(todo, Todo::KillMarked { task: of } | Todo::WriteEnd { task: of, .. } if *of == task)
            })
        };
        let locked = |daemon: &&Daemon| {
            !daemon.todo.iter().any(|todo| matches!(todo, Todo::LockRun { task: of, .. } if *of == task))
        };
        supervisors + self.daemons.iter().flatten().filter(closes).filter(locked).count()
    }

    /// A supervisor dies without a word: its locks are free, and its agent goes with it.
    pub(super) fn kill_supervisor(&mut self, at: usize, protocol: &Protocol) {
        let gone = self.supervisors.remove(at);
        let run = &mut self.disk.runs[gone.run];
        if matches!(gone.stage, Stage::Lives(_) | Stage::Ended | Stage::Recorded) && run.agent != Agent::None
        {
            run.agent = Agent::Gone;
        }
        run.let_go();
        if protocol.has(Fault::PidTrusted) && run.has_begun() {
            run.pid_reused = true;
        }
        if let Some(daemon) = gone.daemon.and_then(|daemon| self.daemons[daemon].as_mut()) {
            daemon.hear(Input::SupervisorGone(gone.run));
        }
    }

    /// A daemon dies: nobody listens to its supervisors any more.
    pub(super) fn kill_daemon(&mut self, daemon: usize) {
        self.daemons[daemon] = None;
        for supervisor in self.supervisors.iter_mut().filter(|of| of.daemon == Some(daemon)) {
            supervisor.daemon = None;
        }
    }

    /// All processes end at once, and of the disk remains what was made durable, and some of the rest.
    pub(super) fn cut(&mut self, lines: usize, survives: u32) {
        self.disk.cut(lines, survives);
        self.daemons = [None, None];
        self.supervisors.clear();
        (self.hint, self.overflow) = (false, false);
    }
}

impl Daemon {
    pub(super) fn hear(&mut self, input: Input) {
        if !self.inputs.contains(&input) {
            self.inputs.push(input);
            self.inputs.sort_unstable();
        }
    }

    /// Puts steps before all others.
    pub(super) fn first(&mut self, steps: impl IntoIterator<Item = Todo>) {
        self.todo.splice(0..0, steps);
    }
}
