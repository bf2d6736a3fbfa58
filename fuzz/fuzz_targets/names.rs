//! Names, ids, times, and the look-up by them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gitspool::fuzzing::names(bytes));
