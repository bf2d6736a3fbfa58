//! `gitspool undo`

use super::{Answer, CliError, Context, apply};
use crate::apply as applying;

/// Take back what `gitspool apply` brought onto a branch
///
/// The branch goes back to where it was, and with it the checkout in which it is, if that loses nothing of yours; when there is more on
/// the branch since, a new commit takes the change away. What is taken back stays on refs/gitspool/applied/RUN. Exit code 1: there is
/// nothing of it on the branch, conflicts, or a branch was left.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The id of a run or a task, the end of it, or a name; of a task its last run
    #[arg(value_name = "RUN")]
    run: String,
    /// The branch; else the one onto which it was applied last
    #[arg(long, value_name = "BRANCH")]
    onto: Option<String>,
    /// Only tell what would change, and what would be in the way
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let run = apply::named(&spool, &arguments.run)?;
    apply::answer(context, run, applying::undo(&spool, run, arguments.onto.as_deref(), arguments.dry_run), "")
}
