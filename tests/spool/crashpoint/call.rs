//! What a stopped call is about: who makes it, on which file.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use crate::sandbox::{entries, name_of};

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    CommandLine,
    Daemon,
    Supervisor,
    Launch,
    Stage,
    Notifier,
    Git,
    /// Agents, and the processes of the test itself.
    Other,
}

impl Role {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Role::CommandLine => "cli",
            Role::Daemon => "daemon",
            Role::Supervisor => "supervisor",
            Role::Launch => "launch",
            Role::Stage => "stage",
            Role::Notifier => "notifier",
            Role::Git => "git",
            Role::Other => "other",
        }
    }
}

/// A call that was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Its number among those that are numbered; 0 when it is none of them.
    pub(crate) number: u64,
    pub(crate) role: Role,
    pub(crate) name: &'static str,
    /// Who, what and where: `daemon rename spool/inbox/a.json -> spool/.local/claimed/ID.a.json`.
    pub(crate) description: String,
    /// It was made to fail.
    pub(crate) failed: bool,
    /// Where it acts.
    place: Place,
    /// What a panicking thread says with it.
    pub(super) panic: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On a file below a root.
    Inside,
    Pipe,
    /// On no file: a new process or thread, another program.
    Nowhere,
    Elsewhere,
}

impl Call {
    pub(crate) fn counts(&self, pipes: bool) -> bool {
        match self.place {
            Place::Inside | Place::Nowhere => self.role != Role::Other,
            Place::Pipe => pipes && self.role != Role::Other,
            Place::Elsewhere => false,
        }
    }

    /// Whether it makes a file durable.
    pub(crate) fn is_synced(&self) -> bool {
        matches!(self.name, "fsync" | "fdatasync") && !self.failed
    }

    /// Whether a full disk refuses it.
    pub(crate) fn needs_space(&self) -> bool {
        let frees = ["unlink", "unlinkat", "rmdir", "ftruncate", "truncate", "flock"];
        self.place == Place::Inside && !frees.contains(&self.name)
    }
}

/// How to read the arguments of a call.
enum Form {
    /// A descriptor, in the first argument.
    Descriptor,
    /// A path, from the current folder; in the argument of this number.
    Path(usize),
    /// A folder's descriptor and a path, in the arguments from this number on.
    At(usize),
    /// Two of these.
    Paths,
    TwoAt(usize, usize),
    /// The second descriptor is written to.
    Second,
    Nothing,
}

/// The name of a call, and where its arguments are.
fn form_of(number: i64) -> Option<(&'static str, Form)> {
    #[cfg(target_arch = "x86_64")]
    match number {
        libc::SYS_open => return Some(("open", Form::Path(0))),
        libc::SYS_creat => return Some(("creat", Form::Path(0))),
        libc::SYS_rename => return Some(("rename", Form::Paths)),
        libc::SYS_link => return Some(("link", Form::Paths)),
        libc::SYS_symlink => return Some(("symlink", Form::Path(1))),
        libc::SYS_unlink => return Some(("unlink", Form::Path(0))),
        libc::SYS_rmdir => return Some(("rmdir", Form::Path(0))),
        libc::SYS_mkdir => return Some(("mkdir", Form::Path(0))),
        libc::SYS_mknod => return Some(("mknod", Form::Path(0))),
        libc::SYS_chmod => return Some(("chmod", Form::Path(0))),
        libc::SYS_fork => return Some(("fork", Form::Nothing)),
        libc::SYS_vfork => return Some(("vfork", Form::Nothing)),
        _ => {}
    }
    Some(match number {
        libc::SYS_write => ("write", Form::Descriptor),
        libc::SYS_pwrite64 => ("pwrite64", Form::Descriptor),
        libc::SYS_writev => ("writev", Form::Descriptor),
        libc::SYS_pwritev => ("pwritev", Form::Descriptor),
        libc::SYS_pwritev2 => ("pwritev2", Form::Descriptor),
        libc::SYS_sendfile => ("sendfile", Form::Descriptor),
        libc::SYS_copy_file_range => ("copy_file_range", Form::Second),
        libc::SYS_splice => ("splice", Form::Second),
        libc::SYS_openat => ("openat", Form::At(0)),
        libc::SYS_openat2 => ("openat2", Form::At(0)),
        libc::SYS_renameat => ("renameat", Form::TwoAt(0, 2)),
        libc::SYS_renameat2 => ("renameat2", Form::TwoAt(0, 2)),
        libc::SYS_linkat => ("linkat", Form::TwoAt(0, 2)),
        libc::SYS_symlinkat => ("symlinkat", Form::At(1)),
        libc::SYS_unlinkat => ("unlinkat", Form::At(0)),
        libc::SYS_mkdirat => ("mkdirat", Form::At(0)),
        libc::SYS_mknodat => ("mknodat", Form::At(0)),
        libc::SYS_fchmodat => ("fchmodat", Form::At(0)),
        libc::SYS_utimensat => ("utimensat", Form::At(0)),
        libc::SYS_truncate => ("truncate", Form::Path(0)),
        libc::SYS_ftruncate => ("ftruncate", Form::Descriptor),
        libc::SYS_fallocate => ("fallocate", Form::Descriptor),
        libc::SYS_fsync => ("fsync", Form::Descriptor),
        libc::SYS_fdatasync => ("fdatasync", Form::Descriptor),
        libc::SYS_syncfs => ("syncfs", Form::Descriptor),
        libc::SYS_sync_file_range => ("sync_file_range", Form::Descriptor),
        libc::SYS_fchmod => ("fchmod", Form::Descriptor),
        libc::SYS_flock => ("flock", Form::Descriptor),
        libc::SYS_clone => ("clone", Form::Nothing),
        libc::SYS_clone3 => ("clone3", Form::Nothing),
        libc::SYS_execve => ("execve", Form::Nothing),
        libc::SYS_execveat => ("execveat", Form::Nothing),
        _ => return None,
    })
}

/// Describes a stopped call; `None` when its caller is gone.
pub(super) fn describe(asked: &libc::seccomp_notif, roots: &[PathBuf]) -> Option<Call> {
    let (name, form) = form_of(asked.data.nr.into())?;
    let role = role_of(asked.pid);
    let argument = |number: usize| asked.data.args[number];
    let at = |number: usize| path_at(asked.pid, Some(argument(number)), argument(number + 1));
    let paths: Vec<PathBuf> = match form {
        Form::Descriptor => vec![descriptor(asked.pid, argument(0))?],
        Form::Second => vec![descriptor(asked.pid, argument(2))?],
        Form::Path(number) => vec![path_at(asked.pid, None, argument(number))?],
        Form::At(number) => vec![at(number)?],
        Form::Paths => vec![path_at(asked.pid, None, argument(0))?, path_at(asked.pid, None, argument(1))?],
        Form::TwoAt(first, second) => vec![at(first)?, at(second)?],
        Form::Nothing => vec![],
    };
    let is_inside = |path: &PathBuf| roots.iter().any(|root| path.starts_with(root));
    let place = match &paths[..] {
        [] => Place::Nowhere,
        paths if paths.iter().any(is_inside) => Place::Inside,
        [path, ..] if name_of(path).starts_with("pipe:") => Place::Pipe,
        _ => Place::Elsewhere,
    };
    let top = roots.first().and_then(|root| root.parent()).unwrap_or(Path::new("/"));
    let shown: Vec<String> = paths.iter().map(|path| shape(path.strip_prefix(top).unwrap_or(path))).collect();
    let description = format!("{} {name} {}", role.word(), shown.join(" -> ")).trim_end().to_owned();
    let panic = (name == "write" && role != Role::Other)
        .then(|| written(asked))
        .flatten()
        .map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned())
        .filter(|text| place != Place::Inside && text.contains("panicked at"));
    Some(Call { number: 0, role, name, description, failed: false, place, panic })
}

/// A path with what differs between two runs of the same thing replaced: ids, secrets and pids, dates.
fn shape(path: &Path) -> String {
    let part = |component: Component<'_>| {
        let text = component.as_os_str().to_string_lossy().into_owned();
        let aside = text.split_once('-').is_some_and(|(pid, secret)| {
            pid.parse::<u32>().is_ok() && secret.len() == 32 && secret.chars().all(|c| c.is_ascii_hexdigit())
        });
        if aside { "ASIDE".to_owned() } else { without_ids(&text) }
    };
    path.components().map(part).collect::<Vec<_>>().join("/").replace("//", "/")
}

fn without_ids(text: &str) -> String {
    let pattern = |text: &str, form: &str| {
        text.len() >= form.len()
            && text.chars().zip(form.chars()).all(|(c, f)| match f {
                'x' => c.is_ascii_hexdigit(),
                '9' => c.is_ascii_digit(),
                f => c == f,
            })
    };
    let known =
        [("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "ID"), ("9999-99-99", "DATE"), ("pipe:[", "pipe:[")];
    let mut shown = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match known.iter().find(|(form, _)| pattern(rest, form)) {
            Some((_, "pipe:[")) => return "PIPE".to_owned(),
            Some((form, word)) => {
                shown.push_str(word);
                rest = &rest[form.len()..];
            }
            None => {
                shown.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    shown
}

/// What a `write` asks for: the descriptor, and the bytes.
pub(super) fn written(asked: &libc::seccomp_notif) -> Option<(i32, Vec<u8>)> {
    if i64::from(asked.data.nr) != libc::SYS_write {
        return None;
    }
    let length = usize::try_from(asked.data.args[2]).ok()?;
    let mut bytes = vec![0; length];
    let read = memory(asked.pid)?.read_at(&mut bytes, asked.data.args[1]).ok()?;
    bytes.truncate(read);
    Some((descriptor_number(asked.data.args[0]), bytes))
}

fn memory(thread: u32) -> Option<File> {
    File::open(format!("/proc/{thread}/mem")).ok()
}

/// A descriptor in a register: its lower half counts.
#[expect(clippy::cast_possible_truncation, reason = "the kernel does the same")]
fn descriptor_number(register: u64) -> i32 {
    register as u32 as i32
}

fn descriptor(thread: u32, register: u64) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{thread}/fd/{}", descriptor_number(register))).ok()
}

fn path_at(thread: u32, folder: Option<u64>, address: u64) -> Option<PathBuf> {
    let path = text(thread, address)?;
    let from = match folder {
        _ if path.is_absolute() => return Some(path),
        Some(folder) if descriptor_number(folder) != libc::AT_FDCWD => descriptor(thread, folder)?,
        Some(_) | None => fs::read_link(format!("/proc/{thread}/cwd")).ok()?,
    };
    Some(if path.as_os_str().is_empty() { from } else { from.join(path) })
}

/// A text in a thread's memory, which ends with NUL; empty when there is none.
fn text(thread: u32, address: u64) -> Option<PathBuf> {
    const PAGE: u64 = 4096;
    let memory = memory(thread)?;
    let mut bytes: Vec<u8> = Vec::new();
    let mut from = address;
    while address != 0 && bytes.len() < 8192 {
        // The page behind may not be there.
        let mut part = vec![0; usize::try_from(PAGE - from % PAGE).ok()?];
        memory.read_exact_at(&mut part, from).ok()?;
        let end = part.iter().position(|byte| *byte == 0);
        bytes.extend(&part[..end.unwrap_or(part.len())]);
        if end.is_some() {
            break;
        }
        from += part.len() as u64;
    }
    Some(PathBuf::from(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The process of a thread.
pub(super) fn process_of(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// What a process or thread is; a new process is what its parent is until it becomes another program.
pub(super) fn role_of(thread: u32) -> Role {
    let program = fs::read_link(format!("/proc/{thread}/exe")).map(|path| name_of(&path)).unwrap_or_default();
    // The program may be built anew meanwhile.
    let program = program.trim_end_matches(" (deleted)");
    if program == "git" || program.starts_with("git-") {
        return Role::Git;
    }
    if program != "gitspool" {
        return Role::Other;
    }
    let arguments = fs::read(format!("/proc/{thread}/cmdline")).unwrap_or_default();
    let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
    match arguments.get(1).copied().unwrap_or_default() {
        b"supervise" => Role::Supervisor,
        b"launch" => Role::Launch,
        b"workspace" => Role::Stage,
        b"notify" => Role::Notifier,
        _ if arguments.contains(&&b"daemon"[..]) => Role::Daemon,
        _ => Role::CommandLine,
    }
}

/// The processes that have this variable and are under a filter: not those that were started since to recover.
pub(super) fn marked(marker: &str) -> Vec<u32> {
    let numbers =
        entries(Path::new("/proc")).into_iter().filter_map(|path| name_of(&path).parse::<u32>().ok());
    let is_filtered = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == "Seccomp:\t2")
    };
    let has = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
    };
    numbers.filter(is_filtered).filter(has).collect()
}
