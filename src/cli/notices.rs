//! Which notices are not delivered yet: what the checkpoint says, and the log behind it.

use std::collections::BTreeMap;

use super::CliError;
use crate::checkpoint::Checkpoint;
use crate::event::Event;
use crate::history;
use crate::notice::{Notice, NoticeId};
use crate::spool::Spool;
use crate::store;

/// The notices of this host that name a notifier and of which no line says what became of them, the oldest first.
pub(super) fn open(spool: &Spool) -> Result<Vec<Notice>, CliError> {
    let layout = &spool.layout;
    let Some(host) = spool.known_host()? else { return Ok(Vec::new()) };
    let checkpoint = store::read_if_there(&layout.checkpoint())?.unwrap_or_default();
    // Without one the whole log is gone through, as by a daemon.
    let checkpoint = Checkpoint::parse(&checkpoint).unwrap_or_default();
    let lines = history::newest_after(layout, &host, checkpoint.seq)?;
    let known = checkpoint.notices.open.into_iter().map(|open| (open.notice.id, open.notice));
    let mut open: BTreeMap<NoticeId, Notice> = known.collect();
    for line in lines {
        if let Event::Delivered { notice, .. } | Event::NotDelivered { notice, .. } = line.event {
            open.remove(&notice);
        } else if let Event::Notice(notice) = line.event
            && !notice.argv.is_empty()
        {
            open.insert(notice.id, *notice);
        }
    }
    Ok(open.into_values().collect())
}
