//! Counted resources with indices, and what tasks have alone or share: named locks and directories. What a host has, what
//! runs have of it, what is left. Pure.
//!
//! A task gets all that it wants, or nothing yet: nobody waits while holding something, so there is no deadlock. Who is
//! passed over keeps its place: what it lacks nobody behind it gets first. The first of them keeps all that it wants, so that
//! it starts as soon as those end who have it now; then the next one is the first, and so nobody starves.

mod ledger;
mod round;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::json::{self, Shape};
use crate::refusal::{Kind, Refusal};

pub(crate) use ledger::Ledger;
pub(crate) use round::{Lack, Round};

/// The most units of one resource that a host can have.
const UNITS_MAX: u32 = 65_536;

/// The most units that one task can have, so that a line of the log has room for their numbers.
const ASKED_MAX: u32 = 1024;

/// The most resources, and the most locks, that one task can have.
const NAMES_MAX: usize = 32;

/// The name of a resource or a lock: `gpu`, `port`, `tokens:acme`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ResourceName(String);

/// Why a text is no name of a resource.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a name of at most 64 letters, digits, `.`, `_`, `-` and `:` that begins with a letter")]
pub(crate) struct ResourceNameError(String);

impl FromStr for ResourceName {
    type Err = ResourceNameError;
    fn from_str(text: &str) -> Result<ResourceName, ResourceNameError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
        let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
        if begins && text.len() <= 64 && text.chars().all(fits) {
            Ok(ResourceName(text.to_owned()))
        } else {
            Err(ResourceNameError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ResourceName {
    type Error = ResourceNameError;
    fn try_from(text: String) -> Result<ResourceName, ResourceNameError> {
        text.parse()
    }
}

impl From<ResourceName> for String {
    fn from(name: ResourceName) -> String {
        name.0
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ResourceName {
    /// The variable that tells a run which units it has.
    pub(crate) fn variable(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        format!("GITSPOOL_RESOURCE_{}", self.0.chars().map(plain).collect::<String>())
    }

    /// The variable that programs read which know nothing of us.
    pub(crate) fn usual_variable(&self) -> Option<&'static str> {
        (self.0 == "gpu").then_some("CUDA_VISIBLE_DEVICES")
    }
}

/// How much of a resource a host has: a number of units from 0 on, or from another number on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Capacity {
    Count(u32),
    From { from: u32, count: u32 },
}

impl Capacity {
    /// How many units there are.
    pub(crate) fn count(self) -> u32 {
        match self {
            Capacity::Count(count) => count,
            Capacity::From { from, count } => count.min((u32::MAX - from).saturating_add(1)),
        }
    }

    /// The numbers of the units.
    fn units(self) -> impl Iterator<Item = u32> {
        let from = match self {
            Capacity::Count(_) => 0,
            Capacity::From { from, .. } => from,
        };
        (0..self.count()).map(move |number| from + number)
    }
}

/// What a host has.
pub(crate) type Capacities = BTreeMap<ResourceName, Capacity>;

/// The units that a run has, by resource.
pub(crate) type Assigned = BTreeMap<ResourceName, BTreeSet<u32>>;

/// Units as a variable has them: `0,1`.
pub(crate) fn listed(units: &BTreeSet<u32>) -> String {
    units.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// How something is wanted that others may want too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// With others who share it.
    Shared,
    /// Alone.
    Exclusive,
}

impl Mode {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Mode::Shared => "shared",
            Mode::Exclusive => "exclusive",
        }
    }

    fn bears(self, other: Mode) -> bool {
        self == Mode::Shared && other == Mode::Shared
    }
}

/// Something that one task has alone, or several share.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Thing {
    /// A directory in which a task works itself.
    Directory(String),
    Lock(ResourceName),
}

/// Numbers of units, by resource.
pub(crate) type Units = BTreeMap<ResourceName, u32>;

/// Things, with how they are wanted.
pub(crate) type Things = BTreeMap<Thing, Mode>;

/// What a task wants beside a slot. Nothing is wanted zero times.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Wants {
    pub(crate) units: Units,
    pub(crate) things: Things,
}

/// Checks what a task asks for of resources.
pub(crate) fn check_units(units: &Units) -> Result<(), Refusal> {
    let refuse = |path: String, message: &str| Err(Refusal::new(Kind::InvalidValue, message).at(path));
    let asked = units.values().fold(0_u32, |sum, units| sum.saturating_add(*units));
    if units.len() > NAMES_MAX || asked > ASKED_MAX {
        return refuse("$.resources".to_owned(), "a task has 1024 units of 32 resources at most");
    }
    let mut variables = BTreeSet::new();
    match units.keys().find(|name| !variables.insert(name.variable())) {
        Some(name) => refuse(format!("$.resources.{name}"), "its variable would be that of another one"),
        None => Ok(()),
    }
}

/// Checks what a task asks for of locks.
pub(crate) fn check_locks(locks: &BTreeMap<ResourceName, Mode>) -> Result<(), Refusal> {
    if locks.len() <= NAMES_MAX {
        return Ok(());
    }
    Err(Refusal::new(Kind::InvalidValue, "a task has 32 locks at most").at("$.locks"))
}

/// What a host has, `hosts/<host>.json`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
pub(crate) struct HostSettings {
    #[serde(default)]
    pub(crate) resources: Capacities,
}

const SHAPE: Shape = Shape(&[("resources", None)]);

/// Reads what a host has.
pub(crate) fn parse_host(bytes: &[u8]) -> Result<HostSettings, Refusal> {
    let map = json::parse_object(bytes)?;
    json::check_keys(&map, &SHAPE, "$")?;
    if let Some(serde_json::Value::Object(resources)) = map.get("resources") {
        for (name, capacity) in resources {
            check_capacity(name, capacity).map_err(|refusal| refusal.at(format!("$.resources.{name}")))?;
        }
    }
    json::typed(map)
}

/// Says of a capacity what serde says of none of the forms of one.
fn check_capacity(name: &str, capacity: &serde_json::Value) -> Result<(), Refusal> {
    let hint = "write {\"gpu\": 2}, or {\"port\": {\"from\": 8000, \"count\": 20}}";
    let wrong = |kind, message: String| Err(Refusal::new(kind, message).hint(hint));
    if let Err(error) = name.parse::<ResourceName>() {
        return wrong(Kind::InvalidValue, error.to_string());
    }
    let Ok(read) = serde_json::from_value::<Capacity>(capacity.clone()) else {
        return wrong(
            Kind::WrongType,
            format!("{capacity} is neither a number of units nor where they begin"),
        );
    };
    if let Some(known) = capacity.as_object()
        && let Some(key) = known.keys().find(|key| !["from", "count"].contains(&key.as_str()))
    {
        return wrong(Kind::UnknownKey, format!("unknown key {key:?}"));
    }
    let asked = match read {
        Capacity::Count(count) | Capacity::From { count, .. } => count,
    };
    if asked > UNITS_MAX || asked > read.count() {
        return wrong(Kind::InvalidValue, format!("{asked} units are more than there are numbers for"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ResourceName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_one_word_and_its_variable_can_be_set() {
        for bad in ["", "1gpu", "a b", "a=b", "a/b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<ResourceName>().is_err(), "{bad}");
        }
        assert_eq!(name("tokens:acme.eu").variable(), "GITSPOOL_RESOURCE_TOKENS_ACME_EU");
        assert_eq!(name("gpu").usual_variable(), Some("CUDA_VISIBLE_DEVICES"));
        assert_eq!(listed(&[3, 0, 12].into()), "0,3,12");
    }

    #[test]
    fn what_a_task_asks_for_fits_into_a_line_and_its_variables_are_its_own() {
        let units =
            |all: &[(&str, u32)]| -> Units { all.iter().map(|(text, count)| (name(text), *count)).collect() };
        assert!(check_units(&units(&[("gpu", 1000), ("port", 24)])).is_ok());
        assert!(check_units(&units(&[("gpu", 1000), ("port", u32::MAX)])).is_err());
        let twice = check_units(&units(&[("tokens:a", 1), ("tokens.a", 1)])).unwrap_err();
        assert_eq!(twice.path.as_deref(), Some("$.resources.tokens:a"));
        let many: BTreeMap<_, _> = (0..33).map(|n| (name(&format!("l{n}")), Mode::Shared)).collect();
        assert!(check_locks(&many).is_err());
    }

    #[test]
    fn what_a_host_has_is_read_strictly() {
        let read = |text: &str| parse_host(text.as_bytes());
        let host =
            read(r#"{"resources": {"gpu": 2, "port": {"from": 8000, "count": 20}, "tokens:acme": 4}}"#);
        let resources = host.unwrap().resources;
        assert_eq!(resources[&name("gpu")].units().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(resources[&name("port")].units().last(), Some(8019));
        assert_eq!(read("{}").unwrap(), HostSettings::default());
        for (bad, path) in [
            (r#"{"resource": {}}"#, "$.resource"),
            (r#"{"resources": []}"#, "$.resources"),
            (r#"{"resources": {"gpu": -1}}"#, "$.resources.gpu"),
            (r#"{"resources": {"gpu": "2"}}"#, "$.resources.gpu"),
            (r#"{"resources": {"gpu": 65537}}"#, "$.resources.gpu"),
            (r#"{"resources": {"1": 2}}"#, "$.resources.1"),
            (r#"{"resources": {"port": {"from": 1}}}"#, "$.resources.port"),
            (r#"{"resources": {"port": {"from": 1, "count": 1, "to": 2}}}"#, "$.resources.port"),
            (r#"{"resources": {"port": {"from": 4294967295, "count": 2}}}"#, "$.resources.port"),
        ] {
            assert_eq!(read(bad).expect_err(bad).path.as_deref(), Some(path), "{bad}");
        }
        assert!(read(r#"{"resources": {"gpu": "#).is_err());
    }
}
