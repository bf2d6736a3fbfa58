//! The queues in memory: which tasks are live, in which order the ready ones go, and which may start. Pure.

#[cfg(test)]
mod oracle;
mod pick;
mod ready;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::id::{Name, TaskId};
use crate::needs::Waits;
use crate::resource::{Ledger, Mode, Thing, Wants};
use crate::spec::Spec;
use crate::task::State;
use crate::time::Timestamp;
use crate::workspace;

pub(crate) use ready::Ready;
pub(crate) use settings::{Lane, SET, Settings, change, parse_settings};

/// A live task: one that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) state: State,
    /// Shared, since it may be long, and does not change.
    pub(crate) spec: Arc<Spec>,
    /// The log line that holds the spec.
    pub(crate) spec_seq: u64,
}

/// One queue: its settings, and its tasks by where they stand.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) settings: Settings,
    /// What is wrong with `queue.json`; the settings are then the last good ones.
    pub(crate) settings_error: Option<String>,
    pub(crate) ready: Ready,
    pub(crate) held: BTreeSet<TaskId>,
    pub(crate) waiting: BTreeSet<TaskId>,
    pub(crate) active: BTreeSet<TaskId>,
    /// Those of them that are in a lane.
    lanes: BTreeMap<Name, BTreeSet<TaskId>>,
}

/// All live tasks.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    tasks: BTreeMap<TaskId, Live>,
    queues: BTreeMap<Name, Queue>,
    /// The waiting tasks that have a time, by it.
    times: BTreeSet<(Timestamp, TaskId)>,
    /// The tasks that have not started and have a deadline, by it.
    deadlines: BTreeSet<(Timestamp, TaskId)>,
    /// The tasks by their names.
    names: BTreeMap<Name, BTreeSet<TaskId>>,
    /// Who waits for whom.
    waits: Waits,
    /// What the active ones have beside their slots.
    ledger: Ledger,
}

impl Queues {
    pub(crate) fn task(&self, task: TaskId) -> Option<&Live> {
        self.tasks.get(&task)
    }

    pub(crate) fn tasks(&self) -> impl Iterator<Item = (TaskId, &Live)> {
        self.tasks.iter().map(|(id, live)| (*id, live))
    }

    pub(crate) fn queue(&self, name: &Name) -> Option<&Queue> {
        self.queues.get(name)
    }

    pub(crate) fn queue_mut(&mut self, name: &Name) -> &mut Queue {
        self.queues.entry(name.clone()).or_default()
    }

    pub(crate) fn names(&self) -> Vec<Name> {
        self.queues.keys().cloned().collect()
    }

    /// Adds a task, or replaces what is known of it.
    pub(crate) fn insert(&mut self, task: TaskId, live: Live) {
        self.forget(task);
        if live.state.is_ended() {
            return;
        }
        self.index(&live.spec, task, &live.state, true);
        if let Some(name) = live.spec.name.clone() {
            self.names.entry(name).or_default().insert(task);
        }
        self.waits.lives(task);
        self.tasks.insert(task, live);
    }

    /// Takes note of a task's new state. A task that ended is forgotten, and returned.
    pub(crate) fn set_state(&mut self, task: TaskId, state: &State) -> Option<Live> {
        let live = self.tasks.get_mut(&task)?;
        let before = std::mem::replace(&mut live.state, state.clone());
        let spec = Arc::clone(&live.spec);
        self.index(&spec, task, &before, false);
        self.index(&spec, task, state, true);
        if !state.is_ended() {
            return None;
        }
        self.forget_name(task, &spec);
        self.waits.ended(task);
        self.tasks.remove(&task)
    }

    /// Forgets a task, as if it had never been.
    pub(crate) fn forget(&mut self, task: TaskId) {
        if let Some(live) = self.tasks.remove(&task) {
            self.index(&live.spec, task, &live.state, false);
            self.forget_name(task, &live.spec);
        }
    }

    fn forget_name(&mut self, task: TaskId, spec: &Spec) {
        let Some(name) = &spec.name else { return };
        let is_last = self.names.get_mut(name).is_some_and(|named| named.remove(&task) && named.is_empty());
        if is_last {
            self.names.remove(name);
        }
    }

    /// Who waits for whom.
    pub(crate) fn waits(&mut self) -> &mut Waits {
        &mut self.waits
    }

    /// The waiting tasks whose time has come.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<TaskId> {
        self.times.iter().take_while(|(until, _)| *until <= now).map(|(_, task)| *task).collect()
    }

    /// The first time after `now` for which a task waits.
    pub(crate) fn next_time(&self, now: Timestamp) -> Option<Timestamp> {
        self.times.iter().map(|(until, _)| *until).find(|until| *until > now)
    }

    /// So many at most of the tasks that have not started, and whose deadline has come.
    pub(crate) fn late(&self, now: Timestamp, count: usize) -> Vec<TaskId> {
        let late = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        late.map(|(_, task)| *task).take(count).collect()
    }

    /// The first deadline after `now`.
    pub(crate) fn next_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let after = (now.plus(Duration::from_micros(1)), TaskId::from_uuid(Uuid::nil()));
        self.deadlines.range(after..).next().map(|(deadline, _)| *deadline)
    }

    fn index(&mut self, spec: &Spec, task: TaskId, state: &State, present: bool) {
        // A time that comes while it waits for others too changes nothing.
        if let State::Waiting { until: Some(until), needs: false, .. } = state {
            put(&mut self.times, (*until, task), present);
        }
        if let Some(deadline) = spec.deadline_at.filter(|_| state.may_expire()) {
            put(&mut self.deadlines, (deadline, task), present);
        }
        match (state.waits_for_others(), present) {
            (true, true) => self.waits.add(task, spec, matches!(state, State::Waiting { .. })),
            (true, false) => self.waits.remove(task, spec),
            (false, _) => {}
        }
        if let Some(assigned) = state.assigned() {
            let things = wants(spec).things;
            match present {
                true => self.ledger.take(task, assigned, &things),
                false => self.ledger.release(task, assigned, &things),
            }
        }
        let queue = self.queue_mut(&spec.queue);
        match state {
            State::Held { .. } => put(&mut queue.held, task, present),
            State::Waiting { .. } => put(&mut queue.waiting, task, present),
            State::Ready { rank, .. } => {
                queue.ready.put((*rank, task), spec.lane.clone(), wants(spec), present);
            }
            State::Active { .. } | State::Cancelling { .. } => {
                put(&mut queue.active, task, present);
                if let Some(lane) = &spec.lane {
                    let of_lane = queue.lanes.entry(lane.clone()).or_default();
                    put(of_lane, task, present);
                    if of_lane.is_empty() {
                        queue.lanes.remove(lane);
                    }
                }
            }
            State::Ended { .. } => {}
        }
    }

    /// The live tasks that `target` names: by id, by the end of the id, or by the task's name.
    pub(crate) fn find(&self, target: &str) -> Vec<TaskId> {
        let id = target.split_once('.').map_or(target, |(task, _)| task);
        if let Ok(task) = id.parse::<TaskId>() {
            return self.tasks.contains_key(&task).then_some(task).into_iter().collect();
        }
        let named = target.parse::<Name>().ok().and_then(|name| self.names.get(&name));
        let mut found: BTreeSet<TaskId> = named.into_iter().flatten().copied().collect();
        // Ids are compared one by one only with what can be the end of one.
        let is_end = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        if target.len() >= 4 && target.bytes().all(is_end) {
            found.extend(self.tasks.keys().filter(|task| task.to_string().ends_with(target)));
        }
        found.into_iter().collect()
    }

    /// What the active tasks have beside their slots.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

impl Queue {
    /// Whether something of it runs, or will without anybody's doing.
    pub(crate) fn has_work(&self) -> bool {
        !self.active.is_empty() || !self.waiting.is_empty() || self.ready.iter().next().is_some()
    }

    /// The active tasks of a lane.
    pub(crate) fn in_lane(&self, lane: &Name) -> Option<&BTreeSet<TaskId>> {
        self.lanes.get(lane)
    }
}

/// What a task wants beside a slot.
pub(crate) fn wants(spec: &Spec) -> Wants {
    let units = spec.resources.iter().filter(|(_, wanted)| **wanted > 0);
    let locks = spec.locks.iter().map(|(name, mode)| (Thing::Lock(name.clone()), *mode));
    let directory = own_directory(spec).map(|path| (Thing::Directory(path.to_owned()), Mode::Exclusive));
    Wants {
        units: units.map(|(name, wanted)| (name.clone(), *wanted)).collect(),
        things: locks.chain(directory).collect(),
    }
}

/// The directory that a task needs for itself, if it works in one.
pub(crate) fn own_directory(spec: &Spec) -> Option<&str> {
    let itself = spec.workspace.kind == Some(workspace::Kind::Directory);
    spec.directory.as_deref().filter(|_| itself)
}

fn put<T: Ord>(set: &mut BTreeSet<T>, value: T, present: bool) {
    if present {
        set.insert(value);
    } else {
        set.remove(&value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Rank;
    use crate::outcome::Outcome;
    use crate::resource::{Assigned, Capacities};

    fn id(n: u8) -> TaskId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{n:02x}").parse().unwrap()
    }

    fn ready(rank: u8) -> Live {
        let state = State::Ready { rank: Rank::try_from(rank).unwrap(), attempts: 0 };
        Live { state, spec: Arc::default(), spec_seq: 1 }
    }

    fn default_queue(queues: &Queues) -> &Queue {
        queues.queue(&"default".parse().unwrap()).unwrap()
    }

    fn picked(queues: &Queues) -> Vec<TaskId> {
        queues.pick(&Capacities::new(), |_| true).starts.into_iter().map(|(task, _)| task).collect()
    }

    fn active() -> State {
        let (host, rank) = ("h".parse().unwrap(), Rank::default());
        State::Active { attempt: 1, host, rank, assigned: Assigned::new() }
    }

    #[test]
    fn ready_tasks_start_by_rank_then_age_while_slots_are_free() {
        let mut queues = Queues::default();
        for (n, rank) in [(1, 50), (2, 50), (3, 10), (4, 99)] {
            queues.insert(id(n), ready(rank));
        }
        assert_eq!(picked(&queues), [id(3), id(1)]);
        queues.set_state(id(3), &active());
        assert_eq!(picked(&queues), [id(1)]);
        queues.set_state(id(1), &active());
        assert_eq!(picked(&queues), []);
        queues.set_state(
            id(3),
            &State::Ended { outcome: Outcome::Lost, attempts: 1, rank: Rank::default(), because: None },
        );
        assert_eq!(picked(&queues), [id(2)]);
        assert!(queues.task(id(3)).is_none(), "what ended is not kept");
    }

    #[test]
    fn a_waiting_task_is_due_at_its_time_and_takes_no_slot() {
        let mut queues = Queues::default();
        let at = Timestamp::from_micros;
        for (n, until) in [(1, 20), (2, 10), (3, 20)] {
            let state =
                State::Waiting { rank: Rank::default(), attempts: 0, until: Some(at(until)), needs: false };
            queues.insert(id(n), Live { state, ..ready(50) });
        }
        assert_eq!((queues.due(at(9)), queues.next_time(at(9))), (vec![], Some(at(10))));
        assert_eq!((queues.due(at(10)), queues.next_time(at(10))), (vec![id(2)], Some(at(20))));
        assert_eq!((queues.due(at(30)), queues.next_time(at(20))), (vec![id(2), id(1), id(3)], None));
        assert_eq!(picked(&queues), []);
        queues.set_state(id(1), &State::Ready { rank: Rank::default(), attempts: 0 });
        queues.set_state(
            id(2),
            &State::Held { rank: Rank::default(), attempts: 0, until: Some(at(10)), needs: false },
        );
        assert_eq!((queues.due(at(30)), picked(&queues)), (vec![id(3)], vec![id(1)]));
        queues.forget(id(3));
        assert!(queues.due(at(30)).is_empty() && default_queue(&queues).waiting.is_empty());
    }

    #[test]
    fn a_deadline_counts_until_a_task_starts_or_ends_and_the_next_one_is_found_among_many() {
        let at = Timestamp::from_micros;
        let with = |deadline| Arc::new(Spec { deadline_at: Some(at(deadline)), ..Spec::default() });
        let mut queues = Queues::default();
        for (n, deadline) in [(1, 20), (2, 10), (3, 20), (4, 30)] {
            queues.insert(id(n), Live { spec: with(deadline), ..ready(50) });
        }
        queues.insert(id(5), ready(50));
        assert_eq!((queues.late(at(9), 9), queues.next_deadline(at(9))), (vec![], Some(at(10))));
        assert_eq!(
            (queues.late(at(20), 9), queues.next_deadline(at(20))),
            (vec![id(2), id(1), id(3)], Some(at(30)))
        );
        assert_eq!(queues.late(at(20), 2), [id(2), id(1)]);
        queues.set_state(id(2), &active());
        let held = State::Held { rank: Rank::default(), attempts: 0, until: None, needs: false };
        queues.set_state(id(1), &held);
        assert_eq!(queues.late(at(30), 9), [id(1), id(3), id(4)], "what runs is its supervisor's");
        let again = State::Ready { rank: Rank::default(), attempts: 1 };
        queues.set_state(id(2), &again);
        queues.insert(id(3), Live { spec: with(40), ..ready(50) });
        queues.forget(id(4));
        let over =
            State::Ended { outcome: Outcome::Expired, attempts: 0, rank: Rank::default(), because: None };
        queues.set_state(id(1), &over);
        assert_eq!((queues.late(at(50), 9), queues.next_deadline(at(40))), (vec![id(2), id(3)], None));
    }

    #[test]
    fn a_task_is_found_by_id_by_its_end_and_by_name() {
        let mut queues = Queues::default();
        let mut named = ready(50);
        named.spec = Arc::new(Spec { name: "build".parse().ok(), ..Spec::default() });
        queues.insert(id(1), named.clone());
        queues.insert(id(2), ready(50));
        assert_eq!(queues.find("build"), [id(1)]);
        assert_eq!(queues.find("8001"), [id(1)]);
        assert_eq!(queues.find(&id(2).to_string()), [id(2)]);
        assert_eq!(queues.find(&format!("{}.1", id(2))), [id(2)]);
        assert_eq!(queues.find("a80"), []);
        queues.insert(id(3), named);
        assert_eq!(queues.find("build").len(), 2);
    }
}
