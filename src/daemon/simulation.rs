//! Runs daemons and supervisors, the program itself, on a machine in memory, and takes their power away.
//!
//! Real are the daemon's deciding, the inbox, checkpoints, recovery, supervisors, logs, the store and locks. Simulated are
//! the disk, processes, the clock, and what the threads of a daemon wait for: [`World`] lets one actor go on at a time.
//! Agents do nothing but end. What must hold stands in [`oracle`].
//!
//! [`sequences`] goes through all sequences of up to three verbs, each with a crash before every call that changes the
//! disk, and every state of the disk that is legal then, as far as [`crate::simulated::Tree::cut`] says. [`walk`] does at
//! random what users, agents, clocks and power do, from a seed that it prints when it fails. [`faults`] shows that both can
//! fail.

mod world;
mod actors;
mod verbs;
mod pauses;
mod oracle;
mod told;
mod sequences;
mod walk;
mod faults;
#[cfg(test)]
mod found;
