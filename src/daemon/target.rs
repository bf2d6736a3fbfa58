//! The task that a command names: looked for among live tasks by id, by the end of it or by name, and among those that ended
//! by the whole id. What lies outside of the command's scope is not found.

use crate::id::TaskId;
use crate::layout::ENDED_FOLDERS;
use crate::refusal::{Kind, Refusal};
use crate::removed;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::store;
use crate::task::State;

use super::Daemon;
use super::short::unreadable;

/// A task that a command names.
pub(super) enum Found {
    Live(TaskId),
    /// It has ended; the folder says how.
    Ended(TaskId, &'static str),
}

impl Daemon {
    pub(super) fn find(&self, target: &str, scope: &Scope) -> Result<Found, Refusal> {
        let mut live = self.queues.find(target);
        live.retain(|task| self.queues.task(*task).is_some_and(|live| scope.has(&live.spec)));
        match live[..] {
            [task] => return Ok(Found::Live(task)),
            [] => {}
            [..] => {
                let some: Vec<String> = live.iter().take(5).map(ToString::to_string).collect();
                let refusal = Refusal::new(Kind::Ambiguous, format!("{target:?} names several tasks"));
                return Err(refusal.at("$.target").hint(format!("give one of the ids: {}", some.join(", "))));
            }
        }
        let id = target.split_once('.').map_or(target, |(task, _)| task);
        if let Ok(task) = id.parse::<TaskId>()
            && let Some(folder) = self.ended_in(task, scope)?
        {
            return Ok(Found::Ended(task, folder));
        }
        let refusal = Refusal::new(Kind::NotFound, format!("no live task is called {target:?}"));
        Err(refusal
            .at("$.target")
            .hint("`gitspool ls` lists them; a task that has ended is found by its whole id"))
    }

    /// The folder of a task that has ended; `None` when there is none such in the scope.
    fn ended_in(&self, task: TaskId, scope: &Scope) -> Result<Option<&'static str>, Refusal> {
        if let Some(ended) = self.ended.get(&task)
            && let State::Ended { outcome, .. } = ended.state
        {
            return Ok(scope.has(&ended.spec).then(|| outcome.folder()));
        }
        for queue in self.queues.names() {
            for folder in ENDED_FOLDERS {
                let path = self.layout.ended_task(&queue, folder, task);
                if scope.is_whole() && store::exists(&path) {
                    return Ok(Some(folder));
                }
                if !scope.is_whole()
                    && let Some(bytes) = store::read_if_there(&path).map_err(|error| unreadable(&error))?
                {
                    let spec = serde_json::from_slice::<Spec>(&bytes).ok();
                    return Ok(spec.is_some_and(|spec| scope.has(&spec)).then_some(folder));
                }
            }
        }
        // Whose it was is not known any more: only who sees all is told.
        let is_gone = || removed::look(&self.layout, task).map_err(|error| unreadable(&error));
        Ok((scope.is_whole() && is_gone()?.is_some()).then_some("removed"))
    }

    /// Why an agent cannot be spoken to: every driver that there is takes its prompt and nothing more.
    pub(super) fn cannot_say(&self, kind: &str, target: &str, scope: &Scope) -> Refusal {
        match self.find(target, scope) {
            Err(refusal) => refusal,
            Ok(Found::Ended(task, folder)) => {
                Refusal::new(Kind::Conflict, format!("task {task} has ended, see {folder}")).at("$.target")
            }
            Ok(Found::Live(task)) => {
                let state = self.queues.task(task).map_or("gone", |live| live.state.word());
                let running = self.queues.task(task).is_some_and(|live| live.state.live_attempt().is_some());
                if !running {
                    let message = format!("task {task} does not run, it is {state}");
                    return Refusal::new(Kind::Conflict, message).at("$.target");
                }
                let message = format!("the driver exec takes no {kind}: its agent reads its prompt once");
                Refusal::new(Kind::Unsupported, message).at("$.type").hint("cancel it and submit it anew")
            }
        }
    }
}
