//! `gitspool daemon`

use std::io::{self, Write};

use super::{Answer, CliError, Context, talk};
use crate::daemon;
use crate::escape;

/// Admit commands and run tasks, in the foreground, until SIGTERM or SIGINT; runs go on without it
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Exit when nothing is left to do now; what waits for a time is left behind
    #[arg(long)]
    drain: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<Answer, CliError> {
    tracing_subscriber::fmt().with_writer(|| Talk).with_ansi(false).with_target(false).init();
    daemon::run(context.open()?, arguments.drain)?;
    Ok(Answer::Yes)
}

/// What the daemon has to say, a line for each thing: names that anybody can choose stand in it.
struct Talk;

impl Write for Talk {
    fn write(&mut self, said: &[u8]) -> io::Result<usize> {
        talk(&escape::line(String::from_utf8_lossy(said).trim_end()));
        Ok(said.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
