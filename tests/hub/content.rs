//! The content of the stand-in: blobs, and repositories with manifests and tags.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::body::{Body, digest_of};

/// Docker's manifest of one platform.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The OCI manifest of one platform.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A manifest as it was put.
#[derive(Clone)]
pub(super) struct Manifest {
    pub(super) digest: String,
    pub(super) media_type: String,
    pub(super) bytes: Arc<[u8]>,
}

/// Everything that can be pulled.
#[derive(Default)]
pub(super) struct Content {
    blobs: HashMap<String, Body>,
    repos: BTreeMap<String, Repo>,
}

#[derive(Default)]
struct Repo {
    private: bool,
    manifests: BTreeMap<String, Manifest>,
    tags: BTreeMap<String, String>,
}

impl Content {
    pub(super) fn put_blob(&mut self, body: Body) -> String {
        let digest = body.digest();
        self.blobs.insert(digest.clone(), body);
        digest
    }

    pub(super) fn blob(&self, digest: &str) -> Option<Body> {
        self.blobs.get(digest).cloned()
    }

    pub(super) fn drop_blob(&mut self, digest: &str) {
        self.blobs.remove(digest);
    }

    pub(super) fn put_manifest(&mut self, repo: &str, tag: Option<&str>, media_type: &str, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        let manifest = Manifest { digest: digest.clone(), media_type: media_type.into(), bytes: bytes.into() };
        let repo = self.repos.entry(repo.into()).or_default();
        repo.manifests.insert(digest.clone(), manifest);
        if let Some(tag) = tag {
            repo.tags.insert(tag.into(), digest.clone());
        }
        digest
    }

    pub(super) fn move_tag(&mut self, repo: &str, tag: &str, digest: &str) {
        self.repos.entry(repo.into()).or_default().tags.insert(tag.into(), digest.into());
    }

    pub(super) fn delete_tag(&mut self, repo: &str, tag: &str) {
        if let Some(repo) = self.repos.get_mut(repo) {
            repo.tags.remove(tag);
        }
    }

    pub(super) fn delete_repo(&mut self, repo: &str) {
        self.repos.remove(repo);
    }

    pub(super) fn set_private(&mut self, repo: &str) {
        self.repos.entry(repo.into()).or_default().private = true;
    }

    /// Whether the repository exists and may be read by this kind of caller.
    pub(super) fn readable(&self, repo: &str, logged_in: bool) -> bool {
        self.repos.get(repo).is_some_and(|repo| logged_in || !repo.private)
    }

    /// Every repository with its tags, for the list that the example prints.
    pub(super) fn listing(&self) -> Vec<String> {
        self.repos.iter().flat_map(|(name, repo)| repo.tags.keys().map(move |tag| format!("{name}:{tag}"))).collect()
    }

    /// A manifest by tag or digest.
    pub(super) fn manifest(&self, repo: &str, reference: &str) -> Option<Manifest> {
        let repo = self.repos.get(repo)?;
        let digest = if reference.contains(':') { reference } else { repo.tags.get(reference)? };
        repo.manifests.get(digest).cloned()
    }

    /// The manifest for linux/amd64 in an index. A registry gives it to a client that cannot read
    /// indexes.
    pub(super) fn default_platform(&self, repo: &str, index: &Manifest) -> Option<Manifest> {
        let index: Value = serde_json::from_slice(&index.bytes).ok()?;
        let child = index["manifests"]
            .as_array()?
            .iter()
            .find(|child| child["platform"]["os"] == "linux" && child["platform"]["architecture"] == "amd64")?;
        self.manifest(repo, child["digest"].as_str()?)
    }

    /// The tags after `last` in lexical order; `None` if there is no such repository.
    pub(super) fn tags_after(&self, repo: &str, last: &str) -> Option<Vec<String>> {
        let tags = &self.repos.get(repo)?.tags;
        Some(tags.keys().filter(|tag| tag.as_str() > last).cloned().collect())
    }

    /// Descriptors of the manifests whose subject is `digest`, of one artifact type if that is
    /// given.
    pub(super) fn referrers(&self, repo: &str, digest: &str, artifact_type: Option<&str>) -> Vec<Value> {
        let Some(repo) = self.repos.get(repo) else { return Vec::new() };
        let mut found = Vec::new();
        for manifest in repo.manifests.values() {
            let Ok(value) = serde_json::from_slice::<Value>(&manifest.bytes) else { continue };
            if value["subject"]["digest"] != digest {
                continue;
            }
            let own = value["artifactType"].as_str().or(value["config"]["mediaType"].as_str()).unwrap_or_default();
            if artifact_type.is_some_and(|wanted| wanted != own) {
                continue;
            }
            let mut descriptor = json!({
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": manifest.bytes.len(),
                "artifactType": own,
            });
            if value["annotations"].is_object() {
                descriptor["annotations"] = value["annotations"].clone();
            }
            found.push(descriptor);
        }
        found
    }
}
