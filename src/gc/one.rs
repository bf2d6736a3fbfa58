//! What goes when one task is to go, or one run of it, whatever queues keep.
//!
//! The same things go in the same order as with all others. Beside that the workspaces of the runs are reclaimed first, which
//! others wait for: what is in a worktree is kept on a ref before it goes, and what cannot be kept stays, and all with it.

use std::path::{Path, PathBuf};

use super::{Leaving, Other, Plan, What, answers, disk_bytes, empty_trash, live, queues};
use crate::id::{Name, RunId, TaskId};
use crate::jsonl::{self, Line};
use crate::layout::{ENDED_FOLDERS, Layout};
use crate::lock;
use crate::picture::{self, End};
use crate::process;
use crate::record::{self, Event};
use crate::refusal::{Kind, Refusal};
use crate::removed;
use crate::reserve;
use crate::spool::Spool;
use crate::stage::{self, Answer};
use crate::store::{self, StoreError};
use crate::workspace;

/// A task, or one of its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct One {
    pub(crate) task: TaskId,
    /// Of a run that goes alone.
    pub(crate) attempt: Option<u32>,
}

impl One {
    /// As commands name it.
    pub(crate) fn target(self) -> String {
        let task = self.task;
        self.attempt.map_or_else(|| task.to_string(), |attempt| RunId { task, attempt }.to_string())
    }
}

/// Says what goes; nothing when it has gone already. Changes nothing.
///
/// # Errors
/// A conflict when it may not go; and when something cannot be read.
pub(crate) fn plan_one(spool: &Spool, one: One) -> Result<Plan, Refusal> {
    let layout = &spool.layout;
    let all = queues(layout).map_err(unreadable)?;
    let runs = runs_of(layout, one.task).map_err(unreadable)?;
    let file = ended_file(layout, &all, one.task);
    let mut plan = Plan::default();
    let mut lone = Vec::new();
    match (&file, one.attempt) {
        (Some((queue, folder)), None) => {
            let path = layout.ended_task(queue, folder, one.task);
            let Some(ended_at) = store::changed_at(&path) else { return Ok(plan) };
            let (queue, runs) = (queue.clone(), runs.clone());
            let mut leaving = Leaving { task: one.task, queue, folder, ended_at, runs, bytes: 0 };
            leaving.bytes = leaving.paths(layout).iter().map(|path| disk_bytes(path)).sum();
            plan.tasks.push(leaving);
            if answers::text_of(layout, &path).is_some() {
                let live = live(layout, &all).map_err(unreadable)?.into_values();
                plan.others = answers::texts(layout, &all, &plan, live).map_err(unreadable)?;
            }
        }
        (Some((queue, folder)), Some(attempt)) => {
            let told = attempts_told(&layout.ended_task(queue, folder, one.task)).map_err(unreadable)?;
            let last = runs.iter().map(|run| run.attempt).max().max(told).unwrap_or_default();
            if attempt == last {
                let message =
                    format!("run {} is the last of its task, and tells how that ended", one.target());
                let refusal = Refusal::new(Kind::Conflict, message).at("$.target");
                return Err(
                    refusal.hint(format!("`gitspool rm {}` removes the task with all its runs", one.task))
                );
            }
            if attempt == 0 || attempt > last {
                let message = format!("task {} has had no run {attempt}", one.task);
                return Err(Refusal::new(Kind::NotFound, message).at("$.target"));
            }
            lone = runs.into_iter().filter(|run| run.attempt == attempt).collect();
        }
        // Who was killed under way may have left runs of it.
        (None, _) if removed::look(layout, one.task).map_err(unreadable)?.is_some() => lone = runs,
        (None, _) => {
            let refusal =
                Refusal::new(Kind::NotFound, format!("task {} has not ended, or has gone", one.task));
            return Err(refusal.at("$.target"));
        }
    }
    let of = |what, path: PathBuf| Other { what, bytes: disk_bytes(&path), path };
    plan.others.extend(lone.iter().map(|run| of(What::Run, layout.run(*run).dir().to_owned())));
    let goes = plan.tasks.iter().flat_map(|leaving| &leaving.runs).chain(&lone);
    let places = goes.map(|run| spool.state().workspace(*run)).filter(|place| store::exists(place));
    let places: Vec<Other> = places.map(|place| of(What::Workspace, place)).collect();
    plan.others.extend(places);
    Ok(plan)
}

/// The runs of a task that are there.
fn runs_of(layout: &Layout, task: TaskId) -> Result<Vec<RunId>, StoreError> {
    let names = store::names(&layout.runs_of(&task.date()))?;
    let mut runs: Vec<RunId> = names.iter().filter_map(|name| name.parse().ok()).collect();
    runs.retain(|run| run.task == task);
    runs.sort();
    Ok(runs)
}

/// Where the file of a task lies that has ended.
fn ended_file(layout: &Layout, queues: &[Name], task: TaskId) -> Option<(Name, &'static str)> {
    let mut places = queues.iter().flat_map(|queue| ENDED_FOLDERS.map(|folder| (queue, folder)));
    let there = places.find(|(queue, folder)| store::exists(&layout.ended_task(queue, folder, task)));
    there.map(|(queue, folder)| (queue.clone(), folder))
}

/// How many runs a task has had, if its file tells: of some the folders may be gone.
fn attempts_told(path: &Path) -> Result<Option<u32>, StoreError> {
    Ok(match picture::end_in(&store::read_if_there(path)?.unwrap_or_default()) {
        End::Told(state) => Some(state.attempts_over()),
        End::Untold | End::Edited => None,
    })
}

/// Reclaims the workspaces of the runs that go, by the rules of a cleanup at the end of a run: what no branch holds is put on
/// a ref first.
///
/// # Errors
/// A conflict when a run lives, or something must stay; then nothing of what goes has been removed but workspaces.
pub(crate) fn reclaim_all(spool: &Spool, plan: &Plan, goes_on: &dyn Fn() -> bool) -> Result<(), Refusal> {
    let lone = plan.others.iter().filter(|other| other.what == What::Run);
    let lone = lone.filter_map(|other| other.path.file_name()?.to_str()?.parse::<RunId>().ok());
    let goes = plan.tasks.iter().flat_map(|leaving| leaving.runs.iter().copied()).chain(lone);
    for run in goes {
        // What an earlier daemon began and was killed at may go on still.
        process::kill_marked(run);
        if !lock::comes_free(&spool.layout.run(run).lock()).map_err(unreadable)? {
            let refusal = Refusal::new(Kind::Conflict, format!("the lock of run {run} is held"));
            return Err(refusal.at("$.target").hint("it lives, or somebody has its lock open"));
        }
        let place = spool.state().workspace(run);
        if store::exists(&place) {
            reclaim(spool, run, &place, goes_on).map_err(|why| {
                let refusal =
                    Refusal::new(Kind::Conflict, format!("the workspace of run {run} stays: {why}"));
                let hint = format!("see to {} and remove it, then ask again", place.display());
                refusal.at("$.target").hint(hint)
            })?;
        }
    }
    Ok(())
}

/// Has a workspace stage remove the workspace of a run that is over.
///
/// # Errors
/// Why it stays, in words.
fn reclaim(spool: &Spool, run: RunId, place: &Path, goes_on: &dyn Fn() -> bool) -> Result<(), String> {
    let paths = spool.layout.run(run);
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let log = store::read_if_there(&paths.log()).map_err(|error| said(&error))?.unwrap_or_default();
    let log = jsonl::parse::<Event>(&log);
    let workspace = record::of_log(run, &log).and_then(|record| record.workspace);
    let has_begun = |line: &Line<Event>| matches!(line.event, Event::AgentStarted { .. });
    let verb = match workspace.map(|workspace| workspace.kind) {
        Some(workspace::Kind::Worktree) => stage::RECLAIM,
        // It was never made whole, and nobody has worked there.
        None if log.bad.is_empty() && !log.lines.iter().any(has_begun) => stage::DISCARD,
        Some(workspace::Kind::None | workspace::Kind::Directory) | None => {
            return Err("it is no worktree, so that nothing of it could be kept".to_owned());
        }
    };
    let arguments = [stage::VERB.into(), verb.into(), paths.dir().as_os_str().to_owned()];
    let answer = process::carry_out(&arguments, run, goes_on).map_err(|error| said(&error))?;
    match serde_json::from_slice(&answer) {
        _ if !store::exists(place) => Ok(()),
        Ok(Answer::Settled { delivered }) => {
            let blockers: Vec<&str> =
                delivered.blockers.iter().map(|blocker| blocker.what.as_str()).collect();
            Err(blockers.join("; "))
        }
        Ok(Answer::Failed { message }) => Err(message),
        Ok(Answer::Made { .. } | Answer::Discarded) | Err(_) => Err("it could not be removed".to_owned()),
    }
}

/// Removes a run alone.
pub(super) fn remove_run(layout: &Layout, path: &Path) -> Result<(), StoreError> {
    let Some(run) = path.file_name().and_then(|name| name.to_str()?.parse::<RunId>().ok()) else {
        return Ok(());
    };
    reserve::spend(layout, || store::make_one_dir(&layout.trash()))?;
    match store::rename_into(path, &layout.trash(), &layout.trashed(run)) {
        Err(error) if !error.is_not_found() => return Err(error),
        Ok(()) | Err(_) => {}
    }
    store::sync_dir(&layout.runs_of(&run.task.date()))?;
    empty_trash(layout)
}

fn unreadable(error: StoreError) -> Refusal {
    Refusal::new(Kind::Unreadable, error.to_string()).for_now(error.shortage())
}
