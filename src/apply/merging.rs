//! The merge, as commits that no ref has yet: made apart from any checkout, and looked at.

use std::collections::BTreeSet;

use gix::ObjectId;

use super::delivery::Work;
use super::target::Target;
use super::{ApplyError, Place, shown};
use crate::applied::How;
use crate::git::{self, Apart, GitError, Identity, Merged};

/// What came of it.
pub(super) enum Made {
    Commit(ObjectId),
    /// The branch has all of it already.
    Nothing,
    Conflicts {
        paths: Vec<String>,
        said: Vec<String>,
    },
}

/// Merges a result with a branch's tip.
pub(super) fn make(
    place: &Place,
    result: &Work,
    target: &Target,
    how: How,
    message: &str,
) -> Result<Made, ApplyError> {
    if is_there(place, result.base, result.tip, target.tip)? {
        return Ok(Made::Nothing);
    }
    let apart = Apart::make(&place.common, place.scratch.clone())?;
    let made = match how {
        How::Rebase => on_top(place, &apart, result, target.tip),
        How::Squash | How::Merge | How::Undo => at_once(place, &apart, result, target.tip, how, message),
    };
    apart.remove()?;
    let made = made?;
    if let Made::Commit(commit) = made {
        verify(place, result, target, commit)?;
    }
    Ok(made)
}

/// Takes one change back from a branch: what lies between `after` and `before`, which it had.
pub(super) fn revert(
    place: &Place,
    [before, after]: [ObjectId; 2],
    tip: ObjectId,
    message: &str,
) -> Result<Made, ApplyError> {
    let apart = Apart::make(&place.common, place.scratch.clone())?;
    let merged = apart.merge(Some(after), tip, before);
    apart.remove()?;
    match merged? {
        Merged::Conflicts { paths, said } => Ok(Made::Conflicts { paths: shown(paths), said }),
        Merged::Clean(tree) if Some(tree) == tree_of(place, tip) => Ok(Made::Nothing),
        Merged::Clean(tree) => {
            let who = Identity::of_user(&place.common)?;
            Ok(Made::Commit(git::write_commit(&place.common, [&who, &who], tree, &[tip], message)?))
        }
    }
}

/// Whether a branch has each file that the result changed as the result has it.
fn is_there(place: &Place, base: ObjectId, result: ObjectId, tip: ObjectId) -> Result<bool, GitError> {
    let of_result = git::changed(&place.common, base, result)?;
    Ok(of_result.is_disjoint(&git::changed(&place.common, result, tip)?))
}

fn tree_of(place: &Place, commit: ObjectId) -> Option<ObjectId> {
    place.repository.commit(commit).map(|commit| commit.tree)
}

/// From where a result counts: its own base, unless both have come further together, as when it has merged the branch itself.
/// `None` when there are several such commits: git then makes one of them.
fn base_of(place: &Place, result: &Work, tip: ObjectId) -> Result<Option<ObjectId>, GitError> {
    let bases = git::bases(&place.common, tip, result.head)?;
    for base in &bases {
        if !git::is_within(&place.common, result.base, *base)? {
            return Ok(Some(result.base));
        }
    }
    match bases[..] {
        [] => Ok(Some(result.base)),
        [one] => Ok(Some(one)),
        _ => Ok(None),
    }
}

fn at_once(
    place: &Place,
    apart: &Apart,
    result: &Work,
    tip: ObjectId,
    how: How,
    message: &str,
) -> Result<Made, ApplyError> {
    let base = base_of(place, result, tip)?;
    match apart.merge(base, tip, result.tip)? {
        Merged::Conflicts { paths, said } => Ok(Made::Conflicts { paths: shown(paths), said }),
        Merged::Clean(tree) => {
            let who = Identity::of_user(&place.common)?;
            let parents = if how == How::Merge { vec![tip, result.tip] } else { vec![tip] };
            Ok(Made::Commit(git::write_commit(&place.common, [&who, &who], tree, &parents, message)?))
        }
    }
}

/// Puts the commits of a result on top of a branch one by one, with their authors; merges among them are left out, as are those
/// that change nothing there.
fn on_top(place: &Place, apart: &Apart, result: &Work, tip: ObjectId) -> Result<Made, ApplyError> {
    let who = Identity::of_user(&place.common)?;
    let mut onto = tip;
    for commit in git::line_of(&place.common, result.base, result.tip)? {
        let Some(own) = place.now()?.commit(commit) else { continue };
        // What the branch has already is not done once more.
        if git::is_within(&place.common, commit, tip)? {
            continue;
        }
        let parent = own.parents.first().copied().unwrap_or(result.base);
        match apart.merge(Some(parent), onto, commit)? {
            Merged::Conflicts { paths, mut said } => {
                said.insert(0, format!("in {commit}, {}", own.message.lines().next().unwrap_or_default()));
                return Ok(Made::Conflicts { paths: shown(paths), said });
            }
            Merged::Clean(tree) if place.now()?.commit(onto).map(|commit| commit.tree) == Some(tree) => {}
            Merged::Clean(tree) => {
                let author = Identity::of_author(&place.common, commit)?;
                onto = git::write_commit(&place.common, [&author, &who], tree, &[onto], &own.message)?;
            }
        }
    }
    Ok(Made::Commit(onto))
}

/// Looks whether the merge has what it must: something, all that only the result changed, and every object.
fn verify(place: &Place, result: &Work, target: &Target, commit: ObjectId) -> Result<(), ApplyError> {
    let changed = |one, other| git::changed(&place.common, one, other);
    let of_result = changed(result.base, result.tip)?;
    let landed = changed(target.tip, commit)?;
    if landed.is_empty() {
        let (files, branch) = (of_result.len(), target.branch.clone());
        return Err(ApplyError::LandsNothing { files, branch });
    }
    let of_branch = changed(result.base, target.tip)?;
    let of_merge = changed(result.base, commit)?;
    let alone: BTreeSet<&Vec<u8>> = of_result.difference(&of_branch).collect();
    let lost: Vec<Vec<u8>> = alone.into_iter().filter(|path| !of_merge.contains(*path)).cloned().collect();
    if !lost.is_empty() {
        return Err(ApplyError::Lost(shown(lost)));
    }
    match git::missing(&place.common, [commit].into_iter(), target.tip)? {
        Some(missing) => Err(ApplyError::NotWhole { run: place.run, what: missing }),
        None => Ok(()),
    }
}
