//! How a full cache behaves: beside nginx's `proxy_cache` and docker-registry as a pull-through
//! proxy, and lanyard's own figures. docs/PERFORMANCE.md explains them.

mod blobs;
mod client;
mod evictions;
mod fast_clock;
mod folder;
mod full;
mod overshoot;
mod proxies;
mod replay;
mod sampler;
mod upstream;
mod warm;

use crate::{content::Content, measuring::Cpus, report::Section, servers::finds};

/// Beside the peers, over HTTP.
pub(crate) fn replay(cpus: &Cpus) -> Vec<Section> {
    if has_upstream() { vec![replay::run(cpus)] } else { Vec::new() }
}

/// Downloads into a full cache.
pub(crate) fn full(cpus: &Cpus) -> Vec<Section> {
    if !has_upstream() {
        return Vec::new();
    }
    let blobs = blobs::Blobs::large();
    let mut sections = vec![overshoot::run(&blobs, cpus)];
    sections.extend(full::run(&blobs, cpus));
    sections
}

/// Evictions, scans and lists, and what evictions cost warm requests.
pub(crate) fn evictions(content: &Content, cpus: &Cpus) -> Vec<Section> {
    let mut sections = vec![evictions::run(cpus)];
    sections.extend(warm::run(content, cpus));
    sections
}

fn has_upstream() -> bool {
    let is_here = finds("nginx");
    if !is_here {
        eprintln!("left out: there is no nginx to be the upstream");
    }
    is_here
}
