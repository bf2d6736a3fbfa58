//! Which ready tasks may start now: over all queues in the order of rank and age, all or nothing for each.
//!
//! Whoever lacks something is passed over, and keeps no slot from others. Of those who are of the same kind or group only
//! the first is looked at then, so that the cost does not grow with how many wait for the same.

use std::collections::{BTreeMap, BTreeSet};

use super::ready::{Kind, Line, Turn};
use super::{Queue, Queues};
use crate::id::{Name, TaskId};
use crate::resource::{Assigned, Capacities, Lack, Round, Things, Wants};

/// How many tasks are passed over that lack each something else, before nothing more is looked for.
const PASSED_OVER_MAX: usize = 1000;

/// A task to look at.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    queue: &'a Name,
    kind: &'a Kind,
    line: &'a Line,
    things: &'a Things,
    /// Whether it is the first of its group, and the first of its kind.
    heads: (bool, bool),
}

/// What a queue has left for those who start.
struct Room<'a> {
    queue: &'a Queue,
    slots: usize,
    started: BTreeMap<&'a Name, usize>,
}

impl Room<'_> {
    /// How many slots a lane has left, where it has a number of its own.
    fn lane_slots(&self, lane: Option<&Name>) -> usize {
        let Some(slots) = self.queue.settings.lane_slots(lane) else { return usize::MAX };
        let taken = lane.map_or(0, |lane| {
            let active = self.queue.in_lane(lane).map_or(0, BTreeSet::len);
            active + self.started.get(lane).unwrap_or(&0)
        });
        (slots as usize).saturating_sub(taken)
    }
}

/// Those that may start, and what the round came to.
#[derive(Debug)]
pub(crate) struct Picked<'a> {
    pub(crate) starts: Vec<(TaskId, Assigned)>,
    pub(crate) round: Round<'a>,
}

impl Queues {
    /// The tasks that may start now, the first first, with the units that each gets. `goes_on` tells of a queue whether
    /// anything of it may start.
    pub(crate) fn pick<'a>(
        &'a self,
        capacities: &'a Capacities,
        mut goes_on: impl FnMut(&Name) -> bool,
    ) -> Picked<'a> {
        let mut walk = Walk::default();
        for (name, queue) in &self.queues {
            let slots = (queue.settings.slots as usize).saturating_sub(queue.active.len());
            if slots > 0 && !queue.ready.is_empty() && goes_on(name) {
                walk.rooms.insert(name, Room { queue, slots, started: BTreeMap::new() });
                walk.look_at_kind(name, queue, None);
            }
        }
        let mut round = Round::new(capacities, &self.ledger);
        let mut starts = Vec::new();
        let mut passed_over = 0;
        while let Some((turn, at)) = walk.next.pop_first() {
            match walk.step(turn, at, &mut round) {
                Some(Ok(assigned)) => starts.push((turn.1, assigned)),
                Some(Err(())) => passed_over += 1,
                None => {}
            }
            if passed_over > PASSED_OVER_MAX {
                break;
            }
        }
        Picked { starts, round }
    }
}

/// How far the queues have been gone through.
#[derive(Default)]
struct Walk<'a> {
    rooms: BTreeMap<&'a Name, Room<'a>>,
    next: BTreeMap<Turn, Candidate<'a>>,
    /// Those of which nothing more can start.
    closed: BTreeSet<(&'a Name, &'a Kind)>,
}

impl<'a> Walk<'a> {
    /// Looks at one task: what it gets, or that it is passed over; nothing where the answer was known.
    fn step(&mut self, turn: Turn, at: Candidate<'a>, round: &mut Round<'_>) -> Option<Result<Assigned, ()>> {
        let room = self.rooms.get_mut(at.queue)?;
        if room.slots == 0 {
            return None;
        }
        let (heads_group, heads_kind) = at.heads;
        let (queue, lane) = (room.queue, at.kind.lane.as_ref());
        let is_closed = self.closed.contains(&(at.queue, at.kind));
        let answer = if is_closed {
            None
        } else if room.lane_slots(lane) == 0 {
            self.closed.insert((at.queue, at.kind));
            Some(Err(()))
        } else {
            let wants = Wants { units: at.kind.units.clone(), things: at.things.clone() };
            match round.give(turn.1, &wants) {
                Ok(assigned) => {
                    room.slots -= 1;
                    if let Some(lane) = lane {
                        *room.started.entry(lane).or_default() += 1;
                    }
                    Some(Ok(assigned))
                }
                Err(lacks) => {
                    if lacks.iter().any(Lack::is_of_units) {
                        self.closed.insert((at.queue, at.kind));
                    }
                    Some(Err(()))
                }
            }
        };
        if let Some(Ok(_)) = answer
            && let Some(next) = at.line.next_in(at.things, turn)
        {
            self.next.insert(next, Candidate { heads: (false, false), ..at });
        }
        if heads_group && !self.closed.contains(&(at.queue, at.kind)) {
            self.look_at_group(at, Some(turn));
        }
        if heads_kind {
            self.look_at_kind(at.queue, queue, Some(turn));
        }
        answer
    }

    fn look_at_kind(&mut self, name: &'a Name, queue: &'a Queue, after: Option<Turn>) {
        if let Some((turn, kind, line)) = queue.ready.next_kind(after)
            && let Some((_, things)) = line.next_group(None)
        {
            self.next.insert(turn, Candidate { queue: name, kind, line, things, heads: (true, true) });
        }
    }

    fn look_at_group(&mut self, at: Candidate<'a>, after: Option<Turn>) {
        if let Some((turn, things)) = at.line.next_group(after) {
            self.next.insert(turn, Candidate { things, heads: (true, false), ..at });
        }
    }
}
