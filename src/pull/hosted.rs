//! Which names are hosted. Each request whose path names no registry asks, and most are answered
//! from memory.

use super::PullThrough;
use crate::{
    oci::{Digest, Namespace, Repository, RepositoryName},
    storage::Presence,
};

impl PullThrough {
    /// Whether a hosted repository of this name exists, or holds this blob: a blob that a push
    /// under way has brought is the repository's before it has an image. A name that was not asked
    /// for lately costs a look or two at the disk.
    pub fn hosts(&self, name: &RepositoryName, blob: Option<&Digest>) -> bool {
        let hosted = Repository { namespace: Namespace::Hosted, name: name.clone() };
        let version = self.storage.version(&hosted);
        let presence = self.presences.get(version, &hosted, &()).unwrap_or_else(|| {
            let presence = self.storage.presence(&hosted);
            if presence != Presence::Unseen {
                self.presences.insert(version, &hosted, &(), &presence);
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
