//! Edits as commands: a whole spec for a task that has not started, or some keys of it. Pure.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::command::of_shape;
use crate::json::Shape;
use crate::refusal::{Kind, Refusal};
use crate::spec::{self, Spec};

/// Another spec for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) target: String,
    pub(crate) change: Change,
    /// The SHA-256 of the file of the task as it was drawn when somebody began to edit it.
    pub(crate) was_sha256: Option<String>,
}

/// What an edit changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Spec(Box<Spec>),
    /// Some keys, `null` where one is to go.
    Set(Map<String, Value>),
}

const EDIT: Shape =
    Shape(&[("type", None), ("target", None), ("spec", None), ("set", None), ("was_sha256", None)]);

/// Reads the command.
pub(crate) fn parse(map: Map<String, Value>) -> Result<Edit, Refusal> {
    #[derive(Deserialize)]
    struct Told {
        target: String,
        spec: Option<Map<String, Value>>,
        set: Option<Map<String, Value>>,
        was_sha256: Option<String>,
    }
    let Told { target, spec, set, was_sha256 } = of_shape(map, &EDIT)?;
    let change = match (spec, set) {
        (Some(spec), None) => {
            let spec = spec::of(spec).map_err(|refusal| refusal.below("$.spec"))?;
            Change::Spec(Box::new(spec))
        }
        (None, Some(set)) => Change::Set(set),
        (Some(_), Some(_)) => {
            let message = "an edit gives the whole spec, or sets some keys, and not both";
            return Err(Refusal::new(Kind::Conflict, message).at("$.set"));
        }
        (None, None) => {
            return Err(Refusal::new(Kind::MissingKey, "an edit needs a spec, or keys to set").at("$.spec"));
        }
    };
    Ok(Edit { target, change, was_sha256 })
}

impl Change {
    /// The spec that comes of `before`.
    pub(crate) fn applied(self, before: &Spec) -> Result<Spec, Refusal> {
        match self {
            Change::Spec(spec) => Ok(*spec),
            Change::Set(set) => {
                let mut whole = serde_json::to_value(before).expect("because a spec has string keys");
                merge(&mut whole, Value::Object(set), true);
                let Value::Object(map) = whole else { unreachable!("because a spec is an object") };
                spec::of(map).map_err(|refusal| refusal.below("$.set"))
            }
        }
    }
}

/// Puts the keys of one object into another, and those of objects in it likewise, as RFC 7396 says; with `remove`, `null`
/// removes a key, and else it stays for whoever does.
pub(crate) fn merge(whole: &mut Value, change: Value, remove: bool) {
    let Value::Object(change) = change else {
        *whole = change;
        return;
    };
    if !whole.is_object() {
        *whole = Value::Object(Map::new());
    }
    let Value::Object(map) = whole else { unreachable!("because it is an object now") };
    for (key, value) in change {
        if remove && value.is_null() {
            map.remove(&key);
        } else {
            merge(map.entry(key).or_insert(Value::Null), value, remove);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{self, Command};

    fn parsed(text: &str) -> Result<Edit, Refusal> {
        let Command::Edit(edit) = command::parse("x.json", text.as_bytes())?.command else {
            panic!("{text}")
        };
        Ok(*edit)
    }

    #[test]
    fn an_edit_gives_a_spec_or_sets_keys_and_is_refused_with_the_place_in_it() {
        let path = |text: &str| parsed(text).expect_err(text).path.unwrap_or_default();
        assert_eq!(path(r#"{"type":"edit","target":"x","spec":{"run":["a"],"rank":1}}"#), "$.spec.rank");
        assert_eq!(path(r#"{"type":"edit","target":"x","spec":{"run":"a"}}"#), "$.spec.run");
        assert_eq!(path(r#"{"type":"edit","target":"x"}"#), "$.spec");
        assert_eq!(path(r#"{"type":"edit","target":"x","spec":{"run":["a"]},"set":{}}"#), "$.set");
        let before = Spec {
            run: Some(vec!["a".into()]),
            env: [("A".to_owned(), "1".to_owned())].into(),
            ..Spec::default()
        };
        let applied = |set: &str| {
            let text = format!(r#"{{"type":"edit","target":"x","set":{set}}}"#);
            parsed(&text).unwrap().change.applied(&before)
        };
        let after = applied(r#"{"env":{"A":null,"B":"2"},"run":null,"shell":"b"}"#).unwrap();
        assert_eq!((after.env.get("A"), after.env["B"].as_str()), (None, "2"));
        assert_eq!((after.run, after.shell.as_deref()), (None, Some("b")));
        assert_eq!(applied(r#"{"timeout_seconds":0}"#).unwrap_err().path.unwrap(), "$.set.timeout_seconds");
        assert_eq!(applied(r#"{"timeout":5}"#).unwrap_err().kind, Kind::UnknownKey);
    }
}
