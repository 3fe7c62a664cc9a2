//! Pins: the images that the operator keeps on disk, whoever asks for them or not.
//!
//! Promises: an image with a tag and a digest is two pins, one that follows the tag and one that is
//! fixed. So is a tag that a rule freezes: what clients get for it is pinned too, since the tag's
//! record may name something else or not be there. An order that was acknowledged is on disk. An
//! order to pin stands in the place of an older one; a pin that comes with a pull adds to it.
//! Callers: `/api/v1/pins`, and `prefetch.rs`.

use super::{Admin, Pinned, Pins, RetentionError};
use crate::{
    names::Image,
    oci::{Namespace, PlatformName, Reference, Repository},
    pull::Ruled,
    runtime::clock,
    storage::{Pin, PinReason, Untold},
};

/// How an image is pinned.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PinOptions {
    /// The platforms that are kept of an index; empty: all of them.
    pub platforms: Vec<PlatformName>,
    /// The operator's own words.
    pub note: String,
    /// Who orders it.
    pub by: String,
}

/// What becomes of a pin that an image has when it is pinned again.
#[derive(Clone, Copy)]
enum Onto {
    /// The new one stands in its place.
    Replace,
    /// It keeps what it kept, and what the new one keeps.
    Add,
}

impl Admin {
    /// Pins an image in the place of the pin that it may have. It need not be here.
    ///
    /// # Errors
    /// The disk's.
    pub async fn pin(&self, image: &Image, options: PinOptions) -> Result<Vec<Pinned>, RetentionError> {
        self.pin_as(image, options, Onto::Replace).await
    }

    /// Pins an image, and adds to the pin that it may have: nothing that is kept is kept no more.
    ///
    /// # Errors
    /// The disk's.
    pub async fn add_pin(&self, image: &Image, options: PinOptions) -> Result<Vec<Pinned>, RetentionError> {
        self.pin_as(image, options, Onto::Add).await
    }

    async fn pin_as(&self, image: &Image, options: PinOptions, onto: Onto) -> Result<Vec<Pinned>, RetentionError> {
        let of = |reference| Pin {
            repository: image.repository.clone(),
            reference,
            platforms: options.platforms.clone(),
            why: PinReason::Pinned,
            note: options.note.clone(),
            by: options.by.clone(),
            at: clock::now(),
        };
        let mut pins: Vec<_> = references(image).map(|reference| (of(reference), onto)).collect();
        if let (Some(tag), None) = (&image.tag, image.digest)
            && let Ruled::Frozen(digest) = self.pull.ruled(&image.repository, tag).await?
        {
            let mut pin = of(digest.into());
            if pin.note.is_empty() {
                pin.note = format!("{tag} is frozen at it");
            }
            // The order does not name this digest: what its own pin keeps stays.
            pins.push((pin, Onto::Add));
        }
        let mut pinned = Vec::new();
        for (pin, onto) in pins {
            let pin = match onto {
                Onto::Add => self.storage.add_pin(pin).await?,
                Onto::Replace => {
                    self.storage.pin(pin.clone()).await?;
                    pin
                }
            };
            tracing::info!(image = %name(&pin), by = %options.by, "pinned");
            pinned.push(shown(&pin));
        }
        // From here on no eviction goes by an older set (K6).
        drop(self.kept.view().await?);
        Ok(pinned)
    }

    /// Removes the pins of an image. Says which ones there were.
    ///
    /// # Errors
    /// The disk's.
    pub async fn unpin(&self, image: &Image) -> Result<Vec<String>, RetentionError> {
        let mut removed = Vec::new();
        for reference in references(image) {
            if self.storage.unpin(&image.repository, &reference).await? {
                let image = image_name(&image.repository, &reference);
                tracing::info!(%image, "no longer pinned");
                removed.push(image);
            }
        }
        Ok(removed)
    }

    /// All pins, sorted by image.
    ///
    /// # Errors
    /// The disk's.
    pub async fn pins(&self) -> Result<Pins, RetentionError> {
        let list = self.storage.pins().await?;
        let mut pins: Vec<_> = list.pins.iter().map(shown).collect();
        pins.sort_by(|a, b| a.image.cmp(&b.image));
        let mut unreadable: Vec<_> = list.untold.iter().map(untold).collect();
        unreadable.sort();
        Ok(Pins { pins, keep: self.kept.patterns(), unreadable })
    }
}

/// The tag and the digest of an image, as far as it has them.
pub(super) fn references(image: &Image) -> impl Iterator<Item = Reference> + use<> {
    let tag = image.tag.clone().map(Reference::from);
    tag.into_iter().chain(image.digest.map(Reference::from))
}

fn shown(pin: &Pin) -> Pinned {
    Pinned {
        image: name(pin),
        hosted: pin.repository.namespace == Namespace::Hosted,
        platforms: pin.platforms.iter().map(PlatformName::to_string).collect(),
        why: match pin.why {
            PinReason::Pinned => "pinned",
            PinReason::Imported => "imported",
        }
        .to_owned(),
        note: pin.note.clone(),
        by: pin.by.clone(),
        at: pin.at,
    }
}

fn name(pin: &Pin) -> String {
    image_name(&pin.repository, &pin.reference)
}

/// The image in full, as [`Image`] is shown.
fn image_name(repository: &Repository, reference: &Reference) -> String {
    let (tag, digest) = match reference {
        Reference::Tag(tag) => (Some(tag.clone()), None),
        Reference::Digest(digest) => (None, Some(*digest)),
    };
    Image { repository: repository.clone(), tag, digest }.to_string()
}

fn untold(untold: &Untold) -> String {
    match untold {
        Untold::Everything => "*".to_owned(),
        Untold::Namespace(Namespace::Hosted) => "the pushed repositories".to_owned(),
        Untold::Namespace(Namespace::Upstream(upstream)) => format!("{upstream}/*"),
        Untold::Repository(repository) => repository.to_string(),
    }
}
