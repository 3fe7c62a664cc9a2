//! `lanyard ls` of frozen tags: a tag is what clients get for it, and never whole if they get
//! nothing.

use std::fs;

use serde_json::Value;

use super::{ALWAYS_DUE, REPO, command, day, digest, mirror, rewrite, rule, tag};
use crate::{
    cli::stderr,
    hub::{Hub, Image},
    lanyard::Lanyard,
    pull::config,
    wire::{blob, eventually, get},
};

/// Fetches what the tag names now, as a client does.
fn fetch(lanyard: &Lanyard, name: &str, image: &Image) {
    assert_eq!(digest(&tag(lanyard, name)), image.digest);
    for part in image.blobs() {
        eventually("it is kept", || get(lanyard.port(), &blob(REPO, part)).outcome() == "hit");
    }
}

/// The rows of `ls --gone`, with these words besides.
fn rows(lanyard: &Lanyard, words: &[&str]) -> Vec<Value> {
    let listed = command(lanyard, &[&["ls", "--gone", "--json"], words].concat());
    assert!(listed.status.success(), "{}", stderr(&listed));
    let json: Value = serde_json::from_slice(&listed.stdout).unwrap();
    json["images"].as_array().unwrap().clone()
}

fn row<'a>(rows: &'a [Value], name: &str) -> &'a Value {
    rows.iter().find(|row| row["image"] == name).unwrap_or_else(|| panic!("{name} is not in {rows:#?}"))
}

/// The digest, how much is here, and why.
fn told<'a>(rows: &'a [Value], name: &str) -> [&'a str; 3] {
    ["digest", "of", "why"].map(|field| row(rows, name)[field].as_str().unwrap())
}

fn tagged(name: &str) -> String {
    format!("docker.io/{REPO}:{name}")
}

fn untagged(image: &Image) -> String {
    format!("docker.io/{REPO}@{}", image.digest)
}

/// Starts it anew with a rule that freezes all tags.
fn freeze(hub: &Hub, lanyard: &mut Lanyard, at: &str) {
    lanyard.reconfigure(&config(hub, &(ALWAYS_DUE.to_owned() + &rule(&format!("freeze = {at:?}")))));
    lanyard.restart();
}

/// A tag is frozen at what it named in October. Its record names another image by now.
#[test]
fn a_frozen_tag_is_listed_as_what_clients_get() {
    let hub = Hub::start();
    let mut lanyard = mirror(&hub, ALWAYS_DUE);
    let [old, new] = [10, 20].map(|size| {
        let image = hub.image(REPO, "v1").layer(size).publish();
        fetch(&lanyard, "v1", &image);
        image
    });
    lanyard.stop();
    rewrite(&lanyard, "v1", |record| record["before"][0]["from"] = day("2026-10-01").into());
    freeze(&hub, &mut lanyard, "2026-11-01");
    let all = rows(&lanyard, &[]);
    assert_eq!(all.len(), 2, "{all:#?}");
    assert_eq!(told(&all, &tagged("v1")), [old.digest.as_str(), "whole", "frozen"]);
    assert_eq!(told(&all, &untagged(&new)), [new.digest.as_str(), "whole", "tagged"]);
    hub.go_down();
    assert_eq!(digest(&tag(&lanyard, "v1")), old.digest);
    assert_eq!(get(lanyard.port(), &blob(REPO, old.layer(0))).outcome(), "hit");

    // Its content goes, and then its manifest.
    let gone = |lanyard: &mut Lanyard, digests: &[&str]| {
        lanyard.stop();
        for digest in digests {
            let hex = digest.trim_start_matches("sha256:");
            fs::remove_file(lanyard.data_dir().join("blobs/sha256").join(&hex[..2]).join(hex)).unwrap();
        }
        lanyard.restart();
        rows(lanyard, &[])
    };
    let all = gone(&mut lanyard, &old.blobs());
    assert_eq!(told(&all, &tagged("v1")), [old.digest.as_str(), "gone", "frozen"]);
    assert!(row(&all, &tagged("v1"))["let_go"].as_u64() > Some(0), "{all:#?}");
    let all = gone(&mut lanyard, &[old.digest.as_str()]);
    assert_eq!(told(&all, &tagged("v1")), [old.digest.as_str(), "gone", "frozen"]);
    assert_eq!(row(&all, &tagged("v1"))["problem"], "its manifest is not here");
    assert_eq!(told(&all, &untagged(&new)), [new.digest.as_str(), "whole", "tagged"]);
    assert_ne!(tag(&lanyard, "v1").status, 200);
}

/// One tag is frozen at an image that never came, and the lock file does not list the other one.
#[test]
fn a_tag_that_clients_do_not_get_is_gone() {
    let hub = Hub::start();
    let old = hub.image(REPO, "v1").layer(10).publish();
    let new = hub.image(REPO, "v1").layer(20).publish();
    let other = hub.image(REPO, "v2").layer(30).publish();
    let mut lanyard = mirror(&hub, ALWAYS_DUE);
    fetch(&lanyard, "v1", &new);
    fetch(&lanyard, "v2", &other);
    let file = lanyard.config_file().with_file_name("build.lock");
    let lock = format!("[[image]]\nname = \"docker.io/{REPO}:v1\"\ndigest = \"{}\"\n", old.digest);
    fs::write(&file, lock).unwrap();
    freeze(&hub, &mut lanyard, file.to_str().unwrap());

    let all = rows(&lanyard, &[]);
    assert_eq!(all.len(), 4, "{all:#?}");
    assert_eq!(told(&all, &tagged("v1")), [old.digest.as_str(), "gone", "frozen"]);
    assert_eq!(row(&all, &tagged("v1"))["problem"], "its manifest is not here");
    assert_eq!(told(&all, &tagged("v2")), [other.digest.as_str(), "gone", "frozen"]);
    let problem = row(&all, &tagged("v2"))["problem"].as_str().unwrap();
    assert!(problem.starts_with("clients get 404: a rule of [[tags]] freezes it"), "{problem}");
    assert_eq!((tag(&lanyard, "v2").status, &row(&all, &tagged("v2"))["here"]), (404, &0.into()));
    for image in [&new, &other] {
        assert_eq!(told(&all, &untagged(image)), [image.digest.as_str(), "whole", "tagged"]);
    }

    // What it is frozen at comes, and the pin of the tag keeps what the record names as well.
    fetch(&lanyard, "v1", &old);
    let pinned = command(&lanyard, &["pin", "busybox:v1"]);
    assert!(pinned.status.success(), "{}", stderr(&pinned));
    let all = rows(&lanyard, &["--why", "pinned"]);
    assert_eq!(all.len(), 2, "{all:#?}");
    assert_eq!(told(&all, &tagged("v1")), [old.digest.as_str(), "whole", "pinned"]);
    assert_eq!(told(&all, &untagged(&new)), [new.digest.as_str(), "whole", "pinned"]);
}

/// A day before the first sight of the tag.
#[test]
fn a_tag_of_which_the_day_is_not_known_is_gone() {
    let hub = Hub::start();
    let mut lanyard = mirror(&hub, ALWAYS_DUE);
    let image = hub.image(REPO, "v1").layer(10).publish();
    fetch(&lanyard, "v1", &image);
    freeze(&hub, &mut lanyard, "2026-01-01");
    let all = rows(&lanyard, &[]);
    assert_eq!(all.len(), 2, "{all:#?}");
    assert_eq!(told(&all, &tagged("v1")), [image.digest.as_str(), "gone", "frozen"]);
    assert_eq!(told(&all, &untagged(&image)), [image.digest.as_str(), "whole", "tagged"]);
    assert_eq!(tag(&lanyard, "v1").status, 404);
}
