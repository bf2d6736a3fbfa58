//! Everybody at once: daemons that want the same spool, command lines, editors and `git checkout`. No update is lost.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::check::check;
use crate::sandbox::{Sandbox, read_json, signal};

/// How many tasks each command line submits.
const TASKS: u32 = 30;
const COMMAND_LINES: u32 = 2;
/// How often the daemon is killed, so that another one gets the spool.
const KILLS: u32 = 6;

/// Wants to be the daemon until `outside/end` is there, and notes how each try ended.
fn would_be_daemon(sandbox: &Sandbox, number: u32) -> Child {
    let line = r#"
        cd "$1"
        while [ ! -e end ]; do
            GITSPOOL --spool ../spool daemon 2>> ../daemon.log
            echo $? >> ended__N__
            sleep 0.05
        done"#;
    begin(sandbox, line, number)
}

/// Submits, reranks, holds, releases and cancels; notes what was accepted.
fn command_line(sandbox: &Sandbox, number: u32) -> Child {
    let line = r#"
        cd "$1"; i=0
        while [ $((i += 1)) -le __TASKS__ ]; do
            id=$(GITSPOOL --spool ../spool submit --workspace none --shell 'echo $GITSPOOL_RUN >> __RAN__') || {
                echo $? >> failed__N__
                continue
            }
            echo $id >> submitted__N__
            case $((i % 4)) in
                0) GITSPOOL --spool ../spool rerank $id 10 ;;
                1) GITSPOOL --spool ../spool hold $id; GITSPOOL --spool ../spool release $id ;;
                2) GITSPOOL --spool ../spool cancel $id ;;
            esac > answers__N__ 2>&1
        done"#;
    begin(sandbox, line, number)
}

/// Edits the settings and the files of ready tasks, as an editor does: some write the file itself, some another one.
fn editor(sandbox: &Sandbox) -> Child {
    let line = r#"
        cd "$1/../spool/queue/default"; i=0
        while [ ! -e ../../../outside/end ]; do
            i=$((i + 1))
            printf '{"slots":' > queue.json; sleep 0.01; echo " $((2 + i % 3))}" >> queue.json
            for file in ready/*.json; do
                [ -e "$file" ] && sed -i 's/echo/: ; echo/' "$file"
            done 2> ../../../outside/sed
            sleep 0.03
        done"#;
    begin(sandbox, line, 0)
}

/// Goes back and forth between two branches of the spool's tracked files.
fn checkouts(sandbox: &Sandbox) -> Child {
    let line = r#"
        cd "$1/../spool"; export GIT_CONFIG_GLOBAL=/dev/null; exec 2> ../outside/git
        git init -q -b one . && git config user.name n && git config user.email n@example.org
        printf '%s\n' .local/ receipts/ refused/ runs/ texts/ events/ '/queue/*/*/' '!.keep' '/inbox/*' > .gitignore
        git add . && git add -f inbox/.keep && git commit -q -m one && git checkout -q -b two
        echo '{"slots": 4}' > queue/default/queue.json
        echo '{"driver": "exec", "argv": ["true"]}' > agents/default.json
        git add . && git commit -q -m two
        while [ ! -e ../outside/end ]; do
            for branch in one two; do
                git checkout -q -f $branch && echo $branch >> ../outside/checkouts
                sleep 0.04
            done
        done
        git checkout -q -f two"#;
    begin(sandbox, line, 0)
}

fn begin(sandbox: &Sandbox, line: &str, number: u32) -> Child {
    let line = line
        .replace("GITSPOOL --spool", &format!("{} --spool", env!("CARGO_BIN_EXE_gitspool")))
        .replace("__N__", &number.to_string())
        .replace("__TASKS__", &TASKS.to_string())
        .replace("__RAN__", &sandbox.outside("ran").display().to_string());
    sandbox.begin_sh(&line, &sandbox.path("outside"))
}

fn daemon_of(sandbox: &Sandbox) -> Option<u32> {
    let record = read_json(&sandbox.spool(".local/daemon.json"))?;
    let pid = u32::try_from(record["pid"].as_u64()?).ok()?;
    sandbox.processes().iter().any(|process| process.pid == pid).then_some(pid)
}

fn lines(sandbox: &Sandbox, name: &str) -> Vec<String> {
    (0..COMMAND_LINES)
        .flat_map(|number| {
            sandbox.told(&format!("{name}{number}")).lines().map(ToOwned::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn daemons_command_lines_an_editor_and_git_lose_nothing_of_each_other() {
    let mut sandbox = Sandbox::new();
    let mut others = vec![checkouts(&sandbox)];
    sandbox.wait_until("both branches", || sandbox.told("checkouts").lines().count() >= 2);
    others.push(editor(&sandbox));
    others.extend((0..2).map(|number| would_be_daemon(&sandbox, number)));
    let mut command_lines: Vec<Child> =
        (0..COMMAND_LINES).map(|number| command_line(&sandbox, number)).collect();
    for _ in 0..KILLS {
        sandbox.let_work(Duration::from_millis(150));
        let daemon = sandbox.wait("a daemon", || daemon_of(&sandbox));
        signal(daemon, Signal::KILL);
    }
    for child in &mut command_lines {
        sandbox.wait("a command line's end", || child.try_wait().unwrap());
    }
    sandbox.open_gate("end");
    // The last checkout leaves the settings of its branch.
    sandbox.wait("git's end", || others[0].try_wait().unwrap());
    while let Some(child) =
        others.iter_mut().find_map(|child| child.try_wait().unwrap().is_none().then_some(child))
    {
        daemon_of(&sandbox).into_iter().for_each(|pid| signal(pid, Signal::TERM));
        sandbox.let_work_until(Duration::from_millis(100), || child.try_wait().unwrap().is_some());
    }
    sandbox.set_slots(4);
    sandbox.drain();
    // What the editor made of the tasks' files is no part of them; nothing else needs mending.
    let said = sandbox.run(sandbox.gitspool(&["fsck", "--repair"]));
    assert!(said.lines().all(|line| line.starts_with("mended  task_differs")), "{said}");
    check(&mut sandbox);

    assert_eq!(lines(&sandbox, "failed"), Vec::<String>::new(), "each submission came through");
    let mut ran: BTreeMap<String, u32> = BTreeMap::new();
    for run in sandbox.told("ran").lines() {
        *ran.entry(run.to_owned()).or_default() += 1;
    }
    let submitted = lines(&sandbox, "submitted");
    assert_eq!(submitted.len(), usize::try_from(TASKS * COMMAND_LINES).unwrap());
    for task in &submitted {
        let state: Value = sandbox.moves(task).last().unwrap()["state"].clone();
        let times = ran.remove(&format!("{task}.1")).unwrap_or(0);
        match state["outcome"].as_str() {
            Some("succeeded") => assert_eq!(times, 1, "{task}"),
            Some("cancelled") => assert!(times <= 1, "{task}"),
            _ => panic!("{task}: {state}\n{}", sandbox.daemon_log()),
        }
    }
    assert!(ran.is_empty(), "nobody asked for {ran:?}");
    let ends = [0, 1].map(|number| sandbox.told(&format!("ended{number}")));
    assert!(sandbox.told("checkouts").lines().count() > 5, "{}", sandbox.told("git"));
    assert!(ends.iter().any(|ends| ends.contains("137")), "one was killed: {ends:?}");
    assert!(
        ends.iter().any(|ends| ends.contains('2')),
        "one was refused while the other had the spool: {ends:?}"
    );
}
