//! Where the worktree of one run lies, in git's common folder and outside.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::digest;
use crate::id::RunId;
use crate::layout::StateLayout;
use crate::lock::{self, Lock};
use crate::store::{self, StoreError};
use crate::time::Timestamp;
use crate::workspace::kept_ref;

/// What says that a worktree is whole, from the end of its checkout on.
pub(super) const MADE: &str = "gitspool-made.json";
/// Has the stashes that were there before a worktree was made, a line for each.
pub(super) const STASHES: &str = "gitspool-stashes";

/// Where the worktree of one run lies; the names inside git's common folder are spelled here.
pub(crate) struct Site {
    pub(crate) run: RunId,
    pub(crate) common: PathBuf,
    pub(crate) root: PathBuf,
}

impl Site {
    /// Git's administrative folder.
    pub(crate) fn admin(&self) -> PathBuf {
        self.common.join("worktrees").join(self.run.to_string())
    }

    /// The same, before it is published and after it is withdrawn; as deep as the other, for `commondir`.
    pub(super) fn aside(&self, what: &str) -> PathBuf {
        self.common.join("gitspool-tmp").join(format!("{}{what}", self.run))
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.aside("")
    }

    pub(super) fn dot_git(&self) -> PathBuf {
        self.root.join(".git")
    }

    pub(crate) fn kept_ref(&self) -> String {
        kept_ref(self.run)
    }

    /// The stashes that there were before the worktree was made.
    pub(crate) fn stashes_before(&self) -> Result<HashSet<String>, StoreError> {
        let bytes = store::read_if_there(&self.admin().join(STASHES))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).lines().map(ToOwned::to_owned).collect())
    }

    /// Where its result is merged.
    pub(crate) fn applying(&self) -> PathBuf {
        self.aside(".apply")
    }

    /// When the worktree had been checked out.
    pub(crate) fn made_at(&self) -> Option<Timestamp> {
        store::changed_at(&self.admin().join(MADE))
    }

    /// What the log of a branch says that this run made.
    pub(crate) fn mark(&self) -> String {
        format!("gitspool: run {}", self.run)
    }

    pub(crate) fn lock(&self, locks: &StateLayout) -> Result<Lock, StoreError> {
        store::make_dir(&locks.locks())?;
        lock::wait_exclusive(&locks.place_lock(&digest::sha256_hex(self.common.as_os_str().as_bytes())))
    }

    /// Takes an administrative folder out of git's sight with one rename, and deletes it.
    pub(crate) fn withdraw(&self, folder: &Path) -> Result<(), StoreError> {
        let gone = self.aside(".gone");
        store::remove_tree(&gone)?;
        if store::exists(folder) {
            store::make_one_dir(gone.parent().unwrap_or(&self.common))?;
            store::rename(folder, &gone)?;
        }
        store::remove_tree(&gone)
    }
}
