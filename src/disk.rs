//! The calls that look at and change the file system, one function for each, and nothing of what they are for.
//!
//! `store` and a few others give them their meaning; nobody else uses them. In tests a thread may have a machine of its
//! own in memory instead (`simulated`), which tells what of a change is on disk and what a power cut would take with it.
//! In every other build the functions are the system's, with nothing in between.

#[cfg(test)]
mod either;
mod system;

use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

#[cfg(test)]
pub(crate) use either::{
    File, allocate, exchange, exists, link_metadata, list, lock, look, make_dir, make_dirs, make_fifo,
    metadata, open, punch_hole, read_at, remove_dir, remove_file, remove_tree, rename, room, set_modified,
    sync_file_system, try_lock, try_lock_shared,
};
#[cfg(not(test))]
pub(crate) use system::{
    File, allocate, exchange, exists, link_metadata, list, lock, look, make_dir, make_dirs, make_fifo,
    make_link, metadata, open, punch_hole, read_at, remove_dir, remove_file, remove_tree, rename, room,
    set_mode, set_modified, sync_file_system, try_lock, try_lock_shared,
};
#[cfg(test)]
pub(crate) use system::{make_link, set_mode};

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) append: bool,
    pub(crate) create: Create,
    pub(crate) flags: OFlags,
}

/// Whether a file is made by being opened, and with which mode.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Create {
    Never,
    IfMissing(u32),
    /// An error when it is there.
    Always(u32),
}

impl How {
    pub(crate) const READ: How =
        How { read: true, write: false, append: false, create: Create::Never, flags: OFlags::empty() };
    pub(crate) const WRITE: How = How { read: false, write: true, ..How::READ };
    pub(crate) const BOTH: How = How { write: true, ..How::READ };
    pub(crate) const APPEND: How = How { read: false, append: true, ..How::READ };

    pub(crate) const fn creating(self, create: Create) -> How {
        How { create, ..self }
    }

    pub(crate) const fn with(self, flags: OFlags) -> How {
        How { flags, ..self }
    }
}

/// What sort of thing lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
    Fifo,
    Socket,
    Device,
}

/// What the system tells of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metadata {
    pub(crate) kind: Kind,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) bytes: u64,
    pub(crate) links: u64,
    pub(crate) uid: u32,
    /// The bits that say who may do what.
    pub(crate) mode: u32,
    /// When its content changed last: seconds since 1970, and nanoseconds.
    pub(crate) modified: (i64, i64),
    /// When anything about it changed last, by the system's own word: nobody can set it.
    pub(crate) changed: (i64, i64),
}

impl Metadata {
    pub(crate) fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.kind == Kind::Folder
    }

    /// Which file it is, whatever it is called.
    pub(crate) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// A time of change as the standard library has it; one before 1970 is 1970.
fn system_time((seconds, nanoseconds): (i64, i64)) -> SystemTime {
    let since = |number: i64| u64::try_from(number).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since(seconds)) + Duration::from_nanos(since(nanoseconds))
}
