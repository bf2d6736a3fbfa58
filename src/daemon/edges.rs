//! Tasks that wait for others: which those are is fixed at admission, and whoever ends has those looked at who wait for it.
//!
//! Whether a task still must wait follows from its spec and from how the others stand, and from nothing else. So what a
//! crash has cut short, the next daemon finds by looking at all that wait. A cascade is a list that is worked off, however
//! deep it goes; what does not fit into one batch comes with the next.

use std::collections::HashSet;

use crate::event::By;
use crate::id::TaskId;
use crate::layout::ENDED_FOLDERS;
use crate::needs::{self, Standing, Target, Verdict};
use crate::outcome::Outcome;
use crate::refusal::{self, Refusal};
use crate::removed;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::store;
use crate::task::{self, State};

use super::Daemon;
use super::batch::{Decision, Told};
use super::target::Found;

/// How many lines a batch has before the rest of a cascade is left to the next.
const LINES_MAX: usize = 4096;

impl Daemon {
    /// Fixes which tasks the spec of `task` names, so that they are known by their ids from here on.
    pub(super) fn fix_edges(&mut self, task: TaskId, spec: &mut Spec) -> Result<(), Refusal> {
        let own_name = spec.name.clone();
        let scope = Scope::new(spec.tenant.clone(), spec.project.clone());
        let lists = [
            ("needs", &mut spec.needs),
            ("after", &mut spec.after),
            ("after_failed", &mut spec.after_failed),
        ];
        for (key, targets) in lists {
            for (number, target) in targets.iter_mut().enumerate() {
                let path = format!("$.{key}[{number}]");
                let itself = || {
                    let message = "this is the task itself, which would never start";
                    Refusal::new(refusal::Kind::Conflict, message).at(path.as_str())
                };
                if *target == Target::Task(task) {
                    return Err(itself());
                }
                let found = match self.find(&target.to_string(), &scope) {
                    Ok(Found::Live(found) | Found::Ended(found, _)) => found,
                    Err(_)
                        if own_name
                            .as_ref()
                            .is_some_and(|name| *target == Target::from(name.to_string())) =>
                    {
                        return Err(itself());
                    }
                    Err(refusal) => return Err(refusal.at(path.as_str())),
                };
                *target = Target::Task(found);
            }
        }
        // Words may have turned out to mean the same.
        spec.check_edges()?;
        self.check_cycle(task, spec)
    }

    /// Refuses what would wait for itself. A task names only what is there before it, so that this cannot be but for an id
    /// that is used again after what told of it was removed.
    fn check_cycle(&mut self, task: TaskId, spec: &Spec) -> Result<(), Refusal> {
        if !self.queues.waits().has_dependents(task) {
            return Ok(());
        }
        let edges = |of: TaskId| -> Vec<TaskId> {
            if of == task {
                return spec.edges().map(|(_, need)| need).collect();
            }
            let live = self.queues.task(of).filter(|live| live.state.waits_for_others());
            live.map(|live| live.spec.edges().map(|(_, need)| need).collect()).unwrap_or_default()
        };
        let Some(cycle) = needs::cycle(task, edges) else { return Ok(()) };
        let ids: Vec<String> = cycle.iter().map(ToString::to_string).collect();
        let message = format!("it would wait for itself: {}", ids.join(" waits for "));
        Err(Refusal::new(refusal::Kind::Conflict, message).at("$"))
    }

    /// Whether a task with this spec has to wait for others, or cannot start any more.
    pub(super) fn must_wait(&self, spec: &Spec) -> bool {
        let is_met = |need| needs::verdict(spec, need, self.standing(need)) == Verdict::Met;
        spec.edges().any(|(_, need)| !is_met(need))
    }

    /// How a task stands; the cost does not depend on how many have ended.
    pub(super) fn standing(&self, task: TaskId) -> Standing {
        if self.queues.task(task).is_some() {
            return Standing::Live;
        }
        // One that ends in this batch has no file in its new place yet.
        if let Some(State::Ended { outcome, .. }) = self.ended.get(&task).map(|ended| &ended.state) {
            return Standing::Ended(*outcome);
        }
        for queue in self.queues.names() {
            for folder in ENDED_FOLDERS {
                if store::exists(&self.layout.ended_task(&queue, folder, task)) {
                    return Standing::Ended(Outcome::of_folder(folder));
                }
            }
        }
        match removed::look(&self.layout, task) {
            Ok(Some(gone)) => Standing::Ended(Outcome::of_folder(gone.folder)),
            Ok(None) | Err(_) => Standing::Unknown,
        }
    }

    /// Looks at those who wait for what has ended, and at what has just begun to wait.
    pub(super) fn settle_waits(&mut self) {
        if self.is_short() || !self.queues.waits().has_to_look() {
            return;
        }
        // Their files lie where the batch will have put them.
        let moved = |decision: &Decision| decision.event.state().map(|(task, _)| task);
        let in_batch: HashSet<TaskId> = self.batch.iter().filter_map(moved).collect();
        let mut not_in_place = Vec::new();
        while self.batch.len() < LINES_MAX {
            let Some((task, need)) = self.queues.waits().next_to_look_at() else { break };
            let Some((event, reason)) = self.settled(task, need) else { continue };
            if in_batch.contains(&task) || self.is_in_place(task) {
                self.decide(task, &event, Told { reason, ..Told::by(By::Daemon) });
            } else {
                // A user has just moved it.
                not_in_place.push((task, need));
                self.look_soon();
            }
        }
        for (task, need) in not_in_place {
            self.queues.waits().look_again(task, need);
        }
    }

    /// What happens to a task now that `need` stands as it does, and why.
    fn settled(&mut self, task: TaskId, need: TaskId) -> Option<(task::Event, Option<String>)> {
        let live = self.queues.task(task)?;
        if !matches!(live.state, State::Waiting { needs: true, .. }) {
            return None;
        }
        match needs::verdict(&live.spec, need, self.standing(need)) {
            Verdict::NotYet => None,
            Verdict::Met => self.queues.waits().met(task, need).then_some((task::Event::NeedsMet, None)),
            Verdict::Never { then, reason } => Some((task::Event::NeedFailed { need, then }, Some(reason))),
        }
    }
}
