//! The folders that are made before anything lies in them.

use std::path::PathBuf;

use super::{ACTIVE, ENDED_FOLDERS, Layout};
use crate::id::Name;

impl Layout {
    /// The folders that a new spool has, parents first.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let mut folders =
            vec![self.root.clone(), self.inbox(), self.receipts(), self.refused(), self.queues()];
        folders.extend([self.runs(), self.agents(), self.hosts(), self.events(), self.texts(), self.keys()]);
        folders.extend([self.local(), self.tmp(), self.claimed()]);
        folders
    }

    /// The folders that a queue has on `host`, parents first.
    pub(crate) fn queue_folders(&self, queue: &Name, host: &Name) -> Vec<PathBuf> {
        let base = self.queue(queue);
        let mut folders = vec![base.clone(), self.held(queue), self.waiting(queue), self.ready(queue)];
        folders.extend([base.join(ACTIVE), self.active(queue, host)]);
        folders.extend(ENDED_FOLDERS.iter().map(|folder| base.join(folder)));
        folders
    }
}
