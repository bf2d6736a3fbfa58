//! What a person sees: nothing that anybody wrote steers the terminal on which it is shown, whichever verb shows it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, entries};

/// Colours, a title, a bell, a cleared screen in one character, a return, a turn of the line, and a line that is none.
const EVIL: &str = "EVIL\u{1b}[31m\u{1b}]0;t\u{7}\u{9b}2J\r\u{8}\u{202e}\u{2028}\u{7f}";
/// The same where control characters are refused, or cannot be.
const SLY: &str = "SLY\u{202e}\u{2066}\u{2028}";

/// What stands in a text that a terminal would obey.
fn obeyed(text: &str) -> Vec<char> {
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|c| (c.is_control() && !"\n\t".contains(*c)) || turns(*c)).collect()
}

/// Runs a command with a terminal as its stdout and stderr; gives its exit code and what the terminal got.
pub(crate) fn on_terminal(mut command: Command) -> (Option<i32>, Vec<u8>) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let path = ptsname(&ours, Vec::new()).unwrap();
    let theirs = File::options().read(true).write(true).open(OsStr::from_bytes(path.as_bytes())).unwrap();
    command.stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    // It holds the other end open, and so would keep us reading.
    drop(command);
    let mut got = Vec::new();
    // The end of a terminal is an error.
    let _ = File::from(ours).read_to_end(&mut got);
    (child.wait().unwrap().code(), got)
}

/// The same with a pipe; stdout and stderr apart.
fn on_pipe(mut command: Command) -> (Vec<u8>, Vec<u8>) {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    (output.stdout, output.stderr)
}

/// Checks that a text is one that a terminal does not obey.
fn is_harmless(what: &str, bytes: &[u8]) -> String {
    // The terminal itself makes two of each end of a line.
    let text = String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| panic!("{what}: {bytes:?} is not UTF-8"));
    let text = text.replace("\r\n", "\n");
    assert_eq!(obeyed(&text), [' '; 0], "{what}: {text:?}");
    text
}

/// A verb, and what it shows of what is evil.
struct Verb {
    arguments: Vec<OsString>,
    shows: &'static str,
}

fn verb(arguments: &[&str], shows: &'static str) -> Verb {
    Verb { arguments: arguments.iter().map(Into::into).collect(), shows }
}

fn command_of(sandbox: &Sandbox, verb: &Verb, json: bool) -> Command {
    let mut command = sandbox.gitspool(if json { &["--json"] } else { &[] });
    command.args(&verb.arguments);
    command
}

/// An agent that tells and prints evil things, and ends.
fn evil_job(sandbox: &Sandbox) -> String {
    let script = sandbox.outside("evil.sh");
    let octal = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:03o}")).collect::<String>();
    let (told, printed) = (octal(EVIL.as_bytes()), octal(&[EVIL.as_bytes(), b"\xff\x9b\n"].concat()));
    let line = format!(
        "E=$(printf '{told}')\nprintf '{printed}'\n\
         gitspool note --summary \"$E\" --session \"$E\" --confirm >/dev/null 2>&1\ngitspool note \"$E\" --confirm >/dev/null 2>&1\n\
         echo x > new; git add new; git commit -qm \"$E\"; exit 3\n"
    );
    fs::write(&script, line).unwrap();
    format!("sh {}", script.display())
}

/// Tasks that have evil in all their parts; the first by name `evil`.
fn fill(sandbox: &mut Sandbox) -> [String; 3] {
    let agent = json!({"driver": "exec", "argv": ["/bin/sh", "-c", evil_job(sandbox)]});
    fs::write(sandbox.spool("agents/default.json"), agent.to_string()).unwrap();
    sandbox.start();
    let evil = sandbox.submit(
        "evil",
        &json!({
            "prompt": EVIL, "extra": EVIL, "item": SLY, "env": {"K": EVIL, EVIL: "v"},
            "workspace": {"branch": format!("b{SLY}")},
        }),
    );
    let nowhere = sandbox
        .submit("nowhere", &json!({"run": ["/no/such", EVIL], "directory": format!("/no/such/{EVIL}")}));
    let program = json!({"run": [format!("/no/such/{EVIL}")], "workspace": {"kind": "none"}});
    let program = sandbox.submit("program", &program);
    let held = sandbox.submit("held", &json!({"shell": EVIL, "held": true}));
    let reason = json!({"type": "cancel", "target": held, "reason": EVIL});
    assert_eq!(sandbox.ask("cancel.json", &reason)["accepted"], true);
    sandbox.ask("refused.json", &json!({"run": ["true"], EVIL: 1, "queue": "default"}));
    assert_eq!([&evil, &nowhere, &program].map(|task| sandbox.outcome(task)), ["failed"; 3]);
    [evil, nowhere, program]
}

#[test]
fn no_verb_lets_what_anybody_wrote_steer_a_terminal() {
    let mut sandbox = Sandbox::of_repository();
    sandbox.set_settle_ms(50);
    let [evil, nowhere, program] = fill(&mut sandbox);
    sandbox.stop();
    // Names that wait for a daemon, settings and profiles that say nothing good, and what does not belong there.
    for name in [format!("{EVIL}.json"), format!("{SLY}.txt")] {
        fs::write(sandbox.spool("inbox").join(&name), "{").unwrap();
        fs::write(sandbox.spool("queue/default/ready").join(&name), "{").unwrap();
    }
    fs::write(sandbox.spool("agents/other.json"), json!({EVIL: 1}).to_string()).unwrap();
    fs::write(sandbox.spool("queue/default/queue.json"), json!({EVIL: 1}).to_string()).unwrap();
    let mut verbs = vec![
        verb(&["ls", "--all"], "EVIL\\u"),
        verb(&["ls", "--runs"], "EVIL\\u"),
        verb(&["ls", "--runs", "--item", SLY], "SLY\\u"),
        verb(&["show", &evil], "EVIL\\u"),
        verb(&["show", &nowhere], "EVIL\\u"),
        verb(&["show", &program], "EVIL\\u"),
        verb(&["show", "held"], "EVIL\\u"),
        verb(&["logs", &program], "EVIL\\u"),
        verb(&["events"], "EVIL\\u"),
        verb(&["events", &evil], "EVIL\\u"),
        verb(&["wait", &evil, &program], ""),
        verb(&["status"], "EVIL\\u"),
        verb(&["doctor"], "EVIL"),
        verb(&["--help"], ""),
    ];
    // What is wrong with arguments is told with them.
    for arguments in [
        &["show", EVIL][..],
        &["logs", EVIL],
        &["events", EVIL],
        &["wait", EVIL, "--timeout", "0"],
        &["cancel", EVIL, "--confirm", "--timeout", "0"],
        &["ls", "--queue", EVIL],
        &["ls", "--state", EVIL],
        &["rerank", "x", EVIL],
        &["submit", "--name", EVIL, "--", "true"],
        &["submit", "--env", EVIL, "--", "true"],
        &[EVIL],
        &["ls", &format!("--{EVIL}")],
        &["--spool", &format!("/no/such/{EVIL}"), "ls"],
        &["--spool", &format!("/no/such/{EVIL}"), "init"],
        &["--spool", &format!("/no/such/{SLY}"), "doctor"],
        &["init", "--directory", EVIL],
    ] {
        verbs.push(verb(arguments, ""));
    }
    for verb in &verbs {
        for json in [false, true] {
            let what = format!("{:?}, json {json}", verb.arguments);
            let (_, on_terminal) = on_terminal(command_of(&sandbox, verb, json));
            let seen = is_harmless(&format!("{what}, on a terminal"), &on_terminal);
            assert!(seen.contains(verb.shows), "{what} does not show {}: {seen}", verb.shows);
            let (stdout, stderr) = on_pipe(command_of(&sandbox, verb, json));
            is_harmless(&format!("{what}, stderr"), &stderr);
            let stdout = is_harmless(&format!("{what}, stdout"), &stdout);
            let is_help = verb.arguments[0] == "--help";
            for line in stdout.lines().filter(|_| json && !is_help) {
                serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{what}: {error}: {line}"));
            }
        }
    }
}

#[test]
fn output_is_escaped_on_a_terminal_whole_in_a_pipe_and_text_in_json() {
    let mut sandbox = Sandbox::of_repository();
    let [evil, ..] = fill(&mut sandbox);
    let raw = [EVIL.as_bytes(), b"\xff\x9b\n"].concat();
    let logs = verb(&["logs", &evil], "");
    let seen = is_harmless("logs", &on_terminal(command_of(&sandbox, &logs, false)).1);
    assert!(seen.contains("EVIL\\u{1b}[31m") && seen.contains("\\xff\\x9b"), "{seen}");
    assert_eq!(on_pipe(command_of(&sandbox, &logs, false)).0, raw, "a pipe gets every byte");
    let shown = on_terminal(command_of(&sandbox, &verb(&["logs", "--raw", &evil], ""), false)).1;
    assert!(shown.starts_with(b"EVIL\x1b[31m"), "who asks for it gets it: {shown:?}");
    let line = is_harmless("logs --json", &on_terminal(command_of(&sandbox, &logs, true)).1);
    let line: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert_eq!(line["text"], format!("{EVIL}\u{fffd}\u{fffd}"), "what is read back is what was written");
    let shell = "printf 'EVIL\\033[31m'; gitspool note --summary \"$(printf 'EVIL\\033[31m')\"";
    let run = verb(&["run", "--workspace", "none", "--shell", shell], "");
    let seen = is_harmless("run", &on_terminal(command_of(&sandbox, &run, false)).1);
    assert!(seen.contains("EVIL\\u{1b}[31m"), "{seen}");
    sandbox.stop();
}

#[test]
fn what_the_daemon_says_steers_no_terminal_and_forges_no_line() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(50);
    sandbox.start();
    assert_eq!(sandbox.carry_out("before", &json!({"run": ["true"]})).1, "succeeded");
    // Nothing can be taken, and that is told with the name.
    let claimed = sandbox.spool(".local/claimed");
    // Again, when the daemon has made the folder anew in between.
    sandbox.sh("until [ -f \"$1\" ]; do rmdir \"$1\"; touch \"$1\"; done", &claimed);
    let name = format!("a\n2026-11-20T15:04:05Z ERROR forged {EVIL}.json");
    fs::write(sandbox.spool("inbox").join(name), "{").unwrap();
    sandbox.wait_until("a word about it", || sandbox.daemon_log().contains("EVIL"));
    let said = is_harmless("the daemon", sandbox.daemon_log().as_bytes());
    assert!(
        said.lines()
            .all(|line| line.starts_with("20") && !line.contains("Z ERROR forged") || line.contains("\\n")),
        "{said}"
    );
    sandbox.sh("rm \"$1\"", &claimed);
    let receipts = || entries(&sandbox.spool("receipts")).iter().flat_map(|day| entries(day)).count();
    sandbox.wait_until("its answer", || receipts() == 2);
    assert!(sandbox.daemon_lives());
    sandbox.stop();
}
