//! The launch stage: sets on itself what must be set in the child, and then becomes the agent.
//!
//! A supervisor starts it ahead of need, and gives it its order on stdin; so no code has to run between a fork and an
//! exec, and a new program's start-up is not waited for. Git commands in a worktree are ordered by arguments instead, and
//! keep the environment and the files that they were started with. What it cannot do it writes to the file that the
//! order names for that, and exits with 126 or 127, as a shell would.
#![expect(clippy::disallowed_methods, reason = "starts the launch stage, which becomes another program")]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::RawMode;

use crate::cgroup;
use crate::process;
use crate::store::{self, StoreError};

/// The hidden verb.
pub(crate) const VERB: &str = "launch";

/// The exit codes of the launch stage itself; an agent may have them too, then without a word in the file of errors.
pub(crate) const FAILED_CODES: [i32; 2] = [126, 127];

/// What the launch stage is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    /// The supervisor: without it the agent must not live.
    pub(crate) parent: u32,
    /// The file mode mask of the agent, which is that of the user and not that of the supervisor.
    pub(crate) umask: RawMode,
    pub(crate) directory: PathBuf,
    /// Where to say why nothing was started.
    pub(crate) errors: PathBuf,
    pub(crate) argv: Vec<OsString>,
}

/// What an agent gets that does not keep what the launch stage has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    pub(crate) stdin: PathBuf,
    /// `stdin` is removed once it is open.
    pub(crate) stdin_is_ours: bool,
    /// Appended to.
    pub(crate) stdout: PathBuf,
    pub(crate) stderr: PathBuf,
    pub(crate) variables: Vec<(OsString, OsString)>,
    /// The control group to enter.
    pub(crate) cgroup: Option<PathBuf>,
}

impl Order {
    /// The arguments with which our own program carries out this order.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec![OsString::from(VERB)];
        arguments.extend([self.parent.to_string().into(), self.umask.to_string().into()]);
        arguments.extend([self.directory.clone().into_os_string(), self.errors.clone().into_os_string()]);
        arguments.extend(self.argv.iter().cloned());
        arguments
    }

    /// Reads what [`Order::arguments`] wrote, without the verb.
    fn read(arguments: &mut impl Iterator<Item = OsString>) -> Option<Order> {
        let parent = arguments.next()?.to_str()?.parse().ok()?;
        let umask = arguments.next()?.to_str()?.parse().ok()?;
        let (directory, errors) = (arguments.next()?.into(), arguments.next()?.into());
        Some(Order { parent, umask, directory, errors, argv: arguments.collect() })
    }
}

/// An order as it comes on stdin: texts that end with NUL each, which none of them can contain.
fn encode(order: &Order, surroundings: &Surroundings) -> Vec<u8> {
    let Surroundings { stdin, stdin_is_ours, stdout, stderr, variables, cgroup } = surroundings;
    let mut fields: Vec<OsString> = [stdin, stdout, stderr].map(|path| path.clone().into_os_string()).into();
    fields.push(u8::from(*stdin_is_ours).to_string().into());
    fields.push(cgroup.clone().unwrap_or_default().into_os_string());
    fields.push(variables.len().to_string().into());
    fields.extend(variables.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
    fields.extend(order.arguments().into_iter().skip(1));
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend_from_slice(field.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// Reads an order and surroundings; `None` while they are not whole.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Order, Surroundings)> {
    let mut fields =
        bytes.strip_suffix(&[0])?.split(|byte| *byte == 0).map(|field| OsString::from_vec(field.to_vec()));
    let mut path = || fields.next().map(PathBuf::from);
    let (stdin, stdout, stderr) = (path()?, path()?, path()?);
    let stdin_is_ours = fields.next()? == "1";
    let cgroup = fields.next().filter(|group| !group.is_empty()).map(PathBuf::from);
    let count: usize = fields.next()?.to_str()?.parse().ok()?;
    let variables = (0..count).map(|_| Some((fields.next()?, fields.next()?))).collect::<Option<_>>()?;
    let order = Order::read(&mut fields)?;
    Some((order, Surroundings { stdin, stdin_is_ours, stdout, stderr, variables, cgroup }))
}

/// A launch stage that was started ahead of need. Dropped without an order, it ends.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) pid: u32,
    stdin: process::Pipe,
}

impl Ahead {
    /// Starts a launch stage that waits for its order.
    pub(crate) fn start() -> io::Result<Ahead> {
        let (pid, stdin) = process::start_waiting(VERB)?;
        Ok(Ahead { pid, stdin })
    }

    /// Gives it its order; it becomes the agent. Returns the agent's process.
    ///
    /// # Errors
    /// When it has ended; then nothing was started.
    pub(crate) fn give(mut self, order: &Order, surroundings: &Surroundings) -> io::Result<u32> {
        self.stdin.write_all(&encode(order, surroundings))?;
        Ok(self.pid)
    }
}

/// Carries out the order in `arguments`, or the one that comes on stdin when there are none. Returns only when nothing
/// was started: the exit code.
pub(crate) fn main(mut arguments: impl Iterator<Item = OsString>) -> u8 {
    if let Some(order) = Order::read(&mut arguments) {
        let ready = detach().and_then(|()| tie_to(order.parent));
        return tell(&order, ready.and_then(|()| become_agent(&order, None)));
    }
    // Done before the order comes, so that it need not wait for it.
    let detached = detach();
    let mut bytes = Vec::new();
    let read = io::stdin().read_to_end(&mut bytes);
    let Some((order, surroundings)) = read.ok().and_then(|_| decode(&bytes)) else { return 0 };
    let ready = detached.and_then(|()| tie_to(order.parent));
    tell(&order, ready.and_then(|()| become_agent(&order, Some(&surroundings))))
}

/// Writes down why nothing was started.
fn tell(order: &Order, result: Result<std::convert::Infallible, Failure>) -> u8 {
    let Err(Failure { code, message }) = result;
    if let Err(error) = store::create_new(&order.errors, message.as_bytes(), 0o600) {
        tracing::error!("{message}; and it could not be written down: {error}");
    }
    code
}

/// Why nothing was started, and the exit code for it.
struct Failure {
    code: u8,
    message: String,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure { code: 126, message: error.to_string() }
    }
}

fn failed<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> Failure {
    move |error| Failure { code: 126, message: format!("cannot {what}: {error}") }
}

/// Begins a session of its own: no terminal, and a group that signals reach as one.
fn detach() -> Result<(), Failure> {
    rustix::process::setsid().map_err(failed("begin a session"))?;
    end_with_parent()
}

/// Becomes the agent; returns only when that fails.
fn become_agent(
    order: &Order,
    surroundings: Option<&Surroundings>,
) -> Result<std::convert::Infallible, Failure> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(order.umask));
    std::env::set_current_dir(&order.directory)
        .map_err(failed(&format!("enter {}", order.directory.display())))?;
    let Some(program) = order.argv.first() else {
        return Err(Failure { code: 127, message: "there is no program to start".to_owned() });
    };
    let mut command = Command::new(program);
    command.args(&order.argv[1..]);
    if let Some(surroundings) = surroundings {
        command.env_clear().envs(surroundings.variables.iter().map(|(name, value)| (name, value)));
        surroundings.cgroup.as_deref().map_or(Ok(()), cgroup::enter)?;
        // From here on nothing of ours may write to them.
        take_files(surroundings)?;
    }
    let error = command.exec();
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    let why = if code == 127 && store::exists(Path::new(program)) {
        "it is there, but what runs it is not; see its first line".to_owned()
    } else {
        error.to_string()
    };
    Err(Failure { code, message: format!("cannot start {}: {why}", program.display()) })
}

/// Puts the agent's files in the place of stdin, stdout and stderr.
fn take_files(surroundings: &Surroundings) -> Result<(), Failure> {
    let stdin = store::at("open", &surroundings.stdin, File::open(&surroundings.stdin))?;
    if surroundings.stdin_is_ours {
        store::remove(&surroundings.stdin)?;
    }
    let stdout = store::open_append(&surroundings.stdout)?;
    let stderr = store::open_append(&surroundings.stderr)?;
    rustix::stdio::dup2_stdin(&stdin).map_err(failed("set stdin"))?;
    rustix::stdio::dup2_stdout(&stdout).map_err(failed("set stdout"))?;
    rustix::stdio::dup2_stderr(&stderr).map_err(failed("set stderr"))
}

/// Asks the kernel to end this process with its parent, and gives up what would let it escape.
#[cfg(target_os = "linux")]
fn end_with_parent() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(failed("ask to end with the supervisor"))?;
    // No setuid program gives the agent rights that we lack; its processes could then not be signalled either.
    rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"))?;
    // When memory runs out the agent goes before its supervisor, which tells what happened. A wish, not a need.
    let _ = store::overwrite("/proc/self/oom_score_adj".as_ref(), b"500");
    Ok(())
}

/// Nothing ties a process to its parent here: an agent outlives a supervisor that is killed.
#[cfg(not(target_os = "linux"))]
fn end_with_parent() -> Result<(), Failure> {
    Ok(())
}

/// Checks that the parent is still there: it may have ended before the kernel was asked to tell.
fn tie_to(supervisor: u32) -> Result<(), Failure> {
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    if parent == supervisor {
        return Ok(());
    }
    Err(Failure { code: 126, message: "the supervisor has ended".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_given() {
        let order = Order {
            parent: 7,
            umask: 0o22,
            directory: "/w".into(),
            errors: "/e".into(),
            argv: vec!["sh".into(), "-c".into(), "".into(), OsString::from_vec(vec![0xff, b'\n'])],
        };
        let surroundings = Surroundings {
            stdin: "/dev/null".into(),
            stdin_is_ours: true,
            stdout: "/o".into(),
            stderr: "/e".into(),
            cgroup: Some("/c".into()),
            variables: vec![("A".into(), "".into()), ("B".into(), "x=y\n".into())],
        };
        let bytes = encode(&order, &surroundings);
        assert_eq!(decode(&bytes), Some((order.clone(), surroundings)));
        for cut in 0..bytes.len() {
            assert_ne!(decode(&bytes[..cut]).map(|(read, _)| read), Some(order.clone()), "cut at {cut}");
        }
    }
}
