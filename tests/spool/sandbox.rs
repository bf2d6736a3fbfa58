//! A spool, a repository and a user of their own, in a temporary folder; all that runs there ends with the test.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// How long a test waits for what must come. No test depends on how long it took.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(crate) struct Sandbox {
    folder: PathBuf,
    /// Removes the folder at the end, if it is ours to remove.
    _temporary: Option<tempfile::TempDir>,
    daemon: Option<Child>,
    dropped: AtomicU32,
}

/// A process of the sandbox.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// The run whose marker it bears.
    pub(crate) run: Option<String>,
    pub(crate) arguments: Vec<String>,
}

impl Sandbox {
    /// A spool whose tasks have private folders unless they say otherwise.
    pub(crate) fn new() -> Sandbox {
        let sandbox = Sandbox::without_spool();
        sandbox.run(sandbox.gitspool(&["init"]));
        sandbox
    }

    /// A spool whose tasks work in worktrees of [`Sandbox::repository`].
    pub(crate) fn of_repository() -> Sandbox {
        let sandbox = Sandbox::without_spool();
        let repository = sandbox.repository();
        sandbox.run(sandbox.gitspool(&["init", "--directory", repository.to_str().unwrap()]));
        sandbox
    }

    /// A user without a spool.
    pub(crate) fn without_spool() -> Sandbox {
        let folder = tempfile::Builder::new().prefix("gitspool-test-").tempdir().unwrap();
        let mut sandbox = Sandbox::at(folder.path());
        sandbox._temporary = Some(folder);
        sandbox
    }

    /// What is in `folder`, made if it is not there, without a spool as yet; it stays there.
    pub(crate) fn at(folder: &Path) -> Sandbox {
        let folder = folder.canonicalize().unwrap();
        let sandbox = Sandbox { folder, _temporary: None, daemon: None, dropped: AtomicU32::new(0) };
        for folder in ["home", "state", "outside"] {
            fs::create_dir_all(sandbox.path(folder)).unwrap();
        }
        let identity = "[user]\nname = Somebody\nemail = somebody@example.org\n";
        fs::write(sandbox.path("home/.gitconfig"), identity).unwrap();
        sandbox
    }

    /// A path in the sandbox, as `spool/inbox`.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.join(below)
    }

    pub(crate) fn spool(&self, below: &str) -> PathBuf {
        self.path("spool").join(below)
    }

    /// A place beside the spool, for what jobs tell the test.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.path("outside").join(name)
    }

    /// What a job wrote outside; empty when it wrote nothing.
    pub(crate) fn told(&self, name: &str) -> String {
        fs::read_to_string(self.outside(name)).unwrap_or_default()
    }

    /// A repository with one commit of one file; made at the first call.
    pub(crate) fn repository(&self) -> PathBuf {
        let repository = self.path("repository");
        if !repository.exists() {
            fs::create_dir_all(repository.join("folder")).unwrap();
            fs::write(repository.join("file.txt"), "first\n").unwrap();
            fs::write(repository.join("folder/below.txt"), "below\n").unwrap();
            for arguments in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-qm", "first"]]
            {
                self.git(&repository, arguments);
            }
        }
        repository
    }

    /// Runs git and returns what it says.
    pub(crate) fn git(&self, folder: &Path, arguments: &[&str]) -> String {
        let mut command = self.command("git");
        command.args(arguments).current_dir(folder);
        self.run(command)
    }

    /// A command with the user's environment and nothing of ours.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("GITSPOOL_STATE_DIR", self.path("state"));
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C");
        command.current_dir(self.path("outside")).stdin(Stdio::null());
        command
    }

    pub(crate) fn gitspool(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_gitspool"));
        command.arg("--spool").arg(self.path("spool")).args(arguments);
        command
    }

    /// Runs a command that must succeed, and returns what it says.
    pub(crate) fn run(&self, mut command: Command) -> String {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a line of sh that must succeed; `$1` is `argument`.
    pub(crate) fn sh(&self, line: &str, argument: &Path) -> String {
        let mut command = self.command("/bin/sh");
        command.arg("-c").arg(line).arg("sh").arg(argument);
        self.run(command)
    }

    /// Starts a line of sh and does not wait for it.
    pub(crate) fn begin_sh(&self, line: &str, argument: &Path) -> Child {
        let mut command = self.command("/bin/sh");
        command.arg("-c").arg(line).arg("sh").arg(argument).spawn().unwrap()
    }

    // The daemon.

    pub(crate) fn start(&mut self) {
        assert!(!self.daemon_lives(), "one daemon at a time");
        self.daemon = Some(self.begin_daemon(&["daemon"]));
    }

    /// Starts the daemon as the last arguments of another program.
    pub(crate) fn start_under(&mut self, program: &[String]) {
        assert!(!self.daemon_lives(), "one daemon at a time");
        let stderr = File::options().create(true).append(true).open(self.path("daemon.log")).unwrap();
        let mut command = self.command(&program[0]);
        command.args(&program[1..]).arg(env!("CARGO_BIN_EXE_gitspool"));
        command.arg("--spool").arg(self.path("spool")).arg("daemon").stdout(Stdio::null()).stderr(stderr);
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Waits until the daemon ends by itself.
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("because the daemon was started");
        self.wait_for(&mut daemon)
    }

    fn begin_daemon(&self, arguments: &[&str]) -> Child {
        let stderr = File::options().create(true).append(true).open(self.path("daemon.log")).unwrap();
        self.gitspool(arguments).stdout(Stdio::null()).stderr(stderr).spawn().unwrap()
    }

    pub(crate) fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("because the daemon was started").id()
    }

    /// Whether the daemon still runs.
    pub(crate) fn daemon_lives(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|daemon| daemon.try_wait().unwrap().is_none())
    }

    /// Kills the daemon, and nothing else.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("because the daemon was started");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Asks the daemon to end, and waits until it has.
    pub(crate) fn stop(&mut self) {
        let mut daemon = self.daemon.take().expect("because the daemon was started");
        // A process that has barely begun does not listen yet; and it may be the child of the one that was started.
        let pid = self.wait("the daemon's start in the log", || {
            let last = self.log().into_iter().rfind(|line| line["type"] == "daemon.started")?;
            let record = read_json(&self.spool(".local/daemon.json"))?;
            // Of one that was killed both are there still.
            let pid = last["pid"].as_u64().filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
            pid.filter(|_| last["pid"] == record["pid"])
        });
        signal(u32::try_from(pid).unwrap(), Signal::TERM);
        let status = self.wait_for(&mut daemon);
        assert!(status.success(), "the daemon ended with {status}\n{}", self.story());
    }

    /// Has a daemon do all there is to do.
    pub(crate) fn drain(&self) {
        let mut daemon = self.begin_daemon(&["daemon", "--drain"]);
        let status = self.wait_for(&mut daemon);
        assert!(status.success(), "the daemon ended with {status}\n{}", self.story());
    }

    fn wait_for(&self, child: &mut Child) -> ExitStatus {
        self.wait("the daemon's end", || child.try_wait().unwrap())
    }

    pub(crate) fn daemon_log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    // Dropping files.

    /// Drops a file as programs do: written elsewhere, renamed into the inbox.
    pub(crate) fn drop_by_mv(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let aside = self.path(&format!("aside-{}", self.dropped.fetch_add(1, Ordering::Relaxed)));
        fs::write(&aside, bytes).unwrap();
        self.move_in(&aside, &self.spool("inbox"), name);
    }

    /// Renames a file into a folder, which may lie on a file system of its own.
    fn move_in(&self, aside: &Path, folder: &Path, name: &str) {
        let beside = folder.join(format!(".{name}.tmp"));
        if fs::rename(aside, folder.join(name)).is_err() {
            fs::copy(aside, &beside).unwrap();
            fs::rename(beside, folder.join(name)).unwrap();
            fs::remove_file(aside).unwrap();
        }
    }

    /// Drops a file as people do: `cat > inbox/name`.
    pub(crate) fn drop_by_cat(&self, name: &str, bytes: &[u8]) {
        let mut command = self.command("/bin/sh");
        command.args(["-c", "cat > \"$1\"", "sh"]).arg(self.spool("inbox").join(name)).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        assert!(child.wait().unwrap().success());
    }

    pub(crate) fn drop_by_cp(&self, name: &str, bytes: &[u8]) {
        let original = self.outside(&format!("original-{name}"));
        fs::write(&original, bytes).unwrap();
        let mut command = self.command("cp");
        command.arg(original).arg(self.spool("inbox").join(name));
        self.run(command);
    }

    /// Opens a file in the inbox for writing, and leaves it open.
    pub(crate) fn begin_to_write(&self, name: &str, bytes: &[u8]) -> File {
        let mut file = File::create(self.spool("inbox").join(name)).unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// Drops a command and waits for its receipt.
    pub(crate) fn ask(&self, name: &str, command: &Value) -> Value {
        let earlier = self.receipt_now(name).map(|receipt| receipt["seq"].clone());
        self.drop_by_mv(name, command.to_string());
        self.wait(&format!("the receipt of {name}"), || {
            self.receipt_now(name).filter(|receipt| Some(&receipt["seq"]) != earlier.as_ref())
        })
    }

    /// Drops a command that must be accepted, and returns its task.
    pub(crate) fn submit(&self, name: &str, command: &Value) -> String {
        let receipt = self.ask(&format!("{name}.json"), command);
        assert_eq!(receipt["accepted"], true, "{receipt}");
        receipt["task"].as_str().unwrap().to_owned()
    }

    pub(crate) fn cancel(&self, name: &str, task: &str) -> Value {
        self.ask(name, &json!({"type": "cancel", "target": task}))
    }

    // Looking at the spool.

    /// Waits for something; fails, and tells what the spool looks like, when it does not come.
    pub(crate) fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}\n{}", self.story());
            thread::sleep(LOOK_EVERY);
        }
    }

    pub(crate) fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        self.wait(what, || holds().then_some(()));
    }

    /// Lets everybody work for a while: for tests that then do something at a moment chosen at random.
    pub(crate) fn let_work(&self, time: Duration) {
        thread::sleep(time);
    }

    /// Lets everybody work until the moment comes, or that long.
    pub(crate) fn let_work_until(&self, time: Duration, mut comes: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !comes() && begin.elapsed() < time {
            thread::yield_now();
        }
    }

    /// The receipt of a command as it is now.
    pub(crate) fn receipt_now(&self, name: &str) -> Option<Value> {
        let stem = name.strip_suffix(".json").unwrap_or(name);
        let dates = entries(&self.spool("receipts"));
        dates.iter().rev().find_map(|date| read_json(&date.join(format!("{stem}.json"))))
    }

    pub(crate) fn receipt(&self, name: &str) -> Value {
        self.wait(&format!("the receipt of {name}"), || self.receipt_now(name))
    }

    /// Where the files of a task lie, as `default/done/2026-11-20/<id>.json`.
    pub(crate) fn places(&self, task: &str) -> Vec<String> {
        let queues = self.spool("queue");
        let files = files_below(&queues).into_iter().filter(|path| name_of(path).contains(task));
        files.map(|path| path.strip_prefix(&queues).unwrap().to_str().unwrap().to_owned()).collect()
    }

    /// Waits until the file of a task lies in `folder` of the default queue.
    pub(crate) fn wait_in(&self, folder: &str, task: &str) {
        let begin = format!("default/{folder}/");
        self.wait_until(
            &format!("{task} in {folder}"),
            || matches!(&self.places(task)[..], [place] if place.starts_with(&begin)),
        );
    }

    /// Waits for the end of a task, and returns its outcome, as its last line in the log tells it. Of one that is held since
    /// nobody saw how its run ended, the outcome is that run's.
    pub(crate) fn outcome(&self, task: &str) -> String {
        self.wait(&format!("the end of {task}"), || {
            if let Some(unseen) = self.unseen(task) {
                return Some(unseen);
            }
            let ended = ["done", "failed", "cancelled", "blocked", "skipped", "expired"]
                .map(|folder| format!("/{folder}/"));
            let has_ended =
                self.places(task).iter().any(|place| ended.iter().any(|folder| place.contains(folder)));
            has_ended.then(|| self.moves(task).last()?["state"]["outcome"].as_str().map(ToOwned::to_owned))?
        })
    }

    /// How the last run of a task ended that is held since nobody saw that.
    pub(crate) fn unseen(&self, task: &str) -> Option<String> {
        let last = self.moves(task).pop()?;
        let is_unseen = last["state"]["is"] == "held" && last["by"] == "run";
        let attempt = u32::try_from(last["state"]["attempts"].as_u64().filter(|_| is_unseen)?).ok()?;
        let record = read_json(&self.run_dir(task, attempt).join("run.json"))?;
        record["outcome"].as_str().map(ToOwned::to_owned)
    }

    /// Runs a task to its end with the running daemon; returns its id and its outcome.
    pub(crate) fn carry_out(&self, name: &str, command: &Value) -> (String, String) {
        let task = self.submit(name, command);
        let outcome = self.outcome(&task);
        (task, outcome)
    }

    /// The whole log of the spool.
    pub(crate) fn log(&self) -> Vec<Value> {
        let hosts = entries(&self.spool("events"));
        // A date sorts before `now`. Where a compressed segment and a plain one lie there, the plain one counts.
        let files = hosts.iter().flat_map(|host| entries(host));
        let is_copy = |file: &PathBuf| name_of(file).ends_with(".gz") && file.with_extension("").exists();
        files.filter(|file| !is_copy(file)).flat_map(|file| json_lines(&file)).collect()
    }

    /// Whether the log tells of something, which is quicker than to read it all.
    pub(crate) fn log_has(&self, text: &str) -> bool {
        let files = entries(&self.spool("events")).into_iter().flat_map(|host| entries(&host));
        files.map(|file| fs::read_to_string(file).unwrap_or_default()).any(|log| log.contains(text))
    }

    /// The lines of the log that tell the states of a task.
    pub(crate) fn moves(&self, task: &str) -> Vec<Value> {
        self.log().into_iter().filter(|line| line["task"] == task && line.get("state").is_some()).collect()
    }

    /// Waits for a move of `task` by hand into the state called `state`.
    pub(crate) fn wait_by_hand(&self, task: &str, state: &str) -> Value {
        self.wait(&format!("a move of {task} by hand to {state}"), || {
            let last = self.moves(task).pop()?;
            (last["by"] == "hand" && last["state"]["is"] == state).then_some(last)
        })
    }

    /// The folder of a task's run, whether it is there or not.
    pub(crate) fn run_dir(&self, task: &str, attempt: u32) -> PathBuf {
        let name = format!("{task}.{attempt}");
        let days = entries(&self.spool("runs"));
        days.iter()
            .map(|day| day.join(&name))
            .find(|dir| dir.exists())
            .unwrap_or_else(|| self.spool("runs").join(name))
    }

    /// The folder of a task's first run.
    pub(crate) fn first_run(&self, task: &str) -> PathBuf {
        self.run_dir(task, 1)
    }

    pub(crate) fn run_record(&self, task: &str) -> Value {
        read_json(&self.first_run(task).join("run.json")).unwrap_or_default()
    }

    pub(crate) fn run_log(&self, task: &str) -> Vec<Value> {
        json_lines(&self.first_run(task).join("events.jsonl"))
    }

    pub(crate) fn output(&self, task: &str) -> String {
        fs::read_to_string(self.first_run(task).join("output.log")).unwrap_or_default()
    }

    /// Waits until a job has written `name` outside.
    pub(crate) fn wait_told(&self, name: &str) -> String {
        self.wait(&format!("{name} outside"), || Some(self.told(name)).filter(|told| told.ends_with('\n')))
    }

    /// A line of sh that waits until [`Sandbox::open_gate`] lets it pass.
    pub(crate) fn gate(&self, name: &str) -> String {
        format!("until [ -e {} ]; do sleep 0.02; done", self.outside(name).display())
    }

    pub(crate) fn open_gate(&self, name: &str) {
        fs::write(self.outside(name), "").unwrap();
    }

    pub(crate) fn set_slots(&self, slots: u32) {
        self.set_queue(&json!({"slots": slots}));
    }

    /// Gives the default queue these settings.
    pub(crate) fn set_queue(&self, settings: &Value) {
        self.save("queue/default", "queue.json", &settings.to_string());
    }

    /// The name of the file that says what this host has.
    pub(crate) fn host_file(&self) -> String {
        let states = entries(&self.path("state")).into_iter();
        let host = states.filter_map(|state| read_json(&state.join("host.json"))).next().unwrap();
        format!("{}.json", host["host"].as_str().unwrap())
    }

    /// Says what this host has.
    pub(crate) fn set_host(&self, settings: &Value) {
        self.save("hosts", &self.host_file(), &settings.to_string());
    }

    /// Saves a file as editors do, in one piece.
    pub(crate) fn save(&self, folder: &str, name: &str, text: &str) {
        let aside = self.path(name);
        fs::write(&aside, text).unwrap();
        self.move_in(&aside, &self.spool(folder), name);
    }

    /// What a verb says with `--json`, and its exit code.
    pub(crate) fn json(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        let output = self.gitspool(arguments).arg("--json").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let rows = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (output.status.code().unwrap(), rows)
    }

    /// Sets how long what makes no sense must be quiet; counts from the next start on.
    pub(crate) fn set_settle_ms(&self, settle_ms: u64) {
        let path = self.spool("spool.json");
        let mut settings = read_json(&path).unwrap();
        settings["settle_ms"] = settle_ms.into();
        fs::write(path, settings.to_string()).unwrap();
    }

    // Processes.

    /// All processes that were started in this sandbox and live.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let marker = format!("GITSPOOL_STATE_DIR={}", self.path("state").display());
        let numbers =
            entries(Path::new("/proc")).into_iter().filter_map(|path| name_of(&path).parse::<u32>().ok());
        let process = |pid: u32| {
            let environment = words(&fs::read(format!("/proc/{pid}/environ")).ok()?);
            environment.iter().find(|variable| **variable == marker)?;
            let run = environment.iter().find_map(|variable| variable.strip_prefix("GITSPOOL_RUN="));
            let run = run.map(ToOwned::to_owned);
            Some(Process { pid, run, arguments: arguments(pid) })
        };
        numbers.filter_map(process).collect()
    }

    /// The supervisors that live.
    pub(crate) fn supervisors(&self) -> Vec<u32> {
        let supervises = |arguments: &[String]| arguments.get(1).is_some_and(|verb| verb == "supervise");
        // A process that a supervisor has just forked looks like it until it becomes another program.
        let is_forked = |pid: u32| parent(pid).is_some_and(|parent| supervises(&arguments(parent)));
        let found = self.processes().into_iter().filter(|process| supervises(&process.arguments));
        found.map(|process| process.pid).filter(|pid| !is_forked(*pid)).collect()
    }

    /// What can help to understand a failed test.
    fn story(&self) -> String {
        let log: Vec<String> = self.log().iter().map(ToString::to_string).collect();
        let files = files_below(&self.path("spool"));
        let files: Vec<String> = files.iter().take(200).map(|path| path.display().to_string()).collect();
        let last = |lines: &[String]| lines[lines.len().saturating_sub(30)..].join("\n");
        let said: Vec<String> = self.daemon_log().lines().map(ToOwned::to_owned).collect();
        format!("--- daemon\n{}\n--- log\n{}\n--- files\n{}", last(&said), last(&log), files.join("\n"))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // Who is killed cannot start others; so some rounds are enough.
        for _ in 0..100 {
            let left = self.processes();
            left.iter().for_each(|process| signal(process.pid, Signal::KILL));
            if left.is_empty() {
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

fn arguments(pid: u32) -> Vec<String> {
    words(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // Gone already: that is what a signal is for here.
    let _ = kill_process(pid, signal);
}

/// What lies in a folder, sorted.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = found.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The names in a folder, sorted, but for `.keep`.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let names = entries(folder).into_iter().map(|path| name_of(&path));
    names.filter(|name| name != ".keep").collect()
}

pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// All that lies below a folder and is no folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().flatten();
    entries.filter(|entry| !entry.file_type().is_dir()).map(walkdir::DirEntry::into_path).collect()
}

pub(crate) fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// What a file of a log says, as far as it can be read, compressed or not.
pub(crate) fn log_bytes(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap_or_default();
    if !name_of(path).ends_with(".gz") {
        return bytes;
    }
    let mut plain = Vec::new();
    // Of a torn one what comes before the end counts.
    let _ = flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain);
    plain
}

/// The whole lines of a file of JSON lines.
pub(crate) fn json_lines(path: &Path) -> Vec<Value> {
    let bytes = log_bytes(path);
    let whole = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    whole.map(|line| serde_json::from_slice(line).expect("because logs hold JSON")).collect()
}

fn words(bytes: &[u8]) -> Vec<String> {
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}
