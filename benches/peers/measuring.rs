//! How every case measures: the rounds, the processors, the rest before a measurement.

use std::{thread, time::Duration};

/// docker-registry answers with this type only to clients that ask for it.
pub(crate) const ACCEPT: &str = "Accept: application/vnd.oci.image.manifest.v1+json";

/// How often each server is measured in a case.
pub(crate) const ROUNDS: usize = 5;

/// Which processors a case may use.
pub(crate) struct Cpus {
    /// The servers' processors, where the clients have the others.
    pub(crate) servers: String,
    /// All processors, where servers and clients share them.
    pub(crate) all: String,
}

/// Gives a server half a second without requests, so that a measurement begins at rest.
pub(crate) fn settle() {
    thread::sleep(Duration::from_millis(500));
}
