//! The paths inside one run directory.

use std::path::{Path, PathBuf};

use super::{
    COMMANDS, LAUNCH_ERROR, LAUNCHES, OUTPUT, OUTPUT_INDEX, PROMPT, RUN_LOCK, RUN_LOG, RUN_RECORD, RUN_TASK,
    SCRIPT, STDERR, STDERR_INDEX, STDOUT, STDOUT_INDEX, SUPERVISOR_ERROR, TURNS, WAKE,
};

/// The paths inside one run directory.
#[derive(Clone, Debug)]
pub(crate) struct RunLayout {
    dir: PathBuf,
}

impl RunLayout {
    pub(crate) fn new(dir: impl Into<PathBuf>) -> RunLayout {
        RunLayout { dir: dir.into() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join(RUN_LOG)
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.dir.join(RUN_RECORD)
    }

    pub(crate) fn task(&self) -> PathBuf {
        self.dir.join(RUN_TASK)
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join(RUN_LOCK)
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.dir.join(OUTPUT)
    }

    pub(crate) fn stdout(&self) -> PathBuf {
        self.dir.join(STDOUT)
    }

    pub(crate) fn stderr(&self) -> PathBuf {
        self.dir.join(STDERR)
    }

    /// When how much of the output was there; the same for each of the two streams that are kept apart.
    pub(crate) fn output_index(&self) -> PathBuf {
        self.dir.join(OUTPUT_INDEX)
    }

    pub(crate) fn stdout_index(&self) -> PathBuf {
        self.dir.join(STDOUT_INDEX)
    }

    pub(crate) fn stderr_index(&self) -> PathBuf {
        self.dir.join(STDERR_INDEX)
    }

    pub(crate) fn script(&self) -> PathBuf {
        self.dir.join(SCRIPT)
    }

    pub(crate) fn commands(&self) -> PathBuf {
        self.dir.join(COMMANDS)
    }

    pub(crate) fn command(&self, seq: u64, kind: &str) -> PathBuf {
        self.commands().join(format!("{seq:04}-{kind}.json"))
    }

    pub(crate) fn turn(&self, turn: u32) -> PathBuf {
        self.dir.join(TURNS).join(turn.to_string())
    }

    pub(crate) fn prompt(&self, turn: u32) -> PathBuf {
        self.turn(turn).join(PROMPT)
    }

    /// The fifo that tells a supervisor to look for commands.
    pub(crate) fn wake(&self) -> PathBuf {
        self.dir.join(WAKE)
    }

    /// What the launch stage says when it could not exec the agent.
    pub(crate) fn launch_error(&self) -> PathBuf {
        self.dir.join(LAUNCH_ERROR)
    }

    /// The supervisors that ended before they had begun the run.
    pub(crate) fn launches(&self) -> PathBuf {
        self.dir.join(LAUNCHES)
    }

    /// What a supervisor says when it could not do its work.
    pub(crate) fn supervisor_error(&self) -> PathBuf {
        self.dir.join(SUPERVISOR_ERROR)
    }
}
