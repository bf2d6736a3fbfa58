//! The times of a file of output, read from its index as that grows.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use super::place::open_if_there;
use crate::index::{Index, LeftOut};
use crate::store::{self, StoreError};
use crate::time::Timestamp;

/// What is known of when output was printed.
pub(super) struct Times {
    path: PathBuf,
    /// The file that was read, and how far. It is another one when it was thinned out.
    read: Option<((u64, u64), u64)>,
    index: Index,
    /// What the file of output does not have any more.
    left_out: Option<LeftOut>,
}

impl Times {
    pub(super) fn of(path: PathBuf) -> Times {
        Times { path, read: None, index: Index::default(), left_out: None }
    }

    /// Reads what there is, for a file of output of `len` bytes.
    pub(super) fn begin(&mut self, len: u64) -> Result<(), StoreError> {
        self.refresh()?;
        self.left_out = self.index.left_out(len);
        Ok(())
    }

    /// Reads what is new.
    pub(super) fn refresh(&mut self) -> Result<(), StoreError> {
        // Whatever lies there instead tells no times.
        let Ok(Some(file)) = open_if_there(&self.path) else { return Ok(()) };
        let metadata = store::at("look at", &self.path, file.metadata())?;
        let identity = (metadata.dev(), metadata.ino());
        let known = self.read.filter(|(known, offset)| *known == identity && *offset <= metadata.len());
        let offset = known.map_or(0, |(_, offset)| offset);
        if known.is_none() {
            self.index = Index::default();
        }
        let mut bytes = vec![0; usize::try_from(metadata.len() - offset).unwrap_or(0)];
        store::at("read", &self.path, file.read_exact_at(&mut bytes, offset))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.index.extend(&bytes[..whole]);
        self.read = Some((identity, offset + whole as u64));
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// When the first `offset` bytes of the file had been printed, if that is known.
    pub(super) fn at(&self, offset: u64) -> Option<Timestamp> {
        self.index.time_of(self.left_out.map_or(offset, |out| out.printed_at(offset)))
    }

    /// Up to where the file has what was printed before `since`.
    pub(super) fn offset_before(&self, since: Timestamp) -> u64 {
        let printed = self.index.before(since);
        self.left_out.map_or(printed, |out| out.offset_of(printed))
    }
}
