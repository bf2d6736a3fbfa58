//! Scopes: who acts for a tenant or a project sees its tasks and no other, and changes no other.

use serde_json::{Value, json};

use crate::check::check;
use crate::sandbox::Sandbox;

/// Two tenants with a held task of the same name each, and one of nobody.
fn two_tenants(sandbox: &Sandbox) -> [String; 3] {
    let held = |tenant: Value| json!({"run": ["true"], "name": "build", "held": true, "tenant": tenant});
    let ours = sandbox.submit("ours", &held(json!("ours")));
    let theirs = sandbox.submit("theirs", &held(json!("theirs")));
    let nobodys = sandbox.submit("nobodys", &json!({"run": ["true"], "name": "free", "held": true}));
    [ours, theirs, nobodys]
}

#[test]
fn a_command_sees_no_task_outside_of_its_scope() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let [ours, theirs, nobodys] = two_tenants(&sandbox);
    // A name that two tenants use is one task's for each of them; the whole spool has two.
    let rerank = |target: &str, scope: Value| {
        let mut command = json!({"type": "rerank", "target": target, "rank": 9});
        command.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        sandbox.ask("rerank.json", &command)
    };
    assert_eq!(rerank("build", json!({"tenant": "ours"}))["task"], json!(ours));
    assert_eq!(rerank("build", json!({"tenant": "theirs"}))["task"], json!(theirs));
    assert_eq!(rerank("build", json!({}))["refusal"]["kind"], "ambiguous");
    // What is there for others is answered like what is nowhere.
    let nowhere = rerank("01890a5d-ac96-774b-bcce-b302099a8057", json!({"tenant": "ours"}));
    for target in [&theirs, &nobodys, &theirs[28..].to_owned()] {
        let answer = rerank(target, json!({"tenant": "ours"}));
        assert_eq!(answer["refusal"]["kind"], "not_found", "{answer}");
        assert_eq!(answer["refusal"]["path"], "$.target");
        assert_eq!(answer["refusal"]["hint"], nowhere["refusal"]["hint"]);
    }
    assert_eq!(rerank(&ours, json!({"tenant": "ours", "project": "p"}))["refusal"]["kind"], "not_found");
    assert_eq!(rerank("free", json!({}))["task"], json!(nobodys));
    // Also when it has ended.
    assert_eq!(sandbox.cancel("end.json", &theirs)["accepted"], true);
    for (scope, accepted) in [("ours", false), ("theirs", true)] {
        let cancel = json!({"type": "cancel", "target": theirs, "tenant": scope});
        assert_eq!(sandbox.ask("again.json", &cancel)["accepted"], accepted, "{scope}");
    }
    let bad = sandbox.ask("bad.json", &json!({"type": "hold", "target": ours, "tenant": "../x"}));
    assert_eq!(bad["refusal"]["path"], "$.tenant");
    check(&mut sandbox);
}

#[test]
fn verbs_with_a_scope_show_and_change_only_what_is_in_it() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let [ours, theirs, _] = two_tenants(&sandbox);
    let say = |scope: &[&str], arguments: &[&str]| {
        let output = sandbox.gitspool(&[arguments, scope].concat()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let tasks = |scope: &[&str], arguments: &[&str]| -> Vec<Value> {
        let (_, said) = say(scope, arguments);
        let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["task"].clone()).filter(|task| !task.is_null()).collect()
    };
    let scope = ["--tenant", "ours"];
    for verb in [&["ls", "--json"][..], &["events", "--json"], &["changes", "--json"]] {
        assert!(tasks(&[], verb).len() > 2, "{verb:?}");
        assert_eq!(tasks(&scope, verb), [json!(ours)], "{verb:?}");
    }
    for verb in ["show", "why", "cancel", "hold", "release", "events", "logs", "wait"] {
        assert_eq!(say(&scope, &[verb, &theirs]).0, Some(1), "{verb}");
    }
    assert_eq!(tasks(&scope, &["show", "build", "--json"]), [json!(ours)]);
    // The environment says it too, and a new task belongs to who submits it.
    let mut submit = sandbox.gitspool(&["submit", "--confirm", "--workspace", "none", "--", "true"]);
    submit.env("GITSPOOL_TENANT", "ours").env("GITSPOOL_PROJECT", "p");
    let new = sandbox.run(submit).trim().to_owned();
    assert_eq!(sandbox.outcome(&new), "succeeded");
    let project = ["--tenant", "ours", "--project", "p"];
    assert_eq!(tasks(&project, &["ls", "--all", "--json"]), [json!(new)]);
    let (_, runs) = say(&scope, &["ls", "--runs", "--json"]);
    assert!(runs.contains(&new) && say(&["--tenant", "theirs"], &["ls", "--runs", "--json"]).1.is_empty());
    let mut bad = sandbox.gitspool(&["ls"]);
    assert_eq!(bad.env("GITSPOOL_TENANT", "a/b").output().unwrap().status.code(), Some(2));
    check(&mut sandbox);
}

#[test]
fn an_agent_acts_in_the_scope_of_its_task() {
    let mut sandbox = Sandbox::new();
    sandbox.start();
    let [_, theirs, _] = two_tenants(&sandbox);
    let told = sandbox.outside("told");
    let line = format!(
        "gitspool submit --workspace none --name child -- true; gitspool cancel {theirs} || echo no >> {}; \
         gitspool note --confirm --summary done",
        told.display()
    );
    let job = json!({"shell": line, "tenant": "ours", "project": "p", "workspace": {"kind": "none"}});
    let task = sandbox.submit("agent", &job);
    assert_eq!(sandbox.outcome(&task), "succeeded");
    assert_eq!(
        (sandbox.told("told").as_str(), &sandbox.run_record(&task)["summary"]),
        ("no\n", &json!("done"))
    );
    let child = sandbox.log().into_iter().find(|line| line["spec"]["name"] == "child").unwrap();
    assert_eq!((&child["spec"]["tenant"], &child["spec"]["project"]), (&json!("ours"), &json!("p")));
    assert_eq!(sandbox.outcome(child["task"].as_str().unwrap()), "succeeded");
    assert_eq!(sandbox.places(&theirs).len(), 1);
    check(&mut sandbox);
}
