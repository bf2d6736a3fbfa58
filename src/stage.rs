//! The workspace stage: a short process of a supervisor that makes a worktree, or describes what is left in one.
//!
//! Apart from the supervisor so that a run can be cancelled meanwhile, and so that the supervisor stays small.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::assignment::Assignment;
use crate::git::Launcher;
use crate::layout::{Layout, RunLayout, StateLayout};
use crate::log::{Durability, Log};
use crate::process;
use crate::record::{self, Event};
use crate::store;
use crate::workspace::{Cleanup, Delivered, Plan, Workspace};
use crate::{clock, jsonl, launch, lock, picture, settlement, worktree};

/// The hidden verb, and what it is asked for.
pub(crate) const VERB: &str = "workspace";
pub(crate) const MAKE: &str = "make";
pub(crate) const SETTLE: &str = "settle";
pub(crate) const DISCARD: &str = "discard";
/// The same as [`SETTLE`], when the run is long over: the worktree goes also when its task says that it stays.
pub(crate) const RECLAIM: &str = "reclaim";

/// The same for a worktree that stays: all that is uncommitted is kept, or it fails.
pub(crate) const LOOK: &str = "look";

/// The largest part of an answer that may be a text of any length, so that an answer fits into a pipe.
const TEXT_BYTES_MAX: usize = 4 * 1024;
const BLOCKERS_MAX: usize = 10;
const BLOCKER_BYTES_MAX: usize = 500;

/// How much is kept of one worktree, where its task says nothing.
const KEEP_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// What the stage answers, as one JSON object on stdout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    Made { workspace: Workspace },
    Settled { delivered: Delivered },
    Discarded,
    Failed { message: String },
}

/// Carries out `verb` for the run in `run_dir`, and answers.
pub(crate) fn main(verb: &str, run_dir: &Path) -> ExitCode {
    let answer = answer(verb, &RunLayout::new(run_dir))
        .unwrap_or_else(|message| Answer::Failed { message: jsonl::clip(&message, TEXT_BYTES_MAX) });
    let text = serde_json::to_vec(&answer).expect("because an answer has string keys");
    match std::io::stdout().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer(verb: &str, paths: &RunLayout) -> Result<Answer, String> {
    let assignment: Assignment = store::read(&paths.task())
        .map_err(|error| error.to_string())
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))?;
    let state = state_layout(&assignment);
    let launcher = launcher(paths);
    let run = assignment.run;
    if verb == MAKE {
        let name = assignment.spec.name.as_ref().map_or_else(|| run.task.to_string(), ToString::to_string);
        let workspace =
            worktree::make(&plan(&assignment), &state, run, &name, &launcher).map_err(|e| e.to_string())?;
        return Ok(Answer::Made { workspace });
    }
    if verb == DISCARD {
        worktree::discard(&plan(&assignment), &state, run).map_err(|error| error.to_string())?;
        return Ok(Answer::Discarded);
    }
    let lines = store::read(&paths.log()).map_err(|error| error.to_string())?;
    let lines = jsonl::parse::<Event>(&lines).lines;
    let record = record::fold(&lines);
    let earlier = record.as_ref().and_then(|record| record.delivered.clone());
    let workspace = record.and_then(|record| record.workspace).ok_or("there is no workspace")?;
    let asked = &assignment.spec.workspace;
    let stays_by_wish = asked.cleanup == Cleanup::Never;
    let wish = settlement::Wish {
        cleanup: if stays_by_wish && verb == RECLAIM { Cleanup::Worktree } else { asked.cleanup },
        keeps_ignored: asked.keep_ignored,
        bytes_max: asked.keep_bytes_max.unwrap_or(KEEP_BYTES_MAX),
    };
    let (mut delivered, missed) = if verb == LOOK {
        let (delivered, missed) =
            settlement::look(&workspace, wish, run, &state, &launcher).map_err(|error| error.to_string())?;
        // Why it could not go when it was to go is so still.
        let blockers = earlier.iter().flat_map(|earlier| earlier.blockers.clone()).collect();
        (Delivered { blockers, ..delivered }, missed)
    } else {
        let settled = settlement::settle(&workspace, wish, run, &state, &launcher);
        (settled.map_err(|error| error.to_string())?, Vec::new())
    };
    delivered.dirty_summary = delivered.dirty_summary.map(|summary| jsonl::clip(&summary, TEXT_BYTES_MAX));
    delivered.blockers.truncate(BLOCKERS_MAX);
    for blocker in &mut delivered.blockers {
        blocker.what = jsonl::clip(&blocker.what, BLOCKER_BYTES_MAX);
    }
    if matches!(verb, RECLAIM | LOOK) && earlier.as_ref() != Some(&delivered) {
        note(paths, &assignment, &delivered)?;
    }
    match missed.first() {
        Some(missed) => Err(missed.what.clone()),
        None => Ok(Answer::Settled { delivered }),
    }
}

/// Writes into the log of a run that is over what has become of its workspace since.
fn note(paths: &RunLayout, assignment: &Assignment, delivered: &Delivered) -> Result<(), String> {
    add(paths, assignment, Event::WorkspaceSettled { delivered: delivered.clone() })
}

/// Adds a line to the log of a run that is over, and draws its record anew.
pub(crate) fn add(paths: &RunLayout, assignment: &Assignment, line: Event) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let Some(_lock) = lock::try_exclusive(&paths.lock()).map_err(|error| said(&error))? else {
        return Err("the run is being looked at by somebody else".to_owned());
    };
    let mut log = Log::<Event>::open(&paths.log(), 0).map_err(|error| said(&error))?.log;
    log.append(clock::now(), vec![line], Durability::Durable).map_err(|error| said(&error))?;
    draw(paths, assignment)
}

/// Draws the record of a run that is over anew, if it is not what its log says.
pub(crate) fn draw(paths: &RunLayout, assignment: &Assignment) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let bytes = store::read(&paths.log()).map_err(|error| said(&error))?;
    let Some(record) = record::of_log(assignment.run, &jsonl::parse(&bytes)) else { return Ok(()) };
    let (layout, picture) = (Layout::new(&assignment.spool), picture::pretty(&record));
    if store::read_if_there(&paths.record()).ok().flatten().is_some_and(|there| there == picture) {
        return Ok(());
    }
    store::draw(&layout, &paths.record(), &picture).map_err(|error| said(&error))
}

/// Runs git in a worktree as the agent would be run.
fn launcher(paths: &RunLayout) -> Launcher {
    launcher_of(paths.launch_error())
}

/// The same for whoever has no run; what went wrong is written to `errors`.
pub(crate) fn launcher_of(errors: PathBuf) -> Launcher {
    let order =
        launch::Order { parent: process::id(), umask: 0o022, directory: ".".into(), errors, argv: vec![] };
    let mut prefix = vec![process::own_program().into_os_string()];
    prefix.extend(order.arguments());
    Launcher { prefix }
}

fn plan(assignment: &Assignment) -> Plan {
    let asked = &assignment.spec.workspace;
    Plan {
        path: state_layout(assignment).workspace(assignment.run),
        directory: assignment.spec.directory.clone().map(Into::into),
        base: asked.base.clone(),
        branch: asked.branch.clone(),
    }
}

/// The machine-local places of a run's spool.
pub(crate) fn state_layout(assignment: &Assignment) -> StateLayout {
    StateLayout::new(&assignment.state_dir, &assignment.spool_id)
}
