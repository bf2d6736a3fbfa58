//! `gitspool edit`

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::asking::report;
use super::dropping::drop_command;
use super::find::{self, Found};
use super::{Answer, CliError, Context, talk};
use crate::clock;
use crate::command::BYTES_MAX;
use crate::digest;
use crate::edit;
use crate::environment;
use crate::picture;
use crate::process;
use crate::refusal::{Kind, Refusal};
use crate::spec::{self, Spec};
use crate::spool::Spool;
use crate::store;

/// Change what a task is that has not started: with $VISUAL or $EDITOR, or by the options
///
/// What is refused is kept, and its path told. Somebody else's change meanwhile is a conflict, and not overwritten.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Its id, the end of it, or its name
    #[arg(value_name = "ID")]
    task: String,
    /// A key of the spec and its value, JSON or else a text, as `timeout_seconds=60` or `env.CC=clang`; `null` removes it
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "from")]
    set: Vec<String>,
    /// Take the whole spec from this file, or from stdin if it is `-`
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let found = find::target(&spool.layout, &arguments.task)?.found;
    if found.place.has_started() {
        let what = if found.place.is_ended() { "has ended" } else { "has started, and its spec is fixed" };
        talk(&format!("gitspool: task {} {what}; `gitspool rerun` submits it once more", found.task));
        return Ok(Answer::No);
    }
    if !arguments.set.is_empty() {
        let command = json!({"type": "edit", "target": found.task, "set": set(&arguments.set)?});
        let dropped = drop_command(&spool.layout, &command)?;
        return report(context, &spool.layout, &dropped, &found.task.to_string());
    }
    let (text, base) = text_of(&found)?;
    if let Some(from) = &arguments.from {
        let written = parsed(&read(from)?)?;
        return send(context, &spool, &found, &base, written);
    }
    let copy = spool.state().edited(&format!("{}.{}", found.task, clock::new_secret()));
    store::make_lasting_dir(&spool.state().edits())?;
    store::create_new(&copy, &text, 0o600)?;
    let done = edit_copy(context, &spool, &found, &base, &text, &copy);
    match done {
        Ok(answer) => store::remove(&copy).map(|()| answer).map_err(CliError::Store),
        Err(error) => {
            talk(&format!("gitspool: what you wrote is kept in {}", copy.display()));
            Err(error)
        }
    }
}

/// Has the user edit a copy, and sends what came of it.
fn edit_copy(
    context: &Context,
    spool: &Spool,
    found: &Found,
    base: &Spec,
    text: &[u8],
    copy: &Path,
) -> Result<Answer, CliError> {
    let editor = environment::value("VISUAL").or_else(|| environment::value("EDITOR"));
    let editor = editor.unwrap_or_else(|| "vi".into());
    let ended = process::run_editor(&editor, copy);
    if !ended.is_ok_and(|ended| ended.success()) {
        let editor = editor.display();
        return Err(CliError::Usage(format!("the editor {editor:?} failed; set $VISUAL or $EDITOR")));
    }
    let written = read(copy)?;
    if written == text {
        talk(&format!("gitspool: task {} stays as it is", found.task));
        return Ok(Answer::Yes);
    }
    send(context, spool, found, base, parsed(&written)?)
}

/// Asks for another spec in the place of `base`.
fn send(
    context: &Context,
    spool: &Spool,
    found: &Found,
    base: &Spec,
    spec: Value,
) -> Result<Answer, CliError> {
    let was = digest::sha256_hex(&picture::pretty(base));
    let command = json!({"type": "edit", "target": found.task, "spec": spec, "was_sha256": was});
    let dropped = drop_command(&spool.layout, &command)?;
    report(context, &spool.layout, &dropped, &found.task.to_string())
}

/// What a task's file says, as it stands there and as a spec.
fn text_of(found: &Found) -> Result<(Vec<u8>, Spec), CliError> {
    let unreadable =
        |why: String| CliError::Usage(format!("{} is being edited already: {why}", found.path.display()));
    let bytes = store::read_if_small(&found.path, find::TASK_BYTES_MAX)?
        .ok_or_else(|| unreadable("it is not there".to_owned()))?;
    let spec = spec::parse(&bytes).map_err(|refusal| unreadable(refusal.to_string()))?;
    Ok((bytes, spec))
}

/// What a file says that the user names, or stdin.
fn read(from: &Path) -> Result<Vec<u8>, CliError> {
    if from.as_os_str() == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().take(BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| CliError::Usage(format!("cannot read stdin: {error}")))?;
        return Ok(bytes);
    }
    let bytes = store::read_if_small(from, find::TASK_BYTES_MAX)?;
    bytes.ok_or_else(|| CliError::NotFound(format!("{} is not there", from.display())))
}

/// A text that must be a spec, as JSON.
fn parsed(bytes: &[u8]) -> Result<Value, CliError> {
    spec::parse(bytes).map_err(CliError::Unsendable)?;
    serde_json::from_slice(bytes)
        .map_err(|error| CliError::Unsendable(Refusal::new(Kind::InvalidJson, error.to_string())))
}

/// The object that `KEY=VALUE` mean, a key with dots one in another.
pub(super) fn set(given: &[String]) -> Result<Value, CliError> {
    let mut all = Map::new();
    for pair in given {
        let Some((key, text)) = pair.split_once('=') else {
            return Err(CliError::Usage(format!("--set {pair} has no value: write KEY=VALUE")));
        };
        // A variable is always a text, and may have dots in its name.
        let value = match key.split_once('.') {
            Some(("env", name)) => {
                let value = if text == "null" { Value::Null } else { text.into() };
                json!({"env": {name: value}})
            }
            Some((outer, inner)) => json!({outer: {inner: value_of(text)}}),
            None => json!({key: value_of(text)}),
        };
        let mut whole = Value::Object(all);
        edit::merge(&mut whole, value, false);
        let Value::Object(map) = whole else { unreachable!("because an object stays one") };
        all = map;
    }
    Ok(Value::Object(all))
}

fn value_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_one_object_of_json_or_texts() {
        let given = ["timeout_seconds=60", "name=x", "env.A.B=1", "env.C=null", "retry.max=2", "shell=a=b"];
        let given: Vec<String> = given.map(ToOwned::to_owned).into();
        let expected = json!({
            "timeout_seconds": 60, "name": "x", "env": {"A.B": "1", "C": null}, "retry": {"max": 2}, "shell": "a=b"
        });
        assert_eq!(set(&given).unwrap(), expected);
        assert!(set(&["name".to_owned()]).is_err());
    }
}
