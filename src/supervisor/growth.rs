//! Tells a supervisor that a file of output grew. Linux: inotify. Elsewhere, and where the system has no more of these to
//! give, files are looked at when the supervisor wakes.
//!
//! Closing an inotify takes the kernel some 10 ms, so one is kept as long as the process, for one run after the other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What tells that watched files grew.
#[derive(Default)]
pub(super) struct Growth {
    inotify: Option<OwnedFd>,
    watches: Vec<i32>,
    /// Whether a file is to be watched and cannot be.
    pub(super) is_deaf: bool,
}

impl Growth {
    /// Tells of this file, too, until [`Growth::forget`].
    #[cfg(target_os = "linux")]
    pub(super) fn watch(&mut self, path: &Path) {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        if self.inotify.is_none() {
            self.inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        }
        match self.inotify.as_ref().map(|inotify| add_watch(inotify, path, WatchFlags::MODIFY)) {
            Some(Ok(watch)) => self.watches.push(watch),
            Some(Err(_)) | None => self.is_deaf = true,
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn watch(&mut self, _path: &Path) {
        self.is_deaf = true;
    }

    /// Tells of no file any more.
    pub(super) fn forget(&mut self) {
        self.is_deaf = false;
        self.unwatch();
        self.drain();
    }

    /// Whether any file is watched.
    pub(super) fn hears(&self) -> bool {
        !self.watches.is_empty()
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().filter(|_| self.hears()).map(AsFd::as_fd)
    }

    /// Takes what was told; tells whether files may have grown.
    pub(super) fn drain(&mut self) -> bool {
        let was_told = self.take_all();
        self.is_deaf || was_told
    }

    #[cfg(target_os = "linux")]
    fn unwatch(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        for watch in self.watches.drain(..) {
            // A watch ends with its file, so it may be gone.
            let _ = rustix::fs::inotify::remove_watch(inotify, watch);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn unwatch(&mut self) {}

    #[cfg(target_os = "linux")]
    fn take_all(&self) -> bool {
        let mut buffer = [0_u8; 1024];
        let read = |buffer: &mut [u8]| {
            self.inotify.as_ref().is_some_and(|inotify| rustix::io::read(inotify, buffer).is_ok())
        };
        let any = read(&mut buffer);
        while read(&mut buffer) {}
        any
    }

    #[cfg(not(target_os = "linux"))]
    fn take_all(&self) -> bool {
        false
    }
}
