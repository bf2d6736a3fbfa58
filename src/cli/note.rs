//! `gitspool note`: what an agent inside a run tells about it.

use serde_json::{Map, Value};

use super::asking::report;
use super::dropping::drop_command;
use super::{Answer, CliError, Context, print_json};
use crate::environment;

/// Tell something about the run that this is called in; for agents
///
/// The run is known by the secret in GITSPOOL_TOKEN, which its agent and what that starts have.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A line for the run's log
    text: Option<String>,
    /// What came of the run
    #[arg(long, value_name = "TEXT")]
    summary: Option<String>,
    /// The id of the agent's conversation
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Wait until the daemon has answered
    #[arg(long)]
    confirm: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<Answer, CliError> {
    let Arguments { text, summary, session, confirm } = arguments;
    if text.is_none() && summary.is_none() && session.is_none() {
        return Err(CliError::Usage(
            "there is nothing to note: give a TEXT, --summary or --session".to_owned(),
        ));
    }
    let Some(token) = environment::value(environment::TOKEN) else {
        let name = environment::TOKEN;
        return Err(CliError::Usage(format!(
            "{name} is not set, and without it nobody knows which run this is about: call it from inside a run, and let \
             the variable through"
        )));
    };
    let mut command = Map::new();
    let mut put =
        |key: &str, value: Option<String>| value.map(|value| command.insert(key.to_owned(), value.into()));
    put("type", Some("note".to_owned()));
    put("token", Some(token.to_string_lossy().into_owned()));
    put("text", text);
    put("summary", summary);
    put("session", session);
    let layout = context.open()?.layout;
    let dropped = drop_command(&layout, &Value::Object(command))?;
    if confirm {
        return report(context, &layout, &dropped, "note");
    }
    if context.json {
        print_json(&serde_json::json!({"command": dropped.name}))?;
    }
    Ok(Answer::Yes)
}
