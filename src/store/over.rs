//! Drawing in the place of a file that a user may save at any moment.

use std::path::Path;

use super::{StoreError, at, discard, identity, publish, write_aside};
use crate::disk;
use crate::layout::Layout;

/// Replaces a picture that can be drawn again, in the place of a file that somebody may save at any moment: that stays where it is when it is not as `expected`.
/// Tells whether the picture was drawn.
pub(crate) fn draw_over(
    layout: &Layout,
    path: &Path,
    bytes: &[u8],
    expected: &dyn Fn(&Path) -> bool,
) -> Result<bool, StoreError> {
    let aside = write_aside(layout, bytes, false)?;
    let ours = identity(&aside);
    match disk::exchange(&aside, path) {
        Ok(()) if expected(&aside) => {
            discard(&aside);
            Ok(true)
        }
        Ok(()) => {
            // What was saved goes back; and so does what was saved meanwhile.
            while identity(&aside) != ours {
                at("give back", path, disk::exchange(&aside, path))?;
            }
            discard(&aside);
            Ok(false)
        }
        // Where files cannot be exchanged, or there is none, who saves in just this moment comes too early.
        Err(_) => publish(&aside, path).map(|()| true),
    }
}
