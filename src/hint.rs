//! Tells that something in a folder changed, to a verb of the command line that waits with `poll`.
//!
//! A hint only says "look": what counts is what then lies there. Linux: inotify. Elsewhere there are no hints, and
//! whoever waits looks again every [`WITHOUT_HINTS`].

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::time::Moment;

/// How often to look where the system gives no hints.
const WITHOUT_HINTS: Duration = Duration::from_millis(250);

/// Hints about changes in folders.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    #[cfg(target_os = "linux")]
    inotify: Option<std::os::fd::OwnedFd>,
}

impl Hints {
    #[cfg(target_os = "linux")]
    pub(crate) fn new() -> Hints {
        use rustix::fs::inotify::{CreateFlags, init};
        // Without a descriptor to spare there are no hints, and looking every now and then serves as well.
        Hints { inotify: init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok() }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new() -> Hints {
        Hints::default()
    }

    /// Watches a folder for files that appear, change or go. Look at it after this call, not before.
    #[cfg(target_os = "linux")]
    pub(crate) fn watch(&mut self, folder: &Path) {
        use rustix::fs::inotify::{WatchFlags, add_watch};
        let flags = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::CREATE | WatchFlags::MODIFY;
        let flags = flags | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE;
        if self.inotify.as_ref().is_some_and(|inotify| add_watch(inotify, folder, flags).is_err()) {
            self.inotify = None;
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn watch(&mut self, _folder: &Path) {}

    /// Takes the hints that came.
    #[cfg(target_os = "linux")]
    fn drain(&self) {
        let mut buffer = [0_u8; 4096];
        while self.inotify.as_ref().is_some_and(|inotify| rustix::io::read(inotify, &mut buffer).is_ok()) {}
    }

    #[cfg(not(target_os = "linux"))]
    fn drain(&self) {}

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        #[cfg(target_os = "linux")]
        return self.inotify.as_ref().map(AsFd::as_fd);
        #[cfg(not(target_os = "linux"))]
        return None;
    }

    /// Waits for a hint, for input on one of `others`, or until `until`; whichever comes first. Then look.
    pub(crate) fn wait(&self, others: &[BorrowedFd<'_>], now: Moment, until: Option<Moment>) {
        let mut descriptors: Vec<PollFd<'_>> =
            others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let hints = self.descriptor();
        descriptors.extend(hints.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let blind = hints.is_none().then_some(WITHOUT_HINTS);
        let patience = until.map(|until| now.until(until)).into_iter().chain(blind).min();
        let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
        // Interrupted by a signal: looking is right then too.
        let _ = rustix::event::poll(&mut descriptors, timeout.as_ref());
        self.drain();
    }
}
