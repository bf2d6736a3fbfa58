//! Where an agent works: what was asked for, what was made, and what was found there at the end.
//!
//! Pure values; `worktree` makes those of [`Kind::Worktree`], and `settlement` ends them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::RunId;

/// What sort of place a run works in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A git worktree of its own, on a branch of its own.
    Worktree,
    /// The place itself that the user named, under a lock.
    Directory,
    /// A private folder, empty at the start.
    None,
}

impl Kind {
    /// As it stands in files.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Worktree => "worktree",
            Kind::Directory => "directory",
            Kind::None => "none",
        }
    }
}

/// What is removed when a run has ended. What nobody has committed is kept on a ref before anything is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cleanup {
    /// Nothing.
    #[default]
    Never,
    /// The worktree; its branch stays.
    Worktree,
    /// The worktree and its branch.
    All,
}

/// Where the kept refs are.
pub(crate) const KEPT_REFS: &str = "refs/gitspool/kept/";

/// The ref that keeps what a run left and no branch holds.
pub(crate) fn kept_ref(run: RunId) -> String {
    format!("{KEPT_REFS}{run}")
}

/// The worktree that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// Where it will lie, outside any repository.
    pub(crate) path: PathBuf,
    /// A place in the user's repository: its top, or a folder below; the agent works at the same place of the worktree.
    pub(crate) directory: Option<PathBuf>,
    /// The revision to start from; `HEAD` of the user's repository when absent.
    pub(crate) base: Option<String>,
    /// The branch to make; `gitspool/<name>` when absent.
    pub(crate) branch: Option<String>,
}

/// The workspace that was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Workspace {
    pub(crate) kind: Kind,
    /// The agent's working directory: `root`, or a folder below it.
    pub(crate) path: PathBuf,
    /// The top of the workspace.
    pub(crate) root: PathBuf,
    /// Git's common folder of the repository, as a real path.
    pub(crate) repository: Option<PathBuf>,
    /// The branch's short name, as `git switch` takes it.
    pub(crate) branch: Option<String>,
    /// The commit from which the branch started.
    pub(crate) base_commit: Option<String>,
}

/// What keeps a workspace from being removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Blocker {
    pub(crate) kind: BlockerKind,
    /// In words, with the name of what it is about.
    pub(crate) what: String,
}

/// Why a workspace must stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BlockerKind {
    /// A merge, a rebase or the like is half done.
    Unfinished,
    /// A process has its place there, or a file of it open.
    Process,
    /// Somebody has locked it.
    Locked,
    /// Another worktree lies in it.
    WorktreeInside,
    /// Something there cannot be read.
    Unreadable,
    /// There is more than may be kept.
    TooLarge,
    /// It was changed while it was kept.
    Changing,
    /// Its index cannot be read.
    Index,
    /// Something else lies where it was.
    Replaced,
    /// It could not be looked at at all.
    Failed,
    /// Objects of the repository lie in it.
    Objects,
    /// A kind that a newer version knows.
    #[serde(other)]
    Other,
}

/// What was found in a workspace when its run had ended.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Delivered {
    pub(crate) head_commit: Option<String>,
    /// Commits of the head that the base does not have.
    pub(crate) commits: u64,
    pub(crate) files_changed: u64,
    pub(crate) insertions: u64,
    pub(crate) deletions: u64,
    /// Whether something was there that no commit of the agent has; ignored files do not count.
    pub(crate) dirty: bool,
    /// The first lines of what was dirty, and why the workspace could not be removed if it could not.
    pub(crate) dirty_summary: Option<String>,
    /// The ref under which all is kept that no branch holds.
    pub(crate) kept_ref: Option<String>,
    /// Whether the workspace is gone.
    pub(crate) removed: bool,
    /// Why it is not, though it was to go.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) blockers: Vec<Blocker>,
    /// What it takes of the disk, if it is not gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) bytes: Option<u64>,
}
