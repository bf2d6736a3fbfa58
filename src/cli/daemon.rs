//! `gitspool daemon`

use super::{Answer, CliError, Context};
use crate::daemon;

/// Admit commands and run tasks, in the foreground, until SIGTERM or SIGINT; runs go on without it
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Exit when nothing is left to do
    #[arg(long)]
    drain: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<Answer, CliError> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    daemon::run(context.open()?, arguments.drain)?;
    Ok(Answer::Yes)
}
