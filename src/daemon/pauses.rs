//! Queues that are paused: by a user's file `PAUSED`, by a command, or since too many of their runs broke one after the
//! other.
//!
//! The file decides; the log tells who has put it there, and who has removed it, before anything starts. A command changes the file first, as one
//! that sets a queue does. When a breaker trips it is the other way round, since nobody asks for that again: first the line,
//! then the file, and in between nothing of the queue starts.

use std::collections::BTreeMap;

use crate::breaker::{self, Breaker, Breakers, Came, Ending};
use crate::event::{By, Event, Origin};
use crate::id::{Name, RunId, TaskId};
use crate::jsonl::{self, Line};
use crate::outcome::{Evidence, Outcome};
use crate::record;
use crate::refusal::{Kind, Refusal};
use crate::reserve;
use crate::scope::Scope;
use crate::store::{self, StoreError};

use super::Daemon;
use super::admit::REASON_BYTES_MAX;
use super::batch::Decision;
use super::short::unreadable;

/// What is known of how queues stand.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    now: Breakers,
    /// The same, as far as lines tell it.
    logged: Breakers,
    /// Files to draw, and what they say. Nothing of these queues starts meanwhile.
    owed: BTreeMap<Name, String>,
}

impl Pauses {
    /// What a checkpoint and the lines behind it tell; and what these owe.
    pub(super) fn known(
        checked: Breakers,
        lines: &[Line<Event>],
        queue_of: impl Fn(TaskId) -> Option<Name>,
    ) -> Pauses {
        let (mut logged, mut owed) = (checked, BTreeMap::new());
        for line in lines {
            breaker::step(&mut logged, &line.event, &queue_of);
            match &line.event {
                Event::Paused { queue, by: By::Daemon, reason, .. } => {
                    owed.insert(queue.clone(), reason.clone().unwrap_or_default());
                }
                Event::Paused { queue, .. } | Event::Resumed { queue, .. } => drop(owed.remove(queue)),
                Event::Submitted { .. }
                | Event::Moved { .. }
                | Event::Edited { .. }
                | Event::EditRefused { .. }
                | Event::Accepted { .. }
                | Event::Marked { .. }
                | Event::Refused { .. }
                | Event::Collected { .. }
                | Event::Notice(_)
                | Event::Delivered { .. }
                | Event::NotDelivered { .. }
                | Event::DaemonStarted { .. }
                | Event::DaemonStopped { .. }
                | Event::Unknown => {}
            }
        }
        Pauses { now: logged.clone(), logged, owed }
    }

    /// What lines tell.
    pub(super) fn logged(&self) -> Breakers {
        self.logged.clone()
    }

    pub(super) fn are_drawn(&self) -> bool {
        self.owed.is_empty()
    }

    /// Forgets what no line tells.
    pub(super) fn undo(&mut self) {
        self.now.clone_from(&self.logged);
        self.owed.retain(|queue, _| self.logged.get(queue).is_some_and(|breaker| breaker.paused));
    }

    fn of(&self, queue: &Name) -> Breaker {
        self.now.get(queue).copied().unwrap_or_default()
    }
}

impl Daemon {
    /// Whether anything of a queue may start: where the file is gone, once the log tells.
    pub(super) fn goes_on(&self, queue: &Name) -> bool {
        !self.pauses.of(queue).paused && !store::exists(&self.layout.paused(queue))
    }

    /// How far a run came.
    pub(super) fn came(&self, run: RunId, outcome: Outcome, evidence: &Evidence) -> Result<Came, StoreError> {
        if outcome != Outcome::Failed || self.has_begun(run)? {
            return Ok(Came::Begun);
        }
        let names_it = self.spec_of(run.task).is_some_and(|spec| spec.prompt.is_none());
        // With an exit code: the launch stage had all, and could not become the program.
        Ok(if names_it && evidence.exit_code.is_some() { Came::NoProgram } else { Came::NotBegun })
    }

    /// Whether the agent of a run was started.
    fn has_begun(&self, run: RunId) -> Result<bool, StoreError> {
        let paths = self.layout.run(run);
        let log = store::read_if_there(&paths.log())?.unwrap_or_default();
        let started = |line: &Line<record::Event>| matches!(line.event, record::Event::AgentStarted { .. });
        // The launch stage tells when it could not become the agent.
        Ok(jsonl::parse(&log).lines.iter().any(started) && !store::exists(&paths.launch_error()))
    }

    /// Takes note of the end of a run; tells how many of its queue have broken one after the other.
    pub(super) fn run_is_over(&mut self, task: TaskId, ending: Ending) -> u32 {
        let Some(queue) = self.spec_of(task).map(|spec| spec.queue.clone()) else { return 0 };
        let breaker = self.pauses.now.entry(queue).or_default();
        breaker.broken = breaker.broken_after(ending);
        breaker.broken
    }

    /// Pauses a queue of which too many runs have broken one after the other, and says why.
    pub(super) fn pause_if_broken(&mut self, queue: &Name, last: &str) {
        let Some(known) = self.queues.queue(queue) else { return };
        let breaker = self.pauses.of(queue);
        if !breaker.trips(known.settings.breaker) || store::exists(&self.layout.paused(queue)) {
            return;
        }
        let reason = format!(
            "{} runs in a row came to nothing without their agents having done anything; the last: {last}",
            breaker.broken
        );
        let reason = jsonl::clip(&reason, REASON_BYTES_MAX);
        tracing::error!("queue {queue} is paused: {reason}; `gitspool resume {queue}` lets it go on");
        self.pauses.owed.insert(queue.clone(), reason.clone());
        self.decide_pause(Event::Paused {
            queue: queue.clone(),
            by: By::Daemon,
            command: None,
            reason: Some(reason),
        });
    }

    /// The same of all queues: a daemon may have been killed between two lines, or been told another number.
    pub(super) fn pause_what_is_broken(&mut self) {
        for queue in self.queues.names() {
            self.pause_if_broken(&queue, "what the log says");
        }
    }

    fn decide_pause(&mut self, event: Event) {
        breaker::step(&mut self.pauses.now, &event, |_| None);
        self.batch.push(Decision { event, effects: vec![], before: None });
    }

    /// Takes note of a line, and draws the file that it owes.
    pub(super) fn note_pause(&mut self, event: &Event) {
        let mut logged = std::mem::take(&mut self.pauses.logged);
        breaker::step(&mut logged, event, |task| self.spec_of(task).map(|spec| spec.queue.clone()));
        self.pauses.logged = logged;
        if matches!(event, Event::Paused { by: By::Daemon, .. }) {
            self.draw_pauses();
        }
    }

    /// Draws the files that lines owe.
    pub(super) fn draw_pauses(&mut self) {
        for (queue, reason) in self.pauses.owed.clone() {
            let is_told = self.pauses.logged.get(&queue).is_some_and(|breaker| breaker.paused);
            if !is_told || !store::exists(&self.layout.queue(&queue)) {
                continue;
            }
            let drawn = reserve::spend(&self.layout, || self.draw_pause(&queue, &reason));
            if drawn.is_ok() {
                self.pauses.owed.remove(&queue);
            }
            self.note_failed(drawn);
        }
    }

    /// Puts the file there, unless somebody else has.
    fn draw_pause(&self, queue: &Name, reason: &str) -> Result<(), StoreError> {
        let path = self.layout.paused(queue);
        if store::exists(&path) {
            return Ok(());
        }
        let text = if reason.is_empty() { String::new() } else { format!("{reason}\n") };
        store::replace(&self.layout, &path, text.as_bytes())
    }

    /// Takes note of what users did with a queue's `PAUSED`.
    pub(super) fn look_at_pause(&mut self, queue: &Name) {
        if self.is_short() || self.pauses.owed.contains_key(queue) {
            return;
        }
        let is_paused = store::exists(&self.layout.paused(queue));
        let by = By::Hand;
        match (self.pauses.of(queue).paused, is_paused) {
            (true, false) if !store::exists(&self.layout.queue(queue)) => {
                // It went with the whole folder, and is drawn again like all that was in it.
                let reason = "it was paused when its folder was removed".to_owned();
                self.pauses.owed.insert(queue.clone(), reason);
            }
            (true, false) => self.decide_pause(Event::Resumed { queue: queue.clone(), by, command: None }),
            (false, true) => {
                let reason = self.pause_said(queue);
                self.decide_pause(Event::Paused { queue: queue.clone(), by, command: None, reason });
            }
            (true, true) | (false, false) => {}
        }
    }

    /// What a user has written into the file.
    fn pause_said(&self, queue: &Name) -> Option<String> {
        let bytes = store::read_if_small(&self.layout.paused(queue), REASON_BYTES_MAX as u64).ok()??;
        let text = String::from_utf8(bytes).ok()?;
        text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
    }

    /// Pauses a queue for whoever asks. Before it is answered: whoever is killed in between does the same again.
    pub(super) fn pause(
        &mut self,
        origin: &Origin,
        queue: &Name,
        reason: Option<String>,
        scope: &Scope,
    ) -> Result<Event, Refusal> {
        self.check_pausable(queue, scope)?;
        if self.pauses.of(queue).paused {
            return Ok(self.accepted(origin, "pause", None, &format!("queue {queue} is paused already")));
        }
        let reason = reason.map(|reason| jsonl::clip(&reason, REASON_BYTES_MAX));
        let drawn = self.draw_pause(queue, reason.as_deref().unwrap_or_default());
        self.note_trouble(drawn.as_ref().err());
        drawn.map_err(|error| unreadable(&error))?;
        let event =
            Event::Paused { queue: queue.clone(), by: By::Command, command: Some(origin.clone()), reason };
        breaker::step(&mut self.pauses.now, &event, |_| None);
        Ok(event)
    }

    /// Lets a queue go on for whoever asks; as above.
    pub(super) fn resume_queue(
        &mut self,
        origin: &Origin,
        queue: &Name,
        scope: &Scope,
    ) -> Result<Event, Refusal> {
        self.check_pausable(queue, scope)?;
        if self.goes_on(queue) {
            return Ok(self.accepted(origin, "resume", None, &format!("queue {queue} is not paused")));
        }
        let path = self.layout.paused(queue);
        let removed = store::remove(&path).and_then(|()| store::sync_parent(&path));
        self.note_trouble(removed.as_ref().err());
        removed.map_err(|error| unreadable(&error))?;
        self.pauses.owed.remove(queue);
        let event = Event::Resumed { queue: queue.clone(), by: By::Command, command: Some(origin.clone()) };
        breaker::step(&mut self.pauses.now, &event, |_| None);
        Ok(event)
    }

    fn check_pausable(&mut self, queue: &Name, scope: &Scope) -> Result<(), Refusal> {
        if !scope.is_whole() {
            let refusal = Refusal::new(Kind::NotPermitted, "a queue is there for all scopes");
            return Err(refusal.at("$.queue").hint("leave tenant and project out"));
        }
        self.check_queue(queue)
    }
}
