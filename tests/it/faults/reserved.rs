//! S25: a length that a foreign registry states costs no disk space after the end of the download.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cli::{lanyard as command, stdout},
    hub::{Cut, DOCKER_MANIFEST, Fault, Gate, Hub, On, digest_of},
    pull::mirror_with,
    wire::{Connection, blob, eventually, get, manifest},
};

const REPO: &str = "library/busybox";
const SIZE: usize = 3_000_000;

/// The files of the folder that hold more than a mebibyte beyond their content.
fn swollen(folder: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => swollen(&path),
                Ok(metadata) if metadata.blocks() * 512 > metadata.len() + (1 << 20) => {
                    vec![(path, metadata.blocks() * 512)]
                }
                Ok(_) | Err(_) => Vec::new(),
            }
        })
        .collect()
}

/// A manifest that gives the layer a size of 20 GB.
fn name(hub: &Hub, digest: &str) -> String {
    let config = hub.put_blob(b"{}".to_vec());
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{{"mediaType":"c","digest":"{config}","size":2}},
        "layers":[{{"mediaType":"l","digest":"{digest}","size":20000000000}}]}}"#
    );
    hub.put_untagged(REPO, DOCKER_MANIFEST, text.as_bytes())
}

fn content(seed: usize) -> Vec<u8> {
    (0..SIZE).map(|at| (at * 31 + seed * 7 + at / 251) as u8).collect()
}

#[test]
fn s25_a_strangers_word_costs_no_disk() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let cut = |bytes, how| Fault::CutAfter { bytes, how };
    let far = || Fault::LengthOff(5 << 30);
    let cases = [
        ("a manifest's word", vec![], true),
        ("a manifest's word, and no length", vec![Fault::Chunked], true),
        ("a length with little behind it", vec![Fault::All(vec![far(), cut(40_000, Cut::Fin)])], false),
        ("the same by a reset", vec![Fault::All(vec![far(), cut(40_000, Cut::Rst)])], false),
        ("all of it, and a length that is too great", vec![Fault::All(vec![far(), cut(SIZE as u64, Cut::Fin)])], false),
        ("wrong bytes", vec![Fault::All(vec![Fault::FlipByte { at: 5 }, far(), cut(SIZE as u64, Cut::Fin)])], false),
    ];
    for (n, (what, faults, named)) in cases.into_iter().enumerate() {
        for gives_up in [false, true] {
            let mut lanyard = mirror_with(&hub, "[cache]\nnegative_ttl = \"0s\"");
            let digest = hub.put_blob(content(n * 2 + usize::from(gives_up)));
            if named {
                assert_eq!(get(lanyard.port(), &manifest(REPO, &name(&hub, &digest))).status, 200);
            }
            faults.iter().for_each(|fault| hub.fault(On::blob(&digest), fault.clone()));
            if gives_up && !faults.is_empty() {
                hub.fault(On::blob(&digest).always(), Fault::status(404));
            }
            get(lanyard.port(), &blob(REPO, &digest));
            eventually("no download is under way", || {
                get(lanyard.port(), "/metrics").text().lines().any(|line| line == "lanyard_fills_active 0")
            });
            let data = lanyard.data_dir();
            assert!(swollen(&data).is_empty(), "{what}, gives up {gives_up}: {:?}", swollen(&data));
            hub.clear_faults();
            lanyard.restart();
            let honest = get(lanyard.port(), &blob(REPO, &digest));
            assert_eq!((honest.status, digest_of(&honest.body)), (200, digest), "{what}, gives up {gives_up}");
            lanyard.stop();
            assert!(swollen(&data).is_empty(), "{what}, gives up {gives_up}: {:?}", swollen(&data));
        }
    }
}

/// Killed in mid-download: the check reports the space that is held in vain, a repair frees it, and
/// so does the next start.
#[test]
fn s25_what_kill_9_leaves_is_given_back() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    for by_repair in [true, false] {
        let digest = hub.put_blob(content(100 + usize::from(by_repair)));
        let gate = Gate::shut();
        let stall = Fault::StallAt { bytes: SIZE as u64 / 2, gate: gate.clone() };
        hub.fault(On::blob(&digest), Fault::All(vec![Fault::LengthOff(5 << 30), stall]));
        let mut lanyard = mirror_with(&hub, "");
        let mut client = Connection::open(lanyard.port());
        client.request("GET", &blob(REPO, &digest), &[]);
        assert_eq!(client.head().unwrap().0, 200);
        assert_eq!(client.read_body(SIZE / 2).len(), SIZE / 2);
        assert!(gate.wait_for_arrivals(1, Duration::from_secs(60)));
        lanyard.kill9();
        let data = lanyard.data_dir();
        let held = swollen(&data);
        if held.is_empty() {
            super::left_out("this file system reserves nothing");
            return;
        }
        assert!(held.iter().all(|(_, bytes)| *bytes < 70 << 20), "it is bounded: {held:?}");
        if by_repair {
            let check = |words: &[&str]| {
                let words: Vec<_> =
                    ["check", "--data-dir", data.to_str().unwrap()].iter().chain(words).copied().collect();
                command(Path::new("/"), &words, &[])
            };
            let said = stdout(&check(&[]));
            assert!(said.contains("Disk space that is held in vain") && said.contains("part: "), "{said}");
            assert_eq!(swollen(&data), held, "a check changes nothing");
            let said = stdout(&check(&["--repair"]));
            assert!(said.contains("they are free now") && swollen(&data).is_empty(), "{said}");
        } else {
            lanyard.restart();
            eventually("it is given back", || swollen(&data).is_empty());
        }
    }
}
