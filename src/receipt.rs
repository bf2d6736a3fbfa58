//! Receipts and refused files: what became of each command, under the command's own name. Each step is safe to repeat,
//! wherever a crash cut it short; `answer` says what they hold.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::answer::Receipt;
use crate::event::{Event, Origin};
use crate::jsonl::Line;
use crate::keys;
use crate::layout::{self, Layout};
use crate::refusal::Refusal;
use crate::spool;
use crate::store::{self, StoreError};

/// Answers the command that a line is about: the receipt, and what becomes of the file. Returns the files that must be
/// synced before the answer may be forgotten.
pub(crate) fn answer(layout: &Layout, line: &Line<Event>) -> Result<Vec<PathBuf>, StoreError> {
    if let Event::EditRefused { claim, name, refusal, .. } = &line.event {
        return reason_again(layout, &Origin::new(*claim, name.clone()), refusal);
    }
    let Some((origin, mut receipt)) = Receipt::of(line) else { return Ok(Vec::new()) };
    let claimed = layout.claim(origin.claim, &origin.name);
    let mut drawn = Vec::new();
    if let Event::Refused { refusal, .. } = &line.event {
        let path = refuse(layout, &origin, &claimed, refusal, &mut drawn)?;
        let below = path.strip_prefix(layout.root()).unwrap_or(&path);
        receipt.refused_file = below.to_str().map(ToOwned::to_owned);
    }
    drawn.extend(keys::draw(layout, line)?);
    store::make_lasting_dir_below(layout.root(), &layout.receipts_of(&origin.claim.date()))?;
    drawn.extend(write(layout, &receipt)?);
    store::remove(&claimed)?;
    Ok(drawn)
}

/// Moves a refused file out of the way, with the reason beside it; returns where it lies. A name that is taken, or that
/// another file's reason would have, gets the claim before it.
pub(crate) fn refuse(
    layout: &Layout,
    origin: &Origin,
    claimed: &Path,
    refusal: &Refusal,
    drawn: &mut Vec<PathBuf>,
) -> Result<PathBuf, StoreError> {
    let date = origin.claim.date();
    store::make_lasting_dir_below(layout.root(), &layout.refused_of(&date))?;
    let with_claim = format!("{}.{}", origin.claim, origin.name);
    // Done before, as far as a crash let it: the file has been moved, under one name or the other.
    let moved = !store::exists(claimed);
    let taken = match moved {
        true => store::exists(&layout.refused_file(&date, &with_claim)),
        false => {
            layout::is_name_of_why(&origin.name) || store::exists(&layout.refused_file(&date, &origin.name))
        }
    };
    let name = if taken { with_claim } else { origin.name.clone() };
    let (path, why) = (layout.refused_file(&date, &name), layout.refused_why(&date, &name));
    // A power cut may have torn the reason, and left the file where it belongs.
    let reason = store::read_if_there(&why)?;
    let reason: Option<Refusal> = reason.and_then(|reason| serde_json::from_slice(&reason).ok());
    if !moved || reason.is_none() {
        store::draw(layout, &why, &spool::pretty(refusal))?;
    }
    if !moved {
        store::rename(claimed, &path)?;
    }
    drawn.push(why);
    // No checkpoint waits for what cannot be opened, and so not be synced; nor is what is in there our doing.
    if store::is_readable_file(&path) {
        drawn.push(path.clone());
    }
    Ok(path)
}

/// Draws the reason of a refused edit again where a power cut has torn it. The text itself is put away by whoever found it.
fn reason_again(layout: &Layout, origin: &Origin, refusal: &Refusal) -> Result<Vec<PathBuf>, StoreError> {
    let date = origin.claim.date();
    let names = [format!("{}.{}", origin.claim, origin.name), origin.name.clone()];
    let is_there = |name: &&String| {
        store::exists(&layout.refused_file(&date, name)) || store::exists(&layout.refused_why(&date, name))
    };
    let Some(name) = names.iter().find(is_there) else { return Ok(Vec::new()) };
    let why = layout.refused_why(&date, name);
    let reason = store::read_if_there(&why)?;
    let reason: Option<Refusal> = reason.and_then(|reason| serde_json::from_slice(&reason).ok());
    if reason.is_none() {
        store::draw(layout, &why, &spool::pretty(refusal))?;
    }
    Ok(vec![why])
}

/// Writes a receipt under its command's name; an earlier one of that name is kept beside it. Safe to repeat. Returns the
/// files that must be synced before the answer may be forgotten.
pub(crate) fn write(layout: &Layout, receipt: &Receipt) -> Result<Vec<PathBuf>, StoreError> {
    let date = receipt.claim.date();
    let path = layout.receipt(&date, &receipt.command);
    let bytes = spool::pretty(receipt);
    // What is no JSON was left by a power cut, and is drawn again: its line is in the log.
    let there: Option<Value> =
        store::read_if_there(&path)?.and_then(|there| serde_json::from_slice(&there).ok());
    let Some(there) = there else {
        store::draw(layout, &path, &bytes)?;
        return Ok(vec![path]);
    };
    match there["seq"].as_u64() {
        Some(seq) if seq == receipt.seq => Ok(vec![path]),
        Some(seq) if seq > receipt.seq => {
            let earlier = layout.earlier_receipt(&date, &receipt.command, receipt.seq);
            store::draw(layout, &earlier, &bytes)?;
            Ok(vec![earlier])
        }
        // One that is none of ours is kept too, under the number 0.
        seq => {
            let earlier = layout.earlier_receipt(&date, &receipt.command, seq.unwrap_or(0));
            // A checkpoint that covers it may be about to sync it under the name that it loses here.
            store::sync_file(&path)?;
            store::rename(&path, &earlier)?;
            store::draw(layout, &path, &bytes)?;
            Ok(vec![earlier, path])
        }
    }
}
