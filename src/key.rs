//! Keys of commands: by its key a repeat is known, whatever became of the first since. Pure; `keys` keeps them.
//!
//! A key counts within its scope (tenant and project). It stands for the whole request: another one under the same key is a
//! conflict.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::answer::Receipt;
use crate::digest::sha256_hex;
use crate::id::Name;
use crate::json;
use crate::refusal::{Kind, Refusal};

/// The longest key, in bytes.
const BYTES_MAX: usize = 200;

/// The key of a command, and what the command asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) key: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) tenant: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) project: Option<Name>,
    /// The SHA-256 of the request: all of the command but the key, and the id that each try may choose anew, as JSON without
    /// spaces and with sorted keys.
    pub(crate) request_sha256: String,
}

/// A key that was used, and the answer that its command got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Used {
    #[serde(flatten)]
    pub(crate) key: Key,
    pub(crate) receipt: Receipt,
}

impl Key {
    /// Takes the key out of a command of that type.
    pub(crate) fn take(map: &mut Map<String, Value>, kind: &str) -> Result<Option<Key>, Refusal> {
        #[derive(Deserialize)]
        struct Given {
            key: Option<String>,
            tenant: Option<Name>,
            project: Option<Name>,
        }
        let Some((name, key)) = map.remove_entry("key") else { return Ok(None) };
        let scope = ["tenant", "project"].into_iter().filter_map(|name| {
            let value = map.get(name)?;
            Some((name.to_owned(), value.clone()))
        });
        let Given { key, tenant, project } = json::typed(scope.chain([(name, key)]).collect())?;
        let Some(key) = key else { return Ok(None) };
        if key.is_empty() || key.len() > BYTES_MAX || key.contains(char::is_control) {
            let message = format!("a key is a line of at most {BYTES_MAX} bytes");
            return Err(Refusal::new(Kind::InvalidValue, message).at("$.key"));
        }
        let mut request = map.clone();
        request.remove("id");
        // What may be left out means the same when it is there.
        request.insert("type".to_owned(), kind.into());
        let request_sha256 = sha256_hex(canonical(&Value::Object(request)).as_bytes());
        Ok(Some(Key { key, tenant, project, request_sha256 }))
    }

    /// What names the key and its scope among all others.
    pub(crate) fn sha256(&self) -> String {
        let part =
            |name: &Option<Name>| name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
        // No name has a newline, so that no two scopes and keys are joined to the same text.
        sha256_hex(format!("{}\n{}\n{}", part(&self.tenant), part(&self.project), self.key).as_bytes())
    }

    /// The refusal of another request under this key.
    pub(crate) fn conflict(&self, first: &str) -> Refusal {
        let message = format!("the key {:?} is that of another request, {first}", self.key);
        Refusal::new(Kind::Conflict, message)
            .at("$.key")
            .hint("choose another key, or ask for the same as then")
    }
}

/// JSON without spaces, the keys of each object sorted, whatever order they have in memory.
pub(crate) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut members: Vec<(&String, &Value)> = map.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            let members = members
                .iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<Option<Key>, Refusal> {
        let mut map = json::parse_object(text.as_bytes()).unwrap();
        let kind = map.get("type").and_then(Value::as_str).unwrap_or("submit").to_owned();
        let taken = Key::take(&mut map, &kind);
        assert!(!map.contains_key("key"));
        taken
    }

    fn known(text: &str) -> Key {
        key(text).unwrap().unwrap()
    }

    #[test]
    fn the_same_request_is_known_however_it_is_written() {
        let first = known(r#"{"key":"k","run":["a"],"env":{"A":"1","B":"2"}}"#);
        for same in [
            r#"{"run":["a"],"env":{"B":"2","A":"1"},"key":"k"}"#,
            r#" { "type" : "submit", "run" : [ "a" ], "key" : "k", "env" : {"A":"1","B":"2"} } "#,
            r#"{"key":"k","id":"01890a5d-ac96-774b-bcce-b302099a8057","run":["a"],"env":{"A":"1","B":"2"}}"#,
        ] {
            assert_eq!(known(same), first, "{same}");
        }
        for other in [
            r#"{"key":"k","run":["a"],"env":{"A":"1"}}"#,
            r#"{"key":"k","run":["a"],"env":{"A":"2","B":"1"}}"#,
            r#"{"key":"k","run":["a"],"env":{"A":"1","B":"2"},"rank":50}"#,
            r#"{"key":"k","type":"cancel","run":["a"],"env":{"A":"1","B":"2"}}"#,
        ] {
            assert_eq!(known(other).sha256(), first.sha256());
            assert_ne!(known(other).request_sha256, first.request_sha256, "{other}");
        }
    }

    #[test]
    fn a_key_counts_within_its_scope() {
        let scopes = [
            r#"{"key":"k","run":["a"]}"#,
            r#"{"key":"k","run":["a"],"tenant":"t"}"#,
            r#"{"key":"k","run":["a"],"project":"t"}"#,
            r#"{"key":"k","run":["a"],"tenant":"t","project":"p"}"#,
            r#"{"key":"p","run":["a"],"tenant":"t"}"#,
        ];
        let names: std::collections::BTreeSet<String> =
            scopes.iter().map(|text| known(text).sha256()).collect();
        assert_eq!(names.len(), scopes.len());
    }

    #[test]
    fn what_is_no_key_is_refused_and_none_is_none() {
        assert_eq!(key(r#"{"run":["a"]}"#), Ok(None));
        assert_eq!(key(r#"{"run":["a"],"key":null}"#), Ok(None));
        let long = format!(r#"{{"key":"{}"}}"#, "x".repeat(BYTES_MAX + 1));
        for bad in
            [r#"{"key":""}"#, r#"{"key":7}"#, r#"{"key":"a\nb"}"#, &long, r#"{"key":"k","tenant":"../x"}"#]
        {
            assert!(key(bad).is_err(), "{bad}");
        }
    }
}
