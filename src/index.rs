//! The index beside a run's output: when how much of it was there. Pure.
//!
//! A line of JSON for each look that found more. A byte was printed at the time of the first line whose `bytes` are beyond
//! it, and after that of the line before. Such a file only helps to tell times: one that is torn, short or missing costs
//! nothing else.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How long an index may become before it is thinned out.
pub(crate) const BYTES_MAX: usize = 1024 * 1024;

/// How much output there was at a time, in bytes since the run began; what was left out of the file is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    pub(crate) bytes: u64,
    /// What the file does not have any more; in the last line only, when the run has ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) left_out: Option<LeftOut>,
}

/// The part that is missing in the middle of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    /// Where it began.
    pub(crate) from: u64,
    pub(crate) bytes: u64,
    /// How long the text is that stands in its place.
    pub(crate) line_bytes: u64,
}

impl LeftOut {
    /// What is left out between the first `from` bytes and the byte `to`, and the text in its place, on a line of its own.
    pub(crate) fn between(from: u64, to: u64, begins_line: bool) -> (LeftOut, String) {
        let bytes = to.saturating_sub(from);
        let line = format!("{}{}", if begins_line { "" } else { "\n" }, line_of(bytes));
        (LeftOut { from, bytes, line_bytes: line.len() as u64 }, line)
    }
}

/// The line that stands for `bytes` of output that are not there.
pub(crate) fn line_of(bytes: u64) -> String {
    format!("[gitspool: {bytes} bytes left out]\n")
}

/// The times of one file of output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    entries: Vec<Entry>,
}

impl Index {
    /// Reads what can be read. Fewer bytes than before mean that somebody emptied the file: what stood there is forgotten.
    pub(crate) fn parse(bytes: &[u8]) -> Index {
        let mut index = Index::default();
        index.extend(bytes);
        index
    }

    /// Reads more whole lines of the same index.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        for line in bytes.split(|byte| *byte == b'\n') {
            let Ok(entry) = serde_json::from_slice::<Entry>(line) else { continue };
            if self.entries.last().is_some_and(|last| last.bytes > entry.bytes) {
                self.entries.clear();
            }
            self.entries.push(entry);
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|entry| entry.line()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the first `end` bytes were all there; `None` when no look has found so many.
    pub(crate) fn time_of(&self, end: u64) -> Option<Timestamp> {
        let at = self.entries.partition_point(|entry| entry.bytes < end);
        self.entries.get(at).map(|entry| entry.at)
    }

    /// How many bytes had been printed before `since`.
    pub(crate) fn before(&self, since: Timestamp) -> u64 {
        let later = self.entries.iter().position(|entry| entry.at >= since).unwrap_or(self.entries.len());
        later.checked_sub(1).and_then(|last| self.entries.get(last)).map_or(0, |entry| entry.bytes)
    }

    /// What a file of `len` bytes lacks: nothing, if it was not rewritten.
    pub(crate) fn left_out(&self, len: u64) -> Option<LeftOut> {
        let last = self.entries.last()?;
        last.left_out.filter(|out| len + out.bytes == last.bytes + out.line_bytes)
    }

    /// The same times with half as many lines; the last one stays.
    #[must_use]
    pub(crate) fn thinned(&self) -> Index {
        let last = self.entries.len().saturating_sub(1);
        let kept = self.entries.iter().enumerate().filter(|(at, _)| at % 2 == last % 2);
        Index { entries: kept.map(|(_, entry)| *entry).collect() }
    }
}

impl Entry {
    pub(crate) fn line(self) -> Vec<u8> {
        let mut line = serde_json::to_vec(&self).expect("because an entry has string keys");
        line.push(b'\n');
        line
    }
}

impl LeftOut {
    /// Where a byte of the rewritten file stood in what was printed; what stands in the gap's place is at its end.
    pub(crate) fn printed_at(&self, offset: u64) -> u64 {
        let LeftOut { from, bytes, line_bytes } = *self;
        if offset <= from { offset } else { (offset - from).saturating_sub(line_bytes) + from + bytes }
    }

    /// The other way round: where the rewritten file has a byte that was printed, or what stands for it.
    pub(crate) fn offset_of(&self, printed: u64) -> u64 {
        let LeftOut { from, bytes, line_bytes } = *self;
        match printed.checked_sub(from + bytes) {
            Some(behind) => from + line_bytes + behind,
            None => printed.min(from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn index(entries: &[(i64, u64)]) -> Index {
        let entry = |(second, bytes): &(i64, u64)| Entry { at: at(*second), bytes: *bytes, left_out: None };
        Index { entries: entries.iter().map(entry).collect() }
    }

    #[test]
    fn a_byte_has_the_time_of_the_first_look_that_found_it() {
        let index = index(&[(1, 10), (2, 10), (5, 30)]);
        assert_eq!(Index::parse(&index.to_bytes()), index);
        for (end, second) in [(0, Some(1)), (10, Some(1)), (11, Some(5)), (30, Some(5)), (31, None)] {
            assert_eq!(index.time_of(end), second.map(at), "{end}");
        }
        for (since, bytes) in [(0, 0), (1, 0), (2, 10), (3, 10), (5, 10), (6, 30)] {
            assert_eq!(index.before(at(since)), bytes, "since {since}");
        }
    }

    #[test]
    fn what_is_torn_is_passed_over_and_an_emptied_file_begins_anew() {
        let mut bytes = index(&[(1, 10), (2, 20)]).to_bytes();
        bytes.extend(b"{\"at\":\"2026\n{\"at\":1}\n\0\0\n");
        bytes.extend(index(&[(3, 25)]).to_bytes());
        assert_eq!(Index::parse(&bytes), index(&[(1, 10), (2, 20), (3, 25)]));
        bytes.extend(index(&[(4, 5), (5, 9)]).to_bytes());
        bytes.extend(b"{\"at\":");
        assert_eq!(Index::parse(&bytes), index(&[(4, 5), (5, 9)]));
    }

    #[test]
    fn a_thinned_index_still_ends_where_the_output_does() {
        let mut thin = index(&[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
        for expected in [&[(1, 1), (3, 3), (5, 5)][..], &[(1, 1), (5, 5)], &[(5, 5)], &[(5, 5)]] {
            thin = thin.thinned();
            assert_eq!(thin, index(expected));
        }
        assert!(index(&[]).thinned().is_empty());
    }

    #[test]
    fn what_follows_a_gap_keeps_its_time() {
        let (out, line) = LeftOut::between(10, 110, false);
        assert_eq!(line, "\n[gitspool: 100 bytes left out]\n");
        let stands = out.line_bytes;
        for (offset, printed) in [(0, 0), (10, 10), (10 + stands, 110), (11 + stands, 111)] {
            assert_eq!(out.printed_at(offset), printed);
            assert_eq!(out.offset_of(printed), if printed == 110 { 10 + stands } else { offset });
        }
        assert_eq!(out.offset_of(50), 10, "what is left out is where its line stands");
        let mut index = index(&[(1, 120)]);
        index.entries[0].left_out = Some(out);
        assert_eq!(index.left_out(20 + stands), Some(out));
        assert_eq!(index.left_out(120), None, "the file was not rewritten after all");
    }
}
