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

impl Applied {
    /// What is applied then: of each branch the last, and what was undone is not.
    pub(crate) fn add_to(&self, applied: &mut Vec<Applied>) {
        applied.retain(|other| other.branch != self.branch);
        if self.how != How::Undo {
            applied.push(self.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_branch_has_the_last_and_an_undo_takes_away_its_own() {
        let applied = |how, branch: &str, after: &str| Applied {
            how,
            branch: branch.into(),
            before: "0".into(),
            after: after.into(),
            result: "r".into(),
            tree: "t".into(),
            checkout: None,
            record: None,
        };
        let mut all = Vec::new();
        for (how, branch, after, expected) in [
            (How::Squash, "main", "1", vec!["1"]),
            (How::Merge, "rel", "2", vec!["1", "2"]),
            (How::Rebase, "main", "3", vec!["2", "3"]),
            (How::Undo, "rel", "4", vec!["3"]),
            (How::Undo, "rel", "5", vec!["3"]),
        ] {
            applied(how, branch, after).add_to(&mut all);
            assert_eq!(all.iter().map(|one| one.after.as_str()).collect::<Vec<_>>(), expected);
        }
    }
}
