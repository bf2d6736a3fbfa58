//! The ready tasks of a queue in the order of dispatch, grouped by what they want, so that where one is passed over those
//! that want the same need not be looked at.
//!
//! Tasks of one kind have their lane and their numbers of units in common: where one of them lacks one of these, so do all
//! behind it. Within a kind a group has its locks and its directory in common.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::id::{Name, Rank, TaskId};
use crate::resource::{Things, Units, Wants};

/// A ready task's place in the order: that of `ls ready/`.
pub(crate) type Turn = (Rank, TaskId);

/// What all tasks of a kind want.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) lane: Option<Name>,
    pub(crate) units: Units,
}

/// The tasks of one kind.
#[derive(Debug, Default)]
pub(super) struct Line {
    groups: BTreeMap<Things, BTreeSet<Turn>>,
    /// The first task of each group.
    heads: BTreeMap<Turn, Things>,
}

/// The ready tasks of a queue.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    lines: BTreeMap<Kind, Line>,
    /// The first task of each kind.
    heads: BTreeMap<Turn, Kind>,
}

impl Ready {
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All of them; in their order within a group only.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Turn> {
        self.lines.values().flat_map(|line| line.groups.values()).flatten().copied()
    }

    pub(super) fn put(&mut self, turn: Turn, lane: Option<Name>, wants: Wants, present: bool) {
        let kind = Kind { lane, units: wants.units };
        let line = self.lines.entry(kind.clone()).or_default();
        let first = line.first();
        line.put(turn, wants.things, present);
        let now = line.first();
        if line.groups.is_empty() {
            self.lines.remove(&kind);
        }
        if first != now {
            first.and_then(|first| self.heads.remove(&first));
            now.map(|now| self.heads.insert(now, kind));
        }
    }

    /// The first kind that begins behind a turn; the first of all where none is given.
    pub(super) fn next_kind(&self, after: Option<Turn>) -> Option<(Turn, &Kind, &Line)> {
        let (turn, kind) = next(&self.heads, after)?;
        self.lines.get(kind).map(|line| (*turn, kind, line))
    }
}

impl Line {
    fn first(&self) -> Option<Turn> {
        self.heads.keys().next().copied()
    }

    fn put(&mut self, turn: Turn, things: Things, present: bool) {
        let group = self.groups.entry(things.clone()).or_default();
        let first = group.first().copied();
        if present {
            group.insert(turn);
        } else {
            group.remove(&turn);
        }
        let now = group.first().copied();
        if now.is_none() {
            self.groups.remove(&things);
        }
        if first != now {
            first.and_then(|first| self.heads.remove(&first));
            now.map(|now| self.heads.insert(now, things));
        }
    }

    /// The first group that begins behind a turn; the first of all where none is given.
    pub(super) fn next_group(&self, after: Option<Turn>) -> Option<(Turn, &Things)> {
        next(&self.heads, after).map(|(turn, things)| (*turn, things))
    }

    /// The next task of a group.
    pub(super) fn next_in(&self, things: &Things, after: Turn) -> Option<Turn> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        self.groups.get(things)?.range(behind).next().copied()
    }
}

fn next<T>(heads: &BTreeMap<Turn, T>, after: Option<Turn>) -> Option<(&Turn, &T)> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    heads.range((from, Bound::Unbounded)).next()
}
