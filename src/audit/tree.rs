//! Every entry of the tree: whether a row of the specification explains it, and whether it is of the right sort.

use super::{Audit, Kind, Mend, Sort, by_hand};
use crate::id::Name;
use crate::layout::{InRun, Place, TaskFolder, place_of};

impl Audit<'_> {
    /// Checks that all that lies there has a place, and that the fixed folders are there.
    pub(super) fn check_tree(&mut self) {
        for (path, sort) in &self.seen.entries {
            let Some(place) = place_of(path) else {
                // What lies in something unexplained is explained by it.
                let is_top = path.rsplit_once('/').is_none_or(|(folder, _)| place_of(folder).is_some());
                if is_top {
                    let hint = by_hand("see what it is; move it out of the spool, or remove it");
                    self.find(Kind::Unexplained, path, "nothing of this name belongs here", hint);
                }
                continue;
            };
            if !fits(&place, *sort) {
                let what = format!("a {} does not belong here", word(*sort));
                self.find(Kind::WrongSort, path, what, by_hand("see what it is; move it out of the spool"));
            }
            // Of one whose segment is there as well, that is told.
            let counts = !matches!(place, Place::Compressed { .. }) || self.is_only_copy(path);
            if let Some(Err(error)) = self.seen.contents.get(path).filter(|_| counts) {
                self.find(
                    Kind::Unreadable,
                    path,
                    error.clone(),
                    by_hand("make it readable: chmod, chown, fsck of the disk"),
                );
            }
        }
        self.check_folders();
    }

    fn check_folders(&mut self) {
        let layout = &self.seen.layout;
        let folders = layout.folders().into_iter().map(|folder| (folder, Mend::MakeFolder));
        let mut folders: Vec<_> = folders.collect();
        let queues = format!("{}/", self.below(&layout.queues()));
        let queues =
            self.seen.entries.keys().filter_map(|path| path.strip_prefix(&queues)?.parse::<Name>().ok());
        // A queue that somebody has just made gets its folders, and then its record, when a task comes for it.
        for queue in queues.filter(|queue| self.is_there(&layout.queue_record(queue))) {
            // Made empty, they would say that what lay there was cancelled: a daemon draws that again.
            let of_queue = [layout.held(&queue), layout.waiting(&queue), layout.ready(&queue)];
            folders.extend(of_queue.map(|folder| (folder, Mend::Daemon)));
        }
        for (folder, mend) in folders {
            let path = self.below(&folder);
            if folder != layout.root() && !self.is_there(&folder) {
                self.find(Kind::FolderMissing, path, "it is not there", mend);
            }
        }
    }
}

fn word(sort: Sort) -> &'static str {
    match sort {
        Sort::File => "file",
        Sort::Folder => "folder",
        Sort::Fifo => "fifo",
        Sort::Other => "link, socket or device",
    }
}

fn fits(place: &Place, sort: Sort) -> bool {
    match place {
        Place::Folder | Place::Run { .. } => sort == Sort::Folder,
        // Refused as what they are.
        Place::Anything | Place::Refused { .. } | Place::Claimed { .. } => true,
        Place::InRun { file: InRun::Wake, .. } => sort == Sort::Fifo,
        Place::Task {
            folder:
                TaskFolder::Held
                | TaskFolder::Waiting
                | TaskFolder::Ready(_)
                | TaskFolder::Active(_)
                | TaskFolder::Ended { .. },
            ..
        }
        | Place::File
        | Place::Receipt { .. }
        | Place::Aside { .. }
        | Place::Checkpoint
        | Place::Daemon
        | Place::Log { .. }
        | Place::Compressed { .. }
        | Place::Text { .. }
        | Place::Key { .. }
        | Place::Reader { .. }
        | Place::Removed { .. }
        | Place::InRun {
            file: InRun::Log | InRun::Record | InRun::Assignment | InRun::Lock | InRun::Command(_),
            ..
        } => sort == Sort::File,
    }
}
