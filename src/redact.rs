//! Hides secrets in texts and records that are shown or logged.
//!
//! By the key (a name that looks like a secret's) and by the form of the value (known prefixes, URL passwords, PEM).
//! It hides what it knows: a secret of unknown form under a harmless name passes.

use serde_json::Value;

/// What stands in a secret's place.
pub(crate) const HIDDEN: &str = "[hidden]";

const SECRET_WORDS: [&str; 9] =
    ["token", "secret", "password", "passwd", "authorization", "api_key", "apikey", "cookie", "credential"];
const SECRET_PREFIXES: [&str; 12] = [
    "sk-",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "AIza",
    "eyJhbGciOi",
    "npm_",
];

/// Whether a variable's or a key's name says that its value is a secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let plain = name.to_ascii_lowercase().replace('-', "_");
    let hashed = plain.ends_with("_sha256");
    !hashed && (SECRET_WORDS.iter().any(|word| plain.contains(word)) || plain.ends_with("_key"))
}

/// Hides the secrets in a text: words of a known form, what follows `Bearer`, passwords in URLs, PEM blocks.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_bearer = false;
    let mut in_pem = false;
    let mut pem_ends = false;
    for piece in text.split_inclusive(|c: char| c.is_whitespace() || "\"',;()<>".contains(c)) {
        let word = piece.trim_end_matches(|c: char| c.is_whitespace() || "\"',;()<>".contains(c));
        let rest = &piece[word.len()..];
        in_pem |= word.starts_with("-----BEGIN");
        pem_ends |= in_pem && word.starts_with("-----END");
        let hide = in_pem || (after_bearer && !word.is_empty()) || looks_secret(word);
        if pem_ends && word.ends_with("-----") {
            (in_pem, pem_ends) = (false, false);
        }
        after_bearer = word.eq_ignore_ascii_case("bearer") || (after_bearer && word.is_empty());
        match hide {
            true => out.push_str(HIDDEN),
            false => out.push_str(&hide_url_password(word)),
        }
        out.push_str(rest);
    }
    out
}

/// Hides the secrets in a record, at any depth.
pub(crate) fn value(value: &mut Value) {
    match value {
        Value::String(string) => *string = text(string),
        Value::Array(items) => items.iter_mut().for_each(self::value),
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                if inner.is_string() && is_secret_name(key) {
                    *inner = HIDDEN.into();
                }
                self::value(inner);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn looks_secret(word: &str) -> bool {
    // The value after `NAME=` or `name:` counts by itself too.
    let parts = std::iter::once(word).chain(word.split(['=', ':']).skip(1));
    let named = word.split_once('=').is_some_and(|(name, value)| value.len() > 3 && is_secret_name(name));
    let of_known_form =
        |part: &str| part.len() >= 16 && SECRET_PREFIXES.iter().any(|prefix| part.starts_with(prefix));
    named || parts.into_iter().any(of_known_form)
}

fn hide_url_password(word: &str) -> String {
    let hidden = word.split_once("://").and_then(|(scheme, rest)| {
        let (user_info, host) = rest.split_once('@')?;
        let (user, _) = user_info.split_once(':')?;
        (!user_info.contains('/')).then(|| format!("{scheme}://{user}:{HIDDEN}@{host}"))
    });
    hidden.unwrap_or_else(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_known_form_are_hidden_and_the_rest_stays() {
        for (given, shown) in [
            ("plain words, kept", "plain words, kept"),
            ("use sk-abcdefghijklmnopqrst now", "use [hidden] now"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer [hidden]"),
            ("https://me:hunter2@host/x", "https://me:[hidden]@host/x"),
            ("API_TOKEN=abcdef make", "[hidden] make"),
            (
                "-----BEGIN KEY-----\nabc\n-----END KEY-----\nafter",
                "[hidden] [hidden]\n[hidden]\n[hidden] [hidden]\nafter",
            ),
        ] {
            assert_eq!(text(given), shown);
        }
    }

    #[test]
    fn a_record_keeps_its_form_and_its_hashes() {
        let mut record =
            serde_json::json!({"env": {"MY_TOKEN": "x", "PATH": "/bin"}, "token_sha256": "ab", "n": 1});
        value(&mut record);
        assert_eq!(
            record,
            serde_json::json!({"env": {"MY_TOKEN": HIDDEN, "PATH": "/bin"}, "token_sha256": "ab", "n": 1})
        );
    }
}
