//! gitspool: a job spooler whose interface is a directory.
//!
//! The files are specified in `spool-layout.md`. The modules are listed in reading order: words first, then what
//! decides, then what acts.

mod id;
mod time;
mod digest;
mod layout;
mod outcome;
mod shortage;
mod refusal;
mod misfit;
mod json;
mod workspace;
mod resource;
mod retry;
mod needs;
mod notice;
mod spec;
mod scope;
mod defaults;
mod command;
mod edit;
mod agent;
mod prompt;
mod assignment;
mod redact;
mod escape;
mod task;
mod retention;
mod queue;
mod run;
mod jsonl;
mod event;
mod breaker;
mod change;
mod reader;
mod applied;
mod record;
mod launched;
mod index;
mod recovery;
mod why;
mod removal;
mod checkpoint;
mod answer;
mod key;
mod picture;
mod audit;
mod input;

mod clock;
mod environment;
mod mutant;
mod disk;
mod store;
mod reserve;
mod lock;
mod log;
mod texts;
mod history;
mod keys;
mod readers;
mod removed;
mod reclaim;
mod gc;
mod receipt;
mod lease;
mod spool;
mod inbox;
mod watch;
mod hint;
mod git;
mod worktree;
mod kept;
mod settlement;
mod restore;
mod apply;
mod process;
mod cgroup;
mod launch;
mod stage;
mod notifier;
mod fsck;
mod supervisor;
mod daemon;
mod cli;
#[cfg(test)]
mod model;
#[cfg(test)]
mod simulated;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
mod properties;

/// Does what the program's arguments ask for.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next().unwrap_or_default();
    // The hidden verbs come first, so that a supervisor and a launch stage never pay for a command line parser.
    match verb.to_str() {
        Some(supervisor::VERB) => supervisor::main(arguments.next().map(Into::into)),
        Some(notifier::VERB) => notifier::main(),
        Some(launch::VERB) => std::process::ExitCode::from(launch::main(arguments)),
        Some(stage::VERB) => {
            let verb = arguments.next().unwrap_or_default();
            stage::main(&verb.to_string_lossy(), &path(arguments.next()))
        }
        _ => cli::main(),
    }
}

fn path(argument: Option<std::ffi::OsString>) -> std::path::PathBuf {
    argument.unwrap_or_default().into()
}
