//! The spool's logs, folded: which tasks there are and in which states, which commands were answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::series::{Part, Whose};
use super::{Audit, Kind, by_hand};
use crate::breaker::{self, Breakers};
use crate::checkpoint::Checkpoint;
use crate::event::{Event, SpecText};
use crate::id::{Name, TaskId};
use crate::jsonl::Line;
use crate::layout::{Place, place_of};
use crate::notice::{self, Ledger as Notices};
use crate::picture::tells_end;
use crate::queue;
use crate::reader::Mark;
use crate::resource::{Ledger, Thing};
use crate::spec::Spec;
use crate::task::State;

/// What the logs say.
#[derive(Default)]
pub(super) struct History {
    pub(super) tasks: BTreeMap<TaskId, Told>,
    /// The line that answers a claim, with the host whose log it is in.
    pub(super) answers: BTreeMap<TaskId, (Name, Line<Event>)>,
    /// The lines that refuse edits by hand.
    pub(super) refused_edits: Vec<Line<Event>>,
    /// The texts that lines name, and whether a live task needs it.
    pub(super) texts: BTreeMap<String, bool>,
    /// Whether the logs are there from their first lines on, and all can be read.
    pub(super) whole: bool,
    /// The number of our last line.
    pub(super) last_seq: u64,
    /// What live runs have, by host.
    ledgers: BTreeMap<Name, Ledger>,
    /// How queues stand, by our log; and how they stood at the checkpoint.
    pub(super) breakers: Breakers,
    pub(super) breakers_checked: Breakers,
    /// Who is to be told, and of what, by host.
    pub(super) notices: BTreeMap<Name, Notices>,
    /// The same of ours at the checkpoint.
    pub(super) checked_notices: Option<notice::Checked>,
    /// The states that our tasks had at the checkpoint, and the lines of their specs.
    pub(super) checked: BTreeMap<TaskId, (State, u64)>,
}

/// A task, as the log tells it.
pub(super) struct Told {
    pub(super) host: Name,
    pub(super) state: State,
    pub(super) spec: Option<Arc<Spec>>,
    pub(super) spec_seq: u64,
    pub(super) text: Option<String>,
    /// The line that told its state last.
    pub(super) last_seq: u64,
    /// The attempt behind which it was edited last: those up to it had another spec.
    pub(super) edited_after: u32,
    /// Whether it ended with a run; else it was cancelled while none lived.
    pub(super) by_run: bool,
}

impl History {
    /// What the log of a host says of a reader, each with the number of its line.
    pub(super) fn marks_of<'a>(
        &'a self,
        host: &'a Name,
        reader: &'a Name,
    ) -> impl Iterator<Item = (u64, &'a Mark)> {
        let ours = self.answers.values().filter(move |(theirs, _)| host == theirs);
        ours.filter_map(move |(_, line)| match &line.event {
            Event::Marked { mark, .. } if mark.reader == *reader => Some((line.seq, mark)),
            Event::Marked { .. }
            | Event::Submitted { .. }
            | Event::Moved { .. }
            | Event::Edited { .. }
            | Event::EditRefused { .. }
            | Event::Accepted { .. }
            | Event::Refused { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Collected { .. }
            | Event::Notice(_)
            | Event::Delivered { .. }
            | Event::NotDelivered { .. }
            | Event::DaemonStarted { .. }
            | Event::DaemonStopped { .. }
            | Event::Unknown => None,
        })
    }
}

/// How many runs a task in that state has had.
pub(super) fn attempts(state: &State) -> u32 {
    match state {
        State::Held { attempts, .. }
        | State::Waiting { attempts, .. }
        | State::Ready { attempts, .. }
        | State::Ended { attempts, .. } => *attempts,
        State::Active { attempt, .. } | State::Cancelling { attempt, .. } => *attempt,
    }
}

fn waits_or_is_ready(state: &State) -> bool {
    match state {
        State::Waiting { .. } | State::Ready { .. } => true,
        State::Held { .. } | State::Active { .. } | State::Cancelling { .. } | State::Ended { .. } => false,
    }
}

impl Audit<'_> {
    pub(super) fn read_history(&mut self) -> History {
        let mut series: BTreeMap<Name, Vec<Part>> = BTreeMap::new();
        for path in self.seen.entries.keys() {
            match place_of(path) {
                Some(Place::Log { host, sealed }) => {
                    series.entry(host).or_default().push(Part { path: path.clone(), sealed });
                }
                Some(Place::Compressed { host, last }) if self.is_only_copy(path) => {
                    series.entry(host).or_default().push(Part { path: path.clone(), sealed: Some(last) });
                }
                Some(_) | None => {}
            }
        }
        self.check_copies();
        let mut history = History { whole: true, ..History::default() };
        for (host, mut parts) in series {
            // The one that grows has no number and comes last.
            parts.sort_by_key(|part| (part.sealed.is_none(), part.sealed));
            let ours = self.seen.host.as_ref() == Some(&host);
            let read =
                self.read_series::<Event>(&parts, Whose::Spool { writer_lives: self.seen.daemon || !ours });
            history.whole &= read.whole;
            for (part, line) in read.lines {
                self.fold(&mut history, &host, &parts[part].path, line, ours);
            }
        }
        // Lines behind the last one are lost: what they told is not known.
        let lost = |checkpoint: &Checkpoint| checkpoint.seq > history.last_seq;
        history.whole &= self.seen.host.is_none() || !self.checkpoint.as_ref().is_some_and(lost);
        self.check_texts(&mut history);
        self.check_notices(&mut history);
        history
    }

    /// Whether a compressed segment is all that there is of it: where the plain one is there too, that counts.
    pub(super) fn is_only_copy(&self, compressed: &str) -> bool {
        !self.seen.entries.contains_key(plain_of(compressed))
    }

    /// Compares the compressed segments with the plain ones that lie beside them.
    fn check_copies(&mut self) {
        for path in self.seen.entries.keys() {
            if !matches!(place_of(path), Some(Place::Compressed { .. })) || self.is_only_copy(path) {
                continue;
            }
            let plain = self.content(plain_of(path));
            if plain.is_some() && self.content(path) != plain {
                let what = "it is not what the segment beside it says, which counts";
                self.find(Kind::SegmentDiffers, path, what, self.unless_checkpointed());
            }
        }
    }

    fn fold(&mut self, history: &mut History, host: &Name, path: &str, line: Line<Event>, ours: bool) {
        if ours {
            history.last_seq = history.last_seq.max(line.seq);
        }
        if let Some((task, state)) = line.event.state() {
            self.fold_state(history, host, path, &line, task, state);
            let at_checkpoint = ours && !self.is_behind_checkpoint(line.seq);
            if let Some(told) = history.tasks.get(&task).filter(|_| at_checkpoint) {
                match told.state.is_ended() {
                    true => history.checked.remove(&task),
                    false => history.checked.insert(task, (told.state.clone(), told.spec_seq)),
                };
            }
        }
        if ours {
            let spec_of = |task| history.tasks.get(&task).and_then(|told| told.spec.as_ref());
            breaker::step(&mut history.breakers, &line.event, |task| Some(spec_of(task)?.queue.clone()));
            if !self.is_behind_checkpoint(line.seq) {
                history.breakers_checked.clone_from(&history.breakers);
            }
        }
        self.fold_notice(history, host, path, &line, ours);
        if matches!(line.event, Event::EditRefused { .. }) {
            return history.refused_edits.push(line);
        }
        if let Some(claim) = line.event.origin().map(|origin| origin.claim) {
            if let Some((_, earlier)) = history.answers.get(&claim) {
                let what = format!("lines {} and {} both answer claim {claim}", earlier.seq, line.seq);
                self.find(
                    Kind::AnsweredTwice,
                    path,
                    what,
                    by_hand("a command was carried out twice; see what it did"),
                );
            }
            history.answers.entry(claim).or_insert((host.clone(), line));
        }
    }

    fn fold_state(
        &mut self,
        history: &mut History,
        host: &Name,
        path: &str,
        line: &Line<Event>,
        task: TaskId,
        state: &State,
    ) {
        let seq = line.seq;
        let copy = || by_hand("bring the log back from a copy");
        if let Event::Submitted { spec, .. } = &line.event {
            let is_live = history.tasks.get(&task).is_some_and(|told| !told.state.is_ended());
            if is_live {
                self.find(
                    Kind::SubmittedTwice,
                    path,
                    format!("line {seq}: task {task} was there already"),
                    copy(),
                );
            }
            let (spec, text) = self.spec_of(spec);
            let told = Told {
                host: host.clone(),
                state: state.clone(),
                spec,
                spec_seq: seq,
                text,
                last_seq: seq,
                edited_after: 0,
                by_run: false,
            };
            history.tasks.insert(task, told);
            return;
        }
        self.check_given(history, host, path, line, task, state);
        let Some(told) = history.tasks.get_mut(&task) else {
            if history.whole {
                let what = format!("line {seq}: task {task} was never submitted");
                self.find(Kind::TaskNeverSubmitted, path, what, copy());
            }
            return;
        };
        let starts = told.state.live_attempt().is_none() && state.live_attempt().is_some();
        let expected = attempts(&told.state) + u32::from(starts);
        let edited = matches!(line.event, Event::Edited { .. });
        let given = line.event.spec().map(|spec| self.spec_of(spec));
        // Nothing but a retry moves what has ended.
        let retried = given.is_some() && !edited;
        let lives_again = retried && waits_or_is_ready(state) && tells_end(&told.state);
        if told.state.is_ended() && !lives_again {
            return self.find(
                Kind::MovedAfterEnd,
                path,
                format!("line {seq}: task {task} had ended"),
                copy(),
            );
        }
        if attempts(state) != expected {
            let what =
                format!("line {seq}: task {task} has attempt {} instead of {expected}", attempts(state));
            self.find(Kind::AttemptRepeated, path, what, copy());
        }
        if let Some(attempt) = told.state.live_attempt().filter(|_| edited) {
            let what = format!("line {seq}: attempt {attempt} of task {task} was going on");
            self.find(Kind::EditedWhileActive, path, what, copy());
        }
        if let Some((spec, text)) = given {
            // A retry may give it another deadline.
            if spec != told.spec {
                told.edited_after = attempts(&told.state);
            }
            // The line that named the earlier one names it still.
            history.texts.extend(told.text.take().map(|text| (text, false)));
            (told.spec, told.text, told.spec_seq) = (spec, text, seq);
        }
        if !edited {
            told.by_run = told.state.live_attempt().is_some();
        }
        told.state = state.clone();
        told.last_seq = seq;
    }

    /// Takes note of what a run gets, and of what one gives back that is over.
    fn check_given(
        &mut self,
        history: &mut History,
        host: &Name,
        path: &str,
        line: &Line<Event>,
        task: TaskId,
        state: &State,
    ) {
        let Some(told) = history.tasks.get(&task) else { return };
        let mut things = told.spec.as_ref().map(|spec| queue::wants(spec).things).unwrap_or_default();
        things.retain(|thing, _| matches!(thing, Thing::Lock(_)));
        let ledger = history.ledgers.entry(host.clone()).or_default();
        if let Some(assigned) = told.state.assigned() {
            ledger.release(task, assigned, &things);
        }
        let Some(assigned) = state.assigned() else { return };
        let conflict = ledger.conflict(assigned, &things);
        ledger.take(task, assigned, &things);
        if let Some((what, other)) = conflict {
            let what = format!("line {}: task {task} gets {what}, which task {other} has", line.seq);
            self.find(Kind::GivenTwice, path, what, by_hand("see what both have done with it"));
        }
    }

    fn spec_of(&self, spec: &SpecText) -> (Option<Arc<Spec>>, Option<String>) {
        match spec {
            SpecText::Here(spec) => (Some(Arc::clone(spec)), None),
            SpecText::Elsewhere { text_sha256 } => {
                let path = self.below(&self.seen.layout.text(text_sha256));
                let bytes = self.content(&path).filter(|_| self.seen.texts.contains(text_sha256));
                (bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()), Some(text_sha256.clone()))
            }
        }
    }

    fn check_texts(&mut self, history: &mut History) {
        for told in history.tasks.values() {
            if let Some(text) = &told.text {
                *history.texts.entry(text.clone()).or_default() |= !told.state.is_ended();
            }
        }
        let copy = || by_hand("bring it back from a copy");
        for (text, is_live) in &history.texts {
            let path = self.below(&self.seen.layout.text(text));
            if *is_live && !self.seen.entries.contains_key(&path) {
                self.find(Kind::TextMissing, path, "the spec of a live task is not there", copy());
            }
        }
        let named: Vec<(&String, String)> =
            self.seen.entries.keys().filter_map(|path| Some((path, text_name(path)?))).collect();
        for (path, text) in named {
            let is_right = self.seen.texts.contains(&text);
            match history.texts.get(&text) {
                Some(_) if !is_right => {
                    self.find(Kind::TextDiffers, path, "its content is not what its name says", copy());
                }
                None if history.whole => {
                    self.find(Kind::TextUnnamed, path, "no line names it", super::Mend::Remove);
                }
                Some(_) | None => {}
            }
        }
    }
}

/// The path of a segment when it is not compressed.
fn plain_of(compressed: &str) -> &str {
    compressed.rsplit_once('.').map_or(compressed, |(plain, _)| plain)
}

fn text_name(path: &str) -> Option<String> {
    match place_of(path) {
        Some(Place::Text { sha256 }) => Some(sha256),
        Some(_) | None => None,
    }
}
