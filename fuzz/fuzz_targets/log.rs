//! Logs: the spool's and a run's.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gitspool::fuzzing::log(bytes));
