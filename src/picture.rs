//! What the pictures of a spool look like: where each lies, and its bytes. Pure.
//!
//! The daemon and the supervisors draw them; `audit` compares with them what lies there. Each is spelled here once, so
//! that the two cannot differ.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use crate::digest;
use crate::id::{Name, TaskId};
use crate::key;
use crate::layout::Layout;
use crate::outcome::Outcome;
use crate::spec::Spec;
use crate::task::State;

/// A record as people like to read it.
pub(crate) fn pretty<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(record).expect("because records have string keys");
    bytes.push(b'\n');
    bytes
}

/// Whether these bytes are what a power cut leaves of a picture that was not synced: a part of it from its begin, with
/// zeros where it did not come to the disk.
pub(crate) fn is_torn(bytes: &[u8], picture: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| *byte == 0 || picture.get(at) == Some(byte))
}

/// What stands in the file of a task: its spec. Of one that has ended without success also how that was, which a retry
/// goes by.
pub(crate) fn task(spec: &Spec, state: &State) -> Vec<u8> {
    if !tells_end(state) {
        return pretty(spec);
    }
    #[derive(Serialize)]
    struct Ended<'a> {
        #[serde(flatten)]
        spec: &'a Spec,
        state: &'a State,
        sha256: String,
    }
    let mut value = json!(spec);
    value["state"] = json!(state);
    pretty(&Ended { spec, state, sha256: sha256_of(&value) })
}

/// Whether the file of a task in that state tells it.
pub(crate) fn tells_end(state: &State) -> bool {
    matches!(state, State::Ended { outcome, .. } if *outcome != Outcome::Succeeded)
}

/// What the file of a task that has ended tells of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Told(State),
    /// Nothing, as that of one that has succeeded, and those of older versions.
    Untold,
    /// Somebody has edited it since.
    Edited,
}

/// Reads how a task ended from its file.
pub(crate) fn end_in(bytes: &[u8]) -> End {
    let Ok(Value::Object(mut file)) = serde_json::from_slice(bytes) else { return End::Edited };
    let (sha256, state) = (file.remove("sha256"), file.get("state").cloned());
    let (Some(sha256), Some(state)) = (sha256, state) else { return End::Untold };
    match serde_json::from_value(state) {
        Ok(state) if tells_end(&state) && sha256 == sha256_of(&Value::Object(file)) => End::Told(state),
        Ok(_) | Err(_) => End::Edited,
    }
}

/// The digest of what a file says, as JSON without spaces and with sorted keys.
fn sha256_of(file: &Value) -> String {
    digest::sha256_hex(key::canonical(file).as_bytes())
}

/// Where the file of a task lies.
pub(crate) fn place(layout: &Layout, queue: &Name, task: TaskId, state: &State) -> PathBuf {
    match state {
        State::Held { .. } => layout.held_task(queue, task),
        State::Waiting { .. } => layout.waiting_task(queue, task),
        State::Ready { rank, .. } => layout.ready_task(queue, *rank, task),
        State::Active { host, .. } | State::Cancelling { host, .. } => layout.active_task(queue, host, task),
        State::Ended { outcome, .. } => layout.ended_task(queue, outcome.folder(), task),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Rank;

    fn ended(outcome: Outcome) -> State {
        State::Ended { outcome, attempts: 2, rank: Rank::default(), because: None }
    }

    #[test]
    fn the_file_of_what_did_not_succeed_tells_how_it_ended_until_somebody_edits_it() {
        let spec = Spec { run: Some(vec!["true".into()]), ..Spec::default() };
        for outcome in Outcome::ALL {
            let bytes = task(&spec, &ended(outcome));
            assert_eq!(serde_json::from_slice::<Spec>(&bytes).unwrap(), spec);
            if outcome == Outcome::Succeeded {
                assert_eq!((bytes.clone(), end_in(&bytes)), (pretty(&spec), End::Untold));
                continue;
            }
            assert_eq!(end_in(&bytes), End::Told(ended(outcome)));
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(end_in(value.to_string().as_bytes()), End::Told(ended(outcome)), "laid out otherwise");
            for (key, edited) in
                [("run", json!(["false"])), ("state", json!(ended(Outcome::Lost))), ("x", json!(1))]
            {
                let mut value = value.clone();
                value[key] = edited;
                let same = outcome == Outcome::Lost && key == "state";
                assert_eq!(end_in(value.to_string().as_bytes()) == End::Edited, !same, "{key}");
            }
        }
        assert_eq!(end_in(b"[]"), End::Edited);
    }
}
