//! `gitspool attention`: what a reader ought to look at, in one look.
//!
//! It costs what is live, and what changed behind the reader's floor: of a reader who marks nothing for long, that is the end
//! of the log, and no more of it than is read within a moment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::changed::{Changed, Places};
use super::events::host;
use super::find::{self, Place};
use super::{Answer, CliError, Context, print, print_json, shown};
use crate::change::Change;
use crate::clock;
use crate::history;
use crate::id::{Name, TaskId};
use crate::layout::Layout;
use crate::reader::Reader;
use crate::readers::{self, ReaderError};
use crate::spool::Spool;
use crate::time::Timestamp;

/// Show what a reader ought to look at: tasks that run, then those that changed and were not read, the newest first; exit
/// with 0 when there is something, with 1 when there is nothing
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Who looks; without it nothing counts as read
    #[arg(long, value_name = "NAME")]
    reader: Option<Name>,
    /// Only tasks of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<Name>,
    /// At most so many tasks, 100 at the most; what is counted is all
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=100))]
    limit: u64,
}

/// A task that somebody ought to look at.
pub(super) struct Wanting {
    pub(super) active: bool,
    pub(super) changed: Changed,
}

/// What one look has found.
pub(super) struct Look {
    /// In the order in which they want attention.
    pub(super) wanting: Vec<Wanting>,
    /// How many tasks there are in each state: of the live ones, and of those that ended unread.
    by_state: BTreeMap<&'static str, usize>,
    /// The last version that there is.
    max_version: u64,
    /// What changed up to there, and is not live, was not looked at, and counts as read.
    looked_from: Option<u64>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let look = look(&spool, arguments.reader.as_ref(), arguments.queue.as_ref())?;
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    if context.json {
        print_json(&value(&spool.layout, &look, arguments, limit))?;
    } else {
        print(&text(&look, limit, clock::now()))?;
    }
    Ok(if look.wanting.is_empty() { Answer::No } else { Answer::Yes })
}

/// Looks for all that wants the reader's attention.
pub(super) fn look(spool: &Spool, reader: Option<&Name>, queue: Option<&Name>) -> Result<Look, CliError> {
    let layout = &spool.layout;
    let reader = reader.map_or(Ok(None), |name| known(layout, name))?;
    let floor = reader.as_ref().map_or(0, |reader| reader.floor);
    let looked = history::changes(layout, &host(spool)?, floor, readers::LOOK_BYTES)?;
    let changes = &looked.changes;
    let is_unread =
        |task: TaskId, version: u64| reader.as_ref().is_none_or(|reader| !reader.has_read(task, version));
    let places = Places::new(layout)?;
    let (mut wanting, mut by_state) = (Vec::new(), BTreeMap::new());
    let (mut active, mut live) = (HashSet::new(), HashSet::new());
    for found in find::live(layout)? {
        live.insert(found.task);
        if queue.is_some_and(|queue| *queue != found.queue) || !find::is_in_scope(&found)? {
            continue;
        }
        *by_state.entry(found.place.word()).or_default() += 1;
        if matches!(found.place, Place::Active(_)) {
            active.insert(found.task);
            let change = changes.of(found.task).cloned().unwrap_or_else(|| at_version(found.task, 0));
            let spec = find::spec(&found)?;
            let changed = Changed::new(layout, change, Some(found), spec)?;
            wanting.push(Wanting { active: true, changed });
        }
    }
    let behind = changes.by_version();
    let below = reader.iter().flat_map(|reader| &reader.unread);
    let below = below.filter(|(task, _)| changes.of(**task).is_none());
    let below = below.map(|(task, version)| at_version(*task, *version));
    for change in behind.into_iter().chain(below) {
        if active.contains(&change.task) || !is_unread(change.task, change.version) {
            continue;
        }
        // One whose file was removed, or is none for whoever calls, wants nothing.
        let Some(changed) = places.locate(change)?.filter(|changed| changed.found.is_some()) else {
            continue;
        };
        if queue.is_some_and(|queue| changed.queue() != Some(queue)) {
            continue;
        }
        if !live.contains(&changed.change.task) {
            *by_state.entry(changed.word).or_default() += 1;
        }
        wanting.push(Wanting { active: false, changed });
    }
    wanting.sort_by_key(|one| (!one.active, Reverse(one.changed.change.version), one.changed.change.task));
    Ok(Look { wanting, by_state, max_version: changes.last_seq, looked_from: looked.cut_at })
}

/// What is known of a reader; nothing of one who has marked nothing.
fn known(layout: &Layout, name: &Name) -> Result<Option<Reader>, CliError> {
    readers::look(layout, name).map_err(|error| match error {
        ReaderError::Store(error) => error.into(),
        ReaderError::Unreadable { .. } => CliError::Usage(error.to_string()),
    })
}

/// A change of which only the version is known; or not even that, when it is 0.
fn at_version(task: TaskId, version: u64) -> Change {
    Change { version, at: None, task, state: None, spec: None }
}

impl Wanting {
    fn word(&self) -> &'static str {
        if self.active { "active" } else { "unread" }
    }
}

impl Look {
    fn active(&self) -> usize {
        self.wanting.iter().filter(|one| one.active).count()
    }
}

fn value(layout: &Layout, look: &Look, arguments: &Arguments, limit: usize) -> Value {
    let task = |one: &Wanting| {
        let mut value = one.changed.value(layout);
        value["attention"] = one.word().into();
        if one.changed.change.version == 0 {
            value["version"] = Value::Null;
        }
        value
    };
    let tasks: Vec<Value> = look.wanting.iter().take(limit).map(task).collect();
    json!({
        "at": clock::now(),
        "reader": arguments.reader,
        "queue": arguments.queue,
        "active": look.active(),
        "unread": look.wanting.len() - look.active(),
        "by_state": look.by_state,
        "max_version": look.max_version,
        "looked_from": look.looked_from,
        "tasks": tasks,
    })
}

fn text(look: &Look, limit: usize, now: Timestamp) -> String {
    let states = look.by_state.iter().map(|(state, count)| format!("{count} {state}"));
    let states = states.collect::<Vec<_>>().join(", ");
    let (active, version) = (look.active(), look.max_version);
    let mut out = format!("{active} active, {} unread, up to version {version}", look.wanting.len() - active);
    out.push_str(&if states.is_empty() { "\n".to_owned() } else { format!(" ({states})\n") });
    if let Some(seq) = look.looked_from {
        out.push_str(&format!("what ended before line {seq} of the log was not looked at\n"));
    }
    let cells = |one: &Wanting| {
        let changed = &one.changed;
        let version = Some(changed.change.version).filter(|version| *version > 0);
        vec![
            one.word().to_owned(),
            version.map(|version| version.to_string()).unwrap_or_default(),
            shown::short(changed.change.task),
            changed.word.to_owned(),
            changed.queue().map(ToString::to_string).unwrap_or_default(),
            changed.name().map(ToString::to_string).unwrap_or_default(),
            changed.change.at.map(|at| shown::age(at, now)).unwrap_or_default(),
            changed.work(),
        ]
    };
    let rows: Vec<Vec<String>> = look.wanting.iter().take(limit).map(cells).collect();
    if !rows.is_empty() {
        let head = ["WANTS", "VERSION", "ID", "STATE", "QUEUE", "NAME", "SINCE", "WHAT"];
        out.push_str(&shown::table(&head, &rows));
    }
    out
}
