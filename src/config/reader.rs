//! Takes values out of the merged tree one by one, and collects the problems with them.
//!
//! `keys.rs` reads each table with it, by one method for each kind of entry; the check files read
//! the keys that depend on others. Every method that returns `None` has noted a problem, but for
//! `take` and `required`, which also return `None` for an absent key.

use figment::{
    Figment,
    value::{Dict, Value},
};
use toml::de::{DeTable, DeValue};
use url::Url;

use super::{
    layer::{LayerKind, Layers},
    problem::{Problem, Shown, ShownEntry, Source},
    table::{ConfigKey, value_of},
};

/// The problems so far, and the layers, which know where each value was said.
pub(super) struct Reader<'a> {
    pub(super) layers: &'a Layers,
    pub(super) figment: &'a Figment,
    pub(super) problems: Vec<Problem>,
}

/// One table of the merged tree, and the values that were taken from it.
pub(super) struct Section<'a> {
    dict: Option<&'a Dict>,
    prefix: String,
    /// The values for `config show` by key path, in the order of taking.
    shown: ShownEntry,
}

impl<'a> Section<'a> {
    /// A table at a path; the empty path is the root. If the tree has no such table, no key has a
    /// value.
    pub(super) fn new(dict: Option<&'a Dict>, prefix: &str) -> Self {
        Section { dict, prefix: prefix.to_owned(), shown: Vec::new() }
    }

    /// The table under a key of this one, which is the root.
    pub(super) fn table(&self, key: &str) -> Self {
        Section::new(self.dict.and_then(|dict| dict.get(key)).and_then(Value::as_dict), key)
    }

    /// The value as it was written.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.dict.and_then(|dict| dict.get(key))
    }

    /// The whole path of a key.
    pub(super) fn path(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}.{key}", self.prefix) }
    }

    /// Notes a value for `config show`. It must hold no secret.
    pub(super) fn show(&mut self, key: &str, value: &Value, source: Source) {
        let value = toml::Value::try_from(value).map(|value| value.to_string()).unwrap_or_default();
        self.shown.push((self.path(key), Shown { value, source }));
    }

    /// The values for `config show`: those of `keys` in their order, then those of tables below.
    pub(super) fn into_shown(mut self, keys: &[ConfigKey]) -> ShownEntry {
        let paths: Vec<String> = keys.iter().map(|key| self.path(key.name)).collect();
        self.shown.sort_by_key(|(path, _)| paths.iter().position(|known| known == path).unwrap_or(paths.len()));
        self.shown
    }
}

impl<'a> Reader<'a> {
    /// A reader that has noted no problem yet.
    pub(super) fn new(layers: &'a Layers, figment: &'a Figment) -> Self {
        Reader { layers, figment, problems: Vec::new() }
    }

    /// Where a merged value was said.
    pub(super) fn source(&self, value: &Value, path: &str) -> Source {
        let layer = self.layers.named(self.figment.get_metadata(value.tag()));
        layer.map_or(Source::Default, |layer| layer.source(path))
    }

    /// Notes a problem.
    pub(super) fn problem(&mut self, source: Source, key: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem::new(source, key, what));
    }

    /// Takes a value without noting it for `config show`. None: it is absent, or a problem was
    /// noted. The message of `parse` holds no secret.
    pub(super) fn take_unshown<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<(T, Source)> {
        let value = section.get(key)?;
        let path = section.path(key);
        let source = self.source(value, &path);
        match parse(value) {
            Ok(taken) => Some((taken, source)),
            Err(what) => {
                self.problem(source, path, what);
                None
            }
        }
    }

    /// Takes a value that may be shown. None: it is absent, or a problem was noted.
    pub(super) fn take<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let (taken, source) = self.take_unshown(section, key, parse)?;
        if let Some(value) = section.get(key) {
            section.show(key, value, source);
        }
        Some(taken)
    }

    /// Takes a list of texts and parses each of them. Absent: an empty list. None: a problem was
    /// noted.
    ///
    /// In a variable a list is written as in the file:
    /// `LANYARD__HOSTED__NAMESPACES='["team/**"]'`.
    pub(super) fn take_list<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let Some(value) = section.get(key) else { return Some(Vec::new()) };
        let path = section.path(key);
        let source = self.source(value, &path);
        let Some(texts) = self.texts(value) else {
            self.problem(source, path, "must be a list of texts, such as [\"one\", \"two\"]");
            return None;
        };
        let mut items = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match parse(text) {
                Ok(item) => items.push(item),
                Err(what) => {
                    let path = format!("{path}[{index}]");
                    self.problem(self.source(value, &path), path, what);
                }
            }
        }
        let whole = items.len() == texts.len();
        section.show(key, &Value::from(texts), source);
        whole.then_some(items)
    }

    fn texts(&self, value: &Value) -> Option<Vec<String>> {
        let layer = self.layers.named(self.figment.get_metadata(value.tag()));
        match value {
            Value::Array(_, items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Value::String(_, text) if layer.is_some_and(|layer| layer.kind == LayerKind::Environment) => {
                let line = format!("list = {text}");
                let table = DeTable::parse(&line).ok().filter(|table| table.get_ref().len() == 1)?;
                let items = table.get_ref().get("list").and_then(|value| value.get_ref().as_array())?;
                items.iter().map(|item| DeValue::as_str(item.get_ref()).map(str::to_owned)).collect()
            }
            _ => None,
        }
    }
}

/// One method for each kind of entry in the macro `keys!`.
impl Reader<'_> {
    /// A value with a default. The layers hold the defaults, but not those of lists of tables:
    /// there an absent key has the default here, and is not shown. A value with a problem counts
    /// as the default, so that the checks between keys go on.
    pub(super) fn value<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        default: &str,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<T> {
        self.take(section, key, &parse).or_else(|| parse(&value_of(default)?).ok())
    }

    /// A list with a default, which an absent key has.
    pub(super) fn list<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        if section.get(key).is_some() {
            return self.take_list(section, key, parse);
        }
        let default = value_of(default)?;
        default.as_array()?.iter().map(|item| parse(item.as_str()?).ok()).collect()
    }

    /// A list that is empty if it is absent.
    pub(super) fn optional_list<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        _example: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        self.take_list(section, key, parse)
    }

    /// A value that may be absent.
    pub(super) fn option<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        _example: &str,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<Option<T>> {
        Some(self.take(section, key, parse))
    }

    /// A URL that may be absent, and is shown without its password.
    pub(super) fn redacted(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        _example: &str,
        parse: impl Fn(&Value) -> Result<Url, String>,
    ) -> Option<Option<Url>> {
        Some(self.take_unshown(section, key, parse).map(|(url, source)| {
            section.show(key, &Value::from(redacted(&url)), source);
            url
        }))
    }

    /// A value without which the table counts as absent. `None`: it is absent, or a problem was
    /// noted.
    pub(super) fn required<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        _example: &str,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<T> {
        self.take(section, key, parse)
    }

    /// A table below this one.
    pub(super) fn table<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        read: impl FnOnce(&mut Self, &mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        let mut below = section.table(key);
        let table = read(self, &mut below);
        section.shown.extend(below.shown);
        table
    }

    /// A table below this one that may be absent.
    pub(super) fn optional_table<T>(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        read: impl FnOnce(&mut Self, &mut Section<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        Some(self.table(section, key, read))
    }
}

/// A URL as it may be shown: without its password.
pub(super) fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() && url.set_password(Some("REDACTED")).is_err() {
        return "REDACTED".to_owned();
    }
    url.into()
}
