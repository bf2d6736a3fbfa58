//! What lies on disk, and what of it survives a power cut.

use crate::outcome::Outcome;
use crate::recovery::{Boot, Logged};

use super::stand::{Places, Stand};

/// The most tasks that a model has. Task `n` is what file `n` asks for.
pub(super) const TASKS: usize = 2;
/// The dropped files: one for each task, and a cancel of task 0.
pub(super) const FILES: usize = TASKS + 1;
pub(super) const CANCEL: usize = TASKS;

/// A line of the spool's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Line {
    /// A task exists, by this claim of its file.
    Submitted {
        task: usize,
        claim: u8,
        waits: bool,
    },
    Moved {
        task: usize,
        to: Stand,
        file: Option<usize>,
    },
    Answered {
        file: usize,
        accepted: bool,
    },
}

impl Line {
    /// The task whose state it tells.
    pub(super) fn state(self) -> Option<(usize, Stand)> {
        match self {
            Line::Submitted { task, waits, .. } => Some((task, submitted(waits))),
            Line::Moved { task, to, .. } => Some((task, to)),
            Line::Answered { .. } => None,
        }
    }

    /// The file that it answers.
    pub(super) fn answers(self) -> Option<(usize, bool)> {
        match self {
            Line::Submitted { task, .. } => Some((task, true)),
            Line::Moved { file, .. } => file.map(|file| (file, true)),
            Line::Answered { file, accepted } => Some((file, accepted)),
        }
    }
}

/// Where a new task stands.
pub(super) fn submitted(waits: bool) -> Stand {
    if waits { Stand::Waiting } else { Stand::Ready }
}

/// Where a dropped file lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum At {
    #[default]
    Unwritten,
    /// In the inbox, and its writer is not done.
    Half,
    Inbox,
    Claimed,
    /// Answered, and removed.
    Gone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct File {
    pub(super) at: At,
    /// Where a power cut may put it back.
    pub(super) kept: At,
    /// How often it was claimed: each time it gets a new id.
    pub(super) claim: u8,
    /// The claims by which it made a task, a bit for each.
    pub(super) admitted: u8,
    /// Whether it was read before its writer was done.
    pub(super) read_half: bool,
    /// What the log on disk answers.
    pub(super) answer: Option<bool>,
    /// Whether that line is behind the checkpoint.
    pub(super) answer_behind: bool,
    pub(super) receipt: Option<bool>,
    pub(super) receipt_kept: bool,
    /// What anybody may have read in a receipt, ever.
    pub(super) promised: Option<bool>,
}

impl File {
    pub(super) fn remove_claimed(&mut self) {
        if self.at == At::Claimed {
            self.at = At::Gone;
        }
    }
}

/// What the spool's log and the queues' folders hold of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Task {
    /// What the lines on disk say.
    pub(super) told: Option<Stand>,
    /// Whether one of those is behind the checkpoint.
    pub(super) behind: bool,
    pub(super) places: Places,
    /// The places that are on disk; of a task that has lines behind the checkpoint nothing depends on them.
    pub(super) places_kept: Places,
    /// Whether somebody asked for its end.
    pub(super) asked: bool,
    /// Whether a line moved it after its end.
    pub(super) moved_after_end: bool,
}

/// A line of a run's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RunLine {
    Started { boot: u8 },
    Ended(Outcome),
}

/// The agent's own process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Agent {
    #[default]
    None,
    Alive,
    /// It ended by itself, and nobody took note of that yet.
    Exited,
    /// A signal ended it, and nobody took note of that yet.
    Killed,
    Gone,
}

/// A run's directory, and the processes that bear its marker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Run {
    pub(super) log: Vec<RunLine>,
    /// How many of its lines are on disk.
    pub(super) log_kept: usize,
    /// Whether a cancel lies in `commands/`, on disk.
    pub(super) cancel: bool,
    /// Which file the lock's path names; another one after somebody removed it.
    pub(super) lock: u8,
    pub(super) agent: Agent,
    /// How often an agent was started.
    pub(super) starts: u8,
    /// A process that the agent started, in a session of its own.
    pub(super) child: bool,
    pub(super) had_child: bool,
    /// The lock's file that the agent inherited; only by a fault.
    pub(super) leaked: Option<u8>,
    /// Another process has the pid that the supervisor had.
    pub(super) pid_reused: bool,
}

impl Run {
    pub(super) fn is_alive(&self) -> bool {
        self.agent == Agent::Alive || self.child
    }

    pub(super) fn has_begun(&self) -> bool {
        !self.log.is_empty()
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        outcome_of(&self.log)
    }

    pub(super) fn outcome_kept(&self) -> Option<Outcome> {
        outcome_of(&self.log[..self.log_kept])
    }

    /// What the log says, in the words of recovery.
    pub(super) fn logged(&self, boot: u8) -> Logged {
        let started = self.log.iter().find_map(|line| match line {
            RunLine::Started { boot } => Some(*boot),
            RunLine::Ended(_) => None,
        });
        match (started, self.outcome()) {
            (None, _) => Logged::NotBegun,
            (Some(_), Some(_)) => Logged::Ended,
            (Some(begun), None) if begun == boot => Logged::Begun(Boot::This),
            (Some(_), None) => Logged::Begun(Boot::Earlier),
        }
    }

    pub(super) fn sync(&mut self) {
        self.log_kept = self.log.len();
    }

    pub(super) fn agent_ends(&mut self) {
        self.agent = Agent::Exited;
        self.let_go();
    }

    pub(super) fn child_ends(&mut self) {
        self.child = false;
        self.let_go();
    }

    /// What no process inherited any more is nobody's.
    pub(super) fn let_go(&mut self) {
        if !self.is_alive() {
            self.leaked = None;
        }
    }

    /// All processes that bear the run's marker end.
    pub(super) fn kill_marked(&mut self) {
        if self.agent == Agent::Alive {
            self.agent = Agent::Killed;
        }
        self.child = false;
        self.leaked = None;
    }
}

/// The first end counts.
fn outcome_of(log: &[RunLine]) -> Option<Outcome> {
    log.iter().find_map(|line| match line {
        RunLine::Ended(outcome) => Some(*outcome),
        RunLine::Started { .. } => None,
    })
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    /// Which boot of the machine it is.
    pub(super) boot: u8,
    pub(super) files: [File; FILES],
    pub(super) tasks: [Task; TASKS],
    /// The log's last lines, which a power cut may take.
    pub(super) tail: Vec<Line>,
    pub(super) runs: [Run; TASKS],
}

impl Disk {
    /// Makes the log durable.
    pub(super) fn sync(&mut self) {
        for line in std::mem::take(&mut self.tail) {
            self.keep(line);
        }
    }

    fn keep(&mut self, line: Line) {
        if let Some((task, to)) = line.state() {
            let task = &mut self.tasks[task];
            task.moved_after_end |= task.told.is_some_and(|told| told.is_ended() && told != to);
            (task.told, task.behind) = (Some(to), true);
        }
        if let Line::Submitted { task, claim, .. } = line {
            self.files[task].admitted |= 1 << claim;
        }
        if let Some((file, accepted)) = line.answers() {
            let file = &mut self.files[file];
            (file.answer, file.answer_behind) = (Some(accepted), true);
        }
    }

    /// What whoever reads the log finds: also lines that a power cut may take.
    pub(super) fn told(&self, task: usize) -> Option<Stand> {
        let last = self.tail.iter().rev().filter_map(|line| line.state()).find(|(of, _)| *of == task);
        last.map(|(_, stand)| stand).or(self.tasks[task].told)
    }

    /// What the log answers to a file: also by a line that a power cut may take.
    pub(super) fn answer(&self, file: usize) -> Option<bool> {
        self.answer_in_tail(file).or(self.files[file].answer)
    }

    /// The same of the lines behind the checkpoint.
    pub(super) fn answer_behind(&self, file: usize) -> Option<bool> {
        let File { answer, answer_behind, .. } = self.files[file];
        self.answer_in_tail(file).or(answer.filter(|_| answer_behind))
    }

    fn answer_in_tail(&self, file: usize) -> Option<bool> {
        let answers = self.tail.iter().filter_map(|line| line.answers());
        answers.rev().find(|(of, _)| *of == file).map(|(_, accepted)| accepted)
    }

    /// How many things a power cut may take or leave, each by itself, beside the log's tail.
    pub(super) fn undecided(&self) -> u32 {
        let files = self.files.iter().filter(|file| file.at != file.kept).count();
        let runs = self.runs.iter().filter(|run| run.log.len() > run.log_kept).count();
        let tasks = self.tasks.iter().filter(|task| task.places != task.places_kept && !task.behind).count();
        u32::try_from(files + runs + tasks).expect("because they are few")
    }

    /// What is found after a power cut: of the log's tail the first `lines` lines, and of what else was not on disk that
    /// whose bit is set in `survives`.
    pub(super) fn cut(&mut self, lines: usize, survives: u32) {
        let mut bits = (0..32).map(|bit| survives & (1 << bit) != 0);
        let mut stays = || bits.next().unwrap_or(false);
        for file in &mut self.files {
            if file.at != file.kept {
                file.at = if stays() { file.at } else { file.kept };
                file.kept = file.at;
            }
            file.receipt = file.receipt.filter(|_| file.receipt_kept);
        }
        for run in &mut self.runs {
            if run.log.len() > run.log_kept {
                let len = if stays() { run.log.len() } else { run.log_kept };
                run.log.truncate(len);
                run.log_kept = len;
            }
            run.agent = if run.agent == Agent::None { Agent::None } else { Agent::Gone };
            (run.child, run.leaked) = (false, None);
        }
        for task in &mut self.tasks {
            if task.places != task.places_kept && !task.behind {
                task.places = if stays() { task.places } else { task.places_kept };
                task.places_kept = task.places;
            }
        }
        self.tail.truncate(lines);
        self.sync();
        for task in self.tasks.iter_mut().filter(|task| task.behind) {
            // Whatever is found is drawn anew, by the lines behind the checkpoint.
            (task.places, task.places_kept) = (Places::NONE, Places::NONE);
        }
        self.boot += 1;
    }
}
