//! Who has which units and things.

use std::collections::{BTreeMap, BTreeSet};

use super::{Assigned, Mode, ResourceName, Thing, Things};
use crate::id::TaskId;

/// What live runs have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// One unit has one holder, unless somebody has written into the log.
    units: BTreeMap<ResourceName, BTreeSet<(u32, TaskId)>>,
    things: BTreeMap<Thing, BTreeMap<TaskId, Mode>>,
}

impl Ledger {
    /// Takes note of what a task has.
    pub(crate) fn take(&mut self, task: TaskId, assigned: &Assigned, things: &Things) {
        for (name, units) in assigned {
            let taken = self.units.entry(name.clone()).or_default();
            taken.extend(units.iter().map(|unit| (*unit, task)));
        }
        for (thing, mode) in things {
            self.things.entry(thing.clone()).or_default().insert(task, *mode);
        }
    }

    /// Takes note that a task has this no more.
    pub(crate) fn release(&mut self, task: TaskId, assigned: &Assigned, things: &Things) {
        for (name, units) in assigned {
            if let Some(taken) = self.units.get_mut(name) {
                taken.retain(|(unit, holder)| *holder != task || !units.contains(unit));
                if taken.is_empty() {
                    self.units.remove(name);
                }
            }
        }
        for thing in things.keys() {
            if let Some(holders) = self.things.get_mut(thing) {
                holders.remove(&task);
                if holders.is_empty() {
                    self.things.remove(thing);
                }
            }
        }
    }

    /// The units of a resource that somebody has.
    pub(crate) fn taken(&self, name: &ResourceName) -> impl Iterator<Item = (u32, TaskId)> {
        self.units.get(name).into_iter().flatten().copied()
    }

    /// Who has a thing, and how.
    pub(crate) fn holders(&self, thing: &Thing) -> impl Iterator<Item = (TaskId, Mode)> {
        self.things.get(thing).into_iter().flatten().map(|(task, mode)| (*task, *mode))
    }

    /// All things that somebody has.
    pub(crate) fn things(&self) -> impl Iterator<Item = (&Thing, &BTreeMap<TaskId, Mode>)> {
        self.things.iter()
    }

    /// Something of this that another has already, and who.
    pub(crate) fn conflict(&self, assigned: &Assigned, things: &Things) -> Option<(String, TaskId)> {
        let has = |name: &ResourceName, unit: u32| self.taken(name).find(|(taken, _)| *taken == unit);
        let units = assigned.iter().flat_map(|(name, units)| units.iter().map(move |unit| (name, *unit)));
        let mut units = units
            .filter_map(|(name, unit)| has(name, unit).map(|(_, task)| (format!("{name} {unit}"), task)));
        let held = |thing: &Thing, mode: Mode| self.holders(thing).find(|(_, held)| !held.bears(mode));
        let mut things = things.iter().filter_map(|(thing, mode)| match thing {
            Thing::Lock(name) => held(thing, *mode).map(|(task, _)| (format!("the lock {name}"), task)),
            Thing::Directory(path) => held(thing, *mode).map(|(task, _)| (path.clone(), task)),
        });
        units.next().or_else(|| things.next())
    }

    /// Whether somebody has a thing in a way that bears no other in this mode.
    pub(super) fn excludes(&self, thing: &Thing, mode: Mode) -> bool {
        self.holders(thing).any(|(_, held)| !held.bears(mode))
    }
}
