//! A value that does not fit its place, in the words of whoever wrote it: serde speaks of Rust's types.

use crate::refusal::{Kind, Refusal};

/// Turns what serde says of a value into a refusal.
pub(crate) fn told(said: &str) -> Refusal {
    if let Some(rest) = said.strip_prefix("missing field ") {
        return Refusal::new(Kind::MissingKey, format!("the key {:?} is missing", quoted(rest)));
    }
    if let Some((given, known)) = parted(said, "unknown variant ") {
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        return Refusal::unknown(Kind::WrongType, "value", quoted(given), &known);
    }
    let misfit = parted(said, "invalid type: ").or_else(|| parted(said, "invalid value: "));
    let message =
        misfit.map(|(given, wanted)| format!("{} stands where {} belongs", seen(given), place(wanted)));
    Refusal::new(Kind::WrongType, message.unwrap_or_else(|| said.to_owned()))
}

/// What stands between `start` and the last ", expected", and what stands behind that.
fn parted<'a>(said: &'a str, start: &str) -> Option<(&'a str, &'a str)> {
    said.strip_prefix(start)?.rsplit_once(", expected ")
}

fn quoted(text: &str) -> &str {
    text.trim_matches('`')
}

/// A value, as it was found.
fn seen(given: &str) -> String {
    match given {
        "sequence" => "an array".to_owned(),
        "map" => "an object".to_owned(),
        _ => match given.split_once(' ') {
            Some(("string", text)) => format!("the text {text}"),
            Some(("integer", number)) => format!("the number {}", quoted(number)),
            Some(("floating", number)) => {
                format!("the number {}", quoted(number.trim_start_matches("point ")))
            }
            Some(("boolean", value)) => quoted(value).to_owned(),
            Some(_) | None => given.to_owned(),
        },
    }
}

/// What belongs in a place.
fn place(wanted: &str) -> &str {
    match wanted {
        "a sequence" => "an array",
        "a map" => "an object",
        "a string" | "path string" | "string or map" => "a text",
        "a boolean" => "true or false",
        // Of all numbers only ranks are so small.
        "u8" => "a whole number from 0 to 99",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number, 0 or more,",
        _ if wanted.starts_with("struct ") => "an object",
        _ => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serde_says_of_a_value_is_told_in_the_words_of_json() {
        for (said, told_as) in [
            (
                "invalid type: string \"make\", expected a sequence",
                "the text \"make\" stands where an array belongs",
            ),
            (
                "invalid type: string \"a, expected b\", expected u64",
                "the text \"a, expected b\" stands where a whole \
              number, 0 or more, belongs",
            ),
            (
                "invalid value: integer `300`, expected u8",
                "the number 300 stands where a whole number from 0 to 99 \
              belongs",
            ),
            (
                "invalid type: floating point `5.5`, expected u64",
                "the number 5.5 stands where a whole number, 0 or \
              more, belongs",
            ),
            (
                "invalid type: string \"none\", expected struct WorkspaceSpec",
                "the text \"none\" stands where an object \
              belongs",
            ),
            ("invalid type: null, expected a string", "null stands where a text belongs"),
            ("invalid type: boolean `true`, expected a map", "true stands where an object belongs"),
            ("missing field `target`", "the key \"target\" is missing"),
            (
                "unknown variant `al`, expected one of `never`, `worktree`, `all`",
                "unknown value \"al\"; did you mean \
              \"all\"?",
            ),
            (
                "unknown variant `files`, expected `merged` or `apart`",
                "unknown value \"files\"; known are: merged, \
              apart",
            ),
            ("\"../x\" is not a name", "\"../x\" is not a name"),
        ] {
            assert_eq!(told(said).to_string(), told_as);
        }
    }
}
