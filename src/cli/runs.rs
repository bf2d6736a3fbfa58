//! What is known of a task's runs, from their directories alone.

use serde_json::Value;

use super::find::{Found, Place};
use super::{CliError, scope};
use crate::assignment::Assignment;
use crate::id::{RunId, TaskId};
use crate::jsonl;
use crate::layout::Layout;
use crate::lock;
use crate::outcome::Outcome;
use crate::record::{self, Record, Status};
use crate::redact;
use crate::store::{self, StoreError};
use crate::time;

/// How many runs a task has had, its present one included.
pub(super) fn attempts(layout: &Layout, task: TaskId) -> u32 {
    let is_there = |attempt: &u32| store::exists(layout.run(RunId { task, attempt: *attempt }).dir());
    (1..).take_while(is_there).last().unwrap_or(0)
}

/// The runs of a task, the first one first.
pub(super) fn of_task(layout: &Layout, task: TaskId) -> Vec<RunId> {
    (1..=attempts(layout, task)).map(|attempt| RunId { task, attempt }).collect()
}

/// The record of a run; `None` when it has not begun. Where `run.json` does not tell, the log does: it is the truth.
pub(super) fn record(layout: &Layout, run: RunId) -> Result<Option<Record>, CliError> {
    let paths = layout.run(run);
    let drawn = store::read_if_there(&paths.record()).ok().flatten();
    let drawn = drawn.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    match drawn {
        Some(record) if record.status == Status::Ended || lock::is_held(&paths.lock())? => Ok(Some(record)),
        // A supervisor that was killed may have left its last lines without a picture.
        Some(_) | None => {
            let bytes = store::read_if_there(&paths.log())?.unwrap_or_default();
            Ok(record::of_log(run, &jsonl::parse(&bytes)))
        }
    }
}

/// Whether a run has begun, has not ended, and nobody is left to end it.
pub(super) fn is_abandoned(layout: &Layout, run: RunId) -> Result<bool, CliError> {
    let unwatched =
        || Ok::<_, StoreError>(!lock::is_held(&layout.run(run).lock())? && !lock::is_held(layout.root())?);
    Ok(unwatched()? && record(layout, run)?.is_some_and(|record| record.outcome.is_none()) && unwatched()?)
}

/// Whether there is such a run for whoever calls.
pub(super) fn is_in_scope(layout: &Layout, run: RunId) -> Result<bool, StoreError> {
    if scope().is_whole() {
        return Ok(true);
    }
    let bytes = store::read_if_there(&layout.run(run).task())?.unwrap_or_default();
    let assignment = serde_json::from_slice::<Assignment>(&bytes).ok();
    Ok(assignment.is_some_and(|assignment| scope().has(&assignment.spec)))
}

/// The record of a task's last run.
pub(super) fn last(layout: &Layout, task: TaskId) -> Result<Option<Record>, CliError> {
    match attempts(layout, task) {
        0 => Ok(None),
        attempt => record(layout, RunId { task, attempt }),
    }
}

/// The last run of a task that is held since nobody knows what that has done, and how it ended.
pub(super) fn unseen(layout: &Layout, found: &Found) -> Result<Option<(RunId, Outcome)>, CliError> {
    let record = if found.place == Place::Held { last(layout, found.task)? } else { None };
    let ended = record.and_then(|record| Some((record.run, record.outcome?)));
    Ok(ended.filter(|(_, outcome)| matches!(outcome, Outcome::Interrupted | Outcome::Lost)))
}

/// The word for where a task stands: the folder's, or for one that ended its outcome.
pub(super) fn state_word(found: &Found, last: Option<&Record>) -> &'static str {
    let Place::Ended(folder) = found.place else { return found.place.word() };
    // A task that was cancelled between two runs has another outcome than its last run.
    let of_run = last.and_then(|record| record.outcome).filter(|outcome| outcome.folder() == folder);
    match (of_run, folder) {
        (Some(outcome), _) => outcome.word(),
        (None, "done") => "succeeded",
        (None, folder) => folder,
    }
}

/// The word for how far a run has come: its outcome once it has one.
pub(super) fn status_word(record: &Record) -> &'static str {
    match (record.outcome, record.status) {
        (Some(outcome), _) => outcome.word(),
        (None, Status::Preparing) => "preparing",
        (None, Status::Running) => "running",
        (None, Status::Stopping) => "stopping",
        (None, Status::Ended) => "ended",
    }
}

/// A record as it is shown: without secrets, and without what could help to guess one.
pub(super) fn shown(record: &Record) -> Value {
    let mut value = serde_json::to_value(record).expect("because a record has string keys");
    if let Value::Object(map) = &mut value {
        map.remove("token_sha256");
    }
    redact::value(&mut value);
    value
}

/// All runs, by the day of their tasks, the newest first.
pub(super) fn all(layout: &Layout) -> Result<impl Iterator<Item = RunId>, StoreError> {
    let mut dates: Vec<String> =
        store::names(&layout.runs())?.into_iter().filter(|name| time::is_date(name)).collect();
    dates.sort();
    let folder = layout.runs();
    Ok(dates.into_iter().rev().flat_map(move |date| {
        // A day that cannot be listed hides no other.
        let names = store::names(&folder.join(date)).unwrap_or_default();
        let mut runs: Vec<RunId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        runs.sort();
        runs.into_iter().rev()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"seq":1,"at":"2026-11-20T15:04:05.123456Z","type":"run.started","run":"01890a5d-ac96-774b-bcce-b302099a8057.1","host":"here","pid":1,"boot":"b","token_sha256":"t"}
{"seq":2,"at":"2026-11-20T15:04:06.123456Z","type":"run.ended","outcome":"timed_out","evidence":{}}
"#;

    fn run() -> RunId {
        "01890a5d-ac96-774b-bcce-b302099a8057.1".parse().unwrap()
    }

    #[test]
    fn a_run_without_a_readable_picture_is_told_from_its_log_and_hides_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let paths = layout.run(run());
        store::make_dir(paths.dir()).unwrap();
        assert_eq!(record(&layout, run()).unwrap(), None);
        store::create_new(&paths.log(), LOG.as_bytes(), 0o600).unwrap();
        for picture in [None, Some("{torn")] {
            if let Some(text) = picture {
                store::create_new(&paths.record(), text.as_bytes(), 0o600).unwrap();
            }
            let record = record(&layout, run()).unwrap().unwrap();
            assert_eq!(record.outcome, Some(Outcome::TimedOut));
            assert!(!shown(&record).to_string().contains("token"));
        }
        assert_eq!(attempts(&layout, run().task), 1);
    }

    #[test]
    fn the_word_for_an_ended_task_is_its_runs_outcome_where_that_explains_the_folder() {
        let record = record::fold(&jsonl::parse(LOG.as_bytes()).lines);
        let found = |folder| Found {
            task: run().task,
            queue: "default".parse().unwrap(),
            place: Place::Ended(folder),
            path: "/x".into(),
        };
        assert_eq!(state_word(&found("failed"), record.as_ref()), "timed_out");
        assert_eq!(state_word(&found("cancelled"), record.as_ref()), "cancelled");
        assert_eq!(state_word(&found("done"), None), "succeeded");
    }
}
