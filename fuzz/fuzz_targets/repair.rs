//! Logs that are opened, repaired and appended to, on disk.
#![no_main]

use std::sync::LazyLock;

/// Ours alone, and of this process only: it goes with the folder for temporary files.
static FOLDER: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("because there is room for a folder"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gitspool::fuzzing::repair(FOLDER.path(), bytes));
