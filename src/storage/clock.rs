//! Wall-clock times as they stand in records: whole seconds since 1970. Nothing here times out by them.

use std::time::{Duration, SystemTime};

/// Seconds since 1970; 0 for a clock that stands before it.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time of those seconds; the largest year that people write, 9999, at most.
pub(super) fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799))
}
