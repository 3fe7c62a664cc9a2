//! `lanyard check`: verifies the data folder of a lanyard that does not run. Called by the command.

use crate::{
    config::Config,
    storage::{self, CheckError, CheckOptions, CheckReport},
};

/// Verifies everything in the data folder, on as many threads as the machine has processors.
/// `repair` mends what can be mended. `progress` is called with the size in bytes of every blob
/// that was read, by any thread.
///
/// # Errors
/// The folder cannot be looked at. A finding is no error.
pub fn check(config: &Config, repair: bool, progress: &(dyn Fn(u64) + Sync)) -> Result<CheckReport, CheckError> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let options = CheckOptions { repair, sparse: config.hosted.sparse, threads };
    storage::check(&config.data_dir, options, progress)
}
