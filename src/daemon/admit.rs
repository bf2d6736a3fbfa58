//! From a command to decisions: what is asked for is looked up, checked against what is there, and answered.

use std::path::Path;
use std::sync::Arc;

use crate::agent;
use crate::clock;
use crate::command::{Asked, BYTES_MAX, Command, Submit};
use crate::defaults::Said;
use crate::event::{Event, INLINE_BYTES_MAX, Origin, SpecText};
use crate::git;
use crate::id::{Name, TaskId};
use crate::input::Failure;
use crate::jsonl;
use crate::layout::ENDED_FOLDERS;
use crate::queue::Live;
use crate::refusal::{self, Refusal};
use crate::removed;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::store::{self, StoreError};
use crate::task::{self, State};
use crate::texts;
use crate::workspace::Kind;

use super::Daemon;
use super::batch::{Decision, Told};
use super::short::unreadable;
use super::target::Found;

/// How much of the reason of a cancel is kept.
pub(super) const REASON_BYTES_MAX: usize = 4 * 1024;

impl Daemon {
    /// Decides about one command. Every command is answered: by a line of the log, and the receipt that follows it.
    pub(super) fn admit(&mut self, mut origin: Origin, asked: Result<Asked, Refusal>) {
        let answered = asked.and_then(|asked| self.answer_to(&mut origin, asked));
        match answered {
            Ok(event) => {
                self.batch.extend(event.map(|event| Decision { event, effects: vec![], before: None }));
                self.note_key(&origin);
            }
            // Nothing is refused for what is over in a while.
            Err(refusal) if refusal.for_now.is_some() => {
                self.note_shortage(refusal.for_now, &refusal.message);
                origin.key = None;
                self.postpone(origin);
            }
            Err(refusal) => {
                // What was refused may be asked for again under the same key.
                origin.key = None;
                let event = Event::Refused { command: origin, refusal: refusal.clipped() };
                self.batch.push(Decision { event, effects: vec![], before: None });
            }
        }
    }

    /// Carries out a command that is no repeat; the event that answers it, unless the task's own line does.
    fn answer_to(&mut self, origin: &mut Origin, asked: Asked) -> Result<Option<Event>, Refusal> {
        let Asked { command, key, scope } = asked;
        if let Some(key) = key {
            if let Some(event) = self.repeated(origin, command.kind(), &key)? {
                return Ok(Some(event));
            }
            origin.key = Some(key);
        }
        self.carry(origin, command, &scope)
    }

    /// The same, whatever its key.
    fn carry(&mut self, origin: &Origin, command: Command, scope: &Scope) -> Result<Option<Event>, Refusal> {
        let kind = command.kind();
        match command {
            Command::Submit(submit) => self.submit(origin, *submit),
            Command::Cancel { target, reason } => {
                let reason = reason.map(|reason| jsonl::clip(&reason, REASON_BYTES_MAX));
                self.move_task(origin, (kind, &target, scope), &task::Event::CancelAsked, reason)
            }
            Command::Hold { target } => {
                self.move_task(origin, (kind, &target, scope), &task::Event::HoldAsked, None)
            }
            Command::Release { target } => {
                self.move_task(origin, (kind, &target, scope), &task::Event::ReleaseAsked, None)
            }
            Command::Rerank { target, rank } => {
                self.move_task(origin, (kind, &target, scope), &task::Event::RankAsked(rank), None)
            }
            Command::Edit(edit) => self.edit(origin, *edit, scope),
            Command::Retry { target } => self.retry(origin, &target, scope),
            Command::Set { queue, changes } => self.set(origin, &queue, &changes, scope).map(Some),
            Command::Pause { queue, reason } => self.pause(origin, &queue, reason, scope).map(Some),
            Command::Resume { queue } => self.resume_queue(origin, &queue, scope).map(Some),
            Command::Say { how, target, .. } => Err(self.cannot_say(how.kind(), &target, scope)),
            Command::Note(note) => self.note(origin, note, scope).map(Some),
            Command::MarkRead(mark_read) => self.mark_read(origin, mark_read, scope).map(Some),
            Command::Gc(asked) => self.have_collected(origin, asked, scope),
            Command::Rm { target } => self.have_removed(origin, &target, scope),
        }
    }

    fn submit(&mut self, origin: &Origin, submit: Submit) -> Result<Option<Event>, Refusal> {
        let Submit { id, mut rank, held, mut spec, said } = submit;
        let task = id.unwrap_or(origin.claim);
        self.fill(&mut spec, &mut rank, &said)?;
        self.fix_place(&mut spec, &said)?;
        if let Some(known) = self.known_spec(task)? {
            spec.wait_as(&known);
            spec.expire_as(&known);
            let what = if *known == spec { "submitted already" } else { "taken by another spec" };
            if *known != spec {
                return Err(
                    Refusal::new(refusal::Kind::Conflict, format!("the id {task} is {what}")).at("$.id")
                );
            }
            return Ok(Some(self.accepted(origin, "submit", Some(task), what)));
        }
        if let Some(gone) = removed::look(&self.layout, task).map_err(|error| unreadable(&error))? {
            let folder = gone.folder;
            if !gone.is_of(&spec) {
                let message = format!("the id {task} was another spec's, whose task has ended ({folder})");
                return Err(Refusal::new(refusal::Kind::Conflict, message).at("$.id"));
            }
            let note = format!("submitted already; it has ended ({folder}), and was removed since");
            return Ok(Some(self.accepted(origin, "submit", Some(task), &note)));
        }
        if let Some(queue) = self.queues.queue(&spec.queue) {
            queue.settings.check_lane(spec.lane.as_ref())?;
        }
        self.check_agent(&spec)?;
        self.fix_edges(task, &mut spec)?;
        spec.fix_deadline(clock::now());
        let (until, needs) = (spec.until(clock::now()), self.must_wait(&spec));
        let state = match until {
            _ if held => State::Held { rank, attempts: 0, until, needs },
            None if !needs => State::Ready { rank, attempts: 0 },
            _ => State::Waiting { rank, attempts: 0, until, needs },
        };
        let spec = Arc::new(spec);
        let spec_text = self.spec_text(&spec);
        self.note_trouble(spec_text.as_ref().err());
        let spec_text = spec_text.map_err(|error| unreadable(&error))?;
        let note = self.never_had(&spec);
        let (told, command) = (state.clone(), origin.clone());
        let event = Event::Submitted { task, state: told, spec: spec_text, command, note };
        let spec_seq = self.log.last_seq() + self.batch.len() as u64 + 1;
        self.queues.insert(task, Live { state: state.clone(), spec, spec_seq });
        self.batch.push(Decision { event, effects: task::owed(&state), before: None });
        Ok(None)
    }

    /// Fixes where a task works, so that it is the same for every attempt and can be read in its file.
    pub(super) fn fix_place(&self, spec: &mut Spec, said: &Said) -> Result<(), Refusal> {
        if spec.workspace.kind == Some(Kind::None) {
            return Ok(());
        }
        let default = || self.spool.settings.directory.as_ref().and_then(|directory| directory.to_str());
        spec.directory = spec.directory.take().or_else(|| default().map(ToOwned::to_owned));
        let directory = spec.directory.as_ref().map(Path::new);
        let kind = match (spec.workspace.kind, directory) {
            (None, None) => Kind::None,
            (None, Some(directory)) => {
                // A bare repository counts: its run fails then, instead of working inside it.
                if directory.ancestors().any(git::is_repository) { Kind::Worktree } else { Kind::Directory }
            }
            (Some(kind), Some(_)) => kind,
            (Some(_), None) => {
                let refusal =
                    Refusal::new(refusal::Kind::MissingKey, "this kind of workspace needs a directory");
                return Err(refusal
                    .at("$.directory")
                    .hint("give one, or set it in spool.json for all tasks"));
            }
        };
        spec.workspace.kind = Some(kind);
        said.drop_unsaid(spec);
        spec.workspace.check_for(kind)
    }

    /// A spec as a line carries it; a long one is kept as a text first.
    pub(super) fn spec_text(&self, spec: &Arc<Spec>) -> Result<SpecText, StoreError> {
        let bytes = serde_json::to_vec(spec).expect("because a spec has string keys");
        if bytes.len() <= INLINE_BYTES_MAX {
            return Ok(SpecText::Here(Arc::clone(spec)));
        }
        Ok(SpecText::Elsewhere { text_sha256: texts::keep(&self.layout, &bytes)? })
    }

    /// The spec of a task that is live or has ended; the cost does not depend on how many there were.
    pub(super) fn known_spec(&self, task: TaskId) -> Result<Option<Arc<Spec>>, Refusal> {
        // One that ends in this batch has no file in its new place yet.
        if let Some(known) = self.queues.task(task).or_else(|| self.ended.get(&task)) {
            return Ok(Some(Arc::clone(&known.spec)));
        }
        for queue in self.queues.names() {
            for folder in ENDED_FOLDERS {
                let path = self.layout.ended_task(&queue, folder, task);
                if let Some(bytes) = store::read_if_there(&path).map_err(|error| unreadable(&error))? {
                    let unreadable = |error: serde_json::Error| {
                        Refusal::new(refusal::Kind::Unreadable, format!("{}: {error}", path.display()))
                    };
                    return serde_json::from_slice(&bytes).map(Some).map_err(unreadable);
                }
            }
        }
        Ok(None)
    }

    pub(super) fn check_queue(&mut self, queue: &Name) -> Result<(), Refusal> {
        if self.queues.queue(queue).is_some() {
            return Ok(());
        }
        if store::exists(&self.layout.queue(queue)) {
            return self.open_asked(queue);
        }
        let names = self.queues.names();
        let known: Vec<&str> = names.iter().map(Name::as_str).collect();
        let refusal =
            Refusal::unknown(refusal::Kind::NotFound, "queue", queue.as_str(), &known).at("$.queue");
        let hint = refusal.hint.clone().unwrap_or_default();
        Err(refusal.hint(format!("{hint} (mkdir {} makes it)", self.layout.queue(queue).display())))
    }

    pub(super) fn check_agent(&self, spec: &Spec) -> Result<(), Refusal> {
        if spec.prompt.is_none() {
            return Ok(());
        }
        let name = agent_of(spec);
        let refusal = |why: Failure| agent::no_profile(&name, &why.why).for_now(why.shortage);
        self.profile(&name).map(drop).map_err(refusal)
    }

    /// Reads the profile of an agent, or says in words why that cannot be.
    pub(super) fn profile(&self, name: &Name) -> Result<agent::Profile, Failure> {
        let path = self.layout.agent(name);
        let bytes = store::read_if_small(&path, BYTES_MAX).map_err(|error| error.failure())?;
        let failed = |why: String| Failure { why: format!("{}{why}", path.display()), shortage: None };
        let bytes = bytes.ok_or_else(|| failed(" is not there".to_owned()))?;
        agent::parse(&bytes).map_err(|refusal| failed(format!(": {refusal}")))
    }

    /// Moves the task that `target` names by one event, or answers that nothing had to be moved.
    fn move_task(
        &mut self,
        origin: &Origin,
        (kind, target, scope): (&str, &str, &Scope),
        event: &task::Event,
        reason: Option<String>,
    ) -> Result<Option<Event>, Refusal> {
        let task = match self.find(target, scope)? {
            Found::Live(task) => task,
            Found::Ended(task, folder) if *event == task::Event::CancelAsked => {
                let note = format!("it ended already, see {folder}");
                return Ok(Some(self.accepted(origin, kind, Some(task), &note)));
            }
            Found::Ended(task, folder) => {
                return Err(Refusal::new(
                    refusal::Kind::Conflict,
                    format!("task {task} has ended, see {folder}"),
                ));
            }
        };
        let before = self.queues.task(task).map(|live| live.state.clone());
        let running = before.as_ref().and_then(State::live_attempt).is_some();
        if running && *event != task::Event::CancelAsked {
            return Err(Refusal::new(refusal::Kind::Conflict, format!("task {task} is running"))
                .hint("cancel it, if it must not"));
        }
        self.decide(task, event, Told::command(origin.clone(), reason.clone()));
        let moved = self.batch.last().is_some_and(|last| last.event.origin() == Some(origin));
        if moved && running {
            self.cancel_reasons.extend(reason.map(|reason| (task, reason)));
        }
        let note = format!("it is {} already", before.as_ref().map_or("gone", State::word));
        Ok((!moved).then(|| self.accepted(origin, kind, Some(task), &note)))
    }

    pub(super) fn accepted(&self, origin: &Origin, kind: &str, task: Option<TaskId>, note: &str) -> Event {
        let (command, kind, note) = (origin.clone(), kind.to_owned(), note.to_owned());
        Event::Accepted { command, kind, task, note, repeats: None }
    }
}

/// The agent that carries out a prompt.
pub(super) fn agent_of(spec: &Spec) -> Name {
    spec.agent.clone().unwrap_or_else(|| agent::DEFAULT.parse().expect("because it is a name"))
}
