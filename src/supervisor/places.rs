//! The places of a run: its workspace and its agent's files, from making the one to starting in it and leaving it.
#![expect(clippy::disallowed_methods, reason = "starts the workspace stage")]

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use super::Supervisor;
use super::output::Outputs;
use crate::agent::{PROMPT_PLACE, Profile, PromptBy};
use crate::clock;
use crate::digest;
use crate::environment;
use crate::jsonl;
use crate::launch::{Ahead, Order, Surroundings};
use crate::lock;
use crate::outcome::Evidence;
use crate::process;
use crate::prompt;
use crate::record::{self, said};
use crate::reserve;
use crate::resource;
use crate::run::{Event, State};
use crate::spec::{Output, Work};
use crate::stage::{self, Answer};
use crate::store::{self, StoreError};
use crate::workspace::{Delivered, Kind, Workspace, kept_ref};

/// How often a directory that another run works in is tried again.
const BUSY_AGAIN: Duration = Duration::from_millis(200);

/// A process of our own that makes or describes the workspace, and answers on its stdout.
pub(super) struct Stage {
    pub(super) pid: u32,
    answer: ChildStdout,
}

impl Supervisor {
    /// Makes the workspace, or has it made.
    pub(super) fn prepare(&mut self) {
        let made = match self.assignment.spec.workspace.kind.unwrap_or(Kind::None) {
            Kind::Worktree => {
                self.stage_began = true;
                return self.start_stage(stage::MAKE);
            }
            Kind::None => self.private_folder().map(Some),
            Kind::Directory => self.own_directory(),
        };
        match made {
            Ok(Some(workspace)) => self.prepared(workspace),
            // Another run works there.
            Ok(None) => self.wake_at = Some(clock::monotonic() + BUSY_AGAIN),
            Err(error) => self.place_failed(&error.to_string()),
        }
    }

    fn private_folder(&self) -> Result<Workspace, StoreError> {
        let path = stage::state_layout(&self.assignment).workspace(self.run());
        reserve::spend(&self.layout, || store::make_dir(&path))?;
        Ok(plain(Kind::None, path))
    }

    /// The directory that the task names, under its lock; `None` while another run has that.
    fn own_directory(&mut self) -> Result<Option<Workspace>, StoreError> {
        let path = PathBuf::from(self.assignment.spec.directory.clone().unwrap_or_default());
        let path = store::at("find the directory", &path, path.canonicalize())?;
        let state = stage::state_layout(&self.assignment);
        store::make_dir(&state.locks())?;
        let name = digest::sha256_hex(path.as_os_str().as_encoded_bytes());
        self.place_lock = lock::try_exclusive(&state.place_lock(&name))?;
        Ok(self.place_lock.is_some().then(|| plain(Kind::Directory, path)))
    }

    /// Tries again to get a directory that another run had.
    pub(super) fn prepare_again(&mut self) {
        if self.state == State::Preparing && self.stage.is_none() && self.workspace.is_none() {
            self.prepare();
        }
    }

    fn prepared(&mut self, workspace: Workspace) {
        self.note(vec![record::Event::WorkspaceReady { workspace: workspace.clone() }]);
        self.workspace = Some(workspace);
        self.pending.push_back(Event::Prepared);
    }

    /// Describes what the run leaves, or has it described.
    pub(super) fn settle(&mut self) {
        match self.workspace.as_ref().map(|workspace| (workspace.kind, &workspace.path)) {
            Some((Kind::Worktree, _)) => return self.start_stage(stage::SETTLE),
            Some((Kind::None, path)) => {
                // What cannot be removed lies there as what the agent has left.
                let _ = store::remove_empty_dir(path);
            }
            Some((Kind::Directory, _)) => {}
            // Cancelled while its worktree was being made, or it could not be made.
            None if self.stage_began => return self.start_stage(stage::DISCARD),
            None => {}
        }
        self.place_lock = None;
        self.pending.push_back(Event::Settled);
    }

    fn start_stage(&mut self, verb: &str) {
        let mut command = Command::new(process::own_program());
        command
            .arg(stage::VERB)
            .arg(verb)
            .arg(self.paths.dir())
            .env(environment::RUN, self.run().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        match command.spawn() {
            Ok(mut child) => {
                let answer = child.stdout.take().expect("because stdout is piped");
                self.stage = Some(Stage { pid: child.id(), answer });
            }
            Err(error) => self.place_failed(&format!("cannot start the workspace stage: {error}")),
        }
    }

    /// Takes the answer of the workspace stage.
    pub(super) fn stage_ended(&mut self, mut stage: Stage, exit: &Evidence) {
        let mut text = String::new();
        // What cannot be read is no answer, and told as such.
        let _ = stage.answer.read_to_string(&mut text);
        match serde_json::from_str(&text) {
            Ok(Answer::Made { workspace }) => self.prepared(workspace),
            Ok(Answer::Settled { delivered }) => self.settled(delivered),
            Ok(Answer::Discarded) => self.pending.push_back(Event::Settled),
            Ok(Answer::Failed { message }) => self.place_failed(&message),
            Err(_) => {
                self.place_failed(&format!("the workspace stage ended without an answer ({})", exit.words()))
            }
        }
    }

    /// Takes note that a place could not be made, used or described.
    fn place_failed(&mut self, message: &str) {
        let message = said(message);
        if matches!(self.state, State::Settling { .. }) {
            let text = format!("what the run left could not be recorded, {}: {message}", self.what_stays());
            self.warn(&text);
            self.error = Some(text);
            self.pending.push_back(Event::Settled);
        } else {
            self.pending.push_back(Event::Failed { message });
        }
    }

    /// What is there of a workspace that could not be described, or whose removal was not seen to end.
    fn what_stays(&self) -> String {
        match &self.workspace {
            Some(workspace) if workspace.kind == Kind::Worktree && !store::exists(&workspace.root) => {
                format!("its workspace is gone, and what was kept of it is on {}", kept_ref(self.run()))
            }
            Some(_) | None => "its workspace stays".to_owned(),
        }
    }

    fn settled(&mut self, delivered: Delivered) {
        if delivered.dirty {
            let kept = delivered.kept_ref.as_deref().unwrap_or("nowhere");
            let what = delivered.dirty_summary.as_deref().unwrap_or_default();
            let text = said(&format!("uncommitted work was left, and is kept on {kept}:\n{what}"));
            self.warn(&text);
            self.error = Some(text);
        }
        if !delivered.blockers.is_empty() {
            let what: Vec<&str> = delivered.blockers.iter().map(|blocker| blocker.what.as_str()).collect();
            self.warn(&said(&format!("its workspace was to be removed, and stays: {}", what.join("; "))));
        }
        self.delivered = Some(delivered);
        self.pending.push_back(Event::Settled);
    }

    /// Starts the agent through the launch stage.
    pub(super) fn launch(&mut self) {
        let Some(workspace) = self.workspace.clone() else { return };
        // The run has begun, and is owed what it needs of files.
        let (argv, stdin) = match reserve::spend(&self.layout, || self.agent_call(&workspace)) {
            Ok(call) => call,
            Err(error) => return self.place_failed(&error.to_string()),
        };
        let shown = argv
            .iter()
            .take(40)
            .map(|argument| jsonl::clip(&said(&argument.to_string_lossy()), 200))
            .collect();
        let order = Order {
            parent: process::id(),
            umask: self.umask,
            directory: workspace.path,
            errors: self.paths.launch_error(),
            argv,
        };
        let (stdout, stderr) = match self.assignment.spec.output {
            Output::Merged => (self.paths.output(), self.paths.output()),
            Output::Apart => (self.paths.stdout(), self.paths.stderr()),
        };
        let spec = &self.assignment.spec;
        self.outputs = Outputs::open(&self.layout, &self.paths, spec.output, spec.output_bytes_max);
        let (stdin, stdin_is_ours) = stdin.map_or_else(|| ("/dev/null".into(), false), |path| (path, true));
        let variables = self.variables().into_iter().map(|(name, value)| (name.into(), value)).collect();
        let surroundings =
            Surroundings { stdin, stdin_is_ours, stdout, stderr, variables, cgroup: self.cgroup.clone() };
        let started = match self.ahead.take().map(|ahead| ahead.give(&order, &surroundings)) {
            Some(Ok(pid)) => Ok(pid),
            // There was none, or somebody ended it.
            Some(Err(_)) | None => Ahead::start().and_then(|ahead| ahead.give(&order, &surroundings)),
        };
        match started {
            Ok(pid) => {
                self.agent = Some(pid);
                self.append(vec![record::Event::AgentStarted { pid, argv: shown }]);
            }
            Err(error) => self.place_failed(&format!("cannot start the launch stage: {error}")),
        }
    }

    /// The variables of the agent: the user's, the profile's, the task's, ours; the later win.
    fn variables(&self) -> Vec<(String, OsString)> {
        let run = self.run();
        let mut variables = environment::with_own_program(environment::inherited());
        let profile = self.assignment.agent.iter().flat_map(|profile| &profile.env);
        let given = profile.chain(&self.assignment.spec.env);
        variables.extend(given.map(|(name, value)| (name.clone(), value.into())));
        variables.push((environment::SPOOL_DIR.to_owned(), self.assignment.spool.clone().into()));
        variables.push((environment::RUN.to_owned(), run.to_string().into()));
        variables.push((environment::TASK.to_owned(), run.task.to_string().into()));
        variables.push((environment::ATTEMPT.to_owned(), run.attempt.to_string().into()));
        variables.push((environment::TOKEN.to_owned(), self.token.clone().into()));
        let spec = &self.assignment.spec;
        for (name, value) in [(environment::TENANT, &spec.tenant), (environment::PROJECT, &spec.project)] {
            variables.extend(value.iter().map(|value| (name.to_owned(), value.to_string().into())));
        }
        for (name, units) in &self.assignment.assigned {
            let usual =
                name.usual_variable().filter(|usual| !variables.iter().any(|(name, _)| name == usual));
            let names = usual.map(ToOwned::to_owned).into_iter().chain([name.variable()]);
            variables.extend(names.map(|name| (name, resource::listed(units).into())));
        }
        variables
    }

    /// The program, its arguments, and the file that it reads as stdin, once.
    fn agent_call(&self, workspace: &Workspace) -> Result<(Vec<OsString>, Option<PathBuf>), StoreError> {
        let no_input = None;
        Ok(match self.assignment.spec.work() {
            Work::Run(argv) => (argv.iter().map(Into::into).collect(), no_input),
            Work::Shell(line) => (["/bin/sh", "-c", line].map(Into::into).into(), no_input),
            Work::Script(text) => {
                let script = self.paths.script();
                store::remove(&script)?;
                store::create_new(&script, text.as_bytes(), 0o700)?;
                let interpreter = (!text.starts_with("#!")).then(|| OsString::from("/bin/sh"));
                (interpreter.into_iter().chain([script.into_os_string()]).collect(), no_input)
            }
            Work::Prompt(task) => {
                let profile = self.assignment.agent.clone();
                match profile {
                    Some(profile) => self.prompted(&profile, task, &workspace.path)?,
                    None => (vec![], no_input),
                }
            }
        })
    }

    /// An agent's call with its prompt. What is kept on disk does not show the secret.
    fn prompted(
        &self,
        profile: &Profile,
        task: &str,
        place: &Path,
    ) -> Result<(Vec<OsString>, Option<PathBuf>), StoreError> {
        let spec = &self.assignment.spec;
        let with = |token: &str| {
            let (item, extra) = (spec.item.as_deref(), spec.extra.as_deref());
            prompt::compose(&prompt::Parts { run: self.run(), item, place, token, task, extra })
        };
        let shown = with("$GITSPOOL_TOKEN");
        store::make_dirs_below(self.layout.root(), &self.paths.turn(1))?;
        store::draw(&self.layout, &self.paths.prompt(1), shown.as_bytes())?;
        Ok(match profile.prompt {
            PromptBy::Stdin => {
                let path = self.layout.aside(process::id(), &clock::new_secret());
                store::create_new(&path, with(&self.token).as_bytes(), 0o600)?;
                (profile.argv.iter().map(Into::into).collect(), Some(path))
            }
            PromptBy::Argument => {
                // Everybody can read arguments, so the secret is left to the environment.
                let filled =
                    profile.argv.iter().map(|argument| argument.replace(PROMPT_PLACE, &shown).into());
                (filled.collect(), None)
            }
        })
    }
}

fn plain(kind: Kind, path: PathBuf) -> Workspace {
    Workspace { kind, root: path.clone(), path, repository: None, branch: None, base_commit: None }
}
