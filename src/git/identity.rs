//! Who makes a commit, and commits in somebody's name.

use std::path::Path;

use gix::ObjectId;

use super::{
    GitError, IDENTITY_EMAIL, IDENTITY_NAME, Said, as_user, folder_option, output, plumber, plumbing, unread,
};
use crate::clock;

/// A name, an address and a time, as git writes them into a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    name: String,
    email: String,
    date: String,
}

impl Identity {
    /// The user's own, as git knows it; ours when git knows none.
    pub(crate) fn of_user(git_dir: &Path) -> Result<Identity, GitError> {
        let mut command = as_user(git_dir);
        for role in ["AUTHOR", "COMMITTER"] {
            command.env_remove(format!("GIT_{role}_NAME")).env_remove(format!("GIT_{role}_EMAIL"));
        }
        command.arg(folder_option("--git-dir=", git_dir));
        match Said::of(command, &["var", "GIT_COMMITTER_IDENT"], git_dir) {
            Ok(said) => Identity::read(&said.out).ok_or_else(|| unread("var".to_owned(), &said.out)),
            Err(GitError::Failed { .. }) => {
                let ours = plumbing(git_dir, &["var", "GIT_COMMITTER_IDENT"])?;
                Identity::read(&ours).ok_or_else(|| unread("var".to_owned(), &ours))
            }
            Err(error) => Err(error),
        }
    }

    /// The author of a commit.
    pub(crate) fn of_author(git_dir: &Path, commit: ObjectId) -> Result<Identity, GitError> {
        let said = plumbing(git_dir, &["cat-file", "commit", &commit.to_string()])?;
        let line = said.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"author "));
        line.and_then(Identity::read)
            .ok_or_else(|| unread("cat-file".to_owned(), &said[..said.len().min(500)]))
    }

    /// Reads `Name <address> seconds zone`; a name or an address that is empty is replaced, since git takes none.
    fn read(line: &[u8]) -> Option<Identity> {
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        let (name, rest) = line.split_once('<')?;
        let (email, date) = rest.rsplit_once('>')?;
        let or = |text: &str, other: &str| {
            if text.trim().is_empty() { other.to_owned() } else { text.trim().to_owned() }
        };
        let date = format!("@{}", date.trim());
        Some(Identity { name: or(name, IDENTITY_NAME), email: or(email, IDENTITY_EMAIL), date })
    }
}

/// Writes a commit in the name of these two.
pub(crate) fn write_commit(
    git_dir: &Path,
    [author, committer]: [&Identity; 2],
    tree: ObjectId,
    parents: &[ObjectId],
    message: &str,
) -> Result<ObjectId, GitError> {
    let mut command = plumber(git_dir);
    for (role, who) in [("AUTHOR", author), ("COMMITTER", committer)] {
        command.env(format!("GIT_{role}_NAME"), &who.name).env(format!("GIT_{role}_EMAIL"), &who.email);
        command.env(format!("GIT_{role}_DATE"), &who.date);
    }
    let mut arguments = vec!["commit-tree".to_owned(), tree.to_string()];
    arguments.extend(parents.iter().flat_map(|parent| ["-p".to_owned(), parent.to_string()]));
    // A commit's text has no NUL.
    arguments.extend(["-m".to_owned(), message.replace('\0', "")]);
    let said = output(command, &arguments, git_dir)?;
    ObjectId::from_hex(said.trim_ascii_end()).map_err(|_| unread("commit-tree".to_owned(), &said))
}

/// The line with which the log of a worktree's `HEAD` begins, as git writes it.
pub(crate) fn log_line(new: ObjectId, why: &str) -> String {
    let old = ObjectId::null(new.kind());
    format!("{old} {new} {IDENTITY_NAME} <{IDENTITY_EMAIL}> {} +0000\t{why}\n", clock::now().seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_git_writes_it() {
        let who = Identity::read(b"A <B> C <a@b> 1700000000 +0100\n").unwrap();
        assert_eq!((who.name.as_str(), who.date.as_str()), ("A", "@1700000000 +0100"));
        let who = Identity::read(b" <> 5 +0000").unwrap();
        assert_eq!((who.name.as_str(), who.email.as_str()), (IDENTITY_NAME, IDENTITY_EMAIL));
        assert_eq!(Identity::read(b"nobody"), None);
    }
}
