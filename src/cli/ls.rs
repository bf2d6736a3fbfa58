//! `gitspool ls`

use serde_json::{Value, json};

use super::find::{self, Found, Place};
use super::page::Page;
use super::{Answer, CliError, Context, print, print_json, runs, scope, shown, talk};
use crate::clock;
use crate::command;
use crate::id::{Name, Rank};
use crate::layout::Layout;
use crate::lock;
use crate::record::Record;
use crate::redact;
use crate::spec::Spec;
use crate::store;
use crate::time::Timestamp;

/// What a state may be called: a folder's name, an outcome, or all that ended.
const STATES: [&str; 16] = [
    "held",
    "waiting",
    "ready",
    "active",
    "ended",
    "done",
    "succeeded",
    "failed",
    "signalled",
    "timed_out",
    "cancelled",
    "interrupted",
    "lost",
    "blocked",
    "skipped",
    "expired",
];

/// List tasks in the order of dispatch: those that run, those that are ready, those that wait, those that are held
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Only those of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<Name>,
    /// Only those in this state: a folder's name, an outcome, or `ended`
    #[arg(long, value_parser = STATES)]
    state: Option<String>,
    /// Only those for this work item
    #[arg(long)]
    item: Option<String>,
    /// Also those that have ended, the newest first
    #[arg(long, conflicts_with = "state")]
    all: bool,
    /// List runs, the newest first, and not tasks
    #[arg(long, conflicts_with_all = ["queue", "state", "all"])]
    runs: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Only those behind this place in the list: the `page` that the last row of the page before has with --json
    #[arg(long, value_name = "PAGE")]
    page: Option<Page>,
}

/// A task as a row.
struct Row {
    found: Found,
    spec: Option<Spec>,
    last: Option<Record>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let layout = context.open()?.layout;
    if arguments.runs {
        return list_runs(context, &layout, arguments);
    }
    if let Some(queue) = &arguments.queue
        && !find::queues(&layout)?.contains(queue)
    {
        let queues = layout.queues();
        return Err(CliError::NotFound(format!("there is no queue {queue} in {}", queues.display())));
    }
    if let Some(page @ Page::Run(_)) = arguments.page {
        return Err(CliError::Usage(format!(
            "--page {page} is a place in the list of runs: give --runs too"
        )));
    }
    let mut rows = Rows { layout: &layout, arguments, rows: Vec::new(), more: false };
    let state = arguments.state.as_deref();
    if state.is_none_or(is_live) {
        let behind = |found: &Found| arguments.page.is_none_or(|page| page < Page::of(found));
        find::live(&layout)?.into_iter().filter(behind).try_for_each(|found| rows.add(found).map(drop))?;
    }
    if arguments.all || state.is_some_and(|state| !is_live(state)) {
        rows.add_ended()?;
    }
    let Rows { rows, more, .. } = rows;
    if context.json {
        rows.iter().try_for_each(|row| print_json(&row.value()))?;
    } else if !rows.is_empty() {
        let now = clock::now();
        let cells: Vec<Vec<String>> = rows.iter().map(|row| row.cells(now)).collect();
        print(&shown::table(&["ID", "STATE", "RANK", "QUEUE", "NAME", "SINCE", "WHAT"], &cells))?;
    }
    let last = rows.last().map(|row| Page::of(&row.found));
    tell_more(last.filter(|_| more));
    tell_waiting(context, &layout)?;
    Ok(Answer::Yes)
}

/// Whether tasks in a state that is called so are live.
fn is_live(state: &str) -> bool {
    matches!(state, "held" | "waiting" | "ready" | "active")
}

/// Tells of what is not admitted, for want of a daemon.
fn tell_waiting(context: &Context, layout: &Layout) -> Result<(), CliError> {
    let names = store::names(&layout.inbox())?;
    let waiting = names.iter().filter(|name| !command::is_in_the_making(name)).count();
    if waiting > 0 && !lock::is_held(layout.root())? {
        let files = if waiting == 1 { "1 file waits".to_owned() } else { format!("{waiting} files wait") };
        context.no_daemon(&format!("{files} in the inbox"));
    }
    Ok(())
}

fn tell_more(last: Option<Page>) {
    if let Some(page) = last {
        talk(&format!(
            "gitspool: there are more; --limit N shows so many at once, --page {page} those behind these"
        ));
    }
}

/// The rows so far.
struct Rows<'a> {
    layout: &'a Layout,
    arguments: &'a Arguments,
    rows: Vec<Row>,
    /// Whether there would be more than were asked for.
    more: bool,
}

impl Rows<'_> {
    /// Adds a task, if it is one that was asked for; tells whether there is room for another.
    fn add(&mut self, found: Found) -> Result<bool, CliError> {
        if self.arguments.queue.as_ref().is_some_and(|queue| *queue != found.queue) {
            return Ok(true);
        }
        let Some((found, spec)) = self.read(found)? else { return Ok(true) };
        if !scope().is_whole() && !spec.as_ref().is_some_and(|spec| scope().has(spec)) {
            return Ok(true);
        }
        let item = spec.as_ref().and_then(|spec| spec.item.as_ref());
        if self.arguments.item.is_some() && item != self.arguments.item.as_ref() {
            return Ok(true);
        }
        let last = match found.place {
            Place::Active(_) | Place::Ended(_) => runs::last(self.layout, found.task)?,
            Place::Held | Place::Waiting | Place::Ready(_) => None,
        };
        let row = Row { found, spec, last };
        if !row.is_in(self.arguments.state.as_deref()) {
            return Ok(true);
        }
        self.more = self.rows.len() >= self.arguments.limit;
        if !self.more {
            self.rows.push(row);
        }
        Ok(!self.more)
    }

    /// Reads a task's file, and looks for it anew when it has moved on; `None` when it is gone.
    fn read(&self, found: Found) -> Result<Option<(Found, Option<Spec>)>, CliError> {
        if found.path.is_file() {
            let spec = find::spec(&found)?;
            return Ok(Some((found, spec)));
        }
        let Some(found) = find::exact(self.layout, found.task)? else { return Ok(None) };
        let spec = find::spec(&found)?;
        Ok(Some((found, spec)))
    }

    fn add_ended(&mut self) -> Result<(), CliError> {
        let page = self.arguments.page;
        // A page begins among the live ones, and then with all days, or within a day.
        let first = page.and_then(Page::ended_date);
        for date in find::ended_dates(self.layout)? {
            if first.as_ref().is_some_and(|first| date > *first) {
                continue;
            }
            for found in find::ended_on(self.layout, &date)? {
                if page.is_some_and(|page| Page::of(&found) <= page) {
                    continue;
                }
                let seen = self.rows.iter().any(|row| row.found.task == found.task);
                if !seen && !self.add(found)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl Row {
    fn word(&self) -> &'static str {
        runs::state_word(&self.found, self.last.as_ref())
    }

    fn is_in(&self, state: Option<&str>) -> bool {
        let Some(state) = state else { return true };
        let folder = self.found.place.word();
        (state == "ended" && self.found.place.is_ended()) || state == folder || state == self.word()
    }

    fn rank(&self) -> Option<Rank> {
        match self.found.place {
            Place::Ready(rank) => Some(rank),
            Place::Held | Place::Waiting | Place::Active(_) | Place::Ended(_) => None,
        }
    }

    /// Since when it is where it is, as far as its files tell.
    fn since(&self) -> Timestamp {
        let run = self.last.as_ref().map(|last| last.finished_at.unwrap_or(last.started_at));
        run.unwrap_or_else(|| self.found.task.made_at())
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let spec = self.spec.as_ref();
        let name = spec.and_then(|spec| spec.name.as_ref()).map(ToString::to_string);
        let cells = [
            shown::short(self.found.task),
            self.word().to_owned(),
            self.rank().map(|rank| rank.to_string()).unwrap_or_default(),
            self.found.queue.to_string(),
            name.unwrap_or_default(),
            shown::age(self.since(), now),
            spec.map_or_else(
                || "(its file cannot be read)".to_owned(),
                |spec| self.waits_for(spec) + &shown::work(spec),
            ),
        ];
        cells.into()
    }

    /// The tasks that it waits for, in words before what it does.
    fn waits_for(&self, spec: &Spec) -> String {
        const NAMED_MAX: usize = 3;
        let waits = matches!(self.found.place, Place::Held | Place::Waiting);
        let mut tasks: Vec<String> =
            spec.edges().filter(|_| waits).map(|(_, task)| shown::short(task)).collect();
        let more = tasks.len().saturating_sub(NAMED_MAX);
        tasks.truncate(NAMED_MAX);
        tasks.extend((more > 0).then(|| format!("{more} more")));
        if tasks.is_empty() { String::new() } else { format!("(after {}) ", tasks.join(", ")) }
    }

    fn value(&self) -> Value {
        let last = self.last.as_ref();
        let mut value = json!({
            "task": self.found.task,
            "state": self.word(),
            "queue": self.found.queue,
            "path": self.found.path,
            "submitted_at": self.found.task.made_at(),
            "spec": self.spec,
            "page": Page::of(&self.found).to_string(),
        });
        let optional: [(&str, Option<Value>); 4] = [
            ("rank", self.rank().map(|rank| u8::from(rank).into())),
            ("run", last.map(|last| last.run.to_string().into())),
            ("started_at", last.map(|last| last.started_at.to_string().into())),
            ("finished_at", last.and_then(|last| last.finished_at).map(|at| at.to_string().into())),
        ];
        for (key, given) in optional {
            if let Some(given) = given {
                value[key] = given;
            }
        }
        redact::value(&mut value);
        value
    }
}

fn list_runs(context: &Context, layout: &Layout, arguments: &Arguments) -> Result<Answer, CliError> {
    let mut records: Vec<Record> = Vec::new();
    let mut more = false;
    let behind = arguments.page.map_or(Ok(None), Page::run)?;
    for run in runs::all(layout)?.filter(|run| behind.is_none_or(|behind| *run < behind)) {
        let Some(record) = runs::record(layout, run)? else { continue };
        if (arguments.item.is_some() && record.item != arguments.item) || !runs::is_in_scope(layout, run)? {
            continue;
        }
        more = records.len() >= arguments.limit;
        if more {
            break;
        }
        records.push(record);
    }
    // That of the last one, which is not where it stands when a later attempt of an older task was begun after it.
    let page = records.last().map(|record| Page::of_run(record.run));
    records.sort_by_key(|record| std::cmp::Reverse((record.started_at, record.run)));
    if context.json {
        for record in &records {
            let mut value = runs::shown(record);
            value["page"] = page.map(|page| page.to_string()).into();
            print_json(&value)?;
        }
    } else if !records.is_empty() {
        let now = clock::now();
        let cells: Vec<Vec<String>> = records.iter().map(|record| run_cells(record, now)).collect();
        print(&shown::table(&["RUN", "OUTCOME", "ITEM", "STARTED", "TOOK", "BRANCH", "SUMMARY"], &cells))?;
    }
    tell_more(page.filter(|_| more));
    Ok(Answer::Yes)
}

fn run_cells(record: &Record, now: Timestamp) -> Vec<String> {
    let branch = record.workspace.as_ref().and_then(|workspace| workspace.branch.clone());
    let cells = [
        format!("{}.{}", shown::short(record.run.task), record.run.attempt),
        runs::status_word(record).to_owned(),
        record.item.clone().unwrap_or_default(),
        format!("{} ago", shown::age(record.started_at, now)),
        shown::lasted(record.finished_at.unwrap_or(now).since(record.started_at)),
        branch.unwrap_or_default(),
        shown::clip(&redact::text(record.summary.as_deref().unwrap_or_default()), 60),
    ];
    cells.into()
}
