//! Commands that bear a key: a repeat is answered with what the first was told, and another request is a conflict.

use crate::event::{Event, Origin};
use crate::id::TaskId;
use crate::key::Key;
use crate::keys;
use crate::refusal::{Kind, Refusal};

use super::Daemon;

/// The command that used a key first.
pub(super) struct First {
    request_sha256: String,
    /// The line that answered it, or will.
    seq: u64,
    task: Option<TaskId>,
}

impl Daemon {
    /// The answer to a command whose key was used already. It comes before anything else is looked at: whatever has become
    /// of the first, a repeat of it is none of its own.
    pub(super) fn repeated(
        &mut self,
        origin: &Origin,
        kind: &str,
        key: &Key,
    ) -> Result<Option<Event>, Refusal> {
        let Some(first) = self.first_of(key)? else { return Ok(None) };
        let as_told = format!("answered by line {}", first.seq);
        if first.request_sha256 != key.request_sha256 {
            return Err(key.conflict(&as_told));
        }
        let note = format!("the same was asked for under this key, {as_told}");
        let (command, kind) = (origin.clone(), kind.to_owned());
        Ok(Some(Event::Accepted { command, kind, task: first.task, note, repeats: Some(first.seq) }))
    }

    fn first_of(&self, key: &Key) -> Result<Option<First>, Refusal> {
        if let Some(First { request_sha256, seq, task }) = self.keys.get(&key.sha256()) {
            return Ok(Some(First { request_sha256: request_sha256.clone(), seq: *seq, task: *task }));
        }
        let used = keys::look(&self.layout, key).map_err(|error| {
            Refusal::new(Kind::Unreadable, error.to_string()).at("$.key").for_now(error.shortage())
        })?;
        Ok(used.map(|used| First {
            request_sha256: used.key.request_sha256,
            seq: used.receipt.seq,
            task: used.receipt.task,
        }))
    }

    /// Takes note of the key of a command that was just accepted, until its file is drawn.
    pub(super) fn note_key(&mut self, origin: &Origin) {
        let Some(key) = &origin.key else { return };
        let answers = |event: &Event| event.origin().is_some_and(|answered| answered.claim == origin.claim);
        let Some(place) = self.batch.iter().position(|decision| answers(&decision.event)) else { return };
        let seq = self.log.last_seq() + place as u64 + 1;
        let task = match &self.batch[place].event {
            Event::Submitted { task, .. } | Event::Moved { task, .. } | Event::Edited { task, .. } => {
                Some(*task)
            }
            Event::Accepted { task, .. } => *task,
            Event::Marked { .. }
            | Event::Refused { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Collected { .. }
            | Event::EditRefused { .. }
            | Event::Notice(_)
            | Event::Delivered { .. }
            | Event::NotDelivered { .. }
            | Event::DaemonStarted { .. }
            | Event::DaemonStopped { .. }
            | Event::Unknown => None,
        };
        let first = First { request_sha256: key.request_sha256.clone(), seq, task };
        self.keys.insert(key.sha256(), first);
    }

    /// Forgets a key whose file is drawn.
    pub(super) fn forget_key(&mut self, event: &Event) {
        if let Some(key) = event.origin().and_then(|origin| origin.key.as_ref()) {
            self.keys.remove(&key.sha256());
        }
    }
}
