//! How a run ends, and with what evidence.

use serde::{Deserialize, Serialize};

/// The outcome of a run, and with it of its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Succeeded,
    /// It ended by itself and says that it did not succeed, or it could not be started.
    Failed,
    /// A signal ended it that was not ours.
    Signalled,
    TimedOut,
    Cancelled,
    /// Its supervisor was told to end, or the machine went down under it.
    Interrupted,
    /// Nobody saw how it ended.
    Lost,
    /// Of a task: what it needs has not succeeded.
    Blocked,
    /// Of a task: what it waits for has ended so that it is not wanted.
    Skipped,
    /// Of a task: its deadline came before it started.
    Expired,
}

impl Outcome {
    /// Every outcome, the best first.
    #[cfg(test)]
    pub(crate) const ALL: [Outcome; 10] = [
        Outcome::Succeeded,
        Outcome::Cancelled,
        Outcome::Failed,
        Outcome::Signalled,
        Outcome::TimedOut,
        Outcome::Interrupted,
        Outcome::Lost,
        Outcome::Skipped,
        Outcome::Expired,
        Outcome::Blocked,
    ];

    /// The folder of tasks that ended so; one of `layout::ENDED_FOLDERS`.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Outcome::Succeeded => "done",
            Outcome::Cancelled => "cancelled",
            Outcome::Blocked => "blocked",
            Outcome::Skipped => "skipped",
            Outcome::Expired => "expired",
            Outcome::Failed
            | Outcome::Signalled
            | Outcome::TimedOut
            | Outcome::Interrupted
            | Outcome::Lost => "failed",
        }
    }

    /// What the folder of a task's file tells of its outcome: the most usual one that leads there.
    pub(crate) fn of_folder(folder: &str) -> Outcome {
        let there =
            [Outcome::Succeeded, Outcome::Cancelled, Outcome::Blocked, Outcome::Skipped, Outcome::Expired];
        there.into_iter().find(|outcome| outcome.folder() == folder).unwrap_or(Outcome::Failed)
    }

    /// The word for it in records and on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Signalled => "signalled",
            Outcome::TimedOut => "timed_out",
            Outcome::Cancelled => "cancelled",
            Outcome::Interrupted => "interrupted",
            Outcome::Lost => "lost",
            Outcome::Blocked => "blocked",
            Outcome::Skipped => "skipped",
            Outcome::Expired => "expired",
        }
    }

    /// The same of a run, in words that follow its name.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Signalled => "was signalled",
            Outcome::TimedOut => "timed out",
            Outcome::Cancelled => "was cancelled",
            Outcome::Interrupted => "was interrupted",
            Outcome::Lost => "was lost",
            Outcome::Blocked => "was blocked",
            Outcome::Skipped => "was skipped",
            Outcome::Expired => "has expired",
        }
    }
}

/// What was seen of a run's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) exit_code: Option<i32>,
    /// The number of the signal that ended the agent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) signal: Option<i32>,
    /// What else there is to say, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) message: Option<String>,
}

impl Evidence {
    pub(crate) fn of(message: impl Into<String>) -> Evidence {
        Evidence { message: Some(message.into()), ..Evidence::default() }
    }

    /// In words that follow the outcome's; empty when nothing is known.
    pub(crate) fn words(&self) -> String {
        let code = self.exit_code.map(|code| format!("exit code {code}"));
        let signal = self.signal.map(|signal| format!("signal {signal}"));
        let words: Vec<String> = [code, signal, self.message.clone()].into_iter().flatten().collect();
        words.join(", ")
    }
}
