//! A job that says when it started; part of `scripts/bench`.
//!
//! `stamp FILE` reads the wall clock before anything else and leaves it in FILE, as nanoseconds since 1970. FILE
//! appears by a rename, so that who waits for it never reads half a number.
#![expect(clippy::disallowed_methods, reason = "a measuring tool stands outside the program and its doors")]

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    let started = SystemTime::now();
    let Some(file) = std::env::args().nth(1) else { return ExitCode::from(2) };
    let nanos = started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let draft = format!("{file}.{}.tmp", std::process::id());
    let written = std::fs::write(&draft, format!("{nanos}\n")).and_then(|()| std::fs::rename(&draft, &file));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
