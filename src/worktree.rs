//! Worktrees: makes one for a run in the user's repository; `settlement` is its end.
//!
//! Owns, in git's common folder: `worktrees/<run>` (git's administrative folder), `gitspool-tmp/<run>` (the same before
//! it is published), and the branch. All are changed under the lock of the repository; checking out needs no lock.
//!
//! Git's own `worktree add` makes its folder visible before it is whole, and whoever reads it then fails. Here it is made
//! aside and published by one rename. What a crash leaves names itself in an intent, written before anything else, so
//! that the next try removes it; removed are the branch, then the files, then the folder with the intent.

mod site;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use serde::{Deserialize, Serialize};

use crate::git::{self, GitError, Head, Launcher, Repository};
use crate::id::RunId;
use crate::kept;
use crate::layout::StateLayout;
use crate::store::{self, StoreError};
use crate::workspace::{Kind, Plan, Workspace};

pub(crate) use site::Site;
use site::{MADE, STASHES};

/// Why a worktree could not be made or settled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorktreeError {
    #[error(
        "no directory of a repository is given for the worktree: give one, or ask for the workspace `none`"
    )]
    NoDirectory,
    #[error("{} is in no git repository: run `git init` there and commit, or ask for the workspace `directory`", .0.display())]
    NotARepository(PathBuf),
    #[error("{} is a bare repository, or the inside of a `.git`: give a checkout of it", .0.display())]
    Bare(PathBuf),
    #[error("{} has no commit yet: commit once, or ask for the workspace `directory`", .0.display())]
    NoCommit(PathBuf),
    #[error("{base:?} is no commit of {}: give a branch, a tag or a commit that it has", repository.display())]
    NoBase { base: String, repository: PathBuf },
    #[error("commit {commit} has no folder {}: commit it, or give a folder that is committed", folder.display())]
    NoFolder { folder: PathBuf, commit: ObjectId },
    #[error("the branch {branch} exists already in {}: give another name, or delete it", repository.display())]
    BranchTaken { branch: String, repository: PathBuf },
    #[error("{0:?} cannot be the name of a branch")]
    BranchName(String),
    #[error("{} lies inside the repository {}: set GITSPOOL_STATE_DIR to a folder outside any", path.display(), repository.display())]
    Inside { path: PathBuf, repository: PathBuf },
    #[error("{} is in the way of a new worktree: move it away", .0.display())]
    InTheWay(PathBuf),
    #[error("the worktree {} is not as it was made: {what}", path.display())]
    Wrong { path: PathBuf, what: &'static str },
    #[error("{} is gone, so nothing can be kept of {}: look there yourself", admin.display(), root.display())]
    AdminGone { admin: PathBuf, root: PathBuf },
    #[error("the workspace {} is no worktree with a repository and a base", .0.display())]
    NotAWorktree(PathBuf),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is being made, from before its first step; a file in the administrative folder.
#[derive(Clone, Serialize, Deserialize)]
struct Intent {
    branch: String,
    base: String,
}

/// The intent's name until all is made; from then on it is [`MADE`].
const INTENT: &str = "gitspool-intent.json";

impl Intent {
    /// Reads an intent; `None` when there is none, or a power cut has torn it.
    fn read(path: &Path) -> Result<Option<Intent>, StoreError> {
        Ok(store::read_if_there(path)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn branch_ref(&self) -> String {
        branch_ref(&self.branch)
    }
}

/// The full name of a branch.
pub(crate) fn branch_ref(branch: &str) -> String {
    format!("refs/heads/{branch}")
}

/// Whether git's folder for a worktree is that of a run.
pub(crate) fn is_of_a_run(admin: &Path) -> bool {
    [MADE, INTENT].iter().any(|name| store::exists(&admin.join(name)))
}

/// The user's repository, and what is taken of it.
struct Source {
    common: PathBuf,
    /// The way from the top to the place where the agent works.
    below: PathBuf,
    base: ObjectId,
}

impl Source {
    fn find(plan: &Plan) -> Result<Source, WorktreeError> {
        let directory = plan.directory.as_deref().ok_or(WorktreeError::NoDirectory)?;
        let directory = store::at("look at", directory, directory.canonicalize())?;
        let Some((repository, top)) = git::find(&directory)? else {
            return Err(WorktreeError::NotARepository(directory));
        };
        let git_dir = repository.git_dir();
        let git_dir = store::at("look at", git_dir, git_dir.canonicalize())?;
        let Some(top) = top.filter(|_| !directory.starts_with(&git_dir)) else {
            return Err(WorktreeError::Bare(directory));
        };
        let top = store::at("look at", &top, top.canonicalize())?;
        let Ok(below) = directory.strip_prefix(&top) else { return Err(WorktreeError::Bare(directory)) };
        let common = repository.common_dir();
        let common = store::at("look at", common, common.canonicalize())?;
        let base = match (&plan.base, repository.head()?.commit) {
            (Some(base), _) => git::resolve(&git_dir, base)?
                .ok_or_else(|| WorktreeError::NoBase { base: base.clone(), repository: top.clone() })?,
            (None, Some(head)) => head,
            (None, None) => return Err(WorktreeError::NoCommit(top)),
        };
        if !below.as_os_str().is_empty() && !repository.has_folder(base, below)? {
            return Err(WorktreeError::NoFolder { folder: below.to_owned(), commit: base });
        }
        Ok(Source { common, below: below.to_owned(), base })
    }
}

/// Makes a worktree on a new branch; an earlier try of the same run, wherever it ended, is removed or completed first.
///
/// Waits for the lock of the repository, and holds it for all but the checkout.
///
/// # Errors
///
/// Nothing is left behind but what the next call for this run removes; an agent must not start anywhere else.
pub(crate) fn make(
    plan: &Plan,
    locks: &StateLayout,
    run: RunId,
    name: &str,
    launcher: &Launcher,
) -> Result<Workspace, WorktreeError> {
    let source = Source::find(plan)?;
    let site = Site { run, root: real_place(&plan.path)?, common: source.common.clone() };
    let lock = site.lock(locks)?;
    let intent = match Intent::read(&site.admin().join(MADE))? {
        Some(intent) if store::exists(&site.dot_git()) => intent,
        Some(_) => {
            return Err(WorktreeError::Wrong { path: site.root, what: "its files are gone; settle it" });
        }
        None => {
            clear(&site)?;
            let published = publish(plan, &source, &site, name);
            let intent = published.or_else(|error| clear(&site).and(Err(error)))?;
            drop(lock);
            check_out(&site, &intent, &source, launcher).or_else(|error| {
                let _lock = site.lock(locks)?;
                clear(&site).and(Err(error))
            })?;
            intent
        }
    };
    Ok(Workspace {
        kind: Kind::Worktree,
        // Joined with nothing a path would end in a slash.
        path: site.root.iter().chain(source.below.iter()).collect(),
        root: site.root,
        repository: Some(site.common),
        branch: Some(intent.branch),
        base_commit: Some(intent.base),
    })
}

/// Removes what an unfinished [`make`] of a run left. A worktree that was made whole stays.
pub(crate) fn discard(plan: &Plan, locks: &StateLayout, run: RunId) -> Result<(), WorktreeError> {
    // Where no repository or no place is, nothing was begun; `make` has said so.
    let (Some(common), Ok(root)) = (common_of(plan)?, real_place(&plan.path)) else { return Ok(()) };
    let site = Site { run, root, common };
    let _lock = site.lock(locks)?;
    if Intent::read(&site.admin().join(MADE))?.is_some() {
        return Ok(());
    }
    clear(&site)
}

/// Git's common folder of the repository that a plan is about; `None` when there is none.
fn common_of(plan: &Plan) -> Result<Option<PathBuf>, WorktreeError> {
    let directory = plan.directory.as_ref().and_then(|directory| directory.canonicalize().ok());
    let found = directory.map_or(Ok(None), |directory| git::find(&directory))?;
    let Some((repository, _)) = found else { return Ok(None) };
    let common = repository.common_dir();
    Ok(Some(store::at("look at", common, common.canonicalize())?))
}

/// The real path of a worktree to be; its folder is made, and must lie outside any repository.
fn real_place(path: &Path) -> Result<PathBuf, WorktreeError> {
    let in_the_way = || WorktreeError::InTheWay(path.to_owned());
    let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(in_the_way)?;
    store::make_dir(parent)?;
    let parent = store::at("look at", parent, parent.canonicalize())?;
    match parent.ancestors().find(|folder| git::is_repository(folder)) {
        Some(repository) => {
            Err(WorktreeError::Inside { path: path.to_owned(), repository: repository.to_owned() })
        }
        None => Ok(parent.join(name)),
    }
}

/// Removes what an unfinished try left: only what its intent names, and of branches only one that it made itself.
fn clear(site: &Site) -> Result<(), WorktreeError> {
    let repository = Repository::open(&site.common)?;
    for folder in [site.admin(), site.staging()] {
        if !store::exists(&folder) {
            continue;
        }
        if let Some(intent) = Intent::read(&folder.join(INTENT))? {
            drop_unused_branch(site, &repository, &intent)?;
        }
        store::remove_tree(&site.root)?;
        site.withdraw(&folder)?;
    }
    Ok(store::remove_tree(&site.aside(".gone"))?)
}

/// Deletes the branch of an intent, if the log of the branch says that this run made it and nobody moved it.
fn drop_unused_branch(site: &Site, repository: &Repository, intent: &Intent) -> Result<(), WorktreeError> {
    let name = intent.branch_ref();
    let Ok(base) = ObjectId::from_hex(intent.base.as_bytes()) else { return Ok(()) };
    let log = store::read_if_there(&site.common.join("logs").join(&name))?.unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let is_ours = log.lines().count() == 1 && log.trim_end().ends_with(&site.mark());
    match repository.ref_value(&name)? {
        Some(value) if is_ours && value == base => Ok(repository.delete_ref(&name, value)?),
        Some(_) | None => Ok(()),
    }
}

/// Makes the branch, the worktree's `.git`, and the administrative folder, visible to others by the last step only.
fn publish(plan: &Plan, source: &Source, site: &Site, name: &str) -> Result<Intent, WorktreeError> {
    if !store::remove_empty_dir(&site.root)? && store::exists(&site.root) {
        return Err(WorktreeError::InTheWay(site.root.clone()));
    }
    let intent = make_branch(plan, source, site, name)?;
    store::make_one_dir(&site.root)?;
    let admin = site.admin();
    store::create_synced(&site.dot_git(), &[b"gitdir: ", admin.as_os_str().as_bytes(), b"\n"])?;
    for folder in site.root.ancestors().take(2) {
        store::sync_dir(folder)?;
    }
    let worktrees = admin.parent().unwrap_or(&site.common);
    store::rename_into(&site.staging(), worktrees, &admin)?;
    store::sync_dir(worktrees)?;
    store::sync_dir(&site.common)?;
    Ok(intent)
}

/// Makes the first branch that is free, with its intent and the administrative folder staged before it.
fn make_branch(plan: &Plan, source: &Source, site: &Site, name: &str) -> Result<Intent, WorktreeError> {
    let repository = Repository::open(&site.common)?;
    let candidates = plan.branch.clone().map_or_else(|| branches_for(name, site.run), |branch| vec![branch]);
    for branch in &candidates {
        if !git::is_branch_name(branch) {
            return Err(WorktreeError::BranchName(branch.clone()));
        }
        let intent = Intent { branch: branch.clone(), base: source.base.to_string() };
        let full = intent.branch_ref();
        if repository.ref_value(&full)?.is_some() {
            continue;
        }
        stage(site, &intent, source.base)?;
        match repository.set_ref(&full, None, source.base, &site.mark()) {
            Ok(()) => return Ok(intent),
            // Somebody who does not take our lock was faster.
            Err(_) if Repository::open(&site.common)?.ref_value(&full)?.is_some() => {
                site.withdraw(&site.staging())?
            }
            Err(error) => return Err(error.into()),
        }
    }
    let branch = candidates.into_iter().next().unwrap_or_default();
    Err(WorktreeError::BranchTaken { branch, repository: site.common.clone() })
}

/// The branches that a run may get, the best first.
fn branches_for(name: &str, run: RunId) -> Vec<String> {
    let plain = format!("gitspool/{name}");
    // A task may have a name that a branch may not: `a..b`, `x.lock`.
    let plain = if git::is_branch_name(&plain) { plain } else { plain.replace('.', "-") };
    let task = run.task.to_string();
    let longer = format!("{plain}-{}", &task[task.len() - 6..]);
    let longest = format!("{longer}-{}", run.attempt);
    vec![plain, longer, longest]
}

/// Writes the administrative folder aside, the intent first.
fn stage(site: &Site, intent: &Intent, base: ObjectId) -> Result<(), WorktreeError> {
    let staging = site.staging();
    let logs = staging.join("logs");
    store::make_dir(&logs)?;
    let record = serde_json::to_vec(intent).expect("because two texts are JSON");
    store::create_synced(&staging.join(INTENT), &[&record, b"\n"])?;
    let stashes = kept::stashes(&site.common);
    let stashes: String = stashes.iter().map(|(id, _)| format!("{id}\n")).collect();
    store::create_synced(&staging.join(STASHES), &[stashes.as_bytes()])?;
    store::create_synced(&staging.join("HEAD"), &[b"ref: ", intent.branch_ref().as_bytes(), b"\n"])?;
    store::create_synced(&staging.join("commondir"), &[b"../..\n"])?;
    store::create_synced(&staging.join("gitdir"), &[site.dot_git().as_os_str().as_bytes(), b"\n"])?;
    // So that neither `git worktree prune` nor `git gc` of somebody else removes it.
    store::create_synced(&staging.join("locked"), &[site.mark().as_bytes(), b"\n"])?;
    // Once it is there git goes on with it, whatever is configured: it shows the head when a branch was deleted.
    store::create_synced(&logs.join("HEAD"), &[git::log_line(base, &site.mark()).as_bytes()])?;
    store::sync_dir(&logs)?;
    Ok(store::sync_dir(&staging)?)
}

fn check_out(
    site: &Site,
    intent: &Intent,
    source: &Source,
    launcher: &Launcher,
) -> Result<(), WorktreeError> {
    let admin = site.admin();
    git::in_worktree(
        launcher,
        &admin,
        &site.root,
        &["reset", "--hard", "--quiet", "--no-recurse-submodules"],
    )?;
    verify(site, intent, source).map_err(|what| WorktreeError::Wrong { path: site.root.clone(), what })?;
    store::rename(&admin.join(INTENT), &admin.join(MADE))?;
    Ok(store::sync_dir(&admin)?)
}

/// What is not as it must be, after programs that others chose (filters) have run there.
fn verify(site: &Site, intent: &Intent, source: &Source) -> Result<(), &'static str> {
    let head = Repository::open(&site.admin()).and_then(|repository| repository.head());
    let expected = Head { commit: Some(source.base), branch: Some(intent.branch_ref()) };
    if head.ok() != Some(expected) {
        return Err("its HEAD is not the new branch at the base commit");
    }
    let dot_git = [b"gitdir: ", site.admin().as_os_str().as_bytes(), b"\n"].concat();
    if store::read(&site.dot_git()).ok() != Some(dot_git) {
        return Err("its `.git` does not lead to the repository");
    }
    let place = site.root.join(&source.below).canonicalize().ok();
    if place.filter(|place| place.is_dir()) != Some(site.root.join(&source.below).components().collect()) {
        return Err("the folder for the agent is not there");
    }
    match site.root.ancestors().skip(1).find(|folder| git::is_repository(folder)) {
        Some(_) => Err("it lies inside another repository"),
        None => Ok(()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests act as the user, who has no such rules")]
pub(crate) mod tests {
    use std::process::Command;

    use super::*;
    use crate::clock;
    use crate::workspace::Cleanup;

    /// A repository with one commit, a place for worktrees, and a run.
    pub(crate) struct Yard {
        folder: tempfile::TempDir,
        pub(crate) repository: PathBuf,
        pub(crate) state: StateLayout,
        pub(crate) run: RunId,
    }

    impl Yard {
        pub(crate) fn new() -> Yard {
            let folder = tempfile::tempdir().unwrap();
            let top = folder.path().canonicalize().unwrap();
            let state = StateLayout::new(top.join("state"), "spool");
            let yard = Yard { folder, repository: top.join("repo"), state, run: run() };
            yard.at(&top, "git init -q -b main repo");
            yard.at(
                &yard.repository,
                "mkdir sub && echo below > sub/file && echo top > top && git add -A && git commit -qm first",
            );
            yard
        }

        /// Runs a shell text as the user, in `folder`; it must succeed.
        pub(crate) fn at(&self, folder: &Path, text: &str) -> String {
            let output = self.shell(folder, text);
            assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        }

        fn shell(&self, folder: &Path, text: &str) -> std::process::Output {
            let mut command = Command::new("sh");
            command.args(["-ec", text]).current_dir(folder).env("HOME", self.folder.path());
            for role in ["AUTHOR", "COMMITTER"] {
                command
                    .env(format!("GIT_{role}_NAME"), "a user")
                    .env(format!("GIT_{role}_EMAIL"), "user@example.org");
            }
            command.output().unwrap()
        }

        pub(crate) fn bytes_of(&self, commit: &str, path: &[u8]) -> Vec<u8> {
            let object = [commit.as_bytes(), b":", path].concat();
            let object = std::ffi::OsStr::from_bytes(&object);
            let output = Command::new("git")
                .arg("-C")
                .arg(&self.repository)
                .args(["cat-file", "blob"])
                .arg(object)
                .output();
            let output = output.unwrap();
            assert!(
                output.status.success(),
                "{}: {}",
                object.display(),
                String::from_utf8_lossy(&output.stderr)
            );
            output.stdout
        }

        pub(crate) fn plan(&self) -> Plan {
            Plan {
                path: self.state.workspace(self.run),
                directory: Some(self.repository.clone()),
                base: None,
                branch: None,
            }
        }

        pub(crate) fn make(&self, name: &str) -> Result<Workspace, WorktreeError> {
            make(&self.plan(), &self.state, self.run, name, &Launcher::default())
        }

        pub(crate) fn is_sound(&self) {
            let said = self
                .at(&self.repository, "git fsck --strict --no-dangling 2>&1 && git worktree list >/dev/null");
            assert_eq!(said, "");
            assert_eq!(self.at(&self.repository, "ls -A .git/gitspool-tmp"), "");
        }

        /// Nothing of a run is left.
        fn is_untouched(&self) {
            let said = self.at(
                &self.repository,
                "git for-each-ref; ls .git/worktrees .git/gitspool-tmp 2>/dev/null || true",
            );
            assert!(!said.contains("gitspool/") && !said.contains(&self.run.to_string()), "{said}");
            assert!(!self.state.workspace(self.run).exists());
        }
    }

    fn run() -> RunId {
        RunId { task: clock::new_id(), attempt: 1 }
    }

    #[test]
    fn a_worktree_is_on_its_own_branch_locked_and_clean_and_git_knows_it() {
        let yard = Yard::new();
        let made = yard.make("fix").unwrap();
        assert_eq!(made.branch.as_deref(), Some("gitspool/fix"));
        assert_eq!(
            (&made.path, &made.root),
            (&yard.state.workspace(yard.run), &yard.state.workspace(yard.run))
        );
        assert_eq!(made.repository, Some(yard.repository.join(".git")));
        assert_eq!(
            yard.at(&made.root, "git branch --show-current; git status --porcelain; cat top"),
            "gitspool/fix\ntop\n"
        );
        let list = yard.at(&yard.repository, "git worktree list --porcelain");
        assert!(
            list.contains(&format!("worktree {}\n", made.root.display()))
                && list.contains("locked gitspool: run")
        );
        yard.at(&yard.repository, "git worktree prune --expire now && git gc -q");
        assert_eq!(yard.make("fix").unwrap(), made, "the second call gives the same");
        yard.is_sound();
    }

    #[test]
    fn eight_worktrees_are_made_at_once_while_a_foreign_git_prunes() {
        let yard = Yard::new();
        let runs: Vec<_> = (0..8).map(|_| run()).collect();
        std::thread::scope(|scope| {
            let made = runs.iter().map(|run| {
                let plan = Plan { path: yard.state.workspace(*run), ..yard.plan() };
                let state = &yard.state;
                scope.spawn(move || make(&plan, state, *run, "same", &Launcher::default()).unwrap())
            });
            let made: Vec<_> = made.collect();
            for _ in 0..10 {
                yard.at(&yard.repository, "git worktree prune");
            }
            let mut branches: Vec<_> =
                made.into_iter().map(|made| made.join().unwrap().branch.unwrap()).collect();
            branches.sort();
            branches.dedup();
            assert_eq!(branches.len(), 8);
        });
        assert_eq!(yard.at(&yard.repository, "git worktree list | wc -l").trim(), "9");
        yard.is_sound();
    }

    #[test]
    fn the_agent_works_at_the_same_folder_below_as_the_user() {
        let yard = Yard::new();
        let plan = Plan { directory: Some(yard.repository.join("sub")), ..yard.plan() };
        let made = make(&plan, &yard.state, yard.run, "a", &Launcher::default()).unwrap();
        assert_eq!(made.path, made.root.join("sub"));
        assert!(made.path.join("file").exists());
        let yard = Yard::new();
        std::fs::create_dir(yard.repository.join("fresh")).unwrap();
        let plan = Plan { directory: Some(yard.repository.join("fresh")), ..yard.plan() };
        let refused = make(&plan, &yard.state, yard.run, "a", &Launcher::default()).unwrap_err();
        assert!(refused.to_string().contains("has no folder fresh"), "{refused}");
        yard.is_untouched();
    }

    #[test]
    fn a_taken_branch_gives_a_longer_name_unless_it_was_asked_for() {
        let yard = Yard::new();
        let task = yard.run.task.to_string();
        let end = &task[task.len() - 6..];
        yard.at(&yard.repository, "git branch gitspool/a && git pack-refs --all");
        assert_eq!(yard.make("a").unwrap().branch, Some(format!("gitspool/a-{end}")));
        let second = RunId { attempt: 2, ..yard.run };
        let plan = Plan { path: yard.state.workspace(second), ..yard.plan() };
        let made = make(&plan, &yard.state, second, "a", &Launcher::default()).unwrap();
        assert_eq!(made.branch, Some(format!("gitspool/a-{end}-2")));
        let third = RunId { attempt: 3, ..yard.run };
        let plan = Plan { path: yard.state.workspace(third), branch: Some("gitspool/a".to_owned()), ..plan };
        let refused = make(&plan, &yard.state, third, "a", &Launcher::default()).unwrap_err();
        assert!(refused.to_string().contains("gitspool/a exists already"), "{refused}");
        let plan = Plan { branch: Some("a..b".to_owned()), ..plan };
        assert!(make(&plan, &yard.state, third, "a", &Launcher::default()).is_err());
        assert_eq!(branches_for("x..y.lock", third)[0], "gitspool/x--y-lock");
        yard.is_sound();
    }

    #[test]
    fn the_base_may_be_any_revision() {
        let yard = Yard::new();
        yard.at(&yard.repository, "git tag -am t first && echo 2 > top && git commit -qam second");
        let plan = Plan { base: Some("first".to_owned()), ..yard.plan() };
        let made = make(&plan, &yard.state, yard.run, "a", &Launcher::default()).unwrap();
        assert_eq!(yard.at(&made.root, "cat top"), "top\n");
        let other = run();
        for base in ["nonsense", "--all", ""] {
            let plan = Plan { base: Some(base.to_owned()), path: yard.state.workspace(other), ..yard.plan() };
            let refused = make(&plan, &yard.state, other, "b", &Launcher::default());
            assert!(matches!(refused, Err(WorktreeError::NoBase { .. })), "{base}: {refused:?}");
        }
    }

    #[test]
    fn what_is_no_repository_with_a_commit_is_refused_with_the_way_out() {
        let yard = Yard::new();
        let top = yard.folder.path();
        yard.at(top, "git init -q empty && git init -q --bare bare.git && mkdir plain");
        for (place, words) in [
            ("empty", "has no commit yet: commit once"),
            ("bare.git", "is a bare repository"),
            ("repo/.git", "is a bare repository"),
            ("repo/.git/refs", "is a bare repository"),
            ("plain", "is in no git repository"),
            ("nowhere", "cannot look at"),
        ] {
            let plan = Plan { directory: Some(top.join(place)), ..yard.plan() };
            let refused = make(&plan, &yard.state, yard.run, "a", &Launcher::default()).unwrap_err();
            assert!(refused.to_string().contains(words), "{place}: {refused}");
        }
        let plan = Plan { path: yard.repository.join("sub/work"), ..yard.plan() };
        let refused = make(&plan, &yard.state, yard.run, "a", &Launcher::default()).unwrap_err();
        assert!(refused.to_string().contains("lies inside the repository"), "{refused}");
        yard.is_untouched();
    }

    #[test]
    fn a_worktree_of_a_checkout_that_is_itself_one_starts_from_its_head() {
        let yard = Yard::new();
        yard.at(
            &yard.repository,
            "git worktree add -q ../linked && cd ../linked && echo 2 > top && git commit -qam second",
        );
        let plan = Plan { directory: Some(yard.repository.with_file_name("linked")), ..yard.plan() };
        let made = make(&plan, &yard.state, yard.run, "a", &Launcher::default()).unwrap();
        assert_eq!(yard.at(&made.root, "cat top"), "2\n");
        assert_eq!(made.repository, Some(yard.repository.join(".git")));
    }

    #[test]
    fn what_a_repository_wants_to_run_is_run_by_the_launcher_only() {
        let yard = Yard::new();
        let ran = yard.folder.path().join("ran");
        let spy = yard.folder.path().join("spy");
        let text = format!(
            "#!/bin/sh\necho \"$0 in ${{LAUNCHED:-the open}}\" >> {}\n[ -t 0 ] || cat\n",
            ran.display()
        );
        std::fs::write(&spy, text).unwrap();
        let (spy, git) = (spy.display(), yard.repository.join(".git"));
        yard.at(&yard.repository, &format!(
            "chmod +x {spy}; echo '* filter=spy diff=spy' > .gitattributes; git add -A; git commit -qm attributes;
             for hook in post-checkout post-index-change reference-transaction post-commit pre-auto-gc; do
                 cp {spy} .git/hooks/$hook; done
             git config core.fsmonitor {spy}; git config filter.spy.clean {spy}; git config filter.spy.smudge {spy}
             git config diff.spy.textconv {spy}; git config diff.spy.command {spy}; git config diff.external {spy}
             git config core.hooksPath {hooks}; git config gc.auto 1", hooks = git.join("hooks").display()));
        let _ = std::fs::remove_file(&ran);
        let prefix = ["/usr/bin/env", "LAUNCHED=launcher"].map(Into::into).to_vec();
        let launcher = Launcher { prefix };
        let made = make(&yard.plan(), &yard.state, yard.run, "a", &launcher).unwrap();
        std::fs::write(made.root.join("top"), "changed").unwrap();
        std::fs::write(made.root.join("new"), "new").unwrap();
        let delivered = {
            let wish = crate::settlement::tests::wish(Cleanup::All);
            crate::settlement::settle(&made, wish, yard.run, &yard.state, &launcher).unwrap()
        };
        assert!(delivered.removed && delivered.dirty, "{delivered:?}");
        let ran = std::fs::read_to_string(&ran).unwrap();
        assert!(ran.lines().count() > 0, "the filter has run");
        assert!(ran.lines().all(|line| line == format!("{spy} in launcher")), "{ran}");
        assert_eq!(yard.bytes_of(&delivered.kept_ref.unwrap(), b"new"), b"new");
    }

    #[test]
    fn a_try_that_failed_leaves_nothing() {
        let yard = Yard::new();
        let failing = Launcher { prefix: vec!["false".into()] };
        let refused = make(&yard.plan(), &yard.state, yard.run, "a", &failing).unwrap_err();
        assert!(refused.to_string().contains("git reset"), "{refused}");
        yard.is_untouched();
        let idle = Launcher { prefix: vec!["true".into()] };
        let below = Plan { directory: Some(yard.repository.join("sub")), ..yard.plan() };
        let refused = make(&below, &yard.state, yard.run, "a", &idle).unwrap_err();
        assert!(refused.to_string().contains("the folder for the agent is not there"), "{refused}");
        yard.is_untouched();
        std::fs::create_dir_all(yard.plan().path.join("precious")).unwrap();
        let refused = make(&yard.plan(), &yard.state, yard.run, "a", &Launcher::default()).unwrap_err();
        assert!(matches!(refused, WorktreeError::InTheWay(_)), "{refused}");
        assert!(yard.plan().path.join("precious").exists());
    }

    #[test]
    fn what_a_crash_left_at_any_step_is_cleared_by_the_next_try() {
        // Each stops after one more step of the making.
        for steps in 0..7 {
            let yard = Yard::new();
            let plan = yard.plan();
            let source = Source::find(&plan).unwrap();
            let site =
                Site { run: yard.run, root: real_place(&plan.path).unwrap(), common: source.common.clone() };
            let intent = Intent { branch: "gitspool/a".to_owned(), base: source.base.to_string() };
            let repository = Repository::open(&site.common).unwrap();
            let half = |site: &Site| {
                std::fs::create_dir_all(site.staging()).unwrap();
                std::fs::write(site.staging().join(INTENT), "{").unwrap();
            };
            match steps {
                0 => half(&site),
                _ => stage(&site, &intent, source.base).unwrap(),
            }
            if steps >= 2 {
                repository.set_ref("refs/heads/gitspool/a", None, source.base, &site.mark()).unwrap();
            }
            if steps >= 3 {
                std::fs::create_dir(&site.root).unwrap();
            }
            if steps >= 4 {
                std::fs::write(site.dot_git(), "gitdir: ").unwrap();
            }
            if steps >= 5 {
                std::fs::create_dir_all(site.admin().parent().unwrap()).unwrap();
                std::fs::rename(site.staging(), site.admin()).unwrap();
                std::fs::write(site.root.join("half"), "checked out").unwrap();
            }
            if steps >= 6 {
                std::fs::rename(site.admin(), site.aside(".gone")).unwrap();
                std::fs::remove_dir_all(&site.root).unwrap();
                repository.delete_ref("refs/heads/gitspool/a", source.base).unwrap();
            }
            let made = yard.make("a").unwrap();
            assert_eq!(made.branch.as_deref(), Some("gitspool/a"), "{steps}");
            assert_eq!(yard.at(&made.root, "git status --porcelain; ls"), "sub\ntop\n", "{steps}");
            yard.is_sound();
        }
    }

    #[test]
    fn a_branch_that_a_crashed_try_did_not_make_is_left_alone() {
        let yard = Yard::new();
        let plan = yard.plan();
        let source = Source::find(&plan).unwrap();
        let site =
            Site { run: yard.run, root: real_place(&plan.path).unwrap(), common: source.common.clone() };
        stage(&site, &Intent { branch: "gitspool/a".to_owned(), base: source.base.to_string() }, source.base)
            .unwrap();
        yard.at(&yard.repository, "git branch gitspool/a");
        assert!(yard.make("a").unwrap().branch.unwrap().starts_with("gitspool/a-"));
        yard.at(&yard.repository, "git rev-parse gitspool/a");
    }
}
