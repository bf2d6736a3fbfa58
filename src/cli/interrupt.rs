//! Ctrl-C while a verb waits: it ends the waiting, and not what is waited for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::signal::SIGINT;

use super::CliError;

/// Interrupts of this process, from its making on.
pub(super) struct Interrupts {
    came: UnixStream,
}

impl Interrupts {
    pub(super) fn new() -> Result<Interrupts, CliError> {
        listen().map_err(|error| CliError::Usage(format!("cannot listen to signals: {error}")))
    }

    /// What becomes readable with an interrupt.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.came.as_fd()
    }

    /// Whether there was one since the last call.
    pub(super) fn taken(&mut self) -> bool {
        let mut buffer = [0_u8; 64];
        self.came.read(&mut buffer).is_ok_and(|read| read > 0)
    }
}

fn listen() -> io::Result<Interrupts> {
    let (came, sender) = UnixStream::pair()?;
    came.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(SIGINT, sender)?;
    Ok(Interrupts { came })
}
