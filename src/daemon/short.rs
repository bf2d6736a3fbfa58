//! Being short of room, open files or memory: nothing is admitted or started, what runs goes on, and all resumes by itself.
//!
//! What the log had no room for was not decided: it is undone in memory, and decided anew when there is room. What must not
//! wait (an end, a cancel, and the pictures of what the log says) gets some of the reserve. Dropped files stay where they
//! are, and nothing is refused for a shortage.

use std::time::Duration;

use crate::clock;
use crate::command::{Asked, Command};
use crate::event::{By, Event, Origin};
use crate::id::TaskId;
use crate::inbox;
use crate::queue::Live;
use crate::refusal::{Kind, Refusal};
use crate::reserve;
use crate::shortage::{Room, Shortage};
use crate::store::{self, StoreError};
use crate::task::State;
use crate::time::Moment;

use super::batch::Decision;
use super::who::Short;
use super::{Daemon, START_AGAIN};

/// How often it is looked whether there is room again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How many files can be opened when there are enough.
const DESCRIPTORS: usize = 16;
/// How long cancels of tasks that are not there wait for these, when there is room again.
const LATE: Duration = Duration::from_secs(10);

/// A command that was taken and has to wait.
#[derive(Debug)]
pub(super) struct Postponed {
    origin: Origin,
    /// Why it is to be refused, if it is; else it is read again.
    refusal: Option<Refusal>,
    cancels: bool,
}

impl Daemon {
    pub(super) fn is_short(&self) -> bool {
        self.record.short.is_some()
    }

    /// When it is looked whether there is room, if there was none.
    pub(super) fn look_for_room_at(&self) -> Option<Moment> {
        self.is_short().then_some(self.room_at)
    }

    /// Takes note of what could not be done, if it was for a shortage; tells whether.
    pub(super) fn note_shortage(&mut self, shortage: Option<Shortage>, why: &str) -> bool {
        let Some(shortage) = shortage else { return false };
        if self.is_short() {
            return true;
        }
        let room = store::room(self.layout.root()).filter(|_| shortage == Shortage::Space);
        let of = room.map_or(shortage, Room::lack);
        let wants_room = matches!(of, Shortage::Space | Shortage::Inodes | Shortage::Quota);
        let whole = wants_room.then_some(u64::from(reserve::FILES));
        self.record.short = Some(Short {
            of,
            since: clock::now(),
            message: why.to_owned(),
            needed_bytes: whole.map(|files| files * reserve::FILE_BYTES + Room::NEEDED.bytes),
            needed_inodes: whole.map(|files| files + Room::NEEDED.inodes.unwrap_or_default()),
        });
        tracing::error!("{}: {why}; nothing is admitted or started until that is over", of.words());
        self.room_at = clock::monotonic() + LOOK_AGAIN;
        self.gate.shut();
        // Their processes and open files serve nobody now.
        self.idle.clear();
        self.record.tell(&self.layout);
        true
    }

    /// Undoes what the log had no room for, the last first.
    pub(super) fn undo(&mut self, batch: Vec<Decision>) {
        self.pauses.undo();
        self.notices.ledger.roll_back();
        // Notices are owed still, and are made again.
        let batch = batch.into_iter().filter(|decision| !matches!(decision.event, Event::Notice(_)));
        for decision in batch.rev() {
            let cancels = is_cancel(&decision.event);
            self.forget_key(&decision.event);
            if let Some(mut origin) = decision.event.origin().cloned() {
                origin.key = None;
                let refusal = match &decision.event {
                    Event::Refused { refusal, .. } => Some(refusal.clone()),
                    Event::Submitted { .. }
                    | Event::Moved { .. }
                    | Event::Edited { .. }
                    | Event::EditRefused { .. }
                    | Event::Accepted { .. }
                    | Event::Marked { .. }
                    | Event::Paused { .. }
                    | Event::Resumed { .. }
                    | Event::Collected { .. }
                    | Event::Notice(_)
                    | Event::Delivered { .. }
                    | Event::NotDelivered { .. }
                    | Event::DaemonStarted { .. }
                    | Event::DaemonStopped { .. }
                    | Event::Unknown => None,
                };
                self.postponed.push(Postponed { origin, refusal, cancels });
            } else if let Event::EditRefused { claim, .. } = &decision.event {
                self.undo_refusal(*claim);
                continue;
            } else if matches!(decision.event, Event::Paused { .. } | Event::Resumed { .. }) {
                // It is found out again: by the ends of runs, or where the file lies or not.
                continue;
            } else if decision.event.state().is_none() {
                // That we have started is told when there is room.
                self.batch.insert(0, decision);
                continue;
            }
            if let Event::Edited { task, .. } = &decision.event {
                self.undo_edit(*task);
            }
            if let Some((task, _)) = decision.event.state() {
                self.undo_move(task, decision.before);
            }
        }
    }

    fn undo_move(&mut self, task: TaskId, before: Option<State>) {
        // It was retried, and perhaps had ended in this batch only, which is undone next.
        if let Some(before) = before.as_ref().filter(|before| before.is_ended()) {
            let live = self.queues.task(task).cloned();
            self.queues.forget(task);
            self.ended.extend(live.map(|live| (task, Live { state: before.clone(), ..live })));
            return;
        }
        let live = self.ended.remove(&task).or_else(|| self.queues.task(task).cloned());
        let (Some(mut live), Some(before)) = (live, before) else { return self.queues.forget(task) };
        if before.live_attempt().is_some() {
            // Perhaps its run has ended, which nobody says twice.
            self.start_again.push((clock::monotonic() + START_AGAIN, task));
        }
        live.state = before;
        self.queues.insert(task, live);
    }

    /// Decides about a dropped file, or leaves that for later.
    pub(super) fn admit_or_postpone(&mut self, origin: Origin, asked: Result<Asked, Refusal>) {
        if self.is_short() && !self.may_go_first(asked.as_ref().ok()) {
            let cancels = matches!(asked, Ok(Asked { command: Command::Cancel { .. }, .. }));
            self.postponed.push(Postponed { origin, refusal: asked.err(), cancels });
        } else {
            self.admit(origin, asked);
        }
    }

    /// Whether it is a cancel of a task that is there: one that is not may still wait to be admitted.
    fn may_go_first(&self, asked: Option<&Asked>) -> bool {
        // What makes room is what is waited for.
        if matches!(asked, Some(Asked { command: Command::Gc(_) | Command::Rm { .. }, .. })) {
            return true;
        }
        let Some(Asked { command: Command::Cancel { target, .. }, .. }) = asked else { return false };
        !self.queues.find(target).is_empty()
    }

    /// What could not be decided for a shortage.
    pub(super) fn postpone(&mut self, origin: Origin) {
        self.postponed.push(Postponed { origin, refusal: None, cancels: false });
    }

    /// Decides about what had to wait: while there is a shortage about cancels; then about all but cancels of tasks that
    /// are not there, which may lie behind them in the inbox; and then about all.
    fn readmit(&mut self, all: bool) {
        let mut waiting = std::mem::take(&mut self.postponed);
        waiting.sort_by_key(|postponed| postponed.origin.claim);
        for postponed in waiting {
            if self.is_short() && !postponed.cancels {
                self.postponed.push(postponed);
                continue;
            }
            let asked = match &postponed.refusal {
                Some(refusal) => Err(refusal.clone()),
                None => match inbox::read_again(&self.layout, &postponed.origin) {
                    Ok(Some(asked)) => asked,
                    // Somebody removed it, and with it what it asked for.
                    Ok(None) => continue,
                    Err(error) => Err(unreadable(&error)),
                },
            };
            let waits = postponed.cancels && !all && !self.may_go_first(asked.as_ref().ok());
            match asked {
                Ok(_) | Err(_) if waits => self.postponed.push(postponed),
                asked => self.admit(postponed.origin, asked),
            }
        }
    }

    /// Looks whether there is room again; what is owed goes first.
    pub(super) fn look_for_room(&mut self) {
        self.room_at = clock::monotonic() + LOOK_AGAIN;
        self.readmit(false);
        self.do_undone();
        let owed = self.batch.iter().any(|decision| is_owed(&decision.event));
        if !owed && self.has_room() {
            self.resume();
        }
    }

    /// Whether the reserve is whole, or could be made so, and something is left beside it.
    fn has_room(&self) -> bool {
        let opened: Result<Vec<_>, _> =
            (0..DESCRIPTORS).map(|_| store::open_dropped(&self.layout.daemon_record())).collect();
        let can_open = opened.map_or_else(|error| error.shortage().is_none(), |_| true);
        can_open
            && reserve::refill(&self.layout).is_ok()
            && store::room(self.layout.root()).is_none_or(Room::is_enough)
    }

    fn resume(&mut self) {
        self.record.short = None;
        self.gate.open();
        tracing::warn!("there is room again: commands are admitted, and runs started");
        self.record.tell(&self.layout);
        self.room_at = clock::monotonic() + LATE;
        self.readmit(false);
        self.look_soon();
        // Told already if it is full.
        let _ = self.look_at_inbox.try_send(());
    }

    /// Decides about the cancels whose tasks did not turn up.
    pub(super) fn admit_the_late(&mut self) {
        if !self.is_short() && !self.postponed.is_empty() {
            self.readmit(true);
        }
    }

    /// When that is due at the latest.
    pub(super) fn late_at(&self) -> Option<Moment> {
        (!self.postponed.is_empty()).then_some(self.room_at)
    }

    /// Stops admission before the last of the room is used.
    pub(super) fn note_low_room(&mut self) {
        if let Some(room) = store::room(self.layout.root()).filter(|room| room.is_low()) {
            let files = room.inodes.map(|free| format!(" and {free} files")).unwrap_or_default();
            let why =
                format!("only {} bytes{files} are left for {}", room.bytes, self.layout.root().display());
            self.note_shortage(Some(Shortage::Space), &why);
        }
    }

    /// Looks whether there is room still, and makes the reserve whole when somebody has used of it.
    pub(super) fn look_at_room(&mut self) {
        if self.is_short() {
            return;
        }
        self.note_low_room();
        if self.is_short() || reserve::is_whole(&self.layout) {
            return;
        }
        if let Err(error) = reserve::refill(&self.layout)
            && !self.note_shortage(error.shortage(), &error.to_string())
        {
            tracing::error!("{error}");
        }
    }
}

/// A refusal of what cannot be read; for a shortage it is only put off.
pub(super) fn unreadable(error: &StoreError) -> Refusal {
    Refusal::new(Kind::Unreadable, error.to_string()).for_now(error.shortage())
}

/// Whether a line must not wait for room: it ends a run, or helps to, or tells that room was made.
pub(super) fn is_owed(event: &Event) -> bool {
    let ends = |state: &State| state.is_ended() || matches!(state, State::Cancelling { .. });
    matches!(event, Event::DaemonStopped { .. } | Event::Collected { .. })
        || event.state().is_some_and(|(_, state)| ends(state))
        || matches!(event, Event::Moved { by: By::Run, .. } | Event::Paused { by: By::Daemon, .. })
        || is_cancel(event)
}

/// Whether a batch goes into the log while there is a shortage: when it has what is owed, and nothing that is not, but for
/// our own start, and notices and what became of them. Else it is undone, and what is owed comes again without the rest.
pub(super) fn may_be_written(batch: &[Decision]) -> bool {
    let passes = |event: &Event| {
        let tells = matches!(
            event,
            Event::DaemonStarted { .. }
                | Event::Notice(_)
                | Event::Delivered { .. }
                | Event::NotDelivered { .. }
        );
        tells || is_owed(event)
    };
    batch.iter().any(|decision| is_owed(&decision.event))
        && batch.iter().all(|decision| passes(&decision.event))
}

fn is_cancel(event: &Event) -> bool {
    match event {
        Event::Accepted { kind, .. } => kind == "cancel",
        Event::Moved { command, state, .. } => {
            let is_end = state.is_ended() || matches!(state, State::Cancelling { .. });
            command.is_some() && is_end
        }
        Event::Submitted { .. }
        | Event::Marked { .. }
        | Event::Edited { .. }
        | Event::EditRefused { .. }
        | Event::Refused { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::Collected { .. }
        | Event::Notice(_)
        | Event::Delivered { .. }
        | Event::NotDelivered { .. }
        | Event::DaemonStarted { .. }
        | Event::DaemonStopped { .. }
        | Event::Unknown => false,
    }
}
