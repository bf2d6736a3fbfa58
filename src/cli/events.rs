//! `gitspool events`: the lines of a log, as they stand there but for secrets.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::find::{self, Found};
use super::follow::{self, Begun};
use super::interrupt::Interrupts;
use super::pending::watch;
use super::series::{Go, Log, Series, Taken};
use super::{Answer, CliError, Context, scope, talk, write_raw};
use crate::clock;
use crate::escape;
use crate::hint::Hints;
use crate::id::{Name, RunId, TaskId};
use crate::layout::Layout;
use crate::redact;
use crate::spec::Spec;
use crate::spool::Spool;
use crate::store;

/// How often to look whether a run that says nothing is still alive.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The largest page.
const PAGE_MAX: u64 = 500;

/// Print events, one JSON object per line: of a task's last run, or without an ID of the spool on this host
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The id of a task or a run, the end of it, or a name
    #[arg(value_name = "ID")]
    task: Option<String>,
    /// Only those with a higher number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
    /// At most so many, 500 at the most; 500 when absent, but no limit with --follow
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=PAGE_MAX))]
    limit: Option<u64>,
    /// Go on as they come; for a run, until it has ended
    #[arg(long, short)]
    follow: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let layout = &spool.layout;
    let Some(text) = &arguments.task else {
        let host = host(&spool)?;
        let folder = layout.events_of(&host);
        let log = Log::Spool { layout: layout.clone(), host };
        let what = What { folder: &folder, run: None, theirs: Theirs::default() };
        return print_events(layout, Series::new(log, arguments.after), what, arguments);
    };
    let run = if arguments.follow {
        match follow::await_run(context, layout, text, None, &mut Interrupts::new()?)? {
            Begun::Run(run) => run,
            Begun::Never | Begun::Interrupted => return Ok(Answer::No),
        }
    } else {
        let target = find::target(layout, text)?;
        follow::run_of(layout, &target.found, target.attempt)?
    };
    let paths = layout.run(run);
    let what = What { folder: paths.dir(), run: Some(run), theirs: Theirs::default() };
    print_events(layout, Series::new(Log::Run(paths.log()), arguments.after), what, arguments)
}

/// Which log it is.
struct What<'a> {
    folder: &'a Path,
    run: Option<RunId>,
    theirs: Theirs,
}

/// Whose lines are shown: those of the tasks that are in the scope of the command line.
#[derive(Default)]
struct Theirs(HashMap<TaskId, bool>);

impl Theirs {
    fn has(&mut self, layout: &Layout, line: &Value) -> Result<bool, CliError> {
        if scope().is_whole() {
            return Ok(true);
        }
        let Some(task) = line["task"].as_str().and_then(|task| task.parse().ok()) else { return Ok(false) };
        if let Some(known) = self.0.get(&task) {
            return Ok(*known);
        }
        // A new task has no file yet, perhaps.
        let spec = serde_json::from_value::<Spec>(line["spec"].clone());
        let found = |found: Option<&Found>| found.map_or(Ok(false), find::is_in_scope);
        let has = match spec {
            Ok(spec) if line["spec"]["text_sha256"].is_null() => scope().has(&spec),
            Ok(_) | Err(_) => found(find::exact(layout, task)?.as_ref())?,
        };
        self.0.insert(task, has);
        Ok(has)
    }
}

/// This machine's name in the spool; where it has none, that of the only machine that has.
pub(super) fn host(spool: &Spool) -> Result<Name, CliError> {
    if let Some(host) = spool.known_host()? {
        return Ok(host);
    }
    let events = spool.layout.events();
    let hosts: Vec<Name> = store::names(&events)?.iter().filter_map(|name| name.parse().ok()).collect();
    match &hosts[..] {
        [host] => Ok(host.clone()),
        _ => Err(CliError::NotFound(format!(
            "this machine has run nothing here; the logs lie in {}",
            events.display()
        ))),
    }
}

fn print_events(
    layout: &Layout,
    mut series: Series,
    what: What,
    arguments: &Arguments,
) -> Result<Answer, CliError> {
    let What { folder, run, mut theirs } = what;
    let limit = match (arguments.limit, arguments.follow) {
        (Some(limit), _) => limit,
        (None, true) => u64::MAX,
        (None, false) => PAGE_MAX,
    };
    let mut printed = 0;
    let mut hints = Hints::new();
    loop {
        if arguments.follow {
            watch(&mut hints, folder);
        }
        // Before the lines are read: what is read then is all of them.
        let over = run.map_or(Ok(None), |run| follow::is_over(layout, run))?;
        let go = series.read(&mut |line| {
            if printed == limit {
                return Ok(Go::Stop);
            }
            if run.is_none() && !theirs.has(layout, &line.value)? {
                return Ok(Go::On);
            }
            printed += 1;
            show(line)?;
            Ok(if printed == limit && arguments.follow { Go::Stop } else { Go::On })
        })?;
        if go == Go::Stop && !arguments.follow {
            talk("gitspool: there are more; go on with --after and the last number");
        }
        if go == Go::Stop || !arguments.follow {
            return Ok(Answer::Yes);
        }
        if let (Some(run), Some(over)) = (run, over) {
            return Ok(follow::answer(run, over));
        }
        let now = clock::monotonic();
        hints.wait(&[], now, run.map(|_| now + LOOK_EVERY));
    }
}

/// Prints a line as it stands in the file, unless it holds secrets.
fn show(line: Taken) -> Result<(), CliError> {
    let Taken { text, value } = line;
    let mut hidden = value.clone();
    redact::value(&mut hidden);
    let text = if hidden == value { text } else { Value::to_string(&hidden) };
    write_raw(format!("{}\n", escape::json(&text)).as_bytes())
}
