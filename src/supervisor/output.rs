//! The output of a run, which its agent writes straight into files: when it grew, and that it does not grow too much.
//!
//! Nothing here is ever in the agent's way, and nothing that it wrote is in our memory. Each file has an index beside it,
//! see `index`. Of a file with a limit the middle is given back to the disk while the agent goes on (a hole, where the
//! system has such), and when no process of the run is left it is written anew: head, a line about what is missing, tail.
//! What cannot be done for want of room is left: then times are missing, or a hole stays. The run does not hear of it.

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::index::{self, Entry, Index, LeftOut};
use crate::layout::{Layout, RunLayout};
use crate::reserve;
use crate::shortage::Room;
use crate::spec::Output;
use crate::store::{self, File, StoreError};
use crate::time::Moment;

/// How long an agent that prints a lot is left alone between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The same while it prints much beyond its limit: what lies on the disk meanwhile is what it writes in that time.
const LOOK_OFTEN: Duration = Duration::from_millis(1);
/// How much more in one look is much.
const MUCH_BYTES: u64 = 64 * 1024;
/// How far the head and the tail are cut back to whole lines, at most.
const LINE_BYTES_MAX: u64 = 8 * 1024;
/// What file systems give and take; a hole has no edges elsewhere.
const BLOCK_BYTES: u64 = 4096;

/// The files of a run's output, from the start of its agent on.
pub(super) struct Outputs {
    files: Vec<Printed>,
    /// Whether somebody tells when they grow.
    pub(super) watched: bool,
    /// When to look again at the earliest.
    pub(super) quiet_until: Moment,
    /// When something was printed last; at first, when the agent was about to start.
    pub(super) printed_at: Moment,
}

impl Outputs {
    pub(super) fn none() -> Outputs {
        let now = clock::monotonic();
        Outputs { files: Vec::new(), watched: true, quiet_until: now, printed_at: now }
    }

    /// Makes the files that the agent will write to, which the run is owed.
    pub(super) fn open(layout: &Layout, paths: &RunLayout, kept: Output, bytes_max: Option<u64>) -> Outputs {
        let files = match kept {
            Output::Merged => vec![(paths.output(), paths.output_index())],
            Output::Apart => {
                vec![(paths.stdout(), paths.stdout_index()), (paths.stderr(), paths.stderr_index())]
            }
        };
        // What cannot be made here the launch stage cannot make either, and says why.
        let opened = files.into_iter().filter_map(|(path, index)| {
            Some(Printed {
                file: reserve::spend(layout, || store::open_shared(&path)).ok()?,
                path,
                index_path: index,
                index: None,
                index_bytes: 0,
                every: LOOK_EVERY,
                owed_at: None,
                told_at: None,
                bytes: 0,
                bytes_max,
                given_back: 0,
            })
        });
        Outputs { files: opened.collect(), watched: false, ..Outputs::none() }
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().map(|file| &file.path)
    }

    /// Takes note of how much there is now.
    pub(super) fn look(&mut self, layout: &Layout) {
        let bytes = |files: &[Printed]| files.iter().map(|file| file.bytes).collect::<Vec<_>>();
        let before = bytes(&self.files);
        let quiet = self.files.iter_mut().filter_map(|file| file.look(layout)).min();
        let now = clock::monotonic();
        self.quiet_until = now + quiet.unwrap_or(Duration::ZERO);
        if bytes(&self.files) != before {
            self.printed_at = now;
        }
    }

    /// Whether a time was found and is not written down yet.
    pub(super) fn owe_a_line(&self) -> bool {
        self.files.iter().any(|file| file.owed_at.is_some())
    }

    /// Looks for the last time, when nobody is left who could write; gives the number of bytes that were left out.
    pub(super) fn close(&mut self, layout: &Layout) -> u64 {
        self.look(layout);
        std::mem::take(&mut self.files).into_iter().map(|file| file.close(layout)).sum()
    }
}

/// One file of output.
struct Printed {
    path: PathBuf,
    file: File,
    index_path: PathBuf,
    /// `None` until there is something to tell, and after what could not be written.
    index: Option<File>,
    index_bytes: usize,
    /// How far lines of the index lie apart at least; more once it was thinned out.
    every: Duration,
    /// When the next line may be written, if one is owed already.
    owed_at: Option<Moment>,
    told_at: Option<Moment>,
    /// How much was there at the last look.
    bytes: u64,
    bytes_max: Option<u64>,
    /// The hole's end; 0 when there is none.
    given_back: u64,
}

impl Printed {
    /// Takes note of how much there is; tells how long not to look again, when it is not what it was.
    fn look(&mut self, layout: &Layout) -> Option<Duration> {
        let now = clock::monotonic();
        let bytes = store::bytes_in(&self.file).unwrap_or(self.bytes);
        let more = bytes.saturating_sub(self.bytes);
        if bytes != self.bytes {
            self.bytes = bytes;
            self.given_back = self.given_back.min(bytes);
            let may = self.told_at.map_or(now, |told_at| told_at + self.every);
            self.owed_at = Some(self.owed_at.unwrap_or(may));
        }
        let owed_at = self.owed_at?;
        let is_beyond = self.bytes_max.is_some_and(|bytes_max| bytes > bytes_max);
        if is_beyond {
            self.give_back();
        }
        let wait = now.until(owed_at);
        if wait.is_zero() {
            self.tell(layout, None);
        }
        let wait = if wait.is_zero() { self.every } else { wait };
        Some(match self.bytes_max {
            Some(_) if is_beyond && more >= MUCH_BYTES => wait.min(LOOK_OFTEN),
            Some(_) => wait.min(LOOK_EVERY),
            None => wait,
        })
    }

    /// Writes a line into the index.
    fn tell(&mut self, layout: &Layout, left_out: Option<LeftOut>) {
        let line = Entry { at: clock::now(), bytes: self.bytes, left_out }.line();
        (self.owed_at, self.told_at) = (None, Some(clock::monotonic()));
        if self.index_bytes + line.len() > index::BYTES_MAX && self.thin(layout).is_err() {
            return;
        }
        if self.index.is_none() {
            self.index = store::open_append_at_once(&self.index_path).ok();
            // Behind half a line.
            let _ = self.index.as_mut().filter(|_| self.index_bytes > 0).map(|index| index.write_all(b"\n"));
        }
        self.index_bytes += line.len();
        if self.index.as_mut().is_some_and(|index| index.write_all(&line).is_err()) {
            self.index = None;
        }
    }

    fn thin(&mut self, layout: &Layout) -> Result<(), StoreError> {
        let thinned = Index::parse(&store::read(&self.index_path)?).thinned().to_bytes();
        store::draw(layout, &self.index_path, &thinned)?;
        self.index = Some(store::open_append_at_once(&self.index_path)?);
        self.index_bytes = thinned.len();
        self.every *= 2;
        Ok(())
    }

    /// How many bytes stay at the begin, and how many at the end.
    fn ends(&self) -> Option<(u64, u64)> {
        let bytes_max = self.bytes_max.filter(|bytes_max| self.bytes > *bytes_max)?;
        Some((bytes_max / 2, bytes_max - bytes_max / 2))
    }

    /// Gives the middle of the file back to the disk, in steps that are worth a call.
    fn give_back(&mut self) {
        let Some((head, tail)) = self.ends() else { return };
        let step = ((head + tail) / 8).clamp(BLOCK_BYTES, 1024 * 1024);
        let from = head.next_multiple_of(BLOCK_BYTES).max(self.given_back);
        let to = (self.bytes - tail) / BLOCK_BYTES * BLOCK_BYTES;
        // Where there are no holes it stays until the end.
        if to >= from + step && store::punch_hole(&self.file, &self.path, from, to - from).is_ok() {
            self.given_back = to;
        }
    }

    /// Writes a file that became too long anew; gives the number of bytes that were left out.
    fn close(mut self, layout: &Layout) -> u64 {
        let ends = self.ends();
        if self.owed_at.is_some() {
            self.tell(layout, None);
        }
        let Some((head, tail)) = ends else { return 0 };
        let named = store::identity(&self.path);
        if named.is_none() || named != store::identity_of(&self.file) {
            // Somebody removed it, or put another in its place: that is not ours to write.
            return 0;
        }
        match self.write_anew(layout, head, tail) {
            Ok(left_out) => left_out.bytes,
            Err(_) => self.given_back.saturating_sub(head.next_multiple_of(BLOCK_BYTES)),
        }
    }

    /// # Errors
    /// Also when that could leave others without room; the file is then as it was.
    fn write_anew(&mut self, layout: &Layout, head: u64, tail: u64) -> Result<LeftOut, StoreError> {
        let needed = head + tail + Room::NEEDED.bytes;
        if store::room(&self.path).is_some_and(|room| room.bytes < needed) {
            return store::at("write", &self.path, Err(io::ErrorKind::StorageFull.into()));
        }
        let read = |from: u64, to: u64| {
            let bytes = usize::try_from(to - from).unwrap_or(usize::MAX);
            store::read_part(&self.file, &self.path, from, bytes)
        };
        let before = read(head.saturating_sub(LINE_BYTES_MAX), head)?;
        let last_end = before.iter().rposition(|byte| *byte == b'\n');
        let from = last_end.map_or(head, |at| head - (before.len() - at - 1) as u64);
        let begin = self.bytes - tail;
        let behind = read(begin, begin + LINE_BYTES_MAX.min(tail))?;
        let first_end = behind.iter().position(|byte| *byte == b'\n');
        let to = begin + first_end.map_or(0, |at| at as u64 + 1);
        let (left_out, line) = LeftOut::between(from, to, last_end.is_some());
        // Before the file: it tells by its length whether this holds.
        self.tell(layout, Some(left_out));
        let (printed, path, end) = (&self.file, &self.path, self.bytes);
        store::replace_by(layout, &self.path, &mut |file: &mut File| {
            copy(printed, path, 0..from, file)?;
            file.write_all(line.as_bytes())?;
            copy(printed, path, to..end, file)
        })?;
        Ok(left_out)
    }
}

fn copy(from: &File, path: &Path, range: Range<u64>, to: &mut File) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let bytes = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(64 * 1024);
        let part = store::read_part(from, path, at, bytes).map_err(io::Error::other)?;
        if part.is_empty() {
            break;
        }
        to.write_all(&part)?;
        at += part.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_stays_short_and_ends_where_the_output_does() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, paths) = (Layout::new(folder.path()), RunLayout::new(folder.path()));
        let mut outputs = Outputs::open(&layout, &paths, Output::Merged, None);
        let file = &mut outputs.files[0];
        for bytes in 1..=40_000 {
            file.bytes = bytes;
            file.tell(&layout, None);
            assert!(file.index_bytes <= index::BYTES_MAX);
        }
        assert!(file.every > LOOK_EVERY, "a longer run has its times less exactly");
        let text = store::read(&paths.output_index()).unwrap();
        assert_eq!(text.len(), file.index_bytes);
        let index = Index::parse(&text);
        assert!(index.time_of(40_000).is_some() && index.time_of(40_001).is_none());
        assert!(index.time_of(1).is_some(), "the begin is known, too");
    }
}
