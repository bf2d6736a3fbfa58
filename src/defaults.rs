//! What a submit takes of its queue where it says nothing itself: spec values, `defaults` in `queue.json`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::Rank;
use crate::json;
use crate::refusal::{Kind, Refusal};
use crate::spec::{SUBMIT, Spec};
use crate::workspace::{self, Cleanup};

/// What each task says for itself.
const OWN: [&str; 19] = [
    "type",
    "id",
    "held",
    "name",
    "queue",
    "item",
    "tenant",
    "project",
    "run",
    "shell",
    "script",
    "prompt",
    "needs",
    "after",
    "after_failed",
    "start_at",
    "delay_seconds",
    "deadline_at",
    "deadline_seconds",
];

/// What only a prompt can have.
const OF_PROMPTS: [&str; 2] = ["agent", "extra"];

/// The keys that a command says itself; of an object also those in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said(BTreeMap<String, BTreeSet<String>>);

impl Said {
    pub(crate) fn of(map: &Map<String, Value>) -> Said {
        let inner =
            |value: &Value| value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
        // What is null has no value.
        let said = map.iter().filter(|(_, value)| !value.is_null());
        Said(said.map(|(key, value)| (key.clone(), inner(value))).collect())
    }

    /// The keys that a spec has.
    pub(crate) fn all(spec: &Spec) -> Said {
        serde_json::to_value(spec).ok().as_ref().and_then(Value::as_object).map(Said::of).unwrap_or_default()
    }

    fn says(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn says_in(&self, key: &str, inner: &str) -> bool {
        self.0.get(key).is_some_and(|said| said.contains(inner))
    }

    /// Takes back what only a worktree can have and the command does not say, when the workspace is another.
    pub(crate) fn drop_unsaid(&self, spec: &mut Spec) {
        let workspace = &mut spec.workspace;
        if workspace.kind == Some(workspace::Kind::Worktree) {
            return;
        }
        workspace.base.take_if(|_| !self.says_in("workspace", "base"));
        workspace.branch.take_if(|_| !self.says_in("workspace", "branch"));
        if !self.says_in("workspace", "cleanup") {
            workspace.cleanup = Cleanup::default();
        }
        workspace.keep_ignored &= self.says_in("workspace", "keep_ignored");
        workspace.keep_bytes_max.take_if(|_| !self.says_in("workspace", "keep_bytes_max"));
    }
}

/// Spec values that hold for all tasks of a queue which do not say others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Defaults(Map<String, Value>);

impl Defaults {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads defaults, and tries whether a task and a prompt could have them.
    pub(crate) fn parse(map: Map<String, Value>) -> Result<Defaults, Refusal> {
        let map: Map<String, Value> = map.into_iter().filter(|(_, value)| !value.is_null()).collect();
        if let Some(own) = map.keys().find(|key| OWN.contains(&key.as_str())) {
            let refusal = Refusal::new(Kind::InvalidValue, "each task says this for itself");
            return Err(refusal.at(format!("$.{own}")));
        }
        json::check_keys(&map, &SUBMIT, "$")?;
        let defaults = Defaults(map);
        let forms = [
            Spec { run: Some(vec!["true".to_owned()]), ..Spec::default() },
            Spec { prompt: Some("anything".to_owned()), ..Spec::default() },
        ];
        for mut spec in forms {
            defaults.fill(&mut spec, &mut Rank::default(), &Said::default())?;
        }
        Ok(defaults)
    }

    /// Gives a task what it does not say. What the task says wins, in objects key by key.
    pub(crate) fn fill(&self, spec: &mut Spec, rank: &mut Rank, said: &Said) -> Result<(), Refusal> {
        if self.is_empty() {
            return Ok(());
        }
        let Ok(Value::Object(mut map)) = serde_json::to_value(&*spec) else {
            unreachable!("because a spec is an object")
        };
        for (key, default) in self.0.iter().filter(|(key, _)| !is_beside(key, spec)) {
            match (default, map.get_mut(key)) {
                (Value::Object(inner), Some(Value::Object(there))) => {
                    let unsaid = inner.iter().filter(|(inner, _)| !said.says_in(key, inner));
                    let unsaid = unsaid.filter(|(inner, _)| !self.is_beside_in(key, inner, spec, said));
                    there.extend(unsaid.map(|(inner, value)| (inner.clone(), value.clone())));
                }
                (_, _) if said.says(key) => {}
                (_, _) => drop(map.insert(key.clone(), default.clone())),
            }
        }
        if let Some(value) = map.remove("rank") {
            *rank = json::typed::<Ranked>([("rank".to_owned(), value)].into_iter().collect())?.rank;
        }
        let filled: Spec = json::typed(map)?;
        filled.check()?;
        *spec = filled;
        Ok(())
    }

    /// Whether a default of a key in an object does not fit what the task says: whoever says a directory does not want to
    /// work in none, and where another kind is said nothing of a worktree is meant.
    fn is_beside_in(&self, key: &str, inner: &str, spec: &Spec, said: &Said) -> bool {
        if key != "workspace" {
            return false;
        }
        match inner {
            "kind" => said.says("directory") && self.0[key][inner] == workspace::Kind::None.word(),
            _ => spec.workspace.kind.is_some_and(|kind| kind != workspace::Kind::Worktree),
        }
    }
}

/// Whether a default does not fit what the task says.
fn is_beside(key: &str, spec: &Spec) -> bool {
    let of_none = spec.workspace.kind == Some(workspace::Kind::None);
    (OF_PROMPTS.contains(&key) && spec.prompt.is_none()) || (key == "directory" && of_none)
}

#[derive(Deserialize)]
struct Ranked {
    rank: Rank,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<Defaults, Refusal> {
        let Value::Object(map) = value else { panic!("an object") };
        Defaults::parse(map)
    }

    /// What a command becomes.
    fn filled(defaults: Value, command: Value) -> (Value, u8) {
        let Value::Object(mut map) = command else { panic!("an object") };
        let said = Said::of(&map);
        map.remove("rank");
        let mut spec: Spec = json::typed(map).unwrap();
        let mut rank = Rank::default();
        parse(defaults).unwrap().fill(&mut spec, &mut rank, &said).unwrap();
        said.drop_unsaid(&mut spec);
        (serde_json::to_value(&spec).unwrap(), rank.into())
    }

    #[test]
    fn a_task_has_what_it_says_and_else_what_its_queue_says() {
        let defaults = || {
            json!({
                "timeout_seconds": 60, "grace_seconds": 1, "rank": 7, "lane": "build", "env": {"A": "1", "B": "2"},
                "retry": {"max": 3, "backoff_seconds": 9}, "agent": "smart", "resources": {"gpu": 1},
            })
        };
        let (spec, rank) = filled(defaults(), json!({"run": ["true"]}));
        assert_eq!((rank, &spec["timeout_seconds"], &spec["grace_seconds"]), (7, &json!(60), &json!(1)));
        assert_eq!((&spec["lane"], &spec["retry"]["max"]), (&json!("build"), &json!(3)));
        assert_eq!(spec.get("agent"), None, "only a prompt has one");
        let said = json!({
            "prompt": "x", "timeout_seconds": 5, "grace_seconds": 10, "env": {"B": "3"}, "retry": {"max": 1},
            "resources": {"gpu": 0},
        });
        let (spec, _) = filled(defaults(), said);
        assert_eq!((&spec["timeout_seconds"], &spec["grace_seconds"]), (&json!(5), &json!(10)));
        assert_eq!((&spec["env"], &spec["agent"]), (&json!({"A": "1", "B": "3"}), &json!("smart")));
        assert_eq!((&spec["retry"]["max"], &spec["retry"]["backoff_seconds"]), (&json!(1), &json!(9)));
        assert_eq!(spec["resources"], json!({"gpu": 0}));
    }

    #[test]
    fn what_only_worktrees_have_is_not_forced_on_others() {
        let defaults = || json!({"workspace": {"base": "main", "cleanup": "worktree"}, "directory": "/d"});
        let none = json!({"run": ["true"], "workspace": {"kind": "none"}});
        let (spec, _) = filled(defaults(), none);
        assert_eq!(
            (spec.get("directory"), &spec["workspace"]),
            (None, &json!({"kind": "none", "cleanup": "never"}))
        );
        let (spec, _) = filled(defaults(), json!({"run": ["true"], "workspace": {"kind": "worktree"}}));
        assert_eq!(spec["workspace"], json!({"kind": "worktree", "base": "main", "cleanup": "worktree"}));
        let (spec, _) =
            filled(json!({"workspace": {"kind": "none"}}), json!({"run": ["a"], "directory": "/d"}));
        assert_eq!(spec["workspace"], json!({"cleanup": "never"}));
    }

    #[test]
    fn defaults_are_read_strictly() {
        for (bad, path) in [
            (json!({"name": "x"}), "$.name"),
            (json!({"run": ["x"]}), "$.run"),
            (json!({"timeout": 1}), "$.timeout"),
            (json!({"timeout_seconds": 0}), "$.timeout_seconds"),
            (json!({"timeout_seconds": "1"}), "$.timeout_seconds"),
            (json!({"rank": 100}), "$.rank"),
            (json!({"env": {"GITSPOOL_RUN": "x"}}), "$.env.GITSPOOL_RUN"),
            (json!({"workspace": {"kind": "none", "base": "main"}}), "$.workspace.base"),
            (json!({"workspace": "none"}), "$.workspace"),
            (json!({"agent": "a/b"}), "$.agent"),
        ] {
            let refusal = parse(bad.clone()).expect_err(&bad.to_string());
            assert_eq!(refusal.path.as_deref(), Some(path), "{bad}");
        }
        assert!(parse(json!({"timeout_seconds": null})).unwrap().is_empty());
    }
}
