//! Changes: the spool's log as a feed of tasks, each with its version. Pure.
//!
//! The version of a task is the number of the line that last changed it, for whoever reads: its state, or what was said in
//! its run. Numbers are given once for the whole spool, so one number is a place in the feed, and "seen up to here" is true
//! of all tasks at once. What nobody could see, such as a repeat of a command, is no change.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Event, SpecText};
use crate::id::TaskId;
use crate::jsonl::Line;
use crate::spec::Spec;
use crate::task::State;
use crate::time::Timestamp;

/// The last change of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) version: u64,
    /// When; `None` where only the version is known.
    pub(crate) at: Option<Timestamp>,
    pub(crate) task: TaskId,
    /// Its state then, as far as the lines told it that were gone through.
    pub(crate) state: Option<State>,
    /// What it is, if one of them told that.
    pub(crate) spec: Option<Arc<Spec>>,
}

/// The tasks that some lines of the log have changed, each with its last change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    tasks: HashMap<TaskId, Change>,
    /// The number of the last line that was gone through; 0 when none was.
    pub(crate) last_seq: u64,
}

impl Changes {
    /// No changes, behind that line.
    pub(crate) fn behind(last_seq: u64) -> Changes {
        Changes { last_seq, ..Changes::default() }
    }

    /// Goes through one more line. Lines come in the order of their numbers.
    pub(crate) fn note(&mut self, line: &Line<Event>) {
        self.last_seq = line.seq;
        let Some(task) = line.event.changed() else { return };
        let before = self.tasks.remove(&task);
        let (state, spec) = before.map_or((None, None), |change| (change.state, change.spec));
        let state = line.event.state().map(|(_, state)| state.clone()).or(state);
        let spec = match line.event.spec() {
            Some(SpecText::Here(spec)) => Some(Arc::clone(spec)),
            Some(SpecText::Elsewhere { .. }) => None,
            None => spec,
        };
        self.tasks.insert(task, Change { version: line.seq, at: Some(line.at), task, state, spec });
    }

    /// The same without specs, of which nothing may be needed, and which may be long.
    pub(crate) fn note_bare(&mut self, line: &Line<Event>) {
        self.note(line);
        if let Some(task) = line.event.changed()
            && let Some(change) = self.tasks.get_mut(&task)
        {
            change.spec = None;
        }
    }

    /// How many tasks there are.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn of(&self, task: TaskId) -> Option<&Change> {
        self.tasks.get(&task)
    }

    /// Changes in the order of their versions, of which only the last of each task counts.
    #[cfg(test)]
    pub(crate) fn of_all(changes: impl Iterator<Item = Change>, last_seq: u64) -> Changes {
        Changes { tasks: changes.map(|change| (change.task, change)).collect(), last_seq }
    }

    /// All of them, by their versions, the lowest first. No two have the same.
    pub(crate) fn by_version(&self) -> Vec<Change> {
        let mut changes: Vec<Change> = self.tasks.values().cloned().collect();
        changes.sort_by_key(|change| change.version);
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{By, Origin};
    use crate::id::Rank;

    fn task(n: u8) -> TaskId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{n:02x}").parse().unwrap()
    }

    fn ready() -> State {
        State::Ready { rank: Rank::default(), attempts: 0 }
    }

    fn moved(n: u8, state: State) -> Event {
        Event::Moved {
            task: task(n),
            state,
            by: By::Daemon,
            command: None,
            reason: None,
            evidence: None,
            spec: None,
            broken: 0,
        }
    }

    fn accepted(n: u8, kind: &str, repeats: Option<u64>) -> Event {
        let command = Origin::new(task(9), "x.json");
        Event::Accepted { command, kind: kind.into(), task: Some(task(n)), note: String::new(), repeats }
    }

    #[test]
    fn a_task_is_there_once_with_its_last_change_and_repeats_change_nothing() {
        let held = State::Held { rank: Rank::default(), attempts: 0, until: None, needs: false };
        let events = [
            moved(1, ready()),
            moved(2, ready()),
            moved(1, held.clone()),
            accepted(1, "note", None),
            accepted(2, "note", Some(4)),
            accepted(2, "cancel", None),
            accepted(3, "note", None),
            Event::DaemonStopped { pid: 1 },
        ];
        let mut changes = Changes::default();
        for (seq, event) in (10..).zip(events) {
            changes.note(&Line { seq, at: Timestamp::from_micros(5), event });
        }
        let told = |change: &Change| (change.version, change.task, change.state.clone());
        assert_eq!(
            changes.by_version().iter().map(told).collect::<Vec<_>>(),
            [(11, task(2), Some(ready())), (13, task(1), Some(held)), (16, task(3), None)]
        );
        assert_eq!((changes.last_seq, changes.len()), (17, 3));
    }
}
