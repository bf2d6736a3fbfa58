//! Who works on a spool: a daemon with the threads around it, and supervisors. Each goes on by one step when it is told to.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::super::checkpoint::{self, Job};
use super::super::{Daemon, DaemonError, Workers, occupy};
use crate::id::RunId;
use crate::inbox::Inbox;
use crate::input::Input;
use crate::layout::{Layout, RunLayout};
use crate::lock::Lock;
use crate::simulated::on;
use crate::spool::Spool;
use crate::store;
use crate::supervisor::{self, Inputs, Supervisor, Wake};
use crate::watch::Watch;

/// A daemon: what its threads have in their hands.
pub(super) struct Living {
    pub(super) pid: u32,
    pub(super) daemon: Daemon,
    inbox: Inbox,
    input: Receiver<Input>,
    inputs: Sender<Input>,
    jobs: Receiver<Job>,
    layout: Layout,
    _lock: Lock,
}

impl Living {
    /// Starts the daemon of `spool`, as `daemon::run` does.
    pub(super) fn start(pid: u32, spool: &Spool) -> Result<Living, DaemonError> {
        let layout = spool.layout.clone();
        let (lock, host) = occupy(spool)?;
        let (inputs, input) = unbounded();
        // More than one, so that the driver need not take them in between.
        let (checkpointer, jobs) = bounded(4);
        let settle = Duration::from_millis(spool.settings.settle_ms);
        // That the inbox is to be looked at again is heard by looking all the time.
        let (look_at_inbox, _) = bounded(1);
        // Nothing there is older than a day.
        let workers = Workers { checkpointer, upkeep: bounded(1).0 };
        let restarted =
            Daemon::restart(spool.clone(), host, inputs.clone(), look_at_inbox, workers, Watch::blind());
        let (daemon, claimed) = restarted?;
        let inbox = Inbox::new(layout.clone(), settle, claimed, inputs.clone(), daemon.gate.clone());
        Ok(Living { pid, daemon, inbox, input, inputs, jobs, layout, _lock: lock })
    }

    /// The inbox's thread looks once; tells whether something was taken.
    pub(super) fn look(&mut self) -> bool {
        self.inbox.turn().is_some_and(|patience| patience.is_zero())
    }

    /// The deciding thread goes on until it has nothing more to do; tells whether it had.
    pub(super) fn decide(&mut self) -> Result<bool, DaemonError> {
        let mut busy = false;
        while self.daemon.turn()?.is_zero() {
            busy = true;
            // As in `live`: what comes meanwhile has its turn between the parts of a look.
            if self.daemon.look.is_some()
                && self.daemon.batch.is_empty()
                && let Ok(input) = self.input.try_recv()
            {
                self.daemon.take(input);
            }
        }
        for input in self.input.try_iter().collect::<Vec<_>>() {
            busy |= !matches!(input, Input::InboxEmpty);
            self.daemon.take(input);
        }
        while self.daemon.turn()?.is_zero() {}
        Ok(busy)
    }

    /// The checkpoint's thread does what it was given; tells whether there was something.
    pub(super) fn checkpoint(&mut self) -> Result<bool, DaemonError> {
        let Ok(job) = self.jobs.try_recv() else { return Ok(false) };
        checkpoint::carry_out(&self.layout, &job, &self.inputs)?;
        Ok(true)
    }

    /// Ends in order, as `daemon::run` does.
    pub(super) fn end(mut self) -> Result<(), DaemonError> {
        while self.checkpoint()? {}
        self.daemon.commit()?;
        self.daemon.end()?;
        let Living { daemon, inbox, input, inputs, jobs, layout, _lock, pid: _ } = self;
        drop((daemon, inbox, input));
        for job in jobs {
            checkpoint::carry_out(&layout, &job, &inputs)?;
        }
        Ok(store::remove(&layout.daemon_record())?)
    }
}

/// A supervisor.
pub(super) struct Serving {
    pub(super) pid: u32,
    /// The daemon's number for it.
    number: u64,
    daemon: Sender<Input>,
    given: VecDeque<RunLayout>,
    life: Option<(RunId, Supervisor)>,
    wake: Wake,
}

/// What came of a step of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// There was nothing to do.
    Idle,
    On,
    /// Its process has ended.
    Ended,
}

impl Serving {
    pub(super) fn new(pid: u32, number: u64, daemon: Sender<Input>) -> Serving {
        let wake = Wake::deaf().expect("because there are descriptors to spare");
        Serving { pid, number, daemon, given: VecDeque::new(), life: None, wake }
    }

    /// Goes on by one step, as `supervisor::serve` does.
    pub(super) fn go_on(&mut self) -> Went {
        let before = on(|machine| machine.steps);
        while let Some(text) = on(|machine| machine.processes.take(self.pid)) {
            let path = PathBuf::from(String::from_utf8(text).expect("because paths are UTF-8"));
            self.given.push_back(RunLayout::new(path));
        }
        if let Some((run, supervisor)) = &mut self.life {
            supervisor.woken(Inputs { shutdown: false, commands: true });
            if !supervisor.is_finished() {
                return if on(|machine| machine.steps) == before { Went::Idle } else { Went::On };
            }
            let run = *run;
            self.life = None;
            return self.tell(run);
        }
        let Some(paths) = self.given.front().cloned() else {
            return if on(|machine| machine.processes.is_fed(self.pid)) { Went::Idle } else { Went::Ended };
        };
        if on(|machine| machine.is_locked(&paths.lock())) {
            return Went::Idle;
        }
        self.given.pop_front();
        let run = paths.dir().file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        let run = run.expect("because it is a run's folder");
        match Supervisor::take(&paths, &mut self.wake, rustix::fs::RawMode::from(0o022_u16)) {
            Ok(Some(mut supervisor)) => {
                // Whoever listens on it looks without it too.
                let _ = store::open_fifo(&paths.wake());
                supervisor.set_out();
                self.life = Some((run, supervisor));
                Went::On
            }
            Ok(None) => self.tell(run),
            Err(error) => {
                supervisor::tell_why(&paths, &error);
                Went::Ended
            }
        }
    }

    /// Tells the daemon that a run is over; whoever cannot ends.
    fn tell(&self, run: RunId) -> Went {
        if self.daemon.send(Input::RunEnded(run)).is_ok() { Went::On } else { Went::Ended }
    }

    /// Its process has ended; the daemon hears of that.
    pub(super) fn gone(self) {
        // Nobody hears it when there is no daemon.
        let _ = self.daemon.send(Input::SupervisorGone(self.number));
    }
}
