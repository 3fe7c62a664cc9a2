//! The parts that a manifest names must be in its repository before the manifest is taken.
//!
//! | the part is | then |
//! |---|---|
//! | held by the repository, and on disk | it counts |
//! | held by the mirrored repository of the same name | it is fetched if needed, and linked here |
//! | a layer with `urls` (non-distributable) | it may be missing |
//! | none of these | the push is refused, unless `hosted.sparse` |
//!
//! An entry of an index with a manifest's type, or with none, must be held as a manifest. Any other
//! entry is a blob: BuildKit's cache is an index of layers.
//!
//! The second row is for images that were pulled through the mirror first. Before the hosted
//! repository exists, a client's HEAD is answered from the mirrored one, and the client uploads
//! nothing. Called when a manifest is pushed (`manifests.rs`).

use std::{collections::HashSet, sync::Arc};

use super::{MayPull, Push, PushError, pushed};
use crate::{
    oci::{Accept, Descriptor, Digest, Manifest, Reference, Repository},
    pull::PullError,
    storage::{Expectation, Hold, LinkRecord},
};

/// One part that the manifest names.
struct Referenced {
    digest: Digest,
    /// A manifest, not a blob.
    child: bool,
    /// It has `urls`, so it may be missing.
    elsewhere: bool,
}

/// The parts of a manifest, by where they were found.
pub(super) struct References {
    /// Parts that the repository has. The commit looks at each of them again.
    pub(super) here: Vec<Expectation>,
    /// New links to parts that the mirrored repository of the same name holds.
    pub(super) adopted: Vec<LinkRecord>,
}

/// The holds on all parts of a manifest that is being pushed.
#[derive(Default)]
pub(super) struct HeldParts {
    holds: Vec<Hold>,
    /// Parts that the repository did not have when they were looked for.
    lacking: Vec<Digest>,
}

impl HeldParts {
    /// The manifest was not taken.
    pub(super) fn refused(&mut self) {
        let lacking = std::mem::take(&mut self.lacking);
        self.forget(&lacking);
    }

    fn forget(&mut self, digests: &[Digest]) {
        self.holds.iter_mut().for_each(|hold| hold.forget(digests));
    }
}

fn referenced(manifest: &Manifest) -> Vec<Referenced> {
    let want =
        |child| move |part: &Descriptor| Referenced { digest: part.digest, child, elsewhere: !part.urls.is_empty() };
    manifest.blobs().map(want(false)).chain(manifest.children().map(want(true))).collect()
}

impl Push {
    /// Finds the parts of `manifest` and holds them all: none is removed before the holds are
    /// dropped. Of a manifest that is not taken, only the parts that the repository has keep a
    /// lease: no client was told that the others are here.
    ///
    /// # Errors
    /// [`PushError::PartsUnknown`] names the parts that are missing.
    pub(super) async fn hold_references(
        self: &Arc<Self>,
        repo: &Repository,
        manifest: &Manifest,
        may_pull: &MayPull,
    ) -> Result<(References, HeldParts), PushError> {
        let mut held = HeldParts::default();
        let found = self.find_references(repo, manifest, may_pull, &mut held).await;
        if found.is_err() {
            held.refused();
        }
        Ok((found?, held))
    }

    async fn find_references(
        self: &Arc<Self>,
        repo: &Repository,
        manifest: &Manifest,
        may_pull: &MayPull,
        held: &mut HeldParts,
    ) -> Result<References, PushError> {
        let namesake = self.namesake(&repo.name).filter(|namesake| may_pull(namesake));
        let (mut found_here, mut adopted) = (Vec::new(), Vec::new());
        let (mut unknown, mut absent) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        let mut wanted = referenced(manifest);
        // An adopted index adds manifests, and these add blobs. Each part is looked for once.
        while !wanted.is_empty() {
            wanted.retain(|part| seen.insert((part.digest, part.child)));
            let mut deeper = Vec::new();
            // `hold_parts` takes the hold first and looks second.
            let asked = wanted.iter().map(|part| (part.digest, part.child)).collect();
            let (hold, lacking) = self.storage.hold_parts(repo, asked).await?;
            held.holds.push(hold);
            held.lacking.extend(lacking.iter().map(|(digest, _)| *digest));
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
        // A missing part gets no lease: a client may name any digest.
        held.forget(&absent);
        if unknown.is_empty() {
            Ok(References { here: found_here, adopted })
        } else {
            Err(PushError::PartsUnknown(unknown))
        }
    }

    /// The link of a part that the mirrored repository `from` gives; `None` if it does not have the
    /// part. The parts of a manifest are added to `deeper`.
    async fn adopt(
        &self,
        from: &Repository,
        part: &Referenced,
        deeper: &mut Vec<Referenced>,
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
        deeper.extend(referenced(&manifest));
        let subject = manifest.subject.map(|subject| subject.digest);
        Ok(Some(pushed(digest, &answer.media_type, answer.bytes.len() as u64, subject)))
    }
}
