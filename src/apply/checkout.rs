//! A checkout of the user's that is moved: its files and its index, and nothing there that no commit has.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;

use super::{ApplyError, Place};
use crate::git::{self, Checkout, GitError, Repository};
use crate::kept;
use crate::store;

/// A checkout whose index nobody else can change.
pub(super) struct Held {
    checkout: Checkout,
    common: PathBuf,
    /// The ref for what was found there and is nowhere else.
    aside: String,
    /// A copy of the index, which becomes the index at the end.
    index: PathBuf,
    lock: PathBuf,
    /// Says whose the lock is, from before it is there.
    owner: PathBuf,
}

/// Whether it could be held.
pub(super) enum Holding {
    Held(Held),
    /// For this reason.
    Not(String),
}

impl Held {
    fn new(place: &Place, checkout: Checkout) -> Held {
        let (index, lock) = (checkout.git_dir.join("gitspool-index"), checkout.git_dir.join("index.lock"));
        let owner = checkout.git_dir.join("gitspool-owner");
        let aside = format!("refs/gitspool/aside/{}", place.run);
        Held { checkout, common: place.common.clone(), aside, index, lock, owner }
    }

    fn mark(place: &Place) -> Vec<u8> {
        format!("gitspool: run {}\n", place.run).into_bytes()
    }

    /// Takes the lock of the index, as git does, and makes the copy.
    pub(super) fn take(place: &Place, checkout: &Checkout) -> Result<Holding, ApplyError> {
        let held = Held::new(place, checkout.clone());
        let top = checkout.top.display();
        // Nothing was begun then: that would have been taken up.
        if let Some(left) = Held::left(place, checkout.clone())? {
            left.release()?;
        }
        if store::exists(&held.lock) {
            let told = store::read_if_small(&held.lock, 1024).ok().flatten().unwrap_or_default();
            let told = String::from_utf8_lossy(&told).into_owned();
            return Ok(Holding::Not(match told.trim_end().strip_prefix("gitspool: run ") {
                Some(run) => {
                    format!("what was begun in {top} for run {run} is not finished: apply that again first")
                }
                None => format!("git is at work in {top} ({} is there)", held.lock.display()),
            }));
        }
        if !store::is_file(&held.real()) {
            return Ok(Holding::Not(format!("{top} has no index")));
        }
        store::remove(&held.owner)?;
        store::create_synced(&held.owner, &[&Held::mark(place)])?;
        store::create_synced(&held.lock, &[&Held::mark(place)])?;
        match held.copy() {
            Ok(()) => Ok(Holding::Held(held)),
            Err(error) => held.release().and(Err(error)),
        }
    }

    /// What an earlier call left held, if it did.
    pub(super) fn left(place: &Place, checkout: Checkout) -> Result<Option<Held>, ApplyError> {
        let held = Held::new(place, checkout);
        let read = |path: &Path| store::read_if_small(path, 1024).ok().flatten();
        let (told, owner, mark) = (read(&held.lock), read(&held.owner), Some(Held::mark(place)));
        let is_ours = told == mark
            || told.is_some_and(|told| told.is_empty())
                && owner == mark
                && kept::processes(&held.checkout.git_dir).is_empty();
        if !is_ours {
            return Ok(None);
        }
        // The git that it started may have outlived it.
        if store::exists(&held.index.with_extension("lock")) {
            if let Some(process) = kept::processes(&held.checkout.git_dir).first() {
                return Err(ApplyError::Stage(format!(
                    "{}: wait for its end, and do it again",
                    process.what
                )));
            }
            store::remove(&held.index.with_extension("lock"))?;
        }
        Ok(Some(held))
    }

    fn real(&self) -> PathBuf {
        self.checkout.git_dir.join("index")
    }

    fn copy(&self) -> Result<(), ApplyError> {
        store::remove(&self.index)?;
        store::copy_with_time(&self.real(), &self.index)?;
        Ok(())
    }

    pub(super) fn release(&self) -> Result<(), ApplyError> {
        store::remove(&self.index)?;
        store::remove(&self.lock)?;
        Ok(store::remove(&self.owner)?)
    }

    /// Makes the copy the index.
    pub(super) fn keep(&self) -> Result<(), ApplyError> {
        if store::exists(&self.index) {
            store::sync_file(&self.index)?;
            store::rename(&self.index, &self.real())?;
            store::sync_dir(&self.checkout.git_dir)?;
        }
        store::remove(&self.lock)?;
        Ok(store::remove(&self.owner)?)
    }

    fn git(&self, arguments: &[&str], input: &[u8]) -> Result<git::Said, GitError> {
        self.checkout.git(&self.index, arguments, input)
    }

    fn listed(&self, arguments: &[&str]) -> Result<BTreeSet<Vec<u8>>, GitError> {
        let said = self.git(arguments, b"")?;
        Ok(said.out.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// Why the checkout cannot be moved without a loss, if it cannot.
    pub(super) fn check(&self, from: ObjectId, to: ObjectId) -> Result<Option<String>, ApplyError> {
        self.git(&["update-index", "-q", "--refresh"], b"")?;
        let changed = git::changed(&self.common, from, to)?;
        for tree in [from, to] {
            let through = self.checkout.through_foreign_filters(tree, &joined(&changed), &self.index)?;
            if let Some(path) = through.first() {
                return Ok(Some(format!(
                    "{} goes through a filter that only the repository's own configuration names",
                    kept::shown(path.as_bytes())
                )));
            }
        }
        if let Some(path) = self.in_the_way(from, to)? {
            return Ok(Some(format!(
                "{} lies in {} and no commit has it",
                kept::shown(&path),
                self.checkout.top.display()
            )));
        }
        let (from, to) = (from.to_string(), to.to_string());
        match self.git(&["read-tree", "-n", "-m", "-u", &from, &to], b"") {
            Ok(said) if said.yes => Ok(None),
            Ok(git::Said { err: said, .. }) | Err(GitError::Failed { said, .. }) => {
                let said = said.trim_start_matches("error: ").lines().collect::<Vec<_>>().join(" ");
                Ok(Some(format!("{} has changes there: {said}", self.checkout.top.display())))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What lies where a new file is to come, and is not tracked: git would write over what it ignores.
    fn in_the_way(&self, from: ObjectId, to: ObjectId) -> Result<Option<Vec<u8>>, ApplyError> {
        let new = git::added(&self.common, from, to)?;
        if new.is_empty() {
            return Ok(None);
        }
        let tracked = self.listed(&["ls-files", "-z"])?;
        for path in new.difference(&tracked) {
            let mut below = PathBuf::new();
            for name in Path::new(OsStr::from_bytes(path)) {
                below.push(name);
                let place = self.checkout.top.join(&below);
                let bytes = below.as_os_str().as_bytes();
                if store::exists(&place) && !store::is_real_folder(&place) && !tracked.contains(bytes) {
                    return Ok(Some(bytes.to_vec()));
                }
            }
            let folder = self.checkout.top.join(&below);
            if store::is_real_folder(&folder)
                && let Some(stray) = self.stray_in(&below, &tracked)?
            {
                return Ok(Some(stray));
            }
        }
        Ok(None)
    }

    /// A file below a folder that is not tracked.
    fn stray_in(&self, below: &Path, tracked: &BTreeSet<Vec<u8>>) -> Result<Option<Vec<u8>>, ApplyError> {
        let mut folders = vec![below.to_owned()];
        while let Some(folder) = folders.pop() {
            for name in store::raw_names(&self.checkout.top.join(&folder))? {
                let path = folder.join(name);
                if store::is_real_folder(&self.checkout.top.join(&path)) {
                    folders.push(path);
                } else if !tracked.contains(path.as_os_str().as_bytes()) {
                    return Ok(Some(path.as_os_str().as_bytes().to_vec()));
                }
            }
        }
        Ok(None)
    }

    /// Writes the files, and the copy of the index; all is on disk on return, and as it must be.
    pub(super) fn write(&self, from: ObjectId, to: ObjectId) -> Result<(), ApplyError> {
        let changed = git::changed(&self.common, from, to)?;
        let (from, to) = (from.to_string(), to.to_string());
        self.git(&["read-tree", "-m", "-u", &from, &to], b"")?;
        let staged =
            self.listed(&["diff-index", "--cached", "--name-only", "-z", "--ignore-submodules=none", &to])?;
        let files = self.listed(&["diff-files", "--name-only", "-z", "--ignore-submodules=all"])?;
        if let Some(path) = changed.iter().find(|path| staged.contains(*path) || files.contains(*path)) {
            let what = format!("{} is not as the merge has it", kept::shown(path));
            return Err(ApplyError::Stage(format!("{what} in {}", self.checkout.top.display())));
        }
        Ok(store::sync_file_system(&self.checkout.top)?)
    }

    /// Brings the files back to what the index says, after only some of them were written; what was written there since by
    /// somebody else is put on a ref first.
    pub(super) fn take_back(&self, from: ObjectId, to: ObjectId) -> Result<(), ApplyError> {
        let changed = git::changed(&self.common, from, to)?;
        self.git(&["read-tree", &to.to_string()], b"")?;
        self.git(&["update-index", "-q", "--refresh"], b"")?;
        let unlike_new = self.listed(&["diff-files", "--name-only", "-z"])?;
        self.copy()?;
        self.git(&["update-index", "-q", "--refresh"], b"")?;
        let tracked = self.listed(&["ls-files", "-z"])?;
        let unlike_old = self.listed(&["diff-files", "--name-only", "-z"])?;
        let is_there = |path: &Vec<u8>| {
            let place = self.checkout.top.join(OsStr::from_bytes(path));
            store::exists(&place) && !store::is_real_folder(&place)
        };
        let touched: Vec<&Vec<u8>> =
            changed.iter().filter(|path| unlike_old.contains(*path) || !tracked.contains(*path)).collect();
        let unknown: Vec<&Vec<u8>> =
            touched.iter().copied().filter(|path| is_there(path) && unlike_new.contains(*path)).collect();
        self.put_aside(&unknown)?;
        for path in touched.iter().filter(|path| !tracked.contains(**path) && is_there(path)) {
            let place = self.checkout.top.join(OsStr::from_bytes(path));
            store::remove(&place)?;
            for folder in place.ancestors().skip(1).take_while(|folder| *folder != self.checkout.top) {
                if !store::remove_empty_dir(folder)? {
                    break;
                }
            }
        }
        let back: BTreeSet<Vec<u8>> =
            touched.into_iter().filter(|path| tracked.contains(*path)).cloned().collect();
        if !back.is_empty() {
            self.git(&["checkout-index", "-f", "-q", "-z", "--stdin"], &joined(&back))?;
        }
        self.release()
    }

    /// Keeps files as they lie on a ref.
    fn put_aside(&self, paths: &[&Vec<u8>]) -> Result<(), ApplyError> {
        if paths.is_empty() {
            return Ok(());
        }
        let repository = Repository::open(&self.common)?;
        let mut info = Vec::new();
        for path in paths {
            let place = self.checkout.top.join(OsStr::from_bytes(path));
            let Ok(bytes) = store::read(&place) else { continue };
            let blob = repository.write_blob(bytes.len() as u64, &mut &bytes[..])?;
            info.extend([format!("100644 {blob}\t").as_bytes(), path, b"\0"].concat());
        }
        self.git(&["read-tree", "--empty"], b"")?;
        self.git(&["update-index", "-z", "--index-info"], &info)?;
        let tree = self.git(&["write-tree"], b"")?;
        let tree = String::from_utf8_lossy(&tree.out).trim().to_owned();
        let earlier = repository.ref_value(&self.aside)?;
        let mut arguments =
            vec!["commit-tree".to_owned(), tree, "-m".to_owned(), "gitspool: put aside".to_owned()];
        arguments.extend(earlier.iter().flat_map(|earlier| ["-p".to_owned(), earlier.to_string()]));
        let commit = git::object_of(&self.common, &arguments)?;
        repository.set_ref(&self.aside, earlier, commit, "gitspool: put aside")?;
        self.copy()
    }
}

fn joined(paths: &BTreeSet<Vec<u8>>) -> Vec<u8> {
    paths.iter().flat_map(|path| [&path[..], b"\0"].concat()).collect()
}
