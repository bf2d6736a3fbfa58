//! The format of logs: JSON lines, numbered without gaps. Pure; `log` does the reading and appending.
//!
//! Reading never panics and never drops a good line: a torn last line is set apart, a bad line in the middle is
//! skipped and told.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The longest line, in bytes with its newline. Longer texts lie under `texts/`.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;
/// The largest number of a line: what every reader of JSON takes as it is, and one more than which still is a number.
pub(crate) const SEQ_MAX: u64 = (1 << 53) - 1;

/// One event of a log, with its number and time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line<E> {
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    #[serde(flatten)]
    pub(crate) event: E,
}

/// A log's bytes, taken apart.
#[derive(Debug)]
pub(crate) struct Parsed<E> {
    pub(crate) lines: Vec<Line<E>>,
    /// Lines that cannot be read, by the byte at which they begin.
    pub(crate) bad: Vec<(u64, String)>,
    /// How many bytes are whole lines; what follows is a line that was not finished.
    pub(crate) whole_bytes: u64,
    /// The highest number of a line, wanted or not.
    pub(crate) last_seq: u64,
    /// How many lines behind the last one with a number cannot be read.
    pub(crate) bad_at_end: u64,
}

impl<E> Parsed<E> {
    /// Whether there is a whole line, be it one that cannot be read.
    pub(crate) fn has_lines(&self) -> bool {
        self.whole_bytes > 0
    }
}

/// Reads all lines of `bytes`.
pub(crate) fn parse<E: DeserializeOwned>(bytes: &[u8]) -> Parsed<E> {
    parse_where(bytes, |_| true)
}

/// Reads the lines with the numbers that are wanted; of the others it looks at the number only.
pub(crate) fn parse_where<E: DeserializeOwned>(bytes: &[u8], wanted: impl Fn(u64) -> bool) -> Parsed<E> {
    let mut parsed =
        Parsed { lines: Vec::new(), bad: Vec::new(), whole_bytes: 0, last_seq: 0, bad_at_end: 0 };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let begin = parsed.whole_bytes;
        if !line.ends_with(b"\n") {
            break;
        }
        parsed.whole_bytes += line.len() as u64;
        if let Some(seq) = seq_of(line).filter(|seq| !wanted(*seq)) {
            parsed.last_seq = parsed.last_seq.max(seq);
            parsed.bad_at_end = 0;
            continue;
        }
        match read(line) {
            Ok(line) => {
                parsed.last_seq = parsed.last_seq.max(line.seq);
                parsed.bad_at_end = 0;
                if wanted(line.seq) {
                    parsed.lines.push(line);
                }
            }
            Err(why) => {
                parsed.bad.push((begin, why));
                parsed.bad_at_end += 1;
            }
        }
    }
    parsed
}

/// Reads one line, or says why that cannot be one of ours.
fn read<E: DeserializeOwned>(line: &[u8]) -> Result<Line<E>, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("{} bytes are more than a line has", line.len()));
    }
    let line = serde_json::from_slice::<Line<E>>(line).map_err(|error| error.to_string())?;
    if is_number(line.seq) { Ok(line) } else { Err(format!("no line has the number {}", line.seq)) }
}

fn is_number(seq: u64) -> bool {
    (1..=SEQ_MAX).contains(&seq)
}

/// The number with which a line begins, as we write it.
fn seq_of(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).filter(|end| rest[*end] == b',')?;
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok().filter(|seq| is_number(*seq))
}

/// The time of the last whole line.
pub(crate) fn last_at(bytes: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Stamp {
        at: Timestamp,
    }
    let whole = bytes.split_inclusive(|byte| *byte == b'\n').rfind(|line| line.ends_with(b"\n"))?;
    serde_json::from_slice(whole).ok().map(|Stamp { at }| at)
}

/// Writes one line, with its newline.
///
/// # Panics
/// When the line is longer than [`LINE_BYTES_MAX`]: whoever made the event must have put its long text elsewhere.
pub(crate) fn write<E: Serialize>(bytes: &mut Vec<u8>, line: &Line<E>) {
    let begin = bytes.len();
    serde_json::to_writer(&mut *bytes, line)
        .expect("because events have string keys and writing to memory works");
    bytes.push(b'\n');
    assert!(bytes.len() - begin <= LINE_BYTES_MAX, "a log line of {} bytes", bytes.len() - begin);
}

/// Shortens a text so that it takes at most `bytes_max` bytes of a line, escapes and all, and says so.
pub(crate) fn clip(text: &str, bytes_max: usize) -> String {
    let escaped = |c: char| match c {
        '"' | '\\' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    };
    let mut taken = 0;
    let fits = |(_, c): &(usize, char)| {
        taken += escaped(*c);
        taken <= bytes_max
    };
    let end = text.char_indices().take_while(fits).last().map_or(0, |(at, c)| at + c.len_utf8());
    if end == text.len() {
        text.to_owned()
    } else {
        format!("{}... ({} bytes in all)", &text[..end], text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Clone, Serialize, Deserialize)]
    struct Said {
        text: String,
    }

    fn log_of(texts: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (seq, text) in (1..).zip(texts) {
            let event = Said { text: (*text).to_owned() };
            write(&mut bytes, &Line { seq, at: Timestamp::from_micros(0), event });
        }
        bytes
    }

    #[test]
    fn a_log_cut_anywhere_gives_all_lines_before_the_cut() {
        let bytes = log_of(&["one", "two\nlines", "drei \u{1f600}"]);
        for cut in 0..=bytes.len() {
            let parsed = parse::<Said>(&bytes[..cut]);
            let whole = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!((parsed.lines.len(), parsed.bad.len()), (whole, 0), "cut at {cut}");
        }
    }

    #[test]
    fn lines_that_are_not_wanted_are_counted_and_not_read() {
        let bytes = log_of(&["one", "two", "three"]);
        let all = parse::<Said>(&bytes);
        for from in 0..5 {
            let some = parse_where::<Said>(&bytes, |seq| seq >= from);
            let expected: Vec<_> = all.lines.iter().filter(|line| line.seq >= from).cloned().collect();
            assert_eq!(
                (some.lines, some.last_seq, some.whole_bytes),
                (expected, 3, all.whole_bytes),
                "from {from}"
            );
        }
        let mut damaged = bytes.clone();
        damaged[20] = 0;
        assert_eq!(parse_where::<Said>(&damaged, |seq| seq > 1).bad, [], "line 1 is not wanted");
        assert_eq!(last_at(&bytes), Some(Timestamp::from_micros(0)));
        assert_eq!(last_at(b"{\"at\":"), None);
    }

    #[test]
    fn a_flipped_or_zeroed_byte_costs_one_line_at_most_and_joins_no_two_unseen() {
        let bytes = log_of(&["one", "two", "three"]);
        for place in 0..bytes.len() {
            for damage in [0, bytes[place] ^ 0x20, b'\n', b'"'] {
                let mut damaged = bytes.clone();
                damaged[place] = damage;
                let parsed = parse::<Said>(&damaged);
                assert!(!parsed.lines.is_empty(), "byte {place} as {damage}");
                let told = parsed.lines.len()
                    + parsed.bad.len()
                    + usize::from(parsed.whole_bytes < bytes.len() as u64);
                assert!(parsed.lines.len() == 3 || told >= 2, "byte {place} as {damage}");
            }
        }
    }

    #[test]
    fn a_line_that_is_none_of_ours_is_told_and_its_number_is_not_believed() {
        let good = String::from_utf8(log_of(&["one"])).unwrap();
        for number in ["0", "9007199254740992", "18446744073709551615"] {
            let bytes = good.replace("\"seq\":1", &format!("\"seq\":{number}")) + &good;
            let parsed = parse_where::<Said>(bytes.as_bytes(), |seq| seq > 0);
            assert_eq!((parsed.lines.len(), parsed.bad.len(), parsed.last_seq), (1, 1, 1), "{number}");
        }
        let long = good.replace("one", &"x".repeat(LINE_BYTES_MAX)) + &good;
        let parsed = parse::<Said>(long.as_bytes());
        assert_eq!((parsed.lines.len(), parsed.bad.len()), (1, 1));
    }

    #[test]
    fn clipping_ends_at_a_character() {
        assert_eq!(clip("abc", 3), "abc");
        assert!(clip("a\u{1f600}b", 3).starts_with("a... (6 bytes"));
        assert!(clip("\u{1}\u{1}\u{1}", 12).starts_with("\u{1}\u{1}... (3 bytes"));
    }
}
