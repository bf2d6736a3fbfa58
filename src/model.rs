//! A model of the protocol of daemons, supervisors, logs and locks, whose states a checker goes through one and all.
//!
//! It covers, of `spool-layout.md`: the moves admit, refuse, start, end, cancel, by hand and checkpoint, step by step as
//! they stand there; locks 1 and 2; what is on disk when, as far as a line, a claim, a run's log, a picture or a receipt
//! can be lost; and of the crashes those that a kill or a power cut brings about, within the restart too. A step is what
//! no crash can cut in two. What decides is not a copy: [`crate::task::transition`] and [`crate::task::owed`],
//! [`crate::run::transition`] and [`crate::recovery::duty`] are called. What must hold stands in [`oracle`].
//!
//! Left out: notes, ranks, workspaces, time limits, directories under a lock, rotation, errors of the disk, a supervisor's
//! second run, and that somebody removes a live run's folder. A task has one attempt, since nothing makes another. All
//! files of one look at the inbox are claimed in one step, and so are all pictures of a restart drawn.
//!
//! Bounds: two tasks and a cancel, two daemons, as many supervisors as are started, and of kills, cuts, lost hints and
//! doings by hand as many as [`Bounds`] says. Whatever goes on by itself does so sooner or later; agents end, or are
//! ended; what an agent left running may stay for ever; and somebody starts a daemon when there is none.
//!
//! That all comes to its end is no property of the checker's own kind, which forgets a path that joins another. It is
//! this: no step leads back, so that every story ends; and where nothing goes on, all is answered and has ended.
//!
//! Each [`Fault`] is a mistake in the protocol, and must be found out. `GITSPOOL_MODEL_MINUTES=10 cargo test --release
//! model` goes through larger models.

mod stand;
mod disk;
mod world;
mod daemon;
mod checkpoint;
mod runs;
mod supervisor;
mod oracle;

use std::time::Duration;

use stateright::{Expectation, Model, Property};

use crate::time::Moment;

use daemon::Act;
use disk::{Agent, At, CANCEL};
use stand::Places;
use supervisor::Step;
use world::{DAEMONS, Left, World};

/// How large a model is.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    tasks: usize,
    /// Whether the tasks' files lie in the inbox from the beginning; else they are dropped at any time.
    submitted: bool,
    /// Whether a dropped file is written in two steps.
    slowly: bool,
    /// Whether a cancel of task 0 is dropped.
    cancel: bool,
    /// Whether an agent may start a process in a session of its own.
    forks: bool,
    checkpoints: bool,
    /// Whether tasks wait for a time, which comes at any time.
    waits: bool,
    /// How many tasks may run at once; with 0 none starts.
    slots: usize,
    /// How often a run may fail to begin.
    false_starts_max: u8,
    left: Left,
}

/// A mistake in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A daemon that starts removes the lock files of runs, as if they were left over.
    LockFileRemoved,
    /// The agent inherits the lock's descriptor.
    LockLeaked,
    /// A supervisor does not look whether the run has begun.
    BeginNotChecked,
    /// The agent starts before `run.started` is on disk.
    BeginNotSynced,
    /// Receipts are drawn before the lines are on disk.
    AnsweredBeforeSync,
    /// Moves are made before the lines are on disk.
    CarriedOutBeforeSync,
    /// That the kernel lost hints is not listened to.
    OverflowIgnored,
    /// The inbox is looked through at a hint only.
    NoRescan,
    /// A file that makes sense is taken, whoever has it open.
    ParseTrusted,
    /// A supervisor gives up the lock, and then writes the end.
    UnlockedBeforeEnd,
    /// A daemon takes a run that is old for dead, whoever holds its lock.
    AgeTrusted,
    /// A run is over when its agent is, whatever that left running.
    TreeNotAwaited,
    /// A process with the pid on record is taken for the supervisor.
    PidTrusted,
    /// A daemon that starts does not sync the lines that it reads.
    LogNotTrusted,
    /// A task is filed away by an end in its run's log that may not be on disk.
    EndNotSynced,
    /// A supervisor that comes late says that the run is over, and did not sync its log.
    LateNotSynced,
    /// A file is decided about before it is known to be out of the inbox on disk.
    ClaimNotSynced,
    /// A checkpoint is written before the moves up to it are on disk.
    CheckpointBeforeSync,
    /// A daemon does not take the spool's lock.
    SpoolNotLocked,
    /// A daemon does not look whether somebody else wrote to the log.
    LengthNotChecked,
    /// Reading makes hints.
    HintsNeverEnd,
    /// Nobody looks whether the time has come for which a task waits.
    TimeNotWatched,
}

/// The protocol, as far as the bounds go, with mistakes.
#[derive(Clone, Debug)]
struct Protocol {
    bounds: Bounds,
    faults: &'static [Fault],
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    // People, and other programs.
    BeginFile(usize),
    DropFile { file: usize, heard: bool },
    RemoveByHand(usize),
    HoldByHand(usize),
    ReleaseByHand(usize),
    WaitByHand(usize),
    // The machine.
    StartDaemon(usize),
    KillDaemon(usize),
    KillSupervisor(usize),
    KillAgent(usize),
    PowerCut { lines: usize, survives: u32 },
    TellOverflow,
    // Agents.
    AgentEnds(usize),
    AgentForks(usize),
    ChildEnds(usize),
    // Ours.
    Daemon(usize, Act),
    Supervisor { at: usize, run: usize, step: Step },
}

/// Time in a model stands still.
fn now() -> Moment {
    Moment::from_origin(Duration::ZERO)
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.bounds)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.going_on(world, actions);
        self.interfering(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.happens(&mut next, action).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        oracle::properties(self)
    }
}

impl Protocol {
    /// What happens by itself, sooner or later.
    fn going_on(&self, world: &World, actions: &mut Vec<Action>) {
        for (at, supervisor) in world.supervisors.iter().enumerate() {
            let run = supervisor.run;
            actions.extend(self.steps(supervisor).into_iter().map(|step| Action::Supervisor {
                at,
                run,
                step,
            }));
        }
        let mut acts = Vec::new();
        for at in 0..DAEMONS {
            self.acts(world, at, &mut acts);
            actions.extend(acts.drain(..).map(|act| Action::Daemon(at, act)));
        }
        for task in 0..self.bounds.tasks {
            let run = &world.disk.runs[task];
            actions.extend((run.agent == Agent::Alive).then_some(Action::AgentEnds(task)));
        }
        actions.extend(world.overflow.then_some(Action::TellOverflow));
        // Sooner or later somebody starts a daemon when there is none.
        let none = world.daemons.iter().all(Option::is_none);
        actions.extend(none.then_some(Action::StartDaemon(0)));
        for file in (0..disk::FILES).filter(|file| world.disk.files[*file].at == At::Half) {
            self.drop(world, file, actions);
        }
    }

    fn drop(&self, world: &World, file: usize, actions: &mut Vec<Action>) {
        actions.push(Action::DropFile { file, heard: true });
        actions.extend((world.left.overflows > 0).then_some(Action::DropFile { file, heard: false }));
    }

    /// What may happen or not, and each only so often.
    fn interfering(&self, world: &World, actions: &mut Vec<Action>) {
        let left = world.left;
        for file in (0..disk::FILES).filter(|file| world.disk.files[*file].at == At::Unwritten) {
            let may = match file {
                // Who cancels a task knows its id, from its receipt.
                CANCEL => self.bounds.cancel && world.disk.files[0].promised == Some(true),
                task => task < self.bounds.tasks,
            };
            match may {
                true if self.bounds.slowly => actions.push(Action::BeginFile(file)),
                true => self.drop(world, file, actions),
                false => {}
            }
        }
        for task in (0..self.bounds.tasks).filter(|_| left.by_hand > 0) {
            let places = world.disk.tasks[task].places;
            actions.extend((places.queued() != Places::NONE).then_some(Action::RemoveByHand(task)));
            let lies_in = |folders: [Places; 2]| folders.contains(&places);
            actions.extend(lies_in([Places::READY, Places::WAITING]).then_some(Action::HoldByHand(task)));
            actions.extend(lies_in([Places::HELD, Places::WAITING]).then_some(Action::ReleaseByHand(task)));
            let waits = self.bounds.waits && lies_in([Places::READY, Places::HELD]);
            actions.extend(waits.then_some(Action::WaitByHand(task)));
        }
        for task in 0..self.bounds.tasks {
            let run = &world.disk.runs[task];
            let alive = run.agent == Agent::Alive;
            actions.extend((alive && left.agent_kills > 0).then_some(Action::KillAgent(task)));
            let forks = alive && self.bounds.forks && !run.had_child;
            actions.extend(forks.then_some(Action::AgentForks(task)));
            // It may also stay for ever.
            actions.extend(run.child.then_some(Action::ChildEnds(task)));
        }
        let lives = |at: &usize| world.daemons[*at].is_some();
        actions.extend((0..DAEMONS).filter(lives).filter(|_| left.daemon_kills > 0).map(Action::KillDaemon));
        let second = self.has(Fault::SpoolNotLocked) && lives(&0) && !lives(&1) && left.second_daemons > 0;
        actions.extend(second.then_some(Action::StartDaemon(1)));
        let supervisors = 0..world.supervisors.len();
        actions.extend(supervisors.filter(|_| left.supervisor_kills > 0).map(Action::KillSupervisor));
        if left.cuts > 0 {
            for lines in 0..=world.disk.tail.len() {
                let survivals = 0..1 << world.disk.undecided();
                actions.extend(survivals.map(|survives| Action::PowerCut { lines, survives }));
            }
        }
    }

    /// Whether anything happens by itself that changes something.
    fn goes_on(&self, world: &World) -> bool {
        let mut actions = Vec::new();
        self.going_on(world, &mut actions);
        actions.into_iter().any(|action| self.next_state(world, action).is_some())
    }

    /// Lets an action happen; tells whether it was possible and changed something.
    fn happens(&self, world: &mut World, action: Action) -> bool {
        match action {
            Action::Daemon(at, act) => return self.act(world, at, act),
            Action::Supervisor { at, step, .. } => return self.step(world, at, step),
            Action::BeginFile(file) => world.disk.files[file].at = At::Half,
            Action::DropFile { file, heard } => self.dropped(world, file, heard),
            Action::RemoveByHand(task) => {
                world.left.by_hand -= 1;
                world.disk.tasks[task].asked = true;
                let places = world.disk.tasks[task].places;
                world.disk.tasks[task].places = places.without(places.queued());
            }
            Action::HoldByHand(task) | Action::ReleaseByHand(task) => {
                world.left.by_hand -= 1;
                let held = matches!(action, Action::HoldByHand(_));
                world.disk.tasks[task].places = if held { Places::HELD } else { Places::READY };
            }
            Action::WaitByHand(task) => {
                world.left.by_hand -= 1;
                world.disk.tasks[task].places = Places::WAITING;
            }
            Action::StartDaemon(at) => {
                world.left.second_daemons -= u8::from(at > 0);
                self.start(world, at);
            }
            Action::KillDaemon(at) => {
                world.left.daemon_kills -= 1;
                world.kill_daemon(at);
            }
            Action::KillSupervisor(at) => {
                world.left.supervisor_kills -= 1;
                world.kill_supervisor(at, self);
            }
            Action::KillAgent(task) => {
                world.left.agent_kills -= 1;
                world.disk.runs[task].agent = Agent::Killed;
            }
            Action::PowerCut { lines, survives } => {
                world.left.cuts -= 1;
                world.cut(lines, survives);
            }
            Action::TellOverflow => {
                world.overflow = false;
                world.hint |= !self.has(Fault::OverflowIgnored);
            }
            Action::AgentEnds(task) => world.disk.runs[task].agent_ends(),
            Action::AgentForks(task) => {
                let run = &mut world.disk.runs[task];
                (run.child, run.had_child) = (true, true);
            }
            Action::ChildEnds(task) => world.disk.runs[task].child_ends(),
        }
        true
    }

    fn dropped(&self, world: &mut World, file: usize, heard: bool) {
        world.disk.files[file].at = At::Inbox;
        // Its writer syncs it.
        world.disk.files[file].kept = At::Inbox;
        world.disk.tasks[0].asked |= file == CANCEL;
        if heard {
            world.hint |= world.daemons.iter().any(Option::is_some);
        } else {
            world.left.overflows -= 1;
            world.overflow = true;
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "looks how large it is to be, and how long that takes")]
mod tests {
    use std::collections::HashMap;
    use std::hash::{BuildHasher, RandomState};
    use std::time::Instant;

    use stateright::{Checker, HasDiscoveries};

    use super::*;

    const NO_FAULT: &[Fault] = &[];

    const fn left(daemon_kills: u8, supervisor_kills: u8, cuts: u8) -> Left {
        let (agent_kills, by_hand, overflows, second_daemons) = (0, 0, 0, 0);
        Left { daemon_kills, supervisor_kills, agent_kills, cuts, by_hand, overflows, second_daemons }
    }

    /// One task, and nothing that interferes.
    const QUIET: Bounds = Bounds {
        tasks: 1,
        submitted: true,
        slowly: false,
        cancel: false,
        forks: false,
        checkpoints: false,
        waits: false,
        slots: 1,
        false_starts_max: 5,
        left: left(0, 0, 0),
    };

    /// One run, whose agent leaves something running, with everything that may befall it.
    const RUN: Bounds = Bounds { forks: true, left: left(1, 1, 1), ..QUIET };

    /// Dropping, answering, checkpoints; nothing starts.
    const INTAKE: Bounds = Bounds {
        submitted: false,
        slowly: true,
        cancel: true,
        checkpoints: true,
        slots: 0,
        left: Left { overflows: 1, by_hand: 1, ..left(2, 0, 1) },
        ..QUIET
    };

    /// What is gone through whenever the tests run.
    const SMALL: [(&str, Bounds); 9] = [
        ("a run", RUN),
        ("two daemon kills", Bounds { left: left(2, 1, 0), ..QUIET }),
        ("two runs", Bounds { tasks: 2, slots: 2, left: left(1, 0, 0), ..QUIET }),
        ("two tasks, one slot", Bounds { tasks: 2, left: left(1, 0, 0), ..QUIET }),
        ("a cancel", Bounds { cancel: true, left: left(1, 1, 0), ..QUIET }),
        ("a run that does not begin", Bounds { false_starts_max: 2, left: left(1, 2, 0), ..QUIET }),
        ("intake", INTAKE),
        ("waiting", Bounds { waits: true, left: Left { by_hand: 2, ..left(1, 0, 0) }, ..QUIET }),
        ("by hand", Bounds { checkpoints: true, left: Left { by_hand: 2, ..left(1, 0, 1) }, ..QUIET }),
    ];

    /// What takes minutes: from the smallest to the largest.
    const LARGE: [(&str, Bounds); 6] = [
        ("a cancel, and a power cut", Bounds { cancel: true, ..RUN }),
        ("two files", Bounds { tasks: 2, ..INTAKE }),
        ("two power cuts", Bounds { left: left(1, 1, 2), ..RUN }),
        (
            "all at once",
            Bounds {
                cancel: true,
                checkpoints: true,
                left: Left { agent_kills: 1, by_hand: 1, ..left(1, 1, 1) },
                ..RUN
            },
        ),
        ("two runs, and kills", Bounds { tasks: 2, slots: 2, left: left(1, 1, 0), ..QUIET }),
        ("two runs, and a power cut", Bounds { tasks: 2, slots: 2, left: left(1, 1, 1), ..QUIET }),
    ];

    /// Goes through all states, expects to find nothing wrong, and all that should be reached. Tells whether there was
    /// time for all.
    fn holds(name: &str, bounds: Bounds, faults: &'static [Fault], time: Duration) -> bool {
        let begin = Instant::now();
        let checker = Protocol { bounds, faults }.checker().threads(2).timeout(time);
        let wrong = HasDiscoveries::AnyFailures;
        let checker = checker.finish_when(wrong).spawn_dfs().join();
        let (states, steps) = (checker.unique_state_count(), checker.state_count());
        let (depth, seconds) = (checker.max_depth(), begin.elapsed().as_secs());
        let exhausted = begin.elapsed() < time;
        eprintln!(
            "{{\"model\":{name:?},\"states\":{states},\"steps\":{steps},\"depth\":{depth},\"exhausted\":{exhausted},\"seconds\":{seconds}}}"
        );
        for property in checker.model().properties() {
            match property.expectation {
                Expectation::Always | Expectation::Eventually => checker.assert_no_discovery(property.name),
                Expectation::Sometimes if exhausted => drop(checker.assert_any_discovery(property.name)),
                Expectation::Sometimes => {}
            }
        }
        exhausted
    }

    /// Expects that a mistake is found out, and tells how it shows.
    fn refuted(faults: &'static [Fault], bounds: Bounds, property: &'static str) {
        let found = HasDiscoveries::AnyOf([property].into());
        // One thread, so that the story is as short as can be.
        let checker = Protocol { bounds, faults }.checker().finish_when(found).spawn_bfs().join();
        let story = checker.assert_any_discovery(property).into_actions();
        let mistake = format!("{faults:?}");
        eprintln!("{{\"mistake\":{mistake:?},\"breaks\":{property:?},\"steps\":{}}}", story.len());
        story.iter().for_each(|action| eprintln!("    {action:?}"));
    }

    const LONG_ENOUGH: Duration = Duration::from_secs(600);

    #[test]
    fn the_protocol_holds_in_all_states() {
        for (name, bounds) in SMALL {
            assert!(holds(name, bounds, NO_FAULT, LONG_ENOUGH), "there was time for all");
        }
    }

    #[test]
    fn the_protocol_holds_in_larger_models_as_far_as_time_is_given() {
        let minutes = std::env::var("GITSPOOL_MODEL_MINUTES").ok().and_then(|minutes| minutes.parse().ok());
        let end = Instant::now() + Duration::from_secs(60 * minutes.unwrap_or(0));
        for (name, bounds) in LARGE {
            let time = end.saturating_duration_since(Instant::now());
            if !time.is_zero() {
                holds(name, bounds, NO_FAULT, time);
            }
        }
    }

    /// Together with the last rule of the oracle: whatever is dropped is answered, and whatever is accepted ends.
    #[test]
    fn no_step_leads_back_so_that_everything_comes_to_rest() {
        for bounds in [RUN, Bounds { cancel: true, left: left(1, 0, 0), ..QUIET }, INTAKE] {
            assert_eq!(cycle(&Protocol { bounds, faults: NO_FAULT }), None);
        }
    }

    /// A step that leads back to a state on the way to it. Goes depth first.
    fn cycle(protocol: &Protocol) -> Option<Action> {
        let hasher = RandomState::new();
        let actions = |world: &World| {
            let mut actions = Vec::new();
            protocol.actions(world, &mut actions);
            actions
        };
        let mut on_the_way = HashMap::new();
        let mut stack = Vec::new();
        for world in protocol.init_states() {
            on_the_way.insert(hasher.hash_one(&world), true);
            stack.push((actions(&world), world));
        }
        while let Some((left, world)) = stack.last_mut() {
            let Some(action) = left.pop() else {
                on_the_way.insert(hasher.hash_one(&*world), false);
                stack.pop();
                continue;
            };
            let Some(next) = protocol.next_state(world, action) else { continue };
            match on_the_way.insert(hasher.hash_one(&next), true) {
                None => stack.push((actions(&next), next)),
                Some(true) => return Some(action),
                Some(false) => drop(on_the_way.insert(hasher.hash_one(&next), false)),
            }
        }
        None
    }

    #[test]
    fn a_cycle_would_be_seen() {
        // A hint that comes again and again.
        let (bounds, faults) = (QUIET, &[Fault::HintsNeverEnd]);
        assert!(cycle(&Protocol { bounds, faults }).is_some());
    }

    #[test]
    fn a_task_waits_for_ever_when_nobody_looks_at_the_clock() {
        refuted(&[Fault::TimeNotWatched], Bounds { waits: true, ..QUIET }, oracle::RESTS_WHEN_DONE);
    }

    #[test]
    fn a_lock_file_that_is_removed_gives_a_run_two_owners() {
        let bounds = Bounds { left: left(1, 0, 0), ..QUIET };
        refuted(&[Fault::LockFileRemoved], bounds, oracle::ONE_OWNER);
    }

    #[test]
    fn a_lock_that_leaks_to_the_agent_keeps_a_lost_run_alive() {
        let bounds = Bounds { forks: true, left: left(0, 1, 0), ..QUIET };
        refuted(&[Fault::LockLeaked], bounds, oracle::RESTS_WHEN_DONE);
    }

    #[test]
    fn without_a_look_whether_it_has_begun_a_run_starts_twice() {
        let bounds = Bounds { left: left(1, 0, 0), ..QUIET };
        refuted(&[Fault::BeginNotChecked], bounds, oracle::STARTS_ONCE);
    }

    #[test]
    fn an_agent_before_the_begin_is_on_disk_starts_twice() {
        let bounds = Bounds { left: left(0, 0, 1), ..QUIET };
        refuted(&[Fault::BeginNotSynced], bounds, oracle::STARTS_ONCE);
    }

    #[test]
    fn an_answer_before_the_sync_is_lost_in_a_power_cut() {
        let bounds = Bounds { left: left(0, 0, 1), ..QUIET };
        refuted(&[Fault::AnsweredBeforeSync], bounds, oracle::ACCEPTED_IS_KEPT);
    }

    #[test]
    fn a_run_before_its_line_is_on_disk_is_nobodys() {
        let bounds = Bounds { left: left(0, 0, 1), ..QUIET };
        refuted(&[Fault::CarriedOutBeforeSync], bounds, oracle::LINE_BEFORE_RUN);
    }

    #[test]
    fn of_two_ways_to_learn_of_a_dropped_file_either_is_enough_and_one_is_needed() {
        let bounds = Bounds { submitted: false, left: Left { overflows: 1, ..left(1, 0, 0) }, ..QUIET };
        for faults in [&[Fault::OverflowIgnored], &[Fault::NoRescan]] {
            assert!(holds("a lost hint", bounds, faults, LONG_ENOUGH));
        }
        refuted(&[Fault::OverflowIgnored, Fault::NoRescan], bounds, oracle::RESTS_WHEN_DONE);
    }

    #[test]
    fn a_file_that_parses_is_not_always_whole() {
        let bounds = Bounds { submitted: false, slowly: true, ..QUIET };
        refuted(&[Fault::ParseTrusted], bounds, oracle::READ_WHOLE);
    }

    #[test]
    fn a_lock_given_up_before_the_end_is_written_makes_two_ends() {
        let bounds = Bounds { left: left(1, 0, 0), ..QUIET };
        refuted(&[Fault::UnlockedBeforeEnd], bounds, oracle::ENDS_ONCE);
    }

    #[test]
    fn a_daemon_that_ends_a_run_whose_supervisor_lives_makes_two_ends() {
        let bounds = Bounds { left: left(1, 0, 0), ..QUIET };
        refuted(&[Fault::AgeTrusted], bounds, oracle::ENDS_ONCE);
    }

    #[test]
    fn an_end_before_the_tree_is_gone_leaves_a_process() {
        refuted(&[Fault::TreeNotAwaited], Bounds { forks: true, ..QUIET }, oracle::NO_AGENT_AFTER_END);
    }

    #[test]
    fn a_pid_that_is_trusted_keeps_a_lost_run_alive() {
        let bounds = Bounds { left: left(0, 1, 0), ..QUIET };
        refuted(&[Fault::PidTrusted], bounds, oracle::RESTS_WHEN_DONE);
    }

    #[test]
    fn a_line_that_a_killed_daemon_wrote_is_on_disk_only_when_the_next_has_synced_it() {
        let bounds = Bounds { left: left(1, 0, 1), ..QUIET };
        refuted(&[Fault::LogNotTrusted], bounds, oracle::ACCEPTED_IS_KEPT);
    }

    #[test]
    fn an_end_that_a_killed_supervisor_wrote_is_on_disk_only_when_the_daemon_has_synced_it() {
        let bounds = Bounds { left: left(0, 1, 1), ..QUIET };
        refuted(&[Fault::EndNotSynced], bounds, oracle::ENDS_AS_ITS_RUN);
    }

    #[test]
    fn a_late_supervisor_says_that_a_run_is_over_only_when_it_has_synced_its_log() {
        let bounds = Bounds { left: left(1, 1, 1), ..QUIET };
        refuted(&[Fault::LateNotSynced], bounds, oracle::ENDS_AS_ITS_RUN);
    }

    #[test]
    fn a_file_that_may_be_back_in_the_inbox_makes_two_tasks() {
        let bounds = Bounds { left: left(0, 0, 1), ..QUIET };
        refuted(&[Fault::ClaimNotSynced], bounds, oracle::ONE_FILE_ONE_TASK);
    }

    #[test]
    fn a_checkpoint_before_the_moves_are_on_disk_cancels_tasks() {
        let bounds = Bounds { checkpoints: true, slots: 0, left: left(0, 0, 1), ..QUIET };
        refuted(&[Fault::CheckpointBeforeSync], bounds, oracle::CANCELLED_BY_SOMEBODY);
    }

    #[test]
    fn two_daemons_on_one_spool_contradict_each_other() {
        let bounds = Bounds { left: Left { second_daemons: 1, ..left(0, 0, 0) }, ..QUIET };
        refuted(&[Fault::SpoolNotLocked], bounds, oracle::RESTS_WHEN_DONE);
        refuted(&[Fault::SpoolNotLocked, Fault::LengthNotChecked], bounds, oracle::ENDS_ONCE);
    }
}
