//! The spool's log as a series of files: sealed segments, some of them compressed, then `now.jsonl`.
//!
//! The one place that reads segments. A segment may lie there plain, compressed, or both for a moment: the plain one
//! counts then.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::change::Changes;
use crate::event::Event;
use crate::id::Name;
use crate::jsonl::{self, Line};
use crate::layout::{self, Layout};
use crate::store::{self, StoreError};

/// What no segment is longer than: a file that says so is none of ours, and would fill the memory.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// The sealed segments of a host, the oldest first, each with the number of its last line.
pub(crate) fn segments(layout: &Layout, host: &Name) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let folder = layout.events_of(host);
    // Twice: one that is being compressed may be missed once, since it has its new name before it loses the old one.
    let names: BTreeSet<String> =
        [store::names(&folder)?, store::names(&folder)?].concat().into_iter().collect();
    let mut segments = BTreeMap::new();
    for name in names {
        let Some(last) = layout::parse_segment_name(&name) else { continue };
        if layout::is_compressed_name(&name) {
            segments.entry(last).or_insert(folder.join(&name));
        } else {
            segments.insert(last, folder.join(&name));
        }
    }
    Ok(segments.into_iter().collect())
}

/// Reads a segment, or the file that grows. One that was compressed or removed since it was listed is found, or is not there.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let is_compressed = |path: &Path| path.to_str().is_some_and(layout::is_compressed_name);
    if is_compressed(path) {
        let Some(bytes) = store::read_if_there(path)? else { return Ok(None) };
        return store::at("uncompress", path, decompress(&bytes)).map(Some);
    }
    match store::read_if_there(path)? {
        Some(bytes) => Ok(Some(bytes)),
        None if layout::parse_segment_name(&path.to_string_lossy()).is_some() => {
            read(&layout::compressed(path))
        }
        None => Ok(None),
    }
}

/// Compresses the sealed segments whose last lines are older than `day`; tells how many. Each has its new name, durably,
/// before it loses the old one. Whoever is killed in between leaves both, and the next time it is done again.
pub(crate) fn compress_older(
    layout: &Layout,
    host: &Name,
    day: &str,
    goes_on: &dyn Fn() -> bool,
) -> Result<u32, StoreError> {
    let mut done = 0;
    for (_, path) in segments(layout, host)?.into_iter().take_while(|_| goes_on()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_old = layout::parse_segment_day(&name).is_some_and(|of| of < day);
        if !is_old || layout::is_compressed_name(&name) {
            continue;
        }
        let Some(bytes) = store::read_if_there(&path)? else { continue };
        let target = layout::compressed(&path);
        let compressed = store::at("compress", &path, compress(&bytes))?;
        store::replace(layout, &target, &compressed)?;
        // What cannot be read back is no copy.
        if read(&target)?.as_ref() == Some(&bytes) {
            store::remove(&path)?;
            store::sync_parent(&path)?;
            done += 1;
        }
    }
    Ok(done)
}

fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn decompress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes).take(SEGMENT_BYTES_MAX).read_to_end(&mut plain)?;
    Ok(plain)
}

/// All lines of a host's log with a number above `after`.
pub(crate) fn lines_after(layout: &Layout, host: &Name, after: u64) -> Result<Vec<Line<Event>>, StoreError> {
    let sealed = segments(layout, host)?.into_iter().filter(|(last, _)| *last > after).map(|(_, path)| path);
    let mut lines = Vec::new();
    for path in sealed.chain([layout.now(host)]) {
        let bytes = read(&path)?.unwrap_or_default();
        lines.extend(jsonl::parse_where::<Event>(&bytes, |seq| seq > after).lines);
    }
    Ok(lines)
}

/// The same, where the end of the file that grows has them all: it is read from its end, so that a look at what is new costs
/// no more than that.
pub(crate) fn newest_after(layout: &Layout, host: &Name, after: u64) -> Result<Vec<Line<Event>>, StoreError> {
    let path = layout.now(host);
    let file = match store::open_dropped(&path) {
        Err(error) if error.is_not_found() => return lines_after(layout, host, after),
        opened => opened?,
    };
    let bytes = store::bytes_in(&file).unwrap_or_default();
    let mut part = 64 * 1024;
    while part < bytes {
        let end = store::read_part(&file, &path, bytes - part, usize::try_from(part).unwrap_or(usize::MAX))?;
        // It begins within a line.
        let begin = end.iter().position(|byte| *byte == b'\n').map_or(end.len(), |at| at + 1);
        let parsed = jsonl::parse_where::<Event>(&end[begin..], |seq| seq > after);
        let lines = end[begin..].iter().filter(|byte| **byte == b'\n').count();
        // Numbers rise: where one of them is an earlier one, nothing of those that are wanted is left out.
        if parsed.lines.len() + parsed.bad.len() < lines {
            return Ok(parsed.lines);
        }
        part *= 4;
    }
    lines_after(layout, host, after)
}

/// What a look at the end of a log found.
pub(crate) struct Looked {
    pub(crate) changes: Changes,
    /// The number behind which it began, when that is not the one that was given.
    pub(crate) cut_at: Option<u64>,
}

/// The tasks that the lines above `after` have changed; of a log that is longer, those of the newest files that have
/// `bytes_max` bytes together, and of the one that grows in any case. The end of the log is told also when nothing changed.
pub(crate) fn changes(
    layout: &Layout,
    host: &Name,
    after: u64,
    bytes_max: u64,
) -> Result<Looked, StoreError> {
    // Before the segments are listed: what is sealed meanwhile is one of them, and is met twice, but not missed.
    let now = read(&layout.now(host))?.unwrap_or_default();
    let mut segments = segments(layout, host)?;
    segments.retain(|(last, _)| *last > after);
    let (mut bytes, mut cut_at) = (now.len() as u64, None);
    let mut first = segments.len();
    while first > 0 {
        bytes += plain_bytes(&segments[first - 1].1);
        if bytes > bytes_max {
            cut_at = Some(segments[first - 1].0);
            break;
        }
        first -= 1;
    }
    let mut changes = Changes::behind(after.max(cut_at.unwrap_or(0)));
    for (_, path) in &segments[first..] {
        note_behind(&mut changes, &read(path)?.unwrap_or_default());
    }
    note_behind(&mut changes, &now);
    Ok(Looked { changes, cut_at })
}

/// Notes the changes of a file's lines that were not gone through yet.
fn note_behind(changes: &mut Changes, bytes: &[u8]) {
    let after = changes.last_seq;
    let lines = jsonl::parse_where::<Event>(bytes, |seq| seq > after).lines;
    lines.iter().for_each(|line| changes.note_bare(line));
}

/// How long a segment is, or about how long it is when it is uncompressed.
fn plain_bytes(path: &Path) -> u64 {
    const TIMES: u64 = 10;
    let bytes = store::bytes_of(path).unwrap_or(0);
    if path.to_str().is_some_and(layout::is_compressed_name) { bytes * TIMES } else { bytes }
}

/// The lines with these numbers; only the files that hold them are read.
pub(crate) fn lines_at(
    layout: &Layout,
    host: &Name,
    seqs: &BTreeSet<u64>,
) -> Result<Vec<Line<Event>>, StoreError> {
    let sealed = segments(layout, host)?;
    let mut files = BTreeSet::new();
    for seq in seqs {
        files.insert(
            sealed
                .iter()
                .find(|(last, _)| last >= seq)
                .map_or_else(|| layout.now(host), |(_, path)| path.clone()),
        );
    }
    let mut lines = Vec::new();
    for path in files {
        let bytes = read(&path)?.unwrap_or_default();
        lines.extend(jsonl::parse_where::<Event>(&bytes, |seq| seqs.contains(&seq)).lines);
    }
    Ok(lines)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test damages segments as a crash would")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_compressed_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..5000), times in 0_usize..40) {
            let bytes = bytes.repeat(times);
            prop_assert_eq!(decompress(&compress(&bytes).unwrap()).unwrap(), bytes);
        }

        #[test]
        fn what_is_no_segment_is_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500), cut in 0_usize..60) {
            let _ = decompress(&bytes);
            let whole = compress(&bytes).unwrap();
            let cut = cut.min(whole.len() - 1).max(1);
            prop_assert!(decompress(&whole[..whole.len() - cut]).is_err());
        }
    }

    struct Folder {
        _folder: tempfile::TempDir,
        layout: Layout,
        host: Name,
    }

    /// A host's log with two old segments and a new one.
    fn folder() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let host: Name = "vm".parse().unwrap();
        layout
            .folders()
            .iter()
            .chain([&layout.events_of(&host)])
            .for_each(|folder| store::make_dir(folder).unwrap());
        for (day, last) in [("2023-06-29", 2), ("2023-06-30", 4), ("2023-07-01", 6)] {
            let line = |seq: u64| {
                format!(
                    "{{\"seq\":{seq},\"at\":\"{day}T00:00:00.000000Z\",\"type\":\"daemon.stopped\",\"pid\":1}}\n"
                )
            };
            let path = layout.events_of(&host).join(format!("{day}-{last:012}.jsonl"));
            std::fs::write(path, line(last - 1) + &line(last)).unwrap();
        }
        Folder { _folder: folder, layout, host }
    }

    impl Folder {
        fn seqs(&self) -> Vec<u64> {
            lines_after(&self.layout, &self.host, 0).unwrap().iter().map(|line| line.seq).collect()
        }

        fn names(&self) -> Vec<String> {
            let mut names = store::names(&self.layout.events_of(&self.host)).unwrap();
            names.sort();
            names
        }
    }

    #[test]
    fn old_segments_are_compressed_and_read_as_before() {
        let folder = folder();
        assert_eq!(compress_older(&folder.layout, &folder.host, "2023-07-01", &|| true).unwrap(), 2);
        let names = [
            "2023-06-29-000000000002.jsonl.gz",
            "2023-06-30-000000000004.jsonl.gz",
            "2023-07-01-000000000006.jsonl",
        ];
        assert_eq!(folder.names(), names);
        assert_eq!(folder.seqs(), [1, 2, 3, 4, 5, 6]);
        let at: Vec<u64> = lines_at(&folder.layout, &folder.host, &[2, 5].into())
            .unwrap()
            .iter()
            .map(|line| line.seq)
            .collect();
        assert_eq!(at, [2, 5]);
        assert_eq!(compress_older(&folder.layout, &folder.host, "2023-07-01", &|| true).unwrap(), 0);
        // One that was listed before it was compressed.
        let before = folder.layout.events_of(&folder.host).join("2023-06-29-000000000002.jsonl");
        assert!(read(&before).unwrap().is_some_and(|bytes| !bytes.is_empty()));
    }

    #[test]
    fn a_look_at_the_end_of_a_log_has_its_newest_files_and_nothing_twice() {
        let folder = folder();
        let look = |after: u64, bytes_max: u64| {
            let looked = changes(&folder.layout, &folder.host, after, bytes_max).unwrap();
            (looked.changes.last_seq, looked.cut_at)
        };
        let last = folder.layout.events_of(&folder.host).join("2023-07-01-000000000006.jsonl");
        let bytes = store::bytes_of(&last).unwrap();
        assert_eq!((look(0, u64::MAX), look(9, u64::MAX)), ((6, None), (9, None)));
        assert_eq!((look(0, bytes), look(4, bytes), look(0, 0)), ((6, Some(4)), (6, None), (6, Some(6))));
        // It was sealed between two looks, and the file that grew is still known under its old name.
        let now = [
            std::fs::read(&last).unwrap(),
            b"{\"seq\":7,\"at\":\"2023-07-01T00:00:00.000000Z\",\"type\":\"daemon.stopped\",\"pid\":1}\n"
                .to_vec(),
        ];
        std::fs::write(folder.layout.now(&folder.host), now.concat()).unwrap();
        assert_eq!(look(0, u64::MAX), (7, None));
        assert_eq!(compress_older(&folder.layout, &folder.host, "2023-07-02", &|| true).unwrap(), 3);
        assert_eq!(look(1, u64::MAX), (7, None));
    }

    #[test]
    fn where_both_are_there_the_plain_one_counts_whatever_the_other_says() {
        let folder = folder();
        let plain = folder.layout.events_of(&folder.host).join("2023-06-29-000000000002.jsonl");
        for other in [
            b"torn".to_vec(),
            compress(b"other").unwrap(),
            compress(&std::fs::read(&plain).unwrap()).unwrap(),
        ] {
            std::fs::write(layout::compressed(&plain), other).unwrap();
            assert_eq!(folder.seqs(), [1, 2, 3, 4, 5, 6]);
        }
        std::fs::write(layout::compressed(&plain), b"torn").unwrap();
        assert_eq!(compress_older(&folder.layout, &folder.host, "2023-06-30", &|| true).unwrap(), 1);
        assert_eq!(folder.seqs(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn the_newest_lines_are_the_same_from_whichever_end_the_log_is_read() {
        let it = folder();
        let line = |seq: u64| {
            let reason = "x".repeat(usize::try_from(seq % 7 * 400).unwrap());
            format!(
                "{{\"seq\":{seq},\"at\":\"2023-07-02T00:00:00.000000Z\",\"type\":\"queue.paused\",\"queue\":\"q\",\"by\":\"hand\",\"reason\":\"{reason}\"}}\n"
            )
        };
        // One that nobody can read, and one whose end is not written yet.
        let whole: String =
            (7..607).map(|seq| if seq == 550 { "no line\n".to_owned() } else { line(seq) }).collect();
        std::fs::write(it.layout.now(&it.host), whole + "{\"seq\":607").unwrap();
        assert!(store::bytes_of(&it.layout.now(&it.host)).unwrap() > 256 * 1024);
        for after in [0, 1, 3, 5, 6, 7, 100, 400, 548, 549, 550, 590, 605, 606, 607, 1000] {
            let all = lines_after(&it.layout, &it.host, after).unwrap();
            assert_eq!(newest_after(&it.layout, &it.host, after).unwrap(), all, "{after}");
        }
    }
}
