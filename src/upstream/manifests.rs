//! Manifests of an upstream: the digest that a reference means, and the proven bytes (S11).

use bytes::Bytes;
use http::{HeaderMap, header};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{
    call::{Call, Success},
    counters::RequestKind,
    error::UpstreamError,
    governor::Spend,
    registry::Registry,
    words,
};
use crate::oci::{self, Algorithm, Digest, Hasher, MANIFEST_ACCEPT, MAX_MANIFEST_BYTES, Reference, RepositoryName};

/// The answer to a HEAD of a manifest. None of it is proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestHead {
    /// `Docker-Content-Digest`, if it is a digest.
    pub digest: Option<Digest>,
    /// `Content-Type` without parameters.
    pub media_type: Option<String>,
    /// `Content-Length` in bytes.
    pub size: Option<u64>,
}

impl ManifestHead {
    /// Whether it is about the manifest with this digest and length: it states the length, no other
    /// digest, and not the type of a web page.
    fn is_of(&self, digest: &Digest, size: u64) -> bool {
        self.size == Some(size)
            && self.digest.is_none_or(|said| said == *digest)
            && self.media_type.as_ref().is_none_or(|said| !said.starts_with("text/"))
    }
}

/// A manifest whose bytes have the digest (S11).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedManifest {
    /// As upstream sent them.
    pub bytes: Bytes,
    /// Without parameters. It is taken from the JSON if upstream's `Content-Type` does not tell it.
    pub media_type: String,
    /// Computed from the bytes.
    pub digest: Digest,
}

impl Registry {
    /// Asks which manifest a reference means now, by a HEAD, which rate limits do not count. A
    /// refusal may be of the HEAD alone: see [`UpstreamError::may_be_of_head_alone`].
    pub async fn head_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestHead, UpstreamError> {
        // A mirror that must not serve stale content fails without the answer.
        let spend = if self.is_online() { Spend::Needed } else { Spend::Refresh };
        self.head(repository, reference, spend).await
    }

    async fn head(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        spend: Spend,
    ) -> Result<ManifestHead, UpstreamError> {
        let mut call = self.manifest_call(repository, reference, spend);
        (call.kind, call.whole) = (RequestKind::ManifestHead, None);
        let answer = self.call(&call).await?;
        Ok(ManifestHead {
            digest: content_digest(&answer.headers),
            media_type: words::media_type(&answer.headers),
            size: words::content_length(&answer.headers),
        })
    }

    /// Makes sure that the repository has the manifest with this digest and `size` bytes. Returns
    /// its type if the registry tells it. lanyard asks by HEAD, and by GET if the HEAD is refused
    /// or is about something else.
    pub async fn has_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<String>, UpstreamError> {
        let reference = Reference::from(*digest);
        match self.head(repository, &reference, Spend::Needed).await {
            // A guest network's login page answers 200 to every request.
            Ok(head) if head.is_of(digest, size) => return Ok(head.media_type),
            Ok(_) => {}
            Err(error) if error.may_be_of_head_alone() => {}
            Err(error) => return Err(error),
        }
        Ok(Some(self.manifest(repository, &reference, Spend::Needed).await?.media_type))
    }

    /// Fetches a manifest of at most 4 MiB and proves it. A digest as reference is the proof, else
    /// `Docker-Content-Digest`. Without either, the answer must have told its length. A manifest
    /// that does not match, and one of Docker's schema 1, is [`UpstreamError::Untrue`].
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        spend: Spend,
    ) -> Result<FetchedManifest, UpstreamError> {
        let answer = self.call(&self.manifest_call(repository, reference, spend)).await?;
        let proven = prove(answer, reference);
        if proven.is_err() {
            self.transport.counters.disbelieved();
        }
        proven
    }

    fn manifest_call<'a>(&self, repository: &'a RepositoryName, reference: &Reference, spend: Spend) -> Call<'a> {
        Call {
            kind: RequestKind::Manifest,
            url: self.url(&format!("{repository}/manifests/{reference}")),
            repository,
            accept: Some(MANIFEST_ACCEPT),
            range: None,
            spend,
            whole: Some(MAX_MANIFEST_BYTES),
        }
    }
}

fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.trim().parse().ok()
}

fn prove(answer: Success, reference: &Reference) -> Result<FetchedManifest, UpstreamError> {
    let Success { headers, bytes, .. } = answer;
    let expected = match reference {
        Reference::Digest(digest) => Some(*digest),
        Reference::Tag(_) => content_digest(&headers),
    };
    let delimited = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    if expected.is_none() && !delimited {
        return Err(UpstreamError::untrue("the manifest came with neither a digest nor a length"));
    }
    let algorithm = expected.map_or(Algorithm::Sha256, |digest| digest.algorithm());
    let digest = Hasher::digest(algorithm, &bytes);
    if let Some(expected) = expected.filter(|expected| *expected != digest) {
        return Err(UpstreamError::untrue(format!("the manifest should be {expected}, but is {digest}")));
    }
    let media_type = media_type(words::media_type(&headers), &bytes)?;
    Ok(FetchedManifest { bytes, media_type, digest })
}

/// The fields of a manifest's JSON that tell its type. `oci::Manifest` reads the rest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeHints {
    #[serde(default)]
    schema_version: Value,
    #[serde(default)]
    media_type: Value,
    manifests: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
}

/// The media type to store and serve a manifest with.
fn media_type(header: Option<String>, bytes: &[u8]) -> Result<String, UpstreamError> {
    let shape: TypeHints =
        serde_json::from_slice(bytes).map_err(|_| UpstreamError::untrue("the manifest is not a JSON object"))?;
    let index = shape.manifests.is_some().then(|| oci::OCI_INDEX.to_owned());
    let image = (shape.config.is_some() || shape.layers.is_some()).then(|| oci::OCI_IMAGE.to_owned());
    let inside = shape.media_type.as_str().filter(|told| !told.is_empty()).map(str::to_owned);
    let media_type = header.filter(|told| words::is_telling(told)).or(inside).or(index).or(image);
    match media_type {
        Some(t) if oci::is_schema1(&t) => Err(UpstreamError::untrue("the manifest is of Docker's schema 1")),
        None if shape.schema_version == 1 => Err(UpstreamError::untrue("the manifest is of Docker's schema 1")),
        Some(t) => Ok(t),
        None => Err(UpstreamError::untrue("the answer is not a manifest")),
    }
}
