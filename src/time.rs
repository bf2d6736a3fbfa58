//! Points in time as values. This module never reads a clock; `clock` does.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// Wall-clock time in microseconds, for records and people. It may jump, so nothing is decided by it but when a waiting task
/// becomes ready.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Timestamp(i64);

impl Timestamp {
    pub(crate) fn from_micros(micros_since_epoch: i64) -> Timestamp {
        Timestamp(micros_since_epoch)
    }

    /// From seconds since the epoch and nanoseconds, as files have them.
    pub(crate) fn of_file((seconds, nanoseconds): (i64, i64)) -> Timestamp {
        Timestamp(seconds.saturating_mul(1_000_000).saturating_add(nanoseconds / 1000))
    }

    /// Whole seconds since the epoch, as git writes time.
    pub(crate) fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    pub(crate) fn date(self) -> Date {
        Date(self.utc().format("%Y-%m-%d").to_string())
    }

    /// The time from `earlier` to `self`; zero when the clock went back between them.
    pub(crate) fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// The time so long ago.
    pub(crate) fn before(self, ago: Duration) -> Timestamp {
        let micros = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_sub(micros).max(*TOLD.start()))
    }

    /// So much later; at the end of the years that can be told at the latest.
    pub(crate) fn plus(self, wait: Duration) -> Timestamp {
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(micros).min(*TOLD.end()))
    }

    fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.utc().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The years that RFC 3339 can tell, 0000 to 9999, in microseconds.
const TOLD: std::ops::RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// Why a text is no time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a time like 2026-11-20T15:04:05Z (RFC 3339)")]
pub(crate) struct TimestampError(String);

impl FromStr for Timestamp {
    type Err = TimestampError;
    /// Reads a time of any zone. One that lies in no year of UTC that can be told is the nearest that does, so that what
    /// was read can be written.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = DateTime::parse_from_rfc3339(text).map_err(|_| TimestampError(text.to_owned()))?;
        let micros = read.timestamp_micros();
        Ok(Timestamp(micros.clamp(*TOLD.start(), *TOLD.end())))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimestampError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(at: Timestamp) -> String {
        at.to_string()
    }
}

/// A day in UTC, `YYYY-MM-DD`: the name of a dated folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Date(String);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a length of time as people write it: `90` or `90s`, `10m`, `1h30m`, `2d`; `None` when it is none.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 60 * 60,
            b'd' => 24 * 60 * 60,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(Duration::from_secs(seconds))
}

/// Whether a folder's name has the form of a day. An id that somebody chose may be of a year with five digits, told with a
/// `+`.
pub(crate) fn is_date(name: &str) -> bool {
    let far = name.strip_prefix('+');
    let parts: Vec<&str> = far.unwrap_or(name).split('-').collect();
    let number = |part: &str, digits: usize, max: u32| {
        let fits = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        fits && part.parse::<u32>().is_ok_and(|number| number <= max)
    };
    let year_digits = if far.is_some() { 5 } else { 4 };
    matches!(parts[..], [year, month, day]
        if number(year, year_digits, 99_999) && number(month, 2, 12) && number(day, 2, 31))
}

/// A point on this machine's monotonic clock, from an origin that differs for each process.
/// What a process decides about time (deadlines, quiet time), it decides with this.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Moment(Duration);

impl Moment {
    pub(crate) fn from_origin(elapsed: Duration) -> Moment {
        Moment(elapsed)
    }

    /// The time from `self` until `later`; zero when it has come.
    pub(crate) fn until(self, later: Moment) -> Duration {
        later.0.saturating_sub(self.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, wait: Duration) -> Moment {
        Moment(self.0.saturating_add(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_keeps_its_microseconds_through_text() {
        let at = Timestamp::from_micros(1_795_187_045_123_456);
        assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
        assert!(at.to_string().ends_with(".123456Z"), "{at}");
        assert_eq!(at.date().to_string(), at.to_string()[..10]);
    }

    #[test]
    fn a_length_of_time_is_read_as_people_write_it() {
        for (text, seconds) in
            [("0", 0), ("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "m",
            "10 m",
            "-1",
            "-1s",
            "1.5h",
            "10x",
            "1h30",
            "1µ",
            "99999999999999999999",
            "9999999999999999d",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        let at = Timestamp::from_micros(1_795_187_045_123_456);
        assert_eq!(at.since(at.before(Duration::from_secs(600))), Duration::from_secs(600));
        assert_eq!(at.before(Duration::MAX).to_string(), "0000-01-01T00:00:00.000000Z");
    }

    #[test]
    fn a_later_time_can_be_told_however_late_it_is() {
        let at = Timestamp::from_micros(1);
        assert_eq!(at.plus(Duration::from_secs(2)), Timestamp::from_micros(2_000_001));
        let last = at.plus(Duration::from_secs(u64::MAX));
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn every_day_of_an_id_is_a_date_and_no_other_name_is() {
        for millis in [0, 1_795_187_045_123, (1 << 48) - 1] {
            let date = Timestamp::from_micros(millis * 1000).date().to_string();
            assert!(is_date(&date), "{date}");
        }
        for name in [
            "",
            "2026-11",
            "2026-11-2",
            "2026-11-201",
            "20261-11-20",
            "+2026-11-20",
            "2026-11-20-1",
            "2026_11_20",
            "2026-13-20",
            "-026-11-20",
        ] {
            assert!(!is_date(name), "{name}");
        }
    }

    #[test]
    fn what_is_no_time_is_told_what_one_is() {
        for text in ["yesterday", "", "2026-11-20", "2026-11-20 15:04", "2026-13-20T15:04:05Z"] {
            let told = text.parse::<Timestamp>().unwrap_err().to_string();
            assert!(told.starts_with(&format!("{text:?} is not a time like 2026-")), "{told}");
        }
    }

    #[test]
    fn a_time_that_was_read_can_be_written_in_whichever_zone_it_was() {
        for (told, utc) in [
            ("0000-01-01T00:00:00+23:59", "0000-01-01T00:00:00.000000Z"),
            ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999999Z"),
            ("2026-11-20T15:04:05+01:00", "2026-11-20T14:04:05.000000Z"),
        ] {
            let at: Timestamp = told.parse().unwrap();
            assert_eq!(at.to_string(), utc, "{told}");
            assert_eq!(utc.parse::<Timestamp>().unwrap(), at);
        }
    }
}
