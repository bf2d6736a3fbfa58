//! What goes beside tasks with all their runs.

use std::path::PathBuf;

/// Anything else that goes.
#[derive(Debug)]
pub(crate) struct Other {
    pub(crate) what: What,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A day's folder of receipts or refused files.
    Answers,
    Segment,
    Text,
    /// A run that goes alone.
    Run,
    /// Where a run worked: it is reclaimed before anything else goes.
    Workspace,
}

impl What {
    pub(crate) fn word(self) -> &'static str {
        match self {
            What::Answers => "answers",
            What::Segment => "segment",
            What::Text => "text",
            What::Run => "run",
            What::Workspace => "workspace",
        }
    }
}
