//! The supervisor: lives one run. It holds the run's lock, starts its agent, ends its processes, writes its log.
//!
//! One thread, which waits for children, signals, command files and the time, and decides by `run::transition`. It
//! outlives the daemon: all that the daemon needs to know stands in the run directory. When a run is over and its daemon
//! has another one at once, the same process takes it, which saves starting a program; it never has two. Exit codes: 0
//! what it was given is recorded; 100 the run had begun already; 1 it could not be begun (see `supervisor.error`).

mod places;
mod tell;
mod wake;

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::RawMode;

use crate::assignment::Assignment;
use crate::environment;
use crate::id::RunId;
use crate::jsonl::Line;
use crate::launch::Ahead;
use crate::layout::{Layout, RunLayout};
use crate::lock::{self, Lock};
use crate::log::{Log, LogError};
use crate::outcome::Evidence;
use crate::process::{self, Reaped};
use crate::record::{self, Record};
use crate::run::{Effect, Event, Limits, State};
use crate::store::{self, StoreError};
use crate::time::Moment;
use crate::workspace::{Delivered, Workspace};
use crate::{cgroup, clock, digest, launch, run};

use places::Stage;
use tell::said;
use wake::{Inputs, Wake};

/// The hidden verb.
pub(crate) const VERB: &str = "supervise";

/// The exit code of a supervisor that came too late: its run had begun.
const HAD_BEGUN: u8 = 100;

/// How long to wait before the first line is tried to be taken back again.
const TAKE_BACK_AGAIN: Duration = Duration::from_secs(1);
/// How long to wait for room to begin a run before it is tried again.
const BEGIN_AGAIN: Duration = Duration::from_secs(1);

/// Why a supervisor cannot begin a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SupervisorError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{} is no assignment: {reason}", path.display())]
    Assignment { path: PathBuf, reason: String },
}

impl SupervisorError {
    /// Whether there was no room, or the like, and nothing has changed.
    fn is_shortage(&self) -> bool {
        match self {
            SupervisorError::Store(error) | SupervisorError::Log(LogError::Short(error)) => {
                error.shortage().is_some()
            }
            SupervisorError::Log(_) | SupervisorError::Assignment { .. } => false,
        }
    }

    /// Whether a file of the reserve may help.
    fn wants_room(&self) -> bool {
        match self {
            SupervisorError::Store(error) => error.wants_room(),
            SupervisorError::Log(error) => error.store().is_some_and(StoreError::wants_room),
            SupervisorError::Assignment { .. } => false,
        }
    }
}

/// Carries out the run in `run_dir`; without one, the runs whose directories come on stdin, each ended by NUL, and tells
/// on stdout which is over.
pub(crate) fn main(run_dir: Option<PathBuf>) -> ExitCode {
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077)).as_raw_mode();
    // Refused when we lead a group already, which serves as well.
    let _ = rustix::process::setsid();
    process::become_subreaper();
    let mut wake = match Wake::new() {
        Ok(wake) => wake,
        Err(error) => {
            tracing::error!("cannot listen to signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run_dir {
        Some(run_dir) => carry_out(&RunLayout::new(run_dir), &mut wake, None, umask),
        None => serve(&mut wake, umask),
    }
}

/// Carries out one run after the other, until the daemon has no more for us.
fn serve(wake: &mut Wake, umask: RawMode) -> ExitCode {
    loop {
        // That it cannot be started ahead says nothing about whether it can when it is needed.
        let ahead = Ahead::start().ok();
        let Some(run_dir) = wake.next_run() else { break };
        let code = carry_out(&RunLayout::new(&run_dir), wake, ahead, umask);
        // An agent that is still alive must not be left to a process that no longer watches it.
        if code == ExitCode::FAILURE {
            return code;
        }
        let run = run_dir.file_name().unwrap_or_default();
        let told = std::io::stdout().write_all(format!("{}\n", run.display()).as_bytes());
        if told.is_err() || wake.end_was_asked() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn carry_out(paths: &RunLayout, wake: &mut Wake, ahead: Option<Ahead>, umask: RawMode) -> ExitCode {
    match supervise(paths, wake, ahead, umask) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(HAD_BEGUN),
        Err(error) => {
            // Nobody reads our stderr; and if this fails too, the missing end in the log tells enough.
            let _ = store::remove(&paths.supervisor_error());
            let _ = store::create_new(&paths.supervisor_error(), format!("{error}\n").as_bytes(), 0o600);
            ExitCode::FAILURE
        }
    }
}

/// Begins the run and lives it to its end; `false` when it had begun already.
///
/// # Errors
/// When the run could not be begun. From then on what fails is part of the run, and of its end.
fn supervise(
    paths: &RunLayout,
    wake: &mut Wake,
    ahead: Option<Ahead>,
    umask: RawMode,
) -> Result<bool, SupervisorError> {
    let Some(mut supervisor) = Supervisor::take(paths, wake, umask)? else { return Ok(false) };
    supervisor.ahead = ahead;
    supervisor.live(wake);
    wake.stop_listening();
    Ok(true)
}

/// Tries what comes before a run's first line until there is room for it: a run is not given up for a shortage, nor begun
/// with what was kept for the ends of others. Who wants us to end meanwhile is heard.
fn held_up<T>(
    wake: &mut Wake,
    mut step: impl FnMut() -> Result<T, SupervisorError>,
) -> Result<T, SupervisorError> {
    loop {
        match step() {
            Err(error) if error.is_shortage() && !wake.end_was_asked() => wake::pause(BEGIN_AGAIN),
            done => return done,
        }
    }
}

/// Takes the run's first line back when it could not be made durable: whoever reads it would take the run for lost,
/// though no agent was started. Without it the run can begin again. Tried for as long as it takes, or the folder is there.
fn take_back(layout: &Layout, paths: &RunLayout, error: &SupervisorError) {
    // What somebody else wrote to the log is not ours to remove; and for want of room nothing was written.
    let is_changed = matches!(error, SupervisorError::Log(LogError::Changed { .. }));
    if is_changed || error.is_shortage() {
        return;
    }
    while store::exists(&paths.lock()) && store::replace(layout, &paths.log(), b"").is_err() {
        wake::pause(TAKE_BACK_AGAIN);
    }
}

fn read_assignment(path: &Path) -> Result<Assignment, SupervisorError> {
    serde_json::from_slice(&store::read(path)?)
        .map_err(|error| SupervisorError::Assignment { path: path.to_owned(), reason: error.to_string() })
}

/// The life of one run, in the process that holds its lock.
struct Supervisor {
    paths: RunLayout,
    lock: Lock,
    /// The same anew, when somebody removed its file.
    lock_again: Option<Lock>,
    layout: Layout,
    assignment: Assignment,
    umask: RawMode,
    /// The run's secret, in clear only here and in the agent's environment.
    token: String,
    log: Log<record::Event>,
    lines: Vec<Line<record::Event>>,
    record: Option<Record>,
    state: State,
    limits: Limits,
    /// When to wake up at the latest.
    wake_at: Option<Moment>,
    /// What has happened and is not decided yet.
    pending: VecDeque<Event>,
    /// The launch stage that becomes the agent, if it was started ahead.
    ahead: Option<Ahead>,
    /// The agent's own process.
    agent: Option<u32>,
    /// The process that makes or describes the workspace.
    stage: Option<Stage>,
    /// Whether the workspace stage has begun to make a worktree.
    stage_began: bool,
    /// The lock on a directory that is the workspace itself.
    place_lock: Option<Lock>,
    workspace: Option<Workspace>,
    delivered: Option<Delivered>,
    error: Option<String>,
    last_command: u64,
    /// The control group that holds the agent, where there can be one.
    cgroup: Option<PathBuf>,
    /// Whether some lines are not in the log's file, which takes no others then.
    behind: bool,
    finished: bool,
}

impl Supervisor {
    /// Takes the run's lock and begins the run; `None` when it had begun already.
    ///
    /// # Errors
    /// When the run could not be begun.
    fn take(
        paths: &RunLayout,
        wake: &mut Wake,
        umask: RawMode,
    ) -> Result<Option<Supervisor>, SupervisorError> {
        // Waits: whoever looked whether the lock is held has it for an instant.
        let run_lock = held_up(wake, || Ok(lock::wait_exclusive(&paths.lock())?))?;
        let opened = held_up(wake, || Ok(Log::open(&paths.log(), 0)?))?;
        // Whatever its lines say, or if they can be read at all: it begins behind its first line, and never twice.
        if opened.log.last_seq() > 0 {
            // Who began it may have been killed between writing and syncing; and that it is over is said next.
            store::sync_file(&paths.log())?;
            return Ok(None);
        }
        let assignment = held_up(wake, || read_assignment(&paths.task()))?;
        let mut supervisor = Supervisor::new(paths, run_lock, assignment, opened.log, umask);
        let begun = held_up(wake, || supervisor.begin());
        begun.inspect_err(|error| take_back(&supervisor.layout, paths, error))?;
        Ok(Some(supervisor))
    }

    fn new(
        paths: &RunLayout,
        lock: Lock,
        assignment: Assignment,
        log: Log<record::Event>,
        umask: RawMode,
    ) -> Supervisor {
        let spec = &assignment.spec;
        let limits = Limits {
            timeout: spec.timeout_seconds.map(Duration::from_secs),
            grace: Duration::from_secs(spec.grace_seconds),
        };
        Supervisor {
            paths: paths.clone(),
            lock,
            lock_again: None,
            layout: Layout::new(&assignment.spool),
            assignment,
            umask,
            token: clock::new_secret(),
            log,
            lines: Vec::new(),
            record: None,
            state: State::Preparing,
            limits,
            wake_at: None,
            pending: VecDeque::new(),
            ahead: None,
            agent: None,
            stage: None,
            stage_began: false,
            place_lock: None,
            workspace: None,
            delivered: None,
            error: None,
            last_command: 0,
            cgroup: None,
            behind: false,
            finished: false,
        }
    }

    /// Writes the line after which this attempt can never begin again.
    ///
    /// # Errors
    /// For want of room nothing is written; else see [`take_back`].
    fn begin(&mut self) -> Result<(), SupervisorError> {
        self.cgroup = cgroup::make(self.run());
        let started = record::Event::Started {
            run: self.run(),
            host: self.assignment.host.clone(),
            pid: process::id(),
            boot: process::boot(),
            token_sha256: digest::sha256_hex(self.token.as_bytes()),
            item: self.assignment.spec.item.clone(),
            cgroup: self.cgroup.clone(),
        };
        // Before the line that says that the run has begun: what it is about, and where all of that is found.
        store::sync_file(&self.paths.task())?;
        self.log.enter()?;
        store::sync_parent(self.paths.dir())?;
        Ok(self.note_durably(vec![started])?)
    }

    fn live(&mut self, wake: &mut Wake) {
        wake.listen_on(&self.paths.wake());
        self.set_out();
        while !self.finished {
            let inputs = wake.wait(clock::monotonic(), self.wake_at);
            if self.is_uprooted() && self.write_log().is_ok() {
                wake.listen_on(&self.paths.wake());
            }
            self.woken(inputs);
        }
    }

    /// Does what a run owes that has begun.
    fn set_out(&mut self) {
        self.look_at_commands();
        for effect in run::owed(&self.state) {
            self.perform(effect);
        }
        self.decide();
    }

    /// Looks at all that can be looked at, and decides about it.
    fn woken(&mut self, inputs: Inputs) {
        let Inputs { shutdown, commands } = inputs;
        if shutdown {
            self.pending.push_back(Event::ShutdownAsked);
        }
        if commands {
            self.look_at_commands();
        }
        self.look_at_children();
        if self.wake_at.is_some_and(|wake_at| wake_at <= clock::monotonic()) {
            self.pending.push_back(Event::TimePassed);
            self.prepare_again();
        }
        self.decide();
    }

    fn decide(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            self.step(&event);
        }
    }

    fn step(&mut self, event: &Event) {
        let before = std::mem::replace(&mut self.state, State::Preparing);
        let (next, effects) = run::transition(before.clone(), event, clock::monotonic(), self.limits);
        self.state = next;
        if self.state != before {
            self.wake_at = None;
            self.tell_stopping(&before, event);
        }
        for effect in effects {
            self.perform(effect);
        }
        // Whoever waits for the tree to go may wait for nothing.
        if matches!(self.state, State::Stopping { .. } | State::Killing { .. }) && self.pending.is_empty() {
            self.look_at_children();
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Prepare => self.prepare(),
            Effect::Launch => self.launch(),
            Effect::Terminate => {
                self.ahead = None;
                process::signal_descendants(self.agent, rustix::process::Signal::TERM);
            }
            Effect::Kill => {
                self.cgroup.iter().for_each(|group| cgroup::kill(group));
                process::signal_descendants(self.agent, rustix::process::Signal::KILL);
            }
            Effect::Settle => self.settle(),
            Effect::Finish { ending } => self.finish(&ending),
            Effect::WakeAt(moment) => self.wake_at = Some(moment),
        }
    }

    fn look_at_children(&mut self) {
        loop {
            match process::reap() {
                Reaped::Child { pid, evidence } if Some(pid) == self.agent => {
                    let evidence = self.explained(evidence);
                    self.pending.push_back(Event::Exited { evidence });
                }
                Reaped::Child { pid, evidence } => {
                    if let Some(stage) = self.stage.take_if(|stage| stage.pid == pid) {
                        self.stage_ended(stage, &evidence);
                    }
                }
                Reaped::NoneYet => return,
                Reaped::NoneLeft => {
                    if matches!(self.state, State::Stopping { .. } | State::Killing { .. }) {
                        self.pending.push_back(Event::TreeGone);
                    }
                    return;
                }
            }
        }
    }

    /// Adds to the exit of an agent what the launch stage had to say, when it was that which exited.
    fn explained(&self, evidence: Evidence) -> Evidence {
        let by_launch = evidence.exit_code.is_some_and(|code| launch::FAILED_CODES.contains(&code));
        if !by_launch {
            return evidence;
        }
        // The code alone tells enough when the word about it cannot be read.
        let message = store::read_if_there(&self.paths.launch_error()).ok().flatten();
        Evidence { message: message.map(|bytes| said(&String::from_utf8_lossy(&bytes))), ..evidence }
    }

    fn run(&self) -> RunId {
        self.assignment.run
    }

    /// The variables of the agent: the user's, the profile's, the task's, ours; the later win.
    fn variables(&self) -> Vec<(String, std::ffi::OsString)> {
        let run = self.run();
        let mut variables = environment::with_own_program(environment::inherited());
        let profile = self.assignment.agent.iter().flat_map(|profile| &profile.env);
        let given = profile.chain(&self.assignment.spec.env);
        variables.extend(given.map(|(name, value)| (name.clone(), value.into())));
        variables.push((environment::SPOOL_DIR.to_owned(), self.assignment.spool.clone().into()));
        variables.push((environment::RUN.to_owned(), run.to_string().into()));
        variables.push((environment::TASK.to_owned(), run.task.to_string().into()));
        variables.push((environment::ATTEMPT.to_owned(), run.attempt.to_string().into()));
        variables.push((environment::TOKEN.to_owned(), self.token.clone().into()));
        variables
    }
}
