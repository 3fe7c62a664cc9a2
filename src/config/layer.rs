//! One layer of the configuration: a tree of values from one origin, and where in that origin each value stands.

use std::collections::BTreeMap;

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::{Flags, Source};

/// Whose layer it is. The text is the name of the layer's figment metadata, by which a merged value finds its
/// layer again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    Defaults,
    File,
    Environment,
    Flags,
}

impl Origin {
    fn name(self) -> &'static str {
        match self {
            Origin::Defaults => "defaults",
            Origin::File => "file",
            Origin::Environment => "environment",
            Origin::Flags => "flags",
        }
    }
}

/// A tree of values, and their places by key path (`cache.tag_ttl`, `upstream[0].url`).
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) origin: Origin,
    pub(super) values: Dict,
    places: BTreeMap<String, Source>,
}

impl Layer {
    pub(super) fn new(origin: Origin) -> Self {
        Layer { origin, values: Dict::new(), places: BTreeMap::new() }
    }

    /// What holds where nothing is said. DESIGN.md's text is checked against this by `config.example.toml`.
    pub(super) fn defaults() -> Self {
        let mut layer = Layer::new(Origin::Defaults);
        for (path, value) in [
            ("listen", Value::from("0.0.0.0:5000")),
            ("names", Value::from(Vec::<String>::new())),
            ("trusted_proxies", Value::from(Vec::<String>::new())),
            ("data_dir", Value::from("data")),
            ("mode", Value::from("auto")),
            ("default_upstream", Value::from("docker.io")),
            ("scrub_every", Value::from("30d")),
            ("cache.min_free", Value::from("10%")),
            ("cache.tag_ttl", Value::from("60s")),
            ("cache.negative_ttl", Value::from("10s")),
            ("hosted.namespaces", Value::from(Vec::<String>::new())),
            ("hosted.reserved", Value::from(vec!["library/**"])),
            ("hosted.immutable_tags", Value::from(Vec::<String>::new())),
            ("hosted.sparse", Value::from(false)),
            ("hosted.uploads_per_user", Value::from(64)),
            ("hosted.uploads", Value::from(1024)),
            ("hosted.gc_grace", Value::from("1h")),
            ("log.format", Value::from("text")),
        ] {
            layer.insert(path, value, Source::Default);
        }
        layer
    }

    /// What stands on the command line.
    pub(super) fn flags(flags: &Flags) -> Self {
        let mut layer = Layer::new(Origin::Flags);
        let said = [
            ("listen", "--listen", &flags.listen),
            ("data_dir", "--data-dir", &flags.data_dir),
            ("mode", "--mode", &flags.mode),
        ];
        for (path, flag, value) in said {
            if let Some(value) = value {
                layer.insert(path, Value::from(value.as_str()), Source::Flag(flag));
            }
        }
        layer
    }

    /// Puts a value at a path of table names. Where a table and a value are both said, the table wins and false is
    /// returned.
    pub(super) fn insert(&mut self, path: &str, value: Value, source: Source) -> bool {
        let mut segments = path.split('.').rev();
        let leaf = segments.next().unwrap_or_default();
        let mut nested = Dict::from([(leaf.to_owned(), value)]);
        for table in segments {
            nested = Dict::from([(table.to_owned(), Value::from(nested))]);
        }
        self.places.insert(path.to_owned(), source);
        graft(&mut self.values, nested)
    }

    /// Notes where something stands that was put into `values` directly.
    pub(super) fn place(&mut self, path: String, source: Source) {
        self.places.insert(path, source);
    }

    /// Where this path was said: at its own place, else at the nearest one around it, else at the first one in it.
    pub(super) fn source(&self, path: &str) -> Source {
        let mut around = path;
        loop {
            if let Some(source) = self.places.get(around) {
                return source.clone();
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = &around[..end],
                None => break,
            }
        }
        let within = self
            .places
            .iter()
            .find(|(place, _)| place.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '['])));
        within.map_or(Source::Default, |(_, source)| source.clone())
    }
}

/// Merges one tree into another; false where a table met a value.
fn graft(into: &mut Dict, from: Dict) -> bool {
    let mut whole = true;
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Dict(_, old)), Value::Dict(_, new)) => whole &= graft(old, new),
            (Some(Value::Dict(..)), _) => whole = false,
            (Some(_), Value::Dict(..)) => whole = false,
            (Some(_) | None, value) => {
                into.insert(key, value);
            }
        }
    }
    whole
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.name())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The layers in order, each over the one before.
pub(super) struct Layers(pub(super) [Layer; 4]);

impl Layers {
    /// The layer that won a merged value, by the name figment kept with it.
    pub(super) fn named(&self, metadata: Option<&Metadata>) -> Option<&Layer> {
        let name = &metadata?.name;
        self.0.iter().find(|layer| layer.origin.name() == name)
    }
}
