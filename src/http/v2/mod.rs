//! The end points of the OCI distribution API, one file each, and the one for tokens.
//!
//! `routes.rs` calls them with a request that has the right its route needs. They check rights
//! again only for repositories that the path does not name: of a mount, of the catalogue.

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
