//! The files of one run: its log, the record that is the fold of it, what it was given and what it was asked.

use super::history::{History, Told};
use super::series::{Part, Whose};
use super::{Audit, Kind, Mend, by_hand};
use crate::assignment::Assignment;
use crate::command::ToRun;
use crate::event::Event::Accepted;
use crate::id::{RunId, TaskId};
use crate::jsonl::{self, Line};
use crate::outcome::Outcome;
use crate::picture;
use crate::record::{self, Event, Record};

/// What lies in the folder of a run.
#[derive(Default)]
pub(super) struct Files {
    pub(super) folder: String,
    pub(super) commands: Vec<(u64, String)>,
}

impl Audit<'_> {
    /// Checks the files of a run. Returns the fold of its log, if it has begun.
    pub(super) fn check_run(
        &mut self,
        run: RunId,
        files: &Files,
        told: &Told,
        live: bool,
        history: &History,
    ) -> Option<Record> {
        let paths = self.seen.layout.run(run);
        let log = Part { path: self.below(&paths.log()), sealed: None };
        let held = self.seen.held.contains(&run);
        let whose = Whose::Run { run, writer_lives: held || live };
        let series = self.read_series::<Event>(std::slice::from_ref(&log), whose);
        let lines: Vec<Line<Event>> = series.lines.into_iter().map(|(_, line)| line).collect();
        self.check_story(run, &log.path, &lines);
        let record = record::of_log(run, &jsonl::parse(self.content(&log.path).unwrap_or_default()));
        self.check_record(run, told, record.as_ref().map(|record| (record, series.whole)), &lines, live);
        self.check_assignment(run, told, live, record.as_ref());
        self.check_commands(files, &lines, record.as_ref(), held, history);
        let wake = self.below(&paths.wake());
        if self.seen.entries.contains_key(&wake) && !held && !live {
            let what = "the run is over, and nobody listens";
            self.find(Kind::WakeLeft, wake, what, Mend::RemoveInRun(run));
        }
        record
    }

    /// What can happen to a run once only.
    fn check_story(&mut self, run: RunId, path: &str, lines: &[Line<Event>]) {
        let Some(first) = lines.first() else { return };
        let copy = || by_hand("see what wrote to it; bring the file back from a copy");
        if !matches!(&first.event, Event::Started { run: of, .. } if *of == run) {
            self.find(Kind::RunLogForeign, path, "its first line does not begin this run", copy());
        }
        let count = |is: fn(&Event) -> bool| lines.iter().filter(|line| is(&line.event)).count();
        if count(|event| matches!(event, Event::Started { .. })) > 1 {
            self.find(Kind::BegunTwice, path, "the run has begun more than once", copy());
        }
        if count(|event| matches!(event, Event::AgentStarted { .. })) > 1 {
            self.find(Kind::AgentStartedTwice, path, "its agent was started more than once", copy());
        }
        if count(|event| matches!(event, Event::Ended { .. })) > 1 {
            self.find(
                Kind::EndedTwice,
                path,
                "the run has ended more than once; the first end counts",
                copy(),
            );
        }
    }

    fn check_record(
        &mut self,
        run: RunId,
        told: &Told,
        fold: Option<(&Record, bool)>,
        lines: &[Line<Event>],
        live: bool,
    ) {
        let Some((fold, whole)) = fold else { return };
        let path = self.below(&self.seen.layout.run(run).record());
        let held = self.seen.held.contains(&run);
        let there = self.content(&path).map(serde_json::from_slice::<Record>);
        let last_there =
            there.as_ref().and_then(|there| there.as_ref().ok()).map_or(0, |there| there.last_seq);
        let mend = match held {
            true => by_hand("its supervisor draws it again with the next thing that happens to the run"),
            false if last_there > fold.last_seq || !whole => {
                by_hand("the log has lost lines: bring it back from a copy")
            }
            false => Mend::DrawInRun(run, picture::pretty(fold)),
        };
        if !self.seen.entries.contains_key(&path) {
            let over = fold.outcome.is_some();
            // Of a run that is over it may have been removed.
            let owed = if live { held && !over } else { self.is_owed(&told.host, told.last_seq) };
            if owed {
                self.find(Kind::RecordMissing, path, "the run has begun", mend);
            }
            return;
        }
        let Some(there) = there else { return };
        let Ok(there) = there else {
            return self.find(Kind::RecordUnreadable, path, "it cannot be read", mend);
        };
        // While somebody draws it, or will at the end, it may lag behind.
        let behind = (held || live) && there.last_seq < fold.last_seq;
        let upto = lines.iter().take_while(|line| line.seq <= there.last_seq);
        let earlier = || upto.fold(None, record::step);
        if there != *fold && !(behind && earlier().as_ref() == Some(&there)) {
            self.find(Kind::RecordDiffers, path, "it is not the fold of the run's log", mend);
        }
    }

    fn check_assignment(&mut self, run: RunId, told: &Told, live: bool, fold: Option<&Record>) {
        let path = self.below(&self.seen.layout.run(run).task());
        let goes_on = live && fold.is_some_and(|fold| fold.outcome.is_none());
        // Before the run begins the daemon draws it when it gives the run to a supervisor.
        let mend = match fold {
            None if live => Mend::Daemon,
            Some(_) | None => by_hand("it is read at the start only; the log has the spec"),
        };
        if !self.seen.entries.contains_key(&path) {
            if goes_on {
                self.find(Kind::AssignmentMissing, path, "the run goes on", mend);
            }
            return;
        }
        let Some(bytes) = self.content(&path) else { return };
        match serde_json::from_slice::<Assignment>(bytes) {
            Err(error) => self.find(Kind::AssignmentUnreadable, path, error.to_string(), mend),
            Ok(there) if there.run != run || there.host != told.host => {
                let what = format!("it is that of run {} on {}", there.run, there.host);
                self.find(Kind::AssignmentDiffers, path, what, mend);
            }
            // Of a run before an edit nobody knows the spec any more.
            Ok(_) if run.attempt <= told.edited_after => {}
            Ok(there) if told.spec.as_ref().is_some_and(|spec| *there.spec != **spec) => {
                self.find(Kind::AssignmentDiffers, path, "its spec is not what the log says", mend);
            }
            Ok(_) => {}
        }
    }

    fn check_commands(
        &mut self,
        files: &Files,
        lines: &[Line<Event>],
        fold: Option<&Record>,
        held: bool,
        history: &History,
    ) {
        let outcome = fold.and_then(|fold| fold.outcome);
        for (number, path) in &files.commands {
            let Some(bytes) = self.content(path) else { continue };
            let order = match serde_json::from_slice::<ToRun>(bytes) {
                Ok(order) => order,
                Err(error) => {
                    let what = error.to_string();
                    self.find(Kind::CommandUnreadable, path, what, by_hand("ask for it again"));
                    continue;
                }
            };
            let is_heard =
                |event: &Event| matches!(event, Event::Acknowledged { command, .. } if command == number);
            let unheard = !lines.iter().any(|line| is_heard(&line.event));
            // A cancel may come too late; and of a run that was killed nothing is promised.
            let too_late = match (&order, outcome) {
                (_, None) => fold.is_none() || !held,
                (ToRun::Cancel { .. }, Some(_)) => true,
                (ToRun::Note { .. }, Some(outcome)) => {
                    matches!(outcome, Outcome::Lost | Outcome::Interrupted)
                }
            };
            // What a daemon passed on that was killed then was refused later, if the run had ended: nobody was promised it.
            let promised = matches!(order, ToRun::Cancel { .. }) || is_accepted(bytes, history);
            if unheard && !too_late && promised {
                let mend = by_hand("its supervisor looks every 30 s; of a run that is over: ask again");
                self.find(Kind::CommandUnheard, path, "the run's log does not tell that it was read", mend);
            }
        }
        let open = outcome.map(|_| record::open_commands(lines)).unwrap_or_default();
        if let Some((number, kind)) = open.first().filter(|_| !held) {
            let what = format!("the run is over, and its {kind} of number {number} is not");
            self.find(
                Kind::CommandOpen,
                &files.folder,
                what,
                by_hand("nobody waits for it any more; nothing is to be done"),
            );
        }
    }
}

/// Whether a line says that a command to a run was accepted.
fn is_accepted(command: &[u8], history: &History) -> bool {
    #[derive(serde::Deserialize)]
    struct Claimed {
        claim: TaskId,
    }
    let claimed = serde_json::from_slice::<Claimed>(command).ok();
    let answer = claimed.and_then(|Claimed { claim }| history.answers.get(&claim));
    answer.is_some_and(|(_, line)| matches!(line.event, Accepted { .. }))
}
