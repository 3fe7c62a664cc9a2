//! A manifest's statement of a blob's length may be wrong. A wrong one costs at most one pull, and
//! no read of stored content.

use std::{fs, os::unix::fs::FileExt as _};

use super::{
    lengths::{REPO, SIZE, assert_not_wrong, content, name, quiet},
    mirror, mirror_with,
};
use crate::{
    faults::blob_file,
    hub::{Fault, Hub, On, digest_of},
    lanyard::Lanyard,
    wire::{ask, blob, get, manifest},
};

/// Makes lanyard know a size of a blob by a manifest.
fn named(hub: &Hub, lanyard: &Lanyard, digest: &str, size: usize) {
    let manifest_digest = name(hub, digest, size as u64);
    assert_eq!(get(lanyard.port(), &manifest(REPO, &manifest_digest)).status, 200);
}

/// Upstream states no length, so the manifest's is told. More bytes come than that: the statement
/// is forgotten, and the next pull brings the blob.
#[test]
fn f2_a_length_that_is_too_short_is_forgotten() {
    let hub = Hub::builder().without_ranges().start();
    hub.image(REPO, "latest").publish();
    let mut lanyard = mirror(&hub);
    let heads = [None, Some(Fault::status(405)), Some(Fault::Chunked)];
    let mut seed = 2000;
    for restarted in [false, true] {
        let mut blobs = Vec::new();
        for (n, short) in [(0, 1), (1, 1000), (2, SIZE / 2), (0, SIZE - 1)] {
            seed += 1;
            let digest = hub.put_blob(content(seed));
            named(&hub, &lanyard, &digest, SIZE - short);
            hub.fault(On::blob(&digest).always(), Fault::Chunked);
            if let Some(head) = &heads[n] {
                hub.fault(On::blob(&digest).head().always(), head.clone());
            }
            let first = get(lanyard.port(), &blob(REPO, &digest));
            assert_not_wrong(&first, &digest, "the first");
            assert!(first.status != 200 || first.body.len() < SIZE - short, "no more than was told");
            blobs.push((digest, short));
        }
        quiet(&lanyard);
        if restarted {
            lanyard.restart();
        }
        for (digest, short) in blobs {
            let again = get(lanyard.port(), &blob(REPO, &digest));
            let what = format!("short by {short}, restarted {restarted}");
            assert_eq!((again.status, digest_of(&again.body)), (200, digest), "{what}");
        }
    }
}

/// The same while the download is under way: a byte beyond the stated end is not beyond the blob's
/// end.
#[test]
fn f8_a_range_beyond_a_wrongly_named_length_is_upstreams() {
    let hub = Hub::builder().without_cdn().start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    for (n, named_as) in [1, 7, 1000].into_iter().enumerate() {
        let bytes = content(4000 + n);
        let digest = hub.put_blob(bytes.clone());
        named(&hub, &lanyard, &digest, named_as);
        hub.fault(On::blob(&digest).always(), Fault::Chunked);
        let part = |range: &str| ask(lanyard.port(), "GET", &blob(REPO, &digest), &[("Range", range)]);
        let answer = part("bytes=2000-2099");
        assert_eq!((answer.status, &answer.body[..]), (206, &bytes[2000..2100]), "named as {named_as}");
        let beyond = part(&format!("bytes={SIZE}-"));
        assert_eq!((beyond.status, beyond.header("content-range")), (416, Some(format!("bytes */{SIZE}").as_str())));
    }
}

/// The same with a disk that stores nothing: upstream's own length is told at once, also for ranges
/// beyond the manifest's length.
#[test]
fn f7_a_full_disk_passes_on_what_is_wrongly_named() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror_with(&hub, "[cache]\nmax_size = \"64 KiB\"\nnegative_ttl = \"0s\"");
    let wrong = [1, 100, SIZE / 2, SIZE - 1, SIZE + 1, SIZE + 1000, 20 << 30];
    for (n, size) in wrong.into_iter().enumerate() {
        let bytes = content(3000 + n);
        let digest = hub.put_blob(bytes.clone());
        named(&hub, &lanyard, &digest, size);
        let what = format!("named as {size}");
        let path = blob(REPO, &digest);
        let whole = get(lanyard.port(), &path);
        assert_eq!(
            (whole.status, whole.outcome(), digest_of(&whole.body)),
            (200, "bypassed", digest.clone()),
            "{what}"
        );
        for (first, last) in [(0, 0), (50, 60), (200, 299), (SIZE / 2, SIZE - 1), (SIZE - 1, SIZE - 1)] {
            let range = ask(lanyard.port(), "GET", &path, &[("Range", &format!("bytes={first}-{last}"))]);
            let told = format!("bytes {first}-{last}/{SIZE}");
            assert_eq!((range.status, range.header("content-range")), (206, Some(told.as_str())), "{what}");
            assert!(range.body == bytes[first..=last], "{what}, {told}");
        }
        let beyond = ask(lanyard.port(), "GET", &path, &[("Range", &format!("bytes={SIZE}-"))]);
        assert!(beyond.status == 416 || (size > SIZE && beyond.status == 502), "{what}: {}", beyond.text());
        // A HEAD that is refused leaves one statement against another.
        hub.fault(On::blob(&digest).head().always(), Fault::status(405));
        let whole = get(lanyard.port(), &path);
        assert_not_wrong(&whole, &digest, &what);
        assert_eq!(whole.status, 502, "{what}");
        hub.clear_faults();
    }
}

/// A repository that names a digest with a wrong size causes no read: its answers take as long as
/// those for a digest that is not here. A read would find a rotten file.
#[test]
fn s23_a_wrong_size_in_a_manifest_reads_nothing() {
    const OTHER: &str = "library/other";
    let hub = Hub::start();
    let image = hub.image(OTHER, "latest").layer(SIZE as u64).publish();
    hub.image(REPO, "latest").publish();
    let digest = image.layer(0).to_owned();
    let mut lanyard = mirror_with(&hub, "[cache]\nnegative_ttl = \"0s\"");
    assert_eq!(get(lanyard.port(), &blob(OTHER, &digest)).status, 200);
    for (n, size) in [1, SIZE - 1, SIZE + 1, 20 << 30].into_iter().enumerate() {
        named(&hub, &lanyard, &digest, size);
        // No file is open, and no digest is remembered.
        lanyard.restart();
        let file = blob_file(&lanyard.data_dir(), &digest);
        fs::File::options().write(true).open(&file).unwrap().write_all_at(&[n as u8 ^ 0x5a], 1000).unwrap();
        hub.fault(On::blob(&digest).in_repo(REPO).any_method().always(), Fault::status(404));
        hub.fault(On::redirect_of(&digest).in_repo(REPO).any_method().always(), Fault::status(404));
        for method in ["GET", "HEAD", "GET"] {
            let answer = ask(lanyard.port(), method, &blob(REPO, &digest), &[("Range", "bytes=0-9")]);
            assert_eq!(answer.status, 404, "{method}, named as {size}");
        }
        assert!(file.exists(), "named as {size}: the file was read");
        hub.clear_faults();
    }
}
