//! Criterion's micro-benchmarks: `cargo bench --bench micro [-- WORD]`. They compare a change with
//! the version before it; `peers` has the figures beside other programs.
//!
//! | group | what is measured |
//! |---|---|
//! | `parse` | the words of a request and of a manifest |
//! | `hit` | a warm manifest of 2 KB, a warm blob of 1 MB, over one connection to the real binary |
//! | `fill` | a blob of 16 MiB from the Docker Hub stand-in until 1, 16 or 100 followers have it |
//! | `index` | pages of a thousand in a folder of 100,000 tags and 1,000,000 links |
//!
//! The folder of `index` takes a minute to make.

// A measurement that cannot unwrap a value has failed, and the panic says where.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/hub/mod.rs"]
mod hub;
#[path = "../tests/it/lanyard.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod lanyard_process;
mod shelf;
#[path = "../tests/it/wire.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod wire;

use std::{
    hint::black_box,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hub::{Body, Hub};
use lanyard::{
    config::MinFree,
    oci::{Accept, Digest, Manifest, Namespace, OCI_IMAGE, Reference, Repository, RepositoryName},
    runtime::BlockingPool,
    storage::{Limits, Storage},
};
use lanyard_process::Lanyard;
use tokio::runtime::Runtime;
use wire::{blob, manifest};

const REPO: &str = "library/busybox";
const PAGE: usize = 1_000;

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    let digest = shelf::few().to_string();
    group.bench_function("digest", |b| b.iter(|| black_box(&*digest).parse::<Digest>()));
    group.bench_function("reference", |b| b.iter(|| black_box("v1.36.1-glibc").parse::<Reference>()));
    group.bench_function("name", |b| b.iter(|| black_box("library/busybox").parse::<RepositoryName>()));
    let accept = "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.index.v1+json, \
                  application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json, */*";
    group.bench_function("accept", |b| b.iter(|| Accept::from_headers([black_box(accept)])));
    let text = image(10);
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("manifest of 10 layers", |b| b.iter(|| Manifest::parse(OCI_IMAGE, black_box(&text))));
}

fn image(layers: usize) -> Vec<u8> {
    let part = |kind: &str| serde_json::json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": shelf::few(), "size": 1 });
    let layers: Vec<_> = (0..layers).map(|_| part("layer.v1.tar+gzip")).collect();
    let config = part("config.v1+json");
    serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_IMAGE, "config": config, "layers": layers })
        .to_string()
        .into_bytes()
}

/// A connection that asks for the same path again and again.
struct Asking {
    stream: TcpStream,
    request: Vec<u8>,
    space: Vec<u8>,
}

impl Asking {
    fn new(port: u16, path: &str) -> Asking {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n").into_bytes();
        Asking { stream, request, space: vec![0; 1 << 20] }
    }

    /// Asks once and reads the answer. Returns the number of bytes of its body.
    fn ask(&mut self) -> usize {
        self.stream.write_all(&self.request).unwrap();
        let (mut seen, end) = (0, b"\r\n\r\n");
        let head = loop {
            seen += self.read(seen);
            if let Some(at) = self.space[..seen].windows(4).position(|four| four == end) {
                break at + 4;
            }
        };
        let text = String::from_utf8_lossy(&self.space[..head]).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{text}");
        let length: usize = text.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
        let mut left = length - (seen - head);
        while left > 0 {
            left -= self.read(0);
        }
        length
    }

    fn read(&mut self, from: usize) -> usize {
        let read = self.stream.read(&mut self.space[from..]).unwrap();
        assert!(read > 0, "the connection was cut");
        read
    }
}

fn mirror(hub: &Hub) -> Lanyard {
    let config = format!("[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n", hub.url());
    Lanyard::start_with(&config, &[("RUST_LOG", "warn")])
}

fn hit(c: &mut Criterion) {
    let mut group = c.benchmark_group("hit");
    let hub = Hub::start();
    let published = hub.image(REPO, "latest").layer(1_000_000).publish();
    let lanyard = mirror(&hub);
    for (name, path) in
        [("manifest", manifest(REPO, &published.digest)), ("blob of 1 MB", blob(REPO, published.layer(0)))]
    {
        group.bench_function(name, |b| {
            let mut asking = Asking::new(lanyard.port(), &path);
            asking.ask();
            b.iter(|| asking.ask());
        });
    }
}

fn fill(c: &mut Criterion) {
    const SIZE: u64 = 16 << 20;
    let mut group = c.benchmark_group("fill");
    group.sample_size(10).throughput(Throughput::Bytes(SIZE));
    let hub = Hub::start();
    // The repository exists at the stand-in.
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    let mut seed = 0;
    for followers in [1, 16, 100] {
        group.bench_function(format!("{followers} followers"), |b| {
            b.iter_custom(|times| {
                (0..times)
                    .map(|_| {
                        seed += 1;
                        let path = blob(REPO, &hub.put_blob(Body::noise(seed, SIZE)));
                        let began = Instant::now();
                        thread::scope(|scope| {
                            (0..followers).for_each(|_| drop(scope.spawn(|| Asking::new(lanyard.port(), &path).ask())));
                        });
                        began.elapsed()
                    })
                    .sum()
            });
        });
    }
}

/// The large folder, with its index ready, and the runtime of its verbs.
fn large() -> &'static (tempfile::TempDir, Runtime, Storage) {
    static LARGE: OnceLock<(tempfile::TempDir, Runtime, Storage)> = OnceLock::new();
    LARGE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let pool = || BlockingPool::new(runtime.handle().clone(), 4);
        let limits = Limits { max_size: None, min_free: MinFree::Bytes(0) };
        drop(Storage::open(folder.path(), limits, pool()).unwrap());
        shelf::fill(folder.path());
        let storage = Storage::open(folder.path(), limits, pool()).unwrap();
        while !storage.index_is_ready() {
            // The interval of the poll; it is not a part of a measurement.
            thread::sleep(Duration::from_millis(50));
        }
        (folder, runtime, storage)
    })
}

/// Verbs, each with its hop to a thread that may block.
fn index(c: &mut Criterion) {
    let mut group = c.benchmark_group("index");
    let hosted = |name: &str| Repository { namespace: Namespace::Hosted, name: name.parse().unwrap() };
    let (repository, middle) = (hosted(shelf::LARGE), shelf::tag(shelf::TAGS / 2));
    let few = shelf::few();
    // Only a row that is asked for lays the folder out.
    let referrers = |limit| {
        let (_, runtime, storage) = large();
        runtime.block_on(storage.referrers(&repository, &few, None, limit)).unwrap().0
    };
    let link = || referrers(1).remove(0).digest;
    group.bench_function("a tag", |b| {
        let ((_, runtime, storage), tag) = (large(), middle.parse().unwrap());
        b.iter(|| runtime.block_on(storage.tag(&repository, &tag)).unwrap().unwrap());
    });
    group.bench_function("a link", |b| {
        let ((_, runtime, storage), link) = (large(), link());
        b.iter(|| runtime.block_on(storage.link(&repository, &link)).unwrap().unwrap());
    });
    group.bench_function("1,000 of 100,000 tags", |b| {
        let (_, runtime, storage) = large();
        let page = || runtime.block_on(storage.tags(&repository, Some(middle.clone()), PAGE)).unwrap();
        b.iter(|| assert_eq!(page().tags.len(), PAGE));
    });
    group.bench_function("10 referrers among 1,000,000 links", |b| {
        b.iter(|| assert_eq!(referrers(PAGE).len(), shelf::FEW));
    });
    group.bench_function("1,000 of 2,001 repositories", |b| {
        let (_, runtime, storage) = large();
        let page = || runtime.block_on(storage.repositories(&Namespace::Hosted, None, PAGE)).unwrap();
        b.iter(|| assert_eq!(page().len(), PAGE));
    });
    group.bench_function("the holders of a digest", |b| {
        let ((_, runtime, storage), link) = (large(), link());
        b.iter(|| assert_eq!(runtime.block_on(storage.holders(&link)).unwrap().len(), 1));
    });
}

criterion_group!(benches, parse, hit, fill, index);
criterion_main!(benches);
