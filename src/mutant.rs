//! Ways of breaking a promise on purpose: what proves that the checks of power cuts can fail.
//!
//! None of them is in a normal build. `scripts/soak power` builds one with each, and every such build must be caught.

/// Lines of logs are not synced: what is accepted is in memory only.
pub(crate) const NO_LOG_SYNC: bool = cfg!(gitspool_mutant = "no_log_sync");
/// Folders are not synced: a renamed file may be gone, or be back where it was.
pub(crate) const NO_DIR_SYNC: bool = cfg!(gitspool_mutant = "no_dir_sync");
/// Records get their names before their contents are synced.
pub(crate) const PUBLISH_BEFORE_SYNC: bool = cfg!(gitspool_mutant = "publish_before_sync");
/// Long texts are not synced before the line that names them.
pub(crate) const TEXT_UNSYNCED: bool = cfg!(gitspool_mutant = "text_unsynced");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_normal_build_keeps_its_promises() {
        let broken = [NO_LOG_SYNC, NO_DIR_SYNC, PUBLISH_BEFORE_SYNC, TEXT_UNSYNCED];
        assert_eq!(broken, [false; 4]);
    }
}
