//! JSON as strangers write it: nothing is guessed, nothing is dropped, and each error names its place.
//!
//! serde_json alone takes the last of two equal keys and an array in an object's place; this reader takes neither.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::misfit;
use crate::refusal::{Kind, Refusal};

/// How deep arrays and objects may be nested.
pub(crate) const DEPTH_MAX: usize = 64;

/// How many values a text may have, at all depths: so many are read, and their task submitted, within some milliseconds,
/// for which other files wait.
pub(crate) const VALUES_MAX: usize = 32_768;

/// The keys that an object may have, and the shape of those that are objects with fixed keys themselves.
pub(crate) struct Shape(pub(crate) &'static [(&'static str, Option<&'static Shape>)]);

/// Parses `bytes` as one JSON object: UTF-8, no duplicate keys at any depth, no NUL in any text, not too many values.
pub(crate) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let text = utf8(bytes)?;
    let so_far = SoFar::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let seed = Strict { place: &Place::Top, depth: 0, so_far: &so_far };
    let parsed = seed.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    match parsed {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Refusal::new(Kind::WrongType, "it is JSON, but no object").at("$").hint("write {...}")),
        Err(_) if text.starts_with('\u{feff}') => {
            let refusal = Refusal::new(Kind::InvalidJson, "the file begins with a byte order mark");
            Err(refusal.hint("save it as UTF-8 without one"))
        }
        Err(error) => Err(so_far.problem.take().unwrap_or_else(|| invalid(&error))),
    }
}

/// The text of a file that must be UTF-8 without NUL.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let refusal = Refusal::new(Kind::NotUtf8, format!("byte {} is not UTF-8", error.valid_up_to()));
        refusal.hint("write the file as UTF-8")
    })?;
    match text.find('\0') {
        Some(place) => Err(Refusal::new(Kind::ContainsNul, format!("byte {place} is a NUL"))),
        None => Ok(text),
    }
}

/// Refuses keys that `shape` does not know, with the known key that was probably meant.
pub(crate) fn check_keys(map: &Map<String, Value>, shape: &Shape, path: &str) -> Result<(), Refusal> {
    for (key, value) in map {
        let Some((_, inner)) = shape.0.iter().find(|(known, _)| known == key) else {
            let known: Vec<&str> = shape.0.iter().map(|(known, _)| *known).collect();
            return Err(Refusal::unknown(Kind::UnknownKey, "key", key, &known).at(format!("{path}.{key}")));
        };
        match (inner, value) {
            (Some(inner), Value::Object(map)) => check_keys(map, inner, &format!("{path}.{key}"))?,
            (Some(_), Value::Array(_)) => {
                let message = format!("{key:?} is an array where an object belongs");
                return Err(Refusal::new(Kind::WrongType, message).at(format!("{path}.{key}")));
            }
            (Some(_) | None, _) => {}
        }
    }
    Ok(())
}

/// Turns a parsed object into a typed value; an error names the place of the value that does not fit.
pub(crate) fn typed<T: DeserializeOwned>(map: Map<String, Value>) -> Result<T, Refusal> {
    serde_path_to_error::deserialize(Value::Object(map)).map_err(|error| {
        let path = match error.path().to_string() {
            place if place == "." => "$".to_owned(),
            place => format!("$.{place}"),
        };
        misfit::told(&error.into_inner().to_string()).at(path)
    })
}

fn invalid(error: &serde_json::Error) -> Refusal {
    let refusal = Refusal::new(Kind::InvalidJson, error.to_string());
    if error.is_eof() { refusal.hint("the file ends before its JSON does") } else { refusal }
}

/// Where a value stands. Spelled out for a refusal only: who wrote the text chose how long its keys are, and how many
/// values stand below them.
enum Place<'a> {
    Top,
    Key(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Top => f.write_str("$"),
            Place::Key(above, key) => write!(f, "{above}.{key}"),
            Place::Item(above, number) => write!(f, "{above}[{number}]"),
        }
    }
}

/// What is known of a text while it is read.
#[derive(Default)]
struct SoFar {
    /// Carries the refusal past serde's error type, which has no room for it.
    problem: Cell<Option<Refusal>>,
    values: Cell<usize>,
}

/// Reads one value.
struct Strict<'a> {
    place: &'a Place<'a>,
    depth: usize,
    so_far: &'a SoFar,
}

impl Strict<'_> {
    fn fail<E: de::Error>(&self, refusal: Refusal) -> E {
        let error = E::custom(&refusal.message);
        self.so_far.problem.set(Some(refusal));
        error
    }

    fn inner<'b, E: de::Error>(&'b self, place: &'b Place<'b>) -> Result<Strict<'b>, E> {
        if self.depth == DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX}");
            return Err(self.fail(Refusal::new(Kind::TooDeep, message).at(self.place.to_string())));
        }
        Ok(Strict { place, depth: self.depth + 1, so_far: self.so_far })
    }

    fn count<E: de::Error>(&self) -> Result<(), E> {
        let values = self.so_far.values.get() + 1;
        self.so_far.values.set(values);
        if values > VALUES_MAX {
            let refusal = Refusal::new(Kind::TooLarge, format!("more than {VALUES_MAX} values"));
            return Err(self.fail(refusal.at(self.place.to_string()).hint("write it as a script")));
        }
        Ok(())
    }

    fn text<E: de::Error>(&self, text: &str) -> Result<Value, E> {
        if text.contains('\0') {
            let refusal = Refusal::new(Kind::ContainsNul, "a text contains NUL");
            return Err(self.fail(refusal.at(self.place.to_string())));
        }
        Ok(Value::String(text.to_owned()))
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.text(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner(&Place::Item(self.place, array.len()))?)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let place = Place::Key(self.place, &key);
            if map.contains_key(&key) {
                let message = format!("the key {key:?} stands here twice");
                return Err(self.fail(Refusal::new(Kind::DuplicateKey, message).at(place.to_string())));
            }
            if key.contains('\0') {
                let refusal = Refusal::new(Kind::ContainsNul, "a key contains NUL");
                return Err(self.fail(refusal.at(self.place.to_string())));
            }
            let value = entries.next_value_seed(self.inner(&place)?)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> (Kind, Option<String>) {
        let refusal = parse_object(text.as_bytes()).expect_err(text);
        (refusal.kind, refusal.path)
    }

    #[test]
    fn what_serde_json_would_let_pass_is_refused_with_its_place() {
        assert_eq!(refusal(r#"{"a":{"b":1,"b":2}}"#), (Kind::DuplicateKey, Some("$.a.b".into())));
        assert_eq!(refusal(r#"{"a":["\u0000"]}"#), (Kind::ContainsNul, Some("$.a[0]".into())));
        assert_eq!(refusal(r#"["a"]"#), (Kind::WrongType, Some("$".into())));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
        assert_eq!(refusal(&deep).0, Kind::TooDeep);
        let very_deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert_eq!(refusal(&very_deep).0, Kind::TooDeep);
        for broken in [r#"{"a":"#, "", "{}x", "{}\n{}", "\u{feff}{}", "{'a':1}", r#"{"a":1e400}"#] {
            assert_eq!(refusal(broken).0, Kind::InvalidJson, "{broken}");
        }
        assert_eq!(parse_object(b"{\"a\":\"\xff\"}").unwrap_err().kind, Kind::NotUtf8);
        assert_eq!(parse_object(b"{}\0").unwrap_err().kind, Kind::ContainsNul);
        let many = |values: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(values - 3));
        assert_eq!(
            refusal(&many(VALUES_MAX + 1)),
            (Kind::TooLarge, Some(format!("$.a[{}]", VALUES_MAX - 2)))
        );
        assert!(parse_object(many(VALUES_MAX).as_bytes()).is_ok());
        assert!(parse_object(br#" {"a":[1,-1,2.5,true,null,{"b":"x"}]} "#).is_ok());
    }
}
