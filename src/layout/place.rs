//! What may lie where in a spool: every path that `layout` joins, read back. What has no place here is unexplained.

use super::{
    ACTIVE, AGENTS, CHECKPOINT, CLAIMED, COMMANDS, COMPRESSED_SUFFIX, DAEMON_RECORD, ENDED_FOLDERS, EVENTS,
    HELD, HOSTS, INBOX, KEEP, KEYS, LAUNCH_ERROR, LAUNCHES, LOCAL, MENDED, NOW, OUTPUT, OUTPUT_INDEX, PAUSED,
    PROMPT, QUEUE, QUEUE_RECORD, READERS, READY, RECEIPTS, REFUSED, REMOVED, RESERVE, RUN_LOCK, RUN_LOG,
    RUN_RECORD, RUN_TASK, RUNS, SCRIPT, SPOOL_RECORD, STDERR, STDERR_INDEX, STDOUT, STDOUT_INDEX,
    SUPERVISOR_ERROR, TEXTS, TMP, TRASH, TURNS, WAITING, WAKE, names,
};
use crate::command;
use crate::id::{Name, Rank, RunId, TaskId};
use crate::time::is_date;

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
    /// A sealed segment of a host's log, compressed.
    Compressed {
        host: Name,
        last: u64,
    },
    Text {
        sha256: String,
    },
    /// The file of a used key.
    Key {
        sha256: String,
    },
    /// The file of a reader.
    Reader {
        reader: Name,
    },
    /// What is left of the tasks of a day that were removed.
    Removed {
        date: String,
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
    Waiting,
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
        [
            INBOX | RECEIPTS | REFUSED | QUEUE | RUNS | AGENTS | HOSTS | EVENTS | TEXTS | KEYS | READERS
            | REMOVED | LOCAL,
        ] => Some(Place::Folder),
        [INBOX, ..] => Some(Place::Anything),
        [RECEIPTS | REFUSED | RUNS, date] => is_date(date).then_some(Place::Folder),
        [RECEIPTS, date, name] if is_date(date) => receipt(date, name),
        [REFUSED, date, name] if is_date(date) => {
            Some(Place::Refused { date: date.to_owned(), name: name.to_owned() })
        }
        [REFUSED, date, _, ..] if is_date(date) => Some(Place::Anything),
        [QUEUE, queue, ref rest @ ..] => in_queue(queue.parse().ok()?, rest),
        [RUNS, date, run, ref rest @ ..] if is_date(date) => in_run(date, run.parse().ok()?, rest),
        [AGENTS | HOSTS, name] => own(name.strip_suffix(".json")?.parse::<Name>().is_ok() || name == KEEP),
        [EVENTS, host] => host.parse::<Name>().ok().map(|_| Place::Folder),
        [EVENTS, host, name] => log(host.parse().ok()?, name),
        [TEXTS, name] => text(name),
        [READERS, name] => Some(Place::Reader { reader: name.strip_suffix(".json")?.parse().ok()? }),
        [KEYS, first] => is_hex(first, 2).then_some(Place::Folder),
        [KEYS, first, name] => key(first, name),
        [REMOVED, date] => is_date(date).then(|| Place::Removed { date: date.to_owned() }),
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
        [] | [HELD | WAITING | READY | ACTIVE] => Some(Place::Folder),
        [QUEUE_RECORD | PAUSED] | [_, KEEP] => Some(Place::File),
        // What editors leave beside the files of tasks for a while.
        [HELD | WAITING | READY, name] if command::is_in_the_making(name) => Some(Place::File),
        [HELD, name] => task(TaskFolder::Held, names::parse_queued_name(name)?.1),
        [WAITING, name] => task(TaskFolder::Waiting, names::parse_queued_name(name)?.1),
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
        [OUTPUT | STDOUT | STDERR | OUTPUT_INDEX | STDOUT_INDEX | STDERR_INDEX] => return Some(Place::File),
        [SCRIPT | LAUNCHES | LAUNCH_ERROR | SUPERVISOR_ERROR] => return Some(Place::File),
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
    let plain = name.strip_suffix(COMPRESSED_SUFFIX).unwrap_or(name);
    let (date, number) = (plain.get(..10)?, plain.get(10..)?.strip_prefix('-')?.strip_suffix(".jsonl")?);
    let last = names::parse_segment_name(name).filter(|_| is_date(date) && number.len() >= 12)?;
    Some(match names::is_compressed_name(name) {
        true => Place::Compressed { host, last },
        false => Place::Log { host, sealed: Some(last) },
    })
}

fn text(name: &str) -> Option<Place> {
    is_hex(name, 64).then(|| Place::Text { sha256: name.to_owned() })
}

fn key(first: &str, name: &str) -> Option<Place> {
    let sha256 = name.strip_suffix(".json").filter(|name| is_hex(name, 64) && name.starts_with(first))?;
    Some(Place::Key { sha256: sha256.to_owned() })
}

fn is_hex(text: &str, digits: usize) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == digits && text.bytes().all(is_digit)
}

fn in_local(rest: &[&str]) -> Option<Place> {
    match *rest {
        [TMP | CLAIMED | RESERVE | MENDED | TRASH] => Some(Place::Folder),
        [CHECKPOINT] => Some(Place::Checkpoint),
        [DAEMON_RECORD] => Some(Place::Daemon),
        [MENDED | TRASH, ..] => Some(Place::Anything),
        [TMP, name] => Some(Place::Aside { pid: names::parse_aside_name(name) }),
        [RESERVE, name] => names::is_reserved_name(name).then_some(Place::File),
        [CLAIMED, name] => {
            let (claim, name) = names::parse_claim_name(name)?;
            Some(Place::Claimed { claim, name: name.to_owned() })
        }
        // A refused folder lies there for a moment, with all that is in it.
        [CLAIMED, _, ..] => Some(Place::Anything),
        [..] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    /// The path that a row of the table means, with an example for each word in angle brackets.
    fn example(path: &str) -> String {
        let in_run = path.replace(".../", &format!("runs/2023-06-30/{TASK}.1/"));
        let words = [
            ("<date>-<last seq>", "2023-06-30-000000000007".to_owned()),
            ("<id>/<path>", format!("{TASK}/now.jsonl")),
            ("<name>~<seq>", "x~7".to_owned()),
            ("<seq>-<type>", "0001-cancel".to_owned()),
            ("<00 to 31>", "07".to_owned()),
            ("<pid>-<32 digits>", format!("7-{}", "a".repeat(32))),
            ("<rank>-<id>", format!("50-{TASK}")),
            ("<claim>.<name>", format!("{TASK}.x.json")),
            ("<sha256>", "ab".repeat(32)),
            ("<2 digits>", "ab".to_owned()),
            ("<date>", "2023-06-30".to_owned()),
            ("<queue>", "default".to_owned()),
            ("<reader>", "me".to_owned()),
            ("<host>", "vm".to_owned()),
            ("<run>", format!("{TASK}.1")),
            ("<id>", TASK.to_owned()),
            ("<name>", "x".to_owned()),
        ];
        words.iter().fold(in_run, |path, (word, example)| path.replace(word, example))
    }

    /// The first cells of the table of files, and what they name: "`a`, `b/`" are two, and ends with `/` are folders.
    fn rows() -> Vec<String> {
        let document = include_str!("../../spool-layout.md");
        let (_, section) = document.split_once("\n## Files\n").unwrap();
        let section = section.split_once("\n## ").unwrap().0;
        let cells = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `").map(|_| line.split('|').nth(1).unwrap()));
        let mut rows = Vec::new();
        for cell in cells {
            let mut names = cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned);
            let first = names.next().unwrap();
            // What follows has the folder of the first, or is a folder in its place.
            for name in names {
                let queue = first.split_once("/done/").map(|(queue, _)| format!("{queue}/"));
                let folder =
                    first.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
                let is_queue =
                    matches!(&*name, "failed/" | "cancelled/" | "blocked/" | "skipped/" | "expired/");
                rows.push(match (is_queue, queue) {
                    (true, Some(queue)) => format!("{queue}{name}<date>/<id>.json"),
                    (_, _) if name.contains("/.keep") => format!("queue/<queue>/{name}"),
                    (_, _) => format!("{folder}{name}"),
                });
            }
            rows.push(first);
        }
        rows.into_iter().filter(|row| !row.starts_with("STATE/")).collect()
    }

    #[test]
    fn every_row_of_the_table_of_files_has_a_place_and_nothing_beside_them() {
        let rows = rows();
        assert!(rows.len() > 40, "{rows:?}");
        for row in rows {
            let path = example(&row);
            assert!(place_of(path.trim_end_matches('/')).is_some(), "{row}: {path}");
            let stray = format!("{}-stray/x", path.trim_end_matches('/'));
            let anything = matches!(place_of(&stray), None | Some(Place::Anything));
            assert!(anything, "{stray}: {:?}", place_of(&stray));
        }
    }

    #[test]
    fn what_nothing_is_called_has_no_place() {
        for path in [
            "x",
            "queue/x y",
            "queue/default/ready/x.txt",
            "queue/default/done/2023-13-01",
            "runs/today",
            "events/vm/2023-06-30-7.jsonl",
            "events/vm/x",
            "texts/ab",
            ".local/x",
            "receipts/2023-06-30/x~y.json",
        ] {
            assert_eq!(place_of(path), None, "{path}");
        }
        for far in ["receipts/+10889-08-02", ".gitignore", ".git/objects/aa"] {
            assert!(place_of(far).is_some(), "{far}");
        }
        assert_eq!(place_of("texts").map(|place| place == Place::Folder), Some(true));
    }

    #[test]
    fn what_the_layout_joins_has_its_place() {
        let layout = crate::layout::Layout::new("");
        let task: TaskId = TASK.parse().unwrap();
        let run = RunId { task, attempt: 2 };
        let (queue, rank): (Name, Rank) = ("default".parse().unwrap(), Rank::default());
        let placed = |path: std::path::PathBuf| place_of(path.to_str().unwrap()).unwrap();
        let in_queue = |folder: TaskFolder| Place::Task { queue: queue.clone(), folder, task };
        assert_eq!(placed(layout.ready_task(&queue, rank, task)), in_queue(TaskFolder::Ready(Some(rank))));
        assert_eq!(placed(layout.held_task(&queue, task)), in_queue(TaskFolder::Held));
        assert_eq!(placed(layout.waiting_task(&queue, task)), in_queue(TaskFolder::Waiting));
        let host: Name = "vm".parse().unwrap();
        assert_eq!(
            placed(layout.active_task(&queue, &host, task)),
            in_queue(TaskFolder::Active(host.clone()))
        );
        assert_eq!(placed(layout.now(&host)), Place::Log { host: host.clone(), sealed: None });
        let segment = layout.segment(&host, &task.date(), 7);
        assert_eq!(
            placed(crate::layout::compressed(&segment)),
            Place::Compressed { host: host.clone(), last: 7 }
        );
        assert_eq!(placed(segment), Place::Log { host, sealed: Some(7) });
        assert_eq!(placed(layout.run(run).record()), Place::InRun { run, file: InRun::Record });
        assert_eq!(
            placed(layout.run(run).command(12, "note")),
            Place::InRun { run, file: InRun::Command(12) }
        );
        assert_eq!(placed(layout.removed_of(&task.date())), Place::Removed { date: task.date().to_string() });
        assert_eq!((placed(layout.trash()), placed(layout.trashed(run))), (Place::Folder, Place::Anything));
        assert_eq!(placed(layout.mended(task).join("queue")), Place::Anything);
        assert_eq!(placed(layout.reserved(31)), Place::File);
        assert_eq!(placed(layout.reserve()), Place::Folder);
        assert_eq!(place_of(".local/reserve/7"), None);
        assert_eq!(placed(layout.aside(7, "ab")), Place::Aside { pid: Some(7) });
        assert!(layout.folders().iter().skip(1).all(|folder| placed(folder.clone()) == Place::Folder));
    }
}
