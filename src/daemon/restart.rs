//! Starting: what the log says and what the tree shows are brought together, and what is owed is done.
//!
//! The moves after the checkpoint are done again; each is safe to repeat. What differs from the log before the
//! checkpoint is a user's doing, and adopted as such. Then every live task gets what its state owes: the same effects
//! that its last transition asked for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::clock;
use crate::event::{Event, Origin};
use crate::history;
use crate::id::{Name, RunId, TaskId};
use crate::inbox::{self, Edited, Gate};
use crate::input::Input;
use crate::jsonl::Line;
use crate::layout::{self, Layout};
use crate::log::Log;
use crate::mutant::{self, Mutant};
use crate::picture;
use crate::process;
use crate::queue::{Live, Queues};
use crate::removed;
use crate::reserve;
use crate::resource::Capacities;
use crate::spool::Spool;
use crate::store::{self, StoreError};
use crate::task::{self, Effect, State};
use crate::watch::Watch;

use super::batch::Decision;
use super::checkpoint;
use super::edits::{self, Edits};
use super::known::{Known, fold};
use super::notices::Notices;
use super::pauses::Pauses;
use super::perform::folder_of;
use super::said::{Late, Said, said};
use super::{Daemon, DaemonError, DaemonRecord, RESCAN_EVERY, Workers, daemon_record, trouble};

impl Daemon {
    /// Takes up the work where the last daemon left it. Returns also the files that it had taken and not answered.
    pub(super) fn restart(
        spool: Spool,
        host: Name,
        inputs: Sender<Input>,
        look_at_inbox: Sender<()>,
        workers: Workers,
        watch: Watch,
    ) -> Result<(Daemon, Vec<Origin>), DaemonError> {
        let layout = spool.layout.clone();
        // What lies in them may have been made by somebody who was killed before it was on disk.
        layout.folders().iter().try_for_each(|folder| store::sync_dir(folder))?;
        store::make_lasting_dir(&layout.events_of(&host))?;
        let sealed = history::segments(&layout, &host)?.last().map_or(0, |(last, _)| *last);
        let checkpoint = checkpoint::read(&layout)?;
        let (checkpoint_seq, paused) = (checkpoint.seq, checkpoint.queues.clone());
        let last = daemon_record(&layout);
        trust(&layout, &host, last.is_some())?;
        // A number that was given is never given again, even if somebody removed the log.
        let opened = Log::open(&layout.now(&host), sealed.max(checkpoint_seq))?;
        let lines = history::lines_after(&layout, &host, checkpoint_seq)?;
        let (known, ledger) = fold(&layout, &host, checkpoint, &lines)?;
        let queue_of = |task: TaskId| known.get(&task).map(|known| known.spec.queue.clone());
        let pauses = Pauses::known(paused, &lines, queue_of);
        let record = DaemonRecord::new(host.clone());
        let edits = Edits::new(Edited::new(Duration::from_millis(spool.settings.settle_ms)));
        let now = clock::monotonic();
        let mut daemon = Daemon {
            identity: store::identity(layout.root()),
            layout,
            spool,
            host,
            log_day: opened.last_at.unwrap_or_else(clock::now).date(),
            log: opened.log,
            checkpoint_seq,
            queues: Queues::default(),
            resources: Capacities::new(),
            resources_error: None,
            batch: Vec::new(),
            ended: HashMap::new(),
            inputs,
            waited_for: HashSet::new(),
            busy: HashMap::new(),
            idle: Vec::new(),
            supervisors_started: 0,
            false_starts: HashMap::new(),
            inherited: HashMap::new(),
            start_again: Vec::new(),
            touched: std::collections::BTreeSet::new(),
            in_checkpoint: std::collections::BTreeSet::new(),
            edits,
            pauses,
            undone: HashMap::new(),
            failed_sync: None,
            notices: Notices::new(ledger),
            keys: HashMap::new(),
            unanswered: Vec::new(),
            cancel_reasons: HashMap::new(),
            heard_late: HashMap::new(),
            checkpointer: workers.checkpointer,
            checkpointing: false,
            upkeep: workers.upkeep,
            upkeep_day: None,
            collecting: 0,
            removals: std::collections::VecDeque::new(),
            quiet_at: now,
            gate: Gate::default(),
            postponed: Vec::new(),
            room_at: now,
            look_at_inbox,
            watch,
            look: None,
            look_at: now,
            watch_again: now + RESCAN_EVERY,
            looked_for: Duration::ZERO,
            inbox_empty: false,
            record,
        };
        let anew = last.is_some_and(|last| last.stopped.is_some());
        let claimed = daemon.take_up(known, &lines, opened.repaired, anew)?;
        Ok((daemon, claimed))
    }

    fn take_up(
        &mut self,
        mut known: BTreeMap<TaskId, Known>,
        lines: &[Line<Event>],
        repaired: Vec<String>,
        anew: bool,
    ) -> Result<Vec<Origin>, DaemonError> {
        self.miss_folders(&mut known)?;
        self.read_host_settings();
        self.watch.add(&self.layout.hosts())?;
        let queues = store::names(&self.layout.queues())?;
        let queues = queues.iter().filter_map(|name| name.parse::<Name>().ok());
        for queue in queues.filter(|queue| store::is_folder(&self.layout.queue(queue))).collect::<Vec<_>>() {
            self.open_queue(&queue)?;
        }
        let mut late = Vec::new();
        for (task, known) in known {
            late.extend(self.redo(task, known)?);
        }
        for line in lines {
            self.answer(line);
        }
        let answered: HashSet<TaskId> =
            lines.iter().filter_map(|line| Some(line.event.origin()?.claim)).collect();
        let claimed = inbox::claimed_files(&self.layout)?;
        let claimed = claimed.into_iter().filter(|origin| !answered.contains(&origin.claim)).collect();
        if anew {
            self.draw_anew()?;
        }
        self.sweep()?;
        let repaired = trouble::in_short(repaired);
        for message in &repaired {
            tracing::warn!("{message}");
        }
        self.record.draw(&self.layout)?;
        let event =
            Event::DaemonStarted { pid: self.record.pid, version: self.record.version.clone(), repaired };
        self.batch.push(Decision { event, effects: vec![], before: None });
        for Late { task, path, state, belongs } in late {
            self.refuse_text(task, &path, edits::too_late(task, &state), belongs);
        }
        self.look_through()?;
        self.pause_what_is_broken();
        self.commit()?;
        let live: Vec<(TaskId, State)> =
            self.queues.tasks().map(|(task, live)| (task, live.state.clone())).collect();
        let runs = live
            .iter()
            .filter_map(|(task, state)| Some(RunId { task: *task, attempt: state.live_attempt()? }));
        self.inherited = runs.map(|run| (run, 0)).collect();
        for (task, state) in live {
            for effect in task::owed(&state).into_iter().filter(|effect| *effect != Effect::Place) {
                self.perform(task, &state, Some(&state), effect);
            }
        }
        Ok(claimed)
    }

    /// Has the waiting tasks drawn again whose folders are gone: nobody has removed each of them to cancel it. The
    /// checkpoint goes first, since it says that they are there: a start that is cut short would leave empty folders.
    fn miss_folders(&self, known: &mut BTreeMap<TaskId, Known>) -> Result<(), StoreError> {
        let is_gone = |queue: &Name| {
            !store::exists(&self.layout.ready(queue)) || !store::exists(&self.layout.held(queue))
        };
        let queues: HashSet<Name> = known.values().map(|known| known.spec.queue.clone()).collect();
        let mut gone: HashSet<Name> = queues.into_iter().filter(is_gone).collect();
        // Older versions made no folder for waiting tasks.
        let waiting = known.values().filter(|known| matches!(known.state, State::Waiting { .. }));
        let waiting = waiting.map(|known| &known.spec.queue);
        gone.extend(waiting.filter(|queue| !store::exists(&self.layout.waiting(queue))).cloned());
        let mut missed = false;
        for (task, known) in known.iter_mut().filter(|(_, known)| gone.contains(&known.spec.queue)) {
            let target = self.path_of(&known.spec.queue, *task, &known.state);
            if !known.state.is_ended() && !store::exists(&target) && known.places.is_empty() {
                known.places.push(target);
                missed = true;
            }
        }
        if missed {
            store::remove(&self.layout.checkpoint())?;
            store::sync_parent(&self.layout.checkpoint())?;
        }
        Ok(())
    }

    /// Draws what was changed since the checkpoint into new files: a sync has failed, and of the old ones nobody knows what
    /// is on disk. Refused files are their writers', and stay as they are.
    fn draw_anew(&self) -> Result<(), StoreError> {
        let pictures = [self.layout.queues(), self.layout.receipts(), self.layout.runs()];
        let is_picture =
            |path: &&PathBuf| pictures.iter().any(|folder| path.starts_with(folder)) && store::is_file(path);
        for path in self.touched.iter().filter(is_picture) {
            store::draw(&self.layout, path, &store::read(path)?)?;
        }
        Ok(())
    }

    /// Removes files that a process was writing when it ended. One whose number is ours is gone: we have written nothing
    /// yet, and where few programs run, such as in a container, a daemon often gets the number of the one before it.
    fn sweep(&self) -> Result<(), StoreError> {
        for name in store::names(&self.layout.tmp())? {
            let lives = |pid| pid != process::id() && process::is_alive(pid);
            if layout::parse_aside_name(&name).is_none_or(|pid| !lives(pid)) {
                // What is no file is not ours, and in nobody's way.
                if let Err(error) = store::remove(&self.layout.tmp().join(&name)) {
                    tracing::warn!("{error}");
                }
            }
        }
        Ok(())
    }

    /// Draws a task where the log says that it is, and takes it into the queues. What a user wrote there stays, and is looked
    /// at with all others; or it comes too late, and is told of.
    fn redo(&mut self, task: TaskId, known: Known) -> Result<Vec<Late>, DaemonError> {
        let Known { state, spec, spec_seq, earlier, places } = known;
        let mut late = Vec::new();
        let rests = !state.is_ended() && state.live_attempt().is_none();
        let of_users =
            [self.layout.ready(&spec.queue), self.layout.waiting(&spec.queue), self.layout.held(&spec.queue)];
        if self.queues.queue(&spec.queue).is_none() {
            store::make_lasting_dir(&self.layout.queue(&spec.queue))?;
            self.open_queue(&spec.queue)?;
        }
        let target = self.path_of(&spec.queue, task, &state);
        // What was removed when it had ended is not drawn again, however far back the log is gone through.
        if state.is_ended() && removed::look(&self.layout, task)?.is_some() {
            return Ok(late);
        }
        if !places.is_empty() {
            let bytes = picture::task(&spec, &state);
            let layout = &self.layout;
            reserve::spend_all(layout, || store::make_lasting_dir(&folder_of(&target)))?;
            match said(&target, (&spec, &state), &earlier.in_place())? {
                Said::Nothing | Said::Earlier => {
                    reserve::spend_all(layout, || store::draw(layout, &target, &bytes))?;
                }
                Said::Other if !rests => {
                    let belongs = Some((target.clone(), bytes));
                    late.push(Late { task, path: target.clone(), state: state.clone(), belongs });
                }
                Said::Now | Said::Other => {}
            }
            for place in places.iter().filter(|place| **place != target) {
                match said(place, (&spec, &state), &earlier)? {
                    Said::Nothing | Said::Now | Said::Earlier => store::remove(place)?,
                    // Somebody saved it where it lay before.
                    Said::Other if rests && of_users.contains(&folder_of(place)) => {}
                    Said::Other => {
                        late.push(Late { task, path: place.clone(), state: state.clone(), belongs: None });
                    }
                }
                self.touch(Some(place));
            }
            self.touch(Some(&target));
            for attempt in 1..=state.attempts_over() {
                self.draw_record_again(RunId { task, attempt })?;
            }
        }
        if !state.is_ended() {
            self.queues.insert(task, Live { state, spec, spec_seq });
        }
        Ok(late)
    }
}

/// Makes what can be read of the log what is on disk. A daemon that was killed may not have synced its last lines; and
/// after a failed sync, of which it may not even have been able to tell, the kernel takes lines for written that are not,
/// so that only a new file helps.
fn trust(layout: &Layout, host: &Name, ended_out_of_order: bool) -> Result<(), StoreError> {
    let now = layout.now(host);
    match store::read_if_there(&now)? {
        Some(bytes) if ended_out_of_order && !mutant::breaks(Mutant::LogTrusted) => {
            reserve::spend_all(layout, || store::replace(layout, &now, &bytes))
        }
        Some(_) | None if mutant::breaks(Mutant::LogTrusted) => Ok(()),
        Some(_) | None => store::sync_file(&now),
    }
}
