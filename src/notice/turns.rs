//! Which notice is delivered next: the oldest first, those of one task or queue one after the other.
//!
//! In memory only: what is open stands in the log, and a daemon that starts has tried none of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{NoticeId, Subject};
use crate::time::Moment;

/// How many notifiers run at once.
const AT_ONCE: usize = 4;
/// How often a notice is tried to be delivered.
pub(crate) const TRIES_MAX: u32 = 5;
/// The wait before the second try; twice as long before each further one.
const BACKOFF: Duration = Duration::from_secs(1);

/// The notices that are to be delivered.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Of each subject the first is tried, and the others wait for it.
    lines: BTreeMap<Subject, BTreeSet<NoticeId>>,
    of: BTreeMap<NoticeId, Subject>,
    /// The first of each, but for those that are being delivered, and when.
    next: BTreeSet<(Moment, NoticeId)>,
    /// How often each was tried that was.
    tries: BTreeMap<NoticeId, u32>,
    delivering: BTreeSet<NoticeId>,
}

impl Turns {
    /// Takes a notice into its line.
    pub(crate) fn add(&mut self, id: NoticeId, subject: Subject, now: Moment) {
        let line = self.lines.entry(subject.clone()).or_default();
        let is_first = line.is_empty();
        line.insert(id);
        self.of.insert(id, subject);
        if is_first {
            self.next.insert((now, id));
        }
    }

    /// The notice whose turn it is, and for the how many-th time; nothing while enough are being delivered.
    pub(crate) fn take(&mut self, now: Moment) -> Option<(NoticeId, u32)> {
        let next = self.next.first().copied().filter(|(at, _)| *at <= now)?;
        if self.delivering.len() >= AT_ONCE {
            return None;
        }
        self.next.remove(&next);
        self.delivering.insert(next.1);
        let tries = self.tries.entry(next.1).or_default();
        *tries += 1;
        Some((next.1, *tries))
    }

    /// When there is one to take, if nothing else happens.
    pub(crate) fn next_at(&self) -> Option<Moment> {
        self.next.first().map(|(at, _)| *at).filter(|_| self.delivering.len() < AT_ONCE)
    }

    /// It could not even be tried: that is no try.
    pub(crate) fn put_back(&mut self, id: NoticeId, again: Moment) {
        self.delivering.remove(&id);
        self.tries.entry(id).and_modify(|tries| *tries -= 1);
        self.next.insert((again, id));
    }

    /// It was tried and not delivered. Tells how often that was, when it was the last time.
    pub(crate) fn failed(&mut self, id: NoticeId, now: Moment) -> Option<u32> {
        self.delivering.remove(&id);
        let tries = self.tries.get(&id).copied().unwrap_or(TRIES_MAX);
        if tries >= TRIES_MAX {
            self.done(id, now);
            return Some(tries);
        }
        self.next.insert((now + BACKOFF * (1 << (tries - 1)), id));
        None
    }

    /// It was delivered, or given up: the next one of its line may go. Tells how often it was tried.
    pub(crate) fn done(&mut self, id: NoticeId, now: Moment) -> u32 {
        self.delivering.remove(&id);
        if let Some(subject) = self.of.remove(&id)
            && let Some(line) = self.lines.get_mut(&subject)
        {
            line.remove(&id);
            match line.first() {
                Some(next) => drop(self.next.insert((now, *next))),
                None => drop(self.lines.remove(&subject)),
            }
        }
        self.tries.remove(&id).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TaskId;

    fn id(n: u8) -> NoticeId {
        NoticeId::new(task(n))
    }

    fn task(n: u8) -> TaskId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{n:02x}").parse().unwrap()
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn few_are_delivered_at_once_and_those_of_one_task_one_after_the_other() {
        let mut turns = Turns::default();
        for n in 1..=3 {
            turns.add(id(n), Subject::Task(task(100)), at(0));
        }
        for n in 4..=9 {
            turns.add(id(n), Subject::Task(task(n)), at(0));
        }
        let taken: Vec<NoticeId> = std::iter::from_fn(|| turns.take(at(0)).map(|(id, _)| id)).collect();
        assert_eq!(taken, [id(1), id(4), id(5), id(6)]);
        assert_eq!((turns.next_at(), turns.done(id(1), at(1))), (None, 1));
        assert_eq!(turns.take(at(1)), Some((id(7), 1)), "who came first of another task");
        turns.done(id(4), at(1));
        turns.done(id(5), at(1));
        let rest: Vec<NoticeId> = std::iter::from_fn(|| turns.take(at(1)).map(|(id, _)| id)).collect();
        assert_eq!(rest, [id(8), id(9)], "four are being delivered");
        for n in [6, 7, 8, 9] {
            turns.done(id(n), at(2));
        }
        assert_eq!((turns.take(at(2)), turns.take(at(2))), (Some((id(2), 1)), None));
        turns.done(id(2), at(2));
        assert_eq!(turns.take(at(2)), Some((id(3), 1)));
        turns.done(id(3), at(2));
        assert!(turns.lines.is_empty() && turns.of.is_empty() && turns.tries.is_empty());
    }

    #[test]
    fn what_fails_is_tried_again_later_and_later_and_then_given_up() {
        let mut turns = Turns::default();
        turns.add(id(1), Subject::Task(task(1)), at(0));
        turns.add(id(2), Subject::Task(task(1)), at(0));
        let mut now = at(0);
        for (tries, wait) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
            assert_eq!(turns.take(now), Some((id(1), tries)));
            assert_eq!(turns.failed(id(1), now), None);
            let again = now + Duration::from_secs(wait);
            assert_eq!((turns.next_at(), turns.take(now)), (Some(again), None));
            now = again;
        }
        assert_eq!(turns.take(now), Some((id(1), 5)));
        turns.put_back(id(1), now);
        assert_eq!(turns.take(now), Some((id(1), 5)), "what could not be tried is no try");
        assert_eq!(turns.failed(id(1), now), Some(5));
        assert_eq!(turns.take(now), Some((id(2), 1)));
    }
}
