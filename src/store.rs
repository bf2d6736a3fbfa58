//! Every change of the file system but appending, with its meaning: create, replace, rename, remove, make durable.
//!
//! Two strengths. [`replace`] is durable when it returns: written aside, synced, renamed, folder synced. [`draw`] only
//! never shows a torn file to a reader while the machine is up: for pictures that a log can draw again.

mod failure;
mod over;
mod shared;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::clock;
use crate::disk::{self, Create, How};
use crate::layout::Layout;
use crate::mutant::{self, Mutant};
use crate::process;
use crate::shortage::Room;
use crate::time::Timestamp;

pub(crate) use crate::disk::File;

pub(crate) use failure::{StoreError, at, not_plain, shortage};
pub(crate) use over::draw_over;
pub(crate) use shared::{
    bytes_in, identity_of, make_fifo, make_link, open_append_at_once, open_shared, punch_hole, raw_names,
    read_part, set_mode,
};

/// How much room there is on the file system of `path`; `None` when it does not tell.
pub(crate) fn room(path: &Path) -> Option<Room> {
    disk::room(path).ok().map(|(bytes, inodes)| Room { bytes, inodes })
}

/// Replaces the record at `path`, durably: after return both content and name survive a power cut.
pub(crate) fn replace(layout: &Layout, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let aside = write_aside(layout, bytes, !mutant::breaks(Mutant::PublishBeforeSync))?;
    publish(&aside, path)?;
    if mutant::breaks(Mutant::PublishBeforeSync) {
        sync_file(path)?;
    }
    sync_parent(path)
}

/// The same for what is too long to be held in memory: `write` writes it.
pub(crate) fn replace_by(
    layout: &Layout,
    path: &Path,
    write: &mut dyn FnMut(&mut File) -> io::Result<()>,
) -> Result<(), StoreError> {
    let aside = write_aside(layout, b"", false)?;
    let written = open(&aside, How::WRITE).and_then(|mut file| {
        at("write", &aside, write(&mut file))?;
        at("sync", &aside, file.sync_all())
    });
    written.inspect_err(|_| discard(&aside))?;
    publish(&aside, path)?;
    sync_parent(path)
}

/// Replaces a picture that can be drawn again: whole for every reader, durable only with the next checkpoint.
pub(crate) fn draw(layout: &Layout, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let aside = write_aside(layout, bytes, false)?;
    publish(&aside, path)
}

fn write_aside(layout: &Layout, bytes: &[u8], sync: bool) -> Result<PathBuf, StoreError> {
    let aside = layout.aside(process::id(), &clock::new_secret());
    let written = match create_new(&aside, bytes, 0o600) {
        // Somebody removed the folder: nothing in it is missed.
        Err(error) if error.is_not_found() => {
            make_missing(&[layout.local(), layout.tmp()])?;
            create_new(&aside, bytes, 0o600)
        }
        written => written,
    };
    let written = written.and_then(|file| if sync { at("sync", &aside, file.sync_all()) } else { Ok(()) });
    written.inspect_err(|_| discard(&aside))?;
    Ok(aside)
}

fn publish(aside: &Path, path: &Path) -> Result<(), StoreError> {
    at("rename a new file to", path, disk::rename(aside, path)).inspect_err(|_| discard(aside))
}

/// Removes a file that only we know of; that it may stay behind is what `.local/tmp` is for.
fn discard(aside: &Path) {
    let _ = disk::remove_file(aside);
}

/// Creates a file that must not exist yet, with all of `bytes`; not synced.
pub(crate) fn create_new(path: &Path, bytes: &[u8], mode: u32) -> Result<File, StoreError> {
    let mut file = at("create", path, disk::open(path, How::WRITE.creating(Create::Always(mode))))?;
    at("write", path, file.write_all(bytes))?;
    Ok(file)
}

/// Creates a file that holds `len` bytes of the disk, whatever they are; none when there is not so much room.
pub(crate) fn create_filled(path: &Path, len: u64) -> Result<(), StoreError> {
    let mut file = create_new(path, b"", 0o600)?;
    let filled = match disk::allocate(&file, len) {
        // A file system that promises no blocks has to be given bytes, and such that it can not pack.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            let chunks = (0..len).step_by(16);
            chunks.into_iter().try_for_each(|_| file.write_all(uuid::Uuid::new_v4().as_bytes()))
        }
        done => done,
    };
    at("allocate", path, filled).inspect_err(|_| discard(path))
}

/// The length of a plain file; `None` when there is none.
pub(crate) fn bytes_of(path: &Path) -> Option<u64> {
    disk::link_metadata(path).ok().filter(disk::Metadata::is_file).map(|meta| meta.bytes)
}

/// When the content of what lies at `path` changed last; `None` when there is nothing.
pub(crate) fn modified_at(path: &Path) -> Option<Timestamp> {
    disk::link_metadata(path).ok().map(|meta| Timestamp::of_file(meta.modified))
}

/// When anything of what lies at `path` changed last, its name too.
pub(crate) fn changed_at(path: &Path) -> Option<Timestamp> {
    disk::link_metadata(path).ok().map(|meta| Timestamp::of_file(meta.changed))
}

/// Removes a file; tells whether it was us who did.
pub(crate) fn removes(path: &Path) -> bool {
    disk::remove_file(path).is_ok()
}

/// Creates a file that must not exist yet, readable by others, with `parts` one after the other; its content is durable.
pub(crate) fn create_synced(path: &Path, parts: &[&[u8]]) -> Result<(), StoreError> {
    let file = create_new(path, &parts.concat(), 0o644)?;
    at("sync", path, file.sync_all())
}

/// Opens a file for appending and creates it, private, when it is not there.
pub(crate) fn open_append(path: &Path) -> Result<File, StoreError> {
    at("open", path, disk::open(path, How::APPEND.creating(Create::IfMissing(0o600))))
}

/// Opens the file of a lock, and creates it when it is not there. Lock files are never removed.
pub(crate) fn open_lock(path: &Path) -> Result<File, StoreError> {
    at("open", path, disk::open(path, How::BOTH.creating(Create::IfMissing(0o600))))
}

/// Makes a fifo, or takes the one that is there, and opens it for listening: reading never waits, and never ends.
pub(crate) fn open_fifo(path: &Path) -> Result<File, StoreError> {
    match disk::make_fifo(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => at("make the fifo", path, Err(error)),
        // Open for writing too, so that there is always a writer and a read finds nothing instead of the end.
        Ok(()) | Err(_) => open(path, How::BOTH.with(OFlags::NONBLOCK)),
    }
}

/// Writes to a fifo if somebody listens on it.
pub(crate) fn poke(path: &Path) {
    // Nobody listens, or has been told already: both are well.
    let opened = open(path, How::WRITE.with(OFlags::NONBLOCK));
    let _ = opened.map(|mut fifo| fifo.write_all(b"."));
}

/// Opens a dropped file for reading: never a link, never waiting for a writer of a fifo, never as a terminal.
pub(crate) fn open_dropped(path: &Path) -> Result<File, StoreError> {
    open(path, How::READ.with(OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY))
}

/// Whether a plain file lies there, and we may read it.
pub(crate) fn is_readable_file(path: &Path) -> bool {
    disk::link_metadata(path).is_ok_and(|meta| meta.is_file()) && open_dropped(path).is_ok()
}

/// Whether an open file is a plain one.
pub(crate) fn is_plain(file: &File) -> bool {
    disk::look(file).is_ok_and(|meta| meta.is_file())
}

fn open(path: &Path, how: How) -> Result<File, StoreError> {
    at("open", path, disk::open(path, how))
}

/// Cuts a file of ours to `len` bytes and syncs it.
pub(crate) fn truncate(path: &Path, len: u64) -> Result<(), StoreError> {
    let file = open(path, How::WRITE)?;
    at("cut", path, file.set_len(len))?;
    at("sync", path, file.sync_all())
}

/// Makes a private folder and those above it; no error when it is there.
pub(crate) fn make_dir(path: &Path) -> Result<(), StoreError> {
    at("make the folder", path, disk::make_dirs(path, 0o700))
}

/// Makes one private folder whose parent exists; no error when it is there.
pub(crate) fn make_one_dir(path: &Path) -> Result<(), StoreError> {
    match disk::make_dir(path, 0o700) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => at("make the folder", path, other),
    }
}

/// Makes a private folder and those above it; the folder itself is durable on return.
pub(crate) fn make_lasting_dir(path: &Path) -> Result<(), StoreError> {
    if is_folder(path) {
        return Ok(());
    }
    make_dir(path)?;
    sync_dir(path)?;
    sync_parent(path)
}

/// Makes a private folder below `top`, and those between; never `top`, which somebody may have moved away with all that is
/// in it.
pub(crate) fn make_dirs_below(top: &Path, path: &Path) -> Result<(), StoreError> {
    debug_assert!(path.starts_with(top), "{} is not below {}", path.display(), top.display());
    let between: Vec<&Path> = path.ancestors().take_while(|folder| *folder != top).collect();
    between.into_iter().rev().try_for_each(make_one_dir)
}

/// The same; the folder itself is durable on return.
pub(crate) fn make_lasting_dir_below(top: &Path, path: &Path) -> Result<(), StoreError> {
    if is_folder(path) {
        return Ok(());
    }
    make_dirs_below(top, path)?;
    sync_dir(path)?;
    sync_parent(path)
}

/// Makes those of the folders that are not there, parents first; tells whether one was missing.
pub(crate) fn make_missing(folders: &[PathBuf]) -> Result<bool, StoreError> {
    let missing: Vec<&PathBuf> = folders.iter().filter(|folder| !exists(folder)).collect();
    missing.iter().try_for_each(|folder| make_one_dir(folder))?;
    Ok(!missing.is_empty())
}

/// Which folder lies at `path`, whatever it is called; `None` when there is none.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    disk::metadata(path).ok().map(|meta| meta.identity())
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    at("rename", from, disk::rename(from, to))
}

/// Renames into `folder`, and makes that: again and again, since somebody may remove it as long as it is empty.
pub(crate) fn rename_into(from: &Path, folder: &Path, to: &Path) -> Result<(), StoreError> {
    loop {
        make_one_dir(folder)?;
        match rename(from, to) {
            Err(error) if error.is_not_found() && exists(from) => {}
            renamed => return renamed,
        }
    }
}

/// Removes a file; no error when it is gone already.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    match disk::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => at("remove", path, other),
    }
}

/// Removes a folder if it is empty; tells whether it did.
pub(crate) fn remove_empty_dir(path: &Path) -> Result<bool, StoreError> {
    match disk::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {
            Ok(false)
        }
        Err(error) => at("remove", path, Err(error)),
    }
}

/// Removes a folder and all that is in it; no error when it is gone already. Does not follow links.
pub(crate) fn remove_tree(path: &Path) -> Result<(), StoreError> {
    match disk::remove_tree(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => at("remove", path, other),
    }
}

/// Makes a file's content durable; no error when the file has been moved away meanwhile.
pub(crate) fn sync_file(path: &Path) -> Result<(), StoreError> {
    sync_if_there(path)
}

/// Makes a folder's entries durable; no error when the folder is gone.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    if mutant::breaks(Mutant::NoDirSync) { Ok(()) } else { sync_if_there(path) }
}

/// Makes the entry of `path` in its folder durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    sync_dir(path.parent().unwrap_or(path))
}

/// What is neither file nor folder has nothing to sync: a refused link is not followed, a refused fifo not waited for.
fn sync_if_there(path: &Path) -> Result<(), StoreError> {
    match disk::link_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(meta) if !meta.is_file() && !meta.is_folder() => return Ok(()),
        Ok(_) | Err(_) => {}
    }
    match open_dropped(path) {
        Err(error) if error.is_not_found() => Ok(()),
        opened => opened.and_then(|file| at("sync", path, file.sync_all())),
    }
}

/// Makes everything durable that was written to the file system of `path`, by whomever.
pub(crate) fn sync_file_system(path: &Path) -> Result<(), StoreError> {
    at("sync the file system of", path, disk::sync_file_system(path))
}

/// Copies a plain file to a new one with the same time of change; tells whether there was a plain file.
pub(crate) fn copy_with_time(from: &Path, to: &Path) -> Result<bool, StoreError> {
    let Some(meta) = disk::link_metadata(from).ok().filter(disk::Metadata::is_file) else { return Ok(false) };
    let bytes = read(from)?;
    let file = create_new(to, &bytes, 0o600)?;
    at("set the time of", to, disk::set_modified(&file, meta.modified))?;
    Ok(true)
}

/// Reads a whole file. What is no plain file is an error at once: a fifo would be waited for.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    at("read", path, read_plain(path, u64::MAX))
}

/// Reads a whole file; `None` when it is not there.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    read_if_small(path, u64::MAX)
}

/// Reads a file that others write; `None` when it is not there, an error when it is longer than anybody could mean.
pub(crate) fn read_if_small(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, StoreError> {
    match read_plain(path, bytes_max) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => at("read", path, other).map(Some),
    }
}

fn read_plain(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut file = disk::open(path, How::READ.with(OFlags::NONBLOCK | OFlags::NOCTTY))?;
    let meta = disk::look(&file)?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    if meta.bytes > bytes_max {
        return Err(io::Error::other(format!("{} bytes are more than {bytes_max}", meta.bytes)));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The names in a folder, unsorted; empty when the folder is not there. Names that are not UTF-8 are left out.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, StoreError> {
    match disk::list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => {
            Ok(at("list", path, listed)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
        }
    }
}

/// Whether something lies at `path`; a dangling link counts.
pub(crate) fn exists(path: &Path) -> bool {
    disk::exists(path)
}

/// Whether a folder lies at `path`, or a link to one.
pub(crate) fn is_folder(path: &Path) -> bool {
    disk::metadata(path).is_ok_and(|meta| meta.is_folder())
}

/// Whether a folder lies at `path` itself.
pub(crate) fn is_real_folder(path: &Path) -> bool {
    disk::link_metadata(path).is_ok_and(|meta| meta.is_folder())
}

/// Whether a plain file lies at `path`, or a link to one.
pub(crate) fn is_file(path: &Path) -> bool {
    disk::metadata(path).is_ok_and(|meta| meta.is_file())
}

/// Writes into a file that is there, such as those of `/proc`.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    at("write", path, disk::open(path, How::WRITE).and_then(|mut file| file.write_all(bytes)))
}
