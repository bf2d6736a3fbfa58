//! What this host has, which active tasks have what of it, and what of it a task lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::find::{self, Found, Place};
use super::{CliError, shown, status};
use crate::command::BYTES_MAX;
use crate::id::{Name, Rank, TaskId};
use crate::layout::Layout;
use crate::queue::{self, Live, Queues};
use crate::resource::{self, Assigned, Capacities, Lack, ResourceName, Thing};
use crate::spec::Spec;
use crate::spool::Spool;
use crate::store;
use crate::task::State;

/// This host, as its file and the tasks' files show it.
pub(super) struct Host {
    pub(super) name: Option<Name>,
    /// What is wrong with its settings.
    pub(super) error: Option<String>,
    pub(super) resources: Capacities,
    /// The active tasks, with what they have. Which units these are is not known here, only how many.
    pub(super) queues: Queues,
}

impl Host {
    /// Looks at what the host has, and at the active ones of the live tasks.
    pub(super) fn look(spool: &Spool, live: &[Found]) -> Result<Host, CliError> {
        let name = spool.known_host()?;
        let settings =
            name.as_ref().map(|name| settings(&spool.layout, name)).unwrap_or_else(|| Ok(Capacities::new()));
        let (resources, error) = match settings {
            Ok(resources) => (resources, None),
            Err(error) => (Capacities::new(), Some(error)),
        };
        let mut queues = Queues::default();
        let mut used: BTreeMap<ResourceName, u32> = BTreeMap::new();
        for found in live {
            let Place::Active(host) = &found.place else { continue };
            let Some(spec) = find::spec(found)? else { continue };
            let mut assigned = Assigned::new();
            for (name, wanted) in &spec.resources {
                let next = used.entry(name.clone()).or_default();
                assigned.insert(name.clone(), (*next..next.saturating_add(*wanted)).collect());
                *next = next.saturating_add(*wanted);
            }
            let state = State::Active { attempt: 1, host: host.clone(), rank: Rank::default(), assigned };
            put(&mut queues, found.task, spec, state);
        }
        Ok(Host { name, error, resources, queues })
    }

    /// What a task lacks, and who has that, when those ready ones that go before it have got what they get.
    pub(super) fn lacks(
        &mut self,
        layout: &Layout,
        live: &[Found],
        of: &Found,
        spec: &Spec,
    ) -> Result<Vec<(Lack, Vec<TaskId>)>, CliError> {
        let wants = queue::wants(spec);
        if wants == resource::Wants::default() {
            return Ok(vec![]);
        }
        if let Place::Ready(rank) = of.place {
            self.add_ready_before(layout, live, (rank, of.task))?;
        }
        let goes_on = |queue: &Name| !store::exists(&layout.paused(queue));
        let round = self.queues.pick(&self.resources, goes_on).round;
        let lacks =
            round.lacks(&wants).into_iter().filter(|lack| self.error.is_none() || !lack.is_of_units());
        Ok(lacks.map(|lack| (round.who_has(&lack), lack)).map(|(who, lack)| (lack, who)).collect())
    }

    /// What `status` says of it to programs.
    pub(super) fn value(&self) -> Value {
        let ledger = self.queues.ledger();
        let resources = self.resources.iter().map(|(name, capacity)| {
            let taken: Vec<TaskId> = ledger.taken(name).map(|(_, task)| task).collect();
            let (count, free) = (capacity.count(), self.free(name));
            let by: BTreeSet<&TaskId> = taken.iter().collect();
            (name.to_string(), json!({"count": count, "free": free, "taken_by": by}))
        });
        let resources: Map<String, Value> = resources.collect();
        let mut locks = Map::new();
        for (thing, holders) in ledger.things() {
            if let (Thing::Lock(name), Some(mode)) = (thing, holders.values().max()) {
                let by: Vec<&TaskId> = holders.keys().collect();
                locks.insert(name.to_string(), json!({"mode": mode, "taken_by": by}));
            }
        }
        json!({"host": self.name, "resources": resources, "locks": locks, "error": self.error})
    }

    /// The same for people; nothing where it has nothing.
    pub(super) fn text(&self) -> String {
        let (value, mut out) = (self.value(), String::new());
        if let Some(error) = &self.error {
            out.push_str(&format!("\nwrong    {error}\n         the last good settings of this host hold\n"));
        }
        let tasks = |taken_by: &Value| {
            let ids = taken_by.as_array().into_iter().flatten().filter_map(|id| id.as_str()?.parse().ok());
            ids.map(shown::short).collect::<Vec<_>>().join(" ")
        };
        let rows = |key: &str, cells: fn(&Value) -> Vec<String>| -> Vec<Vec<String>> {
            let entries = value[key].as_object().into_iter().flatten();
            let row = |(name, entry): (&String, &Value)| {
                let (name, by) = (name.clone(), tasks(&entry["taken_by"]));
                [name].into_iter().chain(cells(entry)).chain([by]).collect()
            };
            entries.map(row).collect()
        };
        let numbers = |entry: &Value| vec![entry["free"].to_string(), entry["count"].to_string()];
        let mode = |entry: &Value| vec![entry["mode"].as_str().unwrap_or_default().to_owned()];
        for (head, rows) in [
            (&["RESOURCE", "FREE", "OF", "TAKEN BY"][..], rows("resources", numbers)),
            (&["LOCK", "MODE", "TAKEN BY"], rows("locks", mode)),
        ] {
            if !rows.is_empty() {
                out.push_str(&format!("\n{}", shown::table(head, &rows)));
            }
        }
        out
    }

    /// How many units of a resource nobody has.
    fn free(&self, name: &ResourceName) -> u32 {
        let count = self.resources.get(name).map_or(0, |capacity| capacity.count());
        let taken = self.queues.ledger().taken(name).count();
        count.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }

    fn add_ready_before(
        &mut self,
        layout: &Layout,
        live: &[Found],
        turn: (Rank, TaskId),
    ) -> Result<(), CliError> {
        for queue in find::queues(layout)? {
            // That some cannot be read is told elsewhere.
            let settings = status::settings(layout, &queue).unwrap_or_default();
            self.queues.queue_mut(&queue).settings = settings;
        }
        for found in live {
            let Place::Ready(rank) = found.place else { continue };
            if (rank, found.task) >= turn {
                continue;
            }
            if let Some(spec) = find::spec(found)? {
                put(&mut self.queues, found.task, spec, State::Ready { rank, attempts: 0 });
            }
        }
        Ok(())
    }
}

fn put(queues: &mut Queues, task: TaskId, spec: Spec, state: State) {
    queues.insert(task, Live { state, spec: Arc::new(spec), spec_seq: 0 });
}

/// What a host has, or what is wrong with its file.
pub(super) fn settings(layout: &Layout, host: &Name) -> Result<Capacities, String> {
    let path = layout.host_settings(host);
    match store::read_if_small(&path, BYTES_MAX) {
        Ok(Some(bytes)) => match resource::parse_host(&bytes) {
            Ok(settings) => Ok(settings.resources),
            Err(refusal) => Err(format!("{}: {refusal}", path.display())),
        },
        Ok(None) => Ok(Capacities::new()),
        Err(error) => Err(error.to_string()),
    }
}
