//! The inbox: takes dropped files, each once, and only when it is complete.
//!
//! Owns `inbox/` and `.local/claimed/`. A file is taken by renaming it into the private folder, when it makes sense and no
//! writer has it open; from then on nobody else can change what is read. A file that makes no sense is left until it
//! has been quiet for a while, and refused then. One file never delays another: nothing here waits for a file.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::clock;
use crate::command::{self, BYTES_MAX, Command};
use crate::event::Origin;
use crate::id::TaskId;
use crate::input::Input;
use crate::layout::{self, Layout};
use crate::lease::{self, Writers};
use crate::refusal::{Kind, Refusal};
use crate::store;
use crate::time::Moment;

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
    /// Files that are not ready: what they looked like, and since when.
    unready: HashMap<PathBuf, (Shape, Moment)>,
    /// Files taken and not yet passed on: from an earlier daemon, or still being written when they were taken.
    claimed: Vec<Origin>,
}

/// What changes about a file when somebody writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    device: u64,
    inode: u64,
    bytes: u64,
    links: u64,
    modified: (i64, i64),
}

/// What is to be done with a file.
enum Verdict {
    Take(Command),
    Refuse(Refusal),
    NotYet,
}

impl Inbox {
    /// `claimed` are files that an earlier daemon took and did not get to.
    pub(crate) fn new(
        layout: Layout,
        settle: Duration,
        claimed: Vec<Origin>,
        inputs: Sender<Input>,
    ) -> Inbox {
        let uid = rustix::process::geteuid().as_raw();
        let identity = store::identity(layout.root());
        Inbox { layout, identity, settle, uid, inputs, unready: HashMap::new(), claimed }
    }

    /// Looks through the inbox at each hint, until the hints end.
    pub(crate) fn run(mut self, hints: &Receiver<()>) {
        loop {
            let taken = self.look();
            let empty = taken == 0 && self.unready.is_empty() && self.claimed.is_empty();
            if empty && self.inputs.send(Input::InboxEmpty).is_err() {
                return;
            }
            let patience = match taken {
                0 => self.until_next_look(),
                _ => Duration::ZERO,
            };
            match hints.recv_timeout(patience) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn until_next_look(&self) -> Duration {
        let now = clock::monotonic();
        let due = self.unready.values().map(|(_, since)| now.until(*since + self.settle));
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
        self.unready.retain(|path, _| path.exists() || path.is_symlink());
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
    fn make_durable(&self) -> bool {
        let synced =
            store::sync_dir(&self.layout.claimed()).and_then(|()| store::sync_dir(&self.layout.inbox()));
        if let Err(error) = &synced {
            tracing::error!("nothing is taken from the inbox: {error}");
            if error.is_failed_sync() {
                // The daemon ends by it, unless it has ended.
                let _ = self.inputs.send(Input::SyncFailed(error.to_string()));
            }
        }
        synced.is_ok()
    }

    /// The names in the inbox that are ours to look at, the oldest file first.
    fn names(&self) -> Vec<OsString> {
        let entries = match fs::read_dir(self.layout.inbox()) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!("cannot list {}: {error}", self.layout.inbox().display());
                return Vec::new();
            }
        };
        let ours = |name: &OsStr| !command::is_in_the_making(&name.to_string_lossy());
        let mut found: Vec<((i64, i64), OsString)> = entries
            .flatten()
            .filter(|entry| ours(&entry.file_name()))
            .map(|entry| {
                let age =
                    entry.metadata().map_or((0, 0), |metadata| (metadata.mtime(), metadata.mtime_nsec()));
                (age, entry.file_name())
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, name)| name).collect()
    }

    fn look_at(&mut self, name: &OsStr, inputs: &mut Vec<Input>) {
        let shown = name.to_string_lossy().into_owned();
        let path = self.layout.inbox().join(name);
        let (verdict, file) = self.judge(&path, &shown);
        let asked = match verdict {
            Verdict::NotYet => return,
            Verdict::Take(command) => Ok(command),
            Verdict::Refuse(refusal) => Err(refusal),
        };
        let origin = Origin { claim: clock::new_id(), name: receipt_name(&shown) };
        let claimed = self.layout.claim(origin.claim, &origin.name);
        if let Err(error) = store::rename(&path, &claimed) {
            self.not_taken(&path, &error);
            return;
        }
        self.unready.remove(&path);
        match (asked, file) {
            (Ok(command), Some((file, shape))) if is_unchanged(&claimed, &file, shape) => {
                inputs.push(Input::Dropped { origin, asked: Ok(command) });
            }
            (Ok(_), _) => self.claimed.push(origin),
            (Err(refusal), _) => inputs.push(Input::Dropped { origin, asked: Err(refusal) }),
        }
    }

    /// Sees to it that a file that could not be taken is looked at again, and not at once.
    fn not_taken(&mut self, path: &Path, error: &store::StoreError) {
        // Gone, or taken away from us.
        if error.is_not_found() && !store::exists(path) {
            return;
        }
        tracing::error!("{error}; trying again");
        if let Err(error) = store::make_missing(&[self.layout.local(), self.layout.claimed()]) {
            tracing::error!("{error}");
        }
        if let Some((_, since)) = self.unready.get_mut(path) {
            *since = clock::monotonic() + AGAIN;
        }
    }

    fn look_at_claimed(&mut self, origin: Origin, inputs: &mut Vec<Input>) {
        let path = self.layout.claim(origin.claim, &origin.name);
        if !store::exists(&path) {
            // Somebody removed it, and with it what it asked for.
            self.unready.remove(&path);
            return;
        }
        match self.judge(&path, &origin.name).0 {
            Verdict::NotYet => {
                self.claimed.push(origin);
                return;
            }
            Verdict::Take(command) => inputs.push(Input::Dropped { origin, asked: Ok(command) }),
            Verdict::Refuse(refusal) => inputs.push(Input::Dropped { origin, asked: Err(refusal) }),
        }
        self.unready.remove(&path);
    }

    /// Decides about one file: refusals, and commands whose writers cannot be known, wait until it has been quiet.
    fn judge(&mut self, path: &Path, name: &str) -> (Verdict, Option<(File, Shape)>) {
        let Ok(metadata) = fs::symlink_metadata(path) else { return (Verdict::NotYet, None) };
        let shape = Shape::of(&metadata);
        let quiet = self.is_quiet(path, shape);
        let when_quiet = |refusal: Refusal| if quiet { Verdict::Refuse(refusal) } else { Verdict::NotYet };
        if let Err(refusal) = self.check(&metadata, name) {
            return (when_quiet(refusal), None);
        }
        let file = match open_same(path, shape) {
            Ok(Some(file)) => file,
            Ok(None) => return (Verdict::NotYet, None),
            Err(refusal) => return (when_quiet(refusal), None),
        };
        match lease::writers(&file) {
            Writers::Some => {
                // Not quiet as long as it is open: it is looked at again when it is closed, and else now and then.
                self.unready.insert(path.to_owned(), (shape, clock::monotonic()));
                (Verdict::NotYet, None)
            }
            Writers::Unknown if !quiet => (Verdict::NotYet, None),
            Writers::Unknown | Writers::None => match read_command(&file, name) {
                Ok(command) => (Verdict::Take(command), Some((file, shape))),
                Err(refusal) => (when_quiet(refusal), None),
            },
        }
    }

    /// Whether the file has looked the same for as long as it takes to settle.
    fn is_quiet(&mut self, path: &Path, shape: Shape) -> bool {
        let now = clock::monotonic();
        let (seen, since) = self.unready.entry(path.to_owned()).or_insert((shape, now));
        if *seen != shape {
            (*seen, *since) = (shape, now);
        }
        *since + self.settle <= now
    }

    /// Checks what can be known without opening the file.
    fn check(&self, metadata: &Metadata, name: &str) -> Result<(), Refusal> {
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let refusal = Refusal::new(Kind::Symlink, "a symbolic link is not followed");
            return Err(refusal.hint("drop a copy of the file that it points to"));
        }
        if !kind.is_file() {
            let what = match () {
                () if kind.is_dir() => "a folder",
                () if kind.is_fifo() => "a fifo",
                () if kind.is_socket() => "a socket",
                () => "a device",
            };
            return Err(Refusal::new(Kind::NotAFile, format!("{what} is no command")));
        }
        command::form_of(name)?;
        if metadata.uid() != self.uid {
            let message = format!("the file belongs to user {}, the daemon to {}", metadata.uid(), self.uid);
            return Err(Refusal::new(Kind::ForeignOwner, message).hint("drop it as the user of the daemon"));
        }
        if metadata.nlink() > 1 {
            let message =
                format!("the file has {} names, so it can change after it was taken", metadata.nlink());
            return Err(Refusal::new(Kind::HardLink, message).hint("drop a copy, not a hard link"));
        }
        if metadata.len() > BYTES_MAX {
            let message =
                format!("{} bytes are more than the {BYTES_MAX} that a command may have", metadata.len());
            return Err(
                Refusal::new(Kind::TooLarge, message).hint("name a file of the repository in the command")
            );
        }
        self.check_inbox()
    }

    /// Nobody else may put files here: a command runs with all that we may do.
    fn check_inbox(&self) -> Result<(), Refusal> {
        let inbox = self.layout.inbox();
        let open_to_others = fs::metadata(&inbox).is_ok_and(|inbox| inbox.mode() & 0o022 != 0);
        if !open_to_others {
            return Ok(());
        }
        let refusal = Refusal::new(Kind::InboxWritable, "others can write to the inbox");
        Err(refusal.hint(format!("chmod 700 {}, and drop the file again", inbox.display())))
    }
}

impl Shape {
    fn of(metadata: &Metadata) -> Shape {
        Shape {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            links: metadata.nlink(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Opens the file that was looked at; `None` when another lies there now.
fn open_same(path: &Path, shape: Shape) -> Result<Option<File>, Refusal> {
    match store::open_dropped(path) {
        Ok(file) => Ok(file.metadata().is_ok_and(|metadata| Shape::of(&metadata) == shape).then_some(file)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(Refusal::new(Kind::Unreadable, error.to_string())),
    }
}

fn read_command(mut file: &File, name: &str) -> Result<Command, Refusal> {
    let mut bytes = Vec::new();
    let read = Read::by_ref(&mut file).take(BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Refusal::new(Kind::Unreadable, error.to_string()))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Refusal::new(Kind::TooLarge, format!("more than {BYTES_MAX} bytes")));
    }
    command::parse(name, &bytes)
}

/// Whether the claimed file is the one that was read, and nobody wrote to it while it was being taken.
fn is_unchanged(claimed: &Path, file: &File, shape: Shape) -> bool {
    let same =
        |metadata: std::io::Result<Metadata>| metadata.is_ok_and(|metadata| Shape::of(&metadata) == shape);
    same(fs::symlink_metadata(claimed)) && same(file.metadata()) && lease::writers(file) != Writers::Some
}

/// The name of a file's receipt: its own, or one that is safe and short enough to stand for it.
fn receipt_name(name: &str) -> String {
    if name.parse::<crate::id::Name>().is_ok() {
        return name.to_owned();
    }
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let plain: String = name.chars().map(safe).take(100).collect();
    // No command has a name like this: if it is looked at again after a crash, it is refused again.
    format!("_{plain}")
}

/// Whether no file waits to be taken, or was taken and has not come to the daemon yet: what an inbox says that was looked
/// through a while ago does not count. `is_decided` knows the claims that only lack their answer.
pub(crate) fn is_taken(layout: &Layout, is_decided: impl Fn(TaskId) -> bool) -> bool {
    let waits = |names: Vec<String>| names.iter().any(|name| !command::is_in_the_making(name));
    // Where this cannot be read nothing can be taken either.
    let waiting = store::names(&layout.inbox()).is_ok_and(waits);
    let claimed = claimed_files(layout).unwrap_or_default();
    !waiting && claimed.iter().all(|origin| is_decided(origin.claim))
}

/// The files that an earlier daemon took, by what their names say.
pub(crate) fn claimed_files(layout: &Layout) -> Result<Vec<Origin>, store::StoreError> {
    let names = store::names(&layout.claimed())?;
    let origin = |name: &String| {
        let (claim, name): (TaskId, &str) = layout::parse_claim_name(name)?;
        Some(Origin { claim, name: name.to_owned() })
    };
    Ok(names.iter().filter_map(origin).collect())
}
