//! The registries of the internet.

pub mod fetcher;
