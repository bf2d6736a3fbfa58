//! `gitspool apply`

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{CliError, Context, find, print, print_json, runs, talk};
use crate::applied::{Applied, How};
use crate::apply::{self, Answer, ApplyError, Wish};
use crate::id::RunId;
use crate::spool::Spool;

/// Bring the result of a run onto a branch: what it committed, and what it left uncommitted
///
/// The merge is made apart from your checkout and looked at; then the branch moves, and with it the checkout in which it is, if that
/// loses nothing of yours. Else the branch stays, and another one with the merge is left and named. Conflicts change nothing. What was
/// before is kept, and `gitspool undo RUN` brings it back. No hook runs, and no filter or merge driver that only the repository's own
/// configuration names. No daemon is needed. Exit code 1: nothing to apply, conflicts, or a branch was left.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The id of a run or a task, the end of it, or a name; of a task its last run
    #[arg(value_name = "RUN")]
    run: String,
    /// The branch to bring it onto; else the one that is checked out where you are, or where the task began
    #[arg(long, value_name = "BRANCH")]
    onto: Option<String>,
    /// As one commit (the default): what an agent commits on its way is seldom what a history should tell
    #[arg(long, group = "how")]
    squash: bool,
    /// As a merge of both histories
    #[arg(long, group = "how")]
    merge: bool,
    /// As the run's own commits on top of the branch, with their authors; merges among them are left out
    #[arg(long, group = "how", conflicts_with = "message")]
    rebase: bool,
    /// Write a patch to a file that is not there yet, and move nothing
    #[arg(long, group = "how", value_name = "FILE", conflicts_with_all = ["onto", "message", "dry_run"])]
    patch: Option<PathBuf>,
    /// The message of the commit
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Only tell what would change, and what would be in the way
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<super::Answer, CliError> {
    let spool = context.open()?;
    let run = named(&spool, &arguments.run)?;
    if let Some(path) = &arguments.patch {
        let path = std::path::absolute(path)
            .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
        let patched = apply::patch(&spool, run, &path);
        return answer(context, run, patched, &format!("the patch is {}", path.display()));
    }
    let how = match (arguments.merge, arguments.rebase) {
        (true, _) => How::Merge,
        (_, true) => How::Rebase,
        (false, false) => How::Squash,
    };
    let wish = Wish {
        how,
        onto: arguments.onto.clone(),
        message: arguments.message.clone(),
        dry_run: arguments.dry_run,
    };
    let here = std::env::current_dir().ok();
    answer(context, run, apply::apply(&spool, run, &wish, here.as_deref()), "")
}

/// The run that somebody names; of a task the last one.
pub(super) fn named(spool: &Spool, text: &str) -> Result<RunId, CliError> {
    let target = find::target(&spool.layout, text)?;
    let task = target.found.task;
    let attempt = target.attempt.unwrap_or_else(|| runs::attempts(&spool.layout, task));
    if attempt == 0 || attempt > runs::attempts(&spool.layout, task) {
        return Err(CliError::NotFound(format!(
            "task {task} has no run{}",
            match target.attempt {
                Some(attempt) => format!(" {attempt}"),
                None => String::new(),
            }
        )));
    }
    Ok(RunId { task, attempt })
}

/// Says what came of it; `instead` of a line when that is another.
pub(super) fn answer(
    context: &Context,
    run: RunId,
    answer: Result<Answer, ApplyError>,
    instead: &str,
) -> Result<super::Answer, CliError> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if context.json => {
            print_json(
                &json!({"run": run, "answer": "error", "kind": error.kind(), "message": error.to_string()}),
            )?;
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    if context.json {
        let mut value = json!({"run": run});
        if let (Value::Object(value), Ok(Value::Object(answer))) = (&mut value, serde_json::to_value(&answer))
        {
            value.extend(answer);
        }
        print_json(&value)?;
    } else {
        let text = words(run, &answer);
        print(&format!("{}\n", if instead.is_empty() { text.trim_end() } else { instead }))?;
    }
    Ok(match answer {
        Answer::Applied { .. }
        | Answer::Undone { .. }
        | Answer::AppliedAlready { .. }
        | Answer::WouldApply { stays: None, .. }
        | Answer::WouldUndo { stays: None, .. } => super::Answer::Yes,
        Answer::WouldApply { .. }
        | Answer::WouldUndo { .. }
        | Answer::NothingToApply
        | Answer::ThereAlready { .. }
        | Answer::GoneAlready { .. }
        | Answer::Conflicts { .. }
        | Answer::Left { .. } => super::Answer::No,
    })
}

fn words(run: RunId, answer: &Answer) -> String {
    let listed = |files: &[String]| files.iter().map(|file| format!("  {file}\n")).collect::<String>();
    match answer {
        Answer::Applied { applied, files } => {
            format!(
                "applied to {} ({}), {} files:\n{}",
                applied.branch,
                moved(applied),
                files.len(),
                listed(files)
            )
        }
        Answer::Undone { undone, files } => {
            format!(
                "undone on {} ({}), {} files:\n{}",
                undone.branch,
                moved(undone),
                files.len(),
                listed(files)
            )
        }
        Answer::WouldApply { branch, files, stays } | Answer::WouldUndo { branch, files, stays } => {
            let stays = stays.as_ref().map(|why| format!("{branch} would stay: {why}\n")).unwrap_or_default();
            format!("on {branch} {} files would change:\n{}{stays}", files.len(), listed(files))
        }
        Answer::AppliedAlready { applied } => {
            format!("applied already to {} ({})", applied.branch, moved(applied))
        }
        Answer::NothingToApply => format!("nothing to apply: run {run} changed no file"),
        Answer::ThereAlready { branch } => format!("nothing to apply: {branch} has all of it already"),
        Answer::GoneAlready { branch } => format!("nothing to undo: {branch} has nothing of it any more"),
        Answer::Conflicts { branch, paths, said } => {
            format!("conflicts with {branch}; nothing was changed:\n{}{}", listed(paths), listed(said))
        }
        Answer::Left { branch, left, why, .. } => {
            talk(&format!("gitspool: {branch} stays where it is: {why}"));
            format!(
                "left as the branch {left}; when nothing is in the way any more: git merge --ff-only {left}"
            )
        }
    }
}

fn moved(applied: &Applied) -> String {
    let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
    format!("{}, {} -> {}", applied.how.word(), short(&applied.before), short(&applied.after))
}
