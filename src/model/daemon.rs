//! What a daemon does, step by step, in the order of the code: `inbox`, `daemon/*` and `watch`.

use crate::outcome::Outcome;
use crate::resource::Assigned;
use crate::task::{self, Effect};

use super::disk::{At, CANCEL, FILES, Line, TASKS, submitted};
use super::stand::{ATTEMPT, Places, Stand};
use super::world::{Daemon, Heard, Input, Todo, Waits, World};
use super::{Fault, Protocol};

/// One action of one daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// The inbox's thread claims what lies there.
    LookAtInbox,
    /// It makes that durable, and passes it on.
    PassOn,
    Take(Input),
    LookAtQueues,
    /// A waiting task's time has come.
    Due(usize),
    Write,
    Do(Todo),
    /// The thread that waits for a run's lock got it.
    LockFreed(usize),
    BeginCheckpoint,
    EndCheckpoint,
}

impl Protocol {
    /// What the daemon may do now; some of it may turn out to change nothing.
    pub(super) fn acts(&self, world: &World, at: usize, acts: &mut Vec<Act>) {
        let Some(daemon) = &world.daemons[at] else { return };
        if daemon.takes && (world.hint || !self.has(Fault::NoRescan)) {
            acts.push(Act::LookAtInbox);
        }
        if daemon.takes && daemon.claimed.contains(&true) {
            acts.push(Act::PassOn);
        }
        acts.extend((0..TASKS).filter(|task| daemon.waits[*task] == Waits::Lock).map(Act::LockFreed));
        if daemon.checkpoint.is_some() {
            acts.push(Act::EndCheckpoint);
        }
        if let Some(todo) = daemon.todo.first() {
            acts.push(Act::Do(*todo));
            return;
        }
        acts.extend(daemon.inputs.iter().map(|input| Act::Take(*input)));
        let waits = |task: &usize| daemon.known[*task] == Some(Stand::Waiting);
        acts.extend((0..TASKS).filter(waits).map(Act::Due));
        acts.push(Act::Write);
        if daemon.batch.is_empty() {
            acts.push(Act::LookAtQueues);
            acts.push(Act::BeginCheckpoint);
        }
    }

    /// Does it; tells whether it changed anything.
    pub(super) fn act(&self, world: &mut World, at: usize, act: Act) -> bool {
        match act {
            Act::LookAtInbox => self.look_at_inbox(world, at),
            Act::PassOn => self.pass_on(world, at),
            Act::Take(input) => self.take(world, at, input),
            Act::LookAtQueues => self.look_at_queues(world, at),
            Act::Due(task) => self.time_comes(world, at, task),
            Act::Write => self.write(world, at),
            Act::Do(_) => {
                let todo = world.daemon(at).todo.remove(0);
                self.carry_out(world, at, todo);
                true
            }
            Act::LockFreed(task) => {
                let told = world.daemon(at).inputs.contains(&Input::LockFreed(task));
                let news = !told && !self.seems_held(world, task);
                if news {
                    world.daemon(at).hear(Input::LockFreed(task));
                }
                news
            }
            Act::BeginCheckpoint => self.begin_checkpoint(world, at),
            Act::EndCheckpoint => self.end_checkpoint(world, at),
        }
    }

    /// A daemon starts: it has the spool's lock, and reads the log.
    pub(super) fn start(&self, world: &mut World, at: usize) {
        if !self.has(Fault::LogNotTrusted) {
            world.disk.sync();
        }
        let todo = [Todo::Redo, Todo::LookAtQueues, Todo::Write, Todo::DoOwed, Todo::BeginToTake];
        let known = std::array::from_fn(|task| world.disk.told(task));
        world.daemons[at] = Some(Daemon { todo: todo.into(), known, ..Daemon::default() });
    }

    // The inbox's thread.

    fn look_at_inbox(&self, world: &mut World, at: usize) -> bool {
        let mut changed = std::mem::take(&mut world.hint);
        for number in 0..FILES {
            let file = &mut world.disk.files[number];
            // One that its writer has open is left alone.
            let half = file.at == At::Half && self.has(Fault::ParseTrusted);
            if file.at == At::Inbox || half {
                file.read_half |= half;
                (file.at, file.claim) = (At::Claimed, file.claim + 1);
                world.daemon(at).claimed[number] = true;
                changed = true;
            }
        }
        world.hint = changed && self.has(Fault::HintsNeverEnd);
        changed
    }

    fn pass_on(&self, world: &mut World, at: usize) -> bool {
        let claimed = std::mem::take(&mut world.daemon(at).claimed);
        for file in (0..FILES).filter(|file| claimed[*file]) {
            if !self.has(Fault::ClaimNotSynced) {
                world.disk.files[file].kept = world.disk.files[file].at;
            }
            world.daemon(at).hear(Input::Dropped(file));
        }
        true
    }

    // The deciding thread.

    fn take(&self, world: &mut World, at: usize, input: Input) -> bool {
        world.daemon(at).inputs.retain(|other| *other != input);
        match input {
            Input::Dropped(CANCEL) => self.admit_cancel(world, at),
            Input::Dropped(file) => self.admit_submit(world, at, file),
            Input::RunEnded(task) => {
                world.daemon(at).waits[task] = Waits::No;
                self.look_at_run(world, at, task, Heard::Over);
            }
            Input::LockFreed(task) => {
                world.daemon(at).waits[task] = Waits::No;
                self.look_at_run(world, at, task, Heard::Nothing);
            }
            Input::SupervisorGone(task) => {
                if world.daemon(at).waits[task] == Waits::Supervisor {
                    world.daemon(at).waits[task] = Waits::No;
                    self.look_at_run(world, at, task, Heard::SupervisorGone);
                }
            }
            Input::StartAgain(task) => self.look_at_run(world, at, task, Heard::Nothing),
        }
        true
    }

    fn admit_submit(&self, world: &mut World, at: usize, task: usize) {
        let file = world.disk.files[task];
        let daemon = world.daemon(at);
        // The claim is the id: only by the same claim it is known as the same task.
        let is_known = daemon.known[task].is_some() && file.admitted & !(1 << file.claim) == 0;
        if is_known {
            daemon.batch.push(Line::Answered { file: task, accepted: true });
        } else {
            let waits = self.bounds.waits;
            daemon.known[task] = Some(submitted(waits));
            daemon.batch.push(Line::Submitted { task, claim: file.claim, waits });
        }
    }

    fn admit_cancel(&self, world: &mut World, at: usize) {
        let before = world.daemon(at).known[0];
        let is_live = before.is_some_and(|before| !before.is_ended());
        let moved = is_live && self.decide(world, at, 0, &task::Event::CancelAsked, Some(CANCEL));
        if !moved {
            let accepted = before.is_some();
            world.daemon(at).batch.push(Line::Answered { file: CANCEL, accepted });
        }
    }

    /// Moves a task by one event, as the real state machine says.
    pub(super) fn decide(
        &self,
        world: &mut World,
        at: usize,
        task: usize,
        event: &task::Event,
        file: Option<usize>,
    ) -> bool {
        let daemon = world.daemon(at);
        let Some(before) = daemon.known[task].map(Stand::state) else { return false };
        let (next, effects) = task::transition(before.clone(), event);
        if next == before {
            return false;
        }
        let to = Stand::of(&next);
        assert_eq!(effects, task::owed(&next), "a line's effects follow from its state");
        daemon.known[task] = Some(to);
        daemon.batch.push(Line::Moved { task, to, file });
        true
    }

    fn start_what_may(&self, world: &mut World, at: usize) {
        let known = world.daemon(at).known;
        let active = known.iter().flatten().filter(|stand| stand.is_live()).count();
        let ready = (0..TASKS).filter(|task| known[*task] == Some(Stand::Ready));
        let picked: Vec<usize> = ready.take(self.bounds.slots.saturating_sub(active)).collect();
        for task in picked {
            if is_new(world.daemon(at), task) || world.disk.tasks[task].places.has(Places::READY) {
                let started =
                    task::Event::Started { host: "here".parse().unwrap(), assigned: Assigned::new() };
                self.decide(world, at, task, &started, None);
            }
        }
    }

    fn time_comes(&self, world: &mut World, at: usize, task: usize) -> bool {
        let lies_there = world.disk.tasks[task].places.has(Places::WAITING);
        let may = !self.has(Fault::TimeNotWatched) && (lies_there || is_new(world.daemon(at), task));
        may && self.decide(world, at, task, &task::Event::Due, None)
    }

    fn look_at_queues(&self, world: &mut World, at: usize) -> bool {
        let mut changed = false;
        for task in 0..TASKS {
            let places = world.disk.tasks[task].places;
            let Some(stand) = world.daemon(at).known[task] else { continue };
            let (expected, found) = (stand.place(), places.queued());
            let event = match stand {
                Stand::Ready | Stand::Waiting | Stand::Held { .. } if found.has(expected) => None,
                Stand::Waiting | Stand::Held { .. } if found.has(Places::READY) => {
                    Some(task::Event::ReleaseAsked)
                }
                Stand::Ready | Stand::Waiting if found.has(Places::HELD) => Some(task::Event::HoldAsked),
                Stand::Ready | Stand::Held { .. } if found.has(Places::WAITING) => {
                    // Put back: it has nothing to wait for there.
                    world.disk.tasks[task].places = expected;
                    changed = true;
                    continue;
                }
                Stand::Ready | Stand::Waiting | Stand::Held { .. } => Some(task::Event::CancelAsked),
                Stand::Active | Stand::Cancelling | Stand::Ended { .. } => None,
            };
            match event {
                Some(event) => {
                    changed |= self.decide(world, at, task, &event, None);
                    if stand == (Stand::Held { waits: true }) {
                        // It waits now, and does not want to.
                        self.decide(world, at, task, &event, None);
                    }
                }
                // A copy, as after a crash between two steps.
                None if places.has(expected) && found.without(expected) != Places::NONE => {
                    world.disk.tasks[task].places = places.without(found.without(expected));
                    changed = true;
                }
                None => {}
            }
        }
        changed
    }

    /// Starts what may start, and writes the batch to the log.
    fn write(&self, world: &mut World, at: usize) -> bool {
        self.start_what_may(world, at);
        let batch = std::mem::take(&mut world.daemon(at).batch);
        if batch.is_empty() {
            return false;
        }
        if world.daemon(at).log_changed && !self.has(Fault::LengthNotChecked) {
            world.kill_daemon(at);
            return true;
        }
        let (mut effects, mut answers) = (Vec::new(), Vec::new());
        for line in batch {
            if let Some((task, to)) = line.state() {
                let from = world.disk.told(task).map_or(Places::NONE, Stand::place);
                let owed = task::owed(&to.state()).into_iter();
                effects.extend(owed.map(|effect| Todo::Perform { task, effect, from, to: to.place() }));
            }
            if let Some((file, _)) = line.answers() {
                answers.extend([Todo::DrawReceipt { file }, Todo::RemoveClaimed { file }]);
            }
            world.disk.tail.push(line);
            world.note_since(at, line);
        }
        for (other, daemon) in world.daemons.iter_mut().enumerate() {
            if let Some(daemon) = daemon.as_mut().filter(|_| other != at) {
                daemon.log_changed = true;
            }
        }
        let steps = match () {
            () if self.has(Fault::AnsweredBeforeSync) => [answers, vec![Todo::Sync], effects],
            () if self.has(Fault::CarriedOutBeforeSync) => [effects, vec![Todo::Sync], answers],
            () => [vec![Todo::Sync], effects, answers],
        };
        world.daemon(at).first(steps.into_iter().flatten());
        true
    }

    fn carry_out(&self, world: &mut World, at: usize, todo: Todo) {
        match todo {
            Todo::Redo => self.redo(world, at),
            Todo::LookAtQueues => {
                self.look_at_queues(world, at);
            }
            Todo::Write => {
                self.write(world, at);
            }
            Todo::Sync => world.disk.sync(),
            Todo::Perform { task, effect, from, to } => match effect {
                Effect::Place => {
                    let places = &mut world.disk.tasks[task].places;
                    *places = places.without(from).with(to);
                }
                Effect::AskCancel { .. } => world.disk.runs[task].cancel = true,
                Effect::Supervise { .. } => self.look_at_run(world, at, task, Heard::Nothing),
            },
            Todo::DrawReceipt { file } => {
                let answer = world.disk.answer(file);
                let file = &mut world.disk.files[file];
                (file.receipt, file.promised) = (answer, answer.or(file.promised));
            }
            Todo::RemoveClaimed { file } => world.disk.files[file].remove_claimed(),
            Todo::DoOwed => self.do_owed(world, at),
            Todo::BeginToTake => {
                world.daemon(at).takes = true;
                world.hint = true;
            }
            Todo::ReadRun { task, after } => self.read_run(world, at, task, after),
            Todo::LockRun { task, duty } => self.lock_run(world, at, task, duty),
            Todo::KillMarked { task } => world.disk.runs[task].kill_marked(),
            Todo::WriteEnd { task, duty } => self.write_end(world, at, task, duty),
            Todo::SyncRun { task } => world.disk.runs[task].sync(),
            Todo::UnlockRun => world.daemon(at).holds = None,
            Todo::FileAway { task } => self.file_away(world, at, task),
            Todo::Give { task } => world.give(at, task),
        }
    }

    /// Draws what the lines behind the checkpoint tell, whatever lies there, and answers their commands.
    fn redo(&self, world: &mut World, at: usize) {
        for task in 0..TASKS {
            let in_tail = world.disk.tail.iter().filter_map(|line| line.state()).any(|(of, _)| of == task);
            let told = world.disk.told(task).filter(|_| in_tail || world.disk.tasks[task].behind);
            if let Some(told) = told {
                world.disk.tasks[task].places = told.place();
            }
            if self.has(Fault::LockFileRemoved) {
                world.disk.runs[task].lock += 1;
            }
        }
        for number in 0..FILES {
            let answer = world.disk.answer_behind(number);
            let file = &mut world.disk.files[number];
            match answer {
                Some(_) => {
                    (file.receipt, file.promised) = (answer, answer);
                    file.remove_claimed();
                }
                None if file.at == At::Claimed => world.daemon(at).claimed[number] = true,
                None => {}
            }
        }
    }

    /// Does for all live tasks what their states owe, but for drawing them, which is done.
    fn do_owed(&self, world: &mut World, at: usize) {
        let known = world.daemon(at).known;
        let mut owed = Vec::new();
        for (task, stand) in (0..TASKS).filter_map(|task| Some((task, known[task]?))) {
            let effects = task::owed(&stand.state()).into_iter().filter(|effect| *effect != Effect::Place);
            let (from, to) = (Places::NONE, stand.place());
            owed.extend(effects.map(|effect| Todo::Perform { task, effect, from, to }));
        }
        world.daemon(at).first(owed);
    }

    fn file_away(&self, world: &mut World, at: usize, task: usize) {
        let outcome = world.disk.runs[task].outcome().unwrap_or(Outcome::Lost);
        // The model's task has one attempt, and nobody releases it: that it would be held after a lost run is its end here.
        let ended = task::Event::RunEnded { attempt: ATTEMPT, outcome, next: task::Next::End };
        self.decide(world, at, task, &ended, None);
    }
}

impl World {
    pub(super) fn daemon(&mut self, at: usize) -> &mut Daemon {
        self.daemons[at].as_mut().expect("because it acts")
    }
}

/// Whether a task begins to exist with what is decided and not written yet.
fn is_new(daemon: &Daemon, task: usize) -> bool {
    daemon.batch.iter().any(|line| matches!(line, Line::Submitted { task: of, .. } if *of == task))
}
