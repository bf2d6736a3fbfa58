//! Notices: who is told of a task or a queue, when, and how often. Pure.
//!
//! A notice is a line of the log, in one batch with the line that it tells of. What a crash has cut off between them the
//! [`Ledger`] owes still. One that names a notifier is open until a line says what became of it; [`Turns`] says which goes next.

mod account;
mod ledger;
mod turns;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::id::{Name, RunId, TaskId};
use crate::json::Shape;
use crate::outcome::{Evidence, Outcome};
use crate::refusal::{Kind, Refusal};
use crate::time::Timestamp;

pub(crate) use ledger::{Checked, Ledger, Open};
pub(crate) use turns::Turns;

/// How long a notifier and its arguments may be, as JSON: each notice has them in its line.
const ARGV_BYTES_MAX: usize = 8 * 1024;
const NOTICES_MAX: u32 = 100;
const INTERVAL_SECONDS_MAX: u64 = 3600;
/// How long a notifier may take that says nothing else.
const TIMEOUT_SECONDS: u64 = 30;
const TIMEOUT_SECONDS_MAX: u64 = 600;

/// The keys of `notify` in a spec.
pub(crate) const SHAPE: Shape = Shape(&[
    ("argv", None),
    ("mode", None),
    ("notices_max", None),
    ("min_interval_seconds", None),
    ("timeout_seconds", None),
]);

/// The begin of the names of all variables that a notifier gets.
const VARIABLE: &str = "GITSPOOL_NOTICE_";

/// Of what somebody is told, by which program, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Notify {
    /// The notifier: a program and its arguments. Without it the lines of the log are all there is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) argv: Vec<String>,
    pub(crate) mode: Mode,
    /// How many notices there may be before the final one.
    pub(crate) notices_max: u32,
    /// How far apart they are at least.
    pub(crate) min_interval_seconds: u64,
    /// How long the notifier may take.
    pub(crate) timeout_seconds: u64,
}

impl Default for Notify {
    fn default() -> Notify {
        Notify {
            argv: Vec::new(),
            mode: Mode::Final,
            notices_max: 12,
            min_interval_seconds: 10,
            timeout_seconds: TIMEOUT_SECONDS,
        }
    }
}

/// Of what of a task somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Of nothing.
    None,
    /// Of its end.
    Final,
    /// Of what happens until then, too.
    Milestones,
}

impl Mode {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Mode::None => "none",
            Mode::Final => "final",
            Mode::Milestones => "milestones",
        }
    }
}

impl Notify {
    /// Checks what the types do not say.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        check_argv(&self.argv, "$.notify.argv")?;
        let refuse = |path: &str, message: String| Err(Refusal::new(Kind::InvalidValue, message).at(path));
        if self.notices_max > NOTICES_MAX {
            return refuse("$.notify.notices_max", format!("{NOTICES_MAX} notices are the most"));
        }
        if self.min_interval_seconds > INTERVAL_SECONDS_MAX {
            let message = format!("notices wait for each other {INTERVAL_SECONDS_MAX} seconds at most");
            return refuse("$.notify.min_interval_seconds", message);
        }
        if !(1..=TIMEOUT_SECONDS_MAX).contains(&self.timeout_seconds) {
            let message = format!("a notifier may take from 1 to {TIMEOUT_SECONDS_MAX} seconds");
            return refuse("$.notify.timeout_seconds", message);
        }
        Ok(())
    }

    /// In words, for people.
    pub(crate) fn words(&self) -> String {
        let often = match self.mode {
            Mode::Milestones => {
                format!(" (at most {}, {} s apart)", self.notices_max, self.min_interval_seconds)
            }
            Mode::None | Mode::Final => String::new(),
        };
        let by = match &self.argv[..] {
            [] => "in the log".to_owned(),
            argv => format!("by {}", serde_json::to_string(argv).unwrap_or_default()),
        };
        format!("{}{often}, {by}", self.mode.word())
    }
}

/// Checks a program and its arguments; none at all are checked by who needs some.
pub(crate) fn check_argv(argv: &[String], path: &str) -> Result<(), Refusal> {
    if argv.first().is_some_and(String::is_empty) {
        let refusal = Refusal::new(Kind::InvalidValue, "this names no program").at(format!("{path}[0]"));
        return Err(refusal.hint("write [\"notify-send\", \"done\"], say"));
    }
    let bytes = json!(argv).to_string().len();
    if bytes > ARGV_BYTES_MAX {
        let message = format!("{bytes} bytes are more than the {ARGV_BYTES_MAX} that a notifier may have");
        return Err(Refusal::new(Kind::TooLarge, message).at(path).hint("write a script, and name that"));
    }
    Ok(())
}

/// A notice's id: a UUIDv7, like a task's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct NoticeId(TaskId);

impl NoticeId {
    /// From an id that is nothing else's.
    pub(crate) fn new(id: TaskId) -> NoticeId {
        NoticeId(id)
    }
}

impl fmt::Display for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// A run of the task has begun.
    Started,
    /// A run has ended, and another attempt follows.
    TriedAgain,
    /// The daemon holds the task until somebody decides.
    Held,
    /// Its agent has said something.
    Note,
    /// It is over.
    Ended,
    /// A queue that had work has none any more.
    QueueEmpty,
}

/// How often each thing has happened.
pub(crate) type Reasons = BTreeMap<Reason, u64>;

/// How many tasks have ended with each outcome.
pub(crate) type Ended = BTreeMap<Outcome, u64>;

/// A notice, as its line has it: all that a notifier is told, and which one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notice {
    #[serde(rename = "notice")]
    pub(crate) id: NoticeId,
    pub(crate) queue: Name,
    /// Absent when it is of the queue itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) task: Option<TaskId>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) name: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) tenant: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) project: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) item: Option<String>,
    /// The word for where the task stands.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) status: Option<String>,
    /// The task's last run, if it had one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) run: Option<RunId>,
    pub(crate) reasons: Reasons,
    /// The how many-th notice it is of the task.
    pub(crate) count: u32,
    pub(crate) is_final: bool,
    /// Whether there will be no other before the final one.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) limit_reached: bool,
    /// How many things were not told, since the limit was reached.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub(crate) dropped: u64,
    /// What the log says of the last of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) evidence: Option<Evidence>,
    /// Of a queue: its tasks that have ended since it had none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(crate) ended: Ended,
    /// The notifier; none when the line is all there is.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) argv: Vec<String>,
    /// How long that may take.
    pub(crate) timeout_seconds: u64,
    /// Where it works, if that is there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) directory: Option<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The task or the queue that a notice is of. Notices of one go one after the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Task(TaskId),
    Queue(Name),
}

impl Notice {
    /// A notice of a queue, with nothing to tell.
    fn of_queue(id: NoticeId, queue: &Name) -> Notice {
        Notice {
            id,
            queue: queue.clone(),
            task: None,
            name: None,
            tenant: None,
            project: None,
            item: None,
            status: None,
            run: None,
            reasons: Reasons::new(),
            count: 1,
            is_final: true,
            limit_reached: false,
            dropped: 0,
            reason: None,
            evidence: None,
            ended: Ended::new(),
            argv: Vec::new(),
            timeout_seconds: TIMEOUT_SECONDS,
            directory: None,
        }
    }

    /// That a queue has no work any more.
    pub(crate) fn of_empty(id: NoticeId, queue: &Name, ended: Ended, argv: Vec<String>) -> Notice {
        let reasons = [(Reason::QueueEmpty, 1)].into();
        Notice { reasons, ended, argv, ..Notice::of_queue(id, queue) }
    }

    pub(crate) fn subject(&self) -> Subject {
        self.task.map_or_else(|| Subject::Queue(self.queue.clone()), Subject::Task)
    }

    /// The variable by which the processes of a notifier are known.
    pub(crate) fn marker(id: NoticeId) -> String {
        format!("{VARIABLE}ID={id}")
    }

    /// What a notifier gets on its stdin, for the `tries`th time.
    pub(crate) fn object(&self, at: Timestamp, spool: &Path, tries: u32) -> Value {
        let mut object = serde_json::to_value(self).expect("because a notice has string keys");
        if let Value::Object(map) = &mut object {
            map.retain(|key, _| !["argv", "directory", "timeout_seconds"].contains(&key.as_str()));
            map.extend([("at".to_owned(), json!(at)), ("tries".to_owned(), json!(tries))]);
            map.insert("spool".to_owned(), spool.to_string_lossy().into());
        }
        object
    }

    /// The same as variables: each key in capitals, numbers and texts as they are; what is an object as `a=1 b=2`.
    pub(crate) fn variables(object: &Value) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        for (key, value) in object.as_object().into_iter().flatten() {
            match (key.as_str(), value) {
                ("notice", value) => variables.push((format!("{VARIABLE}ID"), text_of(value))),
                ("evidence", Value::Object(evidence)) => {
                    for (key, value) in evidence {
                        variables.push((format!("{VARIABLE}{}", key.to_uppercase()), text_of(value)));
                    }
                }
                (key, Value::Object(counts)) => {
                    let counts: Vec<String> =
                        counts.iter().map(|(key, count)| format!("{key}={count}")).collect();
                    variables.push((format!("{VARIABLE}{}", key.to_uppercase()), counts.join(" ")));
                }
                (key, value) => variables.push((format!("{VARIABLE}{}", key.to_uppercase()), text_of(value))),
            }
        }
        variables
    }
}

fn text_of(value: &Value) -> String {
    // No variable can have it, whoever wrote it into a log.
    value.as_str().map_or_else(|| value.to_string(), |text| text.replace('\0', "\u{fffd}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{By, Event};
    use crate::id::Rank;
    use crate::jsonl::{self, LINE_BYTES_MAX, Line};
    use crate::spec::Spec;
    use crate::task::State;

    /// The final notice of a task of which all is as long as it can be, and takes as much room in JSON as it can.
    fn longest() -> Notice {
        let task = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let name: Name = "n".repeat(128).parse().unwrap();
        let control = "\u{1}";
        let notify = Notify { argv: vec!["tell".into(), control.repeat(1360)], ..Notify::default() };
        notify.check().expect("because it fits");
        let longer = Notify { argv: vec!["tell".into(), control.repeat(1370)], ..Notify::default() };
        assert_eq!(longer.check().unwrap_err().kind, Kind::TooLarge);
        let spec = Spec {
            run: Some(vec!["true".into()]),
            queue: name.clone(),
            name: Some(name.clone()),
            tenant: Some(name.clone()),
            project: Some(name),
            item: Some("\"".repeat(1024)),
            directory: Some(format!("/{}", control.repeat(4095))),
            notify: Some(notify),
            ..Spec::default()
        };
        spec.check().expect("because all of that may be");
        let text = control.repeat(100_000);
        let moved = Event::Moved {
            task,
            state: State::Ended {
                outcome: Outcome::Failed,
                attempts: 9,
                rank: Rank::default(),
                because: None,
            },
            by: By::Run,
            command: None,
            reason: Some(text.clone()),
            evidence: Some(Evidence { exit_code: Some(i32::MIN), signal: Some(9), message: Some(text) }),
            spec: None,
            broken: 0,
        };
        let mut ledger = Ledger::default();
        ledger.see(&moved, Timestamp::from_micros(1), Some(&Arc::new(spec)));
        ledger.notice_of(task, None, NoticeId::new(task)).unwrap()
    }

    #[test]
    fn however_much_there_is_to_tell_a_line_takes_it() {
        let event = Event::Notice(Box::new(longest()));
        let line = Line { seq: 1, at: Timestamp::from_micros(1), event };
        let mut bytes = Vec::new();
        jsonl::write(&mut bytes, &line);
        assert!(bytes.len() < LINE_BYTES_MAX * 3 / 4, "{} bytes", bytes.len());
        assert_eq!(jsonl::parse::<Event>(&bytes).lines, [line]);
    }

    #[test]
    fn the_variables_say_what_the_object_says_and_can_be_set() {
        let mut notice = longest();
        notice.name = None;
        notice.reason = Some("a\0b".to_owned());
        notice.ended = [(Outcome::Succeeded, 2), (Outcome::TimedOut, 1)].into();
        let object = notice.object(Timestamp::from_micros(1), Path::new("/spool"), 3);
        let variables: BTreeMap<String, String> = Notice::variables(&object).into_iter().collect();
        let of = |key: &str| variables.get(&format!("GITSPOOL_NOTICE_{key}")).map(String::as_str);
        assert_eq!((of("TRIES"), of("STATUS"), of("NAME")), (Some("3"), Some("failed"), None));
        assert_eq!((of("REASON"), of("ENDED")), (Some("a\u{fffd}b"), Some("succeeded=2 timed_out=1")));
        assert_eq!((of("EXIT_CODE"), of("IS_FINAL")), (Some("-2147483648"), Some("true")));
        assert_eq!((of("ARGV"), of("DIRECTORY"), object.get("argv")), (None, None, None));
        assert!(variables.iter().all(|(name, value)| !name.contains('=') && !value.contains('\0')));
        assert_eq!(variables.len(), object.as_object().unwrap().len() + 2, "the evidence is three");
    }
}
