//! A run's assignment: everything its supervisor needs, frozen in `task.json` when the run is begun.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::agent::Profile;
use crate::id::{Name, RunId};
use crate::resource::Assigned;
use crate::spec::Spec;

/// The spec, the agent's profile and the places of one run, as they were at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) run: RunId,
    pub(crate) host: Name,
    /// The spool's folder.
    pub(crate) spool: PathBuf,
    /// The folder of the user's machine-local state.
    pub(crate) state_dir: PathBuf,
    pub(crate) spool_id: String,
    /// The profile that carries out a prompt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) agent: Option<Profile>,
    /// The units that it has of the host's resources.
    #[serde(skip_serializing_if = "Assigned::is_empty", default)]
    pub(crate) assigned: Assigned,
    pub(crate) spec: Arc<Spec>,
}

impl Assignment {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("because an assignment has string keys")
    }
}
