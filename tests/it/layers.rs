//! Imports point down (DESIGN.md section 6): a room may use the rooms below it, and strangers
//! stay strangers.

mod circles;
mod modules;
mod shape;
mod tokens;

use std::{fs, path::Path};

/// Each room and the rooms it may import.
const ROOMS: &[(&str, &[&str])] = &[
    ("oci", &[]),
    ("config", &["oci", "runtime"]),
    ("metrics", &["oci"]),
    ("runtime", &[]),
    ("network", &[]),
    ("storage", &["oci", "config", "metrics", "runtime", "network"]),
    ("upstream", &["oci", "config", "metrics", "runtime", "network"]),
    ("names", &["oci", "config"]),
    ("access", &["oci", "config", "runtime"]),
    ("pull", &["oci", "config", "metrics", "runtime", "storage", "upstream", "names"]),
    ("push", &["oci", "config", "metrics", "runtime", "storage", "names", "pull"]),
    ("retention", &["oci", "config", "metrics", "runtime", "storage"]),
    ("admin", &["oci", "config", "metrics", "runtime", "storage", "names", "pull", "retention"]),
    ("http", &["oci", "config", "metrics", "runtime", "names", "access", "pull", "push", "admin"]),
    (
        "app",
        &[
            "oci",
            "config",
            "metrics",
            "runtime",
            "storage",
            "upstream",
            "names",
            "access",
            "pull",
            "push",
            "retention",
            "admin",
            "http",
        ],
    ),
    ("cli", &["oci", "runtime", "config", "metrics", "access", "admin", "app"]),
];

/// Crates that have one room only.
const CONFINED: &[(&str, &[&str])] = &[
    ("sled", &["storage/index"]),
    ("awc", &["upstream/fetcher"]),
    ("actix_web", &["http", "app", "upstream/fetcher"]),
    ("actix_http", &["http", "app", "upstream/fetcher"]),
    ("bcrypt", &["access"]),
    (
        "aws_lc_rs",
        &["access", "cli/healthcheck.rs", "http/transport/tls.rs", "main.rs", "network", "upstream/fetcher/tests"],
    ),
    ("moka", &["pull"]),
    ("tokio_rustls", &["http"]),
    ("clap", &["cli", "main.rs"]),
    ("figment", &["config"]),
    ("uuid", &["storage/uploads", "storage/far"]),
    ("object_store", &["storage/far"]),
    ("hyper", &["storage/far"]),
    ("indicatif", &["cli"]),
    ("saphyr_parser", &["cli"]),
];

/// The files below a folder of the repository: each one's path from the repository, and its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let path = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let mut found = Vec::new();
    for entry in fs::read_dir(path(folder)).unwrap() {
        let name = format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap());
        if path(&name).is_dir() {
            found.append(&mut sources(&name));
        } else if name.ends_with(".rs") {
            found.push((name.clone(), fs::read_to_string(path(&name)).unwrap()));
        }
    }
    found
}

/// The files of `src/`, by their paths below it.
fn all_sources() -> Vec<(String, String)> {
    let all: Vec<_> = sources("src").into_iter().map(|(name, text)| (name["src/".len()..].to_owned(), text)).collect();
    assert!(all.len() > 40, "the walk found only {} files", all.len());
    all
}

/// The lines that are code: comments may name any room.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// The rooms a file's code names: `crate::room`, also inside `use crate::{…}` spread over lines.
fn rooms_named(text: &str) -> Vec<String> {
    let text: String = code(text).collect::<Vec<_>>().join("\n");
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut start) = (0, true);
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && depth == 0 && c.is_alphabetic() => {
                        rooms.push(word(&group[i..]));
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            rooms.push(word(rest));
        }
    }
    rooms
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for (file, text) in all_sources() {
        let room = file.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        let Some((_, below)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            assert!(["main", "lib"].contains(&room.as_str()), "{file} is in no room of the list");
            continue;
        };
        for named in rooms_named(&text) {
            if named != room && ROOMS.iter().any(|(name, _)| *name == named) && !below.contains(&named.as_str()) {
                wrong.push(format!("{file} imports {named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point up:\n{}", wrong.join("\n"));
}

#[test]
fn crates_stay_in_their_room() {
    let mut wrong = Vec::new();
    for (file, text) in all_sources() {
        for (name, homes) in CONFINED {
            let at_home = homes
                .iter()
                .any(|home| file == *home || file == format!("{home}.rs") || file.starts_with(&format!("{home}/")));
            if !at_home && code(&text).any(|line| line.contains(&format!("{name}::"))) {
                wrong.push(format!("{file} uses {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "crates outside their room:\n{}", wrong.join("\n"));
}

/// A thread of the pool that blocks has an owner and a bound (ARCHITECTURE.md, "Threads").
#[test]
fn only_the_ground_takes_threads_to_block() {
    let wrong: Vec<_> = all_sources()
        .into_iter()
        .filter(|(file, _)| !file.starts_with("runtime/") && !file.contains("/tests/"))
        .filter(|(_, text)| code(text).any(|line| line.contains("spawn_blocking")))
        .map(|(file, _)| file)
        .collect();
    assert!(wrong.is_empty(), "they take threads without a bound: {wrong:?}");
}
