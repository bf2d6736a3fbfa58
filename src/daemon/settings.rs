//! What users write down: `queue.json`, and what the host has. Where one makes no sense the last good ones stay, and are told
//! of in `status`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::command::BYTES_MAX;
use crate::defaults::Said;
use crate::event::{Event, Origin};
use crate::id::{Name, Rank};
use crate::json;
use crate::jsonl;
use crate::queue::{self, Settings};
use crate::refusal::{Kind, Refusal};
use crate::resource::{self, HostSettings, ResourceName};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::spool;
use crate::store::{self, StoreError};

use super::Daemon;
use super::short::unreadable;

/// How much of new settings the answer shows.
const NOTE_BYTES_MAX: usize = 4 * 1024;

impl Daemon {
    /// Reads `queue.json` again.
    pub(super) fn read_settings(&mut self, queue: &Name) {
        let path = self.layout.queue_record(queue);
        let read = read(&path, queue::parse_settings);
        if matches!(read, Ok(None)) && !store::exists(&self.layout.queue(queue)) {
            // Somebody removed the folder with all that was in it, and not the settings to have the usual ones.
            return;
        }
        let known = self.queues.queue_mut(queue);
        match read {
            Ok(settings) => {
                (known.settings, known.settings_error) = (settings.unwrap_or_default(), None);
            }
            Err(error) => tell_once(&path, &mut known.settings_error, error),
        }
    }

    /// Reads again what this host has.
    pub(super) fn read_host_settings(&mut self) {
        let path = self.layout.host_settings(&self.host);
        match read(&path, resource::parse_host) {
            Ok(settings) => {
                let settings: HostSettings = settings.unwrap_or_default();
                (self.resources, self.resources_error) = (settings.resources, None);
            }
            Err(error) => tell_once(&path, &mut self.resources_error, error),
        }
    }

    /// Gives a task what its queue says for all that do not say otherwise. It is fixed with that, and its file shows it.
    pub(super) fn fill(&mut self, spec: &mut Spec, rank: &mut Rank, said: &Said) -> Result<(), Refusal> {
        self.check_queue(&spec.queue)?;
        let Some(queue) = self.queues.queue(&spec.queue) else { return Ok(()) };
        let defaults = &queue.settings.defaults;
        defaults.fill(spec, rank, said).map_err(|refusal| {
            let hint = refusal.hint.clone().unwrap_or_default();
            refusal
                .hint(format!("{hint} (with the defaults of queue {})", spec.queue).trim_start().to_owned())
        })
    }

    /// What this host has never enough of for a task; another host may have it, so the task is taken.
    pub(super) fn never_had(&self, spec: &Spec) -> Option<String> {
        let count = |name: &ResourceName| self.resources.get(name).map_or(0, |capacity| capacity.count());
        let (name, wanted) = spec.resources.iter().find(|(name, wanted)| **wanted > count(name))?;
        Some(format!(
            "it wants {wanted} of {name}, and host {} has never more than {}",
            self.host,
            count(name)
        ))
    }

    /// Changes the settings of a queue, and makes it if it is not there. Before it is answered: whoever is killed in between
    /// does the same again.
    pub(super) fn set(
        &mut self,
        origin: &Origin,
        queue: &Name,
        changes: &Map<String, Value>,
        scope: &Scope,
    ) -> Result<Event, Refusal> {
        if !scope.is_whole() {
            let refusal = Refusal::new(Kind::NotPermitted, "a queue is there for all scopes");
            return Err(refusal.at("$.queue").hint("leave tenant and project out"));
        }
        if self.queues.queue(queue).is_none() || !store::exists(&self.layout.queue(queue)) {
            self.open_asked(queue)?;
        }
        let path = self.layout.queue_record(queue);
        let failed = |error: StoreError| unreadable(&error);
        let bytes = store::read_if_small(&path, BYTES_MAX).map_err(failed)?.unwrap_or_else(|| b"{}".to_vec());
        let there = queue::parse_settings(&bytes).and_then(|_| json::parse_object(&bytes));
        let there = there.map_err(|refusal| {
            let refusal =
                Refusal::new(Kind::Conflict, format!("{}: {refusal}", path.display())).at("$.queue");
            refusal.hint("mend it, or remove it, first")
        })?;
        let mut changed = there.clone();
        queue::change(&mut changed, changes);
        let text = Value::Object(changed.clone()).to_string();
        queue::parse_settings(text.as_bytes())?;
        if changed != there {
            let replaced = store::replace(&self.layout, &path, &spool::pretty(&changed));
            self.note_trouble(replaced.as_ref().err());
            replaced.map_err(failed)?;
        }
        self.read_settings(queue);
        let note = format!("queue {queue}: {}", jsonl::clip(&text, NOTE_BYTES_MAX));
        Ok(self.accepted(origin, "set", None, &note))
    }

    /// The settings of a queue that are in force.
    pub(super) fn settings_of(&self, queue: &Name) -> Settings {
        self.queues.queue(queue).map(|known| known.settings.clone()).unwrap_or_default()
    }
}

/// Reads a file of settings; `None` when there is none.
fn read<T>(path: &Path, parse: fn(&[u8]) -> Result<T, Refusal>) -> Result<Option<T>, String> {
    match store::read_if_small(path, BYTES_MAX) {
        Ok(Some(bytes)) => parse(&bytes).map(Some).map_err(|refusal| refusal.to_string()),
        Ok(None) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Notes what is wrong with a file, and says it when it was not known.
fn tell_once(path: &Path, known: &mut Option<String>, error: String) {
    if known.as_ref() != Some(&error) {
        tracing::warn!("{}: {error}; the earlier settings stay", path.display());
    }
    *known = Some(error);
}
