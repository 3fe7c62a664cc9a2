//! Takes values out of the merged tree one by one, and collects what is wrong with them.

use std::str::FromStr;

use figment::{
    Figment,
    value::{Dict, Num, Value},
};
use toml::de::{DeTable, DeValue};

use super::{
    Problem, Source,
    layer::{Layers, Origin},
    problem::Said,
};

/// The problems so far, and what is needed to say where a value came from.
pub(super) struct Reader<'a> {
    pub(super) layers: &'a Layers,
    pub(super) figment: &'a Figment,
    pub(super) problems: Vec<Problem>,
}

/// One table of the merged tree, and what was taken from it.
pub(super) struct Scope<'a> {
    dict: Option<&'a Dict>,
    prefix: String,
    /// Key paths and their values, in the order of taking.
    pub(super) said: Vec<(String, Said)>,
}

impl<'a> Scope<'a> {
    /// A table at a path; the empty path is the root. Where the tree has no such table, no key has a value.
    pub(super) fn new(dict: Option<&'a Dict>, prefix: &str) -> Self {
        Scope { dict, prefix: prefix.to_owned(), said: Vec::new() }
    }

    /// The table under a key of this one.
    pub(super) fn table(&self, key: &str) -> Self {
        Scope::new(self.dict.and_then(|dict| dict.get(key)).and_then(Value::as_dict), key)
    }

    /// The value as it stands.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.dict.and_then(|dict| dict.get(key))
    }

    /// The whole path of a key.
    pub(super) fn path(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}.{key}", self.prefix) }
    }

    /// Notes a value for `config show`. It must hold no secret.
    pub(super) fn say(&mut self, key: &str, value: &Value, source: Source) {
        let value = toml::Value::try_from(value).map(|value| value.to_string()).unwrap_or_default();
        self.said.push((self.path(key), Said { value, source }));
    }
}

impl Reader<'_> {
    /// Where a merged value was said.
    pub(super) fn source(&self, value: &Value, path: &str) -> Source {
        let layer = self.layers.named(self.figment.get_metadata(value.tag()));
        layer.map_or(Source::Default, |layer| layer.source(path))
    }

    /// Notes a problem.
    pub(super) fn problem(&mut self, source: Source, key: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem::new(source, key, what));
    }

    /// Takes a value without noting it for `config show`. None: absent, or a problem was noted. What `parse` says
    /// of a bad value must hold no secret.
    pub(super) fn take_unsaid<T>(
        &mut self,
        scope: &Scope<'_>,
        key: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<(T, Source)> {
        let value = scope.get(key)?;
        let path = scope.path(key);
        let source = self.source(value, &path);
        match parse(value) {
            Ok(taken) => Some((taken, source)),
            Err(what) => {
                self.problem(source, path, what);
                None
            }
        }
    }

    /// Takes a value that may be shown.
    pub(super) fn take<T>(
        &mut self,
        scope: &mut Scope<'_>,
        key: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let (taken, source) = self.take_unsaid(scope, key, parse)?;
        if let Some(value) = scope.get(key) {
            scope.say(key, value, source);
        }
        Some(taken)
    }

    /// Takes a list of texts, every one of which is parsed. In a variable it is written like in the file:
    /// `LANYARD__HOSTED__NAMESPACES='["team/**"]'`. Absent: an empty list. None: a problem was noted.
    pub(super) fn list<T>(
        &mut self,
        scope: &mut Scope<'_>,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let Some(value) = scope.get(key) else { return Some(Vec::new()) };
        let path = scope.path(key);
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
        scope.say(key, &Value::from(texts), source);
        whole.then_some(items)
    }

    fn texts(&self, value: &Value) -> Option<Vec<String>> {
        let layer = self.layers.named(self.figment.get_metadata(value.tag()));
        match value {
            Value::Array(_, items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Value::String(_, text) if layer.is_some_and(|layer| layer.origin == Origin::Environment) => {
                let line = format!("list = {text}");
                let table = DeTable::parse(&line).ok().filter(|table| table.get_ref().len() == 1)?;
                let items = table.get_ref().get("list").and_then(|value| value.get_ref().as_array())?;
                items.iter().map(|item| DeValue::as_str(item.get_ref()).map(str::to_owned)).collect()
            }
            _ => None,
        }
    }
}

/// Text, whatever it holds.
pub(super) fn text(value: &Value) -> Result<&str, String> {
    value.as_str().filter(|text| !text.is_empty()).ok_or_else(|| "must be text in quotes, and not empty".to_owned())
}

/// Text that a type can be made of; the value is shown where it cannot.
pub(super) fn parsed<T: FromStr>(value: &Value) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    let text = text(value)?;
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(_, is) => Ok(*is),
        Value::String(_, text) if text == "true" => Ok(true),
        Value::String(_, text) if text == "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A number in a range.
pub(super) fn number(value: &Value, least: usize, most: usize) -> Result<usize, String> {
    let number = match value {
        Value::Num(_, Num::F32(_) | Num::F64(_)) => None,
        Value::Num(_, number) => number.to_i128().and_then(|number| usize::try_from(number).ok()),
        _ => None,
    };
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("must be a whole number from {least} to {most}"))
}

/// One of a few words.
pub(super) fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, String> {
    match value.as_str() {
        Some(text) => word_of(text, words),
        None => Err(format!("must be one of {}", known(words))),
    }
}

/// The same from text.
pub(super) fn word_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| format!("{text:?} is not one of {}", known(words)))
}

fn known<T>(words: &[(&str, T)]) -> String {
    words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}
