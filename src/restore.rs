//! Brings back what was kept of a run, as a new worktree or as a new branch; never over anything that is there.
//!
//! What was kept is an agent's: names are checked, no link is ever written through, and files are written as they lay there.
//! Only those that the agent had not changed are checked out by git, through the launcher, as they were for the run. Of git's own
//! files come back the log of `HEAD`, `ORIG_HEAD` and the repositories of submodules; no configuration of the worktree.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;

use crate::git::{self, GitError, Launcher, Repository};
use crate::kept::{self, Area, Flag, Held, HeldSort, Kept, Staged};
use crate::lock::Lock;
use crate::store::{self, StoreError};

/// A blob that is longer than this is not read into memory.
const IN_MEMORY_MAX: u64 = 16 * 1024 * 1024;

/// Where a repository comes back that an agent made in place of its worktree's own `.git`.
const OWN_ASIDE: &[u8] = b".git.kept";

/// Why nothing could be restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("{} is there already: give a folder that is not there, or is empty", .0.display())]
    InTheWay(PathBuf),
    #[error("the branch {0} exists already: give another name")]
    BranchTaken(String),
    #[error("{0:?} cannot be the name of a branch")]
    BranchName(String),
    #[error("{} of what was kept leads outside of the worktree", kept::shown(.0))]
    LeadsOutside(Vec<u8>),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came back, and what could not.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// How many files were written that a checkout of the index does not have so.
    pub(crate) files: u64,
    /// The stashes that were put back into the list.
    pub(crate) stashes: u64,
    /// Sockets, which have no content.
    pub(crate) left: Vec<Vec<u8>>,
}

/// Makes a branch of what was kept: the last commit of the agent, and what was not committed as one more.
pub(crate) fn as_branch(
    common: &Path,
    kept: &Kept,
    branch: &str,
    of: &str,
) -> Result<ObjectId, RestoreError> {
    let repository = Repository::open(common)?;
    let name = free_branch(&repository, branch)?;
    let head_tree = repository.commit(kept.head).map(|head| head.tree);
    let (tree, head) = (kept.tree.to_string(), kept.head.to_string());
    let message = format!("Uncommitted work of run {of}");
    let tip = if head_tree == Some(kept.tree) {
        kept.head
    } else {
        git::object_of(common, &["commit-tree", &tree, "-p", &head, "-m", &message])?
    };
    repository.set_ref(&name, None, tip, &format!("gitspool: restored from run {of}"))?;
    Ok(tip)
}

fn free_branch(repository: &Repository, branch: &str) -> Result<String, RestoreError> {
    if !git::is_branch_name(branch) {
        return Err(RestoreError::BranchName(branch.to_owned()));
    }
    let name = format!("refs/heads/{branch}");
    match repository.ref_value(&name)? {
        Some(_) => Err(RestoreError::BranchTaken(branch.to_owned())),
        None => Ok(name),
    }
}

/// Makes a worktree at `top`, on a new branch or on none, with all that was kept. `lock` is that of the repository.
///
/// # Errors
/// What was made until then stays, as a worktree that git knows.
pub(crate) fn as_worktree(
    common: &Path,
    kept: &Kept,
    top: &Path,
    branch: Option<&str>,
    launcher: &Launcher,
    lock: Lock,
) -> Result<Restored, RestoreError> {
    let is_empty = store::is_real_folder(top) && store::names(top)?.is_empty();
    if store::exists(top) && !is_empty {
        return Err(RestoreError::InTheWay(top.to_owned()));
    }
    let repository = Repository::open(common)?;
    if let Some(branch) = branch {
        free_branch(&repository, branch)?;
    }
    let mut arguments: Vec<OsString> =
        ["worktree", "add", "--quiet", "--no-checkout"].map(Into::into).to_vec();
    match branch {
        Some(branch) => arguments.extend(["-b".into(), branch.into()]),
        None => arguments.push("--detach".into()),
    }
    arguments.extend([top.as_os_str().to_owned(), kept.head.to_string().into()]);
    git::plumbing(common, &arguments)?;
    drop(lock);
    let told = store::read(&top.join(".git"))?;
    let admin = told.strip_prefix(b"gitdir: ").unwrap_or(&told).trim_ascii_end();
    let admin = PathBuf::from(OsStr::from_bytes(admin));
    let base = match kept.staged {
        Some(staged) => staged,
        None => repository.commit(kept.head).map_or(kept.tree, |head| head.tree),
    };
    // As for the run: first what that began with, under the attributes of that, and then what differs.
    let first =
        kept.record.as_ref().and_then(|record| ObjectId::from_hex(record.base.as_ref()?.as_bytes()).ok());
    for id in first.filter(|first| repository.commit(*first).is_some()).into_iter().chain([base]) {
        let checkout = ["read-tree", "--reset", "-u", "--no-recurse-submodules", &id.to_string()];
        git::in_worktree(launcher, &admin, top, &checkout)?;
    }
    let mut restoring =
        Restoring { repository, common, top, admin, done: Restored::default(), links: Vec::new() };
    restoring.overlay(base, kept.tree)?;
    restoring.held(&kept.held)?;
    if let Some(indexed) = &kept.indexed {
        restoring.index(indexed, kept.staged.is_none(), launcher)?;
    }
    restoring.stashes(kept)?;
    store::sync_file_system(top)?;
    Ok(restoring.done)
}

/// A worktree that is being filled.
struct Restoring<'a> {
    repository: Repository,
    common: &'a Path,
    top: &'a Path,
    admin: PathBuf,
    done: Restored,
    /// Links come last, so that nothing is written through one.
    links: Vec<(PathBuf, ObjectId)>,
}

impl Restoring<'_> {
    /// Writes what the tree has otherwise than the one that was checked out.
    fn overlay(&mut self, base: ObjectId, tree: ObjectId) -> Result<(), RestoreError> {
        let (base, tree) = (base.to_string(), tree.to_string());
        let said = git::plumbing(
            self.common,
            &["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", &base, &tree],
        )?;
        let mut parts = said.split(|byte| *byte == 0);
        let mut changes = Vec::new();
        while let (Some(what), Some(path)) = (parts.next(), parts.next()) {
            let what = String::from_utf8_lossy(what).into_owned();
            let words: Vec<&str> = what.split(' ').collect();
            let [_, mode, _, id, _] = words[..] else { break };
            let id = ObjectId::from_hex(id.as_bytes())
                .map_err(|_| git::unread("diff-tree".to_owned(), what.as_bytes()))?;
            changes.push((mode.to_owned(), id, path.to_vec()));
        }
        for (.., path) in &changes {
            let mut names = path.split(|byte| *byte == b'/');
            if !names.all(|name| git::is_tree_name(name, false)) {
                return Err(RestoreError::LeadsOutside(path.clone()));
            }
        }
        // What goes may be in the way of what comes.
        for (_, _, path) in &changes {
            self.clear(path)?;
        }
        for (mode, id, path) in changes.iter().filter(|(mode, ..)| mode != "000000") {
            match &mode[..] {
                "120000" => self.link(self.top, path, *id)?,
                kept::GITLINK => self.folder(self.top, path)?,
                "100755" => self.file(self.top, path, *id, 0o755)?,
                _ => self.file(self.top, path, *id, 0o644)?,
            }
        }
        Ok(())
    }

    fn held(&mut self, held: &[Held]) -> Result<(), RestoreError> {
        let (mut modes, top, admin) = (Vec::new(), self.top, self.admin.clone());
        for Held { area, sort, mode, blob, path } in held {
            let path = &beside_own(*area, path);
            let area = match area {
                Area::Worktree => top,
                Area::Admin if path.starts_with(b"modules/") || path == b"modules" => &admin,
                Area::Admin => {
                    self.admin_file(path, *blob)?;
                    continue;
                }
            };
            match (sort, blob) {
                (HeldSort::Folder, _) => self.folder(area, path)?,
                (HeldSort::File, Some(blob)) => self.file(area, path, *blob, *mode)?,
                (HeldSort::File, None) => {}
                (HeldSort::Link, Some(blob)) => self.link(area, path, *blob)?,
                (HeldSort::Fifo, _) => {
                    self.above(area, path)?;
                    store::make_fifo(&self.place(area, path)?)?;
                }
                (HeldSort::Link, None) | (HeldSort::Socket, _) => self.done.left.push(path.clone()),
            }
            if matches!(sort, HeldSort::Folder | HeldSort::File | HeldSort::Fifo) {
                modes.push((self.place(area, path)?, *mode));
            }
        }
        self.rewire(held)?;
        // What is below a folder comes before it: that may not be written to.
        for (path, mode) in modes.into_iter().rev().filter(|(path, _)| store::exists(path)) {
            store::set_mode(&path, mode)?;
        }
        for (path, blob) in std::mem::take(&mut self.links) {
            let target = self.repository.blob(blob)?;
            store::make_link(OsStr::from_bytes(&target), &path)?;
            self.done.files += 1;
        }
        Ok(())
    }

    /// Of git's own files: what was before in the log of `HEAD`, and where that stood before it was moved far.
    fn admin_file(&self, path: &[u8], blob: Option<ObjectId>) -> Result<(), RestoreError> {
        let Some(blob) = blob else { return Ok(()) };
        let (log, original) = (self.admin.join("logs").join("HEAD"), self.admin.join("ORIG_HEAD"));
        let (place, rest) = match path {
            b"logs/HEAD" => (log.clone(), store::read_if_there(&log)?.unwrap_or_default()),
            b"ORIG_HEAD" => (original, Vec::new()),
            _ => return Ok(()),
        };
        let bytes = [self.repository.blob(blob)?, rest].concat();
        store::remove(&place)?;
        Ok(store::create_new(&place, &bytes, 0o644).map(drop)?)
    }

    /// Leads the submodules to their repositories, which lie elsewhere now.
    fn rewire(&self, held: &[Held]) -> Result<(), RestoreError> {
        let git_files =
            held.iter().filter(|held| held.area == Area::Worktree && held.path.ends_with(b"/.git"));
        for Held { path, blob, .. } in git_files.filter(|held| held.sort == HeldSort::File) {
            let told = blob.map_or_else(|| Ok(Vec::new()), |blob| self.repository.blob(blob))?;
            let told = String::from_utf8_lossy(&told).trim_end().to_owned();
            let Some((_, name)) = told.split_once("/modules/").filter(|_| told.starts_with("gitdir: "))
            else {
                continue;
            };
            let module = self.admin.join("modules").join(name);
            let place = self.place(self.top, path)?;
            if !kept::stays_inside(name.as_bytes()) || !store::is_real_folder(&module) {
                continue;
            }
            store::remove(&place)?;
            store::create_new(&place, &[b"gitdir: ", module.as_os_str().as_bytes(), b"\n"].concat(), 0o644)?;
            let config = module.join("config");
            let folder = place.parent().unwrap_or(self.top);
            let arguments: [&OsStr; 5] = [
                "config".as_ref(),
                "--file".as_ref(),
                config.as_ref(),
                "core.worktree".as_ref(),
                folder.as_ref(),
            ];
            git::plumbing(&self.admin, &arguments)?;
        }
        Ok(())
    }

    fn index(&self, indexed: &[Staged], is_unmerged: bool, launcher: &Launcher) -> Result<(), RestoreError> {
        if is_unmerged {
            git::plumbing(&self.admin, &["read-tree", "--empty"])?;
            let whole = indexed.iter().filter(|entry| entry.flag != Flag::IntentToAdd);
            let info: Vec<u8> = whole.flat_map(|entry| [entry.info(entry.stage), vec![0]].concat()).collect();
            git::plumbing_of(&self.admin, &["update-index", "-z", "--index-info"], &info)?;
        }
        let paths = |flags: &[Flag]| -> Vec<u8> {
            let flagged = indexed.iter().filter(|entry| flags.contains(&entry.flag));
            flagged.flat_map(|entry| [&entry.path[..], b"\0"].concat()).collect()
        };
        for (option, flags) in [
            ("--assume-unchanged", [Flag::AssumeUnchanged, Flag::Unseen]),
            ("--skip-worktree", [Flag::SkipWorktree, Flag::Unseen]),
        ] {
            let paths = paths(&flags);
            if !paths.is_empty() {
                git::plumbing_of(&self.admin, &["update-index", option, "-z", "--stdin"], &paths)?;
            }
        }
        store::remove(&self.admin.join("gitspool-input"))?;
        for entry in indexed.iter().filter(|entry| entry.flag == Flag::IntentToAdd) {
            let path = OsStr::from_bytes(&entry.path);
            if store::exists(&self.top.join(path)) {
                let mut pattern = OsString::from(":(top,literal)");
                pattern.push(path);
                let arguments = ["add", "--intent-to-add", "--force", "--"].map(OsString::from);
                git::in_worktree(launcher, &self.admin, self.top, &[&arguments[..], &[pattern]].concat())?;
            }
        }
        Ok(())
    }

    /// Puts those stashes back that are in the list no more.
    fn stashes(&mut self, kept: &Kept) -> Result<(), RestoreError> {
        let there: Vec<String> =
            kept::stashes(self.common).into_iter().map(|(id, _)| id.to_string()).collect();
        for (id, said) in kept.record.iter().flat_map(|record| &record.stashes) {
            if ObjectId::from_hex(id.as_bytes()).is_ok() && !there.contains(id) {
                git::plumbing(self.common, &["update-ref", "--create-reflog", "-m", said, "refs/stash", id])?;
                self.done.stashes += 1;
            }
        }
        Ok(())
    }

    // Writing, never through a link.

    /// Where a path of what was kept leads: below `top`, with no link on the way.
    fn place(&self, top: &Path, path: &[u8]) -> Result<PathBuf, RestoreError> {
        let outside = || RestoreError::LeadsOutside(path.to_vec());
        if !kept::stays_inside(path) {
            return Err(outside());
        }
        let place = top.join(OsStr::from_bytes(path));
        let above = place.ancestors().skip(1).take_while(|folder| *folder != top);
        match above.into_iter().all(|folder| !store::exists(folder) || store::is_real_folder(folder)) {
            true => Ok(place),
            false => Err(outside()),
        }
    }

    /// Removes the file that the checkout made, and folders that are empty then.
    fn clear(&self, path: &[u8]) -> Result<(), RestoreError> {
        let Ok(place) = self.place(self.top, path) else { return Ok(()) };
        if store::is_real_folder(&place) {
            return Ok(store::remove_empty_dir(&place).map(drop)?);
        }
        store::remove(&place)?;
        for folder in place.ancestors().skip(1).take_while(|folder| *folder != self.top) {
            if !store::remove_empty_dir(folder)? && store::exists(folder) {
                break;
            }
        }
        Ok(())
    }

    fn folder(&self, top: &Path, path: &[u8]) -> Result<(), RestoreError> {
        let place = self.place(top, path)?;
        let between: Vec<&Path> = place.ancestors().take_while(|folder| *folder != top).collect();
        for folder in between.into_iter().rev().filter(|folder| !store::is_real_folder(folder)) {
            store::make_one_dir(folder)?;
            store::set_mode(folder, 0o755)?;
        }
        Ok(())
    }

    /// Makes the folder in which something is to lie.
    fn above(&self, top: &Path, path: &[u8]) -> Result<(), RestoreError> {
        let end = path.iter().rposition(|byte| *byte == b'/');
        end.map_or(Ok(()), |end| self.folder(top, &path[..end]))
    }

    fn link(&mut self, top: &Path, path: &[u8], blob: ObjectId) -> Result<(), RestoreError> {
        self.above(top, path)?;
        self.links.push((self.place(top, path)?, blob));
        Ok(())
    }

    fn file(&mut self, top: &Path, path: &[u8], blob: ObjectId, mode: u32) -> Result<(), RestoreError> {
        self.above(top, path)?;
        let place = self.place(top, path)?;
        // What the checkout has made of it.
        store::remove(&place)?;
        if self.repository.object_bytes(blob)? > IN_MEMORY_MAX {
            store::create_new(&place, b"", 0o600)?;
            git::plumbing_to(self.common, &["cat-file", "blob", &blob.to_string()], &place)?;
        } else {
            store::create_new(&place, &self.repository.blob(blob)?, 0o600)?;
        }
        store::set_mode(&place, mode)?;
        self.done.files += 1;
        Ok(())
    }
}

/// The worktree has a `.git` of its own: a repository that the agent made in its place comes back beside it.
fn beside_own(area: Area, path: &[u8]) -> Vec<u8> {
    match path.strip_prefix(b".git") {
        Some(rest) if area == Area::Worktree && (rest.is_empty() || rest.starts_with(b"/")) => {
            [OWN_ASIDE, rest].concat()
        }
        Some(_) | None => path.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock;
    use crate::worktree::tests::Yard;

    /// Restores what `deed` has made of the ref `k`, into a new worktree.
    fn restored(deed: &str) -> Result<Restored, RestoreError> {
        let yard = Yard::new();
        yard.at(&yard.repository, deed);
        let common = yard.repository.join(".git");
        let repository = Repository::open(&common).unwrap();
        let kept = kept::read(&repository, repository.ref_value("refs/k").unwrap().unwrap())?;
        store::make_dir(&yard.state.locks()).unwrap();
        let lock = lock::wait_exclusive(&yard.state.place_lock("x")).unwrap();
        let top = yard.repository.with_file_name("restored");
        let restored = as_worktree(&common, &kept, &top, None, &Launcher::default(), lock);
        assert!(!yard.repository.with_file_name("outside").join("x").exists(), "{deed}");
        restored
    }

    #[test]
    fn what_somebody_forged_leads_nowhere_else() {
        const RECORD: &str = "blob=$(echo evil | git hash-object -w --stdin); link=$(printf ../outside | git hash-object -w --stdin)
            mkdir ../outside; head=$(git rev-parse HEAD)
            commit() { git commit-tree \"$1\" $2 -m \"gitspool: $3\"; }
            keep() { # MANIFEST TREE
                json=$(echo '{\"format\":1,\"run\":\"01890a5d-ac96-774b-bcce-b302099a8057.1\"}' | git hash-object -w --stdin)
                list=$(printf \"$1\" | git hash-object -w --stdin); none=$(git hash-object -w /dev/null)
                tree=$(printf '100644 blob %s\\tindex\\n100644 blob %s\\tmanifest\\n100644 blob %s\\trecord.json\\n' $none $list $json | git mktree)
                record=$(commit $tree '' 'what no tree holds'); top=$(commit $2 \"-p $head -p $record\" 'uncommitted work')
                git update-ref refs/k $top; }
            own=$(git rev-parse HEAD^{tree})\n";
        for forged in [
            "keep \"w link 777 $link way\\0w file 644 $blob way/x\\0\" $own",
            "keep \"w file 644 $blob a/../../outside/x\\0\" $own",
            "git symbolic-ref HEAD; way=$(printf '120000 blob %s\\tway\\n' $link | git mktree); head=$(commit $way \"-p $head\" x)
             keep \"w file 644 $blob way/x\\0\" $way",
            "keep '' $(printf '100644 blob %s\\t.git\\n' $blob | git mktree)",
        ] {
            let refused = restored(&format!("{RECORD}{forged}"));
            assert!(refused.is_err(), "{forged}: {refused:?}");
        }
        let well =
            restored(&format!("{RECORD}keep \"w file 600 $blob a/.git/x\\0w fifo 600 - f/o\\0\" $own"))
                .unwrap();
        assert_eq!(well.files, 1);
    }

    #[test]
    fn a_repository_in_place_of_the_worktrees_own_comes_back_beside_it() {
        assert_eq!(beside_own(Area::Worktree, b".git/config"), b".git.kept/config");
        assert_eq!(beside_own(Area::Worktree, b".gitignore"), b".gitignore");
        assert_eq!(beside_own(Area::Admin, b".git/config"), b".git/config");
    }
}
