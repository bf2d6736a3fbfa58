//! The keys that were used, a file for each: how a repeat is known however long ago the first was.
//!
//! A file is a picture of the line that answered the command; who removes it lets the key be used anew. Finding one costs
//! the same however many there are.

use std::path::PathBuf;

use crate::answer::Receipt;
use crate::event::Event;
use crate::jsonl::Line;
use crate::key::{Key, Used};
use crate::layout::Layout;
use crate::picture;
use crate::shortage::Shortage;
use crate::store::{self, StoreError};

/// What is known of a key: who used it first.
///
/// # Errors
/// Also when what lies there cannot be read: taken for unused, the command would be carried out twice.
pub(crate) fn look(layout: &Layout, key: &Key) -> Result<Option<Used>, KeyError> {
    let path = layout.key(&key.sha256());
    let Some(bytes) = store::read_if_there(&path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| KeyError::Unreadable { path, error })
}

/// Why it is not known whether a key was used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{} cannot be read: {error}; `gitspool fsck --repair` draws it again", path.display())]
    Unreadable { path: PathBuf, error: serde_json::Error },
}

impl KeyError {
    /// What there is too little of, if that is why.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        match self {
            KeyError::Store(error) => error.shortage(),
            KeyError::Unreadable { .. } => None,
        }
    }
}

/// Draws the file of the key that a line has used, if it has; the first line that did counts. Returns the file.
pub(crate) fn draw(layout: &Layout, line: &Line<Event>) -> Result<Option<PathBuf>, StoreError> {
    let Some((origin, receipt)) = Receipt::of(line) else { return Ok(None) };
    let Some(key) = origin.key else { return Ok(None) };
    let path = layout.key(&key.sha256());
    let there = store::read_if_there(&path)?.and_then(|bytes| serde_json::from_slice::<Used>(&bytes).ok());
    let used = Used { key: *key, receipt };
    if there.is_none_or(|there| there.receipt.seq >= used.receipt.seq && there != used) {
        store::make_lasting_dir_below(layout.root(), path.parent().unwrap_or(layout.root()))?;
        store::draw(layout, &path, &picture::pretty(&used))?;
    }
    Ok(Some(path))
}
