//! The processes of the machine that the thread has in memory, or else of the system. In tests only.

use std::io;
use std::process::Child;

use rustix::process::Signal;

use super::{Reaped, system};
use crate::id::RunId;
use crate::simulated::{self, ask};

/// Where a process of ours reads what it is to do.
#[derive(Debug)]
pub(crate) enum Pipe {
    System(system::Pipe),
    Simulated(u32),
}

pub(crate) fn id() -> u32 {
    ask(|machine| machine.processes.current).unwrap_or_else(system::id)
}

pub(crate) fn boot() -> String {
    ask(|machine| format!("boot {}", machine.processes.boot)).unwrap_or_else(system::boot)
}

pub(crate) fn is_alive(pid: u32) -> bool {
    ask(|machine| machine.processes.is_alive(pid)).unwrap_or_else(|| system::is_alive(pid))
}

pub(crate) fn marked(run: RunId) -> Vec<u32> {
    ask(|machine| machine.processes.marked(run)).unwrap_or_else(|| system::marked(run))
}

pub(crate) fn kill_marked(run: RunId) -> usize {
    ask(|machine| machine.processes.kill_marked(run)).unwrap_or_else(|| system::kill_marked(run))
}

pub(crate) fn reap() -> Reaped {
    ask(|machine| machine.processes.reap()).unwrap_or_else(system::reap)
}

pub(crate) fn signal_descendants(leader: Option<u32>, signal: Signal) {
    let sent = ask(|machine| machine.processes.signal_children(signal.as_raw()));
    sent.unwrap_or_else(|| system::signal_descendants(leader, signal));
}

pub(crate) fn start_waiting(verb: &str) -> io::Result<(u32, Pipe)> {
    let started = ask(|machine| machine.processes.start(machine.processes.current));
    match started {
        Some(pid) => Ok((pid, Pipe::Simulated(pid))),
        None => system::start_waiting(verb).map(|(pid, pipe)| (pid, Pipe::System(pipe))),
    }
}

pub(crate) fn start_serving(verb: &str) -> io::Result<(Child, Pipe)> {
    system::start_serving(verb).map(|(child, pipe)| (child, Pipe::System(pipe)))
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Pipe::System(pipe) => pipe.write(bytes),
            Pipe::Simulated(pid) => {
                let taken = simulated::on(|machine| machine.processes.give(*pid, bytes));
                if taken { Ok(bytes.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if let Pipe::Simulated(pid) = self {
            ask(|machine| machine.processes.starve(*pid));
        }
    }
}
