//! Compares a spool with `spool-layout.md`: takes what was seen of one, and says what is wrong and what would mend it.
//! Pure; `fsck` looks and mends.
//!
//! What a picture should be is said by the same functions that draw it. What a user may do at any time is no finding, nor
//! is what a daemon that runs, or the next one, will do about what simply has not happened yet.

mod answers;
mod history;
mod kind;
mod local;
mod notices;
mod run;
mod runs;
mod series;
mod tasks;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::event::Event;
use crate::id::{Name, RunId, TaskId};
use crate::jsonl::Line;
use crate::layout::Layout;

pub(crate) use kind::{Kind, Severity};

/// What sort of thing lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    File,
    Folder,
    Fifo,
    /// A link, a socket, a device.
    Other,
}

/// What was seen of a spool. Paths are relative to it, and those of `workspaces` and `trash` are names in these folders.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) layout: Layout,
    /// This machine's name in the spool, if it has one.
    pub(crate) host: Option<Name>,
    /// Whether a daemon holds the spool.
    pub(crate) daemon: bool,
    pub(crate) entries: BTreeMap<String, Sort>,
    /// The contents of the files that are compared; or why one cannot be read.
    pub(crate) contents: BTreeMap<String, Result<Vec<u8>, String>>,
    /// The texts that are what their names say.
    pub(crate) texts: BTreeSet<String>,
    /// The runs whose locks are held.
    pub(crate) held: BTreeSet<RunId>,
    /// The processes that live, of those that have files in `.local/tmp`.
    pub(crate) alive: BTreeSet<u32>,
    pub(crate) workspaces: Vec<String>,
    pub(crate) trash: Vec<String>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    /// Where, from the spool's folder; absolute outside of it.
    pub(crate) path: String,
    /// What, in words.
    pub(crate) what: String,
    pub(crate) mend: Mend,
}

/// What mends a finding. Only what the logs say, or what nothing can be lost by, is done by `--repair`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mend {
    /// The file is drawn anew; what lies there is kept aside.
    Draw(Vec<u8>),
    /// The file is drawn anew under the run's lock.
    DrawInRun(RunId, Vec<u8>),
    /// The file is moved aside.
    Remove,
    /// The file is removed under the run's lock.
    RemoveInRun(RunId),
    /// The file gets the path at which it belongs, in the spool.
    Move(String),
    /// What a line says about its command is done again.
    Answer(Box<Line<Event>>),
    /// What is behind so many bytes is cut off; the whole file is kept aside.
    Cut(u64),
    /// The same under the run's lock.
    CutInRun(RunId, u64),
    /// The folder is made.
    MakeFolder,
    /// A daemon does it: the one that runs when it looks next, else the next one.
    Daemon,
    /// A person must decide; in words.
    ByHand(String),
}

impl Mend {
    /// What is done, in words.
    pub(crate) fn words(&self) -> String {
        match self {
            Mend::Draw(_) | Mend::DrawInRun(..) => "drawn again from the log".to_owned(),
            Mend::Remove | Mend::RemoveInRun(_) => "moved aside".to_owned(),
            Mend::Move(to) => format!("moved to {to}"),
            Mend::Answer(line) => format!("answered again as line {} says", line.seq),
            Mend::Cut(bytes) | Mend::CutInRun(_, bytes) => format!("cut behind byte {bytes}"),
            Mend::MakeFolder => "made".to_owned(),
            Mend::Daemon => "left to a daemon: to the one that runs, or the next".to_owned(),
            Mend::ByHand(how) => format!("by hand: {how}"),
        }
    }

    pub(crate) fn word(&self) -> &'static str {
        match self {
            Mend::Draw(_) | Mend::DrawInRun(..) => "draw",
            Mend::Remove | Mend::RemoveInRun(_) => "remove",
            Mend::Move(_) => "move",
            Mend::Answer(_) => "answer",
            Mend::Cut(_) | Mend::CutInRun(..) => "cut",
            Mend::MakeFolder => "make_folder",
            Mend::Daemon => "daemon",
            Mend::ByHand(_) => "by_hand",
        }
    }
}

fn by_hand(how: &str) -> Mend {
    Mend::ByHand(how.to_owned())
}

/// What is wrong with what was seen, in the order of the paths.
pub(crate) fn audit(seen: &Seen) -> Vec<Finding> {
    let mut audit = Audit { seen, findings: Vec::new(), checkpoint: None, removed: BTreeSet::new() };
    audit.removed = audit.read_removed();
    audit.checkpoint = audit.read_checkpoint();
    audit.check_tree();
    let history = audit.read_history();
    audit.check_checkpoint(&history);
    audit.check_tasks(&history);
    audit.check_answers(&history);
    audit.check_runs(&history);
    audit.check_local(&history);
    let mut findings = audit.findings;
    findings.sort_by(|a, b| (&a.path, a.kind, &a.what).cmp(&(&b.path, b.kind, &b.what)));
    findings
}

struct Audit<'a> {
    seen: &'a Seen,
    findings: Vec<Finding>,
    /// What could be read of it.
    checkpoint: Option<Checkpoint>,
    /// The tasks of which a line is left.
    removed: BTreeSet<TaskId>,
}

impl<'a> Audit<'a> {
    fn find(&mut self, kind: Kind, path: impl Into<String>, what: impl Into<String>, mend: Mend) {
        self.findings.push(Finding { kind, path: path.into(), what: what.into(), mend });
    }

    /// What lies at a path, if it could be read.
    fn content(&self, path: &str) -> Option<&'a [u8]> {
        self.seen.contents.get(path)?.as_deref().ok()
    }

    /// Whether anything lies at a path of the layout.
    fn is_there(&self, path: &Path) -> bool {
        self.seen.entries.contains_key(&self.below(path))
    }

    /// A path of the layout as it stands in findings.
    fn below(&self, path: &Path) -> String {
        let below: PathBuf = path.strip_prefix(self.seen.layout.root()).unwrap_or(path).to_owned();
        below.to_string_lossy().into_owned()
    }

    /// Whether the tree is known to be on disk up to that line of our log.
    fn is_behind_checkpoint(&self, seq: u64) -> bool {
        self.checkpoint.as_ref().is_none_or(|checkpoint| seq > checkpoint.seq)
    }

    /// What a daemon would draw at its start: lines behind the checkpoint, when none runs.
    fn is_owed(&self, host: &Name, seq: u64) -> bool {
        !self.seen.daemon && self.seen.host.as_ref() == Some(host) && self.is_behind_checkpoint(seq)
    }
}

/// For records that nothing here looks into.
fn is_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> bool {
    serde_json::from_slice::<T>(bytes).is_ok()
}

/// A finding as `--json` prints it.
#[derive(Serialize)]
pub(crate) struct Told<'a> {
    severity: Severity,
    kind: Kind,
    path: &'a str,
    what: &'a str,
    mend: &'static str,
    how: String,
}

impl Finding {
    pub(crate) fn told(&self) -> Told<'_> {
        Told {
            severity: self.kind.severity(),
            kind: self.kind,
            path: &self.path,
            what: &self.what,
            mend: self.mend.word(),
            how: self.mend.words(),
        }
    }
}
