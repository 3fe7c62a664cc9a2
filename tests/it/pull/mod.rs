//! The pull through the real binary, with a Docker Hub stand-in that counts and misbehaves.

mod dialects;
mod documents;
mod eviction;
mod fill;
mod freshness;
mod full;
mod heads;
mod joined;
mod late;
pub(crate) mod leftovers;
mod lengths;
mod limits;
mod names;
mod neighbours;
mod outage;
mod ranges;
mod restart;
mod rot;
mod signatures;
mod signing;
mod spellings;
mod standing;
mod storm;
mod strangers;
mod uses;

use crate::{hub::Hub, lanyard::Lanyard};

/// The configuration that has `hub` as Docker Hub, and more lines.
pub(crate) fn config(hub: &Hub, more: &str) -> String {
    format!("{more}\n[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n", hub.url())
}

/// A lanyard in front of `hub`.
pub(crate) fn mirror(hub: &Hub) -> Lanyard {
    Lanyard::start(&config(hub, ""))
}

/// A lanyard in front of `hub`, with more configuration above its upstream.
pub(crate) fn mirror_with(hub: &Hub, more: &str) -> Lanyard {
    Lanyard::start(&config(hub, more))
}
