//! What is kept of a worktree: all that its commits do not have, as one commit that nothing of the agent's points at.
//!
//! The commit's first parent is the worktree's `HEAD`, its tree is the files as they lie there, byte for byte; what was
//! staged and then changed again is a second parent. It is made in a private folder inside the worktree's administrative
//! folder, with a copy of the index and a `HEAD` of its own, so that git touches neither the agent's index nor its
//! `HEAD`, and needs no environment for it.
//!
//! Weak: what an ignored file holds is not kept, nor commits that only the reflog still names.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use walkdir::WalkDir;

use crate::git::{self, GitError, Launcher, Repository};
use crate::id::RunId;
use crate::store;

/// How the message of a commit of uncommitted work begins.
pub(crate) const SUBJECT: &str = "gitspool: uncommitted work";

/// How many lines of `git status` a summary has.
const SUMMARY_LINES_MAX: usize = 20;

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

/// The worktree that is looked at.
pub(crate) struct Place<'a> {
    pub(crate) run: RunId,
    pub(crate) common: &'a Path,
    /// The worktree's administrative folder.
    pub(crate) admin: &'a Path,
    pub(crate) root: &'a Path,
    /// The commits that may be the head when `HEAD` itself leads nowhere, the best first.
    pub(crate) fallback: Vec<ObjectId>,
    /// What an earlier look has kept.
    pub(crate) earlier: Option<ObjectId>,
}

/// What lies in a worktree.
pub(crate) struct Found {
    pub(crate) head: ObjectId,
    /// Whether a branch holds the head.
    pub(crate) on_branch: bool,
    pub(crate) dirty: bool,
    pub(crate) summary: Option<String>,
    /// Whether something is there that the commit cannot hold, so that the worktree must stay.
    pub(crate) blocked: bool,
    /// The commit of what was not committed; no ref holds it yet.
    pub(crate) uncommitted: Option<ObjectId>,
}

/// One line of `git status`.
struct Entry {
    code: String,
    path: Vec<u8>,
}

/// Looks at a worktree whose agent has ended, and makes a commit of what is not committed. Changes nothing there.
pub(crate) fn look(place: &Place<'_>, launcher: &Launcher) -> Result<Found, GitError> {
    let repository = Repository::open(place.common)?;
    let (head, on_branch) = head_of(place, &repository)?;
    let private = make_private(place.admin, head)?;
    let is_there = std::fs::symlink_metadata(place.root).is_ok_and(|meta| meta.is_dir());
    let all = if is_there { status(launcher, &private, place.root)? } else { Vec::new() };
    let (ignored, entries): (Vec<_>, Vec<_>) = all.into_iter().partition(|entry| entry.code == "!!");
    let mut notes = unfinished(place.admin);
    if is_there {
        notes.extend(unkeepable(place.root, &ignored)?);
        notes.extend(hidden(&private, place.root)?);
    } else if store::exists(place.root) {
        notes.push("the worktree's folder was replaced by something else".to_owned());
    }
    let dirty = !entries.is_empty() || !notes.is_empty();
    let uncommitted = if dirty || !is_there {
        commit_all(place, &repository, launcher, &private, head, &entries, is_there)?
    } else {
        None
    };
    store::remove_tree(&private)?;
    let summary = dirty.then(|| summary(&notes, &entries));
    let dirty = dirty || uncommitted.is_some();
    Ok(Found { head, on_branch, dirty, summary, blocked: !notes.is_empty(), uncommitted })
}

/// The worktree's head, and whether a branch holds it. When `HEAD` leads nowhere (its branch was deleted), the log of
/// `HEAD` says where it was last.
fn head_of(place: &Place<'_>, repository: &Repository) -> Result<(ObjectId, bool), GitError> {
    // An error is an answer here: what the agent made of its HEAD must not keep us from saving its work.
    if let Ok(head) = Repository::open(place.admin).and_then(|worktree| worktree.head())
        && let Some(commit) = head.commit
        && repository.commit(commit).is_some()
    {
        return Ok((commit, head.branch.is_some_and(|branch| branch.starts_with("refs/heads/"))));
    }
    let log = store::read_if_there(&place.admin.join("logs").join("HEAD"))?.unwrap_or_default();
    let logged = log.rsplit(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(1));
    let logged = logged.filter_map(|id| ObjectId::from_hex(id).ok());
    let mut candidates = logged.chain(place.fallback.iter().copied());
    let found = candidates.find(|id| repository.commit(*id).is_some());
    found.map(|id| (id, false)).ok_or_else(|| GitError::Repository {
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
    let has_index = copy_index(admin, &private)?;
    if !has_index {
        git::plumbing(&private, &["read-tree", "HEAD"])?;
    }
    Ok(private)
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
    // `--ignore-submodules=all`: else git runs in a repository below, under that one's configuration.
    let options = ["--untracked-files=all", "--ignored=matching", "--ignore-submodules=all", "--no-renames"];
    let said = git::in_worktree(
        launcher,
        private,
        root,
        &[&["status", "--porcelain=v1", "-z"], &options[..]].concat(),
    )?;
    let lines = said.split(|byte| *byte == 0).filter_map(|line| line.split_at_checked(3));
    let entry = |(code, path): (&[u8], &[u8])| Entry {
        code: String::from_utf8_lossy(&code[..2]).into_owned(),
        path: path.to_vec(),
    };
    Ok(lines.map(entry).collect())
}

fn unfinished(admin: &Path) -> Vec<String> {
    let there = UNFINISHED.iter().filter(|(name, _)| store::exists(&admin.join(name)));
    there.map(|(name, what)| format!("an unfinished {what} ({name})")).collect()
}

/// What no commit of ours can hold: repositories of their own below the worktree, and folders that we cannot read.
fn unkeepable(root: &Path, ignored: &[Entry]) -> Result<Vec<String>, GitError> {
    let ignored: HashSet<&[u8]> =
        ignored.iter().map(|entry| entry.path.strip_suffix(b"/").unwrap_or(&entry.path)).collect();
    let mut notes = Vec::new();
    let mut walk = WalkDir::new(root).min_depth(1).into_iter();
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(root);
                notes.push(format!("{} cannot be read", shown(path.as_os_str().as_bytes())));
                continue;
            }
        };
        let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let is_git = entry.file_name() == ".git";
        // The worktree's own `.git` is a file; a folder in its place is a repository that the agent made.
        let is_own = is_git && entry.depth() == 1 && !entry.file_type().is_dir();
        let is_ignored = ignored.contains(below.as_os_str().as_bytes());
        if is_git && !is_own {
            let folder =
                below.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            notes.push(format!("{} is a repository of its own", shown(folder.as_os_str().as_bytes())));
        }
        if entry.file_type().is_dir() && (is_git || is_ignored) {
            walk.skip_current_dir();
        }
    }
    Ok(notes)
}

/// Files that git was told to look away from: their changes are in no status and in no commit.
fn hidden(private: &Path, root: &Path) -> Result<Vec<String>, GitError> {
    let said = git::plumbing(private, &["ls-files", "-v", "-z"])?;
    let lines = said.split(|byte| *byte == 0).filter_map(|line| line.split_at_checked(2));
    let is_hidden = |tag: u8, path: &[u8]| {
        let path = root.join(OsString::from_vec(path.to_vec()));
        tag.is_ascii_lowercase() || (tag == b'S' && store::exists(&path))
    };
    let hidden = lines.filter(|(tag, path)| is_hidden(tag[0], path));
    Ok(hidden
        .map(|(_, path)| format!("{} is marked as unchanged, so its changes are unseen", shown(path)))
        .collect())
}

/// Makes the commit of everything that is not committed; `None` when that is nothing.
fn commit_all(
    place: &Place<'_>,
    repository: &Repository,
    launcher: &Launcher,
    private: &Path,
    head: ObjectId,
    entries: &[Entry],
    is_there: bool,
) -> Result<Option<ObjectId>, GitError> {
    let head_tree = repository.commit(head).map(|commit| commit.tree);
    let is_unmerged = |entry: &Entry| entry.code.contains('U') || entry.code == "AA" || entry.code == "DD";
    // An index with conflicts is no tree; their sides are in the commits that are merged, which stay as they are.
    let staged = if entries.iter().any(is_unmerged) { None } else { Some(write_tree(private)?) };
    if is_there {
        // `write-tree` has written the index anew, with a later time, without a look at the files.
        copy_index(place.admin, private)?;
        add_all(launcher, private, place.root, entries)?;
    }
    let tree = write_tree(private)?;
    let staged = staged.filter(|staged| *staged != tree && Some(*staged) != head_tree);
    if Some(tree) == head_tree && staged.is_none() {
        return Ok(None);
    }
    let mut parents = vec![head];
    if let Some(staged) = staged {
        parents.push(commit_tree(place, staged, &[head], "gitspool: staged work")?);
    }
    over_earlier(place, repository, tree, parents).map(Some)
}

fn write_tree(private: &Path) -> Result<ObjectId, GitError> {
    git::object_of(private, &["write-tree"])
}

/// Adds all files to the private index as they lie there, byte for byte.
fn add_all(launcher: &Launcher, private: &Path, root: &Path, entries: &[Entry]) -> Result<(), GitError> {
    const AS_THEY_LIE: &[&str] = &[
        // Attributes are read from the empty tree, so that no filter and no rule for line ends changes what is kept.
        "-c",
        "attr.tree=4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        "-c",
        "core.autocrlf=false",
        "-c",
        "core.safecrlf=false",
        // Else files outside the sparse part are refused.
        "-c",
        "core.sparseCheckout=false",
        // Else an unreadable file is left out.
        "-c",
        "add.ignoreErrors=false",
    ];
    let mut arguments: Vec<OsString> = AS_THEY_LIE.iter().map(OsString::from).collect();
    arguments.extend(["add", "--all", "--", "."].map(OsString::from));
    // Git shows a repository below as one untracked folder; added, it would be a link to a commit that nobody keeps.
    for entry in entries.iter().filter(|entry| entry.code == "??" && entry.path.ends_with(b"/")) {
        let mut pattern = OsString::from(":(exclude,literal)");
        pattern.push(OsString::from_vec(entry.path.clone()));
        arguments.push(pattern);
    }
    git::in_worktree(launcher, private, root, &arguments)?;
    Ok(())
}

/// A commit of `tree` that also holds what was kept earlier; the earlier one itself when it is the same.
pub(crate) fn over_earlier(
    place: &Place<'_>,
    repository: &Repository,
    tree: ObjectId,
    mut parents: Vec<ObjectId>,
) -> Result<ObjectId, GitError> {
    let tree_of = |id: &ObjectId| repository.commit(*id).map(|commit| commit.tree);
    if let Some(earlier) = place.earlier {
        let same = repository.commit(earlier).is_some_and(|commit| {
            let staged: Vec<_> = commit.parents.iter().skip(1).map(tree_of).collect();
            commit.tree == tree
                && commit.parents.first() == parents.first()
                && parents.iter().skip(1).all(|parent| staged.contains(&tree_of(parent)))
        });
        if same {
            return Ok(earlier);
        }
        if !git::is_within(place.common, earlier, parents[0])? {
            parents.push(earlier);
        }
    }
    commit_tree(place, tree, &parents, SUBJECT)
}

fn commit_tree(
    place: &Place<'_>,
    tree: ObjectId,
    parents: &[ObjectId],
    subject: &str,
) -> Result<ObjectId, GitError> {
    let mut arguments = vec!["commit-tree".to_owned(), tree.to_string()];
    arguments.extend(parents.iter().flat_map(|parent| ["-p".to_owned(), parent.to_string()]));
    arguments.extend(["-m".to_owned(), format!("{subject} of run {}", place.run)]);
    git::object_of(place.common, &arguments)
}

/// Notes first, then the first lines of the status.
fn summary(notes: &[String], entries: &[Entry]) -> String {
    let mut lines: Vec<String> = notes.iter().take(SUMMARY_LINES_MAX).cloned().collect();
    lines.extend(
        entries.iter().map(|entry| format!("{} {}", entry.code, shown(&entry.path))).take(SUMMARY_LINES_MAX),
    );
    let rest = notes.len() + entries.len() - lines.len();
    if rest > 0 {
        lines.push(format!("... and {rest} more"));
    }
    lines.join("\n")
}

/// A path as one line of text that no terminal obeys.
fn shown(path: &[u8]) -> String {
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
        let text = summary(&["an unfinished merge (MERGE_HEAD)".to_owned()], &entries);
        assert_eq!(text.lines().count(), 22);
        assert!(text.starts_with("an unfinished merge"), "{text}");
        assert!(text.contains("?? a\\n0") && text.ends_with("... and 10 more"), "{text}");
    }
}
