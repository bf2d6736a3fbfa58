//! The runs of live tasks: started, adopted, filed away when they have ended, given up when nobody lives them.

use std::path::Path;

use crate::assignment::Assignment;
use crate::breaker;
use crate::cgroup;
use crate::clock;
use crate::event::By;
use crate::id::{RunId, TaskId};
use crate::input::Failure;
use crate::jsonl::{self};
use crate::launched::Launch;
use crate::lock::{self, Lock};
use crate::log::{Durability, Log, LogError, Opened};
use crate::mutant::{self, Mutant};
use crate::outcome::{Evidence, Outcome};
use crate::process;
use crate::queue::Live;
use crate::record::{self, Record};
use crate::recovery::{self, Boot, Duty, Found, Logged};
use crate::reserve;
use crate::resource::Assigned;
use crate::retry::After;
use crate::spool;
use crate::store::{self, StoreError};
use crate::task::{self, Next, State};

use super::admit::agent_of;
use super::batch::Told;
use super::threads::{self, Serving};
use super::trouble::RunError;
use super::{Daemon, FALSE_STARTS_MAX, START_AGAIN, UPROOTED_LOOKS_MAX};

/// How much is kept of why a run could not be begun.
const WHY_BYTES_MAX: usize = 8 * 1024;

impl Daemon {
    /// Brings a live task's run and what we know of it together: starts it, waits for it, or files it away.
    pub(super) fn look_at_run(&mut self, task: TaskId) {
        self.look_at(task, false);
    }

    /// The same when a supervisor `told` that the run is over: what the run's log says is on disk then.
    pub(super) fn look_at(&mut self, task: TaskId, told: bool) {
        let attempt = self.queues.task(task).and_then(|live| live.state.live_attempt());
        let Some(run) = attempt.map(|attempt| RunId { task, attempt }) else { return };
        let done = self.see(run).and_then(|(found, record)| match recovery::duty(found) {
            Duty::Wait => Ok(()),
            Duty::Start => self.start(run),
            Duty::Adopt => self.adopt(run),
            Duty::FileAway => {
                let mut record = record;
                if !told {
                    // Its supervisor may have been killed between writing the end and syncing it.
                    record = self.finish_log(run)?;
                    store::sync_file(&self.layout.run(run).log())?;
                }
                record.map_or(Ok(()), |record| self.file_away(run, &record))
            }
            Duty::GiveUp(_) => self.give_up(run),
            Duty::LookAgain => {
                self.start_again.push((clock::monotonic() + START_AGAIN, task));
                Ok(())
            }
        });
        if let Err(error) = done {
            let told =
                self.note_trouble(error.store()) || self.note_shortage(error.shortage(), &error.to_string());
            if !told {
                tracing::error!("run {run}: {error}; trying again");
            }
            self.start_again.push((clock::monotonic() + START_AGAIN, task));
        }
    }

    /// Looks at a run's lock and log. Of the log also the record, when it was read.
    fn see(&mut self, run: RunId) -> Result<(Found, Option<Record>), RunError> {
        if self.waited_for.contains(&run) {
            return Ok((Found::Expected, None));
        }
        let paths = self.layout.run(run);
        if lock::is_held(&paths.lock())? {
            return Ok((Found::Held, None));
        }
        let bytes = store::read_if_there(&paths.log())?.unwrap_or_default();
        let record = record::of_log(run, &jsonl::parse(&bytes));
        let lives = |record: &Record| process::is_alive(record.pid);
        if mutant::breaks(Mutant::PidTrusted) && record.as_ref().is_some_and(lives) {
            return Ok((Found::Held, None));
        }
        let logged = match &record {
            None => self.unrecorded(run),
            Some(record) => logged(record),
        };
        Ok((Found::Free(logged), record))
    }

    /// What a run is that left no record. Nothing is started twice because somebody removed its folder: one that an
    /// earlier daemon started may live.
    fn unrecorded(&mut self, run: RunId) -> Logged {
        let Some(looks) = self.inherited.get_mut(&run) else { return Logged::NotBegun };
        if process::marked(run).is_empty() {
            // Those that were there a moment ago have ended: the supervisor is about to say so.
            return if std::mem::take(looks) > 0 { Logged::Uprooted } else { Logged::NotBegun };
        }
        *looks += 1;
        if *looks < UPROOTED_LOOKS_MAX { Logged::Uprooted } else { Logged::Begun(Boot::This) }
    }

    /// Takes note of a run that has ended and has no supervisor any more.
    fn file_away(&mut self, run: RunId, record: &Record) -> Result<(), RunError> {
        self.draw_record(run, record)?;
        // Its supervisor may have been killed before it did. Where it stays behind it misleads nobody.
        let _ = store::remove(&self.layout.run(run).wake());
        let outcome = record.outcome.unwrap_or(Outcome::Lost);
        let mut evidence = record.evidence.clone().unwrap_or_default();
        // Agents can write to the logs of their runs, and our line must take what they wrote.
        evidence.message = evidence.message.map(|message| jsonl::clip(&message, WHY_BYTES_MAX));
        let next = self.next_after(run, record, outcome);
        let reason = match next {
            Next::End => None,
            Next::Again { .. } => Some(format!("attempt {} {}", run.attempt, outcome.words())),
            Next::Hold => Some(format!(
                "attempt {} {}, and nobody knows what it has done: release it to do it again, or cancel it",
                run.attempt,
                outcome.words()
            )),
        };
        let ended = task::Event::RunEnded { attempt: run.attempt, outcome, next };
        let why = format!("run {run} {}: {}", outcome.words(), evidence.words());
        let ending = Some(breaker::ending(outcome, self.came(run, outcome, &evidence)?));
        let told = Told { evidence: Some(evidence), reason, ending, ..Told::by(By::Run) };
        let queue = self.spec_of(run.task).map(|spec| spec.queue.clone());
        self.decide(run.task, &ended, told);
        queue.into_iter().for_each(|queue| self.pause_if_broken(&queue, &why));
        self.look_at_worktrees();
        Ok(())
    }

    /// What comes after a run, by its task's policy. A wait counts from the run's end.
    fn next_after(&self, run: RunId, record: &Record, outcome: Outcome) -> Next {
        let Some(spec) = self.spec_of(run.task) else { return Next::End };
        let cancelling = |live: &Live| matches!(live.state, State::Cancelling { .. });
        if self.queues.task(run.task).is_some_and(cancelling) {
            return Next::End;
        }
        match spec.after(run, outcome) {
            After::End => Next::End,
            After::Hold => Next::Hold,
            After::Again(wait) => {
                let now = clock::now();
                // What the run's log says of its end is an agent's to write.
                let from = record.finished_at.map_or(now, |at| at.min(now));
                let until = from.plus(wait);
                if spec.deadline_at.is_some_and(|deadline| deadline <= until.max(now)) {
                    // It would not start any more.
                    return Next::End;
                }
                Next::Again { until: (until > now).then_some(until) }
            }
        }
    }

    /// Draws the picture of a run that has ended, unless that is there: its supervisor may have been killed before it did.
    fn draw_record(&mut self, run: RunId, record: &Record) -> Result<(), StoreError> {
        let path = self.layout.run(run).record();
        let picture = spool::pretty(record);
        if store::read_if_there(&path)?.as_ref() != Some(&picture) {
            reserve::spend(&self.layout, || store::draw(&self.layout, &path, &picture))?;
        }
        self.touch(Some(&path));
        Ok(())
    }

    /// Draws the picture of a run again that has ended since the checkpoint: a power cut may have torn it.
    pub(super) fn draw_record_again(&mut self, run: RunId) -> Result<(), LogError> {
        match self.finish_log(run)? {
            Some(record) if record.outcome.is_some() => {
                self.draw_record(run, &record)?;
                // A power cut may have brought it back.
                Ok(store::remove(&self.layout.run(run).wake())?)
            }
            // Somebody removed it.
            Some(_) | None => Ok(()),
        }
    }

    fn start(&mut self, run: RunId) -> Result<(), RunError> {
        let paths = self.layout.run(run);
        self.make_run_dir(run)?;
        let assignment = match self.assignment(run) {
            Ok(assignment) => assignment,
            Err(failure) if self.note_shortage(failure.shortage, &failure.why) => {
                self.start_again.push((clock::monotonic() + START_AGAIN, run.task));
                return Ok(());
            }
            Err(failure) => return self.fail(run, failure.why),
        };
        store::draw(&self.layout, &paths.task(), &assignment.to_bytes())?;
        let serving = self.supervisor_for(paths.dir()).map_err(RunError::Start)?;
        self.busy.insert(run, serving);
        self.waited_for.insert(run);
        Ok(())
    }

    /// Gives the run in `run_dir` to a supervisor that has nothing to do, or to a new one.
    fn supervisor_for(&mut self, run_dir: &Path) -> std::io::Result<Serving> {
        while let Some((_, mut serving)) = self.idle.pop() {
            if serving.give(run_dir).is_ok() {
                return Ok(serving);
            }
        }
        self.supervisors_started += 1;
        let mut serving = threads::start_supervisor(self.supervisors_started, self.inputs.clone())?;
        serving.give(run_dir)?;
        Ok(serving)
    }

    /// Takes note that a supervisor's process has ended, whatever it was doing.
    pub(super) fn supervisor_gone(&mut self, number: u64) {
        self.idle.retain(|(_, serving)| serving.number != number);
        let of = |(run, serving): (&RunId, &Serving)| (serving.number == number).then_some(*run);
        if let Some(run) = self.busy.iter().find_map(of) {
            self.busy.remove(&run);
            self.waited_for.remove(&run);
            self.look_at_ended(run);
        }
    }

    /// Looks at a run whose supervisor has ended; one that never begins is given up after some tries.
    fn look_at_ended(&mut self, run: RunId) {
        if !matches!(self.see(run), Ok((Found::Free(Logged::NotBegun), _))) {
            self.false_starts.remove(&run);
            self.look_at_run(run.task);
            return;
        }
        let tries = self.false_starts.entry(run).or_default();
        *tries += 1;
        let tries = *tries;
        let said =
            store::read_if_there(&self.layout.run(run).supervisor_error()).ok().flatten().unwrap_or_default();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        self.note_false_start(run, tries, &said);
        if tries < FALSE_STARTS_MAX {
            self.start_again.push((clock::monotonic() + START_AGAIN, run.task));
            return;
        }
        self.false_starts.remove(&run);
        let message = format!("its supervisor could not begin it: {said}");
        if let Err(error) = self.fail(run, message)
            && !self.note_trouble(error.store())
        {
            tracing::error!("run {run}: {error}");
        }
    }

    /// Writes down that a supervisor has ended before it had begun its run: for people, and nothing depends on it.
    fn note_false_start(&self, run: RunId, tries: u32, said: &str) {
        let launch = Launch::SupervisorEnded { tries, message: jsonl::clip(said, WHY_BYTES_MAX) };
        let noted = Log::open(&self.layout.run(run).launches(), 0)
            .and_then(|mut opened| opened.log.append(clock::now(), vec![launch], Durability::Relaxed));
        if let Err(error) = noted {
            tracing::error!("run {run}: {error}");
        }
    }

    /// What a run is about, frozen; or why it cannot be begun.
    fn assignment(&self, run: RunId) -> Result<Assignment, Failure> {
        let gone = || Failure { why: "the task is gone".to_owned(), shortage: None };
        let spec = self.spec_of(run.task).cloned().ok_or_else(gone)?;
        let agent = match &spec.prompt {
            Some(_) => Some(self.profile(&agent_of(&spec))?),
            None => None,
        };
        Ok(Assignment {
            run,
            host: self.host.clone(),
            spool: self.layout.root().to_owned(),
            state_dir: self.spool.state_dir.clone(),
            spool_id: self.spool.settings.id.to_string(),
            agent,
            assigned: self.assigned_to(run.task),
            spec,
        })
    }

    fn assigned_to(&self, task: TaskId) -> Assigned {
        self.queues.task(task).and_then(|live| live.state.assigned()).cloned().unwrap_or_default()
    }

    fn adopt(&mut self, run: RunId) -> Result<(), RunError> {
        let run_lock = self.layout.run(run).lock();
        threads::wait_for_lock(run, run_lock, self.inputs.clone()).map_err(RunError::Start)?;
        self.waited_for.insert(run);
        Ok(())
    }

    /// Ends a run that could not be begun.
    fn fail(&mut self, run: RunId, why: String) -> Result<(), RunError> {
        let Some(run_lock) = lock::try_exclusive(&self.layout.run(run).lock())? else {
            return self.adopt(run);
        };
        self.close(run, &run_lock, Outcome::Failed, Evidence::of(jsonl::clip(&why, WHY_BYTES_MAX)))
    }

    /// Ends a run whose supervisor is gone: kills what is left of it, and records what is known. Under its lock from before
    /// the first kill: a supervisor that an earlier daemon started may be about to begin it.
    fn give_up(&mut self, run: RunId) -> Result<(), RunError> {
        let Some(run_lock) = lock::try_exclusive(&self.layout.run(run).lock())? else {
            return self.adopt(run);
        };
        let log = store::read_if_there(&self.layout.run(run).log())?.unwrap_or_default();
        let record = record::of_log(run, &jsonl::parse(&log));
        let group = record.as_ref().and_then(|record| record.cgroup.as_deref());
        group.into_iter().for_each(cgroup::kill);
        let killed = process::kill_marked(run);
        group.into_iter().for_each(cgroup::remove);
        // What the log says now: a supervisor may have begun or ended it since it was looked at.
        let logged = record.as_ref().map_or(Logged::Begun(Boot::This), logged);
        let (outcome, message) = match recovery::duty(Found::Free(logged)) {
            Duty::GiveUp(Outcome::Interrupted) => {
                (Outcome::Interrupted, "the machine went down under it".to_owned())
            }
            Duty::GiveUp(_) | Duty::Wait | Duty::Start | Duty::Adopt | Duty::FileAway | Duty::LookAgain => (
                Outcome::Lost,
                format!("its supervisor ended without a word; processes of it that were killed: {killed}"),
            ),
        };
        self.close(run, &run_lock, outcome, Evidence::of(message))
    }

    /// Writes the end of a run that has no supervisor into its log, and files it away.
    fn close(
        &mut self,
        run: RunId,
        _lock: &Lock,
        outcome: Outcome,
        evidence: Evidence,
    ) -> Result<(), RunError> {
        let path = self.layout.run(run).log();
        let recorded = || {
            let log = store::read_if_there(&path)?.unwrap_or_default();
            Ok::<_, StoreError>(record::of_log(run, &jsonl::parse(&log)))
        };
        let mut record = recorded()?;
        let Opened { mut log, lines, .. } = Log::open(&path, 0)?;
        if record.as_ref().is_none_or(|record| record.outcome.is_none()) {
            let started = record.is_none().then(|| record::Event::Started {
                run,
                host: self.host.clone(),
                pid: process::id(),
                boot: process::boot(),
                token_sha256: String::new(),
                item: self.spec_of(run.task).and_then(|spec| spec.item.clone()),
                cgroup: None,
            });
            let end = record::Event::Ended {
                outcome,
                evidence,
                delivered: None,
                error: None,
                output_truncated: None,
            };
            let ends = self.ends_of_all(run, &lines)?;
            let events = started.into_iter().chain(ends).chain([end]).collect();
            log.append_with_reserve(&self.layout, clock::now(), events)?;
            // Read anew: where the first line is lost, the others tell also when the run began.
            record = recorded()?;
        } else {
            store::sync_file(&path)?;
        }
        record.map_or(Ok(()), |record| self.file_away(run, &record))
    }
}

/// What a record says about its run, in the words of recovery.
fn logged(record: &Record) -> Logged {
    match record.outcome {
        Some(_) => Logged::Ended,
        // Of which boot it was may not be known: then nobody saw how it ended.
        None if record.boot.is_empty() || record.boot == process::boot() => Logged::Begun(Boot::This),
        None => Logged::Begun(Boot::Earlier),
    }
}
