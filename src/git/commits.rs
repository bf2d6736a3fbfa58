//! Commits: what a name means, and what lies between two.

use std::collections::BTreeSet;
use std::path::Path;

use gix::ObjectId;

use super::{GitError, object_of, plumbing, unread};

/// Resolves what a user wrote to a commit; `None` when it is none.
pub(crate) fn resolve(git_dir: &Path, revision: &str) -> Result<Option<ObjectId>, GitError> {
    let wanted = format!("{revision}^{{commit}}");
    match object_of(git_dir, &["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]) {
        // With `--quiet`, silence means that there is no such commit; whatever else went wrong is said.
        Err(GitError::Failed { said, .. }) if said.is_empty() => Ok(None),
        other => other.map(Some),
    }
}

/// The number of commits that `head` has and `base` has not.
pub(crate) fn count_commits(git_dir: &Path, base: ObjectId, head: ObjectId) -> Result<u64, GitError> {
    let said = plumbing(git_dir, &["rev-list", "--count", &format!("{base}..{head}")])?;
    let text = String::from_utf8_lossy(&said);
    text.trim().parse().map_err(|_| unread("rev-list".to_owned(), &said))
}

/// What changed between two commits: files, lines added, lines removed.
pub(crate) fn diff_stat(git_dir: &Path, base: ObjectId, head: ObjectId) -> Result<[u64; 3], GitError> {
    let (base, head) = (base.to_string(), head.to_string());
    // `diff-tree`, not `diff`: it does not obey what `diff.*` of the configuration says.
    let options = ["diff-tree", "-r", "--find-renames", "--shortstat", "--no-ext-diff", "--no-textconv"];
    let said = plumbing(git_dir, &[&options[..], &[&base, &head]].concat())?;
    read_stat(&String::from_utf8_lossy(&said)).ok_or_else(|| unread("diff-tree".to_owned(), &said))
}

/// Reads ` 3 files changed, 10 insertions(+), 2 deletions(-)`, of which each part may be absent.
fn read_stat(text: &str) -> Option<[u64; 3]> {
    let mut stat = [0; 3];
    for part in text.trim().split(", ").filter(|part| !part.is_empty()) {
        let (number, what) = part.split_once(' ')?;
        let at = ["file", "insertion", "deletion"].iter().position(|word| what.starts_with(word))?;
        stat[at] = number.parse().ok()?;
    }
    Some(stat)
}

/// What is missing of commits, their trees and their files that `base` does not have; `None` when nothing is.
pub(crate) fn missing(
    git_dir: &Path,
    commits: impl Iterator<Item = ObjectId>,
    base: ObjectId,
) -> Result<Option<String>, GitError> {
    let commits = commits.map(|commit| commit.to_string()).chain([format!("^{base}")]);
    let arguments: Vec<String> =
        ["rev-list", "--objects", "--quiet"].map(ToOwned::to_owned).into_iter().chain(commits).collect();
    match plumbing(git_dir, &arguments) {
        Ok(_) => Ok(None),
        Err(GitError::Failed { said, .. }) => Ok(Some(said)),
        Err(error) => Err(error),
    }
}

/// Whether `ancestor` is `commit` or one of its ancestors.
pub(crate) fn is_within(git_dir: &Path, ancestor: ObjectId, commit: ObjectId) -> Result<bool, GitError> {
    let said =
        plumbing(git_dir, &["rev-list", "--max-count=1", &ancestor.to_string(), &format!("^{commit}")])?;
    Ok(said.is_empty())
}

/// The best commits that both have among their ancestors.
pub(crate) fn bases(git_dir: &Path, one: ObjectId, other: ObjectId) -> Result<Vec<ObjectId>, GitError> {
    match plumbing(git_dir, &["merge-base", "--all", &one.to_string(), &other.to_string()]) {
        // Silence means that there is none.
        Err(GitError::Failed { said, .. }) if said.is_empty() => Ok(Vec::new()),
        other => ids("merge-base", &other?),
    }
}

/// The commits that `head` has and `base` has not, but for merges, the first one first.
pub(crate) fn line_of(git_dir: &Path, base: ObjectId, head: ObjectId) -> Result<Vec<ObjectId>, GitError> {
    let range = format!("{base}..{head}");
    ids("rev-list", &plumbing(git_dir, &["rev-list", "--reverse", "--topo-order", "--no-merges", &range])?)
}

/// The first lines of the messages of these commits.
pub(crate) fn subjects(git_dir: &Path, base: ObjectId, head: ObjectId) -> Result<Vec<String>, GitError> {
    let range = format!("{base}..{head}");
    let options =
        ["rev-list", "--reverse", "--topo-order", "--no-merges", "--no-commit-header", "--format=%s"];
    let said = plumbing(git_dir, &[&options[..], &[&range]].concat())?;
    Ok(String::from_utf8_lossy(&said).lines().map(ToOwned::to_owned).collect())
}

fn ids(command: &str, said: &[u8]) -> Result<Vec<ObjectId>, GitError> {
    let text = String::from_utf8_lossy(said);
    let ids: Result<Vec<_>, _> = text.lines().map(|line| ObjectId::from_hex(line.as_bytes())).collect();
    ids.map_err(|_| unread(command.to_owned(), said))
}

/// The files that `other` has otherwise than `one`, or `one` has not: path, mode and blob; no links.
pub(crate) fn files_changed(
    git_dir: &Path,
    one: ObjectId,
    other: ObjectId,
) -> Result<Vec<(Vec<u8>, String, ObjectId)>, GitError> {
    let (one, other) = (one.to_string(), other.to_string());
    let options = ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", &one, &other];
    let said = plumbing(git_dir, &options)?;
    let words: Vec<&[u8]> = said.split(|byte| *byte == 0).collect();
    let mut found = Vec::new();
    for pair in words.chunks_exact(2) {
        let line = String::from_utf8_lossy(pair[0]).into_owned();
        let parts: Vec<&str> = line.split(' ').collect();
        let [_, mode, _, blob, _] = parts[..] else { return Err(unread("diff-tree".to_owned(), pair[0])) };
        if mode.starts_with("100") {
            let blob = ObjectId::from_hex(blob.as_bytes());
            let blob = blob.map_err(|_| unread("diff-tree".to_owned(), pair[0]))?;
            found.push((pair[1].to_vec(), mode.to_owned(), blob));
        }
    }
    Ok(found)
}

/// The paths that `other` has and `one` has not.
pub(crate) fn added(git_dir: &Path, one: ObjectId, other: ObjectId) -> Result<BTreeSet<Vec<u8>>, GitError> {
    differing(git_dir, one, other, &["--diff-filter=A"])
}

/// The paths of files that two commits, or trees, have otherwise.
pub(crate) fn changed(git_dir: &Path, one: ObjectId, other: ObjectId) -> Result<BTreeSet<Vec<u8>>, GitError> {
    differing(git_dir, one, other, &[])
}

fn differing(
    git_dir: &Path,
    one: ObjectId,
    other: ObjectId,
    more: &[&str],
) -> Result<BTreeSet<Vec<u8>>, GitError> {
    let (one, other) = (one.to_string(), other.to_string());
    let options = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv"];
    // What of a submodule is recorded counts, whatever is configured.
    let options = [&options[..], more, &["--ignore-submodules=none", &one, &other]].concat();
    let said = plumbing(git_dir, &options)?;
    Ok(said.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_stat_is_read_whatever_part_is_absent() {
        assert_eq!(read_stat(" 3 files changed, 10 insertions(+), 2 deletions(-)\n"), Some([3, 10, 2]));
        assert_eq!(read_stat(" 1 file changed, 1 deletion(-)\n"), Some([1, 0, 1]));
        assert_eq!(read_stat(""), Some([0, 0, 0]));
        assert_eq!(read_stat("nonsense"), None);
    }
}
