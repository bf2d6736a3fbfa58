//! `pick` against a plain one that goes through all tasks, and what must hold of both.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::id::Rank;
use crate::outcome::Outcome;
use crate::resource::{Assigned, Capacities, Capacity, Lack, ResourceName, Round};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn resource(text: &str) -> ResourceName {
    text.parse().unwrap()
}

fn id(number: usize) -> TaskId {
    format!("01890a5d-ac96-774b-bcce-b302{number:08x}").parse().unwrap()
}

/// A task of few ranks, queues, lanes and wants, so that they are often the same.
fn spec() -> impl Strategy<Value = (u8, Spec)> {
    let units = btree_map(select(vec!["gpu", "port", "none"]).prop_map(resource), 0..4_u32, 0..2);
    let mode = select(vec![Mode::Shared, Mode::Exclusive]);
    let locks = btree_map(select(vec!["a", "b"]).prop_map(resource), mode, 0..3);
    let directory = proptest::option::weighted(0.2, select(vec!["/x", "/y"]));
    let lane = proptest::option::of(select(vec!["one", "two", "free"]).prop_map(name));
    let queue = select(vec!["p", "q"]).prop_map(name);
    (select(vec![10_u8, 50]), queue, lane, units, locks, directory).prop_map(
        |(rank, queue, lane, resources, locks, directory)| {
            let mut spec = Spec { queue, lane, resources, locks, ..Spec::default() };
            spec.directory = directory.map(ToOwned::to_owned);
            spec.workspace.kind = directory.map(|_| workspace::Kind::Directory);
            (rank, spec)
        },
    )
}

fn capacities() -> Capacities {
    [(resource("gpu"), Capacity::Count(3)), (resource("port"), Capacity::From { from: 80, count: 2 })].into()
}

fn queues(specs: &[(u8, Spec)], slots: u32) -> Queues {
    let mut queues = Queues::default();
    for queue in ["p", "q"] {
        let lanes = b"{\"lanes\": {\"one\": {\"slots\": 1}, \"two\": {\"slots\": 2}}}";
        let settings = parse_settings(lanes).unwrap();
        queues.queue_mut(&name(queue)).settings = Settings { slots, ..settings };
    }
    for (number, (rank, spec)) in specs.iter().enumerate() {
        let state = State::Ready { rank: Rank::try_from(*rank).unwrap(), attempts: 0 };
        queues.insert(id(number), Live { state, spec: Arc::new(spec.clone()), spec_seq: 1 });
    }
    queues
}

/// The same rules without an index: each ready task is looked at, in the order of rank and age.
fn plain(queues: &Queues, capacities: &Capacities) -> Vec<(TaskId, Assigned)> {
    let mut ready: Vec<(Rank, TaskId, &Spec)> = queues
        .tasks()
        .filter_map(|(task, live)| {
            let State::Ready { rank, .. } = live.state else { return None };
            Some((rank, task, &*live.spec))
        })
        .collect();
    ready.sort_by_key(|(rank, task, _)| (*rank, *task));
    let mut round = Round::new(capacities, queues.ledger());
    let mut starts: Vec<(TaskId, Assigned)> = Vec::new();
    let (mut kinds_lack, mut groups_lack) = (BTreeSet::new(), BTreeSet::new());
    for (_, task, spec) in ready {
        let queue = queues.queue(&spec.queue).unwrap();
        let is_of = |other: &TaskId, same: &dyn Fn(&Spec) -> bool| same(&queues.task(*other).unwrap().spec);
        let started =
            |same: &dyn Fn(&Spec) -> bool| starts.iter().filter(|(other, _)| is_of(other, same)).count();
        let active =
            |same: &dyn Fn(&Spec) -> bool| queue.active.iter().filter(|other| is_of(other, same)).count();
        let same_queue = |other: &Spec| other.queue == spec.queue;
        let same_lane = |other: &Spec| same_queue(other) && other.lane == spec.lane;
        let full = active(&same_queue) + started(&same_queue) >= queue.settings.slots as usize;
        let lane = queue.settings.lane_slots(spec.lane.as_ref());
        let lane_full = lane.is_some_and(|slots| active(&same_lane) + started(&same_lane) >= slots as usize);
        let wants = wants(spec);
        let kind = (spec.queue.clone(), spec.lane.clone(), wants.units.clone());
        let group = (kind.clone(), wants.things.clone());
        if full || lane_full || kinds_lack.contains(&kind) || groups_lack.contains(&group) {
            continue;
        }
        match round.give(task, &wants) {
            Ok(assigned) => starts.push((task, assigned)),
            Err(lacks) if lacks.iter().any(Lack::is_of_units) => drop(kinds_lack.insert(kind)),
            Err(_) => drop(groups_lack.insert(group)),
        }
    }
    starts
}

/// Lets those run that may.
fn start(queues: &mut Queues, starts: Vec<(TaskId, Assigned)>) {
    for (task, assigned) in starts {
        let (host, rank) = (name("h"), Rank::default());
        queues.set_state(task, &State::Active { attempt: 1, host, rank, assigned });
    }
}

/// Nothing is had twice, and no number is gone beyond.
fn check_limits(queues: &Queues) {
    let mut had = BTreeSet::new();
    let mut things: BTreeMap<Thing, Vec<Mode>> = BTreeMap::new();
    for (task, live) in queues.tasks().filter(|(_, live)| live.state.live_attempt().is_some()) {
        let wants = wants(&live.spec);
        for (resource, units) in live.state.assigned().unwrap() {
            assert_eq!(units.len(), wants.units[resource] as usize, "{task} has what it wants");
            units
                .iter()
                .for_each(|unit| assert!(had.insert((resource.clone(), *unit)), "{resource} {unit} twice"));
        }
        for (thing, mode) in wants.things {
            things.entry(thing).or_default().push(mode);
        }
    }
    for (thing, modes) in things {
        assert!(modes.len() == 1 || modes.iter().all(|mode| *mode == Mode::Shared), "{thing:?} {modes:?}");
    }
    for queue in queues.names() {
        let queue = queues.queue(&queue).unwrap();
        assert!(queue.active.len() <= queue.settings.slots as usize);
        for (lane, settings) in &queue.settings.lanes {
            assert!(queue.in_lane(lane).map_or(0, BTreeSet::len) <= settings.slots as usize);
        }
    }
}

proptest! {
    #[test]
    fn pick_is_what_the_plain_one_picks_and_all_start_in_the_end(
        specs in vec(spec(), 1..40),
        slots in 1..6_u32,
        ends in vec(any::<proptest::sample::Index>(), 200),
        late in vec(spec(), 20),
    ) {
        let (mut queues, capacities) = (queues(&specs, slots), capacities());
        let mut late = late.into_iter().enumerate();
        for end in ends {
            let picked = queues.pick(&capacities, |_| true).starts;
            prop_assert_eq!(&picked, &plain(&queues, &capacities));
            start(&mut queues, picked);
            check_limits(&queues);
            let active: Vec<TaskId> =
                queues.tasks().filter(|(_, live)| live.state.live_attempt().is_some()).map(|(task, _)| task).collect();
            if active.is_empty() {
                break;
            }
            let ended = ended();
            queues.set_state(*end.get(&active), &ended);
            // Others come meanwhile, behind those that are there.
            if let Some((number, (_, spec))) = late.next() {
                let state = State::Ready { rank: Rank::try_from(50).unwrap(), attempts: 0 };
                queues.insert(id(1000 + number), Live { state, spec: Arc::new(spec), spec_seq: 1 });
            }
        }
        for (task, live) in queues.tasks() {
            let never = live.spec.resources.iter().any(|(resource, wanted)| {
                *wanted > capacities.get(resource).map_or(0, |capacity| capacity.count())
            });
            prop_assert!(never, "{task} stays, and could have started: {:?}", live.spec);
        }
        let nothing = Queues::default();
        prop_assert!(queues.ledger() == nothing.ledger(), "what nobody runs has nothing");
    }
}

#[test]
fn a_free_lane_is_found_behind_many_tasks_of_full_ones() {
    let lane = |lane: &str| Spec { lane: lane.parse().ok(), queue: name("p"), ..Spec::default() };
    let mut specs = vec![(50, lane("one")); 100_000];
    specs.push((50, lane("two")));
    let mut queues = queues(&specs, 3);
    let picked = queues.pick(&Capacities::new(), |_| true).starts;
    let tasks: Vec<TaskId> = picked.iter().map(|(task, _)| *task).collect();
    assert_eq!(tasks, [id(0), id(100_000)]);
    start(&mut queues, picked);
    assert_eq!(queues.pick(&Capacities::new(), |_| true).starts, []);
}

#[test]
fn who_wants_much_is_not_overtaken_for_ever_by_those_who_want_little() {
    let spec = |units: u32, lock: bool| Spec {
        queue: name("p"),
        resources: [(resource("gpu"), units)].into(),
        locks: if lock { [(resource("a"), Mode::Exclusive)].into() } else { BTreeMap::new() },
        ..Spec::default()
    };
    let mut queues = queues(&[(50, spec(1, true)), (50, spec(1, false)), (50, spec(3, true))], 4);
    let capacities = capacities();
    for number in 3..40 {
        queues.insert(id(number), queues.task(id(1)).unwrap_or(&ready_like(spec(1, false))).clone());
        let picked = queues.pick(&capacities, |_| true).starts;
        let starts: Vec<TaskId> = picked.iter().map(|(task, _)| *task).collect();
        if starts.contains(&id(2)) {
            assert!(number < 8, "it came as soon as those ended that ran when it was first");
            return;
        }
        start(&mut queues, picked);
        let first =
            queues.tasks().find(|(_, live)| live.state.live_attempt().is_some()).map(|(task, _)| task);
        queues.set_state(first.unwrap(), &ended());
    }
    panic!("it never started");
}

/// How a task ends here.
fn ended() -> State {
    State::Ended { outcome: Outcome::Succeeded, attempts: 1, rank: Rank::default(), because: None }
}

fn ready_like(spec: Spec) -> Live {
    let state = State::Ready { rank: Rank::default(), attempts: 0 };
    Live { state, spec: Arc::new(spec), spec_seq: 1 }
}
