//! Everything put together.

use crate::config::Loaded;

/// Runs the registry until it is told to stop.
///
/// # Errors
/// What keeps it from running.
pub fn serve(_loaded: Loaded) -> Result<(), std::io::Error> {
    Err(std::io::Error::other("serving is not there yet"))
}
