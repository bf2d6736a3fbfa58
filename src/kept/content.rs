//! What lies in a folder, as it lies there: no link is followed, and nothing is opened that is no plain file.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use gix::ObjectId;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::git::{GitError, Repository};
use crate::store;
use crate::time::Timestamp;

/// One thing that lies there.
#[derive(Clone, Debug)]
pub(crate) struct Lying {
    /// From the folder, with `/`.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// The bits that say who may do what.
    pub(crate) mode: u32,
    pub(crate) bytes: u64,
    /// When anything of it changed last, by the system's own word.
    pub(crate) changed: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
    Fifo,
    Socket,
    Device,
}

/// All that lies in a folder, each folder before what is in it.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) lying: Vec<Lying>,
    /// What could not be listed or looked at.
    pub(crate) unreadable: Vec<Vec<u8>>,
    /// By this it is seen whether anything there has changed.
    pub(crate) fingerprint: [u8; 32],
    /// What it takes of the disk.
    pub(crate) disk_bytes: u64,
}

/// Looks at all that lies in `root`.
pub(crate) fn of(root: &Path) -> Content {
    let mut content = Content::default();
    let mut seen = Sha256::new();
    for entry in WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let found = entry.and_then(|entry| entry.metadata().map(|metadata| (entry, metadata)));
        let (entry, metadata) = match found {
            Ok(found) => found,
            Err(error) => {
                let gone = error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound);
                if !gone {
                    content.unreadable.push(below(root, error.path().unwrap_or(root)));
                }
                continue;
            }
        };
        content.disk_bytes += metadata.blocks() * 512;
        let kind = kind(&metadata);
        let path = below(root, entry.path());
        let times = (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec());
        let what = (metadata.ino(), metadata.mode(), metadata.len());
        // What a folder tells of its size and its times follows from what is in it.
        let told = if kind == Kind::Folder { String::new() } else { format!("{what:?}{times:?}") };
        seen.update([&path[..], b"\0", told.as_bytes(), b"\0"].concat());
        let changed = Timestamp::of_file((metadata.ctime(), metadata.ctime_nsec()));
        let mode = metadata.mode() & 0o7777;
        content.lying.push(Lying { path, kind, mode, bytes: metadata.len(), changed });
    }
    content.fingerprint = seen.finalize().into();
    content
}

fn kind(metadata: &std::fs::Metadata) -> Kind {
    use rustix::fs::FileType;
    match FileType::from_raw_mode(metadata.mode()) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Link,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => Kind::Device,
    }
}

fn below(root: &Path, path: &Path) -> Vec<u8> {
    path.strip_prefix(root).unwrap_or(path).as_os_str().as_bytes().to_vec()
}

/// Lets the folders in a folder that is to be deleted be changed by their owner.
pub(crate) fn open_folders(root: &Path) {
    // Each is opened before it is listed; where that fails, the folder stays.
    let opens = |entry: &walkdir::DirEntry| {
        !entry.file_type().is_dir() || store::set_mode(entry.path(), 0o700).is_ok()
    };
    WalkDir::new(root).into_iter().filter_entry(opens).for_each(drop);
}

impl Content {
    /// Takes out what lies at one of these paths, or below it.
    pub(crate) fn without(&mut self, paths: &HashSet<Vec<u8>>) {
        if paths.is_empty() {
            return;
        }
        let is_out = |path: &[u8]| prefixes(path).any(|above| paths.contains(above));
        self.lying.retain(|lying| !is_out(&lying.path));
        self.unreadable.retain(|path| !is_out(path));
    }
}

/// A path, and all folders above it.
pub(crate) fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let folders = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
    folders.chain([path])
}

/// Writes a file, or what a link says, into the object store, byte for byte.
pub(crate) fn write(repository: &Repository, root: &Path, lying: &Lying) -> Result<ObjectId, GitError> {
    let path = root.join(std::ffi::OsStr::from_bytes(&lying.path));
    if lying.kind == Kind::Link {
        let target = store::at("read the link", &path, std::fs::read_link(&path))?;
        let bytes = target.as_os_str().as_bytes();
        return repository.write_blob(bytes.len() as u64, &mut &bytes[..]);
    }
    let mut file = store::open_dropped(&path)?;
    if !store::is_plain(&file) {
        return Err(store::not_plain(&path).into());
    }
    let bytes = store::at("look at", &path, store::bytes_in(&file))?;
    repository.write_blob(bytes, &mut file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_all_that_is_above_it() {
        let all: Vec<&[u8]> = prefixes(b"a/b/c").collect();
        assert_eq!(all, [&b"a"[..], b"a/b", b"a/b/c"]);
    }
}
