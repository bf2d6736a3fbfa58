//! Reads a spec as users write it, by the rules of a submit. Pure.

use serde_json::{Map, Value};

use super::{SUBMIT, Spec};
use crate::json;
use crate::refusal::{Kind, Refusal};

/// Reads a spec that stands alone, as in the file of a task.
pub(crate) fn parse(bytes: &[u8]) -> Result<Spec, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::new(Kind::Empty, "the file is empty"));
    }
    of(json::parse_object(bytes)?)
}

/// The spec that an object says, checked as a submit is.
pub(crate) fn of(map: Map<String, Value>) -> Result<Spec, Refusal> {
    let beside = [
        ("id", "it stands in the file's name, and never changes"),
        ("rank", "it stands in the file's name: mv it, or `gitspool rerank`"),
        ("held", "it stands in the file's path: mv it into held/, or `gitspool hold`"),
        ("type", "a spec is no command"),
    ];
    if let Some((key, hint)) = beside.iter().find(|(key, _)| map.contains_key(*key)) {
        let refusal = Refusal::new(Kind::UnknownKey, format!("{key:?} is no key of a spec"));
        return Err(refusal.at(format!("$.{key}")).hint(*hint));
    }
    json::check_keys(&map, &SUBMIT, "$")?;
    let spec: Spec = json::typed(map).map_err(|refusal: Refusal| match refusal.path.as_deref() {
        Some("$.run") => refusal.hint("write {\"run\": [\"make\", \"test\"]}, or {\"shell\": \"make test\"}"),
        _ => refusal,
    })?;
    spec.check()?;
    Ok(spec)
}
