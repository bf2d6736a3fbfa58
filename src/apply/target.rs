//! The branch that is to be moved, and where it is checked out.

use std::path::{Path, PathBuf};

use gix::ObjectId;

use super::{ApplyError, Place};
use crate::git::{self, Checkout, Repository};
use crate::kept;
use crate::store;
use crate::worktree::{self, branch_ref};

/// A branch, and where it stands.
pub(super) struct Target {
    /// Its short name.
    pub(super) branch: String,
    pub(super) tip: ObjectId,
    pub(super) stand: Stand,
}

/// Where a branch is checked out.
pub(super) enum Stand {
    Nowhere,
    At(Checkout),
    /// Somewhere where it cannot be moved, for this reason.
    Fixed(String),
}

impl Target {
    /// Finds the branch called `onto`, or the one that is checked out at `top`.
    pub(super) fn find(
        place: &Place,
        onto: Option<&str>,
        top: Option<PathBuf>,
    ) -> Result<Target, ApplyError> {
        let branch = match onto {
            Some(onto) => onto.strip_prefix("refs/heads/").unwrap_or(onto).to_owned(),
            None => {
                let top = top.unwrap_or_else(|| place.common.clone());
                let head = git::find(&top)?.map(|(repository, _)| repository.head()).transpose()?;
                let branch = head.and_then(|head| head.branch);
                let branch = branch.as_deref().and_then(|branch| branch.strip_prefix("refs/heads/"));
                branch.ok_or(ApplyError::Detached(top))?.to_owned()
            }
        };
        Target::of(place, &branch)
    }

    pub(super) fn of(place: &Place, branch: &str) -> Result<Target, ApplyError> {
        if !git::is_branch_name(branch) {
            return Err(ApplyError::BranchName(branch.to_owned()));
        }
        let Some(tip) = place.now()?.ref_value(&branch_ref(branch))? else {
            return Err(ApplyError::NoBranch { branch: branch.to_owned(), repository: place.common.clone() });
        };
        let stand = stand(place, &branch_ref(branch))?;
        Ok(Target { branch: branch.to_owned(), tip, stand })
    }
}

fn stand(place: &Place, branch: &str) -> Result<Stand, ApplyError> {
    let mut tops: Vec<PathBuf> = Vec::new();
    for (top, of) in git::standing(&place.common)? {
        if of.as_deref() == Some(branch) {
            tops.push(top);
        }
    }
    let told = store::read_if_there(&place.common.join(branch))?.unwrap_or_default();
    if told.starts_with(b"ref:") {
        return Ok(Stand::Fixed("it is only another name of a branch".to_owned()));
    }
    let worktrees = place.common.join("worktrees");
    let folders = store::names(&worktrees)?.into_iter().map(|name| worktrees.join(name));
    for git_dir in folders.chain([place.common.clone()]) {
        if let Some(what) = is_rewritten(&git_dir, branch)? {
            return Ok(Stand::Fixed(format!("{what} of it is half done ({})", git_dir.display())));
        }
    }
    match &tops[..] {
        [] => Ok(Stand::Nowhere),
        [top] => at(place, top),
        [one, other, ..] => {
            Ok(Stand::Fixed(format!("it is checked out twice: {} and {}", one.display(), other.display())))
        }
    }
}

/// What is half done with a branch from which `HEAD` was taken away meanwhile.
fn is_rewritten(git_dir: &Path, branch: &str) -> Result<Option<&'static str>, ApplyError> {
    let short = branch.strip_prefix("refs/heads/").unwrap_or(branch);
    for (file, what) in [
        ("rebase-merge/head-name", "a rebase"),
        ("rebase-apply/head-name", "a rebase"),
        ("BISECT_START", "a bisection"),
    ] {
        let told = store::read_if_there(&git_dir.join(file))?.unwrap_or_default();
        let told = told.trim_ascii_end();
        if told == branch.as_bytes() || told == short.as_bytes() {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

fn at(place: &Place, top: &Path) -> Result<Stand, ApplyError> {
    let Ok(top) = top.canonicalize() else {
        return Ok(Stand::Fixed(format!(
            "the worktree {} in which it is checked out is gone",
            top.display()
        )));
    };
    let found = git::find(&top)?.and_then(|(repository, at)| Some((repository, at?.canonicalize().ok()?)));
    let Some((repository, _)) = found.filter(|(_, at)| *at == top) else {
        return Ok(Stand::Fixed(format!("its checkout {} cannot be found", top.display())));
    };
    let git_dir = |repository: &Repository| repository.git_dir().canonicalize();
    let git_dir = store::at("look at", repository.git_dir(), git_dir(&repository))?;
    if worktree::is_of_a_run(&git_dir) {
        return Ok(Stand::Fixed(format!("it is checked out in a run's worktree, {}", top.display())));
    }
    if !git_dir.starts_with(&place.common) {
        return Ok(Stand::Fixed(format!("its checkout {} is of another repository", top.display())));
    }
    if let Some(unfinished) = kept::unfinished(&git_dir).first() {
        return Ok(Stand::Fixed(format!("there is {} in {}", unfinished.what, top.display())));
    }
    Ok(Stand::At(Checkout { top, git_dir }))
}
