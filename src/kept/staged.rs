//! What an index says, as a list that can be read without it: every entry with its stage and its flags.

use std::collections::HashSet;
use std::path::Path;

use gix::ObjectId;

use crate::git::{self, GitError};

/// One entry of an index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) flag: Flag,
    /// Octal, as git writes it.
    pub(crate) mode: String,
    pub(crate) id: ObjectId,
    /// 0, or of a conflict 1 (what both come from), 2 (ours) or 3 (theirs).
    pub(crate) stage: u8,
    pub(crate) path: Vec<u8>,
}

/// What git was told about an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flag {
    None,
    /// It is to be taken for unchanged.
    AssumeUnchanged,
    /// It is not to be there.
    SkipWorktree,
    /// Both.
    Unseen,
    /// It will be added, and nothing of it is yet.
    IntentToAdd,
}

/// The mode of an entry that is a commit of another repository.
pub(crate) const GITLINK: &str = "160000";

const FLAGS: [(Flag, u8); 5] = [
    (Flag::None, b'H'),
    (Flag::AssumeUnchanged, b'h'),
    (Flag::SkipWorktree, b'S'),
    (Flag::Unseen, b's'),
    (Flag::IntentToAdd, b'N'),
];

impl Entry {
    /// Whether git was told to look away from the file.
    pub(crate) fn is_hidden(&self) -> bool {
        matches!(self.flag, Flag::AssumeUnchanged | Flag::SkipWorktree | Flag::Unseen)
    }

    /// As `update-index --index-info` takes it, without the NUL at its end.
    pub(crate) fn info(&self, stage: u8) -> Vec<u8> {
        [format!("{} {} {stage}\t", self.mode, self.id).as_bytes(), &self.path].concat()
    }
}

/// Reads the index in a private folder of git's.
pub(crate) fn read(private: &Path) -> Result<Vec<Entry>, GitError> {
    let said = git::plumbing(private, &["ls-files", "--stage", "-v", "-z"])?;
    parse(&said).ok_or_else(|| git::unread("ls-files".to_owned(), &said[..said.len().min(200)]))
}

/// Marks the entries of which nothing is added yet, which only `git status` tells.
pub(crate) fn mark(entries: &mut [Entry], intended: &HashSet<&[u8]>) {
    for entry in entries.iter_mut().filter(|entry| intended.contains(&entry.path[..])) {
        entry.flag = Flag::IntentToAdd;
    }
}

/// The list of entries, in the form of `git ls-files --stage -v -z`.
pub(crate) fn text(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let flag = FLAGS.iter().find(|(flag, _)| *flag == entry.flag).map_or(b'H', |(_, letter)| *letter);
        bytes.extend([&[flag, b' '][..], &entry.info(entry.stage), b"\0"].concat());
    }
    bytes
}

/// Reads such a list.
pub(crate) fn parse(bytes: &[u8]) -> Option<Vec<Entry>> {
    let Some(bytes) = bytes.strip_suffix(b"\0") else { return bytes.is_empty().then(Vec::new) };
    bytes.split(|byte| *byte == 0).map(entry).collect()
}

fn entry(line: &[u8]) -> Option<Entry> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let (head, path) = (std::str::from_utf8(&line[..tab]).ok()?, line[tab + 1..].to_vec());
    let words: Vec<&str> = head.split(' ').collect();
    let [flag, mode, id, stage] = words[..] else { return None };
    let letter = *flag.as_bytes().first()?;
    // `M`, `C`, `R`, `K` and their like are entries without a flag.
    let known = FLAGS.iter().find(|(_, known)| *known == letter).map(|(flag, _)| *flag);
    let other = if letter.is_ascii_lowercase() { Flag::AssumeUnchanged } else { Flag::None };
    let id = ObjectId::from_hex(id.as_bytes()).ok()?;
    let stage = stage.parse().ok().filter(|stage| *stage <= 3)?;
    let mode = mode.chars().all(|digit| ('0'..='7').contains(&digit)).then(|| mode.to_owned())?;
    Some(Entry { flag: known.unwrap_or(other), mode, id, stage, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back() {
        let id = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let line = |flag: &str, stage: u8, path: &str| format!("{flag} 100644 {id} {stage}\t{path}\0");
        let bytes = [line("H", 0, "a b"), line("S", 0, "s\n"), line("M", 2, "c"), line("h", 0, "d")].concat();
        let mut entries = parse(bytes.as_bytes()).unwrap();
        assert_eq!(entries.iter().map(Entry::is_hidden).collect::<Vec<_>>(), [false, true, false, true]);
        assert_eq!((entries[2].stage, &entries[0].path[..]), (2, &b"a b"[..]));
        mark(&mut entries, &HashSet::from([&b"a b"[..]]));
        assert_eq!(entries[0].flag, Flag::IntentToAdd);
        assert_eq!(parse(&text(&entries)), Some(entries));
        assert_eq!((parse(b"H 100644 x 0\ta\0"), parse(b"H\0"), parse(b"")), (None, None, Some(vec![])));
    }
}
