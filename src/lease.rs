//! Whether anybody still has a file open for writing: a question that only the kernel can answer.
//!
//! Linux: a read lease (`fcntl(2)`, `F_SETLEASE`) is granted only while no writer has the file open. It is given back at
//! once; who opens the file meanwhile makes the kernel send SIGIO, which the daemon ignores. Elsewhere, and on file
//! systems without leases, nobody knows, and quiet time must do.
#![expect(
    unsafe_code,
    reason = "no crate wraps F_SETLEASE; this is the one system call that we make ourselves"
)]

use crate::disk::File;

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writers {
    /// Nobody can write to the file but by opening it anew.
    None,
    /// Somebody has it open for writing.
    Some,
    /// The system does not tell.
    Unknown,
}

/// Asks for the writers of `file`, which was opened for reading.
#[cfg(target_os = "linux")]
pub(crate) fn writers(file: &File) -> Writers {
    use std::os::fd::{AsFd, AsRawFd};
    #[cfg(test)]
    if let Some(some) = file.has_writers() {
        return if some { Writers::Some } else { Writers::None };
    }
    // SAFETY: fcntl with F_SETLEASE takes an integer and touches no memory; the descriptor is open for the whole call,
    // since `file` is borrowed.
    let set = |lease: libc::c_int| unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_SETLEASE, lease) };
    if set(libc::F_RDLCK) == 0 {
        set(libc::F_UNLCK);
        return Writers::None;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Writers::Some,
        _ => Writers::Unknown,
    }
}

/// Asks for the writers of `file`: nobody knows here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn writers(_file: &File) -> Writers {
    Writers::Unknown
}

#[cfg(all(test, target_os = "linux"))]
#[expect(clippy::disallowed_methods, reason = "a test writes as any other program does")]
mod tests {
    use super::*;
    use crate::disk;

    #[test]
    fn a_writer_is_seen_until_it_closes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let writer = std::fs::File::create(&path).unwrap();
        let reader = disk::open(&path, disk::How::READ).unwrap();
        assert_eq!(writers(&reader), Writers::Some);
        drop(writer);
        assert_eq!(writers(&reader), Writers::None);
        let second = std::fs::File::options().append(true).open(&path).unwrap();
        assert_eq!(writers(&reader), Writers::Some, "the lease was given back");
        drop(second);
    }
}
