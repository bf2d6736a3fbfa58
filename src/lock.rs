//! Kernel locks (flock): the only sign of life. A lock ends with its holder, however that ends.
//!
//! Lock files are never removed, renamed or replaced. What they contain is for people; nothing decides by it.
//! Weak on NFS, where flock may be emulated or absent: a spool belongs on a local file system.
#![expect(clippy::disallowed_methods, reason = "tries for a moment to get a lock")]

use std::path::Path;
use std::time::Duration;

use crate::disk::{self, File, How, Metadata};
use crate::store::{self, StoreError};

/// A held lock; it ends when this is dropped. Close-on-exec, so that no process inherits it.
#[must_use = "a lock is held only as long as its guard lives"]
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Whether the file of the lock has no name any more, in no folder. Nobody else can find out then that it is held.
    pub(crate) fn is_removed(&self) -> bool {
        disk::look(&self.file).is_ok_and(|metadata| metadata.links == 0)
    }
}

/// Takes the lock of a folder itself, which even `git clean -fdx` leaves; `None` when another holds it.
fn try_folder(path: &Path) -> Result<Option<Lock>, StoreError> {
    let file = store::at("open", path, disk::open(path, How::READ))?;
    try_lock(path, file)
}

/// The same, tried for a moment: whoever only looks whether the lock is held has it for an instant.
pub(crate) fn try_folder_patiently(path: &Path) -> Result<Option<Lock>, StoreError> {
    for _ in 0..20 {
        if let Some(lock) = try_folder(path)? {
            return Ok(Some(lock));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(None)
}

/// Takes the lock at `path`, creating its file; `None` when another holds it.
pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Lock>, StoreError> {
    loop {
        let file = store::open_lock(path)?;
        let identity = store::at("look at", path, disk::look(&file))?;
        let Some(lock) = try_lock(path, file)? else { return Ok(None) };
        if is_still_at(path, &identity) {
            return Ok(Some(lock));
        }
    }
}

/// Waits for the lock at `path`, creating its file.
pub(crate) fn wait_exclusive(path: &Path) -> Result<Lock, StoreError> {
    loop {
        let file = store::open_lock(path)?;
        let identity = store::at("look at", path, disk::look(&file))?;
        store::at("lock", path, disk::lock(&file))?;
        if is_still_at(path, &identity) {
            return Ok(Lock { file });
        }
    }
}

/// Whether somebody holds the lock at `path`, which may be a folder. Creates no file. To find out it takes the lock for an
/// instant, shared with others who look; so whoever wants the lock itself waits, or tries more than once.
pub(crate) fn is_held(path: &Path) -> Result<bool, StoreError> {
    match disk::open(path, How::READ) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        opened => {
            let file = store::at("open", path, opened)?;
            Ok(!disk::try_lock_shared(&file).unwrap_or(false))
        }
    }
}

/// Whether nobody holds the lock at `path`, or gives it up within a moment: a process that was killed has it a little longer.
pub(crate) fn comes_free(path: &Path) -> Result<bool, StoreError> {
    for _ in 0..100 {
        if !is_held(path)? {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

fn try_lock(path: &Path, file: File) -> Result<Option<Lock>, StoreError> {
    Ok(store::at("lock", path, disk::try_lock(&file))?.then_some(Lock { file }))
}

/// Whether `path` still names the file that was locked: somebody may have replaced it in between.
fn is_still_at(path: &Path, locked: &Metadata) -> bool {
    disk::metadata(path).is_ok_and(|now| now.identity() == locked.identity())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_seen_and_cannot_be_taken_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!is_held(&path).unwrap());
        let lock = try_exclusive(&path).unwrap().unwrap();
        assert!(is_held(&path).unwrap());
        assert!(try_exclusive(&path).unwrap().is_none());
        assert!(!comes_free(&path).unwrap());
        drop(lock);
        assert!(!is_held(&path).unwrap() && comes_free(&path).unwrap());
        assert!(try_exclusive(&path).unwrap().is_some());
    }
}
