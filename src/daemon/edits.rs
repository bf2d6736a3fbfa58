//! Edits by hand: what users write into the files of tasks that have not started becomes their specs.
//!
//! The line is the commit point: until it is written, a start may come first. What cannot be taken, or comes too late, is
//! moved to `refused/` with the reason beside it, and the last good spec is drawn in its place; so nothing of what a user
//! wrote is lost. No task starts whose file does not say what the log says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock;
use crate::defaults::Said;
use crate::digest;
use crate::edit::{Change, Edit};
use crate::event::{By, Event, Origin};
use crate::id::TaskId;
use crate::inbox::{Edited, Found, Stamp};
use crate::picture;
use crate::refusal::{Kind, Refusal};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::store::{self, StoreError};
use crate::task::{self, State};
use crate::time::Moment;

use super::Daemon;
use super::batch::Decision;
use super::put_back::PutBack;
use super::target::Found as Target;

/// What is known of edits.
pub(super) struct Edits {
    pub(super) files: Edited,
    /// What the lines of this batch put back, by the claims in them.
    pub(super) refused: HashMap<TaskId, PutBack>,
    /// What could not be put back.
    pub(super) owed: Vec<PutBack>,
    /// The specs that the edits of this batch replace, in their order.
    pub(super) replaced: Vec<(Arc<Spec>, u64)>,
    /// Since when files are missing that an editor seems to be saving.
    pub(super) missing: HashMap<TaskId, Moment>,
}

impl Edits {
    pub(super) fn new(files: Edited) -> Edits {
        let (refused, missing) = (HashMap::new(), HashMap::new());
        Edits { files, refused, owed: Vec::new(), replaced: Vec::new(), missing }
    }

    fn is_to_be_put_away(&self, path: &Path) -> bool {
        self.refused.values().chain(&self.owed).any(|put_back| put_back.found == path)
    }
}

impl Daemon {
    /// Whether a task's file lies where it should and says what the log says; else it is being moved or edited.
    pub(super) fn is_settled(&mut self, task: TaskId) -> bool {
        let Some(live) = self.queues.task(task) else { return false };
        let path = self.path_of(&live.spec.queue, task, &live.state);
        matches!(self.judge(task, &path), Found::Same)
    }

    /// Takes what a user wrote into a task's file at `path`, or refuses it; tells whether the file is settled.
    pub(super) fn look_at_file(&mut self, task: TaskId, path: &Path) -> bool {
        match self.judge(task, path) {
            Found::Same => true,
            Found::Unsettled | Found::Gone => false,
            Found::Changed(spec, stamp) => self.take_edit(task, path, *spec, stamp),
            Found::Refused(refusal) => {
                self.refuse_edit(task, path, refusal);
                true
            }
        }
    }

    fn judge(&mut self, task: TaskId, path: &Path) -> Found {
        let Some(spec) = self.spec_of(task).cloned() else { return Found::Gone };
        if self.edits.is_to_be_put_away(path) {
            return Found::Unsettled;
        }
        let found = self.edits.files.look(task, path, &spec);
        self.unless_short(found)
    }

    fn unless_short(&mut self, found: Result<Found, StoreError>) -> Found {
        found.unwrap_or_else(|error| {
            self.note_trouble(Some(&error));
            Found::Unsettled
        })
    }

    /// Makes what a user wrote the task's spec; tells whether the file is settled.
    fn take_edit(&mut self, task: TaskId, path: &Path, written: Spec, stamp: Stamp) -> bool {
        self.edits.files.settled(path);
        // Where the line is on disk, and the file only in part or not under its name, nobody could say who had written what
        // lies there.
        if let Err(error) = store::sync_file(path).and_then(|()| store::sync_parent(path)) {
            self.note_trouble(Some(&error));
            return false;
        }
        let checked = self.check_edit(task, written.clone()).and_then(|spec| {
            let is_whole = spec == written;
            self.decide_edit(task, spec, By::Hand, None).map(|()| is_whole)
        });
        match checked {
            Ok(is_whole) => {
                self.edits.files.note(task, stamp, !is_whole);
                let live = self.queues.task(task).filter(|_| !is_whole);
                if let Some(state) = live.map(|live| live.state.clone())
                    && !self.is_in_batch(task)
                {
                    // It says what the log says, in fewer words.
                    let drawn = self.place(task, &state, Some(&state));
                    self.note_trouble(drawn.as_ref().err());
                }
                true
            }
            Err(refusal) if refusal.for_now.is_some() => {
                self.note_shortage(refusal.for_now, &refusal.message);
                false
            }
            Err(refusal) => {
                self.refuse_edit(task, path, refusal);
                true
            }
        }
    }

    /// Carries out an edit that somebody asked for. One by hand that is there already comes first.
    pub(super) fn edit(
        &mut self,
        origin: &Origin,
        edit: Edit,
        scope: &Scope,
    ) -> Result<Option<Event>, Refusal> {
        let Edit { target, change, was_sha256 } = edit;
        let place = match change {
            Change::Spec(_) => "$.spec",
            Change::Set(_) => "$.set",
        };
        let task = match self.find(&target, scope)? {
            Target::Live(task) => task,
            Target::Ended(task, _) => return Err(ended(task).at("$.target")),
        };
        let Some(live) = self.queues.task(task).cloned() else { return Err(ended(task)) };
        if live.state.live_attempt().is_some() {
            return Err(too_late(task, &live.state).at("$.target"));
        }
        // One that is new has no file yet.
        let is_new = self.batch.iter().filter_map(Decision::submitted).any(|new| new == task);
        let path = self.path_of(&live.spec.queue, task, &live.state);
        let is_known = is_new || (self.look_at_file(task, &path) && self.edits.files.is_known(task, &path));
        if !is_known {
            let refusal =
                Refusal::new(Kind::Conflict, format!("task {task} is being edited or moved by hand"));
            return Err(refusal.at("$.target").hint("try it again in a moment"));
        }
        let Some(before) = self.spec_of(task).cloned() else { return Err(ended(task)) };
        let is = digest::sha256_hex(&picture::pretty(&before));
        if was_sha256.is_some_and(|was| was != is) {
            let refusal = Refusal::new(Kind::Conflict, format!("task {task} was edited meanwhile"));
            return Err(refusal.at("$.was_sha256").hint("look at it as it is now, and edit it again"));
        }
        let spec = change.applied(&before)?;
        let spec = self.check_edit(task, spec).map_err(|refusal| refusal.below(place))?;
        if spec == *before {
            return Ok(Some(self.accepted(origin, "edit", Some(task), "it says so already")));
        }
        self.decide_edit(task, spec, By::Command, Some(origin.clone()))?;
        self.edits.files.outdate(task);
        Ok(None)
    }

    fn is_in_batch(&self, task: TaskId) -> bool {
        self.batch.iter().filter_map(|decision| decision.event.state()).any(|(of, _)| of == task)
    }

    /// Checks an edited spec as a submit is, and fixes where the task works.
    pub(super) fn check_edit(&self, task: TaskId, mut spec: Spec) -> Result<Spec, Refusal> {
        // What the queue says for those that do not is fixed already; an edit says all that it wants.
        let said = Said::all(&spec);
        if let Some(known) = self.spec_of(task) {
            spec.fix_deadline_anew(known, clock::now());
        }
        self.fix_place(&mut spec, &said)?;
        let queue = self.spec_of(task).map(|spec| &spec.queue);
        if let Some(queue) = queue.filter(|queue| **queue != spec.queue) {
            let refusal = Refusal::new(Kind::Conflict, format!("task {task} stays in queue {queue}"));
            return Err(refusal
                .at("$.queue")
                .hint("cancel it, and submit it there: `gitspool rerun --set queue=...`"));
        }
        let known = self.spec_of(task);
        for (key, stays) in [
            ("tenant", known.is_none_or(|known| known.tenant == spec.tenant)),
            ("project", known.is_none_or(|known| known.project == spec.project)),
            ("needs", known.is_none_or(|known| known.needs == spec.needs)),
            ("after", known.is_none_or(|known| known.after == spec.after)),
            ("after_failed", known.is_none_or(|known| known.after_failed == spec.after_failed)),
        ] {
            if !stays {
                let refusal = Refusal::new(Kind::Conflict, format!("{key} of task {task} stays as it is"));
                return Err(refusal.at(format!("$.{key}")).hint(RERUN));
            }
        }
        // One that has its lane may keep it, whatever became of that.
        if known.is_none_or(|known| known.lane != spec.lane)
            && let Some(queue) = self.queues.queue(&spec.queue)
        {
            queue.settings.check_lane(spec.lane.as_ref())?;
        }
        self.check_agent(&spec)?;
        Ok(spec)
    }

    /// Gives a task that has not started another spec. Its time is fixed anew if that says another one.
    pub(super) fn decide_edit(
        &mut self,
        task: TaskId,
        spec: Spec,
        by: By,
        command: Option<Origin>,
    ) -> Result<(), Refusal> {
        let Some(mut live) = self.queues.task(task).cloned() else { return Ok(()) };
        if *live.spec == spec {
            return Ok(());
        }
        let before = live.state.clone();
        let times = |spec: &Spec| (spec.start_at, spec.delay_seconds);
        if times(&spec) != times(&live.spec) {
            let asked = task::Event::TimeAsked(spec.until(clock::now()));
            live.state = task::transition(before.clone(), &asked).0;
        }
        let spec = Arc::new(spec);
        let text = self.spec_text(&spec);
        self.note_trouble(text.as_ref().err());
        let text = text.map_err(|error| super::short::unreadable(&error))?;
        let replaced = (std::mem::replace(&mut live.spec, spec), live.spec_seq);
        live.spec_seq = self.log.last_seq() + self.batch.len() as u64 + 1;
        let state = live.state.clone();
        self.queues.insert(task, live);
        self.edits.replaced.push(replaced);
        let effects = task::owed(&state);
        let event = Event::Edited { task, state, spec: text, by, command };
        self.batch.push(Decision { event, effects, before: Some(before) });
        Ok(())
    }

    /// Takes back an edit that the log had no room for; whatever lies there is looked at again.
    pub(super) fn undo_edit(&mut self, task: TaskId) {
        let Some((spec, spec_seq)) = self.edits.replaced.pop() else { return };
        self.edits.files.forget(task);
        if let Some(mut live) = self.queues.task(task).cloned() {
            (live.spec, live.spec_seq) = (spec, spec_seq);
            self.queues.insert(task, live);
        }
    }

    /// Has the text at `found` put away, since it cannot be a task's spec.
    pub(super) fn refuse_edit(&mut self, task: TaskId, found: &Path, refusal: Refusal) {
        let live = self.queues.task(task).or_else(|| self.ended.get(&task));
        let known = live.map(|live| (live.state.clone(), Arc::clone(&live.spec)));
        let Some((state, spec)) = known else { return };
        let belongs = self.path_of(&spec.queue, task, &state);
        self.refuse_text(task, found, refusal, Some((belongs, picture::task(&spec, &state))));
    }

    /// The same of a task that may not be known any more.
    pub(super) fn refuse_text(
        &mut self,
        task: TaskId,
        found: &Path,
        refusal: Refusal,
        belongs: Option<(PathBuf, Vec<u8>)>,
    ) {
        self.edits.files.settled(found);
        let name = found.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (claim, refusal) = (clock::new_id(), refusal.clipped());
        tracing::warn!("{}: {refusal}; it is put away, and the task stays as it was", found.display());
        let origin = Origin::new(claim, name.clone());
        let put_back = PutBack { task, origin, refusal: refusal.clone(), found: found.to_owned(), belongs };
        self.edits.refused.insert(claim, put_back);
        let event = Event::EditRefused { task, claim, name, refusal };
        self.batch.push(Decision { event, effects: vec![], before: None });
    }

    /// Forgets a refusal that the log had no room for.
    pub(super) fn undo_refusal(&mut self, claim: TaskId) {
        self.edits.refused.remove(&claim);
    }

    /// Looks at a text of a task that has just started or ended: what came too late is put away. Tells whether it is.
    pub(super) fn look_too_late(
        &mut self,
        task: TaskId,
        state: &State,
        before: Option<&State>,
        path: &Path,
    ) -> bool {
        let cancelled = state.is_ended() && before.is_some_and(|before| before.live_attempt().is_none());
        if !cancelled && !self.edits.files.is_another(task, path) {
            return false;
        }
        match self.judge(task, path) {
            Found::Same | Found::Gone => false,
            Found::Unsettled | Found::Changed(..) | Found::Refused(_) => {
                self.refuse_edit(task, path, too_late(task, state));
                true
            }
        }
    }

    /// Looks at a file of a task that lies beside the one where it belongs, or of one that has started or ended. A text
    /// that somebody has changed goes where it belongs, and is looked at there; or it comes too late.
    pub(super) fn look_at_copy(&mut self, task: TaskId, in_place: Option<&Path>, copy: &Path) {
        let known = self.known_spec(task).ok().flatten();
        let Some(spec) = known else { return };
        let found = self.edits.files.look_aside(copy, &spec);
        match self.unless_short(found) {
            Found::Same => self.note_failed(store::remove(copy)),
            Found::Unsettled | Found::Gone => {}
            Found::Changed(..) | Found::Refused(_) => match in_place {
                Some(path) if matches!(self.judge(task, path), Found::Same) => {
                    self.note_failed(store::rename(copy, path));
                    self.edits.files.forget(task);
                    self.look_soon();
                }
                // The other one was edited too, and comes first.
                Some(_) => self.look_soon(),
                None => match self.queues.task(task).map(|live| live.state.clone()) {
                    Some(state) => self.refuse_edit(task, copy, too_late(task, &state)),
                    None => self.refuse_text(task, copy, ended(task), None),
                },
            },
        }
    }
}

const RERUN: &str = "`gitspool rerun` submits it once more, with what you change";

pub(super) fn too_late(task: TaskId, state: &State) -> Refusal {
    if state.is_ended() {
        return ended(task);
    }
    Refusal::new(Kind::Conflict, format!("task {task} has started, and its spec is fixed")).hint(RERUN)
}

fn ended(task: TaskId) -> Refusal {
    Refusal::new(Kind::Conflict, format!("task {task} has ended")).hint(RERUN)
}
