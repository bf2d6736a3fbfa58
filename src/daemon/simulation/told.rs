//! What must hold of notices: nobody misses one, and nobody is told of what has not happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::oracle::{Files, spec_of};
use crate::event::Event;
use crate::id::TaskId;
use crate::jsonl::Line;
use crate::notice::{Ledger, NoticeId};
use crate::simulated::on;
use crate::spec::Spec;

/// Each end that somebody is to be told of is told once, and each notice was taken or given up; nothing was taken that is
/// not in the log.
pub(super) fn told(files: &Files, lines: &[Line<Event>]) -> Result<(), String> {
    let mut notices = Ledger::default();
    let mut specs: BTreeMap<TaskId, Arc<Spec>> = BTreeMap::new();
    let (mut known, mut finals) = (BTreeSet::new(), BTreeMap::<TaskId, usize>::new());
    let mut over = BTreeSet::new();
    let taken = on(|machine| machine.processes.taken.clone());
    for line in lines {
        if let (Some((task, _)), Some(text)) = (line.event.state(), line.event.spec()) {
            specs.insert(task, Arc::new(spec_of(files, text).unwrap_or_default()));
        }
        if let Event::Notice(notice) = &line.event {
            let owed = notice.task.is_none_or(|task| !notice.is_final || notices.owes_end(task));
            if !known.insert(notice.id) || !owed {
                return Err(format!("line {} tells what was told already", line.seq));
            }
            if let Some(task) = notice.task.filter(|_| notice.is_final) {
                *finals.entry(task).or_default() += 1;
            }
        }
        if let Event::Delivered { notice, .. } = &line.event
            && !taken.contains(notice)
        {
            return Err(format!("line {} tells of a notice that nobody has taken", line.seq));
        }
        if let Some((task, state)) = line.event.state() {
            match state.is_ended() {
                true => drop(over.insert(task)),
                false => drop(over.remove(&task)),
            }
        }
        let task = line.event.changed().filter(|task| line.event.state().is_some() || !over.contains(task));
        let task = task.and_then(|task| specs.get(&task));
        notices.see(&line.event, line.at, task);
    }
    if let Some(unknown) = taken.iter().find(|notice| !known.contains(notice)) {
        return Err(format!("notice {unknown} was taken and is not in the log"));
    }
    let owed = notices.owed(None);
    let open: Vec<NoticeId> = notices.open().map(|open| open.notice.id).collect();
    if !owed.is_empty() || !open.is_empty() {
        return Err(format!("nobody was told of the end of {owed:?}, and {open:?} are open"));
    }
    let ends = |task: &TaskId| {
        let is_end = |line: &&Line<Event>| {
            line.event.state().is_some_and(|(of, state)| of == *task && state.is_ended())
        };
        lines.iter().filter(is_end).count()
    };
    match finals.iter().find(|(task, count)| ends(task) != **count) {
        Some((task, count)) => {
            Err(format!("{task} has ended {} times, and was told of {count} times", ends(task)))
        }
        None => Ok(()),
    }
}
