//! Makes the commit of what a worktree has, and of what else would be lost with it.

use std::collections::BTreeMap;
use std::path::Path;

use gix::ObjectId;

use super::files::{self, Kept};
use super::staged::{self, Entry as Staged};
use super::{
    BLOBS, INDEX, MANIFEST, OTHER_SUBJECT, PARENTS_MAX, Place, RECORD, RECORD_SUBJECT, Record,
    STAGED_SUBJECT, STAGES, SUBJECT, Seen, blockers, commits, manifest, shown,
};
use crate::git::{self, GitError, Launcher, Repository, Sort};
use crate::workspace::{Blocker, BlockerKind};

/// What it is made of.
pub(super) struct Making<'a> {
    pub(super) place: &'a Place<'a>,
    pub(super) launcher: &'a Launcher,
    pub(super) repository: &'a Repository,
    pub(super) private: &'a Path,
    pub(super) head: ObjectId,
    /// The full name of `HEAD`'s branch.
    pub(super) branch: Option<String>,
    /// Whether the worktree is there.
    pub(super) is_there: bool,
}

/// What was made.
#[derive(Clone, Copy)]
pub(super) struct Made {
    pub(super) commit: ObjectId,
    /// Whether it has what was not committed, and not only what is named nowhere else.
    pub(super) is_uncommitted: bool,
}

impl Making<'_> {
    /// Makes the commit; `None` when there is nothing to keep.
    pub(super) fn commit(
        &self,
        seen: &mut Seen,
        blockers: &mut Vec<Blocker>,
    ) -> Result<Option<Made>, GitError> {
        let head_tree = self.repository.commit(self.head).map(|commit| commit.tree);
        let is_unmerged = seen.indexed.iter().any(|entry| entry.stage > 0);
        // An index with conflicts is no tree.
        let staged = if is_unmerged { None } else { self.staged_tree(blockers)? };
        let kept = if self.is_there { files::keep(self, seen, blockers)? } else { Kept::default() };
        let info = kept.info();
        let tree = match (info.is_empty(), staged) {
            (true, Some(staged)) => staged,
            (true, None) if !self.is_there && is_unmerged => head_tree.unwrap_or(self.head),
            (true | false, _) => {
                self.update_index(&info)?;
                write_tree(self.private)?
            }
        };
        let is_uncommitted =
            Some(tree) != head_tree || is_unmerged || staged.is_some_and(|staged| Some(staged) != head_tree);
        let stashes = commits::stashes_of(self.place);
        let tips = commits::tips(self.place, self.private, self.head, &stashes)?;
        if !is_uncommitted && tips.is_empty() && !kept.holds_content {
            return Ok(None);
        }
        let mut parents = vec![self.head];
        if let Some(staged) = staged.filter(|staged| *staged != tree && Some(*staged) != head_tree) {
            parents.push(commit_tree(self.place, staged, &[self.head], STAGED_SUBJECT)?);
        }
        let record = Record {
            format: 1,
            run: self.place.run,
            branch: self.branch.clone(),
            base: Some(self.place.base.to_string()),
            staged: staged.map(|staged| staged.to_string()),
            stashes: stashes.into_iter().map(|(id, said)| (id.to_string(), said)).collect(),
            commits: tips.iter().map(ToString::to_string).collect(),
        };
        parents.push(self.record(&record, &kept, &seen.indexed, tips)?);
        let subject = if is_uncommitted { SUBJECT } else { OTHER_SUBJECT };
        let commit = over_earlier(self.place, self.repository, tree, parents, subject)?;
        Ok(Some(Made { commit, is_uncommitted }))
    }

    /// The tree of the index; `None` when it names what is not there.
    fn staged_tree(&self, blockers: &mut Vec<Blocker>) -> Result<Option<ObjectId>, GitError> {
        match write_tree(self.private) {
            Ok(tree) => Ok(Some(tree)),
            Err(GitError::Failed { said, .. }) => {
                let what = format!("its index is no tree: {}", shown(said.as_bytes()));
                blockers.push(blockers::blocker(BlockerKind::Index, what));
                git::plumbing(self.private, &["read-tree", "HEAD"])?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn update_index(&self, info: &[u8]) -> Result<(), GitError> {
        // Which names no tree can hold is decided here, and for every system.
        let arguments = [
            "-c",
            "core.protectNTFS=false",
            "-c",
            "core.protectHFS=false",
            "update-index",
            "-z",
            "--index-info",
        ];
        git::plumbing_of(self.private, &arguments, info).map(drop)
    }

    /// The commit of what no tree holds.
    fn record(
        &self,
        record: &Record,
        kept: &Kept,
        indexed: &[Staged],
        mut tips: Vec<ObjectId>,
    ) -> Result<ObjectId, GitError> {
        let blob = |bytes: &[u8]| self.repository.write_blob(bytes.len() as u64, &mut &bytes[..]);
        let json = serde_json::to_vec_pretty(record).expect("because a record has string keys");
        let mut entries = vec![
            (RECORD.into(), Sort::File, blob(&json)?),
            (MANIFEST.into(), Sort::File, blob(&manifest::text(&kept.held))?),
            (INDEX.into(), Sort::File, blob(&staged::text(indexed))?),
        ];
        let blobs: BTreeMap<String, ObjectId> =
            kept.held.iter().filter_map(|held| held.blob).map(|id| (id.to_string(), id)).collect();
        if !blobs.is_empty() {
            let named = blobs.into_iter().map(|(name, id)| (name.into_bytes(), Sort::File, id)).collect();
            entries.push((BLOBS.into(), Sort::Folder, self.repository.write_tree(named)?));
        }
        let stages = self.stages(indexed)?;
        if !stages.is_empty() {
            entries.push((STAGES.into(), Sort::Folder, self.repository.write_tree(stages)?));
        }
        let tree = self.repository.write_tree(entries)?;
        while tips.len() > PARENTS_MAX {
            let together = |tips: &[ObjectId]| commit_tree(self.place, tree, tips, RECORD_SUBJECT);
            tips = tips.chunks(PARENTS_MAX).map(together).collect::<Result<_, _>>()?;
        }
        commit_tree(self.place, tree, &tips, RECORD_SUBJECT)
    }

    /// A tree for each side of the index's conflicts, so that nothing that they name goes.
    fn stages(&self, indexed: &[Staged]) -> Result<Vec<(Vec<u8>, Sort, ObjectId)>, GitError> {
        let mut trees = Vec::new();
        for stage in 1..=3 {
            let side = indexed.iter().filter(|entry| entry.stage == stage);
            let info: Vec<u8> = side.flat_map(|entry| [entry.info(0), vec![0]].concat()).collect();
            if !info.is_empty() {
                git::plumbing(self.private, &["read-tree", "--empty"])?;
                self.update_index(&info)?;
                trees.push((stage.to_string().into_bytes(), Sort::Folder, write_tree(self.private)?));
            }
        }
        Ok(trees)
    }
}

fn write_tree(private: &Path) -> Result<ObjectId, GitError> {
    git::object_of(private, &["write-tree"])
}

/// A commit of `tree` that also holds what was kept earlier; the earlier one itself when it is the same.
pub(crate) fn over_earlier(
    place: &Place<'_>,
    repository: &Repository,
    tree: ObjectId,
    mut parents: Vec<ObjectId>,
    subject: &str,
) -> Result<ObjectId, GitError> {
    let tree_of = |id: &ObjectId| repository.commit(*id).map(|commit| commit.tree);
    if let Some(earlier) = place.earlier {
        let same = repository.commit(earlier).is_some_and(|commit| {
            let others: Vec<_> = commit.parents.iter().skip(1).map(tree_of).collect();
            commit.tree == tree
                && commit.parents.first() == parents.first()
                && parents.iter().skip(1).all(|parent| others.contains(&tree_of(parent)))
        });
        if same {
            return Ok(earlier);
        }
        if !git::is_within(place.common, earlier, parents[0])? {
            parents.push(earlier);
        }
    }
    commit_tree(place, tree, &parents, subject)
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
