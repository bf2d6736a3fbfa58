//! The daemon: admits commands, decides what may start, starts supervisors, files away what ended.
//!
//! One thread decides and owns everything it decides about; it is the one that calls [`run`]. The other threads each
//! wait for one thing: the inbox, the watcher, the signals, the checkpoint, and one for each live run. A batch of
//! decisions becomes one durable write to the log; only then is anything done about it. Holds the lock on the spool's folder.

mod admit;
mod batch;
mod checkpoint;
mod dispatch;
mod edges;
mod edits;
mod hand;
mod known;
mod look;
mod mark;
mod pauses;
mod notices;
mod perform;
mod put_back;
mod repeat;
mod restart;
mod retry;
mod said;
mod settings;
mod short;
mod supervise;
mod target;
mod threads;
mod to_run;
mod trouble;
mod upkeep;
mod who;
#[cfg(test)]
mod simulation;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::clock;
use crate::event::Event;
use crate::id::{Name, RunId, TaskId};
use crate::inbox::{Gate, Inbox};
use crate::input::Input;
use crate::jsonl::Line;
use crate::layout::Layout;
use crate::lock::{self, Lock};
use crate::log::Log;
use crate::process;
use crate::queue::{self, Queues};
use crate::resource::Capacities;
use crate::spool::Spool;
use crate::store;
use crate::task::State;
use crate::time::{Date, Moment, Timestamp};
use crate::watch::Watch;

use batch::Decision;
use edits::Edits;
use look::Look;
use notices::Notices;
use pauses::Pauses;
use short::Postponed;
pub(crate) use trouble::DaemonError;
pub(crate) use who::{DaemonRecord, FailedNotice, RefusedEdit, Short, daemon_record};

/// How many inputs wait for the deciding thread before their sources do.
const INPUTS_MAX: usize = 1024;
/// How many jobs the upkeep's thread is given at once.
const UPKEEP_JOBS_MAX: usize = 4;
/// How many commands that are its jobs may wait until it has done others; what does not fit is refused.
const REMOVALS_MAX: usize = 10_000;
/// How many inputs one batch takes.
const BATCH_MAX: usize = 512;
/// How often the queues' folders are looked through without a hint.
const RESCAN_EVERY: Duration = Duration::from_secs(30);
/// How long nothing has to happen before the tree is synced and a checkpoint written.
const QUIET: Duration = Duration::from_secs(2);
/// How many log lines make a checkpoint due even when it is never quiet.
const LINES_BEFORE_CHECKPOINT: u64 = 10_000;
/// How long a supervisor that could not be started waits for the next try.
const START_AGAIN: Duration = Duration::from_secs(1);
/// How long a supervisor without a run is kept for the next one.
const SPARE_FOR: Duration = Duration::from_secs(5);
/// How often a run may fail to begin before it is given up.
const FALSE_STARTS_MAX: u32 = 5;
/// How often a run whose folder is gone and whose processes live is looked at before they are ended: for longer than its
/// supervisor takes to look, which makes the folder again.
const UPROOTED_LOOKS_MAX: u32 = 60;
/// How large the log grows before it is sealed.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// The threads that work for the deciding one, by what they are given.
struct Workers {
    checkpointer: Sender<checkpoint::Job>,
    upkeep: Sender<upkeep::Job>,
}

struct Daemon {
    spool: Spool,
    layout: Layout,
    /// The spool's folder that we hold; another one at its path is none of ours.
    identity: Option<(u64, u64)>,
    host: Name,
    log: Log<Event>,
    /// The day of its last line.
    log_day: Date,
    /// The line up to which the tree was on disk at the last checkpoint.
    checkpoint_seq: u64,
    queues: Queues,
    /// What this host has, as far as its file could be read.
    resources: Capacities,
    /// What is wrong with that.
    resources_error: Option<String>,
    batch: Vec<Decision>,
    /// Tasks that ended in this batch: what is known of them until their files are placed.
    ended: HashMap<TaskId, queue::Live>,
    /// For the threads that wait for something.
    inputs: Sender<Input>,
    /// Runs that a thread waits for.
    waited_for: HashSet<RunId>,
    /// Supervisors that carry out a run, by the run.
    busy: HashMap<RunId, threads::Serving>,
    /// Supervisors that have nothing to do, and since when.
    idle: Vec<(Moment, threads::Serving)>,
    supervisors_started: u64,
    /// How often a run's supervisor ended before the run had begun.
    false_starts: HashMap<RunId, u32>,
    /// The runs that were live when this daemon started, and how often each was found without a folder.
    inherited: HashMap<RunId, u32>,
    /// Runs to look at again, since their supervisor could not be started.
    start_again: Vec<(Moment, TaskId)>,
    /// Folders and files changed since the last checkpoint.
    touched: BTreeSet<PathBuf>,
    /// The same of the checkpoint that is being written.
    in_checkpoint: BTreeSet<PathBuf>,
    /// What is known of the files that users edit.
    edits: Edits,
    /// Which queues are paused, and how their runs have ended.
    pauses: Pauses,
    /// Tasks for which something that their state owes could not be done, and the state in which their files lie.
    undone: HashMap<TaskId, Option<State>>,
    /// What could not be made durable: the daemon ends with the next commit.
    failed_sync: Option<String>,
    /// Who is to be told, and of what.
    notices: Notices,
    /// Keys that were used, and whose files are not drawn yet, by the digests that name them.
    keys: HashMap<String, repeat::First>,
    /// Lines whose commands could not be answered.
    unanswered: Vec<Line<Event>>,
    /// Why running tasks are to be cancelled, until their runs are told.
    cancel_reasons: HashMap<TaskId, String>,
    /// The notes that runs were given and that were answered in the place of their supervisors, by their claims.
    heard_late: HashMap<TaskId, RunId>,
    checkpointer: Sender<checkpoint::Job>,
    checkpointing: bool,
    upkeep: Sender<upkeep::Job>,
    /// The day for which it has been asked.
    upkeep_day: Option<Date>,
    /// How many jobs that remove what has ended are not done.
    collecting: usize,
    /// Those of them that its thread was not given yet.
    removals: VecDeque<upkeep::Job>,
    /// When it will have been quiet for long enough, if nothing more is decided.
    quiet_at: Moment,
    /// Lets only cancels in while there is a shortage.
    gate: Gate,
    /// Commands that wait for its end.
    postponed: Vec<Postponed>,
    /// When it is looked whether there is room; and when there is, at the latest after what had to wait.
    room_at: Moment,
    look_at_inbox: Sender<()>,
    watch: Watch,
    /// The look through the queues' folders that is under way.
    look: Option<Look>,
    /// When the next one begins.
    look_at: Moment,
    /// When the folders are to be watched anew: one that replaced another is not watched yet.
    watch_again: Moment,
    /// How long the last one took.
    looked_for: Duration,
    inbox_empty: bool,
    record: DaemonRecord,
}

/// Runs the daemon of `spool` until it is asked to end, or, with `drain`, until nothing is left to do.
///
/// # Errors
/// When another daemon holds the spool, or the log cannot be written or something not be synced any more.
pub(crate) fn run(spool: Spool, drain: bool) -> Result<(), DaemonError> {
    let layout = spool.layout.clone();
    let (_spool_lock, host) = occupy(&spool)?;
    let worked = work(spool, host.clone(), drain);
    if let Err(error) = &worked
        && error.is_failed_sync()
    {
        DaemonRecord::new(host).stop(&layout, error.to_string());
    }
    worked
}

/// Takes the spool for this process, and completes its folders; tells also which host this machine is.
fn occupy(spool: &Spool) -> Result<(Lock, Name), DaemonError> {
    let layout = &spool.layout;
    let Some(spool_lock) = lock::try_folder_patiently(layout.root())? else {
        let holder = daemon_record(layout).map(|record| format!(" (pid {})", record.pid)).unwrap_or_default();
        return Err(DaemonError::Held { pid: holder, spool: layout.root().to_owned() });
    };
    for folder in layout.folders() {
        store::make_lasting_dir(&folder)?;
    }
    Ok((spool_lock, spool.host()?))
}

/// The same, under the lock.
fn work(spool: Spool, host: Name, drain: bool) -> Result<(), DaemonError> {
    let layout = spool.layout.clone();
    let (inputs, input) = bounded(INPUTS_MAX);
    let (look_at_inbox, inbox_hints) = bounded(1);
    let (look_at_queues, queue_hints) = bounded(1);
    let watch = Watch::new(layout.inbox(), look_at_inbox.clone(), look_at_queues)?;
    let (checkpointer, jobs) = bounded(1);
    let (upkeep, upkeep_jobs) = bounded(UPKEEP_JOBS_MAX);
    let settle = Duration::from_millis(spool.settings.settle_ms);

    // First of all: a daemon that is asked to end while it starts ends in order.
    let _signals = threads::signals(inputs.clone())?;
    let workers = Workers { checkpointer, upkeep };
    let (mut daemon, claimed) = Daemon::restart(spool, host, inputs.clone(), look_at_inbox, workers, watch)?;
    let inbox = Inbox::new(layout.clone(), settle, claimed, inputs.clone(), daemon.gate.clone());
    let ending = Arc::new(AtomicBool::new(false));
    let upkeep = threads::named("upkeep", {
        let (spool, host, inputs) = (daemon.spool.clone(), daemon.host.clone(), inputs.clone());
        let ending = ending.clone();
        move || upkeep::run(&spool, &host, &upkeep_jobs, &inputs, &ending)
    })?;
    let checkpoint = threads::named("checkpoint", {
        let (layout, inputs) = (layout.clone(), inputs);
        move || checkpoint::run(&layout, &jobs, &inputs)
    })?;
    let _inbox = threads::named("inbox", move || inbox.run(&inbox_hints))?;
    tracing::info!("watching {}", layout.inbox().display());
    daemon.live(&input, &queue_hints, drain)?;
    // The last checkpoint is written before the spool is given up: what a user does from now on is a user's doing.
    drop((daemon, input));
    ending.store(true, Ordering::Relaxed);
    // It stops behind what it has in hand, and panics for nothing that is not told.
    let upkept = upkeep.join().unwrap_or(Ok(()));
    checkpoint
        .join()
        .map_err(|_| DaemonError::Stopped("the last checkpoint was not written".to_owned()))??;
    upkept?;
    Ok(store::remove(&layout.daemon_record())?)
}

impl Daemon {
    fn live(
        &mut self,
        input: &Receiver<Input>,
        hints: &Receiver<()>,
        drain: bool,
    ) -> Result<(), DaemonError> {
        loop {
            let patience = self.turn()?;
            if patience.is_zero() && (self.look.is_none() || !self.batch.is_empty()) {
                // Before any input, so that a busy inbox does not keep it waiting, and what users did comes first.
                continue;
            }
            if drain && self.look.is_none() && self.nothing_left() {
                self.tell_waiting();
                return self.end();
            }
            let first = select! {
                recv(input) -> first => first.ok(),
                recv(hints) -> _ => { self.look_soon(); None },
                default(patience) => None,
            };
            for next in first.into_iter().chain(input.try_iter().take(BATCH_MAX)) {
                if matches!(next, Input::EndAsked) {
                    self.commit()?;
                    return self.end();
                }
                self.take(next);
            }
        }
    }

    /// Does what does not need an input: starts what may start, commits what is decided, sees what time has brought. Tells
    /// for how long there is nothing more of that.
    fn turn(&mut self) -> Result<Duration, DaemonError> {
        let now = clock::now();
        self.start_what_may();
        // Behind it: what becomes ready starts when its file lies there, which the commit sees to.
        self.make_ready_what_is_due(now);
        self.commit()?;
        self.deliver();
        let patience = match &self.look {
            Some(_) => Duration::ZERO,
            None => clock::monotonic().until(self.wake_at(now)),
        };
        if patience.is_zero() {
            self.time_passed()?;
        }
        Ok(patience)
    }

    /// When there is something to do even if nothing happens.
    fn wake_at(&self, now: Timestamp) -> Moment {
        let checkpoint = self.checkpoint_is_due(1).then_some(self.quiet_at);
        let again = self.start_again.iter().map(|(at, _)| *at);
        let spare = self.idle.first().map(|(since, _)| *since + SPARE_FOR);
        let room = self.look_for_room_at().or_else(|| self.late_at());
        // The clock may be set while we sleep: then the look at the queues, which comes soon, finds what is due.
        let due = self.queues.next_time(now).filter(|_| !self.is_short());
        let late = self.queues.next_deadline(now).filter(|_| !self.is_short());
        let told = self.notices.ledger.next_time().filter(|_| !self.is_short());
        let due = due.into_iter().chain(late).chain(told).map(|until| clock::monotonic() + until.since(now));
        let notices = self.notices.next_at().filter(|_| !self.is_short());
        let again = again.chain(notices);
        again.chain(checkpoint).chain(spare).chain(room).chain(due).fold(self.look_at, Moment::min)
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Dropped { origin, asked } => {
                self.inbox_empty = false;
                self.admit_or_postpone(origin, asked);
            }
            Input::InboxEmpty => {
                self.inbox_empty = true;
                self.admit_the_late();
            }
            Input::RunEnded(run) => {
                let serving = self.busy.remove(&run);
                let told = serving.is_some();
                self.idle.extend(serving.map(|serving| (clock::monotonic(), serving)));
                self.waited_for.remove(&run);
                self.look_at(run.task, told);
            }
            Input::SupervisorGone(number) => self.supervisor_gone(number),
            Input::Checkpointed(result) => {
                self.checkpointing = false;
                match result {
                    Ok(seq) => self.checkpoint_seq = seq,
                    Err(failure) => {
                        if !self.note_shortage(failure.shortage, &failure.why) {
                            tracing::error!("no checkpoint was written: {}", failure.why);
                        }
                        // The next one owes these syncs too.
                        self.touched.append(&mut self.in_checkpoint);
                    }
                }
            }
            Input::Collected(collected) => self.collected(collected),
            Input::Notified { notice, undelivered } => self.delivered(notice, undelivered),
            Input::Short(failure) => {
                self.note_shortage(failure.shortage, &failure.why);
            }
            Input::SyncFailed(reason) => drop(self.failed_sync.get_or_insert(reason)),
            Input::EndAsked => unreachable!("because the loop answers it"),
        }
    }

    fn time_passed(&mut self) -> Result<(), DaemonError> {
        let now = clock::monotonic();
        let due: Vec<TaskId> =
            self.start_again.extract_if(.., |(at, _)| *at <= now).map(|(_, task)| task).collect();
        for task in due {
            self.look_at_run(task);
        }
        // Without us to give it runs, an idle supervisor ends.
        self.idle.retain(|(since, _)| *since + SPARE_FOR > now);
        if self.look.is_none() && self.look_at <= now {
            self.begin_to_look()?;
        }
        self.look_on();
        if self.look_for_room_at().is_some_and(|at| at <= now) {
            self.look_for_room();
        } else if self.late_at().is_some_and(|at| at <= now) {
            self.admit_the_late();
        }
        if self.quiet_at <= now && self.checkpoint_is_due(1) {
            self.checkpoint();
        }
        Ok(())
    }

    /// Has the queues' folders looked through soon: not at once, since most changes are our own, and looking takes the
    /// longer the more lies there.
    fn look_soon(&mut self) {
        const SOON: Duration = Duration::from_millis(30);
        let soon = clock::monotonic() + SOON.max(self.looked_for * 10);
        self.look_at = self.look_at.min(soon);
    }

    /// Whether so many lines wait for a checkpoint, and nothing stands in its way: it must not tell what no line tells
    /// yet, nor pass over a line whose moves could not be made.
    fn checkpoint_is_due(&self, lines: u64) -> bool {
        let behind = self.log.last_seq() >= self.checkpoint_seq + lines;
        behind && !self.checkpointing && !self.is_short() && self.batch.is_empty() && self.all_is_done()
    }

    /// Whether the tree shows all that the log says. A checkpoint says so, and the next start believes it.
    fn all_is_done(&self) -> bool {
        let pictures = self.undone.is_empty() && self.edits.owed.is_empty() && self.pauses.are_drawn();
        pictures && self.unanswered.is_empty()
    }

    fn is_unanswered(&self, claim: TaskId) -> bool {
        self.unanswered.iter().filter_map(|line| line.event.origin()).any(|origin| origin.claim == claim)
    }

    fn end(&mut self) -> Result<(), DaemonError> {
        self.batch.push(Decision {
            event: Event::DaemonStopped { pid: process::id() },
            effects: vec![],
            before: None,
        });
        self.commit()?;
        if self.is_short() {
            // It may have been found out just now; and then the end gets some of the reserve.
            self.commit()?;
        }
        if self.all_is_done() {
            self.checkpoint();
        }
        Ok(())
    }
}
