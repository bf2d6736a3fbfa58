//! Batches of decisions: noted, made durable in one write, and only then carried out.

use crate::breaker::Ending;
use crate::clock;
use crate::event::{By, Event, Origin};
use crate::id::TaskId;
use crate::jsonl::Line;
use crate::log::{Durability, LogError};
use crate::mutant::{self, Mutant};
use crate::outcome::Evidence;
use crate::store::{self, StoreError};
use crate::task::{self, Effect, State};

use super::{Daemon, DaemonError, LINES_BEFORE_CHECKPOINT, QUIET, SEGMENT_BYTES, short};

/// One decision: a line for the log, and what to do once that is durable.
pub(super) struct Decision {
    pub(super) event: Event,
    pub(super) effects: Vec<Effect>,
    /// The state before, where the task's file lies until it is placed anew.
    pub(super) before: Option<State>,
}

impl Decision {
    /// The task that begins to exist with this decision, and has no file yet.
    pub(super) fn submitted(&self) -> Option<TaskId> {
        self.before.is_none().then(|| self.event.state().map(|(task, _)| task)).flatten()
    }
}

impl Daemon {
    /// Moves a task by one event, and notes what the log and the world must be told.
    pub(super) fn decide(&mut self, task: TaskId, event: &task::Event, told: Told) {
        let Some(live) = self.queues.task(task) else { return };
        let before = live.state.clone();
        let (state, effects) = task::transition(before.clone(), event);
        if state == before {
            return;
        }
        if let Some(live) = self.queues.set_state(task, &state) {
            self.ended.insert(task, live);
        }
        let Told { by, command, reason, evidence, ending } = told;
        let broken = ending.map_or(0, |ending| self.run_is_over(task, ending));
        let event = Event::Moved { task, state, by, command, reason, evidence, spec: None, broken };
        self.batch.push(Decision { event, effects, before: Some(before) });
    }

    /// Makes the batch durable, and then does what it asks for; that may ask for more, which is the next batch.
    pub(super) fn commit(&mut self) -> Result<(), DaemonError> {
        self.settle_waits();
        let mut at = self.tell();
        while !self.batch.is_empty() {
            self.seal_when_due();
            self.stop_if_sync_failed()?;
            self.note_low_room();
            let batch = std::mem::take(&mut self.batch);
            if self.is_short() && !short::may_be_written(&batch) {
                self.undo(batch);
                break;
            }
            let events = batch.iter().map(|decision| decision.event.clone()).collect();
            let late = mutant::breaks(Mutant::AnsweredBeforeSync);
            let durability = if late { Durability::Relaxed } else { Durability::Durable };
            // Nothing is among it then that is not owed.
            let appended = match self.is_short() {
                true => self.log.append_with_reserve(&self.layout, at, events),
                false => self.log.append(at, events, durability),
            };
            let lines = match appended {
                Ok(lines) => lines,
                Err(LogError::Short(error)) => {
                    self.note_shortage(error.shortage(), &error.to_string());
                    self.undo(batch);
                    break;
                }
                Err(error) => return self.stop_admission(error.to_string()),
            };
            self.notices.ledger.keep();
            self.edits.replaced.clear();
            for (decision, line) in batch.iter().zip(&lines) {
                self.carry_out(decision, line);
            }
            // Receipts last: they tell what has been done.
            for line in &lines {
                self.answer(line);
            }
            if late {
                store::sync_file(&self.layout.now(&self.host))?;
            }
            // Not all of them: a run that could not be begun has ended meanwhile, and belongs to the next batch.
            for (task, _) in
                lines.iter().filter_map(|line| line.event.state()).filter(|(_, state)| state.is_ended())
            {
                self.forget_ended(task);
            }
            self.quiet_at = clock::monotonic() + QUIET;
            if self.checkpoint_is_due(LINES_BEFORE_CHECKPOINT) {
                self.checkpoint();
            }
            self.start_what_may();
            self.settle_waits();
            at = self.tell();
        }
        self.stop_if_sync_failed()
    }

    /// Takes note of what could not be done, if it was a sync, or for a shortage. Tells whether there is one, of which
    /// people are told once.
    pub(super) fn note_trouble(&mut self, error: Option<&StoreError>) -> bool {
        let Some(error) = error else { return false };
        if error.is_failed_sync() {
            self.failed_sync.get_or_insert_with(|| error.to_string());
        }
        self.note_shortage(error.shortage(), &error.to_string())
    }

    /// What was to be synced may be lost, and no later sync would say so: the next daemon writes it anew.
    fn stop_if_sync_failed(&mut self) -> Result<(), DaemonError> {
        self.failed_sync.take().map_or(Ok(()), |reason| self.stop_admission(reason))
    }

    /// Does what a durable line asks for. What fails is told and done again by the next start, which owes the same.
    fn carry_out(&mut self, decision: &Decision, line: &Line<Event>) {
        self.put_back(&line.event);
        self.note_pause(&line.event);
        self.note_notice(&line.event);
        if let Some((task, state)) = line.event.state() {
            let rests = state.live_attempt().is_none() && !state.is_ended();
            if !rests || matches!(line.event, Event::Edited { .. }) {
                self.record.forget_refused(&self.layout, task);
            }
            for effect in &decision.effects {
                self.perform(task, state, decision.before.as_ref(), *effect);
            }
        }
    }

    /// The disk takes nothing more, so nothing more can be promised: what runs goes on, and the next daemon finds out
    /// what is really on disk.
    fn stop_admission(&mut self, reason: String) -> Result<(), DaemonError> {
        self.record.stop(&self.layout, reason.clone());
        Err(DaemonError::Stopped(reason))
    }

    /// Seals the log when it is large, and when its last line is of an earlier day.
    fn seal_when_due(&mut self) {
        let today = clock::now().date();
        let last_day = std::mem::replace(&mut self.log_day, today.clone());
        let due = self.log.bytes() > SEGMENT_BYTES || (self.log.bytes() > 0 && last_day != today);
        if !due {
            return;
        }
        let segment = self.layout.segment(&self.host, &last_day, self.log.last_seq());
        if let Err(error) = self.log.seal(&segment)
            && !self.note_trouble(error.store())
        {
            tracing::error!("the log is not sealed and goes on: {error}");
        }
    }
}

/// What a line tells beside the new state.
pub(super) struct Told {
    pub(super) by: By,
    pub(super) command: Option<Origin>,
    pub(super) reason: Option<String>,
    pub(super) evidence: Option<Evidence>,
    /// What the end of a run says of its queue.
    pub(super) ending: Option<Ending>,
}

impl Told {
    pub(super) fn by(by: By) -> Told {
        Told { by, command: None, reason: None, evidence: None, ending: None }
    }

    pub(super) fn command(origin: Origin, reason: Option<String>) -> Told {
        Told { by: By::Command, command: Some(origin), reason, evidence: None, ending: None }
    }
}
