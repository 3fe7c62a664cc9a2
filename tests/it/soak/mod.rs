//! The soak: pushes, pulls, deletions and collections at once, over HTTP, with a grace of two
//! seconds.
//!
//! The test holds three rules. A client sees no "blob unknown" within the grace after a 201. Every
//! image that was pushed and not deleted can be pulled whole at any time. When everything is over,
//! the grace too, the disk holds only content that a manifest needs. `LANYARD_SOAK=600` runs it for
//! ten minutes instead of ten seconds. `full.rs` is the soak of a cache that is full.

pub(crate) mod client;
mod full;
mod pusher;

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use client::Client;
use lanyard::{
    app::App,
    config::{Config, Flags, Inputs},
};
use pusher::{Image, Pusher, digest};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::cli::{lanyard as command, stdout};

/// How long the registry's word that a blob is here is valid.
const GRACE: Duration = Duration::from_secs(2);

/// The state that all threads share.
#[derive(Default)]
struct Soak {
    stop: AtomicBool,
    images: Mutex<Vec<Arc<Image>>>,
    violations: Mutex<Vec<String>>,
    pushed: AtomicU64,
    skipped: AtomicU64,
    mounted: AtomicU64,
    deleted: AtomicU64,
    pulled: AtomicU64,
    late: AtomicU64,
}

impl Soak {
    fn violation(&self, what: String) {
        self.violations.lock().unwrap().push(what);
    }
}

/// A whole lanyard on threads of this process, so that its grace can be short.
struct Registry {
    address: SocketAddr,
    data_dir: PathBuf,
    storage: Arc<lanyard::storage::Storage>,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Registry {
    /// `config` is TOML without `listen` and `data_dir`.
    fn start(folder: &Path, config: &str) -> Registry {
        let (file, data_dir) = (folder.join("lanyard.toml"), folder.join("data"));
        fs::write(&file, config).unwrap();
        let flags = Flags {
            listen: Some("127.0.0.1:0".to_owned()),
            data_dir: Some(data_dir.to_str().unwrap().to_owned()),
            mode: None,
        };
        // Any free space on this machine's disk is enough.
        let environment = vec![("LANYARD__CACHE__MIN_FREE".into(), "0%".into())];
        let loaded = Config::load(&Inputs { file: Some(file), environment, flags }).unwrap();
        let app = App::start(&loaded.config).unwrap();
        let (address, storage) = (app.listening().unwrap(), Arc::clone(app.storage()));
        storage.set_grace(GRACE);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let stopped = async move {
                ready.send(()).unwrap();
                stopped.await.map(|()| std::future::pending()).map_err(std::io::Error::other)
            };
            app.run(stopped).unwrap();
        });
        is_ready.recv().unwrap();
        Registry { address, data_dir, storage, stop, thread }
    }

    fn gc(&self) -> serde_json::Value {
        let data_dir = self.data_dir.to_str().unwrap();
        let output = command(Path::new("/"), &["gc", "--json", "--data-dir", data_dir], &[]);
        serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{output:?}"))
    }

    fn end(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

/// Pulls any image that exists, and checks every byte.
fn pulls(soak: &Soak, mut client: Client, mut rng: StdRng) {
    while !soak.stop.load(Ordering::Relaxed) {
        let image = {
            let images = soak.images.lock().unwrap();
            (!images.is_empty()).then(|| Arc::clone(&images[rng.random_range(0..images.len())]))
        };
        let Some(image) = image else {
            std::thread::yield_now();
            continue;
        };
        // No thread deletes the image while it is being pulled.
        let alive = image.alive.read().unwrap();
        if *alive {
            pull(soak, &mut client, &image);
        }
    }
}

fn pull(soak: &Soak, client: &mut Client, image: &Image) {
    let manifest = client.call("GET", &format!("/v2/{}/manifests/{}", image.repo, image.digest), "", &[]);
    if (manifest.status, &manifest.body) != (200, &image.bytes) {
        soak.violation(format!("GET {} in {}: {} {}", image.digest, image.repo, manifest.status, manifest.text()));
    }
    for (digest, bytes) in &image.parts {
        let blob = client.call("GET", &format!("/v2/{}/blobs/{digest}", image.repo), "", &[]);
        if (blob.status, &blob.body) != (200, bytes) {
            let what = String::from_utf8_lossy(&blob.body[..blob.body.len().min(200)]).into_owned();
            soak.violation(format!(
                "GET the part {digest} of {} in {}: {} {what}",
                image.digest, image.repo, blob.status
            ));
        }
    }
    soak.pulled.fetch_add(1, Ordering::Relaxed);
}

/// The names of all blobs on disk.
fn on_disk(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut on_disk(&path));
        } else {
            found.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    found
}

/// How long a soak takes.
fn seconds() -> u64 {
    std::env::var("LANYARD_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

#[test]
fn soak_of_pushes_pulls_deletions_and_collections() {
    let seconds = seconds();
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path(), "mode = \"offline\"\n");
    let soak = Soak::default();
    let (mut passes, mut links, mut blobs) = (0, 0, 0);
    std::thread::scope(|scope| {
        for name in 0..8 {
            let (soak, client) = (&soak, Client::new(registry.address));
            scope.spawn(move || Pusher { soak, client, rng: StdRng::seed_from_u64(name), name }.run());
            let client = Client::new(registry.address);
            scope.spawn(move || pulls(soak, client, StdRng::seed_from_u64(100 + name)));
        }
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until && soak.violations.lock().unwrap().is_empty() {
            let removed = registry.gc();
            passes += 1;
            links += removed["links"].as_u64().unwrap();
            blobs += removed["blobs"].as_u64().unwrap();
        }
        soak.stop.store(true, Ordering::Relaxed);
    });
    let violations = soak.violations.into_inner().unwrap();
    eprintln!(
        "{seconds} s: {} pushed, {} pulled, {} deleted, {} layers known, {} mounted, {} late; {passes} passes removed \
         {links} links and {blobs} blobs",
        soak.pushed.load(Ordering::Relaxed),
        soak.pulled.load(Ordering::Relaxed),
        soak.deleted.load(Ordering::Relaxed),
        soak.skipped.load(Ordering::Relaxed),
        soak.mounted.load(Ordering::Relaxed),
        soak.late.load(Ordering::Relaxed)
    );
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
    assert!(links > 0 && blobs > 0, "the collections had something to do");

    // The grace ends.
    registry.storage.set_grace(Duration::ZERO);
    registry.gc();
    let last = registry.gc();
    assert!(["links", "blobs", "uploads", "waiting", "skipped"].iter().all(|key| last[*key] == 0), "{last}");
    let images = soak.images.into_inner().unwrap();
    let needed: BTreeSet<_> = images
        .iter()
        .flat_map(|image| image.parts.iter().map(|(digest, _)| digest.hex()).chain([digest(&image.bytes).hex()]))
        .collect();
    assert_eq!(on_disk(&registry.data_dir.join("blobs")), needed, "what is on disk, and what is needed");
    let (after, mut client) = (Soak::default(), Client::new(registry.address));
    images.iter().for_each(|image| pull(&after, &mut client, image));
    assert!(after.violations.into_inner().unwrap().is_empty(), "what was not deleted is whole");
    drop(client);
    registry.end();
}
