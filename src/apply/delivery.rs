//! What a run has to give: from where to where, with what it left uncommitted.

use std::path::{Path, PathBuf};

use gix::ObjectId;

use super::{ApplyError, Place, Wish, cleaning, id};
use crate::applied::{Applied, How};
use crate::assignment::Assignment;
use crate::git;
use crate::id::RunId;
use crate::jsonl;
use crate::kept;
use crate::lock;
use crate::process;
use crate::record::{self, Record};
use crate::spool::Spool;
use crate::stage;
use crate::store;
use crate::workspace::{Kind, Workspace, kept_ref};
use crate::worktree::{Site, branch_ref};

/// What the records of a run tell.
pub(crate) struct Delivery {
    pub(crate) run: RunId,
    /// Git's common folder of the repository.
    pub(super) common: PathBuf,
    pub(super) root: PathBuf,
    pub(super) applied: Vec<Applied>,
    workspace: Workspace,
    record: Record,
    assignment: Assignment,
}

/// What is to be applied.
pub(super) struct Work {
    pub(super) base: ObjectId,
    /// The run's last commit.
    pub(super) head: ObjectId,
    /// The same, or a commit of what was left uncommitted on top of it.
    pub(super) tip: ObjectId,
    pub(super) tree: ObjectId,
}

fn record_of(spool: &Spool, run: RunId) -> Result<Record, ApplyError> {
    let bytes = store::read_if_there(&spool.layout.run(run).log())?.unwrap_or_default();
    record::of_log(run, &jsonl::parse(&bytes)).ok_or(ApplyError::NotBegun(run))
}

impl Delivery {
    /// Reads the records of a run that is over, and that worked in a worktree.
    pub(super) fn of(spool: &Spool, run: RunId) -> Result<Delivery, ApplyError> {
        let paths = spool.layout.run(run);
        let record = record_of(spool, run)?;
        if record.outcome.is_none() || lock::is_held(&paths.lock())? {
            return Err(ApplyError::Live(run));
        }
        let assignment: Assignment =
            serde_json::from_slice(&store::read(&paths.task())?).map_err(|error| ApplyError::NotWhole {
                run,
                what: format!("{}: {error}", paths.task().display()),
            })?;
        let Some(workspace) = record.workspace.clone() else {
            return Err(ApplyError::NotWhole { run, what: "its workspace was never made".to_owned() });
        };
        let Some(common) = workspace.repository.clone().filter(|_| workspace.kind == Kind::Worktree) else {
            return Err(ApplyError::NotAWorktree { run, kind: workspace.kind.word() });
        };
        let (root, applied) = (workspace.root.clone(), record.applied.clone());
        Ok(Delivery { run, common, root, applied, workspace, record, assignment })
    }

    /// Has a worktree that still stands looked at by a workspace stage, which keeps what is uncommitted there.
    pub(super) fn look_again(&mut self, spool: &Spool) -> Result<(), ApplyError> {
        let site = Site { run: self.run, common: self.common.clone(), root: self.root.clone() };
        if !store::is_real_folder(&self.root) || !store::exists(&site.admin()) {
            return Ok(());
        }
        let paths = spool.layout.run(self.run);
        let arguments = [stage::VERB.into(), stage::LOOK.into(), paths.dir().as_os_str().to_owned()];
        let failed = |error: &dyn std::fmt::Display| {
            ApplyError::Stage(format!("cannot look at the worktree {}: {error}", self.root.display()))
        };
        let answer = process::carry_out(&arguments, self.run, &|| true).map_err(|error| failed(&error))?;
        match serde_json::from_slice(&answer).map_err(|error| failed(&error))? {
            stage::Answer::Settled { .. } => {}
            stage::Answer::Failed { message } => {
                return Err(ApplyError::NotWhole { run: self.run, what: message });
            }
            stage::Answer::Made { .. } | stage::Answer::Discarded => {
                return Err(failed(&"it answered otherwise"));
            }
        }
        self.record = record_of(spool, self.run)?;
        Ok(())
    }

    /// What is to be applied, as objects that are all there.
    pub(super) fn result(&self, place: &Place) -> Result<Work, ApplyError> {
        let repository = &place.repository;
        let not_whole = |what: String| ApplyError::NotWhole { run: self.run, what };
        let base = self.workspace.base_commit.as_deref().and_then(id);
        let base = base.ok_or_else(|| not_whole("its base is not known".to_owned()))?;
        let kept = repository.ref_value(&kept_ref(self.run))?;
        let branch = self.workspace.branch.as_deref().map(branch_ref);
        let tip = || branch.as_deref().map_or(Ok(None), |branch| repository.ref_value(branch));
        let (head, tree) = match (&self.record.delivered, kept) {
            (Some(delivered), _) if !delivered.dirty => (delivered.head_commit.as_deref().and_then(id), None),
            (_, Some(kept)) => {
                let kept = kept::read(repository, kept)?;
                (Some(kept.head), Some(kept.tree))
            }
            (Some(_), None) => {
                let what = format!("what it left uncommitted is not on {}", kept_ref(self.run));
                return Err(not_whole(what));
            }
            // Nobody described what it left, and its worktree is gone.
            (None, None) => (tip()?, None),
        };
        let head = head.ok_or_else(|| not_whole("its last commit is not known".to_owned()))?;
        for commit in [base, head] {
            if repository.commit(commit).is_none() {
                return Err(not_whole(format!("the commit {commit} is not in {}", self.common.display())));
            }
        }
        let head_tree = repository.commit(head).map_or(head, |commit| commit.tree);
        let tree = match tree.filter(|tree| *tree != head_tree) {
            Some(tree) => cleaning::clean(place, head, tree)?,
            None => head_tree,
        };
        let tip = if tree == head_tree {
            head
        } else {
            let message = format!("Uncommitted work of run {}", self.run);
            let who = git::Identity::of_author(
                &self.common,
                repository.ref_value(&kept_ref(self.run))?.unwrap_or(head),
            )?;
            git::write_commit(&self.common, [&who, &who], tree, &[head], &message)?
        };
        if let Some(missing) = git::missing(&self.common, [tip].into_iter(), base)? {
            return Err(not_whole(missing));
        }
        Ok(Work { base, head, tip, tree })
    }

    /// The checkout whose branch is meant when none is named: the one where the user is, else the one of the task.
    pub(super) fn checkout(&self, spool: &Spool, here: Option<&Path>) -> Option<PathBuf> {
        let directory = self.assignment.spec.directory.clone().map(PathBuf::from);
        let candidates =
            here.map(Path::to_owned).into_iter().chain(directory).chain(spool.settings.directory.clone());
        candidates.into_iter().find_map(|folder| {
            let (repository, top) = git::find(&folder).ok()??;
            let common = repository.common_dir().canonicalize().ok()?;
            let top = top?.canonicalize().ok()?;
            (common == self.common && !top.starts_with(spool.state().work())).then_some(top)
        })
    }

    /// The message of the one commit that brings the result.
    pub(super) fn message(&self, place: &Place, result: &Work, wish: &Wish) -> Result<String, ApplyError> {
        if let Some(message) = &wish.message {
            return Ok(message.clone());
        }
        let name =
            self.assignment.spec.name.as_ref().map_or_else(|| self.run.task.to_string(), ToString::to_string);
        let verb = if wish.how == How::Merge { "Merge" } else { "Apply" };
        let subjects = git::subjects(&place.common, result.base, result.head)?;
        let mut message = format!("{verb} {name}\n\n");
        if wish.how == How::Squash && !subjects.is_empty() {
            subjects.iter().for_each(|subject| message.push_str(&format!("* {subject}\n")));
            message.push('\n');
        }
        message.push_str(&format!("Gitspool-Run: {}\n", self.run));
        Ok(message)
    }
}

impl Work {
    /// Whether the run changed nothing.
    pub(super) fn is_empty(&self, place: &Place) -> Result<bool, ApplyError> {
        Ok(git::changed(&place.common, self.base, self.tip)?.is_empty())
    }
}
