//! A disk that fills up and frees again and again under load, to each of many levels: `scripts/soak exhaustion`.
//!
//! These variables tell what: `GITSPOOL_EXHAUSTION_SECONDS` on each file system, `_FS` (names, separated by commas, of which
//! `tmpfs` is one), `_SEED`, and `_REPORT` (a file for the results, one JSON object for each file system).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use serde_json::{Value, json};

use super::{Mounted, job, large, make_room, publish, short};
use crate::check::problems;
use crate::disk::{Disk, FileSystem};
use crate::sandbox::{Sandbox, names};
use crate::storm::Chance;

/// How much is left free, from nothing to what is needed to go on.
const LEVELS: [u64; 9] = [0, 1, 4 << 10, 20 << 10, 128 << 10, 600 << 10, 1 << 20, 3 << 20, 7 << 20];

/// What was done on one file system, and what came of it.
#[derive(Default)]
struct Report {
    rounds: u64,
    kills: u64,
    starts_refused: u64,
    dropped: u64,
    promised: u64,
    unpromised: u64,
    ran: usize,
    shortages: usize,
    problems: Vec<String>,
}

/// A spool on a file system of that name, and all that it needs.
struct Box {
    sandbox: Sandbox,
    _mounted: Mounted,
    _disk: Option<Disk>,
}

fn new_box(name: &str) -> Result<Box, String> {
    if name == "tmpfs" {
        let (mounted, sandbox) = super::small(24, 6000).ok_or("only root can mount")?;
        return Ok(Box { sandbox, _mounted: mounted, _disk: None });
    }
    let disk = Disk::new(FileSystem::called(name).ok_or_else(|| format!("no file system {name}"))?)?;
    let sandbox = Sandbox::without_spool();
    let (there, place) = (disk.root().join("spool"), sandbox.path("spool"));
    fs::create_dir(&there).and_then(|()| fs::create_dir(&place)).map_err(|error| error.to_string())?;
    let bound = Command::new("mount").arg("--bind").arg(&there).arg(&place).status();
    bound.ok().filter(std::process::ExitStatus::success).ok_or("no bind mount")?;
    let mounted = Mounted(place);
    sandbox.run(sandbox.gitspool(&["init"]));
    Ok(Box { sandbox, _mounted: mounted, _disk: Some(disk) })
}

/// Leaves about so many bytes free.
fn fill_to(sandbox: &Sandbox, level: u64) {
    let path = sandbox.spool("filler");
    let mut filler = File::options().create(true).append(true).open(path).unwrap();
    for bytes in [16_u64 << 20, 1 << 20, 64 << 10, 4 << 10] {
        loop {
            let end = filler.metadata().unwrap().len();
            if rustix::fs::fallocate(&filler, FallocateFlags::empty(), end, bytes).is_err() {
                // What a failed try has left.
                filler.set_len(end).unwrap();
                break;
            }
        }
    }
    while filler.write_all(&[b'x'; 512]).is_ok() {}
    let end = filler.metadata().unwrap().len();
    filler.set_len(end.saturating_sub(level)).unwrap();
}

/// Drops a command if there is room for its file.
fn dropped(sandbox: &Sandbox, name: &str, command: &Value) -> bool {
    let aside = sandbox.spool("inbox").join(format!(".{name}.tmp"));
    let written = fs::write(&aside, command.to_string()).is_ok();
    match written {
        true => publish(sandbox, name),
        false => drop(fs::remove_file(aside)),
    }
    written
}

/// Submits a job by the command line; its task if that was promised.
fn submitted(sandbox: &Sandbox, report: &mut Report) -> Option<String> {
    let line = job(sandbox)["shell"].as_str().unwrap().to_owned();
    let Output { status, stdout, stderr } =
        sandbox.gitspool(&["submit", "--workspace", "none", "--shell", &line]).output().unwrap();
    let (said, why) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    if status.success() {
        report.promised += 1;
        return Some(said.trim().to_owned());
    }
    report.unpromised += 1;
    if status.code() != Some(2) || !why.contains("make room") || !said.is_empty() {
        report.problems.push(format!("submit ended with {status}: {said}{why}"));
    }
    None
}

impl Report {
    /// One round: load, a level, some time, and perhaps a kill of the daemon, or a start of one, while it is full.
    fn round(&mut self, sandbox: &mut Sandbox, chance: &mut Chance, promised: &mut Vec<String>) {
        self.rounds += 1;
        let level = LEVELS[usize::try_from(chance.below(LEVELS.len() as u64)).unwrap()];
        let (before, after) = (chance.below(12), chance.below(6));
        for number in 0..before + after {
            if number == before {
                fill_to(sandbox, level);
                promised.extend(submitted(sandbox, self));
            }
            let command = if chance.below(4) == 0 { large(sandbox) } else { job(sandbox) };
            self.dropped += u64::from(dropped(sandbox, &format!("{}-{number}.json", self.rounds), &command));
        }
        sandbox.let_work(Duration::from_millis(chance.below(1500)));
        if chance.below(4) == 0 {
            self.kills += 1;
            sandbox.kill();
            sandbox.start();
            sandbox.let_work(Duration::from_millis(chance.below(1500)));
        }
        self.look_at_daemon(sandbox);
        make_room(sandbox);
        promised.extend(submitted(sandbox, self));
        self.look_at_daemon(sandbox);
        if chance.below(3) == 0 {
            sandbox.wait_until("the end of the shortage", || short(sandbox).is_none());
        }
    }

    /// A daemon that could not start where it has to write its log anew says so, and the next one goes on.
    fn look_at_daemon(&mut self, sandbox: &mut Sandbox) {
        if sandbox.daemon_lives() {
            return;
        }
        let said = sandbox.daemon_log();
        let last = said.lines().last().unwrap_or_default().to_owned();
        if sandbox.wait_for_end().code() == Some(2) && last.contains("; make room") {
            self.starts_refused += 1;
        } else {
            self.problems.push(format!("a daemon ended: {last}"));
        }
        make_room(sandbox);
        sandbox.start();
    }

    /// All that was dropped or promised has run once, and nothing is left over.
    fn finish(&mut self, sandbox: &mut Sandbox, promised: &[String]) {
        make_room(sandbox);
        sandbox.wait_until("the end of the shortage", || short(sandbox).is_none());
        let empty = |folder: &str| names(&sandbox.spool(folder)).is_empty();
        sandbox.wait_until("an empty inbox", || empty("inbox") && empty(".local/claimed"));
        sandbox.stop();
        sandbox.drain();
        self.problems.extend(problems(sandbox));
        let told = sandbox.told("ran");
        let once: BTreeSet<&str> = told.lines().collect();
        self.ran = once.len();
        if told.lines().count() != once.len() {
            self.problems.push("a task ran twice".to_owned());
        }
        let least = self.dropped + self.promised;
        let ran = self.ran as u64;
        if !(least..=least + self.unpromised).contains(&ran) {
            self.problems.push(format!("{least} were dropped or promised, and {ran} ran"));
        }
        let lost = promised.iter().filter(|task| !once.contains(task.as_str()));
        self.problems.extend(lost.map(|task| format!("promised, and did not run: {task}")));
        let unwell = sandbox
            .log()
            .into_iter()
            .filter(|line| line["state"]["is"] == "ended" && line["state"]["outcome"] != "succeeded");
        self.problems.extend(unwell.map(|line| format!("not well: {line}")));
        let said = sandbox.daemon_log();
        self.problems.extend(said.contains("panicked").then(|| "a panic".to_owned()));
        self.shortages = said.matches("there is room again").count();
    }

    fn value(&self, name: &str, seed: u64) -> Value {
        json!({
            "file_system": name, "seed": seed, "rounds": self.rounds, "kills": self.kills,
            "starts_refused": self.starts_refused, "dropped": self.dropped, "promised": self.promised,
            "unpromised": self.unpromised, "ran": self.ran, "shortages": self.shortages,
            "problems": self.problems,
        })
    }
}

fn carry_out(name: &str, seed: u64, time: Duration) -> Result<Report, String> {
    let mut on = new_box(name)?;
    let (mut chance, mut report, mut promised) = (Chance(seed), Report::default(), Vec::new());
    on.sandbox.set_slots(4);
    on.sandbox.start();
    let begin = Instant::now();
    while report.rounds < 2 || begin.elapsed() < time {
        report.round(&mut on.sandbox, &mut chance, &mut promised);
    }
    report.finish(&mut on.sandbox, &promised);
    Ok(report)
}

#[test]
fn to_whatever_level_a_disk_is_filled_under_load_all_that_was_taken_runs_once() {
    let given = |name: &str| std::env::var(format!("GITSPOOL_EXHAUSTION_{name}")).ok();
    let systems = given("FS").unwrap_or_else(|| "tmpfs,ext4".to_owned());
    let seed = given("SEED").and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    let seconds = given("SECONDS").and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    let mut wrong = Vec::new();
    for name in systems.split(',') {
        eprintln!("GITSPOOL_EXHAUSTION_SEED={seed} GITSPOOL_EXHAUSTION_FS={name}");
        let report = match carry_out(name, seed, Duration::from_secs(seconds)) {
            Ok(report) => report,
            Err(why) => {
                eprintln!("SKIPPED: full disks with {name}: {why}");
                continue;
            }
        };
        if let Some(path) = given("REPORT") {
            let mut file = File::options().create(true).append(true).open(Path::new(&path)).unwrap();
            writeln!(file, "{}", report.value(name, seed)).unwrap();
        }
        wrong.extend(report.problems.into_iter().map(|problem| format!("{name}: {problem}")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
