//! Which images of a repository stay whatever room is needed, what clients get for its tags, and
//! what its tags named before: for the rows of `ls` and their reasons. `images.rs` and `digests.rs`
//! ask.

use std::collections::HashSet;

use super::{Admin, RetentionError, why::Why};
use crate::{
    oci::{Digest, Reference, Repository, Tag},
    pull::Ruled,
    retention::Reason,
    storage::{TagRecord, Unsure},
};

/// The images of one repository that stay.
pub(super) struct KeptImages(Vec<(Reference, Reason)>);

impl KeptImages {
    /// Why an image stays; `None`: nothing keeps it for its own sake.
    pub(super) fn why(&self, tag: Option<&Tag>, digest: &Digest) -> Option<Why> {
        let is_it = |reference: &Reference| match reference {
            Reference::Tag(kept) => Some(kept) == tag,
            Reference::Digest(kept) => kept == digest,
        };
        self.0.iter().find(|(reference, _)| is_it(reference)).map(|(_, reason)| match reason {
            // A rule that keeps the last digests of a tag keeps them as pins do.
            Reason::Pinned | Reason::Pattern(_) | Reason::Last | Reason::Untold(_) => Why::Pinned,
            Reason::Frozen => Why::Frozen,
        })
    }

    /// The manifests that stay by their own digests.
    fn by_digest(&self) -> impl Iterator<Item = Digest> {
        self.0.iter().filter_map(|(reference, _)| match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(_) => None,
        })
    }
}

/// What the tags of one repository name, by rules and by their records.
#[derive(Default)]
pub(super) struct RuledTags {
    /// The manifests that clients get for the tags.
    pub(super) given: HashSet<Digest>,
    /// The tags for which clients do not get what the record names, with that.
    passed_over: Vec<(Tag, Digest)>,
}

impl RuledTags {
    /// Whether a tag's record names the manifest, and clients get something else for the tag.
    pub(super) fn passes_over(&self, digest: &Digest) -> bool {
        self.passed_over.iter().any(|(_, recorded)| recorded == digest)
    }

    /// Why a manifest stays that clients get for no tag. The pin of a tag keeps what the tag's
    /// record names.
    pub(super) fn why(&self, kept: &KeptImages, digest: &Digest) -> Option<Why> {
        let tags = self.passed_over.iter().filter(|(_, recorded)| recorded == digest).map(|(tag, _)| tag);
        tags.map(Some).chain([None]).find_map(|tag| kept.why(tag, digest))
    }

    /// The manifests that have a row of their own even if an index names them: they stay for a
    /// reason of their own, or the row of their tag is about another manifest.
    pub(super) fn rows(&self, kept: &KeptImages) -> HashSet<Digest> {
        kept.by_digest().chain(self.passed_over.iter().map(|(_, recorded)| *recorded)).collect()
    }
}

impl Admin {
    /// The images of a repository that stay; none where that cannot be told.
    pub(super) async fn kept_images(&self, repository: &Repository) -> Result<KeptImages, RetentionError> {
        match self.kept.reasons(repository).await {
            Ok(reasons) => Ok(KeptImages(reasons)),
            Err(Unsure::Storage(error)) => Err(error.into()),
            Err(_) => Ok(KeptImages(Vec::new())),
        }
    }

    /// What clients get for the tags of a repository that have a record.
    pub(super) async fn ruled_tags(&self, repository: &Repository) -> Result<RuledTags, RetentionError> {
        let mut tags = RuledTags::default();
        for TagRecord { tag, digest, .. } in self.storage.tag_records(repository).await? {
            let given = match self.pull.ruled(repository, &tag).await? {
                Ruled::Free => Some(digest),
                Ruled::Frozen(frozen) => Some(frozen),
                Ruled::Refused => None,
            };
            tags.given.extend(given);
            if given != Some(digest) {
                tags.passed_over.push((tag, digest));
            }
        }
        Ok(tags)
    }

    /// What the repository's tags named before.
    pub(super) async fn past_digests(&self, repository: &Repository) -> Result<HashSet<Digest>, RetentionError> {
        let histories = self.storage.tag_histories(repository).await?;
        Ok(histories.iter().flat_map(|seen| seen.last(usize::MAX)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tags are frozen at another manifest than their records name, and one of them is pinned.
    #[test]
    fn what_a_rule_passes_over_stays_for_the_pin_of_its_tag() {
        let [pinned, other, child] = [1, 2, 3].map(|byte| Digest::Sha256([byte; 32]));
        let tag = |text: &str| text.parse::<Tag>().unwrap();
        let by_digest = |reason: Reason| (Reference::from(child), reason);
        let kept = KeptImages(vec![
            (Reference::from(tag("1")), Reason::Pinned),
            by_digest(Reason::Pinned),
            by_digest(Reason::Frozen),
        ]);
        let tags =
            RuledTags { given: HashSet::from([child]), passed_over: vec![(tag("1"), pinned), (tag("2"), other)] };
        assert_eq!([pinned, other, child].map(|digest| tags.passes_over(&digest)), [true, true, false]);
        assert_eq!(
            [pinned, other, child].map(|digest| tags.why(&kept, &digest)),
            [Some(Why::Pinned), None, Some(Why::Pinned)]
        );
        assert_eq!(tags.rows(&kept), HashSet::from([pinned, other, child]));
        assert_eq!(kept.why(Some(&tag("2")), &other), None);
    }
}
