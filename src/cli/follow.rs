//! Follows runs, several at once: prints what they print until all of them have ended, and those that come after them.
//!
//! A hint only says that something changed below one of the folders; what is new is then looked for in all of them.

use std::path::Path;
use std::time::Duration;

use super::find::{self, Found, Target};
use super::interrupt::Interrupts;
use super::output::{self, Stream, View};
use super::pending::{self, Admitted, watch};
use super::run::because;
use super::{Answer, CliError, Context, runs, talk};
use crate::clock;
use crate::hint::Hints;
use crate::id::RunId;
use crate::layout::Layout;
use crate::lock;
use crate::outcome::Outcome;
use crate::record::Status;
use crate::spec::Spec;
use crate::store;
use crate::time::Moment;

/// How often to look whether the supervisor of a silent run still lives: the end of a lock gives no hint.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How following a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    Ended,
    /// Nobody is left who could end it.
    Abandoned,
    /// The user does not want to see more.
    Interrupted,
}

/// What stands before each line of a task's output, so that it is known from that of others.
#[derive(Clone, Debug, Default)]
pub(super) struct Label {
    /// Nothing stands there when it is empty.
    pub(super) name: String,
    pub(super) width: usize,
    /// The number of a colour that terminals know.
    pub(super) colour: Option<u8>,
}

impl Label {
    /// The label of one attempt; the first has no number.
    fn text(&self, attempt: u32) -> String {
        let name = match (self.name.as_str(), attempt) {
            ("", _) => return String::new(),
            (name, 1) => name.to_owned(),
            (name, attempt) => format!("{name}.{attempt}"),
        };
        let (width, name) = (self.width, name.as_str());
        match self.colour {
            None => format!("{name:width$} | "),
            Some(colour) => format!("\u{1b}[{colour}m{name:width$} |\u{1b}[0m "),
        }
    }
}

/// One task that is followed, from a run that has begun.
pub(super) struct Followee {
    run: RunId,
    /// Whether only this run is meant, and none that comes after it.
    is_only: bool,
    label: Label,
    spec: Spec,
    streams: Vec<Stream>,
    /// How its present run ended; more may come.
    over: Option<Followed>,
    /// Whether nothing more will come.
    is_done: bool,
    /// Which `run.json` was looked at, and when to look again whatever becomes of it.
    seen: Option<(u64, u64)>,
    look_again: Moment,
}

impl Followee {
    /// Follows the output of `run`, and of those after it unless `is_only`.
    pub(super) fn new(
        layout: &Layout,
        run: RunId,
        is_only: bool,
        label: Label,
    ) -> Result<Followee, CliError> {
        let found = find::exact(layout, run.task)?;
        let spec = found.map_or(Ok(None), |found| find::spec(&found))?.unwrap_or_default();
        let (streams, over, is_done) = (Vec::new(), None, false);
        let look_again = clock::monotonic();
        Ok(Followee { run, is_only, label, spec, streams, over, is_done, seen: None, look_again })
    }

    pub(super) fn run(&self) -> RunId {
        self.run
    }

    /// Opens the streams of the present run.
    ///
    /// # Errors
    /// When one is wanted that was not kept apart.
    pub(super) fn open(&mut self, layout: &Layout, view: &View) -> Result<(), CliError> {
        let label = self.label.text(self.run.attempt);
        let streams = output::streams(layout, self.run, &self.spec, view, &label);
        self.streams = streams.ok_or_else(|| {
            let path = layout.run(self.run).output();
            CliError::NotFound(format!(
                "run {} did not keep them apart: {} has both",
                self.run,
                path.display()
            ))
        })?;
        let mut no_times = false;
        for stream in &mut self.streams {
            no_times |= stream.skip(view)?;
        }
        if no_times {
            talk(&format!("gitspool: no times are known of run {}: all of its output is shown", self.run));
        }
        Ok(())
    }

    pub(super) fn streams(&mut self) -> &mut [Stream] {
        &mut self.streams
    }

    /// Prints what is new, and goes over to the next run when there is one.
    fn step(&mut self, layout: &Layout, view: &View, hints: &mut Hints) -> Result<(), CliError> {
        let paths = layout.run(self.run);
        watch(hints, paths.dir());
        if self.over.is_none() {
            // Before the output is read: what is printed then is all of it.
            self.over = self.look(layout)?;
            self.streams.iter_mut().try_for_each(Stream::copy)?;
            if self.over.is_none() {
                return Ok(());
            }
            self.streams.iter_mut().try_for_each(Stream::end)?;
            if self.over == Some(Followed::Ended) && self.streams.iter().all(Stream::is_empty) {
                tell_nothing(layout, self.run)?;
            }
        }
        if self.is_only || self.over == Some(Followed::Abandoned) {
            self.is_done = true;
            return Ok(());
        }
        let found = find::exact(layout, self.run.task)?;
        let folder = found.as_ref().and_then(|found| found.path.parent());
        folder
            .into_iter()
            .chain([layout.runs_of(&self.run.task.date()).as_path()])
            .for_each(|folder| watch(hints, folder));
        if runs::attempts(layout, self.run.task) > self.run.attempt {
            self.run.attempt += 1;
            (self.over, self.seen, self.look_again) = (None, None, clock::monotonic());
            let view = View { tail: None, ..view.clone() };
            self.open(layout, &view)?;
            self.streams.iter_mut().for_each(Stream::go_live);
            return self.step(layout, &view, hints);
        }
        // Whoever would start the next run says first that the task has not ended.
        let has_ended = found.is_none_or(|found| found.place.is_ended());
        self.is_done = has_ended || !lock::is_held(layout.root())?;
        Ok(())
    }

    /// Whether the present run is over, if there was reason to look.
    fn look(&mut self, layout: &Layout) -> Result<Option<Followed>, CliError> {
        let now = clock::monotonic();
        let there = store::identity(&layout.run(self.run).record());
        if there == self.seen && now < self.look_again {
            return Ok(None);
        }
        (self.seen, self.look_again) = (there, now + LOOK_EVERY);
        is_over(layout, self.run)
    }
}

/// Prints the output of runs, and of those that follow them, until all have ended.
///
/// The view's streams are opened first.
pub(super) fn follow(
    layout: &Layout,
    followees: &mut [Followee],
    view: &View,
    interrupts: &mut Interrupts,
) -> Result<Vec<(RunId, Followed)>, CliError> {
    let mut hints = Hints::new();
    followees.iter_mut().flat_map(|followee| &mut followee.streams).for_each(Stream::go_live);
    loop {
        let going = followees.iter_mut().filter(|followee| !followee.is_done);
        let mut is_done = true;
        for followee in going {
            followee.step(layout, view, &mut hints)?;
            is_done &= followee.is_done;
        }
        let now = clock::monotonic();
        if !is_done {
            hints.wait(&[interrupts.descriptor()], now, Some(now + LOOK_EVERY));
        }
        if is_done || interrupts.taken() {
            let how = |followee: &Followee| {
                let followed = if followee.is_done { followee.over } else { None };
                (followee.run, followed.unwrap_or(Followed::Interrupted))
            };
            return Ok(followees.iter().map(how).collect());
        }
    }
}

/// Says how a run stands that has printed nothing, unless all is well.
pub(super) fn tell_nothing(layout: &Layout, run: RunId) -> Result<(), CliError> {
    let record = runs::record(layout, run)?;
    if let Some(record) = record.filter(|record| record.outcome != Some(Outcome::Succeeded)) {
        let because = record.evidence.as_ref().map(because).unwrap_or_default();
        talk(&format!("gitspool: run {run} has printed nothing: {}{because}", runs::status_word(&record)));
    }
    Ok(())
}

/// Whether nothing more will come of a run.
pub(super) fn is_over(layout: &Layout, run: RunId) -> Result<Option<Followed>, CliError> {
    let ended = runs::record(layout, run)?.is_some_and(|record| record.status == Status::Ended);
    if ended {
        return Ok(Some(Followed::Ended));
    }
    Ok(runs::is_abandoned(layout, run)?.then_some(Followed::Abandoned))
}

/// What there is to say about a run that nobody will end.
fn abandoned(run: RunId) -> String {
    format!("gitspool: run {run} has lost its supervisor; the next daemon records its end")
}

/// What a wait for a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    Run(RunId),
    /// The task has ended without it.
    Never,
    Interrupted,
}

/// Waits until a run of the task `text` has begun: the one that was asked for, else the last.
pub(super) fn await_run(
    context: &Context,
    layout: &Layout,
    text: &str,
    attempt: Option<u32>,
    interrupts: &mut Interrupts,
) -> Result<Begun, CliError> {
    let Target { found, attempt: named } =
        match pending::await_admission(context, layout, text, None, Some(interrupts))? {
            Admitted::Task(target) => *target,
            Admitted::NotYet(_) => return Ok(Begun::Interrupted),
        };
    let (task, wanted) = (found.task, attempt.or(named));
    let mut hints = Hints::new();
    let mut told = false;
    loop {
        // The folder from which its file goes when something happens to it.
        let folders = find::exact(layout, task)?.and_then(|found| found.path.parent().map(Path::to_owned));
        folders
            .into_iter()
            .chain([layout.runs_of(&task.date())])
            .for_each(|folder| watch(&mut hints, &folder));
        let found = find::exact(layout, task)?;
        let last = runs::attempts(layout, task);
        match wanted {
            Some(wanted) if (1..=last).contains(&wanted) => {
                return Ok(Begun::Run(RunId { task, attempt: wanted }));
            }
            None if last > 0 => return Ok(Begun::Run(RunId { task, attempt: last })),
            Some(_) | None => {}
        }
        if found.is_some_and(|found| found.place.is_ended()) {
            talk(&format!("gitspool: task {task} has ended without that run"));
            return Ok(Begun::Never);
        }
        if !told && !lock::is_held(layout.root())? {
            context.no_daemon(&format!("task {task} waits"));
            told = true;
        }
        let now = clock::monotonic();
        hints.wait(&[interrupts.descriptor()], now, Some(now + LOOK_EVERY));
        if interrupts.taken() {
            return Ok(Begun::Interrupted);
        }
    }
}

/// The run that was named, else the task's last.
pub(super) fn run_of(layout: &Layout, found: &Found, attempt: Option<u32>) -> Result<RunId, CliError> {
    let last = runs::attempts(layout, found.task);
    let (task, state) = (found.task, found.place.word());
    match attempt {
        None if last == 0 => Err(CliError::NotFound(format!("task {task} has not run, it is {state}"))),
        None => Ok(RunId { task, attempt: last }),
        Some(attempt) if (1..=last).contains(&attempt) => Ok(RunId { task, attempt }),
        Some(attempt) => {
            Err(CliError::NotFound(format!("task {task} has no run {attempt}; it has had {last}")))
        }
    }
}

/// How a verb answers that followed a run's output.
pub(super) fn answer(run: RunId, followed: Followed) -> Answer {
    match followed {
        Followed::Ended => Answer::Yes,
        Followed::Abandoned => {
            talk(&abandoned(run));
            Answer::No
        }
        Followed::Interrupted => {
            talk(&format!("gitspool: run {run} goes on"));
            Answer::Yes
        }
    }
}
