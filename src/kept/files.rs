//! What is kept of each thing that lies in a worktree: in the tree, in the manifest, or nothing, and then with a blocker.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gix::ObjectId;

use super::content::{self, Content, Kind, Lying};
use super::making::Making;
use super::manifest::{Area, Entry as Held, Sort as HeldSort};
use super::staged::{Entry as Staged, Flag, GITLINK};
use super::{Place, Seen, blockers, is_admin_file, shown};
use crate::git::{self, GitError, Repository};
use crate::store;
use crate::workspace::{Blocker, BlockerKind};

/// Who may do what with a file or a folder that nobody has changed that of.
const FILE_MODE: u32 = 0o644;
const PROGRAM_MODE: u32 = 0o755;
const FOLDER_MODE: u32 = 0o755;

/// How long a file is at most that is compared with what a checkout makes, and how many filters are run for that.
const COMPARED_BYTES_MAX: u64 = 16 * 1024 * 1024;
const COMPARED_MAX: u32 = 100;

/// What makes the tree of an index that of the files as they lie there, and what no tree can hold.
#[derive(Default)]
pub(super) struct Kept {
    /// Paths that go from the index.
    pub(super) removed: Vec<Vec<u8>>,
    /// Mode, blob and path of what comes into it, in place of what it has there.
    pub(super) added: Vec<(&'static str, ObjectId, Vec<u8>)>,
    pub(super) held: Vec<Held>,
    /// Whether something would be lost without the manifest that is more than a mode or an empty folder.
    pub(super) holds_content: bool,
}

impl Kept {
    /// The same as `update-index -z --index-info` takes it: first goes what goes, so that nothing is in the way.
    pub(super) fn info(&self) -> Vec<u8> {
        let gone =
            |path: &Vec<u8>| [&b"0 0000000000000000000000000000000000000000\t"[..], path, b"\0"].concat();
        let come = |(mode, id, path): &(&'static str, ObjectId, Vec<u8>)| {
            [format!("{mode} {id} 0\t").as_bytes(), path, b"\0"].concat()
        };
        self.removed.iter().map(gone).chain(self.added.iter().map(come)).collect::<Vec<_>>().concat()
    }
}

/// What is written while a worktree is kept.
struct Keeping<'a> {
    making: &'a Making<'a>,
    place: &'a Place<'a>,
    repository: &'a Repository,
    /// How many files are checked out once more at most, to compare.
    compared_left: u32,
    blockers: &'a mut Vec<Blocker>,
    bytes_left: u64,
    kept: Kept,
}

/// Writes all that is there and that git does not have.
pub(super) fn keep(making: &Making<'_>, seen: &Seen, blockers: &mut Vec<Blocker>) -> Result<Kept, GitError> {
    let Making { place, repository, .. } = *making;
    let (bytes_left, kept, compared_left) = (place.bytes_max, Kept::default(), COMPARED_MAX);
    let mut keeping = Keeping { making, place, repository, compared_left, blockers, bytes_left, kept };
    let complete = place.goes || !seen.entries.is_empty();
    keeping.worktree(seen, complete)?;
    let mut admin = content::of(place.admin);
    admin.lying.retain(|lying| {
        let path = Path::new(std::str::from_utf8(&lying.path).unwrap_or("modules"));
        is_admin_file(path) && (complete || !path.starts_with("modules"))
    });
    keeping.admin(&admin)?;
    Ok(keeping.kept)
}

impl Keeping<'_> {
    fn worktree(&mut self, seen: &Seen, complete: bool) -> Result<(), GitError> {
        let is_link = |entry: &&Staged| entry.mode == GITLINK;
        let commits: HashSet<&[u8]> =
            seen.indexed.iter().filter(is_link).map(|entry| &entry.path[..]).collect();
        let plain = seen.indexed.iter().filter(|entry| entry.stage == 0 && entry.mode != GITLINK);
        let tracked: HashMap<&[u8], &Staged> = plain.map(|entry| (&entry.path[..], entry)).collect();
        let has_changed = |entry: &&super::Entry| !entry.code.ends_with(' ');
        let changed: HashSet<&[u8]> =
            seen.entries.iter().filter(has_changed).map(|entry| &entry.path[..]).collect();
        let mut there: HashSet<&[u8]> = HashSet::new();
        let all = &seen.content.lying;
        for (at, lying) in all.iter().enumerate() {
            let Lying { path, kind, mode, .. } = lying;
            if &path[..] == b".git" && *kind != Kind::Folder {
                continue;
            }
            let is_inside = above(path).any(|folder| commits.contains(folder));
            if is_inside && !complete {
                continue;
            }
            let no_tree_has_it = is_inside || !is_tree_path(path, *kind == Kind::Link);
            match kind {
                Kind::Folder => {
                    there.extend(commits.get(&path[..]));
                    let is_empty = all.get(at + 1).is_none_or(|next| !is_below(&next.path, path));
                    if is_empty || no_tree_has_it || *mode != FOLDER_MODE {
                        self.hold(Area::Worktree, HeldSort::Folder, lying, None);
                    }
                }
                Kind::File | Kind::Link if no_tree_has_it => self.hold_file(Area::Worktree, lying)?,
                Kind::File | Kind::Link => {
                    there.insert(path);
                    let known = tracked.get(&path[..]).filter(|entry| {
                        !seen.blind
                            && !entry.is_hidden()
                            && entry.flag != Flag::IntentToAdd
                            && !changed.contains(&path[..])
                    });
                    self.file(lying, known.copied())?;
                }
                Kind::Fifo => self.hold(Area::Worktree, HeldSort::Fifo, lying, None),
                Kind::Socket => self.hold(Area::Worktree, HeldSort::Socket, lying, None),
                Kind::Device => {
                    self.block(BlockerKind::Unreadable, format!("{} is a device", shown(path)));
                }
            }
        }
        let is_unread = |path: &[u8]| {
            content::prefixes(path).any(|above| seen.content.unreadable.iter().any(|no| no == above))
        };
        let is_gone = |entry: &&Staged| {
            let is_absent_by_wish = matches!(entry.flag, Flag::SkipWorktree | Flag::Unseen);
            !there.contains(&entry.path[..]) && !is_absent_by_wish && !is_unread(&entry.path)
        };
        // The sides of a conflict go too: what lies there takes their place.
        let goes = |entry: &&Staged| entry.stage > 0 || is_gone(entry);
        self.kept.removed = seen.indexed.iter().filter(goes).map(|entry| entry.path.clone()).collect();
        Ok(())
    }

    /// Keeps a file that a tree can hold; `known` is its entry in the index when git calls it unchanged.
    fn file(&mut self, lying: &Lying, known: Option<&Staged>) -> Result<(), GitError> {
        let is_program = lying.mode & 0o100 != 0;
        let mode = match (lying.kind == Kind::Link, is_program) {
            (true, _) => "120000",
            (false, true) => "100755",
            (false, false) => "100644",
        };
        if known.is_none() {
            let Some(id) = self.write(self.place.root, lying)? else { return Ok(()) };
            self.kept.added.push((mode, id, lying.path.clone()));
        }
        if let Some(known) = known
            && !self.comes_from_checkout(lying, known)?
        {
            return self.hold_file(Area::Worktree, lying);
        }
        let usual =
            if known.map_or(mode, |known| &known.mode) == "100755" { PROGRAM_MODE } else { FILE_MODE };
        if lying.kind == Kind::File && lying.mode != usual {
            self.hold(Area::Worktree, HeldSort::File, lying, None);
        }
        Ok(())
    }

    /// Whether a checkout of what the index has makes the file as it lies there. One that the last checkout made was made so.
    fn comes_from_checkout(&mut self, lying: &Lying, known: &Staged) -> Result<bool, GitError> {
        let is_untouched = self.place.made_at.is_some_and(|made| lying.changed < made);
        if is_untouched || lying.kind == Kind::Link {
            return Ok(true);
        }
        let path = self.place.root.join(OsStr::from_bytes(&lying.path));
        let Ok(Some(there)) = store::read_if_small(&path, COMPARED_BYTES_MAX) else {
            // A long one is written, which is wanted unless it is there.
            return Ok(content::write(self.repository, self.place.root, lying).is_ok_and(|id| id == known.id));
        };
        if git::blob_id(&there)? == known.id {
            // Git has it, but under other attributes than at the last checkout may make something else of it.
            self.hold(Area::Worktree, HeldSort::File, lying, Some(known.id));
            return Ok(true);
        }
        let Some(left) = self.compared_left.checked_sub(1) else { return Ok(false) };
        self.compared_left = left;
        let Making { launcher, private, .. } = *self.making;
        let mut option = OsString::from("--path=");
        option.push(OsStr::from_bytes(&lying.path));
        let arguments = ["cat-file".into(), "--filters".into(), option, known.id.to_string().into()];
        // A filter that fails makes nothing that could be compared.
        let made = git::in_worktree(launcher, private, self.place.root, &arguments);
        Ok(made.is_ok_and(|made| made == there))
    }

    fn admin(&mut self, content: &Content) -> Result<(), GitError> {
        for lying in &content.lying {
            match lying.kind {
                Kind::File | Kind::Link => self.hold_file(Area::Admin, lying)?,
                Kind::Folder => self.hold(Area::Admin, HeldSort::Folder, lying, None),
                Kind::Fifo | Kind::Socket | Kind::Device => {}
            }
        }
        Ok(())
    }

    fn hold_file(&mut self, area: Area, lying: &Lying) -> Result<(), GitError> {
        let top = if area == Area::Worktree { self.place.root } else { self.place.admin };
        let sort = if lying.kind == Kind::Link { HeldSort::Link } else { HeldSort::File };
        if let Some(id) = self.write(top, lying)? {
            self.kept.holds_content |= area == Area::Worktree || lying.path.starts_with(b"modules/");
            self.hold(area, sort, lying, Some(id));
        }
        Ok(())
    }

    fn hold(&mut self, area: Area, sort: HeldSort, lying: &Lying, blob: Option<ObjectId>) {
        self.kept.held.push(Held { area, sort, mode: lying.mode, blob, path: lying.path.clone() });
    }

    /// Writes the content of a file, or says why that cannot be.
    fn write(&mut self, top: &Path, lying: &Lying) -> Result<Option<ObjectId>, GitError> {
        if lying.bytes > self.bytes_left {
            let what = format!(
                "{} has {} bytes, and of what git does not have at most {} are kept",
                shown(&lying.path),
                lying.bytes,
                self.place.bytes_max
            );
            self.block(BlockerKind::TooLarge, what);
            return Ok(None);
        }
        self.bytes_left -= lying.bytes;
        match content::write(self.repository, top, lying) {
            Ok(id) => Ok(Some(id)),
            // What is lacking here may be there later.
            Err(GitError::Store(error)) if error.shortage().is_none() => {
                self.block(BlockerKind::Unreadable, error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn block(&mut self, kind: BlockerKind, what: String) {
        self.blockers.push(blockers::blocker(kind, what));
    }
}

/// The folders above a path.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    content::prefixes(path).filter(|folder| folder.len() < path.len())
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

/// Whether a tree can hold a path.
fn is_tree_path(path: &[u8], is_link: bool) -> bool {
    let last = path.iter().filter(|byte| **byte == b'/').count();
    path.split(|byte| *byte == b'/')
        .enumerate()
        .all(|(at, name)| git::is_tree_name(name, is_link && at == last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_repository_of_its_own_is_in_no_tree() {
        for (path, expected) in
            [("a/b", true), ("a/.git/config", false), (".git/x", false), ("a/.gitmodules/x", true)]
        {
            assert_eq!(is_tree_path(path.as_bytes(), false), expected, "{path}");
        }
        assert!(!is_tree_path(b"a/.gitmodules", true));
        assert!(is_below(b"a/b", b"a") && !is_below(b"ab", b"a") && !is_below(b"a", b"a"));
    }
}
