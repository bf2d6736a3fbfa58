//! What is owed to those who want to be told: a fold of the log.
//!
//! Whoever decides and whoever starts again fold the same lines, so that what a crash has cut off is owed still. What the
//! log takes no line for is rolled back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::account::{Account, End, reason_of};
use super::{Ended, Mode, Notice, NoticeId, Reason};
use crate::event::Event;
use crate::id::{Name, RunId, TaskId};
use crate::spec::Spec;
use crate::task::State;
use crate::time::Timestamp;

/// No system takes a longer path.
const PATH_BYTES_MAX: usize = 4 * 1024;

/// A notice that names a notifier, and of which nothing says yet what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) at: Timestamp,
    #[serde(flatten)]
    pub(crate) notice: Notice,
}

/// What a checkpoint has of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Checked {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tasks: BTreeMap<TaskId, Account>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) open: Vec<Open>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) queues: BTreeMap<Name, Ended>,
}

impl Checked {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Checked::default()
    }
}

/// What was there before a change.
#[derive(Debug)]
enum Before {
    Account(TaskId, Option<Account>),
    Open(NoticeId, Option<Open>),
    Queue(Name, Option<Ended>),
    Left(Name),
}

/// What is owed, and what is open.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accounts: BTreeMap<TaskId, Account>,
    /// Those of them that have something to tell, by when.
    due: BTreeSet<(Timestamp, TaskId)>,
    /// Those whose end was not told.
    ended: BTreeSet<TaskId>,
    open: BTreeMap<NoticeId, Open>,
    /// The queues that have work, or had some when they were last looked at; with what has ended there since they had none.
    queues: BTreeMap<Name, Ended>,
    /// Those of them from which something has gone since then.
    left: BTreeSet<Name>,
    /// What has changed since the last batch that was kept, the first change first.
    changes: Vec<Before>,
}

impl Ledger {
    /// What a checkpoint tells.
    pub(crate) fn of(checked: Checked) -> Ledger {
        let mut ledger = Ledger::default();
        for (task, account) in checked.tasks {
            ledger.put_account(task, Some(account));
        }
        ledger.open = checked.open.into_iter().map(|open| (open.notice.id, open)).collect();
        // Who was killed has perhaps not looked at what has gone.
        ledger.left = checked.queues.keys().cloned().collect();
        ledger.queues = checked.queues;
        ledger.keep();
        ledger
    }

    /// What a checkpoint is to tell.
    pub(crate) fn checked(&self) -> Checked {
        Checked {
            tasks: self.accounts.clone(),
            open: self.open.values().cloned().collect(),
            queues: self.queues.clone(),
        }
    }

    /// Folds one line. `spec` is that of the task which it is about; none of a task that had ended before, unless the line
    /// tells its state.
    pub(crate) fn see(&mut self, event: &Event, at: Timestamp, spec: Option<&Arc<Spec>>) {
        if let Event::Notice(notice) = event {
            self.see_notice(notice, at);
        }
        if let Event::Delivered { notice, .. } | Event::NotDelivered { notice, .. } = event {
            self.put_open(*notice, None);
        }
        let Some(spec) = spec else { return };
        if let Some(task) = event.changed() {
            self.see_change(task, event, at, spec);
        }
        if let Some((_, state)) = event.state() {
            self.see_work(&spec.queue, state);
        }
    }

    fn see_notice(&mut self, notice: &Notice, at: Timestamp) {
        if !notice.argv.is_empty() {
            self.put_open(notice.id, Some(Open { at, notice: notice.clone() }));
        }
        match notice.task {
            None => self.put_queue(&notice.queue, None),
            Some(task) if notice.is_final => self.put_account(task, None),
            Some(task) => {
                let Account { sent, dropped, .. } = self.accounts.get(&task).cloned().unwrap_or_default();
                let told = Account { sent: sent + 1, last_at: Some(at), dropped, ..Account::default() };
                self.put_account(task, Some(told));
            }
        }
    }

    fn see_change(&mut self, task: TaskId, event: &Event, at: Timestamp, spec: &Arc<Spec>) {
        let ended = event.state().filter(|(_, state)| state.is_ended());
        let Some(policy) = spec.notify.as_ref().filter(|policy| policy.mode != Mode::None) else {
            if self.accounts.contains_key(&task) {
                self.put_account(task, None);
            }
            return;
        };
        let mut account = self.accounts.get(&task).cloned().unwrap_or_default();
        if let Some((_, state)) = ended {
            // It stands in the file that the user may have edited; so it is fixed now.
            account.end = Some(End { spec: Arc::clone(spec), state: state.clone() });
            account.tell(event);
        } else if let Some(reason) = reason_of(event).filter(|_| policy.mode == Mode::Milestones) {
            account.happened(reason, event, at, policy);
        } else {
            return;
        }
        self.put_account(task, Some(account));
    }

    /// Takes note of what a queue has to do.
    fn see_work(&mut self, queue: &Name, state: &State) {
        match state {
            State::Waiting { .. } | State::Ready { .. } | State::Active { .. } | State::Cancelling { .. } => {
                self.has_work(queue);
            }
            State::Held { .. } => drop(self.left.insert(queue.clone())),
            State::Ended { outcome, .. } => {
                self.left.insert(queue.clone());
                if let Some(ended) = self.queues.get(queue) {
                    let mut ended = ended.clone();
                    *ended.entry(*outcome).or_default() += 1;
                    self.put_queue(queue, Some(ended));
                }
            }
        }
    }

    /// Takes note of a task that is there; an older checkpoint has no word of its queue.
    pub(crate) fn knows(&mut self, queue: &Name, state: &State) {
        if !matches!(state, State::Held { .. } | State::Ended { .. }) {
            self.has_work(queue);
        }
        self.keep();
    }

    fn has_work(&mut self, queue: &Name) {
        if !self.queues.contains_key(queue) {
            self.put_queue(queue, Some(Ended::new()));
        }
    }

    /// The tasks of which a notice is owed now; those that have not ended only with a time.
    pub(crate) fn owed(&self, now: Option<Timestamp>) -> Vec<TaskId> {
        let due = self.due.iter().take_while(|(due, _)| now.is_some_and(|now| *due <= now));
        let due = due.map(|(_, task)| *task).filter(|task| !self.ended.contains(task));
        self.ended.iter().copied().chain(due).collect()
    }

    /// When a notice will be owed, if nothing else happens.
    pub(crate) fn next_time(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The notice that is owed of a task; `live` is what it is, if it has not ended.
    pub(crate) fn notice_of(
        &self,
        task: TaskId,
        live: Option<(&Spec, &State)>,
        id: NoticeId,
    ) -> Option<Notice> {
        let account = self.accounts.get(&task)?;
        let (spec, state) = match &account.end {
            Some(End { spec, state }) => (&**spec, state),
            None => live?,
        };
        let policy = spec.notify.clone().unwrap_or_default();
        let (is_final, count) = (state.is_ended(), account.sent.saturating_add(1));
        let mut reasons = account.pending.clone();
        if is_final {
            reasons.insert(Reason::Ended, 1);
        }
        let attempt = state.live_attempt().unwrap_or_else(|| state.attempts_over());
        Some(Notice {
            name: spec.name.clone(),
            tenant: spec.tenant.clone(),
            project: spec.project.clone(),
            item: spec.item.clone(),
            task: Some(task),
            status: Some(state.word().to_owned()),
            run: (attempt > 0).then_some(RunId { task, attempt }),
            reasons,
            count,
            is_final,
            limit_reached: !is_final && count >= policy.notices_max,
            dropped: account.dropped,
            reason: account.reason.clone(),
            evidence: account.evidence.clone(),
            argv: policy.argv,
            timeout_seconds: policy.timeout_seconds,
            directory: spec.directory.clone().filter(|directory| directory.len() <= PATH_BYTES_MAX),
            ..Notice::of_queue(id, &spec.queue)
        })
    }

    /// Forgets a task of which nobody knows what it is.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.put_account(task, None);
    }

    /// The queues from which something has gone, and that had work. Each is looked at once.
    pub(crate) fn take_left(&mut self) -> Vec<Name> {
        let left = std::mem::take(&mut self.left);
        self.changes.extend(left.iter().cloned().map(Before::Left));
        left.into_iter().filter(|queue| self.queues.contains_key(queue)).collect()
    }

    /// A queue has no work any more: what has ended there since it had none before.
    pub(crate) fn take_ended(&mut self, queue: &Name) -> Ended {
        let ended = self.queues.get(queue).cloned().unwrap_or_default();
        self.put_queue(queue, None);
        ended
    }

    /// The notices of which nothing says what became of them, the oldest first.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Open> {
        self.open.values()
    }

    pub(crate) fn open_one(&self, id: NoticeId) -> Option<&Open> {
        self.open.get(&id)
    }

    /// Whether the end of a task is owed, and nothing has told of it.
    pub(crate) fn owes_end(&self, task: TaskId) -> bool {
        self.ended.contains(&task)
    }

    /// The lines that were folded are in the log.
    pub(crate) fn keep(&mut self) {
        self.changes.clear();
    }

    /// The lines that were folded since then are not.
    pub(crate) fn roll_back(&mut self) {
        for before in std::mem::take(&mut self.changes).into_iter().rev() {
            match before {
                Before::Account(task, account) => drop(self.set_account(task, account)),
                Before::Open(id, open) => drop(set(&mut self.open, id, open)),
                Before::Queue(queue, ended) => drop(set(&mut self.queues, queue, ended)),
                Before::Left(queue) => drop(self.left.insert(queue)),
            }
        }
    }

    fn put_account(&mut self, task: TaskId, account: Option<Account>) {
        let before = self.set_account(task, account);
        self.changes.push(Before::Account(task, before));
    }

    fn put_open(&mut self, id: NoticeId, open: Option<Open>) {
        let before = set(&mut self.open, id, open);
        self.changes.push(Before::Open(id, before));
    }

    fn put_queue(&mut self, queue: &Name, ended: Option<Ended>) {
        let before = set(&mut self.queues, queue.clone(), ended);
        self.changes.push(Before::Queue(queue.clone(), before));
    }

    fn set_account(&mut self, task: TaskId, account: Option<Account>) -> Option<Account> {
        let (due, has_ended) = match &account {
            Some(account) => (account.due, account.end.is_some()),
            None => (None, false),
        };
        let before = set(&mut self.accounts, task, account);
        if let Some(due) = before.as_ref().and_then(|before| before.due) {
            self.due.remove(&(due, task));
        }
        self.due.extend(due.map(|due| (due, task)));
        if has_ended {
            self.ended.insert(task)
        } else {
            self.ended.remove(&task)
        };
        before
    }
}

/// Puts a value into a map, or takes it out; what was there before.
fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{By, Origin, SpecText};
    use crate::id::Rank;
    use crate::notice::{Notify, Reasons};
    use crate::outcome::Outcome;

    fn task(n: u8) -> TaskId {
        format!("01890a5d-ac96-774b-bcce-b302099a80{n:02x}").parse().unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn spec(mode: Mode) -> Arc<Spec> {
        let notify = Notify { mode, argv: vec!["tell".into()], notices_max: 2, ..Notify::default() };
        Arc::new(Spec { notify: Some(notify), ..Spec::default() })
    }

    fn ready() -> State {
        State::Ready { rank: Rank::default(), attempts: 0 }
    }

    fn active() -> State {
        let (host, rank) = ("h".parse().unwrap(), Rank::default());
        State::Active { attempt: 1, host, rank, assigned: Default::default() }
    }

    fn over(outcome: Outcome) -> State {
        State::Ended { outcome, attempts: 1, rank: Rank::default(), because: None }
    }

    fn submitted(spec: &Arc<Spec>) -> Event {
        let (command, spec) = (Origin::new(task(99), "x.json"), SpecText::Here(Arc::clone(spec)));
        Event::Submitted { task: task(1), state: ready(), spec, command, note: None }
    }

    fn moved(state: State, by: By) -> Event {
        let reason = Some(format!("it is {}", state.word()));
        Event::Moved {
            task: task(1),
            state,
            by,
            command: None,
            reason,
            evidence: None,
            spec: None,
            broken: 0,
        }
    }

    fn note() -> Event {
        let (command, kind) = (Origin::new(task(98), "n.json"), "note".to_owned());
        Event::Accepted { command, kind, task: Some(task(1)), note: String::new(), repeats: None }
    }

    /// A ledger, and the notices that it has given, as a daemon has them written.
    struct Story {
        ledger: Ledger,
        spec: Arc<Spec>,
        state: State,
        notices: Vec<Notice>,
        lines: Vec<(Event, Timestamp)>,
    }

    impl Story {
        fn new(mode: Mode) -> Story {
            let (ledger, spec) = (Ledger::default(), spec(mode));
            let mut story = Story { ledger, spec, state: ready(), notices: Vec::new(), lines: Vec::new() };
            story.batch(0, &[submitted(&story.spec.clone())]);
            story
        }

        fn batch(&mut self, seconds: i64, events: &[Event]) {
            for event in events {
                self.ledger.see(event, at(seconds), Some(&self.spec));
                self.state = event.state().map_or(self.state.clone(), |(_, state)| state.clone());
                self.lines.push((event.clone(), at(seconds)));
            }
            for task in self.ledger.owed(Some(at(seconds))) {
                let id = NoticeId::new(self::task(u8::try_from(self.notices.len()).unwrap() + 10));
                let notice = self.ledger.notice_of(task, Some((&self.spec, &self.state)), id).unwrap();
                self.notices.push(notice.clone());
                let event = Event::Notice(Box::new(notice));
                self.ledger.see(&event, at(seconds), None);
                self.lines.push((event, at(seconds)));
            }
            self.ledger.keep();
        }

        /// Of each notice what it tells, and whether it is the final one.
        fn told(&self) -> Vec<(Reasons, bool)> {
            self.notices.iter().map(|notice| (notice.reasons.clone(), notice.is_final)).collect()
        }

        /// What a daemon knows that has killed this one, from the begin of the log or from any checkpoint.
        fn check_that_others_know_the_same(&self) {
            for checkpoint in 0..=self.lines.len() {
                let mut ledger = Ledger::default();
                for (number, (event, at)) in self.lines.iter().enumerate() {
                    if number == checkpoint {
                        let text = serde_json::to_vec(&ledger.checked()).unwrap();
                        // What has ended is told in the batch in which it ends: no checkpoint comes in between.
                        if ledger.owed(None).is_empty() {
                            ledger = Ledger::of(serde_json::from_slice(&text).unwrap());
                        }
                    }
                    let spec = event.changed().map(|_| &self.spec);
                    ledger.see(event, *at, spec);
                }
                assert_eq!(ledger.checked(), self.ledger.checked(), "from {checkpoint}");
                assert_eq!((&ledger.due, &ledger.ended), (&self.ledger.due, &self.ledger.ended));
            }
        }
    }

    fn reasons<const N: usize>(reasons: [(Reason, u64); N]) -> Reasons {
        reasons.into()
    }

    #[test]
    fn what_happens_soon_after_a_notice_waits_and_is_told_with_the_rest() {
        let mut story = Story::new(Mode::Milestones);
        story.batch(1, &[moved(active(), By::Daemon)]);
        story.batch(2, &[note()]);
        story.batch(3, &[note()]);
        assert_eq!(story.ledger.next_time(), Some(at(11)));
        story.batch(10, &[]);
        assert_eq!(story.told(), [(reasons([(Reason::Started, 1)]), false)]);
        story.batch(11, &[]);
        assert_eq!(story.told().pop(), Some((reasons([(Reason::Note, 2)]), false)));
        assert!(story.notices[1].limit_reached && !story.notices[0].limit_reached);
        // There were enough; what follows is only counted.
        story.batch(100, &[note(), note()]);
        assert_eq!((story.notices.len(), story.ledger.next_time()), (2, None));
        story.check_that_others_know_the_same();
        story.batch(101, &[moved(over(Outcome::Failed), By::Run)]);
        let last = story.notices.pop().unwrap();
        assert_eq!((last.count, last.dropped, last.is_final), (3, 2, true));
        assert_eq!(
            (last.reasons, last.reason.as_deref()),
            (reasons([(Reason::Ended, 1)]), Some("it is failed"))
        );
        assert_eq!((story.ledger.accounts.len(), story.ledger.open().count()), (0, 3));
    }

    #[test]
    fn the_end_is_told_once_at_once_and_with_what_waited() {
        let mut story = Story::new(Mode::Milestones);
        story.batch(1, &[moved(active(), By::Daemon)]);
        story.batch(2, &[note()]);
        story.batch(3, &[moved(ready(), By::Run), moved(over(Outcome::Cancelled), By::Command)]);
        let all = reasons([(Reason::TriedAgain, 1), (Reason::Note, 1), (Reason::Ended, 1)]);
        assert_eq!(story.told(), [(reasons([(Reason::Started, 1)]), false), (all, true)]);
        story.batch(4, &[]);
        assert_eq!(story.notices.len(), 2);
        // It lives again, and ends again.
        story.batch(5, &[moved(ready(), By::Command)]);
        story.batch(6, &[moved(active(), By::Daemon), moved(over(Outcome::Succeeded), By::Run)]);
        assert_eq!(story.told().pop(), Some((reasons([(Reason::Started, 1), (Reason::Ended, 1)]), true)));
        assert_eq!(story.notices[2].count, 1);
        story.check_that_others_know_the_same();
    }

    #[test]
    fn only_ends_are_told_where_no_more_is_wanted_and_nothing_where_nothing_is() {
        for (mode, count) in [(Mode::Final, 1), (Mode::None, 0)] {
            let mut story = Story::new(mode);
            story.batch(1, &[moved(active(), By::Daemon), note()]);
            story.batch(2, &[moved(over(Outcome::Lost), By::Run)]);
            assert_eq!(story.notices.len(), count, "{mode:?}");
            story.check_that_others_know_the_same();
        }
    }

    #[test]
    fn an_end_without_its_notice_is_owed_by_whoever_reads_the_log() {
        let mut story = Story::new(Mode::Final);
        story.batch(2, &[moved(over(Outcome::Failed), By::Run)]);
        let mut ledger = Ledger::default();
        let cut = story.lines.iter().filter(|(event, _)| !matches!(event, Event::Notice(_)));
        cut.for_each(|(event, at)| ledger.see(event, *at, Some(&story.spec)));
        assert_eq!((ledger.owed(None), ledger.owes_end(task(1))), (vec![task(1)], true));
        let again = ledger.notice_of(task(1), None, story.notices[0].id).unwrap();
        assert_eq!(again, story.notices[0]);
    }

    #[test]
    fn what_is_not_in_the_log_is_as_if_it_had_not_been() {
        let mut story = Story::new(Mode::Milestones);
        story.batch(1, &[moved(active(), By::Daemon)]);
        let (before, due) = (story.ledger.checked(), story.ledger.due.clone());
        let open = story.notices[0].id;
        for event in
            [note(), Event::Delivered { notice: open, tries: 1 }, moved(over(Outcome::Failed), By::Run)]
        {
            story.ledger.see(&event, at(50), Some(&story.spec));
        }
        let queue = story.spec.queue.clone();
        assert_eq!(story.ledger.take_left(), std::slice::from_ref(&queue));
        assert_eq!(story.ledger.take_ended(&queue), [(Outcome::Failed, 1)].into());
        assert_ne!(story.ledger.checked(), before);
        story.ledger.roll_back();
        assert_eq!((story.ledger.checked(), story.ledger.due.clone()), (before, due));
        assert_eq!((story.ledger.owed(Some(at(99))), story.ledger.take_left()), (vec![], vec![queue]));
    }
}
