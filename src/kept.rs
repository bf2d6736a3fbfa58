//! What is kept of a worktree: all that its branches do not have, as one commit that nothing of the agent's points at.
//!
//! The commit's first parent is the worktree's `HEAD`, its tree is the files as they lie there, byte for byte. What was
//! staged and then changed again is a second parent. A further one has what no tree can hold (`manifest`, `staged`), and as
//! its own parents the commits that nothing else will name. All is made in a private folder inside the worktree's
//! administrative folder, with a copy of the index and a `HEAD` of its own, so that git touches neither the agent's index
//! nor its `HEAD`, and needs no environment for it.
//!
//! Git is asked, through the launcher, what of the tracked files it takes for unchanged and what it ignores. What it names
//! otherwise is read here and written by gix: no filter, attribute or hook has a part in that, nor has the index of an agent.
//!
//! A tracked file that git calls unchanged, and that was written since the checkout, is kept as it lies there when a checkout
//! would not make it so: git compares what its filters make of a file.
//!
//! Weak: times, owners and extended attributes.

mod blockers;
mod commits;
mod content;
mod files;
mod making;
mod manifest;
mod reading;
mod staged;

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use serde::{Deserialize, Serialize};

use crate::git::{self, GitError, Launcher, Repository};

use crate::id::RunId;
use crate::store;
use crate::time::Timestamp;
use crate::workspace::{Blocker, BlockerKind};

pub(crate) use blockers::{holders, processes, unfinished};
pub(crate) use commits::stashes;
pub(crate) use content::{of as content_of, open_folders};
pub(crate) use making::over_earlier;
pub(crate) use manifest::{Area, Entry as Held, Sort as HeldSort, stays_inside};
pub(crate) use reading::{Kept, KeptRef, all, bytes, read};
pub(crate) use staged::{Entry as Staged, Flag, GITLINK};

/// How the messages of the commits begin that are made here, and that of one of uncommitted work.
pub(crate) const OWN_SUBJECT: &str = "gitspool: ";
pub(crate) const SUBJECT: &str = "gitspool: uncommitted work";
pub(crate) const OTHER_SUBJECT: &str = "gitspool: other work";
const STAGED_SUBJECT: &str = "gitspool: staged work";
const RECORD_SUBJECT: &str = "gitspool: what no tree holds";

/// What the record's tree has.
const RECORD: &str = "record.json";
const MANIFEST: &str = "manifest";
const INDEX: &str = "index";
const BLOBS: &str = "blobs";
const STAGES: &str = "stages";

/// How many lines of `git status` a summary has.
const SUMMARY_LINES_MAX: usize = 20;

/// How many parents a commit gets at most.
const PARENTS_MAX: usize = 500;

/// The worktree that is looked at.
pub(crate) struct Place<'a> {
    pub(crate) run: RunId,
    pub(crate) common: &'a Path,
    /// The worktree's administrative folder.
    pub(crate) admin: &'a Path,
    pub(crate) root: &'a Path,
    /// The short name of the branch that was made for it.
    pub(crate) branch: &'a str,
    /// The stashes that there were before it was made.
    pub(crate) stashes: HashSet<String>,
    /// When it had been checked out.
    pub(crate) made_at: Option<Timestamp>,
    /// The commit that was checked out first.
    pub(crate) base: ObjectId,
    /// The commits that may be the head when `HEAD` itself leads nowhere, the best first.
    pub(crate) fallback: Vec<ObjectId>,
    /// What an earlier look has kept.
    pub(crate) earlier: Option<ObjectId>,
    /// Whether the worktree is to go: then also what changes seldom is kept, such as submodules.
    pub(crate) goes: bool,
    /// Whether what git ignores is kept too.
    pub(crate) ignored: bool,
    /// How many bytes are kept at most, of what git does not have.
    pub(crate) bytes_max: u64,
}

/// What lies in a worktree.
pub(crate) struct Found {
    pub(crate) head: ObjectId,
    /// Whether a branch holds the head.
    pub(crate) on_branch: bool,
    pub(crate) dirty: bool,
    pub(crate) summary: Option<String>,
    /// What the commit cannot hold, so that the worktree must stay.
    pub(crate) blockers: Vec<Blocker>,
    /// The commit of what no commit of the agent has, or nothing names; no ref holds it yet.
    pub(crate) uncommitted: Option<ObjectId>,
    /// By this it is seen whether anything has changed since.
    pub(crate) fingerprint: [u8; 32],
    /// What all of it takes of the disk.
    pub(crate) disk_bytes: u64,
}

/// What is kept beside the files, for whoever restores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) run: RunId,
    /// Where `HEAD` stood, if it was on a branch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) branch: Option<String>,
    /// The commit that was checked out first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) base: Option<String>,
    /// The tree of the index, where that had no conflicts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) staged: Option<String>,
    /// The stashes, the oldest first: commit and message.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) stashes: Vec<(String, String)>,
    /// The commits that nothing else names, stashes among them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) commits: Vec<String>,
}

/// One line of `git status`.
struct Entry {
    code: String,
    path: Vec<u8>,
}

/// What git tells of a worktree, and what lies there.
#[derive(Default)]
struct Seen {
    entries: Vec<Entry>,
    indexed: Vec<Staged>,
    content: content::Content,
    /// Git could not be asked: nothing counts as unchanged.
    blind: bool,
}

/// Whether a file in the administrative folder is the agent's: not ours, and not one that a new worktree has anew.
fn is_admin_file(below: &Path) -> bool {
    let first =
        below.components().next().map(|part| part.as_os_str().as_bytes().to_vec()).unwrap_or_default();
    let is_anew = matches!(&first[..], b"index" | b"commondir" | b"gitdir" | b"locked");
    let is_lock = below.extension().is_some_and(|end| end == "lock");
    !is_anew && !is_lock && !first.starts_with(b"sharedindex.") && !first.starts_with(b"gitspool-")
}

/// Looks at a worktree whose agent has ended, and makes a commit of what is not committed. Changes nothing there.
pub(crate) fn look(place: &Place<'_>, launcher: &Launcher) -> Result<Found, GitError> {
    let repository = Repository::open(place.common)?;
    let (head, branch) = head_of(place, &repository)?;
    let mut blockers = blockers::unfinished(place.admin);
    let private = make_private(place.admin, head)?;
    let mut seen = Seen { indexed: read_index(&private, &mut blockers)?, ..Seen::default() };
    let is_there = store::is_real_folder(place.root);
    if is_there {
        see(place, launcher, &private, &mut seen, &mut blockers)?;
    } else if store::exists(place.root) {
        let what = "the worktree's folder was replaced by something else".to_owned();
        blockers.push(blockers::blocker(BlockerKind::Replaced, what));
    }
    let making = making::Making {
        place,
        launcher,
        repository: &repository,
        private: &private,
        head,
        branch,
        is_there,
    };
    let made = making.commit(&mut seen, &mut blockers)?;
    store::remove_tree(&private)?;
    let dirty =
        !seen.entries.is_empty() || !blockers.is_empty() || made.is_some_and(|made| made.is_uncommitted);
    let summary = dirty.then(|| summary(&blockers, &seen.entries)).filter(|summary| !summary.is_empty());
    let on_branch = making.branch.is_some_and(|branch| branch.starts_with("refs/heads/"));
    let uncommitted = made.map(|made| made.commit);
    let content::Content { fingerprint, disk_bytes, .. } = seen.content;
    Ok(Found { head, on_branch, dirty, summary, blockers, uncommitted, fingerprint, disk_bytes })
}

/// Asks git what has changed and what is ignored, and looks at all that lies there.
fn see(
    place: &Place<'_>,
    launcher: &Launcher,
    private: &Path,
    seen: &mut Seen,
    blockers: &mut Vec<Blocker>,
) -> Result<(), GitError> {
    seen.content = content::of(place.root);
    // Git would wait for the writer of a fifo with such a name, and follow a link.
    let read_by_git = [&b".gitignore"[..], b".gitattributes", b".gitmodules"];
    let is_trap = |lying: &&content::Lying| {
        let name = lying.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let is_none =
            !matches!(lying.kind, content::Kind::File | content::Kind::Folder | content::Kind::Link);
        is_none && read_by_git.contains(&name)
    };
    if let Some(trap) = seen.content.lying.iter().find(is_trap) {
        let what = format!("{} is no file, so git cannot be asked what it ignores", shown(&trap.path));
        blockers.push(blockers::blocker(BlockerKind::Unreadable, what));
        seen.blind = true;
    } else {
        let all = status(launcher, private, place.root)?;
        let (ignored, entries): (Vec<_>, Vec<_>) = all.into_iter().partition(|entry| entry.code == "!!");
        if !place.ignored {
            let bare = |entry: Entry| entry.path.strip_suffix(b"/").unwrap_or(&entry.path).to_vec();
            seen.content.without(&ignored.into_iter().map(bare).collect());
        }
        let intended = entries.iter().filter(|entry| entry.code == " A").map(|entry| &entry.path[..]);
        staged::mark(&mut seen.indexed, &intended.collect());
        seen.entries = entries;
    }
    for path in &seen.content.unreadable {
        let what = format!("{} cannot be read", shown(path));
        blockers.push(blockers::blocker(BlockerKind::Unreadable, what));
    }
    Ok(())
}

/// The worktree's head, and the full name of its branch. When `HEAD` leads nowhere (its branch was deleted), the log of
/// `HEAD` says where it was last.
fn head_of(place: &Place<'_>, repository: &Repository) -> Result<(ObjectId, Option<String>), GitError> {
    // An error is an answer here: what the agent made of its HEAD must not keep us from saving its work.
    if let Ok(head) = Repository::open(place.admin).and_then(|worktree| worktree.head())
        && let Some(commit) = head.commit
        && repository.commit(commit).is_some()
    {
        return Ok((commit, head.branch));
    }
    let log = store::read_if_there(&place.admin.join("logs").join("HEAD"))?.unwrap_or_default();
    let logged = log.rsplit(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(1));
    let logged = logged.filter_map(|id| ObjectId::from_hex(id).ok());
    let mut candidates = logged.chain(place.fallback.iter().copied());
    let found = candidates.find(|id| repository.commit(*id).is_some());
    found.map(|id| (id, None)).ok_or_else(|| GitError::Repository {
        action: "find the commit of HEAD".to_owned(),
        repository: place.admin.to_owned(),
        said: "neither HEAD nor its log names a commit".to_owned(),
    })
}

/// Makes the private folder: `HEAD` detached at `head`, and a copy of the index.
fn make_private(admin: &Path, head: ObjectId) -> Result<PathBuf, GitError> {
    let private = admin.join("gitspool-kept");
    store::remove_tree(&private)?;
    store::make_one_dir(&private)?;
    store::create_new(&private.join("HEAD"), format!("{head}\n").as_bytes(), 0o600)?;
    store::create_new(&private.join("commondir"), b"../../..\n", 0o600)?;
    if !copy_index(admin, &private)? {
        git::plumbing(&private, &["read-tree", "HEAD"])?;
    }
    Ok(private)
}

/// Reads the private index; one that git cannot read is replaced by what `HEAD` has.
fn read_index(private: &Path, blockers: &mut Vec<Blocker>) -> Result<Vec<Staged>, GitError> {
    let read = staged::read(private);
    let Err(GitError::Failed { said, .. } | GitError::Unread { said, .. }) = read else { return read };
    let what = format!("its index cannot be read: {}", shown(said.as_bytes()));
    blockers.push(blockers::blocker(BlockerKind::Index, what));
    store::remove(&private.join("index"))?;
    git::plumbing(private, &["read-tree", "HEAD"])?;
    staged::read(private)
}

/// Copies the agent's index over the private one; tells whether there is one.
///
/// With its time: by that git sees which files may have changed in the very moment when the index was written.
fn copy_index(admin: &Path, private: &Path) -> Result<bool, GitError> {
    let parts =
        store::names(admin)?.into_iter().filter(|name| name == "index" || name.starts_with("sharedindex."));
    for name in parts {
        store::remove(&private.join(&name))?;
        store::copy_with_time(&admin.join(&name), &private.join(&name))?;
    }
    Ok(store::exists(&private.join("index")))
}

fn status(launcher: &Launcher, private: &Path, root: &Path) -> Result<Vec<Entry>, GitError> {
    const AS_IT_IS: &[&str] = &[
        // Else a file of the same size and time counts as unchanged.
        "-c",
        "core.trustctime=true",
        "-c",
        "core.checkStat=default",
        "-c",
        "core.fileMode=true",
        "-c",
        "core.symlinks=true",
    ];
    // `--ignore-submodules=all`: else git runs in a repository below, under that one's configuration.
    let options = ["--untracked-files=all", "--ignored=matching", "--ignore-submodules=all", "--no-renames"];
    let arguments = [AS_IT_IS, &["status", "--porcelain=v1", "-z"], &options[..]].concat();
    let said = git::in_worktree(launcher, private, root, &arguments)?;
    let lines = said.split(|byte| *byte == 0).filter_map(|line| line.split_at_checked(3));
    let entry = |(code, path): (&[u8], &[u8])| Entry {
        code: String::from_utf8_lossy(&code[..2]).into_owned(),
        path: path.to_vec(),
    };
    Ok(lines.map(entry).collect())
}

/// Notes first, then the first lines of the status.
fn summary(blockers: &[Blocker], entries: &[Entry]) -> String {
    let mut lines: Vec<String> =
        blockers.iter().take(SUMMARY_LINES_MAX).map(|blocker| blocker.what.clone()).collect();
    lines.extend(
        entries.iter().map(|entry| format!("{} {}", entry.code, shown(&entry.path))).take(SUMMARY_LINES_MAX),
    );
    let rest = blockers.len() + entries.len() - lines.len();
    if rest > 0 {
        lines.push(format!("... and {rest} more"));
    }
    lines.join("\n")
}

/// A path as one line of text that no terminal obeys.
pub(crate) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.chars()
        .flat_map(|c| if matches!(c, '"' | '\'') { vec![c] } else { c.escape_debug().collect() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_few_lines_and_says_how_many_it_left_out() {
        let entries: Vec<_> =
            (0..30).map(|n| Entry { code: "??".to_owned(), path: format!("a\n{n}").into_bytes() }).collect();
        let merge = blockers::blocker(BlockerKind::Unfinished, "an unfinished merge (MERGE_HEAD)".to_owned());
        let text = summary(&[merge], &entries);
        assert_eq!(text.lines().count(), 22);
        assert!(text.starts_with("an unfinished merge"), "{text}");
        assert!(text.contains("?? a\\n0") && text.ends_with("... and 10 more"), "{text}");
    }

    #[test]
    fn what_a_new_worktree_has_anew_is_not_the_agents() {
        for (path, expected) in [
            ("index", false),
            ("HEAD", true),
            ("logs/HEAD", true),
            ("gitspool-made.json", false),
            ("locked", false),
            ("index.lock", false),
            ("modules/index", true),
            ("sharedindex.1", false),
            ("rebase-merge/onto", true),
        ] {
            assert_eq!(is_admin_file(Path::new(path)), expected, "{path}");
        }
    }
}
