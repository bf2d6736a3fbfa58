//! Tests of the real program on a real spool: what users, other programs and crashes do to it.
//!
//! Each test has a [`sandbox::Sandbox`] of its own, and ends with [`check::check`] when it ran jobs.
#![expect(clippy::disallowed_methods, reason = "tests drop files, start and kill processes, and wait")]
#![expect(clippy::print_stderr, reason = "tells the seed of a storm, and what was skipped")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod adoption;
mod apply;
mod breaker;
mod changes;
mod check;
// Elsewhere scripts/check says that they are left out.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod crash;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod crashpoint;
mod damage;
mod deadlines;
mod disk;
mod edits;
mod exhaustion;
mod faults;
mod follow;
mod fsck;
mod gc;
mod hand;
mod hostile;
mod idle;
mod intake;
mod kept;
mod keys;
mod lanes;
mod needs;
mod notices;
mod power;
mod readers;
mod refusals;
mod resources;
mod restart;
mod retries;
mod retry;
mod rm;
mod runs;
mod sandbox;
mod scope;
mod settings;
mod storm;
mod terminal;
mod together;
mod waiting;
mod words;
mod workspaces;
