//! What must hold of a spool that a daemon has taken up and brought to rest, whatever had happened to it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::pauses;
use super::told::told;
use super::world::{self, World};
use crate::answer::Receipt;
use crate::command;
use crate::event::{By, Event, SpecText};
use crate::fsck;
use crate::id::{RunId, TaskId};
use crate::jsonl::{self, Line};
use crate::notice::NoticeId;
use crate::picture;
use crate::queue;
use crate::reader::{Mark, Reader};
use crate::record;
use crate::resource::{Assigned, Ledger, Things};
use crate::simulated::{Recorded, Tree, on};
use crate::spec::Spec;
use crate::task::State;

/// A line of the spool's log.
pub(super) type SpoolLine = Line<Event>;

pub(super) type Files = BTreeMap<String, Rc<Vec<u8>>>;

/// What somebody could see before a crash, and so may rely on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    /// Receipts, by their claims: the line that answers, and whether the command is accepted.
    receipts: BTreeMap<String, (u64, bool)>,
    /// The folders in which tasks lay that had ended.
    ended: BTreeMap<TaskId, String>,
    /// The runs whose agents had started.
    pub(super) begun: Vec<RunId>,
    /// The notices that notifiers had taken.
    pub(super) taken: Vec<NoticeId>,
    /// How often a file of this name was dropped, and how often so that it was on disk.
    dropped: BTreeMap<String, (usize, usize)>,
}

impl Seen {
    /// What could be seen now and, on another machine, earlier.
    pub(super) fn and(mut self, earlier: &Seen) -> Seen {
        self.receipts.extend(earlier.receipts.clone());
        self.ended.extend(earlier.ended.clone());
        self.dropped.clone_from(&earlier.dropped);
        self
    }
}

/// The plain files of the spool, by their paths from its folder.
fn files_of(tree: &Tree) -> Files {
    let below =
        |(path, bytes): (String, Rc<Vec<u8>>)| Some((path.strip_prefix("/spool/")?.to_owned(), bytes));
    tree.files().into_iter().filter_map(below).collect()
}

impl World {
    /// What could be seen before a call that changed the disk, after so many others.
    pub(super) fn seen(&self, recorded: &Recorded, steps: u64) -> Seen {
        let mut seen = Seen::default();
        for (path, bytes) in files_of(&recorded.tree) {
            let parts: Vec<&str> = path.split('/').collect();
            if let ["receipts", ..] = parts[..]
                && let Ok(receipt) = serde_json::from_slice::<Receipt>(&bytes)
            {
                seen.receipts.insert(receipt.claim.to_string(), (receipt.seq, receipt.accepted));
            }
            if let [
                "queue",
                _,
                folder @ ("done" | "failed" | "cancelled" | "blocked" | "skipped" | "expired"),
                _,
                name,
            ] = parts[..]
                && let Some(task) = crate::layout::parse_task_name(name)
            {
                seen.ended.insert(task, folder.to_owned());
            }
        }
        seen.begun.clone_from(&recorded.begun);
        seen.taken.clone_from(&recorded.taken);
        for (name, step) in &self.dropped {
            let (all, on_disk) = seen.dropped.entry(name.clone()).or_default();
            *all += 1;
            *on_disk += usize::from(*step <= steps);
        }
        seen
    }

    /// The lines of the spool's log, whichever can be read; and where some cannot, how many.
    pub(super) fn lines(&self, files: &Files) -> (Vec<Line<Event>>, usize) {
        let folder = format!("events/{}/", self.host);
        let mut parts: Vec<(u64, &Rc<Vec<u8>>)> = Vec::new();
        for (path, bytes) in files {
            let Some(name) = path.strip_prefix(&folder) else { continue };
            parts.push((crate::layout::parse_segment_name(name).unwrap_or(u64::MAX), bytes));
        }
        parts.sort_by_key(|(last, _)| *last);
        let parsed = parts.iter().map(|(_, bytes)| jsonl::parse::<Event>(bytes));
        parsed.fold((Vec::new(), 0), |(mut lines, bad), parsed| {
            lines.extend(parsed.lines);
            (lines, bad + parsed.bad.len())
        })
    }

    /// The logs, as they are, for people.
    pub(super) fn logs(&self) -> String {
        let files = files_of(&on(|machine| machine.tree.clone()));
        let logs = files.into_iter().filter(|(path, _)| path.ends_with(".jsonl"));
        logs.map(|(path, bytes)| format!("{path}\n{}", String::from_utf8_lossy(&bytes))).collect()
    }

    fn has_torn_lines(&self) -> bool {
        let files = files_of(&on(|machine| machine.tree.clone()));
        files
            .iter()
            .any(|(path, bytes)| path.ends_with(".jsonl") && !jsonl::parse::<Event>(bytes).bad.is_empty())
    }

    pub(super) fn lines_of(&self, tree: &Tree) -> Vec<Line<Event>> {
        self.lines(&files_of(tree)).0
    }

    /// Checks all that must hold now, at rest, when `before` could be seen and read before the last crash.
    ///
    /// # Errors
    /// What does not hold, in words.
    pub(super) fn check(&self, seen: &Seen, before: &[Line<Event>]) -> Result<(), String> {
        let files = files_of(&on(|machine| machine.tree.clone()));
        let (lines, bad) = self.lines(&files);
        numbered(&lines, bad)?;
        kept(&lines, before, seen)?;
        answered(&files, &lines, seen)?;
        given(&lines)?;
        pauses::told(&lines)?;
        told(&files, &lines)?;
        read(&files, &lines)?;
        self.placed(&files, &lines, seen)?;
        self.ran(&files, &lines)
    }

    /// Ends the daemon in order, and has fsck look.
    pub(super) fn check_at_end(&mut self) -> Result<(), String> {
        self.end_daemon().expect("because nobody is killed");
        self.settle().expect("because nobody is killed");
        let findings = fsck::check_in_memory(&self.spool).map_err(|error| error.to_string())?;
        // A line that a power cut has torn stays in the log.
        let torn = |path: &str| path.ends_with(".jsonl") && self.has_torn_lines();
        // The next start removes what a killed supervisor was writing.
        let aside = |path: &str| path.starts_with(".local/tmp/");
        let findings = findings.into_iter().filter(|finding| !torn(&finding.path) && !aside(&finding.path));
        let words: Vec<String> = findings.map(|at| format!("{}: {}", at.path, at.what)).collect();
        if words.is_empty() { Ok(()) } else { Err(format!("fsck finds {}", words.join("; "))) }
    }

    /// Each task lies where the log says, and nowhere else.
    fn placed(&self, files: &Files, lines: &[Line<Event>], seen: &Seen) -> Result<(), String> {
        let mut states: BTreeMap<TaskId, State> = BTreeMap::new();
        let mut lived_again = BTreeSet::new();
        let mut specs: BTreeMap<TaskId, Spec> = BTreeMap::new();
        for line in lines {
            let Some((task, state)) = line.event.state() else { continue };
            let retried = matches!(line.event, Event::Moved { by: By::Command, spec: Some(_), .. });
            let ended = states.get(&task).filter(|state| state.is_ended());
            if retried {
                lived_again.insert(task);
            }
            if ended.is_some_and(|state| !retried || state.word() == "succeeded") {
                return Err(format!("line {} moves {task}, which had ended", line.seq));
            }
            states.insert(task, state.clone());
            let deadline = specs.get(&task).and_then(|spec| spec.deadline_at);
            let starts = matches!(line.event, Event::Moved { state: State::Active { .. }, .. });
            // The line is written a moment after it was decided.
            let moment = Duration::from_secs(1);
            if starts && deadline.is_some_and(|deadline| deadline.plus(moment) < line.at) {
                return Err(format!("line {} starts {task} behind its deadline", line.seq));
            }
            if let Some(text) = line.event.spec() {
                specs.insert(task, spec_of(files, text).ok_or(format!("line {} names no spec", line.seq))?);
            }
        }
        for (task, state) in &states {
            let name = task.to_string();
            let is_whole = |path: &str| !command::is_in_the_making(path);
            let of_task =
                |path: &&String| path.starts_with("queue/") && path.contains(&name) && is_whole(path);
            let places: Vec<&String> = files.keys().filter(of_task).collect();
            let expected = picture::place(self.layout(), &world::queue(), *task, state);
            let expected =
                expected.strip_prefix("/spool").unwrap_or(&expected).to_string_lossy().into_owned();
            if places != [&expected] {
                return Err(format!("{task} is {state:?} and lies at {places:?}"));
            }
            let spec = serde_json::from_slice::<Spec>(&files[&expected]);
            let spec = spec.map_err(|error| format!("{expected}: {error}"))?;
            if specs.get(task) != Some(&spec) {
                return Err(format!("{expected} says {spec:?}, and the log {:?}", specs.get(task)));
            }
            let folder = expected.split('/').nth(2).unwrap_or_default();
            let changed = seen.ended.get(task).is_some_and(|before| before != folder);
            if changed && !lived_again.contains(task) {
                return Err(format!("{task} had ended in {:?} and is {state:?}", seen.ended[task]));
            }
        }
        // Nothing holds a slot or a task up for ever.
        let now = crate::clock::now();
        let lives = |task: &TaskId| states.get(task).is_some_and(|state| !state.is_ended());
        let may_rest = |task: &TaskId, state: &State| match state {
            State::Held { .. } | State::Ended { .. } => true,
            State::Waiting { needs: true, .. } => specs[task].edges().any(|(_, need)| lives(&need)),
            State::Waiting { until, .. } => until.is_some_and(|until| until > now),
            State::Ready { .. } | State::Active { .. } | State::Cancelling { .. } => false,
        };
        let waits = states.iter().find(|(task, state)| !may_rest(task, state));
        if let Some((task, state)) = waits {
            return Err(format!("{task} stays {state:?}"));
        }
        match seen.ended.keys().find(|task| !states.contains_key(task)) {
            Some(task) => Err(format!("{task} had ended and is not known")),
            None => Ok(()),
        }
    }

    /// Each run began once at most, and its record is what its log says.
    fn ran(&self, files: &Files, lines: &[Line<Event>]) -> Result<(), String> {
        let begun = on(|machine| machine.processes.begun.clone());
        let mut starts = BTreeSet::new();
        for run in &begun {
            if !starts.insert(*run) {
                return Err(format!("the agent of {run} was started twice"));
            }
        }
        let mut ends = BTreeMap::new();
        for line in lines {
            // Who cancels a task that is to be tried again ends it otherwise than its last run.
            if let Event::Moved { by: By::Run, .. } = line.event
                && let Some((task, State::Ended { outcome, attempts, .. })) = line.event.state()
            {
                ends.insert(RunId { task, attempt: *attempts }, *outcome);
            }
        }
        for run in &begun {
            let started = |line: &Line<Event>| {
                let state = line.event.state().filter(|(task, _)| *task == run.task).map(|(_, state)| state);
                matches!(state, Some(State::Active { attempt, .. }) if *attempt == run.attempt)
            };
            if !lines.iter().any(started) {
                return Err(format!("the agent of {run} was started, and no line says so"));
            }
        }
        for (run, outcome) in ends.iter().filter(|(run, _)| run.attempt > 0) {
            let folder = format!("runs/{}/{run}", run.task.date());
            let log = files.get(&format!("{folder}/events.jsonl")).ok_or(format!("{run} has no log"))?;
            let parsed = jsonl::parse::<record::Event>(log);
            let begins = |line: &&Line<record::Event>| matches!(line.event, record::Event::Started { .. });
            // A line that a power cut has torn may be the first.
            let begins = parsed.lines.iter().filter(begins).count();
            if begins + parsed.bad.len() == 0 || begins > 1 {
                return Err(format!("{run} has begun {begins} times"));
            }
            let record = record::of_log(*run, &parsed).ok_or(format!("{run} has not begun"))?;
            if record.outcome != Some(*outcome) {
                return Err(format!("{run} ended as {:?}, its task as {outcome:?}", record.outcome));
            }
            let picture = files.get(&format!("{folder}/run.json"));
            if picture.is_none_or(|picture| **picture != picture::pretty(&record)) {
                let picture = String::from_utf8_lossy(picture.map_or(&[], |picture| &picture[..]));
                return Err(format!("run.json of {run} is not what its log says: {picture:?}"));
            }
        }
        Ok(())
    }
}

/// The spec that a line carries or names.
pub(super) fn spec_of(files: &Files, text: &SpecText) -> Option<Spec> {
    match text {
        SpecText::Here(spec) => Some((**spec).clone()),
        SpecText::Elsewhere { text_sha256 } => {
            serde_json::from_slice(files.get(&format!("texts/{text_sha256}"))?).ok()
        }
    }
}

/// The lines have numbers without gaps, but behind those that cannot be read.
fn numbered(lines: &[Line<Event>], bad: usize) -> Result<(), String> {
    let gaps = lines.windows(2).filter(|pair| pair[1].seq != pair[0].seq + 1).count();
    let falls = lines.windows(2).any(|pair| pair[1].seq <= pair[0].seq);
    let begins = lines.first().is_none_or(|line| line.seq == 1 || bad > 0);
    if falls || gaps > bad || !begins {
        let numbers: Vec<u64> = lines.iter().map(|line| line.seq).collect();
        return Err(format!("the lines are numbered {numbers:?}, and {bad} cannot be read"));
    }
    Ok(())
}

/// No unit is given to a run that another has, nor a lock that excludes it.
fn given(lines: &[Line<Event>]) -> Result<(), String> {
    let mut ledger = Ledger::default();
    let mut live: BTreeMap<TaskId, (Assigned, Things)> = BTreeMap::new();
    let mut things: BTreeMap<TaskId, Things> = BTreeMap::new();
    for line in lines {
        let Some((task, state)) = line.event.state() else { continue };
        if let Some(SpecText::Here(spec)) = line.event.spec() {
            things.insert(task, queue::wants(spec).things);
        }
        if let Some((assigned, had)) = live.remove(&task) {
            ledger.release(task, &assigned, &had);
        }
        if let Some(assigned) = state.assigned() {
            let wanted = things.get(&task).cloned().unwrap_or_default();
            if let Some((what, other)) = ledger.conflict(assigned, &wanted) {
                return Err(format!("line {} gives {task} {what}, which {other} has", line.seq));
            }
            ledger.take(task, assigned, &wanted);
            live.insert(task, (assigned.clone(), wanted));
        }
    }
    Ok(())
}

/// What could be read, and what was answered, is still in the log.
fn kept(lines: &[Line<Event>], before: &[Line<Event>], seen: &Seen) -> Result<(), String> {
    let by_number: BTreeMap<u64, &Line<Event>> = lines.iter().map(|line| (line.seq, line)).collect();
    for line in before {
        if by_number.get(&line.seq) != Some(&line) {
            return Err(format!("line {} was in the log and is not any more", line.seq));
        }
    }
    for (claim, (seq, accepted)) in &seen.receipts {
        let line = by_number.get(seq).and_then(|line| Receipt::of(line));
        let same = |(origin, receipt): &(crate::event::Origin, Receipt)| {
            origin.claim.to_string() == *claim && receipt.accepted == *accepted
        };
        if !line.as_ref().is_some_and(same) {
            return Err(format!("claim {claim} was answered by line {seq}, which says {line:?}"));
        }
    }
    Ok(())
}

/// The reader's file tells all marks.
fn read(files: &Files, lines: &[Line<Event>]) -> Result<(), String> {
    let mark = |line: &Line<Event>| {
        let Event::Marked { mark, .. } = &line.event else { return None };
        Some((line.seq, mark.clone()))
    };
    let marks: Vec<(u64, Mark)> = lines.iter().filter_map(mark).collect();
    let Some((first, _)) = marks.first() else { return Ok(()) };
    let bytes = files.get("readers/me.json").ok_or("what was read is in no file")?;
    let reader: Reader = serde_json::from_slice(bytes).map_err(|error| format!("the reader: {error}"))?;
    match reader.begun == *first && reader.reflects(marks.iter().map(|(seq, mark)| (*seq, mark))) {
        true => Ok(()),
        false => Err(format!("the marks {marks:?} have become {reader:?}")),
    }
}

/// Each command is answered once, by a line and a receipt, and nothing of it lies around.
fn answered(files: &Files, lines: &[Line<Event>], seen: &Seen) -> Result<(), String> {
    let mut receipts: BTreeSet<(u64, String)> = BTreeSet::new();
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("receipts/")) {
        let receipt: Receipt = serde_json::from_slice(bytes).map_err(|error| format!("{path}: {error}"))?;
        let refused = receipt.refused_file.as_ref().is_none_or(|refused| files.contains_key(refused));
        if !refused {
            return Err(format!("{path} names a refused file that is not there"));
        }
        receipts.insert((receipt.seq, receipt.claim.to_string()));
    }
    let mut answers: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        let Some(origin) = line.event.origin() else { continue };
        *answers.entry(&origin.name).or_default() += 1;
        if !receipts.contains(&(line.seq, origin.claim.to_string())) {
            return Err(format!("line {} has no receipt", line.seq));
        }
    }
    for (name, (all, on_disk)) in &seen.dropped {
        let answers = answers.get(name.as_str()).copied().unwrap_or_default();
        // Who drops a file while another of its name is in the inbox has put it in that one's place.
        if answers > *all || (answers == 0 && *on_disk > 0) {
            return Err(format!("{name} was dropped {all} times and answered {answers} times"));
        }
    }
    let left = files.keys().find(|path| path.starts_with(".local/claimed/") || path.starts_with("inbox/"));
    match left.filter(|path| !path.ends_with(".tmp")) {
        Some(path) => Err(format!("{path} lies around")),
        None => Ok(()),
    }
}
