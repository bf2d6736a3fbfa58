//! The text that an agent gets: what it may rely on, the task, and what the operator added.

use std::path::Path;

use crate::id::RunId;

/// What a prompt is put together from.
pub(crate) struct Parts<'a> {
    pub(crate) run: RunId,
    pub(crate) item: Option<&'a str>,
    pub(crate) place: &'a Path,
    /// The run's secret, or the word that stands for it in what is kept on disk.
    pub(crate) token: &'a str,
    pub(crate) task: &'a str,
    pub(crate) extra: Option<&'a str>,
}

/// Puts a prompt together.
pub(crate) fn compose(parts: &Parts<'_>) -> String {
    let Parts { run, item, place, token, task, extra } = parts;
    let item = item.map(|item| format!(" for the work item {item}")).unwrap_or_default();
    let mut text = format!(
        "You carry out run {run}{item}. Nobody is there to answer questions.\n\
         Work only inside {place}. Commit what you make before you end; say in the end what you did and what is left.\n\
         To tell something about this run while you work, or its summary at the end, run\n\
         `gitspool note \"TEXT\"` or `gitspool note --summary \"TEXT\"`; what proves that it is you is the secret {token},\n\
         which is in your environment as GITSPOOL_TOKEN. Show it to nobody.\n\n\
         # Task\n\n{task}\n",
        place = place.display(),
    );
    if let Some(extra) = extra.filter(|extra| !extra.trim().is_empty()) {
        text.push_str("\n# From the operator\n\n");
        text.push_str(extra);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_carries_the_run_its_secret_the_task_and_the_operators_words() {
        let run: RunId = "01890a5d-ac96-774b-bcce-b302099a8057.1".parse().unwrap();
        let text = compose(&Parts {
            run,
            item: Some("card-7"),
            place: Path::new("/w"),
            token: "s3cret",
            task: "Fix it.",
            extra: Some("Mind the tests."),
        });
        for part in [run.to_string().as_str(), "card-7", "/w", "s3cret", "Fix it.", "Mind the tests."] {
            assert!(text.contains(part), "{part}");
        }
    }
}
