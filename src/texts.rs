//! Long texts that log lines name: content-addressed, immutable, durable before the line that names them.

use crate::digest::sha256_hex;
use crate::layout::Layout;
use crate::mutant::{self, Mutant};
use crate::store::{self, StoreError};

/// Keeps `bytes` and returns the name under which they are found again. Durable on return.
pub(crate) fn keep(layout: &Layout, bytes: &[u8]) -> Result<String, StoreError> {
    let name = sha256_hex(bytes);
    let path = layout.text(&name);
    // A file may be there from a try that a crash cut short of its sync: only what reads back right is kept.
    if store::read_if_there(&path)?.is_some_and(|there| there == bytes) {
        store::sync_file(&path)?;
        store::sync_parent(&path)?;
    } else if mutant::breaks(Mutant::TextUnsynced) {
        store::draw(layout, &path, bytes)?;
    } else {
        store::replace(layout, &path, bytes)?;
    }
    Ok(name)
}

/// Reads a kept text; `None` when it is missing or not what its name says.
pub(crate) fn read(layout: &Layout, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let known_form = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !known_form {
        return Ok(None);
    }
    Ok(store::read_if_there(&layout.text(name))?.filter(|bytes| sha256_hex(bytes) == name))
}
