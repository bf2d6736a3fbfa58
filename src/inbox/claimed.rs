//! Files that were taken from the inbox and are not answered yet: what they are called, and which there are.

use crate::command;
use crate::event::Origin;
use crate::id::{Name, TaskId};
use crate::layout::{self, Layout};
use crate::store;

/// The name of a file's receipt: its own, or one that is safe and short enough to stand for it.
pub(crate) fn receipt_name(name: &str) -> String {
    if name.parse::<Name>().is_ok() {
        return name.to_owned();
    }
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let plain: String = name.chars().map(safe).take(100).collect();
    // No command has a name like this: if it is looked at again after a crash, it is refused again.
    format!("_{plain}")
}

/// Whether no file waits to be taken, or was taken and has not come to the daemon yet: what an inbox says that was looked
/// through a while ago does not count. `is_decided` knows the claims that only lack their answer.
pub(crate) fn is_taken(layout: &Layout, is_decided: impl Fn(TaskId) -> bool) -> bool {
    let waits = |names: Vec<String>| names.iter().any(|name| !command::is_in_the_making(name));
    // Where this cannot be read nothing can be taken either, unless it can be read again in a moment.
    let short = |error: &store::StoreError| error.shortage().is_some();
    let waiting = store::names(&layout.inbox()).map_or_else(|error| short(&error), waits);
    let claimed = match claimed_files(layout) {
        Ok(claimed) => claimed,
        Err(error) if short(&error) => return false,
        Err(_) => Vec::new(),
    };
    !waiting && claimed.iter().all(|origin| is_decided(origin.claim))
}

/// The files that an earlier daemon took, by what their names say.
pub(crate) fn claimed_files(layout: &Layout) -> Result<Vec<Origin>, store::StoreError> {
    let names = store::names(&layout.claimed())?;
    let origin = |name: &String| {
        let (claim, name): (TaskId, &str) = layout::parse_claim_name(name)?;
        Some(Origin::new(claim, name))
    };
    Ok(names.iter().filter_map(origin).collect())
}
