//! The spool's log as a series of files: sealed segments, then `now.jsonl`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::event::Event;
use crate::id::Name;
use crate::jsonl::{self, Line};
use crate::layout::{self, Layout};
use crate::store::{self, StoreError};

/// The sealed segments of a host, the oldest first, each with the number of its last line.
pub(crate) fn segments(layout: &Layout, host: &Name) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let folder = layout.events_of(host);
    let names = store::names(&folder)?;
    let mut segments: Vec<(u64, PathBuf)> = names
        .iter()
        .filter_map(|name| Some((layout::parse_segment_name(name)?, folder.join(name))))
        .collect();
    segments.sort();
    Ok(segments)
}

/// All lines of a host's log with a number above `after`.
pub(crate) fn lines_after(layout: &Layout, host: &Name, after: u64) -> Result<Vec<Line<Event>>, StoreError> {
    let sealed = segments(layout, host)?.into_iter().filter(|(last, _)| *last > after).map(|(_, path)| path);
    let mut lines = Vec::new();
    for path in sealed.chain([layout.now(host)]) {
        let bytes = store::read_if_there(&path)?.unwrap_or_default();
        lines.extend(jsonl::parse_where::<Event>(&bytes, |seq| seq > after).lines);
    }
    Ok(lines)
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
        let bytes = store::read_if_there(&path)?.unwrap_or_default();
        lines.extend(jsonl::parse_where::<Event>(&bytes, |seq| seqs.contains(&seq)).lines);
    }
    Ok(lines)
}
