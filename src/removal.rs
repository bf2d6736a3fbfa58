//! What is left of a task that was removed: a line. Pure; `removed` keeps them.

use crate::digest;
use crate::id::TaskId;
use crate::layout::ENDED_FOLDERS;
use crate::spec::Spec;

/// An id, the folder in which its task ended, and the first digits of the digest of its spec.
pub(crate) const LINE_BYTES: usize = 64;
pub(crate) const ID_BYTES: usize = 36;
const FOLDER_BYTES: usize = 9;
const DIGITS: usize = 16;

/// A removed task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removed {
    /// One of `layout::ENDED_FOLDERS`.
    pub(crate) folder: &'static str,
    /// Of its spec.
    digits: String,
}

impl Removed {
    pub(crate) fn new(folder: &'static str, spec: &Spec) -> Removed {
        Removed { folder, digits: digits(spec) }
    }

    /// Whether it was a task of this spec.
    pub(crate) fn is_of(&self, spec: &Spec) -> bool {
        self.digits == digits(spec)
    }
}

fn digits(spec: &Spec) -> String {
    let bytes = serde_json::to_vec(&spec.without_fixed_deadline()).expect("because a spec has string keys");
    digest::sha256_hex(&bytes)[..DIGITS].to_owned()
}

/// The line of a removed task.
pub(crate) fn line(task: TaskId, removed: &Removed) -> String {
    format!("{task} {:<FOLDER_BYTES$} {}\n", removed.folder, removed.digits)
}

/// Reads a line; `None` when it is none of ours.
pub(crate) fn parse(line: &[u8]) -> Option<(TaskId, Removed)> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let mut words = text.split_ascii_whitespace();
    let (task, folder, digits): (TaskId, &str, &str) =
        (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let folder = ENDED_FOLDERS.into_iter().find(|ended| *ended == folder)?;
    let removed = Removed { folder, digits: digits.to_owned() };
    (self::line(task, &removed).as_bytes() == line).then_some((task, removed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_length_and_reads_back_and_nothing_else_does() {
        let task: TaskId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let spec = Spec { run: Some(vec!["true".to_owned()]), ..Spec::default() };
        for folder in ENDED_FOLDERS {
            let removed = Removed::new(folder, &spec);
            let text = line(task, &removed);
            assert_eq!(text.len(), LINE_BYTES);
            assert_eq!(parse(text.as_bytes()), Some((task, removed.clone())));
            assert!(removed.is_of(&spec) && !removed.is_of(&Spec::default()));
            for bad in
                ["", "x", &text[1..], text.trim_end(), &text.replace(folder, "x"), &text.to_uppercase()]
            {
                assert_eq!(parse(bad.as_bytes()), None, "{bad}");
            }
        }
    }
}
