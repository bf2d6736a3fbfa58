//! Ids and names: each is parsed once, and is from then on one safe path component.
//!
//! Pure: new ids are made in `clock`, which owns time and randomness.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::{Date, Timestamp};

/// Why a text is not the id or name that it was given for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not {expected}")]
pub(crate) struct IdError {
    text: String,
    expected: &'static str,
}

/// Writes the conversions that all ids share: text in, text out, serde through the text.
macro_rules! text_conversions {
    ($id:ty) => {
        impl TryFrom<String> for $id {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$id> for String {
            fn from(id: $id) -> String {
                id.to_string()
            }
        }
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// A task's id: a UUIDv7, so that names sort by time. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct TaskId(Uuid);

impl TaskId {
    pub(crate) fn from_uuid(uuid: Uuid) -> TaskId {
        TaskId(uuid)
    }

    /// The day (UTC) on which the id was made; the dated folders of the spool follow from it.
    pub(crate) fn date(self) -> Date {
        self.made_at().date()
    }

    /// When the id was made, to the millisecond.
    pub(crate) fn made_at(self) -> Timestamp {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |t| t.to_unix());
        Timestamp::from_micros(i64::try_from(seconds).unwrap_or(0) * 1_000_000 + i64::from(nanos) / 1_000)
    }
}

impl FromStr for TaskId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError { text: text.to_owned(), expected: "a task id (a UUIDv7 in lower case)" };
        let uuid = Uuid::try_parse(text).map_err(|_| wrong())?;
        let same_text = uuid.hyphenated().to_string() == text;
        if uuid.get_version_num() == 7 && same_text { Ok(TaskId(uuid)) } else { Err(wrong()) }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

text_conversions!(TaskId);

/// A run's id, `<task id>.<attempt>`; a task's attempts are numbered from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct RunId {
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
}

impl FromStr for RunId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError { text: text.to_owned(), expected: "a run id (<task id>.<attempt>)" };
        let (task, attempt) = text.split_once('.').ok_or_else(wrong)?;
        let attempt: u32 = attempt.parse().map_err(|_| wrong())?;
        let run = RunId { task: task.parse()?, attempt };
        if attempt > 0 && run.to_string() == text { Ok(run) } else { Err(wrong()) }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.attempt)
    }
}

text_conversions!(RunId);

/// A name that a user chose for a task, a queue, an agent, or that a host bears.
///
/// ASCII letters, digits, `.`, `_` and `-`, at most 128 bytes, the first a letter or a digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Name(String);

/// What a name may be, for error messages.
pub(crate) const NAME_RULE: &str =
    "a name (letters, digits, '.', '_' and '-', the first a letter or digit, at most 128)";

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let fits = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && text.bytes().all(inner)
            && text.len() <= 128;
        if fits {
            Ok(Name(text.to_owned()))
        } else {
            Err(IdError { text: text.to_owned(), expected: NAME_RULE })
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_conversions!(Name);

/// A task's place in the order of dispatch: two digits, the lowest first. Spelled in the file's name only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub(crate) struct Rank(u8);

impl Default for Rank {
    fn default() -> Rank {
        Rank(50)
    }
}

impl Rank {
    pub(crate) fn is_default(&self) -> bool {
        *self == Rank::default()
    }
}

impl TryFrom<u8> for Rank {
    type Error = IdError;
    fn try_from(rank: u8) -> Result<Self, IdError> {
        if rank < 100 {
            Ok(Rank(rank))
        } else {
            Err(IdError { text: rank.to_string(), expected: "a rank (0 to 99)" })
        }
    }
}

impl From<Rank> for u8 {
    fn from(rank: Rank) -> u8 {
        rank.0
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_safe_path_component() {
        for good in ["a", "fix-login.md", "0", "a_b.c-d"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", ".", "..", "-a", ".a", "a/b", "a b", "a\n", "ä", "a\0", "\u{202e}a", &long] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_id_has_one_spelling_and_a_date() {
        let id: TaskId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(id.date().to_string(), "2023-06-30");
        for bad in ["01890A5D-AC96-774B-BCCE-B302099A8057", "01890a5dac96774bbcceb302099a8057", "x", ""] {
            assert!(bad.parse::<TaskId>().is_err(), "{bad}");
        }
        assert!("7a8b3d3e-1f1e-4c7b-9d9a-000000000000".parse::<TaskId>().is_err(), "version 4");
        let run: RunId = format!("{id}.2").parse().unwrap();
        assert_eq!((run.task, run.attempt), (id, 2));
        for bad in [format!("{id}.0"), format!("{id}.02"), format!("{id}.+1"), format!("{id}")] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }
}
