//! Looks at a spool, and at its state on this machine: what lies there, what the records say, who holds which lock.
//!
//! In the order that `spool-layout.md` gives to readers: receipts, files of tasks, logs. What vanishes while it is looked
//! at was not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::FileType;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use walkdir::WalkDir;

use crate::audit::{Seen, Sort};
use crate::digest;
use crate::history;
use crate::layout::{self, InRun, Layout, Place, place_of};
use crate::lock;
use crate::process;
use crate::spool::Spool;
use crate::store::{self, StoreError};

/// What no record is longer than; logs and texts may be.
const RECORD_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Looks at a spool.
pub(super) fn look(spool: &Spool) -> Result<Seen, StoreError> {
    let daemon = lock::is_held(spool.layout.root())?;
    look_while(spool, daemon)
}

/// The same for whoever holds the spool as a daemon does, and is none.
pub(super) fn look_as_daemon(spool: &Spool) -> Result<Seen, StoreError> {
    look_while(spool, false)
}

/// The same on the machine that the thread has in memory, in no special order, since nothing happens there meanwhile.
#[cfg(test)]
pub(super) fn look_in_memory(spool: &Spool) -> Result<Seen, StoreError> {
    let mut seen = nothing(spool, false)?;
    let mut folders = vec![spool.layout.root().to_owned()];
    while let Some(folder) = folders.pop() {
        for name in store::names(&folder)? {
            let there = folder.join(name);
            let path = below(&spool.layout, &there);
            let place = place_of(&path);
            let sort = match () {
                () if store::is_folder(&there) => Sort::Folder,
                () if store::is_file(&there) => Sort::File,
                () => Sort::Fifo,
            };
            if sort == Sort::Folder && !is_closed(place.as_ref()) {
                folders.push(there.clone());
            }
            seen.entries.insert(path.clone(), sort);
            if let (Some(place), Sort::File) = (place, sort) {
                look_at(&path, &there, place, &mut seen);
            }
        }
    }
    Ok(seen)
}

/// Whether what lies in a folder at that place is none of ours.
fn is_closed(place: Option<&Place>) -> bool {
    matches!(place, None | Some(Place::Anything | Place::Refused { .. } | Place::Claimed { .. }))
}

fn nothing(spool: &Spool, daemon: bool) -> Result<Seen, StoreError> {
    Ok(Seen {
        layout: spool.layout.clone(),
        host: spool.known_host()?,
        daemon,
        entries: BTreeMap::new(),
        contents: BTreeMap::new(),
        texts: BTreeSet::new(),
        held: BTreeSet::new(),
        alive: BTreeSet::new(),
        workspaces: store::names(&spool.state().work())?,
        trash: store::names(&spool.state().trash())?,
    })
}

fn look_while(spool: &Spool, daemon: bool) -> Result<Seen, StoreError> {
    let layout = &spool.layout;
    let mut seen = nothing(spool, daemon)?;
    let first = [
        layout.receipts(),
        layout.refused(),
        layout.queues(),
        layout.local(),
        layout.events(),
        layout.texts(),
    ];
    for folder in &first {
        look_below(layout, folder, 0, &first, &mut seen);
    }
    look_below(layout, layout.root(), 1, &first, &mut seen);
    Ok(seen)
}

/// Looks at all that lies at or below `top`, but for what is looked at for itself.
fn look_below(layout: &Layout, top: &Path, depth_min: usize, first: &[std::path::PathBuf], seen: &mut Seen) {
    let mut walk = WalkDir::new(top).min_depth(depth_min).into_iter();
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let vanished =
                    error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound);
                if let (false, Some(path)) = (vanished, error.path()) {
                    seen.contents.insert(below(layout, path), Err(error.to_string()));
                }
                continue;
            }
        };
        if depth_min > 0 && first.iter().any(|first| first == entry.path()) {
            walk.skip_current_dir();
            continue;
        }
        let path = below(layout, entry.path());
        let sort = sort_of(entry.file_type());
        let place = place_of(&path);
        if sort == Sort::Folder && is_closed(place.as_ref()) {
            walk.skip_current_dir();
        }
        seen.entries.insert(path.clone(), sort);
        if let (Some(place), Sort::File) = (place, sort) {
            look_at(&path, entry.path(), place, seen);
        }
    }
}

/// Reads a file that is compared with something.
fn look_at(path: &str, there: &Path, place: Place, seen: &mut Seen) {
    let bytes_max = match &place {
        Place::Folder | Place::File | Place::Anything | Place::Claimed { .. } | Place::Run { .. } => return,
        Place::Aside { pid } => {
            seen.alive.extend(pid.filter(|pid| process::is_alive(*pid)));
            return;
        }
        Place::InRun { run, file: InRun::Lock } => {
            if lock::is_held(there).unwrap_or(false) {
                seen.held.insert(*run);
            }
            return;
        }
        Place::InRun { file: InRun::Wake, .. } => return,
        Place::Refused { name, .. } if layout::parse_why_name(name).is_none() => return,
        Place::Compressed { .. } => {
            let content = history::read(there).map(Option::unwrap_or_default);
            seen.contents.insert(path.to_owned(), content.map_err(|error| error.to_string()));
            return;
        }
        Place::Log { .. }
        | Place::Text { .. }
        | Place::Removed { .. }
        | Place::InRun { file: InRun::Log, .. } => u64::MAX,
        Place::Receipt { .. }
        | Place::Refused { .. }
        | Place::Checkpoint
        | Place::Daemon
        | Place::Task { .. }
        | Place::Key { .. }
        | Place::Reader { .. }
        | Place::InRun { file: InRun::Record | InRun::Assignment | InRun::Command(_), .. } => {
            RECORD_BYTES_MAX
        }
    };
    match store::read_if_small(there, bytes_max) {
        Ok(Some(bytes)) => {
            if let Place::Text { sha256 } = &place
                && digest::sha256_hex(&bytes) == *sha256
            {
                seen.texts.insert(sha256.clone());
            }
            seen.contents.insert(path.to_owned(), Ok(bytes));
        }
        Ok(None) => drop(seen.entries.remove(path)),
        // Strangers' files may be anything.
        Err(_) if matches!(place, Place::Refused { .. }) => {}
        Err(error) => drop(seen.contents.insert(path.to_owned(), Err(error.to_string()))),
    }
}

fn below(layout: &Layout, path: &Path) -> String {
    path.strip_prefix(layout.root()).unwrap_or(path).to_string_lossy().into_owned()
}

fn sort_of(kind: FileType) -> Sort {
    match () {
        () if kind.is_file() => Sort::File,
        () if kind.is_dir() => Sort::Folder,
        () if kind.is_fifo() => Sort::Fifo,
        () => Sort::Other,
    }
}
