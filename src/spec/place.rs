//! Where a run works, as its task's spec says it.

use serde::{Deserialize, Serialize};

use crate::json::Shape;
use crate::refusal::{Kind, Refusal};
use crate::workspace;

/// Where a run works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WorkspaceSpec {
    /// `worktree` when absent and the directory lies in a repository, else `directory`; `none` without a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<workspace::Kind>,
    /// The commit to start from; the repository's HEAD when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
    /// The branch to make; `gitspool/<name or id>` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<String>,
    pub(crate) cleanup: workspace::Cleanup,
    /// Whether what git ignores is kept too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) keep_ignored: bool,
    /// How many bytes are kept at most of what git does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keep_bytes_max: Option<u64>,
}

/// The keys of a workspace in a command.
pub(super) const WORKSPACE: Shape = Shape(&[
    ("kind", None),
    ("base", None),
    ("branch", None),
    ("cleanup", None),
    ("keep_ignored", None),
    ("keep_bytes_max", None),
]);

impl WorkspaceSpec {
    /// Refuses what only a worktree can have, when the workspace will be another: it was meant to do something.
    pub(crate) fn check_for(&self, kind: workspace::Kind) -> Result<(), Refusal> {
        let cleanup = self.cleanup != workspace::Cleanup::Never;
        let given = [
            ("base", self.base.is_some()),
            ("branch", self.branch.is_some()),
            ("cleanup", cleanup),
            ("keep_ignored", self.keep_ignored),
            ("keep_bytes_max", self.keep_bytes_max.is_some()),
        ];
        match given.iter().find(|(_, given)| *given && kind != workspace::Kind::Worktree) {
            None => Ok(()),
            Some((key, _)) => {
                let message = format!("only a worktree has a {key}, and the workspace is `{}`", kind.word());
                let refusal = Refusal::new(Kind::Conflict, message).at(format!("$.workspace.{key}"));
                Err(refusal.hint("leave it out, or give a directory in a repository"))
            }
        }
    }
}
