//! Properties of what decides, over made-up inputs that have the form of real ones.
//!
//! `PROPTEST_CASES` tells how many of each are tried. What must hold of any bytes at all is in `fuzzing`.

use std::sync::Arc;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::event::{By, Event, Origin, SpecText};
use crate::fuzzing;
use crate::id::{Name, Rank, RunId, TaskId};
use crate::jsonl::{self, Line};
use crate::notice::{Ended, Ledger, Notice, NoticeId, Notify};
use crate::outcome::{Evidence, Outcome};
use crate::record::{self, Level};
use crate::redact;
use crate::refusal::{Kind, Refusal};
use crate::resource::{Assigned, Mode, ResourceName};
use crate::retry::Retry;
use crate::spec::{Output, Spec};
use crate::task::State;
use crate::time::Timestamp;
use crate::workspace;

// --- what there is

/// Texts in which everything occurs that is written otherwise in JSON, or steers a terminal.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,12}",
        "\\PC{0,8}",
        "[\\x00-\\x20\\x7f-\\u{9f}\\\\\"\u{202e}\u{2028}\u{1f600}]{0,8}",
        any::<String>(),
    ]
}

/// The same without NUL, which no command may have.
fn said() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace('\0', "0"))
}

fn name() -> impl Strategy<Value = Name> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,127}".prop_map(|name| name.parse().unwrap())
}

fn task() -> impl Strategy<Value = TaskId> {
    any::<u128>().prop_map(|bits| {
        let uuid = uuid::Builder::from_u128(bits).with_variant(uuid::Variant::RFC4122);
        TaskId::from_uuid(uuid.with_version(uuid::Version::SortRand).into_uuid())
    })
}

fn rank() -> impl Strategy<Value = Rank> {
    (0..100_u8).prop_map(|rank| Rank::try_from(rank).unwrap())
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0..4_000_000_000_000_000_i64).prop_map(Timestamp::from_micros)
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        (rank(), 0..9_u32).prop_map(|(rank, attempts)| State::Ready { rank, attempts }),
        (rank(), 0..9_u32, option::of(time()), any::<bool>())
            .prop_map(|(rank, attempts, until, needs)| State::Held { rank, attempts, until, needs }),
        (rank(), 0..9_u32, option::of(time()), any::<bool>())
            .prop_map(|(rank, attempts, until, needs)| State::Waiting { rank, attempts, until, needs }),
        (name(), 1..9_u32, rank(), assigned()).prop_map(|(host, attempt, rank, assigned)| State::Active {
            attempt,
            host,
            rank,
            assigned
        }),
        (name(), 1..9_u32, rank(), assigned())
            .prop_map(|(host, attempt, rank, assigned)| State::Cancelling { attempt, host, rank, assigned }),
        (outcome(), 0..9_u32, rank(), option::of(task())).prop_map(|(outcome, attempts, rank, because)| {
            State::Ended { outcome, attempts, rank, because }
        }),
    ]
}

fn resource() -> impl Strategy<Value = ResourceName> {
    "[A-Za-z][A-Za-z0-9._:-]{0,63}".prop_map(|name| name.parse().unwrap())
}

fn assigned() -> impl Strategy<Value = Assigned> {
    btree_map(resource(), btree_set(any::<u32>(), 1..4), 0..3)
}

fn outcome() -> impl Strategy<Value = Outcome> {
    proptest::sample::select(Outcome::ALL.to_vec())
}

fn evidence() -> impl Strategy<Value = Evidence> {
    (option::of(any::<i32>()), option::of(any::<i32>()), option::of(text()))
        .prop_map(|(exit_code, signal, message)| Evidence { exit_code, signal, message })
}

fn spec() -> impl Strategy<Value = Spec> {
    let work = prop_oneof![
        vec(said(), 1..4).prop_map(|run| Spec { run: Some(run), ..Spec::default() }),
        said().prop_map(|shell| Spec { shell: Some(shell), ..Spec::default() }),
        said().prop_map(|script| Spec { script: Some(script), ..Spec::default() }),
        (said(), option::of(said()), option::of(name())).prop_map(|(prompt, extra, agent)| Spec {
            prompt: Some(prompt),
            extra,
            agent,
            ..Spec::default()
        }),
    ];
    let beside =
        (option::of(name()), name(), option::of(said()), btree_map("[A-Za-z_ -]{1,6}", said(), 0..3));
    let numbers = (option::of(1..u64::MAX), any::<u64>(), any::<bool>(), any::<bool>());
    let times = (option::of(time()), option::of(any::<u64>()));
    let mode = prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)];
    let wanted =
        (option::of(name()), btree_map(resource(), any::<u32>(), 0..3), btree_map(resource(), mode, 0..3));
    (work, beside, numbers, times, wanted).prop_map(
        |(work, (name, queue, item, env), (timeout_seconds, grace_seconds, apart, all), times, wanted)| {
            let (lane, resources, locks) = wanted;
            let work = Spec { lane, resources, locks, ..work };
            let (start_at, delay_seconds) = times;
            let retry = apart.then(|| Retry { max: 3, on: vec![Outcome::TimedOut], ..Retry::default() });
            let work = Spec { start_at, delay_seconds, retry, repeatable: all.then_some(apart), ..work };
            let mut spec = Spec { name, queue, item, env, timeout_seconds, grace_seconds, ..work };
            spec.output = if apart { Output::Apart } else { Output::Merged };
            spec.workspace.cleanup = if all { workspace::Cleanup::All } else { workspace::Cleanup::Never };
            spec
        },
    )
}

fn origin() -> impl Strategy<Value = Origin> {
    (task(), name()).prop_map(|(claim, name)| Origin::new(claim, name.as_str()))
}

/// Events of the spool's log.
fn event() -> impl Strategy<Value = Event> {
    let submitted = (task(), state(), spec(), origin()).prop_map(|(task, state, spec, command)| {
        Event::Submitted { task, state, spec: SpecText::Here(Arc::new(spec)), command, note: None }
    });
    let told = (option::of(text()), option::of(evidence()), 0..9_u32);
    let moved = (task(), state(), option::of(origin()), told).prop_map(
        |(task, state, command, (reason, evidence, broken))| Event::Moved {
            task,
            state,
            by: By::Run,
            command,
            reason,
            evidence,
            spec: None,
            broken,
        },
    );
    let edited = (task(), state(), spec(), option::of(origin())).prop_map(|(task, state, spec, command)| {
        Event::Edited { task, state, spec: SpecText::Here(Arc::new(spec)), by: By::Hand, command }
    });
    let put_away = (task(), task(), name(), text()).prop_map(|(task, claim, name, message)| {
        let refusal = Refusal::new(Kind::Conflict, message).clipped();
        Event::EditRefused { task, claim, name: name.as_str().to_owned(), refusal }
    });
    let refused = (origin(), text(), option::of(text()), option::of(text())).prop_map(
        |(command, message, path, hint)| Event::Refused {
            command,
            refusal: Refusal { kind: Kind::NotFound, message, path, hint, for_now: None }.clipped(),
        },
    );
    let started = vec(text(), 0..3).prop_map(|repaired| Event::DaemonStarted {
        pid: 1,
        version: "0".to_owned(),
        repaired,
    });
    prop_oneof![submitted, moved, edited, put_away, refused, started, notice()]
}

/// What a task's end is told with, and what comes of that.
fn notice() -> impl Strategy<Value = Event> {
    let ended = (task(), spec(), outcome(), option::of(text()), option::of(evidence()), vec(said(), 0..4));
    let of_task = ended.prop_map(|(task, spec, outcome, reason, evidence, argv)| {
        let notify = Notify { argv, ..Notify::default() };
        let spec = Arc::new(Spec { notify: Some(notify), ..spec });
        let state = State::Ended { outcome, attempts: 1, rank: Rank::default(), because: None };
        let moved =
            Event::Moved { task, state, by: By::Run, command: None, reason, evidence, spec: None, broken: 0 };
        let mut ledger = Ledger::default();
        ledger.see(&moved, Timestamp::from_micros(1), Some(&spec));
        let notice = ledger.notice_of(task, None, NoticeId::new(task)).expect("because it has ended");
        Event::Notice(Box::new(notice))
    });
    let of_queue = (task(), name(), btree_map(outcome(), any::<u64>(), 0..4), vec(said(), 1..4)).prop_map(
        |(id, queue, ended, argv): (_, _, Ended, _)| {
            Event::Notice(Box::new(Notice::of_empty(NoticeId::new(id), &queue, ended, argv)))
        },
    );
    let failed =
        (task(), any::<u32>(), text(), option::of(text())).prop_map(|(id, tries, message, output)| {
            Event::NotDelivered { notice: NoticeId::new(id), tries, message, output }
        });
    prop_oneof![of_task, of_queue, failed]
}

/// Events of a run's log.
fn run_event() -> impl Strategy<Value = record::Event> {
    let started = (task(), 1..9_u32, name(), option::of(text())).prop_map(|(task, attempt, host, item)| {
        let (run, boot, token_sha256) = (RunId { task, attempt }, "b".to_owned(), "t".to_owned());
        record::Event::Started { run, host, pid: 1, boot, token_sha256, item, cgroup: None }
    });
    let ended = (outcome(), evidence()).prop_map(|(outcome, evidence)| record::Event::Ended {
        outcome,
        evidence,
        delivered: None,
        error: None,
        output_truncated: None,
    });
    prop_oneof![
        started,
        ended,
        text().prop_map(|text| record::Event::Summary { text }),
        text().prop_map(|text| record::Event::Log { level: Level::Warn, text }),
        vec(text(), 0..3).prop_map(|argv| record::Event::AgentStarted { pid: 1, argv }),
        (0..3_u64).prop_map(|command| record::Event::Acknowledged { command, kind: "cancel".to_owned() }),
    ]
}

fn log_of<E: serde::Serialize>(events: Vec<E>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (seq, event) in (1..).zip(events) {
        jsonl::write(&mut bytes, &Line { seq, at: Timestamp::from_micros(1), event });
    }
    bytes
}

/// A log after something happened to it at one byte, in each of the ways in which that can be.
fn damaged(bytes: &[u8], place: usize) -> Vec<Vec<u8>> {
    let with = |byte: u8| {
        let mut damaged = bytes.to_vec();
        damaged[place] = byte;
        damaged
    };
    let zero_filled = [&bytes[..place], &vec![0; bytes.len() - place]].concat();
    let flipped = bytes[place] ^ (1 << (place % 8));
    vec![bytes[..place].to_vec(), zero_filled, with(0), with(flipped), with(b'\n'), with(b'"')]
}

/// Checks that no damage at any byte costs a line before it, nor more than the line behind it.
fn no_earlier_line_is_lost<E>(bytes: &[u8])
where
    E: serde::de::DeserializeOwned + Clone + PartialEq + std::fmt::Debug,
{
    let whole = jsonl::parse::<E>(bytes).lines;
    for place in 0..bytes.len() {
        let earlier = bytes[..place].iter().filter(|byte| **byte == b'\n').count();
        for (way, damaged) in damaged(bytes, place).into_iter().enumerate() {
            let parsed = jsonl::parse::<E>(&damaged);
            assert_eq!(parsed.lines[..earlier], whole[..earlier], "way {way} at {place}");
            // The first two ways take all that follows.
            if way > 1 {
                let later = &whole[(earlier + 2).min(whole.len())..];
                assert!(parsed.lines.ends_with(later), "way {way} at {place}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases(16)) })]

    #[test]
    fn damage_at_any_byte_of_a_log_costs_no_earlier_line(events in vec(event(), 1..6)) {
        no_earlier_line_is_lost::<Event>(&log_of(events));
    }

    #[test]
    fn damage_at_any_byte_of_a_runs_log_costs_no_earlier_line(events in vec(run_event(), 1..6)) {
        no_earlier_line_is_lost::<record::Event>(&log_of(events));
    }

    #[test]
    fn a_damaged_log_is_repaired_once_and_goes_on(
        events in vec(event(), 1..6), place in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = log_of(events);
        for damaged in damaged(&bytes, place.index(bytes.len())) {
            fuzzing::repair(folder.path(), &damaged);
            fuzzing::log(&damaged);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases(256)) })]

    #[test]
    fn a_command_is_the_same_after_it_was_printed_and_read(
        spec in spec(), id in option::of(task()), rank in rank(), held in any::<bool>(),
        place in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut value = serde_json::to_value(&spec).unwrap();
        value["id"] = id.map(|id| id.to_string()).into();
        value["rank"] = u8::from(rank).into();
        value["held"] = held.into();
        let mut bytes = value.to_string().into_bytes();
        let read = crate::command::parse("x.json", &bytes).map(|asked| asked.command);
        prop_assert_eq!(read.is_ok(), spec.check().is_ok(), "{:?}", read);
        fuzzing::command(&bytes);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        fuzzing::command(&bytes);
        fuzzing::command(&bytes[..place]);
    }

    #[test]
    fn ids_and_names_are_read_as_they_are_spelled_and_found_by_their_ends(
        task in task(), name in name(), attempt in any::<u32>(), text in text(), from in 0..36_usize,
    ) {
        let id = task.to_string();
        let run = format!("{id}.{attempt}");
        for text in [&id, &run, &id[from..], name.as_str(), &text, &format!("{id}.{text}"), &format!("50-{id}.json")] {
            fuzzing::names(text.as_bytes());
        }
        prop_assert_eq!(id.parse::<TaskId>().ok(), Some(task));
        prop_assert_eq!(run.parse::<RunId>().is_ok(), attempt > 0);
        prop_assert_eq!(name.as_str().parse::<Name>().ok(), Some(name));
    }

    #[test]
    fn a_secret_of_known_form_is_hidden_wherever_a_text_is_split_around_it(
        secret in secret(), around in "[a-z ,;\n\t'\"()<>-]{0,24}", cut in any::<prop::sample::Index>(),
    ) {
        let bare = &secret[secret.find(['=', '@', ' ']).map_or(0, |at| at + 1)..];
        let places = (0..=around.len()).filter(|at| around.is_char_boundary(*at));
        for place in places {
            let text = format!("{}\n{secret} {}", &around[..place], &around[place..]);
            let shown = redact::text(&text);
            prop_assert!(!shown.contains(bare), "{:?} is shown in {:?}", bare, shown);
            // Clipped after it was hidden, as logs have it.
            prop_assert!(!jsonl::clip(&shown, cut.index(text.len() + 1)).contains(bare));
            let mut record = json!({"a": [{"b": text}]});
            redact::value(&mut record);
            prop_assert!(!record.to_string().contains(bare));
        }
    }

    #[test]
    fn what_is_shown_is_harmless_however_it_is_made_up(text in text(), bytes in vec(any::<u8>(), 0..64)) {
        fuzzing::shown(text.as_bytes());
        fuzzing::shown(&[text.as_bytes(), &bytes, text.as_bytes()].concat());
        fuzzing::log(&bytes);
        fuzzing::names(&bytes);
    }

    #[test]
    fn a_key_that_names_a_secret_hides_its_value(before in "[a-zA-Z]{0,6}", after in "[a-z]{0,3}", value in "[A-Za-z0-9]{8,40}") {
        for word in ["token", "Secret", "PASSWORD", "api-key", "cookie"] {
            let key = format!("{before}_{word}{after}");
            let mut record: Value = json!({"env": {&key: value}});
            redact::value(&mut record);
            prop_assert!(!record.to_string().contains(&value), "{}", record);
        }
    }
}

/// Secrets of the forms that are known.
fn secret() -> impl Strategy<Value = String> {
    let long = "[A-Za-z0-9_-]{20,60}";
    prop_oneof![
        long.prop_map(|rest| format!("sk-{rest}")),
        long.prop_map(|rest| format!("ghp_{rest}")),
        long.prop_map(|rest| format!("github_pat_{rest}")),
        long.prop_map(|rest| format!("AKIA{rest}")),
        long.prop_map(|rest| format!("eyJhbGciOi{rest}")),
        long.prop_map(|rest| format!("MY_TOKEN={rest}")),
        long.prop_map(|rest| format!("Bearer {rest}")),
    ]
}

/// How many cases are tried: `PROPTEST_CASES`, else so many.
fn cases(otherwise: u32) -> u32 {
    const UNSAID: u32 = 256;
    match ProptestConfig::default().cases {
        UNSAID => otherwise,
        said => said,
    }
}
