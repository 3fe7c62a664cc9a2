//! Tests of the binary as a whole.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli;
