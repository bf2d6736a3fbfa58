//! Marks of readers: which tasks somebody has seen, and up to which version.

use crate::command::MarkRead;
use crate::event::{Event, Origin};
use crate::id::TaskId;
use crate::reader::Mark;
use crate::readers::{self, ReaderError};
use crate::refusal::{Kind, Refusal};
use crate::scope::Scope;

use super::Daemon;
use super::short::unreadable;
use super::target::Found;

impl Daemon {
    /// The line that says what a reader has read.
    pub(super) fn mark_read(
        &self,
        origin: &Origin,
        mark_read: MarkRead,
        scope: &Scope,
    ) -> Result<Event, Refusal> {
        let MarkRead { reader, tasks, version, .. } = mark_read;
        let last = self.log.last_seq() + self.batch.len() as u64;
        if version > last {
            let refusal = Refusal::new(Kind::InvalidValue, format!("nobody has seen version {version} yet"));
            return Err(refusal.at("$.version").hint(format!("the last one is {last}")));
        }
        if tasks.is_none() && !scope.is_whole() {
            let refusal = Refusal::new(Kind::Conflict, "what is read of all tasks has no tenant or project");
            return Err(refusal.at("$.all").hint("name the tasks; `gitspool mark-read --all` does so"));
        }
        let tasks = match tasks {
            None => None,
            Some(named) => Some(self.find_all(&named, scope)?),
        };
        match readers::look(&self.layout, &reader) {
            Ok(_) => {}
            Err(ReaderError::Store(error)) => return Err(unreadable(&error)),
            Err(error @ ReaderError::Unreadable { .. }) => {
                return Err(Refusal::new(Kind::Unreadable, error.to_string()).at("$.reader"));
            }
        }
        Ok(Event::Marked { command: origin.clone(), mark: Mark { reader, version, tasks } })
    }

    /// The tasks that are named, each once.
    fn find_all(&self, named: &[String], scope: &Scope) -> Result<Vec<TaskId>, Refusal> {
        let mut tasks = Vec::new();
        for (place, target) in named.iter().enumerate() {
            let found = self.find(target, scope);
            let (Found::Live(task) | Found::Ended(task, _)) =
                found.map_err(|refusal| refusal.at(format!("$.tasks[{place}]")))?;
            tasks.push(task);
        }
        tasks.sort();
        tasks.dedup();
        Ok(tasks)
    }
}
