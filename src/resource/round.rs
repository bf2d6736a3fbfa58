//! One look at who may start: what is given in it, and what is kept for those who are passed over.

use std::collections::{BTreeMap, BTreeSet};

use super::{Assigned, Capacities, Capacity, Ledger, Mode, ResourceName, Thing, Units, Wants};
use crate::id::TaskId;

/// Why a task does not get what it wants; each is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Lack {
    /// So many are free of so many.
    Units { name: ResourceName, wanted: u32, free: u32, count: u32 },
    /// The host has fewer in all, so that waiting does not help.
    Never { name: ResourceName, wanted: u32, count: u32 },
    /// As many are free, but some of them are kept for a task that goes before.
    UnitsReserved { name: ResourceName, wanted: u32, free: u32, by: TaskId },
    /// Others have it, in a mode that excludes this one.
    Taken { thing: Thing, mode: Mode },
    /// It is free, but kept for a task that goes before.
    Reserved { thing: Thing, by: TaskId },
}

impl Lack {
    /// Whether it is told of units, and not of a thing.
    pub(crate) fn is_of_units(&self) -> bool {
        match self {
            Lack::Units { .. } | Lack::Never { .. } | Lack::UnitsReserved { .. } => true,
            Lack::Taken { .. } | Lack::Reserved { .. } => false,
        }
    }
}

/// What is taken, given and kept while those who are ready are gone through in their order.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    capacities: &'a Capacities,
    before: &'a Ledger,
    given: Ledger,
    /// How many units are kept, and for whom first.
    units_kept: BTreeMap<ResourceName, (u32, TaskId)>,
    things_kept: BTreeMap<Thing, (Mode, TaskId)>,
    /// Whether somebody was passed over already.
    has_first: bool,
}

impl<'a> Round<'a> {
    pub(crate) fn new(capacities: &'a Capacities, before: &'a Ledger) -> Round<'a> {
        let (units_kept, things_kept) = (BTreeMap::new(), BTreeMap::new());
        Round { capacities, before, given: Ledger::default(), units_kept, things_kept, has_first: false }
    }

    /// Gives a task all that it wants; or nothing, and keeps what it lacks from those behind it.
    ///
    /// # Errors
    /// All that it lacks.
    pub(crate) fn give(&mut self, task: TaskId, wants: &Wants) -> Result<Assigned, Vec<Lack>> {
        let lacks = self.lacks(wants);
        if !lacks.is_empty() {
            self.keep(task, wants, &lacks);
            return Err(lacks);
        }
        let assigned: Assigned =
            wants.units.iter().map(|(name, wanted)| (name.clone(), self.free_units(name, *wanted))).collect();
        self.given.take(task, &assigned, &wants.things);
        Ok(assigned)
    }

    /// All that somebody would lack who came now.
    pub(crate) fn lacks(&self, wants: &Wants) -> Vec<Lack> {
        let units = wants.units.iter().filter_map(|(name, wanted)| self.lack_of_units(name, *wanted));
        let things = wants.things.iter().filter_map(|(thing, mode)| self.lack_of(thing, *mode));
        units.chain(things).collect()
    }

    /// Who has what somebody lacks.
    pub(crate) fn who_has(&self, lack: &Lack) -> Vec<TaskId> {
        let both = [self.before, &self.given];
        let mut tasks: Vec<TaskId> = match lack {
            Lack::Units { name, .. } | Lack::Never { name, .. } | Lack::UnitsReserved { name, .. } => {
                both.iter().flat_map(|ledger| ledger.taken(name)).map(|(_, task)| task).collect()
            }
            Lack::Taken { thing, .. } | Lack::Reserved { thing, .. } => {
                both.iter().flat_map(|ledger| ledger.holders(thing)).map(|(task, _)| task).collect()
            }
        };
        tasks.sort();
        tasks.dedup();
        tasks
    }

    fn lack_of_units(&self, name: &ResourceName, wanted: u32) -> Option<Lack> {
        let count = self.capacity(name).count();
        let name = name.clone();
        if wanted > count {
            return Some(Lack::Never { name, wanted, count });
        }
        // Those that the host had once, and somebody still has, count too.
        let taken = self.before.taken(&name).count() + self.given.taken(&name).count();
        let free = count.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
        if wanted > free {
            return Some(Lack::Units { name, wanted, free, count });
        }
        let (kept, by) = *self.units_kept.get(&name)?;
        (wanted > free.saturating_sub(kept)).then_some(Lack::UnitsReserved { name, wanted, free, by })
    }

    fn lack_of(&self, thing: &Thing, mode: Mode) -> Option<Lack> {
        if self.before.excludes(thing, mode) || self.given.excludes(thing, mode) {
            return Some(Lack::Taken { thing: thing.clone(), mode });
        }
        let (kept, by) = *self.things_kept.get(thing)?;
        (!kept.bears(mode)).then(|| Lack::Reserved { thing: thing.clone(), by })
    }

    fn capacity(&self, name: &ResourceName) -> Capacity {
        self.capacities.get(name).copied().unwrap_or(Capacity::Count(0))
    }

    fn free_units(&self, name: &ResourceName, wanted: u32) -> BTreeSet<u32> {
        let taken = self.before.taken(name).chain(self.given.taken(name));
        let taken: BTreeSet<u32> = taken.map(|(unit, _)| unit).collect();
        let free = self.capacity(name).units().filter(|unit| !taken.contains(unit));
        free.take(wanted as usize).collect()
    }

    /// Keeps what a task lacks from those behind it; for the first of them all that it wants. Who wants more than there is
    /// keeps nothing.
    fn keep(&mut self, task: TaskId, wants: &Wants, lacks: &[Lack]) {
        if lacks.iter().any(|lack| matches!(lack, Lack::Never { .. })) {
            return;
        }
        let is_first = !std::mem::replace(&mut self.has_first, true);
        let lacks_units = |name: &ResourceName| {
            let of = |lack: &Lack| match lack {
                Lack::Units { name: lacked, .. } | Lack::UnitsReserved { name: lacked, .. } => lacked == name,
                Lack::Never { .. } | Lack::Taken { .. } | Lack::Reserved { .. } => false,
            };
            lacks.iter().any(of)
        };
        let lacks_thing = |thing: &Thing| {
            let of = |lack: &Lack| match lack {
                Lack::Taken { thing: lacked, .. } | Lack::Reserved { thing: lacked, .. } => lacked == thing,
                Lack::Units { .. } | Lack::Never { .. } | Lack::UnitsReserved { .. } => false,
            };
            lacks.iter().any(of)
        };
        let units: Units =
            wants.units.clone().into_iter().filter(|(name, _)| is_first || lacks_units(name)).collect();
        for (name, wanted) in units {
            let (kept, _) = self.units_kept.entry(name).or_insert((0, task));
            *kept = kept.saturating_add(wanted);
        }
        for (thing, mode) in wants.things.iter().filter(|(thing, _)| is_first || lacks_thing(thing)) {
            let (kept, _) = self.things_kept.entry(thing.clone()).or_insert((*mode, task));
            *kept = (*kept).max(*mode);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ResourceName {
        text.parse().unwrap()
    }

    fn task(number: u8) -> TaskId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
    }

    fn capacities() -> Capacities {
        [(name("gpu"), Capacity::Count(3)), (name("port"), Capacity::From { from: 8000, count: 2 })].into()
    }

    fn wants(units: &[(&str, u32)], locks: &[(&str, Mode)]) -> Wants {
        Wants {
            units: units.iter().map(|(text, count)| (name(text), *count)).collect(),
            things: locks.iter().map(|(text, mode)| (Thing::Lock(name(text)), *mode)).collect(),
        }
    }

    fn take(ledger: &mut Ledger, number: u8, wants: &Wants) -> Assigned {
        let capacities = capacities();
        let given = Round::new(&capacities, ledger).give(task(number), wants).unwrap();
        ledger.take(task(number), &given, &wants.things);
        given
    }

    #[test]
    fn units_are_handed_out_once_and_with_their_numbers() {
        let (mut ledger, capacities) = (Ledger::default(), capacities());
        let first = take(&mut ledger, 1, &wants(&[("gpu", 2), ("port", 1)], &[]));
        assert_eq!((&first[&name("gpu")], &first[&name("port")]), (&[0, 1].into(), &[8000].into()));
        let second = take(&mut ledger, 2, &wants(&[("gpu", 1), ("port", 1)], &[]));
        assert_eq!((&second[&name("gpu")], &second[&name("port")]), (&[2].into(), &[8001].into()));
        let third = wants(&[("gpu", 1), ("port", 1), ("tokens:acme", 1)], &[]);
        let lacks = Round::new(&capacities, &ledger).give(task(3), &third).unwrap_err();
        let expected = [
            Lack::Units { name: name("gpu"), wanted: 1, free: 0, count: 3 },
            Lack::Units { name: name("port"), wanted: 1, free: 0, count: 2 },
            Lack::Never { name: name("tokens:acme"), wanted: 1, count: 0 },
        ];
        assert_eq!(lacks, expected, "all at once");
        ledger.release(task(1), &first, &BTreeMap::new());
        assert_eq!(take(&mut ledger, 4, &wants(&[("gpu", 1)], &[]))[&name("gpu")], [0].into());
        ledger.release(task(2), &second, &BTreeMap::new());
        ledger.release(task(4), &[(name("gpu"), [0].into())].into(), &BTreeMap::new());
        assert_eq!(ledger, Ledger::default(), "nothing stays of what is over");
    }

    #[test]
    fn in_one_round_nothing_is_given_twice() {
        let (ledger, capacities) = (Ledger::default(), capacities());
        let mut round = Round::new(&capacities, &ledger);
        let alone = wants(&[("gpu", 2)], &[("db", Mode::Exclusive)]);
        assert_eq!(round.give(task(1), &alone).unwrap()[&name("gpu")], [0, 1].into());
        assert_eq!(round.give(task(2), &wants(&[("gpu", 1)], &[])).unwrap()[&name("gpu")], [2].into());
        let lacks = round.give(task(3), &wants(&[("gpu", 1)], &[("db", Mode::Shared)])).unwrap_err();
        assert_eq!(lacks.len(), 2, "{lacks:?}");
    }

    #[test]
    fn a_lock_is_shared_or_exclusive() {
        use Mode::{Exclusive, Shared};
        for (held, wanted, free) in [
            (Shared, Shared, true),
            (Shared, Exclusive, false),
            (Exclusive, Shared, false),
            (Exclusive, Exclusive, false),
        ] {
            let (mut ledger, capacities) = (Ledger::default(), capacities());
            take(&mut ledger, 1, &wants(&[], &[("db", held)]));
            let ask =
                |lock: &str| Round::new(&capacities, &ledger).give(task(2), &wants(&[], &[(lock, wanted)]));
            assert_eq!(ask("db").is_ok(), free, "{held:?} {wanted:?}");
            assert!(ask("other").is_ok());
        }
    }

    #[test]
    fn whoever_comes_first_is_not_overtaken_by_those_who_want_the_same() {
        let (mut ledger, capacities) = (Ledger::default(), capacities());
        take(&mut ledger, 1, &wants(&[("gpu", 2)], &[("db", Mode::Shared)]));
        let mut round = Round::new(&capacities, &ledger);
        round.give(task(2), &wants(&[("gpu", 2)], &[("db", Mode::Exclusive)])).unwrap_err();
        let small = round.give(task(3), &wants(&[("gpu", 1)], &[])).unwrap_err();
        assert_eq!(small, [Lack::UnitsReserved { name: name("gpu"), wanted: 1, free: 1, by: task(2) }]);
        let shares = round.give(task(4), &wants(&[], &[("db", Mode::Shared)])).unwrap_err();
        assert_eq!(shares, [Lack::Reserved { thing: Thing::Lock(name("db")), by: task(2) }]);
        assert!(round.give(task(5), &wants(&[("port", 2)], &[])).is_ok(), "of something else they get");
        let mut round = Round::new(&capacities, &ledger);
        round.give(task(2), &wants(&[("gpu", 4)], &[])).unwrap_err();
        assert!(
            round.give(task(3), &wants(&[("gpu", 1)], &[])).is_ok(),
            "what can never be had blocks nobody"
        );
    }

    #[test]
    fn the_first_keeps_all_that_it_wants_and_those_behind_it_only_what_they_lack() {
        let (mut ledger, capacities) = (Ledger::default(), capacities());
        take(&mut ledger, 1, &wants(&[], &[("db", Mode::Exclusive)]));
        let mut round = Round::new(&capacities, &ledger);
        let both = wants(&[("gpu", 1)], &[("db", Mode::Shared), ("log", Mode::Shared)]);
        for number in 2..=9 {
            assert_eq!(round.give(task(number), &both).unwrap_err().len(), 1);
        }
        assert!(round.give(task(10), &wants(&[("gpu", 2)], &[("log", Mode::Shared)])).is_ok());
        let late = round.give(task(11), &wants(&[("gpu", 1)], &[])).unwrap_err();
        assert_eq!(late, [Lack::UnitsReserved { name: name("gpu"), wanted: 1, free: 1, by: task(2) }]);
        let alone = round.give(task(12), &wants(&[], &[("log", Mode::Exclusive)])).unwrap_err();
        assert_eq!(alone, [Lack::Taken { thing: Thing::Lock(name("log")), mode: Mode::Exclusive }]);
    }

    #[test]
    fn nothing_new_is_given_while_more_is_taken_than_there_is() {
        let mut ledger = Ledger::default();
        take(&mut ledger, 1, &wants(&[("gpu", 1)], &[]));
        take(&mut ledger, 2, &wants(&[("gpu", 2)], &[]));
        ledger.release(task(1), &[(name("gpu"), [0].into())].into(), &BTreeMap::new());
        let fewer: Capacities = [(name("gpu"), Capacity::Count(2))].into();
        let lacks = Round::new(&fewer, &ledger).lacks(&wants(&[("gpu", 1)], &[]));
        assert_eq!(
            lacks,
            [Lack::Units { name: name("gpu"), wanted: 1, free: 0, count: 2 }],
            "0 is free, but 2 are"
        );
    }
}
