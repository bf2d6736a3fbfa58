//! The calls on the machine that the thread has in memory, or else on the system. In tests only.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::{How, Metadata, system};
use crate::simulated::{self, Handle, ask};

/// An open file.
#[derive(Debug)]
pub(crate) enum File {
    System(system::File),
    Simulated(Handle),
}

pub(crate) fn open(path: &Path, how: How) -> io::Result<File> {
    match simulated::open(path, how) {
        Some(opened) => opened.map(File::Simulated),
        None => system::open(path, how).map(File::System),
    }
}

pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    simulated::change(|machine| machine.tree.exchange(one, other))
        .unwrap_or_else(|| system::exchange(one, other))
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    simulated::change(|machine| machine.tree.rename(from, to)).unwrap_or_else(|| system::rename(from, to))
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    simulated::change(|machine| machine.tree.remove_file(path)).unwrap_or_else(|| system::remove_file(path))
}

pub(crate) fn remove_dir(path: &Path) -> io::Result<()> {
    simulated::change(|machine| machine.tree.remove_dir(path)).unwrap_or_else(|| system::remove_dir(path))
}

pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    if ask(|_| ()).is_none() {
        return system::remove_tree(path);
    }
    for name in list(path)? {
        let below = path.join(name);
        if metadata(&below)?.is_folder() { remove_tree(&below)? } else { remove_file(&below)? }
    }
    remove_dir(path)
}

pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    let made = simulated::change(|machine| machine.tree.make_dir(path, mode).map(drop));
    made.unwrap_or_else(|| system::make_dir(path, mode))
}

pub(crate) fn make_dirs(path: &Path, mode: u32) -> io::Result<()> {
    if ask(|_| ()).is_none() {
        return system::make_dirs(path, mode);
    }
    if metadata(path).is_ok_and(|there| there.is_folder()) {
        return Ok(());
    }
    path.parent().map_or(Ok(()), |above| make_dirs(above, mode))?;
    make_dir(path, mode)
}

pub(crate) fn make_fifo(path: &Path) -> io::Result<()> {
    let made = simulated::change(|machine| machine.tree.make_fifo(path).map(drop));
    made.unwrap_or_else(|| system::make_fifo(path))
}

pub(crate) fn list(path: &Path) -> io::Result<Vec<OsString>> {
    ask(|machine| machine.tree.list(path)).unwrap_or_else(|| system::list(path))
}

pub(crate) fn metadata(path: &Path) -> io::Result<Metadata> {
    ask(|machine| machine.tree.metadata(path)).unwrap_or_else(|| system::metadata(path))
}

pub(crate) fn link_metadata(path: &Path) -> io::Result<Metadata> {
    ask(|machine| machine.tree.metadata(path)).unwrap_or_else(|| system::link_metadata(path))
}

pub(crate) fn exists(path: &Path) -> bool {
    ask(|machine| machine.tree.find(path).is_ok()).unwrap_or_else(|| system::exists(path))
}

pub(crate) fn look(file: &File) -> io::Result<Metadata> {
    match file {
        File::System(file) => system::look(file),
        File::Simulated(handle) => Ok(handle.look()),
    }
}

pub(crate) fn set_modified(file: &File, at: (i64, i64)) -> io::Result<()> {
    match file {
        File::System(file) => system::set_modified(file, at),
        File::Simulated(handle) => handle.set_modified(at),
    }
}

pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match file {
        File::System(file) => system::try_lock(file),
        File::Simulated(handle) => Ok(handle.try_lock()),
    }
}

pub(crate) fn try_lock_shared(file: &File) -> io::Result<bool> {
    match file {
        File::System(file) => system::try_lock_shared(file),
        File::Simulated(handle) => Ok(handle.try_lock_shared()),
    }
}

/// # Panics
/// When somebody else has the lock of a simulated file: nobody would ever give it up, since nothing happens meanwhile.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    match file {
        File::System(file) => system::lock(file),
        File::Simulated(handle) => {
            assert!(handle.try_lock(), "somebody waits for a lock that nobody gives up");
            Ok(())
        }
    }
}

/// In memory there is always room.
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    match file {
        File::System(file) => system::allocate(file, len),
        File::Simulated(handle) => handle.set_len(len),
    }
}

/// How much room there is; in memory enough.
pub(crate) fn room(path: &Path) -> io::Result<(u64, Option<u64>)> {
    ask(|_| Ok((1 << 40, None))).unwrap_or_else(|| system::room(path))
}

pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    match file {
        File::System(file) => system::read_at(file, bytes, offset),
        File::Simulated(handle) => handle.read_at(bytes, offset),
    }
}

/// No agent writes anything in memory, of which a part could be given back.
pub(crate) fn punch_hole(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    match file {
        File::System(file) => system::punch_hole(file, from, bytes),
        File::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

pub(crate) fn sync_file_system(path: &Path) -> io::Result<()> {
    let synced = simulated::change(|machine| machine.tree.sync_all());
    synced.map_or_else(|| system::sync_file_system(path), Ok)
}

impl File {
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        match self {
            File::System(file) => file.sync_all(),
            File::Simulated(handle) => handle.sync(),
        }
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        match self {
            File::System(file) => file.sync_data(),
            File::Simulated(handle) => handle.sync(),
        }
    }

    pub(crate) fn set_len(&self, bytes: u64) -> io::Result<()> {
        match self {
            File::System(file) => file.set_len(bytes),
            File::Simulated(handle) => handle.set_len(bytes),
        }
    }

    /// Whether somebody else has it open for writing, as far as the machine in memory knows.
    pub(crate) fn has_writers(&self) -> Option<bool> {
        match self {
            File::System(_) => None,
            File::Simulated(handle) => Some(handle.has_writers()),
        }
    }
}

impl io::Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl io::Read for &File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            File::System(file) => io::Read::read(&mut &*file, buffer),
            File::Simulated(handle) => handle.read(buffer),
        }
    }
}

impl io::Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            File::System(file) => file.write(bytes),
            File::Simulated(handle) => handle.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for File {
    /// # Panics
    /// When the file is a simulated one, which the system does not know.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            File::System(file) => file.as_fd(),
            File::Simulated(_) => panic!("the system knows no file of a machine in memory"),
        }
    }
}
