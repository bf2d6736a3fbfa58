//! Files that are refused: byte for byte in `refused/`, with the reason beside them and in the receipt.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, read_json};

/// What lies at a path, as far as a refusal must leave it alone: inode, length, and the content of what is small.
fn likeness(path: &Path) -> (u64, u64, Vec<u8>) {
    let meta = path.symlink_metadata().unwrap();
    let small = meta.is_file() && meta.len() < 10_000_000;
    (meta.ino(), meta.len(), if small { fs::read(path).unwrap() } else { Vec::new() })
}

/// Files that are no commands, whatever they contain: makes one at the path that it is given.
type Make = fn(&Sandbox, &Path);

const NO_FILES: [(&str, Make, &str, &str); 7] = [
    ("link.json", |sandbox, path| symlink(sandbox.outside("victim.json"), path).unwrap(), "symlink", "copy"),
    ("dangling.json", |_, path| symlink("/nowhere/at/all", path).unwrap(), "symlink", "copy"),
    (
        "hard.json",
        |sandbox, path| fs::hard_link(sandbox.outside("victim.json"), path).unwrap(),
        "hard_link",
        "copy",
    ),
    ("fifo.json", |sandbox, path| drop(sandbox.sh("mkfifo \"$1\"", path)), "not_a_file", ""),
    ("folder.json", |_, path| fs::create_dir_all(path.join("inner")).unwrap(), "not_a_file", ""),
    ("socket.json", |_, path| drop(UnixListener::bind(path).unwrap()), "not_a_file", ""),
    ("sparse.json", |_, path| File::create(path).unwrap().set_len(1 << 30).unwrap(), "too_large", ""),
];

/// Texts that are no commands: name, text, kind, and what the message, the place or the hint must say.
fn no_texts() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let deep = format!("{{\"run\":{}", "[".repeat(100_000));
    let large = format!("{{\"run\":[\"true\"]{}}}", " ".repeat(1 << 20));
    let text = |name, text: &str, kind, says| (name, text.as_bytes().to_vec(), kind, says);
    vec![
        text("large.json", &large, "too_large", ""),
        text("empty.json", "", "empty", ""),
        text("empty.sh", "", "empty", ""),
        text("nul.sh", "echo a\0b\n", "contains_nul", ""),
        ("latin.json", b"{\"shell\":\"echo \xe4\"}".to_vec(), "not_utf8", "UTF-8"),
        ("latin.md", b"Gr\xfc\xdfe".to_vec(), "not_utf8", "UTF-8"),
        text("bom.json", "\u{feff}{\"run\":[\"true\"]}", "invalid_json", ""),
        text("cut.json", "{\"run\":[\"true\"", "invalid_json", "ends before"),
        text("twice.json", "{\"run\":[\"true\"],\"run\":[\"false\"]}", "duplicate_key", "$.run"),
        text("deep.json", &deep, "too_deep", ""),
        text("array.json", "[\"true\"]", "wrong_type", "$"),
        text("place.json", "{\"run\":[\"true\"],\"workspace\":[\"none\"]}", "wrong_type", "$.workspace"),
        text("key.json", "{\"run\":[\"true\"],\"timeout\":5}", "unknown_key", "timeout_seconds"),
        text("type.json", "{\"type\":\"cancle\",\"target\":\"x\"}", "unknown_type", "\"cancel\""),
        text("none.json", "{}", "missing_key", "shell"),
        text("nothing.json", "{\"run\":[]}", "invalid_value", "$.run"),
        text("both.json", "{\"run\":[\"true\"],\"shell\":\"true\"}", "conflict", ""),
        text(
            "ours.json",
            "{\"run\":[\"true\"],\"env\":{\"GITSPOOL_RUN\":\"x\"}}",
            "not_permitted",
            "GITSPOOL_",
        ),
        text("queue.json", "{\"run\":[\"true\"],\"queue\":\"defualt\"}", "not_found", "default"),
        text("agent.json", "{\"prompt\":\"do it\",\"agent\":\"nobody\"}", "not_found", "agents/nobody.json"),
        text("target.json", "{\"type\":\"cancel\",\"target\":\"nothing\"}", "not_found", "$.target"),
        text("climb.json", "{\"run\":[\"true\"],\"name\":\"../x\"}", "wrong_type", "$.name"),
        text("a b.json", "{\"run\":[\"true\"]}", "bad_name", "a-b.json"),
        text("plain.txt", "{\"run\":[\"true\"]}", "bad_extension", ".json"),
        text("no-extension", "{\"run\":[\"true\"]}", "bad_extension", ".json"),
    ]
}

#[test]
fn what_is_no_command_is_refused_with_its_reason_and_delays_no_other() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(3000);
    fs::write(sandbox.outside("victim.json"), "{\"run\":[\"true\"]}").unwrap();
    fs::create_dir(sandbox.outside("made")).unwrap();
    let made = sandbox.outside("made");
    let mut expected: Vec<(&str, &str, &str)> = Vec::new();
    for (name, make, kind, says) in NO_FILES {
        make(&sandbox, &made.join(name));
        expected.push((name, kind, says));
    }
    let texts = no_texts();
    for (name, text, kind, says) in &texts {
        fs::write(made.join(name), text).unwrap();
        expected.push((name, kind, says));
    }
    if chown(&made.join("foreign.json"), "{\"run\":[\"true\"]}") {
        expected.push(("foreign.json", "foreign_owner", "65534"));
    }
    let before: Vec<_> = expected.iter().map(|(name, ..)| likeness(&made.join(name))).collect();
    sandbox.start();
    for (name, ..) in &expected {
        fs::rename(made.join(name), sandbox.spool("inbox").join(name)).unwrap();
    }
    let good = sandbox.ask("good.json", &json!({"run": ["true"]}));
    sandbox.outcome(good["task"].as_str().unwrap());
    for ((name, kind, says), before) in expected.iter().zip(before) {
        let receipt = sandbox.receipt(if *name == "a b.json" { "_a_b.json" } else { name });
        // What makes sense is looked up at once, and then not found; all else was still settling.
        let settled = *kind == "not_found" || good["seq"].as_u64() < receipt["seq"].as_u64();
        assert!(settled, "{name} was refused before it had settled: {receipt}");
        let refusal = &receipt["refusal"];
        assert_eq!(&refusal["kind"], kind, "{name}: {receipt}");
        assert!(
            refusal.to_string().replace("\\\"", "\"").contains(says),
            "{name} does not say {says}: {refusal}"
        );
        let refused = sandbox.spool(receipt["refused_file"].as_str().unwrap());
        assert_eq!(likeness(&refused), before, "{name} is not what was dropped");
        let why = format!("{}.why.json", refused.display());
        assert_eq!(read_json(Path::new(&why)).as_ref(), Some(refusal), "{name}");
    }
    assert_eq!(fs::read(sandbox.outside("victim.json")).unwrap(), b"{\"run\":[\"true\"]}");
    check(&mut sandbox);
}

/// Makes a file that belongs to nobody; only root can.
fn chown(path: &Path, text: &str) -> bool {
    fs::write(path, text).unwrap();
    if std::os::unix::fs::chown(path, Some(65534), None).is_ok() {
        return true;
    }
    eprintln!("SKIPPED: a file of another user can be made by root only");
    fs::remove_file(path).unwrap();
    false
}

#[test]
fn a_refused_fifo_does_not_keep_checkpoints_from_being_written() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(50);
    sandbox.start();
    sandbox.sh("mkfifo \"$1\"", &sandbox.spool("inbox/pipe.json"));
    let socket = UnixListener::bind(sandbox.spool("inbox/socket.json")).unwrap();
    let last =
        sandbox.receipt("pipe.json")["seq"].as_u64().max(sandbox.receipt("socket.json")["seq"].as_u64());
    sandbox.wait_until("a checkpoint behind the refusals", || checkpoint_seq(&sandbox) >= last);
    let later = sandbox.submit("later", &json!({"run": ["true"]}));
    sandbox.outcome(&later);
    let last = sandbox.moves(&later).last().and_then(|line| line["seq"].as_u64());
    sandbox.wait_until("one more checkpoint", || checkpoint_seq(&sandbox) >= last);
    let pipe = sandbox.spool(sandbox.receipt("pipe.json")["refused_file"].as_str().unwrap());
    assert!(pipe.symlink_metadata().unwrap().file_type().is_fifo());
    drop(socket);
    check(&mut sandbox);
}

fn checkpoint_seq(sandbox: &Sandbox) -> Option<u64> {
    read_json(&sandbox.spool(".local/checkpoint.json")).and_then(|checkpoint| checkpoint["seq"].as_u64())
}

#[test]
fn nothing_is_taken_from_an_inbox_that_others_can_write_to() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(50);
    sandbox.start();
    let inbox = sandbox.spool("inbox");
    for mode in [0o770, 0o702] {
        fs::set_permissions(&inbox, fs::Permissions::from_mode(mode)).unwrap();
        let receipt = sandbox.ask("open.json", &json!({"run": ["true"]}));
        assert_eq!(receipt["refusal"]["kind"], "inbox_writable", "{receipt}");
        assert!(receipt["refusal"]["hint"].as_str().unwrap().contains("chmod 700"), "{receipt}");
    }
    fs::set_permissions(&inbox, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(sandbox.ask("open.json", &json!({"run": ["true"]}))["accepted"], true);
    sandbox.wait_until("its end", || sandbox.log().iter().any(|line| line["by"] == "run"));
    check(&mut sandbox);
}

#[test]
fn a_name_that_two_tasks_have_is_ambiguous_and_moves_neither() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let command = json!({"run": ["true"], "name": "twin", "held": true});
    let tasks = [sandbox.submit("a", &command), sandbox.submit("b", &command)];
    let receipt = sandbox.cancel("which.json", "twin");
    assert_eq!(receipt["refusal"]["kind"], "ambiguous", "{receipt}");
    for task in &tasks {
        assert!(receipt.to_string().contains(task.as_str()), "{receipt}");
        sandbox.wait_in("held", task);
        let end: String = task.chars().skip(24).collect();
        assert_eq!(
            sandbox.cancel(&format!("{task}.json"), &end)["accepted"],
            true,
            "the end of an id is enough"
        );
        sandbox.wait_in("cancelled", task);
    }
    check(&mut sandbox);
}

#[test]
fn two_refused_files_of_one_name_are_both_kept() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(50);
    sandbox.start();
    let receipts: Vec<Value> = ["{", "["]
        .iter()
        .map(|text| {
            let earlier = sandbox.receipt_now("same.json").map(|receipt| receipt["seq"].clone());
            sandbox.drop_by_mv("same.json", text);
            sandbox.wait("the receipt", || {
                sandbox.receipt_now("same.json").filter(|receipt| Some(&receipt["seq"]) != earlier.as_ref())
            })
        })
        .collect();
    let read = |receipt: &Value| {
        fs::read_to_string(sandbox.spool(receipt["refused_file"].as_str().unwrap())).unwrap()
    };
    assert_eq!((read(&receipts[0]), read(&receipts[1])), ("{".to_owned(), "[".to_owned()));
    check(&mut sandbox);
}
