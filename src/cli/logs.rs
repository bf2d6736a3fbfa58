//! `gitspool logs`

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;

use super::find::{self, Found};
use super::follow::{self, Begun, Followed, Followee, Label};
use super::interrupt::Interrupts;
use super::output::{self, Form, Stream, View, Wanted};
use super::shown::short;
use super::{Answer, CliError, Context};
use crate::clock;
use crate::environment;
use crate::escape;
use crate::id::RunId;
use crate::layout::Layout;
use crate::time::{self, Timestamp};

/// The colours of prefixes, in turn: those that can be read on black and on white.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Print the output of tasks' last runs; of several, each line behind the name of its task
///
/// Several runs are printed one after the other; with --timestamps, or while they are followed, by time.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Ids of tasks or runs, the ends of them, or names
    #[arg(required = true, value_name = "ID")]
    tasks: Vec<String>,
    /// Wait for the runs to begin, and go on until all have ended; a new run of a task is followed too
    #[arg(long, short)]
    follow: bool,
    /// Only stdout, if the task keeps them apart
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,
    /// Only stderr, if the task keeps them apart
    #[arg(long)]
    stderr: bool,
    /// The output of this run, not of the last
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    run: Option<u32>,
    /// Byte for byte, even to a terminal
    #[arg(long)]
    raw: bool,
    /// Only the last lines of what is there
    #[arg(long, short = 'n', value_name = "LINES")]
    tail: Option<u64>,
    /// Only what was printed since then: a time in RFC 3339, or how long ago, as 10m
    #[arg(long, value_name = "TIME", value_parser = since, allow_negative_numbers = true)]
    since: Option<Timestamp>,
    /// Begin each line with the time at which it was printed, or with - where that is not known
    #[arg(long, short)]
    timestamps: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let layout = &spool.layout;
    let wanted = match (arguments.stdout, arguments.stderr) {
        (true, _) => Wanted::Stdout,
        (_, true) => Wanted::Stderr,
        (false, false) => Wanted::All,
    };
    let form = Form::choose(context, arguments.raw);
    let Arguments { timestamps, since, tail, .. } = *arguments;
    let view = View { form, wanted, timestamps, since, tail };
    if arguments.follow {
        return go_on(context, layout, arguments, &view);
    }
    let mut chosen = Vec::new();
    for text in &arguments.tasks {
        let target = find::target(layout, text)?;
        let run = follow::run_of(layout, &target.found, arguments.run.or(target.attempt))?;
        chosen.push((run, true));
    }
    once(&mut chosen);
    let mut followees = followees(layout, &chosen, form)?;
    followees.iter_mut().try_for_each(|followee| followee.open(layout, &view))?;
    let mut streams: Vec<&mut Stream> = followees.iter_mut().flat_map(Followee::streams).collect();
    output::print_all(&mut streams)?;
    for followee in &mut followees {
        if followee.streams().iter().all(Stream::is_empty) {
            follow::tell_nothing(layout, followee.run())?;
        }
    }
    Ok(Answer::Yes)
}

/// Follows the runs until all have ended.
fn go_on(context: &Context, layout: &Layout, arguments: &Arguments, view: &View) -> Result<Answer, CliError> {
    let mut interrupts = Interrupts::new()?;
    let mut chosen = Vec::new();
    let mut all = Answer::Yes;
    for text in &arguments.tasks {
        let named =
            arguments.run.is_some() || find::look_for(layout, text)?.is_some_and(|it| it.attempt.is_some());
        match follow::await_run(context, layout, text, arguments.run, &mut interrupts)? {
            Begun::Run(run) => chosen.push((run, named)),
            Begun::Never => all = Answer::No,
            Begun::Interrupted => return Ok(Answer::Yes),
        }
    }
    once(&mut chosen);
    let mut followees = followees(layout, &chosen, view.form)?;
    followees.iter_mut().try_for_each(|followee| followee.open(layout, view))?;
    for (run, followed) in follow::follow(layout, &mut followees, view, &mut interrupts)? {
        if follow::answer(run, followed) == Answer::No && followed != Followed::Interrupted {
            all = Answer::No;
        }
    }
    Ok(all)
}

/// Leaves out runs that were named twice.
fn once(chosen: &mut Vec<(RunId, bool)>) {
    let mut seen = BTreeSet::new();
    chosen.retain(|(run, _)| seen.insert(*run));
}

/// The runs with what stands before their lines, which is nothing if there is only one.
fn followees(layout: &Layout, chosen: &[(RunId, bool)], form: Form) -> Result<Vec<Followee>, CliError> {
    let mut names = Vec::new();
    for (run, _) in chosen {
        let found = find::exact(layout, run.task)?;
        names.push(name(found.as_ref(), *run)?);
    }
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    names.iter().for_each(|name| *counts.entry(name).or_default() += 1);
    let unique = chosen.iter().zip(&names).map(|((run, _), name)| match counts[name.as_str()] {
        1 => name.clone(),
        _ => format!("{name}-{}", short(run.task)),
    });
    let unique: Vec<String> = unique.collect();
    let width = unique.iter().map(String::len).max().unwrap_or(0);
    let coloured =
        form != Form::Json && std::io::stdout().is_terminal() && environment::value("NO_COLOR").is_none();
    let label = |(n, name): (usize, String)| match chosen.len() {
        1 => Label::default(),
        _ => Label { name, width, colour: coloured.then(|| COLOURS[n % COLOURS.len()]) },
    };
    let labels = unique.into_iter().enumerate().map(label);
    let both = chosen.iter().zip(labels);
    both.map(|((run, is_only), label)| Followee::new(layout, *run, *is_only, label)).collect()
}

/// What a task is called before its lines.
fn name(found: Option<&Found>, run: RunId) -> Result<String, CliError> {
    let spec = found.map_or(Ok(None), find::spec)?;
    let name = spec.and_then(|spec| spec.name).map(|name| escape::line(name.as_str()));
    Ok(name.unwrap_or_else(|| short(run.task)))
}

/// Reads a point in time, or how long ago it was.
fn since(text: &str) -> Result<Timestamp, &'static str> {
    let ago = time::parse_duration(text).map(|ago| clock::now().before(ago));
    let at = ago.or_else(|| text.parse().ok());
    at.ok_or("a time is told as 2026-11-20T15:04:05Z, or as how long ago it was: 90s, 10m, 2h, 1d")
}
