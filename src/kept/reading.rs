//! Reads what was kept: the commit, what goes with it, and which kept refs there are. Needs no daemon and changes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gix::ObjectId;

use super::manifest::{self, Entry as Held};
use super::staged::{self, Entry as Staged};
use super::{INDEX, MANIFEST, OWN_SUBJECT, RECORD, RECORD_SUBJECT, Record, STAGED_SUBJECT};
use crate::git::{self, GitError, Repository};
use crate::id::RunId;
use crate::layout::Layout;
use crate::record;
use crate::removed;
use crate::spool::Spool;
use crate::store::{self, StoreError};
use crate::time::{self, Timestamp};
use crate::workspace::KEPT_REFS;

/// What was kept of a worktree.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The last commit of the agent.
    pub(crate) head: ObjectId,
    /// The files as they lay there.
    pub(crate) tree: ObjectId,
    /// The tree of the index, if it was none with conflicts.
    pub(crate) staged: Option<ObjectId>,
    pub(crate) record: Option<Record>,
    /// What no tree holds.
    pub(crate) held: Vec<Held>,
    /// The entries of the index, if they are known.
    pub(crate) indexed: Option<Vec<Staged>>,
}

/// Reads a commit that a kept ref names.
///
/// # Errors
/// When something of it is not there, or makes no sense.
pub(crate) fn read(repository: &Repository, commit: ObjectId) -> Result<Kept, GitError> {
    let wrong = |what: &str| GitError::Repository {
        action: format!("read what was kept as {commit}"),
        repository: repository.git_dir().to_owned(),
        said: what.to_owned(),
    };
    let top = repository.commit(commit).ok_or_else(|| wrong("it is no commit that is there"))?;
    let plain = Kept {
        head: commit,
        tree: top.tree,
        staged: Some(top.tree),
        record: None,
        held: vec![],
        indexed: None,
    };
    if !top.message.starts_with(OWN_SUBJECT) {
        return Ok(plain);
    }
    let head = *top.parents.first().ok_or_else(|| wrong("it has no parent"))?;
    let head_tree = repository.commit(head).map(|head| head.tree);
    let others: Vec<_> = top.parents.iter().skip(1).filter_map(|id| repository.commit(*id)).collect();
    let tree_of = |subject: &str| {
        others.iter().find(|other| other.message.starts_with(subject)).map(|found| found.tree)
    };
    let Some(record_tree) = tree_of(RECORD_SUBJECT) else {
        // An older version wrote it.
        return Ok(Kept { head, staged: tree_of(STAGED_SUBJECT).or(head_tree), ..plain });
    };
    let file = |name: &str| {
        let blob =
            repository.in_tree(record_tree, name)?.ok_or_else(|| wrong(&format!("{name} is missing")))?;
        repository.blob(blob)
    };
    let record: Record =
        serde_json::from_slice(&file(RECORD)?).map_err(|error| wrong(&format!("{RECORD}: {error}")))?;
    if record.format > 1 {
        return Err(wrong("a newer version of gitspool wrote it: use that"));
    }
    let held = manifest::parse(&file(MANIFEST)?).ok_or_else(|| wrong("its manifest makes no sense"))?;
    let indexed = staged::parse(&file(INDEX)?).ok_or_else(|| wrong("its index makes no sense"))?;
    let staged = record.staged.as_ref().and_then(|id| ObjectId::from_hex(id.as_bytes()).ok());
    Ok(Kept { head, staged, record: Some(record), held, indexed: Some(indexed), ..plain })
}

/// A kept ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptRef {
    pub(crate) run: RunId,
    /// Git's common folder.
    pub(crate) repository: PathBuf,
    pub(crate) commit: ObjectId,
    /// When the run ended; of one whose record is gone, when the commit was made, by its own word.
    pub(crate) at: Timestamp,
}

/// Repositories that could not be read, and why.
pub(crate) type Unread = Vec<(PathBuf, GitError)>;

/// The kept refs of a spool's runs, the oldest run first: in the repositories that runs are known to have worked in, in that of
/// the spool's directory, and in that to which `here` belongs.
///
/// # Errors
/// When a folder cannot be listed. A repository that is gone or cannot be read has none; it is named in the second part.
pub(crate) fn all(spool: &Spool, here: Option<&Path>) -> Result<(Vec<KeptRef>, Unread), StoreError> {
    let (mut found, mut unread) = (Vec::new(), Unread::new());
    for repository in repositories(spool, here)? {
        match in_repository(&repository) {
            Ok(refs) => found.extend(refs),
            Err(error) => unread.push((repository, error)),
        }
    }
    let is_ours = |kept: &KeptRef| -> Result<bool, StoreError> {
        let is_there = store::exists(spool.layout.run(kept.run).dir());
        Ok(is_there || removed::look(&spool.layout, kept.run.task)?.is_some())
    };
    let mut ours = Vec::new();
    for mut kept in found {
        if is_ours(&kept)? {
            kept.at =
                ended_at(&spool.layout, kept.run).unwrap_or_else(|| kept.at.max(kept.run.task.made_at()));
            ours.push(kept);
        }
    }
    ours.sort_by_key(|kept| kept.run);
    Ok((ours, unread))
}

/// The repositories in which the runs of a spool have worked, and the one of its own directory.
fn repositories(spool: &Spool, here: Option<&Path>) -> Result<BTreeSet<PathBuf>, StoreError> {
    let layout = &spool.layout;
    let mut found = BTreeSet::new();
    for day in store::names(&layout.runs())?.iter().filter(|day| time::is_date(day)) {
        for run in store::names(&layout.runs().join(day))? {
            found.extend(run.parse().ok().and_then(|run| repository_of(layout, run)));
        }
    }
    for directory in spool.settings.directory.as_deref().into_iter().chain(here) {
        if let Ok(Some((repository, _))) = git::find(directory) {
            found.extend(repository.common_dir().canonicalize().ok());
        }
    }
    found.retain(|repository| store::exists(repository));
    Ok(found)
}

fn record_of(layout: &Layout, run: RunId) -> Option<record::Record> {
    let bytes = store::read_if_there(&layout.run(run).record()).ok()??;
    serde_json::from_slice(&bytes).ok()
}

fn repository_of(layout: &Layout, run: RunId) -> Option<PathBuf> {
    record_of(layout, run)?.workspace?.repository
}

fn ended_at(layout: &Layout, run: RunId) -> Option<Timestamp> {
    record_of(layout, run)?.finished_at
}

fn in_repository(common: &Path) -> Result<Vec<KeptRef>, GitError> {
    let format = "--format=%(refname) %(objectname) %(committerdate:unix)";
    let said = git::plumbing(common, &["for-each-ref", format, KEPT_REFS])?;
    let said = String::from_utf8_lossy(&said);
    let kept = |line: &str| {
        let mut words = line.strip_prefix(KEPT_REFS)?.split(' ');
        let (run, commit) = (words.next()?.parse().ok()?, ObjectId::from_hex(words.next()?.as_bytes()).ok()?);
        let seconds: i64 = words.next()?.parse().ok()?;
        let at = Timestamp::from_micros(seconds.checked_mul(1_000_000)?);
        Some(KeptRef { run, repository: common.to_owned(), commit, at })
    };
    Ok(said.lines().filter_map(kept).collect())
}

/// How many bytes of a repository only this keeps: no branch, no tag and nothing that was fetched has them.
pub(crate) fn bytes(kept: &KeptRef) -> Result<u64, GitError> {
    let commit = kept.commit.to_string();
    let arguments =
        ["rev-list", "--objects", "--disk-usage", &commit, "--not", "--branches", "--tags", "--remotes"];
    let said = git::plumbing(&kept.repository, &arguments)?;
    let text = String::from_utf8_lossy(&said);
    text.trim().parse().map_err(|_| git::unread("rev-list".to_owned(), &said))
}
