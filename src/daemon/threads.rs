//! The daemon's threads: each has a name, waits for one thing, and is joined or ends with the process.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGIO, SIGTERM};

use super::DaemonError;
use crate::id::RunId;
use crate::input::{Input, Undelivered};
use crate::notice::Notice;
use crate::notifier::{self, Answer, Order};
use crate::process;
use crate::{lock, supervisor};

/// Enough for a thread that only waits and sends.
const WAITER_STACK_BYTES: usize = 128 * 1024;

/// Starts a thread with a name; it ends when the channel that it reads is closed.
pub(super) fn named<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, DaemonError> {
    Builder::new().name(name.to_owned()).spawn(body).map_err(DaemonError::Thread)
}

/// Turns SIGTERM and SIGINT into an input. SIGHUP changes nothing, and SIGIO only says that somebody opened a file
/// whose lease we asked for.
pub(super) fn signals(inputs: Sender<Input>) -> Result<JoinHandle<()>, DaemonError> {
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(DaemonError::Thread)?;
    for signal in [SIGTERM, SIGINT] {
        let theirs = theirs.try_clone().map_err(DaemonError::Thread)?;
        signal_hook::low_level::pipe::register(signal, theirs).map_err(DaemonError::Thread)?;
    }
    for signal in [SIGHUP, SIGIO] {
        signal_hook::flag::register(signal, std::sync::Arc::default()).map_err(DaemonError::Thread)?;
    }
    named("signals", move || {
        let mut byte = [0];
        while std::io::Read::read(&mut ours, &mut byte).is_ok_and(|read| read > 0) {
            if inputs.send(Input::EndAsked).is_err() {
                return;
            }
        }
    })
}

/// A supervisor's process, as long as we can give it runs.
pub(super) struct Serving {
    /// Our own number for it.
    pub(super) number: u64,
    stdin: process::Pipe,
}

impl Serving {
    /// Gives it a run to carry out.
    ///
    /// # Errors
    /// When it has ended; then it has not begun the run.
    pub(super) fn give(&mut self, run_dir: &Path) -> std::io::Result<()> {
        // A path can have any byte but NUL.
        let mut text = run_dir.as_os_str().as_encoded_bytes().to_vec();
        text.push(0);
        self.stdin.write_all(&text)
    }
}

/// Starts a supervisor, and a thread that listens to it and waits for its end.
///
/// # Errors
/// When the system has no process or thread to give; then nothing was started.
pub(super) fn start_supervisor(number: u64, inputs: Sender<Input>) -> std::io::Result<Serving> {
    #[cfg(test)]
    if let Some(stdin) = crate::simulated::start_supervisor(number, &inputs) {
        return Ok(Serving { number, stdin });
    }
    let (mut child, stdin) = process::start_serving(supervisor::VERB)?;
    let waiter = Builder::new().name("supervisor".to_owned()).stack_size(WAITER_STACK_BYTES);
    waiter.spawn(move || {
        listen(&mut child, &inputs);
        // What it exited with says less than the logs of its runs.
        let _ = child.wait();
        let _ = inputs.send(Input::SupervisorGone(number));
    })?;
    Ok(Serving { number, stdin })
}

/// Passes on which runs a supervisor has finished, until it ends.
fn listen(child: &mut Child, inputs: &Sender<Input>) {
    let Some(stdout) = child.stdout.take() else { return };
    for line in BufReader::with_capacity(512, stdout).lines().map_while(Result::ok) {
        if line.parse().is_ok_and(|run| inputs.send(Input::RunEnded(run)).is_err()) {
            return;
        }
    }
}

/// Starts a process that delivers a notice, and a thread that waits for what comes of it.
///
/// # Errors
/// When the system has no process or thread to give; then nothing was started.
pub(super) fn start_notifier(order: &Order, inputs: Sender<Input>) -> std::io::Result<()> {
    let notice = order.open.notice.id;
    #[cfg(test)]
    if crate::simulated::start_notifier(notice, &inputs) {
        return Ok(());
    }
    let bytes = order.to_bytes();
    let timeout = Duration::from_secs(order.open.notice.timeout_seconds) + notifier::GRACE;
    let (mut child, mut stdin) = process::start_serving(notifier::VERB)?;
    let waiter = Builder::new().name("notifier".to_owned()).stack_size(WAITER_STACK_BYTES);
    waiter
        .spawn(move || {
            // It stays open until there is an answer: its end tells that we are gone. Where the order does not come through
            // there is none.
            let _ = stdin.write_all(&bytes);
            let undelivered = await_answer(&mut child, timeout, &Notice::marker(notice));
            let _ = inputs.send(Input::Notified { notice, undelivered });
        })
        .map(drop)
}

/// Waits for what the process that delivers a notice has to say, and for its end; longer than it should take nobody waits.
fn await_answer(child: &mut Child, timeout: Duration, marker: &str) -> Option<Undelivered> {
    const SLACK: Duration = Duration::from_secs(30);
    const ANSWER_BYTES_MAX: u64 = 64 * 1024;
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let mut sources = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN)];
        let timeout = Timespec::try_from(timeout + SLACK).ok();
        if rustix::event::poll(&mut sources, timeout.as_ref()) == Ok(0) {
            // Somebody has stopped it.
            let _ = child.kill();
        }
        // What cannot be read is no answer.
        let _ = stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    }
    let _ = child.wait();
    match serde_json::from_slice(&answer) {
        Ok(Answer { failure: None, .. }) => None,
        Ok(Answer { failure: Some(message), output }) => Some(Undelivered { message, output }),
        Err(_) => {
            // With it goes who would have ended what it has started.
            process::kill_bearing(marker);
            Some(Undelivered { message: "its process ended without a word".to_owned(), output: None })
        }
    }
}

/// Waits for the end of a run that another daemon started: for its lock.
pub(super) fn wait_for_lock(run: RunId, run_lock: PathBuf, inputs: Sender<Input>) -> std::io::Result<()> {
    #[cfg(test)]
    if crate::simulated::wait_for_lock(run, &run_lock, &inputs) {
        return Ok(());
    }
    let waiter = Builder::new().name("adopted".to_owned()).stack_size(WAITER_STACK_BYTES);
    waiter
        .spawn(move || {
            if let Err(error) = lock::wait_exclusive(&run_lock) {
                tracing::error!("{error}");
            }
            let _ = inputs.send(Input::RunEnded(run));
        })
        .map(drop)
}
