//! Threads, tasks, time and printing, for every room above.
//!
//! - [`BlockingPool`] runs blocking work on a bounded number of threads; [`detach`] runs a call
//!   that no caller can cancel.
//! - [`Tasks`] owns every task that goes on without a client, and awaits it at the stop.
//! - [`SingleFlight`] does one piece of work per key for all callers that wait for it.
//! - [`FileWatch`] notices changes of small files.
//! - [`run_quietly`] is for threads whose work can wait for requests.
//! - [`printable()`] escapes what a terminal would obey, in text that strangers wrote.
//! - [`clock`] writes wall-clock times as records have them.
//!
//! This room knows nothing of registries. It is the only one that blocks a thread of the runtime's
//! pool; `tests/it/layers.rs` holds it.

mod blocking;
pub(crate) mod clock;
mod file_watch;
mod printable;
mod quiet;
mod single_flight;
mod tasks;

pub use self::{
    blocking::{BlockingPool, detach},
    file_watch::FileWatch,
    tasks::Tasks,
};
pub(crate) use self::{
    file_watch::{Reading, open_file, read_file},
    printable::{PrintableLines, printable, printable_word},
    quiet::run_quietly,
    single_flight::{Flight, SingleFlight},
};
