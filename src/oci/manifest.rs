//! A view of a manifest: the descriptors that it names (OCI image-spec; Docker schema 2 has the
//! same form).
//!
//! Manifests are served as the bytes that came, and never encoded again. This view says which other
//! content a client needs. `fields.rs` reads the JSON. Pushed and pulled manifests are read alike.
//! S10 and S21 of the security table are held here: a manifest that is both an index and an image
//! is refused, and so are more than [`MAX_DESCRIPTORS`] descriptors and JSON nested deeper than
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
    /// It is not the JSON of a manifest.
    #[error("the manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// It has both `manifests` and `layers` or `config` (CVE-2021-41190).
    #[error("the manifest is both an index and an image")]
    Ambiguous,
    /// Its `mediaType` is another kind of manifest than the `Content-Type` of the request or
    /// answer.
    #[error("the manifest calls itself {inside} and was sent as {outside}")]
    MediaType {
        /// The field in the JSON.
        inside: String,
        /// The header.
        outside: String,
    },
    /// It has more than [`MAX_DESCRIPTORS`].
    #[error("the manifest names more than {MAX_DESCRIPTORS} parts")]
    TooMany,
    /// It is nested deeper than [`MAX_DEPTH`].
    #[error("the manifest's JSON nests deeper than {MAX_DEPTH}")]
    TooDeep,
}

/// The parts that a manifest names.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The type in the JSON, if there is one.
    pub media_type: Option<String>,
    /// An image's config.
    pub config: Option<Descriptor>,
    /// An image's layers.
    pub layers: Option<Vec<Descriptor>>,
    /// An index's manifests.
    pub manifests: Option<Vec<Descriptor>>,
    /// The manifest that this one refers to (referrers API).
    pub subject: Option<Descriptor>,
    /// The type of an artifact.
    pub artifact_type: Option<String>,
    /// The JSON has a key of an image, perhaps with `null`.
    pub(super) image_key: bool,
    /// The JSON has the key of an index, perhaps with `null`.
    pub(super) index_key: bool,
}

/// A reference to content (OCI image-spec, descriptor.md).
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// Media type of the content. Empty if it is absent, as at times in Docker's config and from
    /// old tools.
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes; 0 if it is absent.
    pub size: u64,
    /// The platform of an image in an index.
    pub platform: Option<Platform>,
    /// Addresses of a non-distributable layer. lanyard never fetches them (S2). If there are any,
    /// the content may be missing here.
    pub urls: Vec<String>,
}

/// A descriptor's platform.
#[derive(Clone, Debug)]
pub struct Platform {
    /// CPU architecture in Go's words, e.g. `amd64`. Empty if it is absent.
    pub architecture: String,
    /// Operating system in Go's words, e.g. `linux`. Empty if it is absent.
    pub os: String,
    /// CPU variant, e.g. `v7`.
    pub variant: Option<String>,
}

impl Manifest {
    /// Reads `bytes` that came as `content_type`. A type that is neither OCI's nor Docker's is
    /// opaque: it has no parts.
    ///
    /// # Errors
    /// The bytes are not a manifest of this type, or S10 or S21 refuses them.
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
        // Clients go by the `Content-Type`, and only need to know whether that is an index.
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

    /// Whether a registry may store this as `content_type`. Its `mediaType` is that type, or is
    /// absent and it has a key of that kind; and it has no part of the other kind.
    ///
    /// # Errors
    /// Its `mediaType` is another type.
    pub fn is_kept_as(&self, content_type: &str) -> Result<bool, ManifestError> {
        if let Some(inside) = self.media_type.as_deref().filter(|inside| *inside != content_type) {
            return Err(ManifestError::MediaType { inside: inside.into(), outside: content_type.into() });
        }
        Ok(match media_type::is_index(content_type) {
            true => self.config.is_none() && self.layers.is_none() && (self.index_key || self.media_type.is_some()),
            false => self.manifests.is_none() && (self.image_key || self.media_type.is_some()),
        })
    }

    /// The type of bytes that came without one, by their fields. Without such a field it is an OCI
    /// image.
    pub fn sniff(bytes: &[u8]) -> String {
        let manifest: Manifest = serde_json::from_slice(bytes).unwrap_or_default();
        let guess = if manifest.manifests.is_some() { media_type::OCI_INDEX } else { media_type::OCI_IMAGE };
        manifest.media_type.unwrap_or_else(|| guess.into())
    }

    /// The blobs that it needs: config, layers, and the blobs in an index. BuildKit's cache lists
    /// layers and its own config in an index.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let listed = self.manifests.iter().flatten().filter(|part| !part.may_be_manifest());
        self.config.iter().chain(self.layers.iter().flatten()).chain(listed)
    }

    /// The manifests that it needs: an index's children.
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().flatten().filter(|part| part.may_be_manifest())
    }

    /// All blobs and manifests that it needs. Its subject is not needed: that may be pushed later,
    /// or never.
    pub fn parts(&self) -> impl Iterator<Item = &Descriptor> {
        self.blobs().chain(self.children())
    }

    /// The child that an old client gets for a tag: `linux/amd64`, as at Docker Hub.
    pub fn default_image(&self) -> Option<&Descriptor> {
        let default = |p: &Platform| p.os == "linux" && p.architecture == "amd64";
        self.children().find(|d| d.platform.as_ref().is_some_and(default))
    }
}

impl Descriptor {
    /// Whether this entry of an index is a manifest: its type is one of a manifest, or absent.
    fn may_be_manifest(&self) -> bool {
        self.media_type.is_empty() || media_type::is_manifest(&self.media_type)
    }
}

/// The depth of the JSON's brackets, without those inside strings. serde_json skips unknown fields
/// without a limit of depth.
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
