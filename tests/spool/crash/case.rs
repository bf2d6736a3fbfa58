//! Which faults are tried: all of them, or a few that are chosen by a seed and can be named again.

use std::fmt;

use rustix::io::Errno;

use super::scenario::{self, SCENARIOS, Scenario};
use crate::crashpoint::call::{Call, Role};
use crate::crashpoint::{Fault, Site, Victims};

/// The errors that a call may fail with.
const ERRORS: [(&str, Errno); 9] = [
    ("EIO", Errno::IO),
    ("ENOSPC", Errno::NOSPC),
    ("EDQUOT", Errno::DQUOT),
    ("EMFILE", Errno::MFILE),
    ("ENOMEM", Errno::NOMEM),
    ("EINTR", Errno::INTR),
    ("EAGAIN", Errno::AGAIN),
    ("EROFS", Errno::ROFS),
    ("EACCES", Errno::ACCESS),
];

/// Those that also come and stay.
const STICKY: [&str; 2] = ["EIO", "ENOSPC"];

/// How a kill is called.
const KILLS: [(&str, Victims, bool); 4] = [
    ("kill", Victims::All, false),
    ("tear", Victims::All, true),
    ("kill-daemon", Victims::Only(Role::Daemon), false),
    ("kill-supervisor", Victims::Only(Role::Supervisor), false),
];

/// One fault in one scenario. It prints, and is read, as `run|kill|supervisor fdatasync|2`: the second call of those
/// whose description has this text in it. With two more parts the daemon that recovers is killed, too.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) scenario: &'static Scenario,
    fault: String,
    pub(super) site: Site,
    pub(super) then: Option<Site>,
    /// Whether there is such a call each time. How many there are may differ by a few, since processes meet differently.
    pub(super) must_come: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}|{}|{}|{}", self.scenario.name, self.fault, self.site.matching, self.site.number)?;
        self.then.as_ref().map_or(Ok(()), |then| write!(to, "|{}|{}", then.matching, then.number))
    }
}

impl Case {
    pub(super) fn read(text: &str) -> Case {
        let parts: Vec<&str> = text.split('|').collect();
        let site = |at: usize| {
            let number = parts.get(at + 1)?.parse().expect("because a case names a call by its number");
            Some(Site { matching: parts[at].to_owned(), number })
        };
        Case {
            scenario: scenario::named(parts[0]),
            fault: parts[1].to_owned(),
            site: site(2).expect("because a case names a call"),
            then: site(4),
            must_come: false,
        }
    }

    fn new(scenario: &'static Scenario, fault: &str, matching: &str, number: u64) -> Case {
        let site = Site { matching: matching.to_owned(), number };
        Case { scenario, fault: fault.to_owned(), site, then: None, must_come: false }
    }

    pub(super) fn fault(&self) -> Fault {
        if let Some((_, victims, torn)) = KILLS.iter().find(|(name, ..)| *name == self.fault) {
            return Fault::Kill { victims: *victims, torn: *torn };
        }
        let name = self.fault.strip_suffix("-stays").unwrap_or(&self.fault);
        let (_, errno) = ERRORS.iter().find(|(known, _)| *known == name).expect("because it is known");
        Fault::Fail { errno: *errno, sticky: name != self.fault }
    }
}

/// A small generator of numbers that follow from a seed (splitmix64).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let end = u64::try_from(end.max(1)).unwrap();
        usize::try_from((mixed ^ (mixed >> 31)) % end).unwrap()
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The kills that were hard on earlier versions, or are by their nature.
pub(super) fn hard_kills() -> Vec<Case> {
    let of = |scenario: &'static Scenario| {
        scenario.hard.iter().map(move |(matching, number)| Case {
            must_come: true,
            ..Case::new(scenario, "kill", matching, *number)
        })
    };
    let torn = |name: &str, matching: &'static str, count: u64| {
        let scenario = scenario::named(name);
        (1..=count)
            .map(move |number| Case { must_come: true, ..Case::new(scenario, "tear", matching, number) })
            .collect::<Vec<_>>()
    };
    let torn = [torn("admit", "daemon write s", 5), torn("run", "supervisor write s", 4)].concat();
    SCENARIOS.iter().flat_map(of).chain(torn).collect()
}

/// All kills of a scenario that has these calls: of everything, with and without a torn write; and where there are
/// several processes, of the daemon or the supervisor only.
pub(super) fn kills(scenario: &'static Scenario, calls: &[Call]) -> Vec<Case> {
    let numbers =
        |matching: &str| 1..=calls.iter().filter(|call| call.description.contains(matching)).count();
    let runs = calls.iter().any(|call| call.role == Role::Supervisor);
    let mut cases = Vec::new();
    for (fault, victims, torn) in KILLS {
        if victims != Victims::All && !runs {
            continue;
        }
        let matching = if torn { " write s" } else { "" };
        cases.extend(numbers(matching).map(|number| Case::new(scenario, fault, matching, number as u64)));
    }
    cases
}

/// Kills of what recovers from a kill: from each hard one, and from each of a run.
pub(super) fn double_kills() -> Vec<Case> {
    // As many as there are, and a few more; what has fewer is not killed.
    const RUN_CALLS: u64 = 110;
    const RECOVERY_CALLS: u64 = 90;
    let recovering = |first: Case| {
        (1..=RECOVERY_CALLS).map(move |number| {
            let then = Some(Site { matching: String::new(), number });
            Case { then, must_come: false, ..first.clone() }
        })
    };
    let daemons = |case: &Case| !["init", "submit by the command line"].contains(&case.scenario.name);
    let hard = hard_kills().into_iter().filter(daemons);
    let run = scenario::named("run");
    let any = (1..=RUN_CALLS).map(|number| Case::new(run, "kill", "", number));
    hard.chain(any).flat_map(recovering).collect()
}

/// The errors that are hard by their nature: at the calls that make something durable, and when there is no more room.
pub(super) fn hard_errors() -> Vec<Case> {
    const HARD: &[&str] = &[
        "submit by the command line|EIO|fsync|1",
        "submit by the command line|EIO|fsync|2",
        "submit by the command line|ENOSPC-stays|write|1",
        "admit|EIO|fdatasync|1",
        "admit|EIO|fdatasync|2",
        "admit|EIO|fsync spool/.local/claimed|1",
        "admit|EIO|fsync spool/queue/default/ready|1",
        "admit|ENOSPC-stays|write spool/events|2",
        "admit|ENOSPC-stays|-> spool/receipts|1",
        "refuse|EACCES|-> spool/refused|2",
        "run|EIO|supervisor fdatasync|1",
        "run|EIO|supervisor fdatasync|2",
        "run|EIO|fsync spool/runs/DATE/ID.1|1",
        "run|EIO-stays|supervisor fdatasync|2",
        "run|ENOSPC-stays|supervisor write spool/runs|2",
        "run|ENOSPC-stays|task.json|1",
        "run|EMFILE|launch openat|1",
        "run|EAGAIN|daemon clone3|1",
        "run|EAGAIN|daemon clone3|4",
        "run|ENOMEM|supervisor clone3|1",
        "run|EINTR|flock|2",
        "run in a worktree|ENOSPC|git write|3",
        "rotate|EIO|fsync spool/events|1",
        "checkpoint|EIO|fsync spool/queue|4",
    ];
    HARD.iter().map(|text| Case { must_come: true, ..Case::read(text) }).collect()
}

/// All errors of a scenario that has so many calls.
pub(super) fn errors(scenario: &'static Scenario, calls: &[Call]) -> Vec<Case> {
    let sticky = STICKY.iter().map(|name| format!("{name}-stays"));
    let names: Vec<String> = ERRORS.iter().map(|(name, _)| (*name).to_owned()).chain(sticky).collect();
    let numbers = 1..=calls.iter().filter(|call| !call.description.contains("PIPE")).count();
    numbers
        .flat_map(|number| names.iter().map(move |name| Case::new(scenario, name, "", number as u64)))
        .collect()
}
