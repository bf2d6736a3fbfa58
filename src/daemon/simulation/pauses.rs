//! How the queue is paused and goes on: by commands, by hand, and since its breaker trips; and what must hold of that.

use serde_json::json;

use super::verbs::as_user;
use super::world::{World, queue};
use crate::event::{By, Event};
use crate::jsonl::Line;
use crate::store;
use crate::task::State;

impl World {
    /// Has the daemon pause the queue, or let it go on.
    pub(super) fn ask_of_queue(&mut self, kind: &str) {
        self.drop_command(&json!({"type": kind, "queue": queue()}));
    }

    /// Has one broken run trip the breaker, and one break.
    pub(super) fn trip_breaker(&mut self) {
        let (layout, record) = (self.layout(), self.layout().queue_record(&queue()));
        as_user(|| store::replace(layout, &record, b"{\"slots\": 1, \"breaker\": 1}"))
            .expect("because the disk takes all");
        if !self.supervisors.is_empty() {
            self.kill_supervisor(0);
        }
    }

    /// A user makes the file that pauses the queue, or removes it.
    pub(super) fn pause_by_hand(&self, is_to_pause: bool) {
        let paused = self.layout().paused(&queue());
        as_user(|| match is_to_pause {
            true => drop(store::create_new(&paused, b"", 0o600)),
            false if !store::exists(&paused) => {}
            false => store::remove(&paused).expect("because the disk takes all"),
        });
    }
}

/// Nothing starts between the line that pauses the queue and the one that lets it go on; and the breaker counts in turn.
pub(super) fn told(lines: &[Line<Event>]) -> Result<(), String> {
    let (mut is_paused, mut count) = (false, 0);
    for line in lines {
        match &line.event {
            Event::Paused { .. } if is_paused => return Err(format!("line {} pauses again", line.seq)),
            Event::Paused { .. } => is_paused = true,
            Event::Resumed { .. } => (is_paused, count) = (false, 0),
            Event::Moved { state: State::Active { .. }, .. } if is_paused => {
                return Err(format!("line {} starts a task of a queue that is paused", line.seq));
            }
            Event::Moved { by: By::Run, broken, .. } => {
                if ![0, count, count + 1].contains(broken) {
                    return Err(format!("line {} counts {broken} broken runs after {count}", line.seq));
                }
                count = *broken;
            }
            Event::Moved { .. }
            | Event::Submitted { .. }
            | Event::Edited { .. }
            | Event::EditRefused { .. }
            | Event::Accepted { .. }
            | Event::Marked { .. }
            | Event::Refused { .. }
            | Event::Collected { .. }
            | Event::Notice(_)
            | Event::Delivered { .. }
            | Event::NotDelivered { .. }
            | Event::DaemonStarted { .. }
            | Event::DaemonStopped { .. }
            | Event::Unknown => {}
        }
    }
    Ok(())
}
