//! What a checkpoint and the log behind it tell: the tasks that were live or have moved since, and who is to be told.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::event::{Event, SpecText};
use crate::history;
use crate::id::{Name, TaskId};
use crate::jsonl::Line;
use crate::layout::{ENDED_FOLDERS, Layout};
use crate::notice::Ledger;
use crate::picture;
use crate::spec::Spec;
use crate::store::StoreError;
use crate::task::State;
use crate::texts;

use super::DaemonError;
use super::said::Earlier;

/// A task as the checkpoint and the log after it tell it.
pub(super) struct Known {
    pub(super) state: State,
    pub(super) spec: Arc<Spec>,
    pub(super) spec_seq: u64,
    /// What it was before it was edited since the checkpoint.
    pub(super) earlier: Earlier,
    /// Where its file may lie; empty when nothing happened to it since the checkpoint.
    pub(super) places: Vec<PathBuf>,
}

/// All that is known, by its task.
type All = BTreeMap<TaskId, Known>;

/// Folds the lines after a checkpoint into what it knew.
pub(super) fn fold(
    layout: &Layout,
    host: &Name,
    checkpoint: Checkpoint,
    lines: &[Line<Event>],
) -> Result<(All, Ledger), DaemonError> {
    let mut known = All::new();
    let mut notices = Ledger::of(checkpoint.notices);
    let spec_lines =
        history::lines_at(layout, host, &checkpoint.tasks.iter().map(|task| task.spec_seq).collect())?;
    let spec_lines: HashMap<u64, &Line<Event>> = spec_lines.iter().map(|line| (line.seq, line)).collect();
    for checked in checkpoint.tasks {
        let Some(spec) = spec_of_line(layout, spec_lines.get(&checked.spec_seq).copied())? else {
            tracing::error!("task {}: line {} does not give its spec", checked.task, checked.spec_seq);
            continue;
        };
        let (earlier, places) = (Earlier::default(), Vec::new());
        let task = Known { state: checked.state, spec, spec_seq: checked.spec_seq, earlier, places };
        notices.knows(&task.spec.queue, &task.state);
        known.insert(checked.task, task);
    }
    for line in lines {
        fold_line(layout, line, &mut known)?;
        let task = line.event.changed().and_then(|task| known.get(&task));
        // Nobody is told of what is said of a task that has ended.
        let task = task.filter(|known| line.event.state().is_some() || !known.state.is_ended());
        notices.see(&line.event, line.at, task.map(|known| &known.spec));
        notices.keep();
    }
    Ok((known, notices))
}

fn fold_line(layout: &Layout, line: &Line<Event>, known: &mut All) -> Result<(), DaemonError> {
    if let Event::EditRefused { task, .. } = &line.event
        && let Some(known) = known.get_mut(task)
    {
        // It may have been put away, and the task's file not been drawn.
        known.places.push(picture::place(layout, &known.spec.queue, *task, &known.state));
    }
    let Some((task, state)) = line.event.state() else { return Ok(()) };
    match spec_of_line(layout, Some(line))? {
        // What it was before may be gone.
        Some(spec) if let (Event::Edited { by, .. }, Some(known)) = (&line.event, known.get_mut(&task)) => {
            known.earlier.replaced(std::mem::replace(&mut known.spec, spec), *by, line.at);
            known.spec_seq = line.seq;
        }
        Some(spec) => {
            let (earlier, places) = (Earlier::default(), Vec::new());
            let mut new = Known { state: state.clone(), spec, spec_seq: line.seq, earlier, places };
            if let Event::Moved { .. } = line.event {
                // It had ended, perhaps before the checkpoint, which does not tell of it then.
                let queue = &new.spec.queue;
                new.places.extend(ENDED_FOLDERS.map(|folder| layout.ended_task(queue, folder, task)));
                if let Some(known) = known.remove(&task) {
                    new.places.extend(known.places);
                    new.earlier = known.earlier;
                }
            }
            known.insert(task, new);
        }
        None => {}
    }
    let Some(task_known) = known.get_mut(&task) else {
        tracing::error!("line {}: task {task} is not known", line.seq);
        return Ok(());
    };
    let before = std::mem::replace(&mut task_known.state, state.clone());
    for state in [&before, state] {
        let place = picture::place(layout, &task_known.spec.queue, task, state);
        if !task_known.places.contains(&place) {
            task_known.places.push(place);
        }
    }
    Ok(())
}

/// The spec that a line carries or names.
fn spec_of_line(layout: &Layout, line: Option<&Line<Event>>) -> Result<Option<Arc<Spec>>, StoreError> {
    let Some(spec) = line.and_then(|line| line.event.spec()) else { return Ok(None) };
    match spec {
        SpecText::Here(spec) => Ok(Some(Arc::clone(spec))),
        SpecText::Elsewhere { text_sha256 } => {
            Ok(texts::read(layout, text_sha256)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
        }
    }
}
