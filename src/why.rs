//! Why a task does not run now: every reason at once, in words and with a kind for programs. Pure.
//!
//! The rules are those by which the daemon picks; what holds only for a moment (it has not looked yet) is no reason.

use serde::Serialize;

use crate::id::{Name, RunId, TaskId};
use crate::needs::Edge;
use crate::outcome::Outcome;
use crate::resource::{Lack, Mode, ResourceName, Thing};
use crate::shortage::Shortage;
use crate::time::Timestamp;

/// How many tasks are named in a reason.
const NAMED_MAX: usize = 5;

/// One reason. Programs may rely on the kinds and their keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Reason {
    /// Its command is in the inbox, or was taken and is not answered yet.
    NotAdmitted,
    /// Nobody moves tasks.
    NoDaemon,
    /// Too little is left of something; nothing is started.
    Short { of: Shortage, message: String },
    /// Somebody holds it.
    Held,
    /// Since nobody knows what its last run has done.
    Unseen { run: RunId, outcome: Outcome },
    /// Its time has not come; which that is, where its spec says it.
    Waiting {
        #[serde(skip_serializing_if = "Option::is_none")]
        start_at: Option<Timestamp>,
    },
    /// Until when it must have started, and how long that is from now; told where something else keeps it.
    Deadline { deadline_at: Timestamp, left_seconds: u64 },
    /// Another task has not ended as it wants it to: how that stands.
    Task { edge: Edge, task: TaskId, state: &'static str },
    /// Its file cannot be its spec, or not yet: somebody edits it, or it is put back in a moment.
    Unsettled { file: String, problem: String },
    /// Its queue is paused.
    Paused {
        queue: Name,
        /// Why, if somebody has said so.
        #[serde(skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
    /// As many run as may.
    Slots { queue: Name, slots: u32, taken_by: Vec<TaskId> },
    /// Nothing of its queue may run.
    NoSlots { queue: Name },
    /// So many go first.
    Behind { count: usize, first: Vec<TaskId> },
    /// As many run of its lane as may.
    Lane { queue: Name, lane: Name, slots: u32, taken_by: Vec<TaskId> },
    /// So many units of a resource are free of so many, and it wants more.
    Resource { name: ResourceName, wanted: u32, free: u32, count: u32, taken_by: Vec<TaskId> },
    /// It wants more of a resource than this host has.
    Never { name: ResourceName, wanted: u32, count: u32 },
    /// Others have a lock.
    Lock { name: ResourceName, mode: Mode, taken_by: Vec<TaskId> },
    /// It works in a directory in which another works.
    Directory { directory: String, taken_by: TaskId },
    /// What it wants is free, and kept for a task that goes before.
    Reserved { name: String, by: TaskId },
    /// What this host has cannot be read; the last good settings hold, which only the daemon knows.
    HostSettings { error: String },
    /// The settings of its queue cannot be read; the last good ones hold, which only the daemon knows.
    Settings { queue: Name, error: String },
}

/// What is known of a queue and of those who look after it.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    pub(crate) daemon: bool,
    pub(crate) short: Option<(Shortage, String)>,
    /// The task's file, if that is none, and why.
    pub(crate) unsettled: Option<(String, String)>,
    pub(crate) queue: Name,
    /// Why its queue is paused, if it is; empty when nobody says why.
    pub(crate) paused: Option<String>,
    pub(crate) slots: Result<u32, String>,
    /// The tasks of the queue that run.
    pub(crate) active: Vec<TaskId>,
    /// The ready tasks that go before this one, the first first.
    pub(crate) before: Vec<TaskId>,
    /// Its lane, with how many slots that has and who has them; if it has a number of its own.
    pub(crate) lane: Option<(Name, u32, Vec<TaskId>)>,
    /// What it lacks of resources, locks and directories, and who has that.
    pub(crate) lacks: Vec<(Lack, Vec<TaskId>)>,
    /// What is wrong with the settings of this host, if that matters.
    pub(crate) host_error: Option<String>,
}

/// Why a task does not run that is ready, or `rests` for reasons of its own.
pub(crate) fn reasons(rests: Vec<Reason>, around: &Around) -> Vec<Reason> {
    let Around { queue, active, before, .. } = around;
    let few = |tasks: &[TaskId]| tasks.iter().take(NAMED_MAX).copied().collect::<Vec<_>>();
    let queue = || queue.clone();
    let mut reasons = Vec::new();
    reasons.extend((!around.daemon).then_some(Reason::NoDaemon));
    let short = around.short.clone();
    reasons.extend(short.map(|(of, message)| Reason::Short { of, message }));
    reasons.extend(rests);
    let unsettled = around.unsettled.clone();
    reasons.extend(unsettled.map(|(file, problem)| Reason::Unsettled { file, problem }));
    let because = |why: &String| Some(why.clone()).filter(|why| !why.is_empty());
    let paused = around.paused.as_ref().map(because);
    reasons.extend(paused.map(|because| Reason::Paused { queue: queue(), because }));
    match &around.slots {
        Ok(0) => reasons.push(Reason::NoSlots { queue: queue() }),
        Ok(slots) if active.len() >= *slots as usize => {
            reasons.push(Reason::Slots { queue: queue(), slots: *slots, taken_by: few(active) });
        }
        Ok(_) => {}
        Err(error) => reasons.push(Reason::Settings { queue: queue(), error: error.clone() }),
    }
    if let Some((lane, slots, taken_by)) = &around.lane
        && taken_by.len() >= *slots as usize
    {
        let (lane, slots, taken_by) = (lane.clone(), *slots, few(taken_by));
        reasons.push(Reason::Lane { queue: queue(), lane, slots, taken_by });
    }
    reasons.extend(around.host_error.clone().map(|error| Reason::HostSettings { error }));
    reasons.extend(around.lacks.iter().map(|(lack, taken_by)| of_lack(lack.clone(), few(taken_by))));
    if !before.is_empty() {
        reasons.push(Reason::Behind { count: before.len(), first: few(before) });
    }
    reasons
}

/// A lack as a reason.
fn of_lack(lack: Lack, taken_by: Vec<TaskId>) -> Reason {
    match lack {
        Lack::Units { name, wanted, free, count } => Reason::Resource { name, wanted, free, count, taken_by },
        Lack::Never { name, wanted, count } => Reason::Never { name, wanted, count },
        Lack::UnitsReserved { name, by, .. } => Reason::Reserved { name: name.to_string(), by },
        Lack::Taken { thing: Thing::Lock(name), mode } => Reason::Lock { name, mode, taken_by },
        Lack::Taken { thing: Thing::Directory(directory), .. } => {
            let taken_by = *taken_by.first().expect("because somebody has what is taken");
            Reason::Directory { directory, taken_by }
        }
        Lack::Reserved { thing: Thing::Lock(name), by } => Reason::Reserved { name: name.to_string(), by },
        Lack::Reserved { thing: Thing::Directory(name), by } => Reason::Reserved { name, by },
    }
}

impl Reason {
    /// The reason in words, and the way out where there is one.
    pub(crate) fn words(&self) -> String {
        let ids = |tasks: &[TaskId]| tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Reason::NotAdmitted => "its command is not answered yet".to_owned(),
            Reason::NoDaemon => "no daemon runs; start one with `gitspool daemon`".to_owned(),
            Reason::Short { of, message } => format!("{}: {message}; it goes on by itself", of.words()),
            Reason::Held => "it is held; `gitspool release` it".to_owned(),
            Reason::Unseen { run, outcome } => format!(
                "run {run} {}, and nobody knows what it has done: `gitspool release` does it again, `gitspool cancel` ends it",
                outcome.words()
            ),
            Reason::Waiting { start_at } => {
                let time = start_at.map(|at| format!(", {at}")).unwrap_or_default();
                format!("it waits for its time{time}; `gitspool release` makes it ready at once")
            }
            Reason::Deadline { deadline_at, left_seconds } => words_of_deadline(*deadline_at, *left_seconds),
            Reason::Task { edge, task, state } => words_of_edge(*edge, *task, state),
            Reason::Unsettled { file, problem } => format!("its file {file} is being edited: {problem}"),
            Reason::Paused { queue, because } => {
                let because = because.as_deref().map_or(String::new(), |because| format!(": {because}"));
                format!(
                    "queue {queue} is paused{because}; `gitspool resume {queue}`, or rm of its PAUSED, lets it go on"
                )
            }
            Reason::Slots { queue, slots, taken_by } => {
                format!("all {slots} slots of queue {queue} are taken, by {}", ids(taken_by))
            }
            Reason::NoSlots { queue } => format!("queue {queue} has no slots; set them in its queue.json"),
            Reason::Behind { count, first } => {
                let more = if *count > first.len() { ", ..." } else { "" };
                format!(
                    "{count} ready tasks go first: {}{more}; `gitspool rerank` puts it elsewhere",
                    ids(first)
                )
            }
            Reason::Lane { queue, lane, slots: 0, .. } => {
                format!("lane {lane} of queue {queue} has no slots; set them in its queue.json")
            }
            Reason::Lane { queue, lane, slots, taken_by } => {
                let taken_by = ids(taken_by);
                format!("all {slots} slots of lane {lane} of queue {queue} are taken, by {taken_by}")
            }
            Reason::Resource { name, wanted, free, count, taken_by } => {
                let taken_by = ids(taken_by);
                format!(
                    "it wants {wanted} of {name}, and {free} of {count} are free; the others has {taken_by}"
                )
            }
            Reason::Never { name, wanted, count } => {
                format!("it wants {wanted} of {name}, and this host has never more than {count}; see hosts/")
            }
            Reason::Lock { name, mode, taken_by } => {
                format!("it wants the lock {name} ({}), which has {}", mode.word(), ids(taken_by))
            }
            Reason::Reserved { name, by } => {
                format!("{name} is kept for task {by}, which goes first and waits for it")
            }
            Reason::HostSettings { error } => {
                format!("what this host has cannot be read, the last good settings hold: {error}")
            }
            Reason::Directory { directory, taken_by } => {
                format!("task {taken_by} works in its directory {directory}; one does at a time")
            }
            Reason::Settings { queue, error } => {
                format!("the settings of queue {queue} cannot be read, the last good ones hold: {error}")
            }
        }
    }
}

/// Until when a task must have started.
fn words_of_deadline(at: Timestamp, left_seconds: u64) -> String {
    match left_seconds {
        0 => format!("its deadline has come, {at}: it ends as expired"),
        left => format!("it ends as expired if it does not start within {left} s, by {at}"),
    }
}

/// Why a task waits for another, which is in that state.
fn words_of_edge(edge: Edge, task: TaskId, state: &str) -> String {
    match edge {
        Edge::Needs => format!("it needs the success of task {task}, which is {state}"),
        Edge::After => format!("it waits for the end of task {task}, which is {state}"),
        Edge::AfterFailed => {
            format!("it starts only if task {task} ends without success, and that is {state}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u8) -> TaskId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap()
    }

    fn free() -> Around {
        Around {
            daemon: true,
            short: None,
            unsettled: None,
            queue: "default".parse().unwrap(),
            paused: None,
            slots: Ok(2),
            active: vec![],
            before: vec![],
            lane: None,
            lacks: vec![],
            host_error: None,
        }
    }

    /// One of each kind.
    fn lacks() -> Vec<(Lack, Vec<TaskId>)> {
        let name = |text: &str| -> ResourceName { text.parse().unwrap() };
        let (lock, directory) = (Thing::Lock(name("db")), Thing::Directory("/d".into()));
        [
            Lack::Units { name: name("gpu"), wanted: 2, free: 1, count: 3 },
            Lack::Never { name: name("gpu"), wanted: 4, count: 3 },
            Lack::UnitsReserved { name: name("gpu"), wanted: 1, free: 1, by: task(3) },
            Lack::Taken { thing: lock, mode: Mode::Shared },
            Lack::Taken { thing: directory.clone(), mode: Mode::Exclusive },
            Lack::Reserved { thing: directory, by: task(3) },
        ]
        .map(|lack| (lack, vec![task(1)]))
        .into()
    }

    #[test]
    fn a_task_that_may_start_has_no_reason_and_else_all_are_told_at_once() {
        assert_eq!(reasons(vec![], &free()), []);
        let unseen = Reason::Unseen { run: RunId { task: task(8), attempt: 1 }, outcome: Outcome::Lost };
        let task_reason = Reason::Task { edge: Edge::Needs, task: task(9), state: "active" };
        let around = Around {
            daemon: false,
            short: Some((Shortage::Space, "full".into())),
            unsettled: Some(("f".into(), "no".into())),
            paused: Some("lunch".into()),
            active: vec![task(1), task(2)],
            before: (3..20).map(task).collect(),
            lane: Some(("l".parse().unwrap(), 1, vec![task(2)])),
            lacks: lacks(),
            host_error: Some("torn".into()),
            ..free()
        };
        let kinds: Vec<String> = reasons(vec![Reason::Held, unseen.clone(), task_reason.clone()], &around)
            .iter()
            .map(|reason| serde_json::to_value(reason).unwrap()["kind"].as_str().unwrap().to_owned())
            .collect();
        let first = [
            "no_daemon",
            "short",
            "held",
            "unseen",
            "task",
            "unsettled",
            "paused",
            "slots",
            "lane",
            "host_settings",
        ];
        let rest = ["resource", "never", "reserved", "lock", "directory", "reserved", "behind"];
        assert_eq!(kinds, [&first[..], &rest].concat());
        for reason in reasons(vec![Reason::Held, unseen.clone(), task_reason.clone()], &around) {
            assert!(reason.words().len() > 10 && !reason.words().contains('\n'), "{reason:?}");
        }
        let Some(Reason::Behind { count: 17, first }) = reasons(vec![], &around).pop() else {
            panic!("behind")
        };
        assert_eq!(first.len(), NAMED_MAX);
    }

    #[test]
    fn a_free_slot_is_none_when_there_are_none_or_nobody_knows() {
        let with = |slots| reasons(vec![], &Around { slots, ..free() });
        assert_eq!(with(Ok(0)), [Reason::NoSlots { queue: free().queue }]);
        assert!(matches!(&with(Err("torn".into()))[..], [Reason::Settings { .. }]));
    }
}
