//! What is told of a file operation that failed, and whether it failed for lack of something.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::input::Failure;
use crate::shortage::Shortage;

/// A failed file operation: what was tried, where, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", path.display(), self.way_out())]
pub(crate) struct StoreError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    pub(crate) fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether something could not be made durable. Trying that again may succeed and mean nothing: the system then takes
    /// for written what is not.
    pub(crate) fn is_failed_sync(&self) -> bool {
        self.action.starts_with("sync")
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// What the system has too little of, if it failed for that. Never of a sync.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        if self.is_failed_sync() { None } else { shortage(&self.source) }
    }

    /// Whether a file that is given up may help.
    pub(crate) fn wants_room(&self) -> bool {
        matches!(self.shortage(), Some(Shortage::Space | Shortage::Inodes | Shortage::Quota))
    }

    /// The same for another thread.
    pub(crate) fn failure(&self) -> Failure {
        Failure { why: self.to_string(), shortage: self.shortage() }
    }

    fn way_out(&self) -> String {
        self.shortage().map(|shortage| format!("; {}", shortage.way_out())).unwrap_or_default()
    }
}

/// What the system has too little of, if that is what an error says. What a full file system lacks `room` tells.
pub(crate) fn shortage(error: &io::Error) -> Option<Shortage> {
    match Errno::from_io_error(error)? {
        Errno::NOSPC => Some(Shortage::Space),
        Errno::DQUOT => Some(Shortage::Quota),
        Errno::MFILE | Errno::NFILE => Some(Shortage::Files),
        Errno::NOMEM => Some(Shortage::Memory),
        _ => None,
    }
}

/// Gives an [`io::Result`] the action and the path that its error must name.
pub(crate) fn at<T>(action: &'static str, path: &Path, result: io::Result<T>) -> Result<T, StoreError> {
    result.map_err(|source| StoreError { action, path: path.to_owned(), source })
}

/// What is told of something that is no plain file where one is read.
pub(crate) fn not_plain(path: &Path) -> StoreError {
    StoreError { action: "read", path: path.to_owned(), source: io::Error::other("it is no plain file") }
}
