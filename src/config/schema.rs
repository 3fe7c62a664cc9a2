//! Compares a layer with the table of keys. A key that is not in the table, or is not in this
//! version, is a problem: a misspelt or unknown setting is never ignored. Called by `load.rs`.

use figment::value::{Dict, Value};

use super::{
    environment::PREFIX,
    keys::Config,
    layer::{Layer, LayerKind},
    problem::{Problem, Source},
    table::{ConfigKey, KeyKind, not_in_this_version},
};

/// Notes a problem for every key of the layer that cannot be used, and removes the key, so that
/// no later check finds it again.
pub(super) fn prune(layer: &mut Layer, problems: &mut Vec<Problem>) {
    let mut values = std::mem::take(&mut layer.values);
    prune_table(&mut values, Config::KEYS, "", layer, problems);
    layer.values = values;
}

fn prune_table(dict: &mut Dict, keys: &[ConfigKey], prefix: &str, layer: &Layer, problems: &mut Vec<Problem>) {
    dict.retain(|name, value| {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let before = problems.len();
        let key = keys.iter().find(|key| key.name == name);
        match (key.map(|key| &key.kind), value) {
            (None, _) => problems.push(unknown(&path, name, layer)),
            (Some(KeyKind::NotBuilt(what)), _) => {
                problems.push(Problem::new(layer.source(&path), &path, not_in_this_version(what)));
            }
            (Some(KeyKind::Table(keys)), Value::Dict(_, inner)) => {
                prune_table(inner, keys, &path, layer, problems);
                return true;
            }
            (Some(KeyKind::Table(_)), _) => {
                problems.push(Problem::new(
                    layer.source(&path),
                    &path,
                    format!("is a table: write [{path}] and its keys below it"),
                ));
            }
            (Some(KeyKind::Tables(_)), _) if layer.kind != LayerKind::File => {
                problems.push(Problem::new(
                    layer.source(&path),
                    &path,
                    format!("[[{path}]] is set in the configuration file only"),
                ));
            }
            (Some(KeyKind::Tables(keys)), Value::Array(_, items)) => {
                prune_tables(items, keys, &path, layer, problems);
                return true;
            }
            (Some(KeyKind::Tables(_)), _) => {
                problems.push(Problem::new(
                    layer.source(&path),
                    &path,
                    format!("is a list of tables: write [[{path}]]"),
                ));
            }
            (Some(KeyKind::Default(_) | KeyKind::Example(_)), Value::Dict(..)) => {
                problems.push(Problem::new(layer.source(&path), &path, "is a single value, not a table"));
            }
            (Some(KeyKind::Default(_) | KeyKind::Example(_)), _) => {}
        }
        problems.len() == before
    });
}

/// An item that is not a table is a problem. It stays in the list, so that the other items keep
/// their numbers; the reader skips it.
fn prune_tables(items: &mut [Value], keys: &[ConfigKey], path: &str, layer: &Layer, problems: &mut Vec<Problem>) {
    for (index, item) in items.iter_mut().enumerate() {
        let path = format!("{path}[{index}]");
        match item {
            Value::Dict(_, inner) => prune_table(inner, keys, &path, layer, problems),
            _ => problems.push(Problem::new(layer.source(&path), path, "is not a table")),
        }
    }
}

fn unknown(path: &str, name: &str, layer: &Layer) -> Problem {
    let source = layer.source(path);
    let Some(near) = nearest(path, name) else {
        return Problem::new(source, path, "there is no such key");
    };
    let hint = match source {
        Source::Environment(_) => format!("{PREFIX}{}", near.to_uppercase().replace('.', "__")),
        Source::Default | Source::File { .. } | Source::Flag(_) => near,
    };
    Problem::new(source, path, format!("there is no such key; did you mean {hint}?"))
}

/// The known key that was most likely meant: one with up to two other letters, the same name in
/// another table, or a name that begins so.
fn nearest(path: &str, name: &str) -> Option<String> {
    let plain = |path: &str| {
        let kept = path.chars().filter(|c| !c.is_ascii_digit() && !matches!(c, '[' | ']'));
        kept.map(|c| if matches!(c, '.' | '-') { '_' } else { c.to_ascii_lowercase() }).collect::<String>()
    };
    let distance = |known: &String| {
        let leaf = known.rsplit('.').next().unwrap_or(known);
        let as_written = strsim::osa_distance(&plain(path), &plain(known));
        let elsewhere = strsim::osa_distance(&plain(name), leaf) + 1;
        let sibling = plain(path).strip_suffix(&plain(name)) == plain(known).strip_suffix(leaf);
        let begun = if sibling && leaf.starts_with(&plain(name)) && name.len() > 2 { 1 } else { usize::MAX };
        as_written.min(elsewhere).min(begun)
    };
    let best = known().into_iter().min_by_key(distance)?;
    let limit = if name.len() < 5 { 1 } else { 2 };
    (distance(&best) <= limit).then_some(best)
}

/// The paths of all keys that can be set, tables included.
pub(super) fn known() -> Vec<String> {
    let mut known = Vec::new();
    collect(Config::KEYS, "", &mut known);
    known
}

fn collect(keys: &[ConfigKey], prefix: &str, into: &mut Vec<String>) {
    for key in keys {
        let path = if prefix.is_empty() { key.name.to_owned() } else { format!("{prefix}.{}", key.name) };
        match key.kind {
            KeyKind::Default(_) | KeyKind::Example(_) => into.push(path),
            KeyKind::Table(keys) | KeyKind::Tables(keys) => {
                into.push(path.clone());
                collect(keys, &path, into);
            }
            KeyKind::NotBuilt(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_what_was_meant() {
        for (path, near) in [
            ("lisen", Some("listen")),
            ("cache.tag-ttl", Some("cache.tag_ttl")),
            ("cache.tagttl", Some("cache.tag_ttl")),
            ("cache_tag_ttl", Some("cache.tag_ttl")),
            ("min_free", Some("cache.min_free")),
            ("upstreams", Some("upstream")),
            ("upstream[3].password", Some("upstream.password_file")),
            ("upstream[3].user_name", Some("upstream.username")),
            ("upstream[0].tokenhosts", Some("upstream.token_hosts")),
            ("colour", None),
            ("x", None),
        ] {
            let name = path.rsplit('.').next().unwrap();
            assert_eq!(nearest(path, name).as_deref(), near, "{path}");
        }
    }
}
