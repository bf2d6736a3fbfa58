//! Finds tasks by what people call them: an id, the end of one, a run's id, or a name.
//!
//! Only reads folders. A task's state is the folder that its file lies in; it may move while we look, so the folders are
//! gone through in the order of its life, and once more when nothing was found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{CliError, pending, scope};
use crate::id::{Name, Rank, RunId, TaskId};
use crate::layout::{self, ENDED_FOLDERS, Layout};
use crate::removed;
use crate::spec::Spec;
use crate::store::{self, StoreError};
use crate::time;

/// The shortest end of an id that stands for it.
const SUFFIX_MIN: usize = 4;

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Held,
    Waiting,
    Ready(Rank),
    /// Running on a host.
    Active(Name),
    /// Ended; one of [`ENDED_FOLDERS`].
    Ended(&'static str),
}

impl Place {
    /// The folder's name.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Place::Held => "held",
            Place::Waiting => "waiting",
            Place::Ready(_) => "ready",
            Place::Active(_) => "active",
            Place::Ended(folder) => folder,
        }
    }

    pub(super) fn has_started(&self) -> bool {
        matches!(self, Place::Active(_) | Place::Ended(_))
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self, Place::Ended(_))
    }
}

/// A task's file.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) task: TaskId,
    pub(super) queue: Name,
    pub(super) place: Place,
    pub(super) path: PathBuf,
}

/// What a text on the command line means.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) found: Found,
    /// The run that was named, when one was.
    pub(super) attempt: Option<u32>,
}

/// Finds what `text` names.
///
/// # Errors
/// When there is no such task, or several.
pub(super) fn target(layout: &Layout, text: &str) -> Result<Target, CliError> {
    look_for(layout, text)?.ok_or_else(|| not_found(layout, text))
}

/// The error of a task that is nowhere, or not admitted yet.
pub(super) fn not_found(layout: &Layout, text: &str) -> CliError {
    let spool = layout.root().display();
    let id = text.split_once('.').map_or(text, |(task, _)| task);
    if let Some(gone) = id.parse().ok().and_then(|task| removed::look(layout, task).ok()?)
        && scope().is_whole()
    {
        return CliError::NotFound(format!(
            "the task {id} has ended ({}), and was removed since by gc; of its runs nothing is left",
            gone.folder
        ));
    }
    CliError::NotFound(match pending::command_of(layout, text) {
        Ok(Some(command)) => {
            format!("the task {text} is not admitted yet: {} waits in the inbox of {spool}", command.name)
        }
        Ok(None) | Err(_) => format!("no task in {spool} is called {text:?}; `gitspool ls --all` lists them"),
    })
}

/// The same; `None` when there is no such task.
pub(super) fn look_for(layout: &Layout, text: &str) -> Result<Option<Target>, CliError> {
    if let Ok(RunId { task, attempt }) = text.parse() {
        return Ok(seen(layout, task)?.map(|found| Target { found, attempt: Some(attempt) }));
    }
    if let Ok(task) = text.parse() {
        return Ok(seen(layout, task)?.map(|found| Target { found, attempt: None }));
    }
    if let Some(found) = by_words(layout, text)? {
        return Ok(Some(Target { found, attempt: None }));
    }
    let run = text.rsplit_once('.').and_then(|(task, attempt)| Some((task, attempt.parse().ok()?)));
    let Some((task, attempt)) = run else { return Ok(None) };
    Ok(by_words(layout, task)?.map(|found| Target { found, attempt: Some(attempt) }))
}

/// The task with this id, if it is in the scope of the command line.
fn seen(layout: &Layout, task: TaskId) -> Result<Option<Found>, CliError> {
    let Some(found) = exact(layout, task)? else { return Ok(None) };
    Ok(is_in_scope(&found)?.then_some(found))
}

/// Whether there is such a task for whoever calls.
pub(super) fn is_in_scope(found: &Found) -> Result<bool, StoreError> {
    Ok(scope().is_whole() || spec(found)?.is_some_and(|spec| scope().has(&spec)))
}

/// The task with this id, whatever its scope.
pub(super) fn exact(layout: &Layout, task: TaskId) -> Result<Option<Found>, CliError> {
    match look(layout, task)? {
        Some(found) => Ok(Some(found)),
        None => look(layout, task),
    }
}

fn look(layout: &Layout, task: TaskId) -> Result<Option<Found>, CliError> {
    let queues = queues(layout)?;
    let live = live_in(layout, &queues, |other| other == task)?;
    let ended = queues.iter().flat_map(|queue| ENDED_FOLDERS.map(|folder| (queue, folder)));
    let mut ended = ended.map(|(queue, folder)| Found {
        task,
        queue: queue.clone(),
        place: Place::Ended(folder),
        path: layout.ended_task(queue, folder, task),
    });
    Ok(ended.find(|found| store::exists(&found.path)).or_else(|| live.into_values().next()))
}

/// The live task, or else the ended one, of which `text` is the end of the id or the name.
fn by_words(layout: &Layout, text: &str) -> Result<Option<Found>, CliError> {
    let is_end =
        text.len() >= SUFFIX_MIN && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let ends = |task: TaskId| is_end && task.to_string().ends_with(text);
    let mut named = Vec::new();
    for found in live(layout)? {
        if (ends(found.task) || is_named(&found, text)?) && is_in_scope(&found)? {
            named.push(found);
        }
    }
    if named.is_empty() && is_end {
        for date in ended_dates(layout)? {
            for found in ended_on(layout, &date)?.into_iter().filter(|found| ends(found.task)) {
                named.extend(is_in_scope(&found)?.then_some(found));
            }
        }
    }
    if named.len() > 1 {
        let ids: Vec<String> = named.iter().take(10).map(|found| found.task.to_string()).collect();
        return Err(CliError::Usage(format!(
            "{text:?} names several tasks; give one of the ids:\n{}",
            ids.join("\n")
        )));
    }
    if let Some(found) = named.pop() {
        return Ok(Some(found));
    }
    if text.parse::<Name>().is_err() {
        return Ok(None);
    }
    for date in ended_dates(layout)? {
        for found in ended_on(layout, &date)? {
            if is_named(&found, text)? && is_in_scope(&found)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn is_named(found: &Found, text: &str) -> Result<bool, CliError> {
    Ok(spec(found)?.and_then(|spec| spec.name).is_some_and(|name| name.as_str() == text))
}

/// What no task's file is longer than.
pub(super) const TASK_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a task's file says; `None` when it is gone, or cannot be read as a spec.
pub(super) fn spec(found: &Found) -> Result<Option<Spec>, StoreError> {
    // Whoever edits it may have put anything there for a while.
    let bytes = store::read_if_small(&found.path, TASK_BYTES_MAX).ok().flatten();
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// The queues, by name.
pub(super) fn queues(layout: &Layout) -> Result<Vec<Name>, StoreError> {
    let mut queues: Vec<Name> =
        store::names(&layout.queues())?.iter().filter_map(|name| name.parse().ok()).collect();
    queues.retain(|queue| layout.queue(queue).is_dir());
    queues.sort();
    Ok(queues)
}

/// All live tasks: first those that run, then those that are ready in the order of dispatch, then those that wait for their
/// time, then those that are held.
pub(super) fn live(layout: &Layout) -> Result<Vec<Found>, CliError> {
    let found = live_in(layout, &queues(layout)?, |_| true)?;
    let mut found: Vec<Found> = found.into_values().collect();
    found.sort_by_key(|found| match found.place {
        Place::Active(_) => (0, None, found.task),
        Place::Ready(rank) => (1, Some(rank), found.task),
        Place::Waiting => (2, None, found.task),
        Place::Held => (3, None, found.task),
        Place::Ended(_) => (4, None, found.task),
    });
    Ok(found)
}

/// The live tasks that are wanted; one that is seen twice moved on meanwhile.
fn live_in(
    layout: &Layout,
    queues: &[Name],
    wanted: impl Fn(TaskId) -> bool,
) -> Result<BTreeMap<TaskId, Found>, StoreError> {
    let mut all = BTreeMap::new();
    let mut add = |queue: &Name, task: TaskId, place: Place, path: PathBuf| {
        if wanted(task) {
            all.insert(task, Found { task, queue: queue.clone(), place, path });
        }
    };
    for queue in queues {
        for name in store::names(&layout.held(queue))? {
            if let Some(task) = layout::parse_task_name(&name) {
                add(queue, task, Place::Held, layout.held_task(queue, task));
            }
        }
        for name in store::names(&layout.waiting(queue))? {
            if let Some(task) = layout::parse_task_name(&name) {
                add(queue, task, Place::Waiting, layout.waiting_task(queue, task));
            }
        }
        for name in store::names(&layout.ready(queue))? {
            if let Some((rank, task)) = layout::parse_queued_name(&name) {
                add(queue, task, Place::Ready(rank.unwrap_or_default()), layout.ready(queue).join(name));
            }
        }
        for host in store::names(&layout.actives(queue))?.iter().filter_map(|name| name.parse::<Name>().ok())
        {
            for name in store::names(&layout.active(queue, &host)).unwrap_or_default() {
                if let Some(task) = layout::parse_task_name(&name) {
                    add(queue, task, Place::Active(host.clone()), layout.active_task(queue, &host, task));
                }
            }
        }
    }
    Ok(all)
}

/// The days on which ended tasks were submitted, the newest first.
pub(super) fn ended_dates(layout: &Layout) -> Result<Vec<String>, StoreError> {
    let mut dates = BTreeSet::new();
    for queue in queues(layout)? {
        for folder in ENDED_FOLDERS {
            dates.extend(
                store::names(&layout.ended(&queue, folder))?.into_iter().filter(|name| time::is_date(name)),
            );
        }
    }
    Ok(dates.into_iter().rev().collect())
}

/// The ended tasks of one day, the newest first.
pub(super) fn ended_on(layout: &Layout, date: &str) -> Result<Vec<Found>, StoreError> {
    let mut all = Vec::new();
    for queue in queues(layout)? {
        for folder in ENDED_FOLDERS {
            let day = layout.ended(&queue, folder).join(date);
            let tasks = store::names(&day)?.into_iter().filter_map(|name| layout::parse_task_name(&name));
            all.extend(tasks.map(|task| Found {
                task,
                queue: queue.clone(),
                place: Place::Ended(folder),
                path: layout.ended_task(&queue, folder, task),
            }));
        }
    }
    all.sort_by_key(|found| std::cmp::Reverse(found.task));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "01890a5d-ac96-774b-bcce-b302099a8001";
    const TWO: &str = "01890a5d-ac96-774b-bcce-b302099a8002";
    const OLD: &str = "01880a5d-ac96-774b-bcce-b302099a9001";

    struct Sandbox {
        _folder: tempfile::TempDir,
        layout: Layout,
    }

    impl Sandbox {
        fn new() -> Sandbox {
            let folder = tempfile::tempdir().unwrap();
            let layout = Layout::new(folder.path());
            Sandbox { _folder: folder, layout }
        }

        fn put(&self, path: &str, name: &str) {
            let path = self.layout.queues().join("default").join(path);
            store::make_dir(path.parent().unwrap()).unwrap();
            let text = format!("{{\"name\":{name:?},\"run\":[\"true\"]}}");
            store::create_new(&path, text.as_bytes(), 0o600).unwrap();
        }

        fn find(&self, text: &str) -> Option<(String, &'static str, Option<u32>)> {
            let target = look_for(&self.layout, text).unwrap()?;
            Some((target.found.task.to_string(), target.found.place.word(), target.attempt))
        }
    }

    #[test]
    fn a_task_is_found_by_its_id_the_end_of_it_its_name_and_its_run() {
        let spool = Sandbox::new();
        spool.put(&format!("ready/50-{ONE}.json"), "build");
        spool.put(&format!("done/2023-05-11/{OLD}.json"), "old.1");
        let one = Some((ONE.to_owned(), "ready", None));
        for text in [ONE, "8001", "099a8001", "build"] {
            assert_eq!(spool.find(text), one, "{text}");
        }
        assert_eq!(spool.find(&format!("{ONE}.3")), Some((ONE.to_owned(), "ready", Some(3))));
        assert_eq!(spool.find("099a8001.3"), Some((ONE.to_owned(), "ready", Some(3))));
        for text in [OLD, "9001", "old.1"] {
            assert_eq!(spool.find(text), Some((OLD.to_owned(), "done", None)), "{text}");
        }
        for text in [TWO, "001", "nothing", "", "../x"] {
            assert_eq!(spool.find(text), None, "{text}");
        }
    }

    #[test]
    fn a_live_task_comes_before_ended_ones_and_several_live_ones_are_an_error() {
        let spool = Sandbox::new();
        spool.put(&format!("done/2023-05-11/{OLD}.json"), "build");
        spool.put(&format!("failed/2023-06-30/{TWO}.json"), "build");
        assert_eq!(spool.find("build"), Some((TWO.to_owned(), "failed", None)), "the newest");
        spool.put(&format!("active/here/{ONE}.json"), "build");
        assert_eq!(spool.find("build"), Some((ONE.to_owned(), "active", None)));
        spool.put("held/01890a5d-ac96-774b-bcce-b302099a8003.json", "build");
        let error = look_for(&spool.layout, "build").unwrap_err().to_string();
        assert!(error.contains(ONE) && error.contains("8003"), "{error}");
    }

    #[test]
    fn live_tasks_come_in_the_order_of_dispatch() {
        let spool = Sandbox::new();
        for (path, id) in
            [("held/", "1"), ("ready/50-", "3"), ("ready/50-", "2"), ("ready/10-", "4"), ("active/h/", "5")]
        {
            spool.put(&format!("{path}01890a5d-ac96-774b-bcce-b302099a800{id}.json"), "x");
        }
        let order: Vec<String> = live(&spool.layout)
            .unwrap()
            .iter()
            .map(|found| found.task.to_string()[35..].to_owned())
            .collect();
        assert_eq!(order, ["5", "4", "2", "3", "1"]);
    }
}
