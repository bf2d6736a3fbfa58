//! What a supervisor hears and tells: commands in, lines of the run's log out, its end above all.

use std::time::Duration;

use crate::command;
use crate::jsonl::{self, Line};
use crate::layout;
use crate::log::{Durability, Log, LogError};
use crate::outcome::Evidence;
use crate::process::{self, Reaped};
use crate::record::{self, Level, said};
use crate::reserve;
use crate::run::{self, Ending, Event, State};
use crate::spool;
use crate::store;
use crate::{cgroup, clock, lock};

use super::wake;
use super::{Supervisor, SupervisorError};

impl Supervisor {
    /// Logs that the run is being ended by somebody else than its agent.
    pub(super) fn tell_stopping(&mut self, before: &State, event: &Event) {
        let begins = matches!(before, State::Preparing | State::Running { .. });
        match &self.state {
            State::Stopping { ending, .. } if begins && !matches!(event, Event::Exited { .. }) => {
                let message = ending.evidence.message.as_deref().map(said);
                self.append(vec![record::Event::Stopping { outcome: ending.outcome, message }]);
            }
            State::Preparing
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Killing { .. }
            | State::Settling { .. }
            | State::Ended { .. } => {}
        }
    }

    /// Appends to the run's log, and draws `run.json` anew.
    pub(super) fn append(&mut self, events: Vec<record::Event>) {
        self.note(events);
        self.draw_record();
    }

    /// Appends to the run's log; `run.json` follows with the next line that says how far the run is. What the log does
    /// not take is kept and written with a later line, or the end: no run dies of a full disk.
    pub(super) fn note(&mut self, events: Vec<record::Event>) {
        if self.behind {
            let lines = self.numbered(events);
            self.fold_in(lines);
            // Where there is still no room, the next one says it too.
            let _ = self.write_log();
            return;
        }
        let taken = self.log.append(clock::now(), events.clone(), Durability::Relaxed);
        let lines = taken.unwrap_or_else(|error| {
            self.behind = true;
            self.tell_error(&error.to_string());
            self.numbered(events)
        });
        self.fold_in(lines);
    }

    /// Appends to the run's log, durably.
    pub(super) fn note_durably(&mut self, events: Vec<record::Event>) -> Result<(), LogError> {
        let lines = self.log.append(clock::now(), events, Durability::Durable)?;
        self.fold_in(lines);
        Ok(())
    }

    /// The same for the end, which gets some of the reserve.
    fn note_end(&mut self, events: Vec<record::Event>) -> Result<(), LogError> {
        let lines = self.log.append_with_reserve(&self.layout, clock::now(), events)?;
        self.fold_in(lines);
        Ok(())
    }

    fn fold_in(&mut self, lines: Vec<Line<record::Event>>) {
        for line in lines {
            self.record = record::step(self.record.take(), &line);
            self.lines.push(line);
        }
    }

    /// Events as the next lines of the log.
    fn numbered(&self, events: Vec<record::Event>) -> Vec<Line<record::Event>> {
        let first = self.lines.last().map_or(1, |line| line.seq + 1);
        let at = clock::now();
        (first..).zip(events).map(|(seq, event)| Line { seq, at, event }).collect()
    }

    fn draw_record(&self) {
        if let Some(record) = &self.record {
            // Drawn again with the next line, and after the last one by the daemon.
            let _ = store::draw(&self.layout, &self.paths.record(), &spool::pretty(record));
        }
    }

    /// Writes down the first thing that could not be recorded.
    fn tell_error(&self, error: &str) {
        // Where even this cannot be written, nothing can.
        let _ = store::create_new(&self.paths.supervisor_error(), format!("{error}\n").as_bytes(), 0o600);
    }

    /// Takes note of the commands that came since the last look.
    pub(super) fn look_at_commands(&mut self) {
        let names = store::names(&self.paths.commands()).unwrap_or_else(|error| {
            self.tell_error(&error.to_string());
            Vec::new()
        });
        let mut new: Vec<(u64, String)> = names
            .into_iter()
            .filter_map(|name| Some((layout::parse_command_name(&name)?, name)))
            .filter(|(seq, _)| *seq > self.last_command)
            .collect();
        new.sort();
        for (seq, name) in new {
            self.last_command = seq;
            let bytes = store::read(&self.paths.commands().join(&name)).map_err(|error| error.to_string());
            let order = bytes.and_then(|bytes| {
                serde_json::from_slice(&bytes)
                    .map_err(|error| format!("the command {name} makes no sense: {error}"))
            });
            match order {
                Ok(order) => self.obey(seq, order),
                Err(error) => self.warn(&error),
            }
        }
    }

    fn obey(&mut self, seq: u64, order: command::ToRun) {
        let kind = order.kind().to_owned();
        let mut events = vec![record::Event::Acknowledged { command: seq, kind: kind.clone() }];
        events.extend(record::words(&order));
        match order {
            // Ends with the run.
            command::ToRun::Cancel { reason } => self.pending.push_back(Event::CancelAsked { reason }),
            command::ToRun::Note { .. } => {
                events.push(record::Event::CommandEnded { command: seq, kind, result: "done".to_owned() });
            }
        }
        self.append(events);
    }

    pub(super) fn warn(&mut self, text: &str) {
        self.append(vec![record::Event::Log { level: Level::Warn, text: said(text) }]);
    }

    /// Records the end, and with it that of all open commands, in one write.
    pub(super) fn finish(&mut self, ending: &Ending) {
        self.end_leftovers();
        let left_out = self.outputs.close(&self.layout);
        self.look_at_commands();
        let mut events = self.ends_of_commands();
        let message = ending.evidence.message.as_deref().map(said);
        events.push(record::Event::Ended {
            outcome: ending.outcome,
            evidence: Evidence { message, ..ending.evidence.clone() },
            delivered: self.delivered.clone(),
            error: self.error.clone(),
            output_truncated: (left_out > 0).then_some(left_out),
        });
        let ended = match self.behind {
            true => Err("lines before the end were not written".to_owned()),
            false => self.note_end(events.clone()).map_err(|error| error.to_string()),
        };
        if let Err(error) = ended {
            self.write_anew(events, &error);
        }
        self.draw_record();
        self.finished = true;
        self.cgroup.iter().for_each(|group| cgroup::remove(group));
        // Only while somebody listens does it mean something; left behind it misleads nobody.
        let _ = store::remove(&self.paths.wake());
        self.answer_the_last();
    }

    /// The ends of all open commands.
    fn ends_of_commands(&self) -> Vec<record::Event> {
        let result = |kind: &str| if kind == "cancel" { "done" } else { "the run ended" };
        let end = |(command, kind): (u64, String)| {
            let result = result(&kind).to_owned();
            record::Event::CommandEnded { command, kind, result }
        };
        record::open_commands(&self.lines).into_iter().map(end).collect()
    }

    /// Answers what was asked while the end was being written: who asked could not see it yet. The last thing that is done
    /// under the run's lock, since the daemon takes what was asked later for unheard.
    fn answer_the_last(&mut self) {
        let heard = self.last_command;
        self.look_at_commands();
        if self.last_command > heard {
            // Nobody opens this log again who would cut off what a power cut leaves of a line.
            let events = self.ends_of_commands();
            if self.behind || self.note_durably(events.clone()).is_err() {
                let lines = self.numbered(events);
                self.fold_in(lines);
                // The run's end is on disk: an answer behind it is worth one more try.
                if let Err(error) = self.write_log() {
                    self.tell_error(&error.to_string());
                }
            }
            self.draw_record();
        }
    }

    /// Ends what a repository's programs (filters) left running while the workspace was described.
    fn end_leftovers(&self) {
        while process::reap() != Reaped::NoneLeft {
            process::signal_descendants(None, rustix::process::Signal::KILL);
            wake::pause(run::KILL_AGAIN);
        }
    }

    /// Writes the whole log anew, with `events` at its end: after an error nobody knows what of the old file is on disk.
    /// Tried for as long as it takes, since a run whose end is not recorded would be taken for lost.
    fn write_anew(&mut self, events: Vec<record::Event>, error: &str) {
        self.tell_error(error);
        let lines = self.numbered(events);
        self.fold_in(lines);
        loop {
            match self.write_log() {
                Ok(()) => return,
                Err(error) if error.wants_room() && reserve::give_up(&self.layout) => {}
                Err(_) if self.is_forsaken() => return,
                Err(_) => wake::pause(Duration::from_secs(1)),
            }
        }
    }

    /// Whether the whole spool was removed: nobody will ever read what we would write. One that was moved may come back.
    fn is_forsaken(&self) -> bool {
        let lock = self.lock_again.as_ref().unwrap_or(&self.lock);
        lock.is_removed() && !store::exists(self.layout.root())
    }

    /// Whether somebody removed the lock's file, and the run's folder with it perhaps.
    pub(super) fn is_uprooted(&self) -> bool {
        !store::exists(&self.paths.lock())
    }

    /// Writes all that the log had into a new file, which is then appended to; in a new folder, under a new lock, when
    /// somebody removed the old ones.
    pub(super) fn write_log(&mut self) -> Result<(), SupervisorError> {
        if self.is_uprooted() {
            store::make_dirs_below(self.layout.root(), self.paths.dir())?;
            self.lock_again = Some(lock::wait_exclusive(&self.paths.lock())?);
            store::draw(&self.layout, &self.paths.task(), &self.assignment.to_bytes())?;
        }
        let mut bytes = Vec::new();
        self.lines.iter().for_each(|line| jsonl::write(&mut bytes, line));
        store::replace(&self.layout, &self.paths.log(), &bytes)?;
        self.log = Log::open(&self.paths.log(), 0)?.log;
        self.behind = false;
        self.draw_record();
        Ok(())
    }
}
