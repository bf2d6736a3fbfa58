//! What is shown to people: escaped, without secrets, clipped.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gitspool::fuzzing::shown(bytes));
