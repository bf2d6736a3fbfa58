//! `gitspool status`

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::find::{self, Found, Place};
use super::host::Host;
use super::{Answer, CliError, Context, notices, print, print_json, shown};
use crate::clock;
use crate::command;
use crate::daemon::{self, DaemonRecord, FailedNotice, RefusedEdit, Short};
use crate::escape;
use crate::id::Name;
use crate::layout::{self, Layout};
use crate::lock;
use crate::queue;
use crate::reclaim::{self, Worktree};
use crate::redact;
use crate::shortage::Room;
use crate::spool::Spool;
use crate::store::{self, StoreError};

/// Tell whether a daemon runs, what waits, and what is wrong; exit with 0 when a daemon runs and nothing is wrong
#[derive(clap::Args)]
pub(super) struct Arguments {}

/// What was found.
struct Status {
    runs: bool,
    record: Option<DaemonRecord>,
    queues: Vec<QueueStatus>,
    inbox: usize,
    refused_today: usize,
    /// On the spool's file system.
    room: Option<Room>,
    /// Files where only tasks and commands belong, and that are none.
    strays: Vec<String>,
    host: Host,
    worktrees: Vec<Worktree>,
    /// How many notices are not delivered yet.
    open_notices: usize,
}

pub(super) struct QueueStatus {
    pub(super) name: Name,
    /// As far as they can be read.
    settings: Option<queue::Settings>,
    /// Why it is paused, if it is; empty when nobody says why.
    paused: Option<String>,
    counts: Counts,
    /// The same by lane, with the lane's slots; of a queue that lists lanes.
    lanes: BTreeMap<Option<Name>, (Option<u32>, Counts)>,
    error: Option<String>,
}

/// How many are active, ready, waiting and held.
type Counts = [usize; 4];

pub(super) fn run(context: &Context, _: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let status = Status::look(&spool)?;
    if context.json {
        print_json(&status.value())?;
    } else {
        print(&status.text(&spool.layout))?;
    }
    Ok(if status.is_well() { Answer::Yes } else { Answer::No })
}

impl Status {
    fn look(spool: &Spool) -> Result<Status, CliError> {
        let layout = &spool.layout;
        let live = find::live(layout)?;
        let mut strays = stray_names(&layout.inbox(), |name| command::form_of(name).is_ok())?;
        for queue in &find::queues(layout)? {
            for folder in [layout.ready(queue), layout.waiting(queue), layout.held(queue)] {
                strays.extend(stray_names(&folder, |name| layout::parse_queued_name(name).is_some())?);
            }
        }
        let refused = store::names(&layout.refused_of(&clock::now().date()))?;
        let waiting =
            store::names(&layout.inbox())?.iter().filter(|name| !command::is_in_the_making(name)).count();
        let queues = queues_of(layout, &live)?;
        Ok(Status {
            runs: lock::is_held(layout.root())?,
            record: daemon::daemon_record(layout),
            host: Host::look(spool, &live)?,
            open_notices: notices::open(spool)?.len(),
            queues,
            inbox: waiting + store::names(&layout.claimed())?.len(),
            // Beside each refused file lies the reason.
            refused_today: refused.len().div_ceil(2),
            room: store::room(layout.root()),
            strays,
            worktrees: reclaim::standing(spool)?,
        })
    }

    fn stopped(&self) -> Option<&str> {
        self.record.as_ref()?.stopped.as_deref()
    }

    /// What the daemon waits for, as long as it runs.
    fn short(&self) -> Option<&Short> {
        self.record.as_ref().filter(|_| self.runs)?.short.as_ref()
    }

    /// The edits that were refused, as the daemon tells them that runs.
    fn refused_edits(&self) -> &[RefusedEdit] {
        self.record.as_ref().filter(|_| self.runs).map_or(&[], |record| &record.refused_edits)
    }

    /// The notices that were given up, as the daemon tells them that runs.
    fn failed_notices(&self) -> &[FailedNotice] {
        self.record.as_ref().filter(|_| self.runs).map_or(&[], |record| &record.failed_notices)
    }

    fn is_well(&self) -> bool {
        let queues_are = self.queues.iter().all(|queue| queue.error.is_none());
        self.runs
            && self.stopped().is_none()
            && self.short().is_none()
            && queues_are
            && self.host.error.is_none()
            && self.strays.is_empty()
    }

    /// How much room the daemon waits for, and how much there is.
    fn missing(&self, short: &Short) -> String {
        let parts = [
            (short.needed_bytes, self.room.map(|room| room.bytes), "bytes"),
            (short.needed_inodes, self.room.and_then(|room| room.inodes), "files"),
        ];
        let part = |(needed, free, what): (Option<u64>, Option<u64>, &str)| {
            Some(format!("; {} {what} must be free, the reserve included, and {} are", needed?, free?))
        };
        parts.into_iter().filter_map(part).collect()
    }

    fn value(&self) -> Value {
        let queues: Vec<Value> = self.queues.iter().map(QueueStatus::value).collect();
        let mut failed_notices = json!(self.failed_notices());
        redact::value(&mut failed_notices);
        json!({
            "daemon": {"running": self.runs, "record": self.record, "short": self.short()},
            "free_bytes": self.room.map(|room| room.bytes),
            "free_inodes": self.room.and_then(|room| room.inodes),
            "queues": queues,
            "inbox": self.inbox,
            "refused_today": self.refused_today,
            "refused_edits": self.refused_edits(),
            "failed_notices": failed_notices,
            "open_notices": self.open_notices,
            "strays": self.strays,
            "host": self.host.value(),
            "worktrees": {
                "standing": self.worktrees.len(), "bytes": self.worktree_bytes(), "blocked": self.blocked(),
            },
        })
    }

    fn worktree_bytes(&self) -> u64 {
        self.worktrees.iter().filter_map(|worktree| worktree.bytes).sum()
    }

    /// The worktrees that were to go and could not.
    fn blocked(&self) -> Vec<Value> {
        let blocked = self.worktrees.iter().filter(|worktree| !worktree.blockers.is_empty());
        let value = |worktree: &Worktree| json!({"run": worktree.run, "root": worktree.root, "blockers": worktree.blockers});
        blocked.map(value).collect()
    }

    /// How many worktrees stand of runs that are over, and why some do that were to go.
    fn worktrees_text(&self) -> String {
        if self.worktrees.is_empty() {
            return String::new();
        }
        let (number, bytes) = (self.worktrees.len(), self.worktree_bytes());
        let mut out = format!("\nworktrees of runs that are over: {number}, {bytes} bytes\n");
        for Worktree { run, blockers, .. } in &self.worktrees {
            let what: Vec<String> = blockers.iter().map(|blocker| escape::line(&blocker.what)).collect();
            if !what.is_empty() {
                out.push_str(&format!("  {run} was to go, and stays: {}\n", what.join("; ")));
            }
        }
        out
    }

    fn text(&self, layout: &Layout) -> String {
        let mut out = format!("spool    {}\n", layout.root().display());
        let who = self.record.as_ref().map(|record| {
            let age = shown::age(record.started_at, clock::now());
            format!("pid {} on {}, version {}, started {age} ago", record.pid, record.host, record.version)
        });
        out.push_str(&match (self.runs, who) {
            (true, Some(who)) => format!("daemon   runs ({who})\n"),
            (true, None) => "daemon   runs\n".to_owned(),
            (false, Some(who)) => format!("daemon   does not run, and did not end in order ({who})\n"),
            (false, None) => "daemon   does not run; start one with `gitspool daemon`\n".to_owned(),
        });
        if let Some(reason) = self.stopped() {
            out.push_str(&format!("stopped  {reason}\n"));
        }
        if let Some(short) = self.short() {
            let age = shown::age(short.since, clock::now());
            out.push_str(&format!("short    for {age}, {}: {}\n", short.of.words(), short.message));
            out.push_str(&format!(
                "         nothing is admitted or started, what runs goes on{}\n",
                self.missing(short)
            ));
        }
        for RefusedEdit { task, file, refusal, .. } in self.refused_edits() {
            let what = escape::line(&refusal.to_string());
            out.push_str(&format!(
                "edit     of {task} refused: {what}\n         what was written lies in {file}\n"
            ));
        }
        if self.open_notices > 0 {
            let when = if self.runs { "yet" } else { "yet; the next daemon does it" };
            out.push_str(&format!("notices  {} not delivered {when}\n", self.open_notices));
        }
        for failed in self.failed_notices() {
            out.push_str(&format!("notice   {}\n", escape::line(&failed.words())));
        }
        out.push_str(&format!("inbox    {} waiting, {} refused today\n\n", self.inbox, self.refused_today));
        out.push_str(&tables(&self.queues));
        out.push_str(&self.host.text());
        out.push_str(&self.worktrees_text());
        if !self.strays.is_empty() {
            out.push_str("\nnot ours, move them away:\n");
            self.strays.iter().for_each(|stray| out.push_str(&format!("  {}\n", escape::line(stray))));
        }
        out
    }
}

impl QueueStatus {
    fn look(layout: &Layout, name: Name, live: &[Found]) -> Result<QueueStatus, CliError> {
        let settings = settings(layout, &name);
        let lanes = settings.as_ref().map(|settings| settings.lanes.clone()).unwrap_or_default();
        let by_lane = |(lane, settings): (Name, queue::Lane)| (Some(lane), (Some(settings.slots), [0; 4]));
        let mut lanes: BTreeMap<_, (Option<u32>, Counts)> = lanes.into_iter().map(by_lane).collect();
        let has_lanes = !lanes.is_empty();
        let mut counts = [0; 4];
        for found in live.iter().filter(|found| found.queue == name) {
            let at = match found.place {
                Place::Active(_) => 0,
                Place::Ready(_) => 1,
                Place::Waiting => 2,
                Place::Held => 3,
                Place::Ended(_) => continue,
            };
            counts[at] += 1;
            if has_lanes {
                let lane = find::spec(found)?.and_then(|spec| spec.lane);
                lanes.entry(lane).or_default().1[at] += 1;
            }
        }
        let paused = paused(layout, &name);
        let (settings, error) = match settings {
            Ok(settings) => (Some(settings), None),
            Err(error) => (None, Some(error)),
        };
        Ok(QueueStatus { name, settings, paused, counts, lanes, error })
    }

    pub(super) fn value(&self) -> Value {
        let [active, ready, waiting, held] = self.counts;
        // Which hold where they cannot be read, only the daemon knows: those that were there before.
        let slots = self.settings.as_ref().map(|settings| settings.slots);
        let lane =
            |(lane, (slots, [active, ready, waiting, held])): (&Option<Name>, &(Option<u32>, Counts))| {
                json!({
                    "lane": lane, "slots": slots,
                    "active": active, "ready": ready, "waiting": waiting, "held": held,
                })
            };
        let lanes: Vec<Value> = self.lanes.iter().map(lane).collect();
        json!({
            "queue": self.name, "slots": slots, "paused": self.paused.is_some(),
            "paused_because": self.paused.as_ref().filter(|why| !why.is_empty()), "lanes": lanes,
            "active": active, "ready": ready, "waiting": waiting, "held": held, "error": self.error,
            "settings": self.settings,
        })
    }

    /// Who is told when it has no work any more, if anybody is.
    pub(super) fn notify_empty(&self) -> Option<String> {
        let notifier = &self.settings.as_ref()?.notify_empty;
        (!notifier.is_empty()).then(|| json!(notifier).to_string())
    }

    fn lane_cells(&self) -> Vec<Vec<String>> {
        let row = |(lane, (slots, counts)): (&Option<Name>, &(Option<u32>, Counts))| {
            let lane = lane.as_ref().map(ToString::to_string).unwrap_or_default();
            let slots = slots.map(|slots| slots.to_string()).unwrap_or_default();
            let first = [self.name.to_string(), lane, slots];
            first.into_iter().chain(counts.iter().map(ToString::to_string)).collect()
        };
        self.lanes.iter().map(row).collect()
    }

    fn cells(&self) -> Vec<String> {
        let [active, ready, waiting, held] = self.counts;
        let slots = self.settings.as_ref().map_or("?".to_owned(), |settings| settings.slots.to_string());
        let paused = if self.paused.is_some() { "paused" } else { "" };
        let error = self.error.clone().unwrap_or_default();
        vec![
            self.name.to_string(),
            slots,
            active.to_string(),
            ready.to_string(),
            waiting.to_string(),
            held.to_string(),
            paused.to_owned(),
            error,
        ]
    }
}

/// The queues, with how many tasks they have.
pub(super) fn queues(spool: &Spool) -> Result<Vec<QueueStatus>, CliError> {
    queues_of(&spool.layout, &find::live(&spool.layout)?)
}

fn queues_of(layout: &Layout, live: &[Found]) -> Result<Vec<QueueStatus>, CliError> {
    find::queues(layout)?.into_iter().map(|name| QueueStatus::look(layout, name, live)).collect()
}

/// The queues as a table, and their lanes as another where there are some.
pub(super) fn tables(queues: &[QueueStatus]) -> String {
    let rows: Vec<Vec<String>> = queues.iter().map(QueueStatus::cells).collect();
    let head = ["QUEUE", "SLOTS", "ACTIVE", "READY", "WAITING", "HELD", "PAUSED", "WRONG"];
    let mut out = shown::table(&head, &rows);
    for (queue, why) in queues.iter().filter_map(|queue| Some((&queue.name, queue.paused.as_ref()?))) {
        let why = if why.is_empty() { String::new() } else { format!(": {}", escape::line(why)) };
        out.push_str(&format!("queue {queue} is paused{why}; `gitspool resume {queue}` lets it go on\n"));
    }
    let lanes: Vec<Vec<String>> = queues.iter().flat_map(QueueStatus::lane_cells).collect();
    if !lanes.is_empty() {
        let head = ["QUEUE", "LANE", "SLOTS", "ACTIVE", "READY", "WAITING", "HELD"];
        out.push_str(&format!("\n{}", shown::table(&head, &lanes)));
    }
    out
}

/// Why a queue is paused, if it is: what its file `PAUSED` says first, which may be nothing.
pub(super) fn paused(layout: &Layout, queue: &Name) -> Option<String> {
    let path = layout.paused(queue);
    if !store::exists(&path) {
        return None;
    }
    let text = store::read_if_small(&path, command::BYTES_MAX).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// The settings of a queue, or what is wrong with them.
pub(super) fn settings(layout: &Layout, queue: &Name) -> Result<queue::Settings, String> {
    let path = layout.queue_record(queue);
    match store::read_if_small(&path, command::BYTES_MAX) {
        Ok(Some(bytes)) => {
            queue::parse_settings(&bytes).map_err(|refusal| format!("{}: {refusal}", path.display()))
        }
        Ok(None) => Ok(queue::Settings::default()),
        Err(error) => Err(error.to_string()),
    }
}

/// The files in a folder that do not belong there; hidden ones and those in the making are nobody's business.
fn stray_names(folder: &std::path::Path, belongs: impl Fn(&str) -> bool) -> Result<Vec<String>, StoreError> {
    let names = store::names(folder)?;
    let strays = names.iter().filter(|name| !command::is_in_the_making(name) && !belongs(name));
    Ok(strays.map(|name| folder.join(name).display().to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool;

    #[test]
    fn strays_and_a_bad_queue_file_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let settings = spool::Settings {
            format: spool::FORMAT,
            id: uuid::Uuid::from_u128(7),
            created_at: clock::now(),
            directory: None,
            settle_ms: 0,
            workspaces_bytes_max: None,
        };
        let layout = Layout::new(folder.path().join("spool"));
        let spool = Spool { layout: layout.clone(), settings, state_dir: folder.path().join("state") };
        let queue: Name = "default".parse().unwrap();
        store::make_dir(&layout.ready(&queue)).unwrap();
        store::make_dir(&layout.inbox()).unwrap();
        let before = Status::look(&spool).unwrap();
        assert!(before.strays.is_empty() && before.queues[0].error.is_none() && !before.runs);
        store::create_new(&layout.ready(&queue).join("notes.txt"), b"x", 0o600).unwrap();
        store::create_new(&layout.ready(&queue).join(".hidden"), b"x", 0o600).unwrap();
        store::create_new(&layout.dropped("x.txt"), b"x", 0o600).unwrap();
        store::create_new(&layout.queue_record(&queue), b"{\"slot\": 1}", 0o600).unwrap();
        let status = Status::look(&spool).unwrap();
        assert_eq!((status.strays.len(), status.inbox), (2, 1), "{:?}", status.strays);
        assert!(status.queues[0].error.as_ref().unwrap().contains("slots"));
        assert!(!status.is_well());
    }
}
