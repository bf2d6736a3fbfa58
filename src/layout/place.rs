//! What may lie where in a spool: every path that `layout` joins, read back. What has no place here is unexplained.

use super::{
    ACTIVE, AGENTS, CHECKPOINT, CLAIMED, COMMANDS, DAEMON_RECORD, ENDED_FOLDERS, EVENTS, HELD, INBOX, KEEP,
    LAUNCH_ERROR, LOCAL, MENDED, NOW, OUTPUT, PAUSED, PROMPT, QUEUE, QUEUE_RECORD, READY, RECEIPTS, REFUSED,
    RUN_LOCK, RUN_LOG, RUN_RECORD, RUN_TASK, RUNS, SCRIPT, SPOOL_RECORD, STDERR, STDOUT, SUPERVISOR_ERROR,
    TEXTS, TMP, TURNS, WAKE, names,
};
use crate::id::{Name, Rank, RunId, TaskId};

/// What a path of a spool is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder that holds other places.
    Folder,
    /// A file that nothing is compared with: somebody's own, or an agent's.
    File,
    /// Where anything may lie, of any kind: what somebody dropped, refused or not, and originals that were kept.
    Anything,
    Receipt {
        date: String,
        /// The number in the name of an earlier one.
        seq: Option<u64>,
    },
    /// A refused file, or the reason of one: the name alone does not tell.
    Refused {
        date: String,
        name: String,
    },
    Claimed {
        claim: TaskId,
        name: String,
    },
    /// A file that the process of that number was writing.
    Aside {
        pid: Option<u32>,
    },
    Checkpoint,
    Daemon,
    /// A file of a task, where `folder` is one of the queue's.
    Task {
        queue: Name,
        folder: TaskFolder,
        task: TaskId,
    },
    /// A file of a host's log.
    Log {
        host: Name,
        sealed: Option<u64>,
    },
    Text {
        sha256: String,
    },
    /// The folder of a run.
    Run {
        date: String,
        run: RunId,
    },
    InRun {
        run: RunId,
        file: InRun,
    },
}

/// The folder of a queue in which a task's file lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TaskFolder {
    Held,
    /// With the rank that the name bears, if any.
    Ready(Option<Rank>),
    Active(Name),
    Ended {
        folder: &'static str,
        date: String,
    },
}

/// What lies in a run's folder and is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InRun {
    Log,
    Record,
    Assignment,
    Lock,
    Wake,
    Command(u64),
}

/// The place that a path is, which is relative to the spool; `None` when no row of `spool-layout.md` has it.
pub(crate) fn place_of(path: &str) -> Option<Place> {
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        // Git's own, where the spool is part of a repository or is one.
        [top, ..] if top.starts_with(".git") => Some(Place::Anything),
        [SPOOL_RECORD] => Some(Place::File),
        [INBOX | RECEIPTS | REFUSED | QUEUE | RUNS | AGENTS | EVENTS | TEXTS | LOCAL] => Some(Place::Folder),
        [INBOX, ..] => Some(Place::Anything),
        [RECEIPTS | REFUSED | RUNS, date] => is_date(date).then_some(Place::Folder),
        [RECEIPTS, date, name] if is_date(date) => receipt(date, name),
        [REFUSED, date, name] if is_date(date) => {
            Some(Place::Refused { date: date.to_owned(), name: name.to_owned() })
        }
        [REFUSED, date, _, ..] if is_date(date) => Some(Place::Anything),
        [QUEUE, queue, ref rest @ ..] => in_queue(queue.parse().ok()?, rest),
        [RUNS, date, run, ref rest @ ..] if is_date(date) => in_run(date, run.parse().ok()?, rest),
        [AGENTS, name] => own(name.strip_suffix(".json")?.parse::<Name>().is_ok() || name == KEEP),
        [EVENTS, host] => host.parse::<Name>().ok().map(|_| Place::Folder),
        [EVENTS, host, name] => log(host.parse().ok()?, name),
        [TEXTS, name] => text(name),
        [LOCAL, ref rest @ ..] => in_local(rest),
        [..] => None,
    }
}

fn own(holds: bool) -> Option<Place> {
    holds.then_some(Place::File)
}

fn receipt(date: &str, name: &str) -> Option<Place> {
    let stem = name.strip_suffix(".json")?;
    let seq = match stem.rsplit_once('~') {
        Some((_, seq)) => Some(names::parse_seq(seq)?),
        None => None,
    };
    Some(Place::Receipt { date: date.to_owned(), seq })
}

fn in_queue(queue: Name, rest: &[&str]) -> Option<Place> {
    let task = |folder: TaskFolder, task: TaskId| Some(Place::Task { queue: queue.clone(), folder, task });
    match *rest {
        [] | [HELD | READY | ACTIVE] => Some(Place::Folder),
        [QUEUE_RECORD | PAUSED] | [_, KEEP] => Some(Place::File),
        [HELD, name] => task(TaskFolder::Held, names::parse_queued_name(name)?.1),
        [READY, name] => {
            let (rank, of) = names::parse_queued_name(name)?;
            task(TaskFolder::Ready(rank), of)
        }
        [ACTIVE, host] => host.parse::<Name>().ok().map(|_| Place::Folder),
        [ACTIVE, host, name] => task(TaskFolder::Active(host.parse().ok()?), names::parse_task_name(name)?),
        [folder, ref below @ ..] => {
            let folder = ENDED_FOLDERS.into_iter().find(|ended| *ended == folder)?;
            match *below {
                [] => Some(Place::Folder),
                [date] if is_date(date) => Some(Place::Folder),
                [date, name] if is_date(date) => {
                    let ended = TaskFolder::Ended { folder, date: date.to_owned() };
                    task(ended, names::parse_task_name(name)?)
                }
                [..] => None,
            }
        }
    }
}

fn in_run(date: &str, run: RunId, rest: &[&str]) -> Option<Place> {
    let file = match *rest {
        [] => return Some(Place::Run { date: date.to_owned(), run }),
        [RUN_LOG] => InRun::Log,
        [RUN_RECORD] => InRun::Record,
        [RUN_TASK] => InRun::Assignment,
        [RUN_LOCK] => InRun::Lock,
        [WAKE] => InRun::Wake,
        [OUTPUT | STDOUT | STDERR | SCRIPT | LAUNCH_ERROR | SUPERVISOR_ERROR] => return Some(Place::File),
        [COMMANDS | TURNS] => return Some(Place::Folder),
        [COMMANDS, name] => InRun::Command(names::parse_command_name(name)?),
        [TURNS, turn] => return turn.parse::<u32>().ok().map(|_| Place::Folder),
        [TURNS, turn, PROMPT] => return own(turn.parse::<u32>().is_ok()),
        [..] => return None,
    };
    Some(Place::InRun { run, file })
}

fn log(host: Name, name: &str) -> Option<Place> {
    if name == NOW {
        return Some(Place::Log { host, sealed: None });
    }
    let (date, number) = (name.get(..10)?, name.get(10..)?.strip_prefix('-')?.strip_suffix(".jsonl")?);
    let last = names::parse_segment_name(name).filter(|_| is_date(date) && number.len() >= 12)?;
    Some(Place::Log { host, sealed: Some(last) })
}

fn text(name: &str) -> Option<Place> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let fits = name.len() == 64 && name.bytes().all(is_digit);
    fits.then(|| Place::Text { sha256: name.to_owned() })
}

fn in_local(rest: &[&str]) -> Option<Place> {
    match *rest {
        [TMP | CLAIMED | MENDED] => Some(Place::Folder),
        [CHECKPOINT] => Some(Place::Checkpoint),
        [DAEMON_RECORD] => Some(Place::Daemon),
        [MENDED, ..] => Some(Place::Anything),
        [TMP, name] => Some(Place::Aside { pid: names::parse_aside_name(name) }),
        [CLAIMED, name] => {
            let (claim, name) = names::parse_claim_name(name)?;
            Some(Place::Claimed { claim, name: name.to_owned() })
        }
        // A refused folder lies there for a moment, with all that is in it.
        [CLAIMED, _, ..] => Some(Place::Anything),
        [..] => None,
    }
}

/// Whether a text has the form of a day.
fn is_date(text: &str) -> bool {
    // An id of a far day is as good as any.
    let far = text.strip_prefix('+');
    let parts: Vec<&str> = far.unwrap_or(text).split('-').collect();
    let number = |part: &str, digits: usize, max: u32| {
        let fits = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        fits && part.parse::<u32>().is_ok_and(|number| number <= max)
    };
    matches!(parts[..], [year, month, day] if number(year, if far.is_some() { 5 } else { 4 }, 99_999) && number(month, 2, 12) && number(day, 2, 31))
}
