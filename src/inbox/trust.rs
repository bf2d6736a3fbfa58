//! Whether a dropped file may be taken at all: by what it is, whose it is, and who else can get at it.

use super::Inbox;
use crate::command::{self, BYTES_MAX};
use crate::disk::{self, Metadata};
use crate::refusal::{Kind, Refusal};

/// Who may do all anyway.
const ROOT: u32 = 0;

/// What changes about a file when somebody writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    device: u64,
    inode: u64,
    bytes: u64,
    links: u64,
    modified: (i64, i64),
}

impl Shape {
    /// What is seen of it when somebody writes to it, or another file takes its place.
    pub(super) fn of(metadata: &Metadata) -> Shape {
        let Metadata { device, inode, bytes, links, modified, .. } = *metadata;
        Shape { device, inode, bytes, links, modified }
    }
}

impl Inbox {
    /// Checks what can be known without opening the file.
    pub(super) fn check(&self, metadata: &Metadata, name: &str) -> Result<(), Refusal> {
        check_sort(metadata)?;
        command::form_of(name)?;
        check_file(metadata, self.uid, BYTES_MAX)?;
        self.check_inbox()
    }

    /// Nobody else may put files here, or another folder in this one's place: a command runs with all that we may do.
    fn check_inbox(&self) -> Result<(), Refusal> {
        let inbox = self.layout.inbox();
        for folder in [self.layout.root(), &inbox] {
            let Ok(metadata) = disk::metadata(folder) else { continue };
            let owner = metadata.uid;
            if owner != self.uid && owner != ROOT {
                let message = format!("{} belongs to user {owner}", folder.display());
                let refusal = Refusal::new(Kind::InboxWritable, message);
                return Err(refusal.hint(format!("chown it to {}, and drop the file again", self.uid)));
            }
            if metadata.mode & 0o022 != 0 {
                let what = if folder == inbox { "the inbox" } else { "the spool's folder" };
                let refusal = Refusal::new(Kind::InboxWritable, format!("others can write to {what}"));
                return Err(refusal.hint(format!("chmod 700 {}, and drop the file again", folder.display())));
            }
        }
        Ok(())
    }
}

/// Checks that it is a plain file.
pub(super) fn check_sort(metadata: &Metadata) -> Result<(), Refusal> {
    match metadata.kind {
        disk::Kind::File => Ok(()),
        disk::Kind::Link => {
            let refusal = Refusal::new(Kind::Symlink, "a symbolic link is not followed");
            Err(refusal.hint("drop a copy of the file that it points to"))
        }
        disk::Kind::Folder => Err(not_a_file("a folder")),
        disk::Kind::Fifo => Err(not_a_file("a fifo")),
        disk::Kind::Socket => Err(not_a_file("a socket")),
        disk::Kind::Device => Err(not_a_file("a device")),
    }
}

/// Checks whose a plain file is, who else can get at it, and how long it is.
pub(super) fn check_file(metadata: &Metadata, uid: u32, bytes_max: u64) -> Result<(), Refusal> {
    if metadata.uid != uid {
        let message = format!("the file belongs to user {}, the daemon to {uid}", metadata.uid);
        return Err(Refusal::new(Kind::ForeignOwner, message).hint("drop it as the user of the daemon"));
    }
    if metadata.links > 1 {
        let message = format!("the file has {} names, so it can change after it was taken", metadata.links);
        return Err(Refusal::new(Kind::HardLink, message).hint("drop a copy, not a hard link"));
    }
    if metadata.bytes > bytes_max {
        let message =
            format!("{} bytes are more than the {bytes_max} that a command may have", metadata.bytes);
        return Err(
            Refusal::new(Kind::TooLarge, message).hint("name a file of the repository in the command")
        );
    }
    Ok(())
}

fn not_a_file(what: &str) -> Refusal {
    Refusal::new(Kind::NotAFile, format!("{what} is no command"))
}
