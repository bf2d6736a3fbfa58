//! Files that somebody else writes to or may have put there, such as an agent: looked at, read and cut while they grow.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use rustix::fs::OFlags;

use super::{StoreError, at, open};
use crate::disk::{self, Create, File, How};

/// Opens a file that somebody else will append to, and creates it, private, when it is not there.
pub(crate) fn open_shared(path: &Path) -> Result<File, StoreError> {
    at("open", path, disk::open(path, How::BOTH.creating(Create::IfMissing(0o600))))
}

/// Opens a file for appending and creates it, where somebody else may have put something instead: never a link, never
/// waiting for who reads a fifo.
pub(crate) fn open_append_at_once(path: &Path) -> Result<File, StoreError> {
    let how = How::APPEND.creating(Create::IfMissing(0o600));
    open(path, how.with(OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY))
}

/// Makes a fifo where nothing is.
pub(crate) fn make_fifo(path: &Path) -> Result<(), StoreError> {
    at("make the fifo", path, disk::make_fifo(path))
}

/// Makes a symbolic link where nothing is.
pub(crate) fn make_link(target: &OsStr, path: &Path) -> Result<(), StoreError> {
    at("make the link", path, disk::make_link(target, path))
}

/// Says who may do what with a file or a folder.
pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    at("set the mode of", path, disk::set_mode(path, mode))
}

/// How long a file is, wherever it lies now.
pub(crate) fn bytes_in(file: &File) -> io::Result<u64> {
    disk::look(file).map(|meta| meta.bytes)
}

/// Which file it is, whatever it is called now.
pub(crate) fn identity_of(file: &File) -> Option<(u64, u64)> {
    disk::look(file).ok().map(|meta| meta.identity())
}

/// Reads `bytes` from a place in a file; fewer at its end only.
pub(crate) fn read_part(file: &File, path: &Path, offset: u64, bytes: usize) -> Result<Vec<u8>, StoreError> {
    let mut part = vec![0; bytes];
    let read = at("read", path, disk::read_at(file, &mut part, offset))?;
    part.truncate(read);
    Ok(part)
}

/// Gives a part of a file back to the disk, while others write behind it; it then reads as zeros.
pub(crate) fn punch_hole(file: &File, path: &Path, from: u64, bytes: u64) -> Result<(), StoreError> {
    at("give back the middle of", path, disk::punch_hole(file, from, bytes))
}

/// The names in a folder, unsorted, whatever they are.
pub(crate) fn raw_names(path: &Path) -> Result<Vec<std::ffi::OsString>, StoreError> {
    at("list", path, disk::list(path))
}
