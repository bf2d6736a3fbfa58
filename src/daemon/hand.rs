//! What users do by hand in `ready/`, `waiting/` and `held/`: re-rank by `mv`, hold by `mv`, cancel by `rm`. What they
//! write into the files of tasks, `edits` takes.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use crate::clock;
use crate::event::By;
use crate::id::{Name, Rank, TaskId};
use crate::layout::ENDED_FOLDERS;
use crate::queue;
use crate::refusal::{Kind, Refusal};
use crate::spool;
use crate::store::{self, StoreError};
use crate::task::{self, State};

use super::batch::Told;
use super::look::{AtQueue, Beside, Place};
use super::{Daemon, DaemonError, RESCAN_EVERY};

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
    pub(super) fn settle(&self) -> Duration {
        Duration::from_millis(self.spool.settings.settle_ms)
    }

    fn watched_of(&self, queue: &Name) -> [PathBuf; 4] {
        let layout = &self.layout;
        [layout.queue(queue), layout.ready(queue), layout.waiting(queue), layout.held(queue)]
    }

    /// Whether the folders are there in which users move files.
    pub(super) fn has_folders(&self, queue: &Name) -> bool {
        self.watched_of(queue).iter().all(|folder| store::exists(folder))
    }

    /// Makes the spool's folders that somebody removed, and has a new one watched like the one that was there.
    pub(super) fn mend(&mut self) -> Result<(), DaemonError> {
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

    /// Compares where a task's file lies with where it belongs, and takes note of what a user did.
    pub(super) fn compare(
        &mut self,
        look: &mut AtQueue,
        task: TaskId,
        place: Place,
    ) -> Result<(), StoreError> {
        let queue = &look.queue;
        let places = look.found.remove(&task);
        if places.is_some() {
            self.edits.missing.remove(&task);
        }
        match places {
            // What is listed is older than what is known.
            _ if self.undone.contains_key(&task) || self.place_of(task) != Some(place) => {}
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
            None if self.is_in_place(task)
                || self.is_brought_back(look, task, place)?
                || self.is_being_saved(look, task)? => {}
            None => {
                let told = Told { reason: Some("its file was removed".to_owned()), ..Told::by(By::Hand) };
                self.decide(task, &task::Event::CancelAsked, told);
            }
        }
        Ok(())
    }

    /// What was started or ended while its file was being moved lies here a second time.
    pub(super) fn compare_rest(&mut self, queue: &Name, task: TaskId, places: &BTreeSet<Place>) {
        if self.lies_elsewhere(queue, task) {
            self.look_at_copies(queue, task, None, places);
        }
    }

    /// Brings a file back that was moved into another queue, where it would not be known.
    fn is_brought_back(&self, look: &mut AtQueue, task: TaskId, place: Place) -> Result<bool, StoreError> {
        let queue = &look.queue;
        if look.elsewhere.is_none() {
            let mut elsewhere = HashMap::new();
            for other in self.queues.names().into_iter().filter(|other| other != queue) {
                for (task, places) in self.found(&other)? {
                    elsewhere.extend(places.first().map(|place| (task, (other.clone(), *place))));
                }
            }
            look.elsewhere = Some(elsewhere);
        }
        let Some((other, there)) = look.elsewhere.as_ref().and_then(|elsewhere| elsewhere.get(&task)) else {
            return Ok(false);
        };
        tracing::warn!("task {task} was moved to the queue {other}; cancel it and submit it there");
        store::rename(&self.path_at(other, task, *there), &self.path_at(queue, task, place))?;
        Ok(true)
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

    /// Whether a file is missing because it is being moved, or because an editor saves it, which some do by moving it aside
    /// first: then something else bears the task's id. It is not waited for longer than a file has to settle.
    fn is_being_saved(&mut self, look: &mut AtQueue, task: TaskId) -> Result<bool, StoreError> {
        let beside = match &mut look.beside {
            Some(beside) => beside,
            beside @ None => {
                let [_, folders @ ..] = self.watched_of(&look.queue);
                let names =
                    folders.iter().map(|folder| store::names(folder)).collect::<Result<Vec<_>, _>>()?;
                beside.insert(Beside::of(names.into_iter().flatten()))
            }
        };
        let (is_there, is_beside) = (beside.tasks.contains(&task), beside.has_id(task));
        if is_there {
            self.look_soon();
        }
        if is_there || self.is_in_place(task) {
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
    pub(super) fn draw_again(&mut self, queue: &Name) -> Result<(), StoreError> {
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
