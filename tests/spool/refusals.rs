//! Files that are refused: byte for byte in `refused/`, with the reason beside them and in the receipt.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::{Sandbox, read_json};

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

#[test]
fn a_refused_file_that_is_called_like_the_reason_of_another_is_not_replaced_by_it() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(50);
    sandbox.start();
    let files = [("x.json.why.json", "{"), ("x.json", "["), ("x.json.why.json.why.json", "(")];
    for (name, text) in files {
        sandbox.drop_by_mv(name, text);
        sandbox.receipt(name);
    }
    for (name, text) in files {
        let receipt = sandbox.receipt(name);
        let refused = sandbox.spool(receipt["refused_file"].as_str().unwrap());
        assert_eq!(fs::read_to_string(&refused).unwrap(), text, "{receipt}");
    }
    check(&mut sandbox);
}

#[test]
fn nothing_is_taken_where_somebody_else_could_put_another_inbox() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(50);
    sandbox.start();
    let (inbox, root) = (sandbox.spool("inbox"), sandbox.path("spool"));
    let is_refused = |sandbox: &Sandbox, hint: &str| {
        let receipt = sandbox.ask("open.json", &json!({"run": ["true"]}));
        assert_eq!(receipt["refusal"]["kind"], "inbox_writable", "{receipt}");
        assert!(receipt["refusal"]["hint"].as_str().unwrap().contains(hint), "{receipt}");
    };
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
    is_refused(&sandbox, "chmod 700");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    if chown(&inbox, Some(65533), None).is_ok() {
        is_refused(&sandbox, "chown");
        chown(&inbox, Some(0), None).unwrap();
    } else {
        eprintln!("SKIPPED: a folder of another user can be made by root only");
    }
    assert_eq!(sandbox.ask("open.json", &json!({"run": ["true"]}))["accepted"], true);
    sandbox.wait_until("its end", || sandbox.log().iter().any(|line| line["by"] == "run"));
    check(&mut sandbox);
}

#[test]
fn a_refused_file_that_may_not_be_read_does_not_keep_checkpoints_from_being_written() {
    let mut sandbox = Sandbox::new();
    sandbox.set_settle_ms(50);
    sandbox.start();
    // Root may read it, and then this shows nothing; run as anybody else it does.
    sandbox.sh("umask 777; echo > \"$1\" && mv \"$1\" ../spool/inbox/", &sandbox.outside("closed.txt"));
    let last = sandbox.receipt("closed.txt")["seq"].as_u64();
    sandbox.wait_until("a checkpoint behind the refusal", || checkpoint_seq(&sandbox) >= last);
    check(&mut sandbox);
}
