//! Which names are hosted: asked for each request whose path names no registry, and answered from memory.

use super::PullThrough;
use crate::{
    oci::{Digest, Namespace, Repository, RepositoryName},
    storage::Presence,
};

impl PullThrough {
    /// Whether a hosted repository of this name exists, or holds this blob: what a push under way has brought is its own before
    /// there is an image. A name that was not asked for lately costs a look at the disk, or two.
    pub fn hosts(&self, name: &RepositoryName, blob: Option<&Digest>) -> bool {
        let hosted = Repository { namespace: Namespace::Hosted, name: name.clone() };
        let generation = self.storage.version(&hosted);
        let presence = self.presences.get(generation, &hosted, &()).unwrap_or_else(|| {
            let presence = self.storage.presence(&hosted);
            if presence != Presence::Unseen {
                self.presences.insert(generation, &hosted, &(), &presence);
            }
            presence
        });
        match presence {
            Presence::Known | Presence::Unseen => true,
            Presence::Begun => blob.is_some_and(|blob| self.storage.links_to(&hosted, blob)),
            Presence::Absent => false,
        }
    }
}
