//! Agents that fall silent: with a limit for that they are ended, and who goes on printing is not.

use serde_json::json;

use crate::check::check;
use crate::sandbox::Sandbox;

#[test]
fn who_prints_nothing_for_too_long_has_timed_out_and_who_prints_has_not() {
    let mut sandbox = Sandbox::new();
    sandbox.set_slots(3);
    sandbox.start();
    let gate = sandbox.outside("gate");
    let chatty = format!("until [ -e {} ]; do echo so far; sleep 0.05; done", gate.display());
    let chatty = sandbox.submit("chatty", &json!({"shell": chatty, "idle_timeout_seconds": 3}));
    sandbox.wait_until("a word of it", || sandbox.output(&chatty).contains("so far"));
    // It begins later and is silent for as long as the other may be.
    let silent = json!({"shell": "echo once; sleep 600", "idle_timeout_seconds": 3, "output": "apart"});
    let (silent, outcome) = sandbox.carry_out("silent", &silent);
    assert_eq!(outcome, "timed_out");
    let evidence = sandbox.moves(&silent).last().unwrap()["evidence"].clone();
    assert_eq!(evidence["message"], "it printed nothing for 3 s", "{evidence}");
    let mute = json!({"shell": "trap '' TERM; while :; do sleep 600; done", "idle_timeout_seconds": 1, "grace_seconds": 1});
    assert_eq!(sandbox.carry_out("mute", &mute).1, "timed_out");
    assert_eq!(sandbox.run_record(&chatty)["status"], "running", "it has printed all the time");
    sandbox.open_gate("gate");
    assert_eq!(sandbox.outcome(&chatty), "succeeded");
    let never = json!({"shell": "true", "idle_timeout_seconds": 0});
    let refusal = sandbox.ask("never.json", &never)["refusal"].clone();
    assert_eq!(
        (&refusal["kind"], &refusal["path"]),
        (&"invalid_value".into(), &"$.idle_timeout_seconds".into())
    );
    check(&mut sandbox);
}
