//! Reads the JSON of a manifest: as Go's clients read it, or not at all. Only `Manifest::parse` and
//! `Manifest::sniff` use it.
//!
//! - A `null` counts as absent. A field that lanyard does not need may hold any value.
//! - Go matches the keys of fields in any case, and most other readers do not. Of two equal keys
//!   readers take different ones. So a key that only Go takes for a field is an error, and so is a
//!   field that is there twice: two readers would see two images (S10, S21).

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use super::manifest::{Descriptor, Manifest, Platform};

/// The fields of an object that lanyard reads, and those seen so far.
struct Fields {
    known: &'static [&'static str],
    seen: u32,
}

impl Fields {
    fn of(known: &'static [&'static str]) -> Self {
        Fields { known, seen: 0 }
    }

    /// The field of a key. None: lanyard does not read the key.
    fn field<E: Error>(&mut self, key: &str) -> Result<Option<&'static str>, E> {
        let Some(at) = self.known.iter().position(|known| folded(key, known)) else { return Ok(None) };
        let known = self.known[at];
        if key != known {
            return Err(E::custom(format_args!("some clients take the key {key:?} for {known:?}, and others do not")));
        }
        if self.seen & (1 << at) != 0 {
            return Err(E::duplicate_field(known));
        }
        self.seen |= 1 << at;
        Ok(Some(known))
    }
}

/// Whether Go takes `key` for the field `known`, which is ASCII. Letters match in any case; so do
/// the two letters beyond ASCII that fold to an ASCII letter.
fn folded(key: &str, known: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(known.chars().map(fold))
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ManifestVisitor)
    }
}

struct ManifestVisitor;

impl<'de> Visitor<'de> for ManifestVisitor {
    type Value = Manifest;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Manifest, A::Error> {
        let mut fields = Fields::of(&["mediaType", "config", "layers", "manifests", "subject", "artifactType"]);
        let mut manifest = Manifest::default();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match fields.field(&key)? {
                Some("mediaType") => {
                    manifest.media_type = map.next_value::<Option<String>>()?.filter(|told| !told.is_empty());
                }
                Some("config") => (manifest.config, manifest.image_key) = (map.next_value()?, true),
                Some("layers") => (manifest.layers, manifest.image_key) = (map.next_value()?, true),
                Some("manifests") => (manifest.manifests, manifest.index_key) = (map.next_value()?, true),
                Some("subject") => manifest.subject = map.next_value()?,
                Some("artifactType") => manifest.artifact_type = text(map.next_value()?),
                Some(_) | None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(manifest)
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DescriptorVisitor)
    }
}

struct DescriptorVisitor;

impl<'de> Visitor<'de> for DescriptorVisitor {
    type Value = Descriptor;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a descriptor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Descriptor, A::Error> {
        let mut fields = Fields::of(&["mediaType", "digest", "size", "platform", "urls"]);
        let (mut media_type, mut digest, mut size) = (None, None, None);
        let (mut platform, mut urls) = (None, Vec::new());
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match fields.field(&key)? {
                Some("mediaType") => media_type = map.next_value::<Option<String>>()?,
                Some("digest") => digest = map.next_value()?,
                Some("size") => size = map.next_value::<Option<u64>>()?,
                Some("platform") => platform = Platform::of(map.next_value()?),
                Some("urls") => urls = texts(map.next_value()?),
                Some(_) | None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let digest = digest.ok_or_else(|| A::Error::missing_field("digest"))?;
        let (media_type, size) = (media_type.unwrap_or_default(), size.unwrap_or_default());
        Ok(Descriptor { media_type, digest, size, platform, urls })
    }
}

impl Platform {
    fn of(value: Value) -> Option<Platform> {
        let Value::Object(mut fields) = value else { return None };
        let mut told = |key| fields.remove(key).and_then(text);
        let (architecture, os, variant) = (told("architecture"), told("os"), told("variant"));
        Some(Platform { architecture: architecture.unwrap_or_default(), os: os.unwrap_or_default(), variant })
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn texts(value: Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.into_iter().filter_map(text).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_as_go_does() {
        for key in ["layers", "Layers", "LAYERS", "laYerS", "layer\u{17f}"] {
            assert!(folded(key, "layers"), "{key}");
        }
        assert!(folded("\u{212a}ey", "key"));
        for key in ["layer", "layers ", "layerß", "läyers", "layers\u{307}", "", "fsLayers"] {
            assert!(!folded(key, "layers"), "{key}");
        }
    }
}
