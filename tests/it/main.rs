//! The tests that use real sockets, real files and real clients, in one binary.

// A test that cannot unwrap a value has failed, and the panic says where.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../hub/mod.rs"]
mod hub;

mod access;
mod admin;
mod books;
mod canary;
mod check;
mod cli;
mod clients;
mod conformance;
mod data_plane;
mod face;
mod far;
mod faults;
mod healthcheck;
mod hub_extras;
mod hub_faults;
mod hub_works;
mod lanyard;
mod layers;
mod ls;
mod observe;
mod paths;
mod pins;
mod prefetch;
mod pull;
mod push;
mod raw;
mod refusals;
mod remove;
mod savings;
mod secure;
mod soak;
mod strangers;
mod tags;
mod transport;
mod upstream;
mod wire;
