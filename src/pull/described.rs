//! What a list of referrers says of one of them: a descriptor, made of its manifest once and kept for a while.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{oci::Manifest, storage::LinkRecord};

/// A descriptor (image-spec, descriptor.md) with what the distribution-spec wants of a referrer.
#[derive(Debug)]
pub(super) struct Described {
    /// As JSON.
    pub(super) text: String,
    /// What a list can be filtered by.
    pub(super) artifact_type: Option<String>,
    /// How many bytes were read for it.
    pub(super) read: usize,
}

impl Described {
    /// Of the manifest with these bytes.
    pub(super) fn of(link: &LinkRecord, bytes: &[u8]) -> Described {
        #[derive(Default, Deserialize)]
        struct Annotated {
            annotations: Option<BTreeMap<String, String>>,
        }
        let manifest = Manifest::parse(&link.media_type, bytes).unwrap_or_default();
        // An image says by its config what it is, if it does not say it itself; an index does not.
        let told = [manifest.artifact_type, manifest.config.map(|config| config.media_type)];
        let artifact_type = told.into_iter().flatten().find(|told| !told.is_empty());
        // Where they are no annotations, clients could not read the list.
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

    /// The same without annotations and, where that does not fit either, without the artifact type.
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
