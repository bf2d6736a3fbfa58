//! What does not stay where a task's file belongs: it is moved to `refused/` with the reason beside it, and the last good
//! spec is drawn in its place.

use std::path::PathBuf;

use crate::clock;
use crate::event::{Event, Origin};
use crate::id::TaskId;
use crate::receipt;
use crate::refusal::Refusal;
use crate::reserve;
use crate::store::{self, StoreError};

use super::Daemon;
use super::who::RefusedEdit;

/// Something that does not stay where a task's file belongs.
pub(super) struct PutBack {
    pub(super) task: TaskId,
    pub(super) origin: Origin,
    pub(super) refusal: Refusal,
    pub(super) found: PathBuf,
    /// Where the task's file belongs, and what that says, if it lay there.
    pub(super) belongs: Option<(PathBuf, Vec<u8>)>,
}

impl Daemon {
    /// Puts a refused text away, and draws the last good spec where the task's file belongs.
    pub(super) fn put_back(&mut self, event: &Event) {
        if let Event::EditRefused { claim, .. } = event {
            let refused = self.edits.refused.remove(claim);
            self.edits.owed.extend(refused);
            self.put_back_owed();
        }
    }

    /// Does so with all that could not be, or not yet.
    pub(super) fn put_back_owed(&mut self) {
        for owed in std::mem::take(&mut self.edits.owed) {
            match self.put_away(&owed) {
                Ok(file) => {
                    self.edits.files.forget(owed.task);
                    let PutBack { task, refusal, .. } = owed;
                    let told = RefusedEdit { task, at: clock::now(), file, refusal };
                    self.record.tell_refused(&self.layout, told);
                }
                Err(error) => {
                    self.note_failed(Err(error));
                    self.edits.owed.push(owed);
                }
            }
        }
    }

    /// Returns where the text lies then, from the spool's folder.
    fn put_away(&mut self, owed: &PutBack) -> Result<String, StoreError> {
        let layout = self.layout.clone();
        let mut drawn = Vec::new();
        let refused = reserve::spend(&layout, || {
            receipt::refuse(&layout, &owed.origin, &owed.found, &owed.refusal, &mut drawn)
        })?;
        if let Some((belongs, bytes)) = &owed.belongs {
            if !store::exists(belongs) {
                reserve::spend(&layout, || store::draw(&layout, belongs, bytes))?;
            }
            self.touch(Some(belongs));
        }
        for path in drawn.iter().chain([&owed.found]) {
            self.touch(Some(path));
        }
        let below = refused.strip_prefix(layout.root()).unwrap_or(&refused);
        Ok(below.to_string_lossy().into_owned())
    }

    /// Tells of what could not be done with a file.
    pub(super) fn note_failed(&mut self, done: Result<(), StoreError>) {
        if let Err(error) = done
            && !self.note_trouble(Some(&error))
        {
            tracing::error!("{error}");
        }
    }
}
