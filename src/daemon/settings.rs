//! What users write down: `queue.json`, and what the host has. Where one makes no sense the last good ones stay, and are told
//! of in `status`.

use std::path::Path;

use crate::command::BYTES_MAX;
use crate::id::Name;
use crate::queue::{self, Settings};
use crate::refusal::Refusal;
use crate::resource::{self, HostSettings};
use crate::store;

use super::Daemon;

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
