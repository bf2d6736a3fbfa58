//! `gitspool fsck`: compares the spool with `spool-layout.md`, and mends it when asked to.

use serde::Serialize;

use super::{Answer, CliError, Context, print, print_json, talk};
use crate::audit::{Finding, Severity, Told};
use crate::escape;
use crate::fsck;

/// Compare the spool with its specification; exit with 0 when nothing is wrong, or all of it was mended
///
/// Looks at logs, tasks, runs, receipts and all other files, and prints for each finding what is wrong, where, and what
/// would mend it. "must": something is lost or could be; "should": a picture of the logs is not right. Changes nothing
/// without --repair. Works while a daemon runs.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Mend what the logs can mend; originals are kept in .local/mended. Best when no daemon runs
    #[arg(long)]
    repair: bool,
}

/// A finding as `--json` prints it.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    told: Told<'a>,
    mended: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    if arguments.repair {
        let repair = fsck::repair(&spool)?;
        for finding in &repair.mended {
            show(context, finding, true)?;
        }
        for error in &repair.failed {
            talk(&format!("gitspool: not mended: {error}"));
        }
        if let Some(aside) = &repair.aside {
            talk(&format!("gitspool: what was changed is kept in {}", aside.display()));
        }
    }
    let findings = fsck::check(&spool)?;
    for finding in &findings {
        show(context, finding, false)?;
    }
    Ok(if findings.is_empty() { Answer::Yes } else { Answer::No })
}

fn show(context: &Context, finding: &Finding, mended: bool) -> Result<(), CliError> {
    if context.json {
        return print_json(&Row { told: finding.told(), mended });
    }
    let word = match (mended, finding.kind.severity()) {
        (true, _) => "mended",
        (false, Severity::Must) => "must",
        (false, Severity::Should) => "should",
    };
    let (path, what, how) =
        (escape::line(&finding.path), escape::line(&finding.what), escape::line(&finding.mend.words()));
    print(&format!("{word:<6}  {}  {path}: {what}  -> {how}\n", finding.kind.word()))
}
