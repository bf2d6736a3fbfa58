//! What must hold whatever the input is: functions from bytes that panic when it does not.
//!
//! For the fuzzing targets in `fuzz/`, for the replay of their corpora, and for `properties`. Not a part of the library:
//! it is compiled for tests, and with `--cfg fuzzing`, which the targets are built with.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::command::{self, Asked, Command, Submit};
use crate::defaults::Said;
use crate::edit::{Change, Edit};
use crate::event::{Event, Origin};
use crate::id::{Name, Rank, RunId, TaskId};
use crate::jsonl::{self, LINE_BYTES_MAX, Line};
use crate::key::Key;
use crate::layout::{self, Layout};
use crate::log::{Durability, Log};
use crate::queue::{Live, Queues};
use crate::refusal::Refusal;
use crate::spec::Spec;
use crate::task::State;
use crate::time::Timestamp;
use crate::{agent, escape, inbox, json, queue, record, redact, store};

/// Reads a dropped file, as each kind of command that its name could promise.
///
/// # Panics
/// When a command is not the same after it was printed and read again, when a refusal does not fit into a line of the log,
/// or when JSON is read otherwise than everybody reads it.
pub fn command(bytes: &[u8]) {
    for name in ["x.json", "x.sh", "x.md"] {
        match command::parse(name, bytes) {
            Ok(Asked { command, key, scope }) => {
                let mut printed = print(&command);
                scope.put_into(&mut printed);
                let given = |name: &str, value: &Option<Name>| {
                    value.as_ref().map(|value| (name.to_owned(), value.as_str().into()))
                };
                if let (Some(key), Value::Object(map)) = (&key, &mut printed) {
                    let Key { key, tenant, project, .. } = &**key;
                    map.insert("key".to_owned(), key.as_str().into());
                    map.extend(given("tenant", tenant).into_iter().chain(given("project", project)));
                }
                let again = command::parse("x.json", printed.to_string().as_bytes()).expect(name);
                assert_eq!(told(again.command), told(command), "{name}: {printed}");
                let scope = |key: Option<Box<Key>>| key.map(|key| key.sha256());
                assert_eq!(scope(again.key), scope(key), "{name}: {printed}");
            }
            Err(refusal) => fits_into_a_line(refusal),
        }
    }
    if let Ok(map) = json::parse_object(bytes) {
        assert_eq!(serde_json::from_slice::<Value>(bytes).ok(), Some(Value::Object(map)));
    }
    if let Ok(profile) = agent::parse(bytes) {
        let printed = serde_json::to_vec(&profile).expect("because a profile has string keys");
        assert_eq!(agent::parse(&printed), Ok(profile));
    }
    if let Err(refusal) = queue::parse_settings(bytes) {
        fits_into_a_line(refusal);
    }
}

/// A command without what only its first form said itself: printed it says all.
fn told(mut command: Command) -> Command {
    if let Command::Submit(submit) = &mut command {
        submit.said = Said::default();
    }
    command
}

/// A command as a file says it.
fn print(command: &Command) -> Value {
    let kind = command.kind();
    match command {
        Command::Submit(submit) => {
            let Submit { id, rank, held, spec, said: _ } = submit.as_ref();
            let mut value = serde_json::to_value(spec).expect("because a spec has string keys");
            let read: Spec = serde_json::from_value(value.clone()).expect("because it is a spec");
            assert_eq!(read, *spec, "a record of a spec is the spec");
            value["type"] = kind.into();
            value["id"] = id.map(|id| id.to_string()).into();
            value["rank"] = u8::from(*rank).into();
            value["held"] = (*held).into();
            value
        }
        Command::Cancel { target, reason } => json!({"type": kind, "target": target, "reason": reason}),
        Command::Hold { target }
        | Command::Release { target }
        | Command::Retry { target }
        | Command::Rm { target } => {
            json!({"type": kind, "target": target})
        }
        Command::Rerank { target, rank } => json!({"type": kind, "target": target, "rank": u8::from(*rank)}),
        Command::Set { queue, changes } => {
            let mut value = Value::Object(changes.clone());
            value["type"] = kind.into();
            value["queue"] = queue.as_str().into();
            value
        }
        Command::Pause { queue, reason } => json!({"type": kind, "queue": queue, "reason": reason}),
        Command::Resume { queue } => json!({"type": kind, "queue": queue}),
        Command::Edit(edit) => {
            let Edit { target, change, was_sha256 } = edit.as_ref();
            let (spec, set) = match change {
                Change::Spec(spec) => (serde_json::to_value(spec).ok(), None),
                Change::Set(set) => (None, Some(set)),
            };
            json!({"type": kind, "target": target, "spec": spec, "set": set, "was_sha256": was_sha256})
        }
        Command::Say { target, text, .. } => json!({"type": kind, "target": target, "text": text}),
        Command::MarkRead(mark) => json!({
            "type": kind, "reader": mark.reader, "version": mark.version, "all": mark.all, "tasks": mark.tasks,
        }),
        Command::Gc(asked) => {
            let mut value = serde_json::to_value(asked).expect("because it has string keys");
            value["type"] = kind.into();
            value
        }
        Command::Note(note) => json!({
            "type": kind, "token": note.token, "text": note.text, "summary": note.summary, "session": note.session,
        }),
    }
}

fn fits_into_a_line(refusal: Refusal) {
    assert!(!refusal.message.is_empty());
    let command = Origin::new(some_task(), "x".repeat(128));
    let event = Event::Refused { command, refusal: refusal.clipped() };
    jsonl::write(&mut Vec::new(), &Line { seq: jsonl::SEQ_MAX, at: Timestamp::from_micros(0), event });
}

fn some_task() -> TaskId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("because it is an id")
}

/// Reads a log: as the spool's, and as a run's.
///
/// # Panics
/// When a whole line is neither read nor told, when a cut changes what was read before it, or when what was read is not
/// the same after it was written again.
pub fn log(bytes: &[u8]) {
    reads_all_lines::<Event>(bytes);
    reads_all_lines::<record::Event>(bytes);
    let lines = jsonl::parse::<record::Event>(bytes).lines;
    if let Some(record) = record::fold(&lines) {
        let last = lines.last().map(|line| line.seq);
        assert_eq!(Some(record.last_seq), last);
        let printed = serde_json::to_vec(&record).expect("because a record has string keys");
        assert_eq!(serde_json::from_slice::<record::Record>(&printed).ok(), Some(record));
    }
    for (command, kind) in record::open_commands(&lines) {
        let event = record::Event::CommandEnded { command, kind, result: "done".to_owned() };
        jsonl::write(&mut Vec::new(), &Line { seq: 1, at: Timestamp::from_micros(0), event });
    }
    // It reads as nothing or as a time; which of the lines is the last does not depend on whether they can be read.
    let _ = jsonl::last_at(bytes);
}

/// An event of one of our logs.
trait Told: serde::Serialize + serde::de::DeserializeOwned + Clone + PartialEq + std::fmt::Debug {
    /// Of a type that a newer version writes: what it says is passed over, and so not written again.
    fn is_unknown(&self) -> bool;
}

impl Told for Event {
    fn is_unknown(&self) -> bool {
        *self == Event::Unknown
    }
}

impl Told for record::Event {
    fn is_unknown(&self) -> bool {
        *self == record::Event::Unknown
    }
}

fn reads_all_lines<E: Told>(bytes: &[u8]) {
    let parsed = jsonl::parse::<E>(bytes);
    let whole = usize::try_from(parsed.whole_bytes).expect("because it lies in memory");
    let newlines = bytes.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(parsed.lines.len() + parsed.bad.len(), newlines, "a line is read, or told");
    assert!(whole == 0 || bytes[whole - 1] == b'\n');
    assert!(parsed.lines.iter().all(|line| line.seq <= parsed.last_seq && line.seq <= jsonl::SEQ_MAX));
    // A cut at the begin of the last line takes this one, and no other.
    let before =
        bytes[..whole.saturating_sub(1)].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let earlier = jsonl::parse::<E>(&bytes[..before]);
    assert_eq!(earlier.lines[..], parsed.lines[..earlier.lines.len()]);
    for after in [0, 1, parsed.last_seq / 2, parsed.last_seq] {
        let wanted: Vec<Line<E>> = parsed.lines.iter().filter(|line| line.seq > after).cloned().collect();
        assert_eq!(jsonl::parse_where::<E>(bytes, |seq| seq > after).lines, wanted, "after {after}");
    }
    for line in parsed.lines.into_iter().filter(|line| !line.event.is_unknown()) {
        let text = serde_json::to_vec(&line).expect("because events have string keys");
        // Escapes may be longer than what they stood for.
        if text.len() < LINE_BYTES_MAX {
            let again = jsonl::parse::<E>(&[&text[..], b"\n"].concat());
            assert_eq!(again.lines, [line], "{}", String::from_utf8_lossy(&text));
        }
    }
}

/// Opens a log that is a file in `folder`, which is ours alone, and appends to it.
///
/// # Panics
/// When a line that could be read before cannot be read then, or a number is given twice; or when there is something to
/// repair in what was repaired.
pub fn repair(folder: &Path, bytes: &[u8]) {
    let path = folder.join(format!("{}.log", std::process::id()));
    store::remove(&path).expect("because the folder is ours");
    store::create_new(&path, bytes, 0o600).expect("because the folder is ours");
    let before = jsonl::parse::<Event>(bytes);
    let mut opened = Log::<Event>::open(&path, 0).expect("because every file can be opened as a log");
    assert_eq!(opened.lines, before.lines);
    let event = Event::DaemonStopped { pid: 1 };
    let appended = opened.log.append(Timestamp::from_micros(0), vec![event], Durability::Relaxed);
    let appended = appended.expect("because nobody else writes to it");
    assert!(appended[0].seq > before.last_seq, "a number is given once");
    let again = Log::<Event>::open(&path, 0).expect("because every file can be opened as a log");
    let expected: Vec<Line<Event>> = before.lines.into_iter().chain(appended).collect();
    assert_eq!(again.lines, expected);
    assert_eq!(again.repaired.len(), before.bad.len(), "nothing is torn any more: {:?}", again.repaired);
}

/// Reads a text as the name of each kind of thing that has one.
///
/// # Panics
/// When what was read is spelled otherwise, when a name leaves its folder, or when a look-up finds what it was not asked for.
pub fn names(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    spells::<Name>(text);
    spells::<TaskId>(text);
    spells::<RunId>(text);
    if let Ok(at) = text.parse::<Timestamp>() {
        assert_eq!(at.to_string().parse(), Ok(at), "{text}");
        stays_in_its_folder(&at.date().to_string());
    }
    if let Err(refusal) = command::form_of(text) {
        fits_into_a_line(refusal);
    }
    let receipt = inbox::receipt_name(text);
    stays_in_its_folder(&receipt);
    assert_eq!(receipt == text, text.parse::<Name>().is_ok(), "{text:?} and {receipt:?}");
    assert!(receipt == text || command::form_of(&receipt).is_err(), "a name that is none never becomes one");
    file_names(text);
    looks_up(text);
}

/// What is read is spelled as it was.
fn spells<T: std::str::FromStr + std::fmt::Display + PartialEq>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string(), text);
        stays_in_its_folder(text);
    }
}

fn stays_in_its_folder(name: &str) {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+~".contains(&byte);
    assert!(name.bytes().all(safe) && name != "." && name != ".." && !name.is_empty(), "{name:?}");
    assert!(name.len() <= 128, "{name:?} leaves no room for a claim and an ending");
}

/// The names of our own files, read and joined again.
fn file_names(text: &str) {
    let layout = Layout::new("/");
    let is_last = |path: std::path::PathBuf| path.file_name().is_some_and(|name| name == text);
    if let Some((claim, name)) = layout::parse_claim_name(text)
        && !name.is_empty()
        && !name.contains('/')
    {
        assert!(is_last(layout.claim(claim, name)), "{text:?}");
    }
    let queue: Name = "default".parse().expect("because it is a name");
    if let Some(task) = layout::parse_task_name(text) {
        assert!(is_last(layout.held_task(&queue, task)), "{text:?}");
    }
    if let Some((rank, task)) = layout::parse_queued_name(text) {
        let ready = layout.ready_task(&queue, rank.unwrap_or_default(), task);
        let ready = ready.file_name().and_then(|name| name.to_str()).expect("because it has a name");
        assert_eq!(
            layout::parse_queued_name(ready),
            Some((Some(rank.unwrap_or_default()), task)),
            "{text:?}"
        );
    }
    assert!(layout::parse_segment_name(text).is_none_or(|seq| seq < u64::MAX));
    assert!(layout::parse_command_name(text).is_none_or(|seq| seq < u64::MAX));
    let _ = layout::parse_aside_name(text);
}

/// Looks up a text among three tasks.
fn looks_up(text: &str) {
    let ids = ["01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099b8057"];
    let other = text.parse::<TaskId>().ok().map(|task| task.to_string());
    let mut queues = Queues::default();
    let tasks: Vec<TaskId> =
        ids.into_iter().map(ToOwned::to_owned).chain(other).filter_map(|id| id.parse().ok()).collect();
    for (number, task) in tasks.iter().enumerate() {
        let name = if number == 1 { text.parse().ok() } else { "build".parse().ok() };
        let spec = Spec { name, run: Some(vec!["true".to_owned()]), ..Spec::default() };
        let spec = Arc::new(spec);
        queues.insert(
            *task,
            Live { state: State::Ready { rank: Rank::default(), attempts: 0 }, spec, spec_seq: 1 },
        );
    }
    for found in queues.find(text) {
        let name = queues.task(found).and_then(|live| live.spec.name.as_ref()).map(Name::as_str);
        let run = text.split_once('.').map_or(text, |(task, _)| task);
        let asked = found.to_string().ends_with(text) || found.to_string() == run || name == Some(text);
        assert!(asked, "{text:?} found {found:?}, called {name:?}");
    }
    assert!(tasks.get(2).is_none_or(|task| queues.find(text).contains(task)), "{text}");
    for task in &tasks {
        let id = task.to_string();
        (0..=id.len() - 4)
            .for_each(|from| assert!(queues.find(&id[from..]).contains(task), "{}", &id[from..]));
    }
}

/// Shows a text to people.
///
/// # Panics
/// When what is shown could steer a terminal, is changed by being escaped or hidden once more, depends on how the text was
/// cut into pieces, or is longer than it may be.
pub fn shown(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    for (shown, may) in [(escape::line(text), ""), (escape::lines(text), "\n\t")] {
        assert!(is_harmless(&shown, may), "{shown:?}");
        assert_eq!(
            (escape::line(&escape::line(text)), escape::lines(&escape::lines(text))),
            (escape::line(text), escape::lines(text))
        );
    }
    let value = json!({ text: [text, {"a": text}] });
    let printed = escape::json(&value.to_string());
    assert!(is_harmless(&printed, ""), "{printed:?}");
    assert_eq!(serde_json::from_str::<Value>(&printed).ok(), Some(value.clone()));
    let (whole, _) = escape::bytes(bytes);
    assert!(is_harmless(&whole, "\n\t"), "{whole:?}");
    for cut in [bytes.len() / 3, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let (first, taken) = escape::bytes(&bytes[..cut]);
        assert!(cut - taken < 4);
        assert_eq!(first + &escape::bytes(&bytes[taken..]).0, whole, "cut at {cut}");
    }
    let hidden = redact::text(text);
    assert_eq!(redact::text(&hidden), hidden, "of {text:?}");
    let mut record = value;
    redact::value(&mut record);
    let once = record.clone();
    redact::value(&mut record);
    assert_eq!(record, once);
    for bytes_max in [0, 1, 5, 16, 100, 4096] {
        clips(text, bytes_max);
    }
}

fn is_harmless(text: &str, may: &str) -> bool {
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().all(|c| may.contains(c) || !(c.is_control() || turns(c)))
}

fn clips(text: &str, bytes_max: usize) {
    let clipped = jsonl::clip(text, bytes_max);
    let end = format!("... ({} bytes in all)", text.len());
    let kept = if clipped == text {
        text
    } else {
        clipped.strip_suffix(&end).expect("because it says that it was cut")
    };
    assert!(text.starts_with(kept));
    let in_line = serde_json::to_string(kept).expect("because it is a text");
    assert!(in_line.len() <= bytes_max + 2, "{in_line:?} is longer than {bytes_max}");
}

/// Whether a command is one that the target `planted` takes for a fault: a cancel whose target begins with four letters
/// that no input of the corpora has there. Each has a branch of its own, so that coverage leads from one to the next, and
/// nothing else does.
#[must_use]
pub fn is_planted(bytes: &[u8]) -> bool {
    let asked = command::parse("x.json", bytes).map(|asked| asked.command);
    let Ok(Command::Cancel { target, .. }) = asked else { return false };
    let mut letters = target.bytes();
    let mut is_next = |letter| letters.next() == Some(letter);
    is_next(b'w') && is_next(b'j') && is_next(b'q') && is_next(b'z')
}

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets but [`repair`], which needs a folder.
pub const TARGETS: [Target; 4] = [("command", command), ("log", log), ("names", names), ("shown", shown)];

#[cfg(test)]
mod tests {
    use super::*;

    /// The inputs that are kept for a target.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let inputs: Vec<_> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(inputs.len() > 10, "{} holds {} inputs", folder.display(), inputs.len());
        inputs
    }

    #[test]
    fn the_corpora_of_the_fuzzing_targets_hold() {
        for (target, holds) in TARGETS {
            corpus(target).iter().for_each(|input| holds(input));
        }
        let folder = tempfile::tempdir().unwrap();
        corpus("log").iter().chain(&corpus("repair")).for_each(|input| repair(folder.path(), input));
    }

    #[test]
    fn every_target_has_its_program_and_its_corpus() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let names = TARGETS.iter().map(|(name, _)| *name).chain(["repair"]);
        for name in names {
            let program =
                std::fs::read_to_string(top.join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
            assert!(program.contains(&format!("fuzzing::{name}(")), "{program}");
            assert!(!corpus(name).is_empty());
        }
    }
}
