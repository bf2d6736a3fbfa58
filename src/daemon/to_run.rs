//! Commands to runs: put into their folders, and answered in the place of a supervisor that did not live to do it.
//!
//! A note that was accepted is heard, also when the supervisor was killed right behind the end of its run: the daemon that
//! finds the run answers then. Nothing is promised of a run whose own end nobody saw.

use crate::clock;
use crate::command::{Note, ToRun};
use crate::digest;
use crate::event::{self, Origin};
use crate::id::{RunId, TaskId};
use crate::jsonl::{self, Line};
use crate::layout;
use crate::lock;
use crate::log::{Log, LogError, Opened};
use crate::outcome::Outcome;
use crate::record::{self, Event, Record};
use crate::refusal::{self, Refusal};
use crate::scope::Scope;
use crate::spool;
use crate::store::{self, StoreError};

use super::Daemon;
use super::short::unreadable;

/// A command in a run's folder.
struct Given {
    number: u64,
    order: ToRun,
    /// The dropped file that it comes from.
    claim: Option<TaskId>,
}

impl Daemon {
    /// Passes an agent's word on to the run whose secret it knows.
    pub(super) fn note(
        &mut self,
        origin: &Origin,
        note: Note,
        scope: &Scope,
    ) -> Result<event::Event, Refusal> {
        let Note { token, text, summary, session } = note;
        if text.is_none() && summary.is_none() && session.is_none() {
            return Err(
                Refusal::new(refusal::Kind::MissingKey, "a note has a text, a summary or a session").at("$")
            );
        }
        // An earlier daemon gave it to a run, and was killed before it could say so.
        if let Some(run) = self.heard_late.get(&origin.claim) {
            return Ok(self.accepted(origin, "note", Some(run.task), &format!("passed on to run {run}")));
        }
        let hash = digest::sha256_hex(token.as_bytes());
        let theirs = self.queues.tasks().filter(|(_, live)| scope.has(&live.spec));
        let attempts = theirs.filter_map(|(task, live)| Some((task, live.state.live_attempt()?)));
        let runs: Vec<RunId> = attempts.map(|(task, attempt)| RunId { task, attempt }).collect();
        let Some(run) = runs.into_iter().find(|run| self.token_hash(*run).as_ref() == Some(&hash)) else {
            let refusal =
                Refusal::new(refusal::Kind::NotPermitted, "no live run has this token").at("$.token");
            return Err(refusal.hint("a run's token is in its environment, and ends with the run"));
        };
        let unreadable = |error: StoreError| unreadable(&error);
        let passed_on = self.pass_on(run, origin, &ToRun::Note { text, summary, session });
        self.note_trouble(passed_on.as_ref().err());
        let number = passed_on.map_err(unreadable)?;
        if self.is_unheard(run, number).map_err(unreadable)? {
            store::remove(&self.layout.run(run).command(number, "note")).map_err(unreadable)?;
            return Err(Refusal::new(refusal::Kind::NotPermitted, format!("run {run} has just ended"))
                .at("$.token")
                .hint("an agent's last word is heard for certain if it waits for the receipt: `gitspool note --confirm`"));
        }
        Ok(self.accepted(origin, "note", Some(run.task), &format!("passed on to run {run}")))
    }

    /// The hash of the secret of a run that goes on.
    fn token_hash(&self, run: RunId) -> Option<String> {
        let bytes = store::read_if_there(&self.layout.run(run).log()).ok()??;
        let record = record::fold(&jsonl::parse(&bytes).lines)?;
        record.outcome.is_none().then_some(record.token_sha256)
    }

    /// Whether a run has ended without a look at its command of that number: a supervisor looks for the last time when it
    /// has recorded the end, and gives up its lock then.
    fn is_unheard(&self, run: RunId, number: u64) -> Result<bool, StoreError> {
        let paths = self.layout.run(run);
        if lock::is_held(&paths.lock())? {
            let bytes = store::read_if_there(&paths.log())?.unwrap_or_default();
            let has_ended = |line: &Line<Event>| matches!(line.event, Event::Ended { .. });
            if !jsonl::parse(&bytes).lines.iter().any(has_ended) {
                return Ok(false);
            }
            // It may have looked for the last time already: it gives up its lock in a moment, and then its log tells.
            drop(lock::wait_exclusive(&paths.lock())?);
        }
        let bytes = store::read_if_there(&paths.log())?.unwrap_or_default();
        let heard =
            |event: &Event| matches!(event, Event::Acknowledged { command, .. } if *command == number);
        Ok(!jsonl::parse(&bytes).lines.iter().any(|line| heard(&line.event)))
    }

    /// Puts a command into a run's directory, durably and once for each claim; tells its number there.
    pub(super) fn pass_on(&mut self, run: RunId, origin: &Origin, order: &ToRun) -> Result<u64, StoreError> {
        let paths = self.layout.run(run);
        store::make_dirs_below(self.layout.root(), &paths.commands())?;
        let names = store::names(&paths.commands())?;
        let mut last = 0;
        for name in names {
            let number = layout::parse_command_name(&name).unwrap_or(0);
            last = last.max(number);
            let there = store::read(&paths.commands().join(&name))?;
            let there: serde_json::Value = serde_json::from_slice(&there).unwrap_or_default();
            if there["claim"].as_str() == Some(&origin.claim.to_string()) {
                return Ok(number);
            }
        }
        let mut value = serde_json::to_value(order).expect("because a command has string keys");
        value["claim"] = origin.claim.to_string().into();
        value["at"] = clock::now().to_string().into();
        store::replace(&self.layout, &paths.command(last + 1, order.kind()), &spool::pretty(&value))?;
        store::poke(&paths.wake());
        Ok(last + 1)
    }

    /// Cuts off what a crash or a power cut left of a last line, of a run that has ended and that nobody lives any more, and
    /// answers the commands that are open. What the log tells then.
    pub(super) fn finish_log(&mut self, run: RunId) -> Result<Option<Record>, LogError> {
        let path = self.layout.run(run).log();
        if !store::exists(&path) {
            return Ok(None);
        }
        let recorded = || {
            let log = store::read_if_there(&path)?.unwrap_or_default();
            Ok::<_, StoreError>(record::of_log(run, &jsonl::parse(&log)))
        };
        let Opened { mut log, lines, .. } = Log::<Event>::open(&path, 0)?;
        let record = recorded()?;
        let Some(outcome) = record.as_ref().and_then(|record| record.outcome) else { return Ok(record) };
        let mut answers = match outcome {
            Outcome::Lost | Outcome::Interrupted => Vec::new(),
            Outcome::Succeeded
            | Outcome::Failed
            | Outcome::Signalled
            | Outcome::TimedOut
            | Outcome::Cancelled
            | Outcome::Blocked
            | Outcome::Skipped
            | Outcome::Expired => self.late_answers(run, &lines)?,
        };
        let mut open = ends_of_open(&lines);
        open.retain(|end| !answers.iter().any(|answer| ends_the_same(answer, end)));
        answers.extend(open);
        if answers.is_empty() {
            return Ok(record);
        }
        log.append_with_reserve(&self.layout, clock::now(), answers)?;
        Ok(recorded()?)
    }

    /// What the supervisor would still have said to the notes of its run.
    fn late_answers(&mut self, run: RunId, lines: &[Line<Event>]) -> Result<Vec<Event>, StoreError> {
        let mut answers = Vec::new();
        for Given { number, order, claim } in self.given(run)? {
            if matches!(order, ToRun::Cancel { .. }) {
                continue;
            }
            self.heard_late.extend(claim.map(|claim| (claim, run)));
            let heard = lines.iter().position(|line| is_heard(&line.event, number));
            let behind = heard.map_or(&[][..], |at| &lines[at..]);
            if behind.iter().any(|line| is_answer(&line.event, number)) {
                continue;
            }
            let kind = order.kind().to_owned();
            if heard.is_none() {
                answers.push(Event::Acknowledged { command: number, kind: kind.clone() });
            }
            let said = |word: &Event| behind.iter().any(|line| line.event == *word);
            answers.extend(record::words(&order).into_iter().filter(|word| !said(word)));
            answers.push(Event::CommandEnded { command: number, kind, result: "done".to_owned() });
        }
        Ok(answers)
    }

    /// The ends of all commands to a run that is closed in the place of its supervisor: those too that it did not live to read.
    pub(super) fn ends_of_all(&self, run: RunId, lines: &[Line<Event>]) -> Result<Vec<Event>, StoreError> {
        let mut ends = ends_of_open(lines);
        for Given { number, order, .. } in self.given(run)? {
            if !lines.iter().any(|line| is_heard(&line.event, number) || is_answer(&line.event, number)) {
                let (kind, result) = (order.kind().to_owned(), "the run ended".to_owned());
                ends.push(Event::CommandEnded { command: number, kind, result });
            }
        }
        Ok(ends)
    }

    /// The commands in a run's folder that make sense, in their order.
    fn given(&self, run: RunId) -> Result<Vec<Given>, StoreError> {
        #[derive(serde::Deserialize)]
        struct File {
            #[serde(flatten)]
            order: ToRun,
            claim: Option<TaskId>,
        }
        let folder = self.layout.run(run).commands();
        let names = if store::exists(&folder) { store::names(&folder)? } else { Vec::new() };
        let mut given = Vec::new();
        for name in names {
            let Some(number) = layout::parse_command_name(&name) else { continue };
            let bytes = store::read_if_there(&folder.join(&name))?.unwrap_or_default();
            if let Ok(File { order, claim }) = serde_json::from_slice(&bytes) {
                given.push(Given { number, order, claim });
            }
        }
        given.sort_by_key(|given| given.number);
        Ok(given)
    }
}

fn is_heard(event: &Event, number: u64) -> bool {
    matches!(event, Event::Acknowledged { command, .. } if *command == number)
}

fn is_answer(event: &Event, number: u64) -> bool {
    matches!(event, Event::CommandEnded { command, .. } if *command == number)
}

fn ends_the_same(one: &Event, other: &Event) -> bool {
    matches!(other, Event::CommandEnded { command, .. } if is_answer(one, *command))
}

/// The ends of the commands that a run has heard of and not answered, and will not answer any more.
fn ends_of_open(lines: &[Line<Event>]) -> Vec<Event> {
    let end = |(command, kind)| Event::CommandEnded { command, kind, result: "the run ended".to_owned() };
    record::open_commands(lines).into_iter().map(end).collect()
}
