//! A file of output and places in it: where its last lines begin, where a line begins, where something was left out.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::store::{self, StoreError};

/// How much is read at a time.
const BLOCK_BYTES: usize = 64 * 1024;

/// Opens a file for reading; `None` when it is not there. What is no plain file is an error at once: a fifo would be
/// waited for.
pub(super) fn open_if_there(path: &Path) -> Result<Option<File>, StoreError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        opened => File::from(store::at("open", path, opened.map_err(io::Error::from))?),
    };
    let is_plain = store::at("look at", path, file.metadata())?.is_file();
    let plain = if is_plain { Ok(Some(file)) } else { Err(io::Error::other("it is no plain file")) };
    store::at("open", path, plain)
}

/// Where the hole is that begins at or behind `offset`. `None`: there is none, or the system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn hole(file: &File, offset: u64) -> Option<Range<u64>> {
    use rustix::fs::{SeekFrom, seek};
    let start = seek(file, SeekFrom::Hole(offset)).ok()?;
    let len = file.metadata().ok()?.len();
    // No data behind it: the hole goes to the end.
    let end = seek(file, SeekFrom::Data(start)).unwrap_or(len);
    (start < len).then_some(start..end)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn hole(_file: &File, _offset: u64) -> Option<Range<u64>> {
    None
}

/// Where the last `lines` lines of a file begin.
pub(super) fn tail_offset(file: &File, lines: u64, has_limit: bool) -> io::Result<u64> {
    let mut block = vec![0; BLOCK_BYTES];
    let len = file.metadata()?.len();
    let (mut end, mut left) = (len, lines);
    while end > 0 {
        let begin = end.saturating_sub(BLOCK_BYTES as u64);
        let part = &mut block[..usize::try_from(end - begin).unwrap_or(BLOCK_BYTES)];
        file.read_exact_at(part, begin)?;
        for (at, byte) in part.iter().enumerate().rev() {
            let after = begin + at as u64 + 1;
            // The newline at the very end closes the last line, and begins none.
            if *byte == b'\n' && after < len {
                if left <= 1 {
                    return Ok(if lines == 0 { len } else { after });
                }
                left -= 1;
            }
        }
        // A hole may be far longer than what was ever kept.
        let is_hole = has_limit && part.iter().all(|byte| *byte == 0);
        let before = if is_hole { hole(file, 0).map(|hole| hole.start) } else { None };
        end = before.map_or(begin, |before| begin.min(before));
    }
    Ok(if lines == 0 { len } else { 0 })
}

/// Where the line begins that the byte at `offset` is part of.
pub(super) fn line_begin(file: &File, offset: u64) -> io::Result<u64> {
    let mut end = offset.min(file.metadata()?.len());
    let mut block = vec![0; BLOCK_BYTES];
    while end > 0 {
        let begin = end.saturating_sub(BLOCK_BYTES as u64);
        let part = &mut block[..usize::try_from(end - begin).unwrap_or(BLOCK_BYTES)];
        file.read_exact_at(part, begin)?;
        match part.iter().rposition(|byte| *byte == b'\n' || *byte == 0) {
            Some(at) => return Ok(begin + at as u64 + 1),
            None => end = begin,
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_whatever_the_end_of_the_file_and_the_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        let long = "x".repeat(BLOCK_BYTES);
        for (text, lines, tail) in [
            ("", 3, ""),
            ("a\nb\nc\n", 0, ""),
            ("a\nb\nc\n", 1, "c\n"),
            ("a\nb\nc", 1, "c"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\n\n\n", 2, "\n\n"),
            ("a\nb\n", 9, "a\nb\n"),
            (format!("a\n{long}\nb\n").as_str(), 2, format!("{long}\nb\n").as_str()),
        ] {
            store::remove(&path).unwrap();
            store::create_new(&path, text.as_bytes(), 0o600).unwrap();
            let offset = tail_offset(&File::open(&path).unwrap(), lines, false).unwrap();
            let offset = usize::try_from(offset).unwrap();
            assert_eq!(text[offset..].len(), tail.len(), "{lines} of {:?}", &text[..text.len().min(10)]);
            assert_eq!(&text[offset..], tail);
        }
    }
}
