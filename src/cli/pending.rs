//! Tasks that are submitted and not admitted yet: their command lies in the inbox, or is just being answered.
//!
//! Only looks: the daemon owns both folders.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::find::{self, Target};
use super::interrupt::Interrupts;
use super::{CliError, Context, scope};
use crate::answer::Receipt;
use crate::clock;
use crate::command::{self, Asked, BYTES_MAX, Command, Submit};
use crate::hint::Hints;
use crate::id::{Name, TaskId};
use crate::layout::{self, Layout};
use crate::lock;
use crate::refusal::Refusal;
use crate::store::{self, StoreError};
use crate::time::{Date, Moment, Timestamp};

/// How long a task that is nowhere may take to appear: whoever submitted it may not be done, or it is just being moved.
const APPEARS: Duration = Duration::from_secs(1);
/// How often to look without a hint.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A command file that is not answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// The name under which it was dropped, and its receipt's.
    pub(super) name: String,
    /// The daemon has taken it under this claim.
    claim: Option<TaskId>,
}

/// The command file that will make the task `target`, by its id or name; `None` when none waits.
pub(super) fn command_of(layout: &Layout, target: &str) -> Result<Option<Waiting>, StoreError> {
    let submits = |waiting: &Waiting| {
        submit_of(layout, waiting).is_some_and(|submit| {
            let has_id = submit.id.is_some_and(|id| id.to_string() == target);
            has_id || submit.spec.name.is_some_and(|name| name.as_str() == target)
        })
    };
    // What the inbox had is looked for where it goes from there.
    match dropped(layout)?.into_iter().find(submits) {
        Some(waiting) => Ok(Some(waiting)),
        None => Ok(claimed(layout)?.into_iter().find(submits)),
    }
}

/// What the tasks are called, by their ids or names, that wait to be admitted to a queue.
pub(super) fn submitted_to(layout: &Layout, queue: &Name) -> Result<Vec<String>, StoreError> {
    let mut waiting = dropped(layout)?;
    waiting.extend(claimed(layout)?);
    let called = |waiting: &Waiting| {
        let submit = submit_of(layout, waiting).filter(|submit| submit.spec.queue == *queue)?;
        let id = submit.id.map(|id| id.to_string());
        id.or_else(|| submit.spec.name.map(|name| name.to_string()))
    };
    Ok(waiting.iter().filter_map(called).collect())
}

fn dropped(layout: &Layout) -> Result<Vec<Waiting>, StoreError> {
    let names = store::names(&layout.inbox())?.into_iter();
    let names = names.filter(|name| !command::is_in_the_making(name));
    Ok(names.map(|name| Waiting { name, claim: None }).collect())
}

fn claimed(layout: &Layout) -> Result<Vec<Waiting>, StoreError> {
    let names = store::names(&layout.claimed())?;
    let parsed = names.iter().filter_map(|name| layout::parse_claim_name(name));
    Ok(parsed.map(|(claim, name)| Waiting { name: name.to_owned(), claim: Some(claim) }).collect())
}

/// The task that a command file asks for, if that is what it asks for, and in the scope of the command line.
fn submit_of(layout: &Layout, waiting: &Waiting) -> Option<Box<Submit>> {
    let Waiting { name, claim } = waiting;
    let path = claim.map_or_else(|| layout.dropped(name), |claim| layout.claim(claim, name));
    match command::parse(name, &read(&path)?).ok()? {
        Asked { command: Command::Submit(submit), .. } => scope().has(&submit.spec).then_some(submit),
        Asked { .. } => None,
    }
}

/// A dropped file's bytes; never waits for a fifo, never follows a link.
fn read(path: &Path) -> Option<Vec<u8>> {
    let file = store::open_dropped(path).ok()?;
    if !store::is_plain(&file) {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The receipt for a command file called `name`, on one of the days on which it can have been answered.
pub(super) fn receipt_of(layout: &Layout, name: &str, dates: &[Date]) -> Result<Option<Receipt>, StoreError> {
    for date in dates {
        let bytes = store::read_if_there(&layout.receipt(date, name))?;
        if let Some(receipt) = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Ok(Some(receipt));
        }
    }
    Ok(None)
}

/// Why the command that was to make `task` was refused; `None` when no such refusal is found near the day of its id.
fn refusal_of(layout: &Layout, task: TaskId) -> Result<Option<Refusal>, StoreError> {
    let mut dates = vec![task.date(), clock::now().date()];
    dates.dedup();
    for date in dates {
        for name in store::names(&layout.refused_of(&date))? {
            let why = layout.refused_why(&date, &name);
            let text = read(&layout.refused_file(&date, &name)).unwrap_or_default();
            let id = serde_json::from_slice::<serde_json::Value>(&text).unwrap_or_default();
            if id["id"].as_str() == Some(&task.to_string()) {
                let why = store::read_if_there(&why)?;
                return Ok(why.and_then(|bytes| serde_json::from_slice(&bytes).ok()));
            }
        }
    }
    Ok(None)
}

/// What a wait for admission came to.
pub(super) enum Admitted {
    Task(Box<Target>),
    /// The time was over, or somebody did not want to wait any longer; the name of the command file.
    NotYet(String),
}

/// Finds what `text` names, and waits for it when its command still lies in the inbox.
///
/// # Errors
/// When there is no such task, or its command was refused.
pub(super) fn await_admission(
    context: &Context,
    layout: &Layout,
    text: &str,
    until: Option<Moment>,
    interrupts: Option<&mut Interrupts>,
) -> Result<Admitted, CliError> {
    let mut wait = Admission { layout, text, command: None, since: clock::now(), seen: clock::monotonic() };
    let mut interrupts = interrupts;
    let mut hints = Hints::new();
    loop {
        for folder in
            [layout.inbox(), layout.claimed(), layout.receipts(), layout.receipts_of(&wait.since.date())]
        {
            watch(&mut hints, &folder);
        }
        let waited_for = wait.command.is_some();
        if let Some(target) = wait.look()? {
            return Ok(Admitted::Task(Box::new(target)));
        }
        if !waited_for && wait.command.is_some() && !lock::is_held(layout.root())? {
            context.no_daemon(&format!("{text} waits in the inbox"));
        }
        let now = clock::monotonic();
        let over =
            until.is_some_and(|until| until <= now) || interrupts.as_mut().is_some_and(|asked| asked.taken());
        match (&wait.command, over) {
            (Some(command), true) => return Ok(Admitted::NotYet(command.name.clone())),
            (None, true) => return Err(find::not_found(layout, text)),
            (None, false) if wait.seen + APPEARS <= now => return Err(find::not_found(layout, text)),
            (_, false) => {}
        }
        let patience = now + if wait.command.is_some() { LOOK_EVERY } else { APPEARS };
        let others: Vec<_> = interrupts.iter().map(|asked| asked.descriptor()).collect();
        hints.wait(&others, now, Some(until.map_or(patience, |until| until.min(patience))));
    }
}

/// A task that is looked for until it is admitted.
struct Admission<'a> {
    layout: &'a Layout,
    text: &'a str,
    /// The command file that will make it, once it was seen.
    command: Option<Waiting>,
    since: Timestamp,
    /// When there was last a reason to wait.
    seen: Moment,
}

impl Admission<'_> {
    fn look(&mut self) -> Result<Option<Target>, CliError> {
        let Admission { layout, text, .. } = *self;
        let found = find::look_for(layout, text)?;
        let id: Option<TaskId> = text.parse().ok();
        let settled = found.as_ref().is_some_and(|target| id.is_some() || !target.found.place.is_ended());
        if settled {
            return Ok(found);
        }
        // A new task may bear the name of one that has ended.
        if let Some(command) = command_of(layout, text)? {
            (self.command, self.seen) = (Some(command), clock::monotonic());
            return Ok(None);
        }
        if let Some(receipt) = self.receipt()? {
            if let Some(refusal) = receipt.refusal {
                return Err(CliError::Refused(refusal));
            }
            let Some(task) = receipt.task else { return Ok(None) };
            return Ok(find::exact(layout, task)?.map(|found| Target { found, attempt: None }));
        }
        if let Some(refusal) = id.map_or(Ok(None), |task| refusal_of(layout, task))? {
            return Err(CliError::Refused(refusal));
        }
        let now = clock::monotonic();
        if self.command.is_some() && self.seen + APPEARS <= now {
            // Its file is gone and nothing was answered: somebody took it back.
            (self.command, self.seen) = (None, now);
        }
        Ok(if self.command.is_some() { None } else { found })
    }

    /// The answer to the command that was seen, and not to an earlier one of that name.
    fn receipt(&self) -> Result<Option<Receipt>, CliError> {
        let Some(Waiting { name, claim }) = &self.command else { return Ok(None) };
        let dates = [clock::now().date(), self.since.date()];
        let receipt = receipt_of(self.layout, name, &dates)?;
        // What was in the inbox while we looked was answered after that; what was taken before bears its claim.
        Ok(receipt.filter(|receipt| Some(receipt.claim) == *claim || receipt.at >= self.since))
    }
}

/// Watches a folder, or the nearest one above it that is there.
pub(super) fn watch(hints: &mut Hints, folder: &Path) {
    if let Some(there) = folder.ancestors().find(|folder| folder.is_dir()) {
        hints.watch(there);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_by_the_id_and_the_name_that_its_task_will_have() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        for folder in layout.folders() {
            store::make_one_dir(&folder).unwrap();
        }
        let id = "01890a5d-ac96-774b-bcce-b302099a8001";
        let text = format!("{{\"id\":{id:?},\"run\":[\"true\"]}}");
        store::create_new(&layout.claim(clock::new_id(), "x.json"), text.as_bytes(), 0o600).unwrap();
        store::create_new(&layout.dropped("test.json"), b"{\"run\":[\"true\"]}", 0o600).unwrap();
        store::create_new(&layout.dropped("broken.json"), b"{", 0o600).unwrap();
        store::create_new(&layout.dropped("stop.json"), b"{\"type\":\"cancel\",\"target\":\"stop\"}", 0o600)
            .unwrap();
        let name = |target: &str| command_of(&layout, target).unwrap().map(|waiting| waiting.name);
        assert_eq!(name(id).as_deref(), Some("x.json"));
        assert_eq!(name("test").as_deref(), Some("test.json"));
        for other in ["broken", "stop", ""] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn the_answer_is_known_by_its_claim_though_it_was_decided_before_we_looked() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        layout.folders().iter().for_each(|folder| store::make_one_dir(folder).unwrap());
        let id = "01890a5d-ac96-774b-bcce-b302099a8001";
        let claims = [clock::new_id(), clock::new_id()];
        let claimed = layout.claim(claims[1], "x.json");
        let text = format!("{{\"id\":{id:?},\"run\":[\"true\"]}}");
        store::create_new(&claimed, text.as_bytes(), 0o600).unwrap();
        let mut wait = Admission {
            layout: &layout,
            text: id,
            command: None,
            since: clock::now(),
            seen: clock::monotonic(),
        };
        assert!(wait.look().unwrap().is_none() && wait.command.is_some());
        store::remove(&claimed).unwrap();
        store::make_dir(&layout.receipts_of(&claims[0].date())).unwrap();
        for (seq, claim) in (1..).zip(claims) {
            let refusal = Some(Refusal::new(crate::refusal::Kind::NotFound, "no"));
            let at = Timestamp::from_micros(0);
            let (command, accepted, task) = ("x.json".to_owned(), false, None);
            let (state, note, repeats, refused_file) = (None, None, None, None);
            let receipt = Receipt {
                command,
                claim,
                accepted,
                seq,
                at,
                task,
                state,
                note,
                repeats,
                refusal,
                refused_file,
            };
            crate::receipt::write(&layout, &receipt).unwrap();
            let refused = wait.look().is_err();
            assert_eq!(
                refused,
                claim == claims[1],
                "the receipt of an earlier file of that name is not meant"
            );
        }
    }
}
