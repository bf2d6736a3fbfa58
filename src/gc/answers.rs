//! What goes beside tasks: the answers of days that are over, segments of the log, and texts that no task needs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::{Other, Plan, What, disk_bytes};
use crate::checkpoint::Checkpoint;
use crate::digest;
use crate::event::INLINE_BYTES_MAX;
use crate::history;
use crate::id::{Name, TaskId};
use crate::layout::{self, ENDED_FOLDERS, Layout};
use crate::retention::{self, Days};
use crate::spec::Spec;
use crate::spool::Spool;
use crate::store::{self, StoreError};
use crate::time::{self, Timestamp};

fn other(what: What, path: PathBuf) -> Other {
    let bytes = disk_bytes(&path);
    Other { what, path, bytes }
}

/// The folders of receipts and refused files of days that are over. One into which something was put lately, or behind the
/// checkpoint, is not looked at: its lines may still owe something.
pub(super) fn days(layout: &Layout, days: &Days<'_>, now: Timestamp) -> Result<Vec<Other>, StoreError> {
    let mut gone = Vec::new();
    let checkpointed = store::modified_at(&layout.checkpoint());
    for top in [layout.receipts(), layout.refused()] {
        let mut names = store::names(&top)?;
        names.retain(|name| time::is_date(name) && days.is_over(name));
        names.sort();
        let folders = names.iter().map(|name| top.join(name));
        let rests = |folder: &PathBuf| {
            let put = store::modified_at(folder);
            put.is_some_and(|put| now.since(put) >= retention::DAY && checkpointed.is_some_and(|at| put < at))
        };
        gone.extend(folders.filter(rests).map(|folder| other(What::Answers, folder)));
    }
    Ok(gone)
}

/// The oldest segments of the log of this host: those behind which a checkpoint is, and that hold no task's spec. The newest
/// stays, since its name tells the last number.
pub(super) fn segments(spool: &Spool, days: &Days<'_>) -> Result<Vec<Other>, StoreError> {
    let layout = &spool.layout;
    let Some(host) = spool.known_host()? else { return Ok(Vec::new()) };
    let checkpoint = store::read_if_there(&layout.checkpoint())?;
    let Some(checkpoint) = checkpoint.as_deref().and_then(Checkpoint::parse) else { return Ok(Vec::new()) };
    let first_spec = checkpoint.tasks.iter().map(|checked| checked.spec_seq).min().unwrap_or(u64::MAX);
    let mut segments = history::segments(layout, &host)?;
    segments.pop();
    let is_past = |last: u64, path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let day = layout::parse_segment_day(&name);
        last <= checkpoint.seq && last < first_spec && day.is_some_and(|day| days.is_past(day))
    };
    let past = segments.into_iter().take_while(|(last, path)| is_past(*last, path));
    // The plain one counts where both are there, so it goes first.
    let both = past.flat_map(|(_, path)| [path.clone(), layout::compressed(&path)]);
    Ok(both.filter(|path| store::exists(path)).map(|path| other(What::Segment, path)).collect())
}

/// The texts of tasks that go, but for those that are the specs of others too.
pub(super) fn texts(
    layout: &Layout,
    queues: &[Name],
    plan: &Plan,
    live: impl Iterator<Item = PathBuf>,
) -> Result<Vec<Other>, StoreError> {
    let goes: HashSet<TaskId> = plan.tasks.iter().map(|leaving| leaving.task).collect();
    let files =
        plan.tasks.iter().map(|leaving| layout.ended_task(&leaving.queue, leaving.folder, leaving.task));
    let mut texts: HashSet<PathBuf> = files.filter_map(|file| text_of(layout, &file)).collect();
    texts.retain(|text| store::exists(text));
    if !texts.is_empty() {
        let kept = kept_files(layout, queues, &goes)?;
        for file in kept.into_iter().chain(live) {
            if let Some(text) = text_of(layout, &file) {
                texts.remove(&text);
            }
        }
    }
    let mut texts: Vec<PathBuf> = texts.into_iter().collect();
    texts.sort();
    Ok(texts.into_iter().map(|text| other(What::Text, text)).collect())
}

/// The text that holds the spec of the task with that file, if it is a long one.
pub(super) fn text_of(layout: &Layout, file: &Path) -> Option<PathBuf> {
    // A picture is longer than what stands in the log.
    store::bytes_of(file).filter(|bytes| *bytes > INLINE_BYTES_MAX as u64)?;
    let spec: Spec = serde_json::from_slice(&store::read_if_there(file).ok()??).ok()?;
    text_of_spec(layout, &spec)
}

/// The same of a spec.
pub(crate) fn text_of_spec(layout: &Layout, spec: &Spec) -> Option<PathBuf> {
    let bytes = serde_json::to_vec(spec).ok().filter(|bytes| bytes.len() > INLINE_BYTES_MAX)?;
    Some(layout.text(&digest::sha256_hex(&bytes)))
}

/// The files of all ended tasks that do not go.
fn kept_files(layout: &Layout, queues: &[Name], goes: &HashSet<TaskId>) -> Result<Vec<PathBuf>, StoreError> {
    let mut kept = Vec::new();
    for (queue, folder) in queues.iter().flat_map(|queue| ENDED_FOLDERS.map(|folder| (queue, folder))) {
        for day in store::names(&layout.ended(queue, folder))? {
            let folder = layout.ended(queue, folder).join(day);
            let names = store::names(&folder)?;
            let stays =
                |name: &&String| layout::parse_task_name(name).is_some_and(|task| !goes.contains(&task));
            kept.extend(names.iter().filter(stays).map(|name| folder.join(name)));
        }
    }
    Ok(kept)
}
