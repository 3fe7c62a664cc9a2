//! `LANYARD__` variables as a layer: `LANYARD__CACHE__TAG_TTL=60s` is `cache.tag_ttl`.
//!
//! Called by `load.rs`. Values stay text: figment's own provider reads `123456`, `true` and
//! `[abc]` as other types, cuts spaces, and prints the value in its errors. The prefix has two
//! underscores because Kubernetes sets `LANYARD_PORT=tcp://…` for a service called lanyard.

use std::ffi::OsString;

use figment::value::Value;

use super::{
    layer::{Layer, LayerKind},
    problem::{Problem, Source},
};

/// The beginning of lanyard's variables. Variables are case-sensitive.
pub(super) const PREFIX: &str = "LANYARD__";

/// The variables with the prefix, as a layer. The others are ignored.
pub(super) fn read(variables: &[(OsString, OsString)], problems: &mut Vec<Problem>) -> Layer {
    let mut layer = Layer::new(LayerKind::Environment);
    for (name, value) in variables {
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let path = rest.to_lowercase().replace("__", ".");
        let source = Source::Environment(name.to_string());
        if path.split('.').any(str::is_empty) {
            problems.push(Problem::new(
                source,
                "",
                format!("names no key; tables and keys are separated by __, as in {PREFIX}CACHE__TAG_TTL"),
            ));
            continue;
        }
        let Some(value) = value.to_str() else {
            problems.push(Problem::new(source, path, "is not UTF-8 text"));
            continue;
        };
        if !layer.insert(&path, Value::from(value), source.clone()) {
            problems.push(Problem::new(source, path, "is set both as a value and as a table"));
        }
    }
    layer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_text_and_other_variables_stay_out() {
        let variables = [
            ("LANYARD__LISTEN", "123456"),
            ("LANYARD__CACHE__TAG_TTL", " true"),
            ("LANYARD__LOG__FORMAT", "[abc]"),
            ("LANYARD_PORT", "tcp://10.0.0.1:5000"),
            ("lanyard__mode", "offline"),
            ("LANYARD__", "x"),
            ("LANYARD__A____B", "x"),
        ]
        .map(|(name, value)| (name.into(), value.into()));
        let mut problems = Vec::new();
        let layer = read(&variables, &mut problems);
        let value = |path: &str| Value::from(layer.values.clone()).find(path).and_then(Value::into_string);
        assert_eq!(value("listen").as_deref(), Some("123456"));
        assert_eq!(value("cache.tag_ttl").as_deref(), Some(" true"));
        assert_eq!(value("log.format").as_deref(), Some("[abc]"));
        assert_eq!(layer.values.len(), 3);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(layer.source("cache.tag_ttl"), Source::Environment("LANYARD__CACHE__TAG_TTL".into()));
    }

    #[test]
    fn a_value_and_a_table_of_one_name_are_a_problem() {
        let variables = [("LANYARD__CACHE", "x"), ("LANYARD__CACHE__TAG_TTL", "1s")].map(|(n, v)| (n.into(), v.into()));
        let mut problems = Vec::new();
        read(&variables, &mut problems);
        assert_eq!(problems.len(), 1);
    }
}
