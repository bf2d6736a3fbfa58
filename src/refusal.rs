//! Why a command was not accepted: for the person and for the program that sent it.

use serde::{Deserialize, Serialize};

use crate::jsonl;
use crate::shortage::Shortage;

/// A refusal: what kind, in words, where in the file, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    /// The place inside a JSON command, as `$.env.PATH`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) hint: Option<String>,
    /// It would be refused for a shortage only, which no file is: it is judged again when there is room.
    #[serde(skip)]
    pub(crate) for_now: Option<Shortage>,
}

/// The kinds of refusal; programs may rely on these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    // The file itself.
    NotAFile,
    Symlink,
    HardLink,
    ForeignOwner,
    InboxWritable,
    BadName,
    BadExtension,
    Unreadable,
    TooLarge,
    Empty,
    // Its text.
    NotUtf8,
    ContainsNul,
    InvalidJson,
    DuplicateKey,
    TooDeep,
    // What it says.
    UnknownType,
    UnknownKey,
    MissingKey,
    WrongType,
    InvalidValue,
    // What it asks for.
    NotFound,
    Ambiguous,
    Conflict,
    Unsupported,
    NotPermitted,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Refusal {
        Refusal { kind, message: message.into(), path: None, hint: None, for_now: None }
    }

    pub(crate) fn at(self, path: impl Into<String>) -> Refusal {
        Refusal { path: Some(path.into()), ..self }
    }

    /// The same of a value that stands at `place` in another.
    pub(crate) fn below(self, place: &str) -> Refusal {
        let path = self.path.as_deref().unwrap_or("$");
        Refusal { path: Some(format!("{place}{}", path.strip_prefix('$').unwrap_or(path))), ..self }
    }

    pub(crate) fn for_now(self, shortage: Option<Shortage>) -> Refusal {
        Refusal { for_now: shortage, ..self }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Refusal {
        Refusal { hint: Some(hint.into()), ..self }
    }

    /// The same with texts short enough for a line of the log, whatever the refused file had in them.
    #[must_use]
    pub(crate) fn clipped(self) -> Refusal {
        const BYTES_MAX: usize = 4 * 1024;
        let clip = |text: String| jsonl::clip(&text, BYTES_MAX);
        Refusal {
            kind: self.kind,
            message: clip(self.message),
            path: self.path.map(clip),
            hint: self.hint.map(clip),
            for_now: self.for_now,
        }
    }

    /// "Unknown `what`", with the known name that was probably meant.
    pub(crate) fn unknown(kind: Kind, what: &str, given: &str, known: &[&str]) -> Refusal {
        let refusal = Refusal::new(kind, format!("unknown {what} {given:?}"));
        match nearest(given, known) {
            Some(name) => refusal.hint(format!("did you mean {name:?}?")),
            None => refusal.hint(format!("known are: {}", known.join(", "))),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        if let Some(path) = &self.path {
            write!(f, " (at {path})")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// The known name that a mistyped one is nearest to, if it is near at all.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    // The distance takes time and memory by the product of both lengths; and what is far longer is near to none.
    const CHARS_MAX: usize = 64;
    if given.chars().nth(CHARS_MAX).is_some() {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', ' '], "_");
    let given = plain(given);
    let scored = known.iter().map(|name| (strsim::damerau_levenshtein(&given, &plain(name)), *name));
    let extends = |name: &str| given.len() > 2 && (name.starts_with(&given) || given.starts_with(name));
    scored
        .filter(|(distance, name)| {
            // Of a short word not all may be mistyped.
            let near = *distance <= 2.max(given.len() / 3) && distance * 2 <= given.len();
            near || extends(name)
        })
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_gets_the_one_it_probably_meant() {
        let known = ["timeout_seconds", "workspace", "cancel", "run", "env"];
        for (given, meant) in [
            ("timeout", Some("timeout_seconds")),
            ("Workspace", Some("workspace")),
            ("cancle", Some("cancel")),
            ("evn", Some("env")),
            ("rn", Some("run")),
            ("cmd", None),
            ("zzzzzz", None),
            (&"run".repeat(100_000), None),
        ] {
            assert_eq!(nearest(given, &known), meant, "{given}");
        }
    }
}
