//! The processes as the system has them.
#![expect(clippy::disallowed_methods, reason = "starts our own program, notifiers, and the user's editor")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, PipeWriter, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::clock;
use crate::environment;
use crate::id::RunId;
use crate::outcome::Evidence;

use super::Reaped;

pub(crate) use std::process::id;

/// Where a process of ours reads what it is to do.
pub(crate) type Pipe = ChildStdin;

/// Starts our own program with a verb, and tells its number; it waits for what comes on its stdin.
pub(crate) fn start_waiting(verb: &str) -> io::Result<(u32, Pipe)> {
    let mut command = Command::new(own_program());
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let stdin = child.stdin.take().expect("because stdin is piped");
    Ok((child.id(), stdin))
}

/// The same, and it tells on its stdout what it has done. In a group of its own: what a terminal sends to us is not meant
/// for it.
pub(crate) fn start_serving(verb: &str) -> io::Result<(Child, Pipe)> {
    let mut command = Command::new(own_program());
    command.process_group(0);
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let stdin = child.stdin.take().expect("because stdin is piped");
    Ok((child, stdin))
}

/// Starts a notifier: in a group and with an environment of its own, what it prints goes into `output`.
pub(crate) fn start_notifier(
    argv: &[String],
    place: &Path,
    variables: Vec<(String, OsString)>,
    output: PipeWriter,
) -> io::Result<(u32, ChildStdin)> {
    let program = argv.first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(&argv[1..]).current_dir(place).env_clear().envs(variables).process_group(0);
    command.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
    let mut child = command.spawn()?;
    let stdin = child.stdin.take().expect("because stdin is piped");
    Ok((child.id(), stdin))
}

/// Starts our own program with these arguments for a run, and waits for its end, half an hour at most and as long as `goes_on`;
/// then it is ended, with all that it has started. Returns what it says.
///
/// # Errors
/// When it cannot be started, does not succeed, or is ended.
pub(crate) fn carry_out(
    arguments: &[OsString],
    run: RunId,
    goes_on: &dyn Fn() -> bool,
) -> io::Result<Vec<u8>> {
    const AT_MOST: Duration = Duration::from_secs(30 * 60);
    /// How long it may take until it is seen that nothing goes on.
    const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
    let mut command = Command::new(own_program());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env(environment::RUN, run.to_string());
    let until = clock::monotonic() + AT_MOST;
    let mut child = command.spawn()?;
    let mut stdout = child.stdout.take().expect("because stdout is piped");
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    // What it writes ends with itself.
    loop {
        let mut sources = [PollFd::new(&stdout, PollFlags::IN)];
        let ready = rustix::event::poll(&mut sources, Some(&LOOK_EVERY));
        if !goes_on() || clock::monotonic() > until {
            child.kill()?;
            kill_marked(run);
            break;
        }
        if ready.is_ok_and(|ready| ready > 0) {
            match stdout.read(&mut part)? {
                0 => break,
                bytes => answer.extend_from_slice(&part[..bytes]),
            }
        }
    }
    let status = child.wait()?;
    if status.success() { Ok(answer) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}

/// Has the user edit a file with an editor, which may be a program with arguments, as in `$EDITOR`; waits for its end.
pub(crate) fn run_editor(editor: &OsStr, path: &Path) -> io::Result<ExitStatus> {
    // As git does: the shell reads the editor's name, and never the path.
    let mut line = editor.to_owned();
    line.push(" \"$@\"");
    Command::new("/bin/sh").arg("-c").arg(line).arg("editor").arg(path).status()
}

/// Makes orphaned descendants children of this process. Nothing to be had elsewhere than on Linux.
pub(crate) fn become_subreaper() {
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .expect("because every Linux since 3.4 has subreapers");
}

/// Takes note of one child that has ended, without waiting.
pub(crate) fn reap() -> Reaped {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let evidence = Evidence {
                    exit_code: status.exit_status(),
                    signal: status.terminating_signal(),
                    message: None,
                };
                return Reaped::Child { pid: pid.as_raw_nonzero().get().unsigned_abs(), evidence };
            }
            Ok(None) => return Reaped::NoneYet,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Reaped::NoneLeft,
        }
    }
}

/// Sends `signal` to every descendant of this process, and to the group of the agent `leader`.
///
/// The descendants stay ours until they are reaped, which only this thread does: no pid can be reused under way.
pub(crate) fn signal_descendants(leader: Option<u32>, signal: Signal) {
    if let Some(group) = leader.and_then(pid_of) {
        // No such group: its processes have ended.
        let _ = rustix::process::kill_process_group(group, signal);
    }
    for pid in descendants(id()).into_iter().filter_map(pid_of) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// The descendants of `pid`, nearest first. Empty where the kernel does not tell.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut unseen = vec![pid];
    while let Some(parent) = unseen.pop() {
        let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            unseen.extend(&children);
            found.extend(children);
        }
    }
    found
}

/// Kills every process that bears the marker of `run`, until none is left; returns how many it killed.
///
/// For a run without a supervisor. A process is taken hold of first and its marker read then, so that a reused pid is
/// never hit. A process that wiped its environment is not found.
pub(crate) fn kill_marked(run: RunId) -> usize {
    kill_bearing(&marker_of(run))
}

/// The same of those that bear `marker`, a variable and its value.
pub(crate) fn kill_bearing(marker: &str) -> usize {
    const ROUNDS_MAX: usize = 100;
    let mut killed = 0;
    for _ in 0..ROUNDS_MAX {
        let found = bearing(marker);
        if found.is_empty() {
            break;
        }
        killed += found.into_iter().filter(|pid| kill_if_bearing(*pid, marker)).count();
    }
    killed
}

/// The live processes that bear the marker of `run`.
pub(crate) fn marked(run: RunId) -> Vec<u32> {
    bearing(&marker_of(run))
}

/// The processes at or below `folder`, by number and name: with their current folder, their root, their program or an open
/// file there. Of processes of others nothing can be told; nor where there is no `/proc`.
pub(crate) fn within(folder: &Path) -> Vec<(u32, String)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let inside = |link: PathBuf| fs::read_link(link).is_ok_and(|place| place.starts_with(folder));
    let has_place = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links = ["cwd", "root", "exe"].map(|name| PathBuf::from(format!("/proc/{pid}/{name}")));
        links.into_iter().chain(files.map(|file| file.path())).any(inside)
    };
    let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let found = pids.filter(|pid| *pid != id()).filter(has_place);
    found.map(|pid| (pid, name(pid).trim_end().to_owned())).collect()
}

fn marker_of(run: RunId) -> String {
    format!("{}={run}", environment::RUN)
}

fn bearing(marker: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| bears(*pid, marker)).collect()
}

fn bears(pid: u32, marker: &str) -> bool {
    // A process that has ended and was not reaped yet has an empty environment.
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
}

#[cfg(target_os = "linux")]
fn kill_if_bearing(pid: u32, marker: &str) -> bool {
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
    let Some(handle) = pid_of(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return false;
    };
    bears(pid, marker) && pidfd_send_signal(handle, Signal::KILL).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn kill_if_bearing(_pid: u32, _marker: &str) -> bool {
    false
}

/// Whether a process with this number lives; it may be another than one thinks. One that has ended does not, also as long
/// as its parent takes no note of that: in a container there may be nobody who does.
pub(crate) fn is_alive(pid: u32) -> bool {
    let exists = pid_of(pid)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
    exists && !has_ended(pid)
}

/// Whether `/proc` says that a process has ended, or does nothing more; `false` where there is none.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state may have any character.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| is_over(rest))
}

/// Reads that from what `/proc/<pid>/stat` has from the state on (proc_pid_stat(5)). A killed process gives up its memory
/// first, and may then take a while to close its files; without memory (`vsize`, the 23rd field) it runs no more.
fn is_over(from_state: &str) -> bool {
    const VSIZE: usize = 23 - 3;
    from_state.starts_with(['Z', 'X']) || from_state.split_whitespace().nth(VSIZE) == Some("0")
}

/// Our own program, as this process runs it: still the same when its file has been replaced.
pub(crate) fn own_program() -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::from("/proc/self/exe");
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("gitspool"))
}

/// Which boot of the machine this is; empty where the system does not tell.
pub(crate) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_given_up_its_memory_is_over_and_a_sleeping_one_is_not() {
        let line = |state: &str, vsize: &str| {
            format!("{state} 1 18232 1013 0 -1 4195340 0 0 0 0 1 2 0 0 20 0 1 0 99 {vsize} 700 1844")
        };
        assert!(is_over(&line("D", "0")) && is_over(&line("Z", "0")) && is_over(&line("X", "4096")));
        assert!(!is_over(&line("D", "12288")) && !is_over(&line("S", "12288")) && !is_over(""));
        assert!(is_alive(std::process::id()));
    }
}
