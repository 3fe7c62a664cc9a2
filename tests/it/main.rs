//! The tests that use real sockets and real files, in one binary.

mod clients;
#[path = "../hub/mod.rs"]
mod hub;
mod hub_works;
mod lanyard;
mod raw;
