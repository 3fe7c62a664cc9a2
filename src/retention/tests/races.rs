//! Pushes and collections at once, with a grace that is over all the time: what a push was told is
//! here stays for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    oci::{Namespace, Repository},
    storage::{LinkRecord, LinkRight},
};

/// PassMode long a lease lasts here.
const GRACE: Duration = Duration::from_millis(1200);

/// Contents that all pushers share, so that one's garbage is another's layer.
const LAYERS: u64 = 12;

fn repository(number: u64) -> Repository {
    Repository { namespace: Namespace::Hosted, name: format!("r{number}").parse().unwrap() }
}

fn layer(number: u64) -> Vec<u8> {
    format!("layer {number}").repeat(50).into_bytes()
}

fn link(storage: &Folder, repository: &Repository, digest: Digest, media_type: &str) {
    let link = LinkRecord {
        digest,
        media_type: media_type.to_owned(),
        size: 1,
        subject: None,
        right: LinkRight::Pushed,
        created: 1,
    };
    storage.catalog.put_links(repository, &[link]).unwrap();
}

/// Whether the repository has the content, as a HEAD asks.
fn has(storage: &Folder, repository: &Repository, digest: &Digest) -> bool {
    storage.catalog.link(repository, digest).unwrap().is_some() && storage.blobs.size(digest).unwrap().is_some()
}

/// What the pushers did.
#[derive(Default)]
struct Counts {
    pushed: AtomicU64,
    skipped: AtomicU64,
    mounted: AtomicU64,
    late: AtomicU64,
}

/// One push after another, the way a client does it: each layer by HEAD, mount or upload, then the
/// manifest; and after a while its deletion.
fn pushes(storage: &Folder, seed: u64, stop: &AtomicBool, counts: &Counts) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let (to, from) = (repository(rng.random_range(0..3)), repository(rng.random_range(0..3)));
        let mut layers = Vec::new();
        let mut told = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let bytes = layer(rng.random_range(0..LAYERS));
            let digest = digest(&bytes);
            storage.leases.touch(&digest);
            if has(storage, &to, &digest) {
                counts.skipped.fetch_add(1, Ordering::Relaxed);
            } else if has(storage, &from, &digest) {
                let _hold = storage.leases.hold([digest]);
                if !has(storage, &from, &digest) {
                    continue;
                }
                link(storage, &to, digest, "");
                counts.mounted.fetch_add(1, Ordering::Relaxed);
            } else {
                let _hold = storage.leases.hold([digest]);
                storage.blobs.put(&digest, &bytes).unwrap();
                link(storage, &to, digest, "");
            }
            told.push(Instant::now());
            layers.push(digest);
        }
        if rng.random_bool(0.2) || layers.is_empty() {
            continue; // A push that ends here leaves garbage.
        }
        number += 1;
        layers.insert(0, layers[0]);
        let unique = digest(format!("{seed} {number}").as_bytes());
        let mut bytes: serde_json::Value = serde_json::from_slice(&image(&layers)).unwrap();
        bytes["annotations"] = serde_json::json!({ "of": unique });
        let bytes = bytes.to_string();
        let manifest = digest(bytes.as_bytes());
        let hold = storage.leases.hold(layers.iter().copied().chain([manifest]));
        let missing = layers.iter().any(|layer| !has(storage, &to, layer));
        if missing {
            assert!(told.iter().any(|told| told.elapsed() >= GRACE), "a layer is unknown that was there a moment ago");
            counts.late.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        storage.blobs.put(&manifest, bytes.as_bytes()).unwrap();
        link(storage, &to, manifest, OCI_IMAGE);
        drop(hold);
        counts.pushed.fetch_add(1, Ordering::Relaxed);
        // It stays whole for as long as it is there, grace or not.
        let until = Instant::now() + if rng.random_bool(0.1) { GRACE * 3 / 2 } else { Duration::ZERO };
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            for part in layers.iter().chain([&manifest]) {
                assert!(has(storage, &to, part), "a part of a manifest is gone");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        storage.catalog.delete_link(&to, &manifest).unwrap();
    }
}

#[test]
fn no_push_loses_what_it_was_told_is_here() {
    let seconds = std::env::var("LANYARD_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(open(dir.path()));
    storage.leases.set_grace(GRACE);
    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    let (mut settled, mut sum) = (SettledRepositories::default(), Collection::default());
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (storage, stop, counts) = (&storage, &stop, &counts);
            scope.spawn(move || pushes(storage, seed, stop, counts));
        }
        let until = Instant::now() + Duration::from_secs(seconds);
        // On a slow machine the first links go later.
        let at_last = until + Duration::from_secs(60);
        while Instant::now() < until || (sum.links == 0 || sum.blobs == 0) && Instant::now() < at_last {
            let (removed, now) = pass(&storage, PassMode::Remove, std::mem::take(&mut settled));
            settled = now;
            sum.links += removed.links;
            sum.blobs += removed.blobs;
            sum.bytes += removed.bytes;
        }
        stop.store(true, Ordering::Relaxed);
    });
    storage.leases.set_grace(Duration::ZERO);
    let (last, _) = pass(&storage, PassMode::Remove, SettledRepositories::default());
    let (again, _) = pass(&storage, PassMode::Remove, SettledRepositories::default());
    assert!(again.is_empty() && again.waiting == 0, "orphans: {again:?}");
    eprintln!(
        "{} pushes, {} layers skipped, {} mounted, {} late; collected {sum:?}, at the end {last:?}",
        counts.pushed.into_inner(),
        counts.skipped.into_inner(),
        counts.mounted.into_inner(),
        counts.late.into_inner()
    );
    assert!(sum.links > 0 && sum.blobs > 0, "the collector had something to do: {sum:?}");
}
