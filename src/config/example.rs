//! Tests of `config.example.toml`: as it stands it is the defaults, every key of the table is in it
//! with its documentation, and every key works.

use std::{fs, path::PathBuf};

use super::{
    Config, Inputs, Loaded, MaxSize, schema,
    table::{ConfigKey, KeyKind},
};

const EXAMPLE: &str = include_str!("../../config.example.toml");

fn load(text: &str) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["registry.lan".to_owned()]).unwrap();
    let certificate = made.cert.pem();
    fs::write(folder.path().join("cert.pem"), &certificate).unwrap();
    fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(folder.path().join("docker-hub"), "secret\n").unwrap();
    fs::write(folder.path().join("registry-ca.pem"), &certificate).unwrap();
    fs::write(folder.path().join("store-ca.pem"), certificate).unwrap();
    let folder_name = folder.path().to_str().unwrap();
    let text = text.replace("/run/secrets", folder_name).replace("/etc/lanyard", folder_name);
    let file: PathBuf = folder.path().join("lanyard.toml");
    fs::write(&file, text).unwrap();
    Config::load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap()
}

/// The example with every key set. Keys are commented out with a # alone, sentences with a # and a
/// space.
fn with_every_key() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{key}\n"),
        Some(_) | None => format!("{line}\n"),
    };
    EXAMPLE.lines().map(line).collect()
}

#[test]
fn the_example_is_the_defaults() {
    let defaults = Config::load(&Inputs::default()).unwrap();
    let example = load(EXAMPLE);
    assert_eq!(example.config, defaults.config);
    for (path, _) in &defaults.provenance.values {
        assert_ne!(example.provenance.source(path), Some(&super::Source::Default), "{path} is not in the example");
    }
}

#[test]
fn every_commented_key_works() {
    let config = load(&with_every_key()).config;
    let hub = &config.upstreams[0];
    assert!(hub.credentials.is_some() && hub.ca_file.is_some() && hub.proxy.is_some() && hub.tag_ttl.is_some());
    assert!(hub.has_built_in_url());
    assert_eq!(hub.connections, 16);
    assert_eq!(config.cache.max_size, Some(MaxSize::Bytes(500 << 30)));
    assert_eq!(config.upstreams.len(), super::BUILT_IN.len());
    assert!(config.public_url.is_some());
    assert!(config.mirror_listen.is_some() && config.tls.is_some() && config.auth.htpasswd.is_some());
    assert_eq!((config.access.len(), config.tag_rules.len()), (1, 1));
}

#[test]
fn every_key_with_an_effect_is_in_the_example() {
    let shown = with_every_key();
    for path in schema::known() {
        let (table, key) = path.rsplit_once('.').unwrap_or(("", &path));
        let is_there = match path.as_str() {
            "cache" | "hosted" | "storage" | "tls" | "auth" | "log" => shown.contains(&format!("\n[{key}]\n")),
            "upstream" | "tags" | "access" => shown.contains(&format!("\n[[{key}]]\n")),
            _ => {
                let within =
                    shown.split("\n[").find(|part| part.trim_start_matches('[').starts_with(&format!("{table}]")));
                let within = if table.is_empty() { shown.split("\n[").next() } else { within };
                within.is_some_and(|text| text.contains(&format!("\n{key} = ")))
            }
        };
        assert!(is_there, "{path}");
    }
}

/// The lines that the table of keys expects in the example, one text for each key. A table's own
/// lines are above its first key.
fn expected(keys: &[ConfigKey], hidden: bool) -> Vec<String> {
    let mut all = Vec::new();
    for key in keys {
        let about = key.about.iter().take_while(|line| !line.is_empty());
        let about: String = about.map(|line| format!("#{line}\n")).collect();
        let hash = if hidden { "#" } else { "" };
        let (line, below) = match key.kind {
            KeyKind::Default(written) => (format!("{hash}{} = {written}\n", key.name), Vec::new()),
            KeyKind::Example(written) => (format!("#{} = {written}\n", key.name), Vec::new()),
            KeyKind::Table(keys) => (format!("[{}]\n", key.name), expected(keys, false)),
            KeyKind::Tables(keys) => (format!("#[[{}]]\n", key.name), expected(keys, true)),
            KeyKind::NotBuilt(_) => continue,
        };
        let mut below = below.into_iter();
        all.push(format!("{about}{line}{}", below.next().unwrap_or_default()));
        all.extend(below);
    }
    all
}

#[test]
fn the_example_has_the_lines_of_every_key() {
    let expected = expected(Config::KEYS, false);
    for lines in &expected {
        assert!(EXAMPLE.contains(lines), "config.example.toml has not these lines:\n\n{lines}");
    }
    assert!(EXAMPLE.ends_with(&format!("\n\n{}", expected.join("\n"))), "the order is that of the table of keys");
}
