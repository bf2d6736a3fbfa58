//! Shortages: what the system can run out of for a while. Pure; `store` knows which errors say so.
//!
//! A shortage is no fault. What failed for it has changed nothing that was promised, and works again when there is room:
//! so nothing is refused or given up because of one, only left for later. A failed sync is never a shortage, whatever
//! number it bears: what was to be synced may be lost already.

use serde::{Deserialize, Serialize};

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shortage {
    /// Room on the file system.
    Space,
    /// Files that the file system can still have.
    Inodes,
    /// Room within the user's quota.
    Quota,
    /// Open files, of the process or of the machine.
    Files,
    Memory,
}

impl Shortage {
    /// What is said of it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Shortage::Space => "the file system is full",
            Shortage::Inodes => "the file system takes no more files",
            Shortage::Quota => "the user's quota is used up",
            Shortage::Files => "no more files can be opened",
            Shortage::Memory => "there is no memory",
        }
    }

    /// The way out, for people.
    pub(crate) fn way_out(self) -> &'static str {
        match self {
            Shortage::Space => "make room on its file system",
            Shortage::Inodes => "remove files from its file system",
            Shortage::Quota => "make room within the quota",
            Shortage::Files => "raise the limit of open files (ulimit -n)",
            Shortage::Memory => "free some memory",
        }
    }
}

/// How much room there is on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) bytes: u64,
    /// How many files it can still have; `None` where it does not count them.
    pub(crate) inodes: Option<u64>,
}

impl Room {
    /// How much must be free, beside the reserve, before something new is admitted: less would be used up at once.
    pub(crate) const NEEDED: Room = Room { bytes: 4 * 1024 * 1024, inodes: Some(64) };

    /// With less than this nothing more is admitted, though there is some room still.
    const LEAST: Room = Room { bytes: 1024 * 1024, inodes: Some(16) };

    pub(crate) fn is_enough(self) -> bool {
        self.has(Room::NEEDED)
    }

    pub(crate) fn is_low(self) -> bool {
        !self.has(Room::LEAST)
    }

    fn has(self, needed: Room) -> bool {
        self.bytes >= needed.bytes && self.inodes.is_none_or(|free| Some(free) >= needed.inodes)
    }

    /// Of a file system that takes no more: whether it lacks space, or inodes only.
    pub(crate) fn lack(self) -> Shortage {
        let few = self.inodes.is_some_and(|free| Some(free) < Room::NEEDED.inodes);
        if few && self.bytes >= Room::NEEDED.bytes { Shortage::Inodes } else { Shortage::Space }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_is_told_by_what_there_is_too_little_of() {
        let room = |bytes, inodes| Room { bytes, inodes };
        let plenty = Room::NEEDED.bytes;
        assert!(room(plenty, None).is_enough() && room(plenty, Some(64)).is_enough());
        for (room, lack) in [
            (room(plenty, Some(3)), Shortage::Inodes),
            (room(0, Some(3)), Shortage::Space),
            (room(plenty - 1, None), Shortage::Space),
            (room(0, Some(1000)), Shortage::Space),
        ] {
            assert!(!room.is_enough() && room.is_low() == (room.bytes == 0 || room.inodes == Some(3)));
            assert_eq!(room.lack(), lack, "{room:?}");
        }
    }
}
