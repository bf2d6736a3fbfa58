//! The files of readers: each is replaced as a whole by the daemon, after the line that marks something as read.
//!
//! A file is the fold of its lines since it was begun. It is on disk before a checkpoint is behind them: what was told before
//! is in no line that a start goes through again.

use std::path::PathBuf;

use crate::event::Event;
use crate::history;
use crate::id::Name;
use crate::jsonl::Line;
use crate::layout::Layout;
use crate::picture;
use crate::reader::Reader;
use crate::store::{self, StoreError};

/// How much of the log is looked through for what is unread. What changed longer ago, and is not live, counts as read.
pub(crate) const LOOK_BYTES: u64 = 32 * 1024 * 1024;

/// What is known of a reader; `None` for one who has marked nothing.
///
/// # Errors
/// Also when what lies there makes no sense: taken for nothing, all would be unread again.
pub(crate) fn look(layout: &Layout, reader: &Name) -> Result<Option<Reader>, ReaderError> {
    let path = layout.reader(reader);
    let Some(bytes) = store::read_if_there(&path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| ReaderError::Unreadable { path, error })
}

/// Why it is not known what a reader has read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReaderError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{} cannot be read: {error}; `gitspool fsck --repair` draws it again", path.display())]
    Unreadable { path: PathBuf, error: serde_json::Error },
}

/// Draws the file of the reader that a line is about, if it is about one. Returns the file.
pub(crate) fn draw(layout: &Layout, host: &Name, line: &Line<Event>) -> Result<Option<PathBuf>, StoreError> {
    let Event::Marked { mark, .. } = &line.event else { return Ok(None) };
    let path = layout.reader(&mark.reader);
    let mut reader = match look(layout, &mark.reader) {
        Ok(Some(reader)) => reader,
        Ok(None) => Reader::new(mark.reader.clone(), line.seq),
        Err(ReaderError::Store(error)) => return Err(error),
        // Never overwritten: the repair has the lines.
        Err(error @ ReaderError::Unreadable { .. }) => {
            tracing::error!("{error}");
            return Ok(None);
        }
    };
    let (before, is_new) = (reader.clone(), reader.begun == line.seq);
    reader.mark(line.seq, mark);
    if reader == before && !is_new {
        return Ok(Some(path));
    }
    if reader.is_crowded() {
        // Each line is gone through once for each reader, since the floor is then behind it.
        reader.settle(&history::changes(layout, host, reader.floor, LOOK_BYTES)?.changes);
    }
    store::make_lasting_dir_below(layout.root(), &layout.readers())?;
    store::replace(layout, &path, &picture::pretty(&reader))?;
    Ok(Some(path))
}
