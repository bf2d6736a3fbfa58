//! `gitspool doctor`: checks what gitspool relies on, and says what to do about what is missing.

mod queues;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use super::{Answer, CliError, Context, print, print_json};
use crate::agent;
use crate::audit::{Kind, Severity};
use crate::clock;
use crate::escape;
use crate::fsck;
use crate::git;
use crate::id::Name;
use crate::layout::Layout;
use crate::lease::{self, Writers};
use crate::lock;
use crate::reclaim;
use crate::reserve;
use crate::shortage::Room;
use crate::spool::{self, Spool};
use crate::store;

/// The oldest git that does all that is asked of it.
const GIT_MIN: (u32, u32) = (2, 40);

/// Check what gitspool relies on; exit with 0 when nothing has failed
#[derive(clap::Args)]
pub(super) struct Arguments {}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// It works, but not as well as it could.
    Warn,
    Fail,
}

/// A check's result.
#[derive(Debug)]
struct Finding {
    verdict: Verdict,
    what: String,
    fix: String,
}

fn ok(what: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Ok, what: what.into(), fix: String::new() }
}

fn warn(what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Warn, what: what.into(), fix: fix.into() }
}

fn fail(what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Fail, what: what.into(), fix: fix.into() }
}

pub(super) fn run(context: &Context, _: &Arguments) -> Result<Answer, CliError> {
    let root = context.root()?;
    let mut findings = Vec::new();
    match spool::open(&root) {
        Ok(spool) => check_spool(&spool, &mut findings),
        Err(error) => findings.push(fail(error.to_string(), "")),
    }
    findings.push(check_git(Path::new("/")));
    for finding in &findings {
        let Finding { verdict, what, fix } = finding;
        let word = match verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        if context.json {
            print_json(&json!({"verdict": word, "what": what, "fix": fix}))?;
        } else {
            let fix = if fix.is_empty() { String::new() } else { format!("  -> {}", escape::line(fix)) };
            print(&format!("{word:<4}  {}{fix}\n", escape::line(what)))?;
        }
    }
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed { Answer::No } else { Answer::Yes })
}

/// Worktrees that were to go and could not.
fn check_worktrees(spool: &Spool, findings: &mut Vec<Finding>) {
    for worktree in reclaim::standing(spool).unwrap_or_default() {
        for blocker in &worktree.blockers {
            let what = format!("the worktree of {} was to go, and stays: {}", worktree.run, blocker.what);
            findings.push(warn(
                what,
                format!(
                    "look at {}; it is looked at again each day and by `gitspool gc`",
                    worktree.root.display()
                ),
            ));
        }
    }
}

fn check_spool(spool: &Spool, findings: &mut Vec<Finding>) {
    let layout = &spool.layout;
    check_worktrees(spool, findings);
    findings.push(ok(format!("{} is a spool of format {}", layout.root().display(), spool.settings.format)));
    for folder in layout.folders() {
        findings.extend(check_folder(&folder, folder == layout.inbox()));
    }
    if findings.iter().all(|finding| finding.verdict == Verdict::Ok) {
        findings.push(ok("its folders are there, and nobody else's"));
    }
    let state = spool.state().spool_state();
    findings.push(check_state_dir(&state));
    for (what, path) in [("the spool", layout.root()), ("the state directory", nearest(&state))] {
        findings.push(check_file_system(what, path));
    }
    findings.extend(check_room(layout));
    findings.push(check_locks(layout));
    findings.push(check_leases(layout));
    findings.extend(spool.settings.directory.as_deref().map(check_directory));
    queues::check_queues(layout, findings);
    queues::check_notifiers(layout, findings);
    findings.extend(queues::check_host(spool));
    findings.extend(queues::check_retention(spool));
    check_agents(layout, findings);
    findings.push(check_files(spool));
}

fn check_folder(folder: &Path, is_inbox: bool) -> Option<Finding> {
    let shown = folder.display();
    let metadata = match std::fs::symlink_metadata(folder) {
        Ok(metadata) => metadata,
        // That it is missing is found by fsck.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(fail(format!("{shown}: {error}"), "")),
    };
    if !metadata.is_dir() {
        return Some(fail(format!("{shown} is no folder"), "move it away, then `gitspool init`"));
    }
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != us {
        return Some(fail(
            format!("{shown} belongs to user {}, not to {us}", metadata.uid()),
            format!("chown it to {us}"),
        ));
    }
    let fix = format!("chmod 700 {shown}");
    match metadata.mode() & 0o777 {
        0o700 => None,
        mode if mode & 0o022 != 0 && is_inbox => {
            Some(fail(format!("others can write to {shown}, so commands are refused"), fix))
        }
        mode if mode & 0o022 != 0 => Some(fail(format!("others can write to {shown}"), fix)),
        mode if mode & 0o700 == 0o700 => Some(warn(format!("others can read {shown}"), fix)),
        mode => Some(fail(format!("{shown} has the mode {mode:o}"), fix)),
    }
}

fn check_state_dir(state: &Path) -> Finding {
    let shown = state.display();
    let elsewhere = "set GITSPOOL_STATE_DIR to a folder of yours outside any repository";
    if let Some(repository) = state.ancestors().find(|folder| folder.is_dir() && git::is_repository(folder)) {
        return fail(
            format!("the state directory {shown} lies in the repository {}", repository.display()),
            elsewhere,
        );
    }
    let there = nearest(state);
    if rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_err() {
        return fail(
            format!("{} cannot be written to, and the state directory lies in it", there.display()),
            elsewhere,
        );
    }
    ok(format!("the state directory {shown} can be written to, outside any repository"))
}

/// Checks the place of tasks that name none.
fn check_directory(directory: &Path) -> Finding {
    let shown = directory.display();
    if directory.is_dir() {
        return ok(format!("tasks without a directory work in {shown}"));
    }
    let fix = "make it, or give another `directory` in spool.json and start the daemon anew";
    fail(format!("{shown}, where tasks without a directory work, is no folder"), fix)
}

/// The path itself, or the nearest one above it that is there.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(path)
}

#[cfg(target_os = "linux")]
fn check_file_system(what: &str, path: &Path) -> Finding {
    // The field has another width on other machines, the numbers have 32 bits.
    let kind = rustix::fs::statfs(path).map(|found| file_system(found.f_type as u64 & 0xffff_ffff));
    match kind {
        Ok((name, None)) => ok(format!("{what} lies on {name}")),
        Ok((name, Some(trouble))) => warn(
            format!("{what} lies on {name}: {trouble}"),
            "move it to a local file system, such as ext4, xfs or btrfs",
        ),
        Err(error) => warn(format!("the file system of {} is not known: {error}", path.display()), ""),
    }
}

#[cfg(not(target_os = "linux"))]
fn check_file_system(what: &str, _path: &Path) -> Finding {
    warn(format!("the file system of {what} is not known"), "see to it that it is a local one")
}

/// A file system by the number that the kernel has for it, and what is wrong with it for us.
#[cfg(target_os = "linux")]
fn file_system(magic: u64) -> (String, Option<&'static str>) {
    let remote = Some("locks and renames between machines are not to be relied on, and there are no hints");
    let (name, trouble) = match magic {
        0xef53 => ("ext4", None),
        0x5846_5342 => ("xfs", None),
        0x9123_683e => ("btrfs", None),
        0xf2f5_2010 => ("f2fs", None),
        0x2fc1_2fc1 => ("zfs", None),
        0xca45_1a4e => ("bcachefs", None),
        0x6969 => ("NFS", remote),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => ("CIFS", remote),
        0x0102_1997 => ("9p", remote),
        0x6573_5546 => ("FUSE", Some("whether locks and renames hold depends on what is behind it")),
        0x794c_7630 => ("overlayfs", Some("it ends with its container")),
        0x0102_1994 => ("tmpfs", Some("nothing there survives a restart")),
        _ => return (format!("a file system with the number {magic:#x}"), None),
    };
    (name.to_owned(), trouble)
}

/// Whether the daemon has room to admit and start, and the reserve for when it has none.
fn check_room(layout: &Layout) -> Option<Finding> {
    let room = store::room(layout.root())?;
    let whole = reserve::is_whole(layout);
    let kept = if whole { 0 } else { u64::from(reserve::FILES) * reserve::FILE_BYTES };
    let left = Room { bytes: room.bytes.saturating_sub(kept), ..room };
    let inodes = room.inodes.map(|free| format!(" and {free} files")).unwrap_or_default();
    let free = format!("{} bytes{inodes} are free for the spool", room.bytes);
    if left.is_enough() {
        return Some(ok(free));
    }
    let reserve = if whole { "" } else { ", and the reserve is not whole" };
    let fix = format!("{}: {} bytes are needed", left.lack().way_out(), kept + Room::NEEDED.bytes);
    Some(fail(format!("only {free}{reserve}: nothing is admitted or started for want of room"), fix))
}

/// Whether a lock that is held is seen, and one that has ended is not.
fn check_locks(layout: &Layout) -> Finding {
    let probe = layout.aside(std::process::id(), &clock::new_secret());
    let works = || {
        let held = lock::try_exclusive(&probe)?;
        let seen = held.is_some() && lock::is_held(&probe)?;
        drop(held);
        Ok::<_, store::StoreError>(seen && !lock::is_held(&probe)?)
    };
    let found = works();
    // A probe that stays behind is found by fsck.
    let _ = store::remove(&probe);
    match found {
        Ok(true) => ok("locks work"),
        Ok(false) => fail("locks (flock) do not work here", "move the spool to a local file system"),
        Err(error) => fail(format!("locks cannot be tried: {error}"), "make .local/tmp writable"),
    }
}

/// Whether the kernel tells that somebody has a file open for writing.
fn check_leases(layout: &Layout) -> Finding {
    let probe = layout.aside(std::process::id(), &clock::new_secret());
    let ask = || {
        let writer = store::create_new(&probe, b"", 0o600)?;
        let reader = store::open_dropped(&probe)?;
        let with_writer = lease::writers(&reader);
        drop(writer);
        Ok::<_, store::StoreError>((with_writer, lease::writers(&reader)))
    };
    let found = ask();
    let _ = store::remove(&probe);
    match found {
        Ok((Writers::Some, Writers::None)) => {
            ok("leases work: a dropped file is taken as soon as it is closed")
        }
        Ok(_) => warn(
            "leases do not work here: a dropped file is taken only after it has been quiet for settle_ms",
            "drop files by `mv` from the same file system",
        ),
        Err(error) => fail(format!("leases cannot be tried: {error}"), "make .local/tmp writable"),
    }
}

fn check_agents(layout: &Layout, findings: &mut Vec<Finding>) {
    let names = match store::names(&layout.agents()) {
        Ok(names) => names,
        Err(error) => return findings.push(fail(error.to_string(), "")),
    };
    let agents = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse::<Name>().ok());
    let agents: Vec<Name> = agents.collect();
    for name in &agents {
        let path = layout.agent(name);
        findings.push(match store::read(&path).map(|bytes| agent::parse(&bytes)) {
            Ok(Ok(_)) => ok(format!("agent {name} has a profile")),
            Ok(Err(refusal)) => {
                fail(format!("{}: {refusal}", path.display()), "its tasks are refused until it is right")
            }
            Err(error) => fail(error.to_string(), ""),
        });
    }
    if !agents.iter().any(|name| name.as_str() == agent::DEFAULT) {
        let name = agent::DEFAULT.parse().expect("because it is a name");
        let fix = agent::no_profile(&name, "it is not there").hint.unwrap_or_default();
        findings.push(warn("there is no default agent: prompts without `agent` are refused", fix));
    }
}

/// Whether the spool is as its specification says; `fsck` tells what is not.
fn check_files(spool: &Spool) -> Finding {
    let findings = match fsck::check(spool) {
        Ok(findings) => findings,
        Err(error) => return fail(error.to_string(), ""),
    };
    let Some(first) = findings.first() else {
        return ok("its files are as they should be: fsck finds nothing");
    };
    let what =
        format!("fsck finds {} things wrong, the first in {}: {}", findings.len(), first.path, first.what);
    let fix = "see `gitspool fsck`; what the logs can mend `gitspool fsck --repair` does";
    // Without its folders it does not work.
    let is_grave = |kind: Kind| kind == Kind::FolderMissing || kind.severity() == Severity::Must;
    match findings.iter().any(|finding| is_grave(finding.kind)) {
        true => fail(what, fix),
        false => warn(what, fix),
    }
}

fn check_git(folder: &Path) -> Finding {
    let fix = "install git 2.40 or newer";
    let said = match git::plumbing(folder, &["version"]) {
        Ok(said) => String::from_utf8_lossy(&said).trim().to_owned(),
        Err(error) => return fail(error.to_string(), fix),
    };
    match git_version(&said) {
        Some(version) if version >= GIT_MIN => ok(said),
        Some(_) => fail(format!("{said} is too old"), fix),
        None => warn(format!("git says {said:?}, which tells no version"), fix),
    }
}

/// Reads `git version 2.47.1 (Apple Git-1)`.
fn git_version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("git version ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_compared_by_its_numbers() {
        assert_eq!(git_version("git version 2.47.1 (Apple Git-1)"), Some((2, 47)));
        assert!(git_version("git version 2.9.5").unwrap() < GIT_MIN);
        assert_eq!(git_version("hub version"), None);
    }

    #[test]
    fn an_inbox_that_others_can_write_to_fails() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let chmod = |mode| std::fs::Permissions::from_mode(mode);
        for (mode, verdict) in [
            (0o700, None),
            (0o755, Some(Verdict::Warn)),
            (0o770, Some(Verdict::Fail)),
            (0o500, Some(Verdict::Fail)),
        ] {
            std::fs::File::open(folder.path()).unwrap().set_permissions(chmod(mode)).unwrap();
            assert_eq!(check_folder(folder.path(), true).map(|finding| finding.verdict), verdict, "{mode:o}");
        }
    }

    #[test]
    fn a_fresh_spool_has_locks() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        store::make_dir(&layout.tmp()).unwrap();
        assert_eq!(check_locks(&layout).verdict, Verdict::Ok);
        assert_eq!(store::names(&layout.tmp()).unwrap(), [""; 0], "probes are removed");
    }
}
