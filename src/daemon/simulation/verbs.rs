//! What users, agents and time do to a spool, one thing after the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::world::{LONG, World, queue};
use crate::simulated::{Killed, on};
use crate::store::{self, StoreError};
use crate::task::State;
use crate::time::is_date;

/// One thing that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Verb {
    /// A task that may start.
    Submit,
    SubmitHeld,
    /// One that waits for two seconds.
    SubmitDelayed,
    /// One that must have started within seconds.
    SubmitWithDeadline,
    /// One that needs the task that runs, one that needs that in turn, and one that waits for the end of the second.
    SubmitNeeds,
    /// One that starts when the task that runs has not succeeded.
    SubmitAfterFailed,
    /// One with a text too long for a line.
    SubmitLong,
    /// One that wants a unit and a lock.
    SubmitWanting,
    /// One of which somebody is told, all that happens, and not too often.
    SubmitTold,
    /// The first task once more.
    SubmitAgain,
    /// A file that makes no sense.
    Refuse,
    /// A command under a name that was used.
    SameName,
    /// Of what runs.
    CancelActive,
    CancelReady,
    CancelHeld,
    Hold,
    Release,
    Rerank,
    MarkRead,
    /// Of what was cancelled, or has failed.
    Retry,
    /// `mv` in `ready/`.
    RerankByHand,
    /// `mv ready/x held/`.
    HoldByHand,
    /// `mv held/x ready/`.
    ReleaseByHand,
    RemoveByHand,
    /// An editor saves a ready task's file: beside it, and then in its place.
    EditByHand,
    /// One writes where a held task's file lies, and says for when it is.
    EditInPlace,
    /// One writes what makes no sense.
    EditBadly,
    AgentEnds,
    KillSupervisor,
    /// The same of a queue whose breaker trips at that.
    TripBreaker,
    Pause,
    Resume,
    /// `touch PAUSED`, and `rm PAUSED`.
    PauseByHand,
    ResumeByHand,
    /// It is quiet for so long that a checkpoint is due.
    Quiet,
    /// The next line begins a new file of the log.
    NextDay,
    /// The daemon ends in order, and the next one starts.
    Restart,
}

impl Verb {
    pub(super) const ALL: [Verb; 37] = [
        Verb::Submit,
        Verb::SubmitHeld,
        Verb::SubmitDelayed,
        Verb::SubmitWithDeadline,
        Verb::SubmitNeeds,
        Verb::SubmitAfterFailed,
        Verb::SubmitLong,
        Verb::SubmitWanting,
        Verb::SubmitTold,
        Verb::SubmitAgain,
        Verb::Refuse,
        Verb::SameName,
        Verb::CancelActive,
        Verb::CancelReady,
        Verb::CancelHeld,
        Verb::Hold,
        Verb::Release,
        Verb::Rerank,
        Verb::MarkRead,
        Verb::Retry,
        Verb::RerankByHand,
        Verb::HoldByHand,
        Verb::ReleaseByHand,
        Verb::RemoveByHand,
        Verb::EditByHand,
        Verb::EditInPlace,
        Verb::EditBadly,
        Verb::AgentEnds,
        Verb::KillSupervisor,
        Verb::TripBreaker,
        Verb::Pause,
        Verb::Resume,
        Verb::PauseByHand,
        Verb::ResumeByHand,
        Verb::Quiet,
        Verb::NextDay,
        Verb::Restart,
    ];
}

impl World {
    /// Does one thing, and lets all go on until they rest.
    pub(super) fn act(&mut self, verb: Verb) -> Result<(), Killed> {
        self.begin(verb)?;
        self.settle()?;
        match verb {
            Verb::Quiet => self.wait(Duration::from_secs(3)),
            Verb::Refuse => self.wait(Duration::from_secs(2)),
            Verb::EditBadly => {
                self.look_soon()?;
                self.wait(Duration::from_secs(2))
            }
            Verb::Submit
            | Verb::SubmitHeld
            | Verb::SubmitDelayed
            | Verb::SubmitWithDeadline
            | Verb::SubmitNeeds
            | Verb::SubmitAfterFailed
            | Verb::SubmitLong
            | Verb::SubmitWanting
            | Verb::SubmitTold
            | Verb::SubmitAgain
            | Verb::SameName
            | Verb::CancelActive
            | Verb::CancelReady
            | Verb::CancelHeld
            | Verb::Hold
            | Verb::Release
            | Verb::Rerank
            | Verb::MarkRead
            | Verb::Retry
            | Verb::RerankByHand
            | Verb::HoldByHand
            | Verb::ReleaseByHand
            | Verb::RemoveByHand
            | Verb::EditByHand
            | Verb::EditInPlace
            | Verb::AgentEnds
            | Verb::KillSupervisor
            | Verb::TripBreaker
            | Verb::Pause
            | Verb::Resume
            | Verb::PauseByHand
            | Verb::ResumeByHand
            | Verb::NextDay
            | Verb::Restart => self.look_soon(),
        }
    }

    /// Does one thing; nobody has taken note of it yet.
    pub(super) fn begin(&mut self, verb: Verb) -> Result<(), Killed> {
        let target = |state: &str| json!(self.task_in(state).unwrap_or_else(|| "nobody".to_owned()));
        match verb {
            Verb::Submit => self.submit(json!({"run": ["true"]})),
            Verb::SubmitHeld => self.submit(json!({"run": ["true"], "held": true})),
            Verb::SubmitDelayed => self.submit(json!({"run": ["true"], "delay_seconds": 2})),
            Verb::SubmitWithDeadline => self.submit(json!({"run": ["true"], "deadline_seconds": 2})),
            Verb::SubmitNeeds => self.submit_needs(),
            Verb::SubmitAfterFailed => {
                let others = self.task_in("active").into_iter().collect::<Vec<_>>();
                self.submit(json!({"run": ["true"], "after_failed": others}));
            }
            Verb::SubmitLong => self.submit(json!({"script": "x".repeat(20_000)})),
            Verb::SubmitWanting => {
                let mode = if self.submitted.is_multiple_of(2) { "shared" } else { "exclusive" };
                self.submit(json!({"run": ["true"], "resources": {"unit": 1}, "locks": {"place": mode}}));
            }
            Verb::SubmitTold => self.submit(told()),
            Verb::SubmitAgain => self.drop_command(&json!({"run": ["true"], "name": "t1", "id": first_id()})),
            Verb::Refuse => self.drop_file("wrong", b"{\"run\": [\"tr"),
            Verb::SameName => {
                let text = json!({"run": ["true"], "held": true}).to_string();
                self.write_file("same.json", text.as_bytes());
            }
            Verb::CancelActive => self.drop_command(&json!({"type": "cancel", "target": target("active")})),
            Verb::CancelReady => self.drop_command(&json!({"type": "cancel", "target": target("ready")})),
            Verb::CancelHeld => self.drop_command(&json!({"type": "cancel", "target": target("held")})),
            Verb::Hold => self.drop_command(&json!({"type": "hold", "target": target("ready")})),
            Verb::Release => self.drop_command(&json!({"type": "release", "target": target("held")})),
            Verb::Rerank => {
                self.drop_command(&json!({"type": "rerank", "target": target("ready"), "rank": 7}));
            }
            Verb::MarkRead => self.mark_read(),
            Verb::Retry => {
                let target = self.ended_without_success().unwrap_or_else(|| "nobody".to_owned());
                self.drop_command(&json!({"type": "retry", "target": target}));
            }
            Verb::RerankByHand => self.move_by_hand("ready", |name| format!("ready/10-{}", &name[3..])),
            Verb::HoldByHand => self.move_by_hand("ready", |name| format!("held/{}", &name[3..])),
            Verb::ReleaseByHand => self.move_by_hand("held", |name| format!("ready/20-{name}")),
            Verb::RemoveByHand => {
                if let Some(path) = self.first_in("ready") {
                    as_user(|| store::remove(&path).expect("because the disk takes all"));
                }
            }
            Verb::EditByHand => self.edit_by_hand(),
            Verb::EditInPlace => {
                let text = self.edited(json!({"run": ["true"], "delay_seconds": 2}));
                self.edit("held", |path, _| rewrite(path, text.as_bytes()));
            }
            Verb::EditBadly => self.edit("ready", |path, _| rewrite(path, b"{\"run\": [\"tr")),
            Verb::AgentEnds => self.end_an_agent(),
            Verb::KillSupervisor if self.supervisors.is_empty() => {}
            Verb::KillSupervisor => self.kill_supervisor(0),
            Verb::TripBreaker => self.trip_breaker(),
            Verb::Pause => self.ask_of_queue("pause"),
            Verb::Resume => self.ask_of_queue("resume"),
            Verb::PauseByHand | Verb::ResumeByHand => self.pause_by_hand(verb == Verb::PauseByHand),
            Verb::Quiet => on(|machine| machine.pass(Duration::from_secs(3))),
            Verb::NextDay => on(|machine| machine.wall += 24 * 60 * 60 * 1_000_000),
            Verb::Restart => {
                self.end_daemon()?;
                self.start_daemon()?;
            }
        }
        Ok(())
    }

    fn mark_read(&mut self) {
        let task = ["active", "ready", "held"].into_iter().find_map(|state| self.task_in(state));
        let tasks = [task.unwrap_or_else(|| "nobody".to_owned())];
        self.drop_command(&json!({"type": "mark_read", "reader": "me", "tasks": tasks, "version": 2}));
    }

    /// Tasks that wait for others, one behind the other.
    fn submit_needs(&mut self) {
        let others = self.task_in("active").into_iter().collect::<Vec<_>>();
        self.submit(json!({"run": ["true"], "needs": others}));
        let last = format!("t{}", self.submitted);
        self.submit(json!({"run": ["true"], "needs": [last]}));
        let last = format!("t{}", self.submitted);
        self.submit(json!({"run": ["true"], "after": [last]}));
    }

    /// An editor writes a ready task's file beside it, and moves it there.
    fn edit_by_hand(&mut self) {
        let text = self.edited(json!({"run": ["true"]}));
        self.edit("ready", |path, aside| {
            drop(store::create_new(aside, text.as_bytes(), 0o600)?);
            store::rename(aside, path)
        });
    }

    fn submit(&mut self, mut command: Value) {
        self.submitted += 1;
        command["name"] = json!(format!("t{}", self.submitted));
        if self.submitted == 1 {
            command["id"] = json!(first_id());
        }
        self.drop_command(&command);
    }

    pub(super) fn drop_command(&mut self, command: &Value) {
        self.drop_file("command", command.to_string().as_bytes());
    }

    pub(super) fn drop_file(&mut self, stem: &str, bytes: &[u8]) {
        let name = format!("{stem}{}.json", self.dropped.len());
        self.write_file(&name, bytes);
    }

    /// Drops a file as `gitspool submit` does: on disk before its name is, and that before anybody is told.
    fn write_file(&mut self, name: &str, bytes: &[u8]) {
        let layout = self.layout();
        let (aside, path) = (layout.dropping(name), layout.dropped(name));
        as_user(|| {
            drop(store::create_new(&aside, bytes, 0o600).and_then(|file| {
                file.sync_all().expect("because the disk takes all");
                store::rename(&aside, &path)?;
                store::sync_parent(&path)
            }));
        });
        let step = on(|machine| machine.steps);
        self.dropped.push((name.to_owned(), step));
    }

    /// The name of the first task in a state.
    fn task_in(&self, word: &str) -> Option<String> {
        let living = self.daemon.as_ref()?;
        let is_so = |state: &State| state.word() == word;
        let task = living.daemon.queues.tasks().find(|(_, live)| is_so(&live.state))?;
        Some(task.0.to_string())
    }

    /// The first task that was cancelled, or else has failed.
    fn ended_without_success(&self) -> Option<String> {
        let layout = self.layout();
        let ended = ["cancelled", "failed"].map(|folder| layout.ended(&queue(), folder));
        let dates = ended.iter().flat_map(|folder| {
            let names = store::names(folder).unwrap_or_default();
            names.into_iter().filter(|name| is_date(name)).map(|date| folder.join(date)).collect::<Vec<_>>()
        });
        let names = dates.flat_map(|date| store::names(&date).unwrap_or_default());
        names.filter_map(|name| name.strip_suffix(".json").map(ToOwned::to_owned)).min()
    }

    /// The first task's file in a folder of the queue.
    pub(super) fn first_in(&self, folder: &str) -> Option<PathBuf> {
        let folder = self.layout().queue(&queue()).join(folder);
        let mut names = store::names(&folder).ok()?;
        names.sort();
        Some(folder.join(names.into_iter().find(|name| name.ends_with(".json"))?))
    }

    fn move_by_hand(&mut self, folder: &str, to: impl Fn(&str) -> String) {
        let Some(path) = self.first_in(folder) else { return };
        let name = path.file_name().and_then(|name| name.to_str()).expect("because it is a task's");
        let to = self.layout().queue(&queue()).join(Path::new(&to(name)));
        as_user(|| store::rename(&path, &to).expect("because the disk takes all"));
    }

    /// A spec that no task has yet.
    fn edited(&mut self, mut spec: Value) -> String {
        self.edits += 1;
        spec["timeout_seconds"] = json!(self.edits);
        spec.to_string()
    }

    /// A user saves the first task's file in a folder.
    fn edit(&self, folder: &str, save: impl FnOnce(&Path, &Path) -> Result<(), StoreError>) {
        let Some(path) = self.first_in(folder) else { return };
        let aside = path.with_extension("json.tmp");
        as_user(|| {
            store::remove(&aside).expect("because the disk takes all");
            save(&path, &aside).expect("because the disk takes all");
        });
    }

    /// The first agent that runs ends well.
    pub(super) fn end_an_agent(&mut self) {
        on(|machine| {
            if let Some((agent, _)) = machine.processes.agents().first() {
                machine.processes.exit(*agent, 0);
            }
        });
    }

    /// Lets all that can end come to its end.
    pub(super) fn finish(&mut self) -> Result<(), Killed> {
        for _ in 0..200 {
            let before = on(|machine| machine.steps);
            self.pause_by_hand(false);
            self.end_an_agent();
            self.wait(LONG)?;
            let rests = on(|machine| machine.steps == before && machine.processes.agents().is_empty());
            if rests && self.has_told_all() {
                return Ok(());
            }
        }
        panic!("they never come to their end");
    }
}

/// Writes where a file lies, as an editor that makes no new one.
fn rewrite(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    store::truncate(path, 0)?;
    store::overwrite(path, bytes)
}

/// A task of which somebody is told, all that happens, and not too often.
fn told() -> Value {
    let notify = json!({"argv": ["tell"], "mode": "milestones", "min_interval_seconds": 3});
    json!({"run": ["true"], "notify": notify})
}

/// The id that the first task is given.
fn first_id() -> &'static str {
    "01a07dd9-a400-7000-8000-000000000001"
}

/// Does something that nobody is killed at.
pub(super) fn as_user<T>(doing: impl FnOnce() -> T) -> T {
    let ends = on(|machine| machine.ends.take());
    let done = doing();
    on(|machine| machine.ends = ends);
    done
}
