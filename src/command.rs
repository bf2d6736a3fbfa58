//! Commands: what a dropped file asks for. Pure: bytes in, a command or a refusal out.

mod mark_read;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::defaults::Said;
use crate::edit::{self, Edit};
use crate::id::{NAME_RULE, Name, Rank, TaskId};
use crate::json::{self, Shape};
use crate::key::Key;
use crate::queue;
use crate::refusal::{Kind, Refusal};
use crate::retention;
use crate::scope::Scope;
use crate::spec::{self, Spec};

pub(crate) use mark_read::MarkRead;

/// The largest command file, in bytes.
pub(crate) const BYTES_MAX: u64 = 1024 * 1024;

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Submit(Box<Submit>),
    /// Ends a task, whether it runs or not.
    Cancel {
        target: String,
        reason: Option<String>,
    },
    /// Keeps a ready task from starting until it is released.
    Hold {
        target: String,
    },
    Release {
        target: String,
    },
    Rerank {
        target: String,
        rank: Rank,
    },
    /// Gives a task that has not started another spec.
    Edit(Box<Edit>),
    /// Changes the settings of a queue.
    Set {
        queue: Name,
        changes: Map<String, Value>,
    },
    /// Has a queue start nothing, until it is resumed.
    Pause {
        queue: Name,
        reason: Option<String>,
    },
    Resume {
        queue: Name,
    },
    /// Gives a task that has ended without success a further attempt.
    Retry {
        target: String,
    },
    /// Speaks to the agent of a live run.
    Say {
        how: Say,
        target: String,
        text: String,
    },
    /// What an agent tells about its own run; the run is the one whose secret is given.
    Note(Note),
    /// Says what somebody has seen.
    MarkRead(MarkRead),
    /// Removes a task that has ended, or a run of it.
    Rm {
        target: String,
    },
    /// Removes what has ended long since.
    Gc(retention::Asked),
}

/// A command, the key by which a repeat of it is known, and the scope outside of which it sees no task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) command: Command,
    pub(crate) key: Option<Box<Key>>,
    /// Of a submit the whole spool: its own scope stands in the spec.
    pub(crate) scope: Scope,
}

/// A new task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Submit {
    /// Chosen by who submits, so that a repeat is seen as one; made at admission when absent.
    pub(crate) id: Option<TaskId>,
    pub(crate) rank: Rank,
    pub(crate) held: bool,
    pub(crate) spec: Spec,
    /// What of that the command says itself.
    pub(crate) said: Said,
}

/// When an agent is to hear what is said to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Say {
    /// Between two steps of the turn.
    Steer,
    /// After the turn.
    FollowUp,
    /// At once; the turn ends.
    Interrupt,
}

/// An agent's word about its run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Note {
    pub(crate) token: String,
    /// A line for the run's log.
    pub(crate) text: Option<String>,
    /// What came of the run, in the agent's words.
    pub(crate) summary: Option<String>,
    /// The id of the agent's conversation.
    pub(crate) session: Option<String>,
}

/// A command to one run, as the daemon writes it into the run's `commands/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ToRun {
    Cancel { reason: Option<String> },
    Note { text: Option<String>, summary: Option<String>, session: Option<String> },
}

impl ToRun {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            ToRun::Cancel { .. } => "cancel",
            ToRun::Note { .. } => "note",
        }
    }
}

/// The types of commands, as they stand in files.
pub(crate) const TYPES: [&str; 17] = [
    "submit",
    "cancel",
    "hold",
    "release",
    "rerank",
    "edit",
    "retry",
    "set",
    "pause",
    "resume",
    "steer",
    "follow_up",
    "interrupt",
    "note",
    "mark_read",
    "gc",
    "rm",
];

/// Whether a command of this type is passed on to a run when it is accepted, and changes what is read of it.
pub(crate) fn is_for_runs(kind: &str) -> bool {
    matches!(kind, "steer" | "follow_up" | "interrupt" | "note")
}

impl Command {
    /// The command's type, as it stands in files.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Command::Submit(_) => "submit",
            Command::Cancel { .. } => "cancel",
            Command::Hold { .. } => "hold",
            Command::Release { .. } => "release",
            Command::Rerank { .. } => "rerank",
            Command::Edit(_) => "edit",
            Command::Set { .. } => "set",
            Command::Pause { .. } => "pause",
            Command::Resume { .. } => "resume",
            Command::Retry { .. } => "retry",
            Command::Say { how, .. } => how.kind(),
            Command::Note(_) => "note",
            Command::MarkRead(_) => "mark_read",
            Command::Gc(_) => "gc",
            Command::Rm { .. } => "rm",
        }
    }
}

impl Say {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Say::Steer => "steer",
            Say::FollowUp => "follow_up",
            Say::Interrupt => "interrupt",
        }
    }
}

/// What kind of command a file's name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Script,
    Prompt,
}

/// Whether a name in the inbox is not ours yet: hidden, a backup, or still being written.
pub(crate) fn is_in_the_making(name: &str) -> bool {
    name.starts_with('.') || [".tmp", ".part", ".swp", "~"].iter().any(|end| name.ends_with(end))
}

/// Reads a dropped file's name.
pub(crate) fn form_of(name: &str) -> Result<Form, Refusal> {
    if name.parse::<Name>().is_err() {
        let refusal = Refusal::new(Kind::BadName, format!("{name:?} is not {NAME_RULE}"));
        return Err(refusal.hint(format!("drop it as {:?}, say", safe_name(name))));
    }
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("json") => Ok(Form::Json),
        Some("sh") => Ok(Form::Script),
        Some("md") => Ok(Form::Prompt),
        _ => {
            let refusal = Refusal::new(Kind::BadExtension, format!("{name:?} tells no kind of command"));
            Err(refusal.hint("name it .json (a command), .sh (a script) or .md (a prompt)"))
        }
    }
}

/// A name that is like a bad one, and would be taken.
fn safe_name(name: &str) -> String {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    let end = if ["json", "sh", "md"].contains(&end) { end } else { "json" };
    let safe: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    let safe: String = safe.trim_matches(['.', '-', '_']).chars().take(100).collect();
    format!("{}.{end}", if safe.is_empty() { "command" } else { &safe })
}

/// Reads a dropped file: its name tells the form, a task takes its name from it.
pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Asked, Refusal> {
    let form = form_of(name)?;
    if bytes.is_empty() {
        return Err(Refusal::new(Kind::Empty, "the file is empty"));
    }
    let Asked { mut command, key, scope } = match form {
        Form::Json => parse_json(bytes)?,
        Form::Script => submit(Spec { script: Some(json::utf8(bytes)?.to_owned()), ..Spec::default() })?,
        Form::Prompt => submit(Spec { prompt: Some(json::utf8(bytes)?.to_owned()), ..Spec::default() })?,
    };
    if let Command::Submit(submit) = &mut command
        && submit.spec.name.is_none()
    {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        // A name that could be taken for an id would find another task, or none.
        submit.spec.name = if stem.parse::<TaskId>().is_ok() { None } else { stem.parse().ok() };
    }
    Ok(Asked { command, key, scope })
}

fn submit(spec: Spec) -> Result<Asked, Refusal> {
    spec.check()?;
    let command = Command::Submit(Box::new(Submit { spec, ..Submit::default() }));
    Ok(Asked { command, key: None, scope: Scope::default() })
}

const TARGET: Shape = Shape(&[("type", None), ("target", None)]);
const CANCEL: Shape = Shape(&[("type", None), ("target", None), ("reason", None)]);
const RERANK: Shape = Shape(&[("type", None), ("target", None), ("rank", None)]);
const PAUSE: Shape = Shape(&[("type", None), ("queue", None), ("reason", None)]);
const RESUME: Shape = Shape(&[("type", None), ("queue", None)]);
const SAY: Shape = Shape(&[("type", None), ("target", None), ("text", None)]);
const NOTE: Shape =
    Shape(&[("type", None), ("token", None), ("text", None), ("summary", None), ("session", None)]);

fn parse_json(bytes: &[u8]) -> Result<Asked, Refusal> {
    let mut map = json::parse_object(bytes)?;
    let kind = match map.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(_) => return Err(Refusal::new(Kind::WrongType, "a type is a text").at("$.type")),
        None if spec::WORK_KEYS.iter().any(|key| map.contains_key(*key)) => "submit".to_owned(),
        None => return Err(missing_type(&map)),
    };
    let key = Key::take(&mut map, &kind)?.map(Box::new);
    let scope = if kind == "submit" { Scope::default() } else { Scope::take(&mut map)? };
    parse_kind(map, &kind).map(|command| Asked { command, key, scope })
}

fn parse_kind(map: Map<String, Value>, kind: &str) -> Result<Command, Refusal> {
    match kind {
        "submit" => parse_submit(map),
        "cancel" => {
            of_shape(map, &CANCEL).map(|Targeted { target, reason, .. }| Command::Cancel { target, reason })
        }
        "hold" => of_shape(map, &TARGET).map(|Targeted { target, .. }| Command::Hold { target }),
        "release" => of_shape(map, &TARGET).map(|Targeted { target, .. }| Command::Release { target }),
        "rerank" => of_shape(map, &RERANK).map(|Reranked { target, rank }| Command::Rerank { target, rank }),
        "edit" => edit::parse(map).map(|edit| Command::Edit(Box::new(edit))),
        "set" => parse_set(map),
        "pause" => of_shape(map, &PAUSE).map(|OfQueue { queue, reason }| Command::Pause { queue, reason }),
        "resume" => of_shape(map, &RESUME).map(|OfQueue { queue, .. }| Command::Resume { queue }),
        "retry" => of_shape(map, &TARGET).map(|Targeted { target, .. }| Command::Retry { target }),
        "steer" => parse_say(map, Say::Steer),
        "follow_up" => parse_say(map, Say::FollowUp),
        "interrupt" => parse_say(map, Say::Interrupt),
        "note" => of_shape(map, &NOTE).map(Command::Note),
        "mark_read" => mark_read::parse(map).map(Command::MarkRead),
        "gc" => of_shape(map, &retention::ASKED).map(Command::Gc),
        "rm" => of_shape(map, &TARGET).map(|Targeted { target, .. }| Command::Rm { target }),
        other => Err(Refusal::unknown(Kind::UnknownType, "type", other, &TYPES).at("$.type")),
    }
}

/// A command without a type is a submit whose work key was mistyped, or nothing that we know.
fn missing_type(map: &Map<String, Value>) -> Refusal {
    match json::check_keys(map, &spec::SUBMIT, "$") {
        Err(refusal) if refusal.hint.as_ref().is_some_and(|hint| hint.starts_with("did you mean")) => refusal,
        _ => {
            let hint = "say {\"run\": [...]}, {\"shell\": ...}, {\"prompt\": ...}, or give a \"type\"";
            Refusal::new(Kind::MissingKey, "the command says neither what to do nor its type")
                .at("$")
                .hint(hint)
        }
    }
}

fn parse_submit(mut map: Map<String, Value>) -> Result<Command, Refusal> {
    #[derive(Deserialize)]
    struct Beside {
        id: Option<TaskId>,
        #[serde(default)]
        rank: Rank,
        #[serde(default)]
        held: bool,
    }
    json::check_keys(&map, &spec::SUBMIT, "$")?;
    map.remove("type");
    spec::check_said(&map)?;
    let said = Said::of(&map);
    let beside = ["id", "rank", "held"].into_iter().filter_map(|key| map.remove_entry(key)).collect();
    let Beside { id, rank, held } = json::typed(beside)?;
    let spec = spec::of(map)?;
    Ok(Command::Submit(Box::new(Submit { id, rank, held, spec, said })))
}

fn parse_set(mut map: Map<String, Value>) -> Result<Command, Refusal> {
    json::check_keys(&map, &queue::SET, "$")?;
    map.remove("type");
    let OfQueue { queue, .. } = json::typed(map.remove_entry("queue").into_iter().collect())?;
    // What a queue without any settings would become by it.
    let mut alone = Map::new();
    queue::change(&mut alone, &map);
    queue::parse_settings(Value::Object(alone).to_string().as_bytes())?;
    Ok(Command::Set { queue, changes: map })
}

#[derive(Deserialize)]
struct OfQueue {
    queue: Name,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Targeted {
    target: String,
    reason: Option<String>,
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct Reranked {
    target: String,
    rank: Rank,
}

fn parse_say(map: Map<String, Value>, how: Say) -> Result<Command, Refusal> {
    of_shape(map, &SAY).map(|Targeted { target, text, .. }| Command::Say { how, target, text })
}

pub(crate) fn of_shape<T: serde::de::DeserializeOwned>(
    map: Map<String, Value>,
    shape: &Shape,
) -> Result<T, Refusal> {
    json::check_keys(&map, shape, "$")?;
    json::typed(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Command, Refusal> {
        parse("x.json", text.as_bytes()).map(|asked| asked.command)
    }

    fn kind_of(text: &str) -> Kind {
        parsed(text).expect_err(text).kind
    }

    #[test]
    fn the_short_forms_are_submits_named_after_their_file() {
        for (name, text) in [
            ("test.json", r#"{"run": ["make", "test"]}"#),
            ("test.json", r#"{"prompt": "fix it"}"#),
            ("test.json", r#"{"type": "submit", "shell": "make | tail"}"#),
            ("test.sh", "make"),
            ("test.md", "Fix it."),
        ] {
            let asked = parse(name, text.as_bytes()).map(|asked| asked.command);
            let Ok(Command::Submit(submit)) = asked else { panic!("{text}") };
            assert_eq!(submit.spec.name.unwrap().as_str(), "test");
        }
    }

    #[test]
    fn a_file_named_by_an_id_gives_its_task_no_name() {
        let text = br#"{"run": ["true"]}"#;
        let asked = parse("01890a5d-ac96-774b-bcce-b302099a8001.json", text).map(|asked| asked.command);
        let Ok(Command::Submit(submit)) = asked else { panic!() };
        assert_eq!(submit.spec.name, None);
    }

    #[test]
    fn a_wrong_name_gets_the_one_it_probably_meant() {
        for (text, meant) in [
            (r#"{"type":"submitt","run":["a"]}"#, "submit"),
            (r#"{"type":"Cancel","target":"x"}"#, "cancel"),
            (r#"{"type":"followup","target":"x","text":"y"}"#, "follow_up"),
            (r#"{"run":["a"],"timeout":5}"#, "timeout_seconds"),
            (r#"{"run":["a"],"workspace":{"knd":"none"}}"#, "kind"),
            (r#"{"promt":"a"}"#, "prompt"),
        ] {
            let hint = parsed(text).expect_err(text).hint.unwrap_or_default();
            assert!(hint.contains(&format!("{meant:?}")), "{text}: {hint}");
        }
    }

    #[test]
    fn what_a_command_may_not_say_is_refused_by_its_kind() {
        assert_eq!(kind_of(r#"{"run":["a"],"shell":"b"}"#), Kind::Conflict);
        assert_eq!(kind_of(r#"{"run":[]}"#), Kind::InvalidValue);
        assert_eq!(kind_of(r#"{"run":"make"}"#), Kind::WrongType);
        assert_eq!(kind_of(r#"{"run":["a"],"rank":100}"#), Kind::WrongType);
        assert_eq!(kind_of(r#"{"run":["a"],"name":"../x"}"#), Kind::WrongType);
        assert_eq!(kind_of(r#"{"run":["a"],"queue":"a/b"}"#), Kind::WrongType);
        assert_eq!(kind_of(r#"{"run":["a"],"id":"../../etc"}"#), Kind::WrongType);
        assert_eq!(kind_of(r#"{"run":["a"],"env":{"GITSPOOL_RUN":"x"}}"#), Kind::NotPermitted);
        assert_eq!(kind_of(r#"{"run":["a"],"directory":"src"}"#), Kind::InvalidValue);
        assert_eq!(kind_of(r#"{"run":["a"],"workspace":["none"]}"#), Kind::WrongType);
        for key in [r#""base":"main""#, r#""branch":"b""#, r#""cleanup":"all""#] {
            for kind in ["none", "directory"] {
                let text = format!(r#"{{"run":["a"],"workspace":{{"kind":"{kind}",{key}}}}}"#);
                assert_eq!(kind_of(&text), Kind::Conflict, "it would be ignored: {text}");
            }
        }
        assert_eq!(kind_of(r#"{"run":["a"],"timeout_seconds":99999999999999999999}"#), Kind::WrongType);
        assert_eq!(kind_of(r#"{"type":"cancel"}"#), Kind::MissingKey);
        assert_eq!(kind_of("{}"), Kind::MissingKey);
        assert_eq!(kind_of(r#"{"type":"gc","older_than":"30d"}"#), Kind::UnknownKey);
        assert_eq!(kind_of(r#"{"type":"gc","keep":-1}"#), Kind::WrongType);
    }

    #[test]
    fn names_that_are_not_safe_or_tell_no_kind_are_refused() {
        for (name, kind) in [
            ("a b.json", Kind::BadName),
            ("-x.json", Kind::BadName),
            ("x\n.json", Kind::BadName),
            ("x.txt", Kind::BadExtension),
            ("x", Kind::BadExtension),
        ] {
            assert_eq!(form_of(name).unwrap_err().kind, kind, "{name}");
        }
        for (name, instead) in [
            ("my job.json", "my-job.json"),
            ("ü.md", "command.md"),
            ("#x.sh#", "x.json"),
            (&format!("{}.sh", "a".repeat(200)), &format!("{}.sh", "a".repeat(100))),
        ] {
            let hint = form_of(name).unwrap_err().hint.unwrap();
            assert_eq!(hint, format!("drop it as {instead:?}, say"));
            assert!(form_of(instead).is_ok());
        }
        for name in [".x.json", "x.json~", "x.tmp", "x.json.part", "x.swp"] {
            assert!(is_in_the_making(name), "{name}");
        }
    }
}
