//! Brings the result of a run onto a branch of the user's, and takes it back.
//!
//! The merge is made apart from any checkout, and looked at, before anything of the user's moves. What was before is on
//! `refs/gitspool/applied/<run>` by then, on disk. The branch moves from the commit that was read, or not at all; with it the
//! checkout in which it is, if that loses nothing. Else a branch with the merge is left, and nothing of the user's is touched.
//!
//! All is done under the repository's lock. What was begun and did not come to its end is finished, or taken back, by the next
//! call for the run.

mod checkout;
mod cleaning;
mod delivery;
mod journal;
mod merging;
mod moving;
mod target;
mod undo;

use std::path::{Path, PathBuf};

use gix::ObjectId;
use serde::Serialize;

use crate::applied::{Applied, How};
use crate::git::{self, GitError, Repository};
use crate::id::RunId;
use crate::lock::Lock;
use crate::spool::Spool;
use crate::store::{self, StoreError};
use crate::worktree::Site;

pub(crate) use delivery::Delivery;
pub(crate) use undo::undo;

use journal::Journal;
use merging::Made;
use moving::Moved;
use target::Target;

/// What somebody wants.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    pub(crate) how: How,
    /// The short name of a branch; that of the user's checkout when absent.
    pub(crate) onto: Option<String>,
    pub(crate) message: Option<String>,
    /// Only tell.
    pub(crate) dry_run: bool,
}

/// Why something cannot be applied or undone: an error, and nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("run {0} is live: wait for its end, or cancel it")]
    Live(RunId),
    #[error("run {0} has not begun: there is no result")]
    NotBegun(RunId),
    #[error(
        "run {run} worked in a workspace of the kind `{kind}`, not in a worktree: what it did lies there, and there is nothing to merge"
    )]
    NotAWorktree { run: RunId, kind: &'static str },
    #[error("the result of run {run} cannot be taken whole: {what}")]
    NotWhole { run: RunId, what: String },
    #[error("HEAD of {} is on no branch: say --onto BRANCH", .0.display())]
    Detached(PathBuf),
    #[error("{} has no branch {branch}: make it first (`git branch {branch}`)", repository.display())]
    NoBranch { branch: String, repository: PathBuf },
    #[error("{0:?} cannot be the name of a branch")]
    BranchName(String),
    #[error(
        "the merge lands nothing of {files} changed files, though {branch} has not all of them: nothing was changed"
    )]
    LandsNothing { files: usize, branch: String },
    #[error("the merge lost the changes of {}: nothing was changed", .0.join(", "))]
    Lost(Vec<String>),
    #[error("{branch} was moved by somebody else meanwhile: nothing was changed; do it again")]
    MovedMeanwhile { branch: String },
    #[error("{0}")]
    Stage(String),
    #[error("nothing of run {0} is applied")]
    NotApplied(RunId),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ApplyError {
    /// The word for programs, where there is one.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            ApplyError::Live(_) => "live",
            ApplyError::NotBegun(_) => "not_begun",
            ApplyError::NotAWorktree { .. } => "not_a_worktree",
            ApplyError::NotWhole { .. } => "not_whole",
            ApplyError::Detached(_) => "detached",
            ApplyError::NoBranch { .. } => "no_branch",
            ApplyError::BranchName(_) => "branch_name",
            ApplyError::LandsNothing { .. } => "lands_nothing",
            ApplyError::Lost(_) => "lost",
            ApplyError::MovedMeanwhile { .. } => "moved_meanwhile",
            ApplyError::NotApplied(_) => "not_applied",
            ApplyError::Stage(_) | ApplyError::Git(_) | ApplyError::Store(_) => "failed",
        }
    }
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    Applied {
        applied: Applied,
        files: Vec<String>,
    },
    Undone {
        undone: Applied,
        files: Vec<String>,
    },
    /// It would be so.
    WouldApply {
        branch: String,
        files: Vec<String>,
        stays: Option<String>,
    },
    WouldUndo {
        branch: String,
        files: Vec<String>,
        stays: Option<String>,
    },
    AppliedAlready {
        applied: Applied,
    },
    /// The run changed nothing.
    NothingToApply,
    /// The branch has nothing of it any more.
    GoneAlready {
        branch: String,
    },
    /// The branch has all of it, whoever brought it there.
    ThereAlready {
        branch: String,
    },
    Conflicts {
        branch: String,
        paths: Vec<String>,
        said: Vec<String>,
    },
    /// The branch stays where it is, and another one has the merge.
    Left {
        branch: String,
        left: String,
        commit: String,
        why: String,
    },
}

/// Applies the result of a run.
///
/// # Errors
/// Nothing was changed, or what was begun is finished by the next call.
pub(crate) fn apply(
    spool: &Spool,
    run: RunId,
    wish: &Wish,
    here: Option<&Path>,
) -> Result<Answer, ApplyError> {
    let mut delivery = Delivery::of(spool, run)?;
    delivery.look_again(spool)?;
    let place = Place::take(spool, &delivery)?;
    let journal = Journal::open(spool, &place)?;
    let (applied, _) = journal.finish(&place, delivery.applied.clone())?;
    let result = delivery.result(&place)?;
    let target = Target::find(&place, wish.onto.as_deref(), delivery.checkout(spool, here))?;
    let earlier = applied.into_iter().find(|applied| applied.branch == target.branch);
    if let Some(applied) = earlier.filter(|applied| id(&applied.tree) == Some(result.tree))
        && is_in(&place, &applied.after, target.tip)?
    {
        return Ok(Answer::AppliedAlready { applied });
    }
    if result.is_empty(&place)? {
        return Ok(Answer::NothingToApply);
    }
    let message = delivery.message(&place, &result, wish)?;
    let commit = match merging::make(&place, &result, &target, wish.how, &message)? {
        Made::Commit(commit) => commit,
        Made::Nothing => return Ok(Answer::ThereAlready { branch: target.branch }),
        Made::Conflicts { paths, said } => {
            return Ok(Answer::Conflicts { branch: target.branch, paths, said });
        }
    };
    let files = shown(git::changed(&place.common, target.tip, commit)?);
    let applied = Applied {
        how: wish.how,
        branch: target.branch.clone(),
        before: target.tip.to_string(),
        after: commit.to_string(),
        result: result.tip.to_string(),
        tree: result.tree.to_string(),
        checkout: None,
        record: None,
    };
    if wish.dry_run {
        let stays = moving::stays(&place, &target, commit)?;
        return Ok(Answer::WouldApply { branch: target.branch, files, stays });
    }
    match moving::carry_out(&place, &journal, &target, applied)? {
        Moved::Done(applied) => Ok(Answer::Applied { applied, files }),
        Moved::Not(why) => {
            let (left, commit) = moving::leave(&place, commit)?;
            Ok(Answer::Left { branch: target.branch, left, commit: commit.to_string(), why })
        }
    }
}

/// Writes the result of a run as a patch to `path`, which must not be there.
pub(crate) fn patch(spool: &Spool, run: RunId, path: &Path) -> Result<Answer, ApplyError> {
    let mut delivery = Delivery::of(spool, run)?;
    delivery.look_again(spool)?;
    let place = Place::take(spool, &delivery)?;
    let result = delivery.result(&place)?;
    if result.is_empty(&place)? {
        return Ok(Answer::NothingToApply);
    }
    let files = shown(git::changed(&place.common, result.base, result.tip)?);
    store::create_new(path, b"", 0o644)?;
    let (base, tip) = (result.base.to_string(), result.tip.to_string());
    let options = [
        "diff-tree",
        "-r",
        "-p",
        "--binary",
        "--full-index",
        "--no-renames",
        "--no-ext-diff",
        "--no-textconv",
    ];
    let prefixes =
        ["--no-color", "--ignore-submodules=none", "--src-prefix=a/", "--dst-prefix=b/", &base, &tip];
    let written = git::plumbing_to(&place.common, &[&options[..], &prefixes[..]].concat(), path);
    if written.is_err() {
        store::remove(path)?;
    }
    written?;
    store::sync_file(path)?;
    Ok(Answer::WouldApply { branch: path.display().to_string(), files, stays: None })
}

/// The repository of a run, with its lock.
pub(crate) struct Place {
    run: RunId,
    common: PathBuf,
    repository: Repository,
    /// A folder to merge in.
    scratch: PathBuf,
    _lock: Lock,
}

impl Place {
    fn take(spool: &Spool, delivery: &Delivery) -> Result<Place, ApplyError> {
        let site = Site { run: delivery.run, common: delivery.common.clone(), root: delivery.root.clone() };
        let lock = site.lock(&spool.state())?;
        let (scratch, repository) = (site.applying(), Repository::open(&site.common)?);
        Ok(Place { run: site.run, common: site.common, repository, scratch, _lock: lock })
    }

    /// The repository as it is now: what was opened before may not see what others did since.
    fn now(&self) -> Result<Repository, ApplyError> {
        Ok(Repository::open(&self.common)?)
    }
}

/// Whether a commit, as a record has it, is one of `tip`'s.
fn is_in(place: &Place, commit: &str, tip: ObjectId) -> Result<bool, ApplyError> {
    let Some(commit) = id(commit).filter(|id| place.repository.commit(*id).is_some()) else {
        return Ok(false);
    };
    Ok(git::is_within(&place.common, commit, tip)?)
}

fn id(text: &str) -> Option<ObjectId> {
    ObjectId::from_hex(text.as_bytes()).ok()
}

/// Paths as text that no terminal obeys.
fn shown(paths: impl IntoIterator<Item = Vec<u8>>) -> Vec<String> {
    paths.into_iter().map(|path| crate::kept::shown(&path)).collect()
}
