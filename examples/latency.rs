//! Measures from a submission to the first instruction of its job; part of `scripts/bench`.
//!
//! - `latency drop SAMPLES STAMP JOB STAGING INBOX`: writes the text of the file JOB to a file in STAGING, waits a
//!   random gap, reads the clock, and renames the file into INBOX.
//! - `latency spawn SAMPLES STAMP CLIENT [ARG]...`: waits a random gap, reads the clock, runs a client that submits,
//!   and waits for its end.
//! - `latency sync COUNT FILE`: the floor below everything that is durable: appends 200 bytes and calls
//!   fdatasync, COUNT times; prints how many of these one second holds.
//!
//! The job is the `stamp` example, which leaves its own start time in the file STAMP. One line per sample: the
//! microseconds between the two clock readings, or -1 when no stamp came in time. Both readings are of the wall
//! clock, since they are taken in two processes; a step of the clock in between spoils that sample.
//!
//! Waiting is a look every millisecond, so that a second core stays free; it does not blur the result, which the
//! job has written down itself.
#![expect(clippy::disallowed_methods, reason = "a measuring tool stands outside the program and its doors")]
#![expect(clippy::print_stdout, reason = "the samples are its output")]

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a job may take to start before its sample counts as missed.
const START_LIMIT: Duration = Duration::from_secs(10);
/// After so many misses nothing more is tried.
const MISSES_MAX: u32 = 3;
/// Between two looks for the stamp.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// The gap before a sample: the daemon is idle again, and the moment falls on no beat.
const GAP_MS: std::ops::Range<u64> = 20..120;

const USAGE: &str = "usage: latency drop SAMPLES STAMP JOB STAGING INBOX
       latency spawn SAMPLES STAMP CLIENT [ARG]...
       latency sync COUNT FILE";

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["drop", samples, stamp, job, staging, inbox] => {
            let job = fs::read(job).map_err(|e| format!("{job}: {e}"))?;
            take(number(samples)?, Path::new(stamp), |gap| {
                drop_file(&job, Path::new(staging), Path::new(inbox), gap)
            })
        }
        ["spawn", samples, stamp, client, rest @ ..] => {
            take(number(samples)?, Path::new(stamp), |gap| spawn_client(client, rest, gap))
        }
        ["sync", count, file] => append(number(count)?, Path::new(file)),
        _ => Err(USAGE.to_owned()),
    }
}

/// Takes `samples` samples; `submit` sleeps the gap that it is given, submits, and returns when it began to.
fn take(
    samples: u32,
    stamp: &Path,
    mut submit: impl FnMut(Duration) -> Result<u128, String>,
) -> Result<(), String> {
    let mut gaps = Gaps::new();
    let mut misses = 0;
    for _ in 0..samples {
        match fs::remove_file(stamp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(format!("{}: {e}", stamp.display())),
            Ok(()) | Err(_) => {}
        }
        let submitted = submit(gaps.next())?;
        match wait_for(stamp) {
            Some(started) => println!("{}", started.saturating_sub(submitted) / 1000),
            None => {
                println!("-1");
                misses += 1;
            }
        }
        if misses == MISSES_MAX {
            return Err(format!("{misses} jobs did not start within {} s", START_LIMIT.as_secs()));
        }
    }
    Ok(())
}

/// Drops one file; only the rename lies between the clock reading and the inbox.
fn drop_file(job: &[u8], staging: &Path, inbox: &Path, gap: Duration) -> Result<u128, String> {
    let name = format!("latency-{}.json", now());
    let (from, to) = (staging.join(&name), inbox.join(&name));
    fs::write(&from, job).map_err(|e| format!("{}: {e}", from.display()))?;
    sleep(gap);
    let submitted = now();
    fs::rename(&from, &to).map_err(|e| format!("{}: {e}", to.display()))?;
    Ok(submitted)
}

/// Runs one client to its end.
fn spawn_client(client: &str, args: &[&str], gap: Duration) -> Result<u128, String> {
    let mut command = Command::new(client);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    sleep(gap);
    let submitted = now();
    let status = command.status().map_err(|e| format!("{client}: {e}"))?;
    if status.success() { Ok(submitted) } else { Err(format!("{client} ended with {status}")) }
}

/// The time that the job left in `stamp`; `None` when it leaves none within [`START_LIMIT`].
fn wait_for(stamp: &Path) -> Option<u128> {
    let began = Instant::now();
    while began.elapsed() < START_LIMIT {
        if let Ok(text) = fs::read_to_string(stamp) {
            return text.trim().parse().ok();
        }
        sleep(LOOK_EVERY);
    }
    None
}

/// Prints how many appends of 200 bytes, each followed by fdatasync, one second holds.
fn append(count: u32, path: &Path) -> Result<(), String> {
    let failed = |e: io::Error| format!("{}: {e}", path.display());
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    let line = [b'x'; 200];
    let began = Instant::now();
    for _ in 0..count {
        file.write_all(&line).and_then(|()| file.sync_data()).map_err(failed)?;
    }
    println!("{:.0}", f64::from(count) / began.elapsed().as_secs_f64());
    Ok(())
}

/// Nanoseconds since 1970, on the clock that the job reads too.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|e| format!("{text:?} is no number: {e}"))
}

/// Random gaps; xorshift is random enough for not falling on a beat.
struct Gaps {
    state: u64,
}

impl Gaps {
    fn new() -> Gaps {
        let nanos = u64::try_from(now() % u128::from(u64::MAX)).expect("because it was reduced to 64 bits");
        Gaps { state: nanos | 1 }
    }

    fn next(&mut self) -> Duration {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        Duration::from_millis(GAP_MS.start + self.state % (GAP_MS.end - GAP_MS.start))
    }
}
