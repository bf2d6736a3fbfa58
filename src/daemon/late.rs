//! Commands that a run was given while it ended, and that its supervisor did not live to answer.
//!
//! A note that was accepted is heard, whenever the supervisor was killed behind the end of its run: the daemon that finds
//! the run answers in its place. Nothing is promised of a run whose own end nobody saw.

use crate::clock;
use crate::command::ToRun;
use crate::id::{RunId, TaskId};
use crate::jsonl::{self, Line};
use crate::layout;
use crate::log::{Log, LogError, Opened};
use crate::outcome::Outcome;
use crate::record::{self, Event, Record};
use crate::store::{self, StoreError};

use super::Daemon;

/// A command in a run's folder.
struct Given {
    number: u64,
    order: ToRun,
    /// The dropped file that it comes from.
    claim: Option<TaskId>,
}

impl Daemon {
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
            | Outcome::Cancelled => self.late_answers(run, &lines)?,
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
pub(super) fn ends_of_open(lines: &[Line<Event>]) -> Vec<Event> {
    let end = |(command, kind)| Event::CommandEnded { command, kind, result: "the run ended".to_owned() };
    record::open_commands(lines).into_iter().map(end).collect()
}
