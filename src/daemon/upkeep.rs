//! Upkeep: what is done about what is over, in a thread of its own, so that it delays nothing.
//!
//! Once at the start, and then with each new day: sealed segments of the log that are older than a day are compressed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::clock;
use crate::history;
use crate::id::Name;
use crate::layout::Layout;

use super::Daemon;

/// How long a segment stays as it is, for `grep` and for backups.
const PLAIN_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What the thread is to do.
pub(super) enum Job {
    /// A day has begun.
    Day,
}

/// Does what it is given, until the daemon ends.
pub(super) fn run(layout: &Layout, host: &Name, jobs: &Receiver<Job>, ending: &AtomicBool) {
    let goes_on = || !ending.load(Ordering::Relaxed);
    for job in jobs.iter().take_while(|_| goes_on()) {
        match job {
            Job::Day => compress(layout, host, &goes_on),
        }
    }
}

fn compress(layout: &Layout, host: &Name, goes_on: &dyn Fn() -> bool) {
    let day = clock::now().before(PLAIN_FOR).date().to_string();
    if let Err(error) = history::compress_older(layout, host, &day, goes_on) {
        // Nothing is lost; the next day tries again.
        tracing::warn!("a segment of the log is not compressed: {error}");
    }
}

impl Daemon {
    /// Has the upkeep done that is due with each new day.
    pub(super) fn look_at_day(&mut self) {
        let today = clock::now().date();
        if self.upkeep_day.as_ref() != Some(&today) && self.upkeep.try_send(Job::Day).is_ok() {
            self.upkeep_day = Some(today);
        }
    }
}
