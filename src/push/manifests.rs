//! Pushing a manifest: understood, whole, stored, linked, tagged, and only then acknowledged (distribution-spec, "Pushing
//! manifests").

use std::sync::Arc;

use bytes::Bytes;

use super::{MayPull, Push, PushError, pushed, references::References};
use crate::{
    oci::{Algorithm, Digest, Hasher, Manifest, Reference, Repository, Tag, is_index, is_manifest, is_schema1},
    runtime::clock,
    storage::{Change, CommitError, Expectation, IfLinked, Refusal, TagRecord},
};

/// A manifest that a client pushes.
pub struct PutManifest {
    /// What it is pushed as: a tag, or its own digest.
    pub reference: Reference,
    /// Tags that are to name it besides (`?tag=`).
    pub tags: Vec<Tag>,
    /// Its `Content-Type`, without parameters; `None` where the client sent none.
    pub content_type: Option<String>,
    /// Whether it comes from another machine, so that a mirrored name takes no first push (N2).
    pub from_elsewhere: bool,
    /// Its bytes, at most [`MAX_MANIFEST_BYTES`](crate::oci::MAX_MANIFEST_BYTES).
    pub bytes: Bytes,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Put {
    /// Its digest.
    pub digest: Digest,
    /// What it is about, for `OCI-Subject`.
    pub subject: Option<Digest>,
}

/// A manifest that was understood.
struct Understood {
    media_type: String,
    digest: Digest,
    manifest: Manifest,
    tags: Vec<Tag>,
}

impl Push {
    /// Takes a manifest. Nothing of it is kept unless all of it is.
    pub async fn put_manifest(
        self: &Arc<Self>,
        repo: &Repository,
        put: PutManifest,
        may_pull: MayPull,
    ) -> Result<Put, PushError> {
        let (this, repo) = (Arc::clone(self), repo.clone());
        self.run_detached(async move {
            let from_elsewhere = put.from_elsewhere;
            let (bytes, understood) = this
                .disk
                // Hashing and parsing 4 MiB is no work for a thread that others wait for.
                .run(move || Ok::<_, PushError>((put.bytes.clone(), understand(put)?)))
                .await
                .map_err(|_| PushError::Lost)??;
            let (references, _holds) = this.hold_references(&repo, &understood.manifest, &may_pull).await?;
            this.commit(&repo, understood, bytes, references, from_elsewhere).await
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
    ) -> Result<Put, PushError> {
        let Understood { media_type, digest, manifest, tags } = understood;
        let (subject, size) = (manifest.subject.map(|subject| subject.digest), bytes.len() as u64);
        let link = pushed(digest, &media_type, size, subject);
        let immutable = tags.iter().filter(|tag| self.immutable(repo, tag));
        let mut expect: Vec<_> = immutable.map(|tag| Expectation::TagStays(tag.clone(), digest)).collect();
        expect.extend(references.here);
        let _lock = self.lock_repository(repo).await;
        if from_elsewhere {
            // The mirror may have learned the name while the body came in.
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
        Ok(Put { digest, subject })
    }
}

/// What the manifest says; an error where it is not one that lanyard keeps, or not the one that the client says it is.
fn understand(put: PutManifest) -> Result<Understood, PushError> {
    let PutManifest { reference, mut tags, content_type, bytes, from_elsewhere: _ } = put;
    let media_type = media_type(content_type, &bytes)?;
    let manifest = Manifest::parse(&media_type, &bytes)?;
    if !manifest.is_kept_as(&media_type)? {
        let needed = if is_index(&media_type) { "manifests" } else { "config and layers" };
        return Err(PushError::Invalid(format!("a manifest of the type {media_type} has {needed}; this one has not")));
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

/// The type that the manifest is kept with. Only types whose parts lanyard knows are taken: what it cannot read it could
/// neither check nor keep whole.
fn media_type(content_type: Option<String>, bytes: &[u8]) -> Result<String, PushError> {
    let told = content_type.filter(|told| !matches!(told.as_str(), "application/json" | "application/octet-stream"));
    let media_type = told.unwrap_or_else(|| Manifest::sniff(bytes));
    if is_manifest(&media_type) {
        return Ok(media_type);
    }
    if is_schema1(&media_type) {
        let message = "schema 1 manifests are not taken: their digest is not that of their bytes; push schema 2 or OCI";
        return Err(PushError::Invalid(message.to_owned()));
    }
    let shown: String = media_type.chars().take(100).flat_map(char::escape_default).collect();
    Err(PushError::Invalid(format!(
        "{shown} is no type of manifest that lanyard keeps; push an image or an index of OCI or of Docker's schema 2"
    )))
}
