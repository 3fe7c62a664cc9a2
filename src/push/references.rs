//! Whether everything that a manifest names is in the repository, before the manifest is taken.
//!
//! | the part is | then |
//! |---|---|
//! | held by the repository, and on disk | fine |
//! | held by the mirrored repository of the same name | it is fetched if need be, and becomes the repository's own |
//! | a layer with `urls` (non-distributable) | it may be missing |
//! | none of these | the push is refused, unless `hosted.sparse` |
//!
//! What an index lists under a manifest's type, or under none, must be held as a manifest; anything else is a blob: BuildKit's
//! cache is an index of layers.
//!
//! The second row is for images that were pulled through the mirror first: before the hosted repository exists, a client's HEAD
//! is answered out of the mirrored one, and the client uploads nothing.

use std::{collections::HashSet, sync::Arc};

use super::{MayPull, Push, PushError, pushed};
use crate::{
    oci::{Accept, Descriptor, Digest, Manifest, Reference, Repository},
    pull::PullError,
    storage::{Expectation, Hold, LinkRecord},
};

/// A part that is wanted.
struct Wanted {
    digest: Digest,
    /// A manifest, not a blob.
    child: bool,
    /// It has `urls`: it may be missing.
    elsewhere: bool,
}

/// Where the parts of a manifest are.
pub(super) struct References {
    /// Those that the repository has: looked at again when the manifest is committed.
    pub(super) here: Vec<Expectation>,
    /// The links of those that it takes over from its namesake.
    pub(super) adopted: Vec<LinkRecord>,
}

fn wanted(manifest: &Manifest) -> Vec<Wanted> {
    let want = |child| move |part: &Descriptor| Wanted { digest: part.digest, child, elsewhere: !part.urls.is_empty() };
    manifest.blobs().map(want(false)).chain(manifest.children().map(want(true))).collect()
}

impl Push {
    /// The parts of `manifest` that `repo` has, and the links that it needs besides; and a hold on
    /// all of them, so that none is removed meanwhile.
    pub(super) async fn hold_references(
        self: &Arc<Self>,
        repo: &Repository,
        manifest: &Manifest,
        may_pull: &MayPull,
    ) -> Result<(References, Vec<Hold>), PushError> {
        let namesake = self.namesake(&repo.name).filter(|namesake| may_pull(namesake));
        let (mut found_here, mut adopted, mut holds) = (Vec::new(), Vec::new(), Vec::new());
        let (mut unknown, mut absent) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        let mut wanted = wanted(manifest);
        // An adopted index brings manifests, and these bring blobs: as deep as the manifests go, each part once.
        while !wanted.is_empty() {
            wanted.retain(|part| seen.insert((part.digest, part.child)));
            let mut deeper = Vec::new();
            // Held before it is looked.
            let asked = wanted.iter().map(|part| (part.digest, part.child)).collect();
            let (hold, lacking) = self.storage.hold_parts(repo, asked).await?;
            holds.push(hold);
            for part in std::mem::take(&mut wanted) {
                if !lacking.contains(&(part.digest, part.child)) {
                    found_here.push(Expectation::Part { digest: part.digest, manifest: part.child });
                    continue;
                }
                let found = match &namesake {
                    Some(namesake) => self.adopt(namesake, &part, &mut deeper).await?,
                    None => None,
                };
                match found {
                    Some(link) => adopted.push(link),
                    None if part.elsewhere || self.rules.sparse => absent.push(part.digest),
                    None => unknown.push(part.digest),
                }
            }
            wanted = deeper;
        }
        // What is not here needs no lease: a manifest may name anything.
        holds.iter_mut().for_each(|hold| hold.forget(unknown.iter().chain(&absent)));
        if unknown.is_empty() {
            Ok((References { here: found_here, adopted }, holds))
        } else {
            Err(PushError::PartsUnknown(unknown))
        }
    }

    /// Takes a part over from the mirrored repository, which must hold it.
    async fn adopt(
        &self,
        from: &Repository,
        part: &Wanted,
        deeper: &mut Vec<Wanted>,
    ) -> Result<Option<LinkRecord>, PushError> {
        let digest = part.digest;
        if self.storage.link(from, &digest).await?.is_none() {
            return Ok(None);
        }
        if !part.child {
            return match self.pull.stored_blob(from, &digest).await {
                Ok(size) => Ok(Some(pushed(digest, "", size, None))),
                Err(PullError::Unknown { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        let found = self.pull.manifest(from, &Reference::Digest(digest), &Accept::from_headers([])).await;
        let answer = match found {
            Ok(answer) => answer,
            Err(PullError::Unknown { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let manifest = Manifest::parse(&answer.media_type, &answer.bytes)?;
        deeper.extend(wanted(&manifest));
        let subject = manifest.subject.map(|subject| subject.digest);
        Ok(Some(pushed(digest, &answer.media_type, answer.bytes.len() as u64, subject)))
    }
}
