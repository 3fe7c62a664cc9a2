//! The lists that upstreams gave, of tags and of referrers, and those that are being asked for.
//!
//! A list of tags has at most 8 MiB ([`Tags`]), an upstream is asked for [`AT_ONCE`] of them at a
//! time, and [`LISTS`] bytes of each kind are kept in all: so the lists of a hostile upstream cost
//! little memory, and no other upstream its list (S28). `pull/lists.rs` and `pull/referrers.rs`
//! fill this.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{super::PullError, aged::AgedCache};
use crate::{
    oci::{Digest, Repository, Tags, UpstreamName},
    runtime::SingleFlight,
};

/// How many bytes of each kind of list are kept.
const LISTS: u64 = 16 << 20;

/// How many lists of tags an upstream is asked for at once.
const AT_ONCE: usize = 2;

type Answer<T> = Result<T, PullError>;

/// The lists that are remembered, and those that are being asked for.
pub(in crate::pull) struct Lists {
    pub(in crate::pull) tags: AgedCache<Repository, Arc<Tags>>,
    pub(in crate::pull) tag_flights: SingleFlight<Repository, Answer<Arc<Tags>>>,
    /// One entry for each upstream, whose list is closed.
    permits: Mutex<HashMap<UpstreamName, Arc<Semaphore>>>,
    pub(in crate::pull) referrers: AgedCache<(Repository, Digest), Bytes>,
    pub(in crate::pull) referrer_flights: SingleFlight<(Repository, Digest), Answer<Bytes>>,
}

impl Lists {
    /// No list is known.
    pub(in crate::pull) fn new() -> Self {
        Lists {
            tags: AgedCache::new(LISTS, |tags| tags.weight() + 64),
            tag_flights: SingleFlight::new(),
            permits: Mutex::default(),
            referrers: AgedCache::new(LISTS, |index| index.len() + 128),
            referrer_flights: SingleFlight::new(),
        }
    }

    /// The permits to ask this upstream for a list of tags.
    pub(in crate::pull) fn permits(&self, upstream: &UpstreamName) -> Arc<Semaphore> {
        let mut permits = self.permits.lock();
        Arc::clone(permits.entry(upstream.clone()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
    }
}
