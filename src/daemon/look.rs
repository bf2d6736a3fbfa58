//! Looks through `ready/`, `waiting/` and `held/` of all queues, for what users did there: some tasks at a time, so that a
//! full queue keeps nothing else waiting.
//!
//! What was listed grows old while other things are done. Of a task that the daemon itself has moved since, it says
//! nothing; the next look finds out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::id::{Name, Rank, TaskId};
use crate::layout;
use crate::store::{self, StoreError};
use crate::task::State;
use crate::time::Moment;

use super::{Daemon, DaemonError, RESCAN_EVERY};

/// How many names or tasks are gone through at a time: a few milliseconds' worth.
const AT_A_TIME: usize = if cfg!(test) { 1 } else { 500 };
/// The least time between two looks for a file that somebody saves.
const SOON: Duration = Duration::from_millis(100);

/// Where a task's file lies, as far as a user may put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Ready(Rank),
    Held,
    Waiting,
}

/// Where the files of tasks were found.
pub(super) type Found = BTreeMap<TaskId, BTreeSet<Place>>;

/// A look that is under way.
pub(super) struct Look {
    /// The queues that it has not come to.
    queues: Vec<Name>,
    at: Option<AtQueue>,
    /// Tasks whose files we have moved or drawn since it began.
    moved: HashSet<TaskId>,
    took: Duration,
}

/// How far it has come with a queue.
pub(super) struct AtQueue {
    pub(super) queue: Name,
    step: Step,
    pub(super) found: Found,
    /// Where the other queues' folders have tasks, once that matters.
    pub(super) elsewhere: Option<HashMap<TaskId, (Name, Place)>>,
    /// What lay in the queue's folders when a file was missing.
    pub(super) beside: Option<Beside>,
}

enum Step {
    List { folders: std::vec::IntoIter<Folder>, names: Option<(Folder, std::vec::IntoIter<String>)> },
    Compare(std::vec::IntoIter<(TaskId, Place)>),
    CompareRest,
}

/// The folders that users move files in.
#[derive(Clone, Copy, Debug)]
enum Folder {
    Ready,
    Held,
    Waiting,
}

/// Waiting and ready are listed twice, around held: what is moved from one of them to another meanwhile is seen at least
/// once.
const FOLDERS: [Folder; 5] = [Folder::Waiting, Folder::Ready, Folder::Held, Folder::Ready, Folder::Waiting];

/// What lies in a queue's folders.
pub(super) struct Beside {
    pub(super) tasks: HashSet<TaskId>,
    /// The names of other files.
    others: Vec<String>,
}

impl Beside {
    pub(super) fn of(names: impl Iterator<Item = String>) -> Beside {
        let mut beside = Beside { tasks: HashSet::new(), others: Vec::new() };
        for name in names {
            match layout::parse_queued_name(&name) {
                Some((_, task)) => drop(beside.tasks.insert(task)),
                None => beside.others.push(name),
            }
        }
        beside
    }

    /// Whether another file bears the task's id.
    pub(super) fn has_id(&self, task: TaskId) -> bool {
        let id = task.to_string();
        self.others.iter().any(|name| name.contains(&id))
    }
}

impl AtQueue {
    fn new(queue: Name) -> AtQueue {
        let step = Step::List { folders: FOLDERS.to_vec().into_iter(), names: None };
        AtQueue { queue, step, found: Found::new(), elsewhere: None, beside: None }
    }
}

impl Daemon {
    /// Looks through the folders of all queues at once.
    pub(super) fn look_through(&mut self) -> Result<(), DaemonError> {
        self.begin_to_look()?;
        while self.look.is_some() {
            self.look_on();
        }
        Ok(())
    }

    /// Begins to look through them.
    pub(super) fn begin_to_look(&mut self) -> Result<(), DaemonError> {
        let begin = clock::monotonic();
        self.mend()?;
        self.do_undone();
        self.read_host_settings();
        let (queues, moved) = (self.queues.names(), HashSet::new());
        // What is asked for from now on is the next one.
        self.look_at = begin + RESCAN_EVERY;
        self.look = Some(Look { queues, at: None, moved, took: begin.until(clock::monotonic()) });
        Ok(())
    }

    /// Goes on with it for a while.
    pub(super) fn look_on(&mut self) {
        let begin = clock::monotonic();
        let Some(look) = &mut self.look else { return };
        let at = look.at.take().or_else(|| look.queues.pop().map(AtQueue::new));
        match at {
            Some(mut at) => {
                let is_over = self.look_at_queue(&mut at).unwrap_or_else(|error| {
                    if !self.note_trouble(Some(&error)) {
                        tracing::error!("queue {}: {error}", at.queue);
                    }
                    true
                });
                if let Some(look) = &mut self.look {
                    look.at = (!is_over).then_some(at);
                    look.took += begin.until(clock::monotonic());
                }
            }
            None => self.end_look(),
        }
    }

    fn end_look(&mut self) {
        let Some(look) = self.look.take() else { return };
        self.draw_pauses();
        self.look_at_room();
        self.look_at_day();
        let end = clock::monotonic();
        self.looked_for = look.took;
        let unsettled = self.edits.files.look_at();
        self.edits.missing.retain(|task, _| self.queues.task(*task).is_some());
        let saved = self.edits.missing.values().map(|since| (*since + self.settle()).max(end + SOON)).min();
        let by_itself = self.look_at.min(end + RESCAN_EVERY);
        self.look_at = unsettled.into_iter().chain(saved).fold(by_itself, Moment::min);
    }

    /// Takes note that we have moved or drawn a task's file.
    pub(super) fn note_moved(&mut self, task: TaskId) {
        if let Some(look) = &mut self.look {
            look.moved.insert(task);
        }
    }

    fn was_moved(&self, task: TaskId) -> bool {
        self.look.as_ref().is_some_and(|look| look.moved.contains(&task))
    }

    /// Goes on with a queue; tells whether that is over.
    fn look_at_queue(&mut self, at: &mut AtQueue) -> Result<bool, StoreError> {
        match &mut at.step {
            Step::List { names: Some((folder, names)), .. } if names.len() > 0 => {
                let (folder, some) = (*folder, names.take(AT_A_TIME).collect());
                self.find_in(&at.queue, folder, some, &mut at.found)?;
            }
            Step::List { folders, names } => match folders.next() {
                Some(folder) => {
                    if names.is_none() {
                        self.read_settings(&at.queue);
                        self.look_at_pause(&at.queue);
                        if !self.has_folders(&at.queue) {
                            // Somebody removed a folder, and not each task in it: what is known is drawn again.
                            self.draw_again(&at.queue)?;
                            return Ok(true);
                        }
                    }
                    *names = Some((folder, store::names(&self.folder_at(&at.queue, folder))?.into_iter()));
                }
                None => at.step = Step::Compare(self.expected(&at.queue).into_iter()),
            },
            Step::Compare(expected) if expected.len() > 0 => {
                for (task, place) in expected.take(AT_A_TIME).collect::<Vec<_>>() {
                    match self.was_moved(task) {
                        true => drop(at.found.remove(&task)),
                        false => self.compare(at, task, place)?,
                    }
                }
            }
            Step::Compare(_) => at.step = Step::CompareRest,
            Step::CompareRest => {
                for _ in 0..AT_A_TIME {
                    let Some((task, places)) = at.found.pop_first() else { return Ok(true) };
                    if !self.was_moved(task) {
                        self.compare_rest(&at.queue, task, &places);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Lists a queue's folders, all at once.
    pub(super) fn found(&self, queue: &Name) -> Result<Found, StoreError> {
        let mut found = Found::new();
        for folder in FOLDERS {
            self.find_in(queue, folder, store::names(&self.folder_at(queue, folder))?, &mut found)?;
        }
        Ok(found)
    }

    /// Where the files of a queue's tasks belong, as far as a user may move them.
    fn expected(&self, queue: &Name) -> Vec<(TaskId, Place)> {
        let Some(known) = self.queues.queue(queue) else { return Vec::new() };
        let ready = known.ready.iter().map(|(rank, task)| (task, Place::Ready(rank)));
        let waiting = known.waiting.iter().map(|task| (*task, Place::Waiting));
        ready.chain(waiting).chain(known.held.iter().map(|task| (*task, Place::Held))).collect()
    }

    /// The same of one task.
    pub(super) fn place_of(&self, task: TaskId) -> Option<Place> {
        match self.queues.task(task)?.state {
            State::Ready { rank, .. } => Some(Place::Ready(rank)),
            State::Held { .. } => Some(Place::Held),
            State::Waiting { .. } => Some(Place::Waiting),
            State::Active { .. } | State::Cancelling { .. } | State::Ended { .. } => None,
        }
    }

    fn known_rank(&self, task: TaskId) -> Option<Rank> {
        match self.queues.task(task)?.state {
            State::Held { rank, .. } | State::Waiting { rank, .. } | State::Ready { rank, .. } => Some(rank),
            State::Active { .. } | State::Cancelling { .. } | State::Ended { .. } => None,
        }
    }

    fn folder_at(&self, queue: &Name, folder: Folder) -> PathBuf {
        match folder {
            Folder::Ready => self.layout.ready(queue),
            Folder::Held => self.layout.held(queue),
            Folder::Waiting => self.layout.waiting(queue),
        }
    }

    pub(super) fn path_at(&self, queue: &Name, task: TaskId, place: Place) -> PathBuf {
        match place {
            Place::Ready(rank) => self.layout.ready_task(queue, rank, task),
            Place::Held => self.layout.held_task(queue, task),
            Place::Waiting => self.layout.waiting_task(queue, task),
        }
    }

    /// Finds the tasks among the names in a folder. A file whose name is not the one that a task has there, as after
    /// `mv held/x.json ready/`, gets it.
    fn find_in(
        &self,
        queue: &Name,
        folder: Folder,
        names: Vec<String>,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        let dir = self.folder_at(queue, folder);
        for name in names {
            let Some((rank, task)) = layout::parse_queued_name(&name) else { continue };
            let place = match folder {
                Folder::Ready => Place::Ready(rank.or_else(|| self.known_rank(task)).unwrap_or_default()),
                Folder::Held => Place::Held,
                Folder::Waiting => Place::Waiting,
            };
            give_its_name(&dir, &name, &self.path_at(queue, task, place))?;
            found.entry(task).or_default().insert(place);
        }
        Ok(())
    }
}

fn give_its_name(dir: &Path, name: &str, path: &Path) -> Result<(), StoreError> {
    // Joined only where it may be needed: there may be many names.
    if path.file_name().is_some_and(|its| its == name) {
        return Ok(());
    }
    match store::rename(&dir.join(name), path) {
        Err(error) if !error.is_not_found() => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
