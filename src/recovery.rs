//! What a daemon does about the run of a live task, from what it finds of it. Pure.
//!
//! Nothing is decided by a pid, by a time, or by who was killed: only by the run's lock, by its log, and by which boot of
//! the machine this is. So one table serves for a daemon that starts, for one whose supervisor ended, and for one that
//! looks again; and a pid that was given to another process, or a clock that jumped, changes nothing. What comes of it for
//! whoever is killed, whenever, stands in `spool-layout.md`.

use crate::outcome::Outcome;

/// What is found of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Found {
    /// A supervisor of this daemon's own, or a thread that waits for the lock, will tell of it.
    Expected,
    /// Somebody holds its lock, which is the only sign of life.
    Held,
    Free(Logged),
}

/// Which boot of the machine the run began in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Boot {
    This,
    Earlier,
}

/// What the log of a run says whose lock is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Logged {
    /// There is no `run.started`.
    NotBegun,
    /// `run.started` is there, and no `run.ended`.
    Begun(Boot),
    /// `run.ended` is there.
    Ended,
    /// The log is gone with the run's folder, and the run may live: its supervisor makes the folder again.
    Uprooted,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Duty {
    /// Nothing, until it is told of.
    Wait,
    /// The run is given to a supervisor.
    Start,
    /// A thread waits for its lock.
    Adopt,
    /// The task ends as the run's log says.
    FileAway,
    /// Under the run's lock: what is left of it is killed, and its end written with this outcome.
    GiveUp(Outcome),
    /// It is looked at again a moment later.
    LookAgain,
}

/// Decides what is done about a run.
#[must_use]
pub(crate) fn duty(found: Found) -> Duty {
    match found {
        Found::Expected => Duty::Wait,
        // Whoever holds the lock will say how the run ended, or the lock is free with him gone.
        Found::Held => Duty::Adopt,
        Found::Free(Logged::NotBegun) => Duty::Start,
        Found::Free(Logged::Begun(boot)) => Duty::GiveUp(abandoned(boot)),
        Found::Free(Logged::Ended) => Duty::FileAway,
        Found::Free(Logged::Uprooted) => Duty::LookAgain,
    }
}

/// How a run ended whose supervisor is gone without a word.
fn abandoned(boot: Boot) -> Outcome {
    match boot {
        Boot::This => Outcome::Lost,
        Boot::Earlier => Outcome::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of the table, in the order of its rows and columns.
    const KILLED: [&str; 4] = ["daemon", "supervisor", "agent", "all"];
    const WHEN: [&str; 6] = [
        "before lock",
        "after lock",
        "after start",
        "after the agent's exit, before the record",
        "after the record, before unlock",
        "after unlock",
    ];
    const THEN: [&str; 4] = ["normal", "pid reused", "clock a year off", "reboot"];

    /// What is found when the daemon looks, or the next one does, right after the kill.
    fn found(killed: &str, when: &str, then: &str) -> Found {
        let place = |word| WHEN.iter().position(|when| *when == word).unwrap();
        let at = place(when);
        let reboot = then == "reboot";
        let daemon_lives = !reboot && matches!(killed, "supervisor" | "agent");
        let supervisor_lives = !reboot && matches!(killed, "daemon" | "agent");
        if daemon_lives && supervisor_lives && at < place("after unlock") {
            return Found::Expected;
        }
        if supervisor_lives && (place("after lock")..place("after unlock")).contains(&at) {
            return Found::Held;
        }
        // Neither a pid nor a time is looked at, whatever was done to them.
        Found::Free(match () {
            () if at < place("after start") => Logged::NotBegun,
            () if at >= place("after the record, before unlock") => Logged::Ended,
            () => Logged::Begun(if reboot { Boot::Earlier } else { Boot::This }),
        })
    }

    fn word(duty: Duty) -> &'static str {
        match duty {
            Duty::Wait => "wait",
            Duty::Start => "start",
            Duty::Adopt => "adopt",
            Duty::FileAway => "file away",
            Duty::GiveUp(outcome) => outcome.word(),
            Duty::LookAgain => "look again",
        }
    }

    #[test]
    fn whoever_is_killed_whenever_the_table_tells_what_is_done() {
        let document = include_str!("../spool-layout.md");
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('*').to_owned()).collect()
        };
        let begin = document.lines().position(|line| line.starts_with("| killed | when |")).unwrap();
        let table: Vec<Vec<String>> =
            document.lines().skip(begin).take_while(|line| line.starts_with('|')).map(cells).collect();
        assert_eq!(table[0][2..], THEN);
        let mut checked = 0;
        let mut rows = table[2..].iter();
        for (killed, when) in KILLED.iter().flat_map(|killed| WHEN.map(|when| (*killed, when))) {
            let row = rows.next().expect("because each has a row");
            assert_eq!(row[..2], [killed, when]);
            for (then, expected) in THEN.iter().zip(&row[2..]) {
                let duty = duty(found(killed, when, then));
                assert_eq!(word(duty), expected, "{killed} {when}, {then}");
                checked += 1;
            }
        }
        assert_eq!((checked, rows.next()), (96, None));
    }

    #[test]
    fn what_somebody_removed_is_not_started_again_and_a_held_lock_is_always_believed() {
        assert_eq!(duty(Found::Free(Logged::Uprooted)), Duty::LookAgain);
        assert_eq!(duty(Found::Held), Duty::Adopt);
    }
}
