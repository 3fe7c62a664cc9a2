//! The order after `kill -9` in the middle of a trace (K12).
//!
//! What is left is what the blobs' files show: a last use that is right to an hour, two uses of a
//! blob that was used a day or more after it came, one use of any other. The turn, the harvest and
//! the uses of what was evicted are forgotten. The trace has no times, so an hour is a number of
//! requests.

use crate::{
    GB,
    policies::{Cache, Memory, Room, Turns},
    replay,
    trace::{Sizes, Trace},
};

/// How many requests an hour has: as many as the replay's minutes say, and as many as one zone of
/// the IBM registries had (9.9 million in 75 days in five zones).
pub(crate) const HOURS: [u32; 2] = [60, 1_100];

/// The goal: at most so many points of the byte hit ratio are lost.
pub(crate) const MOST_LOST: f64 = 1.0;

/// Turns over files whose times show the uses, as lanyard sets them.
struct Stamped<'a> {
    turns: Turns<'a>,
    hour: u32,
    killed_at: Option<u32>,
    /// When each blob came, and the last use that its file shows.
    came: Vec<u32>,
    shown: Vec<u32>,
}

impl Cache for Stamped<'_> {
    fn ask(&mut self, blob: u32, now: u32) -> bool {
        if self.killed_at == Some(now) {
            let (came, shown, day) = (&self.came, &self.shown, 24 * self.hour);
            self.turns.killed(|blob| {
                let (came, shown) = (came[blob as usize], shown[blob as usize]);
                (shown, if shown - came >= day { 2 } else { 1 })
            });
        }
        let (hit, blob_at) = (self.turns.ask(blob, now), blob as usize);
        if !hit {
            (self.came[blob_at], self.shown[blob_at]) = (now, now);
        } else if now - self.shown[blob_at] >= self.hour {
            self.shown[blob_at] = now;
        }
        hit
    }
}

/// Points of the byte hit ratio that a kill in the middle costs over the next tenth of the trace,
/// in a cache of `capacity` bytes.
pub(crate) fn points_lost(trace: &Trace, sizes: &Sizes, capacity: u64, hour: u32) -> f64 {
    let (middle, tenth) = (trace.requests.len() / 2, trace.requests.len() / 10);
    let hits = |killed_at| {
        let blobs = sizes.len();
        let turns = Turns::new(Room::new(sizes, capacity), Memory::FourTurns);
        let mut cache = Stamped { turns, hour, killed_at, came: vec![0; blobs], shown: vec![0; blobs] };
        replay(&trace.requests[..middle + tenth], sizes, &mut cache)
    };
    let requested: u64 = trace.requests[middle..middle + tenth].iter().map(|blob| sizes[*blob as usize]).sum();
    assert!(requested > GB, "a tenth of the trace has some bytes");
    // Up to the middle both are the same.
    let (whole, killed) = (hits(None) as f64, hits(Some(middle as u32)) as f64);
    100.0 * (whole - killed) / requested as f64
}
