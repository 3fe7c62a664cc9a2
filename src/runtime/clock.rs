//! Wall-clock times as records have them: whole seconds since 1970, or milliseconds.
//!
//! For what is written down and shown. No timeout depends on them: the clock may be set.

use std::time::{Duration, SystemTime};

/// The present, in seconds since 1970.
pub(crate) fn now() -> u64 {
    seconds(SystemTime::now())
}

/// The present, in milliseconds since 1970; 0 for a clock that stands before it.
pub(crate) fn milliseconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Seconds since 1970; 0 for a clock that stands before it.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The day of a time in seconds since 1970, in UTC, as in `2026-11-01`.
pub(crate) fn day(seconds: u64) -> String {
    let mut text = humantime::format_rfc3339_seconds(time(seconds)).to_string();
    text.truncate("2026-11-01".len());
    text
}

/// The time at so many seconds since 1970, at most the end of the year 9999.
pub(crate) fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799))
}
