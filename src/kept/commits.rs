//! Commits that an agent made and that nothing will name any more when its worktree is gone: what it amended or reset away,
//! what it stashed, and what git's own files for the worktree point at.

use std::collections::HashSet;
use std::path::Path;

use gix::ObjectId;
use walkdir::WalkDir;

use super::{Place, is_admin_file};
use crate::git::{self, GitError};
use crate::store;

/// A file of git's that is longer than this names no commits of the worktree.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The stashes of a repository, the oldest first: the commit, and what was said of it.
pub(crate) fn stashes(common: &Path) -> Vec<(ObjectId, String)> {
    let log = said_in(&common.join("logs").join("refs/stash"));
    let text = String::from_utf8_lossy(&log);
    let stash = |line: &str| {
        let (head, said) = line.split_once('\t').unwrap_or((line, ""));
        let id = ObjectId::from_hex(head.split(' ').nth(1)?.as_bytes()).ok()?;
        Some((id, said.to_owned()))
    };
    text.lines().filter_map(stash).collect()
}

/// The bytes of a file that an agent may have replaced; none when it is no plain file that can be read.
fn said_in(path: &Path) -> Vec<u8> {
    store::read_if_small(path, BYTES_MAX).ok().flatten().unwrap_or_default()
}

/// The stashes that were made since the worktree was, but for those of other branches.
pub(super) fn stashes_of(place: &Place<'_>) -> Vec<(ObjectId, String)> {
    let log = said_in(&place.admin.join("logs").join("HEAD"));
    let log = String::from_utf8_lossy(&log);
    let moved =
        log.lines().filter_map(|line| line.split_once("checkout: moving from ")?.1.split_once(" to "));
    let mut branches: HashSet<&str> = moved.flat_map(|(from, to)| [from, to]).collect();
    branches.extend([place.branch, "(no branch)"]);
    let mut all = stashes(place.common);
    all.retain(|(id, said)| {
        let rest = said.strip_prefix("WIP on ").or_else(|| said.strip_prefix("On "));
        let branch = rest.and_then(|rest| rest.split_once(':')).map(|(branch, _)| branch);
        !place.stashes.contains(&id.to_string()) && branch.is_none_or(|branch| branches.contains(branch))
    });
    all
}

/// The commits that `head` does not hold, and of which none holds another.
pub(super) fn tips(
    place: &Place<'_>,
    private: &Path,
    head: ObjectId,
    stashes: &[(ObjectId, String)],
) -> Result<Vec<ObjectId>, GitError> {
    let mut named: HashSet<ObjectId> = stashes.iter().map(|(id, _)| *id).collect();
    for entry in WalkDir::new(place.admin).min_depth(1).into_iter().flatten() {
        let below = entry.path().strip_prefix(place.admin).unwrap_or(entry.path());
        let is_own = entry.file_type().is_file() && is_admin_file(below) && !below.starts_with("modules");
        if is_own {
            named.extend(ids_in(&said_in(entry.path())));
        }
    }
    // It goes with the branch.
    let log = place.common.join("logs").join("refs/heads").join(place.branch);
    named.extend(ids_in(&said_in(&log)));
    // Of objects that are not there any more, and of those that are no commits, nothing can be kept.
    let repository = git::Repository::open(place.common)?;
    named.retain(|id| *id != head && repository.commit(*id).is_some());
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let input = named.iter().map(|id| format!("{id}\n")).chain([format!("^{head}\n")]).collect::<String>();
    let said = git::plumbing_of(private, &["rev-list", "--parents", "--stdin"], input.as_bytes())?;
    let said = String::from_utf8_lossy(&said);
    let lines =
        said.lines().map(|line| line.split(' ').filter_map(|id| ObjectId::from_hex(id.as_bytes()).ok()));
    let (mut there, mut held) = (HashSet::new(), HashSet::new());
    for mut line in lines {
        there.extend(line.next());
        held.extend(line);
    }
    let mut tips: Vec<ObjectId> =
        named.into_iter().filter(|id| there.contains(id) && !held.contains(id)).collect();
    tips.sort();
    Ok(tips)
}

/// All that looks like the id of an object.
fn ids_in(bytes: &[u8]) -> impl Iterator<Item = ObjectId> {
    let words = bytes.split(|byte| !byte.is_ascii_hexdigit());
    words
        .filter(|word| word.len() == 40)
        .filter_map(|word| ObjectId::from_hex(word).ok())
        .filter(|id| !id.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_any_text() {
        let id = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let text = format!("{} {id} a <b> 1 +0000\tx\n{id}0\nabc", "0".repeat(40));
        assert_eq!(ids_in(text.as_bytes()).map(|id| id.to_string()).collect::<Vec<_>>(), [id]);
    }
}
