//! Upkeep: what is done about what is over, in a thread of its own, so that it delays nothing.
//!
//! Once at the start, and then with each new day: sealed segments of the log that are older than a day are compressed, and what
//! the queues do not keep any more is removed. And whenever a command `gc` asks for it; that is answered when it is done, so
//! that the next daemon does it again if this one ends before.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::clock;
use crate::event::{Event, Origin};
use crate::gc::{self, One};
use crate::history;
use crate::id::{Name, RunId};
use crate::input::{Collected, Input};
use crate::reclaim;
use crate::refusal::{Kind, Refusal};
use crate::retention::Asked;
use crate::scope::Scope;
use crate::spool::Spool;
use crate::store::{self, StoreError};
use crate::task::State;

use super::batch::Decision;
use super::target::Found;
use super::{Daemon, REMOVALS_MAX};

/// How long a segment stays as it is, for `grep` and for backups.
const PLAIN_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What the thread is to do.
pub(super) enum Job {
    /// A day has begun; `removes` what queues do not keep, if any says so.
    Day { removes: bool },
    /// A run has ended, and worktrees may take so much only.
    Worktrees,
    /// A command asks for it.
    Collect(Origin, Asked),
    /// The same of one task, or of one run.
    Remove(Origin, One),
}

/// Does what it is given, until the daemon ends.
///
/// # Errors
/// When something could not be synced; nothing more is done then.
pub(super) fn run(
    spool: &Spool,
    host: &Name,
    jobs: &Receiver<Job>,
    inputs: &Sender<Input>,
    ending: &AtomicBool,
) -> Result<(), StoreError> {
    let goes_on = || !ending.load(Ordering::Relaxed);
    for job in jobs.iter().take_while(|_| goes_on()) {
        let done = match job {
            Job::Day { removes } => compress(spool, host, &goes_on).and_then(|()| match removes {
                true => collect(spool, None, &Asked::default(), &goes_on),
                false => look_again(spool, true, &goes_on),
            }),
            Job::Worktrees => look_again(spool, false, &goes_on),
            Job::Collect(origin, asked) => collect(spool, Some(origin), &asked, &goes_on),
            Job::Remove(origin, one) => remove_one(spool, origin, one, &goes_on),
        };
        if let Err(error) = &done {
            // Nobody listens any more when the daemon ends.
            let _ = inputs.send(Input::SyncFailed(error.to_string()));
        }
        let collected = done?;
        // What was cut short is begun anew by the next daemon.
        if !goes_on() || collected.is_some_and(|collected| inputs.send(Input::Collected(collected)).is_err())
        {
            break;
        }
    }
    Ok(())
}

fn compress(spool: &Spool, host: &Name, goes_on: &dyn Fn() -> bool) -> Result<(), StoreError> {
    let day = clock::now().before(PLAIN_FOR).date().to_string();
    let compressed = history::compress_older(&spool.layout, host, &day, goes_on);
    unless_unsynced(compressed.map(drop), "a segment of the log is not compressed")
}

/// Looks again at the oldest worktrees when they take too much; and, once a day, at those that could not go.
fn look_again(
    spool: &Spool,
    also_blocked: bool,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Collected>, StoreError> {
    let looked = reclaim::look_again(spool, also_blocked, goes_on);
    unless_unsynced(looked, "worktrees are not looked at again").map(|()| None)
}

/// Nothing is lost by another error; the next day tries again.
fn unless_unsynced(done: Result<(), StoreError>, what: &str) -> Result<(), StoreError> {
    match done {
        Err(error) if !error.is_failed_sync() => {
            tracing::warn!("{what}: {error}");
            Ok(())
        }
        done => done,
    }
}

/// Removes what is to go; what could not be, and why, is told whoever has asked, but for a failed sync.
fn collect(
    spool: &Spool,
    origin: Option<Origin>,
    asked: &Asked,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Collected>, StoreError> {
    let removed = gc::empty_trash(&spool.layout)
        .and_then(|()| gc::plan(spool, asked, clock::now()))
        .and_then(|plan| gc::remove(spool, plan, goes_on));
    match removed {
        Err(error) if error.is_failed_sync() => Err(error),
        removed => {
            let result = removed.map_err(|error| refused(&error));
            Ok(Some(Collected { origin, target: None, result }))
        }
    }
}

/// Removes one task or run, with its workspaces; what could not be, and why, is told whoever has asked, but for a failed sync.
fn remove_one(
    spool: &Spool,
    origin: Origin,
    one: One,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Collected>, StoreError> {
    let planned = gc::empty_trash(&spool.layout).map_err(|error| refused(&error)).and_then(|()| {
        let plan = gc::plan_one(spool, one)?;
        gc::reclaim_all(spool, &plan, goes_on)?;
        Ok(plan)
    });
    let result = match planned.map(|plan| gc::remove(spool, plan, goes_on)) {
        Ok(Err(error)) if error.is_failed_sync() => return Err(error),
        Ok(removed) => removed.map_err(|error| refused(&error)),
        Err(refusal) => Err(refusal),
    };
    Ok(Some(Collected { origin: Some(origin), target: Some(one.target()), result }))
}

fn refused(error: &StoreError) -> Refusal {
    let refusal = Refusal::new(Kind::Unreadable, error.to_string());
    refusal.hint("what was removed until then stays so; what is asked for again goes on with it")
}

impl Daemon {
    /// Has the upkeep done that is due with each new day.
    pub(super) fn look_at_day(&mut self) {
        self.give_removals();
        let today = clock::now().date();
        if self.upkeep_day.as_ref() == Some(&today) {
            return;
        }
        let keeps_all =
            |queue: &Name| self.queues.queue(queue).is_none_or(|queue| queue.settings.retention.is_none());
        let removes = !self.queues.names().iter().all(keeps_all);
        if self.has_upkeep_done(Job::Day { removes }) {
            self.upkeep_day = Some(today);
        }
    }

    /// Has a task removed that has ended, or a run of it; the command is answered then.
    pub(super) fn have_removed(
        &mut self,
        origin: &Origin,
        target: &str,
        scope: &Scope,
    ) -> Result<Option<Event>, Refusal> {
        let conflict = |message: String| Refusal::new(Kind::Conflict, message).at("$.target");
        let attempt = match (target.contains('.'), target.parse::<RunId>()) {
            (_, Ok(run)) => Some(run.attempt),
            (false, Err(_)) => None,
            (true, Err(_)) => {
                let refusal =
                    Refusal::new(Kind::InvalidValue, format!("{target:?} is neither a task nor a run"));
                return Err(refusal.at("$.target").hint("give a whole id: TASK, or TASK.ATTEMPT"));
            }
        };
        let task = match self.find(target, scope)? {
            Found::Ended(task, _) => task,
            Found::Live(task) => {
                let state = self.queues.task(task).map_or("gone", |live| live.state.word());
                let refusal = conflict(format!("task {task} has not ended, it is {state}"));
                return Err(refusal.hint(format!("`gitspool cancel {task}` first")));
            }
        };
        let is_new = self.ended.contains_key(&task);
        if !is_new && self.has_upkeep_done(Job::Remove(origin.clone(), One { task, attempt })) {
            return Ok(None);
        }
        Err(conflict("something is just ending, being retried or removed".to_owned())
            .hint("ask again in a moment"))
    }

    /// Gives the thread a job, or keeps it until it has done others; unless something is being brought back that would be removed.
    fn has_upkeep_done(&mut self, job: Job) -> bool {
        let retried = |decision: &Decision| decision.before.as_ref().is_some_and(State::is_ended);
        let removes = !matches!(job, Job::Day { removes: false } | Job::Worktrees);
        if removes && (self.batch.iter().any(retried) || !self.undone.is_empty()) {
            return false;
        }
        let done = match self.upkeep.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(job)) if removes && self.removals.len() < REMOVALS_MAX => {
                self.removals.push_back(job);
                true
            }
            Err(_) => false,
        };
        self.collecting += usize::from(done && removes);
        done
    }

    /// Has worktrees looked at, when there is a limit for them. One that does not fit comes with the next end.
    pub(super) fn look_at_worktrees(&mut self) {
        if self.spool.settings.workspaces_bytes_max.is_some() {
            self.has_upkeep_done(Job::Worktrees);
        }
    }

    /// Gives the thread what had to wait.
    fn give_removals(&mut self) {
        while let Some(job) = self.removals.pop_front() {
            if let Err(TrySendError::Full(job)) = self.upkeep.try_send(job) {
                return self.removals.push_front(job);
            }
        }
    }

    /// Whether what has ended is being removed: nothing of it is brought back meanwhile.
    pub(super) fn is_collecting(&self) -> bool {
        self.collecting > 0
    }

    /// Has done what a command asks for; it is answered then.
    pub(super) fn have_collected(
        &mut self,
        origin: &Origin,
        asked: Asked,
        scope: &Scope,
    ) -> Result<Option<Event>, Refusal> {
        if !scope.is_whole() {
            let refusal = Refusal::new(Kind::NotPermitted, "a gc is about the whole spool");
            return Err(refusal.hint("leave out tenant and project"));
        }
        let unknown = asked.queue.as_ref().filter(|queue| self.queues.queue(queue).is_none());
        if let Some(queue) = unknown {
            let names = self.queues.names();
            let known: Vec<&str> = names.iter().map(Name::as_str).collect();
            return Err(Refusal::unknown(Kind::NotFound, "queue", queue.as_str(), &known).at("$.queue"));
        }
        if self.has_upkeep_done(Job::Collect(origin.clone(), asked)) {
            return Ok(None);
        }
        let message = "several of these are being done, or a task is being retried";
        Err(Refusal::new(Kind::Conflict, message).hint("ask again in a moment"))
    }

    /// Takes note of what was removed.
    pub(super) fn collected(&mut self, Collected { origin: command, target, result }: Collected) {
        self.collecting = self.collecting.saturating_sub(1);
        self.give_removals();
        let event = match (result, command) {
            (Ok((mut removed, texts)), command) => {
                for text in texts.iter().filter(|text| !self.needs_text(text)) {
                    removed.bytes += store::bytes_of(text).unwrap_or_default();
                    removed.texts += u64::from(store::removes(text));
                }
                if command.is_none() && removed.is_nothing() {
                    return;
                }
                Event::Collected { removed, target, command }
            }
            (Err(refusal), command) => {
                if refusal.kind != Kind::Conflict {
                    tracing::error!("not all was removed that was to go: {refusal}");
                }
                let Some(command) = command else { return };
                let command = Origin { key: None, ..command };
                let refusal = Refusal { for_now: None, ..refusal };
                Event::Refused { command, refusal: refusal.clipped() }
            }
        };
        self.batch.push(Decision { event, effects: vec![], before: None });
    }

    /// Whether a text is the spec of a live task: one that was submitted meanwhile may have found it there.
    fn needs_text(&self, text: &Path) -> bool {
        let mut specs = self.queues.tasks().map(|(_, live)| &live.spec);
        specs.any(|spec| gc::text_of_spec(&self.layout, spec).as_deref() == Some(text))
    }
}
