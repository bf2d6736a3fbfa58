//! Walks at random: users drop and edit, agents end, clocks jump, numbers of processes come again, processes are killed,
//! and the power goes; and each actor goes on when chance wants it.
//!
//! A walk follows from its seed. One that fails says which, and `SIM_SEED=<seed> cargo test --lib walk` does it again.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use serde_json::json;

use super::actors::Living;
use super::oracle::{Seen, SpoolLine};
use super::sequences::recorded_now;
use super::verbs::{Verb, as_user};
use super::world::{World, queue};
use crate::simulated::{Ends, Handle, Killed, Lot, on};
use crate::store;

/// How many things happen before all is brought to its end.
const STEPS: usize = 160;
/// How often all is brought to its end within a walk.
const STAGES: usize = 3;
/// How many of the last things are told of a walk that fails.
const TOLD: usize = 60;

/// What a walk has come to.
struct Walk {
    lot: Lot,
    world: World,
    /// What could be seen and read before the last crash.
    seen: Seen,
    lines: Vec<SpoolLine>,
    /// A file that a user is writing into the inbox.
    slow: Option<Handle>,
    /// Processes that are none of ours.
    strangers: Vec<u32>,
    said: VecDeque<String>,
}

/// Walks from a seed.
///
/// # Errors
/// What did not hold or could not go on, and what happened last.
pub(super) fn walk(seed: u64) -> Result<(), String> {
    let mut walk = Walk {
        lot: Lot::new(seed),
        world: World::new(),
        seen: Seen::default(),
        lines: Vec::new(),
        slow: None,
        strangers: Vec::new(),
        said: VecDeque::new(),
    };
    let walked = catch_unwind(AssertUnwindSafe(|| {
        (0..STAGES).try_for_each(|_| {
            (0..STEPS).for_each(|_| walk.step());
            walk.rest()
        })
    }));
    walked.unwrap_or_else(|panic| Err(words_of(panic))).map_err(|problem| {
        let said: Vec<String> = walk.said.drain(..).collect();
        let logs = walk.world.logs();
        format!(
            "seed {seed}: {problem}; it can be walked again with SIM_SEED={seed}\n{}\n{logs}",
            said.join("\n")
        )
    })
}

/// What somebody says who cannot go on.
pub(super) fn words_of(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(said) => *said,
        Err(panic) => {
            panic.downcast::<&str>().map_or_else(|_| "somebody panics".to_owned(), |said| (*said).to_owned())
        }
    }
}

impl Walk {
    fn say(&mut self, what: &str) {
        let steps = on(|machine| machine.steps);
        self.said.push_back(format!("{steps}: {what}"));
        if self.said.len() > TOLD {
            self.said.pop_front();
        }
    }

    /// One thing happens.
    fn step(&mut self) {
        match self.lot.below(100) {
            0..=17 => self.user(),
            18..=20 => self.write_slowly(),
            21..=22 => self.settings(),
            23..=29 => self.agent(),
            30..=39 => self.time(),
            40..=42 => self.strangers(),
            43..=45 => self.write_back(),
            46..=47 => self.kill(),
            48..=52 => self.doom(),
            _ => self.go_on(),
        }
        self.world.welcome();
    }

    fn user(&mut self) {
        let verb = *self.lot.one_of(&Verb::ALL);
        if matches!(verb, Verb::KillSupervisor | Verb::Restart) && !self.lot.one_in(4) {
            return;
        }
        self.say(&format!("{verb:?}"));
        let begun = self.world.begin(verb);
        self.survive(begun);
        if self.lot.one_in(2) {
            // The hint comes, or is lost.
            let _ = self.world.as_daemon(|living| living.daemon.look_soon());
        }
    }

    /// A user writes a file where it lies, with a pause in it, and syncs nothing.
    fn write_slowly(&mut self) {
        if let Some(handle) = self.slow.take() {
            self.say("a slow file is whole");
            as_user(|| handle.write(b"[\"true\"]}")).expect("because the disk takes all");
            return;
        }
        let name = format!("slow{}.json", self.world.dropped.len());
        self.say(&format!("{name} is begun"));
        let path = self.world.layout().dropped(&name);
        self.world.dropped.push((name, u64::MAX));
        self.slow = as_user(|| {
            drop(store::create_new(&path, b"{\"held\": true, \"run\": ", 0o600));
            on(|machine| machine.open_as_user(&path)).ok()
        });
    }

    fn settings(&mut self) {
        let layout = self.world.layout();
        let (paused, record) = (layout.paused(&queue()), layout.queue_record(&queue()));
        let slots = self.lot.below(4);
        self.say(&format!("PAUSED changes, or slots are {slots}"));
        as_user(|| {
            if slots == 3 && !store::exists(&paused) {
                drop(store::create_new(&paused, b"", 0o600));
            } else {
                store::remove(&paused).expect("because the disk takes all");
                store::remove(&record).expect("because the disk takes all");
                let text = json!({"slots": slots}).to_string();
                drop(store::create_new(&record, text.as_bytes(), 0o600));
            }
        });
    }

    fn agent(&mut self) {
        let what = self.lot.below(8);
        let agents = on(|machine| machine.processes.agents());
        if agents.is_empty() {
            return;
        }
        let (agent, run) = *self.lot.one_of(&agents);
        self.say(&format!("process {agent} of {run} does {what}"));
        on(|machine| match what {
            0 => machine.processes.make_stubborn(agent),
            1 => machine.processes.fork(agent),
            code => machine.processes.exit(agent, i32::from(code == 2)),
        });
    }

    fn time(&mut self) {
        let longest = [10, 1_000, 3_000, 40_000][self.lot.below(4)];
        let millis = self.lot.below(longest) as u64;
        on(|machine| machine.pass(Duration::from_millis(millis)));
        if self.lot.one_in(6) {
            let seconds =
                [1, 3600, 86_400, 400 * 86_400][self.lot.below(4)] * if self.lot.one_in(2) { 1 } else { -1 };
            self.say(&format!("the clock jumps by {seconds} s"));
            on(|machine| machine.wall += seconds * 1_000_000);
        }
    }

    /// Other programs start and end, and numbers of processes come again.
    fn strangers(&mut self) {
        if self.strangers.len() > 6 || (!self.strangers.is_empty() && self.lot.one_in(2)) {
            let stranger = self.strangers.swap_remove(self.lot.below(self.strangers.len()));
            on(|machine| machine.processes.end(stranger));
        } else {
            self.strangers.push(on(|machine| machine.processes.start(0)));
        }
    }

    /// The system writes to disk what it likes.
    fn write_back(&mut self) {
        let some = self.lot.number();
        on(|machine| machine.tree.write_back(|number| some >> (number % 64) & 1 == 1));
    }

    fn kill(&mut self) {
        let supervisors = self.world.supervisors.len();
        match self.lot.below(4) {
            0 => {
                self.say("the daemon is killed");
                self.crash();
                self.world.kill_daemon();
            }
            1 if supervisors > 0 => {
                self.say("a supervisor is killed");
                self.world.kill_supervisor(self.lot.below(supervisors));
            }
            2 => {
                self.say("all are killed");
                self.crash();
                self.world.kill_all();
            }
            _ => self.cut(),
        }
    }

    /// Whoever makes one of the next calls is killed there.
    fn doom(&mut self) {
        let ends =
            Ends { step: on(|machine| machine.steps) + self.lot.below(25) as u64, half: self.lot.one_in(2) };
        on(|machine| machine.ends = Some(ends));
    }

    /// The power goes.
    fn cut(&mut self) {
        self.crash();
        let tree = on(|machine| machine.tree.clone());
        let mut states = tree.cut(6, &mut self.lot).states;
        let state = states.swap_remove(self.lot.below(states.len()));
        self.lines = self.world.lines_of(&state);
        (self.slow, self.strangers) = (None, Vec::new());
        self.say("the power goes");
        self.world.lose_power(state);
    }

    /// Takes note of what can be seen and read before a crash.
    fn crash(&mut self) {
        on(|machine| machine.ends = None);
        let (now, steps) = (recorded_now(), on(|machine| machine.steps));
        self.seen = self.world.seen(&now, steps).and(&self.seen);
        self.lines = self.world.lines_of(&now.tree);
    }

    /// Somebody goes on, or a daemon is started.
    fn go_on(&mut self) {
        let supervisors = self.world.supervisors.len();
        let gone_on = match self.lot.below(7) {
            0 if self.world.daemon.is_none() => {
                self.say("a daemon is started");
                self.world.start_daemon()
            }
            0 | 1 => self.world.as_daemon(Living::look).map(drop),
            2 | 3 => self.world.step_daemon().map(drop),
            4 if self.lot.one_in(2) => self.world.step_checkpoint().map(drop),
            4 => self.world.get_locks().map(drop),
            5 => {
                self.world.end_notifiers();
                Ok(())
            }
            _ if supervisors == 0 => Ok(()),
            _ => self.world.step_supervisor(self.lot.below(supervisors)).map(drop),
        };
        self.survive(gone_on);
    }

    /// Somebody may have been killed under way; sometimes that is since the power went.
    fn survive(&mut self, gone_on: Result<(), Killed>) {
        if gone_on.is_err() {
            self.say("who went on is killed");
            self.crash();
            if self.lot.one_in(3) {
                self.cut();
            }
        }
    }

    /// All comes to its end, and is checked.
    fn rest(&mut self) -> Result<(), String> {
        self.say("all comes to its end");
        self.crash();
        self.slow = None;
        let layout = self.world.layout();
        let (paused, record) = (layout.paused(&queue()), layout.queue_record(&queue()));
        as_user(|| {
            store::remove(&paused).expect("because the disk takes all");
            store::remove(&record).expect("because the disk takes all");
        });
        if self.world.daemon.is_none() {
            self.world.start_daemon().expect("because nobody is killed");
        }
        self.world.wait(Duration::from_secs(40)).expect("because nobody is killed");
        self.world.finish().expect("because nobody is killed");
        self.world.check(&self.seen, &self.lines)?;
        self.world.check_at_end()?;
        on(|machine| machine.forget());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::environment;

    #[test]
    fn whatever_users_agents_clocks_and_power_do_nothing_is_lost() {
        let given = |name: &str| -> Option<u64> { environment::value(name)?.to_str()?.parse().ok() };
        let (seed, minutes) = (given("SIM_SEED"), given("SIM_MINUTES"));
        let count = match (given("SIM_COUNT"), minutes, seed) {
            (Some(count), ..) => count,
            (None, Some(_), _) => u64::from(u32::MAX),
            (None, None, Some(_)) => 1,
            (None, None, None) => 24,
        };
        let end = minutes.map(|minutes| clock::monotonic() + Duration::from_secs(60 * minutes));
        let first = seed.unwrap_or(1);
        let is_over = |_: &u64| end.is_some_and(|end| end <= clock::monotonic());
        let mut walks = 0;
        for seed in (first..first + count).take_while(|seed| !is_over(seed)) {
            walk(seed).unwrap_or_else(|problem| panic!("{problem}"));
            walks += 1;
        }
        println!("{{\"walks\":{walks},\"first_seed\":{first}}}");
    }
}
