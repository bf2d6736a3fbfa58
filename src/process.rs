//! Process trees: who belongs to a run, and how all of them end.
//!
//! Linux: the supervisor is a subreaper, so every descendant stays below it, whatever called setsid or forked twice;
//! having no child left means that the whole tree is gone. A run whose supervisor was killed is found by the
//! marker in its processes' environments instead. Elsewhere only the agent's process group is known.
//!
//! In tests a thread may have a machine of its own in memory instead, as `disk` says.

#[cfg(test)]
mod either;
mod system;

use crate::outcome::Evidence;

#[cfg(test)]
pub(crate) use either::{
    Pipe, boot, id, is_alive, kill_marked, marked, reap, signal_descendants, start_serving, start_waiting,
};
#[cfg(not(test))]
pub(crate) use system::{
    Pipe, become_subreaper, boot, carry_out, id, is_alive, kill_bearing, kill_marked, marked, own_program,
    reap, run_editor, signal_descendants, start_notifier, start_serving, start_waiting, within,
};
#[cfg(test)]
pub(crate) use system::{
    become_subreaper, carry_out, kill_bearing, own_program, run_editor, start_notifier, within,
};

/// What the children of this process have to tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reaped {
    /// A child ended.
    Child { pid: u32, evidence: Evidence },
    /// Children are there, and none has ended.
    NoneYet,
    /// There is no child, and therefore no descendant.
    NoneLeft,
}
