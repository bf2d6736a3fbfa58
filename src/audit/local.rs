//! What is this machine's only: the checkpoint, the daemon's record, files in the making; workspaces in the state folder.

use std::collections::BTreeSet;

use super::history::{History, attempts};
use super::{Audit, Kind, Mend, by_hand, is_json};
use crate::checkpoint::Checkpoint;
use crate::id::{RunId, TaskId};
use crate::layout::{Place, place_of};
use crate::removal;

impl Audit<'_> {
    pub(super) fn read_checkpoint(&self) -> Option<Checkpoint> {
        Checkpoint::parse(self.content(&self.below(&self.seen.layout.checkpoint()))?)
    }

    pub(super) fn check_checkpoint(&mut self, history: &History) {
        let path = self.below(&self.seen.layout.checkpoint());
        if !self.seen.contents.contains_key(&path) {
            return;
        }
        let Some(checkpoint) = self.checkpoint.clone() else {
            let what = "it cannot be read, so the next start goes through the whole log";
            return self.find(Kind::CheckpointUnreadable, path, what, self.unless_checkpointed());
        };
        if self.seen.host.is_none() {
            return;
        }
        if checkpoint.seq > history.last_seq {
            let what =
                format!("it tells of line {}, and the last one is {}", checkpoint.seq, history.last_seq);
            return self.find(Kind::LogBehind, path, what, by_hand("bring the log back from a copy"));
        }
        if !history.whole {
            return;
        }
        let listed =
            checkpoint.tasks.iter().map(|checked| (checked.task, (checked.state.clone(), checked.spec_seq)));
        let listed: std::collections::BTreeMap<_, _> = listed.collect();
        // Of whose spec the text is gone is forgotten, which is told of the text.
        let has_spec = |task: &&TaskId| history.tasks.get(task).is_none_or(|told| told.spec.is_some());
        let mut tasks = listed.keys().chain(history.checked.keys()).filter(has_spec);
        let differs = tasks.find(|task| listed.get(task) != history.checked.get(task));
        if let Some(task) = differs {
            let what =
                format!("it tells something else of task {task} than the log up to line {}", checkpoint.seq);
            return self.find(Kind::CheckpointDiffers, path, what, self.unless_checkpointed());
        }
        // Of a task whose text is gone nobody knows in which queue it was.
        let all_known = history.tasks.values().all(|told| told.spec.is_some());
        if all_known && checkpoint.queues != history.breakers_checked {
            let what =
                format!("it tells something else of queues than the log up to line {}", checkpoint.seq);
            return self.find(Kind::CheckpointDiffers, path, what, self.unless_checkpointed());
        }
        let told = history.checked_notices.as_ref().map(|told| (&told.tasks, &told.open));
        if all_known && told.is_some_and(|told| told != (&checkpoint.notices.tasks, &checkpoint.notices.open))
        {
            let what = format!("it tells other notices than the log up to line {}", checkpoint.seq);
            self.find(Kind::CheckpointDiffers, path, what, self.unless_checkpointed());
        }
    }

    /// A daemon that runs replaces it; without one it is not missed: the next start goes through the whole log instead.
    pub(super) fn unless_checkpointed(&self) -> Mend {
        if self.seen.daemon { Mend::Daemon } else { Mend::Remove }
    }

    pub(super) fn check_local(&mut self, history: &History) {
        let record = self.below(&self.seen.layout.daemon_record());
        let said = self.content(&record).map(is_json::<serde_json::Value>);
        match said {
            Some(false) => {
                self.find(Kind::DaemonRecordUnreadable, record, "it cannot be read", Mend::Daemon);
            }
            Some(true) if !self.seen.daemon => {
                let what = "no daemon runs, and the last one did not end in order";
                self.find(Kind::DaemonGone, record, what, Mend::Daemon);
            }
            Some(true) | None => {}
        }
        for path in self.seen.entries.keys() {
            if let Some(Place::Aside { pid }) = place_of(path)
                && pid.is_none_or(|pid| !self.seen.alive.contains(&pid))
            {
                self.find(Kind::LeftInTmp, path, "the process that was writing it is gone", Mend::Remove);
            }
        }
        if self.seen.host.is_none() && history.tasks.values().any(|told| !told.state.is_ended()) {
            let mend = by_hand("write {\"host\": ...} again, with the name of its folder in events/");
            self.find(Kind::HostUnknown, "host.json", "the name of this machine in the spool is gone", mend);
        }
        self.check_workspaces(history);
    }

    /// The removed tasks. Each line of what is left of them is whole, of its day, and behind the one before it.
    pub(super) fn read_removed(&mut self) -> BTreeSet<TaskId> {
        let mut removed = BTreeSet::new();
        for path in self.seen.entries.keys() {
            let Some(Place::Removed { date }) = place_of(path) else { continue };
            let mut last = None;
            let lines = self.content(path).unwrap_or_default().split_inclusive(|byte| *byte == b'\n');
            for (number, line) in (1..).zip(lines) {
                let task = removal::parse(line).map(|(task, _)| task);
                let follows = task.is_some_and(|task| task.date().to_string() == date && last < Some(task));
                if !follows {
                    let what = format!("line {number} is none, or not in its place: ids may be used again");
                    self.find(
                        Kind::RemovedUnreadable,
                        path,
                        what,
                        by_hand("bring the file back from a copy"),
                    );
                    break;
                }
                last = task;
                removed.extend(task);
            }
        }
        removed
    }

    fn check_workspaces(&mut self, history: &History) {
        let known = |name: &str| {
            let run: Option<RunId> = name.parse().ok();
            run.is_some_and(|run| {
                history.tasks.get(&run.task).is_some_and(|told| attempts(&told.state) >= run.attempt)
            })
        };
        for name in self.seen.workspaces.iter().filter(|name| history.whole && !known(name)) {
            let mend = by_hand("see whether work of yours is in it; `git worktree remove -f -f` or rm -r");
            self.find(Kind::WorkspaceOfNoRun, format!("work/{name}"), "the log knows of no such run", mend);
        }
        for name in &self.seen.trash {
            let live = name.parse().is_ok_and(|run| self.seen.held.contains(&run));
            if !live {
                let mend = by_hand("remove it: it was being deleted");
                self.find(Kind::LeftInTrash, format!("trash/{name}"), "nobody deletes it any more", mend);
            }
        }
    }
}
