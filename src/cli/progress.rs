//! What `wait` shows on a terminal meanwhile: how many tasks stand where, and what the first of those that run print.
//!
//! Nothing is shown unless stdout and stderr are a terminal that can move its cursor; then a few lines on stderr are drawn
//! anew each second, and are gone at the end. No thread draws: who waits does, so nothing is drawn behind its back.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::doing::{Doing, doing};
use super::find::{Found, Place};
use super::shown::lasted;
use super::{CliError, print, print_json};
use crate::clock;
use crate::environment;
use crate::layout::Layout;
use crate::spec::Spec;
use crate::time::Moment;

/// How many running tasks have a line of their own.
const LINES_MAX: usize = 8;
/// How often it is drawn anew.
const DRAW_EVERY: Duration = Duration::from_secs(1);

/// What is shown, and where.
pub(super) struct Progress {
    json: bool,
    screen: Option<Screen>,
    /// What was settled so far, by the word for it.
    settled: BTreeMap<&'static str, usize>,
    since: Moment,
}

struct Screen {
    all: MultiProgress,
    lines: Vec<ProgressBar>,
    drawn: Option<Moment>,
}

impl Progress {
    pub(super) fn new(json: bool) -> Progress {
        let is_terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let can_move = environment::value("TERM").is_some_and(|term| term != "dumb");
        let screen = || Screen {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            lines: Vec::new(),
            drawn: None,
        };
        let screen = (is_terminal && can_move && !json).then(screen);
        Progress { json, screen, settled: BTreeMap::new(), since: clock::monotonic() }
    }

    /// Takes note of a task that needs no more waiting.
    pub(super) fn count(&mut self, word: &'static str) {
        *self.settled.entry(word).or_default() += 1;
    }

    /// Does something to the terminal while nothing is shown on it.
    pub(super) fn pause<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.screen {
            Some(screen) => screen.all.suspend(act),
            None => act(),
        }
    }

    /// Prints data, as an object or as text.
    pub(super) fn print(&self, object: &Value, text: &str) -> Result<(), CliError> {
        self.pause(|| if self.json { print_json(object) } else { print(text) })
    }

    /// Removes what is shown.
    pub(super) fn clear(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.show(&[]);
        }
    }

    /// Shows how far the tasks are that are waited for; tells when to draw again. Nothing is read when nothing is shown.
    pub(super) fn draw<'a>(
        &mut self,
        layout: &Layout,
        waiting: impl Iterator<Item = (&'a Found, &'a Spec)>,
    ) -> Result<Option<Duration>, CliError> {
        let Some(screen) = &mut self.screen else { return Ok(None) };
        let now = clock::monotonic();
        let again = screen.drawn.map(|drawn| drawn + DRAW_EVERY);
        if let Some(again) = again.filter(|again| *again > now) {
            return Ok(Some(now.until(again)));
        }
        screen.drawn = Some(now);
        let mut counts = self.settled.clone();
        let mut running = Vec::new();
        for (found, spec) in waiting {
            *counts.entry(found.place.word()).or_default() += 1;
            if matches!(found.place, Place::Active(_)) && running.len() < LINES_MAX {
                running.push(line_of(found, spec, doing(layout, found, spec)?));
            }
        }
        let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
        let mut lines = vec![format!("{}  {}", counts.join(", "), lasted(self.since.until(now)))];
        lines.append(&mut running);
        screen.show(&lines);
        Ok(Some(DRAW_EVERY))
    }
}

impl Screen {
    fn show(&mut self, lines: &[String]) {
        while self.lines.len() < lines.len() {
            let style = ProgressStyle::with_template("{wide_msg}").expect("because the template is one");
            let line = ProgressBar::new_spinner().with_style(style);
            self.lines.push(self.all.add(line));
        }
        for gone in self.lines.drain(lines.len()..) {
            gone.finish_and_clear();
            self.all.remove(&gone);
        }
        for (line, text) in self.lines.iter().zip(lines) {
            line.set_message(text.clone());
            line.tick();
        }
    }
}

/// The line of a task that runs.
fn line_of(found: &Found, spec: &Spec, doing: Doing) -> String {
    let name = spec.name.as_ref().map_or_else(|| found.task.to_string(), ToString::to_string);
    let Doing { state, since, line, .. } = doing;
    format!("  {name} {state} {}  {}", lasted(since), line.unwrap_or_default())
}
