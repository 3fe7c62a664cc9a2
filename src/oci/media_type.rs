//! The media types of manifests, and the questions that are asked about a type. Types are compared
//! as they are written.

/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image manifest, schema 2.
pub const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The `Accept` of every request to an upstream, whatever the client's own: all types, so that one
/// stored answer serves all clients. ghcr.io answers 404 for an index if the index types are
/// missing here.
pub const MANIFEST_ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
application/vnd.oci.image.manifest.v1+json, \
application/vnd.docker.distribution.manifest.list.v2+json, \
application/vnd.docker.distribution.manifest.v2+json, \
application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.5, \
*/*;q=0.1";

/// Whether the type names other manifests, by platform.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

/// Whether the type is one of the manifests that lanyard reads, indexes included.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_IMAGE | DOCKER_IMAGE) || is_index(media_type)
}

/// Whether the type is Docker's schema 1, whose digest is not the digest of its bytes.
pub fn is_schema1(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.docker.distribution.manifest.v1+")
}
