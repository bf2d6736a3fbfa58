//! Notices: decided in one batch with what they tell of, and delivered by notifiers, a few at once, each below a process of
//! its own.

use std::collections::HashSet;

use crate::clock;
use crate::event::Event;
use crate::input::Undelivered;
use crate::jsonl;
use crate::notice::{Ledger, Notice, NoticeId, Turns};
use crate::notifier::Order;
use crate::store;
use crate::time::{Moment, Timestamp};

use super::batch::Decision;
use super::who::FailedNotice;
use super::{Daemon, START_AGAIN, threads};

/// How much is kept of why a notice was not delivered, and of what its notifier printed.
const TEXT_BYTES_MAX: usize = 2 * 1024;

/// What is owed, and what is being delivered.
pub(super) struct Notices {
    pub(super) ledger: Ledger,
    turns: Turns,
    /// Those that an earlier daemon may have begun to deliver.
    inherited: HashSet<NoticeId>,
}

impl Notices {
    /// What the log tells is open is delivered again.
    pub(super) fn new(ledger: Ledger) -> Notices {
        let inherited: Vec<Notice> = ledger.open().map(|open| open.notice.clone()).collect();
        let (turns, ids) = (Turns::default(), inherited.iter().map(|notice| notice.id).collect());
        let mut notices = Notices { ledger, turns, inherited: ids };
        inherited.iter().for_each(|notice| notices.line_up(notice));
        notices
    }

    /// Whether nothing is to be delivered, now or soon.
    pub(super) fn are_delivered(&self) -> bool {
        self.ledger.open().next().is_none()
    }

    /// When there is one to deliver.
    pub(super) fn next_at(&self) -> Option<Moment> {
        self.turns.next_at()
    }

    fn line_up(&mut self, notice: &Notice) {
        if let Some(program) = notice.argv.first() {
            self.turns.add(notice.id, notice.subject(), program, clock::monotonic());
        }
    }
}

impl Daemon {
    /// Adds to the batch the notices of what is in it, and those whose time has come. Tells the time of the batch's lines.
    pub(super) fn tell(&mut self) -> Timestamp {
        let at = clock::now();
        let mut batch = std::mem::take(&mut self.batch);
        for decision in &batch {
            let spec = match decision.event.state() {
                Some((task, _)) => self.spec_of(task),
                // What is said of a task that has ended meanwhile is told to nobody.
                None => {
                    let live = decision.event.changed().and_then(|task| self.queues.task(task));
                    live.map(|live| &live.spec)
                }
            };
            let spec = spec.cloned();
            self.notices.ledger.see(&decision.event, at, spec.as_ref());
        }
        // What has no end can wait for room.
        let now = (!self.is_short()).then_some(at);
        let mut told = Vec::new();
        for task in self.notices.ledger.owed(now) {
            let live = self.queues.task(task).map(|live| (&*live.spec, &live.state));
            match self.notices.ledger.notice_of(task, live, NoticeId::new(clock::new_id())) {
                Some(notice) => told.push(notice),
                None => self.notices.ledger.forget(task),
            }
        }
        for queue in self.notices.ledger.take_left() {
            let known = self.queues.queue(&queue);
            if known.is_some_and(|known| known.has_work()) {
                continue;
            }
            let ended = self.notices.ledger.take_ended(&queue);
            let notifier = known.map(|known| known.settings.notify_empty.clone()).unwrap_or_default();
            if !notifier.is_empty() {
                let id = NoticeId::new(clock::new_id());
                told.push(Notice::of_empty(id, &queue, ended, notifier));
            }
        }
        for notice in told {
            let event = Event::Notice(Box::new(notice));
            self.notices.ledger.see(&event, at, None);
            batch.push(Decision { event, effects: vec![], before: None });
        }
        self.batch = batch;
        at
    }

    /// Takes note of a notice that is in the log.
    pub(super) fn note_notice(&mut self, event: &Event) {
        if let Event::Notice(notice) = event {
            self.notices.line_up(notice);
        }
    }

    /// Starts notifiers for the notices whose turn it is.
    pub(super) fn deliver(&mut self) {
        if self.is_short() {
            return;
        }
        let now = clock::monotonic();
        while let Some((id, tries)) = self.notices.turns.take(now) {
            let Some(open) = self.notices.ledger.open_one(id).cloned() else {
                self.notices.turns.done(id, now);
                continue;
            };
            let again = tries > 1 || self.notices.inherited.contains(&id);
            let order = Order { spool: self.layout.root().to_owned(), tries, again, open };
            if let Err(error) = threads::start_notifier(&order, self.inputs.clone()) {
                self.notices.turns.put_back(id, now + START_AGAIN);
                if !self.note_shortage(store::shortage(&error), &error.to_string()) {
                    tracing::error!("notice {id}: no process or thread is to be had: {error}; trying again");
                }
                return;
            }
        }
    }

    /// Takes note of what came of a delivery.
    pub(super) fn delivered(&mut self, notice: NoticeId, undelivered: Option<Undelivered>) {
        let now = clock::monotonic();
        let Some(open) = self.notices.ledger.open_one(notice).cloned() else { return };
        let event = match undelivered {
            None => {
                self.record.forget_failed(&self.layout, &open.notice.argv);
                Event::Delivered { notice, tries: self.notices.turns.done(notice, now) }
            }
            Some(Undelivered { message, output }) => {
                tracing::warn!("notice {notice} was not delivered: {message}");
                let Some(tries) = self.notices.turns.failed(notice, now) else { return };
                // Who runs as we do could have said it in the place of our process.
                let message = jsonl::clip(&message, TEXT_BYTES_MAX);
                let output = output.map(|output| jsonl::clip(&output, TEXT_BYTES_MAX));
                let failed = FailedNotice::new(&open.notice, clock::now(), &message, output.as_deref());
                self.record.tell_failed(&self.layout, failed);
                Event::NotDelivered { notice, tries, message, output }
            }
        };
        self.notices.inherited.remove(&notice);
        self.batch.push(Decision { event, effects: vec![], before: None });
    }
}
