//! `gitspool changes`: the feed of tasks that changed, strictly by version.
//!
//! A page goes through the log behind the cursor, and has each task once, with the last change that it came upon. What is not
//! asked for is left out while going, and the cursor is the last line gone through: so nobody has to start again for want of
//! what fits, and one who goes on with it misses nothing, and gets no change twice.

use serde_json::json;

use super::changed::{Changed, Places};
use super::events::host;
use super::pending::watch;
use super::series::{Go, Log, Series};
use super::{Answer, CliError, Context, print, print_json, shown, talk};
use crate::change::Changes;
use crate::clock;
use crate::event::Event;
use crate::hint::Hints;
use crate::id::Name;
use crate::jsonl::Line;
use crate::layout::Layout;

/// The largest page.
const PAGE_MAX: u64 = 500;

/// Print the tasks that changed after a version, the lowest version first; each once, with its last change
///
/// With --json the last line is {"cursor": VERSION, "more": BOOL}: go on from there. A page without tasks has one too; with
/// "gap": true, lines behind the version that was given are not there any more.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Only what changed behind this one: a version, or the cursor of the page before
    #[arg(long, value_name = "VERSION", default_value_t = 0)]
    since: u64,
    /// At most so many tasks, 500 at the most; 100 when absent, but no limit with --follow
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=PAGE_MAX))]
    limit: Option<u64>,
    /// Only tasks of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<Name>,
    /// Only tasks that stand so now: held, waiting, ready, active, cancelling, ended or an outcome
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Go on as they come; a task is printed each time it changes
    #[arg(long, short)]
    follow: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    const LIMIT: u64 = 100;
    let spool = context.open()?;
    let layout = &spool.layout;
    let host = host(&spool)?;
    let folder = layout.events_of(&host);
    let mut series = Series::new(Log::Spool { layout: layout.clone(), host }, arguments.since);
    let mut left = arguments.limit.unwrap_or(if arguments.follow { u64::MAX } else { LIMIT });
    let (mut cursor, mut gap) = (arguments.since, false);
    let mut hints = Hints::new();
    loop {
        if arguments.follow {
            watch(&mut hints, &folder);
        }
        let (changes, first, go) = page(&mut series, left.min(PAGE_MAX))?;
        if let Some(first) = first.filter(|first| *first > cursor + 1) {
            talk(&format!("gitspool: the lines from {} to {} are not there any more", cursor + 1, first - 1));
            gap = true;
        }
        // A line without a change moves it on too.
        cursor = cursor.max(changes.last_seq);
        let wanted = wanted(layout, &changes, arguments)?;
        wanted.iter().try_for_each(|changed| show(context, layout, changed))?;
        left -= wanted.len() as u64;
        if left == 0 || (!arguments.follow && (go == Go::On || !wanted.is_empty())) {
            return end(context, cursor, go == Go::Stop, gap);
        }
        if arguments.follow && go == Go::On {
            hints.wait(&[], clock::monotonic(), None);
        }
    }
}

/// Goes through the log until so many tasks have changed, or to its end; tells also with which line that began.
fn page(series: &mut Series, limit: u64) -> Result<(Changes, Option<u64>, Go), CliError> {
    let (mut changes, mut first) = (Changes::default(), None);
    let go = series.read(&mut |line| {
        // A line that cannot be read is told of by who reads it next, and changes nothing that is known.
        if let Ok(line) = serde_json::from_str::<Line<Event>>(&line.text) {
            changes.note(&line);
            first.get_or_insert(line.seq);
        }
        Ok(if changes.len() as u64 == limit { Go::Stop } else { Go::On })
    })?;
    Ok((changes, first, go))
}

/// Those of them that were asked for.
fn wanted(layout: &Layout, changes: &Changes, arguments: &Arguments) -> Result<Vec<Changed>, CliError> {
    let places = Places::new(layout)?;
    let mut wanted = Vec::new();
    for change in changes.by_version() {
        let Some(changed) = places.locate(change)? else { continue };
        let of_queue = arguments.queue.is_none() || arguments.queue.as_ref() == changed.queue();
        let stands_so = |state: &str| state == changed.word || (state == "ended" && changed.is_ended());
        let is_wanted = of_queue && arguments.state.as_deref().is_none_or(stands_so);
        wanted.extend(is_wanted.then_some(changed));
    }
    Ok(wanted)
}

fn show(context: &Context, layout: &Layout, changed: &Changed) -> Result<(), CliError> {
    if context.json {
        return print_json(&changed.value(layout));
    }
    let name = changed.name().map(ToString::to_string).unwrap_or_default();
    let (version, task) = (changed.change.version, shown::short(changed.change.task));
    print(&format!("{version:>8}  {task}  {:<11}  {name:<20}  {}\n", changed.word, changed.work()))
}

fn end(context: &Context, cursor: u64, more: bool, gap: bool) -> Result<Answer, CliError> {
    if context.json {
        let mut end = json!({"cursor": cursor, "more": more});
        if gap {
            end["gap"] = true.into();
        }
        print_json(&end)?;
    } else if more {
        talk(&format!("gitspool: there may be more; go on with --since {cursor}"));
    }
    Ok(Answer::Yes)
}
