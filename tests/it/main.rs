//! The tests that use real sockets and real files, in one binary.

// A test that cannot unwrap what it needs has failed, and says where.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod clients;
#[path = "../hub/mod.rs"]
mod hub;
mod hub_extras;
mod hub_faults;
mod hub_works;
mod lanyard;
mod raw;
