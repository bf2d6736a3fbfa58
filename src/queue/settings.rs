//! A queue's settings, `queue.json`: how many of its tasks run at once, in all and in each of its lanes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::breaker;
use crate::defaults::Defaults;
use crate::id::Name;
use crate::json::{self, Shape};
use crate::notice;
use crate::refusal::{Kind, Refusal};
use crate::retention::{self, Retention};

/// A queue's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Settings {
    /// How many runs it may have at once on this host.
    pub(crate) slots: u32,
    /// The lanes that tasks may name. Where none are listed, a lane has the queue's limit only.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) lanes: BTreeMap<Name, Lane>,
    /// How many of its runs may break one after the other before it is paused; 0 for any number.
    #[serde(skip_serializing_if = "breaker::is_usual")]
    pub(crate) breaker: u32,
    /// What its tasks have that do not say otherwise.
    #[serde(skip_serializing_if = "Defaults::is_empty")]
    pub(crate) defaults: Defaults,
    /// What of its ended tasks is kept; all of them when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retention: Option<Retention>,
    /// The notifier that is told when it has no work any more, if any is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notify_empty: Vec<String>,
}

/// A part of a queue with a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lane {
    /// How many of the queue's runs may be of this lane.
    pub(crate) slots: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            slots: 2,
            lanes: BTreeMap::new(),
            breaker: breaker::BROKEN_MAX,
            defaults: Defaults::default(),
            retention: None,
            notify_empty: Vec::new(),
        }
    }
}

const SHAPE: Shape = Shape(&[
    ("slots", None),
    ("lanes", None),
    ("breaker", None),
    ("defaults", None),
    ("retention", Some(&retention::SHAPE)),
    ("notify_empty", None),
]);
/// The keys of the command that changes them.
pub(crate) const SET: Shape = Shape(&[
    ("type", None),
    ("queue", None),
    ("slots", None),
    ("lanes", None),
    ("breaker", None),
    ("defaults", None),
    ("notify_empty", None),
]);
const LANE: Shape = Shape(&[("slots", None)]);

/// Reads a queue's settings.
pub(crate) fn parse_settings(bytes: &[u8]) -> Result<Settings, Refusal> {
    let map = json::parse_object(bytes)?;
    json::check_keys(&map, &SHAPE, "$")?;
    if let Some(Value::Object(lanes)) = map.get("lanes") {
        for (lane, settings) in lanes {
            check_lane(lane, settings)?;
        }
    }
    let Plain { slots, lanes, breaker, defaults, retention, notify_empty } = json::typed(map)?;
    if notify_empty.as_ref().is_some_and(Vec::is_empty) {
        let refusal = Refusal::new(Kind::InvalidValue, "this names no program").at("$.notify_empty");
        return Err(refusal.hint("leave it out where nobody is to be told"));
    }
    let notify_empty = notify_empty.unwrap_or_default();
    notice::check_argv(&notify_empty, "$.notify_empty")?;
    let defaults = Defaults::parse(defaults).map_err(|refusal| {
        let below = refusal.path.as_deref().and_then(|at| at.strip_prefix('$')).unwrap_or_default();
        let path = format!("$.defaults{below}");
        refusal.at(path)
    })?;
    Ok(Settings { slots, lanes, breaker, defaults, retention, notify_empty })
}

/// The settings as a file has them.
#[derive(Deserialize)]
#[serde(default)]
struct Plain {
    slots: u32,
    lanes: BTreeMap<Name, Lane>,
    breaker: u32,
    defaults: Map<String, Value>,
    retention: Option<Retention>,
    notify_empty: Option<Vec<String>>,
}

impl Default for Plain {
    fn default() -> Plain {
        let Settings { slots, lanes, breaker, .. } = Settings::default();
        Plain { slots, lanes, breaker, defaults: Map::new(), retention: None, notify_empty: None }
    }
}

/// Changes settings as they stand in a file: what is null is taken out, objects are changed key by key.
pub(crate) fn change(there: &mut Map<String, Value>, changes: &Map<String, Value>) {
    for (key, value) in changes {
        match (value, there.get_mut(key)) {
            (Value::Null, _) => drop(there.remove(key)),
            (Value::Object(changes), Some(Value::Object(there))) => change(there, changes),
            (Value::Object(changes), _) => {
                let mut new = Map::new();
                change(&mut new, changes);
                there.insert(key.clone(), new.into());
            }
            (_, _) => drop(there.insert(key.clone(), value.clone())),
        }
    }
    // A lane or default that was taken out leaves nothing behind.
    there.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
}

/// Says of the lane itself what serde says of all of them.
fn check_lane(lane: &str, settings: &Value) -> Result<(), Refusal> {
    let path = format!("$.lanes.{lane}");
    if let Err(error) = lane.parse::<Name>() {
        return Err(Refusal::new(Kind::InvalidValue, error.to_string()).at(path));
    }
    let Some(map) = settings.as_object() else {
        let refusal = Refusal::new(Kind::WrongType, format!("{settings} stands where a lane belongs"));
        return Err(refusal.at(path).hint("write {\"slots\": 1}, say"));
    };
    json::check_keys(map, &LANE, &path)?;
    json::typed::<Lane>(map.clone()).map(drop).map_err(|refusal| {
        let below = refusal.path.as_deref().and_then(|at| at.strip_prefix('$')).unwrap_or_default();
        let path = format!("{path}{below}");
        refusal.at(path)
    })
}

impl Settings {
    /// How many runs a task's lane may have, if it has a limit of its own.
    pub(crate) fn lane_slots(&self, lane: Option<&Name>) -> Option<u32> {
        self.lanes.get(lane?).map(|lane| lane.slots)
    }

    /// Refuses a lane that was meant to be one of those that are listed.
    pub(crate) fn check_lane(&self, lane: Option<&Name>) -> Result<(), Refusal> {
        let known = |lane: &&Name| self.lanes.is_empty() || self.lanes.contains_key(*lane);
        let Some(lane) = lane.filter(|lane| !known(lane)) else { return Ok(()) };
        let names: Vec<&str> = self.lanes.keys().map(Name::as_str).collect();
        Err(Refusal::unknown(Kind::NotFound, "lane", lane.as_str(), &names).at("$.lane"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_strictly() {
        assert_eq!(parse_settings(b"{\"slots\": 7}").unwrap().slots, 7);
        assert_eq!(parse_settings(b"{}").unwrap(), Settings::default());
        assert_eq!(parse_settings(b"{\"breaker\": 0}").unwrap().breaker, 0);
        for bad in [
            "{\"slots\": -1}",
            "{\"breaker\": true}",
            "{\"slot\": 1}",
            "{\"slots\": \"2\"}",
            "{\"slots\": 1",
            "",
        ] {
            assert!(parse_settings(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let map = |text: &str| json::parse_object(text.as_bytes()).unwrap();
        let mut there = map(r#"{"slots": 3, "lanes": {"a": {"slots": 1}, "b": {"slots": 2}}}"#);
        for (changes, text) in [
            (
                r#"{"lanes": {"a": {"slots": 4}}}"#,
                r#"{"slots": 3, "lanes": {"a": {"slots": 4}, "b": {"slots": 2}}}"#,
            ),
            (r#"{"slots": null, "lanes": {"a": null}}"#, r#"{"lanes": {"b": {"slots": 2}}}"#),
            (r#"{"lanes": {"b": null, "c": null}}"#, "{}"),
            (r#"{"defaults": {"env": {"A": "1", "B": null}}}"#, r#"{"defaults": {"env": {"A": "1"}}}"#),
            (r#"{"defaults": {"env": {"A": null}}}"#, "{}"),
        ] {
            change(&mut there, &map(changes));
            assert_eq!(there, map(text), "{changes}");
        }
    }

    #[test]
    fn lanes_are_read_strictly_and_only_listed_ones_are_taken() {
        let name = |text: &str| -> Name { text.parse().unwrap() };
        let settings = parse_settings(b"{\"lanes\": {\"review\": {\"slots\": 1}}}").unwrap();
        assert_eq!((settings.slots, settings.lane_slots(Some(&name("review")))), (2, Some(1)));
        assert_eq!(settings.lane_slots(None), None);
        assert!(settings.check_lane(None).is_ok() && settings.check_lane(Some(&name("review"))).is_ok());
        let refusal = settings.check_lane(Some(&name("reviews"))).unwrap_err();
        assert_eq!((refusal.kind, refusal.path.as_deref()), (Kind::NotFound, Some("$.lane")));
        assert!(refusal.hint.unwrap().contains("\"review\""));
        assert!(Settings::default().check_lane(Some(&name("any"))).is_ok());
        for (bad, path) in [
            (r#"{"lanes": {"a b": {"slots": 1}}}"#, "$.lanes.a b"),
            (r#"{"lanes": {"a": 1}}"#, "$.lanes.a"),
            (r#"{"lanes": {"a": {"slot": 1}}}"#, "$.lanes.a.slot"),
            (r#"{"lanes": {"a": {"slots": -1}}}"#, "$.lanes.a.slots"),
            (r#"{"lanes": {"a": {}}}"#, "$.lanes.a"),
            (r#"{"lanes": []}"#, "$.lanes"),
        ] {
            assert_eq!(parse_settings(bad.as_bytes()).expect_err(bad).path.as_deref(), Some(path), "{bad}");
        }
    }
}
