//! House rules that no compiler checks, read from the sources as text.
//!
//! Each rule is a pure function from a source to its problems, and is shown to be able to fail by a made-up source. What
//! a rule lets pass by name stands in a list here with its reason; an entry that nothing needs any more is a problem too.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Modules that decide: they know no disk, process, thread, clock or environment, and use each other only.
const DECIDING: [&str; 45] = [
    "id",
    "time",
    "digest",
    "layout",
    "outcome",
    "shortage",
    "refusal",
    "misfit",
    "json",
    "key",
    "workspace",
    "resource",
    "retry",
    "needs",
    "notice",
    "spec",
    "scope",
    "defaults",
    "command",
    "edit",
    "agent",
    "prompt",
    "assignment",
    "redact",
    "task",
    "retention",
    "queue",
    "run",
    "jsonl",
    "event",
    "breaker",
    "change",
    "reader",
    "applied",
    "record",
    "launched",
    "index",
    "recovery",
    "why",
    "removal",
    "checkpoint",
    "answer",
    "picture",
    "audit",
    "input",
];

/// What a deciding module may not name: the outside world, and the crates that lead there.
const OUTSIDE: [&str; 17] = [
    "std::fs",
    "std::io",
    "std::os",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "SystemTime",
    "Instant",
    "Utc::now",
    "rustix",
    "libc",
    "fs2",
    "notify::",
    "gix",
    "walkdir",
    "crossbeam_channel",
];

/// Methods of a path that look at the disk.
const LOOKING: [&str; 8] =
    ["exists", "try_exists", "is_dir", "is_file", "is_symlink", "canonicalize", "metadata", "read_dir"];

/// Who alone may use a module, beside itself and the library's root: those at the top, and the calls of the disk.
const FEW: [(&str, &[&str]); 4] = [
    ("cli", &[]),
    ("daemon", &["src/cli.rs", "src/cli/"]),
    (
        "disk",
        &[
            "src/store.rs",
            "src/store/",
            "src/log.rs",
            "src/lock.rs",
            "src/lease.rs",
            "src/inbox.rs",
            "src/inbox/",
            "src/simulated/",
        ],
    ),
    ("supervisor", &["src/daemon.rs", "src/daemon/"]),
];

/// The modules that open a ban of `clippy.toml` for themselves: one for each thing outside.
const DOORS: [(&str, &str); 8] = [
    ("src/clock.rs", "reads the clock"),
    ("src/disk/system.rs", "changes files, and takes their locks"),
    ("src/environment.rs", "reads the environment"),
    ("src/git.rs", "runs git"),
    ("src/launch.rs", "starts the launch stage, which becomes the agent"),
    ("src/lock.rs", "tries for a moment to get a lock"),
    ("src/process/system.rs", "starts our own program, notifiers, and the user's editor"),
    ("src/supervisor/places.rs", "starts the workspace stage"),
];

/// Where a path is joined outside `layout`: none of these paths lies in a spool or in our state.
const JOINS: [(&str, &str, &str); 43] = [
    ("src/apply/checkout.rs", "gitspool-index", "inside git's folder for the checkout"),
    ("src/apply/checkout.rs", "gitspool-owner", "inside git's folder for the checkout"),
    ("src/apply/checkout.rs", "index", "git's own"),
    ("src/apply/checkout.rs", "index.lock", "git's own"),
    ("src/apply/target.rs", "worktrees", "git's own"),
    ("src/cgroup.rs", "cgroup.kill", "in the kernel's tree of control groups"),
    ("src/cgroup.rs", "cgroup.procs", "in the kernel's tree of control groups"),
    ("src/git.rs", ".git", "git's own"),
    ("src/git.rs", "gitspool-input", "inside git's folder for the worktree"),
    ("src/git/apart.rs", "HEAD", "in a folder like git's own"),
    ("src/git/apart.rs", "gitspool-input", "in a folder like git's own"),
    ("src/git/apart.rs", "config", "in a folder like git's own"),
    ("src/git/apart.rs", "objects", "git's own"),
    ("src/git/apart.rs", "refs", "in a folder like git's own"),
    ("src/kept.rs", "HEAD", "git's own"),
    ("src/kept.rs", "commondir", "git's own"),
    ("src/kept.rs", "gitspool-kept", "inside git's folder for the worktree"),
    ("src/kept.rs", "index", "git's own"),
    ("src/kept.rs", "logs", "git's own"),
    ("src/kept/blockers.rs", "gitdir", "git's own"),
    ("src/kept/blockers.rs", "locked", "git's own"),
    ("src/kept/commits.rs", "HEAD", "git's own"),
    ("src/kept/commits.rs", "logs", "git's own"),
    ("src/kept/commits.rs", "refs/heads", "git's own"),
    ("src/kept/commits.rs", "refs/stash", "git's own"),
    ("src/process/system.rs", "children", "in /proc"),
    ("src/restore.rs", ".git", "git's own"),
    ("src/restore.rs", "HEAD", "git's own"),
    ("src/restore.rs", "ORIG_HEAD", "git's own"),
    ("src/restore.rs", "config", "git's own"),
    ("src/restore.rs", "gitspool-input", "inside git's folder for the worktree"),
    ("src/restore.rs", "logs", "git's own"),
    ("src/restore.rs", "modules", "git's own"),
    ("src/settlement.rs", "HEAD", "git's own"),
    ("src/spool.rs", "spool", "the user's own spool, before there is a layout"),
    ("src/worktree.rs", "HEAD", "git's own"),
    ("src/worktree.rs", "commondir", "git's own"),
    ("src/worktree.rs", "gitdir", "git's own"),
    ("src/worktree.rs", "locked", "git's own"),
    ("src/worktree.rs", "logs", "git's own"),
    ("src/worktree/site.rs", ".git", "git's own"),
    ("src/worktree/site.rs", "gitspool-tmp", "inside git's common folder"),
    ("src/worktree/site.rs", "worktrees", "git's own"),
];

/// The files that make a system call themselves, since no crate does: one of the program, and one of its tests.
const UNSAFE: [&str; 2] = ["src/lease.rs", "tests/spool/crashpoint.rs"];

const LINES_MAX: usize = 400;

const BANNED_STEMS: [&str; 10] =
    ["util", "utils", "helpers", "common", "misc", "types", "core", "errors", "handler", "manager"];

const BANNED_SUFFIXES: [&str; 6] = ["Manager", "Handler", "Helper", "Util", "Processor", "Wrapper"];

/// What is not done yet does not get in.
const UNFINISHED: [&str; 7] = ["TODO", "FIXME", "XXX", "todo!", "unimplemented!", "dbg!", "#[ignore"];

/// A file of the project: its path from the top, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The module's name, as `crate::NAME` has it: the first part of its path below `src/`.
    fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split(['/', '.']).next().unwrap_or_default()
    }

    /// The lines without those of the test module, which comes last.
    fn program(&self) -> impl Iterator<Item = &str> {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_for_tests =
            |line: &str| line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test,");
        let begins = |at: &usize| {
            let item = lines[*at..].iter().find(|line| !line.starts_with("#["));
            is_for_tests(lines[*at]) && item.is_some_and(|item| item.split(' ').any(|word| word == "mod"))
        };
        let end = (0..lines.len()).find(begins).unwrap_or(lines.len());
        lines.into_iter().take(end)
    }

    /// The same without comments.
    fn code(&self) -> String {
        let lines: Vec<&str> = self.program().filter(|line| !line.trim_start().starts_with("//")).collect();
        lines.join("\n")
    }

    fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }
}

// --- the rules

/// One problem, if there is one.
fn when(is_wrong: bool, problem: String) -> Vec<String> {
    if is_wrong { vec![problem] } else { vec![] }
}

fn stem_says_something(source: &Source) -> Vec<String> {
    let stem = Path::new(&source.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let is_banned = BANNED_STEMS.contains(&stem);
    when(is_banned, format!("{}: a file called {stem:?} says nothing; name its noun", source.path))
}

fn types_are_nouns(source: &Source) -> Vec<String> {
    let words: Vec<String> = words_of(&source.code());
    let named =
        words.windows(2).filter(|pair| ["struct", "enum", "trait", "type"].contains(&pair[0].as_str()));
    let banned = named.filter(|pair| BANNED_SUFFIXES.iter().any(|suffix| pair[1].ends_with(suffix)));
    banned.map(|pair| format!("{}: a type called {} is a doer, not a thing", source.path, pair[1])).collect()
}

fn module_is_short(source: &Source) -> Vec<String> {
    let lines = source.program().count();
    let too_long = source.is_in("src/") && lines > LINES_MAX;
    when(too_long, format!("{}: {lines} lines without tests are more than {LINES_MAX}", source.path))
}

fn deciding_looks_at_nothing(source: &Source) -> Vec<String> {
    if !source.is_in("src/") || !DECIDING.contains(&source.module()) {
        return vec![];
    }
    let code = source.code();
    let named = OUTSIDE.iter().filter(|word| has_word(&code, word)).map(ToString::to_string);
    let looked =
        LOOKING.iter().map(|method| format!(".{method}()")).filter(|call| code.contains(call.as_str()));
    let acting = used_modules(&code).into_iter().filter(|module| !DECIDING.contains(&module.as_str()));
    let acting = acting.map(|module| format!("crate::{module}"));
    let found = named.chain(looked).chain(acting);
    found.map(|what| format!("{}: a module that decides must not use {what}", source.path)).collect()
}

fn few_use_what_is_for_few(source: &Source) -> Vec<String> {
    if !source.is_in("src/") || source.path == "src/lib.rs" {
        return vec![];
    }
    let used = used_modules(&source.code());
    let may_not = |(few, by): &&(&str, &[&str])| {
        source.module() != *few
            && !by.iter().any(|by| source.is_in(by))
            && used.iter().any(|used| used == few)
    };
    FEW.iter().filter(may_not).map(|(few, _)| format!("{}: may not use crate::{few}", source.path)).collect()
}

fn doors_are_listed(source: &Source) -> Vec<String> {
    let opens = source.is_in("src/") && source.code().contains("clippy::disallowed_");
    let listed = DOORS.iter().any(|(path, _)| *path == source.path);
    match (opens, listed) {
        (true, false) => vec![format!("{}: opens a ban of clippy.toml without being a door", source.path)],
        (false, true) => vec![format!("{}: is in DOORS and opens nothing", source.path)],
        (true, true) | (false, false) => vec![],
    }
}

fn lints_are_expected_not_allowed(source: &Source) -> Vec<String> {
    let allows = ["#[allow(", "#![allow("].iter().any(|attribute| source.text.contains(attribute));
    when(allows, format!("{}: write #[expect], which says when it is needed no more", source.path))
}

fn unsafe_is_in_few_files(source: &Source) -> Vec<String> {
    let is_unsafe = !UNSAFE.contains(&source.path.as_str()) && has_word(&source.code(), "unsafe");
    when(is_unsafe, format!("{}: unsafe code belongs into one of {UNSAFE:?}", source.path))
}

fn nothing_is_unfinished(source: &Source) -> Vec<String> {
    let found = UNFINISHED.iter().filter(|word| has_word(&source.text, word));
    found.map(|word| format!("{}: {word}", source.path)).collect()
}

/// In `src/`, tests and all: the bans of `clippy.toml` hold there too, but a test module opens them for itself.
fn nobody_sleeps(source: &Source) -> Vec<String> {
    let sleeps =
        source.is_in("src/") && source.path != "src/lock.rs" && has_word(&source.text, "thread::sleep");
    when(sleeps, format!("{}: wait for something instead of sleeping", source.path))
}

fn paths_are_joined_in_layout(source: &Source) -> Vec<String> {
    if !source.is_in("src/") || source.path == "src/layout.rs" {
        return vec![];
    }
    let code = source.code();
    let joined = joined_names(&code);
    let listed: Vec<&str> =
        JOINS.iter().filter(|(path, ..)| *path == source.path).map(|(_, name, _)| *name).collect();
    let new = joined.iter().filter(|name| !listed.contains(name));
    let new = new.map(|name| format!("{}: joins {name:?}, which is for src/layout.rs to do", source.path));
    let stale = listed.iter().filter(|name| !joined.contains(name));
    let stale = stale.map(|name| format!("{}: is in JOINS with {name:?} and does not join it", source.path));
    new.chain(stale).collect()
}

fn first_line_says_what_it_is(source: &Source) -> Vec<String> {
    let says = !source.is_in("src/") || source.text.starts_with("//! ");
    when(!says, format!("{}: the first line is not `//! ` and what it is", source.path))
}

const RULES: [fn(&Source) -> Vec<String>; 12] = [
    stem_says_something,
    types_are_nouns,
    module_is_short,
    deciding_looks_at_nothing,
    few_use_what_is_for_few,
    doors_are_listed,
    lints_are_expected_not_allowed,
    unsafe_is_in_few_files,
    nothing_is_unfinished,
    nobody_sleeps,
    paths_are_joined_in_layout,
    first_line_says_what_it_is,
];

/// The names in `layout` that the document does not have, and the constants that its list of names does not have.
fn names_are_explained(layout: &Source, document: &str) -> Vec<String> {
    let code = layout.code();
    let list = code.split_once("NAMES: &[&str] = &[").and_then(|(_, rest)| rest.split_once("];"));
    let listed = words_of(list.map_or("", |(list, _)| list));
    let mut problems = Vec::new();
    for line in code.lines() {
        let Some((constant, value)) = line.split_once(": &str = \"") else { continue };
        let constant = constant.rsplit(' ').next().unwrap_or_default();
        let value = value.trim_end_matches("\";");
        if !document.contains(value) {
            problems.push(format!("spool-layout.md does not explain {value:?}"));
        }
        // The folder of the spool itself lies outside of it.
        if constant != "DOT_SPOOL" && !listed.iter().any(|listed| listed == constant) {
            problems.push(format!("{}: {constant} is not in NAMES", layout.path));
        }
    }
    problems
}

// --- reading

/// The words of a text: letters, digits and `_`.
fn words_of(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| !word.is_empty()).map(ToOwned::to_owned).collect()
}

/// Whether `word` stands in `text`, and not as a part of a longer word; behind a `::` anything may stand.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        let ends = word.ends_with("::") || !is_part(text[at + word.len()..].chars().next());
        ends && !is_part(text[..at].chars().next_back())
    })
}

/// The modules of this crate that a code names, by `crate::a` or by `crate::{a, b::C}`.
fn used_modules(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{').and_then(|group| group.split_once("};")) {
            Some((group, _)) => {
                modules.extend(group.split(',').filter_map(|path| words_of(path).into_iter().next()))
            }
            None => modules.extend(words_of(rest.split(':').next().unwrap_or_default()).into_iter().next()),
        }
    }
    modules
}

/// The names that a code joins to paths; what only separates words is none.
fn joined_names(code: &str) -> Vec<&str> {
    let literals = code.match_indices(".join(\"").filter_map(|(at, found)| {
        let rest = &code[at + found.len()..];
        rest.split_once('"').map(|(literal, _)| literal)
    });
    let is_name = |literal: &&str| {
        let fits = literal.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
        fits && literal.contains(|c: char| c.is_ascii_alphanumeric())
    };
    literals.filter(is_name).collect()
}

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Source {
    let text = fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Source { path: path.to_owned(), text }
}

/// The paths of the files below a folder, from the top.
fn files_below(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(top().join(folder)) else { return vec![] };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// All Rust files but this one, which spells what is banned.
fn sources() -> Vec<Source> {
    let paths = ["src", "tests", "examples"].into_iter().flat_map(files_below);
    let paths = paths.filter(|path| path.ends_with(".rs") && path != "tests/tidy.rs");
    paths.map(|path| read(&path)).collect()
}

// --- the project

#[test]
fn the_sources_are_tidy() {
    let sources = sources();
    let problems: Vec<String> =
        sources.iter().flat_map(|source| RULES.iter().flat_map(|rule| rule(source))).collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn what_the_lists_name_is_there() {
    let sources = sources();
    let doors = DOORS.iter().map(|(path, _)| *path);
    let listed = doors.chain(JOINS.iter().map(|(path, ..)| *path));
    let deciding: Vec<String> = DECIDING.iter().map(|module| format!("src/{module}.rs")).collect();
    for path in listed.chain(deciding.iter().map(String::as_str)) {
        assert!(sources.iter().any(|source| source.path == path), "{path} is listed and not there");
    }
}

#[test]
fn the_document_explains_every_name_of_the_layout() {
    let problems = names_are_explained(&read("src/layout.rs"), &read("spool-layout.md").text);
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn there_is_a_changelog_with_a_place_for_what_comes() {
    assert!(read("CHANGELOG.md").text.contains("## [Unreleased]"));
}

#[test]
fn every_script_can_be_run() {
    let scripts = files_below("scripts").into_iter().chain(files_below(".ci"));
    for path in scripts.filter(|path| Path::new(path).extension().is_none()) {
        let mode = fs::metadata(top().join(&path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{path} lacks its run bit: chmod +x {path}");
        assert!(read(&path).text.starts_with("#!"), "{path} names no interpreter");
    }
}

// --- each rule can fail

fn made_up(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

/// Checks that `rule` finds as many problems in each made-up source as are given.
fn check(rule: fn(&Source) -> Vec<String>, cases: &[(&str, &str, usize)]) {
    for (path, text, expected) in cases {
        let problems = rule(&made_up(path, text));
        assert_eq!(problems.len(), *expected, "{path}: {text:?}: {problems:?}");
    }
}

#[test]
fn names_that_say_nothing_are_found() {
    check(
        stem_says_something,
        &[("src/util.rs", "", 1), ("tests/spool/common.rs", "", 1), ("src/utility.rs", "", 0)],
    );
    let cases = [
        ("src/a.rs", "pub(crate) struct JobManager;", 1),
        ("src/a.rs", "enum PathUtil {}\ntrait Handler {}", 2),
        ("src/a.rs", "struct Managers;\n// struct LogHelper", 0),
        ("src/a.rs", "struct Log;\n#[cfg(test)]\nmod tests { struct LogHelper; }", 0),
    ];
    check(types_are_nouns, &cases);
}

#[test]
fn a_long_module_is_found_and_its_tests_do_not_count() {
    let lines = "x\n".repeat(LINES_MAX);
    let (long, tested) =
        (format!("{lines}x\n"), format!("{lines}#[cfg(test)]\n#[expect(x)]\nmod tests {{\n{lines}}}"));
    let cases = [("src/a.rs", &*long, 1), ("src/a.rs", &*tested, 0), ("tests/a.rs", &*long, 0)];
    check(module_is_short, &cases);
}

#[test]
fn a_deciding_module_that_looks_outside_is_found() {
    let cases = [
        ("src/task.rs", "use std::fs;", 1),
        ("src/task.rs", "fn now() { std::time::Instant::now(); }", 1),
        ("src/task.rs", "use std::thread;\nuse std::env::var;", 2),
        ("src/task.rs", "use notify::Watcher;", 1),
        ("src/task.rs", "let x: notify::Event; spec.notify.check()?;", 1),
        ("src/task.rs", "if path.exists() {}", 1),
        ("src/task.rs", "use crate::store;", 1),
        ("src/task.rs", "use crate::{clock, id::Name,\n    lock};", 2),
        ("src/task.rs", "let x = crate::clock::now();", 1),
        ("src/task.rs", "//! No std::fs here.\nuse crate::id::Name;\nuse std::time::Duration;", 0),
        ("src/task.rs", "#[cfg(test)]\nmod tests { use crate::clock; }", 0),
        ("src/task.rs", "#[cfg(test)]\nconst ALL: u8 = 1;\nuse std::fs;", 1),
        ("src/inbox.rs", "use std::fs;\nuse crate::store;", 0),
    ];
    check(deciding_looks_at_nothing, &cases);
}

#[test]
fn who_may_not_use_a_module_is_found() {
    let cases = [
        ("src/daemon/admit.rs", "use crate::cli::print;", 1),
        ("src/supervisor/wake.rs", "use crate::{clock, daemon};", 1),
        ("src/inbox.rs", "use crate::supervisor;", 1),
        ("src/cli/daemon.rs", "use crate::daemon;\nuse crate::cli;", 0),
        ("src/daemon/threads.rs", "use crate::{lock, supervisor};", 0),
        ("src/receipt.rs", "use crate::disk;", 1),
        ("src/inbox/trust.rs", "use crate::disk::Kind;", 0),
        ("src/lib.rs", "use crate::daemon;", 0),
    ];
    check(few_use_what_is_for_few, &cases);
}

#[test]
fn an_open_ban_is_found() {
    let open = "#![expect(clippy::disallowed_methods, reason = \"so\")]";
    let test = "#[cfg(test)]\n#[expect(clippy::disallowed_methods, reason = \"tests\")]\nmod tests {}";
    check(
        doors_are_listed,
        &[("src/a.rs", open, 1), ("src/clock.rs", open, 0), ("src/clock.rs", "", 1), ("src/a.rs", test, 0)],
    );
    check(lints_are_expected_not_allowed, &[("src/a.rs", "#[allow(dead_code)]", 1), ("src/a.rs", open, 0)]);
    let cases = [
        ("src/a.rs", "unsafe { f() }", 1),
        ("src/a.rs", "#![expect(unsafe_code)]\n// unsafe", 0),
        ("src/lease.rs", "unsafe {}", 0),
        ("tests/spool/crash.rs", "unsafe {}", 1),
    ];
    check(unsafe_is_in_few_files, &cases);
}

#[test]
fn what_is_unfinished_or_sleeps_is_found() {
    let cases = [
        ("src/a.rs", "// TODO: all", 1),
        ("src/a.rs", "dbg!(x); todo!()", 2),
        ("tests/a.rs", "#[ignore = \"slow\"]", 1),
        ("src/a.rs", "TODOS", 0),
    ];
    check(nothing_is_unfinished, &cases);
    let sleep = "std::thread::sleep(Duration::ZERO);";
    check(
        nobody_sleeps,
        &[
            ("src/a.rs", sleep, 1),
            ("src/lock.rs", sleep, 0),
            ("src/a.rs", "#[cfg(test)]\nthread::sleep(x)", 1),
        ],
    );
}

#[test]
fn a_path_that_is_joined_elsewhere_is_found() {
    let cases = [
        ("src/a.rs", "root.join(\"inbox\")", 1),
        ("src/a.rs", "root.join(\".local/tmp\").join(\"x\")", 2),
        ("src/a.rs", "words.join(\", \"); lines.join(\"\\n\"); folder.join(name)", 0),
        ("src/layout.rs", "root.join(\"inbox\")", 0),
        ("src/process/system.rs", "thread.join(\"children\")", 0),
        ("src/process/system.rs", "", 1),
    ];
    check(paths_are_joined_in_layout, &cases);
}

#[test]
fn a_file_or_a_name_without_a_word_about_it_is_found() {
    check(first_line_says_what_it_is, &[("src/a.rs", "use x;", 1), ("src/a.rs", "//! What it is.", 0)]);
    let layout = made_up(
        "src/layout.rs",
        "const NAMES: &[&str] = &[\n    A,\n];\nconst A: &str = \"a.json\";\nconst B: &str = \"b\";",
    );
    assert_eq!(names_are_explained(&layout, "`a.json` and `b`"), ["src/layout.rs: B is not in NAMES"]);
    assert_eq!(names_are_explained(&layout, "b").len(), 2);
}
