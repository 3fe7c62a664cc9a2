//! The tests that use real sockets, real files and real clients, in one binary.

#[path = "../hub/mod.rs"]
mod hub;

mod cli;
mod clients;
mod hub_extras;
mod hub_faults;
mod hub_works;
mod lanyard;
mod layers;
mod pull;
mod raw;
mod upstream;
mod wire;
