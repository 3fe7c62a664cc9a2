//! What a pull keeps in memory, so that it asks neither the disk nor upstream again.
//!
//! | cache | its entries are valid | used for |
//! |---|---|---|
//! | [`WarmCache`] | for one version of their repository | manifests, open blobs, descriptors |
//! | [`AgedCache`] | up to an age that the reader names | what upstream said, such as tag checks |
//! | [`Lists`] | for the upstream's `tag_ttl`, in an outage longer | lists of tags, of referrers |
//! | [`NegativeCache`] | for `cache.negative_ttl` | what upstream does not have |
//!
//! All are bounded, and empty after a restart.

mod aged;
mod lists;
mod negative;
mod warm;

pub(super) use aged::AgedCache;
pub(super) use lists::Lists;
pub(super) use negative::{Missed, NegativeCache};
pub(super) use warm::{KEPT, WarmCache};
