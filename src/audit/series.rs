//! A log as a series of files: lines whole and readable, numbered without gaps or repeats, segments called by their last.

use serde::de::DeserializeOwned;

use super::{Audit, Kind, Mend, by_hand};
use crate::id::RunId;
use crate::jsonl::{self, Line};

/// One file of a series.
pub(super) struct Part {
    pub(super) path: String,
    /// The number of its last line, if it is sealed.
    pub(super) sealed: Option<u64>,
}

/// Whose log it is.
#[derive(Clone, Copy)]
pub(super) enum Whose {
    /// Of the spool: its oldest segments may be gone.
    Spool {
        writer_lives: bool,
    },
    Run {
        run: RunId,
        writer_lives: bool,
    },
}

/// The lines of a series.
pub(super) struct Series<E> {
    /// Each with the number of its part.
    pub(super) lines: Vec<(usize, Line<E>)>,
    /// Whether it begins with line 1 and nothing is missing or unreadable.
    pub(super) whole: bool,
}

/// Where reading a series stands.
struct At {
    last: u64,
    /// Lines of this file that could not be read.
    bad: u64,
    whole: bool,
}

impl Audit<'_> {
    pub(super) fn read_series<E: DeserializeOwned>(&mut self, parts: &[Part], whose: Whose) -> Series<E> {
        let mut lines = Vec::new();
        let mut at = At { last: 0, bad: 0, whole: true };
        for (number, part) in parts.iter().enumerate() {
            at.bad = 0;
            let Some(bytes) = self.content(&part.path) else {
                at.whole &= !self.seen.contents.contains_key(&part.path);
                continue;
            };
            let mut begin = 0;
            for text in bytes.split_inclusive(|byte| *byte == b'\n') {
                if !text.ends_with(b"\n") {
                    self.find_unfinished(part, begin, text.len(), whose, &mut at);
                    break;
                }
                let mut parsed = jsonl::parse::<E>(text);
                if let Some((_, why)) = parsed.bad.pop() {
                    at.bad += 1;
                    at.whole = false;
                    let what = format!("byte {begin}: {why}");
                    let mend = by_hand(
                        "bring the file back from a copy; what follows is read, the line is passed over",
                    );
                    self.find(Kind::LineUnreadable, &part.path, what, mend);
                }
                for line in parsed.lines {
                    self.check_number(part, line.seq, whose, &mut at);
                    lines.push((number, line));
                }
                begin += text.len() as u64;
            }
            self.check_name(part, &at);
        }
        Series { lines, whole: at.whole }
    }

    fn check_number(&mut self, part: &Part, seq: u64, whose: Whose, at: &mut At) {
        let expected = at.last + 1;
        if seq < expected {
            let what = format!("line {seq} stands behind line {}", at.last);
            self.find(Kind::LineRepeated, &part.path, what, by_hand("bring the file back from a copy"));
            at.whole = false;
            return;
        }
        let missing = seq - expected;
        let is_history =
            at.last == 0 && matches!(whose, Whose::Spool { .. }) && !self.is_behind_checkpoint(seq - 1);
        if missing > 0 {
            at.whole = false;
            // Behind a line that could not be read, numbers are left out at the next start.
            if at.bad == 0 && !is_history {
                let what = format!("lines {expected} to {} are not there", seq - 1);
                self.find(Kind::LineMissing, &part.path, what, by_hand("bring them back from a copy"));
            }
        }
        at.last = seq;
    }

    fn check_name(&mut self, part: &Part, at: &At) {
        let Some(sealed) = part.sealed else { return };
        if sealed != at.last && at.bad == 0 {
            let what = format!("its last line is {}, and its name says {sealed}", at.last);
            self.find(Kind::SegmentMisnamed, &part.path, what, by_hand("bring the file back from a copy"));
        }
    }

    fn find_unfinished(&mut self, part: &Part, begin: u64, bytes: usize, whose: Whose, at: &mut At) {
        let what = format!("{bytes} bytes of an unfinished line at byte {begin}");
        let mend = match (part.sealed, whose) {
            (Some(_), _) => {
                at.whole = false;
                let mend = by_hand("bring the file back from a copy");
                return self.find(Kind::LineUnreadable, &part.path, what, mend);
            }
            (None, Whose::Spool { writer_lives: true } | Whose::Run { writer_lives: true, .. }) => {
                Mend::Daemon
            }
            (None, Whose::Spool { .. }) => Mend::Cut(begin),
            (None, Whose::Run { run, .. }) => Mend::CutInRun(run, begin),
        };
        self.find(Kind::LineUnfinished, &part.path, what, mend);
    }
}
