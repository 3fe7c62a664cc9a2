//! What lanyard reads in a manifest: the descriptors it names (OCI image-spec; Docker schema 2 has the same shape).
//!
//! Served bytes are never re-encoded; this view only says what else must be here for the manifest
//! to be of use. How the JSON is read: `fields.rs`. Pushed and pulled manifests are read alike. S10
//! and S21 of the security table are held here: a manifest that is both an index and an image is
//! refused, so are more than [`MAX_DESCRIPTORS`] descriptors and JSON nested deeper than
//! [`MAX_DEPTH`].

use super::{Digest, media_type};

/// The largest manifest lanyard takes, in bytes (distribution-spec asks for at least 4 MiB).
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;

/// The most descriptors one manifest may name.
pub(super) const MAX_DESCRIPTORS: usize = 4096;

/// How deep a manifest's JSON may nest.
pub(super) const MAX_DEPTH: usize = 64;

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of a manifest's shape.
    #[error("the manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// Both `manifests` and `layers` or `config` (CVE-2021-41190).
    #[error("the manifest is both an index and an image")]
    Ambiguous,
    /// `mediaType` inside is another kind of manifest than the `Content-Type` it came with.
    #[error("the manifest calls itself {inside} and was sent as {outside}")]
    MediaType {
        /// The field in the JSON.
        inside: String,
        /// The header.
        outside: String,
    },
    /// More than [`MAX_DESCRIPTORS`].
    #[error("the manifest names more than {MAX_DESCRIPTORS} parts")]
    TooMany,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the manifest's JSON nests deeper than {MAX_DEPTH}")]
    TooDeep,
}

/// A manifest's view of its parts.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The type it calls itself, if it does.
    pub media_type: Option<String>,
    /// An image's config.
    pub config: Option<Descriptor>,
    /// An image's layers.
    pub layers: Option<Vec<Descriptor>>,
    /// An index's manifests.
    pub manifests: Option<Vec<Descriptor>>,
    /// What this manifest is about (referrers API).
    pub subject: Option<Descriptor>,
    /// The type of an artifact.
    pub artifact_type: Option<String>,
    /// A key of an image is there, if only with `null`.
    pub(super) image_key: bool,
    /// The key of an index is there, if only with `null`.
    pub(super) index_key: bool,
}

/// A reference to content (OCI image-spec, descriptor.md).
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// Media type of the content; Docker's config and old tools leave it out at times.
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes; 0 where it is not told.
    pub size: u64,
    /// For which platform, in an index.
    pub platform: Option<Platform>,
    /// Where a non-distributable layer may be had. Never fetched (S2); its presence means the content may not be here.
    pub urls: Vec<String>,
}

/// A descriptor's platform.
#[derive(Clone, Debug)]
pub struct Platform {
    /// CPU architecture in Go's words, e.g. `amd64`. Empty where it is not told.
    pub architecture: String,
    /// Operating system in Go's words, e.g. `linux`. Empty where it is not told.
    pub os: String,
    /// CPU variant, e.g. `v7`.
    pub variant: Option<String>,
}

impl Manifest {
    /// Reads `bytes` that came as `content_type`. A type that is neither OCI's nor Docker's is opaque: it has no parts.
    pub fn parse(content_type: &str, bytes: &[u8]) -> Result<Manifest, ManifestError> {
        if !media_type::is_manifest(content_type) {
            return Ok(Manifest::default());
        }
        if depth(bytes) > MAX_DEPTH {
            return Err(ManifestError::TooDeep);
        }
        let manifest: Manifest = serde_json::from_slice(bytes)?;
        if manifest.manifests.is_some() && (manifest.layers.is_some() || manifest.config.is_some()) {
            return Err(ManifestError::Ambiguous);
        }
        // Clients go by the type that it came with, and mind only whether that is an index.
        let other_kind = |inside: &&str| {
            media_type::is_manifest(inside) && media_type::is_index(inside) != media_type::is_index(content_type)
        };
        if let Some(inside) = manifest.media_type.as_deref().filter(other_kind) {
            return Err(ManifestError::MediaType { inside: inside.into(), outside: content_type.into() });
        }
        if manifest.parts().count() > MAX_DESCRIPTORS {
            return Err(ManifestError::TooMany);
        }
        Ok(manifest)
    }

    /// Whether this is what a registry may keep as `content_type`: it calls itself so, or has a key
    /// of that kind and does not call itself otherwise, and has no part of the other kind.
    pub fn is_kept_as(&self, content_type: &str) -> Result<bool, ManifestError> {
        if let Some(inside) = self.media_type.as_deref().filter(|inside| *inside != content_type) {
            return Err(ManifestError::MediaType { inside: inside.into(), outside: content_type.into() });
        }
        Ok(match media_type::is_index(content_type) {
            true => self.config.is_none() && self.layers.is_none() && (self.index_key || self.media_type.is_some()),
            false => self.manifests.is_none() && (self.image_key || self.media_type.is_some()),
        })
    }

    /// The type of bytes that came without one, by what they hold; an OCI image where nothing tells.
    pub fn sniff(bytes: &[u8]) -> String {
        let manifest: Manifest = serde_json::from_slice(bytes).unwrap_or_default();
        let shape = if manifest.manifests.is_some() { media_type::OCI_INDEX } else { media_type::OCI_IMAGE };
        manifest.media_type.unwrap_or_else(|| shape.into())
    }

    /// The blobs it needs: config and layers; and what an index lists that is no manifest, as BuildKit's cache does with
    /// layers and its own config.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let listed = self.manifests.iter().flatten().filter(|part| !part.may_be_manifest());
        self.config.iter().chain(self.layers.iter().flatten()).chain(listed)
    }

    /// The manifests it needs: an index's children.
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().flatten().filter(|part| part.may_be_manifest())
    }

    /// Everything it needs. Its subject is not needed: it may be pushed later, or never.
    pub fn parts(&self) -> impl Iterator<Item = &Descriptor> {
        self.blobs().chain(self.children())
    }

    /// The child an old client gets for a tag: `linux/amd64`, as at Docker Hub.
    pub fn default_image(&self) -> Option<&Descriptor> {
        let default = |p: &Platform| p.os == "linux" && p.architecture == "amd64";
        self.children().find(|d| d.platform.as_ref().is_some_and(default))
    }
}

impl Descriptor {
    /// Whether what an index lists so is a manifest: its type is that of one, or it has none.
    fn may_be_manifest(&self) -> bool {
        self.media_type.is_empty() || media_type::is_manifest(&self.media_type)
    }
}

/// How deep the JSON's brackets nest, those inside strings left out. serde_json skips unknown fields without a limit.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::super::{DOCKER_LIST, OCI_IMAGE, OCI_INDEX};
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_its_parts() {
        let image = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_IMAGE}","config":{{"mediaType":"c","digest":"{D}","size":0}},
            "layers":[{{"mediaType":"l","digest":"{D}","size":0,"urls":["https://store.example.com/x"]}}]}}"#
        );
        let image = Manifest::parse(OCI_IMAGE, image.as_bytes()).unwrap();
        assert_eq!((image.blobs().count(), image.children().count()), (2, 0));
        assert_eq!(image.layers.unwrap()[0].urls.len(), 1);
    }

    #[test]
    fn what_an_index_lists_is_a_manifest_or_a_blob() {
        let part = |media_type: &str| format!(r#"{{"digest":"{D}","size":0{media_type}}}"#);
        let typed = |media_type: &str| part(&format!(r#","mediaType":"{media_type}""#));
        let list = [part(""), typed(""), typed(OCI_IMAGE), typed(DOCKER_LIST)].join(",");
        let blobs = [typed("application/vnd.buildkit.cacheconfig.v0"), typed("application/vnd.oci.image.layer.v1.tar")];
        let index = format!(r#"{{"manifests":[{list},{}]}}"#, blobs.join(","));
        let index = Manifest::parse(OCI_INDEX, index.as_bytes()).unwrap();
        assert_eq!((index.children().count(), index.blobs().count(), index.parts().count()), (4, 2, 6));
    }

    #[test]
    fn refuses_confusion() {
        let both = format!(r#"{{"manifests":[],"layers":[{{"digest":"{D}","size":0}}]}}"#);
        assert!(matches!(Manifest::parse(OCI_INDEX, both.as_bytes()), Err(ManifestError::Ambiguous)));
        let other = format!(r#"{{"mediaType":"{OCI_IMAGE}"}}"#);
        assert!(matches!(Manifest::parse(OCI_INDEX, other.as_bytes()), Err(ManifestError::MediaType { .. })));
        let twice = r#"{"layers":[],"layers":[]}"#;
        assert!(matches!(Manifest::parse(OCI_IMAGE, twice.as_bytes()), Err(ManifestError::Json(_))));
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(matches!(Manifest::parse(OCI_IMAGE, deep.as_bytes()), Err(ManifestError::TooDeep)));
        let one = format!(r#"{{"digest":"{D}","size":0}}"#);
        let many = format!("{{\"manifests\":[{}]}}", vec![one; MAX_DESCRIPTORS + 1].join(","));
        assert!(matches!(Manifest::parse(DOCKER_LIST, many.as_bytes()), Err(ManifestError::TooMany)));
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod reading;
