//! Append-only logs of JSON lines, the commit point of everything: the only writer of JSONL.
//!
//! A log is opened, its torn tail cut, and then appended to: one `write` per batch, durable when asked for. An error
//! while appending is never retried into a success: after it the log takes nothing more, and its process must be
//! started again to read what the disk really holds. No descriptor stays open between batches, since git may replace
//! the file.
//!
//! One thing is no such error: a `write` for which there was no room. Nothing of the batch was synced then, so that nothing
//! can have been promised, and no later sync can take for written what is not. What came of it is cut off again, which is
//! looked at and synced; the log is what it was, and takes the next batch when there is room.

use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk;
use crate::jsonl::{self, Line};
use crate::layout::Layout;
use crate::mutant::{self, Mutant};
use crate::reserve;
use crate::store::{self, StoreError};
use crate::time::Timestamp;

/// Why a log takes nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{} changed under its writer: {expected} bytes were expected, {found} are there", path.display())]
    Changed { path: PathBuf, expected: u64, found: u64 },
    #[error("{} takes nothing more since an earlier error", path.display())]
    Stopped { path: PathBuf },
    /// The log is what it was before.
    #[error("{0}")]
    Short(StoreError),
}

impl LogError {
    /// What went wrong with the file, if that was it.
    pub(crate) fn store(&self) -> Option<&StoreError> {
        match self {
            LogError::Store(error) | LogError::Short(error) => Some(error),
            LogError::Changed { .. } | LogError::Stopped { .. } => None,
        }
    }
}

/// Whether a batch must survive a power cut before the call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    Durable,
    /// Visible to readers at once; on disk with the next durable batch.
    Relaxed,
}

/// The writer of one log file.
#[derive(Debug)]
pub(crate) struct Log<E> {
    path: PathBuf,
    last_seq: u64,
    bytes: u64,
    /// Whether the file's entry in its folder is on disk.
    entered: bool,
    stopped: bool,
    events: PhantomData<fn(E)>,
}

/// What opening a log found.
#[derive(Debug)]
pub(crate) struct Opened<E> {
    pub(crate) log: Log<E>,
    pub(crate) lines: Vec<Line<E>>,
    /// The time of the last line, which may be one that was not read.
    pub(crate) last_at: Option<Timestamp>,
    /// What was wrong with it, in words: bytes cut, lines passed over.
    pub(crate) repaired: Vec<String>,
}

impl<E: Serialize + DeserializeOwned> Log<E> {
    /// Opens the log at `path`, or begins it with number `after + 1`; only the lines above `after` are read. A last line
    /// without its end is cut off.
    ///
    /// # Errors
    /// When the file cannot be read, or its torn end not be cut.
    pub(crate) fn open(path: &Path, after: u64) -> Result<Opened<E>, LogError> {
        let bytes = store::read_if_there(path)?.unwrap_or_default();
        let parsed = jsonl::parse_where(&bytes, |seq| seq > after);
        let mut repaired = Vec::new();
        let torn = bytes.len() as u64 - parsed.whole_bytes;
        if torn > 0 {
            store::truncate(path, parsed.whole_bytes)?;
            repaired.push(format!("{}: cut {torn} bytes of an unfinished line", path.display()));
        }
        let bad = parsed.bad.iter();
        repaired.extend(bad.map(|(byte, error)| format!("{}: byte {byte}: {error}", path.display())));
        // The numbers of lines that cannot be read are not used again.
        let last_seq = parsed.last_seq.max(after) + parsed.bad_at_end;
        let log = Log {
            path: path.to_owned(),
            last_seq,
            bytes: parsed.whole_bytes,
            entered: parsed.whole_bytes > 0,
            stopped: false,
            events: PhantomData,
        };
        Ok(Opened { log, lines: parsed.lines, last_at: jsonl::last_at(&bytes), repaired })
    }

    /// Makes the file if it is not there, and its entry durable, with those of all that lies beside it: so that a first
    /// line is on disk with its sync alone.
    pub(crate) fn enter(&mut self) -> Result<(), LogError> {
        store::open_append(&self.path).map_err(short)?;
        store::sync_parent(&self.path)?;
        self.entered = true;
        Ok(())
    }

    /// Appends `events` as one batch and returns them as lines.
    ///
    /// # Errors
    /// [`LogError::Short`] when there was no room: nothing of the batch is there. With any other nothing of the batch may be
    /// relied on, and the log takes nothing more.
    pub(crate) fn append(
        &mut self,
        at: Timestamp,
        events: Vec<E>,
        durability: Durability,
    ) -> Result<Vec<Line<E>>, LogError> {
        let lines: Vec<Line<E>> =
            (self.last_seq + 1..).zip(events).map(|(seq, event)| Line { seq, at, event }).collect();
        let mut bytes = Vec::new();
        for line in &lines {
            jsonl::write(&mut bytes, line);
        }
        if self.stopped {
            return Err(LogError::Stopped { path: self.path.clone() });
        }
        let written = self.write(&bytes, durability);
        self.stopped = !matches!(written, Ok(()) | Err(LogError::Short(_)));
        written?;
        self.last_seq += lines.len() as u64;
        self.bytes += bytes.len() as u64;
        Ok(lines)
    }

    /// Appends what must not wait for room, durably: where there is none, some of the reserve is given up for it.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub(crate) fn append_with_reserve(
        &mut self,
        layout: &Layout,
        at: Timestamp,
        events: Vec<E>,
    ) -> Result<Vec<Line<E>>, LogError>
    where
        E: Clone,
    {
        // Others may use what becomes free.
        const FILES_MAX: u32 = 4;
        for _ in 0..FILES_MAX {
            match self.append(at, events.clone(), Durability::Durable) {
                Err(LogError::Short(error)) if error.wants_room() && reserve::give_up(layout) => {}
                done => return done,
            }
        }
        self.append(at, events, Durability::Durable)
    }

    fn write(&mut self, bytes: &[u8], durability: Durability) -> Result<(), LogError> {
        let mut file = store::open_append(&self.path).map_err(short)?;
        let found = store::at("look at", &self.path, disk::look(&file))?.bytes;
        if found != self.bytes {
            return Err(LogError::Changed { path: self.path.clone(), expected: self.bytes, found });
        }
        if let Err(error) = store::at("append to", &self.path, file.write_all(bytes)) {
            let cut = self.cut_back(&file);
            // Of any other error nobody knows what it has done; what is cut then would be cut at the next opening too.
            return Err(if error.shortage().is_some() {
                cut.err().map_or(LogError::Short(error), LogError::Store)
            } else {
                LogError::Store(error)
            });
        }
        if durability == Durability::Durable && !mutant::breaks(Mutant::NoLogSync) {
            store::at("sync", &self.path, file.sync_data())?;
            if !self.entered {
                store::sync_parent(&self.path)?;
                self.entered = true;
            }
        }
        Ok(())
    }

    /// Takes back what a failed write has left.
    fn cut_back(&self, file: &store::File) -> Result<(), StoreError> {
        store::at("cut", &self.path, file.set_len(self.bytes))?;
        let left = store::at("look at", &self.path, disk::look(file))?.bytes;
        if left != self.bytes {
            let reason = format!("{left} bytes are left of it, and {} were to be", self.bytes);
            return store::at("cut", &self.path, Err(io::Error::other(reason)));
        }
        store::at("sync", &self.path, file.sync_data())
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Renames the file to `segment`, durably; the next append begins a new file with the next number.
    ///
    /// # Errors
    /// When the rename fails; the log then goes on in the same file.
    pub(crate) fn seal(&mut self, segment: &Path) -> Result<(), LogError> {
        store::rename(&self.path, segment)?;
        self.bytes = 0;
        self.entered = false;
        store::sync_parent(segment)?;
        Ok(())
    }
}

/// An error before anything was written.
fn short(error: StoreError) -> LogError {
    if error.shortage().is_some() { LogError::Short(error) } else { LogError::Store(error) }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test damages the log as a crash would")]
mod tests {
    use super::*;

    type Said = std::collections::BTreeMap<String, String>;

    fn said(text: &str) -> Said {
        [("text".to_owned(), text.to_owned())].into()
    }

    fn append(log: &mut Log<Said>, text: &str) -> Result<Vec<Line<Said>>, LogError> {
        log.append(Timestamp::from_micros(0), vec![said(text)], Durability::Durable)
    }

    #[test]
    fn a_torn_last_line_is_cut_and_the_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("now.jsonl");
        let mut log = Log::open(&path, 6).unwrap().log;
        append(&mut log, "one").unwrap();
        append(&mut log, "two").unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut opened = Log::<Said>::open(&path, 6).unwrap();
            let lines = append(&mut opened.log, "three").unwrap();
            let again = Log::<Said>::open(&path, 6).unwrap();
            assert_eq!(again.repaired, Vec::<String>::new(), "cut at {cut}");
            let seqs: Vec<u64> = again.lines.iter().map(|line| line.seq).collect();
            assert_eq!(seqs, (7..=lines[0].seq).collect::<Vec<_>>(), "cut at {cut}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_costs_its_number_once_however_often_the_log_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("now.jsonl");
        append(&mut Log::open(&path, 0).unwrap().log, "one").unwrap();
        std::fs::write(&path, [std::fs::read(&path).unwrap(), b"\0\0\n".to_vec()].concat()).unwrap();
        for number in 3..6 {
            let mut opened = Log::<Said>::open(&path, 0).unwrap();
            assert_eq!(append(&mut opened.log, "more").unwrap()[0].seq, number);
        }
    }

    #[test]
    fn after_an_error_the_log_takes_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("now.jsonl");
        let mut log = Log::open(&path, 0).unwrap().log;
        append(&mut log, "one").unwrap();
        let other = Log::<Said>::open(&path, 0).unwrap().log.append(
            Timestamp::from_micros(0),
            vec![said("intruder")],
            Durability::Relaxed,
        );
        assert!(other.is_ok());
        assert!(matches!(append(&mut log, "two"), Err(LogError::Changed { .. })));
        assert!(matches!(append(&mut log, "three"), Err(LogError::Stopped { .. })));
        assert_eq!(Log::<Said>::open(&path, 0).unwrap().lines.len(), 2);
    }
}
