//! Removes what has ended long since: tasks with their runs, then the answers, texts and segments that nothing needs any more.
//!
//! `retention` decides; here is looked and removed. What goes is told beforehand by the same function, so that a dry run tells
//! exactly that. Removing is safe to repeat wherever it was cut short: a line of `removed/` first, durably; then the runs are
//! renamed aside; then the task's file, by which the task is there, goes; and what was renamed aside last.
//!
//! Worktrees that are over are looked at again first; and kept refs are dropped when somebody asks for that, never else.
//!
//! Never touched: what is live, a run whose lock is held, and a task one of whose workspaces still stands.

mod answers;
mod dropped;
mod one;
mod other;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::command::BYTES_MAX;
use crate::id::{Name, RunId, TaskId};
use crate::kept::KeptRef;
use crate::layout::{self, ENDED_FOLDERS, Layout};
use crate::lock;
use crate::queue;
use crate::reclaim::{self, Worktree};
use crate::removal::Removed;
use crate::removed;
use crate::reserve;
use crate::retention::{self, Asked, Days, Ended, Limits, Tally};
use crate::spec::Spec;
use crate::spool::Spool;
use crate::store::{self, StoreError};
use crate::time::{self, Timestamp};

pub(crate) use answers::text_of_spec;
pub(crate) use one::{One, plan_one, reclaim_all};
pub(crate) use other::{Other, What};

/// How many tasks of a day are noted as removed at once.
const NOTED_AT_ONCE: usize = 1000;

/// What would go.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) tasks: Vec<Leaving>,
    /// What would go, and stays since these workspaces of its runs still stand.
    pub(crate) stays: Vec<(TaskId, PathBuf)>,
    pub(crate) others: Vec<Other>,
    /// Kept refs, and how much only they keep.
    pub(crate) kept: Vec<(KeptRef, u64)>,
    /// Worktrees that are looked at again.
    pub(crate) worktrees: Vec<Worktree>,
}

/// An ended task that goes, with its runs.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) task: TaskId,
    pub(crate) queue: Name,
    pub(crate) folder: &'static str,
    pub(crate) ended_at: Timestamp,
    pub(crate) runs: Vec<RunId>,
    pub(crate) bytes: u64,
}

impl Leaving {
    /// All that goes of it.
    pub(crate) fn paths(&self, layout: &Layout) -> Vec<PathBuf> {
        let runs = self.runs.iter().map(|run| layout.run(*run).dir().to_owned());
        runs.chain([layout.ended_task(&self.queue, self.folder, self.task)]).collect()
    }
}

impl Plan {
    /// Those of the worktrees that nothing held when they were looked at last.
    pub(crate) fn free_worktrees(&self) -> impl Iterator<Item = &Worktree> {
        self.worktrees.iter().filter(|worktree| worktree.blockers.is_empty())
    }

    pub(crate) fn tally(&self) -> Tally {
        let of = |what: What| self.others.iter().filter(|other| other.what == what).count() as u64;
        let others = self.others.iter().map(|other| other.bytes);
        Tally {
            tasks: self.tasks.len() as u64,
            runs: self.tasks.iter().map(|leaving| leaving.runs.len() as u64).sum::<u64>() + of(What::Run),
            days: of(What::Answers),
            segments: of(What::Segment),
            texts: of(What::Text),
            bytes: self.tasks.iter().map(|leaving| leaving.bytes).chain(others).sum(),
            stay: self.stays.len() as u64,
            workspaces: self.free_worktrees().count() as u64 + of(What::Workspace),
            kept: self.kept.len() as u64,
            kept_bytes: self.kept.iter().map(|(_, bytes)| bytes).sum(),
        }
    }
}

/// What lies in a spool, as far as it matters here.
struct Looked<'a> {
    spool: &'a Spool,
    live: HashMap<TaskId, PathBuf>,
    /// The runs of each day, looked at when they are needed.
    runs: HashMap<String, BTreeMap<TaskId, Vec<RunId>>>,
    /// How many tasks of each day there are, live or ended.
    there: BTreeMap<String, usize>,
}

/// Says what goes. Changes nothing, and may look while everybody works.
///
/// # Errors
/// When a folder cannot be listed.
pub(crate) fn plan(spool: &Spool, asked: &Asked, now: Timestamp) -> Result<Plan, StoreError> {
    let layout = &spool.layout;
    let queues = queues(layout)?;
    let limits: Vec<(&Name, Option<Limits>)> =
        queues.iter().map(|queue| (queue, asked.limits(queue, retention_of(layout, queue)))).collect();
    let live = live(layout, &queues)?;
    let tasks: HashSet<TaskId> = live.keys().copied().collect();
    let bytes_max = asked.workspaces_bytes.or(spool.settings.workspaces_bytes_max);
    let mut plan = Plan { worktrees: reclaim::plan(spool, bytes_max, true)?, ..Plan::default() };
    if asked.is_about_kept() {
        plan.kept = dropped::plan(spool, asked, &tasks, now)?;
    }
    if limits.iter().all(|(_, limits)| limits.is_none()) {
        return Ok(plan);
    }
    let mut looked = Looked { spool, live, runs: HashMap::new(), there: BTreeMap::new() };
    let days: Vec<String> = looked.live.keys().map(|task| task.date().to_string()).collect();
    days.into_iter().for_each(|day| *looked.there.entry(day).or_default() += 1);
    for (queue, limits) in limits {
        looked.add_queue(queue, limits, now, &mut plan)?;
    }
    let mut gone: BTreeSet<String> =
        store::names(&layout.removed())?.into_iter().filter(|name| time::is_date(name)).collect();
    for leaving in &plan.tasks {
        let day = leaving.task.date().to_string();
        if let Some(number) = looked.there.get_mut(&day) {
            *number -= 1;
        }
        gone.insert(day);
    }
    let there: BTreeSet<String> =
        looked.there.iter().filter(|(_, number)| **number > 0).map(|(day, _)| day.clone()).collect();
    let yesterday = now.before(retention::DAY).date().to_string();
    let days = Days { yesterday: &yesterday, last_gone: gone.last().map(String::as_str), there: &there };
    plan.others.extend(answers::days(layout, &days, now)?);
    plan.others.extend(answers::segments(spool, &days)?);
    plan.others.extend(answers::texts(layout, &queues, &plan, looked.live.values().cloned())?);
    Ok(plan)
}

impl Looked<'_> {
    /// Adds what goes of a queue to the plan.
    fn add_queue(
        &mut self,
        queue: &Name,
        limits: Option<Limits>,
        now: Timestamp,
        plan: &mut Plan,
    ) -> Result<(), StoreError> {
        let layout = &self.spool.layout;
        let mut all = Vec::new();
        for folder in ENDED_FOLDERS {
            let days = store::names(&layout.ended(queue, folder))?;
            for day in days.iter().filter(|day| time::is_date(day)) {
                let names = store::names(&layout.ended(queue, folder).join(day))?;
                let tasks: Vec<TaskId> =
                    names.iter().filter_map(|name| layout::parse_task_name(name)).collect();
                *self.there.entry(day.clone()).or_default() += tasks.len();
                if let Some(limits) = &limits {
                    self.add_day(queue, folder, limits, tasks, &mut all)?;
                }
            }
        }
        let Some(limits) = limits else { return Ok(()) };
        let mut stays = Vec::new();
        let chosen = retention::choose(all, &limits, now, |ended| self.may_go(ended.task, &mut stays));
        plan.stays.append(&mut stays);
        for Ended { task, folder, at, .. } in chosen {
            let runs = self.runs_of(task)?.to_vec();
            let mut leaving = Leaving { task, queue: queue.clone(), folder, ended_at: at, runs, bytes: 0 };
            leaving.bytes = leaving.paths(layout).iter().map(|path| disk_bytes(path)).sum();
            plan.tasks.push(leaving);
        }
        Ok(())
    }

    fn add_day(
        &mut self,
        queue: &Name,
        folder: &'static str,
        limits: &Limits,
        tasks: Vec<TaskId>,
        all: &mut Vec<Ended>,
    ) -> Result<(), StoreError> {
        let layout = &self.spool.layout;
        let Some(first) = tasks.first() else { return Ok(()) };
        let noted = removed::on(layout, &first.date())?;
        for task in tasks {
            let path = layout.ended_task(queue, folder, task);
            // It ended when its file came to lie there: nothing else changes what the system tells of that.
            let Some(at) = store::changed_at(&path) else { continue };
            let mut bytes = 0;
            if limits.bytes.is_some() {
                let runs = self.runs_of(task)?.to_vec();
                let runs = runs.into_iter().map(|run| disk_bytes(layout.run(run).dir()));
                bytes = runs.sum::<u64>() + disk_bytes(&path);
            }
            all.push(Ended { task, folder, at, bytes, begun: noted.contains_key(&task) });
        }
        Ok(())
    }

    fn runs_of(&mut self, task: TaskId) -> Result<&[RunId], StoreError> {
        let date = task.date();
        let day = date.to_string();
        if !self.runs.contains_key(&day) {
            let mut runs: BTreeMap<TaskId, Vec<RunId>> = BTreeMap::new();
            for run in store::names(&self.spool.layout.runs_of(&date))? {
                if let Ok(run) = run.parse::<RunId>() {
                    runs.entry(run.task).or_default().push(run);
                }
            }
            self.runs.insert(day.clone(), runs);
        }
        Ok(self.runs.get(&day).and_then(|runs| runs.get(&task)).map_or(&[], Vec::as_slice))
    }

    fn may_go(&mut self, task: TaskId, stays: &mut Vec<(TaskId, PathBuf)>) -> bool {
        let state = self.spool.state();
        let layout = self.spool.layout.clone();
        let Ok(runs) = self.runs_of(task) else { return false };
        let lives = |run: &RunId| lock::is_held(&layout.run(*run).lock()).unwrap_or(true);
        let stands = runs.iter().map(|run| state.workspace(*run)).find(|place| store::exists(place));
        let lives = runs.iter().any(lives);
        let free = stands.is_none() && !lives && !self.live.contains_key(&task);
        stays.extend(stands.map(|place| (task, place)));
        free
    }
}

/// Removes what a plan says, as long as `goes_on`; tells what was removed, and the texts that no task needs that is not live.
///
/// # Errors
/// When something cannot be removed; what was removed until then stays removed.
pub(crate) fn remove(
    spool: &Spool,
    plan: Plan,
    goes_on: &dyn Fn() -> bool,
) -> Result<(Tally, Vec<PathBuf>), StoreError> {
    let layout = &spool.layout;
    let mut tally = Tally { stay: plan.stays.len() as u64, ..Tally::default() };
    empty_trash(layout)?;
    let (gone, bytes) = reclaim::carry_out(spool, &plan.worktrees, goes_on);
    (tally.workspaces, tally.bytes) = (gone, bytes);
    for (kept, bytes) in plan.kept.iter().take_while(|_| goes_on()) {
        if dropped::drop_ref(kept) {
            tally.kept += 1;
            tally.kept_bytes += bytes;
        }
    }
    let mut by_day: BTreeMap<TaskId, Leaving> = BTreeMap::new();
    by_day.extend(plan.tasks.into_iter().map(|leaving| (leaving.task, leaving)));
    let all: Vec<Leaving> = by_day.into_values().collect();
    for of_day in all.chunk_by(|one, other| one.task.date() == other.task.date()) {
        for some in of_day.chunks(NOTED_AT_ONCE) {
            if !goes_on() {
                return Ok((tally, Vec::new()));
            }
            remove_tasks(layout, some, &mut tally)?;
        }
    }
    let mut texts = Vec::new();
    for Other { what, path, bytes } in plan.others {
        match what {
            What::Text => {
                texts.push(path);
                continue;
            }
            What::Answers => {
                store::remove_tree(&path)?;
                tally.days += 1;
            }
            What::Run => {
                one::remove_run(layout, &path)?;
                tally.runs += 1;
            }
            What::Workspace => tally.workspaces += 1,
            What::Segment => {
                store::remove(&path)?;
                tally.segments += 1;
            }
        }
        tally.bytes += bytes;
    }
    Ok((tally, texts))
}

/// Removes tasks of one day.
fn remove_tasks(layout: &Layout, tasks: &[Leaving], tally: &mut Tally) -> Result<(), StoreError> {
    let Some(date) = tasks.first().map(|leaving| leaving.task.date()) else { return Ok(()) };
    let mut notes = BTreeMap::new();
    for leaving in tasks {
        let path = layout.ended_task(&leaving.queue, leaving.folder, leaving.task);
        let spec = store::read_if_there(&path)?.and_then(|bytes| serde_json::from_slice::<Spec>(&bytes).ok());
        notes.insert(leaving.task, Removed::new(leaving.folder, &spec.unwrap_or_default()));
    }
    // On a full disk it makes room, and needs some for that.
    reserve::spend(layout, || removed::add(layout, &date, &notes))?;
    reserve::spend(layout, || store::make_one_dir(&layout.trash()))?;
    for leaving in tasks {
        for run in &leaving.runs {
            match store::rename_into(layout.run(*run).dir(), &layout.trash(), &layout.trashed(*run)) {
                Err(error) if !error.is_not_found() => return Err(error),
                Ok(()) | Err(_) => tally.runs += 1,
            }
        }
        store::remove(&layout.ended_task(&leaving.queue, leaving.folder, leaving.task))?;
        tally.tasks += 1;
        tally.bytes += leaving.bytes;
    }
    // Nothing of a run may be gone while a power cut could bring its folder back.
    store::sync_dir(&layout.runs_of(&date))?;
    empty_trash(layout)
}

/// Removes what was renamed aside.
pub(crate) fn empty_trash(layout: &Layout) -> Result<(), StoreError> {
    let names = store::names(&layout.trash())?;
    names.iter().try_for_each(|name| store::remove_tree(&layout.trash().join(name)))
}

/// What a file, or a folder with all that is in it, takes of the disk.
fn disk_bytes(path: &Path) -> u64 {
    let entries = WalkDir::new(path).into_iter().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.blocks() * 512).sum()
}

fn queues(layout: &Layout) -> Result<Vec<Name>, StoreError> {
    let names = store::names(&layout.queues())?;
    let mut queues: Vec<Name> = names.iter().filter_map(|name| name.parse().ok()).collect();
    queues.retain(|queue| store::is_folder(&layout.queue(queue)));
    queues.sort();
    Ok(queues)
}

/// What a queue keeps; where that cannot be read, all.
fn retention_of(layout: &Layout, queue: &Name) -> Option<retention::Retention> {
    let bytes = store::read_if_small(&layout.queue_record(queue), BYTES_MAX).ok()??;
    queue::parse_settings(&bytes).ok()?.retention
}

/// The live tasks, and where their files lie.
fn live(layout: &Layout, queues: &[Name]) -> Result<HashMap<TaskId, PathBuf>, StoreError> {
    let mut live = HashMap::new();
    for queue in queues {
        let hosts = store::names(&layout.actives(queue))?;
        let hosts = hosts.iter().filter_map(|host| host.parse::<Name>().ok());
        let active: Vec<PathBuf> = hosts.map(|host| layout.active(queue, &host)).collect();
        // In the order of a task's life, and the first again: one that moves meanwhile is seen.
        let waiting = [layout.held(queue), layout.waiting(queue), layout.ready(queue)];
        for folder in waiting.into_iter().chain(active).chain([layout.ready(queue)]) {
            for name in store::names(&folder)? {
                if let Some((_, task)) = layout::parse_queued_name(&name) {
                    live.insert(task, folder.join(name));
                }
            }
        }
    }
    Ok(live)
}
