//! What starts: waiting tasks become ready at their times, ready ones start while slots are free.
//!
//! Nothing is moved here whose file does not lie where it should, or says something else: a user has just moved or edited
//! it, and the next look finds out.

use std::collections::HashSet;

use crate::clock;
use crate::event::By;
use crate::id::{Name, TaskId};
use crate::inbox;
use crate::resource::Assigned;
use crate::task;
use crate::time::Timestamp;

use super::Daemon;
use super::batch::{Decision, Told};

/// How many tasks that are late end in one batch; the others follow in the next.
const LATE_MAX: usize = 4096;

impl Daemon {
    /// Makes the waiting tasks ready whose time has come.
    pub(super) fn make_ready_what_is_due(&mut self, now: Timestamp) {
        if self.is_short() {
            return;
        }
        let due = self.queues.due(now);
        if due.is_empty() {
            return;
        }
        let new: HashSet<TaskId> = self.batch.iter().filter_map(Decision::submitted).collect();
        for task in due {
            if new.contains(&task) || self.is_settled(task) {
                self.decide(task, &task::Event::Due, Told::by(By::Daemon));
            } else {
                self.look_soon();
            }
        }
    }

    /// Ends what has not started by its deadline.
    fn end_what_is_late(&mut self) {
        let late = self.queues.late(clock::now(), LATE_MAX);
        if late.is_empty() {
            return;
        }
        let new: HashSet<TaskId> = self.batch.iter().filter_map(Decision::submitted).collect();
        for task in late {
            let deadline = self.spec_of(task).and_then(|spec| spec.deadline_at);
            if new.contains(&task) || self.is_settled(task) {
                let reason = deadline.map(|at| format!("it had not started by its deadline, {at}"));
                self.decide(task, &task::Event::DeadlinePassed, Told { reason, ..Told::by(By::Daemon) });
            } else {
                self.look_soon();
            }
        }
    }

    /// Starts tasks while slots, and what else they want, are free; first those end that are not to start any more.
    pub(super) fn start_what_may(&mut self) {
        if self.is_short() {
            return;
        }
        self.end_what_is_late();
        let picked = self.pick();
        if picked.is_empty() {
            return;
        }
        let new: HashSet<TaskId> = self.batch.iter().filter_map(Decision::submitted).collect();
        for (task, assigned) in picked {
            if new.contains(&task) || self.is_settled(task) {
                let event = task::Event::Started { host: self.host.clone(), assigned };
                self.decide(task, &event, Told::by(By::Daemon));
            } else {
                self.look_soon();
            }
        }
    }

    fn pick(&self) -> Vec<(TaskId, Assigned)> {
        self.queues.pick(&self.resources, |queue: &Name| self.goes_on(queue)).starts
    }

    /// Whether nothing runs and nothing can start now. What waits for its time keeps nobody waiting, nor does what wants
    /// more than this host has.
    pub(super) fn nothing_left(&self) -> bool {
        let active = |name: &Name| self.queues.queue(name).is_some_and(|queue| !queue.active.is_empty());
        let rests = !self.queues.names().iter().any(active) && self.pick().is_empty();
        let rests = rests && self.notices.are_delivered();
        self.inbox_empty && rests && inbox::is_taken(&self.layout, |claim| self.is_unanswered(claim))
    }

    /// Tells what is left behind by an end that waits for nothing.
    pub(super) fn tell_waiting(&self) {
        let waits = |name: &Name| self.queues.queue(name).map_or(0, |queue| queue.waiting.len());
        let waiting: usize = self.queues.names().iter().map(waits).sum();
        let tasks =
            |count| if count == 1 { "1 task waits".to_owned() } else { format!("{count} tasks wait") };
        if waiting > 0 {
            tracing::warn!("{} for their time or for others, and no daemon for that", tasks(waiting));
        }
        let goes_on = |name: &&Name| self.goes_on(name);
        let ready = |name: &Name| self.queues.queue(name).map_or(0, |queue| queue.ready.iter().count());
        let ready: usize = self.queues.names().iter().filter(goes_on).map(ready).sum();
        if ready > 0 {
            tracing::warn!("{} for what is never free here; `gitspool why` says for what", tasks(ready));
        }
    }
}
