//! What a task is: the spec that a submit command carries, immutable once its task is active.

mod deadline;
mod place;
mod read;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{Name, RunId, TaskId};
use crate::json::Shape;
use crate::needs::{OnFailedNeed, Target};
use crate::notice::{self, Notify};
use crate::outcome::Outcome;
use crate::refusal::{Kind, Refusal};
use crate::resource::{self, Mode, ResourceName};
use crate::retry::{After, Retry};
use crate::time::Timestamp;
use crate::workspace;

pub(crate) use deadline::check_said;
use place::WORKSPACE;
pub(crate) use place::WorkspaceSpec;
pub(crate) use read::{of, parse};

/// A task's spec, as it stands in its file and in the log. Absent keys take the defaults named here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Spec {
    /// What the user calls it; commands may name the task by it while it is unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<Name>,
    pub(crate) queue: Name,
    /// The lane of the queue whose slots it shares; of the queue's only when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lane: Option<Name>,
    /// Who it belongs to: every reference to the task stays within them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<Name>,
    /// The work item (a card, an issue) that the task is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) item: Option<String>,
    // Exactly one of the next four.
    /// A program and its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<Vec<String>>,
    /// A line for `/bin/sh -c`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shell: Option<String>,
    /// A whole script, run by the interpreter of its first line, or by `/bin/sh`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) script: Option<String>,
    /// What an agent is asked to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt: Option<String>,
    /// Text of the operator that is added to the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) extra: Option<String>,
    /// The profile in `agents/` that carries out a prompt; `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<Name>,
    /// The place that the work is about, an absolute path; the spool's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<String>,
    pub(crate) workspace: WorkspaceSpec,
    /// Variables added to the agent's environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) env: BTreeMap<String, String>,
    /// How many units of which resources of its host it has while it runs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) resources: resource::Units,
    /// The locks that it has while it runs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) locks: BTreeMap<ResourceName, Mode>,
    /// The task that this one does once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rerun_of: Option<TaskId>,
    /// The task waits until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start_at: Option<Timestamp>,
    /// The same, so long after it was admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delay_seconds: Option<u64>,
    /// It does not start any more then, and a run of it ends then as `timed_out`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deadline_at: Option<Timestamp>,
    /// The same, so long after it was admitted; `deadline_at` says when that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deadline_seconds: Option<u64>,
    /// Tasks that must have succeeded before it starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) needs: Vec<Target>,
    /// Tasks that must have ended, however.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) after: Vec<Target>,
    /// Tasks that must have ended without success.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) after_failed: Vec<Target>,
    /// What becomes of it when what it needs has not succeeded.
    #[serde(skip_serializing_if = "OnFailedNeed::is_default")]
    pub(crate) on_failed_need: OnFailedNeed,
    /// When it is tried again; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<Retry>,
    /// Whether it may be done again when nobody knows what an attempt has done: then it is, and else it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repeatable: Option<bool>,
    /// Who is told of it, and of what; nobody when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) notify: Option<Notify>,
    /// Ends the run as `timed_out` after so long; no limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_seconds: Option<u64>,
    /// Ends the run as `timed_out` when its agent has printed nothing for so long; no limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle_timeout_seconds: Option<u64>,
    /// How long the processes of a run have between SIGTERM and SIGKILL.
    pub(crate) grace_seconds: u64,
    pub(crate) output: Output,
    /// How much of each file of output is kept; no limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output_bytes_max: Option<u64>,
}

/// Which files take a run's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Output {
    /// `output.log`, both streams in the order in which they were written.
    #[default]
    Merged,
    /// `stdout.log` and `stderr.log`.
    Apart,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            name: None,
            queue: "default".parse().expect("because it is a name"),
            lane: None,
            tenant: None,
            project: None,
            item: None,
            run: None,
            shell: None,
            script: None,
            prompt: None,
            extra: None,
            agent: None,
            directory: None,
            workspace: WorkspaceSpec::default(),
            env: BTreeMap::new(),
            resources: BTreeMap::new(),
            locks: BTreeMap::new(),
            rerun_of: None,
            start_at: None,
            delay_seconds: None,
            deadline_at: None,
            deadline_seconds: None,
            needs: Vec::new(),
            after: Vec::new(),
            after_failed: Vec::new(),
            on_failed_need: OnFailedNeed::Block,
            retry: None,
            repeatable: None,
            notify: None,
            timeout_seconds: None,
            idle_timeout_seconds: None,
            grace_seconds: 10,
            output: Output::Merged,
            output_bytes_max: None,
        }
    }
}

/// The four forms of work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work<'a> {
    Run(&'a [String]),
    Shell(&'a str),
    Script(&'a str),
    Prompt(&'a str),
}

/// The keys of a policy.
const RETRY: Shape =
    Shape(&[("max", None), ("on", None), ("backoff_seconds", None), ("backoff_seconds_max", None)]);

/// The keys of a submit command, spec and all.
pub(crate) const SUBMIT: Shape = Shape(&[
    ("type", None),
    ("id", None),
    ("rank", None),
    ("held", None),
    ("name", None),
    ("queue", None),
    ("lane", None),
    ("tenant", None),
    ("project", None),
    ("item", None),
    ("run", None),
    ("shell", None),
    ("script", None),
    ("prompt", None),
    ("extra", None),
    ("agent", None),
    ("directory", None),
    ("workspace", Some(&WORKSPACE)),
    ("env", None),
    ("resources", None),
    ("locks", None),
    ("rerun_of", None),
    ("start_at", None),
    ("delay_seconds", None),
    ("deadline_at", None),
    ("deadline_seconds", None),
    ("needs", None),
    ("after", None),
    ("after_failed", None),
    ("on_failed_need", None),
    ("retry", Some(&RETRY)),
    ("repeatable", None),
    ("notify", Some(&notice::SHAPE)),
    ("timeout_seconds", None),
    ("idle_timeout_seconds", None),
    ("grace_seconds", None),
    ("output", None),
    ("output_bytes_max", None),
]);

/// The least that may be kept of a file of output.
const OUTPUT_BYTES_LEAST: u64 = 4096;

/// The keys that say what the work is; exactly one of them stands in a spec.
pub(crate) const WORK_KEYS: [&str; 4] = ["run", "shell", "script", "prompt"];

impl Spec {
    /// What is to be done. A checked spec has exactly one form; the first counts.
    pub(crate) fn work(&self) -> Work<'_> {
        match (&self.run, &self.shell, &self.script, &self.prompt) {
            (Some(argv), _, _, _) => Work::Run(argv),
            (_, Some(line), _, _) => Work::Shell(line),
            (_, _, Some(text), _) => Work::Script(text),
            (_, _, _, prompt) => Work::Prompt(prompt.as_deref().unwrap_or_default()),
        }
    }

    /// Until when a task waits that is admitted at `now`; `None` when it does not.
    pub(crate) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let after = self.delay_seconds.map(|seconds| now.plus(Duration::from_secs(seconds)));
        self.start_at.or(after).filter(|until| *until > now)
    }

    /// What comes after a run of the task that ended with `outcome`.
    pub(crate) fn after(&self, run: RunId, outcome: Outcome) -> After {
        self.retry.clone().unwrap_or_default().after(self.repeatable == Some(true), run, outcome)
    }

    /// Checks what the types do not say.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let given = [self.run.is_some(), self.shell.is_some(), self.script.is_some(), self.prompt.is_some()];
        let keys = WORK_KEYS.join(", ");
        match given.iter().filter(|given| **given).count() {
            1 => {}
            0 => {
                return Err(
                    Refusal::new(Kind::MissingKey, format!("one of {keys} must say what to do")).at("$")
                );
            }
            _ => {
                return Err(
                    Refusal::new(Kind::Conflict, format!("only one of {keys} may say what to do")).at("$")
                );
            }
        }
        self.check_work()?;
        self.check_env()?;
        resource::check_units(&self.resources)?;
        resource::check_locks(&self.locks)?;
        self.check_workspace()?;
        let invalid = |path: &str, message: &str| Err(Refusal::new(Kind::InvalidValue, message).at(path));
        for (path, seconds) in [
            ("$.timeout_seconds", self.timeout_seconds),
            ("$.idle_timeout_seconds", self.idle_timeout_seconds),
        ] {
            if seconds == Some(0) {
                return invalid(path, "a timeout is at least 1 second");
            }
        }
        if self.output_bytes_max.is_some_and(|bytes| bytes < OUTPUT_BYTES_LEAST) {
            return invalid("$.output_bytes_max", "less than 4096 bytes of output cannot be kept");
        }
        if let Some(retry) = &self.retry {
            retry.check()?;
        }
        if let Some(notify) = &self.notify {
            notify.check()?;
        }
        if self.start_at.is_some() && self.delay_seconds.is_some() {
            let message = "a task has a time to start at, or a delay, and not both";
            return Err(Refusal::new(Kind::Conflict, message).at("$.delay_seconds"));
        }
        self.check_deadline()?;
        self.check_edges()?;
        if self.item.as_ref().is_some_and(|item| item.len() > 1024 || item.contains(char::is_control)) {
            return invalid("$.item", "a work item is one line of at most 1024 bytes");
        }
        Ok(())
    }

    fn check_work(&self) -> Result<(), Refusal> {
        let empty =
            |path: &str| Err(Refusal::new(Kind::InvalidValue, "there is nothing to do here").at(path));
        match self.work() {
            Work::Run(argv) if argv.first().is_none_or(String::is_empty) => return empty("$.run"),
            Work::Shell(text) if text.trim().is_empty() => return empty("$.shell"),
            Work::Script(text) if text.trim().is_empty() => return empty("$.script"),
            Work::Prompt(text) if text.trim().is_empty() => return empty("$.prompt"),
            Work::Run(_) | Work::Shell(_) | Work::Script(_) | Work::Prompt(_) => {}
        }
        let for_prompts = [("$.extra", self.extra.is_some()), ("$.agent", self.agent.is_some())];
        match for_prompts.iter().find(|(_, given)| *given && self.prompt.is_none()) {
            Some((path, _)) => Err(Refusal::new(Kind::Conflict, "only a prompt can have this").at(*path)),
            None => Ok(()),
        }
    }

    fn check_env(&self) -> Result<(), Refusal> {
        let valid = |name: &str| !name.is_empty() && !name.contains('=');
        for name in self.env.keys() {
            let path = format!("$.env.{name}");
            if !valid(name) {
                return Err(Refusal::new(Kind::InvalidValue, "not a variable's name").at(path));
            }
            if name.starts_with("GITSPOOL_") {
                return Err(
                    Refusal::new(Kind::NotPermitted, "names with GITSPOOL_ are set by gitspool").at(path)
                );
            }
        }
        Ok(())
    }

    fn check_workspace(&self) -> Result<(), Refusal> {
        if self.directory.as_ref().is_some_and(|directory| !directory.starts_with('/')) {
            return Err(Refusal::new(Kind::InvalidValue, "a directory is an absolute path").at("$.directory"));
        }
        let WorkspaceSpec { kind, base, branch, .. } = &self.workspace;
        // A commit may be told by its way from another (`main~1`, `HEAD^`); a branch has a name.
        let base = base.as_ref().map(|base| base.replace(['~', '^'], "-"));
        for (path, text) in [("$.workspace.base", &base), ("$.workspace.branch", branch)] {
            if text.as_ref().is_some_and(|text| !is_revision(text)) {
                return Err(Refusal::new(Kind::InvalidValue, "not a name that git would take").at(path));
            }
        }
        if *kind == Some(workspace::Kind::None) && self.directory.is_some() {
            let message = "the workspace `none` has no directory";
            return Err(Refusal::new(Kind::Conflict, message).at("$.workspace.kind"));
        }
        kind.map_or(Ok(()), |kind| self.workspace.check_for(kind))
    }
}

/// Whether git could take `text` as a branch or commit name, and never as an option.
fn is_revision(text: &str) -> bool {
    let bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let edges = text.starts_with(['-', '/', '.']) || text.ends_with(['/', '.']) || text.ends_with(".lock");
    !text.is_empty()
        && text.len() <= 200
        && !edges
        && !text.contains(bad)
        && !text.contains("..")
        && !text.contains("@{")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_keys_are_those_of_the_spec() {
        let all = Spec {
            name: "n".parse().ok(),
            tenant: "t".parse().ok(),
            project: "p".parse().ok(),
            item: Some("i".into()),
            run: Some(vec![]),
            shell: Some(String::new()),
            script: Some(String::new()),
            prompt: Some(String::new()),
            extra: Some(String::new()),
            agent: "a".parse().ok(),
            directory: Some("/".into()),
            lane: "l".parse().ok(),
            env: [("A".into(), "b".into())].into(),
            resources: [("gpu".parse().unwrap(), 1)].into(),
            locks: [("db".parse().unwrap(), Mode::Shared)].into(),
            rerun_of: "01890a5d-ac96-774b-bcce-b302099a8057".parse().ok(),
            start_at: Some(Timestamp::from_micros(0)),
            delay_seconds: Some(0),
            needs: vec![Target::Word("a".into())],
            after: vec![Target::Word("b".into())],
            deadline_at: Some(Timestamp::from_micros(1)),
            deadline_seconds: Some(1),
            after_failed: vec![Target::Word("c".into())],
            on_failed_need: OnFailedNeed::Hold,
            retry: Some(Retry::default()),
            repeatable: Some(true),
            notify: Some(Notify::default()),
            timeout_seconds: Some(1),
            idle_timeout_seconds: Some(1),
            output_bytes_max: Some(4096),
            ..Spec::default()
        };
        let serde_json::Value::Object(map) = serde_json::to_value(&all).unwrap() else { panic!("an object") };
        let known: Vec<&str> = SUBMIT.0.iter().map(|(key, _)| *key).collect();
        for key in map.keys() {
            assert!(known.contains(&key.as_str()), "SUBMIT lacks {key}");
        }
        assert_eq!(known.len(), map.len() + 4, "type, id, rank and held are not of the spec");
    }

    #[test]
    fn a_task_waits_for_a_time_that_has_not_come() {
        let now = Timestamp::from_micros(5_000_000);
        let until = |start: Option<i64>, delay_seconds| {
            let start_at = start.map(Timestamp::from_micros);
            Spec { start_at, delay_seconds, ..Spec::default() }.until(now)
        };
        assert_eq!(until(None, None), None);
        assert_eq!((until(Some(5_000_000), None), until(None, Some(0))), (None, None));
        assert_eq!(until(Some(5_000_001), None), Some(Timestamp::from_micros(5_000_001)));
        assert_eq!(until(None, Some(2)), Some(Timestamp::from_micros(7_000_000)));
    }

    #[test]
    fn a_branch_can_never_be_taken_for_an_option() {
        for bad in ["", "-f", "a b", "a..b", "a.lock", "/a", "a/", "a\n", "a:b", "HEAD@{1}"] {
            assert!(!is_revision(bad), "{bad}");
        }
        assert!(is_revision("gitspool/fix-1") && is_revision("0a1b2c"));
        let based = |base: &str| Spec {
            run: Some(vec!["true".into()]),
            workspace: WorkspaceSpec { base: Some(base.into()), ..WorkspaceSpec::default() },
            ..Spec::default()
        };
        assert!(based("main~1").check().is_ok() && based("HEAD^2~3").check().is_ok());
        assert!(
            based("-f~1").check().is_err()
                && based("a b~1").check().is_err()
                && based("~1 x").check().is_err()
        );
    }
}
