//! `gitspool logs`

use super::find;
use super::interrupt::Interrupts;
use super::output::{self, Begun, Followed, Form, Stream, Wanted};
use super::run::because;
use super::{Answer, CliError, Context, runs, talk};
use crate::id::RunId;
use crate::layout::Layout;
use crate::outcome::Outcome;
use crate::spec::Output;

/// Print the output of a task's last run
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The id of a task or a run, the end of it, or a name
    #[arg(value_name = "ID")]
    task: String,
    /// Wait for the run to begin, and go on until it has ended
    #[arg(long, short)]
    follow: bool,
    /// Only its stdout, if the task keeps them apart
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,
    /// Only its stderr, if the task keeps them apart
    #[arg(long)]
    stderr: bool,
    /// The output of this run, not of the last
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    run: Option<u32>,
    /// Byte for byte, even to a terminal
    #[arg(long)]
    raw: bool,
    /// Only the last lines of what is there
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let layout = &spool.layout;
    if !arguments.follow {
        let target = find::target(layout, &arguments.task)?;
        let run = output::run_of(layout, &target.found, arguments.run.or(target.attempt))?;
        let mut streams = streams(context, layout, run, arguments)?;
        streams.iter_mut().try_for_each(|stream| stream.copy().and_then(|()| stream.end()))?;
        if streams.iter().all(Stream::is_empty) {
            tell_nothing(layout, run)?;
        }
        return Ok(Answer::Yes);
    }
    let mut interrupts = Interrupts::new()?;
    match output::await_run(context, layout, &arguments.task, arguments.run, &mut interrupts)? {
        Begun::Run(run) => {
            let mut streams = streams(context, layout, run, arguments)?;
            let followed = output::follow(layout, run, &mut streams, &mut interrupts)?;
            if followed == Followed::Ended && streams.iter().all(Stream::is_empty) {
                tell_nothing(layout, run)?;
            }
            Ok(output::answer(run, followed))
        }
        Begun::Never => Ok(Answer::No),
        Begun::Interrupted => Ok(Answer::Yes),
    }
}

fn streams(
    context: &Context,
    layout: &Layout,
    run: RunId,
    arguments: &Arguments,
) -> Result<Vec<Stream>, CliError> {
    let wanted = match (arguments.stdout, arguments.stderr) {
        (true, _) => Wanted::Stdout,
        (_, true) => Wanted::Stderr,
        (false, false) => Wanted::All,
    };
    let form = Form::choose(context, arguments.raw);
    let streams = output::streams(layout, run, kept(layout, run)?, wanted, form);
    let mut streams = streams.ok_or_else(|| {
        let path = layout.run(run).output();
        CliError::NotFound(format!("run {run} did not keep them apart: {} has both", path.display()))
    })?;
    if let Some(lines) = arguments.tail {
        streams.iter_mut().try_for_each(|stream| stream.skip_to_tail(lines))?;
    }
    Ok(streams)
}

/// Says how a run stands that has printed nothing, unless all is well.
fn tell_nothing(layout: &Layout, run: RunId) -> Result<(), CliError> {
    let record = runs::record(layout, run)?;
    if let Some(record) = record.filter(|record| record.outcome != Some(Outcome::Succeeded)) {
        let because = record.evidence.as_ref().map(because).unwrap_or_default();
        talk(&format!("gitspool: run {run} has printed nothing: {}{because}", runs::status_word(&record)));
    }
    Ok(())
}

/// Which files a run's output goes to.
fn kept(layout: &Layout, run: RunId) -> Result<Output, CliError> {
    let found = find::exact(layout, run.task)?;
    let spec = found.map_or(Ok(None), |found| find::spec(&found))?;
    Ok(spec.map_or(Output::Merged, |spec| spec.output))
}
