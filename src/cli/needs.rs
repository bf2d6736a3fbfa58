//! What a task waits for in others, as their files tell it.

use serde::Serialize;

use super::CliError;
use super::find::{self, Found, Place};
use super::runs;
use crate::id::TaskId;
use crate::layout::Layout;
use crate::needs::Edge;
use crate::outcome::Outcome;
use crate::removed;
use crate::spec::Spec;
use crate::why::Reason;

/// A task that another waits for.
#[derive(Serialize)]
pub(super) struct Need {
    pub(super) edge: Edge,
    pub(super) task: TaskId,
    /// The word for where it stands.
    pub(super) state: &'static str,
    #[serde(rename = "met")]
    pub(super) is_met: bool,
}

/// All tasks that one waits for, in the order of its spec.
pub(super) fn of(layout: &Layout, spec: &Spec) -> Result<Vec<Need>, CliError> {
    let need = |(edge, task)| {
        let found = find::exact(layout, task)?;
        let gone = removed::look(layout, task)?;
        let (is_met, state) = match (&found, &gone) {
            (Some(found), _) => {
                (is_met(edge, found), runs::state_word(found, runs::last(layout, task)?.as_ref()))
            }
            (None, Some(gone)) => (edge.is_met(Outcome::of_folder(gone.folder)), gone.folder),
            (None, None) => (false, "nowhere to be found"),
        };
        Ok(Need { edge, task, state, is_met })
    };
    spec.edges().map(need).collect()
}

fn is_met(edge: Edge, found: &Found) -> bool {
    match found.place {
        Place::Ended(folder) => edge.is_met(Outcome::of_folder(folder)),
        Place::Held | Place::Waiting | Place::Ready(_) | Place::Active(_) => false,
    }
}

/// Those that it still waits for, or in vain, as reasons.
pub(super) fn unmet(layout: &Layout, spec: &Spec) -> Result<Vec<Reason>, CliError> {
    let unmet = of(layout, spec)?.into_iter().filter(|need| !need.is_met);
    Ok(unmet.map(|Need { edge, task, state, .. }| Reason::Task { edge, task, state }).collect())
}
