//! Makes text that came from files harmless for whoever reads it on a terminal. Pure.
//!
//! Escaped are control characters (C0, DEL, C1) and those that turn the direction of a line; what is escaped can still be
//! read. A backslash is left as it is, so escaping twice changes nothing more.

/// A text for one line: newlines and tabs are escaped too.
pub(crate) fn line(text: &str) -> String {
    escaped(text, is_harmful)
}

/// A text of several lines.
pub(crate) fn lines(text: &str) -> String {
    escaped(text, |c| is_harmful(c) && !matches!(c, '\n' | '\t'))
}

/// JSON as it came from a serializer, which escapes C0 only. It stays the same JSON: such characters stand in strings.
pub(crate) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) && c != '\n' {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// Bytes of any kind as text of several lines. Tells also how many of the bytes that took: a character that is not
/// finished at the end is left for the next time.
pub(crate) fn bytes(bytes: &[u8]) -> (String, usize) {
    let mut out = String::with_capacity(bytes.len());
    let mut taken = 0;
    for chunk in bytes.utf8_chunks() {
        out.push_str(&lines(chunk.valid()));
        taken += chunk.valid().len();
        let unfinished = taken + chunk.invalid().len() == bytes.len()
            && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
        if unfinished {
            break;
        }
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
        taken += chunk.invalid().len();
    }
    (out, taken)
}

fn escaped(text: &str, harmful: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if harmful(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

fn is_harmful(c: char) -> bool {
    let turns =
        matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    // Some terminals take these for the ends of lines.
    let breaks = matches!(c, '\u{2028}' | '\u{2029}');
    c.is_control() || turns || breaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_shown_and_the_rest_stays() {
        for (given, shown) in [
            ("plain, ümläut \u{1f600} \\n", "plain, ümläut \u{1f600} \\n"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("a\rb\u{7f}\u{9b}31m", "a\\rb\\u{7f}\\u{9b}31m"),
            ("exe.\u{202e}txt\u{2066}", "exe.\\u{202e}txt\\u{2066}"),
        ] {
            assert_eq!(line(given), shown);
            assert_eq!(lines(given), shown);
            assert_eq!(line(&line(given)), shown, "twice is as once");
        }
        assert_eq!(line("a\n\tb"), "a\\n\\tb");
        assert_eq!(lines("a\n\tb"), "a\n\tb");
    }

    #[test]
    fn escaped_json_reads_back_as_the_same() {
        let value = serde_json::json!({"a\u{202e}": "\u{9b}\u{7f}\u{1b}\n\u{2028}"});
        let text = json(&value.to_string());
        assert!(!text.contains(is_harmful), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn bytes_cut_anywhere_give_the_same_text() {
        let given = b"a\x1b[2J \xff \xf0\x9f\x98\x80 \xc3 \xc2\x9b\n";
        let whole = bytes(given);
        assert_eq!(whole, ("a\\u{1b}[2J \\xff \u{1f600} \\xc3 \\u{9b}\n".to_owned(), given.len()));
        for cut in 0..=given.len() {
            let (first, taken) = bytes(&given[..cut]);
            assert!(cut - taken < 4);
            assert_eq!(first + &bytes(&given[taken..]).0, whole.0, "cut at {cut}");
        }
    }
}
