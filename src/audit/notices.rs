//! What the log tells of notices: each end that somebody is to be told of is told once, and each delivery is of a notice.

use super::history::History;
use super::{Audit, Kind, Mend, by_hand};
use crate::event::Event;
use crate::id::{Name, TaskId};
use crate::jsonl::Line;
use crate::notice::Ledger;

impl Audit<'_> {
    /// Folds a line, behind what it tells of its task.
    pub(super) fn fold_notice(
        &mut self,
        history: &mut History,
        host: &Name,
        path: &str,
        line: &Line<Event>,
        ours: bool,
    ) {
        let ledger = history.notices.entry(host.clone()).or_default();
        if ours && self.is_behind_checkpoint(line.seq) && history.checked_notices.is_none() {
            history.checked_notices = Some(ledger.checked());
        }
        // Of whose spec the text is gone nobody knows what was to be told.
        let knows = |task: &TaskId| history.tasks.get(task).is_some_and(|told| told.spec.is_some());
        let wrong = wrong_with(line, ledger, &knows);
        let task = line.event.changed().and_then(|task| history.tasks.get(&task));
        // Nobody is told of what is said of a task that has ended.
        let task = task.filter(|told| line.event.state().is_some() || !told.state.is_ended());
        ledger.see(&line.event, line.at, task.and_then(|told| told.spec.as_ref()));
        ledger.keep();
        if let Some((kind, what)) = wrong.filter(|_| history.whole) {
            self.find(kind, path, what, by_hand("bring the log back from a copy"));
        }
    }

    /// Finds the ends that nobody was told of. The next daemon tells of those that it goes through.
    pub(super) fn check_notices(&mut self, history: &mut History) {
        let Some(ours) = self.seen.host.clone() else { return };
        let Some(ledger) = history.notices.get(&ours) else { return };
        history.checked_notices.get_or_insert_with(|| ledger.checked());
        for task in ledger.owed(None) {
            let Some(told) = history.tasks.get(&task) else { continue };
            let path = self.below(&self.seen.layout.now(&ours));
            let what = format!("line {}: task {task} has ended, and no line tells of it", told.last_seq);
            let mend = match self.is_behind_checkpoint(told.last_seq) {
                true => Mend::Daemon,
                false => by_hand("tell who waits for it"),
            };
            self.find(Kind::NoticeMissing, path, what, mend);
        }
    }
}

/// What a line says of notices that cannot be behind those that were folded.
fn wrong_with(
    line: &Line<Event>,
    ledger: &Ledger,
    knows: &dyn Fn(&TaskId) -> bool,
) -> Option<(Kind, String)> {
    let seq = line.seq;
    if let Event::Delivered { notice, .. } | Event::NotDelivered { notice, .. } = &line.event {
        let is_open = ledger.open_one(*notice).is_some();
        return (!is_open).then(|| (Kind::NoticeUnknown, format!("line {seq}: no notice {notice} is open")));
    }
    let Event::Notice(notice) = &line.event else { return None };
    if ledger.open_one(notice.id).is_some() {
        return Some((Kind::NoticeRepeated, format!("line {seq}: notice {} was there already", notice.id)));
    }
    let task = notice.task.filter(|task| notice.is_final && knows(task) && !ledger.owes_end(*task))?;
    let what = format!("line {seq}: task {task} has not ended, or its end was told already");
    Some((Kind::NoticeRepeated, what))
}
