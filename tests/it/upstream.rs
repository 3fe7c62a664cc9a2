//! The upstream room against the stand-in, over real sockets: the whole way of a pull, and its cost
//! upstream.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use lanyard::{
    config::{self, Config, Credentials, Inputs},
    network::Environment,
    oci::{Algorithm, Digest, Hasher, Reference, RepositoryName},
    upstream::{
        Health, Registry, RequestKind, Spend, UpstreamError, Upstreams,
        fetcher::{FetcherSettings, Fetchers},
    },
};
use tokio::runtime::Handle;

use crate::hub::{Cut, Fault, Hub, On, silent::Silent};

const REPOSITORY: &str = "library/busybox";

/// One upstream, and the parts that it needs.
struct World {
    upstreams: Upstreams,
    upstream: Arc<Registry>,
    fetchers: Fetchers,
}

impl World {
    fn new(url: &str, change: impl FnOnce(&mut config::Upstream)) -> World {
        let name = "hub.example".parse().unwrap();
        let mut one = config::Upstream::new(name, url.parse().unwrap());
        change(&mut one);
        let mut config: Config = Config::load(&Inputs::default()).unwrap().config;
        let name = one.name.clone();
        config.upstreams = vec![one];
        let settings = FetcherSettings { environment: Environment::none(), ..FetcherSettings::default() };
        let fetchers = Fetchers::start_with(2, settings).unwrap();
        let upstreams = Upstreams::new(&config, &fetchers, &Handle::current()).unwrap();
        let upstream = Arc::clone(upstreams.get(&name).unwrap());
        assert!(upstreams.get(&"docker.io".parse().unwrap()).is_none());
        World { upstreams, upstream, fetchers }
    }

    async fn end(self) {
        self.upstreams.stop().await;
        self.fetchers.stop(Duration::from_secs(5));
    }

    async fn manifest(&self, reference: &str) -> Result<Vec<u8>, UpstreamError> {
        let reference: Reference = reference.parse().unwrap();
        let manifest = self.upstream.manifest(&repository(), &reference, Spend::Needed).await?;
        Ok(manifest.bytes.to_vec())
    }

    /// The bytes that came, and whether they were all.
    async fn blob(&self, digest: &Digest, from: u64) -> Result<(Vec<u8>, bool), UpstreamError> {
        let mut answer = self.upstream.blob(&repository(), digest, from, None).await?;
        assert_eq!(answer.offset, from);
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.body.chunk().await {
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(_) => return Ok((bytes, false)),
            }
        }
        Ok((bytes, true))
    }
}

fn repository() -> RepositoryName {
    REPOSITORY.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_pull() {
    let hub = Hub::builder().rate_limit(100, 76).start();
    let image = hub.image(REPOSITORY, "latest").layer(1 << 20).publish();
    let world = World::new(hub.url(), |_| {});

    let head = world.upstream.head_manifest(&repository(), &"latest".parse().unwrap()).await.unwrap();
    assert_eq!(head.digest.unwrap().to_string(), image.digest);
    assert_eq!((head.size, head.media_type), (Some(image.bytes.len() as u64), Some(image.media_type.clone())));
    assert_eq!(world.manifest("latest").await.unwrap(), image.bytes);
    assert_eq!(world.manifest(&image.digest).await.unwrap(), image.bytes);
    let layer: Digest = image.layer(0).parse().unwrap();
    assert_eq!(world.upstream.head_blob(&repository(), &layer).await.unwrap(), Some(1 << 20));
    let (bytes, whole) = world.blob(&layer, 0).await.unwrap();
    assert!(whole && Hasher::digest(Algorithm::Sha256, &bytes) == layer);
    let (rest, _) = world.blob(&layer, 1_000_000).await.unwrap();
    assert_eq!(rest, bytes[1_000_000..]);
    let tags = world.upstream.tags(&repository()).await.unwrap();
    assert_eq!(tags.iter().collect::<Vec<_>>(), ["latest"]);
    let referrers = world.upstream.referrers(&repository(), &image.digest.parse().unwrap()).await.unwrap();
    assert!(String::from_utf8_lossy(&referrers).contains("\"manifests\""));

    assert_eq!((hub.token_calls(), hub.credentials_at_cdn()), (1, 0));
    assert_eq!((hub.manifest_heads(), hub.manifest_gets()), (1, 2));
    let seen = world.upstream.snapshot();
    assert_eq!((seen.requests(RequestKind::Token), seen.requests(RequestKind::Blob), seen.errors), (1, 2, 0));
    assert!(seen.bytes_in >= (1 << 20) && world.upstream.budget().unwrap().limit == 100);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_pulls_share_a_token_and_outlive_it() {
    let hub = Hub::start();
    hub.image(REPOSITORY, "latest").publish();
    let world = World::new(hub.url(), |_| {});
    let pull_all = || async {
        let results = join_all((0..200).map(|_| world.manifest("latest"))).await;
        assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|r| r.is_err()));
    };
    pull_all().await;
    assert_eq!(hub.token_calls(), 1);
    hub.revoke_tokens();
    pull_all().await;
    assert_eq!(hub.token_calls(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_second_cause_no_error() {
    let hub = Hub::builder().token_ttl(Duration::from_secs(1)).start();
    hub.image(REPOSITORY, "latest").publish();
    let world = World::new(hub.url(), |_| {});
    let begun = Instant::now();
    let mut pulls = 0;
    while begun.elapsed() < Duration::from_millis(3500) {
        let results = join_all((0..20).map(|_| world.manifest("latest"))).await;
        assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|r| r.is_err()));
        pulls += results.len();
    }
    assert!(pulls >= 200 && hub.token_calls() <= 6, "{} token calls for {pulls} pulls", hub.token_calls());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_open_what_is_private_and_stay_at_home() {
    let hub = Hub::builder().member("mary", "secret").token_listener().start();
    let image = hub.image(REPOSITORY, "latest").layer(1000).publish();
    hub.set_private(REPOSITORY);
    let world = World::new(hub.url(), |one| {
        one.credentials = Some(Credentials { username: "mary".into(), password: "secret".into() });
    });
    assert!(!world.upstream.anonymous());
    assert_eq!(world.manifest("latest").await.unwrap(), image.bytes);
    assert!(world.blob(&image.layer(0).parse().unwrap(), 0).await.unwrap().1);
    assert_eq!(hub.credentials_at_cdn(), 0);
    world.end().await;

    let anonymous = World::new(hub.url(), |_| {});
    let denied = anonymous.manifest("latest").await.unwrap_err();
    assert!(matches!(denied, UpstreamError::Denied { status: 401, .. }), "{denied:?}");
    anonymous.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_a_realm_elsewhere_is_not_connected_to() {
    let thief = Hub::start();
    let realm = thief.token_url().replace("127.0.0.1", "localhost");
    let hub = Hub::builder().realm(&realm).start();
    hub.image(REPOSITORY, "latest").publish();
    let world = World::new(hub.url(), |one| {
        one.credentials = Some(Credentials { username: "mary".into(), password: "CANARY".into() });
    });
    let denied = world.manifest("latest").await.unwrap_err();
    assert!(matches!(&denied, UpstreamError::Denied { message, .. } if message.contains("token_hosts")), "{denied:?}");
    assert_eq!(thief.connections_accepted(), 0);
    assert!(!format!("{denied:?}").contains("CANARY"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s11_lies_about_manifests_are_not_believed() {
    let hub = Hub::start();
    let image = hub.image(REPOSITORY, "latest").publish();
    let world = World::new(hub.url(), |_| {});
    hub.fault(On::any_manifest().times(2), Fault::FlipByte { at: 3 });
    for reference in [image.digest.as_str(), "latest"] {
        let lie = world.manifest(reference).await;
        assert!(matches!(lie, Err(UpstreamError::Untrue { .. })), "{lie:?}");
    }
    hub.fault(On::any_manifest().times(2), Fault::digest_header(None));
    assert_eq!(world.manifest("latest").await.unwrap(), image.bytes);
    assert_eq!(world.manifest(&image.digest).await.unwrap(), image.bytes);
    hub.fault(On::any_manifest().times(3), Fault::CutAfter { bytes: 10, how: Cut::Fin });
    assert!(matches!(world.manifest("latest").await, Err(UpstreamError::Unreachable(_))));
    assert_eq!(world.upstream.snapshot().untrue, 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_blob_is_seen_as_broken_and_goes_on_from_there() {
    let hub = Hub::start();
    let image = hub.image(REPOSITORY, "latest").layer(1 << 20).publish();
    let layer: Digest = image.layer(0).parse().unwrap();
    let world = World::new(hub.url(), |_| {});
    world.manifest("latest").await.unwrap();
    let before = world.upstream.snapshot().bytes_in;
    hub.fault(On::blob(image.layer(0)), Fault::CutAfter { bytes: 300_000, how: Cut::Fin });
    let (mut bytes, whole) = world.blob(&layer, 0).await.unwrap();
    assert!(!whole && bytes.len() <= 300_000);
    let (rest, whole) = world.blob(&layer, bytes.len() as u64).await.unwrap();
    bytes.extend(rest);
    assert!(whole && Hasher::digest(Algorithm::Sha256, &bytes) == layer);
    assert_eq!(world.upstream.snapshot().bytes_in - before, hub.blob_bytes_sent(image.layer(0)));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_fails_fast_and_comes_back() {
    let hub = Hub::start();
    let image = hub.image(REPOSITORY, "latest").publish();
    let world = World::new(hub.url(), |_| {});
    hub.go_down();
    let begun = Instant::now();
    assert!(world.manifest("latest").await.unwrap_err().is_outage());
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(world.upstream.health(), Health::Open);
    let begun = Instant::now();
    assert!(matches!(world.manifest("latest").await, Err(UpstreamError::CircuitOpen { .. })));
    assert!(begun.elapsed() < Duration::from_millis(100));
    hub.come_back();
    let begun = Instant::now();
    while world.upstream.health() != Health::Good {
        assert!(begun.elapsed() < Duration::from_secs(20), "the probe does not find it again");
        // The interval of the poll.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.manifest("latest").await.unwrap(), image.bytes);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_5xx_of_the_registry_or_its_token_server_is_ridden_out() {
    let hub = Hub::start();
    let image = hub.image(REPOSITORY, "latest").publish();
    let world = World::new(hub.url(), |_| {});
    hub.fault(On::token().times(2), Fault::status(500));
    hub.fault(On::any_manifest().times(2), Fault::status(503));
    assert_eq!(world.manifest("latest").await.unwrap(), image.bytes);
    assert_eq!(world.upstream.snapshot().retries, 4);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_is_told_in_its_own_words() {
    let hub = Hub::start();
    hub.image(REPOSITORY, "latest").publish();
    let world = World::new(hub.url(), |_| {});
    hub.fault(On::any_manifest(), Fault::too_many_requests(Some("30")));
    for _ in 0..5 {
        let limited = world.manifest("latest").await.unwrap_err();
        assert!(limited.retry_after().unwrap() <= Duration::from_secs(30), "{limited:?}");
        assert!(limited.message().contains("pull rate limit"), "{limited:?}");
    }
    assert_eq!(hub.manifest_gets(), 1);
    assert!(world.upstream.head_manifest(&repository(), &"latest".parse().unwrap()).await.is_ok());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_is_late_at_once_and_no_one_waits_long() {
    let hole = Silent::start();
    let world = World::new(&hole.url(), |_| {});
    let begun = Instant::now();
    let patient = world.manifest("latest");
    let watch = async {
        while world.upstream.health() != Health::Late {
            assert!(begun.elapsed() < Duration::from_secs(20), "never late");
            // The interval of the poll.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    };
    let (failed, late) = tokio::join!(patient, watch);
    assert!(failed.unwrap_err().is_outage());
    assert!(late < Duration::from_secs(4) && begun.elapsed() < Duration::from_secs(12), "{late:?}");
    world.end().await;
}
