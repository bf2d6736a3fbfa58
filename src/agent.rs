//! Agent profiles: how the program is started that carries out a prompt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::Name;
use crate::json::{self, Shape};
use crate::refusal::{Kind, Refusal};

/// The profile of prompts that name no agent.
pub(crate) const DEFAULT: &str = "default";

/// A profile, as it stands in `agents/<name>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) driver: Driver,
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    #[serde(default)]
    pub(crate) prompt: PromptBy,
    /// Variables added to the environment; those of the task win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) env: BTreeMap<String, String>,
}

/// How a supervisor speaks with the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Driver {
    /// A command that gets the prompt once and says by its exit code what came of it.
    Exec,
}

/// How the agent gets its prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PromptBy {
    #[default]
    Stdin,
    /// Each `{prompt}` in `argv` is replaced by it.
    Argument,
}

const SHAPE: Shape = Shape(&[("driver", None), ("argv", None), ("prompt", None), ("env", None)]);

/// What an argument of [`PromptBy::Argument`] is replaced in.
pub(crate) const PROMPT_PLACE: &str = "{prompt}";

/// Reads a profile.
pub(crate) fn parse(bytes: &[u8]) -> Result<Profile, Refusal> {
    let map = json::parse_object(bytes)?;
    json::check_keys(&map, &SHAPE, "$")?;
    if let Some(Value::String(driver)) = map.get("driver")
        && driver != "exec"
    {
        return Err(Refusal::unknown(Kind::InvalidValue, "driver", driver, &["exec"]).at("$.driver"));
    }
    let profile: Profile = json::typed(map)?;
    if profile.argv.first().is_none_or(String::is_empty) {
        return Err(Refusal::new(Kind::InvalidValue, "there is no program here").at("$.argv"));
    }
    let has_place = profile.argv.iter().any(|argument| argument.contains(PROMPT_PLACE));
    if profile.prompt == PromptBy::Argument && !has_place {
        let refusal = Refusal::new(Kind::InvalidValue, "the prompt has no place in argv").at("$.argv");
        return Err(refusal.hint("write {prompt} where it belongs, or \"prompt\": \"stdin\""));
    }
    Ok(profile)
}

/// The refusal of a prompt whose agent has no usable profile.
pub(crate) fn no_profile(agent: &Name, why: &str) -> Refusal {
    let hint = format!("write agents/{agent}.json: {{\"driver\": \"exec\", \"argv\": [\"my-agent\"]}}");
    Refusal::new(Kind::NotFound, format!("the agent {agent:?} has no usable profile: {why}"))
        .at("$.agent")
        .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_says_which_program_and_how_it_gets_its_prompt() {
        let profile = parse(br#"{"driver":"exec","argv":["a"]}"#).unwrap();
        assert_eq!(profile.prompt, PromptBy::Stdin);
        for bad in [
            r#"{"driver":"exec","argv":[]}"#,
            r#"{"driver":"excec","argv":["a"]}"#,
            r#"{"driver":"exec","argv":["a"],"prompt":"argument"}"#,
            r#"{"driver":"exec","argv":["a"],"evn":{}}"#,
            r#"{"argv":["a"]}"#,
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
