//! The HTTP face over the in-memory fake, on real sockets.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::*;
use crate::{
    http::{
        Face, Limits, run,
        testing::{Answer, Running},
    },
    metrics::{Metrics, Sample},
    names::Names,
};

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

struct House {
    server: Running,
    pull: Arc<PullThrough>,
    ready: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

fn digest(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}

fn house() -> House {
    let pull = Arc::new(PullThrough::default());
    let hub: UpstreamName = "docker.io".parse().unwrap();
    let metrics = Arc::new(Metrics::new(std::slice::from_ref(&hub)));
    let ready = Arc::new(AtomicBool::new(true));
    let face = Face {
        pull: Arc::clone(&pull),
        names: Arc::new(Names::new(vec![hub.clone(), "ghcr.io".parse().unwrap()], hub, |_| false)),
        metrics: Arc::clone(&metrics),
        ready: Arc::clone(&ready),
        sample: Arc::new(Sample::default),
        hosted_exists: Arc::new(|_| false),
    };
    let limits = Limits { workers: 1, ..Limits::default() };
    let server = Running::start(move |listener| run(listener, face, limits).unwrap().0);
    House { server, pull, ready, metrics }
}

impl House {
    fn get(&self, target: &str) -> Answer {
        self.server.ask("GET", target, "")
    }
    fn blob(&self, bytes: Vec<u8>, broken: bool) -> Digest {
        let digest = digest(&bytes);
        self.pull.blobs.lock().unwrap().insert(digest, (bytes.into(), broken));
        digest
    }
    fn manifest(&self, key: &str, bytes: &'static str) -> Digest {
        let all = &mut self.pull.manifests.lock().unwrap();
        let digest = digest(bytes.as_bytes());
        for reference in [key.to_owned(), format!("{}@{digest}", key.split('@').next().unwrap())] {
            all.insert(reference, (INDEX_TYPE.to_owned(), bytes.into()));
        }
        digest
    }
}

fn error_code(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let error = &json["errors"][0];
    assert!(error["message"].is_string() && error.get("detail").is_some());
    error["code"].as_str().unwrap().to_owned()
}

/// HEAD must say exactly what GET says, but for the date.
fn assert_head_equals_get(house: &House, target: &str) {
    let strip = |answer: &Answer| {
        let mut headers = answer.headers.clone();
        headers.retain(|(name, _)| name != "date");
        headers.sort();
        (answer.status, headers)
    };
    let (get, head) = (house.get(target), house.server.ask("HEAD", target, ""));
    assert_eq!(strip(&get), strip(&head), "{target}");
}

#[test]
fn ping_is_anonymous_and_waits_for_nobody() {
    let house = house();
    *house.pull.down.lock().unwrap() = true;
    for target in ["/v2/", "/v2", "/docker.io/v2/", "/docker.io/v2", "/v2/?ns=docker.io"] {
        let answer = house.server.ask("GET", target, "authorization: Basic Y2FuYXJ5OmNhbmFyeQ==\r\n");
        assert_eq!((answer.status, answer.text()), (200, "{}"), "{target}");
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
        assert!(answer.header("x-lanyard-cache").is_some());
        assert_head_equals_get(&house, target);
    }
    assert_eq!(house.get("/evil.example/v2/").status, 404);
}

#[test]
fn manifests_in_every_spelling() {
    let house = house();
    let digest = house.manifest("docker.io/library/busybox@latest", r#"{"schemaVersion":2}"#);
    for target in [
        "/v2/busybox/manifests/latest",
        "/v2/library/busybox/manifests/latest",
        "/v2/library/busybox/manifests/latest?ns=docker.io&foo=bar",
        "/v2/docker.io/library/busybox/manifests/latest",
        "/docker.io/v2/library/busybox/manifests/latest",
        "/v2/docker.io/library/busybox/manifests/latest?ns=docker.io",
        &format!("/v2/library/busybox/manifests/{digest}"),
        &format!("/v2/library/busybox/manifests/{}", digest.to_string().replace(':', "%3A")),
    ] {
        let answer = house.get(target);
        assert_eq!((answer.status, answer.text()), (200, r#"{"schemaVersion":2}"#), "{target}");
        assert_eq!(answer.header("content-type"), Some(INDEX_TYPE));
        assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
        assert_eq!(answer.header("etag"), Some(format!("\"{digest}\"").as_str()));
        assert_eq!(answer.header("x-lanyard-cache"), Some("hit"));
        assert_head_equals_get(&house, target);
    }
    let answer = house.server.ask("GET", "/v2/busybox/manifests/latest", &format!("if-none-match: \"{digest}\"\r\n"));
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    assert_eq!(house.get("/v2/library/busybox/manifests/latest?ns=ghcr.io").status, 404);
}

#[test]
fn errors_are_the_specifications_json() {
    let house = house();
    for (target, status, code) in [
        ("/v2/x/manifests/missing", 404, "MANIFEST_UNKNOWN"),
        ("/v2/x/manifests/latest?ns=evil.example", 404, "NAME_UNKNOWN"),
        ("/v2/x/manifests/latest?ns=docker.io&ns=ghcr.io", 400, "NAME_INVALID"),
        ("/v2/X/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/a%2f..%2fb/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/x/manifests/.x", 400, "MANIFEST_INVALID"),
        ("/v2/x/blobs/sha256:zz", 400, "DIGEST_INVALID"),
        ("/v2/x/tags/list?n=-1", 400, "UNSUPPORTED"),
        ("/v2/x/tags/list?n=x", 400, "UNSUPPORTED"),
        ("/v2/nothing", 404, "UNSUPPORTED"),
        ("/favicon.ico", 404, "UNSUPPORTED"),
        ("http://x/v2/", 400, "UNSUPPORTED"),
        ("http://evil.example/v2/x/manifests/latest", 400, "UNSUPPORTED"),
    ] {
        let answer = house.get(target);
        assert_eq!((answer.status, error_code(&answer).as_str()), (status, code), "{target}");
        assert_head_equals_get(&house, target);
    }
    *house.pull.down.lock().unwrap() = true;
    let answer = house.get("/v2/x/manifests/latest");
    assert_eq!((answer.status, answer.header("retry-after")), (502, Some("2")));
}

#[test]
fn other_methods_are_405() {
    let house = house();
    let zeros = format!("/v2/x/blobs/{}", digest(b""));
    for (method, target, allow) in [
        ("PUT", "/v2/x/manifests/latest", "GET, HEAD"),
        ("DELETE", "/v2/x/manifests/latest", "GET, HEAD"),
        ("DELETE", zeros.as_str(), "GET, HEAD"),
        ("POST", "/v2/x/blobs/uploads/", ""),
        ("PATCH", "/v2/x/blobs/uploads/abc", ""),
        ("GET", "/v2/x/blobs/uploads/abc", ""),
        ("POST", "/v2/", "GET, HEAD"),
        ("OPTIONS", "/v2/x/tags/list", "GET, HEAD"),
        ("TRACE", "/metrics", "GET, HEAD"),
    ] {
        let answer = house.server.ask(method, target, "content-length: 0\r\n");
        assert_eq!((answer.status, error_code(&answer).as_str()), (405, "UNSUPPORTED"), "{method} {target}");
        assert_eq!(answer.header("allow"), Some(allow));
    }
}

#[test]
fn blobs_whole_and_in_part() {
    let house = house();
    let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let digest = house.blob(bytes.clone(), false);
    let target = format!("/v2/library/x/blobs/{digest}");
    let whole = house.get(&target);
    assert_eq!((whole.status, whole.body == bytes), (200, true));
    assert_eq!(whole.header("content-type"), Some("application/octet-stream"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.header("docker-content-digest"), Some(digest.to_string().as_str()));
    assert_head_equals_get(&house, &target);

    let etag = format!("\"{digest}\"");
    for (headers, from, to) in [
        ("range: bytes=0-99\r\n".to_owned(), 0, 100),
        ("range: bytes=-500\r\n".to_owned(), 299_500, 300_000),
        ("range: bytes=299990-400000\r\n".to_owned(), 299_990, 300_000),
        (format!("range: bytes=100000-\r\nif-range: {etag}\r\n"), 100_000, 300_000),
    ] {
        let part = house.server.ask("GET", &target, &headers);
        assert_eq!((part.status, part.body == bytes[from..to]), (206, true), "{headers}");
        assert_eq!(part.header("content-range"), Some(format!("bytes {from}-{}/300000", to - 1).as_str()));
    }
    for whole in [
        "range: bytes=0-99\r\nif-range: \"sha256:other\"\r\n",
        "range: bytes=0-99\r\nif-range: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
        "range: bytes=0-1,3-4\r\n",
        "range: lines=0-1\r\n",
    ] {
        let answer = house.server.ask("GET", &target, whole);
        assert_eq!((answer.status, answer.body.len()), (200, 300_000), "{whole}");
    }
    for beyond in ["range: bytes=300000-\r\n", "range: bytes=500-0\r\n", "range: bytes=-0\r\n"] {
        let answer = house.server.ask("GET", &target, beyond);
        assert_eq!((answer.status, error_code(&answer).as_str()), (416, "RANGE_INVALID"), "{beyond}");
        assert_eq!(answer.header("content-range"), Some("bytes */300000"));
    }
}

#[test]
fn an_empty_blob_has_no_bytes() {
    let house = house();
    let digest = house.blob(Vec::new(), false);
    let target = format!("/v2/x/blobs/{digest}");
    let mut socket = house.server.connect();
    for _ in 0..2 {
        write!(socket, "GET {target} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let answer = Answer::read(&mut socket, false);
        assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, Some("0"), 0));
    }
    assert_head_equals_get(&house, &target);
    assert_eq!(house.server.ask("GET", &target, "range: bytes=0-\r\n").status, 416);
    assert!(house.metrics.encode(&Sample::default()).contains("lanyard_requests_aborted_total 0"));
}

#[test]
fn head_and_304_never_start_a_download() {
    let house = house();
    let digest = house.blob(vec![1; 1000], false);
    let target = format!("/v2/x/blobs/{digest}");
    assert_eq!(house.server.ask("HEAD", &target, "").header("content-length"), Some("1000"));
    let answer = house.server.ask("GET", &target, &format!("if-none-match: \"{digest}\"\r\n"));
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    let missing = self::digest(b"missing");
    let other = format!("/v2/x/blobs/{missing}");
    assert_eq!(house.server.ask("GET", &other, &format!("if-none-match: \"{missing}\"\r\n")).status, 404);
    assert_eq!(*house.pull.downloads.lock().unwrap(), 0);
}

#[test]
fn a_body_that_fails_first_is_502_and_later_is_cut_short() {
    let house = house();
    let small = house.blob(vec![1; 1000], true);
    let answer = house.get(&format!("/v2/x/blobs/{small}"));
    assert_eq!((answer.status, error_code(&answer).as_str()), (502, "UNAVAILABLE"));
    let large = house.blob(vec![1; 16 << 20], true);
    let answer = house.get(&format!("/v2/x/blobs/{large}"));
    assert_eq!((answer.status, answer.short, answer.body.len()), (200, true, 8 << 20));
}

#[test]
fn tag_pages_follow_their_links() {
    let house = house();
    let all: Vec<Tag> = ["1", "2", "3", "4", "5"].iter().map(|t| t.parse().unwrap()).collect();
    house.pull.tags.lock().unwrap().insert("docker.io/library/x".into(), all);
    for start in ["/docker.io/v2/library/x/tags/list?n=2", "/v2/docker.io/x/tags/list?n=2&ns=docker.io"] {
        let (mut target, mut seen) = (start.to_owned(), Vec::new());
        loop {
            let answer = house.get(&target);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_head_equals_get(&house, &target);
            let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert!(start.contains(json["name"].as_str().unwrap()));
            seen.extend(json["tags"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()));
            let Some(link) = answer.header("link") else { break };
            target = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
            assert!(link.ends_with("; rel=\"next\""));
        }
        assert_eq!(seen, ["1", "2", "3", "4", "5"]);
    }
    assert_eq!(house.get("/v2/x/tags/list?n=1000000000000000000").status, 200);
    assert_eq!(house.get("/v2/x/tags/list?n=0").text(), r#"{"name":"x","tags":[]}"#);
}

#[test]
fn referrers_are_filtered_on_demand() {
    let house = house();
    *house.pull.referrers.lock().unwrap() =
        Bytes::from_static(br#"{"schemaVersion":2,"manifests":[{"artifactType":"a/b"},{"artifactType":"c/d"}]}"#);
    let target = format!("/v2/x/referrers/{}", digest(b"subject"));
    let answer = house.get(&target);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(INDEX_TYPE)));
    assert_eq!(answer.header("oci-filters-applied"), None);
    let answer = house.get(&format!("{target}?artifactType=a%2Fb"));
    assert_eq!(answer.header("oci-filters-applied"), Some("artifactType"));
    assert!(answer.text().contains("a/b") && !answer.text().contains("c/d"));
    assert_head_equals_get(&house, &target);
}

#[test]
fn health_metrics_and_home() {
    let house = house();
    assert_eq!(house.get("/livez").status, 200);
    assert_eq!(house.get("/readyz").status, 200);
    house.ready.store(false, Ordering::Release);
    assert_eq!(house.get("/readyz").status, 503);
    assert_eq!(house.get("/livez").status, 200);
    assert!(house.get("/").text().contains("registry-mirrors"));
    assert_eq!(house.get("/v2/_catalog").text(), r#"{"repositories":[]}"#);
    house.get("/v2/x/manifests/missing");
    let metrics = house.get("/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(metrics.text().contains("lanyard_requests_total{kind=\"manifest\",code=\"4xx\",outcome=\"none\"} 1"));
    assert!(metrics.text().contains("lanyard_requests_in_flight 1"));
}
