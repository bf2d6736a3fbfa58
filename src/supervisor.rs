//! The supervisor: lives one run. It holds the run's lock, starts its agent, ends its processes, writes its log.
//!
//! One thread, which waits for children, signals, command files and the time, and decides by `run::transition`. It
//! outlives the daemon: all that the daemon needs to know stands in the run directory. When a run is over and its daemon
//! has another one at once, the same process takes it, which saves starting a program; it never has two. Exit codes: 0
//! what it was given is recorded; 100 the run had begun already; 1 it could not be begun (see `supervisor.error`).

mod begin;
mod growth;
mod output;
mod places;
mod tell;
mod wake;

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::RawMode;

use crate::assignment::Assignment;
use crate::id::RunId;
use crate::jsonl::Line;
use crate::launch::Ahead;
use crate::layout::{Layout, RunLayout};
use crate::lock::Lock;
use crate::log::Log;
use crate::outcome::Evidence;
use crate::process::{self, Reaped};
use crate::record::{self, Record, said};
use crate::run::{Effect, Event, Limits, State};
use crate::store;
use crate::time::Moment;
use crate::workspace::{Delivered, Workspace};
use crate::{cgroup, clock, launch, run};

pub(crate) use begin::SupervisorError;
use output::Outputs;
use places::Stage;
pub(crate) use wake::{Inputs, Wake};

/// The hidden verb.
pub(crate) const VERB: &str = "supervise";

/// The exit code of a supervisor that came too late: its run had begun.
const HAD_BEGUN: u8 = 100;

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
            tell_why(paths, &error);
            ExitCode::FAILURE
        }
    }
}

/// Writes down why a run could not be begun.
pub(crate) fn tell_why(paths: &RunLayout, error: &SupervisorError) {
    // Nobody reads our stderr; and if this fails too, the missing end in the log tells enough.
    let _ = store::remove(&paths.supervisor_error());
    let _ = store::create_new(&paths.supervisor_error(), format!("{error}\n").as_bytes(), 0o600);
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

/// The life of one run, in the process that holds its lock.
pub(crate) struct Supervisor {
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
    outputs: Outputs,
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
    fn new(
        paths: &RunLayout,
        lock: Lock,
        assignment: Assignment,
        log: Log<record::Event>,
        umask: RawMode,
    ) -> Supervisor {
        let spec = &assignment.spec;
        let now = clock::now();
        let left = spec.deadline_at.map(|deadline| deadline.since(now));
        let limits = Limits {
            // From here on the clock may jump.
            deadline: left.map(|left| clock::monotonic() + left),
            timeout: spec.timeout_seconds.map(Duration::from_secs),
            idle: spec.idle_timeout_seconds.map(Duration::from_secs),
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
            outputs: Outputs::none(),
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

    fn live(&mut self, wake: &mut Wake) {
        wake.listen_on(&self.paths.wake());
        self.set_out();
        while !self.finished {
            let is_new = wake.listen_to(&mut self.outputs);
            let is_owed = self.outputs.owe_a_line();
            if wake.has_growth(self.outputs.quiet_until) || is_new || is_owed {
                self.outputs.look(&self.layout);
            }
            let until = self.wake_at.into_iter().chain(self.silent_at()).min();
            let inputs = wake.wait(clock::monotonic(), until, self.outputs.quiet_until);
            if self.is_uprooted() && self.write_log().is_ok() {
                wake.listen_on(&self.paths.wake());
            }
            self.woken(inputs);
        }
    }

    /// Does what a run owes that has begun.
    pub(crate) fn set_out(&mut self) {
        self.look_at_commands();
        for effect in run::owed(&self.state) {
            self.perform(effect);
        }
        self.decide();
    }

    /// Looks at all that can be looked at, and decides about it.
    pub(crate) fn woken(&mut self, inputs: Inputs) {
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
        if self.silent_at().is_some_and(|silent_at| silent_at <= clock::monotonic()) {
            // What was printed just now counts.
            self.outputs.look(&self.layout);
            self.pending.push_back(Event::Silent { since: self.outputs.printed_at });
        }
        self.decide();
    }

    /// When the agent will have been silent for too long, if it prints nothing more.
    fn silent_at(&self) -> Option<Moment> {
        let idle = self.limits.idle.filter(|_| matches!(self.state, State::Running { .. }))?;
        Some(self.outputs.printed_at + idle)
    }

    /// Whether the run is over.
    #[cfg(test)]
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
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
}
