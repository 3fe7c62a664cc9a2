//! The shapes of `/api/v1`, for the server that writes them and the command line that reads them.
//!
//! A field that is added has a default, so that an older server answers a newer command line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::upkeep::{Collection, HostedRepository, Kept, Passed, ScrubStatus, Scrubbed};

/// `/api/v1/status`
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of lanyard.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs, in seconds since 1970.
    pub started: u64,
    /// The registry's address.
    pub listening: String,
    /// The data folder.
    pub data_dir: PathBuf,
    /// False while it drains.
    pub ready: bool,
    /// What is on disk.
    pub kept: Kept,
    /// How reading it again gets on.
    #[serde(default)]
    pub scrub: ScrubStatus,
    /// Downloads under way.
    pub fills: u64,
    /// The registries of the internet.
    pub upstreams: Vec<UpstreamStatus>,
}

/// One upstream in a [`Status`].
#[derive(Debug, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// False while it is left alone after failures.
    pub reachable: bool,
    /// Pulls allowed in the window, where it has said so.
    pub limit: Option<u64>,
    /// Pulls left of them.
    pub remaining: Option<u64>,
}

/// `/api/v1/repositories`
#[derive(Debug, Serialize, Deserialize)]
pub struct Repositories {
    /// Sorted by name.
    pub repositories: Vec<HostedRepository>,
}
