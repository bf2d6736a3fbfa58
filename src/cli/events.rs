//! `gitspool events`: the lines of a log, as they stand there but for secrets.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::find;
use super::follow::{self, Begun};
use super::interrupt::Interrupts;
use super::pending::watch;
use super::series::{Go, Log, Series, Taken};
use super::{Answer, CliError, Context, talk, write_raw};
use crate::clock;
use crate::escape;
use crate::hint::Hints;
use crate::id::{Name, RunId};
use crate::layout::Layout;
use crate::redact;
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
        return print_events(layout, Series::new(log, arguments.after), &folder, None, arguments);
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
    print_events(
        layout,
        Series::new(Log::Run(paths.log()), arguments.after),
        paths.dir(),
        Some(run),
        arguments,
    )
}

/// This machine's name in the spool; where it has none, that of the only machine that has.
fn host(spool: &Spool) -> Result<Name, CliError> {
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
    folder: &Path,
    run: Option<RunId>,
    arguments: &Arguments,
) -> Result<Answer, CliError> {
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
