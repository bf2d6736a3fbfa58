//! Kept refs that somebody asks to be dropped. Nothing else ever drops one.

use std::collections::HashSet;

use crate::assignment::Assignment;
use crate::git::Repository;
use crate::id::{Name, RunId, TaskId};
use crate::kept::{self, KeptRef};
use crate::layout::Layout;
use crate::lock;
use crate::retention::Asked;
use crate::spool::Spool;
use crate::store::{self, StoreError};
use crate::time::Timestamp;
use crate::workspace::kept_ref;

/// The kept refs that are dropped: of runs that are over, of tasks that are not live.
pub(super) fn plan(
    spool: &Spool,
    asked: &Asked,
    live: &HashSet<TaskId>,
    now: Timestamp,
) -> Result<Vec<(KeptRef, u64)>, StoreError> {
    let (mut all, unread) = kept::all(spool, None)?;
    for (repository, error) in unread {
        tracing::warn!("what is kept in {} is left alone: {error}", repository.display());
    }
    let layout = &spool.layout;
    all.retain(|kept| {
        let of_queue =
            asked.queue.as_ref().is_none_or(|queue| queue_of(layout, kept.run).as_ref() == Some(queue));
        of_queue
            && !live.contains(&kept.run.task)
            && !lock::is_held(&layout.run(kept.run).lock()).unwrap_or(true)
    });
    // What goes by its age only is measured when it is known to go.
    let bytes_of = |kept: &KeptRef, matters: bool| if matters { kept::bytes(kept).ok() } else { Some(0) };
    let with_bytes = all.into_iter().filter_map(|kept| {
        let bytes = bytes_of(&kept, asked.kept_bytes.is_some())?;
        Some((kept, bytes))
    });
    let all: Vec<(KeptRef, u64)> = with_bytes.collect();
    let told: Vec<(Timestamp, u64)> = all.iter().map(|(kept, bytes)| (kept.at, *bytes)).collect();
    let chosen = asked.choose_kept(&told, now).into_iter().map(|at| all[at].0.clone());
    Ok(chosen
        .map(|kept| (bytes_of(&kept, true).unwrap_or_default(), kept))
        .map(|(bytes, kept)| (kept, bytes))
        .collect())
}

/// The queue of a run's task, as long as the run is there.
fn queue_of(layout: &Layout, run: RunId) -> Option<Name> {
    let bytes = store::read_if_there(&layout.run(run).task()).ok()??;
    Some(serde_json::from_slice::<Assignment>(&bytes).ok()?.spec.queue.clone())
}

/// Drops a kept ref, unless it names something else by now.
pub(super) fn drop_ref(kept: &KeptRef) -> bool {
    let repository = Repository::open(&kept.repository);
    let dropped = repository.and_then(|repository| repository.delete_ref(&kept_ref(kept.run), kept.commit));
    dropped.inspect_err(|error| tracing::warn!("{} stays: {error}", kept_ref(kept.run))).is_ok()
}
