//! The inbox: takes dropped files, each once, and only when it is complete.
//!
//! Owns `inbox/` and `.local/claimed/`. A file is taken by renaming it into the private folder, when it makes sense and no
//! writer has it open; from then on nobody else can change what is read. A file that makes no sense is left until it
//! has been quiet for a while, and refused then. One file never delays another: nothing here waits for a file.

mod claimed;
mod edited;
mod gate;
mod trust;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::clock;
use crate::command::{self, Asked, BYTES_MAX, Command};
use crate::disk::{self, File, Metadata};
use crate::event::Origin;
use crate::input::{Failure, Input};
use crate::layout::Layout;
use crate::lease::{self, Writers};
use crate::mutant::{self, Mutant};
use crate::refusal::{Kind, Refusal};
use crate::store;
use crate::time::Moment;

pub(crate) use claimed::{claimed_files, is_taken, receipt_name};
pub(crate) use edited::{Edited, Found, Stamp};
pub(crate) use gate::Gate;
use trust::Shape;

/// How often the inbox is looked through without a hint.
const RESCAN_EVERY: Duration = Duration::from_secs(30);
/// How long a file that could not be taken waits for the next try, beside the time to settle.
const AGAIN: Duration = Duration::from_secs(1);
/// How many files are taken before the first of them is passed on.
const ROUND_MAX: usize = 256;

/// The inbox's thread.
pub(crate) struct Inbox {
    layout: Layout,
    /// The spool's folder; another one at its path is none of ours.
    identity: Option<(u64, u64)>,
    settle: Duration,
    uid: u32,
    inputs: Sender<Input>,
    gate: Gate,
    /// What the system had too little of at the last look.
    short: Option<Failure>,
    /// Files that are not ready.
    unready: HashMap<PathBuf, Unready>,
    /// Files taken and not yet passed on: from an earlier daemon, or still being written when they were taken.
    claimed: Vec<Origin>,
}

/// A file that is not ready.
struct Unready {
    shape: Shape,
    /// Since when it has looked like this.
    since: Moment,
    /// It was read as it is now, and made no sense. It is not read again before it has settled: who drops many such
    /// files makes nobody wait for them more than once.
    senseless: bool,
    /// It was read as it is now, and is for later: the gate was shut, and it is no cancel.
    held_back: bool,
}

/// What was decided about a file, and about which.
struct Judged {
    asked: Result<Asked, Refusal>,
    shape: Shape,
    /// The file that was read, if it was one to be read.
    file: Option<File>,
}

impl Inbox {
    /// `claimed` are files that an earlier daemon took and did not get to.
    pub(crate) fn new(
        layout: Layout,
        settle: Duration,
        claimed: Vec<Origin>,
        inputs: Sender<Input>,
        gate: Gate,
    ) -> Inbox {
        let uid = rustix::process::geteuid().as_raw();
        let identity = store::identity(layout.root());
        let unready = HashMap::new();
        Inbox { layout, identity, settle, uid, inputs, gate, short: None, unready, claimed }
    }

    /// Looks through the inbox at each hint, until the hints end.
    pub(crate) fn run(mut self, hints: &Receiver<()>) {
        while let Some(patience) = self.turn() {
            match hints.recv_timeout(patience) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks through the inbox once; tells when to look again without a hint, and nothing when nobody listens any more.
    pub(crate) fn turn(&mut self) -> Option<Duration> {
        let taken = self.look();
        let short = self.short.take();
        let again = short.is_some() || self.gate.is_shut();
        if short.is_some_and(|failure| self.inputs.send(Input::Short(failure)).is_err()) {
            return None;
        }
        let empty = taken == 0 && !again && self.unready.is_empty() && self.claimed.is_empty();
        if empty && self.inputs.send(Input::InboxEmpty).is_err() {
            return None;
        }
        Some(match taken {
            // What is held back is quiet, and not to be looked at all the time.
            0 if again => AGAIN,
            0 => self.until_next_look(),
            _ => Duration::ZERO,
        })
    }

    fn until_next_look(&self) -> Duration {
        let now = clock::monotonic();
        let due = self.unready.values().map(|unready| now.until(unready.since + self.settle));
        due.min().map_or(RESCAN_EVERY, |due| due.max(Duration::from_millis(5)))
    }

    /// Takes what is ready; tells how many files that were.
    fn look(&mut self) -> usize {
        if store::identity(self.layout.root()) != self.identity {
            return 0;
        }
        let mut inputs = Vec::new();
        for origin in std::mem::take(&mut self.claimed) {
            self.look_at_claimed(origin, &mut inputs);
        }
        let names = self.names();
        self.unready.retain(|path, _| store::exists(path));
        for name in names {
            // Only what is taken counts: files that are not ready, however many and however old, delay no other.
            if inputs.len() >= ROUND_MAX {
                break;
            }
            self.look_at(&name, &mut inputs);
        }
        let taken = inputs.len();
        if taken > 0 && !self.make_durable() {
            self.claimed.extend(inputs.into_iter().filter_map(|input| match input {
                Input::Dropped { origin, .. } => Some(origin),
                Input::InboxEmpty
                | Input::RunEnded(_)
                | Input::SupervisorGone(_)
                | Input::Checkpointed(_)
                | Input::Collected(_)
                | Input::Notified { .. }
                | Input::Short(_)
                | Input::SyncFailed(_)
                | Input::EndAsked => None,
            }));
            return 0;
        }
        // The daemon has ended when nobody listens; the files stay claimed for the next.
        for input in inputs {
            if self.inputs.send(input).is_err() {
                break;
            }
        }
        taken
    }

    /// Sees to it that no taken file can be back in the inbox after a power cut, and be taken again.
    fn make_durable(&mut self) -> bool {
        if mutant::breaks(Mutant::ClaimUnsynced) {
            return true;
        }
        let synced =
            store::sync_dir(&self.layout.claimed()).and_then(|()| store::sync_dir(&self.layout.inbox()));
        if let Err(error) = &synced {
            if !self.note_shortage(error) {
                tracing::error!("nothing is taken from the inbox: {error}");
            }
            if error.is_failed_sync() {
                // The daemon ends by it, unless it has ended.
                let _ = self.inputs.send(Input::SyncFailed(error.to_string()));
            }
        }
        synced.is_ok()
    }

    /// Takes note of an error if it is a shortage, which nothing is refused for; the daemon tells about it.
    fn note_shortage(&mut self, error: &store::StoreError) -> bool {
        let short = error.shortage().is_some();
        if short {
            self.short.get_or_insert_with(|| error.failure());
        }
        short
    }

    /// The names in the inbox that are ours to look at, the oldest file first.
    fn names(&mut self) -> Vec<OsString> {
        let inbox = self.layout.inbox();
        let names = match store::at("list", &inbox, disk::list(&inbox)) {
            Ok(names) => names,
            Err(error) => {
                if !self.note_shortage(&error) {
                    tracing::error!("{error}");
                }
                return Vec::new();
            }
        };
        let ours = |name: &OsStr| !command::is_in_the_making(&name.to_string_lossy());
        let mut found: Vec<((i64, i64), OsString)> = names
            .into_iter()
            .filter(|name| ours(name))
            .map(|name| {
                let there = disk::link_metadata(&self.layout.inbox().join(&name));
                (there.map_or((0, 0), |metadata| metadata.modified), name)
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, name)| name).collect()
    }

    fn look_at(&mut self, name: &OsStr, inputs: &mut Vec<Input>) {
        let shown = name.to_string_lossy().into_owned();
        let path = self.layout.inbox().join(name);
        let Some(judged) = self.judge(&path, &shown) else { return };
        if self.is_held_back(&path, &judged) {
            return;
        }
        let origin = Origin::new(clock::new_id(), receipt_name(&shown));
        let claimed = self.layout.claim(origin.claim, &origin.name);
        if let Err(error) = store::rename(&path, &claimed) {
            self.not_taken(&path, &error);
            return;
        }
        self.unready.remove(&path);
        if judged.is_about(&claimed) {
            inputs.push(Input::Dropped { origin, asked: judged.asked });
        } else {
            self.claimed.push(origin);
        }
    }

    /// Sees to it that a file that could not be taken is looked at again, and not at once.
    fn not_taken(&mut self, path: &Path, error: &store::StoreError) {
        // Gone, or taken away from us.
        if error.is_not_found() && !store::exists(path) {
            return;
        }
        if !self.note_shortage(error) {
            tracing::error!("{error}; trying again");
        }
        if let Err(error) = store::make_missing(&[self.layout.local(), self.layout.claimed()]) {
            tracing::error!("{error}");
        }
        if let Some(unready) = self.unready.get_mut(path) {
            unready.since = clock::monotonic() + AGAIN;
        }
    }

    fn look_at_claimed(&mut self, origin: Origin, inputs: &mut Vec<Input>) {
        let path = self.layout.claim(origin.claim, &origin.name);
        if !store::exists(&path) {
            // Somebody removed it, and with it what it asked for.
            self.unready.remove(&path);
            return;
        }
        let Some(judged) = self.judge(&path, &origin.name) else {
            self.claimed.push(origin);
            return;
        };
        if self.is_held_back(&path, &judged) {
            self.claimed.push(origin);
            return;
        }
        inputs.push(Input::Dropped { origin, asked: judged.asked });
        self.unready.remove(&path);
    }

    /// Whether a file is not to be taken for now.
    fn is_held_back(&mut self, path: &Path, judged: &Judged) -> bool {
        let held_back = self.gate.is_shut()
            && !matches!(judged.asked, Ok(Asked { command: Command::Cancel { .. } | Command::Gc(_), .. }));
        if let Some(seen) = self.unready.get_mut(path) {
            seen.held_back = held_back;
        }
        held_back
    }

    /// Decides about one file, or not yet: refusals, and commands whose writers cannot be known, wait until it has been
    /// quiet.
    fn judge(&mut self, path: &Path, name: &str) -> Option<Judged> {
        let metadata = disk::link_metadata(path).ok()?;
        let shape = Shape::of(&metadata);
        let (quiet, senseless) = self.is_quiet(path, shape);
        if senseless && !quiet
            || self.gate.is_shut() && self.unready.get(path).is_some_and(|seen| seen.held_back)
        {
            return None;
        }
        let refused = |refusal: Refusal| quiet.then_some(Judged { asked: Err(refusal), shape, file: None });
        if let Err(refusal) = self.check(&metadata, name) {
            return refused(refusal);
        }
        let file = match store::open_dropped(path) {
            Ok(file) => file,
            // Somebody's lease on it is being broken: somebody writes.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return self.written_to(path, shape),
            Err(error) if error.is_not_found() || self.note_shortage(&error) => return None,
            Err(error) => return refused(Refusal::new(Kind::Unreadable, error.to_string())),
        };
        if disk::look(&file).is_ok_and(|metadata| Shape::of(&metadata) != shape) {
            // Another file lies there now.
            return None;
        }
        match lease::writers(&file) {
            Writers::Some => return self.written_to(path, shape),
            Writers::Unknown if !quiet => return None,
            Writers::Unknown | Writers::None => {}
        }
        let asked = match read_command(&file, name) {
            Ok(asked) => asked,
            Err(error) if self.note_shortage(&error) => return None,
            Err(error) => Err(Refusal::new(Kind::Unreadable, error.to_string())),
        };
        if asked.is_err() && !quiet {
            self.unready.entry(path.to_owned()).and_modify(|seen| seen.senseless = true);
            return None;
        }
        Some(Judged { asked, shape, file: Some(file) })
    }

    /// A file that somebody writes to is not quiet as long as it is open: it is looked at again when it is closed, and
    /// else now and then.
    fn written_to(&mut self, path: &Path, shape: Shape) -> Option<Judged> {
        let unready = Unready { shape, since: clock::monotonic(), senseless: false, held_back: false };
        self.unready.insert(path.to_owned(), unready);
        None
    }

    /// Whether the file has looked the same for as long as it takes to settle; and whether it is known to make no sense.
    fn is_quiet(&mut self, path: &Path, shape: Shape) -> (bool, bool) {
        let now = clock::monotonic();
        let new = || Unready { shape, since: now, senseless: false, held_back: false };
        let seen = self.unready.entry(path.to_owned()).or_insert_with(new);
        if seen.shape != shape {
            *seen = new();
        }
        (seen.since + self.settle <= now, seen.senseless)
    }
}

impl Judged {
    /// Whether the claimed file is the one that was judged, and nobody wrote to it while it was being taken.
    fn is_about(&self, claimed: &Path) -> bool {
        let same = |meta: std::io::Result<Metadata>| meta.is_ok_and(|meta| Shape::of(&meta) == self.shape);
        let is_as_read = |file: &File| same(disk::look(file)) && lease::writers(file) != Writers::Some;
        same(disk::link_metadata(claimed)) && self.file.as_ref().is_none_or(is_as_read)
    }
}

/// Reads what a file asks for.
fn read_command(mut file: &File, name: &str) -> Result<Result<Asked, Refusal>, store::StoreError> {
    let mut bytes = Vec::new();
    let read = Read::by_ref(&mut file).take(BYTES_MAX + 1).read_to_end(&mut bytes);
    store::at("read", Path::new(name), read)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Ok(Err(Refusal::new(Kind::TooLarge, format!("more than {BYTES_MAX} bytes"))));
    }
    Ok(command::parse(name, &bytes))
}

/// Reads a claimed file once more, whose command could not be carried out; `None` when somebody removed it.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_again(
    layout: &Layout,
    origin: &Origin,
) -> Result<Option<Result<Asked, Refusal>>, store::StoreError> {
    match store::open_dropped(&layout.claim(origin.claim, &origin.name)) {
        Err(error) if error.is_not_found() => Ok(None),
        opened => read_command(&opened?, &origin.name).map(Some),
    }
}
