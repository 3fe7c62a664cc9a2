//! The soak of a full cache: pulls through the mirror of more content than fits, pushes of layers
//! that the mirror may have, deletions and collections, while the evictor makes room.
//!
//! The test holds these rules. No client sees an error or a wrong byte (K3, K9), also beside
//! clients that leave in mid-body. A client that was told that a layer is here pushes its manifest
//! (K7). What was pushed and not deleted can be pulled whole at any time (K2). The cached bytes
//! never exceed `max_size` by more than what a deletion turns from hosted into cached content (K1).
//! `LANYARD_SOAK=600` runs it for ten minutes instead of ten seconds.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use lanyard::oci::{Digest, OCI_IMAGE};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    GRACE, Registry, Soak,
    client::Client,
    on_disk, pull, pulls,
    pusher::{Pusher, digest, manifest},
    seconds,
};
use crate::{
    hub::{Fault, Hub, Image, On},
    pull::config,
    wire::{Connection, blob, eventually},
};

const MAX: u64 = 64 << 20;

/// The layers that are pushed as well as pulled.
const SHARED: usize = 16;
const SHARED_SIZE: usize = 256 << 10;

/// The most bytes that a deletion of pushed images can turn into cached content: the shared layers,
/// and configurations and manifests.
const TURNED: u64 = (SHARED * SHARED_SIZE) as u64 + (1 << 20);

/// So long a HEAD waits for upstream before the client is told to send the layer.
const SEND_IT: Duration = Duration::from_secs(2);

/// So long a layer is asked for again while upstream does not answer.
const TRIES: Duration = Duration::from_secs(120);

/// Everything that the threads share beside the [`Soak`].
struct Full {
    soak: Soak,
    hub: Hub,
    registry: Registry,
    images: Vec<Image>,
    shared: Vec<(Digest, Vec<u8>)>,
    pulled: AtomicU64,
    left: AtomicU64,
    most: AtomicU64,
    slowest: AtomicU64,
}

/// The images of the mirror: together more than twice as large as the cache.
fn images(hub: &Hub, shared: &[(Digest, Vec<u8>)]) -> Vec<Image> {
    let layer = |n: usize, size: usize| (n as u64 + 1000).to_le_bytes().repeat(size / 8);
    let image = |n: usize| {
        let image = hub.image(&format!("library/m{}", n % 4), &format!("t{n}"));
        let sizes = [(n % 7 + 1) << 19, 3 << 20, 2 << 20];
        let image = sizes.into_iter().zip(0..).fold(image, |image, (size, at)| image.layer_of(layer(n * 3 + at, size)));
        image.layer_of(shared[n % SHARED].1.clone()).publish()
    };
    let images: Vec<_> = (0..24).map(image).collect();
    // A third of the large layers come without a length.
    images.iter().step_by(3).for_each(|image| hub.fault(On::blob(image.layer(1)).always(), Fault::Chunked));
    images
}

impl Full {
    fn start(folder: &Path) -> Full {
        let hub = Hub::start();
        let content = |n: usize| (n as u64).to_le_bytes().repeat(SHARED_SIZE / 8);
        let shared: Vec<_> = (0..SHARED).map(content).map(|bytes| (digest(&bytes), bytes)).collect();
        let images = images(&hub, &shared);
        let registry = Registry::start(folder, &config(&hub, "[cache]\nmax_size = \"64 MiB\"\n"));
        let (pulled, left, most, slowest) = Default::default();
        Full { soak: Soak::default(), hub, registry, images, shared, pulled, left, most, slowest }
    }

    fn is_over(&self) -> bool {
        self.soak.stop.load(Ordering::Relaxed)
    }

    /// Looks at the cached bytes.
    fn sample(&self) {
        let usage = self.registry.storage.usage();
        self.most.fetch_max(usage.bytes - usage.hosted, Ordering::Relaxed);
    }

    /// Pulls images through the mirror until the end, and leaves some answers in their middle.
    fn mirrored(&self, mut rng: StdRng) {
        let mut client = Client::new(self.registry.address);
        while !self.is_over() {
            // Some images are asked for more often than others.
            let reach = rng.random_range(1..=self.images.len());
            let image = &self.images[rng.random_range(0..reach)];
            let repo = format!("docker.io/{}", image.repo);
            let answer = client.call("GET", &format!("/v2/{repo}/manifests/{}", image.tag), "", &[]);
            if (answer.status, &answer.body) != (200, &image.bytes) {
                self.soak.violation(format!("GET {repo}:{}: {} {}", image.tag, answer.status, answer.text()));
            }
            for layer in image.blobs() {
                if rng.random_bool(0.1) {
                    self.leave(&blob(&repo, layer), rng.random_range(0..3 << 20));
                } else {
                    self.layer(&mut client, &repo, layer);
                }
                self.sample();
            }
            self.pulled.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn layer(&self, client: &mut Client, repo: &str, layer: &str) {
        let began = Instant::now();
        let mut answer = client.call("GET", &blob(repo, layer), "", &[]);
        // On a machine with much to do upstream has no head within 25 s. The next try joins.
        while answer.status == 504 && began.elapsed() < TRIES {
            answer = client.call("GET", &blob(repo, layer), "", &[]);
        }
        self.slowest.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
        if answer.status != 200 || digest(&answer.body).to_string() != layer {
            let what = String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)]).into_owned();
            self.soak.violation(format!("GET the layer {layer} of {repo}: {} {what}", answer.status));
        }
    }

    fn leave(&self, path: &str, after: usize) {
        let mut connection = Connection::open(self.registry.address.port());
        connection.request("GET", path, &[]);
        match connection.head() {
            Ok((200, headers)) => {
                let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
                let length = length.and_then(|(_, length)| length.parse().ok()).unwrap_or(0);
                drop(connection.read_body(after.min(length)));
            }
            other => self.soak.violation(format!("GET {path}: {other:?}")),
        }
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// Pushes until the end: half of the images under a name that is upstream's until then.
    fn pushes(&self, name: u64) {
        let client = Client::new(self.registry.address);
        let mut pusher = Pusher { soak: &self.soak, client, rng: StdRng::seed_from_u64(name), name };
        let mut mine = Vec::new();
        for number in 0.. {
            if self.is_over() {
                break;
            }
            let bytes = format!("{{\"config\":\"full {name} {number}\"}}").into_bytes();
            let mut parts = vec![(digest(&bytes), bytes)];
            parts.extend(
                (0..pusher.rng.random_range(1..4)).map(|_| self.shared[pusher.rng.random_range(0..SHARED)].clone()),
            );
            parts.dedup();
            mine.extend(if pusher.rng.random_bool(0.5) {
                self.under_its_own_name(&mut pusher, number, parts)
            } else {
                let (repo, mut told) = (format!("soak/r{}", pusher.rng.random_range(0..4)), None);
                for (digest, bytes) in &parts {
                    let from = match pusher.rng.random_range(0..3) {
                        0 => format!("soak/r{}", pusher.rng.random_range(0..4)),
                        _ => format!("docker.io/library/m{}", pusher.rng.random_range(0..4)),
                    };
                    pusher.blob(&repo, digest, bytes, &from);
                    told.get_or_insert_with(Instant::now);
                }
                pusher.image(repo, number, parts, told)
            });
            while mine.len() > pusher.rng.random_range(0..4) {
                let image = mine.swap_remove(pusher.rng.random_range(0..mine.len()));
                pusher.delete(&image);
            }
        }
    }

    /// An image that was pulled through the mirror is pushed back under the same name, as Docker
    /// does: what HEAD says is here is not sent. It may have been evicted before its manifest
    /// comes.
    fn under_its_own_name(
        &self,
        pusher: &mut Pusher,
        number: u64,
        parts: Vec<(Digest, Vec<u8>)>,
    ) -> Option<std::sync::Arc<super::pusher::Image>> {
        let repo = format!("soak/p{}-{number}", pusher.name);
        self.hub.put_blob(parts[0].1.clone());
        self.hub.put_manifest(&repo, "v1", OCI_IMAGE, &manifest(&parts));
        let path = format!("/v2/{repo}/manifests/v1");
        let answer = pusher.client.call("GET", &path, "", &[]);
        if answer.status != 200 {
            self.soak.violation(format!("GET {path}: {} {}", answer.status, answer.text()));
        }
        for (digest, bytes) in &parts {
            let began = Instant::now();
            let head = pusher.client.call("HEAD", &blob(&repo, &digest.to_string()), "", &[]);
            match head.status {
                200 => {}
                // On a machine with much to do upstream has not answered in time: it has to be
                // sent then.
                404 if began.elapsed() >= SEND_IT => pusher.blob(&repo, digest, bytes, "soak/none"),
                other => self.soak.violation(format!("HEAD of {digest} in {repo}: {other}")),
            }
        }
        pusher.image(repo, number, parts, None)
    }

    /// The rules at the end, when no client is there any more.
    fn is_in_order(&self) {
        self.registry.storage.set_grace(Duration::ZERO);
        self.registry.gc();
        self.registry.gc();
        eventually("the cache is as small as it has to be", || self.registry.storage.lack(0).of_max_size == 0);
        for name in on_disk(&self.registry.data_dir.join("blobs")) {
            let file = self.registry.data_dir.join("blobs/sha256").join(&name[..2]).join(&name);
            // What was evicted meanwhile is not there.
            let Ok(bytes) = fs::read(file) else { continue };
            assert_eq!(digest(&bytes).hex(), name, "what its name says");
        }
        assert_eq!(on_disk(&self.registry.data_dir.join("tmp")), BTreeSet::new());
        let (after, mut client) = (Soak::default(), Client::new(self.registry.address));
        self.soak.images.lock().unwrap().iter().for_each(|image| pull(&after, &mut client, image));
        assert!(after.violations.into_inner().unwrap().is_empty(), "what was not deleted is whole");
    }
}

#[test]
fn soak_of_a_full_cache() {
    let folder = tempfile::tempdir().unwrap();
    let full = Full::start(folder.path());
    let soak = &full.soak;
    std::thread::scope(|scope| {
        for name in 0..6 {
            let full = &full;
            scope.spawn(move || full.mirrored(StdRng::seed_from_u64(200 + name)));
            if name < 2 {
                scope.spawn(move || full.pushes(name));
                let client = Client::new(full.registry.address);
                scope.spawn(move || pulls(soak, client, StdRng::seed_from_u64(100 + name)));
            }
        }
        let until = Instant::now() + Duration::from_secs(seconds());
        while Instant::now() < until && soak.violations.lock().unwrap().is_empty() {
            full.registry.gc();
        }
        soak.stop.store(true, Ordering::Relaxed);
    });
    let most = full.most.load(Ordering::Relaxed);
    let (fetched, bytes) = (full.hub.any_blob_gets(), full.hub.body_bytes_sent());
    eprintln!(
        "{} s, a grace of {GRACE:?}: {} images pulled through the mirror, {} answers left, {} pushed, {} of them \
         pulled, {} deleted, {} layers known, {} mounted, {} late; {fetched} fetches of {bytes} bytes, {most} bytes \
         cached at most, the slowest layer in {} ms",
        seconds(),
        full.pulled.load(Ordering::Relaxed),
        full.left.load(Ordering::Relaxed),
        soak.pushed.load(Ordering::Relaxed),
        soak.pulled.load(Ordering::Relaxed),
        soak.deleted.load(Ordering::Relaxed),
        soak.skipped.load(Ordering::Relaxed),
        soak.mounted.load(Ordering::Relaxed),
        soak.late.load(Ordering::Relaxed),
        full.slowest.load(Ordering::Relaxed),
    );
    let violations = soak.violations.lock().unwrap();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
    assert!(bytes > 2 * MAX, "more is fetched than fits: {bytes} bytes");
    assert!(most <= MAX + TURNED, "{most} bytes");
    drop(violations);
    full.is_in_order();
    full.registry.end();
}
