//! A spool on disk: finding, making and opening it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::clock;
use crate::environment;
use crate::escape;
use crate::id::Name;
use crate::json;
use crate::layout::{DOT_SPOOL, Layout, StateLayout};
use crate::queue;
use crate::refusal::{Kind, Refusal};
use crate::store::{self, StoreError};
use crate::time::Timestamp;

pub(crate) use crate::picture::pretty;

/// The format of spools that this version writes and reads.
pub(crate) const FORMAT: u32 = 1;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{} is no spool: it has no spool.json; make one with `gitspool --spool {} init`", .0.display(), .0.display())]
    NotASpool(PathBuf),
    #[error("{} cannot be read: {reason}; mend it: {{\"format\": {FORMAT}, \"id\": ..., \"created_at\": ...}}, where the id is the name of this spool's folder in the state directory", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{} is of format {found}, newer than this version's {FORMAT}: use a newer gitspool", path.display())]
    Newer { path: PathBuf, found: u64 },
    #[error("{} is not UTF-8 without control characters, as the path of a spool and of its state must be: choose another with --spool, GITSPOOL_DIR or GITSPOOL_STATE_DIR", escape::line(&.0.to_string_lossy()))]
    UnspeakablePath(PathBuf),
    #[error("there is no place for a spool: give --spool, or set GITSPOOL_DIR or HOME")]
    NoPlace,
    #[error("there is no place for machine-local state: set GITSPOOL_STATE_DIR, XDG_STATE_HOME or HOME")]
    NoStateDir,
    #[error("GITSPOOL_STATE_DIR is {}, another place from each folder: give an absolute path", .0.display())]
    RelativeStateDir(PathBuf),
}

/// The settings of a spool, `spool.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) format: u32,
    /// Names the spool, on every machine that it is copied to.
    pub(crate) id: Uuid,
    pub(crate) created_at: Timestamp,
    /// The place of tasks that name no directory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) directory: Option<PathBuf>,
    /// How long a dropped file that makes no sense must be quiet before it is refused.
    #[serde(default = "default_settle_ms")]
    pub(crate) settle_ms: u64,
    /// How much of the disk worktrees of runs that are over may take; no limit when absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) workspaces_bytes_max: Option<u64>,
}

fn default_settle_ms() -> u64 {
    1000
}

/// An opened spool.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    pub(crate) layout: Layout,
    pub(crate) settings: Settings,
    pub(crate) state_dir: PathBuf,
}

/// The record of this machine in its state folder: which host of the spool it is.
#[derive(Serialize, Deserialize)]
struct HostRecord {
    host: Name,
}

/// Finds the spool: `given`, else `$GITSPOOL_DIR`, else the nearest `.gitspool` upwards from `from`, else the user's.
pub(crate) fn find(given: Option<&Path>, from: &Path) -> Result<PathBuf, SpoolError> {
    let here = |path: &Path| from.join(path);
    if let Some(path) = given {
        return Ok(here(path));
    }
    if let Some(path) = environment::value(environment::SPOOL_DIR) {
        return Ok(here(Path::new(&path)));
    }
    let dotted = from.ancestors().map(|dir| dir.join(DOT_SPOOL)).find(|path| path.is_dir());
    dotted.or_else(|| environment::state_dir().map(|dir| dir.join("spool"))).ok_or(SpoolError::NoPlace)
}

/// Makes the spool at `root`, or completes one that lacks folders. Tells whether it is new.
pub(crate) fn init(root: &Path, directory: Option<&Path>) -> Result<(Spool, bool), SpoolError> {
    speakable(root)?;
    store::make_lasting_dir(root)?;
    let root = store::at("find", root, root.canonicalize())?;
    let layout = Layout::new(root);
    for folder in layout.folders() {
        store::make_lasting_dir(&folder)?;
    }
    let new = !store::exists(&layout.spool_record());
    if new {
        let settings = Settings {
            format: FORMAT,
            id: Uuid::parse_str(&clock::new_id().to_string()).expect("because an id is a UUID"),
            created_at: clock::now(),
            directory: directory.map(Path::to_owned),
            settle_ms: default_settle_ms(),
            workspaces_bytes_max: None,
        };
        store::replace(&layout, &layout.spool_record(), &pretty(&settings))?;
    }
    let spool = open(layout.root())?;
    let host = spool.host()?;
    let queue: Name = "default".parse().expect("because it is a name");
    make_queue(&layout, &queue, &host, &queue::Settings::default())?;
    for watched in [layout.inbox(), layout.held(&queue), layout.waiting(&queue), layout.ready(&queue)] {
        let keep = layout.keep(&watched);
        if !store::exists(&keep) {
            store::replace(&layout, &keep, b"")?;
        }
    }
    Ok((spool, new))
}

/// Makes the folders of a queue, and its record when it has none.
pub(crate) fn make_queue(
    layout: &Layout,
    queue: &Name,
    host: &Name,
    settings: &queue::Settings,
) -> Result<(), StoreError> {
    for folder in layout.queue_folders(queue, host) {
        store::make_lasting_dir(&folder)?;
        store::sync_dir(&folder)?;
    }
    if !store::exists(&layout.queue_record(queue)) {
        store::replace(layout, &layout.queue_record(queue), &pretty(settings))?;
    }
    store::sync_dir(&layout.queues())?;
    store::sync_dir(&layout.queue(queue))
}

/// Records name the paths of a spool and of its state as JSON texts, git's own files name them in lines.
fn speakable(path: &Path) -> Result<(), SpoolError> {
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => Ok(()),
        _ => Err(SpoolError::UnspeakablePath(path.to_owned())),
    }
}

/// Opens the spool at `root`, without changing it.
pub(crate) fn open(root: &Path) -> Result<Spool, SpoolError> {
    let layout = Layout::new(root.canonicalize().unwrap_or_else(|_| root.to_owned()));
    let path = layout.spool_record();
    let Some(bytes) = store::read_if_there(&path)? else {
        return Err(SpoolError::NotASpool(layout.root().to_owned()));
    };
    let unreadable =
        |refusal: Refusal| SpoolError::Unreadable { path: path.clone(), reason: refusal.to_string() };
    let record = json::parse_object(&bytes).map_err(unreadable)?;
    match record.get("format").and_then(Value::as_u64) {
        Some(found) if found > u64::from(FORMAT) => return Err(SpoolError::Newer { path, found }),
        _ => {}
    }
    let settings: Settings = json::typed(record).map_err(unreadable)?;
    if settings.directory.as_ref().is_some_and(|directory| directory.is_relative()) {
        let refusal = Refusal::new(Kind::InvalidValue, "a directory is an absolute path").at("$.directory");
        return Err(unreadable(refusal));
    }
    let state_dir = environment::state_dir().ok_or(SpoolError::NoStateDir)?;
    if state_dir.is_relative() {
        return Err(SpoolError::RelativeStateDir(state_dir));
    }
    speakable(layout.root())?;
    speakable(&state_dir)?;
    Ok(Spool { layout, settings, state_dir })
}

impl Spool {
    pub(crate) fn state(&self) -> StateLayout {
        StateLayout::new(&self.state_dir, &self.settings.id.to_string())
    }

    /// The name of this machine in the spool, if it has got one already; for those who only read.
    pub(crate) fn known_host(&self) -> Result<Option<Name>, StoreError> {
        let bytes = store::read_if_there(&self.state().host_record())?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).map(|HostRecord { host }| host))
    }

    /// The name of this machine in the spool: chosen from the machine's name once, then kept.
    pub(crate) fn host(&self) -> Result<Name, SpoolError> {
        let path = self.state().host_record();
        if let Some(host) = self.known_host()? {
            return Ok(host);
        }
        let host = host_from(&rustix::system::uname().nodename().to_string_lossy());
        store::make_lasting_dir(&self.state().work())?;
        store::make_lasting_dir(&self.state().trash())?;
        store::make_lasting_dir(&self.state().locks())?;
        store::replace(&self.layout, &path, &pretty(&HostRecord { host: host.clone() })).or_else(
            |error| {
                // The spool and the state folder may lie on different file systems; then there is no rename.
                if error.kind() == std::io::ErrorKind::CrossesDevices {
                    store::create_new(&path, &pretty(&HostRecord { host: host.clone() }), 0o600).map(drop)
                } else {
                    Err(error)
                }
            },
        )?;
        Ok(host)
    }
}

/// A host's name from the machine's: up to the first dot, with what no name may have left out.
fn host_from(nodename: &str) -> Name {
    let plain: String = nodename
        .split('.')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(60)
        .collect();
    plain.trim_matches('-').parse().unwrap_or_else(|_| "localhost".parse().expect("because it is a name"))
}
