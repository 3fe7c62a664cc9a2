//! What a client has pulled, and what Docker Hub has: both by digest.

use std::collections::BTreeSet;

/// A client's own report of an image in its store.
#[derive(Debug)]
pub(crate) struct Pulled {
    /// The digest that the tag points to; `None` from a client that does not keep it.
    pub(crate) tag: Option<String>,
    /// Every manifest, configuration and (compressed) layer that the client can name; `None` from a
    /// client that names none.
    pub(crate) held: Option<BTreeSet<String>>,
    /// The digests of the unpacked layers, from a client that unpacks; such a client need not name
    /// compressed layers.
    pub(crate) unpacked: Option<Vec<String>>,
}

/// The parts that a client must hold after a pull.
#[derive(Debug)]
pub(crate) struct Expected {
    /// The digest that the tag points to: that of an index, or of the manifest itself.
    pub(crate) tag: String,
    /// The manifests for the client's platform (or for all).
    pub(crate) manifests: BTreeSet<String>,
    /// Their configurations.
    pub(crate) configs: BTreeSet<String>,
    /// Their layers, as they are transferred.
    pub(crate) layers: BTreeSet<String>,
    /// Their layers' `diff_ids`, in order.
    pub(crate) unpacked: Vec<String>,
}

impl Expected {
    /// Every digest that a pull may need.
    pub(crate) fn all(&self) -> BTreeSet<String> {
        let tag = BTreeSet::from([self.tag.clone()]);
        [&tag, &self.manifests, &self.configs, &self.layers].into_iter().flatten().cloned().collect()
    }

    /// Panics unless the client has exactly this image.
    pub(crate) fn assert_is(&self, pulled: &Pulled) {
        if let Some(tag) = &pulled.tag {
            assert_eq!(*tag, self.tag, "the tag leads somewhere else: {pulled:?}");
        }
        if let Some(held) = &pulled.held {
            let all = self.all();
            let strange: Vec<_> = held.difference(&all).collect();
            assert!(strange.is_empty(), "{strange:?} is not part of {self:?}");
            assert!(self.configs.is_subset(held), "a configuration is missing: {pulled:?}, expected {self:?}");
        }
        match (&pulled.unpacked, &pulled.held) {
            (Some(unpacked), _) => assert_eq!(*unpacked, self.unpacked, "the unpacked layers differ: {pulled:?}"),
            (None, Some(held)) => {
                let parts: BTreeSet<_> = self.manifests.union(&self.layers).cloned().collect();
                assert!(parts.is_subset(held), "something is missing: {pulled:?}, expected {self:?}");
            }
            (None, None) => panic!("the client says nothing about what it pulled"),
        }
    }
}

/// The text of every string in a JSON array; empty when there is none.
pub(crate) fn strings(array: &serde_json::Value) -> Vec<String> {
    array.as_array().into_iter().flatten().filter_map(|one| one.as_str()).map(str::to_owned).collect()
}

/// `sha256:` in front of a bare hex digest, as podman and buildah print it.
pub(crate) fn sha256(hex: &str) -> String {
    format!("sha256:{}", hex.trim_start_matches("sha256:"))
}
