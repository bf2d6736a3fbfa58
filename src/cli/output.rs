//! The output of a run, read from its files: byte for byte, or in lines that bear where and when they were printed.
//!
//! What a limit has taken out of the middle of a file is told in its place, whether the file is already written anew or
//! still has a hole there. A hole only grows, so it is looked for after its place was read.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde_json::json;

use super::place::{hole, line_begin, open_if_there, tail_offset};
use super::times::Times;
use super::{CliError, Context, print_json, write_raw};
use crate::clock;
use crate::escape;
use crate::id::RunId;
use crate::index::LeftOut;
use crate::layout::Layout;
use crate::spec::{Output, Spec};
use crate::store::{self, StoreError};
use crate::time::Timestamp;

/// How much is read at a time.
const BLOCK_BYTES: usize = 64 * 1024;
/// A line that is longer is printed in parts.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// What stands for a time that nobody knows.
const NO_TIME: &str = "-";

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
    Nothing,
}

/// What of a run's output is shown, and how.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) form: Form,
    pub(super) wanted: Wanted,
    /// Whether each line bears its time.
    pub(super) timestamps: bool,
    /// Only what was printed from then on.
    pub(super) since: Option<Timestamp>,
    /// Only so many of the last lines that are there.
    pub(super) tail: Option<u64>,
}

/// One file of output, and how far it is printed.
pub(super) struct Stream {
    word: &'static str,
    path: PathBuf,
    file: Option<File>,
    offset: u64,
    form: Form,
    run: RunId,
    /// What stands before each line. Without it, and without times, bytes go as they come.
    label: String,
    timestamps: bool,
    /// Whether there may be a hole.
    has_limit: bool,
    /// `None` when no times are wanted.
    times: Option<Times>,
    /// Whether all of the index was read that was there before the last part of the output.
    has_read_index: bool,
    /// Whether what comes was printed when it is read.
    is_live: bool,
    /// What was read; up to `taken` it is printed.
    rest: Vec<u8>,
    taken: usize,
    /// The last byte that was read.
    last: u8,
}

/// The wanted streams of a run whose task is `spec`; `None` when they were not kept apart.
pub(super) fn streams(
    layout: &Layout,
    run: RunId,
    spec: &Spec,
    view: &View,
    label: &str,
) -> Option<Vec<Stream>> {
    let paths = layout.run(run);
    let stream = |word, path, index_path| Stream {
        word,
        path,
        file: None,
        offset: 0,
        form: view.form,
        run,
        label: label.to_owned(),
        timestamps: view.timestamps,
        has_limit: spec.output_bytes_max.is_some(),
        times: (view.timestamps || view.since.is_some()).then(|| Times::of(index_path)),
        has_read_index: false,
        is_live: false,
        rest: Vec::new(),
        taken: 0,
        last: b'\n',
    };
    let stdout = || stream("stdout", paths.stdout(), paths.stdout_index());
    let stderr = || stream("stderr", paths.stderr(), paths.stderr_index());
    match (spec.output, view.wanted) {
        (_, Wanted::Nothing) => Some(vec![]),
        (Output::Merged, Wanted::All) => Some(vec![stream("output", paths.output(), paths.output_index())]),
        (Output::Merged, Wanted::Stdout | Wanted::Stderr) => None,
        (Output::Apart, Wanted::All) => Some(vec![stdout(), stderr()]),
        (Output::Apart, Wanted::Stdout) => Some(vec![stdout()]),
        (Output::Apart, Wanted::Stderr) => Some(vec![stderr()]),
    }
}

/// Prints all that is there of some streams: one after the other, or by the times of their lines if these are shown.
pub(super) fn print_all(streams: &mut [&mut Stream]) -> Result<(), CliError> {
    if !streams.iter().any(|stream| stream.timestamps) {
        return streams.iter_mut().try_for_each(|stream| stream.copy().and_then(|()| stream.end()));
    }
    let mut lines = Vec::new();
    for stream in &mut *streams {
        // A block of each, not all of it.
        lines.push(stream.next_line(true)?);
    }
    // A line without a time goes with what is before it.
    let first = |lines: &[Option<Line>]| {
        let there = lines.iter().enumerate().filter_map(|(n, line)| Some((line.as_ref()?.at, n)));
        there.min().map(|(_, n)| n)
    };
    while let Some(n) = first(&lines) {
        let next = streams[n].next_line(true)?;
        if let Some(line) = std::mem::replace(&mut lines[n], next) {
            streams[n].print_line(&line)?;
        }
    }
    Ok(())
}

/// A line of output without its end, and when that was printed, if it is known.
pub(super) struct Line {
    pub(super) text: Vec<u8>,
    at: Option<Timestamp>,
}

impl Stream {
    /// Takes for printed when it is read what is not there yet, or no index tells of.
    pub(super) fn go_live(&mut self) {
        self.is_live = true;
    }

    /// Passes over what is there and not wanted; tells whether times were asked for that are not known.
    pub(super) fn skip(&mut self, view: &View) -> Result<bool, StoreError> {
        if !self.is_open()? {
            return Ok(false);
        }
        let Some(file) = &self.file else { return Ok(false) };
        if let Some(lines) = view.tail {
            self.offset = store::at("read", &self.path, tail_offset(file, lines, self.has_limit))?;
        }
        let (Some(since), Some(times)) = (view.since, &self.times) else { return Ok(false) };
        if times.is_empty() {
            return Ok(store::at("look at", &self.path, file.metadata())?.len() > 0);
        }
        let begin = store::at("read", &self.path, line_begin(file, times.offset_before(since)))?;
        self.offset = self.offset.max(begin);
        Ok(false)
    }

    /// Whether nothing was there so far.
    pub(super) fn is_empty(&self) -> bool {
        self.offset == 0
    }

    /// Prints what is new.
    pub(super) fn copy(&mut self) -> Result<(), CliError> {
        if !self.is_in_lines() {
            while self.fill()? {
                let bytes = std::mem::take(&mut self.rest);
                self.put(bytes)?;
            }
            return Ok(());
        }
        while let Some(line) = self.next_line(false)? {
            self.print_line(&line)?;
        }
        Ok(())
    }

    /// Prints what was left over, when nothing more will come.
    pub(super) fn end(&mut self) -> Result<(), CliError> {
        if self.is_in_lines() {
            while let Some(line) = self.next_line(true)? {
                self.print_line(&line)?;
            }
            return Ok(());
        }
        let rest = std::mem::take(&mut self.rest);
        write_raw(escape::lines(&String::from_utf8_lossy(&rest)).as_bytes())
    }

    fn is_in_lines(&self) -> bool {
        !self.label.is_empty() || self.timestamps || self.form == Form::Json
    }

    fn put(&mut self, bytes: Vec<u8>) -> Result<(), CliError> {
        if self.form == Form::Raw {
            return write_raw(&bytes);
        }
        let (text, taken) = escape::bytes(&bytes);
        // The begin of a character.
        self.rest = bytes[taken..].to_vec();
        write_raw(text.as_bytes())
    }

    /// The next line that is whole; or, if `all`, what there is of it.
    pub(super) fn next_line(&mut self, all: bool) -> Result<Option<Line>, CliError> {
        let mut searched = self.taken;
        loop {
            let end = self.rest[searched..].iter().position(|byte| *byte == b'\n').map(|at| searched + at);
            if let Some(end) = end {
                return Ok(Some(self.take_line(end, 1)?));
            }
            searched = self.rest.len() - self.taken;
            let is_long = searched >= LINE_BYTES_MAX;
            self.rest.drain(..std::mem::take(&mut self.taken));
            if is_long || !self.fill()? {
                let is_there = !self.rest.is_empty() && (all || is_long);
                return Ok(if is_there { Some(self.take_line(self.rest.len(), 0)?) } else { None });
            }
        }
    }

    fn take_line(&mut self, end: usize, newline: usize) -> Result<Line, StoreError> {
        let text = self.rest[self.taken..end].to_vec();
        self.taken = end + newline;
        let offset = self.offset - (self.rest.len() - self.taken) as u64;
        let at = if self.timestamps { self.time_of(offset)? } else { None };
        Ok(Line { text, at })
    }

    /// When the first `offset` bytes of the file had been printed.
    fn time_of(&mut self, offset: u64) -> Result<Option<Timestamp>, StoreError> {
        let Some(times) = &mut self.times else { return Ok(None) };
        if times.at(offset).is_none() && !std::mem::replace(&mut self.has_read_index, true) {
            times.refresh()?;
        }
        Ok(times.at(offset).or_else(|| self.is_live.then(clock::now)))
    }

    fn print_line(&self, line: &Line) -> Result<(), CliError> {
        let Line { text, at } = line;
        if self.form == Form::Json {
            let mut object =
                json!({"run": self.run, "stream": self.word, "text": String::from_utf8_lossy(text)});
            if let (Some(at), Some(map)) = (at, object.as_object_mut()) {
                map.insert("at".to_owned(), at.to_string().into());
            }
            return print_json(&object);
        }
        let mut bytes = self.label.clone().into_bytes();
        if self.timestamps {
            bytes.extend(at.map_or(NO_TIME.to_owned(), |at| at.to_string()).bytes());
            bytes.push(b' ');
        }
        match self.form {
            Form::Raw | Form::Json => bytes.extend(text),
            Form::Escaped => bytes.extend(harmless(text).bytes()),
        }
        bytes.push(b'\n');
        write_raw(&bytes)
    }

    /// Reads what is new, some of it; tells whether there was something. What is missing is told in a line.
    fn fill(&mut self) -> Result<bool, CliError> {
        if !self.is_open()? {
            return Ok(false);
        }
        let Some(file) = &self.file else { return Ok(false) };
        let mut block = vec![0; BLOCK_BYTES];
        let read = store::at("read", &self.path, file.read_at(&mut block, self.offset))?;
        block.truncate(read);
        if self.has_limit && block.contains(&0) {
            match hole(file, self.offset) {
                Some(hole) if hole.start <= self.offset => {
                    let (_, line) = LeftOut::between(self.offset, hole.end, self.last == b'\n');
                    (self.offset, self.last) = (hole.end, b'\n');
                    self.rest.extend(line.bytes());
                    return Ok(true);
                }
                Some(hole) => block.truncate(usize::try_from(hole.start - self.offset).unwrap_or(usize::MAX)),
                None => {}
            }
        }
        self.has_read_index = false;
        self.offset += block.len() as u64;
        self.last = block.last().copied().unwrap_or(self.last);
        self.rest.extend(&block);
        Ok(!block.is_empty())
    }

    fn is_open(&mut self) -> Result<bool, StoreError> {
        if self.file.is_none() {
            self.file = open_if_there(&self.path)?;
            if let Some(file) = &self.file {
                let len = store::at("look at", &self.path, file.metadata())?.len();
                self.times.as_mut().map_or(Ok(()), |times| times.begin(len))?;
            }
        }
        Ok(self.file.is_some())
    }
}

/// A line as it is shown on a terminal.
pub(super) fn harmless(line: &[u8]) -> String {
    let (mut text, taken) = escape::bytes(line);
    line[taken..].iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    text
}

/// Reads the lines of a run's output for somebody who does not print them.
pub(super) fn last_line(layout: &Layout, run: RunId, spec: &Spec) -> Result<Option<String>, CliError> {
    let view = View { form: Form::Raw, wanted: Wanted::All, timestamps: false, since: None, tail: Some(1) };
    let mut last: Option<(Option<Timestamp>, String)> = None;
    for mut stream in streams(layout, run, spec, &view, "").unwrap_or_default() {
        stream.skip(&view)?;
        while let Some(line) = stream.next_line(true)? {
            if last.as_ref().is_none_or(|(at, _)| *at <= line.at) {
                last = Some((line.at, harmless(&line.text)));
            }
        }
    }
    Ok(last.map(|(_, text)| text))
}
