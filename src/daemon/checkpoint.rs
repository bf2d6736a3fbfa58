//! Checkpoints: up to which line of the log the tree is known to be on disk, and what was live then.
//!
//! Start-up redoes only the moves after it. A checkpoint that is missing or cannot be read costs time and nothing else.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crossbeam_channel::{Receiver, Sender};

use crate::checkpoint::{Checked, Checkpoint};
use crate::clock;
use crate::id::TaskId;
use crate::input::Input;
use crate::layout::Layout;
use crate::mutant::{self, Mutant};
use crate::store::{self, StoreError};

use super::{Daemon, QUIET};

/// What the checkpoint's thread is given: what to sync, and then to write.
pub(super) struct Job {
    checkpoint: Checkpoint,
    touched: BTreeSet<PathBuf>,
}

/// Syncs and writes checkpoints, until the daemon ends.
///
/// # Errors
/// When something could not be synced; there are no more checkpoints then.
pub(super) fn run(layout: &Layout, jobs: &Receiver<Job>, inputs: &Sender<Input>) -> Result<(), StoreError> {
    jobs.iter().try_for_each(|job| carry_out(layout, &job, inputs))
}

/// Does one job, and tells what came of it.
pub(super) fn carry_out(layout: &Layout, job: &Job, inputs: &Sender<Input>) -> Result<(), StoreError> {
    let seq = job.checkpoint.seq;
    let result = match write(layout, job) {
        Err(error) if error.is_failed_sync() => {
            let _ = inputs.send(Input::SyncFailed(error.to_string()));
            return Err(error);
        }
        result => result.map(|()| seq).map_err(|error| error.failure()),
    };
    // Nobody listens any more when this is the last one.
    let _ = inputs.send(Input::Checkpointed(result));
    Ok(())
}

fn write(layout: &Layout, job: &Job) -> Result<(), StoreError> {
    let unsynced = mutant::breaks(Mutant::CheckpointUnsynced);
    job.touched.iter().filter(|_| !unsynced).try_for_each(|path| store::sync_file(path))?;
    store::sync_dir(&layout.claimed())?;
    store::replace(layout, &layout.checkpoint(), &job.checkpoint.to_bytes())
}

/// Reads the checkpoint; an empty one when there is none that makes sense.
pub(super) fn read(layout: &Layout) -> Result<Checkpoint, StoreError> {
    let bytes = store::read_if_there(&layout.checkpoint())?.unwrap_or_default();
    Ok(Checkpoint::parse(&bytes).unwrap_or_default())
}

impl Daemon {
    /// Has a checkpoint written of what is decided and carried out now.
    pub(super) fn checkpoint(&mut self) {
        let checked = |(task, live): (TaskId, &crate::queue::Live)| Checked {
            task,
            state: live.state.clone(),
            spec_seq: live.spec_seq,
        };
        let checkpoint = Checkpoint {
            seq: self.log.last_seq(),
            tasks: self.queues.tasks().map(checked).collect(),
            queues: self.pauses.logged(),
            notices: self.notices.ledger.checked(),
        };
        self.in_checkpoint = std::mem::take(&mut self.touched);
        let job = Job { checkpoint, touched: self.in_checkpoint.clone() };
        self.quiet_at = clock::monotonic() + QUIET;
        self.checkpointing = self.checkpointer.send(job).is_ok();
    }
}
