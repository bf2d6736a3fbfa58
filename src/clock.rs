//! The clock, and the ids that are made from it.
#![expect(clippy::disallowed_methods, reason = "the one module that reads a clock")]

use std::sync::OnceLock;
use std::time::Instant;

use uuid::Uuid;

use crate::id::TaskId;
use crate::time::{Moment, Timestamp};

/// Wall-clock time, for records.
pub(crate) fn now() -> Timestamp {
    #[cfg(test)]
    if let Some(now) = crate::simulated::now() {
        return now;
    }
    Timestamp::from_micros(chrono::Utc::now().timestamp_micros())
}

/// Monotonic time, for deadlines; its origin is the first call in this process.
pub(crate) fn monotonic() -> Moment {
    #[cfg(test)]
    if let Some(moment) = crate::simulated::monotonic() {
        return moment;
    }
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    Moment::from_origin(ORIGIN.get_or_init(Instant::now).elapsed())
}

/// A new id; ids made by one process sort in the order in which they were made.
pub(crate) fn new_id() -> TaskId {
    #[cfg(test)]
    if let Some(id) = crate::simulated::new_id() {
        return id;
    }
    TaskId::from_uuid(Uuid::now_v7())
}

/// 122 random bits as 32 hexadecimal digits: a run's secret, or a name that nobody else takes.
pub(crate) fn new_secret() -> String {
    #[cfg(test)]
    if let Some(secret) = crate::simulated::new_secret() {
        return secret;
    }
    Uuid::new_v4().simple().to_string()
}
