//! The command line: one file per verb, named after it.
//!
//! A verb that changes something drops a command file, as a shell script would; a verb that reads only reads files and
//! needs no daemon. stdout is data, stderr is talk; neither steers a terminal, whoever wrote what is shown: only a run's
//! output goes to a pipe as it is, and to a terminal with `--raw`. Exit codes: 0 done, 1 the answer is no, 2 an error; a
//! broken pipe is success.

mod apply;
mod attention;
mod cancel;
mod changes;
mod commands;
mod daemon;
mod doctor;
mod edit;
mod events;
mod fsck;
mod gc;
mod hold;
mod init;
mod kept;
mod logs;
mod ls;
mod mark_read;
mod note;
mod pause;
mod queue;
mod release;
mod rerank;
mod rerun;
mod resume;
mod rm;
mod retry;
mod run;
mod say;
mod show;
mod status;
mod submit;
mod undo;
mod wait;
mod why;

mod asking;
mod changed;
mod condition;
mod doing;
mod dropping;
mod find;
mod follow;
mod host;
mod interrupt;
mod launches;
mod needs;
mod notices;
mod output;
mod page;
mod pending;
mod place;
mod progress;
mod runs;
mod series;
mod shown;
mod times;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Parser, Subcommand};

use crate::apply::ApplyError;
use crate::daemon::DaemonError;
use crate::environment;
use crate::escape;
use crate::git::GitError;
use crate::id::Name;
use crate::refusal::Refusal;
use crate::restore::RestoreError;
use crate::scope::Scope;
use crate::spool::{self, Spool, SpoolError};
use crate::store::StoreError;

/// The answer of a verb that is not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
}

/// Why a verb could not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// A command that the daemon would refuse, and that was not sent therefore.
    #[error("{0}")]
    Unsendable(Refusal),
    /// The daemon has refused what was asked for: the answer is no.
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// What was asked about is not there: the answer is no.
    #[error("{0}")]
    NotFound(String),
}

/// A job spooler whose interface is a directory: drop a file, and a job runs
///
/// Exit codes: 0 done, 1 the answer is no, 2 an error.
#[derive(Parser)]
#[command(name = "gitspool", version, max_term_width = 100)]
struct Arguments {
    /// The spool; else $GITSPOOL_DIR, else the nearest .gitspool upwards, else the user's own
    #[arg(long, global = true, value_name = "DIR", display_order = 900)]
    spool: Option<PathBuf>,
    /// Print one JSON object per line, with the field names of the files
    #[arg(long, global = true, display_order = 901)]
    json: bool,
    /// Only tasks of this tenant, and new ones for it; else $GITSPOOL_TENANT
    #[arg(long, global = true, value_name = "NAME", display_order = 902)]
    tenant: Option<Name>,
    /// Only tasks of this project, and new ones for it; else $GITSPOOL_PROJECT
    #[arg(long, global = true, value_name = "NAME", display_order = 903)]
    project: Option<Name>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Init(init::Arguments),
    Daemon(daemon::Arguments),
    Submit(submit::Arguments),
    Run(run::Arguments),
    Ls(ls::Arguments),
    Show(show::Arguments),
    Logs(logs::Arguments),
    Commands(commands::Arguments),
    Events(events::Arguments),
    Changes(changes::Arguments),
    Attention(attention::Arguments),
    MarkRead(mark_read::Arguments),
    Wait(wait::Arguments),
    Why(why::Arguments),
    Cancel(cancel::Arguments),
    Hold(hold::Arguments),
    Release(release::Arguments),
    Rerank(rerank::Arguments),
    Edit(edit::Arguments),
    Rerun(rerun::Arguments),
    Retry(retry::Arguments),
    Say(say::Arguments),
    Note(note::Arguments),
    Queue(queue::Arguments),
    Pause(pause::Arguments),
    Resume(resume::Arguments),
    Status(status::Arguments),
    Doctor(doctor::Arguments),
    Fsck(fsck::Arguments),
    Gc(gc::Arguments),
    Rm(rm::Arguments),
    Kept(kept::Arguments),
    Apply(apply::Arguments),
    Undo(undo::Arguments),
}

/// The scope of this command line; set once, before any verb looks for a task, so that none can forget it.
static SCOPE: OnceLock<Scope> = OnceLock::new();

/// Which tasks there are for whoever calls: all, unless the options or the environment name a tenant or a project.
pub(crate) fn scope() -> &'static Scope {
    SCOPE.get_or_init(Scope::default)
}

/// The name that an option has, or else a variable.
fn named(option: Option<Name>, variable: &str) -> Result<Option<Name>, CliError> {
    let Some(value) = environment::value(variable).filter(|_| option.is_none()) else { return Ok(option) };
    let value = value.to_string_lossy();
    value.parse().map(Some).map_err(|error| CliError::Usage(format!("{variable}: {error}")))
}

/// What every verb gets: where the spool is to be found, and how to print.
pub(crate) struct Context {
    spool: Option<PathBuf>,
    pub(crate) json: bool,
}

impl Context {
    /// Where the spool is, or would be.
    pub(crate) fn root(&self) -> Result<PathBuf, CliError> {
        let here = std::env::current_dir().map_err(|error| {
            CliError::Usage(format!("the current folder is gone: {error}; go to one that is there"))
        })?;
        Ok(spool::find(self.spool.as_deref(), &here)?)
    }

    pub(crate) fn open(&self) -> Result<Spool, CliError> {
        Ok(spool::open(&self.root()?)?)
    }

    /// Tells that nothing will happen for now, and why.
    pub(crate) fn no_daemon(&self, what: &str) {
        let option =
            self.spool.as_ref().map(|spool| format!(" --spool {}", spool.display())).unwrap_or_default();
        talk(&format!("gitspool: no daemon runs: {what}; start one with `gitspool{option} daemon`"));
    }
}

/// Writes data to stdout, with what could steer a terminal escaped.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    write_raw(escape::lines(text).as_bytes())
}

/// Writes bytes to stdout as they are.
pub(crate) fn write_raw(bytes: &[u8]) -> Result<(), CliError> {
    io::stdout().write_all(bytes).map_err(CliError::Stdout)
}

/// Writes a value as one line of JSON.
pub(crate) fn print_json<T: serde::Serialize>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string(value).expect("because records have string keys");
    write_raw(format!("{}\n", escape::json(&text)).as_bytes())
}

/// Says something to the person at the terminal.
pub(crate) fn talk(text: &str) {
    // Nobody listens, and the answer does not depend on it.
    let _ = writeln!(io::stderr(), "{}", escape::lines(text));
}

pub(crate) fn main() -> ExitCode {
    let Arguments { spool, json, tenant, project, verb } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return answer_usage(&error),
    };
    let context = Context { spool, json };
    let answer = confine(tenant, project).and_then(|()| answer(&context, verb));
    match answer.and_then(|answer| io::stdout().flush().map_err(CliError::Stdout).map(|()| answer)) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(CliError::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            talk(&format!("gitspool: {error}"));
            ExitCode::from(if matches!(error, CliError::NotFound(_) | CliError::Refused(_)) { 1 } else { 2 })
        }
    }
}

fn confine(tenant: Option<Name>, project: Option<Name>) -> Result<(), CliError> {
    let scope = Scope::new(named(tenant, environment::TENANT)?, named(project, environment::PROJECT)?);
    SCOPE.get_or_init(|| scope);
    Ok(())
}

fn answer(context: &Context, verb: Verb) -> Result<Answer, CliError> {
    match verb {
        Verb::Init(arguments) => init::run(context, arguments),
        Verb::Daemon(arguments) => daemon::run(context, arguments),
        Verb::Submit(arguments) => submit::run(context, arguments),
        Verb::Run(arguments) => run::run(context, arguments),
        Verb::Ls(arguments) => ls::run(context, &arguments),
        Verb::Show(arguments) => show::run(context, &arguments),
        Verb::Logs(arguments) => logs::run(context, &arguments),
        Verb::Commands(arguments) => commands::run(context, &arguments),
        Verb::Events(arguments) => events::run(context, &arguments),
        Verb::Changes(arguments) => changes::run(context, &arguments),
        Verb::Attention(arguments) => attention::run(context, &arguments),
        Verb::MarkRead(arguments) => mark_read::run(context, &arguments),
        Verb::Wait(arguments) => wait::run(context, &arguments),
        Verb::Why(arguments) => why::run(context, &arguments),
        Verb::Cancel(arguments) => cancel::run(context, &arguments),
        Verb::Hold(arguments) => hold::run(context, &arguments),
        Verb::Release(arguments) => release::run(context, &arguments),
        Verb::Rerank(arguments) => rerank::run(context, &arguments),
        Verb::Edit(arguments) => edit::run(context, &arguments),
        Verb::Rerun(arguments) => rerun::run(context, &arguments),
        Verb::Retry(arguments) => retry::run(context, &arguments),
        Verb::Say(arguments) => say::run(context, &arguments),
        Verb::Note(arguments) => note::run(context, arguments),
        Verb::Queue(arguments) => queue::run(context, &arguments),
        Verb::Pause(arguments) => pause::run(context, &arguments),
        Verb::Resume(arguments) => resume::run(context, &arguments),
        Verb::Status(arguments) => status::run(context, &arguments),
        Verb::Doctor(arguments) => doctor::run(context, &arguments),
        Verb::Fsck(arguments) => fsck::run(context, &arguments),
        Verb::Gc(arguments) => gc::run(context, &arguments),
        Verb::Rm(arguments) => rm::run(context, &arguments),
        Verb::Kept(arguments) => kept::run(context, &arguments),
        Verb::Apply(arguments) => apply::run(context, &arguments),
        Verb::Undo(arguments) => undo::run(context, &arguments),
    }
}

/// Says what is wrong with the arguments, some of which stand in the message as they were given; or helps.
fn answer_usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if error.use_stderr() {
        talk(text.trim_end());
        return ExitCode::from(2);
    }
    // Whoever asked for help does not listen any more: that is no error.
    let _ = print(&text);
    ExitCode::SUCCESS
}
