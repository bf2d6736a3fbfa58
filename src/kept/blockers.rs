//! What keeps a worktree from being removed: what is half done in it, and who is there.

use std::path::{Path, PathBuf};

use super::{Place, shown};
use crate::git::GitError;
use crate::process;
use crate::store;
use crate::workspace::{Blocker, BlockerKind};

/// What stands in `HEAD`'s folder while something is half done.
const UNFINISHED: &[(&str, &str)] = &[
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("sequencer", "sequence of picks"),
    ("BISECT_LOG", "bisection"),
];

/// How the reason begins for which `gitspool` itself locks a worktree.
const OWN_LOCK: &[u8] = b"gitspool: ";

/// How much of somebody's reason is repeated.
const REASON_CHARS_MAX: usize = 200;

/// How many processes are named.
const PROCESSES_MAX: usize = 5;

pub(super) fn blocker(kind: BlockerKind, what: String) -> Blocker {
    Blocker { kind, what }
}

/// What is half done.
pub(crate) fn unfinished(admin: &Path) -> Vec<Blocker> {
    let there = UNFINISHED.iter().filter(|(name, _)| store::exists(&admin.join(name)));
    let words = there.map(|(name, what)| format!("an unfinished {what} ({name})"));
    words.map(|what| blocker(BlockerKind::Unfinished, what)).collect()
}

/// Who holds the worktree: a lock of somebody's, a worktree inside it, a process.
pub(crate) fn holders(place: &Place<'_>) -> Result<Vec<Blocker>, GitError> {
    let mut found = Vec::new();
    let lock = store::read_if_small(&place.admin.join("locked"), 64 * 1024).ok().flatten();
    if let Some(reason) = lock.filter(|reason| !reason.starts_with(OWN_LOCK)) {
        let text = String::from_utf8_lossy(&reason);
        let text: String = text.trim().chars().take(REASON_CHARS_MAX).collect();
        let what = format!("somebody has locked it with `git worktree lock` ({})", shown(text.as_bytes()));
        found.push(blocker(BlockerKind::Locked, what));
    }
    let siblings = place.admin.parent().unwrap_or(place.admin);
    for name in store::names(siblings)? {
        let Some(git_file) =
            store::read_if_small(&siblings.join(&name).join("gitdir"), 64 * 1024).ok().flatten()
        else {
            continue;
        };
        let top = PathBuf::from(String::from_utf8_lossy(git_file.trim_ascii_end()).into_owned());
        let top = top.parent().unwrap_or(&top);
        if top != place.root && top.starts_with(place.root) && store::exists(top) {
            let what = format!("another worktree lies in it, {}", shown(top.as_os_str().as_encoded_bytes()));
            found.push(blocker(BlockerKind::WorktreeInside, what));
        }
    }
    found.extend(processes(place.root));
    Ok(found)
}

/// The processes that have a place in a folder.
pub(crate) fn processes(folder: &Path) -> Vec<Blocker> {
    let found = process::within(folder);
    let more = found.len().saturating_sub(PROCESSES_MAX);
    let words: Vec<String> = found
        .iter()
        .take(PROCESSES_MAX)
        .map(|(pid, name)| format!("{pid} ({})", shown(name.as_bytes())))
        .collect();
    if words.is_empty() {
        return Vec::new();
    }
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what = format!("a process has its place there or a file of it open: {}{rest}", words.join(", "));
    vec![blocker(BlockerKind::Process, what)]
}
