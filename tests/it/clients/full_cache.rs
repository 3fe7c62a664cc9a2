//! A cache that is smaller than what docker and podman pulled through it, and then an outage: what
//! `lanyard ls` says is there to be had, and what it says is missing is not.
//!
//! Clients check every layer's digest themselves, compressed and unpacked. The test compares what
//! they hold with what was published, and asks for each part by itself. The short form has a cap of
//! 24 MiB; `LANYARD_FAULTS=long` has one of 1 GB, and prints its figures.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::dockerd::{self, Dockerd};
use super::podman::{self, Podman};
use super::pulled::{Expected, Pulled};
use super::scenario::{Platforms, expected, pull_named};
use super::{SignsIn, available};
use crate::admin::command;
use crate::cli::{stderr, stdout};
use crate::faults::long;
use crate::hub::{Body, Entry, Hub, Image, digest_of};
use crate::lanyard::Lanyard;
use crate::wire::{blob, eventually, get, manifest};

const BOTH: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// How large the scene is, in bytes.
struct Size {
    cap: u64,
    images: usize,
    /// A layer that every fourth image shares.
    base: u64,
    /// The sizes of an image's own two layers; later images have more.
    own: [u64; 2],
    more: u64,
}

const SHORT: Size = Size { cap: 24 << 20, images: 12, base: 1_000_000, own: [1_500_000, 1_000_000], more: 50_000 };
const LONG: Size =
    Size { cap: 1_000_000_000, images: 20, base: 25_000_000, own: [35_000_000, 20_000_000], more: 2_000_000 };

/// The images of a registry, and what a client holds of each once it has pulled it.
struct Scene {
    hub: Hub,
    lanyard: Lanyard,
    images: Vec<(Image, Expected)>,
}

impl Scene {
    fn start(size: &Size) -> Scene {
        let hub = Hub::start();
        let noise = |seed: usize, len: u64| Entry::file("data/noise.bin", Body::noise(seed as u64, len).to_vec());
        let images = (0..size.images).map(|number| {
            let more = number as u64 * size.more / 2;
            let name = format!("library/app{number:02}");
            let image = hub.image(&name, "1").files(vec![noise(number % 4, size.base)]);
            let image = image.real_layer(size.own[0] + more).real_layer(size.own[1] + more);
            // Every third is an index, and every second has OCI's types.
            let image = if number % 3 == 0 { image.platforms(&BOTH) } else { image };
            let image = if number % 2 == 0 { image.oci() } else { image }.publish();
            let expected = expected(&hub, &image, Platforms::Own);
            (image, expected)
        });
        let images: Vec<_> = images.collect();
        let config = format!(
            "[cache]\nmax_size = \"{} B\"\n[log]\nformat = \"json\"\n[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n",
            size.cap,
            hub.url()
        );
        let lanyard = Lanyard::start(&config);
        Scene { hub, lanyard, images }
    }

    /// The bytes that pulls of all images need, each part once.
    fn needed(&self) -> u64 {
        let parts: BTreeSet<_> = self.images.iter().flat_map(|(_, expected)| expected.all()).collect();
        let sizes = self.images.iter().flat_map(|(image, _)| &image.platforms);
        let sizes = sizes.flat_map(|platform| platform.layers.iter().zip(&platform.sizes));
        let layers: BTreeSet<_> = sizes.filter(|(layer, _)| parts.contains(*layer)).collect();
        layers.into_iter().map(|(_, size)| size).sum()
    }

    /// Runs a command that has to end well.
    fn run(&self, words: &[&str]) -> String {
        let output = command(&self.lanyard, words);
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// Waits until nothing is written or let go any more: the downloads are over, also that of a
    /// config that no client asked for, and the eviction has its headroom of a twentieth.
    fn settle(&self, cap: u64, config: &str) {
        eventually("the cache is at rest", || {
            let status: Value = serde_json::from_str(&self.run(&["status", "--json"])).unwrap();
            let kept = ["cached", "reserved", "parked"].map(|part| status["cache"][part].as_u64().unwrap());
            assert!(kept[0] <= cap, "{status}");
            let rests = status["fills"] == 0 && kept.iter().sum::<u64>() + cap / 20 <= cap;
            rests && self.listed().iter().any(|image| image.here.contains(config))
        });
    }

    fn listed(&self) -> Vec<Listed> {
        let said: Value = serde_json::from_str(&self.run(&["ls", "--gone", "--json"])).unwrap();
        said["images"].as_array().unwrap().iter().map(Listed::of).collect()
    }

    /// The digests of blobs and manifests that were asked for since this place in the log and not
    /// given out.
    fn refused(&self, from: usize) -> BTreeSet<String> {
        let logs = self.lanyard.logs();
        let lines = logs.get(from..).unwrap_or_default().lines();
        let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let failed = lines.filter(|line| line["status"].as_u64() >= Some(400));
        failed.filter_map(|line| Some(line["path"].as_str()?.rsplit('/').next()?.to_owned())).collect()
    }
}

/// An image as `lanyard ls --json` lists it.
#[derive(Debug)]
struct Listed {
    name: String,
    of: String,
    why: String,
    platforms: Value,
    other_platforms: Value,
    /// The digests of its parts that are here, and of those that are not.
    here: BTreeSet<String>,
    missing: BTreeSet<String>,
    missing_bytes: u64,
}

impl Listed {
    fn of(row: &Value) -> Listed {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        assert!(row["problem"].is_null(), "{row}");
        let parts = row["parts"].as_array().unwrap();
        let digests =
            |here: bool| parts.iter().filter(move |part| part["here"] == here).map(|part| text(&part["digest"]));
        let gone = parts.iter().filter(|part| part["here"] == false).map(|part| part["size"].as_u64().unwrap());
        let missing_bytes = row["let_go"].as_u64().unwrap() + row["never_fetched"].as_u64().unwrap();
        assert_eq!(gone.sum::<u64>(), missing_bytes, "the parts are those of the sums: {row}");
        Listed {
            name: text(&row["image"]),
            of: text(&row["of"]),
            why: text(&row["why"]),
            platforms: row["platforms"].clone(),
            other_platforms: row["other_platforms"].clone(),
            here: digests(true).collect(),
            missing: digests(false).collect(),
            missing_bytes,
        }
    }
}

/// Fresh clients: their stores are empty before each pull.
struct Clients {
    docker: Dockerd,
    podman: Podman,
}

impl Clients {
    fn start(lanyard: &Lanyard) -> Clients {
        // By default docker asks five times for a layer, and waits between.
        let daemon = json!({ "registry-mirrors": [lanyard.url()], "max-download-attempts": 1 });
        Clients { docker: Dockerd::configured(&daemon), podman: Podman::new(&lanyard.host()) }
    }

    fn both(&self) -> [(&str, &dyn SignsIn); 2] {
        [("docker", &self.docker), ("podman", &self.podman)]
    }
}

#[test]
fn what_a_full_cache_lists_is_what_clients_get_in_an_outage() {
    if !available(&[dockerd::PROGRAMS, podman::PROGRAMS].concat()) {
        return;
    }
    let size = if long() { LONG } else { SHORT };
    let scene = Scene::start(&size);
    assert!(scene.needed() > size.cap + size.cap / 3, "{} bytes do not overflow the cache", scene.needed());
    fill(&scene);
    // An index of which an operator fetched another platform than these clients'.
    let other = scene.hub.image("library/other", "1").platforms(&BOTH).real_layer(200_000).publish();
    let arm64 = ["other:1", "--platform", "linux/arm64"];
    scene.run(&[&["pin"], &arm64[..]].concat());
    scene.run(&[&["pull"], &arm64[..]].concat());
    // An image of which a client fetched only the manifest and one layer.
    let half = scene.hub.image("library/half", "1").real_layer(100_000).real_layer(150_000).publish();
    scene.run(&["pin", "half:1"]);
    assert_eq!(get(scene.lanyard.port(), &manifest("library/half", "1")).status, 200);
    assert_eq!(get(scene.lanyard.port(), &blob("library/half", half.layer(0))).status, 200);
    // And one of which a client looked at the index only.
    scene.hub.image("library/index", "1").platforms(&BOTH).real_layer(1000).publish();
    assert_eq!(get(scene.lanyard.port(), &manifest("library/index", "1")).status, 200);
    scene.settle(size.cap, half.config());
    scene.hub.go_down();

    let listed = scene.listed();
    assert_eq!(listed.len(), size.images + 3, "{listed:#?}");
    parts_are_had_or_not(&scene, &listed);
    let clients = Clients::start(&scene.lanyard);
    let mut counts = [0; 3];
    let mut layers = 0;
    for (image, expected) in &scene.images {
        let name = format!("docker.io/{}", image.name());
        let row = listed.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name} is not listed"));
        let arm = if image.platforms.len() > 1 { json!(["linux/arm64"]) } else { json!([]) };
        assert_eq!(row.other_platforms, arm, "{row:?}");
        match row.of.as_str() {
            "whole" => {
                counts[0] += 1;
                layers += whole(&clients, &name, expected);
            }
            of => {
                counts[if of == "partial" { 1 } else { 2 }] += 1;
                falls_short(&scene, &clients, &name, &row.missing);
            }
        }
    }
    let [all, some, none] = counts;
    eprintln!(
        "{} images of {} bytes through a cache of {}: {all} whole, {some} in part, {none} gone; \
         {layers} layers pulled and proven by two clients in the outage",
        size.images,
        scene.needed(),
        size.cap,
    );
    assert_eq!(all + some + none, size.images);
    assert!(some + none > 0, "the cache was never full");
    assert_eq!(layers, 2 * 3 * all, "two clients, three layers an image");
    let pinned = listed.iter().find(|row| row.name == "docker.io/library/app00:1").unwrap();
    assert_eq!((&*pinned.of, &*pinned.why), ("whole", "pinned"), "{pinned:?}");
    only_a_part(&scene, &clients, &listed, &half);
    another_platform(&scene, &clients, &listed, &other);
}

/// docker and podman pull all images in turn, each into one store: so docker never asks for a base
/// layer that it has. The first image is pinned once it is here.
fn fill(scene: &Scene) {
    let clients = Clients::start(&scene.lanyard);
    for (number, (image, expected)) in scene.images.iter().enumerate() {
        let name = format!("docker.io/{}", image.name());
        let client = clients.both()[number % 2].1;
        pull_named(client, &name, expected, "online");
        if number == 0 {
            scene.run(&["pin", &name]);
        }
    }
}

/// Every listed part, by itself: what is here comes with its digest, and the answer for what is not
/// names it.
fn parts_are_had_or_not(scene: &Scene, listed: &[Listed]) {
    let port = scene.lanyard.port();
    for row in listed {
        let repo = row.name.strip_prefix("docker.io/").unwrap().split(':').next().unwrap();
        for digest in &row.here {
            let answer = get(port, &manifest(repo, digest));
            let answer = if answer.status == 200 { answer } else { get(port, &blob(repo, digest)) };
            assert_eq!((answer.status, digest_of(&answer.body)), (200, digest.clone()), "{row:?}");
        }
        for digest in &row.missing {
            let answer = get(port, &blob(repo, digest));
            assert_eq!(answer.status, 503, "{digest} of {row:?}: {}", answer.text());
            assert!(answer.text().contains(digest.as_str()), "{}", answer.text());
        }
    }
}

/// Both clients pull it into empty stores. Returns the number of layers that they proved.
fn whole(clients: &Clients, name: &str, expected: &Expected) -> usize {
    clients
        .both()
        .iter()
        .map(|(who, client)| {
            client.forget().unwrap();
            let pulled = client.pull(name).unwrap_or_else(|said| panic!("{who}, {name}, in the outage: {said}"));
            expected.assert_is(&pulled);
            pulled.unpacked.map_or(0, |unpacked| unpacked.len())
        })
        .sum()
}

/// Neither client gets it, and nothing was refused to them but what is missing.
fn falls_short(scene: &Scene, clients: &Clients, name: &str, missing: &BTreeSet<String>) {
    assert!(!missing.is_empty(), "{name}");
    for (who, client) in clients.both() {
        client.forget().unwrap();
        let from = scene.lanyard.logs().len();
        let pulled = client.pull(name);
        assert!(pulled.is_err(), "{who}, {name}: {pulled:?}");
        let mut refused = BTreeSet::new();
        eventually("the refusal is in the log", || {
            refused = scene.refused(from);
            !refused.is_empty()
        });
        assert!(refused.is_subset(missing), "{who}, {name}: {refused:?} was refused, {missing:?} is missing");
    }
}

/// The listing and the report of a layer that was never fetched.
fn only_a_part(scene: &Scene, clients: &Clients, listed: &[Listed], half: &Image) {
    let name = "docker.io/library/half:1";
    let row = listed.iter().find(|row| row.name == name).unwrap();
    let (missing, bytes) = (BTreeSet::from([half.layer(1).to_owned()]), half.platforms[0].sizes[1]);
    assert_eq!((&*row.of, &row.missing, row.missing_bytes), ("partial", &missing, bytes), "{row:?}");
    falls_short(scene, clients, name, &missing);
    let tree = scene.run(&["ls", "half:1", "--tree"]);
    let line = tree.lines().find(|line| line.contains(half.layer(1))).unwrap();
    assert!(line.contains("  layer, ") && line.ends_with(", never fetched"), "{tree}");
    let report = scene.run(&["ls", "--digest", half.layer(1)]);
    assert!(report.contains("not here: it was never fetched\n"), "{report}");
    assert!(report.contains("named by    docker.io/library/half@"), "{report}");
    // Of what was let go, the same two say so.
    let evicted = listed.iter().filter(|row| row.name.contains("/app")).find_map(|row| row.missing.first());
    let report = scene.run(&["ls", "--digest", evicted.expect("something was let go")]);
    assert!(report.contains("not here: it was let go\n"), "{report}");
}

/// An index of which only another platform is here, and one of which none is.
fn another_platform(scene: &Scene, clients: &Clients, listed: &[Listed], other: &Image) {
    let name = "docker.io/library/other:1";
    let row = listed.iter().find(|row| row.name == name).unwrap();
    assert_eq!((&*row.of, &*row.why), ("whole", "pinned"), "{row:?}");
    assert_eq!((&row.platforms, &row.other_platforms), (&json!(["linux/arm64"]), &json!(["linux/amd64"])));
    let [amd64, arm64] = other.platforms.as_slice() else { panic!("two platforms: {other:?}") };
    let pulls: [(&str, Result<Pulled, String>); 2] =
        [("docker", clients.docker.pull_for(name, "arm64")), ("podman", clients.podman.pull_for(name, "arm64"))];
    for (who, pulled) in pulls {
        let pulled = pulled.unwrap_or_else(|said| panic!("{who}: {said}"));
        assert!(pulled.held.unwrap().contains(&arm64.config), "{who}");
    }
    falls_short(scene, clients, name, &BTreeSet::from([amd64.digest.clone()]));
    let row = listed.iter().find(|row| row.name == "docker.io/library/index:1").unwrap();
    assert_eq!((&*row.of, &row.platforms, &row.other_platforms), ("gone", &json!([]), &json!(BOTH)), "{row:?}");
}
