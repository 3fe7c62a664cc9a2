//! Wrong content on the disk: cut short, left over, without end.

use std::{fs, os::unix::fs::FileExt as _, path::PathBuf};

use super::{mirror, mirror_with};
use crate::{
    hub::{Cut, Fault, Gate, Hub, On, digest_of},
    lanyard::Lanyard,
    wire::{Connection, ask, blob, get, head, manifest},
};

const REPO: &str = "library/busybox";

fn file(lanyard: &Lanyard, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    lanyard.data_dir().join("blobs/sha256").join(&hex[..2]).join(hex)
}

/// A file that lost its end is never a complete answer: it is fetched again.
#[test]
fn a_file_cut_short_is_fetched_again() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(500_000).publish();
    let layer = image.layer(0).to_owned();
    for with_manifest in [true, false] {
        hub.reset_counts();
        let lanyard = mirror(&hub);
        if with_manifest {
            get(lanyard.port(), &manifest(REPO, "latest"));
        }
        assert_eq!(get(lanyard.port(), &blob(REPO, &layer)).status, 200);
        crate::wire::eventually("it is stored", || lanyard.logs().contains("blob filled"));
        fs::File::options().write(true).open(file(&lanyard, &layer)).unwrap().set_len(300_000).unwrap();
        let size = head(lanyard.port(), &blob(REPO, &layer));
        assert_eq!(size.header("content-length"), Some("500000"));
        let answer = get(lanyard.port(), &blob(REPO, &layer));
        assert_eq!((answer.status, digest_of(&answer.body)), (200, layer.clone()));
        assert_eq!(hub.blob_gets(&layer), 2);
    }
}

/// A manifest may be wrong about a blob's length; the blob is served all the same, and not thrown
/// away for it.
#[test]
fn a_manifest_that_is_wrong_about_a_length_harms_nobody() {
    let hub = Hub::start();
    let layer = hub.put_blob(vec![7; 100_000]);
    for size in [0, 99_999, 100_001, 1_u64 << 40] {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{t}","config":{{"mediaType":"c","digest":"{c}","size":2}},
            "layers":[{{"mediaType":"l","digest":"{layer}","size":{size}}}]}}"#,
            t = crate::hub::DOCKER_MANIFEST,
            c = hub.put_blob(b"{}".to_vec()),
        );
        hub.put_manifest(REPO, "latest", crate::hub::DOCKER_MANIFEST, text.as_bytes());
        hub.reset_counts();
        let lanyard = mirror(&hub);
        assert_eq!(get(lanyard.port(), &manifest(REPO, "latest")).status, 200);
        for _ in 0..3 {
            let answer = get(lanyard.port(), &blob(REPO, &layer));
            assert_eq!((answer.status, digest_of(&answer.body)), (200, layer.clone()), "size {size}");
        }
        if size < 1_u64 << 40 {
            assert_eq!(hub.blob_gets(&layer), 1, "size {size}");
        }
    }
}

/// F6: killed between the last byte and the commit, with an unknown length: the leftover is the
/// whole blob.
#[test]
fn f6_a_whole_leftover_of_unknown_length_is_taken_up() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let body: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let layer = hub.put_blob(body);
    let mut lanyard = mirror(&hub);
    let gate = Gate::shut();
    hub.fault(
        On::blob(&layer),
        Fault::All(vec![Fault::Chunked, Fault::StallAt { bytes: 300_000, gate: gate.clone() }]),
    );
    let mut client = Connection::open(lanyard.port());
    client.request("GET", &blob(REPO, &layer), &[]);
    let part = lanyard.data_dir().join("fills").join(layer.replace(':', "-")).join("part");
    let part = if part.exists() { part } else { find_part(&lanyard) };
    crate::wire::eventually("all of it is here", || fs::metadata(&part).is_ok_and(|m| m.len() == 300_000));
    lanyard.kill9();
    lanyard.restart();
    hub.reset_counts();
    let answer = get(lanyard.port(), &blob(REPO, &layer));
    assert_eq!((answer.status, digest_of(&answer.body)), (200, layer.clone()), "{}", answer.text());
    assert_eq!(hub.blob_bytes_sent(&layer), 0);
}

/// A rotten leftover costs one failed download, not every one.
#[test]
fn a_rotten_leftover_is_thrown_away() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(2 << 20).publish();
    let layer = image.layer(0).to_owned();
    let mut lanyard = mirror(&hub);
    get(lanyard.port(), &manifest(REPO, "latest"));
    let gate = Gate::shut();
    hub.fault(On::blob(&layer), Fault::StallAt { bytes: 1 << 20, gate: gate.clone() });
    let mut client = Connection::open(lanyard.port());
    client.request("GET", &blob(REPO, &layer), &[]);
    client.head().unwrap();
    client.read_body(1 << 20);
    lanyard.kill9();
    let part = fs::File::options().write(true).open(find_part(&lanyard)).unwrap();
    part.write_all_at(b"rot", 5000).unwrap();
    lanyard.restart();
    let rotten = get(lanyard.port(), &blob(REPO, &layer));
    assert!(rotten.status != 200 || !rotten.looks_complete(), "F2");
    assert_eq!(digest_of(&get(lanyard.port(), &blob(REPO, &layer)).body), layer);
}

fn find_part(lanyard: &Lanyard) -> PathBuf {
    let mut found = None;
    crate::wire::eventually("a part is on disk", || {
        let Ok(folders) = fs::read_dir(lanyard.data_dir().join("fills")) else { return false };
        found = folders.map(|f| f.unwrap().path().join("part")).find(|p| p.exists());
        found.is_some()
    });
    found.unwrap()
}

/// A body without a length and an end does not fill the disk.
#[test]
fn what_never_ends_does_not_fill_the_disk() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let layer = hub.put_blob(vec![1; 1000]);
    let lanyard = mirror_with(&hub, "[cache]\nmax_size = \"4 MiB\"");
    hub.fault(On::blob(&layer).always(), Fault::Endless);
    let answer = get(lanyard.port(), &blob(REPO, &layer));
    assert!(answer.status != 200 || !answer.looks_complete());
    assert!(hub.blob_bytes_sent(&layer) < 64 << 20, "{} bytes", hub.blob_bytes_sent(&layer));
    hub.clear_faults();
    assert_eq!(digest_of(&get(lanyard.port(), &blob(REPO, &layer)).body), layer);
}

/// A request for content that exists nowhere leaves nothing on disk.
#[test]
fn what_is_missing_leaves_nothing() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    for n in 0..20 {
        let missing = digest_of(format!("nobody has {n}").as_bytes());
        assert_eq!(get(lanyard.port(), &blob(REPO, &missing)).status, 404);
    }
    let left = fs::read_dir(lanyard.data_dir().join("fills")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

/// F6: when a content network refuses one signed address in mid-download, lanyard asks for another
/// address.
#[test]
fn f6_a_refused_address_is_asked_for_again() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(2 << 20).publish();
    let layer = image.layer(0).to_owned();
    let lanyard = mirror(&hub);
    hub.fault(On::blob(&layer), Fault::CutAfter { bytes: 1 << 20, how: Cut::Fin });
    hub.fault(On::blob(&layer), Fault::status(403));
    let answer = get(lanyard.port(), &blob(REPO, &layer));
    assert_eq!((answer.status, digest_of(&answer.body)), (200, layer));
}

/// A chunked upstream and no manifest: the length is known at the end, and ranges of the blob are
/// right.
#[test]
fn a_length_that_is_learned_last() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let body: Vec<u8> = (0..200_000_u32).map(|i| (i % 253) as u8).collect();
    for (range, want) in [(None, &body[..]), (Some("bytes=10-19"), &body[10..20]), (Some("bytes=-5"), &body[199_995..])]
    {
        let lanyard = mirror(&hub);
        let layer = hub.put_blob(body.clone());
        hub.fault(On::blob(&layer), Fault::Chunked);
        let headers: Vec<_> = range.iter().map(|r| ("Range", *r)).collect();
        let answer = ask(lanyard.port(), "GET", &blob(REPO, &layer), &headers);
        assert_eq!(answer.status, if range.is_some() { 206 } else { 200 });
        assert!(answer.body == want && answer.looks_complete(), "{range:?}");
    }
    let empty = hub.put_blob(Vec::new());
    let lanyard = mirror(&hub);
    for _ in 0..2 {
        let answer = get(lanyard.port(), &blob(REPO, &empty));
        assert_eq!((answer.status, answer.body.len(), answer.header("content-length")), (200, 0, Some("0")));
    }
    assert_eq!(ask(lanyard.port(), "GET", &blob(REPO, &empty), &[("Range", "bytes=0-")]).status, 416);
}
