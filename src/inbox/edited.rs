//! Files of tasks, which users change where they lie: whether one says what the log says, or what a user wants instead.
//!
//! The rules are those of dropped files. Another spec is taken when it makes sense and no writer has the file open; what
//! makes no sense is left until it has been quiet for a while, and refused then. What a file looked like when it was read
//! is remembered, so that one that nobody changes is read once.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::trust::{Shape, check_file, check_sort};
use crate::clock;
use crate::command::BYTES_MAX;
use crate::disk::{self, File, Metadata};
use crate::id::TaskId;
use crate::lease::{self, Writers};
use crate::picture;
use crate::refusal::{Kind, Refusal};
use crate::spec::{self, Spec};
use crate::store::{self, StoreError};
use crate::time::{Moment, Timestamp};

/// How long a file must not have changed before its looks tell that it has not: the system counts time in steps, and some
/// file systems in whole seconds.
const STEP: Duration = Duration::from_millis(20);
const LONG_STEP: Duration = Duration::from_secs(2);
/// The least time between two looks at a file that has not settled.
const SOON: Duration = Duration::from_millis(5);

/// What a file looks like, as far as a change of it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    shape: Shape,
    changed: (i64, i64),
}

/// What is known of the file of a task.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    /// It was read long enough after its last change.
    is_certain: bool,
    /// It has an earlier spec, and is to be drawn.
    is_stale: bool,
}

/// What was found where a task's file belongs.
#[derive(Debug)]
pub(crate) enum Found {
    /// What the log says.
    Same,
    /// Somebody writes, or it makes no sense yet.
    Unsettled,
    /// What a user wants instead.
    Changed(Box<Spec>, Stamp),
    /// Something that cannot be taken.
    Refused(Refusal),
    /// Nothing.
    Gone,
}

/// What is known of the files of tasks.
#[derive(Debug)]
pub(crate) struct Edited {
    uid: u32,
    settle: Duration,
    known: HashMap<TaskId, Known>,
    /// Files that are not settled, and since when they look like this.
    unsettled: HashMap<PathBuf, (Stamp, Moment)>,
}

impl Edited {
    pub(crate) fn new(settle: Duration) -> Edited {
        let uid = rustix::process::geteuid().as_raw();
        Edited { uid, settle, known: HashMap::new(), unsettled: HashMap::new() }
    }

    /// Looks at a file of `task`, which should say `spec`.
    ///
    /// # Errors
    /// For a shortage only: nothing is refused for one.
    pub(crate) fn look(&mut self, task: TaskId, path: &Path, spec: &Spec) -> Result<Found, StoreError> {
        let Ok(metadata) = disk::link_metadata(path) else { return Ok(Found::Gone) };
        let stamp = Stamp::of(&metadata);
        match self.known.get(&task) {
            Some(known) if known.is_stale && known.stamp.shape == stamp.shape => return Ok(Found::Unsettled),
            Some(known) if known.is_certain && known.stamp == stamp => return Ok(Found::Same),
            Some(_) | None => {}
        }
        let found = self.judge(path, &metadata, spec)?;
        if matches!(found, Found::Same) {
            self.note(task, stamp, false);
        }
        Ok(found)
    }

    /// Looks at a file that lies elsewhere than where the task's own belongs.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn look_aside(&mut self, path: &Path, spec: &Spec) -> Result<Found, StoreError> {
        disk::link_metadata(path).map_or(Ok(Found::Gone), |metadata| self.judge(path, &metadata, spec))
    }

    /// Takes note that a file that looks like this says what the log says, or something earlier.
    pub(crate) fn note(&mut self, task: TaskId, stamp: Stamp, is_stale: bool) {
        let step = if stamp.changed.1 == 0 { LONG_STEP } else { STEP };
        let is_certain = clock::now().since(Timestamp::of_file(stamp.changed)) >= step;
        self.known.insert(task, Known { stamp, is_certain, is_stale });
    }

    /// Takes note that what a task's file says is an earlier spec from now on.
    pub(crate) fn outdate(&mut self, task: TaskId) {
        if let Some(known) = self.known.get_mut(&task) {
            known.is_stale = true;
        }
    }

    /// Whether a file that has an earlier spec still lies there.
    pub(crate) fn is_stale(&self, task: TaskId, path: &Path) -> bool {
        self.known.get(&task).is_some_and(|known| known.is_stale && known.is_about(path))
    }

    /// Whether the file that lies there is the one that is known.
    pub(crate) fn is_known(&self, task: TaskId, path: &Path) -> bool {
        self.known.get(&task).is_some_and(|known| known.is_about(path))
    }

    /// Whether a file that was renamed is not the one that was known. Of one that nobody has looked at nothing is said.
    pub(crate) fn is_another(&self, task: TaskId, path: &Path) -> bool {
        self.known.get(&task).is_some_and(|known| !known.is_about(path))
    }

    /// Forgets a file that was not settled: something is done about it.
    pub(crate) fn settled(&mut self, path: &Path) {
        self.unsettled.remove(path);
    }

    /// Forgets what is known of a task's file.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.known.remove(&task);
    }

    /// When a file that is not settled is to be looked at again.
    pub(crate) fn look_at(&mut self) -> Option<Moment> {
        self.unsettled.retain(|path, _| disk::exists(path));
        let first = self.unsettled.values().map(|(_, since)| *since + self.settle).min();
        first.map(|at| at.max(clock::monotonic() + SOON))
    }

    fn judge(&mut self, path: &Path, metadata: &Metadata, spec: &Spec) -> Result<Found, StoreError> {
        let stamp = Stamp::of(metadata);
        if let Err(refusal) = check_sort(metadata) {
            return Ok(self.refused(path, stamp, refusal));
        }
        let picture = picture::pretty(spec);
        // As a picture a spec may be longer than the command that it came with.
        let bytes_max = BYTES_MAX.max(2 * picture.len() as u64);
        let trusted = check_file(metadata, self.uid, bytes_max);
        if metadata.bytes > bytes_max {
            return Ok(self.refused(path, stamp, trusted.expect_err("because it is too long")));
        }
        let file = match store::open_dropped(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(self.written_to(path, stamp)),
            Err(error) if error.is_not_found() => return Ok(Found::Unsettled),
            Err(error) if error.shortage().is_some() => return Err(error),
            Err(error) => {
                let refusal = Refusal::new(Kind::Unreadable, error.to_string());
                return Ok(self.refused(path, stamp, refusal.hint("chmod 600")));
            }
        };
        if !is_still(&file, stamp) {
            return Ok(self.written_to(path, stamp));
        }
        let writers = lease::writers(&file);
        let bytes = match read(&file, path, bytes_max) {
            Ok(bytes) => bytes,
            Err(error) if error.shortage().is_some() => return Err(error),
            Err(error) => {
                return Ok(self.refused(path, stamp, Refusal::new(Kind::Unreadable, error.to_string())));
            }
        };
        if writers == Writers::Some || !is_still(&file, stamp) {
            return Ok(self.written_to(path, stamp));
        }
        if bytes == picture {
            self.unsettled.remove(path);
            return Ok(Found::Same);
        }
        // What says the same in other words changes nothing, whoever has written it.
        match spec::parse(&bytes) {
            Ok(there) if there == *spec => {
                self.unsettled.remove(path);
                Ok(Found::Same)
            }
            Ok(there) => match trusted {
                Err(refusal) => Ok(self.refused(path, stamp, refusal)),
                Ok(()) if writers == Writers::Unknown && !self.is_quiet(path, stamp) => Ok(Found::Unsettled),
                Ok(()) => Ok(Found::Changed(Box::new(there), stamp)),
            },
            Err(refusal) => Ok(self.refused(path, stamp, refusal)),
        }
    }

    fn refused(&mut self, path: &Path, stamp: Stamp, refusal: Refusal) -> Found {
        if self.is_quiet(path, stamp) { Found::Refused(refusal) } else { Found::Unsettled }
    }

    /// A file that somebody writes to is not quiet as long as it is open.
    fn written_to(&mut self, path: &Path, stamp: Stamp) -> Found {
        self.unsettled.insert(path.to_owned(), (stamp, clock::monotonic()));
        Found::Unsettled
    }

    /// Whether the file has looked the same for as long as it takes to settle.
    fn is_quiet(&mut self, path: &Path, stamp: Stamp) -> bool {
        let now = clock::monotonic();
        let seen = self.unsettled.entry(path.to_owned()).or_insert((stamp, now));
        if seen.0 != stamp {
            *seen = (stamp, now);
        }
        seen.1 + self.settle <= now
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp { shape: Shape::of(metadata), changed: metadata.changed }
    }
}

impl Known {
    /// Whether it is about the file that lies there, wherever that lay before.
    fn is_about(&self, path: &Path) -> bool {
        disk::link_metadata(path).is_ok_and(|metadata| Shape::of(&metadata) == self.stamp.shape)
    }
}

fn is_still(file: &File, stamp: Stamp) -> bool {
    disk::look(file).is_ok_and(|metadata| Stamp::of(&metadata) == stamp)
}

fn read(mut file: &File, path: &Path, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let read = Read::by_ref(&mut file).take(bytes_max + 1).read_to_end(&mut bytes);
    store::at("read", path, read).map(|_| bytes)
}
