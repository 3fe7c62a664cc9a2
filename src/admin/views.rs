//! The shapes of `/api/v1`: the server writes them, the command line reads them.
//!
//! A field that is added later has a default, so that a newer command line understands an older
//! server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::retention::{Collection, HostedRepository, Kept, Passed, ScrubStatus, Scrubbed};

/// `/api/v1/status`
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The version of lanyard.
    pub version: String,
    /// The id of its process.
    pub pid: u32,
    /// When it started, in seconds since 1970.
    pub started: u64,
    /// The registry's address.
    pub listening: String,
    /// The data folder.
    pub data_dir: PathBuf,
    /// False while the registry drains.
    pub ready: bool,
    /// The content on disk.
    pub kept: Kept,
    /// How the scrub gets on.
    #[serde(default)]
    pub scrub: ScrubStatus,
    /// The number of downloads under way.
    pub fills: u64,
    /// The configured upstreams.
    pub upstreams: Vec<UpstreamStatus>,
}

/// One upstream in a [`Status`].
#[derive(Debug, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// False while it is not asked, after failures.
    pub reachable: bool,
    /// The pulls that it allows in a window, if it has said so.
    pub limit: Option<u64>,
    /// The pulls that are left of them.
    pub remaining: Option<u64>,
}

/// `/api/v1/repositories`
#[derive(Debug, Serialize, Deserialize)]
pub struct Repositories {
    /// Sorted by name.
    pub repositories: Vec<HostedRepository>,
}
