//! `gitspool init`

use std::path::PathBuf;

use super::{Answer, CliError, Context, print, print_json, talk};
use crate::spool;

/// Make a spool, or complete one
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where tasks work that name no directory: a repository, say
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<Answer, CliError> {
    let directory = match arguments.directory {
        Some(directory) => match directory.canonicalize() {
            Ok(directory) => Some(directory),
            Err(error) => {
                return Err(CliError::Usage(format!("{} is not there: {error}", directory.display())));
            }
        },
        None => None,
    };
    let (spool, new) = spool::init(&context.root()?, directory.as_deref())?;
    let root = spool.layout.root().display().to_string();
    if directory.is_some() && directory != spool.settings.directory {
        let record = spool.layout.spool_record();
        return Err(CliError::Usage(format!(
            "{root} was a spool already, and keeps its directory: change `directory` in {}, and start the daemon anew",
            record.display()
        )));
    }
    if context.json {
        print_json(&serde_json::json!({"spool": root, "id": spool.settings.id, "new": new}))?;
    } else {
        print(&format!("{root}\n"))?;
        if !new {
            talk("gitspool: it was a spool already");
        }
    }
    Ok(Answer::Yes)
}
