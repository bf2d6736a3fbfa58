//! Stops a program, and all that it starts, at each call that changes files: one order over all threads and processes,
//! and at one place of it a kill or an error.
//!
//! Seccomp user notification (Linux 5.19): a filter hands each such call to a thread of ours before the kernel carries it
//! out, and the caller waits for our answer. While we do not answer nobody under the filter changes a file, so a
//! kill of several processes is one cut through all of them. Only calls of gitspool and git on files below the given
//! roots count, those of agents do not. Not hooked are `close`, which changes nothing on disk (a lock that ends with it
//! is given up at the next kill too), and writing through a memory map, which nobody here does.
#![expect(unsafe_code, reason = "no crate wraps seccomp's notifications: one system call and two ioctls")]

pub(crate) mod call;
mod filter;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};

use crate::sandbox::signal;
use call::{Call, Role};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victims {
    /// Everything, agents too: as when the machine goes down, but for the page cache.
    All,
    Only(Role),
}

/// What is done at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing; the calls are counted.
    None,
    /// SIGKILL before the call is carried out; when it is torn, after the first half of what it writes.
    Kill { victims: Victims, torn: bool },
    /// The call fails; when it is sticky, each later one of its kind too, until the fault is lifted.
    Fail { errno: Errno, sticky: bool },
}

/// Which call is the chosen one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// Only calls whose description has this text in it are numbered.
    pub(crate) matching: String,
    /// From 1.
    pub(crate) number: u64,
}

pub(crate) struct Plan {
    pub(crate) fault: Fault,
    pub(crate) site: Site,
    /// Only calls on files below these count; paths are described from the folder of the first one.
    pub(crate) roots: Vec<PathBuf>,
    /// Whether what processes tell each other counts too: writes to pipes.
    pub(crate) pipes: bool,
    /// A variable that all processes of the program have, and no others.
    pub(crate) marker: String,
}

/// What was seen of a program until its last process ended.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// All counted calls, in their order.
    pub(crate) calls: Vec<Call>,
    /// The chosen one, if it came so far.
    pub(crate) hit: Option<Call>,
    /// What panicking threads said; their processes' stderr may lead nowhere.
    pub(crate) panics: Vec<String>,
}

/// A program under the filter.
pub(crate) struct Traced {
    pub(crate) child: Child,
    follower: JoinHandle<Seen>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    hit: AtomicBool,
    lifted: AtomicBool,
}

impl Traced {
    /// Starts `command` under the filter.
    ///
    /// # Errors
    /// When the system has no such filters, or the program cannot be started.
    pub(crate) fn start(mut command: Command, plan: Plan) -> io::Result<Traced> {
        // A filter is a thread's own, and inherited by what it starts: so one that ends right after serves, and nothing has
        // to be done between a fork and an exec. Its own calls wait for the follower like all others.
        let (listeners, listener) = std::sync::mpsc::channel();
        let starter = std::thread::spawn(move || {
            listeners.send(install()).expect("because the test waits for it");
            command.spawn()
        });
        let listener = listener.recv().expect("because the thread sends before all else");
        let shared: Arc<Shared> = Arc::default();
        let follower = listener.map(|listener| {
            let follower = Follower { listener, plan, seen: Seen::default(), shared: shared.clone() };
            std::thread::spawn(move || follower.follow())
        });
        let child = starter.join().expect("because starting does not panic");
        Ok(Traced { child: child?, follower: follower?, shared })
    }

    /// Whether the chosen call has come.
    pub(crate) fn is_hit(&self) -> bool {
        self.shared.hit.load(Ordering::SeqCst)
    }

    /// Ends a sticky fault.
    pub(crate) fn lift(&self) {
        self.shared.lifted.store(true, Ordering::SeqCst);
    }

    /// How the program's first process ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("because it is our child")
    }

    /// Whether all processes of the program have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.follower.is_finished()
    }

    /// What was seen, when all processes have ended.
    pub(crate) fn seen(self) -> Seen {
        self.follower.join().expect("because the follower does not panic")
    }
}

/// Puts the filter on this thread, and on all that it starts.
fn install() -> io::Result<OwnedFd> {
    let mut program = filter::program()?;
    rustix::thread::set_no_new_privs(true)?;
    let length = u16::try_from(program.len()).expect("because the filter is short");
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: `program` and the instructions that it points to live until the call returns; the kernel copies them.
    let listener =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    let listener = i32::try_from(listener).expect("because a descriptor is small");
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

/// The thread that answers for all calls.
struct Follower {
    listener: OwnedFd,
    plan: Plan,
    seen: Seen,
    shared: Arc<Shared>,
}

/// What the kernel is told about a call.
enum Answer {
    GoOn,
    Fail(Errno),
    /// It is done already, with this result.
    Done(i64),
    /// The caller is gone.
    Silence,
}

impl Follower {
    /// Answers until the last process under the filter has ended.
    fn follow(mut self) -> Seen {
        while self.wait() {
            let Some(asked) = self.receive() else { continue };
            let answer = self.answer(&asked);
            self.send(asked.id, &answer);
        }
        self.seen
    }

    /// Waits for a call; `false` when there can be no more.
    fn wait(&self) -> bool {
        let patience = Timespec::try_from(Duration::from_secs(3600)).expect("because an hour is short");
        let mut sources = [PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN)];
        // A signal is no reason to end.
        let _ = rustix::event::poll(&mut sources, Some(&patience));
        !sources[0].revents().contains(PollFlags::HUP)
    }

    fn receive(&self) -> Option<libc::seccomp_notif> {
        let data = libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
        let mut asked = libc::seccomp_notif { id: 0, pid: 0, flags: 0, data };
        // SAFETY: the kernel fills a structure of exactly this type, which is zeroed as it demands.
        let result = unsafe {
            libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut asked)
        };
        // Else the caller was killed meanwhile.
        (result == 0).then_some(asked)
    }

    fn send(&self, id: u64, answer: &Answer) {
        let (val, error, flags) = match answer {
            Answer::GoOn => (0, 0, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap()),
            Answer::Fail(errno) => (0, -errno.raw_os_error(), 0),
            Answer::Done(value) => (*value, 0, 0),
            Answer::Silence => return,
        };
        let mut said = libc::seccomp_notif_resp { id, val, error, flags };
        // SAFETY: the kernel reads a structure of exactly this type. That it refuses means that the caller was killed.
        unsafe {
            libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw mut said);
        }
    }

    fn answer(&mut self, asked: &libc::seccomp_notif) -> Answer {
        let Some(mut call) = call::describe(asked, &self.plan.roots) else { return Answer::GoOn };
        if let Some(said) = call.panic.take() {
            self.seen.panics.push(format!("{}: {said}", call.role.word()));
        }
        if !call.counts(self.plan.pipes) {
            return Answer::GoOn;
        }
        if call.description.contains(&self.plan.site.matching) {
            call.number = self.seen.calls.iter().map(|call| call.number).max().unwrap_or(0) + 1;
        }
        let is_chosen = call.number > 0 && call.number == self.plan.site.number;
        let answer = self.answer_to(asked, &call, is_chosen);
        call.failed = matches!(answer, Answer::Fail(_));
        if is_chosen {
            self.seen.hit = Some(call.clone());
            self.shared.hit.store(true, Ordering::SeqCst);
        }
        self.seen.calls.push(call);
        answer
    }

    fn answer_to(&self, asked: &libc::seccomp_notif, call: &Call, is_chosen: bool) -> Answer {
        match self.plan.fault {
            Fault::Kill { victims, torn } if is_chosen => {
                if torn {
                    let _ = write_half(asked);
                }
                self.kill(victims);
                let is_dead = victims == Victims::All || victims == Victims::Only(call.role);
                if is_dead { Answer::Silence } else { Answer::GoOn }
            }
            Fault::Fail { errno, sticky: false } if is_chosen => Answer::Fail(errno),
            Fault::Fail { errno, sticky: true } if is_chosen || self.seen.hit.is_some() => {
                self.fail(asked, call, errno, is_chosen)
            }
            Fault::None | Fault::Kill { .. } | Fault::Fail { .. } => Answer::GoOn,
        }
    }

    /// What a full or a broken disk answers: of a first write it takes a part, and it still removes and renames.
    fn fail(&self, asked: &libc::seccomp_notif, call: &Call, errno: Errno, is_first: bool) -> Answer {
        if self.shared.lifted.load(Ordering::SeqCst) {
            return Answer::GoOn;
        }
        if errno == Errno::NOSPC && !call.needs_space() {
            return Answer::GoOn;
        }
        if errno == Errno::NOSPC
            && is_first
            && let Some(written) = write_half(asked)
        {
            return Answer::Done(written);
        }
        Answer::Fail(errno)
    }

    /// Kills; whoever is left of the victims after that was never there.
    fn kill(&self, victims: Victims) {
        loop {
            let mut found = call::marked(&self.plan.marker);
            if let Victims::Only(role) = victims {
                found.retain(|pid| call::role_of(*pid) == role);
            }
            if found.is_empty() {
                return;
            }
            found.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        }
    }
}

/// Writes the first half of what a `write` asks for, in the caller's place; `None` when it is none.
fn write_half(asked: &libc::seccomp_notif) -> Option<i64> {
    let (descriptor, bytes) = call::written(asked)?;
    if bytes.len() < 2 {
        return None;
    }
    let process = Pid::from_raw(i32::try_from(call::process_of(asked.pid)?).ok()?)?;
    let process = pidfd_open(process, PidfdFlags::empty()).ok()?;
    // The same open file as the caller's, so that its offset moves too.
    let file: File = pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty()).ok()?.into();
    i64::try_from(rustix::io::write(&file, &bytes[..bytes.len() / 2]).ok()?).ok()
}

/// Whether programs can be stopped here; says loudly why not.
pub(crate) fn is_available() -> bool {
    static SAID: Mutex<bool> = Mutex::new(false);
    let tried = std::thread::spawn(|| install().map(drop)).join().expect("because trying does not panic");
    if let Err(error) = &tried {
        let mut said = SAID.lock().unwrap();
        if !std::mem::replace(&mut *said, true) {
            eprintln!("SKIPPED: kills and errors at each call: no seccomp notifications here ({error})");
        }
    }
    tried.is_ok()
}
