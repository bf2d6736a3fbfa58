//! Power cuts on real file systems: what was acknowledged before the cut is there after it, and nothing is torn.
//!
//! A machine works on a disk of its own (see `disk`), and loses its power at a random moment, again and again. What
//! it had acknowledged is read before the cut: an answer seen later may be one that no disk holds. A witness outside of
//! the disk knows what the jobs did. After the cut another boot of the machine does what is left to do, and then the
//! whole spool is checked, and each promise of this and of all earlier boots.
//!
//! `scripts/soak power` makes many cuts; these variables tell what: `GITSPOOL_POWER_CUTS` on each file system,
//! `_FS` (names, separated by commas), `_SEED` (of the first cut), `_SECONDS` (at most), `_PROGRAM` (another gitspool, such
//! as a build that omits a sync), `_FIRST` (end at the first failure), `_REPORT` (a file for the results, one JSON object
//! for each file system), `_KEEP` (a folder for what failed).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check::problems;
use crate::disk::{Disk, FileSystem, Machine};
use crate::sandbox::{Sandbox, entries, files_below, json_lines, name_of, read_json};
use crate::storm::Chance;

/// How many cuts a disk gets before a new one takes its place: with each of them there is more to check.
const CUTS_OF_A_DISK: u64 = 10;

/// What a machine does until its power is cut: `$1` gitspool, `$2` the spool, `$3` the witness, `$4` the number of the
/// cut, `$5` a number that tells how it begins, `$6` the repository.
const LOAD: &str = r#"
    program=$1 spool=$2 witness=$3 cut=$4 offset=$5 repository=$6
    cd "$HOME/../outside"
    gitspool() { "$program" --spool "$spool" "$@" 2>/dev/null; }
    filler=$(seq 6000 | tr '\n' ' ')
    # work NAME NUMBER: what the job of this name does; the witness keeps what was asked for.
    work() {
        code=0
        case $(($2 % 7)) in
            0) body=: ;;
            1) body='sleep 0.05' ;;
            2) body='seq 100' ;;
            3) body='sleep 0.2' ;;
            4) body='seq 3000' code=3 ;;
            5) body='sleep 5 & sleep 0.1' ;;
            6) body='echo work > new.txt; sleep 0.02' ;;
        esac
        text="echo begin \$GITSPOOL_RUN >> $witness/ran; $body; echo end \$GITSPOOL_RUN >> $witness/ran; exit $code"
        if [ $(($2 % 4)) = 1 ]; then text="$text # $1 $filler"; fi
        printf %s "$text" > "$witness/asked/$1"
    }
    by_command() {
        n=$offset
        while :; do
            n=$((n + 1)) name=cli$1-$cut-$n confirm='' held='' place='--workspace none'
            work $name $n
            if [ $((n % 2)) = 0 ]; then confirm=--confirm; fi
            if [ $((n % 5)) = 0 ]; then held=--held; fi
            if [ $((n % 6)) = 0 ]; then place="--directory $repository"; fi
            task=$(gitspool submit $confirm $held $place --name $name --shell "$text") || continue
            echo "$task $name" >> "$witness/submitted"
            if [ "$held" ]; then
                gitspool release $task >/dev/null && echo $task >> "$witness/released"
            fi
        done
    }
    by_file() {
        n=$offset
        while :; do
            n=$((n + 1)) name=$1-$cut-$n file=$1-$cut-$n place='"kind":"none"' at=''
            work $name $n
            if [ $((n % 3)) = 0 ]; then file=again-$1; fi
            if [ $((n % 5)) = 0 ]; then place='"kind":"worktree"' at="\"directory\":\"$repository\","; fi
            json="{\"name\":\"$name\",$at\"workspace\":{$place},\"shell\":\"$text\"}"
            if [ $((n % 11)) = 0 ]; then file=$name json="{\"shell\":\"$text"; fi
            case $1 in
                mv) printf %s "$json" > "aside-$1"; mv "aside-$1" "$spool/inbox/$file.json" ;;
                cat) printf %s "$json" | cat > "$spool/inbox/$file.json" ;;
            esac
            sleep 0.02
        done
    }
    cancelling() {
        n=$offset
        while :; do
            n=$((n + 1))
            for file in "$spool"/queue/default/ready/*.json "$spool"/queue/default/active/*/*.json; do
                name=${file##*/} name=${name%.json}
                case $name in ??-????????-*) name=${name#??-} ;; esac
                if [ $((n % 4)) = 0 ] && gitspool cancel $name >/dev/null; then echo $name >> "$witness/cancelled"; fi
                n=$((n + 1))
            done
            sleep 0.03
        done
    }
    making() {
        n=0
        while :; do
            n=$((n + 1)) other=$PWD/../made-$cut-$n
            "$program" --spool "$other" init >/dev/null && echo "$other" >> "$witness/made"
            sleep 0.05
        done
    }
    # Another program on the same disk: its syncs write the journal, and not what we have not synced.
    syncing() { while :; do dd if=/dev/zero of=other bs=512 count=1 conv=fdatasync 2>/dev/null; done; }
    # One command line, and no sync of others that takes its file along.
    alone() {
        n=0
        while :; do
            n=$((n + 1)) name=alone-$cut-$n
            work $name 0
            task=$(gitspool submit --workspace none --name $name --shell "$text") && echo "$task $name" >> "$witness/submitted"
            sleep 0.1
        done
    }
    if [ $((cut % 4)) = 1 ]; then
        alone &
        : > "$witness/loading-$cut"
        exec cat >/dev/null
    fi
    "$program" --spool "$spool" daemon 2>>"$witness/daemon.log" &
    by_command a & by_command b & by_file mv & by_file cat & cancelling & making &
    if [ $((cut % 2)) = 0 ]; then syncing & fi
    : > "$witness/loading-$cut"
    # Whoever made this machine goes away: so does it.
    cat >/dev/null
"#;

/// What a boot after a cut does.
const RECOVERY: &str = r#"
    "$1" --spool "$2" daemon --drain 2>>"$3/daemon.log" &
    wait $!
"#;

/// Where the witness keeps which programs have ended with 0.
const ANSWERS: [&str; 4] = ["submitted", "released", "cancelled", "made"];

/// Something that may be relied on once it was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Promise {
    /// A receipt: the line of the log with this number answers this claim, and accepts it or not.
    Receipt { seq: u64, claim: String, accepted: bool, task: Option<String> },
    /// `submit` ended with 0.
    Submitted { task: String, name: String },
    /// `release` ended with 0.
    Released { task: String },
    /// `cancel` ended with 0.
    Cancelled { task: String },
    /// The task's file lay in a folder of ended ones.
    Ended { task: String, folder: String },
    /// `run.json` told of the end.
    RunEnded { run: String, outcome: String },
    /// `init` ended with 0.
    Made { spool: PathBuf },
}

/// What a spool holds when all is done after a cut.
struct Found<'a> {
    sandbox: &'a Sandbox,
    lines: BTreeMap<u64, Value>,
    /// The lines of each task that tell its states.
    tasks: BTreeMap<String, Vec<Value>>,
}

impl<'a> Found<'a> {
    fn in_spool(sandbox: &'a Sandbox) -> Found<'a> {
        let log = sandbox.log();
        let mut tasks: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in log.iter().filter(|line| line.get("state").is_some()) {
            tasks.entry(text(&line["task"])).or_default().push(line.clone());
        }
        let lines = log.into_iter().map(|line| (line["seq"].as_u64().unwrap_or(0), line)).collect();
        Found { sandbox, lines, tasks }
    }

    fn state(&self, task: &str) -> Option<&Value> {
        Some(&self.tasks.get(task)?.last()?["state"])
    }

    fn outcome(&self, task: &str) -> String {
        let outcome = || self.state(task).map(|state| text(&state["outcome"])).unwrap_or_default();
        self.sandbox.unseen(task).unwrap_or_else(outcome)
    }

    fn has_ended(&self, task: &str) -> bool {
        let has_ended = self.state(task).is_some_and(|state| state["is"] == "ended");
        has_ended || self.sandbox.unseen(task).is_some()
    }

    fn run_outcome(&self, run: &str) -> String {
        let (task, attempt) = run.split_once('.').unwrap_or_default();
        let log = json_lines(&self.sandbox.run_dir(task, attempt.parse().unwrap_or(0)).join("events.jsonl"));
        let end = log.iter().find(|line| line["type"] == "run.ended");
        end.map(|line| text(&line["outcome"])).unwrap_or_default()
    }

    /// Whether anybody asked for the task's end.
    fn is_cancelled(&self, task: &str) -> bool {
        self.tasks.get(task).is_some_and(|lines| lines.iter().any(|line| line["state"]["is"] == "cancelling"))
    }

    /// The spec that a line holds or names.
    fn spec(&self, line: &Value) -> Value {
        let elsewhere = line["spec"]["text_sha256"].as_str();
        let elsewhere = elsewhere.map(|name| read_json(&self.sandbox.spool("texts").join(name)));
        elsewhere.unwrap_or_else(|| Some(line["spec"].clone())).unwrap_or_default()
    }
}

impl Promise {
    fn is_kept(&self, found: &Found) -> bool {
        match self {
            Promise::Receipt { seq, claim, accepted, task } => found.lines.get(seq).is_some_and(|line| {
                let same_task = task.as_ref().is_none_or(|task| line["task"] == **task);
                let refused = line["type"] == "command.refused";
                line["command"]["claim"] == **claim && *accepted != refused && same_task
            }),
            // Everything that is not held is done by now.
            Promise::Submitted { task, .. } => {
                let held = found.state(task).is_some_and(|state| state["is"] == "held");
                held || found.has_ended(task)
            }
            Promise::Released { task } => found.has_ended(task),
            Promise::Cancelled { task } => found.has_ended(task) && found.outcome(task) != "lost",
            Promise::Ended { task, folder } => {
                let of = match found.outcome(task).as_str() {
                    "succeeded" => "done",
                    "cancelled" => "cancelled",
                    "" => "nowhere",
                    _ => "failed",
                };
                of == folder
            }
            Promise::RunEnded { run, outcome } => found.run_outcome(run) == *outcome,
            Promise::Made { spool } => {
                let records = ["spool.json", "queue/default/queue.json"];
                records.iter().all(|record| read_json(&spool.join(record)).is_some())
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The whole lines of a file, in words.
fn lines_of(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| line.split_whitespace().map(ToOwned::to_owned).collect()).collect()
}

/// A machine that loses its power again and again.
struct Round {
    disk: Disk,
    sandbox: Sandbox,
    /// What lies outside of the disk, and survives.
    witness: tempfile::TempDir,
    promises: BTreeSet<Promise>,
    program: PathBuf,
}

/// What cuts have shown.
#[derive(Default)]
struct Tally {
    cuts: u64,
    promises: u64,
    interrupted: u64,
    /// Pictures that the cut had left empty, full of NUL or cut short, before they were drawn again.
    torn_pictures: u64,
    failures: Vec<String>,
}

impl Round {
    fn new(file_system: FileSystem, program: &Path) -> Result<Round, String> {
        let disk = Disk::new(file_system)?;
        let witness = tempfile::Builder::new().prefix("gitspool-witness-").tempdir().unwrap();
        fs::create_dir(witness.path().join("asked")).unwrap();
        let sandbox = Sandbox::at(&disk.root());
        let repository = sandbox.repository();
        let round = Round { disk, sandbox, witness, promises: BTreeSet::new(), program: program.to_owned() };
        round.gitspool(&["init"]);
        round.sandbox.set_slots(4);
        round.sandbox.set_settle_ms(100);
        assert!(repository.join(".git").exists());
        round.disk.sync();
        Ok(round)
    }

    fn gitspool(&self, arguments: &[&str]) {
        let mut command = self.sandbox.command(&self.program);
        command.arg("--spool").arg(self.sandbox.path("spool")).args(arguments);
        self.sandbox.run(command);
    }

    fn seen(&self, name: &str) -> PathBuf {
        self.witness.path().join(name)
    }

    fn boot(&self, script: &str, more: &[&str]) -> Machine {
        let (spool, repository) = (self.sandbox.path("spool"), self.sandbox.repository());
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let mut arguments = vec![path(&self.program), path(&spool), path(self.witness.path())];
        arguments.extend(more.iter().map(ToString::to_string));
        arguments.push(path(&repository));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Machine::boot(&self.sandbox, &self.seen("boot"), script, &arguments)
    }

    /// Cuts the power at a random moment under load, boots again, and tells what is wrong then.
    fn cut(&mut self, number: u64, seed: u64, tally: &mut Tally) -> Vec<String> {
        let mut chance = Chance(seed);
        let offset = chance.below(1000).to_string();
        let mut machine = self.boot(LOAD, &[&number.to_string(), &offset]);
        let loading = self.seen(&format!("loading-{number}"));
        self.sandbox.wait_until("the load", || {
            assert!(machine.ended().is_none(), "the machine did not boot: {}", self.said());
            loading.exists()
        });
        let micros = 5_000 + chance.below(795_000);
        self.sandbox.let_work(Duration::from_micros(micros));
        self.take_note();
        self.disk.cut();
        machine.kill();
        self.forget_late_answers();
        self.disk.mount_again();
        let mut wrong = self.torn_records();
        tally.torn_pictures += self.torn_pictures();
        let mut machine = self.boot(RECOVERY, &[]);
        let status = self.sandbox.wait("the end of what was left to do", || machine.ended());
        if !status.success() {
            wrong.push(format!("the daemon ended with {status}: {}", self.said()));
        }
        // What a command line was writing when it died is nobody's; nor is the text of a command that was never
        // acknowledged, and of which the cut has left no more than its name.
        let nobodys = |it: &String| it.starts_with("left over: inbox/.") || it.contains("text_unnamed");
        wrong.extend(problems(&self.sandbox).into_iter().filter(|it| !nobodys(it)));
        wrong.extend(self.broken_promises());
        wrong.extend(self.wrong_executions());
        tally.cuts += 1;
        tally.promises += self.promises.len() as u64;
        let found = Found::in_spool(&self.sandbox);
        tally.interrupted +=
            found.tasks.keys().filter(|task| found.outcome(task) == "interrupted").count() as u64;
        wrong.into_iter().map(|what| format!("after {} ms: {what}", micros / 1000)).collect()
    }

    fn said(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.seen(name)).unwrap_or_default();
        format!("{}\n{}", read("boot.said"), read("daemon.log"))
    }

    /// Reads what may be relied on from now on.
    fn take_note(&mut self) {
        let words = |name: &str| lines_of(&self.seen(name));
        let mut promises = Vec::new();
        for line in words("submitted") {
            promises.push(Promise::Submitted { task: line[0].clone(), name: line[1].clone() });
        }
        promises
            .extend(words("released").into_iter().map(|line| Promise::Released { task: line[0].clone() }));
        promises
            .extend(words("cancelled").into_iter().map(|line| Promise::Cancelled { task: line[0].clone() }));
        promises
            .extend(words("made").into_iter().map(|line| Promise::Made { spool: line[0].clone().into() }));
        let receipts = files_below(&self.sandbox.spool("receipts"));
        promises.extend(receipts.iter().filter_map(|path| read_json(path)).map(|receipt| Promise::Receipt {
            seq: receipt["seq"].as_u64().unwrap_or(0),
            claim: text(&receipt["claim"]),
            accepted: receipt["accepted"] == true,
            task: receipt["task"].as_str().map(ToOwned::to_owned),
        }));
        for folder in ["done", "failed", "cancelled"] {
            for file in files_below(&self.sandbox.spool("queue/default").join(folder)) {
                let task = name_of(&file).trim_end_matches(".json").to_owned();
                promises.push(Promise::Ended { task, folder: folder.to_owned() });
            }
        }
        for run in entries(&self.sandbox.spool("runs")).iter().flat_map(|day| entries(day)) {
            let record = read_json(&run.join("run.json")).unwrap_or_default();
            let outcome = record["outcome"].as_str().map(ToOwned::to_owned);
            promises.extend(outcome.map(|outcome| Promise::RunEnded { run: name_of(&run), outcome }));
        }
        self.promises.extend(promises);
    }

    /// What was answered after the note was taken counts for nothing, now and at later cuts: while the power goes, a
    /// file system may answer what no disk holds.
    fn forget_late_answers(&self) {
        for name in ANSWERS {
            let _ = fs::remove_file(self.seen(name));
        }
    }

    fn broken_promises(&self) -> Vec<String> {
        let found = Found::in_spool(&self.sandbox);
        let broken = self.promises.iter().filter(|promise| !promise.is_kept(&found));
        broken.map(|promise| format!("promised and not kept: {promise:?}")).collect()
    }

    /// What a cut may never leave torn, wherever it falls: records that are synced before they get their names.
    fn torn_records(&self) -> Vec<String> {
        let mut records = vec![
            self.sandbox.spool("spool.json"),
            self.sandbox.spool("queue/default/queue.json"),
            self.sandbox.spool(".local/checkpoint.json"),
        ];
        records.extend(
            files_below(&self.sandbox.path("state")).into_iter().filter(|path| path.ends_with("host.json")),
        );
        let runs = entries(&self.sandbox.spool("runs"));
        let commands =
            runs.iter().flat_map(|day| entries(day)).flat_map(|run| entries(&run.join("commands")));
        records.extend(commands);
        // A command line's name for what it drops is an id.
        let dropped = entries(&self.sandbox.spool("inbox")).into_iter();
        records.extend(
            dropped.filter(|path| uuid::Uuid::parse_str(name_of(path).trim_end_matches(".json")).is_ok()),
        );
        let made =
            entries(&self.sandbox.path("")).into_iter().filter(|path| name_of(path).starts_with("made-"));
        records.extend(
            made.flat_map(|spool| [spool.join("spool.json"), spool.join("queue/default/queue.json")]),
        );
        let texts = entries(&self.sandbox.spool("texts")).into_iter();
        let torn_texts = texts.filter(|path| sha256(path) != name_of(path));
        let torn = records.into_iter().filter(|path| path.exists() && read_json(path).is_none());
        let torn = torn.chain(torn_texts);
        torn.map(|path| {
            format!("torn: {} ({:?} bytes)", path.display(), path.metadata().map(|meta| meta.len()))
        })
        .collect()
    }

    /// How many pictures, which are drawn again, the cut has left torn.
    fn torn_pictures(&self) -> u64 {
        let receipts = files_below(&self.sandbox.spool("receipts")).into_iter();
        let tasks = files_below(&self.sandbox.spool("queue")).into_iter();
        let runs = entries(&self.sandbox.spool("runs"));
        let runs = runs.iter().flat_map(|day| entries(day)).map(|run| run.join("run.json"));
        let pictures = receipts.chain(tasks).chain(runs);
        let pictures =
            pictures.filter(|path| path.exists() && name_of(path) != ".keep" && name_of(path) != "PAUSED");
        pictures.filter(|path| read_json(path).is_none()).count() as u64
    }

    /// Compares what jobs did, as the witness has it, with what the logs say of them.
    fn wrong_executions(&self) -> Vec<String> {
        let found = Found::in_spool(&self.sandbox);
        let mut wrong = Vec::new();
        let mut begun: BTreeMap<String, u32> = BTreeMap::new();
        let mut finished = BTreeSet::new();
        for line in lines_of(&self.seen("ran")) {
            match line[0].as_str() {
                "begin" => *begun.entry(line[1].clone()).or_default() += 1,
                _ => drop(finished.insert(line[1].clone())),
            }
        }
        for (run, times) in begun {
            let task = run.split('.').next().unwrap_or_default();
            let outcome = found.run_outcome(&run);
            let right = match outcome.as_str() {
                "succeeded" | "failed" => finished.contains(&run),
                "interrupted" => true,
                "cancelled" => found.is_cancelled(task),
                _ => false,
            };
            if times != 1 || !right {
                let until = if finished.contains(&run) { "to its end" } else { "and was cut off" };
                wrong.push(format!("{run} began {times} times, {until}, and its log says {outcome:?}"));
            }
        }
        let mut named = BTreeSet::new();
        for line in found.lines.values().filter(|line| line["type"] == "task.submitted") {
            let (task, spec) = (text(&line["task"]), found.spec(line));
            let name = text(&spec["name"]);
            let asked = fs::read_to_string(self.seen("asked").join(&name)).unwrap_or_default();
            if spec["shell"] != *asked || asked.is_empty() {
                wrong.push(format!("task {task} is not what was asked for as {name:?}: {line}"));
            }
            for place in self.sandbox.places(&task) {
                let mut file = read_json(&self.sandbox.spool("queue").join(&place)).unwrap_or_default();
                if let Some(file) = file.as_object_mut() {
                    // How it ended without success.
                    file.retain(|key, _| key != "state" && key != "sha256");
                }
                if file != spec {
                    wrong.push(format!("{place} is not the spec of its line"));
                }
            }
            if !named.insert(name) {
                wrong.push(format!("dropped once and submitted twice: {line}"));
            }
        }
        let lost = found.tasks.keys().filter(|task| found.outcome(task) == "lost");
        wrong.extend(lost.map(|task| format!("task {task} is lost, and was interrupted")));
        wrong
    }
}

fn sha256(path: &Path) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(fs::read(path).unwrap_or_default());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is to be done, from the environment.
struct Order {
    cuts: u64,
    file_systems: Vec<FileSystem>,
    seed: u64,
    time: Option<Duration>,
    program: PathBuf,
    first: bool,
    report: Option<PathBuf>,
    keep: Option<PathBuf>,
}

impl Order {
    fn read() -> Order {
        let value =
            |name: &str| std::env::var(format!("GITSPOOL_POWER_{name}")).ok().filter(|it| !it.is_empty());
        let number = |name: &str| value(name).map(|it| it.parse::<u64>().expect("a number is wanted"));
        let wanted = value("FS");
        let file_systems = wanted.map_or(FileSystem::ALL.to_vec(), |names| {
            let called = |name| FileSystem::called(name).unwrap_or_else(|| panic!("no file system {name}"));
            names.split(',').map(called).collect()
        });
        Order {
            cuts: number("CUTS").unwrap_or(2),
            file_systems,
            seed: number("SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 32),
            time: number("SECONDS").map(Duration::from_secs),
            program: value("PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_gitspool").to_owned()).into(),
            first: value("FIRST").is_some(),
            report: value("REPORT").map(PathBuf::from),
            keep: value("KEEP").map(PathBuf::from),
        }
    }

    fn carry_out(&self, file_system: FileSystem) -> Result<Tally, String> {
        let begin = Instant::now();
        let mut tally = Tally::default();
        let mut round = None;
        for number in 0..self.cuts {
            if self.time.is_some_and(|time| time <= begin.elapsed()) {
                break;
            }
            if round.is_none() || number % CUTS_OF_A_DISK == 0 {
                // The old disk is gone before there is a new one.
                drop(round.take());
                round = Some(Round::new(file_system, &self.program)?);
            }
            let seed = self.seed + number;
            let cut = round.as_mut().expect("because it was just made");
            let wrong = catch_unwind(AssertUnwindSafe(|| cut.cut(number, seed, &mut tally)))
                .unwrap_or_else(|_| vec!["a check ended in a panic, see above".to_owned()]);
            if wrong.is_empty() {
                continue;
            }
            let few = &wrong[..wrong.len().min(12)];
            eprintln!(
                "{}, cut {number} (seed {seed}), {} problems:\n{}",
                file_system.name(),
                wrong.len(),
                few.join("\n")
            );
            self.keep(cut, &format!("{}-{seed}", file_system.name()));
            tally.failures.push(format!("seed {seed}: {}", wrong[0]));
            round = None;
            if self.first {
                break;
            }
        }
        Ok(tally)
    }

    /// Keeps what is on the disk of a cut that failed, for who wants to know why.
    fn keep(&self, round: &Round, name: &str) {
        let Some(keep) = self.keep.as_ref().map(|keep| keep.join(name)) else { return };
        fs::create_dir_all(&keep).unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-a").args([round.sandbox.spool(""), round.witness.path().to_owned()]).arg(&keep);
        assert!(copy.status().unwrap().success());
    }

    fn tell(&self, file_system: FileSystem, tally: &Tally, seconds: u64) {
        let result = json!({"file_system": file_system.name(), "cuts": tally.cuts, "seed": self.seed,
            "promises_checked": tally.promises, "interrupted": tally.interrupted,
            "torn_pictures_drawn_again": tally.torn_pictures, "failures": tally.failures, "seconds": seconds});
        eprintln!("{result}");
        if let Some(report) = &self.report {
            use std::io::Write;
            let mut file = fs::File::options().create(true).append(true).open(report).unwrap();
            writeln!(file, "{result}").unwrap();
        }
    }
}

#[test]
fn what_was_acknowledged_before_a_power_cut_is_there_after_it() {
    let order = Order::read();
    let mut failures = Vec::new();
    for file_system in &order.file_systems {
        let begin = Instant::now();
        match order.carry_out(*file_system) {
            Ok(tally) => {
                order.tell(*file_system, &tally, begin.elapsed().as_secs());
                failures.extend(tally.failures);
            }
            Err(why) => eprintln!("SKIPPED: power cuts on {}: {why}", file_system.name()),
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
