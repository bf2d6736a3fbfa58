//! The paths of a user's machine-local state.

use std::path::PathBuf;

use super::{EDITS, HOST_RECORD, LOCKS, TRASH, WORK};
use crate::id::RunId;

/// The paths of this user's machine-local state for one spool; outside the spool, out of reach of `git clean`.
#[derive(Clone, Debug)]
pub(crate) struct StateLayout {
    state_dir: PathBuf,
    spool_id: String,
}

impl StateLayout {
    /// `state_dir` is shared by all spools of the user; `spool_id` is the id in `spool.json`.
    pub(crate) fn new(state_dir: impl Into<PathBuf>, spool_id: &str) -> StateLayout {
        StateLayout { state_dir: state_dir.into(), spool_id: spool_id.to_owned() }
    }

    pub(crate) fn spool_state(&self) -> PathBuf {
        self.state_dir.join(&self.spool_id)
    }

    pub(crate) fn host_record(&self) -> PathBuf {
        self.spool_state().join(HOST_RECORD)
    }

    /// Where the workspaces of runs lie.
    pub(crate) fn work(&self) -> PathBuf {
        self.spool_state().join(WORK)
    }

    pub(crate) fn workspace(&self, run: RunId) -> PathBuf {
        self.work().join(run.to_string())
    }

    /// Where users edit copies of specs.
    pub(crate) fn edits(&self) -> PathBuf {
        self.spool_state().join(EDITS)
    }

    pub(crate) fn edited(&self, name: &str) -> PathBuf {
        self.edits().join(format!("{name}.json"))
    }

    /// Where workspaces wait for deletion; on the same file system as [`StateLayout::work`].
    pub(crate) fn trash(&self) -> PathBuf {
        self.spool_state().join(TRASH)
    }

    pub(crate) fn trashed(&self, run: RunId) -> PathBuf {
        self.trash().join(run.to_string())
    }

    /// The folder of locks on things outside any spool; shared by all spools of the user.
    pub(crate) fn locks(&self) -> PathBuf {
        self.state_dir.join(LOCKS)
    }

    /// The lock on a repository or directory, named by the SHA-256 of its real path.
    pub(crate) fn place_lock(&self, path_sha256: &str) -> PathBuf {
        self.locks().join(format!("{path_sha256}.lock"))
    }
}
