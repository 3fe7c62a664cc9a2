//! Pushing a manifest (distribution-spec, "Pushing manifests").
//!
//! ```text
//! received ─► understood (type, digest, tags) ─► parts held (references.rs) ─► committed ─► 201
//! ```
//!
//! A manifest is kept whole or not at all: one [`Change`] has its content, links and tags. An
//! immutable tag does not move to another digest. Called by http.

use std::sync::Arc;

use bytes::Bytes;

use super::{MayPull, Push, PushError, pushed, references::References};
use crate::{
    oci::{Algorithm, Digest, Hasher, Manifest, Reference, Repository, Tag, is_index, is_manifest, is_schema1},
    runtime::clock,
    storage::{Change, CommitError, Expectation, IfLinked, Refusal, TagRecord},
};

/// A manifest that a client pushes.
pub struct ManifestPush {
    /// The name in the path: a tag, or the digest of the bytes.
    pub reference: Reference,
    /// More tags for it (`?tag=`).
    pub tags: Vec<Tag>,
    /// The `Content-Type`, without parameters; `None` if the client sent none.
    pub content_type: Option<String>,
    /// The client is on another machine: a mirrored name takes no first push from it (N2).
    pub from_elsewhere: bool,
    /// The manifest itself, at most [`MAX_MANIFEST_BYTES`](crate::oci::MAX_MANIFEST_BYTES) bytes.
    pub bytes: Bytes,
}

/// A manifest that was taken, as the answer names it.
#[derive(Clone, Debug)]
pub struct PushedManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its `subject`, for the header `OCI-Subject`.
    pub subject: Option<Digest>,
}

/// A manifest whose type, digest and tags are known.
struct Understood {
    media_type: String,
    digest: Digest,
    manifest: Manifest,
    tags: Vec<Tag>,
}

impl Push {
    /// Takes a manifest, whole or not at all. Content, links and tags are durable on return.
    ///
    /// # Errors
    /// The manifest is not valid, lacks parts, or a rule forbids it; or the disk failed.
    pub async fn push_manifest(
        self: &Arc<Self>,
        repo: &Repository,
        push: ManifestPush,
        may_pull: MayPull,
    ) -> Result<PushedManifest, PushError> {
        let (this, repo) = (Arc::clone(self), repo.clone());
        self.run_detached(async move {
            let from_elsewhere = push.from_elsewhere;
            let (bytes, understood) = this
                .disk
                // Hashing and parsing 4 MiB would delay the other tasks of a background thread.
                .run(move || Ok::<_, PushError>((push.bytes.clone(), understand(push)?)))
                .await
                .map_err(|_| PushError::Lost)??;
            let (references, mut held) = this.hold_references(&repo, &understood.manifest, &may_pull).await?;
            let committed = this.commit(&repo, understood, bytes, references, from_elsewhere).await;
            if committed.is_err() {
                held.refused();
            }
            committed
        })
        .await
    }

    async fn commit(
        self: &Arc<Self>,
        repo: &Repository,
        understood: Understood,
        bytes: Bytes,
        references: References,
        from_elsewhere: bool,
    ) -> Result<PushedManifest, PushError> {
        let Understood { media_type, digest, manifest, tags } = understood;
        let (subject, size) = (manifest.subject.map(|subject| subject.digest), bytes.len() as u64);
        let link = pushed(digest, &media_type, size, subject);
        let immutable = tags.iter().filter(|tag| self.immutable(repo, tag));
        let mut expect: Vec<_> = immutable.map(|tag| Expectation::TagStays(tag.clone(), digest)).collect();
        expect.extend(references.here);
        let _lock = self.lock_repository(repo).await;
        if from_elsewhere {
            // The mirror may have learned the name while the body arrived.
            self.takes_from_others(repo)?;
        }
        let named: Vec<_> = tags.iter().map(Tag::to_string).collect();
        let updated = clock::now();
        let record = |tag| TagRecord { tag, digest, media_type: media_type.clone(), size, updated };
        let change = Change {
            expect,
            content: Some((digest, bytes)),
            links: references.adopted.into_iter().chain([link]).map(|link| (link, IfLinked::Replace)).collect(),
            tags: tags.into_iter().map(record).collect(),
            ..Change::of(repo)
        };
        match self.storage.commit(change).await {
            Err(CommitError::Refused(Refusal::TagMoves(tag))) => {
                return Err(PushError::Refused(format!(
                    "the tag {tag} of {repo} is immutable (hosted.immutable_tags) and names another image: push with a new tag"
                )));
            }
            committed => committed?,
        };
        tracing::info!(repo = %repo, %digest, bytes = size, tags = named.join(","), "manifest pushed");
        Ok(PushedManifest { digest, subject })
    }
}

/// Reads the manifest. It is an error if lanyard does not keep its type, or if its digest is not
/// the one that the client names.
fn understand(push: ManifestPush) -> Result<Understood, PushError> {
    let ManifestPush { reference, mut tags, content_type, bytes, from_elsewhere: _ } = push;
    let media_type = media_type(content_type, &bytes)?;
    let manifest = Manifest::parse(&media_type, &bytes)?;
    if !manifest.is_kept_as(&media_type)? {
        let needed = if is_index(&media_type) { "manifests" } else { "config and layers" };
        return Err(PushError::Invalid(format!(
            "a manifest of the type {media_type} needs {needed}; this one has none"
        )));
    }
    let digest = match reference {
        Reference::Digest(digest) if Hasher::digest(digest.algorithm(), &bytes) == digest => digest,
        Reference::Digest(digest) => return Err(PushError::WrongDigest(digest)),
        Reference::Tag(tag) => {
            tags.insert(0, tag);
            Hasher::digest(Algorithm::Sha256, &bytes)
        }
    };
    let mut seen = std::collections::HashSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
    Ok(Understood { media_type, digest, manifest, tags })
}

/// The media type that the manifest is kept with. lanyard takes only types whose parts it can read:
/// otherwise it could neither check the parts nor keep them.
fn media_type(content_type: Option<String>, bytes: &[u8]) -> Result<String, PushError> {
    let told = content_type.filter(|told| !matches!(told.as_str(), "application/json" | "application/octet-stream"));
    let media_type = told.unwrap_or_else(|| Manifest::sniff(bytes));
    if is_manifest(&media_type) {
        return Ok(media_type);
    }
    if is_schema1(&media_type) {
        let message =
            "schema 1 manifests are not taken: their digest is not the digest of their bytes; push schema 2 or OCI";
        return Err(PushError::Invalid(message.to_owned()));
    }
    let shown: String = media_type.chars().take(100).flat_map(char::escape_default).collect();
    Err(PushError::Invalid(format!(
        "lanyard does not keep manifests of the type {shown}; push an image or an index of OCI or of Docker's schema 2"
    )))
}
