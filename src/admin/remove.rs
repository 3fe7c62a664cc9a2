//! `rm` for an operator.
//!
//! Callers: `/api/v1/rm`.

use super::{Admin, Removals, RemoveOptions, RetentionError};
use crate::{
    config::Mode,
    names::Image,
    oci::{ErrorCode, RegistryError},
    retention::{Named, remove},
};

/// Why images were not removed.
#[derive(Debug)]
pub enum RemoveError {
    /// Nothing may go now.
    Refused(RegistryError),
    /// The disk's.
    Retention(RetentionError),
}

impl From<RetentionError> for RemoveError {
    fn from(error: RetentionError) -> Self {
        RemoveError::Retention(error)
    }
}

impl Admin {
    /// Removes images, or says what that would do. `texts` are the images as the operator writes
    /// them; one that is none is told among the others.
    ///
    /// # Errors
    /// Offline, or on a disk that takes no change, nothing goes. The disk's: the steps so far are
    /// done.
    pub async fn remove(&self, texts: &[String], options: RemoveOptions) -> Result<Removals, RemoveError> {
        let unavailable = |why: &str| Err(RemoveError::Refused(RegistryError::new(ErrorCode::Unavailable, why)));
        if self.mode == Mode::Offline {
            return unavailable("mode is \"offline\": nothing is removed, since it could not be fetched again");
        }
        if !self.storage.writable() {
            return unavailable("the disk takes no change: nothing is removed");
        }
        let mut named = Vec::new();
        let mut wrong = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            match self.image_here(text).await {
                Ok(image) => named.push(name(&image)),
                Err(error) => wrong.push((at, text.clone(), error.message)),
            }
        }
        let mut removals = remove(&self.storage, &self.kept, named, options).await?;
        if let (Some(evictor), false) = (&self.evictor, options.dry_run) {
            evictor.count_removed(removals.bytes);
        }
        for (at, image, error) in wrong {
            removals.images.insert(at, crate::retention::RemovedImage { image, error: Some(error) });
        }
        Ok(removals)
    }
}

fn name(image: &Image) -> Named {
    Named {
        repository: image.repository.clone(),
        tag: image.tag.clone(),
        digest: image.digest,
        shown: image.to_string(),
    }
}
