//! Hints from the system that a watched folder changed. They say "look"; the folder itself says what is there.
//!
//! A lost or coalesced hint costs nothing but time: every folder is looked through now and then without one.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use crossbeam_channel::Sender;
use notify::{Config, Event, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher};

/// Why there are no hints.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch {}: {source}", path.display())]
pub(crate) struct WatchError {
    path: PathBuf,
    source: notify::Error,
}

/// Watches the inbox and the folders of queues.
pub(crate) struct Watch {
    /// Never dropped: that speaks to the watcher's thread, and panics when that could not be started. Without one there
    /// are no hints.
    watcher: Option<ManuallyDrop<RecommendedWatcher>>,
}

impl Watch {
    /// Tells changes below `inbox` to `look_at_inbox`, and all others to `look_at_queues`. A full channel has been told
    /// already.
    pub(crate) fn new(
        inbox: PathBuf,
        look_at_inbox: Sender<()>,
        look_at_queues: Sender<()>,
    ) -> Result<Watch, WatchError> {
        let told = inbox.clone();
        let on_event = move |event: notify::Result<Event>| {
            // An error or an event without paths means that some were lost: everything may have changed.
            let paths = event.map(|event| event.paths).unwrap_or_default();
            let lost = paths.is_empty();
            if lost || paths.iter().any(|path| path.starts_with(&told)) {
                let _ = look_at_inbox.try_send(());
            }
            if lost || paths.iter().any(|path| !path.starts_with(&told)) {
                let _ = look_at_queues.try_send(());
            }
        };
        // What is read, or has its times changed, is no news; and our own reading would wake us.
        let kinds = EventKindMask::CREATE | EventKindMask::REMOVE | EventKindMask::MODIFY_NAME;
        let kinds = kinds | EventKindMask::MODIFY_DATA | EventKindMask::ACCESS_CLOSE;
        let config = Config::default().with_event_kinds(kinds).with_follow_symlinks(false);
        let failed = |source| WatchError { path: inbox.clone(), source };
        let watcher = RecommendedWatcher::new(on_event, config).map_err(failed)?;
        let mut watch = Watch { watcher: Some(ManuallyDrop::new(watcher)) };
        watch.add(&inbox)?;
        Ok(watch)
    }

    /// Tells nothing.
    #[cfg(test)]
    pub(crate) fn blind() -> Watch {
        Watch { watcher: None }
    }

    /// Watches one more folder, without those below it.
    pub(crate) fn add(&mut self, folder: &Path) -> Result<(), WatchError> {
        let failed = |source| WatchError { path: folder.to_owned(), source };
        let watched = self.watcher.as_mut().map(|watcher| watcher.watch(folder, RecursiveMode::NonRecursive));
        watched.unwrap_or(Ok(())).map_err(failed)
    }
}
