//! Git: the only module that runs its binary, and that opens a repository with gix.
//!
//! Two ways to run the binary. [`plumbing`] knows only objects, refs and an index: it runs here, and nothing that a
//! repository's configuration names (filters, hooks, file monitors, text converters, transports) can run through it.
//! [`in_worktree`] reads or writes a worktree, where git has no switch against filters: it goes through a [`Launcher`],
//! confined like the agent. Both are told their folders; neither ever looks for a repository by itself.
//!
//! Refs are changed by compare and swap, through gix, in a repository opened for that one change: a cached `packed-refs`
//! could hide what another process did. Weak: a repository whose refs are a `reftable`, or whose hash is SHA-256, is
//! refused, and no command has a time limit.
#![expect(clippy::disallowed_methods, reason = "the one module that runs git")]

mod apart;
mod checkout;
mod commits;
mod identity;
mod objects;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gix::ObjectId;
use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};
use gix::refs::{FullName, Target};

use crate::clock;
use crate::environment;
use crate::store::{self, StoreError};

pub(crate) use apart::{Apart, Merged};
use checkout::as_user;
pub(crate) use checkout::{Checkout, Said, filters, line_ends, standing};
pub(crate) use commits::{
    added, bases, changed, count_commits, diff_stat, files_changed, is_within, line_of, missing, resolve,
    subjects,
};
pub(crate) use identity::{Identity, log_line, write_commit};
pub(crate) use objects::{Sort, blob_id, is_tree_name};

/// Who makes the commits and ref changes that gitspool makes itself.
const IDENTITY_NAME: &str = "gitspool";
const IDENTITY_EMAIL: &str = "gitspool@localhost";

/// How much of what git said an error repeats.
const SAID_BYTES_MAX: usize = 2_000;

/// What a command may read from the machine's and the user's configuration, and run.
const EVERYWHERE: &[&str] = &[
    "--no-pager",
    // A read must not write the index, which is the agent's.
    "--no-optional-locks",
    // `refs/replace/` could show another object than the one that is kept.
    "--no-replace-objects",
    // A program that `status` and `add` would run.
    "-c",
    "core.fsmonitor=false",
    // `post-checkout`, `post-index-change` and `reference-transaction` are programs.
    "-c",
    "core.hooksPath=/dev/null",
    // A cache inside the index, by which an agent could hide new files.
    "-c",
    "core.untrackedCache=false",
    // Would mark every file as unchanged for ever.
    "-c",
    "core.ignoreStat=false",
    // An index in two files, of which a copy would have one.
    "-c",
    "core.splitIndex=false",
    // By default git syncs neither loose objects nor refs.
    "-c",
    "core.fsync=all",
    "-c",
    "core.fsyncMethod=fsync",
    // Would reach into repositories of others below this one.
    "-c",
    "submodule.recurse=false",
    "-c",
    "diff.ignoreSubmodules=all",
    // No background process that outlives us and holds locks.
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
];

/// Holds for [`plumbing`] only: no object is fetched on demand, by whatever program a remote's address names.
const WITHOUT_WORKTREE: &[&str] = &["-c", "protocol.allow=never"];

/// Why something could not be done with git.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error(
        "cannot run git: no `git` in PATH; install it (`apt install git`, `dnf install git`, `brew install git`)"
    )]
    Missing,
    #[error("cannot run {program}: {source}")]
    NotStarted { program: String, source: std::io::Error },
    #[error("`git {command}` failed in {} ({status}): {said}", place.display())]
    Failed { command: String, place: PathBuf, status: std::process::ExitStatus, said: String },
    #[error("`git {command}` said what we do not understand: {said:?}")]
    Unread { command: String, said: String },
    #[error("cannot {action} in {}: {said}", repository.display())]
    Repository { action: String, repository: PathBuf, said: String },
    #[error("{name:?} cannot be the name of a ref: {said}")]
    RefName { name: String, said: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What stands before `git` when it works in a worktree: the launch stage and its arguments. Empty: git runs unconfined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launcher {
    pub(crate) prefix: Vec<OsString>,
}

/// Runs a git command that needs no worktree, and gives what it wrote; `git_dir` may be private to a worktree.
pub(crate) fn plumbing<S: AsRef<OsStr>>(git_dir: &Path, arguments: &[S]) -> Result<Vec<u8>, GitError> {
    output(plumber(git_dir), arguments, git_dir)
}

/// The same for a command that reads `input` on its stdin; the folder is private to us, and keeps it meanwhile.
pub(crate) fn plumbing_of<S: AsRef<OsStr>>(
    private: &Path,
    arguments: &[S],
    input: &[u8],
) -> Result<Vec<u8>, GitError> {
    let path = private.join("gitspool-input");
    store::remove(&path)?;
    store::create_new(&path, input, 0o600)?;
    let mut command = plumber(private);
    // A file, and no pipe: nobody waits for anybody.
    command.stdin(store::at("open", &path, File::open(&path))?);
    output(command, arguments, private)
}

/// The same as [`plumbing`], and what it writes goes to a file that is there, however long it is.
pub(crate) fn plumbing_to<S: AsRef<OsStr>>(
    git_dir: &Path,
    arguments: &[S],
    path: &Path,
) -> Result<(), GitError> {
    let mut command = plumber(git_dir);
    command.stdout(store::at("open", path, File::options().write(true).open(path))?);
    output(command, arguments, git_dir).map(drop)
}

fn plumber(git_dir: &Path) -> Command {
    let mut command = Command::new("git");
    prepare(&mut command, git_dir);
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_NO_LAZY_FETCH", "1");
    command.args(EVERYWHERE).args(WITHOUT_WORKTREE).arg(folder_option("--git-dir=", git_dir));
    command
}

/// Runs a git command in the worktree `root` through the launcher, and gives what it wrote.
///
/// The user's own configuration holds here (line ends, LFS, what is ignored); all that we need is in the arguments, so
/// that the launcher may give the command any environment.
pub(crate) fn in_worktree<S: AsRef<OsStr>>(
    launcher: &Launcher,
    git_dir: &Path,
    root: &Path,
    arguments: &[S],
) -> Result<Vec<u8>, GitError> {
    let mut words = launcher.prefix.iter().map(OsString::as_os_str).chain([OsStr::new("git")]);
    let mut command = Command::new(words.next().unwrap_or(OsStr::new("git")));
    command.args(words);
    prepare(&mut command, root);
    command
        .args(EVERYWHERE)
        .arg(folder_option("--git-dir=", git_dir))
        .arg(folder_option("--work-tree=", root));
    output(command, arguments, root)
}

/// Gives a command a clean environment, its folder, and nothing to read.
fn prepare(command: &mut Command, folder: &Path) {
    // Not one GIT_* of ours: each could point elsewhere than the arguments say.
    command.env_clear().envs(environment::inherited());
    // What it starts belongs to the run, and is found by that when its supervisor was killed.
    command.envs(environment::value(environment::RUN).map(|run| (environment::RUN, run)));
    command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0");
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), IDENTITY_NAME)
            .env(format!("GIT_{role}_EMAIL"), IDENTITY_EMAIL);
    }
    command.current_dir(folder).stdin(Stdio::null());
}

fn folder_option(option: &str, folder: &Path) -> OsString {
    let mut text = OsString::from(option);
    text.push(folder);
    text
}

fn output<S: AsRef<OsStr>>(mut command: Command, arguments: &[S], place: &Path) -> Result<Vec<u8>, GitError> {
    command.args(arguments);
    let output = command.output().map_err(|source| {
        let program = command.get_program();
        // A missing working directory is the same error, so it is told apart here.
        if source.kind() == std::io::ErrorKind::NotFound && program == "git" && place.is_dir() {
            GitError::Missing
        } else {
            GitError::NotStarted { program: format!("{} in {}", program.display(), place.display()), source }
        }
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said =
        String::from_utf8_lossy(&output.stderr[..output.stderr.len().min(SAID_BYTES_MAX)]).trim().to_owned();
    Err(GitError::Failed {
        command: first_word(arguments),
        place: place.to_owned(),
        status: output.status,
        said,
    })
}

fn first_word<S: AsRef<OsStr>>(arguments: &[S]) -> String {
    arguments
        .iter()
        .map(|word| word.as_ref().to_string_lossy())
        .find(|word| !word.starts_with('-') && !word.contains('='))
        .map_or_else(String::new, std::borrow::Cow::into_owned)
}

/// Runs a command of [`plumbing`] that answers with one object's id.
pub(crate) fn object_of<S: AsRef<OsStr>>(git_dir: &Path, arguments: &[S]) -> Result<ObjectId, GitError> {
    let said = plumbing(git_dir, arguments)?;
    ObjectId::from_hex(said.trim_ascii_end()).map_err(|_| unread(first_word(arguments), &said))
}

/// What a command said, and we cannot read.
pub(crate) fn unread(command: String, said: &[u8]) -> GitError {
    GitError::Unread { command, said: String::from_utf8_lossy(said).into_owned() }
}

/// Where `HEAD` stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    /// The commit; `None` when the branch has none, or is gone.
    pub(crate) commit: Option<ObjectId>,
    /// The full name of the branch; `None` when detached.
    pub(crate) branch: Option<String>,
}

/// A repository as it was when it was opened.
pub(crate) struct Repository {
    gix: gix::Repository,
}

/// A commit's own fields.
pub(crate) struct Commit {
    pub(crate) tree: ObjectId,
    pub(crate) parents: Vec<ObjectId>,
    pub(crate) message: String,
}

/// The repository to which `directory` belongs, and the top of the checkout that it lies in; no top when it is bare.
pub(crate) fn find(directory: &Path) -> Result<Option<(Repository, Option<PathBuf>)>, GitError> {
    let Ok((found, _)) = gix::discover::upwards(directory) else { return Ok(None) };
    let (git_dir, top) = found.into_repository_and_work_tree_directories();
    Ok(Some((Repository::open(&git_dir)?, top)))
}

/// Whether `folder` itself is a repository, a checkout, or the inside of a `.git`.
pub(crate) fn is_repository(folder: &Path) -> bool {
    store::exists(&folder.join(".git")) || gix::discover::is_git(folder).is_ok()
}

impl Repository {
    /// Opens a `.git`, or the administrative folder of a worktree; reads no configuration but the repository's own.
    pub(crate) fn open(git_dir: &Path) -> Result<Repository, GitError> {
        let options = gix::open::Options::isolated()
            .open_path_as_is(true)
            // A branch's log says which run made it, so there has to be one.
            .config_overrides(["core.logAllRefUpdates=true"]);
        let gix = gix::open_opts(git_dir, options)
            .map_err(|error| failed("open the repository", git_dir, &error))?;
        Ok(Repository { gix })
    }

    /// Git's folder for this checkout.
    pub(crate) fn git_dir(&self) -> &Path {
        self.gix.git_dir()
    }

    /// Git's folder that all worktrees share.
    pub(crate) fn common_dir(&self) -> &Path {
        self.gix.common_dir()
    }

    pub(crate) fn head(&self) -> Result<Head, GitError> {
        let mut head = self.gix.head().map_err(|error| self.failed("read HEAD", &error))?;
        let branch = head.referent_name().map(|name| name.as_bstr().to_string());
        let commit = head.try_peel_to_id().map_err(|error| self.failed("read HEAD", &error))?;
        Ok(Head { commit: commit.map(gix::Id::detach), branch })
    }

    /// Reads a commit; `None` when it is not there or is something else.
    pub(crate) fn commit(&self, id: ObjectId) -> Option<Commit> {
        let commit = self.gix.find_commit(id).ok()?;
        Some(Commit {
            tree: commit.tree_id().ok()?.detach(),
            parents: commit.parent_ids().map(gix::Id::detach).collect(),
            message: commit.message_raw_sloppy().to_string(),
        })
    }

    /// Whether `commit` has a folder at `path`.
    pub(crate) fn has_folder(&self, commit: ObjectId, path: &Path) -> Result<bool, GitError> {
        let tree = self.gix.find_commit(commit).and_then(|commit| commit.tree());
        let entry = tree.and_then(|tree| tree.lookup_entry_by_path(path));
        let entry = entry.map_err(|error| self.failed(&format!("look up {}", path.display()), &error))?;
        Ok(entry.is_some_and(|entry| entry.mode().is_tree()))
    }

    /// The commit of a ref with its full name; `None` when there is none.
    pub(crate) fn ref_value(&self, name: &str) -> Result<Option<ObjectId>, GitError> {
        let action = format!("read {name}");
        let name = full_name(name)?;
        let found =
            self.gix.try_find_reference(name.as_ref()).map_err(|error| self.failed(&action, &error))?;
        let Some(mut found) = found else { return Ok(None) };
        let id = found.peel_to_id().map_err(|error| self.failed(&action, &error))?;
        Ok(Some(id.detach()))
    }

    /// Sets a ref from `old`, which is `None` for one that must not exist yet, and makes it durable.
    pub(crate) fn set_ref(
        &self,
        name: &str,
        old: Option<ObjectId>,
        new: ObjectId,
        why: &str,
    ) -> Result<(), GitError> {
        let expected = match old {
            None => PreviousValue::MustNotExist,
            Some(old) => PreviousValue::MustExistAndMatch(Target::Object(old)),
        };
        let log = LogChange { message: why.into(), ..LogChange::default() };
        let change = Change::Update { log, expected, new: Target::Object(new) };
        self.edit(&format!("set {name}"), RefEdit { change, name: full_name(name)?, deref: false })?;
        let common = self.common_dir();
        let file = common.join(name);
        store::sync_file(&file)?;
        for folder in file.ancestors().skip(1).take_while(|folder| folder.starts_with(common)) {
            store::sync_dir(folder)?;
        }
        Ok(())
    }

    /// Deletes a ref that still has the value `old`.
    pub(crate) fn delete_ref(&self, name: &str, old: ObjectId) -> Result<(), GitError> {
        let expected = PreviousValue::MustExistAndMatch(Target::Object(old));
        let change = Change::Delete { expected, log: RefLog::AndReference };
        self.edit(&format!("delete {name}"), RefEdit { change, name: full_name(name)?, deref: false })
    }

    fn edit(&self, action: &str, edit: RefEdit) -> Result<(), GitError> {
        let time = format!("{} +0000", clock::now().seconds());
        let who = gix::actor::SignatureRef {
            name: IDENTITY_NAME.into(),
            email: IDENTITY_EMAIL.into(),
            time: &time,
        };
        self.gix.edit_references_as([edit], Some(who)).map_err(|error| self.failed(action, &error))?;
        Ok(())
    }

    fn failed(&self, action: &str, error: &gix::Error) -> GitError {
        failed(action, self.git_dir(), error)
    }
}

fn full_name(name: &str) -> Result<FullName, GitError> {
    FullName::try_from(name)
        .map_err(|error| GitError::RefName { name: name.to_owned(), said: error.to_string() })
}

/// Whether `name` can be a branch's.
pub(crate) fn is_branch_name(name: &str) -> bool {
    let plain = !name.starts_with('-') && name != "HEAD" && !name.contains("@{");
    plain && full_name(&format!("refs/heads/{name}")).is_ok()
}

fn failed(action: &str, repository: &Path, error: &gix::Error) -> GitError {
    let said = error.iter_errors().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    GitError::Repository { action: action.to_owned(), repository: repository.to_owned(), said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_name_is_what_git_takes_for_one() {
        for good in ["a", "gitspool/fix-1", "x.y"] {
            assert!(is_branch_name(good), "{good}");
        }
        for bad in ["", "-a", "a..b", "a.lock", "a b", "HEAD", "a/", "a@{1}", "a\nb"] {
            assert!(!is_branch_name(bad), "{bad}");
        }
    }
}
