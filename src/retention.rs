//! How long what has ended is kept: by age, by number, by size. Pure; `gc` looks and removes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{Name, RunId, TaskId};
use crate::json::Shape;
use crate::time::Timestamp;

/// The length of a day.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a queue keeps of its ended tasks, `retention` in `queue.json`. What is absent limits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retention {
    /// Since when they ended, at most.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) days: Option<u32>,
    /// How many, the newest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) count: Option<u64>,
    /// How much of the disk their files and runs take.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) bytes: Option<u64>,
}

/// The keys of a retention.
pub(crate) const SHAPE: Shape = Shape(&[("days", None), ("count", None), ("bytes", None)]);

/// What a `gc` is asked to remove. Without any limit of its own each queue's retention holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) older_than_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) keep: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) bytes: Option<u64>,
    /// Kept refs that are so old are dropped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) kept_older_than_seconds: Option<u64>,
    /// Of the kept refs the oldest are dropped, until the others keep no more of the disk.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) kept_bytes: Option<u64>,
    /// Worktrees that stand take no more: of those that may be removed the oldest go.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) workspaces_bytes: Option<u64>,
    /// Only this queue's tasks.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) queue: Option<Name>,
}

/// The keys of a command that asks.
pub(crate) const ASKED: Shape = Shape(&[
    ("type", None),
    ("older_than_seconds", None),
    ("keep", None),
    ("bytes", None),
    ("kept_older_than_seconds", None),
    ("kept_bytes", None),
    ("workspaces_bytes", None),
    ("queue", None),
]);

/// The limits that hold for one queue; a task that is beyond any of them goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) age: Option<Duration>,
    pub(crate) count: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

impl Asked {
    /// The limits for `queue`, which keeps `retention` by itself; `None` when all of it is kept.
    pub(crate) fn limits(&self, queue: &Name, retention: Option<Retention>) -> Option<Limits> {
        if self.queue.as_ref().is_some_and(|only| only != queue) {
            return None;
        }
        let own = Limits {
            age: self.older_than_seconds.map(Duration::from_secs),
            count: self.keep,
            bytes: self.bytes,
        };
        let of_queue = |kept: Retention| Limits {
            age: kept.days.map(|days| DAY * days),
            count: kept.count,
            bytes: kept.bytes,
        };
        // Who asks for something else only does not ask for this.
        if own == Limits::default() && (self.is_about_kept() || self.workspaces_bytes.is_some()) {
            return None;
        }
        let limits = if own == Limits::default() { retention.map(of_queue)? } else { own };
        (limits != Limits::default()).then_some(limits)
    }
}

impl Asked {
    /// Whether kept refs are to be dropped: never, unless somebody asks for it.
    pub(crate) fn is_about_kept(&self) -> bool {
        self.kept_older_than_seconds.is_some() || self.kept_bytes.is_some()
    }

    /// Which kept refs go, by their places in `kept`: when each run ended, and how much only its ref keeps.
    pub(crate) fn choose_kept(&self, kept: &[(Timestamp, u64)], now: Timestamp) -> Vec<usize> {
        let mut order: Vec<usize> = (0..kept.len()).collect();
        order.sort_by_key(|at| (kept[*at].0, *at));
        let mut bytes: u64 = kept.iter().map(|(_, bytes)| bytes).sum();
        let age = self.kept_older_than_seconds.map(Duration::from_secs);
        order.retain(|at| {
            let (ended, own) = kept[*at];
            let is_old = age.is_some_and(|age| ended <= now && now.since(ended) >= age);
            let goes = is_old || self.kept_bytes.is_some_and(|max| bytes > max);
            bytes -= if goes { own } else { 0 };
            goes
        });
        order
    }
}

/// A worktree that stands though its run is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) run: RunId,
    pub(crate) bytes: u64,
    pub(crate) dirty: bool,
    pub(crate) ended_at: Timestamp,
    pub(crate) may_go: bool,
}

/// Which worktrees go so that the others take no more than `bytes_max`: clean ones first, and of these the oldest.
pub(crate) fn choose_standing(mut all: Vec<Standing>, bytes_max: u64) -> Vec<RunId> {
    let mut bytes: u64 = all.iter().map(|one| one.bytes).sum();
    all.sort_by_key(|one| (one.dirty, one.ended_at, one.run));
    all.retain(|one| {
        let goes = one.may_go && bytes > bytes_max;
        bytes -= if goes { one.bytes } else { 0 };
        goes
    });
    all.into_iter().map(|one| one.run).collect()
}

/// A task that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) task: TaskId,
    /// Where its file lies; one of `layout::ENDED_FOLDERS`.
    pub(crate) folder: &'static str,
    pub(crate) at: Timestamp,
    /// What it takes of the disk; counted only where there is a limit for it.
    pub(crate) bytes: u64,
    /// An earlier removal was cut short.
    pub(crate) begun: bool,
}

/// The tasks of a queue that go, the oldest ended first. What `may_go` holds back stays, and the next takes its turn.
pub(crate) fn choose(
    mut ended: Vec<Ended>,
    limits: &Limits,
    now: Timestamp,
    mut may_go: impl FnMut(&Ended) -> bool,
) -> Vec<Ended> {
    ended.sort_unstable_by_key(|ended| (ended.at, ended.task));
    let mut count = ended.len() as u64;
    let mut bytes: u64 = ended.iter().map(|ended| ended.bytes).sum();
    ended.retain(|ended| {
        let old = limits.age.is_some_and(|age| now.since(ended.at) >= age && ended.at <= now);
        let many = limits.count.is_some_and(|max| count > max);
        let large = limits.bytes.is_some_and(|max| bytes > max);
        let goes = (ended.begun || old || many || large) && may_go(ended);
        if goes {
            count -= 1;
            bytes -= ended.bytes;
        }
        goes
    });
    ended
}

/// How much was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) tasks: u64,
    pub(crate) runs: u64,
    /// Folders of receipts or refused files.
    pub(crate) days: u64,
    pub(crate) segments: u64,
    pub(crate) texts: u64,
    /// Of the disk.
    pub(crate) bytes: u64,
    /// Tasks that were to go and stay, since a workspace of theirs still stands.
    pub(crate) stay: u64,
    /// Worktrees that went; what was in them is kept.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub(crate) workspaces: u64,
    /// Kept refs that were dropped, and how much only they kept: git gives that back with its own next gc.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub(crate) kept: u64,
    #[serde(skip_serializing_if = "is_zero", default)]
    pub(crate) kept_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Tally {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Tally { stay: self.stay, ..Tally::default() }
    }

    pub(crate) fn words(&self) -> String {
        let Tally { tasks, runs, days, segments, texts, bytes, stay, workspaces, kept, kept_bytes } = self;
        let counted = [
            (tasks, "task", "tasks"),
            (runs, "run", "runs"),
            (days, "folder of answers", "folders of answers"),
            (segments, "segment of the log", "segments of the log"),
            (texts, "text", "texts"),
            (workspaces, "worktree", "worktrees"),
        ];
        let counted = counted.iter().filter(|(number, ..)| **number > 0);
        let parts: Vec<String> = counted
            .map(|(number, one, many)| format!("{number} {}", if **number == 1 { one } else { many }))
            .collect();
        let mut words = if parts.is_empty() {
            "nothing".to_owned()
        } else {
            format!("{}: {bytes} bytes", parts.join(", "))
        };
        if *kept > 0 {
            let refs = if *kept == 1 { "kept ref" } else { "kept refs" };
            words.push_str(&format!("; {kept} {refs}, which alone kept {kept_bytes} bytes in repositories"));
        }
        if *stay > 0 {
            let stays = if *stay == 1 { "task stays" } else { "tasks stay" };
            words.push_str(&format!("; {stay} {stays}, whose workspaces still stand"));
        }
        words
    }
}

/// The days of which nothing but receipts and refused files is left: `gone` are days of tasks that were removed, `there` of
/// those that are still there. Today and yesterday are never among them.
pub(crate) struct Days<'a> {
    pub(crate) yesterday: &'a str,
    pub(crate) last_gone: Option<&'a str>,
    pub(crate) there: &'a BTreeSet<String>,
}

impl Days<'_> {
    /// Whether the answers of a day may go: no task of that day is there, and later ones have gone.
    pub(crate) fn is_over(&self, day: &str) -> bool {
        day < self.yesterday && self.last_gone.is_some_and(|last| day <= last) && !self.there.contains(day)
    }

    /// Whether a segment may go whose last line is of that day: all tasks of that day, and of those before, have gone.
    pub(crate) fn is_past(&self, day: &str) -> bool {
        self.is_over(day) && self.there.first().is_none_or(|first| day < first.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(i64::try_from(seconds).unwrap() * 1_000_000)
    }

    fn ended(number: u8, seconds: u64, bytes: u64) -> Ended {
        let task = format!("01890a5d-ac96-774b-bcce-b302099a80{number:02x}").parse().unwrap();
        Ended { task, folder: "done", at: at(seconds), bytes, begun: false }
    }

    /// The seconds at which those ended that go.
    fn goes(all: &[Ended], limits: Limits) -> Vec<i64> {
        let chosen = choose(all.to_vec(), &limits, at(1000), |_| true);
        chosen.iter().map(|ended| ended.at.seconds()).collect()
    }

    #[test]
    fn the_oldest_go_until_each_limit_is_kept() {
        let all: Vec<Ended> = [(3, 300), (1, 100), (4, 400), (2, 200)].map(|(n, s)| ended(n, s, 10)).to_vec();
        let none = Limits::default();
        assert_eq!(goes(&all, none), Vec::<i64>::new());
        let age = Some(Duration::from_secs(800));
        assert_eq!(goes(&all, Limits { age, ..none }), [100, 200]);
        assert_eq!(goes(&all, Limits { count: Some(3), ..none }), [100]);
        assert_eq!(goes(&all, Limits { count: Some(0), ..none }), [100, 200, 300, 400]);
        assert_eq!(goes(&all, Limits { bytes: Some(25), ..none }), [100, 200]);
        assert_eq!(goes(&all, Limits { bytes: Some(25), count: Some(1), age }), [100, 200, 300]);
    }

    #[test]
    fn what_ended_in_a_future_of_this_clock_is_not_old_and_what_was_begun_is_completed() {
        let future = Limits { age: Some(Duration::ZERO), ..Limits::default() };
        assert_eq!(goes(&[ended(1, 2000, 1)], future), Vec::<i64>::new());
        let begun = Ended { begun: true, ..ended(1, 999, 1) };
        assert_eq!(goes(&[begun, ended(2, 1, 1)], Limits { count: Some(9), ..Limits::default() }), [999]);
    }

    #[test]
    fn a_command_without_limits_means_what_each_queue_keeps_by_itself() {
        let (queue, other): (Name, Name) = ("a".parse().unwrap(), "b".parse().unwrap());
        let kept = Some(Retention { days: Some(2), ..Retention::default() });
        let by_age = |age| Some(Limits { age: Some(age), ..Limits::default() });
        assert_eq!(Asked::default().limits(&queue, kept), by_age(DAY * 2));
        assert_eq!(Asked::default().limits(&queue, None), None);
        assert_eq!(Asked::default().limits(&queue, Some(Retention::default())), None);
        let own = Asked { older_than_seconds: Some(5), queue: Some(queue.clone()), ..Asked::default() };
        assert_eq!(own.limits(&queue, kept), by_age(Duration::from_secs(5)));
        assert_eq!(own.limits(&other, kept), None);
    }

    #[test]
    fn kept_refs_go_by_age_and_by_size_the_oldest_first_and_never_unasked() {
        let kept = [(at(300), 10), (at(100), 5), (at(2000), 50), (at(200), 20)];
        let goes = |asked: Asked| asked.choose_kept(&kept, at(1000));
        assert_eq!(goes(Asked::default()), Vec::<usize>::new());
        assert_eq!(goes(Asked { kept_older_than_seconds: Some(800), ..Asked::default() }), [1, 3]);
        assert_eq!(
            goes(Asked { kept_older_than_seconds: Some(0), ..Asked::default() }),
            [1, 3, 0],
            "not of a future"
        );
        assert_eq!(goes(Asked { kept_bytes: Some(80), ..Asked::default() }), [1]);
        assert_eq!(goes(Asked { kept_bytes: Some(60), ..Asked::default() }), [1, 3]);
        assert_eq!(goes(Asked { kept_bytes: Some(0), ..Asked::default() }), [1, 3, 0, 2]);
        let queue: Name = "a".parse().unwrap();
        let by_itself = Some(Retention { days: Some(2), ..Retention::default() });
        assert_eq!(Asked { kept_bytes: Some(0), ..Asked::default() }.limits(&queue, by_itself), None);
    }

    #[test]
    fn of_worktrees_clean_ones_go_first_and_of_these_the_oldest() {
        let one = |number: u32, seconds: u64, dirty: bool, may_go: bool| Standing {
            run: RunId { task: ended(1, 1, 1).task, attempt: number },
            bytes: 10,
            dirty,
            ended_at: at(seconds),
            may_go,
        };
        let all = [
            one(1, 100, true, true),
            one(2, 300, false, true),
            one(3, 200, false, true),
            one(4, 50, false, false),
        ];
        let goes = |bytes_max: u64| {
            choose_standing(all.to_vec(), bytes_max).iter().map(|run| run.attempt).collect::<Vec<_>>()
        };
        assert_eq!((goes(40), goes(35), goes(15), goes(0)), (vec![], vec![3], vec![3, 2, 1], vec![3, 2, 1]));
    }

    #[test]
    fn answers_go_with_their_day_and_the_log_only_from_its_begin() {
        let there: BTreeSet<String> = ["2023-06-03".to_owned(), "2023-06-09".to_owned()].into();
        let days = Days { yesterday: "2023-06-08", last_gone: Some("2023-06-05"), there: &there };
        let over = |day: &u8| days.is_over(&format!("2023-06-{day:02}"));
        let past = |day: &u8| days.is_past(&format!("2023-06-{day:02}"));
        assert_eq!((1..10).filter(over).collect::<Vec<u8>>(), [1, 2, 4, 5]);
        assert_eq!((1..10).filter(past).collect::<Vec<u8>>(), [1, 2]);
        let untouched = Days { last_gone: None, ..days };
        assert!(!untouched.is_over("2023-06-01"));
    }

    proptest! {
        #[test]
        fn what_is_left_is_within_the_limits_and_no_more_goes_than_must(
            all in proptest::collection::vec((0_u64..1000, 0_u64..50), 0..60),
            count in proptest::option::of(0_u64..70), bytes in proptest::option::of(0_u64..2000),
        ) {
            let all: Vec<Ended> = all.iter().zip(0_u8..).map(|((s, b), n)| ended(n, *s, *b)).collect();
            let limits = Limits { age: None, count, bytes };
            let gone = choose(all.clone(), &limits, at(1000), |_| true);
            let left: Vec<&Ended> = all.iter().filter(|ended| !gone.contains(ended)).collect();
            let size = |left: &[&Ended]| left.iter().map(|ended| ended.bytes).sum::<u64>();
            let within = |left: &[&Ended]| count.is_none_or(|max| left.len() as u64 <= max) && bytes.is_none_or(|max| size(left) <= max);
            prop_assert!(within(&left));
            // With the last that went, a limit would be passed; and nobody older stayed.
            if let Some(last) = gone.last() {
                let mut more = left.clone();
                more.push(last);
                prop_assert!(!within(&more));
                prop_assert!(left.iter().all(|ended| (ended.at, ended.task) >= (last.at, last.task)));
            }
        }
    }
}
