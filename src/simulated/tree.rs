//! A file system in memory that knows what of it is on disk: for each file what was synced last, for each folder which
//! changes of its entries were not.
//!
//! It promises as little as a file system may. Syncing a file makes its content durable, and not its name. Syncing a folder
//! makes the entries in it durable, and not its own. A change of entries (create, rename, remove, make a folder) is made as
//! a whole or not at all, a rename from one folder to another too; but any of those that were not synced may survive
//! without the others, as long as a change survives only with the earlier ones of the same names. There are no links.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};
use std::rc::Rc;

use rustix::io::Errno;

use crate::disk::{Kind, Metadata};

/// The number of a file or folder.
pub(crate) type Number = u64;

const ROOT: Number = 1;

/// What lies in a folder.
pub(super) type Entries = Rc<BTreeMap<OsString, Number>>;

/// A file or a folder.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) mode: u32,
    pub(super) modified: (i64, i64),
    pub(super) what: What,
}

/// The content of a file or folder: as everybody sees it, and as it was synced last.
#[derive(Clone, Debug)]
pub(super) enum What {
    File { now: Rc<Vec<u8>>, synced: Rc<Vec<u8>> },
    Folder { now: Entries, synced: Entries },
    Fifo,
}

/// One change of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The entries that it sets, or removes.
    pub(super) sets: Vec<(Number, OsString, Option<Number>)>,
}

/// The file system.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(super) nodes: BTreeMap<Number, Node>,
    /// Changes of entries that are not on disk, in their order.
    pub(super) pending: Vec<Rc<Change>>,
    next: Number,
    /// The time of what is changed next.
    pub(crate) at: (i64, i64),
}

impl Node {
    fn folder(at: (i64, i64)) -> Node {
        let what = What::Folder { now: Entries::default(), synced: Entries::default() };
        Node { mode: 0o700, modified: at, what }
    }
}

impl Tree {
    pub(crate) fn new() -> Tree {
        let nodes = [(ROOT, Node::folder((0, 0)))].into();
        Tree { nodes, pending: Vec::new(), next: ROOT + 1, at: (0, 0) }
    }

    // --- looking

    fn entries(&self, folder: Number) -> io::Result<&Entries> {
        match &self.nodes[&folder].what {
            What::Folder { now, .. } => Ok(now),
            What::File { .. } | What::Fifo => Err(Errno::NOTDIR.into()),
        }
    }

    pub(crate) fn find(&self, path: &Path) -> io::Result<Number> {
        let mut there = ROOT;
        for part in path.components() {
            match part {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    there = *self.entries(there)?.get(name).ok_or(Errno::NOENT)?;
                }
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::NOENT.into()),
            }
        }
        Ok(there)
    }

    fn parent<'a>(&self, path: &'a Path) -> io::Result<(Number, &'a OsStr)> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::BUSY.into());
        };
        let folder = self.find(folder)?;
        self.entries(folder)?;
        Ok((folder, name))
    }

    pub(crate) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.find(path).map(|number| self.look(number))
    }

    pub(crate) fn look(&self, number: Number) -> Metadata {
        let node = &self.nodes[&number];
        let (kind, bytes) = match &node.what {
            What::File { now, .. } => (Kind::File, now.len()),
            What::Folder { now, .. } => (Kind::Folder, now.len()),
            What::Fifo => (Kind::Fifo, 0),
        };
        Metadata {
            kind,
            device: 1,
            inode: number,
            bytes: bytes as u64,
            links: 1,
            uid: rustix::process::geteuid().as_raw(),
            mode: node.mode,
            modified: node.modified,
            changed: node.modified,
        }
    }

    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        Ok(self.entries(self.find(path)?)?.keys().cloned().collect())
    }

    pub(crate) fn content(&self, number: Number) -> io::Result<Rc<Vec<u8>>> {
        match &self.nodes[&number].what {
            What::File { now, .. } => Ok(Rc::clone(now)),
            What::Folder { .. } => Err(Errno::ISDIR.into()),
            What::Fifo => Err(Errno::AGAIN.into()),
        }
    }

    /// All plain files, by their paths.
    pub(crate) fn files(&self) -> Vec<(String, Rc<Vec<u8>>)> {
        let mut found = Vec::new();
        let mut folders = vec![(String::new(), ROOT)];
        while let Some((path, number)) = folders.pop() {
            let Ok(entries) = self.entries(number) else { continue };
            for (name, number) in entries.iter() {
                let path = format!("{path}/{}", name.to_string_lossy());
                match &self.nodes[number].what {
                    What::File { now, .. } => found.push((path, Rc::clone(now))),
                    What::Folder { .. } => folders.push((path, *number)),
                    What::Fifo => {}
                }
            }
        }
        found.sort();
        found
    }

    // --- changing

    fn change(&mut self, sets: Vec<(Number, OsString, Option<Number>)>) {
        for (folder, name, set) in &sets {
            let node = self.nodes.get_mut(folder).expect("because it was found");
            node.modified = self.at;
            let What::Folder { now, .. } = &mut node.what else { unreachable!("because it was found") };
            let now = Rc::make_mut(now);
            match set {
                Some(number) => drop(now.insert(name.clone(), *number)),
                None => drop(now.remove(name)),
            }
        }
        self.pending.push(Rc::new(Change { sets }));
    }

    fn add(&mut self, path: &Path, mode: u32, what: What) -> io::Result<Number> {
        let (folder, name) = self.parent(path)?;
        if self.entries(folder)?.contains_key(name) {
            return Err(Errno::EXIST.into());
        }
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, Node { mode, modified: self.at, what });
        self.change(vec![(folder, name.to_owned(), Some(number))]);
        Ok(number)
    }

    pub(crate) fn create(&mut self, path: &Path, mode: u32) -> io::Result<Number> {
        self.add(path, mode, What::File { now: Rc::default(), synced: Rc::default() })
    }

    pub(crate) fn make_fifo(&mut self, path: &Path) -> io::Result<Number> {
        self.add(path, 0o600, What::Fifo)
    }

    pub(crate) fn make_dir(&mut self, path: &Path, mode: u32) -> io::Result<Number> {
        self.add(path, mode, Node::folder(self.at).what)
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let number = self.find(from)?;
        let ((old, old_name), (new, new_name)) = (self.parent(from)?, self.parent(to)?);
        let is_folder = |number| self.entries(number).is_ok();
        match self.find(to) {
            Ok(there) if there == number => return Ok(()),
            Ok(there) if is_folder(number) && !is_folder(there) => return Err(Errno::NOTDIR.into()),
            Ok(there) if !is_folder(number) && is_folder(there) => return Err(Errno::ISDIR.into()),
            Ok(there) if is_folder(there) && !self.entries(there)?.is_empty() => {
                return Err(Errno::NOTEMPTY.into());
            }
            Ok(_) | Err(_) => {}
        }
        self.change(vec![(old, old_name.to_owned(), None), (new, new_name.to_owned(), Some(number))]);
        Ok(())
    }

    pub(crate) fn exchange(&mut self, one: &Path, other: &Path) -> io::Result<()> {
        let (first, second) = (self.find(one)?, self.find(other)?);
        let ((old, old_name), (new, new_name)) = (self.parent(one)?, self.parent(other)?);
        let sets = [(old, old_name.to_owned(), Some(second)), (new, new_name.to_owned(), Some(first))];
        self.change(sets.into());
        Ok(())
    }

    pub(crate) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let number = self.find(path)?;
        if self.entries(number).is_ok() {
            return Err(Errno::ISDIR.into());
        }
        self.remove(path)
    }

    pub(crate) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let number = self.find(path)?;
        if !self.entries(number)?.is_empty() {
            return Err(Errno::NOTEMPTY.into());
        }
        self.remove(path)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        self.change(vec![(folder, name.to_owned(), None)]);
        Ok(())
    }

    pub(crate) fn write(&mut self, number: Number, at: usize, bytes: &[u8]) -> io::Result<()> {
        let modified = self.at;
        let node = self.nodes.get_mut(&number).expect("because it is open");
        let What::File { now, .. } = &mut node.what else { return Err(Errno::ISDIR.into()) };
        let now = Rc::make_mut(now);
        now.resize(now.len().max(at + bytes.len()), 0);
        now[at..at + bytes.len()].copy_from_slice(bytes);
        node.modified = modified;
        Ok(())
    }

    pub(crate) fn set_len(&mut self, number: Number, bytes: usize) -> io::Result<()> {
        let modified = self.at;
        let node = self.nodes.get_mut(&number).expect("because it is open");
        let What::File { now, .. } = &mut node.what else { return Err(Errno::INVAL.into()) };
        Rc::make_mut(now).resize(bytes, 0);
        node.modified = modified;
        Ok(())
    }

    pub(crate) fn set_modified(&mut self, number: Number, at: (i64, i64)) {
        self.nodes.get_mut(&number).expect("because it is open").modified = at;
    }

    // --- making durable

    pub(crate) fn sync(&mut self, number: Number) {
        match &mut self.nodes.get_mut(&number).expect("because it is open").what {
            What::File { now, synced } => *synced = Rc::clone(now),
            What::Folder { .. } => self.sync_entries(number),
            What::Fifo => {}
        }
    }

    /// Makes some of it durable: nobody forbids that.
    pub(crate) fn write_back(&mut self, some: impl Fn(Number) -> bool) {
        let numbers: Vec<Number> = self.nodes.keys().copied().filter(|number| some(*number)).collect();
        numbers.into_iter().for_each(|number| self.sync(number));
    }

    /// Makes all durable.
    pub(crate) fn sync_all(&mut self) {
        let numbers: Vec<Number> = self.nodes.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.sync(number));
    }

    fn sync_entries(&mut self, folder: Number) {
        let needed = with_earlier(&self.pending, |change| change.sets.iter().any(|(at, ..)| *at == folder));
        let pending = std::mem::take(&mut self.pending);
        for (at, change) in pending.into_iter().enumerate() {
            if needed.contains(&at) {
                self.put_on_disk(&change);
            } else {
                self.pending.push(change);
            }
        }
    }

    pub(super) fn put_on_disk(&mut self, change: &Change) {
        for (folder, name, set) in &change.sets {
            let Some(Node { what: What::Folder { synced, .. }, .. }) = self.nodes.get_mut(folder) else {
                unreachable!("because only folders have entries")
            };
            let synced = Rc::make_mut(synced);
            match set {
                Some(number) => drop(synced.insert(name.clone(), *number)),
                None => drop(synced.remove(name)),
            }
        }
    }

    /// Drops what cannot be reached any more, now or on disk, and is not open.
    pub(crate) fn forget(&mut self, open: &BTreeSet<Number>) {
        let mut reached = open.clone();
        let mut unseen: Vec<Number> = open.iter().copied().chain([ROOT]).collect();
        let sets = self.pending.iter().flat_map(|change| &change.sets);
        unseen.extend(sets.flat_map(|(folder, _, set)| [Some(*folder), *set]).flatten());
        while let Some(number) = unseen.pop() {
            reached.insert(number);
            if let What::Folder { now, synced } = &self.nodes[&number].what {
                unseen.extend(now.values().chain(synced.values()).filter(|number| !reached.contains(number)));
            }
        }
        self.nodes.retain(|number, _| reached.contains(number));
    }
}

/// The changes that are `wanted`, and the earlier ones without which they cannot be: those of the same names.
pub(super) fn with_earlier(pending: &[Rc<Change>], wanted: impl Fn(&Change) -> bool) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut names: BTreeSet<(Number, &OsString)> = BTreeSet::new();
    for (at, change) in pending.iter().enumerate().rev() {
        let of_same = change.sets.iter().any(|(folder, name, _)| names.contains(&(*folder, name)));
        if of_same || wanted(change) {
            needed.insert(at);
            names.extend(change.sets.iter().map(|(folder, name, _)| (*folder, name)));
        }
    }
    needed
}
