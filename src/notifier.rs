//! The notifier stage: a short process of the daemon that delivers one notice. It runs the notifier, and ends all that this
//! has started.
//!
//! Apart from the daemon, so that a notifier delays nothing: whatever it forks stays below this process, and what it prints
//! is read here. The stage's stdin stays open as long as the daemon lives; when it ends the notifier is killed, and the next
//! daemon delivers the notice again.

use std::collections::VecDeque;
use std::io::{BufRead, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{ChildStdin, ExitCode};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use signal_hook::consts::signal::SIGCHLD;

use crate::notice::{Notice, Open};
use crate::outcome::Evidence;
use crate::process::{self, Reaped};
use crate::time::Moment;
use crate::{clock, environment, jsonl, redact};

/// The hidden verb.
pub(crate) const VERB: &str = "notify";

/// How long what is left has between SIGTERM and SIGKILL.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// How often what is killed and lives is killed again, and how often that is done.
const KILL_AGAIN: Duration = Duration::from_millis(100);
const KILLS_MAX: u32 = 50;
/// How much of the end of what a notifier prints is kept.
const OUTPUT_BYTES_MAX: usize = 2 * 1024;

/// What the stage is asked for, as one line of JSON on its stdin.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) spool: PathBuf,
    pub(crate) tries: u32,
    /// Whether somebody may have tried it before, and been killed: what is left of that is ended first.
    pub(crate) again: bool,
    pub(crate) open: Open,
}

impl Order {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("because an order has string keys");
        bytes.push(b'\n');
        bytes
    }
}

/// What the stage answers, as JSON on its stdout: why the notice was not delivered, if it was not.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) failure: Option<String>,
    /// The end of what the notifier printed.
    pub(crate) output: Option<String>,
}

/// Carries out the order that comes on stdin.
pub(crate) fn main() -> ExitCode {
    // Refused when we lead a group already, which serves as well.
    let _ = rustix::process::setsid();
    process::become_subreaper();
    let Some(order) = order() else { return ExitCode::SUCCESS };
    let marker = Notice::marker(order.open.notice.id);
    if order.again {
        process::kill_bearing(&marker);
    }
    let answer = match Delivery::begin(&order) {
        Ok(delivery) => delivery.live(),
        Err(error) => {
            let program = order.open.notice.argv.first().map(String::as_str).unwrap_or_default();
            Some(Answer { failure: Some(format!("cannot start {program}: {error}")), output: None })
        }
    };
    let Some(answer) = answer else { return ExitCode::FAILURE };
    let bytes = serde_json::to_vec(&answer).expect("because an answer has string keys");
    match std::io::stdout().write_all(&bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn order() -> Option<Order> {
    let mut line = Vec::new();
    // Nothing comes behind it, so that nothing is read of what `live` waits for.
    std::io::stdin().lock().read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(&line).ok()
}

/// A notifier at work.
struct Delivery {
    child_ended: UnixStream,
    /// The notifier's own process, until it has ended.
    leader: Option<u32>,
    evidence: Option<Evidence>,
    timeout: Duration,
    timed_out: bool,
    /// What it has not taken yet, and where that goes.
    stdin: Option<ChildStdin>,
    unwritten: Vec<u8>,
    output: Option<PipeReader>,
    tail: VecDeque<u8>,
    /// When it must have ended; from then on when what is left is killed.
    until: Moment,
    kills: Option<u32>,
}

impl Delivery {
    fn begin(order: &Order) -> std::io::Result<Delivery> {
        let (child_ended, theirs) = UnixStream::pair()?;
        child_ended.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGCHLD, theirs)?;
        let (output, write) = std::io::pipe()?;
        let Order { spool, tries, open: Open { at, notice }, .. } = order;
        let object = notice.object(*at, spool, *tries);
        let mut variables = environment::for_notifiers();
        variables.extend(Notice::variables(&object).into_iter().map(|(name, value)| (name, value.into())));
        variables.push((environment::SPOOL_DIR.to_owned(), spool.into()));
        for (name, value) in [(environment::TENANT, &notice.tenant), (environment::PROJECT, &notice.project)]
        {
            variables.extend(value.iter().map(|value| (name.to_owned(), value.as_str().into())));
        }
        let place = notice.directory.as_ref().map(PathBuf::from).filter(|place| place.is_dir());
        let place = place.unwrap_or_else(|| spool.clone());
        let (leader, stdin) = process::start_notifier(&notice.argv, &place, variables, write)?;
        let timeout = Duration::from_secs(notice.timeout_seconds);
        for end in [stdin.as_fd(), output.as_fd()] {
            rustix::fs::fcntl_setfl(end, rustix::fs::fcntl_getfl(end)? | OFlags::NONBLOCK)?;
        }
        Ok(Delivery {
            child_ended,
            leader: Some(leader),
            evidence: None,
            timeout,
            timed_out: false,
            stdin: Some(stdin),
            unwritten: format!("{object}\n").into_bytes(),
            output: Some(output),
            tail: VecDeque::new(),
            until: clock::monotonic() + timeout,
            kills: None,
        })
    }

    /// Lives it to its end, and that of all that it has started. No answer when the daemon is gone.
    fn live(mut self) -> Option<Answer> {
        let mut daemon_lives = true;
        loop {
            if self.is_over() {
                break;
            }
            let now = clock::monotonic();
            if self.evidence.is_some() && self.kills.is_none() {
                self.stop(now, GRACE, Signal::TERM);
            } else if self.until <= now {
                self.timed_out |= self.evidence.is_none() && self.kills.is_none();
                match self.kills {
                    None => self.stop(now, GRACE, Signal::TERM),
                    Some(kills) if kills < KILLS_MAX => self.stop(now, KILL_AGAIN, Signal::KILL),
                    // The kernel does not let go of it.
                    Some(_) => break,
                }
            }
            if !self.wait(daemon_lives) && daemon_lives {
                daemon_lives = false;
                self.stop(clock::monotonic(), KILL_AGAIN, Signal::KILL);
            }
        }
        self.read_output();
        daemon_lives.then(|| self.answer())
    }

    fn answer(self) -> Answer {
        let failure = match &self.evidence {
            _ if self.timed_out => Some(format!("it took longer than {} s", self.timeout.as_secs())),
            Some(evidence) if evidence.exit_code == Some(0) => None,
            Some(evidence) => Some(evidence.words()),
            None => Some("nobody saw how it ended".to_owned()),
        };
        let tail = Vec::from(self.tail);
        let output = redact::text(String::from_utf8_lossy(&tail).trim());
        let output = jsonl::clip(&output, OUTPUT_BYTES_MAX);
        Answer { failure, output: (!output.is_empty()).then_some(output) }
    }

    /// Takes note of children that have ended; tells whether none is left.
    fn is_over(&mut self) -> bool {
        loop {
            match process::reap() {
                Reaped::Child { pid, evidence } if Some(pid) == self.leader => {
                    (self.leader, self.evidence) = (None, Some(evidence));
                }
                Reaped::Child { .. } => {}
                Reaped::NoneYet => return false,
                Reaped::NoneLeft => return true,
            }
        }
    }

    fn stop(&mut self, now: Moment, again: Duration, signal: Signal) {
        process::signal_descendants(self.leader, signal);
        (self.until, self.kills) = (now + again, Some(self.kills.map_or(0, |kills| kills + 1)));
    }

    /// Waits for something, writes what the notifier takes, and reads what it prints. Tells whether the daemon lives.
    fn wait(&mut self, listens: bool) -> bool {
        let daemon = std::io::stdin();
        let mut sources = vec![(self.child_ended.as_fd(), PollFlags::IN)];
        sources.extend(listens.then(|| (daemon.as_fd(), PollFlags::IN)));
        let from_daemon = sources.len() - 1;
        sources.extend(self.output.as_ref().map(|output| (output.as_fd(), PollFlags::IN)));
        sources.extend(self.stdin.as_ref().map(|stdin| (stdin.as_fd(), PollFlags::OUT)));
        let ready = poll(&sources, clock::monotonic().until(self.until));
        let is_gone = listens && ready.get(from_daemon).copied().unwrap_or_default();
        while self.child_ended.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        self.write_stdin();
        self.read_output();
        !is_gone
    }

    fn write_stdin(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(&self.unwritten) {
            Ok(written) => drop(self.unwritten.drain(..written)),
            Err(error) if is_for_now(&error) => {}
            // It does not want to read it.
            Err(_) => self.unwritten.clear(),
        }
        if self.unwritten.is_empty() {
            self.stdin = None;
        }
    }

    fn read_output(&mut self) {
        const CHUNK: usize = 64 * 1024;
        // Not for ever: there is a time to keep.
        const CHUNKS_MAX: u32 = 64;
        let Some(output) = &mut self.output else { return };
        let mut bytes = [0; CHUNK];
        for _ in 0..CHUNKS_MAX {
            match output.read(&mut bytes) {
                Ok(0) => return self.output = None,
                Ok(read) => {
                    self.tail.extend(&bytes[read.saturating_sub(OUTPUT_BYTES_MAX)..read]);
                    let over = self.tail.len().saturating_sub(OUTPUT_BYTES_MAX);
                    self.tail.drain(..over);
                }
                Err(error) if is_for_now(&error) => return,
                Err(_) => return self.output = None,
            }
        }
    }
}

fn is_for_now(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
}

/// Waits until one of them is ready, for at most so long; tells which are.
fn poll(sources: &[(BorrowedFd<'_>, PollFlags)], patience: Duration) -> Vec<bool> {
    let mut sources: Vec<PollFd<'_>> =
        sources.iter().map(|(source, flags)| PollFd::from_borrowed_fd(*source, *flags)).collect();
    let timeout = Timespec::try_from(patience).ok();
    match rustix::event::poll(&mut sources, timeout.as_ref()) {
        Ok(_) => sources.iter().map(|source| !source.revents().is_empty()).collect(),
        // A signal came instead.
        Err(_) => vec![false; sources.len()],
    }
}
