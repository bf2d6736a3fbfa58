//! Git in a checkout of the user's, as the user: with the user's configuration, and with an index that is named.
//!
//! Hooks never run. Of filters only those of the machine's and the user's own configuration: what the repository's says of
//! them is made empty, since an agent may have written it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use gix::ObjectId;

use super::{
    EVERYWHERE, GitError, IDENTITY_EMAIL, IDENTITY_NAME, SAID_BYTES_MAX, environment, first_word,
    folder_option, plumbing, prepare,
};
use crate::store;

/// What a command answered that can say no.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) yes: bool,
    pub(crate) out: Vec<u8>,
    /// The begin of what it said beside that.
    pub(crate) err: String,
}

impl Said {
    /// Runs a command whose exit code is 0 for yes, and 1 for no.
    pub(super) fn of<S: AsRef<OsStr>>(
        mut command: Command,
        arguments: &[S],
        place: &Path,
    ) -> Result<Said, GitError> {
        let program = command.get_program().display().to_string();
        let output = command.args(arguments).output().map_err(|source| GitError::NotStarted {
            program: format!("{program} in {}", place.display()),
            source,
        })?;
        let err = String::from_utf8_lossy(&output.stderr[..output.stderr.len().min(SAID_BYTES_MAX)])
            .trim()
            .to_owned();
        match output.status.code() {
            Some(code @ (0 | 1)) => Ok(Said { yes: code == 0, out: output.stdout, err }),
            Some(_) | None => Err(GitError::Failed {
                command: first_word(arguments),
                place: place.to_owned(),
                status: output.status,
                said: err,
            }),
        }
    }
}

/// Git as the user would run it in `folder`, but for what else is given.
pub(super) fn as_user(folder: &Path) -> Command {
    let mut command = Command::new("git");
    prepare(&mut command, folder);
    let more = ["XDG_CONFIG_HOME", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_GLOBAL"];
    command.envs(more.iter().filter_map(|name| Some((*name, environment::value(name)?))));
    command
}

/// The filters that any configuration names.
pub(crate) fn filters(common: &Path) -> Result<Vec<String>, GitError> {
    let words = ["config", "-z", "--name-only", "--get-regexp", r"^filter\..*\.(clean|process)$"];
    let said = Said::of(as_user_of(common), &words, common)?;
    let text = String::from_utf8_lossy(&said.out).into_owned();
    let name = |key: &str| Some(key.strip_prefix("filter.")?.rsplit_once('.')?.0.to_owned());
    Ok(text.split('\0').filter_map(name).collect())
}

/// What the user's configuration and the repository's say of the ends of lines.
pub(crate) fn line_ends(common: &Path) -> Result<Vec<String>, GitError> {
    let mut found = Vec::new();
    for key in ["core.autocrlf", "core.eol"] {
        let said = Said::of(as_user_of(common), &["config", "--get", key], common)?;
        if said.yes {
            found.push(format!("{key}={}", String::from_utf8_lossy(&said.out).trim()));
        }
    }
    Ok(found)
}

fn as_user_of(git_dir: &Path) -> Command {
    let mut command = as_user(git_dir);
    command.arg(folder_option("--git-dir=", git_dir));
    command
}

/// A checkout of the user's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Checkout {
    pub(crate) top: PathBuf,
    /// Git's folder for it.
    pub(crate) git_dir: PathBuf,
}

/// What `git worktree list` says of one: where it lies, and the full name of its branch, if it has one.
pub(crate) fn standing(common: &Path) -> Result<Vec<(PathBuf, Option<String>)>, GitError> {
    let said = plumbing(common, &["worktree", "list", "--porcelain", "-z"])?;
    let mut found: Vec<(PathBuf, Option<String>)> = Vec::new();
    for line in said.split(|byte| *byte == 0) {
        if let Some(path) = line.strip_prefix(b"worktree ") {
            found.push((PathBuf::from(OsStr::from_bytes(path)), None));
        } else if let (Some(branch), Some((_, last))) = (line.strip_prefix(b"branch "), found.last_mut()) {
            *last = Some(String::from_utf8_lossy(branch).into_owned());
        }
    }
    Ok(found)
}

impl Checkout {
    /// Runs a command with `index` as its index.
    pub(crate) fn git<S: AsRef<OsStr>>(
        &self,
        index: &Path,
        arguments: &[S],
        input: &[u8],
    ) -> Result<Said, GitError> {
        const AS_IT_IS: &[&str] = &["-c", "core.trustctime=true", "-c", "core.checkStat=default"];
        let mut command = as_user(&self.top);
        command.env("GIT_INDEX_FILE", index);
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), IDENTITY_NAME)
                .env(format!("GIT_{role}_EMAIL"), IDENTITY_EMAIL);
        }
        command.args(EVERYWHERE).args(AS_IT_IS);
        for name in self.foreign_filters()? {
            for key in ["clean", "smudge", "process"] {
                command.arg("-c").arg(format!("filter.{name}.{key}="));
            }
            command.arg("-c").arg(format!("filter.{name}.required=false"));
        }
        command.arg(folder_option("--git-dir=", &self.git_dir)).arg(folder_option("--work-tree=", &self.top));
        let path = index.with_extension("input");
        store::remove(&path)?;
        if !input.is_empty() {
            store::create_new(&path, input, 0o600)?;
            command.stdin(store::at("open", &path, std::fs::File::open(&path))?);
        }
        let said = Said::of(command, arguments, &self.top);
        store::remove(&path)?;
        said
    }

    /// The filters that only the repository's own configuration names.
    pub(crate) fn foreign_filters(&self) -> Result<Vec<String>, GitError> {
        let words = [
            "config",
            "--show-scope",
            "-z",
            "--name-only",
            "--get-regexp",
            r"^filter\..*\.(clean|smudge|process)$",
        ];
        let said = Said::of(as_user_of(&self.git_dir), &words, &self.git_dir)?;
        let text = String::from_utf8_lossy(&said.out).into_owned();
        let words: Vec<&str> = text.split('\0').collect();
        let name = |key: &str| Some(key.strip_prefix("filter.")?.rsplit_once('.')?.0.to_owned());
        let mut foreign: Vec<String> = Vec::new();
        for pair in words.chunks_exact(2) {
            if !matches!(pair[0], "system" | "global")
                && let Some(name) = name(pair[1]).filter(|name| !foreign.contains(name))
            {
                foreign.push(name);
            }
        }
        Ok(foreign)
    }

    /// Which of the paths go through one of those filters, by the attributes that `tree` has.
    pub(crate) fn through_foreign_filters(
        &self,
        tree: ObjectId,
        paths: &[u8],
        index: &Path,
    ) -> Result<Vec<String>, GitError> {
        let foreign = self.foreign_filters()?;
        if foreign.is_empty() || paths.is_empty() {
            return Ok(Vec::new());
        }
        let tree = tree.to_string();
        let said = self.git(index, &["check-attr", "--source", &tree, "-z", "--stdin", "filter"], paths)?;
        let words: Vec<String> = said
            .out
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let through = words.chunks_exact(3).filter(|line| foreign.contains(&line[2]));
        Ok(through.map(|line| line[0].clone()).collect())
    }
}
