//! Which notice is delivered next: the oldest first, those of one task or queue one after the other.
//!
//! In memory only: what is open stands in the log, and a daemon that starts has tried none of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{NoticeId, Subject};
use crate::time::Moment;

/// How many notifiers run at once.
const AT_ONCE: usize = 8;
/// How many of them may be of one program: where that hangs, the others go on.
const AT_ONCE_OF_ONE: usize = 2;
/// How often a notice is tried to be delivered.
pub(crate) const TRIES_MAX: u32 = 5;
/// The wait before the second try; twice as long before each further one.
const BACKOFF: Duration = Duration::from_secs(1);

/// The notices that are to be delivered.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Of each subject the first is tried, and the others wait for it.
    lines: BTreeMap<Subject, BTreeSet<NoticeId>>,
    known: BTreeMap<NoticeId, Known>,
    /// By their notifiers' programs.
    programs: BTreeMap<String, Program>,
    /// How many are being delivered.
    delivering: usize,
}

#[derive(Debug)]
struct Known {
    subject: Subject,
    program: String,
    /// How often it was tried.
    tries: u32,
}

#[derive(Debug, Default)]
struct Program {
    /// The first notice of each line, but for those that are being delivered, and when.
    next: BTreeSet<(Moment, NoticeId)>,
    delivering: BTreeSet<NoticeId>,
}

impl Program {
    fn next_at(&self) -> Option<Moment> {
        self.next.first().map(|(at, _)| *at).filter(|_| self.delivering.len() < AT_ONCE_OF_ONE)
    }
}

impl Turns {
    /// Takes a notice into its line.
    pub(crate) fn add(&mut self, id: NoticeId, subject: Subject, program: &str, now: Moment) {
        let line = self.lines.entry(subject.clone()).or_default();
        let is_first = line.is_empty();
        line.insert(id);
        self.known.insert(id, Known { subject, program: program.to_owned(), tries: 0 });
        if is_first {
            self.wait(id, now);
        }
    }

    fn wait(&mut self, id: NoticeId, at: Moment) {
        if let Some(known) = self.known.get(&id) {
            self.programs.entry(known.program.clone()).or_default().next.insert((at, id));
        }
    }

    /// The notice whose turn it is, and for the how many-th time; nothing while enough are being delivered.
    pub(crate) fn take(&mut self, now: Moment) -> Option<(NoticeId, u32)> {
        if self.next_at()? > now {
            return None;
        }
        let program = self.programs.values_mut().filter(|program| program.next_at().is_some());
        let program = program.min_by_key(|program| program.next.first().copied())?;
        let (_, id) = program.next.pop_first()?;
        program.delivering.insert(id);
        self.delivering += 1;
        let known = self.known.get_mut(&id)?;
        known.tries += 1;
        Some((id, known.tries))
    }

    /// When there is one to take, if nothing else happens.
    pub(crate) fn next_at(&self) -> Option<Moment> {
        self.programs.values().filter_map(Program::next_at).min().filter(|_| self.delivering < AT_ONCE)
    }

    /// It is not being delivered any more.
    fn rests(&mut self, id: NoticeId) {
        let Some(known) = self.known.get(&id) else { return };
        let Some(program) = self.programs.get_mut(&known.program) else { return };
        self.delivering -= usize::from(program.delivering.remove(&id));
        if program.next.is_empty() && program.delivering.is_empty() {
            self.programs.remove(&known.program);
        }
    }

    /// It could not even be tried: that is no try.
    pub(crate) fn put_back(&mut self, id: NoticeId, again: Moment) {
        self.rests(id);
        self.known.entry(id).and_modify(|known| known.tries -= 1);
        self.wait(id, again);
    }

    /// It was tried and not delivered. Tells how often that was, when it was the last time.
    pub(crate) fn failed(&mut self, id: NoticeId, now: Moment) -> Option<u32> {
        let tries = self.known.get(&id).map_or(TRIES_MAX, |known| known.tries);
        if tries >= TRIES_MAX {
            self.done(id, now);
            return Some(tries);
        }
        self.rests(id);
        self.wait(id, now + BACKOFF * (1 << tries.saturating_sub(1)));
        None
    }

    /// It was delivered, or given up: the next one of its line may go. Tells how often it was tried.
    pub(crate) fn done(&mut self, id: NoticeId, now: Moment) -> u32 {
        self.rests(id);
        let Some(Known { subject, tries, .. }) = self.known.remove(&id) else { return 0 };
        let Some(line) = self.lines.get_mut(&subject) else { return tries };
        line.remove(&id);
        match line.first().copied() {
            Some(next) => self.wait(next, now),
            None => drop(self.lines.remove(&subject)),
        }
        tries
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

    /// The notices whose turn it is, with their numbers.
    fn taken(turns: &mut Turns, now: Moment) -> Vec<NoticeId> {
        std::iter::from_fn(|| turns.take(now).map(|(id, _)| id)).collect()
    }

    #[test]
    fn few_are_delivered_at_once_and_those_of_one_task_one_after_the_other() {
        let mut turns = Turns::default();
        for n in 1..=3 {
            turns.add(id(n), Subject::Task(task(100)), "a", at(0));
        }
        for n in 4..=6 {
            turns.add(id(n), Subject::Task(task(n)), "a", at(0));
        }
        turns.add(id(7), Subject::Task(task(7)), "b", at(0));
        assert_eq!(taken(&mut turns, at(0)), [id(1), id(4), id(7)], "two of one program");
        assert_eq!((turns.next_at(), turns.done(id(1), at(1))), (None, 1));
        assert_eq!(taken(&mut turns, at(1)), [id(5)], "who came first of another task");
        turns.done(id(4), at(1));
        assert_eq!(taken(&mut turns, at(1)), [id(6)]);
        for n in [5, 6, 7] {
            turns.done(id(n), at(2));
        }
        assert_eq!(taken(&mut turns, at(2)), [id(2)], "one after the other");
        turns.done(id(2), at(2));
        assert_eq!(taken(&mut turns, at(2)), [id(3)]);
        turns.done(id(3), at(2));
        assert!(turns.lines.is_empty() && turns.known.is_empty() && turns.programs.is_empty());
        for n in 10..30 {
            turns.add(id(n), Subject::Task(task(n)), &n.to_string(), at(3));
        }
        assert_eq!((taken(&mut turns, at(3)).len(), turns.next_at()), (AT_ONCE, None));
    }

    #[test]
    fn what_fails_is_tried_again_later_and_later_and_then_given_up() {
        let mut turns = Turns::default();
        turns.add(id(1), Subject::Task(task(1)), "a", at(0));
        turns.add(id(2), Subject::Task(task(1)), "a", at(0));
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
