//! The entry of one referrer in the list of a manifest's referrers: its descriptor, as JSON.
//!
//! [`Described::of`] makes it of the referrer's manifest and link, without reading the disk. An
//! entry that is too long for a list of its own is cut by [`Described::shorter`].
//!
//! Callers: `referrers`, which keeps descriptors in memory for at most a minute
//! (`memory/warm.rs`), so that the next list does not parse the manifests again.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{oci::Manifest, storage::LinkRecord};

/// A descriptor (image-spec, descriptor.md) with the fields that the distribution-spec wants of a
/// referrer.
#[derive(Debug)]
pub(super) struct Described {
    /// As JSON.
    pub(super) text: String,
    /// The field by which a list can be filtered.
    pub(super) artifact_type: Option<String>,
    /// How many bytes its manifest has.
    pub(super) read: usize,
}

impl Described {
    /// The descriptor of the manifest with these bytes.
    pub(super) fn of(link: &LinkRecord, bytes: &[u8]) -> Described {
        #[derive(Default, Deserialize)]
        struct Annotated {
            annotations: Option<BTreeMap<String, String>>,
        }
        let manifest = Manifest::parse(&link.media_type, bytes).unwrap_or_default();
        // An image without an artifact type has that of its config; an index has none.
        let told = [manifest.artifact_type, manifest.config.map(|config| config.media_type)];
        let artifact_type = told.into_iter().flatten().find(|told| !told.is_empty());
        // Annotations of another shape are left out: clients could not read the list.
        let annotations = serde_json::from_slice::<Annotated>(bytes).unwrap_or_default().annotations;
        let mut descriptor = json!({ "mediaType": link.media_type, "digest": link.digest, "size": link.size });
        if let Some(artifact_type) = &artifact_type {
            descriptor["artifactType"] = artifact_type.as_str().into();
        }
        if let Some(annotations) = annotations {
            descriptor["annotations"] = json!(annotations);
        }
        Described { text: descriptor.to_string(), artifact_type, read: bytes.len() }
    }

    /// The descriptor without annotations and, if that does not fit either, without the artifact
    /// type.
    pub(super) fn shorter(&self, fits: impl Fn(&str) -> bool) -> String {
        let mut descriptor: Value = serde_json::from_str(&self.text).unwrap_or_default();
        let mut text = String::new();
        for key in ["annotations", "artifactType"] {
            if let Some(fields) = descriptor.as_object_mut() {
                fields.remove(key);
            }
            text = descriptor.to_string();
            if fits(&text) {
                break;
            }
        }
        text
    }
}
