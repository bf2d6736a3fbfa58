//! What a task waits for in other tasks: when that is met, when it cannot be any more, and that nothing waits for itself.
//! Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::id::TaskId;
use crate::outcome::Outcome;
use crate::refusal::{Kind, Refusal};
use crate::spec::Spec;

/// How many tasks one may wait for.
const EDGES_MAX: usize = 256;

/// A task that a spec names: by its id, or, until it is admitted, by another word for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) enum Target {
    Task(TaskId),
    Word(String),
}

impl From<String> for Target {
    fn from(text: String) -> Target {
        text.parse().map_or(Target::Word(text), Target::Task)
    }
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.to_string()
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Task(task) => task.fmt(f),
            Target::Word(word) => f.write_str(word),
        }
    }
}

/// What a task wants of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Edge {
    /// That it has succeeded.
    Needs,
    /// That it has ended, however.
    After,
    /// That it has ended without success.
    AfterFailed,
}

impl Edge {
    /// The key of a spec in which such edges stand.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Edge::Needs => "needs",
            Edge::After => "after",
            Edge::AfterFailed => "after_failed",
        }
    }

    pub(crate) fn is_met(self, outcome: Outcome) -> bool {
        match self {
            Edge::Needs => outcome == Outcome::Succeeded,
            Edge::After => true,
            Edge::AfterFailed => outcome != Outcome::Succeeded,
        }
    }
}

/// What becomes of a task when what it needs has not succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnFailedNeed {
    /// It ends as blocked.
    #[default]
    Block,
    /// It ends as skipped.
    Skip,
    /// It is held.
    Hold,
}

impl OnFailedNeed {
    #[cfg(test)]
    pub(crate) const ALL: [OnFailedNeed; 3] = [OnFailedNeed::Block, OnFailedNeed::Skip, OnFailedNeed::Hold];

    pub(crate) fn is_default(&self) -> bool {
        *self == OnFailedNeed::default()
    }

    /// How the task ends, if it does.
    pub(crate) fn outcome(self) -> Option<Outcome> {
        match self {
            OnFailedNeed::Block => Some(Outcome::Blocked),
            OnFailedNeed::Skip => Some(Outcome::Skipped),
            OnFailedNeed::Hold => None,
        }
    }
}

impl Spec {
    /// The tasks that it waits for, as far as they are known by their ids, and what it wants of each.
    pub(crate) fn edges(&self) -> impl Iterator<Item = (Edge, TaskId)> {
        let lists =
            [(Edge::Needs, &self.needs), (Edge::After, &self.after), (Edge::AfterFailed, &self.after_failed)];
        lists.into_iter().flat_map(|(edge, targets)| {
            targets.iter().filter_map(move |target| match target {
                Target::Task(task) => Some((edge, *task)),
                Target::Word(_) => None,
            })
        })
    }

    /// Takes over whom it waits for by other words than ids from an earlier submit that was the same: they may mean others by
    /// now, or nobody.
    pub(crate) fn wait_as(&mut self, earlier: &Spec) {
        let lists = [
            (&mut self.needs, &earlier.needs),
            (&mut self.after, &earlier.after),
            (&mut self.after_failed, &earlier.after_failed),
        ];
        for (targets, earlier) in lists {
            for (target, known) in targets.iter_mut().zip(earlier) {
                if matches!(target, Target::Word(_)) {
                    target.clone_from(known);
                }
            }
        }
    }

    /// Checks whom it waits for.
    pub(crate) fn check_edges(&self) -> Result<(), Refusal> {
        let lists =
            [(Edge::Needs, &self.needs), (Edge::After, &self.after), (Edge::AfterFailed, &self.after_failed)];
        let mut count = 0;
        for (edge, targets) in lists {
            count += targets.len();
            let path = format!("$.{}", edge.key());
            if count > EDGES_MAX {
                let message = format!("a task waits for at most {EDGES_MAX} others");
                let refusal = Refusal::new(Kind::InvalidValue, message).at(path);
                return Err(refusal.hint("let it wait for one that waits for some of them"));
            }
            let both = |target: &&Target| edge == Edge::AfterFailed && self.needs.contains(target);
            if let Some(number) = targets.iter().position(|target| both(&target)) {
                let message = "it needs this task's success too, so that it could never start";
                return Err(Refusal::new(Kind::Conflict, message).at(format!("{path}[{number}]")));
            }
        }
        if self.needs.is_empty() && !self.on_failed_need.is_default() {
            let refusal = Refusal::new(Kind::Conflict, "it needs no other task").at("$.on_failed_need");
            return Err(refusal.hint("name those that must succeed in \"needs\""));
        }
        Ok(())
    }
}

/// How a task stands that another waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not ended.
    Live,
    Ended(Outcome),
    /// It is nowhere: somebody removed what told of it.
    Unknown,
}

/// What that means for the one that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    NotYet,
    /// It cannot be met, and why.
    Never {
        then: OnFailedNeed,
        reason: String,
    },
}

/// Decides what becomes of a task with this spec, of all that it wants of `need`.
pub(crate) fn verdict(spec: &Spec, need: TaskId, standing: Standing) -> Verdict {
    let outcome = match standing {
        Standing::Live => return Verdict::NotYet,
        Standing::Ended(outcome) => outcome,
        Standing::Unknown => {
            let reason = format!("nobody knows any more how task {need} ended: release it if it may start");
            return Verdict::Never { then: OnFailedNeed::Hold, reason };
        }
    };
    match spec.edges().find(|(edge, of)| *of == need && !edge.is_met(outcome)) {
        None => Verdict::Met,
        // That what it was a remedy for did not happen is no fault.
        Some((Edge::AfterFailed, _)) => {
            let reason = format!("it was to start if task {need} did not succeed, and that has succeeded");
            Verdict::Never { then: OnFailedNeed::Skip, reason }
        }
        Some((Edge::Needs | Edge::After, _)) => {
            let then = spec.on_failed_need;
            let release = match then {
                OnFailedNeed::Block | OnFailedNeed::Skip => "",
                OnFailedNeed::Hold => ": release it if it may start nevertheless",
            };
            Verdict::Never {
                then,
                reason: format!("it needs task {need}, which {}{release}", outcome.words()),
            }
        }
    }
}

/// The way from a task back to itself over what each waits for, if there is one: it first, and it again last.
pub(crate) fn cycle<I>(task: TaskId, edges: impl Fn(TaskId) -> I) -> Option<Vec<TaskId>>
where
    I: IntoIterator<Item = TaskId>,
{
    let mut came_from: HashMap<TaskId, TaskId> = HashMap::new();
    let mut seen: HashSet<TaskId> = HashSet::new();
    let mut open = vec![task];
    while let Some(from) = open.pop() {
        for to in edges(from) {
            if to == task {
                let mut path = vec![task, from];
                while let Some(before) = path.last().and_then(|last| came_from.get(last)) {
                    path.push(*before);
                }
                path.reverse();
                return Some(path);
            }
            if seen.insert(to) {
                came_from.insert(to, from);
                open.push(to);
            }
        }
    }
    None
}

/// Who waits for whom, of the tasks that wait, or would if they were released.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// Who waits for a task.
    dependents: BTreeMap<TaskId, BTreeSet<TaskId>>,
    /// For whom a task waits, of whom it is not known that they are as it wants them.
    open: HashMap<TaskId, BTreeSet<TaskId>>,
    /// Who must be looked at, since the other may have ended: the one that waits, and the other.
    to_look_at: BTreeSet<(TaskId, TaskId)>,
}

impl Waits {
    /// Takes note of a task that waits; with `look` it is looked at whether it still must.
    pub(crate) fn add(&mut self, task: TaskId, spec: &Spec, look: bool) {
        let open: BTreeSet<TaskId> = spec.edges().map(|(_, need)| need).collect();
        for need in &open {
            self.dependents.entry(*need).or_default().insert(task);
            if look {
                self.to_look_at.insert((task, *need));
            }
        }
        self.open.insert(task, open);
    }

    pub(crate) fn remove(&mut self, task: TaskId, spec: &Spec) {
        for (_, need) in spec.edges() {
            if let Some(dependents) = self.dependents.get_mut(&need) {
                dependents.remove(&task);
                if dependents.is_empty() {
                    self.dependents.remove(&need);
                }
            }
        }
        self.open.remove(&task);
    }

    /// Takes note that a task has ended, so that those are looked at who wait for it.
    pub(crate) fn ended(&mut self, need: TaskId) {
        let dependents = self.dependents.get(&need).into_iter().flatten();
        self.to_look_at.extend(dependents.map(|task| (*task, need)));
    }

    /// Takes note that a task lives, perhaps again: who wants something of its end waits.
    pub(crate) fn lives(&mut self, need: TaskId) {
        for task in self.dependents.get(&need).into_iter().flatten() {
            self.open.entry(*task).or_default().insert(need);
        }
    }

    /// Takes note that `need` is as `task` wants it; tells whether all are.
    pub(crate) fn met(&mut self, task: TaskId, need: TaskId) -> bool {
        let Some(open) = self.open.get_mut(&task) else { return false };
        open.remove(&need);
        open.is_empty()
    }

    /// The next task to look at, and the one that it waits for.
    pub(crate) fn next_to_look_at(&mut self) -> Option<(TaskId, TaskId)> {
        self.to_look_at.pop_first()
    }

    /// Has it looked at once more.
    pub(crate) fn look_again(&mut self, task: TaskId, need: TaskId) {
        self.to_look_at.insert((task, need));
    }

    pub(crate) fn has_to_look(&self) -> bool {
        !self.to_look_at.is_empty()
    }

    pub(crate) fn has_dependents(&self, task: TaskId) -> bool {
        self.dependents.contains_key(&task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> TaskId {
        format!("01890a5d-ac96-774b-bcce-b302{number:08x}").parse().unwrap()
    }

    fn spec(needs: &[u32], after: &[u32], after_failed: &[u32]) -> Spec {
        let targets = |numbers: &[u32]| numbers.iter().map(|number| Target::Task(id(*number))).collect();
        Spec {
            needs: targets(needs),
            after: targets(after),
            after_failed: targets(after_failed),
            ..Spec::default()
        }
    }

    const SUCCEEDED: Standing = Standing::Ended(Outcome::Succeeded);
    const FAILED: Standing = Standing::Ended(Outcome::Failed);

    #[test]
    fn each_edge_is_met_by_the_ends_that_it_names_and_by_no_other() {
        let (needs, after, after_failed) = (spec(&[1], &[], &[]), spec(&[], &[1], &[]), spec(&[], &[], &[1]));
        for (spec, standing, met) in [
            (&needs, SUCCEEDED, Some(true)),
            (&needs, FAILED, Some(false)),
            (&after, SUCCEEDED, Some(true)),
            (&after, FAILED, Some(true)),
            (&after_failed, SUCCEEDED, Some(false)),
            (&after_failed, FAILED, Some(true)),
            (&needs, Standing::Live, None),
            (&after, Standing::Live, None),
            (&after_failed, Standing::Live, None),
        ] {
            let told = match verdict(spec, id(1), standing) {
                Verdict::Met => Some(true),
                Verdict::NotYet => None,
                Verdict::Never { .. } => Some(false),
            };
            assert_eq!(told, met, "{spec:?} {standing:?}");
        }
    }

    #[test]
    fn whatever_is_no_success_is_none() {
        for outcome in Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::Succeeded) {
            assert!(!Edge::Needs.is_met(outcome) && Edge::After.is_met(outcome));
            assert!(Edge::AfterFailed.is_met(outcome), "{outcome:?}");
        }
    }

    #[test]
    fn what_cannot_be_met_any_more_ends_as_its_spec_says_and_tells_which_need_it_was() {
        let then = |spec: &Spec, standing| match verdict(spec, id(1), standing) {
            Verdict::Never { then, reason } => {
                assert!(reason.contains(&id(1).to_string()), "{reason}");
                then
            }
            Verdict::Met | Verdict::NotYet => panic!("{standing:?}"),
        };
        for on_failed_need in OnFailedNeed::ALL {
            let needs = Spec { on_failed_need, ..spec(&[2, 1], &[], &[]) };
            assert_eq!(then(&needs, FAILED), on_failed_need);
            assert_eq!(then(&needs, Standing::Unknown), OnFailedNeed::Hold);
            let remedy = Spec { on_failed_need, ..spec(&[], &[], &[1]) };
            assert_eq!(then(&remedy, SUCCEEDED), OnFailedNeed::Skip);
        }
    }

    #[test]
    fn a_cycle_is_told_as_the_way_from_the_task_back_to_it() {
        let edges = |of: &'static [(u32, &'static [u32])]| {
            move |task: TaskId| {
                let to = of.iter().find(|(from, _)| id(*from) == task).map_or(&[][..], |(_, to)| to);
                to.iter().map(|number| id(*number)).collect::<Vec<_>>()
            }
        };
        let path = |numbers: &[u32]| Some(numbers.iter().map(|number| id(*number)).collect::<Vec<_>>());
        assert_eq!(cycle(id(1), edges(&[(1, &[1])])), path(&[1, 1]));
        assert_eq!(cycle(id(1), edges(&[(1, &[2]), (2, &[3]), (3, &[4, 1])])), path(&[1, 2, 3, 1]));
        assert_eq!(cycle(id(1), edges(&[(1, &[2, 3]), (2, &[4]), (3, &[4]), (4, &[])])), None);
        // One that does not lead back to the task is no way from it to itself.
        assert_eq!(cycle(id(1), edges(&[(1, &[2]), (2, &[3]), (3, &[2])])), None);
    }

    #[test]
    fn a_long_way_takes_no_stack_and_a_wide_one_no_time() {
        let chain = |last: u32| move |task: TaskId| (1..=last).find(|n| id(*n) == task).map(|n| id(n + 1));
        assert_eq!(cycle(id(1), chain(1_000)), None);
        let wide = |task: TaskId| -> Vec<TaskId> {
            if task == id(0) { (1..100_000).map(id).collect() } else { vec![id(100_000)] }
        };
        assert_eq!(cycle(id(0), wide), None);
    }

    #[test]
    fn who_waits_is_looked_at_when_the_other_ends_and_waits_again_when_that_lives_again() {
        let mut waits = Waits::default();
        waits.add(id(3), &spec(&[1, 2], &[1], &[]), true);
        assert_eq!(waits.next_to_look_at(), Some((id(3), id(1))));
        assert_eq!(waits.next_to_look_at(), Some((id(3), id(2))));
        assert_eq!(waits.next_to_look_at(), None);
        waits.ended(id(2));
        assert_eq!(waits.next_to_look_at(), Some((id(3), id(2))));
        assert!(!waits.met(id(3), id(2)) && waits.met(id(3), id(1)));
        waits.lives(id(2));
        assert!(!waits.met(id(3), id(1)) && waits.has_dependents(id(2)));
        waits.remove(id(3), &spec(&[1, 2], &[1], &[]));
        waits.ended(id(1));
        assert!(
            waits.next_to_look_at().is_none() && !waits.has_dependents(id(1)) && !waits.met(id(3), id(2))
        );
    }
}
