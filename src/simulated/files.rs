//! Open files of a machine in memory: who reads and writes where, and who holds which lock.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::tree::Number;
use super::{Machine, change, on, write};
use crate::disk::{Create, How, Metadata};

/// An open file, as a process has it. It is closed when this is dropped, as when its process ends.
#[derive(Debug)]
pub(crate) struct Handle(u64);

/// What the machine knows of an open file.
pub(super) struct Open {
    file: Number,
    at: usize,
    append: bool,
    writes: bool,
    lock: Lock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    None,
    Shared,
    Exclusive,
}

/// Opens a file of the thread's machine.
pub(crate) fn open(path: &Path, how: How) -> Option<io::Result<Handle>> {
    let there = super::ask(|machine| machine.tree.find(path))?;
    let file = match (there, how.create) {
        (Ok(_), Create::Always(_)) => Err(Errno::EXIST.into()),
        (Err(_), Create::Always(mode) | Create::IfMissing(mode)) => {
            change(|machine| machine.tree.create(path, mode))?
        }
        (there, Create::Never | Create::IfMissing(_)) => there,
    };
    let writes = how.write || how.append;
    Some(file.and_then(|file| on(|machine| machine.open(file, how.append, writes))))
}

impl Machine {
    fn open(&mut self, file: Number, append: bool, writes: bool) -> io::Result<Handle> {
        if writes && self.tree.look(file).is_folder() {
            return Err(Errno::ISDIR.into());
        }
        self.opened += 1;
        self.open.insert(self.opened, Open { file, at: 0, append, writes, lock: Lock::None });
        Ok(Handle(self.opened))
    }

    /// Opens a file for writing, as a program that is none of ours does.
    pub(crate) fn open_as_user(&mut self, path: &Path) -> io::Result<Handle> {
        let file = self.tree.find(path)?;
        self.open(file, true, true)
    }

    fn file(&self, handle: u64) -> Number {
        self.open[&handle].file
    }

    pub(super) fn write(&mut self, handle: u64, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file(handle);
        let end = self.tree.content(file)?.len();
        let open = self.open.get_mut(&handle).expect("because it is open");
        let at = if open.append { end } else { open.at };
        open.at = at + bytes.len();
        self.tree.write(file, at, bytes)?;
        Ok(bytes.len())
    }

    fn read(&mut self, handle: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let content = self.tree.content(self.file(handle))?;
        let open = self.open.get_mut(&handle).expect("because it is open");
        let rest = &content[open.at.min(content.len())..];
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        open.at += read;
        Ok(read)
    }

    fn others(&self, handle: u64) -> impl Iterator<Item = &Open> {
        let file = self.file(handle);
        self.open
            .iter()
            .filter(move |(other, open)| **other != handle && open.file == file)
            .map(|(_, open)| open)
    }

    fn try_lock(&mut self, handle: u64, lock: Lock) -> bool {
        let fits = |other| other == Lock::None || (other, lock) == (Lock::Shared, Lock::Shared);
        let is_free = self.others(handle).all(|open| fits(open.lock));
        if is_free {
            self.open.get_mut(&handle).expect("because it is open").lock = lock;
        }
        is_free
    }

    /// Whether somebody holds the lock of the file at `path`.
    pub(crate) fn is_locked(&self, path: &Path) -> bool {
        let file = self.tree.find(path).ok();
        self.open.values().any(|open| Some(open.file) == file && open.lock != Lock::None)
    }

    /// Closes all, as a power cut does, and drops what then cannot be reached.
    pub(crate) fn close_all(&mut self) {
        self.open.clear();
    }

    /// Drops what cannot be reached any more.
    pub(crate) fn forget(&mut self) {
        let open = self.open.values().map(|open| open.file).collect();
        self.tree.forget(&open);
    }
}

impl Handle {
    pub(crate) fn look(&self) -> Metadata {
        on(|machine| machine.tree.look(machine.file(self.0)))
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        change(|machine| machine.tree.sync(machine.file(self.0)));
        Ok(())
    }

    pub(crate) fn set_len(&self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        change(|machine| machine.tree.set_len(machine.file(self.0), bytes)).unwrap_or(Ok(()))
    }

    pub(crate) fn set_modified(&self, at: (i64, i64)) -> io::Result<()> {
        change(|machine| machine.tree.set_modified(machine.file(self.0), at));
        Ok(())
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        on(|machine| machine.read(self.0, buffer))
    }

    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = on(|machine| machine.tree.content(machine.file(self.0)))?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let rest = &content[offset.min(content.len())..];
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        write(self.0, bytes)
    }

    pub(crate) fn try_lock(&self) -> bool {
        on(|machine| machine.try_lock(self.0, Lock::Exclusive))
    }

    pub(crate) fn try_lock_shared(&self) -> bool {
        on(|machine| machine.try_lock(self.0, Lock::Shared))
    }

    /// Whether somebody else has the file open for writing.
    pub(crate) fn has_writers(&self) -> bool {
        on(|machine| machine.others(self.0).any(|open| open.writes))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A machine that is gone has no open files.
        super::ask(|machine| machine.open.remove(&self.0));
    }
}
