//! What `doctor` says of queues: their settings, what this host has to give to their tasks, and what they keep.

use super::super::{find, host, status};
use super::{Finding, fail, ok, warn};
use crate::clock;
use crate::command::BYTES_MAX;
use crate::daemon;
use crate::environment;
use crate::gc;
use crate::layout::Layout;
use crate::queue;
use crate::retention::Asked;
use crate::spool::Spool;
use crate::store;

pub(super) fn check_queues(layout: &Layout, findings: &mut Vec<Finding>) {
    let queues = match find::queues(layout) {
        Ok(queues) => queues,
        Err(error) => return findings.push(fail(error.to_string(), "")),
    };
    for queue in queues {
        let path = layout.queue_record(&queue);
        let shown = path.display();
        if let Some(why) = status::paused(layout, &queue) {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            let way = format!("`gitspool resume {queue}`, or rm {}", layout.paused(&queue).display());
            findings.push(warn(format!("queue {queue} is paused{why}"), way));
        }
        findings.push(
            match store::read_if_small(&path, BYTES_MAX)
                .map(|bytes| bytes.map(|bytes| queue::parse_settings(&bytes)))
            {
                Ok(Some(Ok(settings))) => ok(format!("queue {queue} has {} slots", settings.slots)),
                Ok(Some(Err(refusal))) => fail(format!("{shown}: {refusal}"), "write {\"slots\": 2}, say"),
                Ok(None) => {
                    warn(format!("{shown} is not there, so the defaults hold"), "the next daemon makes it")
                }
                Err(error) => fail(error.to_string(), format!("write it anew, or chmod 600 {shown}")),
            },
        );
    }
}

/// Whether the notifiers of the queues can be found, and which have failed.
pub(super) fn check_notifiers(layout: &Layout, findings: &mut Vec<Finding>) {
    for queue in find::queues(layout).unwrap_or_default() {
        let Ok(settings) = status::settings(layout, &queue) else { continue };
        let defaults = serde_json::to_value(&settings.defaults).unwrap_or_default();
        let of_tasks = defaults["notify"]["argv"][0].as_str();
        let programs = [settings.notify_empty.first().map(String::as_str), of_tasks];
        for program in programs.into_iter().flatten() {
            findings.push(match environment::finds_program(program) {
                true => ok(format!("queue {queue} has the notifier {program}")),
                false => fail(
                    format!("the notifier {program} of queue {queue} is not to be found"),
                    format!("give its whole path in {}", layout.queue_record(&queue).display()),
                ),
            });
        }
    }
    let record = daemon::daemon_record(layout);
    for failed in record.iter().flat_map(|record| &record.failed_notices) {
        findings.push(warn(failed.words(), "`gitspool events` has the line `notice.failed`"));
    }
}

/// What this host has, if it is said anywhere.
pub(super) fn check_host(spool: &Spool) -> Option<Finding> {
    let name = spool.known_host().ok()??;
    let path = spool.layout.host_settings(&name);
    match host::settings(&spool.layout, &name) {
        Err(error) => Some(fail(
            error,
            format!("write {{\"resources\": {{\"gpu\": 2}}}}, say, or remove {}", path.display()),
        )),
        Ok(resources) if resources.is_empty() => {
            let others = store::names(&spool.layout.hosts()).unwrap_or_default();
            let mut others = others.into_iter().filter(|other| other.ends_with(".json"));
            let other = others.next().filter(|_| !store::exists(&path))?;
            let what = format!("hosts/ has {other}, and nothing of this host, which is called {name}");
            Some(warn(what, format!("if it is meant for this host, call it {name}.json")))
        }
        Ok(resources) => {
            let each = resources.iter().map(|(name, capacity)| format!("{} {name}", capacity.count()));
            Some(ok(format!("host {name} has {}", each.collect::<Vec<_>>().join(", "))))
        }
    }
}

/// Whether the queues hold more than they keep, and what cannot go.
pub(super) fn check_retention(spool: &Spool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for queue in find::queues(&spool.layout).unwrap_or_default() {
        let asked = Asked { queue: Some(queue.clone()), ..Asked::default() };
        let plan = match gc::plan(spool, &asked, clock::now()) {
            Ok(plan) => plan,
            Err(error) => {
                findings.push(warn(format!("what queue {queue} holds cannot be looked at: {error}"), ""));
                continue;
            }
        };
        let tally = plan.tally();
        if tally.tasks > 0 {
            let what =
                format!("{} tasks, {} bytes, are beyond what queue {queue} keeps", tally.tasks, tally.bytes);
            findings.push(warn(what, "`gitspool gc` removes them now, the daemon with the next day"));
        }
        if tally.stay > 0 {
            let what = format!("{} tasks of queue {queue} stay beyond what it keeps", tally.stay);
            findings.push(warn(what, "their workspaces still stand; `gitspool gc --dry-run` names them, and `gitspool rm` keeps what is in a worktree"));
        }
    }
    findings
}
