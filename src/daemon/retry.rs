//! A further attempt of what has ended without success: the one thing that moves a task that has ended.
//!
//! What a retry goes by stands in the task's own file, so that its cost does not depend on how many have ended. The line
//! carries the spec again: from there on it is the one that counts, whatever has become of older segments of the log.

use std::sync::Arc;

use crate::clock;
use crate::event::{By, Event, Origin};
use crate::id::{RunId, TaskId};
use crate::layout::ENDED_FOLDERS;
use crate::needs::{self, Verdict};
use crate::outcome::Outcome;
use crate::picture;
use crate::queue::Live;
use crate::refusal::{self, Refusal};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::store;
use crate::task::{self, State};

use super::Daemon;
use super::batch::Decision;
use super::short::unreadable;
use super::target::Found;

impl Daemon {
    /// Lets a task that has ended without success wait or be ready once more.
    pub(super) fn retry(
        &mut self,
        origin: &Origin,
        target: &str,
        scope: &Scope,
    ) -> Result<Option<Event>, Refusal> {
        let task = match self.find(target, scope)? {
            Found::Ended(task, _) => task,
            Found::Live(task) => {
                let state = self.queues.task(task).map_or("gone", |live| live.state.word());
                return Err(conflict(format!("task {task} has not ended, it is {state}")));
            }
        };
        if self.is_collecting() {
            let refusal = conflict("what has ended is being removed just now".to_owned());
            return Err(refusal.hint("ask again in a moment"));
        }
        let (before, mut spec) = self.ended_task(task)?;
        let now = clock::now();
        Arc::make_mut(&mut spec).fix_deadline(now);
        if let Some(deadline) = spec.deadline_at.filter(|deadline| *deadline <= now) {
            let refusal = conflict(format!("the deadline of task {task}, {deadline}, has come"));
            return Err(refusal.hint("`gitspool rerun` it, with --set deadline_at=TIME or deadline_at=null"));
        }
        let waits = before.attempts_over() == 0 && self.must_wait_again(&spec)?;
        let (state, effects) = task::transition(before.clone(), &task::Event::RetryAsked { waits });
        if state == before {
            let refusal = conflict(format!("task {task} has succeeded"));
            return Err(refusal.hint("to do it again, submit it anew, or `gitspool rerun` it"));
        }
        let spec_text = self.spec_text(&spec);
        self.note_trouble(spec_text.as_ref().err());
        let spec_text = spec_text.map_err(|error| unreadable(&error))?;
        let event = Event::Moved {
            task,
            state: state.clone(),
            by: By::Command,
            command: Some(origin.clone()),
            reason: None,
            evidence: None,
            spec: Some(spec_text),
            broken: 0,
        };
        let spec_seq = self.log.last_seq() + self.batch.len() as u64 + 1;
        self.queues.insert(task, Live { state, spec, spec_seq });
        self.batch.push(Decision { event, effects, before: Some(before) });
        Ok(None)
    }

    /// Whether a task that never started has to wait for others again.
    fn must_wait_again(&self, spec: &Spec) -> Result<bool, Refusal> {
        let mut waits = false;
        for (_, need) in spec.edges() {
            match needs::verdict(spec, need, self.standing(need)) {
                Verdict::Met => {}
                Verdict::NotYet => waits = true,
                Verdict::Never { reason, .. } => {
                    let hint = format!("`gitspool retry {need}` first, then this; or submit it anew without");
                    return Err(conflict(reason).hint(hint));
                }
            }
        }
        Ok(waits)
    }

    /// How a task ended, and its spec.
    fn ended_task(&self, task: TaskId) -> Result<(State, Arc<Spec>), Refusal> {
        // One that ends in this batch has no file in its new place yet.
        if let Some(ended) = self.ended.get(&task) {
            return Ok((ended.state.clone(), Arc::clone(&ended.spec)));
        }
        for queue in self.queues.names() {
            for folder in ENDED_FOLDERS {
                let path = self.layout.ended_task(&queue, folder, task);
                let Some(bytes) = store::read_if_there(&path).map_err(|error| unreadable(&error))? else {
                    continue;
                };
                let edited = |why: &str| {
                    let refusal = conflict(format!("{} {why}", path.display()));
                    refusal.hint("what a task is cannot be edited in its file; submit it anew")
                };
                let spec: Spec =
                    serde_json::from_slice(&bytes).map_err(|error| edited(&error.to_string()))?;
                let state = match picture::end_in(&bytes) {
                    picture::End::Told(state) => state,
                    picture::End::Edited => return Err(edited("was edited since the task ended")),
                    picture::End::Untold => self.end_of(task, folder)?,
                };
                if spec.queue != queue {
                    return Err(edited("is in another queue than its own"));
                }
                return Ok((state, Arc::new(spec)));
            }
        }
        Err(Refusal::new(refusal::Kind::NotFound, format!("the file of task {task} has just gone")))
    }

    /// How a task ended whose file does not tell, since it succeeded or an older version wrote it.
    fn end_of(&self, task: TaskId, folder: &str) -> Result<State, Refusal> {
        let outcome = Outcome::of_folder(folder);
        let is_there =
            |attempt: &u32| store::exists(self.layout.run(RunId { task, attempt: *attempt }).dir());
        let attempts = (1..).take_while(is_there).last().unwrap_or(0);
        if outcome == Outcome::Failed && attempts == 0 {
            let refusal = conflict(format!("the runs of task {task} are gone, and with them their number"));
            return Err(refusal.hint("submit it anew"));
        }
        Ok(State::Ended { outcome, attempts, rank: crate::id::Rank::default(), because: None })
    }
}

fn conflict(message: String) -> Refusal {
    Refusal::new(refusal::Kind::Conflict, message).at("$.target")
}
