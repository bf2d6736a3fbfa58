//! How a run begins: under its lock, behind its first line, once; and how that waits for room.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::RawMode;

use crate::assignment::Assignment;
use crate::layout::{Layout, RunLayout};
use crate::log::{Log, LogError};
use crate::mutant::{self, Mutant};
use crate::store::{self, StoreError};
use crate::{cgroup, digest, lock, process, record};

use super::Supervisor;
use super::wake::{self, Wake};

/// How long to wait before the first line is tried to be taken back again.
const TAKE_BACK_AGAIN: Duration = Duration::from_secs(1);
/// How long to wait for room to begin a run before it is tried again.
const BEGIN_AGAIN: Duration = Duration::from_secs(1);

/// Why a supervisor cannot begin a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SupervisorError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{} is no assignment: {reason}", path.display())]
    Assignment { path: PathBuf, reason: String },
}

impl SupervisorError {
    /// Whether there was no room, or the like, and nothing has changed.
    fn is_shortage(&self) -> bool {
        match self {
            SupervisorError::Store(error) | SupervisorError::Log(LogError::Short(error)) => {
                error.shortage().is_some()
            }
            SupervisorError::Log(_) | SupervisorError::Assignment { .. } => false,
        }
    }

    /// Whether a file of the reserve may help.
    pub(super) fn wants_room(&self) -> bool {
        match self {
            SupervisorError::Store(error) => error.wants_room(),
            SupervisorError::Log(error) => error.store().is_some_and(StoreError::wants_room),
            SupervisorError::Assignment { .. } => false,
        }
    }
}

impl Supervisor {
    /// Takes the run's lock and begins the run; `None` when it had begun already.
    ///
    /// # Errors
    /// When the run could not be begun.
    pub(crate) fn take(
        paths: &RunLayout,
        wake: &mut Wake,
        umask: RawMode,
    ) -> Result<Option<Supervisor>, SupervisorError> {
        // Waits: whoever looked whether the lock is held has it for an instant.
        let run_lock = held_up(wake, || Ok(lock::wait_exclusive(&paths.lock())?))?;
        let opened = held_up(wake, || Ok(Log::open(&paths.log(), 0)?))?;
        // Whatever its lines say, or if they can be read at all: it begins behind its first line, and never twice.
        if opened.log.last_seq() > 0 && !mutant::breaks(Mutant::BeginUnchecked) {
            // Who began it may have been killed between writing and syncing; and that it is over is said next.
            store::sync_file(&paths.log())?;
            return Ok(None);
        }
        let assignment = held_up(wake, || read_assignment(&paths.task()))?;
        let mut supervisor = Supervisor::new(paths, run_lock, assignment, opened.log, umask);
        let begun = held_up(wake, || supervisor.begin());
        begun.inspect_err(|error| take_back(&supervisor.layout, paths, error))?;
        Ok(Some(supervisor))
    }

    /// Writes the line after which this attempt can never begin again.
    ///
    /// # Errors
    /// For want of room nothing is written; else see [`take_back`].
    fn begin(&mut self) -> Result<(), SupervisorError> {
        self.cgroup = cgroup::make(self.run());
        let started = record::Event::Started {
            run: self.run(),
            host: self.assignment.host.clone(),
            pid: process::id(),
            boot: process::boot(),
            token_sha256: digest::sha256_hex(self.token.as_bytes()),
            item: self.assignment.spec.item.clone(),
            cgroup: self.cgroup.clone(),
        };
        // Before the line that says that the run has begun: what it is about, and where all of that is found.
        store::sync_file(&self.paths.task())?;
        self.log.enter()?;
        store::sync_parent(self.paths.dir())?;
        Ok(self.note_durably(vec![started])?)
    }
}

/// Tries what comes before a run's first line until there is room for it: a run is not given up for a shortage, nor begun
/// with what was kept for the ends of others. Who wants us to end meanwhile is heard.
fn held_up<T>(
    wake: &mut Wake,
    mut step: impl FnMut() -> Result<T, SupervisorError>,
) -> Result<T, SupervisorError> {
    loop {
        match step() {
            Err(error) if error.is_shortage() && !wake.end_was_asked() => wake::pause(BEGIN_AGAIN),
            done => return done,
        }
    }
}

/// Takes the run's first line back when it could not be made durable: whoever reads it would take the run for lost,
/// though no agent was started. Without it the run can begin again. Tried for as long as it takes, or the folder is there.
fn take_back(layout: &Layout, paths: &RunLayout, error: &SupervisorError) {
    // What somebody else wrote to the log is not ours to remove; and for want of room nothing was written.
    let is_changed = matches!(error, SupervisorError::Log(LogError::Changed { .. }));
    if is_changed || error.is_shortage() {
        return;
    }
    while store::exists(&paths.lock()) && store::replace(layout, &paths.log(), b"").is_err() {
        wake::pause(TAKE_BACK_AGAIN);
    }
}

fn read_assignment(path: &Path) -> Result<Assignment, SupervisorError> {
    serde_json::from_slice(&store::read(path)?)
        .map_err(|error| SupervisorError::Assignment { path: path.to_owned(), reason: error.to_string() })
}
