//! The runs: each of a task that has had so many, each live one with somebody who lives it.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{History, Told, attempts};
use super::run::Files;
use super::{Audit, Kind, Mend, by_hand};
use crate::id::RunId;
use crate::layout::{InRun, Place, place_of};
use crate::record::Record;
use crate::task::State;

impl Audit<'_> {
    pub(super) fn check_runs(&mut self, history: &History) {
        let mut runs: BTreeMap<RunId, Files> = BTreeMap::new();
        let mut folders = BTreeSet::new();
        for path in self.seen.entries.keys() {
            match place_of(path) {
                Some(Place::Run { date, run }) => {
                    if date == run.task.date().to_string() {
                        folders.insert(run);
                        runs.entry(run).or_default().folder.clone_from(path);
                    } else {
                        let belongs = self.below(self.seen.layout.run(run).dir());
                        let mend = by_hand(&format!("move it to {belongs}"));
                        self.find(Kind::RunMisplaced, path, "it lies under the day of another", mend);
                    }
                }
                Some(Place::InRun { run, file }) => {
                    if let InRun::Command(number) = file {
                        runs.entry(run).or_default().commands.push((number, path.clone()));
                    }
                }
                Some(_) | None => {}
            }
        }
        for (run, files) in runs.iter().filter(|(run, _)| folders.contains(run)) {
            self.check_run_of(*run, files, history);
        }
        for (task, told) in &history.tasks {
            let run = told.state.live_attempt().map(|attempt| RunId { task: *task, attempt });
            if let Some(run) = run.filter(|run| self.is_ours(told) && !folders.contains(run)) {
                let path = self.below(self.seen.layout.run(run).dir());
                self.find(Kind::RunNotBegun, path, "its task is active, and it is not there", Mend::Daemon);
            }
        }
    }

    pub(super) fn is_ours(&self, told: &Told) -> bool {
        self.seen.host.as_ref() == Some(&told.host)
    }

    fn check_run_of(&mut self, run: RunId, files: &Files, history: &History) {
        let Some(told) = history.tasks.get(&run.task) else {
            if history.whole {
                let mend = by_hand(
                    "bring the log back from a copy; or remove the folder, if nobody needs what it tells",
                );
                self.find(Kind::RunOfNoTask, &files.folder, "the log knows of no such task", mend);
            }
            return;
        };
        if run.attempt > attempts(&told.state) {
            let what = format!("the log says that its task has had {} runs", attempts(&told.state));
            self.find(Kind::RunTooEarly, &files.folder, what, by_hand("bring the log back from a copy"));
            return;
        }
        let live = told.state.live_attempt() == Some(run.attempt);
        let record = self.check_run(run, files, told, live, history);
        match live {
            true if self.is_ours(told) => self.check_live(run, files, told, record.as_ref()),
            true => {}
            false => self.check_over(run, files, told, record.as_ref()),
        }
    }

    fn check_live(&mut self, run: RunId, files: &Files, told: &Told, record: Option<&Record>) {
        let held = self.seen.held.contains(&run);
        let ended = record.is_some_and(|record| record.outcome.is_some());
        let folder = &files.folder;
        if !held {
            match record {
                None => {
                    self.find(
                        Kind::RunNotBegun,
                        folder,
                        "its task is active, and nobody has begun it",
                        Mend::Daemon,
                    );
                }
                Some(_) if !ended => {
                    let what = "it has begun and not ended, and nobody holds its lock";
                    self.find(Kind::RunAbandoned, folder, what, Mend::Daemon);
                }
                // The next daemon will do that first of all.
                Some(_) if !self.seen.daemon => {}
                Some(_) => {
                    self.find(Kind::RunNotFiled, folder, "it has ended, and its task is active", Mend::Daemon)
                }
            }
        }
        let lock = self.below(&self.seen.layout.run(run).lock());
        if record.is_some() && !ended && !self.seen.entries.contains_key(&lock) {
            let mend = by_hand("its supervisor makes it again within 30 s; if none lives, start a daemon");
            self.find(Kind::LockMissing, lock, "the run has begun and not ended", mend);
        }
        let cancels = matches!(told.state, State::Cancelling { .. });
        if cancels && !ended && !files.commands.iter().any(|(_, path)| path.ends_with("-cancel.json")) {
            self.find(
                Kind::CancelMissing,
                folder,
                "its task is cancelling, and no command says so",
                Mend::Daemon,
            );
        }
    }

    fn check_over(&mut self, run: RunId, files: &Files, told: &Told, record: Option<&Record>) {
        let folder = &files.folder;
        let copy = || by_hand("bring the run's log back from a copy");
        if let Some(record) = record {
            match (record.outcome, &told.state) {
                (None, _) => {
                    self.find(
                        Kind::RunNotEnded,
                        folder,
                        "its task says that it is over, and its log does not",
                        copy(),
                    );
                }
                (Some(is), State::Ended { outcome, attempts, .. })
                    if told.by_run && *attempts == run.attempt && is != *outcome =>
                {
                    let what = format!("its log says {}, and its task {}", is.word(), outcome.word());
                    self.find(Kind::OutcomeDiffers, folder, what, copy());
                }
                (Some(_), _) => {}
            }
        }
        if self.seen.held.contains(&run) {
            let mend = by_hand("see who has the file open (lsof) and why it does not end");
            self.find(Kind::LockHeld, folder, "it is over, and its lock is held", mend);
        }
    }
}
