//! Pins: which images an operator keeps on disk.
//!
//! A pin is a record beside the repositories, and changes no repository. Callers: the
//! administration changes pins; the retention keeps what they name.

use crate::{
    oci::{Reference, Repository},
    storage::{Pin, PinList, Storage, StorageError},
};

impl Storage {
    /// Pins an image, durably, in the place of a pin that it may have. The image need not be here.
    ///
    /// # Errors
    /// The disk's.
    pub async fn pin(&self, pin: Pin) -> Result<(), StorageError> {
        self.write_with(move |files| files.pins.put(&pin)).await
    }

    /// Pins an image, durably, and adds to a pin that it has: the platforms of both are kept, and
    /// its note stays. Gives the pin as it is now.
    ///
    /// # Errors
    /// The disk's.
    pub async fn add_pin(&self, pin: Pin) -> Result<Pin, StorageError> {
        self.write_with(move |files| files.pins.add(pin)).await
    }

    /// Removes a pin, durably. Says whether it was there.
    ///
    /// # Errors
    /// The disk's.
    pub async fn unpin(&self, repository: &Repository, reference: &Reference) -> Result<bool, StorageError> {
        let (repository, reference) = (repository.clone(), reference.clone());
        self.write_with(move |files| files.pins.remove(&repository, &reference)).await
    }

    /// All pins, and what may have pins that cannot be read. The latter is reported in the log.
    ///
    /// # Errors
    /// [`StorageError::Lost`].
    pub async fn pins(&self) -> Result<PinList, StorageError> {
        self.read_with(|files| Ok(files.pins.all())).await
    }

    /// A number that each change of a pin raises, before it is acknowledged. From memory.
    pub fn pins_version(&self) -> u64 {
        self.files.disk.versions.of_pins()
    }
}
