//! The calls as the system has them.
#![expect(clippy::disallowed_methods, reason = "the one module that changes files and takes their locks")]

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt as _, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use fs2::FileExt;

use super::{Create, How, Kind, Metadata, system_time};

pub(crate) use std::fs::File;

pub(crate) fn open(path: &Path, how: How) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(how.read).write(how.write).append(how.append);
    match how.create {
        Create::Never => {}
        Create::IfMissing(mode) => drop(options.create(true).truncate(false).mode(mode)),
        Create::Always(mode) => drop(options.create_new(true).mode(mode)),
    }
    options.custom_flags(i32::try_from(how.flags.bits()).expect("because open flags are small"));
    options.open(path)
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Gives two files each other's names, in one step.
#[cfg(target_os = "linux")]
pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// There is no such step here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn exchange(_one: &Path, _other: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Removes a folder that is empty.
pub(crate) fn remove_dir(path: &Path) -> io::Result<()> {
    fs::remove_dir(path)
}

/// Removes a folder with all that is in it, and follows no link.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path)
}

/// Makes one folder.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)
}

/// Makes a folder and those above it; no error when it is there.
pub(crate) fn make_dirs(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Makes a fifo for its owner.
#[cfg(target_os = "linux")]
pub(crate) fn make_fifo(path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)
}

/// There are no fifos that one could rely on here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn make_fifo(_path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes a symbolic link.
pub(crate) fn make_link(target: &OsStr, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// Says who may do what with a file or a folder; never behind a link.
pub(crate) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags, fchmod};
    // A fifo is not waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    Ok(fchmod(&file, Mode::from_raw_mode(mode))?)
}

/// The names in a folder, unsorted.
pub(crate) fn list(path: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// What lies at `path`, behind a link if it is one.
pub(crate) fn metadata(path: &Path) -> io::Result<Metadata> {
    fs::metadata(path).map(told)
}

/// What lies at `path` itself.
pub(crate) fn link_metadata(path: &Path) -> io::Result<Metadata> {
    fs::symlink_metadata(path).map(told)
}

/// Whether something lies at `path`; a dangling link counts.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// What is open as `file`, wherever it lies now.
pub(crate) fn look(file: &File) -> io::Result<Metadata> {
    file.metadata().map(told)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what a map gives")]
fn told(metadata: fs::Metadata) -> Metadata {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_file() => Kind::File,
        () if kind.is_dir() => Kind::Folder,
        () if kind.is_symlink() => Kind::Link,
        () if kind.is_fifo() => Kind::Fifo,
        () if kind.is_socket() => Kind::Socket,
        () => Kind::Device,
    };
    Metadata {
        kind,
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        links: metadata.nlink(),
        uid: metadata.uid(),
        mode: metadata.mode(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// Reads from a place in a file; fewer bytes at its end only.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Gives a part of a file back to the disk, while others write behind it; it then reads as zeros.
#[cfg(target_os = "linux")]
pub(crate) fn punch_hole(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    Ok(fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, from, bytes)?)
}

/// There are no holes that one could rely on here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn punch_hole(_file: &File, _from: u64, _bytes: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn set_modified(file: &File, at: (i64, i64)) -> io::Result<()> {
    file.set_modified(system_time(at))
}

/// Takes the lock of a file for itself; `false` when another has it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    taken(FileExt::try_lock_exclusive(file))
}

/// The same, together with others who do so.
pub(crate) fn try_lock_shared(file: &File) -> io::Result<bool> {
    taken(FileExt::try_lock_shared(file))
}

fn taken(locked: io::Result<()>) -> io::Result<bool> {
    match locked {
        Err(error) if error.kind() == fs2::lock_contended_error().kind() => Ok(false),
        locked => locked.map(|()| true),
    }
}

/// Waits for the lock of a file, for itself.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    FileExt::lock_exclusive(file)
}

/// Makes everything durable that was written to the file system of `path`, by whomever.
#[cfg(target_os = "linux")]
pub(crate) fn sync_file_system(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    Ok(rustix::fs::syncfs(&file)?)
}

/// Asks for everything that was written to be made durable, which is all that can be asked for here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sync_file_system(_path: &Path) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// Gives a file `len` bytes of the disk; where the system has no such promise, it is unsupported.
#[cfg(target_os = "linux")]
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn allocate(_file: &File, _len: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How much room there is on the file system of `path`: bytes, and files where it counts them.
pub(crate) fn room(path: &Path) -> io::Result<(u64, Option<u64>)> {
    let told = rustix::fs::statvfs(path)?;
    Ok((told.f_bavail.saturating_mul(told.f_frsize), (told.f_files > 0).then_some(told.f_favail)))
}
