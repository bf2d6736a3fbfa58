//! Objects, written and read by gix: nothing that a repository's configuration names has a part in it.

use std::io::{self, Read};

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::objs::tree::{Entry, EntryKind};
use gix::objs::{Kind, Tree, Write};

use super::{GitError, Repository};

/// What stands in a tree under a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sort {
    File,
    Folder,
}

impl Repository {
    /// Writes a blob of exactly `bytes` bytes. When there are fewer to be read, nothing is written.
    pub(crate) fn write_blob(&self, bytes: u64, from: &mut dyn Read) -> Result<ObjectId, GitError> {
        let mut from = Exactly { from, left: bytes };
        let written = self.gix.objects.write_stream(Kind::Blob, bytes, &mut from);
        written.map_err(|error| self.said("write an object", error.to_string()))
    }

    /// Writes a tree of entries in any order.
    pub(crate) fn write_tree(&self, entries: Vec<(Vec<u8>, Sort, ObjectId)>) -> Result<ObjectId, GitError> {
        let entry = |(name, sort, oid): (Vec<u8>, Sort, ObjectId)| {
            let kind = match sort {
                Sort::File => EntryKind::Blob,
                Sort::Folder => EntryKind::Tree,
            };
            Entry { mode: kind.into(), filename: name.into(), oid }
        };
        let mut entries: Vec<Entry> = entries.into_iter().map(entry).collect();
        entries.sort();
        let written = self.gix.write_object(&Tree { entries });
        written.map(gix::Id::detach).map_err(|error| self.failed("write an object", &error))
    }

    /// The bytes of a blob.
    pub(crate) fn blob(&self, id: ObjectId) -> Result<Vec<u8>, GitError> {
        let found = self.gix.find_blob(id);
        found
            .map(|mut blob| blob.take_data())
            .map_err(|error| self.failed(&format!("read the object {id}"), &error))
    }

    /// How many bytes an object has.
    pub(crate) fn object_bytes(&self, id: ObjectId) -> Result<u64, GitError> {
        let found = self.gix.find_header(id);
        found
            .map(|header| header.size())
            .map_err(|error| self.failed(&format!("read the object {id}"), &error))
    }

    /// What a tree has under `name`, if anything.
    pub(crate) fn in_tree(&self, tree: ObjectId, name: &str) -> Result<Option<ObjectId>, GitError> {
        let action = format!("read the tree {tree}");
        let found = self.gix.find_tree(tree).map_err(|error| self.failed(&action, &error))?;
        let entry = found.lookup_entry_by_path(name).map_err(|error| self.failed(&action, &error))?;
        Ok(entry.map(|entry| entry.object_id()))
    }

    fn said(&self, action: &str, said: String) -> GitError {
        GitError::Repository { action: action.to_owned(), repository: self.git_dir().to_owned(), said }
    }
}

/// The id of a blob of these bytes, which is not written.
pub(crate) fn blob_id(bytes: &[u8]) -> Result<ObjectId, GitError> {
    gix::objs::compute_hash(gix::hash::Kind::Sha1, Kind::Blob, bytes).map_err(|error| GitError::Repository {
        action: "make the id of an object".to_owned(),
        repository: std::path::PathBuf::new(),
        said: error.to_string(),
    })
}

/// Whether a name may stand in a tree by what git takes on any system: not `.git` in any of its spellings, nor a link
/// where git looks for its own files.
pub(crate) fn is_tree_name(name: &[u8], is_link: bool) -> bool {
    use gix::validate::path::component;
    let options = component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    let mode = is_link.then_some(component::Mode::Symlink);
    gix::validate::path::component(name.as_bstr(), mode, options).is_ok()
}

/// Gives as many bytes as were announced; an error when there are fewer, since a blob says beforehand how long it is.
struct Exactly<'a> {
    from: &'a mut dyn Read,
    left: u64,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.from.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_gits_own_folder_stands_in_a_tree() {
        for good in [&b"a"[..], b".gitignore", b"git", b"new\nline", b"\xff", b"a\\b", b"con"] {
            assert!(is_tree_name(good, false), "{}", good.as_bstr());
        }
        for bad in [&b".git"[..], b".GIT", b"git~1", b".git ", b".g\xe2\x80\x8cit", b"..", b"a/b", b""] {
            assert!(!is_tree_name(bad, false), "{}", bad.as_bstr());
        }
        assert!(is_tree_name(b".gitmodules", false) && !is_tree_name(b".gitmodules", true));
    }
}
