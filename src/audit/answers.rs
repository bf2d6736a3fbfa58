//! Receipts, refused files and claimed files: each is what a line of the log says.

use std::collections::{BTreeMap, BTreeSet};

use super::history::History;
use super::{Audit, Kind, Mend, Sort, by_hand};
use crate::answer::Receipt;
use crate::event::Event;
use crate::id::{Name, TaskId};
use crate::jsonl::Line;
use crate::key::Used;
use crate::layout::{Place, parse_claim_name, parse_why_name, place_of};
use crate::reader::{Mark, Reader};
use crate::refusal::Refusal;

/// The lines that refuse, by the day of the claim and the name.
type Refused<'a> = BTreeMap<(String, String), Vec<&'a Line<Event>>>;

fn refused_by_name(history: &History) -> Refused<'_> {
    let mut refused = Refused::new();
    for line in history.answers.values().map(|(_, line)| line).chain(&history.refused_edits) {
        if let Some((claim, name, _)) = refusal_of(&line.event) {
            refused.entry((claim.date().to_string(), name.to_owned())).or_default().push(line);
        }
    }
    refused
}

/// What a line refuses: the claim, the name of the file, and why.
fn refusal_of(event: &Event) -> Option<(TaskId, &str, &Refusal)> {
    match event {
        Event::Refused { command, refusal } => Some((command.claim, &command.name, refusal)),
        Event::EditRefused { claim, name, refusal, .. } => Some((*claim, name, refusal)),
        Event::Submitted { .. }
        | Event::Moved { .. }
        | Event::Edited { .. }
        | Event::Accepted { .. }
        | Event::Marked { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::Collected { .. }
        | Event::Notice(_)
        | Event::Delivered { .. }
        | Event::NotDelivered { .. }
        | Event::DaemonStarted { .. }
        | Event::DaemonStopped { .. }
        | Event::Unknown => None,
    }
}

impl Audit<'_> {
    pub(super) fn check_answers(&mut self, history: &History) {
        let mut receipts = BTreeSet::new();
        let refused = refused_by_name(history);
        for (path, sort) in &self.seen.entries {
            match place_of(path) {
                Some(Place::Receipt { date, seq }) if *sort == Sort::File => {
                    receipts.extend(self.check_receipt(path, &date, seq, history));
                }
                Some(Place::Refused { date, name }) => {
                    self.check_refused(path, &date, &name, &refused, history)
                }
                Some(Place::Key { sha256 }) if *sort == Sort::File => self.check_key(path, &sha256, history),
                Some(Place::Reader { reader }) if *sort == Sort::File => {
                    self.check_reader(path, &reader, history);
                }
                Some(Place::Claimed { claim, .. }) => {
                    if let Some((_, line)) = history.answers.get(&claim) {
                        let what = format!("line {} answers it", line.seq);
                        let mend = match self.seen.daemon {
                            // What it could not answer is answered by the next one.
                            true => Mend::Daemon,
                            false => Mend::Answer(Box::new(line.clone())),
                        };
                        self.find(Kind::ClaimAnswered, path, what, mend);
                    }
                }
                Some(_) | None => {}
            }
        }
        for (claim, (host, line)) in &history.answers {
            if self.is_owed(host, line.seq) && !receipts.contains(claim) {
                let name = line.event.origin().map(|origin| origin.name.clone()).unwrap_or_default();
                let path = self.below(&self.seen.layout.receipt(&claim.date(), &name));
                let what = format!("line {} has no receipt", line.seq);
                self.find(Kind::ReceiptMissing, path, what, Mend::Answer(Box::new(line.clone())));
            }
        }
    }

    /// Compares a receipt with its line. Returns the claim that it answers, well or not.
    fn check_receipt(
        &mut self,
        path: &str,
        date: &str,
        seq: Option<u64>,
        history: &History,
    ) -> Option<TaskId> {
        let bytes = self.content(path)?;
        let Ok(receipt) = serde_json::from_slice::<Receipt>(bytes) else {
            // Somebody's own file, which made way for a receipt.
            if seq != Some(0) {
                self.find_unreadable_receipt(path, date, seq, history);
            }
            return None;
        };
        let claim = receipt.claim;
        let Some((_, line)) = history.answers.get(&claim) else {
            if history.whole {
                let what = format!("no line answers claim {claim}");
                self.find(
                    Kind::ReceiptOfNoLine,
                    path,
                    what,
                    by_hand("bring the log back from a copy, or ask for it again"),
                );
            }
            return Some(claim);
        };
        let owed = Receipt::of(line).map(|(_, receipt)| receipt);
        let said = Receipt { refused_file: None, ..receipt.clone() };
        if owed.is_some_and(|owed| owed != said) {
            let what = format!("it is not what line {} says", line.seq);
            self.find(Kind::ReceiptDiffers, path, what, self.redone(line));
        }
        let layout = &self.seen.layout;
        let day = claim.date();
        let places = [
            self.below(&layout.receipt(&day, &receipt.command)),
            self.below(&layout.earlier_receipt(&day, &receipt.command, receipt.seq)),
        ];
        if !places.iter().any(|place| place == path) {
            let what = format!("it belongs into {} or {}", places[0], places[1]);
            self.find(Kind::ReceiptMisplaced, path, what, self.when_stopped(Mend::Remove));
        }
        Some(claim)
    }

    /// Compares the file of a key with the first line that used it.
    fn check_key(&mut self, path: &str, sha256: &str, history: &History) {
        let Some(bytes) = self.content(path) else { return };
        let uses = |line: &&Line<Event>| {
            let key = line.event.origin().and_then(|origin| origin.key.as_ref());
            key.is_some_and(|key| key.sha256() == sha256)
        };
        let first = history.answers.values().map(|(_, line)| line).filter(uses).min_by_key(|line| line.seq);
        let used = serde_json::from_slice::<Used>(bytes).ok();
        let owed = first
            .and_then(Receipt::of)
            .and_then(|(origin, receipt)| Some(Used { key: *origin.key?, receipt }));
        let (kind, what) = match (&used, &owed) {
            (Some(used), Some(owed)) if used == owed => return,
            // Its line lies in a segment that was removed.
            (Some(used), None) if !history.whole && used.key.sha256() == sha256 => return,
            (Some(_), _) => (Kind::KeyDiffers, "it is not what the line says that used the key first"),
            (None, _) => (Kind::KeyUnreadable, "it is no file of a key"),
        };
        let mend = match owed {
            Some(owed) => self.when_stopped(Mend::Draw(crate::picture::pretty(&owed))),
            None => by_hand("no line has used this key; remove the file"),
        };
        self.find(kind, path, what, mend);
    }

    /// Compares the file of a reader with the lines that mark what was read.
    fn check_reader(&mut self, path: &str, name: &Name, history: &History) {
        // Which of the logs counts is not known without a host.
        let (Some(bytes), Some(host)) = (self.content(path), &self.seen.host) else { return };
        let mut marks: Vec<(u64, &Mark)> = history.marks_of(host, name).collect();
        marks.sort_by_key(|(seq, _)| *seq);
        let reader = serde_json::from_slice::<Reader>(bytes).ok().filter(|reader| reader.reader == *name);
        // What a daemon draws at its start is owed still.
        let owed = |seq: u64| self.is_owed(host, seq);
        let told = |reader: &Reader| {
            let until =
                marks.iter().map(|(seq, _)| *seq).filter(|seq| *seq <= reader.seq || !owed(*seq)).max();
            let marks = marks.iter().filter(|(seq, _)| Some(*seq) <= until).copied();
            reader.reflects(marks)
        };
        let (kind, what) = match &reader {
            Some(reader) if told(reader) => return,
            Some(_) if !history.whole => return,
            Some(_) => (Kind::ReaderDiffers, "it is not what the lines say that mark what was read"),
            None => (Kind::ReaderUnreadable, "it is no file of a reader"),
        };
        let mut drawn = Reader::new(name.clone(), marks.first().map_or(0, |(seq, _)| *seq));
        marks.iter().for_each(|(seq, mark)| drawn.mark(*seq, mark));
        let mend = match marks.is_empty() {
            true => by_hand("no line tells of this reader; remove the file"),
            false => self.when_stopped(Mend::Draw(crate::picture::pretty(&drawn))),
        };
        self.find(kind, path, what, mend);
    }

    fn find_unreadable_receipt(&mut self, path: &str, date: &str, seq: Option<u64>, history: &History) {
        let layout = &self.seen.layout;
        let answers = |line: &&Line<Event>| {
            line.event.origin().is_some_and(|origin| {
                let day = origin.claim.date();
                let own = match seq {
                    Some(seq) => layout.earlier_receipt(&day, &origin.name, seq),
                    None => layout.receipt(&day, &origin.name),
                };
                day.to_string() == date && self.below(&own) == path && seq.is_none_or(|seq| seq == line.seq)
            })
        };
        let lines = history.answers.values().map(|(_, line)| line).filter(answers);
        let mend = match lines.max_by_key(|line| line.seq) {
            Some(line) => self.redone(line),
            None => by_hand("no command was called so; see what it is"),
        };
        self.find(Kind::ReceiptUnreadable, path, "it is no receipt", mend);
    }

    fn check_refused(
        &mut self,
        path: &str,
        date: &str,
        name: &str,
        refused: &Refused<'_>,
        history: &History,
    ) {
        let of = |name: &str| -> Vec<&Line<Event>> {
            let named =
                |name: &str| refused.get(&(date.to_owned(), name.to_owned())).cloned().unwrap_or_default();
            let with_claim = parse_claim_name(name).map(|(claim, rest)| {
                let is_its =
                    |line: &&Line<Event>| refusal_of(&line.event).is_some_and(|(of, ..)| of == claim);
                named(rest).into_iter().filter(is_its).collect()
            });
            [named(name), with_claim.unwrap_or_default()].concat()
        };
        if !of(name).is_empty() {
            return;
        }
        let lines = parse_why_name(name).map(of).unwrap_or_default();
        if lines.is_empty() {
            if history.whole {
                let mend = by_hand("see what it is; remove it if nobody needs it");
                self.find(Kind::RefusedUnknown, path, "no line tells of a refused file of this name", mend);
            }
            return;
        }
        let Some(bytes) = self.content(path) else { return };
        let reason = serde_json::from_slice::<Refusal>(bytes);
        // Where a name was refused more than once on a day, the first has it, and the others have their claims before it.
        let owed = |line: &&Line<Event>| match (refusal_of(&line.event), &reason) {
            (Some((.., refusal)), Ok(reason)) => refusal == reason,
            (_, _) => false,
        };
        if lines.iter().any(owed) {
            return;
        }
        let (kind, what) = match reason {
            Ok(_) => (Kind::WhyDiffers, "it is not what the log says"),
            Err(_) => (Kind::WhyUnreadable, "it cannot be read"),
        };
        let mend = match (&lines[..], lines.first().and_then(|line| refusal_of(&line.event))) {
            ([_], Some((.., refusal))) => self.when_stopped(Mend::Draw(crate::picture::pretty(refusal))),
            ([..], _) => by_hand("several files of this name were refused; see their receipts"),
        };
        self.find(kind, path, what, mend);
    }

    fn redone(&self, line: &Line<Event>) -> Mend {
        self.when_stopped(Mend::Answer(Box::new(line.clone())))
    }

    /// What no daemon does by itself, and nobody may do while one runs.
    pub(super) fn when_stopped(&self, mend: Mend) -> Mend {
        match self.seen.daemon {
            true => by_hand("stop the daemon, then `gitspool fsck --repair`; the log has what it says"),
            false => mend,
        }
    }
}
