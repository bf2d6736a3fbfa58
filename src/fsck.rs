//! Looks at a spool as `spool-layout.md` describes it, says what differs, and mends what the logs can mend.
//!
//! `audit` decides; `look` reads, and changes nothing; `mend` acts. While a daemon or a supervisor lives, pictures lag
//! behind logs and files are under way: then only what is seen again and again, the same in each look, is a finding.

mod look;
mod mend;

use std::path::PathBuf;
use std::time::Duration;

use crate::audit::{self, Finding};
use crate::lock;
use crate::spool::Spool;
use crate::store::StoreError;

/// How long to wait before each further look at what seemed wrong while somebody was working: longer in all than a run
/// takes that is given up after some tries to begin it.
const LOOK_AGAIN: [Duration; 8] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
    Duration::from_millis(3200),
];

/// How often it is looked for what else can be mended, now that something is: a folder comes before what lies in it.
const ROUNDS_MAX: u32 = 5;

/// What a repair did.
pub(crate) struct Repair {
    pub(crate) mended: Vec<Finding>,
    /// What could not be mended that should have been.
    pub(crate) failed: Vec<StoreError>,
    /// Where the originals of what was changed lie, if any were kept.
    pub(crate) aside: Option<PathBuf>,
}

/// Says what is wrong with a spool. Changes nothing.
///
/// # Errors
/// When the spool's folders cannot be listed.
pub(crate) fn check(spool: &Spool) -> Result<Vec<Finding>, StoreError> {
    let (mut findings, mut somebody_works) = look_once(spool)?;
    for pause in LOOK_AGAIN {
        if findings.is_empty() || !somebody_works {
            break;
        }
        // Nobody tells when a writer has done what it was doing.
        let _ = crossbeam_channel::never::<()>().recv_timeout(pause);
        let (again, works) = look_once(spool)?;
        somebody_works = works;
        findings.retain(|finding| again.contains(finding));
    }
    Ok(findings)
}

/// The same on the machine that the thread has in memory, where nobody works.
#[cfg(test)]
pub(crate) fn check_in_memory(spool: &Spool) -> Result<Vec<Finding>, StoreError> {
    Ok(audit::audit(&look::look_in_memory(spool)?))
}

fn look_once(spool: &Spool) -> Result<(Vec<Finding>, bool), StoreError> {
    let seen = look::look(spool)?;
    let somebody_works = seen.daemon || !seen.held.is_empty() || !seen.alive.is_empty();
    Ok((audit::audit(&seen), somebody_works))
}

/// Mends what can be mended: all that the logs say, when no daemon runs; else only what lies in runs that nobody lives,
/// under their locks. Nothing is removed: what is changed is kept aside, unless it lies elsewhere the same.
///
/// # Errors
/// When the spool cannot be looked at; what was mended until then stays mended.
pub(crate) fn repair(spool: &Spool) -> Result<Repair, StoreError> {
    // Held to the end: a daemon that is started meanwhile waits for a moment, and then says that the spool is in use.
    let spool_lock = lock::try_folder_patiently(spool.layout.root())?;
    let mut mending = mend::Mending::new(spool.layout.clone(), spool_lock);
    for _ in 0..ROUNDS_MAX {
        let findings = match mending.is_alone() {
            true => audit::audit(&look::look_as_daemon(spool)?),
            false => check(spool)?,
        };
        let mut mended = false;
        for finding in findings {
            mended |= mending.mend(finding);
        }
        if !mended {
            break;
        }
    }
    Ok(mending.end())
}
