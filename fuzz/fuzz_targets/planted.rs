//! A fault that is planted, to see whether the fuzzer would find one: a command that nobody has in a corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    gitspool::fuzzing::command(bytes);
    assert!(!gitspool::fuzzing::is_planted(bytes), "the planted fault was found");
});
