//! What was begun, on a ref of the repository; and what was done, in the run's log.
//!
//! `refs/gitspool/applied/<run>` names a commit without files whose message tells what is about to be done, and whose parents
//! are what was before, what will be, and the commit that told the same of the last time. A line of the run's log that names
//! this commit says that it was done.

use gix::ObjectId;
use serde::{Deserialize, Serialize};

use super::{ApplyError, Place, id, is_in, moving};
use crate::applied::{Applied, How};
use crate::assignment::Assignment;
use crate::git::{self, GitError};
use crate::jsonl;
use crate::kept;
use crate::layout::RunLayout;
use crate::record::Event;
use crate::spool::Spool;
use crate::stage;
use crate::store;
use crate::worktree::branch_ref;

/// Where such commits are.
const APPLIED_REFS: &str = "refs/gitspool/applied/";

/// The first line of their messages.
const SUBJECT: &str = "gitspool: applied";

/// What a message tells.
#[derive(Serialize, Deserialize)]
struct Entry {
    format: u32,
    run: String,
    applied: Applied,
}

/// The journal of one run.
pub(super) struct Journal {
    paths: RunLayout,
    assignment: Assignment,
    name: String,
}

impl Journal {
    pub(super) fn open(spool: &Spool, place: &Place) -> Result<Journal, ApplyError> {
        let paths = spool.layout.run(place.run);
        let assignment = serde_json::from_slice(&store::read(&paths.task())?)
            .map_err(|error| ApplyError::Stage(format!("{}: {error}", paths.task().display())))?;
        Ok(Journal { paths, assignment, name: format!("{APPLIED_REFS}{}", place.run) })
    }

    /// Says what is about to be done, durably; what was before is kept from here on.
    pub(super) fn begin(&self, place: &Place, applied: &Applied) -> Result<Applied, ApplyError> {
        let entry = Entry { format: 1, run: place.run.to_string(), applied: applied.clone() };
        let text = serde_json::to_string_pretty(&entry).expect("because it has string keys");
        let earlier = place.now()?.ref_value(&self.name)?;
        let empty = git::object_of(&place.common, &["hash-object", "-t", "tree", "-w", "/dev/null"])?;
        let mut parents: Vec<ObjectId> =
            [&applied.before, &applied.after].into_iter().filter_map(|text| id(text)).collect();
        parents.extend(id(&applied.result).filter(|result| !parents.contains(result)));
        parents.extend(earlier.filter(|earlier| !parents.contains(earlier)));
        let mut arguments = vec!["commit-tree".to_owned(), empty.to_string()];
        arguments.extend(parents.iter().flat_map(|parent| ["-p".to_owned(), parent.to_string()]));
        arguments.extend(["-m".to_owned(), SUBJECT.to_owned(), "-m".to_owned(), text]);
        let commit = git::object_of(&place.common, &arguments)?;
        // Also the objects of the merge, which no ref had.
        store::sync_file_system(&place.common)?;
        place.now()?.set_ref(&self.name, earlier, commit, &format!("gitspool: run {}", place.run))?;
        Ok(Applied { record: Some(commit.to_string()), ..applied.clone() })
    }

    /// Says in the run's log that it was done.
    pub(super) fn end(&self, applied: Applied) -> Result<(), ApplyError> {
        let line = match applied.how {
            How::Undo => Event::ResultUndone { undone: applied },
            How::Squash | How::Merge | How::Rebase => Event::ResultApplied { applied },
        };
        stage::add(&self.paths, &self.assignment, line).map_err(ApplyError::Stage)
    }

    /// What was begun last, if the log does not say that it was done.
    fn open_entry(&self, place: &Place) -> Result<Option<Applied>, ApplyError> {
        let repository = place.now()?;
        let Some(commit) = repository.ref_value(&self.name)? else { return Ok(None) };
        let lines = jsonl::parse::<Event>(&store::read(&self.paths.log())?).lines;
        let record = Some(commit.to_string());
        let is_told = lines.iter().any(|line| {
            let (Event::ResultApplied { applied: told } | Event::ResultUndone { undone: told }) = &line.event
            else {
                return false;
            };
            told.record == record
        });
        if is_told {
            return Ok(None);
        }
        let wrong = |said: String| GitError::Repository {
            action: format!("read {}", self.name),
            repository: place.common.clone(),
            said,
        };
        let message = repository.commit(commit).map(|commit| commit.message).unwrap_or_default();
        let text = message.strip_prefix(SUBJECT).ok_or_else(|| wrong("it is none of ours".to_owned()))?;
        let entry: Entry = serde_json::from_str(text.trim()).map_err(|error| wrong(error.to_string()))?;
        if entry.format > 1 {
            return Err(wrong("a newer version of gitspool wrote it: use that".to_owned()).into());
        }
        Ok(Some(Applied { record, ..entry.applied }))
    }

    /// Finishes what was begun, or takes it back when the branch was not moved yet. Gives what is applied now, and what was finished; `told` is what the
    /// run's record says.
    pub(super) fn finish(
        &self,
        place: &Place,
        mut told: Vec<Applied>,
    ) -> Result<(Vec<Applied>, Option<Applied>), ApplyError> {
        self.free(place, &self.name, &[])?;
        let Some(begun) = self.open_entry(place)? else {
            // Only that was left to be done.
            stage::draw(&self.paths, &self.assignment).map_err(ApplyError::Stage)?;
            return Ok((told, None));
        };
        self.free(place, &branch_ref(&begun.branch), begun.after.as_bytes())?;
        self.free(place, "HEAD", &[])?;
        let tip = place.now()?.ref_value(&branch_ref(&begun.branch))?;
        let is_moved = match tip {
            Some(tip) => is_in(place, &begun.after, tip)?,
            None => false,
        };
        // Of a branch that is to be moved back `after` is in `before`.
        let is_back = match (id(&begun.before), tip) {
            (Some(before), Some(tip)) => {
                is_in(place, &begun.after, before)? && is_in(place, &begun.before, tip)?
            }
            _ => false,
        };
        let is_moved = is_moved && !is_back;
        moving::take_up(place, &begun, is_moved)?;
        if !is_moved {
            return Ok((told, None));
        }
        self.end(begun.clone())?;
        begun.add_to(&mut told);
        Ok((told, Some(begun)))
    }

    /// Removes git's lock on a ref that was left by a call that was cut short: it is empty, or has what that wrote, and no
    /// process is there that could have it.
    fn free(&self, place: &Place, name: &str, content: &[u8]) -> Result<(), ApplyError> {
        let lock = place.common.join(format!("{name}.lock"));
        let Some(told) = store::read_if_small(&lock, 1024)? else { return Ok(()) };
        let is_ours = name == self.name || told.is_empty() || told.trim_ascii_end() == content;
        if is_ours && kept::processes(lock.parent().unwrap_or(&lock)).is_empty() {
            store::remove(&lock)?;
        }
        Ok(())
    }
}
