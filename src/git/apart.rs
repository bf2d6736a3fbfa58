//! Merging apart from any checkout: in a folder of our own, with the repository's objects and nothing else of it.
//!
//! Of configuration holds the machine's and the user's own, for what they say of merges; that of the repository, which an
//! agent may have written, does not. So no hook, filter or text converter runs, and no merge driver but one that the user's
//! own configuration names.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;

use super::{EVERYWHERE, GitError, Said, WITHOUT_WORKTREE, as_user, folder_option, unread};
use crate::store;

/// A folder to merge in.
pub(crate) struct Apart {
    folder: PathBuf,
    objects: PathBuf,
}

/// What came of a merge.
#[derive(Debug)]
pub(crate) enum Merged {
    /// The tree.
    Clean(ObjectId),
    Conflicts {
        paths: Vec<Vec<u8>>,
        /// In git's words.
        said: Vec<String>,
    },
}

impl Apart {
    /// Makes the folder anew.
    pub(crate) fn make(common: &Path, folder: PathBuf) -> Result<Apart, GitError> {
        store::remove_tree(&folder)?;
        store::make_dir(&folder.join("refs"))?;
        store::create_new(&folder.join("HEAD"), b"ref: refs/heads/none\n", 0o600)?;
        let config = b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
        store::create_new(&folder.join("config"), config, 0o600)?;
        // Git wants one that is its own, though it reads and writes the repository's.
        store::make_dir(&folder.join("objects"))?;
        Ok(Apart { folder, objects: common.join("objects") })
    }

    /// Merges the files of two commits; without a base, git finds out what both come from. What the attributes of `ours` say
    /// holds.
    pub(crate) fn merge(
        &self,
        base: Option<ObjectId>,
        ours: ObjectId,
        theirs: ObjectId,
    ) -> Result<Merged, GitError> {
        let mut arguments: Vec<String> =
            EVERYWHERE.iter().chain(WITHOUT_WORKTREE).map(ToString::to_string).collect();
        // Would run filters.
        arguments.extend(["-c", "merge.renormalize=false"].map(ToOwned::to_owned));
        // A file that is new stays where it was put.
        arguments.extend(["-c", "merge.directoryRenames=false"].map(ToOwned::to_owned));
        arguments.push(format!("--attr-source={ours}"));
        let mut command = as_user(&self.folder);
        command.env("GIT_OBJECT_DIRECTORY", &self.objects).env("GIT_NO_LAZY_FETCH", "1");
        command.args(&arguments).arg(folder_option("--git-dir=", &self.folder));
        let mut words: Vec<String> =
            ["merge-tree", "--write-tree", "-z", "--name-only", "--messages"].map(ToOwned::to_owned).to_vec();
        words.extend(base.map(|base| format!("--merge-base={base}")));
        words.extend([ours.to_string(), theirs.to_string()]);
        let said = Said::of(command, &words, &self.folder)?;
        read(&said).ok_or_else(|| unread("merge-tree".to_owned(), &said.out))
    }

    /// What the attributes in `tree` say of paths: path, attribute, value.
    pub(crate) fn attributes(
        &self,
        tree: ObjectId,
        names: &[&str],
        paths: &[u8],
    ) -> Result<Vec<(Vec<u8>, String, String)>, GitError> {
        let source = tree.to_string();
        let words = [&["check-attr", "--source", &source, "-z", "--stdin"], names].concat();
        let said = self.plumbing(&words, paths)?;
        let words: Vec<&[u8]> = said.split(|byte| *byte == 0).collect();
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        let line = |line: &[&[u8]]| (line[0].to_vec(), text(line[1]), text(line[2]));
        Ok(words.chunks_exact(3).map(line).collect())
    }

    /// Writes what git would store of a file that lies at `path` with these bytes, by what the attributes in `tree` and the
    /// settings say of the ends of lines. No filter has a part in it.
    pub(crate) fn clean(
        &self,
        tree: ObjectId,
        settings: &[String],
        path: &[u8],
        bytes: &[u8],
    ) -> Result<ObjectId, GitError> {
        let mut words: Vec<OsString> = vec![format!("--attr-source={tree}").into()];
        words.extend(settings.iter().flat_map(|setting| ["-c".into(), setting.into()]));
        words.extend(
            ["-c", "core.safecrlf=false", "hash-object", "-w", "--stdin", "--path"].map(OsString::from),
        );
        words.push(OsStr::from_bytes(path).to_owned());
        let said = self.plumbing(&words, bytes)?;
        ObjectId::from_hex(said.trim_ascii_end()).map_err(|_| unread("hash-object".to_owned(), &said))
    }

    /// Writes a tree with other files: `info` is as `update-index --index-info` takes it.
    pub(crate) fn with_files(&self, tree: ObjectId, info: &[u8]) -> Result<ObjectId, GitError> {
        self.plumbing(&["read-tree", &tree.to_string()], b"")?;
        self.plumbing(&["update-index", "-z", "--index-info"], info)?;
        let said = self.plumbing(&["write-tree"], b"")?;
        ObjectId::from_hex(said.trim_ascii_end()).map_err(|_| unread("write-tree".to_owned(), &said))
    }

    /// Runs a command here, with nobody's configuration.
    fn plumbing<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Result<Vec<u8>, GitError> {
        let mut command = super::plumber(&self.folder);
        command.env("GIT_OBJECT_DIRECTORY", &self.objects);
        let path = self.folder.join("gitspool-input");
        store::remove(&path)?;
        store::create_new(&path, input, 0o600)?;
        command.stdin(store::at("open", &path, std::fs::File::open(&path))?);
        super::output(command, arguments, &self.folder)
    }

    /// Removes the folder; the objects stay.
    pub(crate) fn remove(self) -> Result<(), GitError> {
        Ok(store::remove_tree(&self.folder)?)
    }
}

/// The tree, the paths of conflicts up to an empty one, and messages: the number of paths, these, a type and a text.
fn read(said: &Said) -> Option<Merged> {
    let mut words = said.out.split(|byte| *byte == 0);
    let tree = ObjectId::from_hex(words.next()?).ok()?;
    if said.yes {
        return Some(Merged::Clean(tree));
    }
    let paths: Vec<Vec<u8>> =
        words.by_ref().take_while(|path| !path.is_empty()).map(<[u8]>::to_vec).collect();
    let mut told = Vec::new();
    while let Some(number) = words.next().filter(|number| !number.is_empty()) {
        let number: usize = std::str::from_utf8(number).ok()?.parse().ok()?;
        let sort = words.nth(number)?;
        let text = String::from_utf8_lossy(words.next()?).trim_end().to_owned();
        if sort.starts_with(b"CONFLICT") {
            told.push(text);
        }
    }
    Some(Merged::Conflicts { paths, said: told })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_read_with_their_paths_and_in_gits_words() {
        let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let out = format!(
            "{tree}\0a\nb\0c\0\x001\0a\nb\0Auto-merging\0Auto-merging a\n\x002\0c\0d\0CONFLICT (x)\0CONFLICT (x): c\n\0"
        );
        let said = |yes| Said { yes, out: out.clone().into_bytes(), err: String::new() };
        let Some(Merged::Conflicts { paths, said: told }) = read(&said(false)) else { panic!("conflicts") };
        assert_eq!(paths, [b"a\nb".to_vec(), b"c".to_vec()]);
        assert_eq!(told, ["CONFLICT (x): c"]);
        assert!(
            matches!(read(&said(true)), Some(Merged::Clean(id)) if id == ObjectId::from_hex(tree.as_bytes()).unwrap())
        );
        assert!(read(&Said { yes: true, out: vec![], err: String::new() }).is_none());
    }
}
