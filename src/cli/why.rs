//! `gitspool why`

use std::path::Path;

use serde_json::json;

use super::find::{self, Found, Place};
use super::host::Host;
use super::{Answer, CliError, Context, doing, needs, pending, print, print_json, runs, status};
use crate::clock;
use crate::daemon;
use crate::layout::Layout;
use crate::lock;
use crate::spec::{self, Spec};
use crate::spool::Spool;
use crate::store;
use crate::why::{Around, Reason, reasons};

/// Say why a task does not run now: all reasons at once; exit with 0 when there are some, with 1 when it runs or has ended
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Its id, the end of it, or its name
    #[arg(value_name = "ID")]
    task: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<Answer, CliError> {
    let spool = context.open()?;
    let layout = spool.layout.clone();
    let Some(target) = find::look_for(&layout, &arguments.task)? else {
        return not_admitted(context, &layout, &arguments.task);
    };
    let found = target.found;
    let spec = find::spec(&found)?.unwrap_or_default();
    let unmet = || needs::unmet(&layout, &spec);
    let rests = match &found.place {
        Place::Held => {
            let unseen = runs::unseen(&layout, &found)?;
            let unseen = unseen.map(|(run, outcome)| Reason::Unseen { run, outcome });
            [vec![Reason::Held], unseen.into_iter().collect(), unmet()?].concat()
        }
        Place::Waiting => waits_for(&layout, &found, &spec, unmet()?),
        Place::Ready(_) => vec![],
        Place::Active(_) => {
            let doing = doing::doing(&layout, &found, &spec)?;
            return tell_none(context, &found, doing.state, &doing.what);
        }
        Place::Ended(_) => {
            let word = runs::state_word(&found, runs::last(&layout, found.task)?.as_ref());
            return tell_none(context, &found, word, &format!("has ended: {word}"));
        }
    };
    let mut reasons = reasons(rests, &look_around(&spool, &found, &spec)?);
    if reasons.is_empty() {
        return tell_none(context, &found, found.place.word(), "may start, and is about to");
    }
    reasons.extend(spec.deadline_at.map(|deadline_at| {
        let left_seconds = deadline_at.since(clock::now()).as_secs();
        Reason::Deadline { deadline_at, left_seconds }
    }));
    if context.json {
        print_json(&json!({"task": found.task, "state": found.place.word(), "reasons": reasons}))?;
    } else {
        let lines: String = reasons.iter().map(|reason| format!("{}\n", reason.words())).collect();
        print(&lines)?;
    }
    Ok(Answer::Yes)
}

/// Why a task waits: for others, for its time, or for both.
fn waits_for(layout: &Layout, found: &Found, spec: &Spec, unmet: Vec<Reason>) -> Vec<Reason> {
    // What waits for nobody waits for its time; of others that may have come.
    let until = spec.until(found.task.made_at()).filter(|until| *until > clock::now());
    let between_attempts = runs::attempts(layout, found.task) > 0;
    let time = (unmet.is_empty() || (until.is_some() && !between_attempts))
        .then_some(Reason::Waiting { start_at: spec.start_at });
    unmet.into_iter().chain(time).collect()
}

/// A task whose command lies in the inbox still, and nothing more is known of it.
fn not_admitted(context: &Context, layout: &Layout, text: &str) -> Result<Answer, CliError> {
    if pending::command_of(layout, text)?.is_none() {
        return Err(find::not_found(layout, text));
    }
    let mut reasons = vec![Reason::NotAdmitted];
    reasons.extend((!lock::is_held(layout.root())?).then_some(Reason::NoDaemon));
    if context.json {
        print_json(&json!({"task": text, "state": null, "reasons": reasons}))?;
    } else {
        reasons.iter().try_for_each(|reason| print(&format!("{}\n", reason.words())))?;
    }
    Ok(Answer::Yes)
}

/// There is nothing that keeps it.
fn tell_none(context: &Context, found: &Found, state: &str, what: &str) -> Result<Answer, CliError> {
    if context.json {
        print_json(&json!({"task": found.task, "state": state, "reasons": []}))?;
    } else {
        print(&format!("{} {what}\n", found.task))?;
    }
    Ok(Answer::No)
}

/// Looks at all that may keep a task.
fn look_around(spool: &Spool, found: &Found, spec: &Spec) -> Result<Around, CliError> {
    let layout = &spool.layout;
    let daemon = lock::is_held(layout.root())?;
    let record = daemon::daemon_record(layout).filter(|_| daemon);
    let live = find::live(layout)?;
    let in_queue = || live.iter().filter(|other| other.queue == found.queue);
    let active = in_queue().filter(|other| matches!(other.place, Place::Active(_)));
    let ready = in_queue().filter(|other| matches!(other.place, Place::Ready(_)));
    let before = match found.place {
        Place::Ready(_) => {
            ready.take_while(|other| other.task != found.task).map(|other| other.task).collect()
        }
        Place::Held | Place::Waiting | Place::Active(_) | Place::Ended(_) => Vec::new(),
    };
    let mut host = Host::look(spool, &live)?;
    let settings = status::settings(layout, &found.queue);
    let lane = spec.lane.as_ref().and_then(|lane| {
        let slots = settings.as_ref().ok()?.lane_slots(Some(lane))?;
        let of_lane = host.queues.queue(&found.queue).and_then(|queue| queue.in_lane(lane));
        Some((lane.clone(), slots, of_lane.into_iter().flatten().copied().collect()))
    });
    let wants_units = spec.resources.values().any(|wanted| *wanted > 0);
    Ok(Around {
        daemon,
        short: record.and_then(|record| record.short).map(|short| (short.of, short.message)),
        unsettled: problem_of(&found.path).map(|problem| (found.path.display().to_string(), problem)),
        queue: found.queue.clone(),
        paused: status::paused(layout, &found.queue),
        slots: settings.map(|settings| settings.slots),
        active: active.map(|other| other.task).collect(),
        before,
        lane,
        lacks: host.lacks(layout, &live, found, spec)?,
        host_error: host.error.filter(|_| wants_units),
    })
}

/// Why a file cannot be a task's spec; nothing when it is gone, since the task has moved meanwhile.
fn problem_of(path: &Path) -> Option<String> {
    match store::read_if_small(path, find::TASK_BYTES_MAX) {
        Ok(None) => None,
        Ok(Some(bytes)) => spec::parse(&bytes).err().map(|refusal| refusal.to_string()),
        Err(error) => Some(error.to_string()),
    }
}
