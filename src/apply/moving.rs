//! Moves a branch from the commit that was read, and with it the checkout in which it is.
//!
//! In a checkout all is done under its `index.lock`, which tells whose it is, and in a copy of its index: first the files, then
//! the branch, which is the commit point, then the index. What a crash leaves between is told by these.

use std::path::Path;

use gix::ObjectId;

use super::checkout::{Held, Holding};
use super::journal::Journal;
use super::target::{Stand, Target};
use super::{ApplyError, Place, id};
use crate::applied::Applied;
use crate::git::{self, Checkout};
use crate::worktree::branch_ref;

/// Whether it was moved.
pub(super) enum Moved {
    Done(Applied),
    /// It stays where it is, for this reason, and nothing was changed.
    Not(String),
}

/// Why the branch could not be moved, if it could not.
pub(super) fn stays(place: &Place, target: &Target, to: ObjectId) -> Result<Option<String>, ApplyError> {
    match &target.stand {
        Stand::Nowhere => Ok(None),
        Stand::Fixed(why) => Ok(Some(why.clone())),
        Stand::At(checkout) => match Held::take(place, checkout)? {
            Holding::Not(why) => Ok(Some(why)),
            Holding::Held(held) => {
                let why = held.check(target.tip, to);
                held.release()?;
                why
            }
        },
    }
}

/// Moves a branch as `applied` says, and tells it.
pub(super) fn carry_out(
    place: &Place,
    journal: &Journal,
    target: &Target,
    applied: Applied,
) -> Result<Moved, ApplyError> {
    let (from, to) = ends(&applied)?;
    let applied = match &target.stand {
        Stand::Fixed(why) => return Ok(Moved::Not(why.clone())),
        Stand::Nowhere => {
            let applied = journal.begin(place, &applied)?;
            let name = branch_ref(&target.branch);
            let moved = place.now()?.set_ref(&name, Some(from), to, &mark(place));
            if moved.is_err() && place.now()?.ref_value(&name)? != Some(from) {
                return Err(ApplyError::MovedMeanwhile { branch: target.branch.clone() });
            }
            moved?;
            applied
        }
        Stand::At(checkout) => {
            let held = match Held::take(place, checkout)? {
                Holding::Not(why) => return Ok(Moved::Not(why)),
                Holding::Held(held) => held,
            };
            match held.check(from, to) {
                Ok(None) => {}
                why => {
                    held.release()?;
                    return why.map(|why| Moved::Not(why.unwrap_or_default()));
                }
            }
            let applied = Applied { checkout: Some(checkout.top.clone()), ..applied };
            let begun = journal.begin(place, &applied);
            let moved = begun.and_then(|applied| {
                held.write(from, to)?;
                move_with_head(place, checkout, &target.branch, from, to)?;
                Ok(applied)
            });
            match moved {
                Ok(applied) => {
                    held.keep()?;
                    applied
                }
                Err(error) => {
                    held.take_back(from, to)?;
                    return Err(error);
                }
            }
        }
    };
    journal.end(applied.clone())?;
    Ok(Moved::Done(applied))
}

/// Moves a branch so that the log of `HEAD` tells it too.
fn move_with_head(
    place: &Place,
    checkout: &Checkout,
    branch: &str,
    from: ObjectId,
    to: ObjectId,
) -> Result<(), ApplyError> {
    let name = branch_ref(branch);
    let (from_text, to_text) = (from.to_string(), to.to_string());
    let arguments = ["update-ref", "-m", &mark(place), &name, &to_text, &from_text];
    let moved = git::plumbing(&checkout.git_dir, &arguments);
    match place.now()?.ref_value(&name)? {
        Some(tip) if tip == to => Ok(()),
        Some(tip) if tip == from => moved.map(drop).map_err(ApplyError::Git),
        Some(_) | None => Err(ApplyError::MovedMeanwhile { branch: branch.to_owned() }),
    }
}

/// What logs of refs say.
fn mark(place: &Place) -> String {
    format!("gitspool: apply run {}", place.run)
}

fn ends(applied: &Applied) -> Result<(ObjectId, ObjectId), ApplyError> {
    let ends = id(&applied.before).zip(id(&applied.after));
    ends.ok_or_else(|| ApplyError::Stage("its commits are not known".to_owned()))
}

/// Makes a branch of a merge that no branch could be moved to; gives its name and its commit. One that is there and has the same
/// is taken.
pub(super) fn leave(place: &Place, commit: ObjectId) -> Result<(String, ObjectId), ApplyError> {
    let alike = |one: ObjectId| {
        let (one, other) = (place.repository.commit(one), place.repository.commit(commit));
        one.zip(other).is_some_and(|(one, other)| one.tree == other.tree && one.parents == other.parents)
    };
    let mut number = 1;
    loop {
        let more = if number == 1 { String::new() } else { format!("-{number}") };
        let branch = format!("gitspool-applied/{}{more}", place.run);
        match place.now()?.ref_value(&branch_ref(&branch))? {
            None => {
                place.now()?.set_ref(&branch_ref(&branch), None, commit, &mark(place))?;
                return Ok((branch, commit));
            }
            Some(there) if there == commit || alike(there) => return Ok((branch, there)),
            Some(_) => number += 1,
        }
    }
}

/// Brings a checkout into order in which something was begun.
pub(super) fn take_up(place: &Place, begun: &Applied, is_moved: bool) -> Result<(), ApplyError> {
    let Some(top) = &begun.checkout else { return Ok(()) };
    let Some(held) = checkout_at(top)?.map(|checkout| Held::left(place, checkout)).transpose()?.flatten()
    else {
        return Ok(());
    };
    if is_moved {
        return held.keep();
    }
    let (from, to) = ends(begun)?;
    held.take_back(from, to)
}

fn checkout_at(top: &Path) -> Result<Option<Checkout>, ApplyError> {
    let found = git::find(top)?.filter(|(_, at)| at.is_some());
    Ok(found.and_then(|(repository, _)| {
        Some(Checkout { top: top.to_owned(), git_dir: repository.git_dir().canonicalize().ok()? })
    }))
}
