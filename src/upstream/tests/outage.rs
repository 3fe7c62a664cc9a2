//! An upstream that fails, hangs, or has reached its limit.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use tokio::time::Instant;

use super::*;
use crate::upstream::{
    Health, RequestKind, Spend, UpstreamError,
    fetcher::FetchError,
    script::{refused, status},
};

async fn get(upstream: &Registry) -> Result<(), UpstreamError> {
    upstream.manifest(&repository(), &tag(), Spend::Needed).await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_5xx_is_retried_twice_within_seconds() {
    let left = AtomicU32::new(2);
    let failing = move |_: &Request| {
        let fails = left.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok();
        if fails { status(502).reply() } else { status(200).body(image()).reply() }
    };
    let (upstream, script) = upstream(failing);
    let begun = Instant::now();
    get(&upstream).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(200) && begun.elapsed() <= Duration::from_secs(1));
    assert_eq!((script.asked().len(), upstream.snapshot().retries), (3, 2));
    assert_eq!(upstream.health(), Health::Good);
}

#[tokio::test(start_paused = true)]
async fn an_outage_opens_the_circuit_and_a_probe_closes_it() {
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let (upstream, script) = upstream(move |r| match (is_up.load(SeqCst), r.url.path()) {
        (false, _) => refused(),
        (true, "/v2/") => status(401).reply(),
        (true, _) => status(200).body(image()).reply(),
    });
    let error = get(&upstream).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unreachable(_)) && error.is_outage(), "{error:?}");
    assert_eq!((script.count("manifests"), upstream.health()), (2, Health::Open));

    let begun = Instant::now();
    let error = get(&upstream).await.unwrap_err();
    assert!(matches!(&error, UpstreamError::CircuitOpen { reason } if reason.contains("refused")), "{error:?}");
    assert!(error.is_outage());
    assert!(begun.elapsed() < Duration::from_millis(100));
    assert_eq!(script.count("manifests"), 2, "nothing is asked while the circuit is open");

    tokio::time::sleep(Duration::from_secs(100)).await;
    // The probes come after 1, 2, 4, 8, 16, 30 and 30 s.
    assert_eq!((script.count("GET /v2/ "), script.asked().iter().filter(|l| *l == "GET /v2/").count()), (0, 7));
    up.store(true, SeqCst);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(upstream.health(), Health::Good);
    get(&upstream).await.unwrap();
    let probes = upstream.snapshot().requests(RequestKind::Probe);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(upstream.snapshot().requests(RequestKind::Probe), probes, "the probe has ended");
    assert!(script.requests().iter().all(|r| authorization(r).is_none()));
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_probe() {
    let (upstream, _) = upstream(|_| refused());
    get(&upstream).await.unwrap_err();
    upstream.transport.stop().await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(upstream.snapshot().requests(RequestKind::Probe), 0);
}

#[tokio::test(start_paused = true)]
async fn retries_do_not_make_an_outage_worse() {
    let (upstream, _) = upstream(|r| status(if r.method == "HEAD" { 200 } else { 500 }).reply());
    for _ in 0..1000 {
        upstream.head_manifest(&repository(), &tag()).await.unwrap();
        // Every other answer is good, so the circuit stays closed.
        upstream.blob(&repository(), &digest(b""), 0, None).await.unwrap_err();
        upstream.head_manifest(&repository(), &tag()).await.unwrap();
    }
    let seen = upstream.snapshot();
    let first = seen.requests(RequestKind::Blob) + seen.requests(RequestKind::ManifestHead) - seen.retries;
    assert!(seen.retries <= first / 5 + 10, "{} retries of {first}", seen.retries);
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_is_late_then_open() {
    let (upstream, script) = upstream(|_| Act::Hang);
    let asking = Arc::clone(&upstream);
    let task = tokio::spawn(async move { get(&asking).await });
    tokio::time::sleep(Duration::from_millis(1900)).await;
    assert_eq!(upstream.health(), Health::Good);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(upstream.health(), Health::Late);
    // A caller with a deadline of its own leaves. Its request counts as unanswered.
    let patience = Duration::from_millis(2500);
    assert!(tokio::time::timeout(patience, upstream.head_manifest(&repository(), &tag())).await.is_err());
    assert!(task.await.unwrap().unwrap_err().is_outage());
    assert_eq!((upstream.health(), script.count("manifests")), (Health::Open, 2));
    upstream.transport.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_content_network_that_is_down_leaves_the_registry_open() {
    let (upstream, _) = upstream(|r| match r.url.path().contains("/blobs/") {
        true => Act::Fail(FetchError::Connect { host: "cdn.example:443".into(), reason: "refused".into() }),
        false => status(200).body(image()).reply(),
    });
    for _ in 0..10 {
        assert!(upstream.blob(&repository(), &digest(b""), 0, None).await.unwrap_err().is_outage());
    }
    assert_eq!(upstream.health(), Health::Good);
    get(&upstream).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_429_is_not_asked_again_until_its_time() {
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    let (upstream, script) = upstream(move |r| match r.method.as_str() {
        "HEAD" => status(200).header("ratelimit-limit", "100;w=60").header("ratelimit-remaining", "0;w=60").reply(),
        _ => status(429).header("retry-after", "30").body(body).reply(),
    });
    let limited = get(&upstream).await.unwrap_err();
    assert!(limited.is_outage());
    assert_eq!(limited.retry_after(), Some(Duration::from_secs(30)));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let again = get(&upstream).await.unwrap_err();
    assert_eq!(again.retry_after(), Some(Duration::from_secs(20)));
    assert_eq!(again.message(), "You have reached your pull rate limit.");
    assert_eq!(script.asked().len(), 1, "nothing is asked meanwhile");

    upstream.head_manifest(&repository(), &tag()).await.unwrap();
    assert_eq!(upstream.budget().map(|b| (b.limit, b.remaining)), Some((100, 0)));
    tokio::time::sleep(Duration::from_secs(21)).await;
    let refresh = upstream.manifest(&repository(), &tag(), Spend::Refresh).await.unwrap_err();
    assert!(matches!(refresh, UpstreamError::RateLimited { .. }));
    assert_eq!(script.count("GET"), 1, "the last of the budget is not spent on a refresh");
    get(&upstream).await.unwrap_err();
    assert_eq!(script.count("GET"), 2);
}
