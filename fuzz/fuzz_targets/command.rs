//! Dropped files: commands, and the settings that are read like them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gitspool::fuzzing::command(bytes));
