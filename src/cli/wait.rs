//! `gitspool wait`

use std::time::Duration;

use regex_lite::Regex;
use serde_json::json;

use super::condition::{self, Condition, Met, Search};
use super::doing::{Doing, doing};
use super::find::{self, Found};
use super::pending::{self, Admitted, watch};
use super::progress::Progress;
use super::{Answer, CliError, Context, runs, talk};
use crate::clock;
use crate::hint::Hints;
use crate::id::Name;
use crate::layout::Layout;
use crate::lock;
use crate::spec::Spec;
use crate::store;
use crate::time::{self, Moment};

/// How often to look without a hint: file systems may keep their hints to themselves.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How soon to look again for a task that is nowhere: its file was removed, and is not filed away yet.
const AGAIN: Duration = Duration::from_millis(100);

/// Wait until tasks have ended, or until something has happened in their runs
///
/// Exit codes: 0 when each task has succeeded, or has what was waited for; 1 when one has ended otherwise or without it, was
/// refused, is held since nobody knows what its run has done, or the time is over; 2 an error. Of several the highest. A task that cannot end, since no daemon runs, is
/// waited for nevertheless. On a terminal it is shown meanwhile how far they are.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Ids, ends of ids, or names
    #[arg(required_unless_present = "queue", value_name = "ID")]
    tasks: Vec<String>,
    /// And all tasks of a queue that are live now, or that wait in the inbox; later ones are not waited for
    #[arg(long, value_name = "NAME")]
    queue: Option<Name>,
    /// Wait for the first only, and answer for it
    #[arg(long)]
    any: bool,
    /// Wait until a run of the task has logged an event of this type, as agent.started
    #[arg(long, value_name = "TYPE", value_parser = condition::event_type, conflicts_with = "output")]
    event: Option<String>,
    /// Wait until a line that a run has printed matches this regular expression
    #[arg(long, value_name = "PATTERN", value_parser = condition::pattern)]
    output: Option<Regex>,
    /// Give up after so long, as 90, 90s, 10m, 1h30m; then say what each is doing
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_negative_numbers = true)]
    timeout: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    time::parse_duration(text).ok_or("a length of time is told as 90, 90s, 10m, 1h30m or 2d")
}

/// A task that is waited for.
struct Waited {
    found: Found,
    spec: Spec,
    search: Search,
}

/// All that a wait is about.
struct Wait<'a> {
    context: &'a Context,
    layout: &'a Layout,
    condition: Option<Condition>,
    any: bool,
    until: Option<Moment>,
    waiting: Vec<Waited>,
    answer: Answer,
    hints: Hints,
    progress: Progress,
    /// Whether it was said that nothing will happen.
    told: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let event = arguments.event.clone().map(Condition::Event);
    let mut wait = Wait {
        context,
        layout: &spool.layout,
        condition: event.or_else(|| arguments.output.clone().map(Condition::Output)),
        any: arguments.any,
        until: arguments.timeout.map(|timeout| clock::monotonic() + timeout),
        waiting: Vec::new(),
        answer: Answer::Yes,
        hints: Hints::new(),
        progress: Progress::new(context.json),
        told: false,
    };
    if arguments.any && wait.condition.is_none() {
        // One that has ended already answers, whatever becomes of the others.
        for text in &arguments.tasks {
            let target = find::look_for(wait.layout, text)?.filter(|target| target.found.place.is_ended());
            if let Some(target) = target {
                wait.add(target.found)?;
                if wait.look()?.is_none() {
                    return Ok(wait.answer);
                }
            }
        }
    }
    let mut texts = arguments.tasks.clone();
    let in_queue = arguments.queue.as_ref().map_or(Ok(Vec::new()), |queue| in_queue(wait.layout, queue))?;
    texts.extend(in_queue);
    for text in &texts {
        match pending::await_admission(context, wait.layout, text, wait.until, None) {
            // The others may be as they should.
            Err(error @ CliError::Refused(_)) if texts.len() > 1 => {
                talk(&format!("gitspool: {text}: {error}"));
                wait.answer = Answer::No;
            }
            Err(error) => return Err(error),
            Ok(Admitted::Task(target)) => wait.add(target.found)?,
            Ok(Admitted::NotYet(command)) => {
                talk(&format!(
                    "gitspool: given up: the task {text} is not admitted yet, inbox/{command} waits"
                ));
                return Ok(Answer::No);
            }
        }
    }
    wait.until_known()
}

/// What is live in a queue, or will be.
fn in_queue(layout: &Layout, queue: &Name) -> Result<Vec<String>, CliError> {
    if !find::queues(layout)?.contains(queue) {
        let queues = layout.queues();
        return Err(CliError::NotFound(format!("there is no queue {queue} in {}", queues.display())));
    }
    // In the order in which a task moves.
    let mut texts = pending::submitted_to(layout, queue)?;
    for found in find::live(layout)?.into_iter().filter(|found| found.queue == *queue) {
        texts.extend(find::is_in_scope(&found)?.then(|| found.task.to_string()));
    }
    Ok(texts)
}

impl Wait<'_> {
    fn add(&mut self, found: Found) -> Result<(), CliError> {
        if self.waiting.iter().all(|waited| waited.found.task != found.task) {
            let spec = find::spec(&found)?.unwrap_or_default();
            self.waiting.push(Waited { search: Search::new(found.task), found, spec });
        }
        Ok(())
    }

    fn until_known(&mut self) -> Result<Answer, CliError> {
        while let Some(patience) = self.look()? {
            if !self.told && !lock::is_held(self.layout.root())? {
                self.progress.pause(|| self.context.no_daemon("what has not ended waits"));
                self.told = true;
            }
            let now = clock::monotonic();
            if self.until.is_some_and(|until| until <= now) {
                self.progress.clear();
                self.waiting.iter().try_for_each(|waited| self.give_up(waited))?;
                return Ok(Answer::No);
            }
            let drawn = self.draw()?;
            let latest = now + drawn.map_or(patience, |again| again.min(patience));
            self.hints.wait(&[], now, Some(self.until.map_or(latest, |until| until.min(latest))));
        }
        self.progress.clear();
        Ok(self.answer)
    }

    /// Looks at all that is waited for; tells how long to wait for a hint, or `None` when the answer is known.
    fn look(&mut self) -> Result<Option<Duration>, CliError> {
        let mut patience = LOOK_EVERY;
        for mut waited in std::mem::take(&mut self.waiting) {
            // A task that moves on leaves its folder, and a hint there.
            let folder = waited.found.path.parent();
            folder.into_iter().for_each(|folder| watch(&mut self.hints, folder));
            if !store::exists(&waited.found.path) {
                let there = find::exact(self.layout, waited.found.task)?;
                // Where it lies now is not watched yet.
                patience = patience.min(if there.is_some() { Duration::ZERO } else { AGAIN });
                waited.found = there.unwrap_or(waited.found);
            }
            let Some(as_wished) = self.settle(&mut waited)? else {
                self.waiting.push(waited);
                continue;
            };
            // Who waits for what happens in any of them does not mind those in which it did not.
            let decides = self.any && (as_wished || self.condition.is_none());
            if decides || !as_wished {
                self.answer = if as_wished { Answer::Yes } else { Answer::No };
            }
            if decides {
                return Ok(None);
            }
        }
        Ok((!self.waiting.is_empty()).then_some(patience))
    }

    /// Prints what came of a task that needs no more waiting; tells whether that is as wished.
    fn settle(&mut self, waited: &mut Waited) -> Result<Option<bool>, CliError> {
        let Waited { found, spec, search } = waited;
        // One that is held until somebody decides what is to come after a run that nobody saw end may never end.
        let is_ended = found.place.is_ended() || runs::unseen(self.layout, found)?.is_some();
        if let Some(condition) = &self.condition {
            if let Some(met) = search.look(self.layout, condition, spec, &mut self.hints, is_ended)? {
                self.tell_met(found, &met)?;
                return Ok(Some(true));
            }
            if is_ended {
                let without =
                    format!("gitspool: task {} has ended without {}", found.task, condition.words());
                self.progress.pause(|| talk(&without));
                self.tell_end(found)?;
                return Ok(Some(false));
            }
        }
        if is_ended { Ok(Some(self.tell_end(found)? == "succeeded")) } else { Ok(None) }
    }

    fn tell_met(&mut self, found: &Found, met: &Met) -> Result<(), CliError> {
        let object = json!({"task": found.task, "run": met.run, met.key: met.value});
        self.progress.count("met");
        self.progress.print(&object, &format!("{} {}\n", found.task, met.text))
    }

    /// Prints how a task ended; gives the word for it.
    fn tell_end(&mut self, found: &Found) -> Result<&'static str, CliError> {
        let last = runs::last(self.layout, found.task)?;
        let unseen = runs::unseen(self.layout, found)?.map(|(_, outcome)| outcome.word());
        if unseen.is_some() {
            let held = format!(
                "gitspool: task {0} is held, since nobody knows what its run has done: `gitspool release {0}` does it again",
                found.task
            );
            self.progress.pause(|| talk(&held));
        }
        let word = unseen.unwrap_or_else(|| runs::state_word(found, last.as_ref()));
        let run = last.map(|record| record.run);
        let object = json!({"task": found.task, "run": run, "outcome": word});
        self.progress.count(word);
        self.progress.print(&object, &format!("{} {word}\n", found.task))?;
        Ok(word)
    }

    /// Says what a task is doing that is not waited for any longer.
    fn give_up(&self, waited: &Waited) -> Result<(), CliError> {
        let Waited { found, spec, .. } = waited;
        let Doing { run, state, what, .. } = doing(self.layout, found, spec)?;
        talk(&format!("gitspool: given up: task {} {what}", found.task));
        if self.context.json {
            let object = json!({"task": found.task, "run": run, "state": state, "given_up": true});
            super::print_json(&object)?;
        }
        Ok(())
    }

    /// Shows how far they are; tells when that will be out of date.
    fn draw(&mut self) -> Result<Option<Duration>, CliError> {
        let Wait { layout, waiting, progress, .. } = self;
        let waiting = waiting.iter().map(|waited| (&waited.found, &waited.spec));
        progress.draw(layout, waiting)
    }
}
