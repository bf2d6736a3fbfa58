//! What is known of a task of which somebody is to be told, since the last notice.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Notify, Reason, Reasons};
use crate::event::{By, Event};
use crate::jsonl;
use crate::outcome::Evidence;
use crate::spec::Spec;
use crate::task::State;
use crate::time::Timestamp;

/// How much of a reason or a message a notice has.
const TEXT_BYTES_MAX: usize = 2 * 1024;

/// What is known of a task that somebody is to be told of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Account {
    /// How many notices there were.
    pub(super) sent: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_at: Option<Timestamp>,
    /// What has happened since, and is to be told.
    #[serde(skip_serializing_if = "Reasons::is_empty")]
    pub(super) pending: Reasons,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) due: Option<Timestamp>,
    /// How many things were not told, since there were enough notices.
    pub(super) dropped: u64,
    /// What the log says of the last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) evidence: Option<Evidence>,
    /// It is over. The final notice stands in the same batch, so that no checkpoint comes in between.
    #[serde(skip)]
    pub(super) end: Option<End>,
}

/// The end of a task that was not told yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) spec: Arc<Spec>,
    pub(super) state: State,
}

impl Account {
    /// Something has happened that is to be told, unless there were enough notices.
    pub(super) fn happened(&mut self, reason: Reason, event: &Event, at: Timestamp, policy: &Notify) {
        if self.sent >= policy.notices_max {
            self.dropped += 1;
            return;
        }
        *self.pending.entry(reason).or_default() += 1;
        self.tell(event);
        let apart = Duration::from_secs(policy.min_interval_seconds);
        self.due = Some(self.last_at.map_or(at, |last| last.plus(apart)));
    }

    /// Takes what a line says beside the state.
    pub(super) fn tell(&mut self, event: &Event) {
        let clip = |text: &String| jsonl::clip(text, TEXT_BYTES_MAX);
        (self.reason, self.evidence) = (None, None);
        if let Event::Moved { reason, evidence, .. } = event {
            self.reason = reason.as_ref().map(clip);
            let short = |evidence: &Evidence| Evidence {
                message: evidence.message.as_ref().map(clip),
                ..evidence.clone()
            };
            self.evidence = evidence.as_ref().map(short);
        }
    }
}

/// What of a line there is to tell before the end. What users do themselves they know.
pub(super) fn reason_of(event: &Event) -> Option<Reason> {
    let Event::Moved { state, by, .. } = event else {
        return matches!(event, Event::Accepted { .. }).then_some(Reason::Note);
    };
    match (state, by) {
        (State::Active { .. }, _) => Some(Reason::Started),
        (State::Ready { .. } | State::Waiting { .. }, By::Run) => Some(Reason::TriedAgain),
        (State::Held { .. }, By::Run | By::Daemon) => Some(Reason::Held),
        (
            State::Ready { .. }
            | State::Waiting { .. }
            | State::Held { .. }
            | State::Cancelling { .. }
            | State::Ended { .. },
            _,
        ) => None,
    }
}
