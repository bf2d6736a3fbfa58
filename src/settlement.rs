//! The end of a worktree: what was delivered, what is kept of it, and its removal.
//!
//! Owns `refs/gitspool/kept/<run>`. Looking at what an agent left needs no lock; removal is under the repository's lock,
//! in this order: the files aside into the trash, the branch, the administrative folder, the files. While the
//! administrative folder stands, nothing in the trash has been deleted, so a crash between is undone by one rename.
//!
//! Invariant: nothing that is not ignored is deleted before a ref holds it, on disk.

use std::path::{Path, PathBuf};

use gix::ObjectId;

use crate::git::{self, Launcher, Repository};
use crate::id::RunId;
use crate::kept::{self, Found, Place};
use crate::layout::StateLayout;
use crate::store;
use crate::workspace::{Blocker, BlockerKind, Cleanup, Delivered, Workspace};
use crate::worktree::{Site, WorktreeError, branch_ref};

/// What becomes of a worktree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) cleanup: Cleanup,
    /// Whether what git ignores is kept too.
    pub(crate) keeps_ignored: bool,
    /// How many bytes are kept at most, of what git does not have.
    pub(crate) bytes_max: u64,
}

/// Says what a run has delivered, keeps what no branch holds, and removes what the wish names.
///
/// For a worktree in which no process works any more. Safe to repeat: after a crash at any step it goes on from there.
/// What cannot be kept, is half done, or is held by somebody stays, and [`Delivered::blockers`] says why. A tree that cannot
/// be deleted whole waits in the trash. Waits for the repository's lock while it removes.
///
/// # Errors
///
/// The worktree stays, with all that is in it.
pub(crate) fn settle(
    workspace: &Workspace,
    wish: Wish,
    run: RunId,
    locks: &StateLayout,
    launcher: &Launcher,
) -> Result<Delivered, WorktreeError> {
    settled(workspace, wish, run, locks, launcher).map(|(delivered, _)| delivered)
}

/// The same, for a worktree that stays; and what of it cannot be kept, or is half done there.
pub(crate) fn look(
    workspace: &Workspace,
    wish: Wish,
    run: RunId,
    locks: &StateLayout,
    launcher: &Launcher,
) -> Result<(Delivered, Vec<Blocker>), WorktreeError> {
    settled(workspace, Wish { cleanup: Cleanup::Never, ..wish }, run, locks, launcher)
}

/// What was delivered, and of a worktree that was not to go what keeps it from being kept whole.
fn settled(
    workspace: &Workspace,
    wish: Wish,
    run: RunId,
    locks: &StateLayout,
    launcher: &Launcher,
) -> Result<(Delivered, Vec<Blocker>), WorktreeError> {
    let settling = Settling::open(workspace, wish, run, locks)?;
    let admin = settling.site.admin();
    if !store::exists(&admin) {
        return settling.removed_before().map(|delivered| (delivered, Vec::new()));
    }
    settling.undo_half_a_removal()?;
    let earlier = settling.repository.ref_value(&settling.site.kept_ref())?;
    let place = settling.place(&admin, earlier)?;
    let mut found = kept::look(&place, launcher)?;
    let mut delivered = settling.measure(found.head)?;
    let kept = settling.keep(&place, &found)?;
    delivered.dirty = found.dirty;
    delivered.dirty_summary = found.summary.take();
    delivered.kept_ref = kept.map(|_| settling.site.kept_ref());
    if place.goes {
        let mut blockers = std::mem::take(&mut found.blockers);
        blockers.extend(kept::holders(&place)?);
        if blockers.is_empty() {
            blockers = settling.remove(kept, &found)?;
        }
        delivered.removed = blockers.is_empty();
        delivered.blockers = blockers;
    }
    delivered.bytes = (!delivered.removed).then_some(found.disk_bytes);
    Ok((delivered, found.blockers))
}

/// A worktree that is being settled.
struct Settling<'a> {
    site: Site,
    wish: Wish,
    locks: &'a StateLayout,
    trashed: PathBuf,
    repository: Repository,
    base: ObjectId,
    /// The short name of the branch that was made for it.
    branch: String,
}

impl<'a> Settling<'a> {
    fn open(
        workspace: &Workspace,
        wish: Wish,
        run: RunId,
        locks: &'a StateLayout,
    ) -> Result<Settling<'a>, WorktreeError> {
        let Workspace {
            root, repository: Some(common), branch: Some(branch), base_commit: Some(base), ..
        } = workspace
        else {
            return Err(WorktreeError::NotAWorktree(workspace.root.clone()));
        };
        let base =
            ObjectId::from_hex(base.as_bytes()).map_err(|_| WorktreeError::NotAWorktree(root.clone()))?;
        let site = Site { run, common: common.clone(), root: root.clone() };
        let (repository, trashed) = (Repository::open(common)?, locks.trashed(run));
        Ok(Settling { site, wish, locks, trashed, repository, base, branch: branch.clone() })
    }

    fn place<'s>(&'s self, admin: &'s Path, earlier: Option<ObjectId>) -> Result<Place<'s>, WorktreeError> {
        let tip = self.repository.ref_value(&branch_ref(&self.branch))?;
        let Site { run, common, root } = &self.site;
        Ok(Place {
            run: *run,
            common,
            admin,
            root,
            branch: &self.branch,
            stashes: self.site.stashes_before()?,
            made_at: self.site.made_at(),
            base: self.base,
            fallback: tip.into_iter().chain([self.base]).collect(),
            earlier,
            goes: self.wish.cleanup != Cleanup::Never,
            ignored: self.wish.keeps_ignored,
            bytes_max: self.wish.bytes_max,
        })
    }

    /// After a crash between the first two steps of removal: back to before the first, and all is as it was.
    fn undo_half_a_removal(&self) -> Result<(), WorktreeError> {
        if !store::exists(&self.site.root) && store::exists(&self.trashed) {
            store::rename(&self.trashed, &self.site.root)?;
        }
        Ok(())
    }

    /// What the commits up to `head` bring.
    fn measure(&self, head: ObjectId) -> Result<Delivered, WorktreeError> {
        let [files_changed, insertions, deletions] = git::diff_stat(&self.site.common, self.base, head)?;
        let commits = git::count_commits(&self.site.common, self.base, head)?;
        let head_commit = Some(head.to_string());
        Ok(Delivered { head_commit, commits, files_changed, insertions, deletions, ..Delivered::default() })
    }

    /// Sets the kept ref to all that no branch will hold, durably; what an earlier settling has kept is never let go.
    fn keep(&self, place: &Place<'_>, found: &Found) -> Result<Option<ObjectId>, WorktreeError> {
        let is_held = found.on_branch && self.wish.cleanup != Cleanup::All;
        let is_new = !git::is_within(&self.site.common, found.head, self.base)?;
        let wanted = match (found.uncommitted, self.repository.commit(found.head)) {
            (Some(uncommitted), _) => uncommitted,
            (None, Some(commit)) if is_new && !is_held => match place.earlier {
                Some(earlier) if !git::is_within(&self.site.common, earlier, found.head)? => {
                    let subject = kept::OTHER_SUBJECT;
                    kept::over_earlier(place, &self.repository, commit.tree, vec![found.head], subject)?
                }
                Some(_) | None => found.head,
            },
            (None, _) => return Ok(place.earlier),
        };
        // Also when it is set already: a crash may have come before this. The agent's git synced neither its objects
        // nor the folders that they lie in.
        store::sync_file_system(&self.site.common)?;
        if place.earlier != Some(wanted) {
            self.repository.set_ref(&self.site.kept_ref(), place.earlier, wanted, &self.site.mark())?;
        }
        Ok(Some(wanted))
    }

    /// Removes what the wish names; when the worktree is not what was kept any more, it is put back, and that is told.
    fn remove(&self, kept: Option<ObjectId>, found: &Found) -> Result<Vec<Blocker>, WorktreeError> {
        let root = &self.site.root;
        let lock = self.site.lock(self.locks)?;
        // Read again from the disk: what is deleted below is nowhere else.
        if Repository::open(&self.site.common)?.ref_value(&self.site.kept_ref())? != kept {
            return Err(WorktreeError::Wrong {
                path: root.clone(),
                what: "another process changed what is kept of it",
            });
        }
        store::sync_file_system(&self.site.common)?;
        store::make_dir(&self.locks.trash())?;
        if store::exists(root) {
            store::rename(root, &self.trashed)?;
            // From here on nobody comes in by its name; who was there before is seen now.
            let blockers = self.seen_aside(found, kept)?;
            if !blockers.is_empty() {
                store::rename(&self.trashed, root)?;
                return Ok(blockers);
            }
            store::sync_parent(root)?;
            store::sync_parent(&self.trashed)?;
        }
        if self.wish.cleanup == Cleanup::All {
            self.delete_branch(kept)?;
        }
        self.site.withdraw(&self.site.admin())?;
        drop(lock);
        self.empty_trash();
        Ok(Vec::new())
    }

    /// What has come since the worktree was kept; and whether what was kept is whole without it.
    fn seen_aside(&self, found: &Found, kept: Option<ObjectId>) -> Result<Vec<Blocker>, WorktreeError> {
        let mut blockers = kept::processes(&self.trashed);
        if kept::content_of(&self.trashed).fingerprint != found.fingerprint {
            let what = "something in it was changed while it was kept".to_owned();
            blockers.push(Blocker { kind: BlockerKind::Changing, what });
        }
        let kept = kept.into_iter().chain([found.head]);
        if let Some(missing) = git::missing(&self.site.common, kept, self.base)? {
            let what = format!("what is kept cannot be read without it: {missing}");
            blockers.push(Blocker { kind: BlockerKind::Objects, what });
        }
        Ok(blockers)
    }

    /// Deletes the branch if nothing is lost by that, and nobody else stands on it; else it stays.
    fn delete_branch(&self, kept: Option<ObjectId>) -> Result<(), WorktreeError> {
        let Some(tip) = self.repository.ref_value(&branch_ref(&self.branch))? else { return Ok(()) };
        let is_kept = match kept {
            Some(kept) => git::is_within(&self.site.common, tip, kept)?,
            None => false,
        };
        let is_safe = is_kept || git::is_within(&self.site.common, tip, self.base)?;
        if is_safe && !self.is_checked_out_elsewhere()? {
            self.repository.delete_ref(&branch_ref(&self.branch), tip)?;
        }
        Ok(())
    }

    fn is_checked_out_elsewhere(&self) -> Result<bool, WorktreeError> {
        let own = self.site.admin();
        let others = own.parent().map_or_else(|| Ok(Vec::new()), store::names)?;
        let others = others.iter().map(|name| own.with_file_name(name)).filter(|folder| *folder != own);
        let wanted = format!("ref: {}", branch_ref(&self.branch));
        for folder in others.chain([self.site.common.clone()]) {
            let head = store::read_if_there(&folder.join("HEAD"))?.unwrap_or_default();
            if head.trim_ascii_end() == wanted.as_bytes() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Deletes the files. What cannot be deleted (a folder without write permission) stays in the trash, where it is
    /// nobody's workspace: that is no reason to call a settled run unsettled.
    fn empty_trash(&self) {
        if store::remove_tree(&self.trashed).is_err() {
            // Folders that take no change: an agent may have made them so, as caches of modules do.
            kept::open_folders(&self.trashed);
            let _ = store::remove_tree(&self.trashed);
        }
    }

    /// The same answer again, after a crash behind the point of no return, from the refs alone.
    fn removed_before(&self) -> Result<Delivered, WorktreeError> {
        let (admin, root) = (self.site.admin(), self.site.root.clone());
        if store::exists(&root) {
            return Err(WorktreeError::AdminGone { admin, root });
        }
        let kept = self.repository.ref_value(&self.site.kept_ref())?;
        let commit = kept.and_then(|kept| self.repository.commit(kept));
        let ours = commit.filter(|commit| commit.message.starts_with(kept::OWN_SUBJECT));
        let dirty = ours.as_ref().is_some_and(|commit| commit.message.starts_with(kept::SUBJECT));
        let under = ours.and_then(|commit| commit.parents.first().copied());
        let head =
            under.or(kept).or(self.repository.ref_value(&branch_ref(&self.branch))?).unwrap_or(self.base);
        self.site.withdraw(&admin)?;
        self.empty_trash();
        let kept_ref = kept.map(|_| self.site.kept_ref());
        Ok(Delivered { dirty, kept_ref, removed: true, ..self.measure(head)? })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests act as the agent, who has no such rules")]
pub(crate) mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::worktree::tests::Yard;

    pub(crate) fn wish(cleanup: Cleanup) -> Wish {
        Wish { cleanup, keeps_ignored: false, bytes_max: 1 << 30 }
    }

    fn settle_with(yard: &Yard, made: &Workspace, cleanup: Cleanup) -> Delivered {
        settle(made, wish(cleanup), yard.run, &yard.state, &Launcher::default()).unwrap()
    }

    #[test]
    fn all_uncommitted_work_is_kept_byte_for_byte_and_nothing_of_the_agents_changes() {
        let yard = Yard::new();
        let made = yard.make("a").unwrap();
        let line_break = OsString::from_vec(b"new\nline \xff \"q\"".to_vec());
        let binary: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let write =
            |name: &std::ffi::OsStr, bytes: &[u8]| std::fs::write(made.root.join(name), bytes).unwrap();
        write(".gitignore".as_ref(), b"*.o\n");
        write(".gitattributes".as_ref(), b"* text=auto eol=lf\n*.f filter=loud\n");
        yard.at(&made.root, "git add .gitignore .gitattributes && git commit -qm ignore");
        write("top".as_ref(), b"changed\r\n");
        write("staged".as_ref(), b"first");
        yard.at(&made.root, "git add staged && git rm -q --cached sub/file");
        write("staged".as_ref(), b"second");
        write("binary".as_ref(), &binary);
        write("x.f".as_ref(), b"a\r\nb");
        write("x.o".as_ref(), b"ignored");
        write(&line_break, b"odd");
        yard.at(
            &yard.repository,
            "git config filter.loud.clean 'tr a-z A-Z' && git config core.autocrlf true",
        );
        write("racy".as_ref(), b"1111");
        // The same size and the same time as the index: only the index's own time tells that it cannot be trusted.
        let deed =
            "git config core.trustctime false; touch -d @1700000000 racy; git add racy; printf 2222 > racy;
             touch -d @1700000000 racy $(git rev-parse --git-dir)/index";
        yard.at(&made.root, deed);
        const LOOK: &str = "sha256sum .git ../../../../repo/.git/worktrees/*/index; git --no-optional-locks status --porcelain=v2 -z; cat .git; git rev-parse HEAD";
        let before = yard.at(&made.root, LOOK);
        let delivered = settle_with(&yard, &made, Cleanup::Never);
        let after = yard.at(&made.root, LOOK);
        assert_eq!(before, after);
        assert!(delivered.dirty && !delivered.removed && made.root.is_dir());
        assert_eq!((delivered.commits, delivered.files_changed, delivered.insertions), (1, 2, 3));
        let kept = delivered.kept_ref.unwrap();
        let show = |name: &[u8]| yard.bytes_of(&kept, name);
        assert_eq!(show(b"top"), b"changed\r\n");
        assert_eq!(show(b"staged"), b"second");
        assert_eq!(yard.bytes_of(&format!("{kept}^2"), b"staged"), b"first");
        assert_eq!(show(b"racy"), b"2222", "changed in the moment when the index was written");
        assert_eq!(show(b"binary"), binary);
        assert_eq!(show(b"x.f"), b"a\r\nb");
        assert_eq!(show(b"sub/file"), b"below\n");
        assert_eq!(show(line_break.as_encoded_bytes()), b"odd");
        let names = yard.at(&yard.repository, &format!("git ls-tree -r --name-only {kept}"));
        assert!(!names.contains("x.o"), "{names}");
        assert_eq!(
            yard.at(&yard.repository, &format!("git rev-parse {kept}^1")).trim(),
            delivered.head_commit.unwrap()
        );
        let value = yard.at(&yard.repository, &format!("git rev-parse {kept}"));
        settle_with(&yard, &made, Cleanup::Never);
        assert_eq!(
            yard.at(&yard.repository, &format!("git rev-parse {kept}")),
            value,
            "nothing new, nothing made"
        );
        std::fs::write(made.root.join("later"), "later").unwrap();
        settle_with(&yard, &made, Cleanup::Never);
        yard.at(
            &yard.repository,
            &format!("git merge-base --is-ancestor {value} {kept}", value = value.trim()),
        );
        yard.is_sound();
    }

    #[test]
    fn a_clean_worktree_without_commits_leaves_nothing_when_all_is_removed() {
        let yard = Yard::new();
        let made = yard.make("a").unwrap();
        let delivered = settle_with(&yard, &made, Cleanup::All);
        assert!(delivered.removed && !delivered.dirty && delivered.kept_ref.is_none(), "{delivered:?}");
        assert!(!made.root.exists() && !yard.state.trashed(yard.run).exists());
        assert_eq!(
            yard.at(&yard.repository, "git for-each-ref; git worktree list | wc -l"),
            format!("{} commit\trefs/heads/main\n1\n", made.base_commit.clone().unwrap())
        );
        let again = settle_with(&yard, &made, Cleanup::All);
        assert!(again.removed && again.head_commit == delivered.head_commit);
        yard.is_sound();
    }

    #[test]
    fn removal_of_the_worktree_keeps_its_branch_and_removal_of_all_keeps_its_commits() {
        for (cleanup, has_branch) in [(Cleanup::Worktree, true), (Cleanup::All, false)] {
            let yard = Yard::new();
            let made = yard.make("a").unwrap();
            yard.at(&made.root, "echo 1 > new && git add new && git commit -qm one");
            let delivered = settle_with(&yard, &made, cleanup);
            assert!(delivered.removed && !delivered.dirty && !made.root.exists(), "{delivered:?}");
            let refs = yard.at(&yard.repository, "git for-each-ref --format='%(refname) %(objectname)'");
            let head = delivered.head_commit.clone().unwrap();
            assert_eq!(refs.contains(&format!("refs/heads/gitspool/a {head}")), has_branch, "{refs}");
            let kept = format!("refs/gitspool/kept/{} {head}", yard.run);
            assert_eq!(
                (refs.contains(&kept), delivered.kept_ref.is_some()),
                (!has_branch, !has_branch),
                "{refs}"
            );
            assert_eq!(settle_with(&yard, &made, cleanup), delivered);
            yard.is_sound();
        }
    }

    #[test]
    fn a_settling_that_was_cut_off_is_gone_on_with() {
        for step in
            ["mv \"$ROOT\" \"$TRASH\"", "mv \"$ROOT\" \"$TRASH\" && git update-ref -d refs/heads/gitspool/a"]
        {
            let yard = Yard::new();
            let made = yard.make("a").unwrap();
            yard.at(&made.root, "echo 1 > new && git add new && git commit -qm one && echo 2 > other");
            settle_with(&yard, &made, Cleanup::Never);
            std::fs::create_dir_all(yard.state.trash()).unwrap();
            let (root, trash) = (made.root.display(), yard.state.trashed(yard.run));
            yard.at(&yard.repository, &format!("ROOT={root} TRASH={}; {step}", trash.display()));
            let delivered = settle_with(&yard, &made, Cleanup::All);
            assert!(delivered.removed && delivered.dirty && !trash.exists(), "{delivered:?}");
            assert_eq!(yard.bytes_of(&delivered.kept_ref.unwrap(), b"other"), b"2\n");
            assert_eq!(delivered.commits, 1);
            assert!(!yard.at(&yard.repository, "git for-each-ref").contains("gitspool/a"));
            yard.is_sound();
        }
    }

    #[test]
    fn work_is_kept_whatever_the_agent_did_to_head_and_branch_and_git_file() {
        let commit = "echo 1 > one && git add one && git commit -qm one && echo 2 > two";
        for (deed, has_ref) in [
            ("git checkout -q --detach", true),
            ("git switch -qc other", true),
            ("rm .git", true),
            ("git checkout -q --detach && git branch -D gitspool/a", true),
            ("git update-ref -d refs/heads/gitspool/a", true),
            ("echo nonsense > $(git rev-parse --git-dir)/HEAD", true),
            ("rm .git && mkfifo .git", true),
            ("cd $(git rev-parse --git-dir) && rm index && mkfifo index", true),
            (
                "cd $(git rev-parse --git-dir) && rm -f logs/HEAD ORIG_HEAD && mkfifo logs/HEAD ORIG_HEAD && ln -s /dev/zero config.worktree",
                true,
            ),
            (
                "git config core.attributesFile /nowhere && git config core.excludesFile /nowhere && git config status.showUntrackedFiles no",
                true,
            ),
            ("git config core.fileMode false && git config core.checkStat minimal && chmod 755 two", true),
        ] {
            let yard = Yard::new();
            let made = yard.make("a").unwrap();
            yard.at(&made.root, &format!("{commit} && {deed}"));
            let delivered = settle_with(&yard, &made, Cleanup::All);
            assert!(delivered.removed && delivered.dirty, "{deed}: {delivered:?}");
            assert_eq!((delivered.commits, delivered.kept_ref.is_some()), (1, has_ref), "{deed}");
            let kept = delivered.kept_ref.unwrap();
            assert_eq!(yard.bytes_of(&kept, b"one"), b"1\n", "{deed}");
            assert_eq!(yard.bytes_of(&kept, b"two"), b"2\n", "{deed}");
            yard.is_sound();
        }
    }

    #[test]
    fn what_is_half_done_held_or_cannot_be_kept_blocks_removal_and_is_named() {
        let merge = "git switch -qc x && echo x > top && git commit -qam x && git switch -q - && echo y > top && git commit -qam y";
        for (deed, kind, word) in [
            (format!("{merge}; git merge -q x || true"), BlockerKind::Unfinished, "unfinished merge"),
            (format!("{merge}; git rebase -q x || true"), BlockerKind::Unfinished, "unfinished rebase"),
            (
                format!("{merge}; git cherry-pick x || true"),
                BlockerKind::Unfinished,
                "unfinished cherry-pick",
            ),
            ("git bisect start".to_owned(), BlockerKind::Unfinished, "unfinished bisection"),
            (
                "git worktree unlock . && git worktree lock --reason 'look first' .".to_owned(),
                BlockerKind::Locked,
                "look first",
            ),
            (
                "git worktree add -q inside".to_owned(),
                BlockerKind::WorktreeInside,
                "another worktree lies in it",
            ),
            ("mkfifo .gitignore".to_owned(), BlockerKind::Unreadable, ".gitignore is no file"),
            ("truncate -s 2G large".to_owned(), BlockerKind::TooLarge, "large has 2147483648 bytes"),
            (
                "echo nonsense > $(git rev-parse --git-dir)/index".to_owned(),
                BlockerKind::Index,
                "its index cannot be read",
            ),
        ] {
            let yard = Yard::new();
            let made = yard.make("a").unwrap();
            yard.at(&made.root, &format!("echo 2 > two; {deed}"));
            let delivered = settle_with(&yard, &made, Cleanup::All);
            assert!(!delivered.removed && delivered.dirty && made.root.is_dir(), "{deed}: {delivered:?}");
            let found = delivered.blockers.iter().find(|blocker| blocker.kind == kind);
            assert!(found.is_some_and(|found| found.what.contains(word)), "{deed}: {:?}", delivered.blockers);
            assert_eq!(yard.bytes_of(&delivered.kept_ref.unwrap(), b"two"), b"2\n", "{deed}");
        }
    }

    #[test]
    fn a_process_with_its_place_there_blocks_removal_until_it_is_gone() {
        let yard = Yard::new();
        let made = yard.make("a").unwrap();
        let mut command = std::process::Command::new("cat");
        command.current_dir(&made.root).stdin(std::process::Stdio::piped());
        let mut cat = command.spawn().unwrap();
        let delivered = settle_with(&yard, &made, Cleanup::All);
        let what = &delivered.blockers[0];
        assert_eq!((delivered.removed, what.kind), (false, BlockerKind::Process));
        assert!(what.what.contains(&format!("{} (cat)", cat.id())), "{what:?}");
        drop(cat.stdin.take());
        cat.wait().unwrap();
        assert!(settle_with(&yard, &made, Cleanup::All).removed);
        yard.is_sound();
    }

    #[test]
    fn objects_that_lie_in_the_worktree_block_its_removal() {
        let yard = Yard::new();
        let made = yard.make("a").unwrap();
        let deed = "echo /own/ > .git.aside; mkdir -p own; cp .git.aside $(git rev-parse --git-common-dir)/info/exclude; rm .git.aside
             echo \"$PWD/own\" > $(git rev-parse --git-path objects/info/alternates); echo 1 > one; git add one
             objects=$(git rev-parse --path-format=absolute --git-path objects)
             GIT_OBJECT_DIRECTORY=$PWD/own GIT_ALTERNATE_OBJECT_DIRECTORIES=$objects git commit -qm one";
        yard.at(&made.root, deed);
        let delivered = settle_with(&yard, &made, Cleanup::Worktree);
        assert_eq!(delivered.blockers[0].kind, BlockerKind::Objects, "{delivered:?}");
        assert!(made.root.join("one").exists() && !yard.state.trashed(yard.run).exists());
    }

    #[test]
    fn repositories_inside_and_hidden_changes_are_kept_whole() {
        for deed in [
            "git init -q below && echo x > below/x && git -C below add x && git -C below commit -qm x",
            "mkdir -p deep/er && git init -q deep/er/below",
            "rm .git && git init -q .",
            "git init -q sub",
            "git update-index --assume-unchanged top && echo hidden > top",
        ] {
            let yard = Yard::new();
            let made = yard.make("a").unwrap();
            yard.at(&made.root, &format!("echo 2 > two; {deed}"));
            let delivered = settle_with(&yard, &made, Cleanup::All);
            assert!(delivered.removed && delivered.dirty, "{deed}: {delivered:?}");
            let kept = delivered.kept_ref.unwrap();
            assert_eq!(yard.bytes_of(&kept, b"two"), b"2\n", "{deed}");
            let record = yard.at(&yard.repository, &format!("git show {kept}^2:manifest | tr '\\0' '\\n'"));
            match deed.contains("assume") {
                true => assert_eq!(yard.bytes_of(&kept, b"top"), b"hidden\n"),
                false => assert!(record.contains(".git/config"), "{deed}: {record}"),
            }
            yard.is_sound();
        }
    }

    #[test]
    fn nothing_that_an_agent_set_up_runs_but_in_the_launcher() {
        let yard = Yard::new();
        let made = yard.make("a").unwrap();
        let (ran, spy) = (yard.repository.with_file_name("ran"), yard.repository.with_file_name("spy"));
        let text = format!(
            "#!/bin/sh\necho \"$0 in ${{LAUNCHED:-the open}}\" >> {}\n[ -t 0 ] || cat\n",
            ran.display()
        );
        std::fs::write(&spy, text).unwrap();
        let deed = format!(
            "chmod +x {spy}
             set_traps() {{
                 for key in core.fsmonitor core.sshCommand core.pager core.editor core.alternateRefsCommand diff.external \
                     filter.spy.clean filter.spy.smudge filter.spy.process diff.spy.textconv diff.spy.command gpg.program \
                     merge.spy.driver credential.helper uploadpack.packObjectsHook; do git config $key {spy}; done
                 git config commit.gpgSign true; git config extensions.partialClone origin
                 git config remote.origin.url \"ext::{spy} %S\"; git config protocol.ext.allow always
                 for hook in post-checkout post-index-change reference-transaction post-commit pre-auto-gc fsmonitor-watchman; do
                     mkdir -p $(git rev-parse --git-path hooks); cp {spy} $(git rev-parse --git-path hooks)/$hook; done
             }}
             git init -q below; (cd below; echo x > x; git add x; git commit -qm x; set_traps; echo '* filter=spy' > .gitattributes)
             git init -q linked; (cd linked; echo x > x; git add x; git commit -qm x); git add linked 2>/dev/null; (cd linked; set_traps)
             echo '* filter=spy diff=spy merge=spy' > .gitattributes; echo changed > top; echo 2 > two; mkfifo fifo
             ln -s /etc/passwd passwd; set_traps",
            spy = spy.display()
        );
        yard.at(&made.root, &deed);
        let _ = std::fs::remove_file(&ran);
        let launcher = Launcher { prefix: ["/usr/bin/env", "LAUNCHED=launcher"].map(Into::into).to_vec() };
        let delivered = settle(&made, wish(Cleanup::All), yard.run, &yard.state, &launcher).unwrap();
        let told = std::fs::read_to_string(&ran).unwrap_or_default();
        assert!(told.lines().all(|line| line.ends_with(" in launcher")), "{told}");
        assert!(delivered.removed && delivered.dirty, "{delivered:?}");
        let kept = delivered.kept_ref.unwrap();
        assert_eq!(
            (yard.bytes_of(&kept, b"two"), yard.bytes_of(&kept, b"top")),
            (b"2\n".to_vec(), b"changed\n".to_vec())
        );
        assert_eq!(yard.bytes_of(&kept, b"passwd"), b"/etc/passwd", "a link is what it says");
        assert_eq!(yard.bytes_of(&kept, b"below/x"), b"x\n");
    }

    #[test]
    fn commits_that_were_amended_or_reset_away_and_stashes_are_kept() {
        let yard = Yard::new();
        yard.at(&yard.repository, "echo users > top; git stash -q");
        let made = yard.make("a").unwrap();
        let names = yard.at(
            &made.root,
            "echo 1 > top; git commit -qam one; git rev-parse HEAD; git commit -q --amend -m two; git reset -q --hard HEAD~1;
             git rev-parse ORIG_HEAD; echo stashed > top; echo new > new; git stash -qu; git rev-parse refs/stash; git stash drop -q",
        );
        // Of a stash that was dropped on purpose nothing is kept; of one that is there it is.
        let stash = yard.at(&made.root, "echo more > top; git stash -q; git rev-parse refs/stash");
        let delivered = settle_with(&yard, &made, Cleanup::All);
        assert!(delivered.removed && !delivered.dirty, "{delivered:?}");
        let kept = delivered.kept_ref.clone().unwrap();
        for name in names.lines().take(2).chain([stash.trim()]) {
            yard.at(&yard.repository, &format!("git merge-base --is-ancestor {name} {kept}"));
        }
        let users = yard.at(&yard.repository, "git rev-parse refs/stash@{1}");
        let record = yard.at(&yard.repository, &format!("git show {kept}^2:record.json"));
        assert!(record.contains(stash.trim()) && !record.contains(users.trim()), "{record}");
        assert_eq!(settle_with(&yard, &made, Cleanup::All), delivered);
        yard.is_sound();
    }

    #[test]
    fn an_ignored_repository_does_not_block_removal() {
        let yard = Yard::new();
        let made = yard.make("a").unwrap();
        yard.at(
            &made.root,
            "echo /build/ > .gitignore && git add -A && git commit -qm i && git init -q build/dep",
        );
        assert!(settle_with(&yard, &made, Cleanup::Worktree).removed);
    }

    #[test]
    fn a_worktree_whose_administration_is_gone_is_not_touched() {
        let yard = Yard::new();
        let made = yard.make("a").unwrap();
        yard.at(&yard.repository, "rm -r .git/worktrees");
        let refused = settle(&made, wish(Cleanup::All), yard.run, &yard.state, &Launcher::default());
        assert!(matches!(refused, Err(WorktreeError::AdminGone { .. })), "{refused:?}");
        assert!(made.root.join("top").exists());
    }
}
