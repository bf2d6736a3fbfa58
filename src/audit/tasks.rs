//! Where the files of tasks lie: each in exactly one place, which is that of its state, with its spec in it.

use std::collections::BTreeMap;

use super::history::{History, Told};
use super::{Audit, Kind, Mend, Sort, by_hand};
use crate::id::{Name, TaskId};
use crate::layout::{Place, TaskFolder, place_of};
use crate::picture;
use crate::spec::Spec;
use crate::task::State;

/// A file that bears a task's id.
struct Copy {
    path: String,
    queue: Name,
    folder: TaskFolder,
}

impl Copy {
    /// Whether a user may have moved the file of a waiting task here, by which it is held, released or ranked.
    fn is_by_hand(&self, spec: &Spec) -> bool {
        let waits = match self.folder {
            TaskFolder::Held | TaskFolder::Waiting | TaskFolder::Ready(_) => true,
            TaskFolder::Active(_) | TaskFolder::Ended { .. } => false,
        };
        waits && self.queue == spec.queue
    }
}

fn waits(state: &State) -> bool {
    match state {
        State::Held { .. } | State::Waiting { .. } | State::Ready { .. } => true,
        State::Active { .. } | State::Cancelling { .. } | State::Ended { .. } => false,
    }
}

/// Whether the file of a task tells another end than the log; that of an older version tells none.
fn tells_otherwise(bytes: &[u8], state: &State) -> bool {
    match picture::end_in(bytes) {
        picture::End::Told(told) => told != *state,
        picture::End::Edited => true,
        picture::End::Untold => false,
    }
}

impl Audit<'_> {
    pub(super) fn check_tasks(&mut self, history: &History) {
        let mut copies: BTreeMap<TaskId, Vec<Copy>> = BTreeMap::new();
        for (path, sort) in &self.seen.entries {
            if let (Some(Place::Task { queue, folder, task }), Sort::File) = (place_of(path), sort) {
                copies.entry(task).or_default().push(Copy { path: path.clone(), queue, folder });
            }
        }
        for (task, told) in &history.tasks {
            let found = copies.remove(task).unwrap_or_default();
            // One that was removed may lie there for a moment; nobody owes it.
            if found.is_empty() && self.removed.contains(task) {
                continue;
            }
            // That its text is missing is told.
            if let Some(spec) = &told.spec {
                self.check_task(*task, told, spec, &found);
            }
        }
        // Of a history that is not there any more nothing can be said.
        for (task, found) in copies.into_iter().filter(|_| history.whole) {
            for copy in found {
                let what = format!("the log knows of no task {task}");
                let mend = by_hand("submit it again, or remove the file; nothing carries it out");
                self.find(Kind::TaskNotInLog, copy.path, what, mend);
            }
        }
    }

    fn check_task(&mut self, task: TaskId, told: &Told, spec: &Spec, found: &[Copy]) {
        let belongs = self.below(&picture::place(&self.seen.layout, &spec.queue, task, &told.state));
        let owed = self.is_owed(&told.host, told.last_seq);
        let in_place = found.iter().any(|copy| copy.path == belongs);
        let others: Vec<&Copy> = found.iter().filter(|copy| copy.path != belongs).collect();
        // A user's edit that the daemon adopts, the next one if none runs.
        let edited = waits(&told.state) && !owed && !self.seen.daemon;
        if in_place {
            self.check_spec(&belongs, spec, &told.state, edited);
            for copy in &others {
                let mend = self.unless_daemon(Mend::Remove);
                self.find(Kind::TaskTwice, &copy.path, format!("task {task} lies in {belongs} too"), mend);
            }
            return;
        }
        // And so a user's move.
        let by_hand_there = others.iter().any(|copy| edited && copy.is_by_hand(spec));
        match &others[..] {
            // Where its whole folder is gone it was not removed to cancel it.
            [] if owed || (waits(&told.state) && !self.has_folder(&belongs)) => {
                let mend = self.unless_gone(&belongs, Mend::Draw(picture::task(spec, &told.state)));
                self.find(Kind::TaskMissing, belongs, format!("task {task} belongs here"), mend);
            }
            // Whose file is gone waits for the daemon to cancel it, or to draw it where that could not be done.
            [] if self.seen.daemon && waits(&told.state) => {
                self.find(Kind::TaskMissing, belongs, format!("task {task} belongs here"), Mend::Daemon);
            }
            [] => {}
            [copy] if by_hand_there => self.check_spec(&copy.path, spec, &told.state, edited),
            [copy] => {
                let what = format!("task {task} belongs into {belongs}");
                let elsewhere = waits(&told.state) && !copy.is_by_hand(spec) && !owed;
                let mend = match elsewhere && copy.queue == spec.queue {
                    true => {
                        by_hand("move it back, or leave it: the next daemon takes its absence for a cancel")
                    }
                    false => self.unless_gone(&belongs, Mend::Move(belongs.clone())),
                };
                self.find(Kind::TaskMisplaced, &copy.path, what, mend);
            }
            [first, ..] => {
                let mend = match by_hand_there {
                    true => by_hand("leave one of them"),
                    false => self.unless_gone(&belongs, Mend::Move(belongs.clone())),
                };
                let what = format!("task {task} lies in {} places, and not where it belongs", others.len());
                self.find(Kind::TaskTwice, &first.path, what, mend);
            }
        }
    }

    /// Compares a file with the spec in the log. One that is `edited` may say something else, and one of a task that rests is
    /// the daemon's to look at, when somebody has it open no longer.
    fn check_spec(&mut self, path: &str, spec: &Spec, state: &State, edited: bool) {
        let picture = picture::task(spec, state);
        let Some(bytes) = self.content(path).filter(|bytes| *bytes != picture) else { return };
        let (kind, what) = match serde_json::from_slice::<Spec>(bytes) {
            // It would be retried by what is not so.
            Ok(_) if picture::tells_end(state) && tells_otherwise(bytes, state) => {
                (Kind::TaskDiffers, "it tells another end than the log")
            }
            // Written by another version, or by a user's editor.
            Ok(there) if there == *spec => return,
            Ok(_) if edited => return,
            Ok(_) => (Kind::TaskDiffers, "it is not what the log says, and what the log says is carried out"),
            Err(_) => (Kind::TaskUnreadable, "it cannot be read"),
        };
        let mend = match waits(state) && self.seen.daemon {
            true => Mend::Daemon,
            false => self.when_stopped(Mend::Draw(picture)),
        };
        self.find(kind, path, what, mend);
    }

    /// The same where it may need its folder. A folder of waiting tasks that is gone is the daemon's to make, with all that
    /// lay in it: in an empty one it would miss what users remove to cancel it.
    fn unless_gone(&self, belongs: &str, mend: Mend) -> Mend {
        let waits = matches!(
            place_of(belongs),
            Some(Place::Task { folder: TaskFolder::Held | TaskFolder::Waiting | TaskFolder::Ready(_), .. })
        );
        if waits && !self.has_folder(belongs) { Mend::Daemon } else { self.unless_daemon(mend) }
    }

    fn has_folder(&self, path: &str) -> bool {
        path.rsplit_once('/').is_some_and(|(folder, _)| self.seen.entries.contains_key(folder))
    }

    /// What we may do to the queues' files when no daemon runs; else that is the daemon's.
    fn unless_daemon(&self, mend: Mend) -> Mend {
        if self.seen.daemon { Mend::Daemon } else { mend }
    }
}
