//! A repository of a registry, or a host beside it, that keeps failing rests. Only the requests for
//! it pay for that (S30). Used by `trouble.rs` and `peer.rs`.
//!
//! | state | entered by | left by |
//! |---|---|---|
//! | asked | start; any answer | 2 requests in a row without a connection, or 5 that failed |
//! | resting | the above | an answer to a request under way, or to one that is let through |
//!
//! A rest takes 1 s and doubles up to 8 s, so lanyard notices a recovery within 10 s. After each
//! rest one request is let through. Pure: the caller hands in the time and holds the lock.

use std::{collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

/// After so many requests in a row without a connection a rest begins.
const SILENT_LIMIT: u32 = 2;

/// After so many requests in a row that failed otherwise a rest begins.
const FAILED_LIMIT: u32 = 5;

/// The first rest. Each following one doubles.
const FIRST: Duration = Duration::from_secs(1);

/// How often a rest doubles.
const DOUBLINGS: u32 = 3;

/// The rests, by key. The number of keys is bounded. The one that failed longest ago goes first.
#[derive(Debug)]
pub(in crate::upstream) struct Rests<K> {
    most: usize,
    entries: HashMap<K, Failures>,
}

#[derive(Debug)]
struct Failures {
    silent: u32,
    failed: u32,
    rests: u32,
    until: Option<Instant>,
    /// A request was let through after a rest and has not failed yet.
    trial: bool,
    reason: String,
    touched: Instant,
}

impl Failures {
    fn length(&self) -> Duration {
        FIRST * 2u32.pow(self.rests.min(DOUBLINGS))
    }
}

impl<K: Eq + Hash + Clone> Rests<K> {
    /// Remembers up to `most` keys.
    pub(in crate::upstream) fn new(most: usize) -> Self {
        Rests { most, entries: HashMap::new() }
    }

    /// Refuses a key that rests, with the reason of its rest.
    pub(in crate::upstream) fn admit(&mut self, key: &K, now: Instant) -> Result<(), String> {
        let Some(entry) = self.entries.get_mut(key) else { return Ok(()) };
        match entry.until {
            None => Ok(()),
            Some(until) if now < until => Err(entry.reason.clone()),
            Some(_) => {
                (entry.until, entry.trial) = (Some(now + entry.length()), true);
                Ok(())
            }
        }
    }

    /// Whether `key` rests. Unlike [`Rests::admit`] this lets no request through.
    pub(in crate::upstream) fn is_resting(&self, key: &K, now: Instant) -> bool {
        self.entries.get(key).and_then(|entry| entry.until).is_some_and(|until| now < until)
    }

    /// Notes that a request for `key` failed: it found no connection, or failed otherwise.
    pub(in crate::upstream) fn failed(&mut self, key: &K, found_no_connection: bool, reason: String, now: Instant) {
        if !self.entries.contains_key(key) && self.entries.len() >= self.most {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.touched).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.entries.remove(&oldest));
        }
        let entry = self.entries.entry(key.clone()).or_insert_with(|| Failures {
            silent: 0,
            failed: 0,
            rests: 0,
            until: None,
            trial: false,
            reason: String::new(),
            touched: now,
        });
        entry.touched = now;
        if entry.until.is_some() {
            // Requests that were under way when the rest began do not make it longer.
            if std::mem::take(&mut entry.trial) {
                entry.rests += 1;
                (entry.until, entry.reason) = (Some(now + entry.length()), reason);
            }
            return;
        }
        if found_no_connection {
            entry.silent += 1;
        } else {
            (entry.silent, entry.failed) = (0, entry.failed + 1);
        }
        if entry.silent >= SILENT_LIMIT || entry.failed >= FAILED_LIMIT {
            (entry.until, entry.reason) = (Some(now + entry.length()), reason);
        }
    }

    /// Notes that a request for `key` was answered.
    pub(in crate::upstream) fn answered(&mut self, key: &K) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(rests: &mut Rests<u8>, key: u8, found_no_connection: bool, now: Instant) {
        rests.failed(&key, found_no_connection, format!("of {key}"), now);
    }

    #[test]
    fn rests_after_two_without_a_connection_or_five_that_failed() {
        let now = Instant::now();
        for (found_no_connection, limit) in [(true, 2), (false, 5)] {
            let mut rests = Rests::new(8);
            for _ in 1..limit {
                fail(&mut rests, 1, found_no_connection, now);
                assert!(rests.admit(&1, now).is_ok());
            }
            fail(&mut rests, 1, found_no_connection, now);
            assert_eq!(rests.admit(&1, now), Err("of 1".to_owned()));
            assert!(rests.admit(&2, now).is_ok(), "no other key rests");
            rests.answered(&1);
            assert!(rests.admit(&1, now).is_ok());
        }
    }

    #[test]
    fn one_is_let_through_after_each_rest_and_rests_double_up_to_eight_seconds() {
        let (mut rests, start) = (Rests::new(8), Instant::now());
        fail(&mut rests, 1, true, start);
        fail(&mut rests, 1, true, start);
        // Requests that were under way change nothing.
        (0..9).for_each(|_| fail(&mut rests, 1, true, start));
        let mut now = start;
        for length in [1, 2, 4, 8, 8, 8] {
            assert!(rests.admit(&1, now + length * SECOND - Duration::from_millis(1)).is_err(), "{length}");
            now += length * SECOND;
            assert!(rests.admit(&1, now).is_ok(), "{length}");
            assert!(rests.admit(&1, now).is_err() && rests.is_resting(&1, now), "only one");
            fail(&mut rests, 1, true, now);
        }
        // A request that was let through and never ended keeps the others out for one rest only.
        now += 8 * SECOND;
        assert!(rests.admit(&1, now).is_ok() && rests.admit(&1, now + 8 * SECOND).is_ok());
    }

    #[test]
    fn holds_a_bounded_number() {
        let (mut rests, now) = (Rests::new(3), Instant::now());
        for key in 0..200u8 {
            fail(&mut rests, key, true, now + u32::from(key) * SECOND);
            fail(&mut rests, key, true, now + u32::from(key) * SECOND);
        }
        assert_eq!(rests.entries.len(), 3);
        assert!(rests.admit(&199, now + 199 * SECOND).is_err() && rests.admit(&0, now).is_ok());
    }
}
