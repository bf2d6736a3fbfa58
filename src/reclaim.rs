//! Looks again at the worktrees that still stand when their runs are over: those that were to go, and the oldest others when all
//! together take more of the disk than they may. A workspace stage does it, and writes into the run's log what came of it.
//!
//! Nothing goes that is not kept: the stage removes a worktree as at the run's end, with the same blockers.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::assignment::Assignment;
use crate::id::RunId;
use crate::layout::ENDED_FOLDERS;
use crate::lock;
use crate::outcome::Outcome;
use crate::process;
use crate::record::Record;
use crate::retention::{self, Standing};
use crate::spool::Spool;
use crate::stage;
use crate::store::{self, StoreError};
use crate::workspace::{Blocker, BlockerKind, Cleanup, Kind};

/// A worktree that stands though its run is over.
#[derive(Clone, Debug)]
pub(crate) struct Worktree {
    pub(crate) run: RunId,
    pub(crate) root: PathBuf,
    /// What it took of the disk at the end; `None` when that is not known.
    pub(crate) bytes: Option<u64>,
    pub(crate) dirty: bool,
    /// Whether it was to go.
    pub(crate) was_to_go: bool,
    /// Why it did not.
    pub(crate) blockers: Vec<Blocker>,
    /// Whether its task is filed away: it is not tried again, and nobody waits to go on with it.
    has_ended: bool,
    ended_at: crate::time::Timestamp,
}

/// The worktrees that stand of runs that are over and of which it is known how they ended, the oldest first.
///
/// # Errors
/// When a folder cannot be listed.
pub(crate) fn standing(spool: &Spool) -> Result<Vec<Worktree>, StoreError> {
    let names = store::names(&spool.state().work())?;
    let mut runs: Vec<RunId> = names.iter().filter_map(|name| name.parse().ok()).collect();
    runs.sort();
    Ok(runs.into_iter().filter_map(|run| worktree(spool, run)).collect())
}

fn worktree(spool: &Spool, run: RunId) -> Option<Worktree> {
    let paths = spool.layout.run(run);
    let record: Record = serde_json::from_slice(&store::read_if_there(&paths.record()).ok()??).ok()?;
    let workspace = record.workspace.as_ref().filter(|workspace| workspace.kind == Kind::Worktree)?;
    // Of what nobody saw end, a person says what becomes.
    let outcome = record.outcome?;
    if matches!(outcome, Outcome::Lost | Outcome::Interrupted) || lock::is_held(&paths.lock()).unwrap_or(true)
    {
        return None;
    }
    let assignment: Assignment = serde_json::from_slice(&store::read_if_there(&paths.task()).ok()??).ok()?;
    let delivered = record.delivered.clone().unwrap_or_default();
    let is_unknown = record.delivered.is_none();
    let was_to_go = assignment.spec.workspace.cleanup != Cleanup::Never && !delivered.removed;
    let error = record.error.filter(|_| was_to_go && is_unknown);
    let failed = error.map(|what| Blocker { kind: BlockerKind::Failed, what });
    let ended = |folder: &str| spool.layout.ended_task(&assignment.spec.queue, folder, run.task);
    Some(Worktree {
        run,
        root: workspace.root.clone(),
        bytes: delivered.bytes,
        // What could not be described is not known to be clean.
        dirty: is_unknown || delivered.dirty,
        was_to_go,
        blockers: delivered.blockers.into_iter().chain(failed).collect(),
        has_ended: ENDED_FOLDERS.iter().any(|folder| store::exists(&ended(folder))),
        ended_at: record.finished_at?,
    })
}

/// Which worktrees are looked at again: so that what is left takes at most `bytes_max`, the oldest of tasks that have ended; and
/// with `also_blocked` those that were to go, and those that could not when they were looked at last.
pub(crate) fn plan(
    spool: &Spool,
    bytes_max: Option<u64>,
    also_blocked: bool,
) -> Result<Vec<Worktree>, StoreError> {
    let all = standing(spool)?;
    let was_to_go = all.iter().filter(|one| one.was_to_go && also_blocked);
    let mut goes: HashSet<RunId> = was_to_go.map(|one| one.run).collect();
    if let Some(bytes_max) = bytes_max {
        let of = |one: &Worktree| Standing {
            run: one.run,
            bytes: one.bytes.unwrap_or_default(),
            dirty: one.dirty,
            ended_at: one.ended_at,
            // What was looked at in vain counts, and does not go.
            may_go: !one.was_to_go && one.has_ended && (also_blocked || one.blockers.is_empty()),
        };
        goes.extend(retention::choose_standing(all.iter().map(of).collect(), bytes_max));
    }
    Ok(all.into_iter().filter(|one| goes.contains(&one.run)).collect())
}

/// Removes the oldest worktrees when all take more than the spool's limit; and, with `also_blocked`, those that were to go.
pub(crate) fn look_again(
    spool: &Spool,
    also_blocked: bool,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), StoreError> {
    let worktrees = plan(spool, spool.settings.workspaces_bytes_max, also_blocked)?;
    carry_out(spool, &worktrees, goes_on);
    Ok(())
}

/// Has them removed, as long as `goes_on`; tells how many are gone, and what they took.
pub(crate) fn carry_out(spool: &Spool, worktrees: &[Worktree], goes_on: &dyn Fn() -> bool) -> (u64, u64) {
    let (mut gone, mut bytes) = (0, 0);
    for worktree in worktrees.iter().take_while(|_| goes_on()) {
        let run_dir = spool.layout.run(worktree.run);
        let arguments = [stage::VERB.into(), stage::RECLAIM.into(), run_dir.dir().as_os_str().to_owned()];
        if let Err(error) = process::carry_out(&arguments, worktree.run, goes_on) {
            // It stays as it is, and is looked at with the next upkeep.
            tracing::warn!("the workspace of {} is not looked at again: {error}", worktree.run);
        } else if !store::exists(&worktree.root) {
            gone += 1;
            bytes += worktree.bytes.unwrap_or_default();
        }
    }
    (gone, bytes)
}
