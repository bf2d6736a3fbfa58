//! Places in the lists of `ls`, by which a list goes on where a page of it ended, whatever came or went meanwhile.
//!
//! A place is that of a task or a run in the order of the list, and not a count: what was before it stays before it. One that
//! moves on while somebody turns pages may be met again, or be passed; who must miss nothing reads `gitspool changes`.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use super::CliError;
use super::find::{Found, Place};
use crate::id::{Rank, RunId, TaskId};

/// A place in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Page {
    // In the order in which live tasks are listed.
    Active(TaskId),
    Ready(Rank, TaskId),
    Waiting(TaskId),
    Held(TaskId),
    /// The newest first.
    Ended(Reverse<TaskId>),
    /// In the list of runs, the newest first.
    Run(Reverse<RunId>),
}

impl Page {
    pub(super) fn of(found: &Found) -> Page {
        match found.place {
            Place::Active(_) => Page::Active(found.task),
            Place::Ready(rank) => Page::Ready(rank, found.task),
            Place::Waiting => Page::Waiting(found.task),
            Place::Held => Page::Held(found.task),
            Place::Ended(_) => Page::Ended(Reverse(found.task)),
        }
    }

    pub(super) fn of_run(run: RunId) -> Page {
        Page::Run(Reverse(run))
    }

    /// The day in the list of ended tasks.
    pub(super) fn ended_date(self) -> Option<String> {
        match self {
            Page::Ended(Reverse(task)) => Some(task.date().to_string()),
            Page::Active(_) | Page::Ready(..) | Page::Waiting(_) | Page::Held(_) | Page::Run(_) => None,
        }
    }

    /// The run in the list of runs.
    pub(super) fn run(self) -> Result<Option<RunId>, CliError> {
        match self {
            Page::Run(Reverse(run)) => Ok(Some(run)),
            Page::Active(_) | Page::Ready(..) | Page::Waiting(_) | Page::Held(_) | Page::Ended(_) => {
                Err(CliError::Usage(format!("--page {self} is a place in the list of tasks, not of runs")))
            }
        }
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Page::Active(task) => write!(f, "active-{task}"),
            Page::Ready(rank, task) => write!(f, "ready-{rank}-{task}"),
            Page::Waiting(task) => write!(f, "waiting-{task}"),
            Page::Held(task) => write!(f, "held-{task}"),
            Page::Ended(Reverse(task)) => write!(f, "ended-{task}"),
            Page::Run(Reverse(run)) => write!(f, "run-{run}"),
        }
    }
}

impl FromStr for Page {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Page, &'static str> {
        let of = || -> Option<Page> {
            let (word, id) = text.split_once('-')?;
            Some(match word {
                "active" => Page::Active(id.parse().ok()?),
                "ready" => {
                    let (rank, id) = id.split_once('-')?;
                    Page::Ready(Rank::try_from(rank.parse::<u8>().ok()?).ok()?, id.parse().ok()?)
                }
                "waiting" => Page::Waiting(id.parse().ok()?),
                "held" => Page::Held(id.parse().ok()?),
                "ended" => Page::Ended(Reverse(id.parse().ok()?)),
                "run" => Page::Run(Reverse(id.parse().ok()?)),
                _ => return None,
            })
        };
        of().ok_or("it is no place in a list; take the `page` of the last row that you have")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_places_have_the_order_of_the_list() {
        let task = |n: u8| format!("01890a5d-ac96-774b-bcce-b302099a80{n:02x}").parse::<TaskId>().unwrap();
        let rank = |rank: u8| Rank::try_from(rank).unwrap();
        let places = [
            Page::Active(task(9)),
            Page::Ready(rank(10), task(8)),
            Page::Ready(rank(50), task(1)),
            Page::Ready(rank(50), task(2)),
            Page::Waiting(task(3)),
            Page::Held(task(1)),
            Page::Ended(Reverse(task(7))),
            Page::Ended(Reverse(task(6))),
        ];
        assert!(places.is_sorted());
        for page in places.into_iter().chain([Page::of_run(RunId { task: task(1), attempt: 2 })]) {
            assert_eq!(page.to_string().parse(), Ok(page));
        }
        for bad in ["", "ready", "ready-x", "ended-1", "gone-01890a5d-ac96-774b-bcce-b302099a8001"] {
            assert!(bad.parse::<Page>().is_err(), "{bad}");
        }
    }
}
