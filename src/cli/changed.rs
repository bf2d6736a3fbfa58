//! Tasks that changed, as verbs show them: with their versions, and with what their files say.

use std::cell::OnceCell;
use std::collections::HashMap;

use serde_json::{Value, json};

use super::find::{self, Found, Place};
use super::{CliError, runs, scope, shown};
use crate::change::Change;
use crate::id::{Name, RunId, TaskId};
use crate::layout::{ENDED_FOLDERS, Layout};
use crate::picture;
use crate::redact;
use crate::spec::Spec;
use crate::store;
use crate::task::State;

/// A task that changed.
pub(super) struct Changed {
    pub(super) change: Change,
    /// Its file; it may have been removed, or not be drawn yet.
    pub(super) found: Option<Found>,
    pub(super) spec: Option<Spec>,
    /// The word for its state at its version, or where no line told that, for where it stands.
    pub(super) word: &'static str,
}

/// Where the files of tasks lie.
pub(super) struct Places<'a> {
    layout: &'a Layout,
    queues: Vec<Name>,
    /// The live tasks, listed when one is not where its state says: it moves just now.
    live: OnceCell<HashMap<TaskId, Found>>,
}

impl Places<'_> {
    pub(super) fn new(layout: &Layout) -> Result<Places<'_>, CliError> {
        Ok(Places { layout, queues: find::queues(layout)?, live: OnceCell::new() })
    }

    /// Finds the file of a task that changed; `None` when the task is none for whoever calls.
    pub(super) fn locate(&self, change: Change) -> Result<Option<Changed>, CliError> {
        // It is moved after its line is written: when it is at neither place, it came to the new one meanwhile.
        let found = match self.where_told(&change) {
            Some(found) => Some(found),
            None => match self.where_live(change.task)? {
                Some(found) => Some(found),
                None => self.where_told(&change).or_else(|| self.where_ended(change.task)),
            },
        };
        let of_file = found.as_ref().map_or(Ok(None), find::spec)?;
        let spec = of_file.or_else(|| change.spec.as_deref().cloned());
        let is_theirs = scope().is_whole() || spec.as_ref().is_some_and(|spec| scope().has(spec));
        if !is_theirs {
            return Ok(None);
        }
        Changed::new(self.layout, change, found, spec).map(Some)
    }

    fn where_told(&self, change: &Change) -> Option<Found> {
        let (task, state) = (change.task, change.state.as_ref()?);
        let mut places =
            self.queues.iter().map(|queue| (queue, picture::place(self.layout, queue, task, state)));
        let (queue, path) = places.find(|(_, path)| store::exists(path))?;
        Some(Found { task, queue: queue.clone(), place: place_of(state), path })
    }

    /// A line tells of a task as it was then: it may have ended since.
    fn where_ended(&self, task: TaskId) -> Option<Found> {
        let folders = self.queues.iter().flat_map(|queue| ENDED_FOLDERS.map(|folder| (queue, folder)));
        let mut places =
            folders.map(|(queue, folder)| (queue, folder, self.layout.ended_task(queue, folder, task)));
        let (queue, folder, path) = places.find(|(_, _, path)| store::exists(path))?;
        Some(Found { task, queue: queue.clone(), place: Place::Ended(folder), path })
    }

    fn where_live(&self, task: TaskId) -> Result<Option<Found>, CliError> {
        if self.live.get().is_none() {
            let live = find::live(self.layout)?.into_iter().map(|found| (found.task, found));
            let _ = self.live.set(live.collect());
        }
        Ok(self.live.get().and_then(|live| live.get(&task)).cloned())
    }
}

fn place_of(state: &State) -> Place {
    match state {
        State::Held { .. } => Place::Held,
        State::Waiting { .. } => Place::Waiting,
        State::Ready { rank, .. } => Place::Ready(*rank),
        State::Active { host, .. } | State::Cancelling { host, .. } => Place::Active(host.clone()),
        State::Ended { outcome, .. } => Place::Ended(outcome.folder()),
    }
}

impl Changed {
    pub(super) fn new(
        layout: &Layout,
        change: Change,
        found: Option<Found>,
        spec: Option<Spec>,
    ) -> Result<Changed, CliError> {
        let word = match (&change.state, &found) {
            (Some(state), _) => state.word(),
            (None, Some(found)) if found.place.is_ended() => {
                runs::state_word(found, runs::last(layout, found.task)?.as_ref())
            }
            (None, Some(found)) => found.place.word(),
            (None, None) => "gone",
        };
        Ok(Changed { change, found, spec, word })
    }

    pub(super) fn is_ended(&self) -> bool {
        self.change.state.as_ref().is_some_and(State::is_ended)
            || self.found.as_ref().is_some_and(|found| found.place.is_ended())
    }

    pub(super) fn queue(&self) -> Option<&Name> {
        let of_spec = self.spec.as_ref().map(|spec| &spec.queue);
        self.found.as_ref().map(|found| &found.queue).or(of_spec)
    }

    pub(super) fn name(&self) -> Option<&Name> {
        self.spec.as_ref()?.name.as_ref()
    }

    fn run(&self, layout: &Layout) -> Option<RunId> {
        let task = self.change.task;
        let attempt = match &self.change.state {
            Some(state) => state.live_attempt().unwrap_or_else(|| state.attempts_over()),
            None => runs::attempts(layout, task),
        };
        (attempt > 0).then_some(RunId { task, attempt })
    }

    pub(super) fn value(&self, layout: &Layout) -> Value {
        let mut value = json!({
            "version": self.change.version,
            "at": self.change.at,
            "task": self.change.task,
            "state": self.word,
            "queue": self.queue(),
            "path": self.found.as_ref().map(|found| &found.path),
        });
        let spec = self.spec.as_ref();
        let optional: [(&str, Option<Value>); 5] = [
            ("run", self.run(layout).map(|run| run.to_string().into())),
            ("name", self.name().map(|name| name.as_str().into())),
            ("item", spec.and_then(|spec| spec.item.clone()).map(Into::into)),
            ("tenant", spec.and_then(|spec| spec.tenant.as_ref()).map(|name| name.as_str().into())),
            ("project", spec.and_then(|spec| spec.project.as_ref()).map(|name| name.as_str().into())),
        ];
        for (key, given) in optional {
            if let Some(given) = given {
                value[key] = given;
            }
        }
        redact::value(&mut value);
        value
    }

    /// What it does, in short.
    pub(super) fn work(&self) -> String {
        self.spec.as_ref().map_or_else(|| "(its file is gone, or cannot be read)".to_owned(), shown::work)
    }
}
