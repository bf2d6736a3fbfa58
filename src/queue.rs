//! The queues in memory: which tasks are live, in which order the ready ones go, and which may start. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{Name, Rank, TaskId};
use crate::json::{self, Shape};
use crate::needs::Waits;
use crate::refusal::Refusal;
use crate::spec::Spec;
use crate::task::State;
use crate::time::Timestamp;
use crate::workspace::Kind;

/// A queue's settings, `queue.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// How many runs it may have at once on this host.
    pub(crate) slots: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { slots: 2 }
    }
}

const SHAPE: Shape = Shape(&[("slots", None)]);

/// Reads a queue's settings.
pub(crate) fn parse_settings(bytes: &[u8]) -> Result<Settings, Refusal> {
    let map = json::parse_object(bytes)?;
    json::check_keys(&map, &SHAPE, "$")?;
    let absent = !map.contains_key("slots");
    json::typed(if absent {
        [("slots".to_owned(), Value::from(Settings::default().slots))].into_iter().collect()
    } else {
        map
    })
}

/// How many tasks whose place is taken are passed over to find one whose place is free.
const PASSED_OVER_MAX: usize = 1000;

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
    pub(crate) ready: BTreeSet<(Rank, TaskId)>,
    pub(crate) held: BTreeSet<TaskId>,
    pub(crate) waiting: BTreeSet<TaskId>,
    pub(crate) active: BTreeSet<TaskId>,
}

/// All live tasks.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    tasks: BTreeMap<TaskId, Live>,
    queues: BTreeMap<Name, Queue>,
    /// The waiting tasks that have a time, by it.
    times: BTreeSet<(Timestamp, TaskId)>,
    /// The tasks by their names.
    names: BTreeMap<Name, BTreeSet<TaskId>>,
    /// Who waits for whom.
    waits: Waits,
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

    fn index(&mut self, spec: &Spec, task: TaskId, state: &State, present: bool) {
        // A time that comes while it waits for others too changes nothing.
        if let State::Waiting { until: Some(until), needs: false, .. } = state {
            put(&mut self.times, (*until, task), present);
        }
        match (state.waits_for_others(), present) {
            (true, true) => self.waits.add(task, spec, matches!(state, State::Waiting { .. })),
            (true, false) => self.waits.remove(task, spec),
            (false, _) => {}
        }
        let queue = self.queue_mut(&spec.queue);
        match state {
            State::Held { .. } => put(&mut queue.held, task, present),
            State::Waiting { .. } => put(&mut queue.waiting, task, present),
            State::Ready { rank, .. } => put(&mut queue.ready, (*rank, task), present),
            State::Active { .. } | State::Cancelling { .. } => put(&mut queue.active, task, present),
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

    /// The directories in which tasks work themselves, one at a time.
    pub(crate) fn taken_directories(&self) -> BTreeSet<String> {
        let active = self.queues.values().flat_map(|queue| &queue.active);
        active.filter_map(|task| own_directory(&self.tasks.get(task)?.spec).map(ToOwned::to_owned)).collect()
    }
}

impl Queue {
    /// The tasks that may start now, in the order in which `ls ready/` shows them. `is_free` tells whether a task's
    /// place is; one that is not is passed over, so that it keeps no slot from others.
    pub(crate) fn pick(&self, is_free: impl FnMut(&TaskId) -> bool) -> Vec<TaskId> {
        let slots = usize::try_from(self.settings.slots).unwrap_or(usize::MAX);
        let free_slots = slots.saturating_sub(self.active.len());
        if free_slots == 0 {
            return Vec::new();
        }
        let first = self.ready.iter().take(PASSED_OVER_MAX + free_slots).map(|(_, task)| *task);
        first.filter(is_free).take(free_slots).collect()
    }
}

/// The directory that a task needs for itself, if it works in one.
pub(crate) fn own_directory(spec: &Spec) -> Option<&str> {
    let itself = spec.workspace.kind == Some(Kind::Directory);
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
    use crate::outcome::Outcome;

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

    #[test]
    fn ready_tasks_start_by_rank_then_age_while_slots_are_free() {
        let mut queues = Queues::default();
        for (n, rank) in [(1, 50), (2, 50), (3, 10), (4, 99)] {
            queues.insert(id(n), ready(rank));
        }
        assert_eq!(default_queue(&queues).pick(|_| true), [id(3), id(1)]);
        let active = State::Active { attempt: 1, host: "h".parse().unwrap(), rank: Rank::default() };
        queues.set_state(id(3), &active);
        assert_eq!(default_queue(&queues).pick(|_| true), [id(1)]);
        queues.set_state(id(1), &active);
        assert_eq!(default_queue(&queues).pick(|_| true), []);
        queues.set_state(
            id(3),
            &State::Ended { outcome: Outcome::Lost, attempts: 1, rank: Rank::default(), because: None },
        );
        assert_eq!(default_queue(&queues).pick(|_| true), [id(2)]);
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
        assert_eq!(default_queue(&queues).pick(|_| true), []);
        queues.set_state(id(1), &State::Ready { rank: Rank::default(), attempts: 0 });
        queues.set_state(
            id(2),
            &State::Held { rank: Rank::default(), attempts: 0, until: Some(at(10)), needs: false },
        );
        assert_eq!((queues.due(at(30)), default_queue(&queues).pick(|_| true)), (vec![id(3)], vec![id(1)]));
        queues.forget(id(3));
        assert!(queues.due(at(30)).is_empty() && default_queue(&queues).waiting.is_empty());
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

    #[test]
    fn slots_are_read_strictly() {
        assert_eq!(parse_settings(b"{\"slots\": 7}").unwrap().slots, 7);
        assert_eq!(parse_settings(b"{}").unwrap(), Settings::default());
        for bad in ["{\"slots\": -1}", "{\"slot\": 1}", "{\"slots\": \"2\"}", "{\"slots\": 1", ""] {
            assert!(parse_settings(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
