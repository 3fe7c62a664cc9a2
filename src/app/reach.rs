//! `lanyard config check --reach`: asks the object store of a configuration for everything that
//! lanyard needs of it. Called by the command.

use crate::{
    config::Config,
    storage::{Far, FarOpenError, Reach},
};

/// What the object store can do, and its name. Takes some seconds; leaves nothing behind.
///
/// # Errors
/// It cannot be asked, or there is none. A finding is no error.
pub fn reach(config: &Config) -> Result<(String, Reach), FarOpenError> {
    let far = Far::open(&config.storage, |name| std::env::var(name).ok())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(FarOpenError::Machine)?;
    Ok((far.name().to_owned(), runtime.block_on(far.probe())))
}
