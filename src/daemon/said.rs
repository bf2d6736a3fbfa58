//! What the files of tasks say when a daemon starts: what the log says or has said, or what a user wrote meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::command::BYTES_MAX;
use crate::event::By;
use crate::id::TaskId;
use crate::picture;
use crate::spec::Spec;
use crate::store::{self, StoreError};
use crate::task::State;
use crate::time::Timestamp;

/// What a file of a task says.
pub(super) enum Said {
    Nothing,
    /// What the log says.
    Now,
    /// What the log said since the checkpoint; or it is torn, as by a power cut.
    Earlier,
    /// What a user wrote.
    Other,
}

/// What a user wrote where a task's file belongs that has started or ended.
pub(super) struct Late {
    pub(super) task: TaskId,
    pub(super) path: PathBuf,
    pub(super) state: State,
    /// Where the task's file belongs and what that says, if it lay there.
    pub(super) belongs: Option<(PathBuf, Vec<u8>)>,
}

/// What a task was before it was edited since the checkpoint.
#[derive(Default)]
pub(super) struct Earlier {
    specs: Vec<Arc<Spec>>,
    /// When it was edited last.
    until: Option<Timestamp>,
    /// How many of the specs gave way to what a user wrote. That was on disk before its line, so that who finds one of them
    /// where the task's file belongs finds what a user has saved again.
    given_way: usize,
}

impl Earlier {
    pub(super) fn replaced(&mut self, spec: Arc<Spec>, by: By, at: Timestamp) {
        self.specs.push(spec);
        self.until = Some(at);
        if by == By::Hand {
            self.given_way = self.specs.len();
        }
    }

    /// What may still lie where the task's file belongs.
    pub(super) fn in_place(&self) -> Earlier {
        Earlier { specs: self.specs[self.given_way..].to_vec(), until: self.until, given_way: 0 }
    }

    /// Whether it is what the log has said: who saved that again since then wants it.
    fn is_said(&self, there: &Spec, path: &Path) -> bool {
        let is_older = store::modified_at(path) <= self.until;
        is_older && self.specs.iter().any(|spec| **spec == *there)
    }
}

pub(super) fn said(
    path: &Path,
    (spec, state): (&Spec, &State),
    earlier: &Earlier,
) -> Result<Said, StoreError> {
    if !store::exists(path) {
        return Ok(Said::Nothing);
    }
    let picture = picture::task(spec, state);
    let bytes_max = BYTES_MAX.max(2 * picture.len() as u64);
    if !store::is_readable_file(path) || store::bytes_of(path).is_none_or(|bytes| bytes > bytes_max) {
        return Ok(Said::Other);
    }
    let Some(bytes) = store::read_if_small(path, bytes_max)? else { return Ok(Said::Nothing) };
    let there: Option<Spec> = serde_json::from_slice(&bytes).ok();
    Ok(match there.as_ref() {
        _ if bytes == picture => Said::Now,
        // How it ended is not told there yet.
        Some(there) if there == spec && picture::tells_end(state) => Said::Earlier,
        Some(there) if there == spec => Said::Now,
        Some(there) if earlier.is_said(there, path) => Said::Earlier,
        Some(_) => Said::Other,
        None => {
            let drawn = earlier.specs.iter().map(picture::pretty).chain([picture::pretty(spec), picture]);
            let is_torn = drawn.into_iter().any(|picture| picture::is_torn(&bytes, &picture));
            if is_torn { Said::Earlier } else { Said::Other }
        }
    })
}
