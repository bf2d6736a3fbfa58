//! What is done once a line is durable: files placed, supervisors started, commands answered. Each is safe to repeat.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::command::ToRun;
use crate::event::{Event, Origin};
use crate::id::{Name, RunId, TaskId};
use crate::jsonl::Line;
use crate::picture;
use crate::readers;
use crate::receipt;
use crate::reserve;
use crate::spec::Spec;
use crate::store::{self, StoreError};
use crate::task::{self, Effect, State};

use super::Daemon;
use super::edits;

impl Daemon {
    pub(super) fn perform(&mut self, task: TaskId, state: &State, before: Option<&State>, effect: Effect) {
        let layout = self.layout.clone();
        let done = match effect {
            Effect::Place => reserve::spend(&layout, || self.place(task, state, before)),
            Effect::AskCancel { attempt } => {
                reserve::spend(&layout, || self.ask_cancel(RunId { task, attempt }))
            }
            Effect::Supervise { .. } => {
                self.look_at_run(task);
                Ok(())
            }
        };
        if let Err(error) = done {
            // Tried again when the queues are looked through, and by the next start, which owes the same.
            if !self.note_trouble(Some(&error)) {
                tracing::error!("task {task}: {error}");
            }
            // Where its file lay at first.
            self.undone.entry(task).or_insert_with(|| before.cloned());
        }
    }

    /// Does again what could not be done.
    pub(super) fn do_undone(&mut self) {
        for line in std::mem::take(&mut self.unanswered) {
            self.answer(&line);
        }
        for (task, before) in std::mem::take(&mut self.undone) {
            let Some(live) = self.queues.task(task).or_else(|| self.ended.get(&task)) else { continue };
            let state = live.state.clone();
            for effect in task::owed(&state) {
                self.perform(task, &state, before.as_ref(), effect);
            }
            if state.is_ended() {
                self.forget_ended(task);
            }
        }
        self.put_back_owed();
        self.draw_pauses();
    }

    /// Forgets a task that has ended, when its file lies where it should.
    pub(super) fn forget_ended(&mut self, task: TaskId) {
        if !self.undone.contains_key(&task) {
            self.ended.remove(&task);
            self.edits.files.forget(task);
        }
    }

    /// Draws the task's file in the folder of its state, by renaming it where it lies.
    pub(super) fn place(
        &mut self,
        task: TaskId,
        state: &State,
        before: Option<&State>,
    ) -> Result<(), StoreError> {
        let Some(spec) = self.spec_of(task).cloned() else { return Ok(()) };
        let target = self.path_of(&spec.queue, task, state);
        self.note_moved(task);
        // Of `ready/` and `held/` it means something that they are gone.
        if state.is_ended() || state.live_attempt().is_some() {
            self.make_dated(&folder_of(&target))?;
        }
        let from = before.map(|before| self.path_of(&spec.queue, task, before));
        // How it ended without success stands in its file; and no more when it lives again.
        let lives_again = before.is_some_and(picture::tells_end);
        let moved = match &from {
            Some(_) if lives_again => false,
            Some(from) if *from != target => match store::rename(from, &target) {
                Ok(()) => true,
                Err(error) if error.is_not_found() => false,
                Err(error) => return Err(error),
            },
            Some(_) => true,
            None => false,
        };
        // What lies there already a user has moved there; what it says is looked at before the task starts.
        let is_stale = self.edits.files.is_stale(task, &target);
        let began_or_ended = state.is_ended() || state.live_attempt().is_some();
        let drawn = || picture::task(&spec, state);
        if is_stale {
            let is_earlier = |path: &Path| self.edits.files.is_stale(task, path);
            let done = store::draw_over(&self.layout, &target, &drawn(), &is_earlier)?;
            self.edits.files.forget(task);
            match done {
                true => {}
                false if began_or_ended => self.refuse_edit(task, &target, edits::too_late(task, state)),
                false => self.look_soon(),
            }
        } else if !(moved || store::exists(&target)) {
            store::draw(&self.layout, &target, &drawn())?;
            self.edits.files.forget(task);
        } else if began_or_ended && self.look_too_late(task, state, before, &target) {
            // What lies there is put away, and then the file is drawn.
        } else if picture::tells_end(state) {
            store::draw(&self.layout, &target, &drawn())?;
        }
        if let Some(from) = from.as_ref().filter(|from| lives_again && **from != target) {
            store::remove(from)?;
        }
        self.touch(from.as_deref());
        self.touch(Some(&target));
        Ok(())
    }

    /// Notes that a file and its folder must be synced before the next checkpoint.
    pub(super) fn touch(&mut self, path: Option<&Path>) {
        for path in path.into_iter().flat_map(|path| [Some(path), path.parent()]).flatten() {
            self.touched.insert(path.to_owned());
        }
    }

    /// The spec of a task that is live, or has ended in this batch.
    pub(super) fn spec_of(&self, task: TaskId) -> Option<&Arc<Spec>> {
        let live = self.queues.task(task).or_else(|| self.ended.get(&task));
        live.map(|live| &live.spec)
    }

    pub(super) fn path_of(&self, queue: &Name, task: TaskId, state: &State) -> PathBuf {
        picture::place(&self.layout, queue, task, state)
    }

    /// Whether a task's file lies where its state says; a user may have moved it.
    pub(super) fn is_in_place(&self, task: TaskId) -> bool {
        let live = self.queues.task(task);
        live.is_some_and(|live| store::exists(&self.path_of(&live.spec.queue, task, &live.state)))
    }

    /// Makes a dated folder, durably, if it is not there; somebody may have removed it.
    pub(super) fn make_dated(&self, folder: &Path) -> Result<(), StoreError> {
        store::make_lasting_dir_below(self.layout.root(), folder)
    }

    fn ask_cancel(&mut self, run: RunId) -> Result<(), StoreError> {
        // One cancel to a run is enough, whoever asked: the run's own id stands for the claim.
        let origin = Origin::new(run.task, "");
        self.make_run_dir(run)?;
        let reason = self.cancel_reasons.get(&run.task).cloned();
        self.pass_on(run, &origin, &ToRun::Cancel { reason })?;
        self.cancel_reasons.remove(&run.task);
        Ok(())
    }

    pub(super) fn make_run_dir(&mut self, run: RunId) -> Result<(), StoreError> {
        self.make_dated(&self.layout.runs_of(&run.task.date()))?;
        store::make_one_dir(self.layout.run(run).dir())
    }

    /// Answers the command that a line is about: the receipt, and what becomes of the file.
    pub(super) fn answer(&mut self, line: &Line<Event>) {
        let answered = || {
            let mut drawn: Vec<PathBuf> =
                readers::draw(&self.layout, &self.host, line)?.into_iter().collect();
            drawn.extend(receipt::answer(&self.layout, line)?);
            Ok(drawn)
        };
        match reserve::spend(&self.layout, answered) {
            Ok(drawn) => {
                self.forget_key(&line.event);
                drawn.iter().for_each(|path| self.touch(Some(path)));
            }
            Err(error) => {
                // As above.
                if !self.note_trouble(Some(&error)) {
                    let name = line.event.origin().map_or("a command", |origin| &origin.name);
                    tracing::error!("the answer to {name}: {error}");
                }
                self.unanswered.push(line.clone());
            }
        }
    }
}

/// The folder in which a file lies.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}
