//! What wakes a supervisor: the end of a child, a request to end, a command file, the time.
//!
//! Who puts a command into `commands/` writes to the fifo `wake` then. An inotify watch would do without that, but
//! closing one takes the kernel some 10 ms, which every run would pay at its end; so the one that tells when output grew is
//! kept from run to run.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::signal::{SIGCHLD, SIGTERM};

use crate::clock;
use crate::store::{self, File};
use crate::time::Moment;

use super::growth::Growth;
use super::output::Outputs;

/// How often commands are looked for without being told: somebody may have removed the fifo.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The same where nobody can tell.
const LOOK_OFTEN: Duration = Duration::from_millis(250);

/// The sources that a supervisor waits for.
pub(crate) struct Wake {
    child_ended: UnixStream,
    end_asked: UnixStream,
    /// `None` where there are no fifos, or when it cannot be made: looking now and then serves as well.
    commands: Option<File>,
    /// Tells that files of output grew.
    growth: Growth,
    /// What came on stdin and was not taken yet.
    given: Vec<u8>,
}

/// What cannot be seen by looking again.
pub(crate) struct Inputs {
    /// Somebody wants the supervisor to end.
    pub(crate) shutdown: bool,
    /// There may be new commands.
    pub(crate) commands: bool,
}

impl Wake {
    pub(super) fn new() -> io::Result<Wake> {
        Ok(Wake {
            child_ended: listen(SIGCHLD)?,
            end_asked: listen(SIGTERM)?,
            commands: None,
            growth: Growth::default(),
            given: Vec::new(),
        })
    }

    /// Hears nothing: whoever drives a machine in memory says when to look.
    #[cfg(test)]
    pub(crate) fn deaf() -> io::Result<Wake> {
        let unheard = || -> io::Result<UnixStream> { Ok(UnixStream::pair()?.0) };
        let (growth, given) = (Growth::default(), Vec::new());
        Ok(Wake { child_ended: unheard()?, end_asked: unheard()?, commands: None, growth, given })
    }

    /// Listens on the fifo. Look for commands after this call, not before.
    pub(super) fn listen_on(&mut self, fifo: &Path) {
        self.commands = store::open_fifo(fifo).ok();
    }

    /// Listens to the growth of the files of output, too, until the run is over; tells whether there is one that it did
    /// not listen to. Look at it after this call.
    pub(super) fn listen_to(&mut self, outputs: &mut Outputs) -> bool {
        let is_new = !std::mem::replace(&mut outputs.watched, true);
        if is_new {
            outputs.paths().for_each(|path| self.growth.watch(path));
        }
        is_new
    }

    pub(super) fn stop_listening(&mut self) {
        self.commands = None;
        self.growth.forget();
    }

    /// Whether files of output may have grown. Look then.
    pub(super) fn has_growth(&mut self, quiet_until: Moment) -> bool {
        quiet_until <= clock::monotonic() && self.growth.drain()
    }

    /// Waits until there is something to look at, or until `until`. That output grew is heard from `quiet_until` on.
    pub(super) fn wait(&mut self, now: Moment, until: Option<Moment>, quiet_until: Moment) -> Inputs {
        let look_again =
            now + if self.commands.is_some() && !self.growth.is_deaf { LOOK_AGAIN } else { LOOK_OFTEN };
        let quiet_until = (quiet_until > now && self.growth.hears()).then_some(quiet_until);
        let until = until.into_iter().chain(quiet_until).fold(look_again, Moment::min);
        let mut sources = vec![self.child_ended.as_fd(), self.end_asked.as_fd()];
        sources.extend(self.commands.as_ref().map(AsFd::as_fd));
        sources.extend(self.growth.descriptor().filter(|_| quiet_until.is_none()));
        poll(&sources, Some(now.until(until)));
        drain(&mut self.child_ended);
        let told = self.commands.as_mut().is_none_or(drain);
        Inputs { shutdown: drain(&mut self.end_asked), commands: told || look_again <= clock::monotonic() }
    }

    /// Waits for the next run directory on stdin; `None` when there will be none, or we are to end.
    pub(super) fn next_run(&mut self) -> Option<PathBuf> {
        loop {
            if let Some(end) = self.given.iter().position(|byte| *byte == 0) {
                let path: Vec<u8> = self.given.drain(..=end).take(end).collect();
                return Some(OsString::from_vec(path).into());
            }
            let stdin = io::stdin();
            let is_given = poll(&[stdin.as_fd(), self.end_asked.as_fd()], None);
            if drain(&mut self.end_asked) {
                return None;
            }
            if !is_given {
                continue;
            }
            let mut bytes = [0_u8; 4096];
            match rustix::io::read(&stdin, &mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.given.extend(&bytes[..read]),
            }
        }
    }

    /// Whether somebody wanted us to end while nothing ran.
    pub(super) fn end_was_asked(&mut self) -> bool {
        drain(&mut self.end_asked)
    }
}

/// Waits for input on any of `sources`, for at most `patience`; tells whether there is some on the first. Then look: a
/// signal may have come instead.
fn poll(sources: &[BorrowedFd<'_>], patience: Option<Duration>) -> bool {
    let mut sources: Vec<PollFd<'_>> =
        sources.iter().map(|source| PollFd::from_borrowed_fd(*source, PollFlags::IN)).collect();
    let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
    let found = rustix::event::poll(&mut sources, timeout.as_ref());
    found.is_ok() && sources.first().is_some_and(|first| !first.revents().is_empty())
}

/// Lets some time pass, with nothing to wait for.
pub(super) fn pause(duration: Duration) {
    poll(&[], Some(duration));
}

fn listen(signal: i32) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal, theirs)?;
    Ok(ours)
}

/// Takes the bytes that are there; tells whether there were any.
fn drain<R: Read>(stream: &mut R) -> bool {
    let mut buffer = [0_u8; 64];
    let mut any = false;
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
        any = true;
    }
    any
}
