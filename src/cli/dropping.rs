//! Dropping a command file into the inbox, as every verb does that changes something.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{CliError, scope};
use crate::clock;
use crate::command;
use crate::layout::Layout;
use crate::mutant::{self, Mutant};
use crate::store::{self, StoreError};

/// A dropped command.
pub(super) struct Dropped {
    /// The file's name, and its receipt's.
    pub(super) name: String,
}

/// Checks a command as the daemon would, and drops it, durably: it survives a power cut even with no daemon running. It is
/// confined to the scope of the command line.
pub(super) fn drop_command(layout: &Layout, value: &Value) -> Result<Dropped, CliError> {
    let mut value = value.clone();
    scope().put_into(&mut value);
    let bytes = serde_json::to_vec(&value).expect("because a JSON value has string keys");
    let name = format!("{}.json", clock::new_id());
    command::parse(&name, &bytes).map_err(CliError::Unsendable)?;
    let (aside, path): (PathBuf, PathBuf) = (layout.dropping(&name), layout.dropped(&name));
    // Nothing is promised, so nothing may stay behind.
    write(&aside, &path, &bytes).inspect_err(|_| drop(store::remove(&aside)))?;
    store::sync_parent(&path)?;
    Ok(Dropped { name })
}

/// Writes the file under a name that the daemon leaves alone, and then gives it its own.
fn write(aside: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let file = store::create_new(aside, bytes, 0o600)?;
    if mutant::breaks(Mutant::PublishBeforeSync) {
        store::rename(aside, path)?;
        return store::at("sync", path, file.sync_all());
    }
    store::at("sync", aside, file.sync_all())?;
    store::rename(aside, path)
}
