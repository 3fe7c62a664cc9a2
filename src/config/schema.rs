//! Every key there is. A key that is not here, or whose function this version does not have, is a problem: a
//! misspelt or unknown setting is never ignored.

use figment::value::{Dict, Value};

use super::{
    Problem, Source,
    environment::PREFIX,
    layer::{Layer, Origin},
};

/// What a key holds.
enum Kind {
    /// A value; `check.rs` says of what kind.
    Value,
    /// A table of keys.
    Table(&'static [Key]),
    /// A list of tables, written with `[[…]]`.
    Tables(&'static [Key]),
    /// Something that lanyard's design knows and this version does not do. The text is what it would do.
    NotBuilt(&'static str),
}

struct Key {
    name: &'static str,
    kind: Kind,
}

const fn value(name: &'static str) -> Key {
    Key { name, kind: Kind::Value }
}

const fn not_built(name: &'static str, what: &'static str) -> Key {
    Key { name, kind: Kind::NotBuilt(what) }
}

const fn table(name: &'static str, keys: &'static [Key]) -> Key {
    Key { name, kind: Kind::Table(keys) }
}

const KEYS: &[Key] = &[
    value("listen"),
    value("mirror_listen"),
    value("names"),
    value("public_url"),
    value("trusted_proxies"),
    value("data_dir"),
    value("mode"),
    value("default_upstream"),
    value("scrub_every"),
    table("cache", &[value("max_size"), value("min_free"), value("tag_ttl"), value("negative_ttl")]),
    table("hosted", HOSTED),
    Key { name: "upstream", kind: Kind::Tables(UPSTREAM) },
    table("tls", &[value("cert"), value("key"), not_built("client_ca", "telling who asks by client certificates")]),
    table("auth", &[value("htpasswd")]),
    Key { name: "access", kind: Kind::Tables(&[value("who"), value("repositories"), value("actions")]) },
    table("log", &[value("format")]),
];

const HOSTED: &[Key] = &[
    value("namespaces"),
    value("reserved"),
    value("immutable_tags"),
    value("sparse"),
    value("uploads_per_user"),
    value("uploads"),
    value("gc_grace"),
];

const UPSTREAM: &[Key] = &[
    value("name"),
    value("url"),
    value("prefix"),
    value("username"),
    value("password_file"),
    value("ca_file"),
    value("proxy"),
    value("token_hosts"),
    value("allow"),
    value("block"),
    value("tag_ttl"),
    value("keep_deleted"),
    value("connections"),
];

/// What is said of a key whose function is not there.
pub(super) fn not_in_this_version(what: &str) -> String {
    format!("{what} is not in this version; remove it")
}

/// Tells every key of the layer that cannot be used, and takes it out, so that it is told once.
pub(super) fn prune(layer: &mut Layer, problems: &mut Vec<Problem>) {
    let mut values = std::mem::take(&mut layer.values);
    prune_table(&mut values, KEYS, "", layer, problems);
    layer.values = values;
}

fn prune_table(dict: &mut Dict, keys: &[Key], prefix: &str, layer: &Layer, problems: &mut Vec<Problem>) {
    dict.retain(|name, value| {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let before = problems.len();
        let key = keys.iter().find(|key| key.name == name);
        match (key.map(|key| &key.kind), value) {
            (None, _) => problems.push(unknown(&path, name, layer)),
            (Some(Kind::NotBuilt(what)), _) => {
                problems.push(Problem::new(layer.source(&path), &path, not_in_this_version(what)));
            }
            (Some(Kind::Table(keys)), Value::Dict(_, inner)) => {
                prune_table(inner, keys, &path, layer, problems);
                return true;
            }
            (Some(Kind::Table(_)), _) => {
                problems.push(Problem::new(
                    layer.source(&path),
                    &path,
                    format!("is a table: write [{path}] and its keys below it"),
                ));
            }
            (Some(Kind::Tables(_)), _) if layer.origin != Origin::File => {
                problems.push(Problem::new(
                    layer.source(&path),
                    &path,
                    format!("[[{path}]] is set in the configuration file only"),
                ));
            }
            (Some(Kind::Tables(keys)), Value::Array(_, items)) => {
                prune_tables(items, keys, &path, layer, problems);
                return true;
            }
            (Some(Kind::Tables(_)), _) => {
                problems.push(Problem::new(
                    layer.source(&path),
                    &path,
                    format!("is a list of tables: write [[{path}]]"),
                ));
            }
            (Some(Kind::Value), Value::Dict(..)) => {
                problems.push(Problem::new(layer.source(&path), &path, "is a single value, not a table"));
            }
            (Some(Kind::Value), _) => {}
        }
        problems.len() == before
    });
}

/// An item that is not a table is told and stays, so that the numbers of the others stay right; the reader skips it.
fn prune_tables(items: &mut [Value], keys: &[Key], path: &str, layer: &Layer, problems: &mut Vec<Problem>) {
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

/// The known key that was most likely meant: a slip of up to two letters, the right name in the wrong table, or
/// the beginning of a name.
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
    collect(KEYS, "", &mut known);
    known
}

fn collect(keys: &[Key], prefix: &str, into: &mut Vec<String>) {
    for key in keys {
        let path = if prefix.is_empty() { key.name.to_owned() } else { format!("{prefix}.{}", key.name) };
        match key.kind {
            Kind::Value => into.push(path),
            Kind::Table(keys) | Kind::Tables(keys) => {
                into.push(path.clone());
                collect(keys, &path, into);
            }
            Kind::NotBuilt(_) => {}
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
