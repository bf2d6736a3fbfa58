//! Takes back what was applied: the branch goes back, or when there is more on it since, a commit takes the change away.

use super::journal::Journal;
use super::merging::{self, Made};
use super::moving::{self, Moved};
use super::target::Target;
use super::{Answer, ApplyError, Delivery, Place, id, is_in, shown};
use crate::applied::{Applied, How};
use crate::git;
use crate::id::RunId;
use crate::spool::Spool;

/// Undoes what was applied last of a run, onto the branch called `onto` if one is given.
///
/// # Errors
/// Nothing was changed, or what was begun is finished by the next call.
pub(crate) fn undo(
    spool: &Spool,
    run: RunId,
    onto: Option<&str>,
    dry_run: bool,
) -> Result<Answer, ApplyError> {
    let delivery = Delivery::of(spool, run)?;
    let place = Place::take(spool, &delivery)?;
    let journal = Journal::open(spool, &place)?;
    let (applied, finished) = journal.finish(&place, delivery.applied.clone())?;
    if let Some(undone) = finished
        .filter(|finished| finished.how == How::Undo && onto.is_none_or(|onto| finished.branch == onto))
    {
        let ends = id(&undone.before).zip(id(&undone.after));
        let files =
            ends.map_or(Ok(Default::default()), |(from, to)| git::changed(&place.common, from, to))?;
        return Ok(Answer::Undone { undone, files: shown(files) });
    }
    let is_meant = |applied: &Applied| onto.is_none_or(|onto| applied.branch == onto);
    let applied = applied.into_iter().rfind(is_meant).ok_or(ApplyError::NotApplied(run))?;
    let target = Target::of(&place, &applied.branch)?;
    let Some((before, after)) = id(&applied.before).zip(id(&applied.after)) else {
        return Err(ApplyError::NotApplied(run));
    };
    let to = if target.tip == after {
        before
    } else if !is_in(&place, &applied.after, target.tip)? {
        return Ok(Answer::GoneAlready { branch: target.branch });
    } else {
        let message = format!("Undo what run {run} did\n\nThis takes back {after}.\n\nGitspool-Run: {run}\n");
        match merging::revert(&place, [before, after], target.tip, &message)? {
            Made::Commit(commit) => commit,
            Made::Nothing => return Ok(Answer::GoneAlready { branch: target.branch }),
            Made::Conflicts { paths, said } => {
                return Ok(Answer::Conflicts { branch: target.branch, paths, said });
            }
        }
    };
    let files = shown(git::changed(&place.common, target.tip, to)?);
    if dry_run {
        let stays = moving::stays(&place, &target, to)?;
        return Ok(Answer::WouldUndo { branch: target.branch, files, stays });
    }
    let undone = Applied {
        how: How::Undo,
        before: target.tip.to_string(),
        after: to.to_string(),
        checkout: None,
        record: None,
        ..applied
    };
    match moving::carry_out(&place, &journal, &target, undone)? {
        Moved::Done(undone) => Ok(Answer::Undone { undone, files }),
        Moved::Not(why) => {
            let (left, commit) = moving::leave(&place, to)?;
            Ok(Answer::Left { branch: target.branch, left, commit: commit.to_string(), why })
        }
    }
}
