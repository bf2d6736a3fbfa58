//! Every path of a spool: the only module that joins paths or spells file names.
//!
//! `spool-layout.md` is the specification of what lies at each; a test holds the two together.

mod folders;
mod local;
mod names;
mod place;
mod run;
mod state;

use std::path::{Path, PathBuf};

use crate::id::{Name, Rank, RunId, TaskId};
use crate::time::Date;

pub(crate) use local::compressed;
pub(crate) use names::{
    is_compressed_name, is_name_of_why, parse_aside_name, parse_claim_name, parse_command,
    parse_command_name, parse_queued_name, parse_segment_day, parse_segment_name, parse_task_name,
    parse_why_name,
};
pub(crate) use place::{InRun, Place, TaskFolder, place_of};
pub(crate) use run::RunLayout;
pub(crate) use state::StateLayout;

/// The names that the layout spells, each of which `spool-layout.md` explains.
#[cfg(test)]
const NAMES: &[&str] = &[
    SPOOL_RECORD,
    INBOX,
    RECEIPTS,
    REFUSED,
    WHY_SUFFIX,
    QUEUE,
    QUEUE_RECORD,
    PAUSED,
    HELD,
    WAITING,
    READY,
    ACTIVE,
    DONE,
    FAILED,
    CANCELLED,
    BLOCKED,
    SKIPPED,
    EXPIRED,
    RUNS,
    RUN_LOG,
    RUN_RECORD,
    RUN_TASK,
    RUN_LOCK,
    OUTPUT,
    STDOUT,
    STDERR,
    OUTPUT_INDEX,
    STDOUT_INDEX,
    STDERR_INDEX,
    SCRIPT,
    COMMANDS,
    TURNS,
    PROMPT,
    WAKE,
    LAUNCHES,
    LAUNCH_ERROR,
    SUPERVISOR_ERROR,
    AGENTS,
    HOSTS,
    EVENTS,
    NOW,
    COMPRESSED_SUFFIX,
    TEXTS,
    KEYS,
    READERS,
    REMOVED,
    LOCAL,
    CHECKPOINT,
    TMP,
    CLAIMED,
    RESERVE,
    DAEMON_RECORD,
    MENDED,
    KEEP,
    HOST_RECORD,
    WORK,
    TRASH,
    EDITS,
    LOCKS,
];

const SPOOL_RECORD: &str = "spool.json";
const INBOX: &str = "inbox";
const RECEIPTS: &str = "receipts";
const REFUSED: &str = "refused";
const WHY_SUFFIX: &str = ".why.json";
const QUEUE: &str = "queue";
const QUEUE_RECORD: &str = "queue.json";
const PAUSED: &str = "PAUSED";
const HELD: &str = "held";
const WAITING: &str = "waiting";
const READY: &str = "ready";
const ACTIVE: &str = "active";
const DONE: &str = "done";
const FAILED: &str = "failed";
const CANCELLED: &str = "cancelled";
const BLOCKED: &str = "blocked";
const SKIPPED: &str = "skipped";
const EXPIRED: &str = "expired";
const RUNS: &str = "runs";
const RUN_LOG: &str = "events.jsonl";
const RUN_RECORD: &str = "run.json";
const RUN_TASK: &str = "task.json";
const RUN_LOCK: &str = "lock";
const OUTPUT: &str = "output.log";
const STDOUT: &str = "stdout.log";
const STDERR: &str = "stderr.log";
const OUTPUT_INDEX: &str = "output.index";
const STDOUT_INDEX: &str = "stdout.index";
const STDERR_INDEX: &str = "stderr.index";
const SCRIPT: &str = "script";
const COMMANDS: &str = "commands";
const TURNS: &str = "turns";
const PROMPT: &str = "prompt.md";
const WAKE: &str = "wake";
const LAUNCHES: &str = "launches.jsonl";
const LAUNCH_ERROR: &str = "launch.error";
const SUPERVISOR_ERROR: &str = "supervisor.error";
const AGENTS: &str = "agents";
const HOSTS: &str = "hosts";
const EVENTS: &str = "events";
const NOW: &str = "now.jsonl";
const COMPRESSED_SUFFIX: &str = ".gz";
const TEXTS: &str = "texts";
const KEYS: &str = "keys";
const READERS: &str = "readers";
const REMOVED: &str = "removed";
const LOCAL: &str = ".local";
const CHECKPOINT: &str = "checkpoint.json";
const TMP: &str = "tmp";
const CLAIMED: &str = "claimed";
const RESERVE: &str = "reserve";
const DAEMON_RECORD: &str = "daemon.json";
const MENDED: &str = "mended";
const KEEP: &str = ".keep";
const HOST_RECORD: &str = "host.json";
const WORK: &str = "work";
const TRASH: &str = "trash";
const EDITS: &str = "edits";
const LOCKS: &str = "locks";

/// The folder of a spool that is found from below it, as git finds `.git`.
pub(crate) const DOT_SPOOL: &str = ".gitspool";

/// The folders in which ended tasks lie, under the date of their id.
pub(crate) const ENDED_FOLDERS: [&str; 6] = [DONE, FAILED, CANCELLED, BLOCKED, SKIPPED, EXPIRED];

/// The paths inside one spool.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: impl Into<PathBuf>) -> Layout {
        Layout { root: root.into() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn spool_record(&self) -> PathBuf {
        self.root.join(SPOOL_RECORD)
    }

    pub(crate) fn inbox(&self) -> PathBuf {
        self.root.join(INBOX)
    }

    /// Where a command file called `name` is dropped.
    pub(crate) fn dropped(&self, name: &str) -> PathBuf {
        self.inbox().join(name)
    }

    /// The name under which a command is written before it is renamed to its own; the daemon leaves it alone.
    pub(crate) fn dropping(&self, name: &str) -> PathBuf {
        self.inbox().join(format!(".{name}.tmp"))
    }

    pub(crate) fn receipts(&self) -> PathBuf {
        self.root.join(RECEIPTS)
    }

    pub(crate) fn receipts_of(&self, date: &Date) -> PathBuf {
        self.receipts().join(date.to_string())
    }

    /// The receipt for a command file called `name`: `x.json` answers `x.json`, `x.md.json` answers `x.md`.
    pub(crate) fn receipt(&self, date: &Date, name: &str) -> PathBuf {
        let stem = name.strip_suffix(".json").unwrap_or(name);
        self.receipts_of(date).join(format!("{stem}.json"))
    }

    /// Where the receipt that `seq` gave is kept when the same name was dropped again.
    pub(crate) fn earlier_receipt(&self, date: &Date, name: &str, seq: u64) -> PathBuf {
        let stem = name.strip_suffix(".json").unwrap_or(name);
        self.receipts_of(date).join(format!("{stem}~{seq}.json"))
    }

    pub(crate) fn refused(&self) -> PathBuf {
        self.root.join(REFUSED)
    }

    pub(crate) fn refused_of(&self, date: &Date) -> PathBuf {
        self.refused().join(date.to_string())
    }

    pub(crate) fn refused_file(&self, date: &Date, name: &str) -> PathBuf {
        self.refused_of(date).join(name)
    }

    pub(crate) fn refused_why(&self, date: &Date, name: &str) -> PathBuf {
        self.refused_of(date).join(format!("{name}{WHY_SUFFIX}"))
    }

    pub(crate) fn queues(&self) -> PathBuf {
        self.root.join(QUEUE)
    }

    pub(crate) fn queue(&self, queue: &Name) -> PathBuf {
        self.queues().join(queue.as_str())
    }

    pub(crate) fn queue_record(&self, queue: &Name) -> PathBuf {
        self.queue(queue).join(QUEUE_RECORD)
    }

    pub(crate) fn paused(&self, queue: &Name) -> PathBuf {
        self.queue(queue).join(PAUSED)
    }

    pub(crate) fn held(&self, queue: &Name) -> PathBuf {
        self.queue(queue).join(HELD)
    }

    pub(crate) fn held_task(&self, queue: &Name, task: TaskId) -> PathBuf {
        self.held(queue).join(task_file(task))
    }

    pub(crate) fn waiting(&self, queue: &Name) -> PathBuf {
        self.queue(queue).join(WAITING)
    }

    pub(crate) fn waiting_task(&self, queue: &Name, task: TaskId) -> PathBuf {
        self.waiting(queue).join(task_file(task))
    }

    pub(crate) fn ready(&self, queue: &Name) -> PathBuf {
        self.queue(queue).join(READY)
    }

    pub(crate) fn ready_task(&self, queue: &Name, rank: Rank, task: TaskId) -> PathBuf {
        self.ready(queue).join(format!("{rank}-{task}.json"))
    }

    /// The folder of the folders of all hosts' active tasks.
    pub(crate) fn actives(&self, queue: &Name) -> PathBuf {
        self.queue(queue).join(ACTIVE)
    }

    pub(crate) fn active(&self, queue: &Name, host: &Name) -> PathBuf {
        self.actives(queue).join(host.as_str())
    }

    pub(crate) fn active_task(&self, queue: &Name, host: &Name, task: TaskId) -> PathBuf {
        self.active(queue, host).join(task_file(task))
    }

    /// The folder of tasks that ended; `folder` is one of [`ENDED_FOLDERS`].
    pub(crate) fn ended(&self, queue: &Name, folder: &str) -> PathBuf {
        self.queue(queue).join(folder)
    }

    /// The same for one day; the day is that of the tasks' ids.
    pub(crate) fn ended_of(&self, queue: &Name, folder: &str, date: &Date) -> PathBuf {
        self.ended(queue, folder).join(date.to_string())
    }

    pub(crate) fn ended_task(&self, queue: &Name, folder: &str, task: TaskId) -> PathBuf {
        self.ended_of(queue, folder, &task.date()).join(task_file(task))
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.root.join(RUNS)
    }

    pub(crate) fn runs_of(&self, date: &Date) -> PathBuf {
        self.runs().join(date.to_string())
    }

    pub(crate) fn run(&self, run: RunId) -> RunLayout {
        RunLayout::new(self.runs_of(&run.task.date()).join(run.to_string()))
    }

    pub(crate) fn agents(&self) -> PathBuf {
        self.root.join(AGENTS)
    }

    pub(crate) fn agent(&self, agent: &Name) -> PathBuf {
        self.agents().join(format!("{agent}.json"))
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.root.join(HOSTS)
    }

    /// What a host has.
    pub(crate) fn host_settings(&self, host: &Name) -> PathBuf {
        self.hosts().join(format!("{host}.json"))
    }

    pub(crate) fn events(&self) -> PathBuf {
        self.root.join(EVENTS)
    }

    pub(crate) fn events_of(&self, host: &Name) -> PathBuf {
        self.events().join(host.as_str())
    }

    pub(crate) fn now(&self, host: &Name) -> PathBuf {
        self.events_of(host).join(NOW)
    }

    /// The sealed segment that holds the lines up to and including `last_seq`.
    pub(crate) fn segment(&self, host: &Name, date: &Date, last_seq: u64) -> PathBuf {
        self.events_of(host).join(format!("{date}-{last_seq:012}.jsonl"))
    }

    pub(crate) fn texts(&self) -> PathBuf {
        self.root.join(TEXTS)
    }

    pub(crate) fn text(&self, sha256: &str) -> PathBuf {
        self.texts().join(sha256)
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join(KEYS)
    }

    /// The file of a used key, by the digest of it and its scope; in 256 folders, so that none grows large.
    pub(crate) fn key(&self, sha256: &str) -> PathBuf {
        self.keys().join(&sha256[..2]).join(format!("{sha256}.json"))
    }

    pub(crate) fn readers(&self) -> PathBuf {
        self.root.join(READERS)
    }

    pub(crate) fn reader(&self, reader: &Name) -> PathBuf {
        self.readers().join(format!("{reader}.json"))
    }

    /// The file that keeps git from removing an empty folder.
    pub(crate) fn keep(&self, folder: &Path) -> PathBuf {
        folder.join(KEEP)
    }
}

fn task_file(task: TaskId) -> String {
    format!("{task}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_layout_is_explained_in_its_document() {
        let document = include_str!("../spool-layout.md");
        let missing: Vec<_> = NAMES.iter().filter(|name| !document.contains(**name)).collect();
        assert!(missing.is_empty(), "spool-layout.md does not explain {missing:?}");
    }

    #[test]
    fn file_names_are_read_as_they_are_written() {
        let layout = Layout::new("/s");
        let task: TaskId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let queue: Name = "default".parse().unwrap();
        let ready = name(layout.ready_task(&queue, Rank::default(), task));
        assert_eq!(parse_queued_name(&ready), Some((Some(Rank::default()), task)));
        assert_eq!(parse_queued_name(&name(layout.held_task(&queue, task))), Some((None, task)));
        assert_eq!(parse_aside_name(&name(layout.aside(7, "ab"))), Some(7));
        assert_eq!(parse_task_name(&name(layout.held_task(&queue, task))), Some(task));
        assert_eq!(parse_claim_name(&name(layout.claim(task, "x.json"))), Some((task, "x.json")));
        assert_eq!(
            parse_command_name(&name(layout.run(RunId { task, attempt: 1 }).command(7, "cancel"))),
            Some(7)
        );
        for other in ["", "50", "-", "100-x.json", "50-x.json", "ä"] {
            assert_eq!(parse_queued_name(other), None, "{other}");
            assert_eq!(parse_claim_name(other), None, "{other}");
        }
        let by_hand = |name: &str| parse_queued_name(name).map(|(rank, _)| rank.map(|rank| rank.to_string()));
        assert_eq!(by_hand(&format!("{task}.json")), Some(None));
        assert_eq!(by_hand(&format!("5-{task}.json")), Some(Some("05".to_owned())));
        assert_eq!(by_hand(&format!("120-{task}.json")), Some(Some("99".to_owned())));
        for other in
            [format!("x-{task}.json"), format!("5{task}.json"), format!("{task}"), "ä.json".to_owned()]
        {
            assert_eq!(by_hand(&other), None, "{other}");
        }
    }
}
