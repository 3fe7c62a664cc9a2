//! The fault campaign: pulls under faults of the disk, the process and the clock, and with an
//! upstream that lies.
//!
//! Every test has a short form, which runs in the suite, and a long form behind
//! `LANYARD_FAULTS=long`; docs/TESTING.md says what each needs and what the long forms measured. A
//! test whose plight this machine cannot make is left out, and says so on the real standard error;
//! with `LANYARD_REQUIRE_FAULTS=1` that is a failure.

mod clock;
mod descriptors;
mod enospc;
mod evictions;
mod folder;
mod hosted;
mod index;
mod index_cases;
mod kill;
mod lies;
mod plight;
mod power;
mod readonly;
mod reserved;
mod rot;
mod scripts;
mod second_look;
pub(crate) mod shelf;
mod strace;

use std::io::Write as _;

pub(crate) use second_look::series;
pub(crate) use shelf::blob_file;
pub(crate) use strace::{Ambush, available};

/// Whether the long forms were asked for.
pub(crate) fn long() -> bool {
    std::env::var("LANYARD_FAULTS").as_deref() == Ok("long")
}

/// How many times to repeat a step.
fn rounds(short: usize, long_form: usize) -> usize {
    if long() { long_form } else { short }
}

/// Says on the real standard error that the running test does nothing, and why.
pub(crate) fn left_out(reason: &str) {
    assert_ne!(std::env::var("LANYARD_REQUIRE_FAULTS").as_deref(), Ok("1"), "{reason}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = std::io::stderr().write_all(format!("left out: {reason}; {test} was not run\n").as_bytes());
}

/// Prints a measurement of a long form to an output that the test runner does not capture.
fn figure(text: &str) {
    if long() {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let _ = std::io::stderr().write_all(format!("{test}: {text}\n").as_bytes());
    }
}
