//! Wall-clock times as records have them: whole seconds since 1970.
//!
//! For what is written down and shown. No timeout depends on them: the clock may be set.

use std::time::{Duration, SystemTime};

/// The present, in seconds since 1970.
pub(crate) fn now() -> u64 {
    seconds(SystemTime::now())
}

/// Seconds since 1970; 0 for a clock that stands before it.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time at so many seconds since 1970, at most the end of the year 9999.
pub(crate) fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799))
}
