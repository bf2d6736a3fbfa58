//! Readers: who has seen which version of which task. Pure; `readers` keeps the files.
//!
//! Most is read in the order in which it comes, so a reader has a floor: what changed up to there is read, but for the tasks
//! that are named as unread; what changed behind it is unread, but for what is named as read. A mark says which version was seen,
//! so that a change that nobody saw stays unread, and a late mark of an older version takes nothing back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::change::Changes;
use crate::id::{Name, TaskId};

/// How many tasks are named as read before the floor is raised.
pub(crate) const READ_MAX: usize = 1000;
/// How many are named as unread below it; older ones count as read then.
const UNREAD_MAX: usize = 10_000;

/// A reader, `readers/<reader>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reader {
    pub(crate) reader: Name,
    /// The first line of the log that is told in it, and the last.
    pub(crate) begun: u64,
    pub(crate) seq: u64,
    #[serde(default)]
    pub(crate) floor: u64,
    /// Tasks behind the floor: up to which version each is read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) read: BTreeMap<TaskId, u64>,
    /// Tasks below it that are unread, each with its version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) unread: BTreeMap<TaskId, u64>,
}

/// What a line of the log says of a reader: these tasks, or all, are read up to a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) reader: Name,
    pub(crate) version: u64,
    /// All tasks, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tasks: Option<Vec<TaskId>>,
}

impl Mark {
    /// What it says.
    pub(crate) fn words(&self) -> String {
        let Mark { reader, version, tasks } = self;
        match tasks.as_deref() {
            None => format!("{reader} has read all up to version {version}"),
            Some([_]) => format!("{reader} has read it up to version {version}"),
            Some(tasks) => format!("{reader} has read {} tasks up to version {version}", tasks.len()),
        }
    }
}

impl Reader {
    /// Somebody who has read nothing.
    pub(crate) fn new(reader: Name, begun: u64) -> Reader {
        let (read, unread) = (BTreeMap::new(), BTreeMap::new());
        Reader { reader, begun, seq: begun, floor: 0, read, unread }
    }

    /// Takes note of what line `seq` says. Lines may come again, and in any order: what was read is read.
    pub(crate) fn mark(&mut self, seq: u64, mark: &Mark) {
        (self.begun, self.seq) = (self.begun.min(seq), self.seq.max(seq));
        let version = mark.version;
        let Some(tasks) = &mark.tasks else {
            self.floor = self.floor.max(version);
            self.read.retain(|_, read| *read > self.floor);
            self.unread.retain(|_, unread| *unread > version);
            return;
        };
        for task in tasks {
            if self.unread.get(task).is_some_and(|unread| *unread <= version) {
                self.unread.remove(task);
            }
            if version > self.floor {
                let read = self.read.entry(*task).or_default();
                *read = version.max(*read);
            }
        }
    }

    /// Whether the reader has seen that version of a task, its latest.
    pub(crate) fn has_read(&self, task: TaskId, version: u64) -> bool {
        match version <= self.floor {
            true => !self.unread.contains_key(&task),
            false => self.read.get(&task).is_some_and(|read| *read >= version),
        }
    }

    /// Whether so much is named that the floor ought to be raised.
    pub(crate) fn is_crowded(&self) -> bool {
        self.read.len() > READ_MAX
    }

    /// Raises the floor to the end of `changes`, which are all behind it: nothing that was read becomes unread by it, and
    /// nothing unread read, but the oldest of very many.
    pub(crate) fn settle(&mut self, changes: &Changes) {
        let unread = changes.by_version().into_iter().filter(|change| {
            let (task, version) = (change.task, change.version);
            version > self.floor && !self.has_read(task, version)
        });
        let unread: Vec<(TaskId, u64)> = unread.map(|change| (change.task, change.version)).collect();
        self.unread.extend(unread);
        let end = changes.last_seq.max(self.floor);
        self.read.retain(|_, read| *read > end);
        self.floor = end;
        let mut versions: Vec<u64> = self.unread.values().copied().collect();
        if let Some(too_many) = versions.len().checked_sub(UNREAD_MAX + 1) {
            versions.sort_unstable();
            let last = versions[too_many];
            self.unread.retain(|_, version| *version > last);
        }
    }

    /// Whether it is what the lines say that it tells, each with its number; and whether it tells all of them.
    pub(crate) fn reflects<'a>(&self, marks: impl Iterator<Item = (u64, &'a Mark)>) -> bool {
        let mut said = Reader::new(self.reader.clone(), self.begun);
        for (seq, mark) in marks.filter(|(seq, _)| *seq >= self.begun) {
            said.mark(seq, mark);
        }
        let is_told = |(task, version): (&TaskId, &u64)| {
            self.unread.get(task).is_none_or(|unread| unread > version)
                && (*version <= self.floor || self.read.get(task) == Some(version))
        };
        self.seq == said.seq
            && self.floor >= said.floor
            && said.read.iter().all(is_told)
            && self.read.iter().all(|(task, version)| said.read.get(task) == Some(version))
            && self.unread.values().all(|unread| *unread > said.floor && *unread <= self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Change;
    use proptest::prelude::*;

    fn task(n: u64) -> TaskId {
        format!("01890a5d-ac96-774b-bcce-b30209{n:06x}").parse().unwrap()
    }

    fn reader() -> Reader {
        Reader::new("me".parse().unwrap(), 1)
    }

    fn mark(tasks: Option<&[u64]>, version: u64) -> Mark {
        let tasks = tasks.map(|tasks| tasks.iter().map(|n| task(*n)).collect());
        Mark { reader: "me".parse().unwrap(), version, tasks }
    }

    #[test]
    fn a_mark_reads_what_was_seen_and_an_older_one_takes_nothing_back() {
        let mut me = reader();
        assert!(!me.has_read(task(1), 3));
        me.mark(10, &mark(Some(&[1]), 5));
        assert!(me.has_read(task(1), 3) && me.has_read(task(1), 5) && !me.has_read(task(1), 6));
        me.mark(11, &mark(Some(&[1, 2]), 4));
        assert!(me.has_read(task(1), 5) && me.has_read(task(2), 4) && !me.has_read(task(2), 5));
        me.mark(12, &mark(None, 8));
        assert!(me.has_read(task(3), 8) && !me.has_read(task(3), 9) && me.read.is_empty());
        me.mark(13, &mark(None, 2));
        assert!(me.has_read(task(3), 8));
        let before = me.clone();
        me.mark(10, &mark(Some(&[1]), 5));
        me.mark(12, &mark(None, 8));
        assert_eq!(me, before, "a line that is told already says nothing new");
    }

    #[test]
    fn marks_lead_to_the_same_in_whatever_order_they_are_told() {
        let marks = [(4, mark(Some(&[1, 2]), 5)), (5, mark(None, 3)), (6, mark(Some(&[2]), 2))];
        let told = |order: [usize; 3]| {
            let mut me = Reader::new("me".parse().unwrap(), marks[order[0]].0);
            order.into_iter().for_each(|at| me.mark(marks[at].0, &marks[at].1));
            me
        };
        for order in [[0, 2, 1], [1, 0, 2], [2, 1, 0]] {
            assert_eq!(told(order), told([0, 1, 2]), "{order:?}");
        }
    }

    /// A feed of the versions 1, 2, ..., each a change of one of few tasks.
    fn changes(tasks: &[u64], behind: u64) -> Changes {
        let last_seq = tasks.len() as u64;
        let feed = (1..).zip(tasks).filter(|(version, _)| *version > behind);
        let change =
            |(version, n): (u64, &u64)| Change { version, at: None, task: task(*n), state: None, spec: None };
        Changes::of_all(feed.map(change), last_seq)
    }

    proptest! {
        #[test]
        fn raising_the_floor_changes_nothing_that_is_read_or_unread(
            feed in prop::collection::vec(0_u64..6, 1..40),
            marks in prop::collection::vec((prop::option::of(prop::collection::vec(0_u64..6, 0..4)), 0_u64..40, any::<bool>()), 0..20),
        ) {
            let (mut plain, mut settled) = (reader(), reader());
            let end = feed.len() as u64;
            let mut told = Vec::new();
            for (seq, (tasks, version, settles)) in (end + 1..).zip(marks) {
                let mark = mark(tasks.as_deref(), version.min(end));
                plain.mark(seq, &mark);
                settled.mark(seq, &mark);
                told.push((seq, mark));
                if settles {
                    settled.settle(&changes(&feed, settled.floor));
                    prop_assert!(settled.read.is_empty());
                }
                for change in changes(&feed, 0).by_version() {
                    let (task, version) = (change.task, change.version);
                    prop_assert_eq!(plain.has_read(task, version), settled.has_read(task, version), "{:?}", settled);
                }
                for reader in [&plain, &settled] {
                    let begun = Reader { begun: end + 1, ..reader.clone() };
                    prop_assert!(begun.reflects(told.iter().map(|(seq, mark)| (*seq, mark))), "{:?}", begun);
                }
            }
        }
    }

    #[test]
    fn what_is_unread_below_the_floor_is_bounded_and_the_oldest_is_given_up() {
        let mut me = reader();
        let many: Vec<u64> = (0..UNREAD_MAX as u64 + 5).collect();
        me.settle(&changes(&many, 0));
        assert_eq!(me.unread.len(), UNREAD_MAX);
        assert!(me.has_read(task(4), 5) && !me.has_read(task(5), 6));
    }
}
