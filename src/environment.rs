//! The process's environment variables: read here, passed on as values.
#![expect(clippy::disallowed_methods, reason = "the one module that reads the environment")]

use std::ffi::OsString;
use std::path::PathBuf;

/// The spool that commands use when `--spool` is absent.
pub(crate) const SPOOL_DIR: &str = "GITSPOOL_DIR";
/// Where machine-local state lies, instead of `$XDG_STATE_HOME/gitspool`.
pub(crate) const STATE_DIR: &str = "GITSPOOL_STATE_DIR";
/// The id of the run that a process belongs to; also the marker by which the processes of a lost run are found.
pub(crate) const RUN: &str = "GITSPOOL_RUN";
/// The secret of the run, with which its agent speaks to the spool.
pub(crate) const TOKEN: &str = "GITSPOOL_TOKEN";
/// The attempt's number, from 1.
pub(crate) const ATTEMPT: &str = "GITSPOOL_ATTEMPT";
/// The tenant and the project outside of which the command line sees no task; an agent has those of its own task.
pub(crate) const TENANT: &str = "GITSPOOL_TENANT";
pub(crate) const PROJECT: &str = "GITSPOOL_PROJECT";
/// The task's id.
pub(crate) const TASK: &str = "GITSPOOL_TASK";

/// A variable's value; an empty one counts as absent.
pub(crate) fn value(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder for the user's machine-local state: `$GITSPOOL_STATE_DIR`, else `$XDG_STATE_HOME/gitspool`,
/// else `$HOME/.local/state/gitspool`; `None` when not even `HOME` is set.
pub(crate) fn state_dir() -> Option<PathBuf> {
    // The XDG base directory specification has relative paths passed over.
    let under = |name: &str, rest: &str| {
        value(name).map(PathBuf::from).filter(|dir| dir.is_absolute()).map(|dir| dir.join(rest))
    };
    value(STATE_DIR)
        .map(PathBuf::from)
        .or_else(|| under("XDG_STATE_HOME", "gitspool"))
        .or_else(|| under("HOME", ".local/state/gitspool"))
}

/// What an agent inherits of the daemon's environment: names that say who and where the user is.
pub(crate) fn inherited() -> Vec<(String, OsString)> {
    const NAMES: [&str; 10] =
        ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TERM", "TMPDIR", STATE_DIR];
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| NAMES.contains(&name.as_str()) || name.starts_with("LC_"))
        .collect()
}

/// What a notifier inherits: the same, and where the user's desktop and mail are.
pub(crate) fn for_notifiers() -> Vec<(String, OsString)> {
    const NAMES: [&str; 6] =
        ["DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "MAIL", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR"];
    let more = NAMES.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?)));
    with_own_program(inherited()).into_iter().chain(more).collect()
}

/// Whether a program can be started by its name or its path, as far as that can be seen from here.
pub(crate) fn finds_program(program: &str) -> bool {
    let can_run = |path: &std::path::Path| {
        path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
    };
    if program.contains('/') {
        // A path that is not absolute begins where the task works.
        return !program.starts_with('/') || can_run(program.as_ref());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| can_run(&folder.join(program)))
}

/// Variables, with the folder of our own program at the end of `PATH`, so that an agent finds `gitspool`.
pub(crate) fn with_own_program(mut variables: Vec<(String, OsString)>) -> Vec<(String, OsString)> {
    let own = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let path = variables.iter_mut().find(|(name, _)| name == "PATH");
    if let (Some(own), Some((_, path))) = (own, path) {
        let folders: Vec<PathBuf> = std::env::split_paths(path).chain([own]).collect();
        if let Ok(joined) = std::env::join_paths(folders) {
            *path = joined;
        }
    }
    variables
}
