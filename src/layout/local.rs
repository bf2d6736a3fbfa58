//! The paths of what is this machine's only, `.local/`; and of segments that are compressed.

use std::path::{Path, PathBuf};

use super::{
    CHECKPOINT, CLAIMED, COMPRESSED_SUFFIX, DAEMON_RECORD, LOCAL, Layout, MENDED, REMOVED, RESERVE, TMP,
    TRASH,
};
use crate::id::{RunId, TaskId};
use crate::time::Date;

impl Layout {
    pub(crate) fn local(&self) -> PathBuf {
        self.root.join(LOCAL)
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.local().join(CHECKPOINT)
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.local().join(TMP)
    }

    /// A file that process `pid` writes before it gets its name.
    pub(crate) fn aside(&self, pid: u32, secret: &str) -> PathBuf {
        self.tmp().join(format!("{pid}-{secret}"))
    }

    /// The private folder into which a command file is renamed when it is taken.
    pub(crate) fn claimed(&self) -> PathBuf {
        self.local().join(CLAIMED)
    }

    /// A claimed command file: the claim's id, and the name under which it was dropped.
    pub(crate) fn claim(&self, claim: TaskId, name: &str) -> PathBuf {
        self.claimed().join(format!("{claim}.{name}"))
    }

    /// The folder of what the repair of that id changed: the originals, at the paths that they had.
    pub(crate) fn mended(&self, repair: TaskId) -> PathBuf {
        self.local().join(MENDED).join(repair.to_string())
    }

    /// Room that is kept ready, see `reserve`.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.local().join(RESERVE)
    }

    pub(crate) fn reserved(&self, number: u32) -> PathBuf {
        self.reserve().join(format!("{number:02}"))
    }

    /// Where runs wait for deletion that were removed with their tasks.
    pub(crate) fn trash(&self) -> PathBuf {
        self.local().join(TRASH)
    }

    pub(crate) fn trashed(&self, run: RunId) -> PathBuf {
        self.trash().join(run.to_string())
    }

    pub(crate) fn removed(&self) -> PathBuf {
        self.root.join(REMOVED)
    }

    /// What is left of the tasks of one day that were removed.
    pub(crate) fn removed_of(&self, date: &Date) -> PathBuf {
        self.removed().join(date.to_string())
    }

    pub(crate) fn daemon_record(&self) -> PathBuf {
        self.local().join(DAEMON_RECORD)
    }
}

/// The path of a sealed segment when it is compressed.
pub(crate) fn compressed(segment: &Path) -> PathBuf {
    let mut name = segment.file_name().unwrap_or_default().to_owned();
    name.push(COMPRESSED_SUFFIX);
    segment.with_file_name(name)
}
