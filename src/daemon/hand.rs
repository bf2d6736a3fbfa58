//! What users do by hand in `ready/`, `waiting/` and `held/`: re-rank by `mv`, hold by `mv`, cancel by `rm`. What they
//! write into the files of tasks, `edits` takes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::event::By;
use crate::id::{Name, Rank, TaskId};
use crate::layout::{self, ENDED_FOLDERS};
use crate::queue;
use crate::refusal::{Kind, Refusal};
use crate::spool;
use crate::store::{self, StoreError};
use crate::task::{self, State};
use crate::time::Moment;

use super::batch::Told;
use super::{Daemon, DaemonError, RESCAN_EVERY};

/// The least time between two looks for a file that somebody saves.
const SOON: Duration = Duration::from_millis(100);

/// Where a task's file lies, as far as a user may put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Ready(Rank),
    Held,
    Waiting,
}

/// Where the files of tasks were found.
type Found = BTreeMap<TaskId, BTreeSet<Place>>;

impl Daemon {
    /// Makes a queue's folders complete, reads its settings and watches it.
    pub(super) fn open_queue(&mut self, queue: &Name) -> Result<(), DaemonError> {
        self.make_queue(queue)?;
        self.queues.queue_mut(queue);
        self.read_settings(queue);
        let known = self.queues.queue_mut(queue);
        if known.settings_error.is_some() {
            // Nobody knows how much may run: the last good ones were known to another daemon.
            known.settings.slots = 0;
        }
        for folder in self.watched_of(queue) {
            self.watch.add(&folder)?;
        }
        Ok(())
    }

    /// The same for a command that is about it.
    pub(super) fn open_asked(&mut self, queue: &Name) -> Result<(), Refusal> {
        self.open_queue(queue).map_err(|error| {
            self.note_trouble(error.store());
            Refusal::new(Kind::Unreadable, error.to_string()).for_now(error.shortage())
        })
    }

    /// The folders of a queue, and its settings if they are not there.
    fn make_queue(&self, queue: &Name) -> Result<(), StoreError> {
        spool::make_queue(&self.layout, queue, &self.host, &self.settings_of(queue))
    }

    /// How long a file must have been quiet.
    fn settle(&self) -> Duration {
        Duration::from_millis(self.spool.settings.settle_ms)
    }

    fn watched_of(&self, queue: &Name) -> [PathBuf; 4] {
        let layout = &self.layout;
        [layout.queue(queue), layout.ready(queue), layout.waiting(queue), layout.held(queue)]
    }

    /// Whether the folders are there in which users move files.
    fn has_folders(&self, queue: &Name) -> bool {
        self.watched_of(queue).iter().all(|folder| store::exists(folder))
    }

    /// Looks through the folders of all queues, and takes note of what users did.
    pub(super) fn look_at_queues(&mut self) -> Result<(), DaemonError> {
        let begin = clock::monotonic();
        self.mend()?;
        self.do_undone();
        self.read_host_settings();
        for queue in self.queues.names() {
            self.read_settings(&queue);
            if let Err(error) = self.look_at_queue(&queue)
                && !self.note_trouble(Some(&error))
            {
                tracing::error!("queue {queue}: {error}");
            }
        }
        self.look_at_room();
        self.look_at_day();
        let end = clock::monotonic();
        self.looked_for = begin.until(end);
        let unsettled = self.edits.files.look_at();
        self.edits.missing.retain(|task, _| self.queues.task(*task).is_some());
        let saved = self.edits.missing.values().map(|since| (*since + self.settle()).max(end + SOON)).min();
        self.look_at = unsettled.into_iter().chain(saved).fold(end + RESCAN_EVERY, Moment::min);
        Ok(())
    }

    /// Makes the spool's folders that somebody removed, and has a new one watched like the one that was there.
    fn mend(&mut self) -> Result<(), DaemonError> {
        let root = self.layout.root();
        if store::identity(root) != self.identity {
            let reason = format!("{} was removed or replaced", root.display());
            return Err(DaemonError::Stopped(reason));
        }
        let mut watched = vec![self.layout.inbox(), self.layout.hosts()];
        for queue in self.queues.names() {
            watched.extend(self.watched_of(&queue));
        }
        let mended = store::make_missing(&self.layout.folders());
        let was_missing = mended.as_ref().is_ok_and(|missing| *missing);
        // What we say of ourselves went with `.local/`.
        let told = match mended {
            Ok(true) => self.record.draw(&self.layout),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = told
            && !self.note_trouble(Some(&error))
        {
            tracing::error!("{error}");
        }
        let now = clock::monotonic();
        if was_missing || self.watch_again <= now {
            self.watch_again = now + RESCAN_EVERY;
            // A folder that is missing is told, and made, when its queue is looked at.
            for folder in watched.into_iter().filter(|folder| store::exists(folder)) {
                if let Err(error) = self.watch.add(&folder) {
                    tracing::error!("{error}");
                }
            }
        }
        Ok(())
    }

    fn look_at_queue(&mut self, queue: &Name) -> Result<(), StoreError> {
        if !self.has_folders(queue) {
            // Somebody removed a folder, and not each task in it: what is known is drawn again.
            return self.draw_again(queue);
        }
        let mut found = self.found(queue)?;
        let mut beside = None;
        for (task, place) in self.expected(queue) {
            let places = found.remove(&task);
            if places.is_some() {
                self.edits.missing.remove(&task);
            }
            match places {
                // What is written there is looked at when there is room for a line about it.
                Some(_) if self.is_short() => {}
                // Where it is seen in two places it may have been moved while they were listed.
                Some(places) if places.contains(&place) && (places.len() == 1 || self.is_in_place(task)) => {
                    self.look_at_file(task, &self.path_at(queue, task, place));
                    self.look_at_copies(queue, task, Some(place), &places);
                }
                Some(mut places) => {
                    places.remove(&place);
                    self.moved_by_hand(queue, task, place, &places)?;
                }
                None if self.undone.contains_key(&task)
                    || self.is_in_place(task)
                    || self.is_brought_back(queue, task, place)?
                    || self.is_being_saved(queue, task, &mut beside)? => {}
                None => {
                    let told = Told { reason: Some("its file was removed".to_owned()), ..Told::by(By::Hand) };
                    self.decide(task, &task::Event::CancelAsked, told);
                }
            }
        }
        // What was started or ended while its file was being moved lies here a second time.
        for (task, places) in found {
            if self.lies_elsewhere(queue, task) {
                self.look_at_copies(queue, task, None, &places);
            }
        }
        Ok(())
    }

    /// Lists a queue's folders. Waiting and ready are listed twice, around held: what is moved from one of them to another
    /// meanwhile is seen at least once.
    fn found(&self, queue: &Name) -> Result<Found, StoreError> {
        let mut found = BTreeMap::new();
        self.list_waiting(queue, &mut found)?;
        self.list_ready(queue, &mut found)?;
        self.list_held(queue, &mut found)?;
        self.list_ready(queue, &mut found)?;
        self.list_waiting(queue, &mut found)?;
        Ok(found)
    }

    /// Where the files of a queue's tasks belong, as far as a user may move them.
    fn expected(&self, queue: &Name) -> Vec<(TaskId, Place)> {
        let Some(known) = self.queues.queue(queue) else { return Vec::new() };
        let ready = known.ready.iter().map(|(rank, task)| (task, Place::Ready(rank)));
        let waiting = known.waiting.iter().map(|task| (*task, Place::Waiting));
        ready.chain(waiting).chain(known.held.iter().map(|task| (*task, Place::Held))).collect()
    }

    fn list_ready(&self, queue: &Name, found: &mut Found) -> Result<(), StoreError> {
        self.list(&self.layout.ready(queue), found, |rank, task| {
            let rank = rank.or_else(|| self.known_rank(task)).unwrap_or_default();
            (Place::Ready(rank), self.layout.ready_task(queue, rank, task))
        })
    }

    fn known_rank(&self, task: TaskId) -> Option<Rank> {
        match self.queues.task(task)?.state {
            State::Held { rank, .. } | State::Waiting { rank, .. } | State::Ready { rank, .. } => Some(rank),
            State::Active { .. } | State::Cancelling { .. } | State::Ended { .. } => None,
        }
    }

    fn list_held(&self, queue: &Name, found: &mut Found) -> Result<(), StoreError> {
        self.list(&self.layout.held(queue), found, |_, task| {
            (Place::Held, self.layout.held_task(queue, task))
        })
    }

    fn list_waiting(&self, queue: &Name, found: &mut Found) -> Result<(), StoreError> {
        self.list(&self.layout.waiting(queue), found, |_, task| {
            (Place::Waiting, self.layout.waiting_task(queue, task))
        })
    }

    /// Lists the tasks in a folder. A file whose name is not the one that a task has there, as after `mv held/x.json
    /// ready/`, gets it.
    fn list(
        &self,
        folder: &Path,
        found: &mut Found,
        named: impl Fn(Option<Rank>, TaskId) -> (Place, PathBuf),
    ) -> Result<(), StoreError> {
        for name in store::names(folder)? {
            let Some((rank, task)) = layout::parse_queued_name(&name) else { continue };
            let (place, path) = named(rank, task);
            let there = folder.join(&name);
            if there != path {
                match store::rename(&there, &path) {
                    Err(error) if !error.is_not_found() => return Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
            found.entry(task).or_default().insert(place);
        }
        Ok(())
    }

    /// Brings a file back that was moved into another queue, where it would not be known.
    fn is_brought_back(&self, queue: &Name, task: TaskId, place: Place) -> Result<bool, StoreError> {
        for other in self.queues.names().iter().filter(|other| *other != queue) {
            let found = self.found(other)?;
            if let Some(there) = found.get(&task).and_then(|places| places.first()) {
                tracing::warn!("task {task} was moved to the queue {other}; cancel it and submit it there");
                store::rename(&self.path_at(other, task, *there), &self.path_at(queue, task, place))?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn path_at(&self, queue: &Name, task: TaskId, place: Place) -> PathBuf {
        match place {
            Place::Ready(rank) => self.layout.ready_task(queue, rank, task),
            Place::Held => self.layout.held_task(queue, task),
            Place::Waiting => self.layout.waiting_task(queue, task),
        }
    }

    /// Whether a task is running or has ended, so that its file belongs into none of the folders above.
    fn lies_elsewhere(&self, queue: &Name, task: TaskId) -> bool {
        if self.queues.task(task).is_some() {
            return self.is_in_place(task);
        }
        ENDED_FOLDERS.iter().any(|folder| store::exists(&self.layout.ended_task(queue, folder, task)))
    }

    /// A task's file lies elsewhere than it did: that is what the user wants. But nothing waits because its file was put
    /// there, since there is nothing that it would wait for.
    fn moved_by_hand(
        &mut self,
        queue: &Name,
        task: TaskId,
        from: Place,
        places: &BTreeSet<Place>,
    ) -> Result<(), StoreError> {
        let Some(to) = places.first() else { return Ok(()) };
        if !self.look_at_file(task, &self.path_at(queue, task, *to)) {
            // Somebody writes there still.
            return Ok(());
        }
        let ranked = |rank: &Rank| task::Event::RankAsked(*rank);
        let events = match to {
            Place::Ready(rank) => match from {
                Place::Ready(_) => vec![ranked(rank)],
                Place::Waiting => vec![ranked(rank), task::Event::ReleaseAsked],
                // One that has a time waits when it is released, and is ready when it is released again.
                Place::Held => vec![ranked(rank), task::Event::ReleaseAsked, task::Event::ReleaseAsked],
            },
            Place::Held => vec![task::Event::HoldAsked],
            Place::Waiting => {
                tracing::warn!("task {task} was moved into waiting/ by hand; it is put back");
                let (there, belongs) = (self.path_at(queue, task, *to), self.path_at(queue, task, from));
                return store::rename(&there, &belongs);
            }
        };
        for event in &events {
            self.decide(task, event, Told::by(By::Hand));
        }
        Ok(())
    }

    /// A file that lies in two places, as after a crash between two steps, or when an editor saves what has moved
    /// meanwhile: where it belongs counts, unless the other says something else.
    fn look_at_copies(&mut self, queue: &Name, task: TaskId, place: Option<Place>, places: &BTreeSet<Place>) {
        let in_place = place.map(|place| self.path_at(queue, task, place));
        for copy in places.iter().filter(|copy| Some(**copy) != place) {
            self.look_at_copy(task, in_place.as_deref(), &self.path_at(queue, task, *copy));
        }
    }

    /// Whether a file is missing because an editor saves it, which some do by moving it aside first: then something else
    /// bears the task's id. It is not waited for longer than a file has to settle. `beside` is what lies beside tasks.
    fn is_being_saved(
        &mut self,
        queue: &Name,
        task: TaskId,
        beside: &mut Option<Vec<String>>,
    ) -> Result<bool, StoreError> {
        if beside.is_none() {
            let [_, folders @ ..] = self.watched_of(queue);
            let mut names = Vec::new();
            for folder in folders {
                names.extend(store::names(&folder)?);
            }
            names.retain(|name| layout::parse_queued_name(name).is_none());
            *beside = Some(names);
        }
        let id = task.to_string();
        let is_beside = beside.iter().flatten().any(|name| name.contains(&id));
        if self.is_in_place(task) {
            return Ok(true);
        }
        let now = clock::monotonic();
        let until = *self.edits.missing.entry(task).or_insert(now) + self.settle();
        if is_beside && now < until {
            return Ok(true);
        }
        self.edits.missing.remove(&task);
        Ok(false)
    }

    /// Draws the folders of a queue and its ready, waiting and held tasks anew.
    fn draw_again(&mut self, queue: &Name) -> Result<(), StoreError> {
        tracing::warn!("the folders of queue {queue} were gone; they are drawn again");
        self.make_queue(queue)?;
        let in_queue = |live: &queue::Live| live.spec.queue == *queue;
        let tasks: Vec<(TaskId, State)> = self
            .queues
            .tasks()
            .filter(|(_, live)| in_queue(live))
            .map(|(task, live)| (task, live.state.clone()))
            .collect();
        for (task, state) in tasks {
            if !self.is_in_place(task) {
                self.place(task, &state, None)?;
            }
        }
        for folder in self.watched_of(queue) {
            if let Err(error) = self.watch.add(&folder) {
                tracing::error!("{error}");
            }
        }
        Ok(())
    }
}
