//! What was left uncommitted, as git would have committed it: it is kept byte for byte, and commits have other ends of lines.

use gix::ObjectId;

use super::{ApplyError, Place, shown};
use crate::git::{self, Apart};

/// The tree of `tree`, with the files that `head` has otherwise as git would store them.
///
/// # Errors
/// When one of them goes through a filter that is configured: that runs where the agent runs, or nowhere.
pub(super) fn clean(place: &Place, head: ObjectId, tree: ObjectId) -> Result<ObjectId, ApplyError> {
    let files: Vec<(Vec<u8>, String, ObjectId)> = git::files_changed(&place.common, head, tree)?;
    if files.is_empty() {
        return Ok(tree);
    }
    let apart = Apart::make(&place.common, place.scratch.clone())?;
    let cleaned = clean_in(place, &apart, &files, tree);
    apart.remove()?;
    cleaned
}

fn clean_in(
    place: &Place,
    apart: &Apart,
    files: &[(Vec<u8>, String, ObjectId)],
    tree: ObjectId,
) -> Result<ObjectId, ApplyError> {
    let paths: Vec<u8> = files.iter().flat_map(|(path, ..)| [path, &b"\0"[..]].concat()).collect();
    let told = apart.attributes(tree, &["filter", "working-tree-encoding", "ident"], &paths)?;
    let configured = git::filters(&place.common)?;
    let (mut encoded, mut filtered) = (Vec::new(), Vec::new());
    for (path, attribute, value) in told {
        match (&attribute[..], &value[..]) {
            (_, "unspecified" | "unset") => {}
            ("filter", _) if configured.contains(&value) => filtered.push(path),
            ("filter", _) => {}
            _ => encoded.push(path),
        }
    }
    if let Some(path) = shown(filtered).into_iter().next() {
        let what = format!(
            "{path} was not committed, and goes through a filter: commit it in the worktree, or in one that `gitspool kept restore` makes"
        );
        return Err(ApplyError::NotWhole { run: place.run, what });
    }
    let line_ends = git::line_ends(&place.common)?;
    let mut info = Vec::new();
    for (path, mode, blob) in files {
        let bytes = place.repository.blob(*blob)?;
        if !encoded.contains(path) && !bytes.windows(2).any(|pair| pair == b"\r\n") {
            continue;
        }
        let cleaned = apart.clean(tree, &line_ends, path, &bytes)?;
        if cleaned != *blob {
            info.extend([format!("{mode} {cleaned}\t").as_bytes(), path, b"\0"].concat());
        }
    }
    if info.is_empty() { Ok(tree) } else { Ok(apart.with_files(tree, &info)?) }
}
