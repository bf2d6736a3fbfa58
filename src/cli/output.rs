//! The output of a run: what is there, and then what comes, until the run has ended and all of it is printed.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::find::{self, Found, Target};
use super::interrupt::Interrupts;
use super::pending::{self, Admitted, watch};
use super::{Answer, CliError, Context, print, print_json, runs, talk, write_raw};
use crate::clock;
use crate::escape;
use crate::hint::Hints;
use crate::id::RunId;
use crate::layout::Layout;
use crate::lock;
use crate::record::Status;
use crate::spec::Output;
use crate::store::{self, StoreError};

/// How often to look whether the supervisor of a silent run still lives: the end of a lock gives no hint.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How much is read at a time.
const BLOCK_BYTES: usize = 64 * 1024;

/// How output is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Byte for byte.
    Raw,
    /// With what could steer a terminal escaped.
    Escaped,
    /// A JSON object for each line.
    Json,
}

impl Form {
    /// The form that suits where stdout goes.
    pub(super) fn choose(context: &Context, raw: bool) -> Form {
        match (context.json, raw || !io::stdout().is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Raw,
            (false, false) => Form::Escaped,
        }
    }
}

/// Which of a run's streams are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    Stdout,
    Stderr,
}

/// One file of output, and how far it is printed.
pub(super) struct Stream {
    word: &'static str,
    path: PathBuf,
    file: Option<File>,
    offset: u64,
    form: Form,
    run: RunId,
    /// What was read and cannot be printed yet: the begin of a character, or of a line.
    rest: Vec<u8>,
}

/// The wanted streams of a run; `None` when they were not kept apart.
pub(super) fn streams(
    layout: &Layout,
    run: RunId,
    kept: Output,
    wanted: Wanted,
    form: Form,
) -> Option<Vec<Stream>> {
    let paths = layout.run(run);
    let stream = |word, path| Stream { word, path, file: None, offset: 0, form, run, rest: Vec::new() };
    let stdout = || stream("stdout", paths.stdout());
    let stderr = || stream("stderr", paths.stderr());
    match (kept, wanted) {
        (Output::Merged, Wanted::All) => Some(vec![stream("output", paths.output())]),
        (Output::Merged, Wanted::Stdout | Wanted::Stderr) => None,
        (Output::Apart, Wanted::All) => Some(vec![stdout(), stderr()]),
        (Output::Apart, Wanted::Stdout) => Some(vec![stdout()]),
        (Output::Apart, Wanted::Stderr) => Some(vec![stderr()]),
    }
}

impl Stream {
    /// Passes over all but the last `lines` lines that are there now.
    pub(super) fn skip_to_tail(&mut self, lines: u64) -> Result<(), StoreError> {
        if self.is_open()?
            && let Some(file) = &self.file
        {
            self.offset = store::at("read", &self.path, tail_offset(file, lines))?;
        }
        Ok(())
    }

    /// Whether nothing was there so far.
    pub(super) fn is_empty(&self) -> bool {
        self.offset == 0
    }

    /// Prints what is new.
    pub(super) fn copy(&mut self) -> Result<(), CliError> {
        if !self.is_open()? {
            return Ok(());
        }
        let mut block = vec![0; BLOCK_BYTES];
        while let Some(file) = &self.file {
            let read = store::at("read", &self.path, file.read_at(&mut block, self.offset))?;
            if read == 0 {
                break;
            }
            self.offset += read as u64;
            self.put(&block[..read])?;
        }
        Ok(())
    }

    /// Prints what was left over, when nothing more will come.
    pub(super) fn end(&mut self) -> Result<(), CliError> {
        let rest = std::mem::take(&mut self.rest);
        match self.form {
            _ if rest.is_empty() => Ok(()),
            Form::Raw => write_raw(&rest),
            Form::Escaped => print(&String::from_utf8_lossy(&rest)),
            Form::Json => self.print_line(&rest),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        match self.form {
            Form::Raw => write_raw(bytes),
            Form::Escaped => {
                self.rest.extend_from_slice(bytes);
                let (text, taken) = escape::bytes(&self.rest);
                self.rest.drain(..taken);
                print(&text)
            }
            Form::Json => {
                self.rest.extend_from_slice(bytes);
                let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let lines: Vec<u8> = self.rest.drain(..whole).collect();
                lines.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| self.print_line(line))
            }
        }
    }

    fn print_line(&self, line: &[u8]) -> Result<(), CliError> {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
        print_json(&json!({"run": self.run, "stream": self.word, "text": text}))
    }

    fn is_open(&mut self) -> Result<bool, StoreError> {
        if self.file.is_none() {
            self.file = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                opened => Some(store::at("open", &self.path, opened)?),
            };
        }
        Ok(self.file.is_some())
    }
}

/// Where the last `lines` lines of a file begin.
fn tail_offset(file: &File, lines: u64) -> io::Result<u64> {
    let mut block = vec![0; BLOCK_BYTES];
    let len = file.metadata()?.len();
    let (mut end, mut left) = (len, lines);
    while end > 0 {
        let begin = end.saturating_sub(BLOCK_BYTES as u64);
        let part = &mut block[..usize::try_from(end - begin).unwrap_or(BLOCK_BYTES)];
        file.read_exact_at(part, begin)?;
        for (at, byte) in part.iter().enumerate().rev() {
            let after = begin + at as u64 + 1;
            // The newline at the very end closes the last line, and begins none.
            if *byte == b'\n' && after < len {
                if left <= 1 {
                    return Ok(if lines == 0 { len } else { after });
                }
                left -= 1;
            }
        }
        end = begin;
    }
    Ok(if lines == 0 { len } else { 0 })
}

/// How following a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    Ended,
    /// Nobody is left who could end it.
    Abandoned,
    /// The user does not want to see more.
    Interrupted,
}

/// Prints the streams of a run until it has ended.
pub(super) fn follow(
    layout: &Layout,
    run: RunId,
    streams: &mut [Stream],
    interrupts: &mut Interrupts,
) -> Result<Followed, CliError> {
    let mut hints = Hints::new();
    let paths = layout.run(run);
    loop {
        watch(&mut hints, paths.dir());
        // Before the output is read: what is printed then is all of it.
        let over = is_over(layout, run)?;
        streams.iter_mut().try_for_each(Stream::copy)?;
        if let Some(over) = over {
            streams.iter_mut().try_for_each(Stream::end)?;
            return Ok(over);
        }
        let now = clock::monotonic();
        hints.wait(&[interrupts.descriptor()], now, Some(now + LOOK_EVERY));
        if interrupts.taken() {
            return Ok(Followed::Interrupted);
        }
    }
}

/// Whether nothing more will come of a run.
pub(super) fn is_over(layout: &Layout, run: RunId) -> Result<Option<Followed>, CliError> {
    let ended = runs::record(layout, run)?.is_some_and(|record| record.status == Status::Ended);
    if ended {
        return Ok(Some(Followed::Ended));
    }
    Ok(runs::is_abandoned(layout, run)?.then_some(Followed::Abandoned))
}

/// What there is to say about a run that nobody will end.
fn abandoned(run: RunId) -> String {
    format!("gitspool: run {run} has lost its supervisor; the next daemon records its end")
}

/// What a wait for a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    Run(RunId),
    /// The task has ended without it.
    Never,
    Interrupted,
}

/// Waits until a run of the task `text` has begun: the one that was asked for, else the last.
pub(super) fn await_run(
    context: &Context,
    layout: &Layout,
    text: &str,
    attempt: Option<u32>,
    interrupts: &mut Interrupts,
) -> Result<Begun, CliError> {
    let Target { found, attempt: named } =
        match pending::await_admission(context, layout, text, None, Some(interrupts))? {
            Admitted::Task(target) => *target,
            Admitted::NotYet(_) => return Ok(Begun::Interrupted),
        };
    let (task, wanted) = (found.task, attempt.or(named));
    let mut hints = Hints::new();
    let mut told = false;
    loop {
        // The folder from which its file goes when something happens to it.
        let folders = find::exact(layout, task)?.and_then(|found| found.path.parent().map(Path::to_owned));
        folders
            .into_iter()
            .chain([layout.runs_of(&task.date())])
            .for_each(|folder| watch(&mut hints, &folder));
        let found = find::exact(layout, task)?;
        let last = runs::attempts(layout, task);
        match wanted {
            Some(wanted) if (1..=last).contains(&wanted) => {
                return Ok(Begun::Run(RunId { task, attempt: wanted }));
            }
            None if last > 0 => return Ok(Begun::Run(RunId { task, attempt: last })),
            Some(_) | None => {}
        }
        if found.is_some_and(|found| found.place.is_ended()) {
            talk(&format!("gitspool: task {task} has ended without that run"));
            return Ok(Begun::Never);
        }
        if !told && !lock::is_held(layout.root())? {
            context.no_daemon(&format!("task {task} waits"));
            told = true;
        }
        let now = clock::monotonic();
        hints.wait(&[interrupts.descriptor()], now, Some(now + LOOK_EVERY));
        if interrupts.taken() {
            return Ok(Begun::Interrupted);
        }
    }
}

/// The run that was named, else the task's last.
pub(super) fn run_of(layout: &Layout, found: &Found, attempt: Option<u32>) -> Result<RunId, CliError> {
    let last = runs::attempts(layout, found.task);
    let (task, state) = (found.task, found.place.word());
    match attempt {
        None if last == 0 => Err(CliError::NotFound(format!("task {task} has not run, it is {state}"))),
        None => Ok(RunId { task, attempt: last }),
        Some(attempt) if (1..=last).contains(&attempt) => Ok(RunId { task, attempt }),
        Some(attempt) => {
            Err(CliError::NotFound(format!("task {task} has no run {attempt}; it has had {last}")))
        }
    }
}

/// How a verb answers that followed a run's output.
pub(super) fn answer(run: RunId, followed: Followed) -> Answer {
    match followed {
        Followed::Ended => Answer::Yes,
        Followed::Abandoned => {
            talk(&abandoned(run));
            Answer::No
        }
        Followed::Interrupted => {
            talk(&format!("gitspool: run {run} goes on"));
            Answer::Yes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_whatever_the_end_of_the_file_and_the_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output.log");
        let long = "x".repeat(BLOCK_BYTES);
        for (text, lines, tail) in [
            ("", 3, ""),
            ("a\nb\nc\n", 0, ""),
            ("a\nb\nc\n", 1, "c\n"),
            ("a\nb\nc", 1, "c"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\n\n\n", 2, "\n\n"),
            ("a\nb\n", 9, "a\nb\n"),
            (format!("a\n{long}\nb\n").as_str(), 2, format!("{long}\nb\n").as_str()),
        ] {
            store::remove(&path).unwrap();
            store::create_new(&path, text.as_bytes(), 0o600).unwrap();
            let offset = tail_offset(&File::open(&path).unwrap(), lines).unwrap();
            let offset = usize::try_from(offset).unwrap();
            assert_eq!(text[offset..].len(), tail.len(), "{lines} of {:?}", &text[..text.len().min(10)]);
            assert_eq!(&text[offset..], tail);
        }
    }
}
