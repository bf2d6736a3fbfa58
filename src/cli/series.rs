//! A log read as one series of lines, however it is cut into files: what is there, and then what comes.
//!
//! No line is given twice, and none is left out. The growing file is opened before the sealed segments are listed: what
//! is sealed meanwhile is read through the open file, and what was sealed before is in the list. A line in the making is
//! left for the next time.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use serde_json::Value;

use super::{CliError, talk};
use crate::history;
use crate::id::Name;
use crate::layout::Layout;
use crate::store::{self, StoreError};

/// How much of a file is read at a time.
const BLOCK_BYTES: usize = 256 * 1024;

/// Which log.
pub(super) enum Log {
    /// The spool's log of a host: sealed segments, then `now.jsonl`.
    Spool { layout: Layout, host: Name },
    /// One file.
    Run(PathBuf),
}

impl Log {
    fn growing(&self) -> PathBuf {
        match self {
            Log::Spool { layout, host } => layout.now(host),
            Log::Run(path) => path.clone(),
        }
    }

    /// The sealed files that have lines after number `after`.
    fn sealed(&self, after: u64) -> Result<Vec<PathBuf>, StoreError> {
        match self {
            Log::Spool { layout, host } => {
                let segments = history::segments(layout, host)?;
                Ok(segments.into_iter().filter(|(last, _)| *last > after).map(|(_, path)| path).collect())
            }
            Log::Run(_) => Ok(Vec::new()),
        }
    }
}

/// A line as it stands in the file, without its newline, and as a value.
pub(super) struct Taken {
    pub(super) text: String,
    pub(super) value: Value,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    On,
    Stop,
}

/// Where reading stands.
pub(super) struct Series {
    log: Log,
    /// The number of the last line that was given.
    after: u64,
    growing: Option<Growing>,
}

struct Growing {
    file: File,
    identity: (u64, u64),
    /// Where the first line begins that was not given. A torn line after it may be cut off by the next writer.
    offset: u64,
}

impl Series {
    pub(super) fn new(log: Log, after: u64) -> Series {
        Series { log, after, growing: None }
    }

    /// Gives all lines that are there now and were not given yet, until `take` has enough.
    pub(super) fn read(
        &mut self,
        take: &mut impl FnMut(Taken) -> Result<Go, CliError>,
    ) -> Result<Go, CliError> {
        let path = self.log.growing();
        let there = std::fs::metadata(&path).ok().map(|metadata| identity(&metadata));
        if there.is_none() || self.growing.as_ref().map(|growing| growing.identity) != there {
            self.growing = match File::open(&path) {
                Ok(file) => {
                    let identity = identity(&store::at("look at", &path, file.metadata())?);
                    Some(Growing { file, identity, offset: 0 })
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Ok(store::at("open", &path, Err(error))?),
            };
            for sealed in self.log.sealed(self.after)? {
                let bytes = history::read(&sealed)?.unwrap_or_default();
                for line in bytes.split(|byte| *byte == b'\n') {
                    if give(&mut self.after, line, take)? == Go::Stop {
                        // What was not given is read again from the start.
                        self.growing = None;
                        return Ok(Go::Stop);
                    }
                }
            }
        }
        let Some(growing) = &mut self.growing else { return Ok(Go::On) };
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let read = store::at("read", &path, growing.file.read_at(&mut block, growing.offset))?;
            let whole = block[..read].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            // No line of ours is as long as a block; what is without end is passed over.
            let whole = if whole == 0 && read == block.len() { read } else { whole };
            if whole == 0 {
                return Ok(Go::On);
            }
            growing.offset += whole as u64;
            for line in block[..whole].split(|byte| *byte == b'\n') {
                if give(&mut self.after, line, take)? == Go::Stop {
                    self.growing = None;
                    return Ok(Go::Stop);
                }
            }
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn give(
    after: &mut u64,
    line: &[u8],
    take: &mut impl FnMut(Taken) -> Result<Go, CliError>,
) -> Result<Go, CliError> {
    if line.is_empty() {
        return Ok(Go::On);
    }
    let text = String::from_utf8_lossy(line).into_owned();
    let value: Option<Value> = serde_json::from_slice(line).ok();
    let Some((seq, value)) = value.and_then(|value| Some((value["seq"].as_u64()?, value))) else {
        talk(&format!("gitspool: a line after number {after} cannot be read and is passed over"));
        return Ok(Go::On);
    };
    if seq <= *after {
        return Ok(Go::On);
    }
    *after = seq;
    take(Taken { text, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{self, Durability};
    use crate::time::Timestamp;
    use std::collections::BTreeMap;
    use std::io::Write;

    type Said = BTreeMap<String, String>;

    #[test]
    fn a_log_is_followed_across_its_sealing_without_gap_or_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let host: Name = "here".parse().unwrap();
        store::make_dir(&layout.events_of(&host)).unwrap();
        let mut writer: log::Log<Said> = log::Log::open(&layout.now(&host), 0).unwrap().log;
        // All patterns of six steps of: append, seal, look.
        for pattern in 0..3_u32.pow(6) {
            let begin = writer.last_seq();
            let mut series = Series::new(Log::Spool { layout: layout.clone(), host: host.clone() }, begin);
            let mut seen = Vec::new();
            let mut look = |series: &mut Series| {
                let mut take = |line: Taken| {
                    seen.push(line.value["seq"].as_u64().unwrap());
                    Ok(Go::On)
                };
                series.read(&mut take).unwrap();
            };
            for step in 0..6 {
                match pattern / 3_u32.pow(step) % 3 {
                    0 => {
                        let said = Said::from([("text".to_owned(), "x".to_owned())]);
                        writer.append(Timestamp::from_micros(0), vec![said], Durability::Relaxed).unwrap();
                    }
                    1 if store::exists(&layout.now(&host)) => {
                        let last = writer.last_seq();
                        writer.seal(&layout.segment(&host, &Timestamp::from_micros(0).date(), last)).unwrap();
                    }
                    1 => {}
                    _ => look(&mut series),
                }
            }
            look(&mut series);
            assert_eq!(seen, (begin + 1..=writer.last_seq()).collect::<Vec<_>>(), "pattern {pattern}");
        }
    }

    #[test]
    fn a_line_is_given_once_it_is_whole_and_a_bad_one_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut series = Series::new(Log::Run(path.clone()), 1);
        let mut seen = String::new();
        let text = "{\"seq\":1}\n{\"seq\":2}\nbad\n{\"seq\":3}\n";
        for byte in text.bytes() {
            store::open_append(&path).unwrap().write_all(&[byte]).unwrap();
            let mut take = |line: Taken| {
                seen.push_str(&line.text);
                Ok(Go::On)
            };
            series.read(&mut take).unwrap();
        }
        assert_eq!(seen, "{\"seq\":2}{\"seq\":3}");
        assert_eq!(series.after, 3);
    }

    #[test]
    fn what_follows_a_torn_line_that_was_cut_off_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut series = Series::new(Log::Run(path.clone()), 0);
        let mut seen = Vec::new();
        let mut look = |series: &mut Series| {
            let mut take = |line: Taken| {
                seen.push(line.text);
                Ok(Go::On)
            };
            series.read(&mut take).unwrap();
        };
        store::open_append(&path).unwrap().write_all(b"{\"seq\":1}\n{\"seq\":2,\"to").unwrap();
        look(&mut series);
        store::truncate(&path, 10).unwrap();
        look(&mut series);
        store::open_append(&path).unwrap().write_all(b"{\"seq\":2}\n").unwrap();
        look(&mut series);
        assert_eq!(seen, ["{\"seq\":1}", "{\"seq\":2}"]);
    }

    #[test]
    fn who_has_enough_goes_on_later_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        store::create_new(&path, b"{\"seq\":1}\n{\"seq\":2}\n{\"seq\":3}\n", 0o600).unwrap();
        let mut series = Series::new(Log::Run(path), 0);
        for expected in 1..=3 {
            assert_eq!(series.read(&mut |_| Ok(Go::Stop)).unwrap(), Go::Stop);
            assert_eq!(series.after, expected);
        }
        assert_eq!(series.read(&mut |_| Ok(Go::Stop)).unwrap(), Go::On);
    }
}
