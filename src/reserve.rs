//! The reserve, `.local/reserve/`: room that is kept ready for what must be written when there is none.
//!
//! Its files hold blocks and inodes and mean nothing. Whoever owes a record that the file system does not take (the end of
//! a run, the line and the picture of it) gives one of them up and tries again; so there is one for each of many needs.
//! The daemon and the supervisors give up, each for itself; only the daemon makes the reserve whole again, and it
//! admits and starts nothing that would have to end without it.

use crate::layout::Layout;
use crate::store::{self, StoreError};

/// How many needs it serves.
pub(crate) const FILES: u32 = 32;
/// Enough for the log of most runs; and for the folders and trees that a file system wants to write with it.
pub(crate) const FILE_BYTES: u64 = 128 * 1024;
/// How many files one need gives up at once: others may use what becomes free.
const FOR_ONE_NEED: u32 = 2;

/// Gives up one file; `false` when none is left.
pub(crate) fn give_up(layout: &Layout) -> bool {
    // Another process may have been quicker.
    (0..FILES).any(|number| store::removes(&layout.reserved(number)))
}

/// Whether all of it is there.
pub(crate) fn is_whole(layout: &Layout) -> bool {
    (0..FILES).all(|number| store::bytes_of(&layout.reserved(number)) == Some(FILE_BYTES))
}

/// Makes it whole.
///
/// # Errors
/// When there is not enough room; what there is of it stays.
pub(crate) fn refill(layout: &Layout) -> Result<(), StoreError> {
    store::make_missing(&[layout.local(), layout.reserve()])?;
    for path in (0..FILES).map(|number| layout.reserved(number)) {
        if store::bytes_of(&path) != Some(FILE_BYTES) {
            store::remove(&path)?;
            store::create_filled(&path, FILE_BYTES)?;
        }
    }
    Ok(())
}

/// Does what is owed, and gives up some of the reserve for it where it finds no room.
pub(crate) fn spend<T>(
    layout: &Layout,
    owed: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    spend_up_to(FOR_ONE_NEED, layout, owed)
}

/// The same for what nothing else may go before: with all of the reserve.
pub(crate) fn spend_all<T>(
    layout: &Layout,
    owed: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    spend_up_to(FILES, layout, owed)
}

fn spend_up_to<T>(
    files: u32,
    layout: &Layout,
    mut owed: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    for _ in 0..files {
        match owed() {
            Err(error) if error.wants_room() && give_up(layout) => {}
            done => return done,
        }
    }
    owed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        (folder, layout)
    }

    #[test]
    fn each_file_is_given_up_once_and_made_again() {
        let (_folder, layout) = layout();
        assert!(!is_whole(&layout) && !give_up(&layout));
        refill(&layout).unwrap();
        assert!(is_whole(&layout));
        let blocks = std::os::unix::fs::MetadataExt::blocks(&layout.reserved(0).metadata().unwrap());
        assert!(blocks * 512 >= FILE_BYTES, "{blocks} blocks are really there");
        assert_eq!((0..100).filter(|_| give_up(&layout)).count(), 32);
        refill(&layout).unwrap();
        store::remove(&layout.reserved(7)).unwrap();
        assert!(!is_whole(&layout));
        refill(&layout).unwrap();
        assert!(is_whole(&layout));
    }

    #[test]
    fn it_is_spent_on_a_lack_of_room_only() {
        let (_folder, layout) = layout();
        refill(&layout).unwrap();
        let failing = |errno: rustix::io::Errno| {
            let mut tries = 0;
            let failed = spend(&layout, || {
                tries += 1;
                store::at::<()>("write", layout.root(), Err(errno.into()))
            });
            (failed.is_err(), tries)
        };
        assert_eq!(failing(rustix::io::Errno::IO), (true, 1));
        assert_eq!(failing(rustix::io::Errno::MFILE), (true, 1));
        assert!(is_whole(&layout));
        assert_eq!(failing(rustix::io::Errno::NOSPC), (true, 3));
        assert_eq!((0..100).filter(|_| give_up(&layout)).count(), 30);
    }
}
