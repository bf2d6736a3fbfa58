//! What was applied of a run's result, and what was undone of that, as logs and records tell it. Pure; `apply` does it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a result comes onto a branch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// As one commit.
    #[default]
    Squash,
    /// As a merge of two histories.
    Merge,
    /// As its own commits, on top.
    Rebase,
    /// What brings back what was before.
    Undo,
}

impl How {
    pub(crate) fn word(self) -> &'static str {
        match self {
            How::Squash => "squash",
            How::Merge => "merge",
            How::Rebase => "rebase",
            How::Undo => "undo",
        }
    }
}

/// A branch that was moved, or is about to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Applied {
    pub(crate) how: How,
    /// The branch's short name.
    pub(crate) branch: String,
    /// Its commits, before and after.
    pub(crate) before: String,
    pub(crate) after: String,
    /// The last commit of what was applied.
    pub(crate) result: String,
    /// The files of that.
    pub(crate) tree: String,
    /// The checkout that was moved with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) checkout: Option<PathBuf>,
    /// The commit that keeps what was before, and tells of this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) record: Option<String>,
}
