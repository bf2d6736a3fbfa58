//! All sequences of up to three verbs, with a crash before each call that changes the disk while the last one is done.
//!
//! A crash in an earlier verb is one in the last verb of a shorter sequence, so that it is not looked at again. Each
//! crash is looked at twice: the power goes, and every state of the disk that is then legal is recovered; and the process
//! that is making the call is killed, also half-way through a write, while the others live on. Recovery from a power cut
//! is itself cut short at one place, and recovered from.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::oracle::{Seen, SpoolLine};
use super::verbs::Verb;
use super::world::World;
use crate::simulated::{Ends, Lot, Recorded, Tree, on};

/// How thoroughly to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How many states of the disk are looked at for each crash.
    pub(super) states_max: usize,
    /// Whether processes are killed too, each time with the sequence done anew.
    pub(super) kills: bool,
    /// One of so many recoveries is itself cut short.
    pub(super) recut_one_in: usize,
}

/// What was looked at.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sequences: u64,
    /// Calls before which the power went, and of those how many with all legal states of the disk.
    pub(super) cuts: u64,
    pub(super) cuts_with_all: u64,
    /// States of the disk that were recovered; those that had been already are not counted.
    pub(super) states: u64,
    pub(super) kills: u64,
    /// Recoveries that were cut short.
    pub(super) recut: u64,
    known: HashSet<u64>,
}

impl Tally {
    pub(super) fn words(&self) -> String {
        format!(
            "{{\"sequences\":{},\"power_cuts\":{},\"with_all_states\":{},\"disks_recovered\":{},\"kills\":{},\"recoveries_cut\":{}}}",
            self.sequences, self.cuts, self.cuts_with_all, self.states, self.kills, self.recut
        )
    }
}

/// A spool on which one task runs, one is ready and one is held.
pub(super) const BEGIN: [Verb; 3] = [Verb::Submit, Verb::Submit, Verb::SubmitHeld];

/// Does `verbs` after `before`, with crashes while the last is done.
///
/// # Errors
/// What did not hold, and after which crash.
pub(super) fn explore(
    before: &[Verb],
    verbs: &[Verb],
    bounds: Bounds,
    tally: &mut Tally,
) -> Result<(), String> {
    tally.sequences += 1;
    let Some((last, first)) = verbs.split_last() else { return Ok(()) };
    let told = |problem: String| format!("{verbs:?}: {problem}");
    let mut world = begun(before, first);
    let begin = on(|machine| {
        machine.recorded = Some(Vec::new());
        machine.steps
    });
    world.act(*last).expect("because nobody is killed");
    let mut recorded = on(|machine| machine.recorded.take()).unwrap_or_default();
    recorded.push(recorded_now());
    let seen: Vec<Seen> = (begin..).zip(&recorded).map(|(step, at)| world.seen(at, step)).collect();
    let lines = on(|machine| machine.tree.clone());
    let lines = world.lines_of(&lines);
    world.finish().expect("because nobody is killed");
    let end = seen.last().cloned().unwrap_or_default();
    let checked = world.check(&end, &lines).and_then(|()| world.check_at_end());
    checked.map_err(|problem| told(format!("without a crash: {problem}")))?;
    for (at, (recorded, seen)) in recorded.iter().zip(&seen).enumerate() {
        cut(&world, recorded, seen, bounds, tally)
            .map_err(|problem| told(format!("cut at {at}: {problem}")))?;
    }
    drop(world);
    if bounds.kills {
        for step in 0..recorded.len() as u64 {
            for half in [false, true] {
                kill(before, verbs, Ends { step: begin + step, half }, bounds, tally)
                    .map_err(|problem| told(format!("killed at {step}, half {half}: {problem}")))?;
            }
        }
    }
    Ok(())
}

/// A spool on which this was done.
fn begun(before: &[Verb], first: &[Verb]) -> World {
    let mut world = World::new();
    world.start_daemon().expect("because nobody is killed");
    before.iter().for_each(|verb| world.act(*verb).expect("because nobody is killed"));
    // As if a minute had passed: what is not on disk then was done by the verbs.
    on(|machine| machine.tree.sync_all());
    first.iter().for_each(|verb| world.act(*verb).expect("because nobody is killed"));
    world
}

/// The power goes: recovers each state that it may leave.
fn cut(
    world: &World,
    recorded: &Recorded,
    seen: &Seen,
    bounds: Bounds,
    tally: &mut Tally,
) -> Result<(), String> {
    tally.cuts += 1;
    let mut lot = Lot::new(recorded.tree.hash());
    let states = recorded.tree.cut(bounds.states_max, &mut lot);
    tally.cuts_with_all += u64::from(states.is_all);
    for state in states.states {
        let mut hasher = DefaultHasher::new();
        (state.hash(), seen).hash(&mut hasher);
        if !tally.known.insert(hasher.finish()) {
            continue;
        }
        tally.states += 1;
        let again = lot.one_in(bounds.recut_one_in).then(|| lot.clone());
        recover(world, &state, seen, again, tally)
            .map_err(|problem| format!("{problem}\n{}", shown(&state)))?;
    }
    Ok(())
}

/// Starts a daemon on what a power cut has left, and sees to it that all comes to its end; with `again`, that is cut short
/// itself once.
fn recover(
    world: &World,
    state: &Tree,
    seen: &Seen,
    again: Option<Lot>,
    tally: &mut Tally,
) -> Result<(), String> {
    let mut next = world.on_another_machine(state.clone(), seen);
    let lines = next.lines_of(state);
    let Some(mut lot) = again else { return finish_and_check(&mut next, seen, &lines) };
    tally.recut += 1;
    let recorded = recorded_recovery(&mut next);
    let at = lot.below(recorded.len());
    cut_again(&next, &recorded[at], seen, &lines, 4)
        .map_err(|problem| format!("cut again at {at}: {problem}"))
}

/// Starts a daemon, and tells what was on the disk before each call that changed it.
fn recorded_recovery(world: &mut World) -> Vec<Recorded> {
    on(|machine| machine.recorded = Some(Vec::new()));
    world.start_daemon().expect("because nobody is killed");
    world.settle().expect("because nobody is killed");
    on(|machine| machine.recorded.take()).unwrap_or_default()
}

fn cut_again(
    world: &World,
    recorded: &Recorded,
    seen: &Seen,
    lines: &[SpoolLine],
    states_max: usize,
) -> Result<(), String> {
    let seen = world.seen(recorded, u64::MAX).and(seen);
    let states = recorded.tree.cut(states_max, &mut Lot::new(recorded.tree.hash())).states;
    states.into_iter().try_for_each(|state| {
        let mut after = world.on_another_machine(state, &seen);
        finish_and_check(&mut after, &seen, lines)
    })
}

/// Does verbs; then the power goes, and goes again before each call of the recovery.
///
/// # Errors
/// What did not hold, and after which cut.
pub(super) fn explore_recovery(verbs: &[Verb], states_max: usize, tally: &mut Tally) -> Result<(), String> {
    let world = begun(&BEGIN, verbs);
    let now = recorded_now();
    let seen = world.seen(&now, u64::MAX);
    let lines = world.lines_of(&now.tree);
    let mut next = world.on_another_machine(now.tree, &seen);
    on(|machine| machine.tree.sync_all());
    let recorded = recorded_recovery(&mut next);
    for (at, recorded) in recorded.iter().enumerate() {
        tally.recut += 1;
        cut_again(&next, recorded, &seen, &lines, states_max)
            .map_err(|problem| format!("{verbs:?}: the recovery is cut at {at}: {problem}"))?;
    }
    Ok(())
}

/// Does a verb, with the daemon killed when it has written a line and not synced it; then the power goes before each call of
/// the recovery.
///
/// # Errors
/// What did not hold, and after which kill and cut.
pub(super) fn explore_unsynced(verb: Verb, tally: &mut Tally) -> Result<(), String> {
    for step in 0..u64::MAX {
        let mut world = begun(&BEGIN, &[]);
        let ends = Ends { step: on(|machine| machine.steps) + step, half: false };
        on(|machine| machine.ends = Some(ends));
        if world.act(verb).is_ok() {
            return Ok(());
        }
        let (now, mut lot) = (recorded_now(), Lot::new(step));
        let lines = world.lines_of(&now.tree);
        let states = now.tree.cut(2, &mut lot).states;
        if world.daemon.is_some() || states.iter().all(|state| world.lines_of(state).len() == lines.len()) {
            continue;
        }
        let seen = world.seen(&now, u64::MAX);
        for (at, recorded) in recorded_recovery(&mut world).iter().enumerate() {
            tally.recut += 1;
            let told = |problem| format!("{verb:?}: killed at {step}, cut at {at}: {problem}");
            cut_again(&world, recorded, &seen, &[], 2).map_err(told)?;
        }
    }
    Ok(())
}

fn finish_and_check(world: &mut World, seen: &Seen, lines: &[SpoolLine]) -> Result<(), String> {
    world.start_daemon().expect("because nobody is killed");
    world.settle().expect("because nobody is killed");
    world.finish().expect("because nobody is killed");
    world.check(seen, lines)?;
    world.check_at_end()
}

/// Does the verbs, with the process killed that makes a call; then starts a daemon if there is none.
fn kill(
    before: &[Verb],
    verbs: &[Verb],
    ends: Ends,
    bounds: Bounds,
    tally: &mut Tally,
) -> Result<(), String> {
    let Some((last, first)) = verbs.split_last() else { return Ok(()) };
    let mut world = begun(before, first);
    on(|machine| machine.ends = Some(ends));
    let killed = world.act(*last).is_err();
    on(|machine| machine.ends = None);
    if !killed {
        return Ok(());
    }
    tally.kills += 1;
    let (now, steps) = (recorded_now(), on(|machine| machine.steps));
    let (seen, lines) = (world.seen(&now, steps), world.lines_of(&now.tree));
    if world.daemon.is_none() {
        world.start_daemon().expect("because nobody is killed");
    }
    world.wait(Duration::from_secs(1)).expect("because nobody is killed");
    let later = recorded_now();
    world.finish().expect("because nobody is killed");
    world.check(&seen, &lines)?;
    world.check_at_end()?;
    if !Lot::new(ends.step).one_in(bounds.recut_one_in) {
        return Ok(());
    }
    // What the killed process has not brought to the disk, those who live must.
    let seen = world.seen(&later, u64::MAX).and(&seen);
    let bounds = Bounds { states_max: 4, ..bounds };
    cut(&world, &later, &seen, bounds, tally).map_err(|problem| format!("then cut: {problem}"))
}

pub(super) fn recorded_now() -> Recorded {
    on(|machine| machine.recorded_now())
}

/// The power goes now.
///
/// # Errors
/// What does not hold of one of so many states that it may leave.
pub(super) fn check_cut(world: &mut World, states_max: usize) -> Result<(), String> {
    let recorded = recorded_now();
    let seen = world.seen(&recorded, u64::MAX);
    world.kill_all();
    cut(world, &recorded, &seen, Bounds { states_max, kills: false, recut_one_in: 8 }, &mut Tally::default())
}

/// What lies on a disk, for people.
fn shown(tree: &Tree) -> String {
    let shown =
        |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).replace('\n', "\n    ");
    tree.files()
        .iter()
        .map(|(path, bytes)| format!("{path} ({})\n    {}\n", bytes.len(), shown(bytes)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::environment;

    /// Explores all sequences that are as long as this, in an order drawn by lot, until `is_over`; tells whether it came
    /// through all.
    fn explore_all(length: usize, bounds: Bounds, tally: &mut Tally, is_over: impl Fn() -> bool) -> bool {
        let mut all: Vec<Vec<Verb>> = vec![vec![]];
        for _ in 0..length {
            all = all.iter().flat_map(|verbs| Verb::ALL.map(|verb| [&verbs[..], &[verb]].concat())).collect();
        }
        let mut lot = Lot::new(7);
        while !all.is_empty() && !is_over() {
            let verbs = all.swap_remove(lot.below(all.len()));
            explore(&BEGIN, &verbs, bounds, tally).unwrap_or_else(|problem| panic!("{problem}"));
        }
        all.is_empty()
    }

    #[test]
    fn nothing_is_lost_whenever_the_power_goes_or_a_process_is_killed() {
        let mut tally = Tally::default();
        let minutes: Option<u64> =
            environment::value("SIM_MINUTES").and_then(|text| text.to_str()?.parse().ok());
        let Some(minutes) = minutes else {
            let bounds = Bounds { states_max: 5, kills: true, recut_one_in: 16 };
            explore(&[], &[Verb::Submit], bounds, &mut tally).unwrap_or_else(|problem| panic!("{problem}"));
            assert!(explore_all(1, bounds, &mut tally, || false));
            explore_recovery(&[Verb::Submit], 4, &mut tally).unwrap_or_else(|problem| panic!("{problem}"));
            explore_unsynced(Verb::Submit, &mut tally).unwrap_or_else(|problem| panic!("{problem}"));
            return;
        };
        let end = clock::monotonic() + Duration::from_secs(60 * minutes);
        let is_over = || end <= clock::monotonic();
        for verb in Verb::ALL {
            explore_recovery(&[verb], 40, &mut tally).unwrap_or_else(|problem| panic!("{problem}"));
            explore_unsynced(verb, &mut tally).unwrap_or_else(|problem| panic!("{problem}"));
        }
        for (length, bounds) in [
            (1, Bounds { states_max: 60, kills: true, recut_one_in: 8 }),
            (2, Bounds { states_max: 16, kills: true, recut_one_in: 8 }),
            (3, Bounds { states_max: 8, kills: false, recut_one_in: 8 }),
        ] {
            let before = tally.words();
            let is_all = explore_all(length, bounds, &mut tally, is_over);
            println!(
                "{{\"verbs\":{length},\"all\":{is_all},\"before\":{before},\"after\":{}}}",
                tally.words()
            );
        }
    }
}
