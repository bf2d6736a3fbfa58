//! `gitspool kept`

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Answer, CliError, Context, find, print, print_json, runs, shown, talk};
use crate::clock;
use crate::digest;
use crate::escape;
use crate::git::{self, Repository};
use crate::kept::{self, Area, HeldSort, Kept, KeptRef};
use crate::lock;
use crate::process;
use crate::restore;
use crate::spool::Spool;
use crate::stage;
use crate::store;
use crate::workspace::kept_ref;

/// The shortest end of an id that stands for it.
const SUFFIX_MIN: usize = 4;

/// List what is kept of runs, show it, or bring it back
///
/// What a run left and no branch holds is kept on a ref of its repository, refs/gitspool/kept/RUN: files, what was staged, modes,
/// empty folders, repositories inside, stashes, and commits that were amended or reset away. No daemon is needed. Looked at are the
/// repositories in which runs have worked that are still there, and that of the current folder.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    List(ListArguments),
    Show(ShowArguments),
    Restore(RestoreArguments),
}

/// List what is kept of runs, the oldest run first
#[derive(clap::Args)]
struct ListArguments {
    /// Tell how many bytes of its repository each keeps that nothing else does, which takes a while
    #[arg(long)]
    bytes: bool,
}

/// Show what is kept of a run
#[derive(clap::Args)]
struct ShowArguments {
    /// The id of a run or a task, the end of it, or a name
    #[arg(value_name = "RUN")]
    run: String,
}

/// Bring back what is kept of a run: as a new worktree, as a new branch, or as a new worktree on a new branch
///
/// Nothing that is there is written over. In a worktree all lies as the agent left it, what it had staged is staged, and stashes
/// that are gone from the list are put back. A branch alone has its last commit, and one more with what was not committed. A
/// repository that the agent made comes back as it was, with its hooks and its configuration: look before you run git in it.
#[derive(clap::Args)]
struct RestoreArguments {
    /// The id of a run or a task, the end of it, or a name
    #[arg(value_name = "RUN")]
    run: String,
    /// Where the new worktree is to lie: a folder that is not there, or is empty
    #[arg(long, value_name = "DIR", required_unless_present = "branch")]
    worktree: Option<PathBuf>,
    /// The name of a new branch
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    match &arguments.verb {
        None => list(context, &spool, false),
        Some(Verb::List(arguments)) => list(context, &spool, arguments.bytes),
        Some(Verb::Show(arguments)) => show(context, &spool, &arguments.run),
        Some(Verb::Restore(arguments)) => bring_back(context, &spool, arguments),
    }
}

/// The kept refs that there are for whoever calls.
fn all(spool: &Spool) -> Result<Vec<KeptRef>, CliError> {
    // Of tasks that were removed nothing says any more in which repository they worked.
    let here = std::env::current_dir().ok();
    let (all, unread) = kept::all(spool, here.as_deref())?;
    for (repository, error) in unread {
        talk(&format!("gitspool: {} is left out: {error}", repository.display()));
    }
    let mut visible = Vec::new();
    for kept in all {
        if runs::is_in_scope(&spool.layout, kept.run)? {
            visible.push(kept);
        }
    }
    Ok(visible)
}

fn list(context: &Context, spool: &Spool, with_bytes: bool) -> Result<Answer, CliError> {
    let all = all(spool)?;
    let now = clock::now();
    let mut rows = Vec::new();
    for kept in &all {
        if context.json {
            print_json(&value(kept, with_bytes)?)?;
            continue;
        }
        let bytes = if with_bytes { kept::bytes(kept)?.to_string() } else { String::new() };
        let age = format!("{} ago", shown::age(kept.at, now));
        let repository = kept.repository.display().to_string();
        rows.push(vec![kept.run.to_string(), age, bytes, repository]);
    }
    if !rows.is_empty() {
        print(&shown::table(&["RUN", "KEPT", "BYTES", "REPOSITORY"], &rows))?;
    }
    Ok(Answer::Yes)
}

fn value(kept: &KeptRef, with_bytes: bool) -> Result<Value, CliError> {
    let mut value = json!({
        "run": kept.run, "task": kept.run.task, "kept_ref": kept_ref(kept.run), "commit": kept.commit.to_string(),
        "at": kept.at, "repository": kept.repository,
    });
    if with_bytes {
        value["bytes"] = kept::bytes(kept)?.into();
    }
    Ok(value)
}

/// Finds the kept ref of a run by what people call it.
fn one(spool: &Spool, text: &str) -> Result<KeptRef, CliError> {
    let all = all(spool)?;
    let is_named = |kept: &&KeptRef| {
        let (run, task) = (kept.run.to_string(), kept.run.task.to_string());
        run == text
            || task == text
            || (text.len() >= SUFFIX_MIN && (run.ends_with(text) || task.ends_with(text)))
    };
    let mut found: Vec<&KeptRef> = all.iter().filter(is_named).collect();
    if found.is_empty()
        && let Some(target) = find::look_for(&spool.layout, text)?
    {
        let wanted = |kept: &&KeptRef| {
            kept.run.task == target.found.task
                && target.attempt.is_none_or(|attempt| attempt == kept.run.attempt)
        };
        found = all.iter().filter(wanted).collect();
    }
    match found[..] {
        [one] => Ok(one.clone()),
        [] => Err(CliError::NotFound(format!("nothing is kept of {text:?}; `gitspool kept` lists what is"))),
        _ => {
            let runs: Vec<String> = found.iter().map(|kept| kept.run.to_string()).collect();
            Err(CliError::Usage(format!("{text:?} may be any of {}; name one", runs.join(", "))))
        }
    }
}

fn read(kept: &KeptRef) -> Result<Kept, CliError> {
    Ok(kept::read(&Repository::open(&kept.repository)?, kept.commit)?)
}

fn show(context: &Context, spool: &Spool, text: &str) -> Result<Answer, CliError> {
    let found = one(spool, text)?;
    let kept = read(&found)?;
    let mut value = value(&found, true)?;
    let record = kept.record.as_ref();
    let [files, insertions, deletions] = git::diff_stat(&found.repository, kept.head, found.commit)?;
    let count = |is: &dyn Fn(&kept::Held) -> bool| kept.held.iter().filter(|held| is(held)).count();
    let inside = count(&|held| held.area == Area::Worktree && held.blob.is_some());
    let empty = count(&|held| held.area == Area::Worktree && held.sort == HeldSort::Folder);
    let conflicts = kept.indexed.iter().flatten().filter(|entry| entry.stage > 0).count();
    let commits = record.map_or(0, |record| record.commits.len());
    let stashes: Vec<&str> =
        record.iter().flat_map(|record| &record.stashes).map(|(_, said)| said.as_str()).collect();
    value["head_commit"] = kept.head.to_string().into();
    value["branch"] = json!(record.and_then(|record| record.branch.as_deref()));
    value["uncommitted"] = json!({"files_changed": files, "insertions": insertions, "deletions": deletions});
    value["stashes"] = json!(stashes);
    value["commits"] = json!(record.map(|record| &record.commits));
    value["conflicts"] = conflicts.into();
    value["inside_files"] = inside.into();
    if context.json {
        print_json(&value)?;
        return Ok(Answer::Yes);
    }
    let mut text = format!(
        "run           {}\nref           {}\ncommit        {}\nrepository    {}\nbytes         {}\nhead          {}\n",
        found.run,
        kept_ref(found.run),
        found.commit,
        found.repository.display(),
        value["bytes"],
        kept.head
    );
    text.push_str(&format!("uncommitted   {files} files changed, +{insertions} -{deletions}\n"));
    for (number, what) in [
        (commits, "commits that nothing else names"),
        (conflicts, "entries of conflicts in the index"),
        (inside, "files of repositories inside"),
        (empty, "folders that are empty or have a mode of their own"),
    ] {
        if number > 0 {
            text.push_str(&format!("and           {number} {what}\n"));
        }
    }
    stashes.iter().for_each(|said| text.push_str(&format!("stash         {}\n", escape::line(said))));
    print(&text)?;
    Ok(Answer::Yes)
}

fn bring_back(context: &Context, spool: &Spool, arguments: &RestoreArguments) -> Result<Answer, CliError> {
    let found = one(spool, &arguments.run)?;
    let kept = read(&found)?;
    let run = found.run.to_string();
    let branch = arguments.branch.as_deref();
    let Some(top) = &arguments.worktree else {
        let branch = branch.unwrap_or_default();
        let tip = restore::as_branch(&found.repository, &kept, branch, &run)?;
        return said(context, &json!({"run": run, "branch": branch, "commit": tip.to_string()}), branch);
    };
    let top = absolute(top)?;
    let state = spool.state();
    store::make_dir(&state.locks())?;
    let place = digest::sha256_hex(found.repository.as_os_str().as_encoded_bytes());
    let lock = lock::wait_exclusive(&state.place_lock(&place))?;
    let errors = spool.layout.aside(process::id(), &clock::new_secret());
    let launcher = stage::launcher_of(errors.clone());
    let restored = restore::as_worktree(&found.repository, &kept, &top, branch, &launcher, lock);
    store::remove(&errors)?;
    let restored = restored?;
    for path in &restored.left {
        talk(&format!("gitspool: {} was a socket, which has no content, and is left out", kept::shown(path)));
    }
    let value = json!({
        "run": run, "worktree": top, "branch": branch, "head_commit": kept.head.to_string(),
        "files": restored.files, "stashes": restored.stashes, "left_out": restored.left.len(),
    });
    said(context, &value, &top.display().to_string())
}

/// Prints what was made.
fn said(context: &Context, value: &Value, made: &str) -> Result<Answer, CliError> {
    if context.json {
        print_json(value)?
    } else {
        print(&format!("{}\n", escape::line(made)))?
    }
    Ok(Answer::Yes)
}

/// The real place of a folder that may not be there yet.
fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    let wrong = |error: std::io::Error| CliError::Usage(format!("{}: {error}", path.display()));
    let path = std::path::absolute(path).map_err(wrong)?;
    let Some((parent, name)) = path.parent().zip(path.file_name()) else { return Ok(path) };
    let parent = parent
        .canonicalize()
        .map_err(|error| CliError::Usage(format!("{}: {error}; make that folder first", parent.display())))?;
    Ok(parent.join(name))
}
