//! How things look to people: ages, short ids, what a task does, tables.

use std::time::Duration;

use crate::escape;
use crate::id::TaskId;
use crate::redact;
use crate::spec::{Spec, Work};
use crate::time::Timestamp;

/// How many characters of a task's work a table shows.
const WORK_CHARS_MAX: usize = 60;

/// The end of an id, by which the task is found again.
pub(super) fn short(task: TaskId) -> String {
    let text = task.to_string();
    text[text.len() - 8..].to_owned()
}

/// How long ago something was.
pub(super) fn age(at: Timestamp, now: Timestamp) -> String {
    lasted(now.since(at))
}

/// A length of time, in the largest unit that says something.
pub(super) fn lasted(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// What a task does, without secrets, on one line.
pub(super) fn work(spec: &Spec) -> String {
    let text = match spec.work() {
        Work::Run(argv) => argv.join(" "),
        Work::Shell(line) => line.to_owned(),
        Work::Script(text) => text
            .lines()
            .find(|line| !line.starts_with('#') && !line.trim().is_empty())
            .unwrap_or(text)
            .to_owned(),
        Work::Prompt(text) => text.trim_start().to_owned(),
    };
    clip(&redact::text(&text), WORK_CHARS_MAX)
}

/// The first line of a text, at most so many characters of it.
pub(super) fn clip(text: &str, chars_max: usize) -> String {
    let first = text.lines().next().unwrap_or_default();
    let cut: String = first.chars().take(chars_max).collect();
    let whole = cut.len() == text.trim_end().len();
    escape::line(&if whole { cut } else { format!("{}…", cut.trim_end()) })
}

/// Rows as columns of equal width; the last column is as wide as it is.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|word| (*word).to_owned()).collect();
    let rows: Vec<Vec<String>> =
        [head].iter().chain(rows).map(|row| row.iter().map(|cell| cell_of(cell)).collect()).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().map(|row: &Vec<String>| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn cell_of(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { escape::line(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7_200, "2h"), (200_000, "2d")] {
            assert_eq!(lasted(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn work_is_shown_on_one_line_without_secrets_or_escapes() {
        let spec = |text: &str| Spec { shell: Some(text.to_owned()), ..Spec::default() };
        assert_eq!(work(&spec("make test")), "make test");
        assert_eq!(work(&spec("API_TOKEN=abcdef make\nmore")), "[hidden] make…");
        assert_eq!(work(&spec("echo \u{1b}[31m")), "echo \\u{1b}[31m");
        assert_eq!(work(&spec(&"x".repeat(100))).chars().count(), WORK_CHARS_MAX + 1);
        let script = Spec { script: Some("#!/bin/sh\nmake".to_owned()), ..Spec::default() };
        assert_eq!(work(&script), "make");
    }

    #[test]
    fn a_table_lines_up_and_an_empty_cell_is_seen() {
        let rows = [vec!["a".to_owned(), String::new(), "x y\nz".to_owned()]];
        assert_eq!(table(&["one", "b", "last"], &rows), "one  b  last\na    -  x y\\nz\n");
    }
}
