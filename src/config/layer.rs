//! One layer of the configuration: a tree of values of one kind, and the place of each value, such
//! as the line of the file. `load.rs` puts four of them together; a layer never changes after that.

use std::collections::BTreeMap;

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::{
    inputs::Flags,
    problem::Source,
    table::{ConfigKey, KeyKind, value_of},
};

/// The kind of a layer. Its name is the name of the layer's figment metadata, by which a merged
/// value finds its layer again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LayerKind {
    Defaults,
    File,
    Environment,
    Flags,
}

impl LayerKind {
    fn name(self) -> &'static str {
        match self {
            LayerKind::Defaults => "defaults",
            LayerKind::File => "file",
            LayerKind::Environment => "environment",
            LayerKind::Flags => "flags",
        }
    }
}

/// A tree of values, and their places by key path (`cache.tag_ttl`, `upstream[0].url`).
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) kind: LayerKind,
    pub(super) values: Dict,
    places: BTreeMap<String, Source>,
}

impl Layer {
    pub(super) fn new(kind: LayerKind) -> Self {
        Layer { kind, values: Dict::new(), places: BTreeMap::new() }
    }

    /// The defaults of the keys. The keys of lists of tables have none here: `Reader::value` knows
    /// theirs.
    pub(super) fn defaults(keys: &[ConfigKey]) -> Self {
        let mut layer = Layer::new(LayerKind::Defaults);
        layer.add_defaults(keys, "");
        layer
    }

    fn add_defaults(&mut self, keys: &[ConfigKey], prefix: &str) {
        for key in keys {
            let path = format!("{prefix}{}", key.name);
            match key.kind {
                KeyKind::Default(written) => {
                    if let Some(value) = value_of(written) {
                        self.insert(&path, value, Source::Default);
                    }
                }
                KeyKind::Table(keys) => self.add_defaults(keys, &format!("{path}.")),
                KeyKind::Example(_) | KeyKind::Tables(_) | KeyKind::NotBuilt(_) => {}
            }
        }
    }

    /// The settings on the command line.
    pub(super) fn flags(flags: &Flags) -> Self {
        let mut layer = Layer::new(LayerKind::Flags);
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

    /// Puts a value at a path of table names. If one path has both a table and a value, the table
    /// wins and false is returned.
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

    /// Notes the place of a value that was put into `values` directly.
    pub(super) fn place(&mut self, path: String, source: Source) {
        self.places.insert(path, source);
    }

    /// Where this path was said: its own place, else the nearest one around it, else the first one
    /// in it.
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

/// Merges one tree into another. False: a table met a value.
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
        Metadata::named(self.kind.name())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The layers in order, each over the one before.
pub(super) struct Layers(pub(super) [Layer; 4]);

impl Layers {
    /// Four empty layers.
    pub(super) fn none() -> Self {
        Layers([LayerKind::Defaults, LayerKind::File, LayerKind::Environment, LayerKind::Flags].map(Layer::new))
    }

    /// The layer of a merged value, by the name that figment kept with it.
    pub(super) fn named(&self, metadata: Option<&Metadata>) -> Option<&Layer> {
        let name = &metadata?.name;
        self.0.iter().find(|layer| layer.kind.name() == name)
    }
}
