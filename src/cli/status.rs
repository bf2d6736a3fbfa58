//! `gitspool status`

use serde_json::{Value, json};

use super::find::{self, Found, Place};
use super::{Answer, CliError, Context, print, print_json, shown};
use crate::clock;
use crate::command;
use crate::daemon::{self, DaemonRecord, Short};
use crate::id::Name;
use crate::layout::{self, Layout};
use crate::lock;
use crate::queue;
use crate::shortage::Room;
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
}

struct QueueStatus {
    name: Name,
    slots: u32,
    paused: bool,
    counts: [usize; 4],
    error: Option<String>,
}

pub(super) fn run(context: &Context, _: &Arguments) -> Result<Answer, CliError> {
    let layout = context.open()?.layout;
    let status = Status::look(&layout)?;
    if context.json {
        print_json(&status.value())?;
    } else {
        print(&status.text(&layout))?;
    }
    Ok(if status.is_well() { Answer::Yes } else { Answer::No })
}

impl Status {
    fn look(layout: &Layout) -> Result<Status, CliError> {
        let live = find::live(layout)?;
        let queues = find::queues(layout)?;
        let mut strays = stray_names(&layout.inbox(), |name| command::form_of(name).is_ok())?;
        for queue in &queues {
            for folder in [layout.ready(queue), layout.waiting(queue), layout.held(queue)] {
                strays.extend(stray_names(&folder, |name| layout::parse_queued_name(name).is_some())?);
            }
        }
        let refused = store::names(&layout.refused_of(&clock::now().date()))?;
        let waiting =
            store::names(&layout.inbox())?.iter().filter(|name| !command::is_in_the_making(name)).count();
        Ok(Status {
            runs: lock::is_held(layout.root())?,
            record: daemon::daemon_record(layout),
            queues: queues.into_iter().map(|name| QueueStatus::look(layout, name, &live)).collect(),
            inbox: waiting + store::names(&layout.claimed())?.len(),
            // Beside each refused file lies the reason.
            refused_today: refused.len().div_ceil(2),
            room: store::room(layout.root()),
            strays,
        })
    }

    fn stopped(&self) -> Option<&str> {
        self.record.as_ref()?.stopped.as_deref()
    }

    /// What the daemon waits for, as long as it runs.
    fn short(&self) -> Option<&Short> {
        self.record.as_ref().filter(|_| self.runs)?.short.as_ref()
    }

    fn is_well(&self) -> bool {
        let queues_are = self.queues.iter().all(|queue| queue.error.is_none());
        self.runs
            && self.stopped().is_none()
            && self.short().is_none()
            && queues_are
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
        json!({
            "daemon": {"running": self.runs, "record": self.record, "short": self.short()},
            "free_bytes": self.room.map(|room| room.bytes),
            "free_inodes": self.room.and_then(|room| room.inodes),
            "queues": queues,
            "inbox": self.inbox,
            "refused_today": self.refused_today,
            "strays": self.strays,
        })
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
        out.push_str(&format!("inbox    {} waiting, {} refused today\n\n", self.inbox, self.refused_today));
        let rows: Vec<Vec<String>> = self.queues.iter().map(QueueStatus::cells).collect();
        out.push_str(&shown::table(
            &["QUEUE", "SLOTS", "ACTIVE", "READY", "WAITING", "HELD", "PAUSED", "WRONG"],
            &rows,
        ));
        if !self.strays.is_empty() {
            out.push_str("\nnot ours, move them away:\n");
            self.strays.iter().for_each(|stray| out.push_str(&format!("  {}\n", crate::escape::line(stray))));
        }
        out
    }
}

impl QueueStatus {
    fn look(layout: &Layout, name: Name, live: &[Found]) -> QueueStatus {
        let settings = settings(layout, &name);
        let mut counts = [0; 4];
        for found in live.iter().filter(|found| found.queue == name) {
            match found.place {
                Place::Active(_) => counts[0] += 1,
                Place::Ready(_) => counts[1] += 1,
                Place::Waiting => counts[2] += 1,
                Place::Held => counts[3] += 1,
                Place::Ended(_) => {}
            }
        }
        let slots = settings.as_ref().map_or(queue::Settings::default().slots, |settings| settings.slots);
        let paused = store::exists(&layout.paused(&name));
        QueueStatus { name, slots, paused, counts, error: settings.err() }
    }

    fn value(&self) -> Value {
        let [active, ready, waiting, held] = self.counts;
        // Which slots hold then, only the daemon knows: those that were there before.
        let slots = self.error.is_none().then_some(self.slots);
        json!({
            "queue": self.name, "slots": slots, "paused": self.paused,
            "active": active, "ready": ready, "waiting": waiting, "held": held, "error": self.error,
        })
    }

    fn cells(&self) -> Vec<String> {
        let [active, ready, waiting, held] = self.counts;
        let slots = if self.error.is_none() { self.slots.to_string() } else { "?".to_owned() };
        let paused = if self.paused { "paused" } else { "" };
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

    #[test]
    fn strays_and_a_bad_queue_file_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let queue: Name = "default".parse().unwrap();
        store::make_dir(&layout.ready(&queue)).unwrap();
        store::make_dir(&layout.inbox()).unwrap();
        let before = Status::look(&layout).unwrap();
        assert!(before.strays.is_empty() && before.queues[0].error.is_none() && !before.runs);
        store::create_new(&layout.ready(&queue).join("notes.txt"), b"x", 0o600).unwrap();
        store::create_new(&layout.ready(&queue).join(".hidden"), b"x", 0o600).unwrap();
        store::create_new(&layout.dropped("x.txt"), b"x", 0o600).unwrap();
        store::create_new(&layout.queue_record(&queue), b"{\"slot\": 1}", 0o600).unwrap();
        let status = Status::look(&layout).unwrap();
        assert_eq!((status.strays.len(), status.inbox), (2, 1), "{:?}", status.strays);
        assert!(status.queues[0].error.as_ref().unwrap().contains("slots"));
        assert!(!status.is_well());
    }
}
