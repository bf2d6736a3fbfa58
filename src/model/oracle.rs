//! What must hold in every state: the invariants of `spool-layout.md`, and that all comes to its end.

use stateright::Property;

use crate::outcome::Outcome;

use super::disk::{Agent, At, Line, RunLine};
use super::stand::{Places, Stand};
use super::world::{Stage, World};
use super::{Fault, Protocol};

pub(super) const STARTS_ONCE: &str = "a run starts at most once";
pub(super) const BEGUN_BEFORE_AGENT: &str = "run.started is on disk before the agent starts, once";
pub(super) const ONE_OWNER: &str = "at no instant do two processes own one run";
pub(super) const ACCEPTED_IS_KEPT: &str = "what was accepted is kept";
pub(super) const RECEIPT_AFTER_LINE: &str = "a receipt exists only when its line is on disk";
pub(super) const LINE_BEFORE_RUN: &str = "a task is active on disk before its run can begin";
pub(super) const COMMAND_IS_KEPT: &str = "a command lies somewhere, or a line on disk answers it";
pub(super) const ENDS_ONCE: &str = "an end is final";
pub(super) const ENDS_AS_ITS_RUN: &str = "a task that was started ends with what its run's log on disk says";
pub(super) const ENDED_BEFORE_UNLOCK: &str = "a run.ended is on disk before its supervisor gives up the lock";
pub(super) const NO_AGENT_AFTER_END: &str = "no process of an ended run lives";
pub(super) const CANCELLED_BY_SOMEBODY: &str = "nothing is cancelled that nobody cancelled";
pub(super) const READ_WHOLE: &str = "a file is read when its writer is done";
pub(super) const ONE_FILE_ONE_TASK: &str = "one file makes one task";
pub(super) const RESTS_WHEN_DONE: &str = "when nothing more happens, all is answered and has ended";

type Rule = (&'static str, fn(&Protocol, &World) -> bool);

const ALWAYS: [Rule; 15] = [
    (STARTS_ONCE, |_, world| world.disk.runs.iter().all(|run| run.starts <= 1)),
    (BEGUN_BEFORE_AGENT, |_, world| {
        world.disk.runs.iter().all(|run| {
            let begun = |lines: &[RunLine]| {
                lines.iter().filter(|line| matches!(line, RunLine::Started { .. })).count()
            };
            begun(&run.log) <= 1 && (run.starts == 0 || begun(&run.log[..run.log_kept]) > 0)
        })
    }),
    (ONE_OWNER, |_, world| (0..world.disk.runs.len()).all(|task| world.owners(task) <= 1)),
    (ACCEPTED_IS_KEPT, |_, world| {
        world.disk.files.iter().enumerate().all(|(number, file)| {
            let is_judged_again = matches!(file.at, At::Inbox | At::Claimed);
            file.promised.is_none() || world.disk.answer(number).is_some() || is_judged_again
        })
    }),
    (RECEIPT_AFTER_LINE, |_, world| {
        world.disk.files.iter().all(|file| file.receipt.is_none() || file.answer.is_some())
    }),
    (LINE_BEFORE_RUN, |_, world| {
        let told = |task: usize| world.disk.tasks[task].told.is_some_and(Stand::has_started);
        let given = |task: usize| world.supervisors.iter().any(|supervisor| supervisor.run == task);
        (0..world.disk.tasks.len())
            .all(|task| told(task) || !(given(task) || world.disk.runs[task].has_begun()))
    }),
    (COMMAND_IS_KEPT, |_, world| {
        world.disk.files.iter().all(|file| {
            let lies_there = |at| !matches!(at, At::Gone);
            lies_there(file.at) && lies_there(file.kept) || file.answer.is_some()
        })
    }),
    (ENDS_ONCE, |_, world| {
        let ends = |log: &[RunLine]| log.iter().filter(|line| matches!(line, RunLine::Ended(_))).count();
        let tasks = world.disk.tasks.iter().all(|task| !task.moved_after_end);
        tasks && world.disk.runs.iter().all(|run| ends(&run.log) <= 1)
    }),
    (ENDS_AS_ITS_RUN, |_, world| {
        (0..world.disk.tasks.len()).all(|task| match world.disk.tasks[task].told {
            Some(Stand::Ended { outcome, started: true }) => {
                world.disk.runs[task].outcome_kept() == Some(outcome)
            }
            Some(_) | None => true,
        })
    }),
    (ENDED_BEFORE_UNLOCK, |_, world| {
        world.supervisors.iter().all(|supervisor| {
            let run = &world.disk.runs[supervisor.run];
            let lives = matches!(supervisor.stage, Stage::Lives(_) | Stage::Ended);
            !lives || supervisor.holds.is_some() || run.outcome_kept().is_some()
        })
    }),
    (NO_AGENT_AFTER_END, |_, world| {
        world.disk.runs.iter().all(|run| run.outcome().is_none() || !run.is_alive())
    }),
    (CANCELLED_BY_SOMEBODY, |_, world| {
        world.disk.tasks.iter().all(|task| match task.told {
            Some(Stand::Ended { outcome: Outcome::Cancelled, .. }) => task.asked,
            Some(_) | None => true,
        })
    }),
    (READ_WHOLE, |_, world| world.disk.files.iter().all(|file| !file.read_half)),
    (ONE_FILE_ONE_TASK, |_, world| world.disk.files.iter().all(|file| file.admitted.count_ones() <= 1)),
    (RESTS_WHEN_DONE, |protocol, world| all_is_done(protocol, world) || protocol.goes_on(world)),
];

/// What a model that is worth anything reaches.
const SOMETIMES: [Rule; 5] = [
    ("a task succeeds", |_, world| ended_on_disk(world, Outcome::Succeeded)),
    ("a run is adopted", |_, world| {
        let waits = |daemon: &super::world::Daemon| daemon.waits.contains(&super::world::Waits::Lock);
        world.daemons.iter().flatten().any(waits)
    }),
    ("a supervisor comes late", |_, world| {
        world.supervisors.iter().any(|supervisor| supervisor.stage == Stage::CameLate)
    }),
    ("a run is lost", |_, world| ended_on_disk(world, Outcome::Lost)),
    ("a run is interrupted", |_, world| ended_on_disk(world, Outcome::Interrupted)),
];

fn ended_on_disk(world: &World, outcome: Outcome) -> bool {
    world.disk.tasks.iter().any(|task| task.told == Some(Stand::Ended { outcome, started: true }))
}

/// The properties of a model; of what it should reach those that its bounds let it.
pub(super) fn properties(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let always = ALWAYS.iter().map(|(name, holds)| Property::always(name, *holds));
    let left = protocol.bounds.left;
    let reachable =
        [true, left.daemon_kills > 0, left.daemon_kills > 0, left.supervisor_kills > 0, left.cuts > 0];
    let runs = protocol.bounds.slots > 0 && protocol.faults.is_empty();
    let sometimes = SOMETIMES.iter().zip(reachable).filter(|(_, reachable)| *reachable && runs);
    always.chain(sometimes.map(|((name, holds), _)| Property::sometimes(name, *holds))).collect()
}

/// Whether nothing is left to do, and it shows.
fn all_is_done(protocol: &Protocol, world: &World) -> bool {
    let answered = world.disk.files.iter().all(|file| match file.at {
        At::Unwritten => true,
        At::Half | At::Inbox | At::Claimed => false,
        At::Gone => file.receipt == file.answer && file.receipt.is_some(),
    });
    let may_rest = |stand: Stand| match stand {
        Stand::Held { .. } => true,
        Stand::Waiting => false,
        Stand::Ready => protocol.bounds.slots == 0,
        Stand::Active | Stand::Cancelling => false,
        Stand::Ended { .. } => true,
    };
    let tasks = world.disk.tasks.iter().all(|task| {
        let place = task.told.map_or(Places::NONE, Stand::place);
        task.told.is_none_or(may_rest) && task.places == place
    });
    let runs = world.disk.runs.iter().all(|run| !run.is_alive() && run.agent != Agent::Exited);
    let log: &[Line] = &world.disk.tail;
    answered && tasks && runs && log.is_empty() && world.supervisors.is_empty()
}

impl Protocol {
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}
