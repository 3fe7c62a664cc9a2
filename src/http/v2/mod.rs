//! The end points of the OCI distribution API, one file each, and that of tokens.
//!
//! `routes.rs` calls them once the request has the right that its route needs. None of them looks
//! at rights again, but for repositories that the path does not name.

pub(crate) mod blobs;
pub(crate) mod catalog;
pub(crate) mod delete;
mod link;
pub(crate) mod manifests;
pub(crate) mod push_manifests;
pub(crate) mod referrers;
pub(crate) mod tags;
pub(crate) mod token;
pub(crate) mod uploads;
