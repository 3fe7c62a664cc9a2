//! The tests that use real sockets and real files, in one binary.

#[path = "../hub/mod.rs"]
mod hub;
mod hub_works;
mod raw;
