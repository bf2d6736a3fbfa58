//! How a daemon's checkpoints are written, while it goes on.

use super::disk::{FILES, Line, TASKS};
use super::world::{Checkpoint, World};
use super::{Fault, Protocol};

impl Protocol {
    pub(super) fn begin_checkpoint(&self, world: &mut World, at: usize) -> bool {
        let tasks = world.disk.tasks.iter().any(|task| task.behind);
        let behind = tasks || world.disk.files.iter().any(|file| file.answer_behind);
        let daemon = world.daemon(at);
        let due = behind && self.bounds.checkpoints && daemon.takes && daemon.checkpoint.is_none();
        if due {
            let (task_since, file_since) = ([false; TASKS], [false; FILES]);
            daemon.checkpoint = Some(Checkpoint { tasks: daemon.known, task_since, file_since });
        }
        due
    }

    /// What was changed up to the checkpoint is synced, and then it is written.
    pub(super) fn end_checkpoint(&self, world: &mut World, at: usize) -> bool {
        let Some(Checkpoint { tasks, task_since, file_since }) = world.daemon(at).checkpoint.take() else {
            return false;
        };
        let synced = !self.has(Fault::CheckpointBeforeSync);
        for task in (0..TASKS).filter(|task| !task_since[*task]) {
            let Some(stand) = tasks[task] else { continue };
            world.disk.tasks[task].behind = false;
            if synced {
                world.disk.tasks[task].places_kept = stand.place();
            }
        }
        for number in (0..FILES).filter(|file| !file_since[*file]) {
            let file = &mut world.disk.files[number];
            if std::mem::take(&mut file.answer_behind) && synced {
                file.receipt_kept = true;
                file.kept = file.at;
            }
        }
        true
    }
}

impl World {
    /// Notes for a checkpoint that is being written that this line is behind it.
    pub(super) fn note_since(&mut self, at: usize, line: Line) {
        let Some(checkpoint) = &mut self.daemon(at).checkpoint else { return };
        if let Some((task, _)) = line.state() {
            checkpoint.task_since[task] = true;
        }
        if let Some((file, _)) = line.answers() {
            checkpoint.file_since[file] = true;
        }
    }
}
