//! The names of files, read back: each function is the counterpart of a path that `layout` joins.

use super::{COMPRESSED_SUFFIX, WHY_SUFFIX};
use crate::id::{Rank, TaskId};
use crate::jsonl::SEQ_MAX;
use crate::time::is_date;

/// Whether a refused file of this name would lie where another's reason does.
pub(crate) fn is_name_of_why(name: &str) -> bool {
    name.ends_with(WHY_SUFFIX)
}

/// Reads the name of a refused file's reason: the name of that file.
pub(crate) fn parse_why_name(name: &str) -> Option<&str> {
    name.strip_suffix(WHY_SUFFIX)
}

/// Reads the name of a file in `.local/tmp`: the process that wrote it.
pub(crate) fn parse_aside_name(name: &str) -> Option<u32> {
    name.split_once('-')?.0.parse().ok()
}

/// Whether a file of the reserve is called so.
pub(super) fn is_reserved_name(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads the name of a task's file in any other folder.
pub(crate) fn parse_task_name(name: &str) -> Option<TaskId> {
    name.strip_suffix(".json")?.parse().ok()
}

/// Reads the name of a file in `ready/` or `held/`, as a user may have moved it there: a rank if there is one, `-`, the
/// task. A rank too large is the last.
pub(crate) fn parse_queued_name(name: &str) -> Option<(Option<Rank>, TaskId)> {
    let stem = name.strip_suffix(".json")?;
    let (before, task) = stem.split_at_checked(stem.len().checked_sub(36)?)?;
    let rank = match before {
        "" => None,
        before => {
            let rank: u64 = before.strip_suffix('-')?.parse().ok()?;
            Some(Rank::try_from(u8::try_from(rank.min(99)).ok()?).ok()?)
        }
    };
    Some((rank, task.parse().ok()?))
}

/// Reads the name of a claimed file: the claim's id and the dropped name.
pub(crate) fn parse_claim_name(name: &str) -> Option<(TaskId, &str)> {
    let (claim, dropped) = name.split_at_checked(36)?;
    Some((claim.parse().ok()?, dropped.strip_prefix('.')?))
}

/// Reads the name of a sealed segment, compressed or not: the number of its last line.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let plain = name.strip_suffix(COMPRESSED_SUFFIX).unwrap_or(name);
    parse_seq(plain.strip_suffix(".jsonl")?.rsplit_once('-')?.1)
}

/// Reads the name of a sealed segment: the day of its last line.
pub(crate) fn parse_segment_day(name: &str) -> Option<&str> {
    parse_segment_name(name)?;
    name.get(..10).filter(|day| is_date(day))
}

/// Whether a segment of this name is compressed.
pub(crate) fn is_compressed_name(name: &str) -> bool {
    name.ends_with(COMPRESSED_SUFFIX)
}

/// Reads the name of a command to a run: its number.
pub(crate) fn parse_command_name(name: &str) -> Option<u64> {
    if name.ends_with(".json") { parse_seq(name.split_once('-')?.0) } else { None }
}

/// The same, with the kind.
pub(crate) fn parse_command(name: &str) -> Option<(u64, String)> {
    let kind = name.strip_suffix(".json")?.split_once('-')?.1;
    Some((parse_command_name(name)?, kind.to_owned()))
}

/// Reads a number after which there is another.
pub(super) fn parse_seq(text: &str) -> Option<u64> {
    text.parse().ok().filter(|seq| *seq <= SEQ_MAX)
}
