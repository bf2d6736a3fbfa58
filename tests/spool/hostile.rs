//! Hostile files and names: a table of what somebody may drop, and the fate of each.
//!
//! Whatever it is: the daemon lives, no other file waits for it, nothing outside of the spool is followed or changed, and
//! what is refused is kept byte for byte beside its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, files_below, read_json};

/// What becomes of a file.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Refused as this kind; message, place and hint together say this.
    Refused(&'static str, &'static str),
    /// The same, but what it says is decided about before it has settled: it makes sense, and cannot be done.
    Denied(&'static str, &'static str),
    /// It is a task, and ends with this outcome.
    Ends(&'static str),
    /// It stays where it is: not ours yet.
    LeftAlone,
}

use Fate::{Denied, Ends, LeftAlone, Refused};

/// How a file comes to be.
enum Made {
    Text(Vec<u8>),
    By(fn(&Sandbox, &Path)),
}

struct Case {
    name: OsString,
    made: Made,
    fate: Fate,
}

const GOOD: &str = r#"{"run":["true"]}"#;

fn by(name: &str, make: fn(&Sandbox, &Path), fate: Fate) -> Case {
    Case { name: name.into(), made: Made::By(make), fate }
}

fn text(name: &str, text: impl AsRef<[u8]>, fate: Fate) -> Case {
    named(name.as_bytes(), text, fate)
}

fn named(name: &[u8], text: impl AsRef<[u8]>, fate: Fate) -> Case {
    Case { name: OsStr::from_bytes(name).to_owned(), made: Made::Text(text.as_ref().to_vec()), fate }
}

fn set_mode(path: &Path, mode: u32) {
    fs::write(path, GOOD).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Files that are something else than they should be.
fn kinds_of_files() -> Vec<Case> {
    let link = Refused("symlink", "copy");
    let no_file = Refused("not_a_file", "");
    let mut cases = vec![
        by("link.json", |sandbox, path| symlink(sandbox.outside("victim.json"), path).unwrap(), link),
        by("link.sh", |sandbox, path| symlink(sandbox.outside("victim.json"), path).unwrap(), link),
        by("link-to-folder.json", |sandbox, path| symlink(sandbox.path("outside"), path).unwrap(), link),
        by("link-to-itself.json", |_, path| symlink("link-to-itself.json", path).unwrap(), link),
        by("link-to-settings.json", |_, path| symlink("../spool.json", path).unwrap(), link),
        by("environ.json", |_, path| symlink("/proc/self/environ", path).unwrap(), link),
        by("endless.json", |_, path| symlink("/dev/zero", path).unwrap(), link),
        by("dangling.json", |_, path| symlink("/nowhere/at/all", path).unwrap(), link),
        by(
            "hard.json",
            |sandbox, path| fs::hard_link(sandbox.outside("victim.json"), path).unwrap(),
            Refused("hard_link", "copy"),
        ),
        by("fifo.json", |_, path| node(path, FileType::Fifo, 0), no_file),
        by("fifo.sh", |_, path| node(path, FileType::Fifo, 0), no_file),
        by("socket.json", |_, path| drop(UnixListener::bind(path).unwrap()), no_file),
        by("folder.json", |_, path| fs::create_dir_all(path.join("inner")).unwrap(), no_file),
        by("folder.md", |_, path| fs::create_dir(path).unwrap(), no_file),
        by(
            "sparse.json",
            |_, path| File::create(path).unwrap().set_len(1 << 30).unwrap(),
            Refused("too_large", ""),
        ),
        by(
            "sparse.sh",
            |_, path| File::create(path).unwrap().set_len(1 << 40).unwrap(),
            Refused("too_large", ""),
        ),
        // Nobody else comes as far as the inbox, and what was read is what runs: the mode of the file is its owner's.
        by("group-writable.json", |_, path| set_mode(path, 0o660), Ends("succeeded")),
        by("world-writable.json", |_, path| set_mode(path, 0o666), Ends("succeeded")),
        by("setuid.json", |_, path| set_mode(path, 0o6755), Ends("succeeded")),
    ];
    if is_root() {
        cases.extend([
            by("dev-null.json", |_, path| node(path, FileType::CharacterDevice, makedev(1, 3)), no_file),
            by("tty.json", |_, path| node(path, FileType::CharacterDevice, makedev(5, 0)), no_file),
            by("disk.json", |_, path| node(path, FileType::BlockDevice, makedev(7, 250)), no_file),
            by(
                "foreign.json",
                |_, path| give_away(path, Some(65534), None),
                Refused("foreign_owner", "65534"),
            ),
            by("foreign.sh", |_, path| give_away(path, Some(1), None), Refused("foreign_owner", "user 1,")),
            by("group.json", |_, path| give_away(path, None, Some(65534)), Ends("succeeded")),
            by("closed.json", |_, path| set_mode(path, 0), Ends("succeeded")),
        ]);
    } else {
        eprintln!("SKIPPED: devices and files of other users can be made by root only");
        cases.push(by("closed.json", |_, path| set_mode(path, 0), Refused("unreadable", "closed.json")));
    }
    cases
}

fn node(path: &Path, kind: FileType, device: u64) {
    mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device).unwrap();
}

fn give_away(path: &Path, user: Option<u32>, group: Option<u32>) {
    fs::write(path, GOOD).unwrap();
    chown(path, user, group).unwrap();
}

/// Names that are none.
const BAD_NAMES: [&[u8]; 41] = [
    b"new\nline.json",
    b"return\r.json",
    b"tab\t.json",
    b"\x1b[31mred.json",
    b"\x1b]0;title\x07.json",
    b"bell\x07.json",
    b"rub\x7fout.json",
    b"c1\xc2\x9b31m.json",
    "right\u{202e}nosj.json".as_bytes(),
    "wide\u{3000}space.json".as_bytes(),
    "zero\u{200b}width.json".as_bytes(),
    "\u{430}.json".as_bytes(),
    "e\u{301}.json".as_bytes(),
    "\u{e9}.json".as_bytes(),
    "\u{1f600}.json".as_bytes(),
    b"\xff\xfe.json",
    b"latin\xe9.json",
    b"surrogate\xed\xa0\x80.json",
    b"-rf.json",
    b"--spool=x.json",
    b"_x.json",
    b" before.json",
    b"be tween.json",
    b"after.json ",
    b"\"double\".json",
    b"'single'.json",
    b"$(touch pwned).json",
    b"`touch pwned`.json",
    b"a;touch pwned.json",
    b"a|b.json",
    b"a&b.json",
    b"a>b.json",
    b"*.json",
    b"?.json",
    b"[a].json",
    b"{a,b}.json",
    b"~root.json",
    b"back\\slash.json",
    b"#auto#",
    b"%n%s.json",
    b"a=b.json",
];

/// Names of files that would be good commands.
fn names() -> Vec<Case> {
    let long = |len: usize| format!("{}.json", "x".repeat(len - 5));
    let bad_name = |name: &[u8]| named(name, GOOD, Refused("bad_name", "drop it as"));
    let bad_end = |name: &str| text(name, GOOD, Refused("bad_extension", ".json (a command)"));
    let not_ours = |name: &str| text(name, GOOD, LeftAlone);
    let good = |name: &str| text(name, GOOD, Ends("succeeded"));
    let mut cases: Vec<Case> = BAD_NAMES.into_iter().map(bad_name).collect();
    cases.extend([
        bad_name(long(129).as_bytes()),
        bad_name(long(255).as_bytes()),
        bad_name(format!("{}.json", "\u{e9}".repeat(125)).as_bytes()),
        bad_name(&[b"\xff".repeat(250), b".json".to_vec()].concat()),
        bad_end("UPPER.JSON"),
        bad_end("plain.txt"),
        bad_end("no-extension"),
        bad_end("json"),
        bad_end("point."),
        bad_end("packed.json.gz"),
        bad_end("4913"),
        not_ours(".hidden.json"),
        not_ours("..json"),
        not_ours("...json"),
        not_ours("..x.json"),
        not_ours(".nfs000000000001.json"),
        not_ours("backup.json~"),
        not_ours("vim.json.swp"),
        not_ours("fetched.json.part"),
        not_ours("written.json.tmp"),
        good(&long(128)),
        good("two..points.json"),
        good("twice.json.json"),
        good("script.sh.json"),
        good("con.json"),
        good("01890a5d-ac96-774b-bcce-b302099a8001.json"),
        text("command.json.sh", "true\n", Ends("succeeded")),
        // The first would lie where the reason of the second does.
        text("reason.json.why.json", "{", Refused("invalid_json", "")),
        text("reason.json", "[", Refused("invalid_json", "")),
    ]);
    cases
}

/// Texts that are no JSON, or none that would be taken.
fn forms() -> Vec<Case> {
    let json = |name: &str, it: &str, kind, says| text(&format!("{name}.json"), it, Refused(kind, says));
    let invalid = |name: &str, it: &str| json(name, it, "invalid_json", "");
    let utf_16: Vec<u8> = GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let nested = |open: &str, times: usize| format!("{{\"run\":{}", open.repeat(times));
    // Each value here would have had its place spelled out, and each key been compared with all known ones.
    let long_key = "k".repeat(500_000);
    let wide = format!("{{\"{long_key}\":[{}0]}}", "0,".repeat(200_000));
    let large = format!("{{\"run\":[\"true\"]{}}}", " ".repeat(1 << 20));
    let largest = format!("{GOOD}{}", " ".repeat((1 << 20) - GOOD.len()));
    vec![
        json("empty", "", "empty", ""),
        text("empty.sh", "", Refused("empty", "")),
        text("empty.md", "", Refused("empty", "")),
        json("large", &large, "too_large", "1048576"),
        text("largest.json", largest, Ends("succeeded")),
        json("nuls", &"\0".repeat(600), "contains_nul", "byte 0"),
        json("nul-behind", &format!("{GOOD}\0"), "contains_nul", ""),
        json("nul-in-text", "{\"run\":[\"a\0b\"]}", "contains_nul", ""),
        json("nul-escaped", r#"{"run":["true","a\u0000b"]}"#, "contains_nul", "$.run[1]"),
        json("nul-in-key", r#"{"run":["true"],"env":{"A\u0000":"x"}}"#, "contains_nul", "$.env"),
        text("nul.sh", "echo a\0b\n", Refused("contains_nul", "")),
        text("latin.json", b"{\"shell\":\"echo \xe4\"}", Refused("not_utf8", "write the file as UTF-8")),
        text("overlong.json", b"{\"shell\":\"\xc0\xaf\"}", Refused("not_utf8", "")),
        text("latin.md", b"Gr\xfc\xdfe", Refused("not_utf8", "UTF-8")),
        text("binary.sh", b"\x7fELF\x02\x01\x01\x00\xff\xfe", Refused("not_utf8", "")),
        text("utf-16.json", [b"\xff\xfe".to_vec(), utf_16.clone()].concat(), Refused("not_utf8", "")),
        text("utf-16-bare.json", utf_16, Refused("contains_nul", "")),
        invalid("bom", &format!("\u{feff}{GOOD}")),
        json("cut", "{\"run\":[\"true\"", "invalid_json", "ends before"),
        invalid("surrogate", r#"{"shell":"\ud800"}"#),
        invalid("control", "{\"shell\":\"echo \u{1b}\"}"),
        invalid("two", &format!("{GOOD}\n{GOOD}")),
        invalid("behind", &format!("{GOOD} x")),
        invalid("comment", &format!("// why\n{GOOD}")),
        invalid("block-comment", &format!("/* why */{GOOD}")),
        invalid("single-quotes", "{'run':['true']}"),
        invalid("no-quotes", "{run:[\"true\"]}"),
        invalid("last-comma", "{\"run\":[\"true\",]}"),
        invalid("not-a-number", "{\"run\":[\"true\"],\"rank\":NaN}"),
        invalid("too-big-a-float", "{\"run\":[\"true\"],\"rank\":1e400}"),
        invalid("octal", "{\"run\":[\"true\"],\"rank\":007}"),
        invalid("yaml", "run: [true]\n"),
        json("twice", r#"{"run":["true"],"run":["false"]}"#, "duplicate_key", "$.run"),
        json("twice-below", r#"{"run":["true"],"env":{"A":"1","A":"2"}}"#, "duplicate_key", "$.env.A"),
        json("twice-escaped", r#"{"run":["true"],"r\u0075n":["false"]}"#, "duplicate_key", "$.run"),
        json("deep", &nested("[", 100_000), "too_deep", "64"),
        json("deep-objects", &nested("{\"a\":", 100_000), "too_deep", "64"),
        json("long-key", &format!("{{\"{long_key}\":1}}"), "missing_key", ""),
        json(
            "long-unknown-key",
            &format!("{{\"run\":[\"true\"],\"{long_key}\":1}}"),
            "unknown_key",
            "known are",
        ),
        json("wide", &wide, "too_large", ""),
        json("array", "[\"true\"]", "wrong_type", "$"),
        json("text", "\"true\"", "wrong_type", "$"),
        json("number", "1", "wrong_type", "$"),
        json("nothing", "null", "wrong_type", "$"),
    ]
}

/// The place that a refusal must name, what a command says, the kind of refusal, and what else must be said.
type Said = (&'static str, &'static str, &'static str, &'static str);

/// Each is added to a submit that would be good.
const KEYS: [Said; 55] = [
    ("$.name", r#""name":5"#, "wrong_type", ""),
    ("$.name", r#""name":"../x""#, "wrong_type", "a name (letters"),
    ("$.name", r#""name":"a/b""#, "wrong_type", ""),
    ("$.name", r#""name":"\u001b[31m""#, "wrong_type", ""),
    ("$.queue", r#""queue":["default"]"#, "wrong_type", ""),
    ("$.queue", r#""queue":"../../default""#, "wrong_type", ""),
    ("$.tenant", r#""tenant":{}"#, "wrong_type", ""),
    ("$.project", r#""project":true"#, "wrong_type", ""),
    ("$.item", r#""item":["a"]"#, "wrong_type", ""),
    ("$.item", r#""item":"two\nlines""#, "invalid_value", "one line"),
    ("$.extra", r#""extra":"more""#, "conflict", "only a prompt"),
    ("$.agent", r#""agent":"default""#, "conflict", "only a prompt"),
    ("$.agent", r#""agent":5"#, "wrong_type", ""),
    ("$", r#""shell":"true""#, "conflict", "only one of"),
    ("$.directory", r#""directory":5"#, "wrong_type", ""),
    ("$.directory", r#""directory":"""#, "invalid_value", "absolute"),
    ("$.directory", r#""directory":"../../etc""#, "invalid_value", "absolute"),
    ("$.directory", r#""directory":"~/x""#, "invalid_value", "absolute"),
    ("$.workspace", r#""workspace":"none""#, "wrong_type", ""),
    ("$.workspace", r#""workspace":["none"]"#, "wrong_type", "an array"),
    ("$.workspace.kind", r#""workspace":{"kind":"tree"}"#, "wrong_type", "tree"),
    ("$.workspace.knd", r#""workspace":{"knd":"none"}"#, "unknown_key", "\"kind\""),
    ("$.workspace.kind", r#""directory":"/","workspace":{"kind":"none"}"#, "conflict", ""),
    ("$.workspace.base", r#""workspace":{"base":5}"#, "wrong_type", ""),
    ("$.workspace.base", r#""workspace":{"base":"--upload-pack=x"}"#, "invalid_value", "git"),
    ("$.workspace.branch", r#""workspace":{"branch":"../../HEAD"}"#, "invalid_value", "git"),
    ("$.workspace.branch", r#""workspace":{"branch":"a\u0007b"}"#, "invalid_value", "git"),
    ("$.workspace.branch", r#""workspace":{"branch":"-D"}"#, "invalid_value", "git"),
    ("$.workspace.cleanup", r#""workspace":{"cleanup":"everything"}"#, "wrong_type", ""),
    ("$.env", r#""env":["A=B"]"#, "wrong_type", ""),
    ("$.env", r#""env":{"A":1}"#, "wrong_type", ""),
    ("$.env.A=B", r#""env":{"A=B":"x"}"#, "invalid_value", "variable"),
    ("$.env.", r#""env":{"":"x"}"#, "invalid_value", "variable"),
    ("$.env.GITSPOOL_TOKEN", r#""env":{"GITSPOOL_TOKEN":"x"}"#, "not_permitted", "GITSPOOL_"),
    ("$.timeout_seconds", r#""timeout_seconds":0"#, "invalid_value", "at least 1"),
    ("$.timeout_seconds", r#""timeout_seconds":-1"#, "wrong_type", ""),
    ("$.timeout_seconds", r#""timeout_seconds":1.5"#, "wrong_type", ""),
    ("$.timeout_seconds", r#""timeout_seconds":1e3"#, "wrong_type", ""),
    ("$.timeout_seconds", r#""timeout_seconds":99999999999999999999"#, "wrong_type", ""),
    ("$.timeout_seconds", r#""timeout_seconds":"5""#, "wrong_type", ""),
    ("$.grace_seconds", r#""grace_seconds":{}"#, "wrong_type", ""),
    ("$.output", r#""output":"file""#, "wrong_type", ""),
    ("$.held", r#""held":"yes""#, "wrong_type", ""),
    ("$.rank", r#""rank":100"#, "wrong_type", "0 to 99"),
    ("$.rank", r#""rank":-1"#, "wrong_type", ""),
    ("$.rank", r#""rank":"1""#, "wrong_type", ""),
    ("$.id", r#""id":"../../etc""#, "wrong_type", "UUIDv7"),
    ("$.id", r#""id":"7a8b3d3e-1f1e-4c7b-9d9a-000000000000""#, "wrong_type", "UUIDv7"),
    ("$.id", r#""id":"01890A5D-AC96-774B-BCCE-B302099A8001""#, "wrong_type", "UUIDv7"),
    ("$.timeout", r#""timeout":5"#, "unknown_key", "timeout_seconds"),
    ("$.format", r#""format":99"#, "unknown_key", "known are"),
    ("$.__proto__", r#""__proto__":{}"#, "unknown_key", ""),
    ("$.type", r#""type":5"#, "wrong_type", ""),
    ("$.type", r#""type":"task.submitted""#, "unknown_type", "known are"),
    ("$.type", r#""type":"SUBMIT""#, "unknown_type", "\"submit\""),
];

/// Whole commands.
const WHOLE: [Said; 15] = [
    ("$", "{}", "missing_key", "shell"),
    ("$.run", r#"{"run":[]}"#, "invalid_value", ""),
    ("$.run", r#"{"run":[""]}"#, "invalid_value", ""),
    ("$.run", r#"{"run":"make"}"#, "wrong_type", "make"),
    ("$.run[1]", r#"{"run":["make",1]}"#, "wrong_type", ""),
    ("$.shell", r#"{"shell":" \n\t"}"#, "invalid_value", ""),
    ("$.shell", r#"{"shell":["true"]}"#, "wrong_type", ""),
    ("$.script", r#"{"script":1}"#, "wrong_type", ""),
    ("$.prompt", r#"{"prompt":""}"#, "invalid_value", ""),
    ("$.type", r#"{"type":"cancle","target":"x"}"#, "unknown_type", "\"cancel\""),
    ("$", r#"{"type":"cancel"}"#, "missing_key", "target"),
    ("$.target", r#"{"type":"hold","target":["a"]}"#, "wrong_type", ""),
    ("$.rank", r#"{"type":"rerank","target":"a","rank":1000}"#, "wrong_type", ""),
    ("$.run", r#"{"type":"cancel","target":"a","run":["true"]}"#, "unknown_key", ""),
    ("$", r#"{"type":"note","text":"hello"}"#, "missing_key", "token"),
];

/// Commands that make sense, and cannot be carried out.
const DENIED: [Said; 7] = [
    ("$.queue", r#"{"run":["true"],"queue":"defualt"}"#, "not_found", "default"),
    ("$.agent", r#"{"prompt":"do it","agent":"nobody"}"#, "not_found", "agents/nobody.json"),
    ("$.target", r#"{"type":"cancel","target":"nothing"}"#, "not_found", "ls"),
    ("$.target", r#"{"type":"cancel","target":"../../etc/passwd"}"#, "not_found", "ls"),
    ("$.target", r#"{"type":"release","target":""}"#, "not_found", ""),
    ("$.token", r#"{"type":"note","token":"","text":"x"}"#, "not_permitted", ""),
    ("$.directory", r#"{"run":["true"],"workspace":{"kind":"worktree"}}"#, "missing_key", "spool.json"),
];

/// Commands that say what none may say.
fn commands() -> Vec<Case> {
    let mut cases = Vec::new();
    for (place, keys, kind, says) in KEYS {
        let whole = format!("{{\"run\":[\"true\"],{keys}}}");
        cases.push((format!("key-{}.json", cases.len()), whole, Refused(kind, says), place));
    }
    for (place, whole, kind, says) in WHOLE {
        cases.push((format!("key-{}.json", cases.len()), whole.to_owned(), Refused(kind, says), place));
    }
    for (place, whole, kind, says) in DENIED {
        cases.push((format!("key-{}.json", cases.len()), whole.to_owned(), Denied(kind, says), place));
    }
    cases
        .into_iter()
        .map(|(name, whole, fate, place)| Case { fate: at(fate, place), ..text(&name, whole, fate) })
        .collect()
}

/// What is said of a command names the place too.
fn at(fate: Fate, place: &'static str) -> Fate {
    match fate {
        Refused(kind, "") => Refused(kind, place),
        Denied(kind, "") => Denied(kind, place),
        Refused(..) | Denied(..) | Ends(_) | LeftAlone => fate,
    }
}

/// What is taken, however odd it is, and what comes of it.
fn taken() -> Vec<Case> {
    let argument = |bytes: usize| json!({"run": ["true", "x".repeat(bytes)]}).to_string();
    let arguments = json!({"run": vec!["true"; 30_000]}).to_string();
    let id = "ffffffff-ffff-7fff-bfff-fffffffffff1";
    let first_id = "00000000-0000-7000-8000-000000000001";
    vec![
        text("many-arguments.json", arguments, Ends("succeeded")),
        // Longer than what the system passes to a program.
        text("long-argument.json", argument(500_000), Ends("failed")),
        text(
            "long-shell.json",
            json!({"shell": format!("true {}", "x".repeat(500_000))}).to_string(),
            Ends("failed"),
        ),
        text("long-script.sh", format!("true\n# {}\n", "x".repeat(900_000)), Ends("succeeded")),
        text(
            "for-ever.json",
            format!("{{\"run\":[\"true\"],\"timeout_seconds\":{0},\"grace_seconds\":{0}}}", u64::MAX),
            Ends("succeeded"),
        ),
        text("far-future.json", json!({"run": ["true"], "id": id}).to_string(), Ends("succeeded")),
        text("far-past.json", json!({"run": ["true"], "id": first_id}).to_string(), Ends("succeeded")),
        text(
            "escapes.json",
            json!({"run": ["echo", "\u{1b}[31m\u{202e}"], "item": "\u{202e}"}).to_string(),
            Ends("succeeded"),
        ),
        text(
            "odd-variable.json",
            json!({"run": ["true"], "env": {"a\nb \u{1b}": "\n"}}).to_string(),
            Ends("succeeded"),
        ),
        text(
            "nowhere.json",
            json!({"run": ["true"], "directory": "/nowhere/../at all"}).to_string(),
            Ends("failed"),
        ),
        text(
            "no-folder.json",
            json!({"run": ["true"], "directory": "/proc/self/environ"}).to_string(),
            Ends("failed"),
        ),
        text("no-program.json", json!({"run": ["\u{1b}[31m/../no such"]}).to_string(), Ends("failed")),
        text("plain.sh", "true", Ends("succeeded")),
        text("crlf.sh", "#!/bin/sh\r\ntrue\r\n", Ends("failed")),
        text("no-interpreter.sh", "#!/no/such/interpreter\ntrue\n", Ends("failed")),
        text("blank.sh", " \n", Refused("invalid_value", "$.script")),
        text("binary-but-text.sh", "\u{1}\u{2}\u{3}\n", Ends("failed")),
        text("blank.md", "\n\n", Refused("invalid_value", "$.prompt")),
        text("matter.md", "---\nagent: nobody\nqueue: ../x\n---\nDo it.\n", Ends("succeeded")),
        text("escape.md", "\u{1b}[2J\u{202e}Do it.\n", Ends("succeeded")),
    ]
}

/// What lies at a path, as far as a refusal must leave it alone: inode, length, mode, owner, times but that of the last
/// change of these, and the content of what is small or the target of a link.
#[derive(Debug, PartialEq)]
struct Likeness([u64; 8], Vec<u8>);

fn likeness(path: &Path) -> Likeness {
    let meta = path.symlink_metadata().unwrap();
    let content = match () {
        () if meta.is_symlink() => fs::read_link(path).unwrap().into_os_string().into_encoded_bytes(),
        // Empty too for what we may not read.
        () if meta.is_file() && meta.len() < 10_000_000 => fs::read(path).unwrap_or_default(),
        () => Vec::new(),
    };
    let seconds = |seconds: i64| seconds.unsigned_abs();
    let facts = [
        meta.ino(),
        meta.len(),
        u64::from(meta.mode()),
        u64::from(meta.uid()),
        u64::from(meta.gid()),
        meta.nlink(),
        seconds(meta.mtime()),
        seconds(meta.mtime_nsec()),
    ];
    Likeness(facts, content)
}

/// All that lies in the sandbox beside the spool and its state, and whether a file was read since it was looked at here
/// last. Directories are read by looking.
fn surroundings(sandbox: &Sandbox) -> BTreeMap<PathBuf, (bool, Likeness)> {
    let never = FileTimes::new().set_accessed(SystemTime::UNIX_EPOCH);
    let mut all = BTreeMap::new();
    for folder in ["home", "outside"] {
        for entry in walkdir::WalkDir::new(sandbox.path(folder)).into_iter().flatten() {
            let was_read = entry.file_type().is_file() && entry.path().metadata().unwrap().atime() != 0;
            all.insert(entry.path().to_owned(), (was_read, likeness(entry.path())));
            if entry.file_type().is_file() {
                File::open(entry.path()).unwrap().set_times(never).unwrap();
            }
        }
    }
    all
}

/// The receipts of refused files by the inodes of these; a name may be the same after what is in it was replaced.
fn refusals(sandbox: &Sandbox) -> BTreeMap<u64, Value> {
    let receipts = files_below(&sandbox.spool("receipts")).into_iter().filter_map(|path| read_json(&path));
    let inode = |receipt: &Value| {
        let refused = sandbox.spool(receipt["refused_file"].as_str()?);
        Some(refused.symlink_metadata().unwrap_or_else(|error| panic!("{receipt}: {error}")).ino())
    };
    receipts.filter_map(|receipt| Some((inode(&receipt)?, receipt))).collect()
}

#[test]
fn every_hostile_file_has_its_fate_and_delays_no_other() {
    let mut sandbox = Sandbox::new();
    // Many of them cannot be started, and that is their own fault.
    sandbox.set_queue(&json!({"slots": 4, "breaker": 0}));
    // Nothing settles under the first daemon.
    sandbox.set_settle_ms(3_600_000);
    fs::write(sandbox.outside("victim.json"), GOOD).unwrap();
    fs::write(sandbox.spool("agents/default.json"), r#"{"driver":"exec","argv":["cat"]}"#).unwrap();
    let made = sandbox.path("made");
    fs::create_dir(&made).unwrap();
    let cases: Vec<Case> =
        [kinds_of_files(), names(), forms(), commands(), taken()].into_iter().flatten().collect();
    assert!(cases.len() >= 80, "{} cases", cases.len());
    let mut names = BTreeSet::new();
    for case in &cases {
        assert!(names.insert(&case.name), "{:?} is there twice", case.name);
    }
    for case in &cases {
        let path = made.join(&case.name);
        match &case.made {
            Made::Text(text) => fs::write(path, text).unwrap(),
            Made::By(make) => make(&sandbox, &path),
        }
    }
    let before: Vec<Likeness> = cases.iter().map(|case| likeness(&made.join(&case.name))).collect();
    surroundings(&sandbox);
    let around = surroundings(&sandbox);
    sandbox.start();
    for case in &cases {
        fs::rename(made.join(&case.name), sandbox.spool("inbox").join(&case.name)).unwrap();
    }
    sandbox.carry_out("good", &json!({"run": ["true"]}));
    let first = sandbox.daemon_pid();
    for (_, receipt) in refusals(&sandbox) {
        let name = receipt["command"].as_str().unwrap();
        let denied = cases.iter().any(|case| case.name == name && matches!(case.fate, Denied(..)));
        assert!(denied, "{name} was refused before it had settled: {receipt}");
    }
    assert!(sandbox.daemon_lives());
    sandbox.stop();
    sandbox.set_settle_ms(50);
    sandbox.start();
    assert_ne!(sandbox.daemon_pid(), first);
    let refused = cases.iter().filter(|case| matches!(case.fate, Refused(..) | Denied(..))).count();
    sandbox.wait_until("every refusal", || refusals(&sandbox).len() >= refused);
    let changed: Vec<PathBuf> = {
        let now = surroundings(&sandbox);
        let of = |path: &PathBuf| now.get(path) != around.get(path);
        now.keys().chain(around.keys()).filter(|path| of(path)).cloned().collect()
    };
    assert_eq!(changed, [""; 0].map(PathBuf::from), "what lies outside was read or changed");
    let refusals = refusals(&sandbox);
    let mut wrong = Vec::new();
    for (case, before) in cases.iter().zip(&before) {
        let answered = answer(&sandbox, case, before, refusals.get(&before.0[0]));
        wrong.extend(answered.err().map(|problem| format!("{:?} {:?}: {problem}", case.name, case.fate)));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    for case in cases.iter().filter(|case| matches!(case.fate, LeftAlone)) {
        fs::remove_file(sandbox.spool("inbox").join(&case.name)).unwrap();
    }
    assert!(sandbox.daemon_lives());
    check(&mut sandbox);
}

/// Checks the fate of a case.
fn answer(sandbox: &Sandbox, case: &Case, before: &Likeness, receipt: Option<&Value>) -> Result<(), String> {
    let (kind, says) = match case.fate {
        Ends(outcome) => {
            let receipt = sandbox.receipt(case.name.to_str().unwrap());
            let task = receipt["task"].as_str().ok_or_else(|| receipt.to_string())?;
            let ended = sandbox.outcome(task);
            return if ended == outcome { Ok(()) } else { Err(format!("it {ended}")) };
        }
        LeftAlone => {
            let there = sandbox.spool("inbox").join(&case.name);
            let same = there.symlink_metadata().is_ok() && likeness(&there) == *before;
            return if same { Ok(()) } else { Err("it was touched".to_owned()) };
        }
        Refused(kind, says) | Denied(kind, says) => (kind, says),
    };
    let receipt = receipt.ok_or("it has no receipt")?;
    let refusal = &receipt["refusal"];
    if refusal["kind"] != kind || refusal["message"].as_str().is_none_or(str::is_empty) {
        return Err(format!("{refusal}"));
    }
    let said = ["message", "path", "hint"].map(|key| refusal[key].as_str().unwrap_or_default()).join("\n");
    if !said.contains(says) || said.len() > 20_000 {
        return Err(format!("it does not say {says:?}: {refusal}"));
    }
    let refused = sandbox.spool(receipt["refused_file"].as_str().unwrap());
    if likeness(&refused) != *before {
        return Err(format!("{} is not what was dropped", refused.display()));
    }
    let why = PathBuf::from(format!("{}.why.json", refused.display()));
    if read_json(&why).as_ref() == Some(refusal) {
        Ok(())
    } else {
        Err("its reason is not beside it".to_owned())
    }
}

#[test]
fn a_file_that_grows_or_shrinks_is_judged_when_its_writer_has_closed_it() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(50);
    sandbox.start();
    let mut grows = sandbox.begin_to_write("grows.json", GOOD.as_bytes());
    let shrinks = sandbox.begin_to_write("shrinks.json", format!("{GOOD}{}", " ".repeat(1000)).as_bytes());
    for step in 1..=5 {
        assert_eq!(sandbox.carry_out(&format!("other-{step}"), &json!({"run": ["true"]})).1, "succeeded");
        grows.write_all(b" ").unwrap();
        shrinks.set_len(u64::try_from(GOOD.len()).unwrap() + 6 - step).unwrap();
    }
    assert_eq!((sandbox.receipt_now("grows.json"), sandbox.receipt_now("shrinks.json")), (None, None));
    shrinks.set_len(7).unwrap();
    drop((grows, shrinks));
    let receipt = sandbox.receipt("shrinks.json");
    assert_eq!(receipt["refusal"]["kind"], "invalid_json", "{receipt}");
    let refused = fs::read(sandbox.spool(receipt["refused_file"].as_str().unwrap())).unwrap();
    assert_eq!(refused, &GOOD.as_bytes()[..7]);
    assert_eq!(sandbox.outcome(sandbox.receipt("grows.json")["task"].as_str().unwrap()), "succeeded");
    check(&mut sandbox);
}

/// What is swapped under one name while the daemon looks at it: the text says what it is.
const SWAPPED: [(&str, &str); 3] = [
    ("accepted", r#"{"run":["true"],"held":true}"#),
    ("invalid_json", "{"),
    ("unknown_key", r#"{"run":["a"],"no":1}"#),
];

#[test]
fn a_file_that_is_swapped_while_it_is_looked_at_is_answered_for_what_it_is() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(0);
    fs::write(sandbox.outside("victim.json"), SWAPPED[0].1).unwrap();
    sandbox.start();
    let (inbox, outside) = (sandbox.spool("inbox/x.json"), sandbox.path("outside"));
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (number, (_, text)) in SWAPPED.iter().cycle().enumerate() {
                if enough.load(Ordering::Relaxed) {
                    return;
                }
                let aside = outside.join("aside");
                // Each seventh is a link to what would be taken.
                if number % 7 == 0 {
                    symlink("victim.json", &aside).unwrap();
                } else {
                    fs::write(&aside, text).unwrap();
                }
                fs::rename(&aside, &inbox).unwrap();
            }
        });
        let told = || sandbox.log().iter().filter(|line| line["command"].is_object()).count();
        sandbox.wait_until("three hundred answers", || told() > 300);
        enough.store(true, Ordering::Relaxed);
    });
    sandbox.wait_until("an answer to the last", || !inbox.exists() && !inbox.is_symlink());
    check(&mut sandbox);
    for receipt in files_below(&sandbox.spool("receipts")).iter().filter_map(|path| read_json(path)) {
        let Some(refused) = receipt["refused_file"].as_str() else { continue };
        let refused = sandbox.spool(refused);
        let kind = match fs::read_link(&refused) {
            Ok(_) => "symlink",
            Err(_) => {
                let text = fs::read_to_string(&refused).unwrap();
                SWAPPED.iter().find(|(_, known)| *known == text).map_or("torn", |(kind, _)| kind)
            }
        };
        assert_eq!(receipt["refusal"]["kind"], kind, "{receipt}");
    }
    assert_eq!(fs::read_to_string(sandbox.outside("victim.json")).unwrap(), SWAPPED[0].1);
}

/// How long the daemon takes to answer a good file, in microseconds.
fn answered_after(sandbox: &Sandbox, name: &str) -> u128 {
    let aside = sandbox.path("aside.json");
    fs::write(&aside, r#"{"run":["true"],"held":true}"#).unwrap();
    let begun = Instant::now();
    fs::rename(aside, sandbox.spool("inbox").join(name)).unwrap();
    while sandbox.receipt_now(name).is_none() {
        assert!(begun.elapsed().as_secs() < 60, "{name} is not answered");
        std::thread::yield_now();
    }
    begun.elapsed().as_micros()
}

fn median(times: &mut [u128]) -> u128 {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Drops a good file beside each hostile one, and one alone. `DELAY_ROUNDS` says how often, and then the times are told, as
/// a line of JSON; without it a part of the table is gone through once, to see that it can be.
#[test]
fn a_good_file_is_answered_while_a_hostile_one_is_left_to_settle() {
    let rounds: Option<usize> = std::env::var("DELAY_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(0);
    sandbox.set_settle_ms(3_600_000);
    fs::write(sandbox.outside("victim.json"), GOOD).unwrap();
    sandbox.start();
    let cases: Vec<Case> =
        [kinds_of_files(), names(), forms(), commands(), taken()].into_iter().flatten().collect();
    let step = if rounds.is_some() { 1 } else { 12 };
    let mut worst: Vec<(u128, u128, OsString)> = Vec::new();
    let mut alone = Vec::new();
    for (number, case) in cases.iter().enumerate().step_by(step) {
        let mut beside = Vec::new();
        for round in 0..rounds.unwrap_or(1) {
            alone.push(answered_after(&sandbox, &format!("alone-{number}-{round}.json")));
            let (made, there) = (sandbox.path("hostile"), sandbox.spool("inbox").join(&case.name));
            match &case.made {
                Made::Text(text) => fs::write(&made, text).unwrap(),
                Made::By(make) => make(&sandbox, &made),
            }
            fs::rename(&made, &there).unwrap();
            beside.push(answered_after(&sandbox, &format!("beside-{number}-{round}.json")));
            let settles = matches!(case.fate, Refused(..) | LeftAlone);
            assert_eq!(there.symlink_metadata().is_ok(), settles, "{:?}: {:?}", case.name, case.fate);
            match there.symlink_metadata() {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&there).unwrap(),
                Ok(_) => fs::remove_file(&there).unwrap(),
                Err(_) => {}
            }
        }
        let most = beside.iter().copied().max().unwrap_or(0);
        worst.push((median(&mut beside), most, case.name.clone()));
    }
    check(&mut sandbox);
    if rounds.is_none() {
        return;
    }
    worst.sort();
    for (median, most, name) in worst.iter().rev().take(10) {
        eprintln!("{median:>8} us, at most {most:>8} us beside {name:?}");
    }
    let mut medians: Vec<u128> = worst.iter().map(|(median, ..)| *median).collect();
    let (slowest, _, name) = worst.last().unwrap();
    let alone_most = alone.iter().copied().max().unwrap_or(0);
    let alone = median(&mut alone);
    let told = json!({
        "cases": worst.len(), "rounds": rounds, "alone_median_us": alone, "alone_max_us": alone_most,
        "beside_median_us": median(&mut medians), "beside_max_us": worst.iter().map(|(_, most, _)| *most).max(),
        "slowest_case": name.to_string_lossy(), "slowest_case_median_us": slowest,
        "slowest_case_delay_us": slowest.saturating_sub(alone),
    });
    eprintln!("DELAYS {told}");
}
