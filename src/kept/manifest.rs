//! What no tree of git can hold, as a list: modes, empty folders, fifos, repositories inside, and git's own files of the
//! worktree. Pure.
//!
//! One entry for each, ended by NUL: `<area> <sort> <mode> <blob or -> <path>`.

use gix::ObjectId;

/// Where a path begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Area {
    /// The top of the worktree.
    Worktree,
    /// Git's folder for it.
    Admin,
}

/// What lies at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sort {
    /// With a blob; without one the tree has it, and this is about its mode.
    File,
    Folder,
    Link,
    Fifo,
    /// It has no content, and cannot be made again: its name is all.
    Socket,
}

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) area: Area,
    pub(crate) sort: Sort,
    pub(crate) mode: u32,
    pub(crate) blob: Option<ObjectId>,
    /// With `/`; never empty, and never outside of its area.
    pub(crate) path: Vec<u8>,
}

const AREAS: [(Area, &str); 2] = [(Area::Worktree, "w"), (Area::Admin, "g")];
const SORTS: [(Sort, &str); 5] = [
    (Sort::File, "file"),
    (Sort::Folder, "folder"),
    (Sort::Link, "link"),
    (Sort::Fifo, "fifo"),
    (Sort::Socket, "socket"),
];

fn word<T: PartialEq>(words: &[(T, &'static str)], of: &T) -> &'static str {
    words.iter().find(|(value, _)| value == of).map_or("", |(_, word)| word)
}

fn meaning<T: Copy>(words: &[(T, &str)], of: &str) -> Option<T> {
    words.iter().find(|(_, word)| *word == of).map(|(value, _)| *value)
}

/// The list of entries.
pub(crate) fn text(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Entry { area, sort, mode, blob, path } in entries {
        let blob = blob.map_or_else(|| "-".to_owned(), |blob| blob.to_string());
        let head = format!("{} {} {mode:o} {blob} ", word(&AREAS, area), word(&SORTS, sort));
        bytes.extend([head.as_bytes(), path, b"\0"].concat());
    }
    bytes
}

/// Reads a list; `None` when it is none of ours, or a path in it leads outside.
pub(crate) fn parse(bytes: &[u8]) -> Option<Vec<Entry>> {
    let Some(bytes) = bytes.strip_suffix(b"\0") else { return bytes.is_empty().then(Vec::new) };
    bytes.split(|byte| *byte == 0).map(entry).collect()
}

fn entry(line: &[u8]) -> Option<Entry> {
    let mut words = line.splitn(5, |byte| *byte == b' ');
    let mut next = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let (area, sort, mode, blob) = (next()?, next()?, next()?, next()?);
    let blob = if blob == "-" { None } else { Some(ObjectId::from_hex(blob.as_bytes()).ok()?) };
    let path = words.next().filter(|path| stays_inside(path))?.to_vec();
    let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777)?;
    Some(Entry { area: meaning(&AREAS, area)?, sort: meaning(&SORTS, sort)?, mode, blob, path })
}

/// Whether a path leads nowhere else than below the place where it begins, as long as there are no links.
pub(crate) fn stays_inside(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_and_no_path_leads_out() {
        let blob = ObjectId::from_hex(b"4b825dc642cb6eb9a060e54bf8d69288fbee4904").unwrap();
        let entries: Vec<Entry> = [
            (Area::Worktree, Sort::File, Some(blob), &b"below/.git/co nfig"[..]),
            (Area::Admin, Sort::Folder, None, b"modules"),
            (Area::Worktree, Sort::Fifo, None, b"new\nline \xff"),
        ]
        .into_iter()
        .map(|(area, sort, blob, path)| Entry { area, sort, mode: 0o4711, blob, path: path.to_vec() })
        .collect();
        assert_eq!(parse(&text(&entries)), Some(entries));
        assert_eq!(parse(b""), Some(vec![]));
        for bad in [
            &b"w file 644 - ../x\0"[..],
            b"w file 644 - /x\0",
            b"w file 644 - a//b\0",
            b"w file 644 - a/.\0",
            b"w file 644 - a",
            b"x file 644 - a\0",
            b"w file 999 - a\0",
            b"w file 644 z a\0",
            b"w file 644 -\0",
            b"\0",
        ] {
            assert_eq!(parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
