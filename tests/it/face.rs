//! The registry API as clients see it, through the real binary: the parts that `tests/it/pull/`
//! does not test.

use crate::{
    hub::{Fault, Hub, Image, OCI_INDEX, OCI_MANIFEST, On, digest_of},
    lanyard::Lanyard,
    pull::{mirror, mirror_with},
    wire::{Answer, Connection, ask, blob, eventually, get, manifest},
};

const REPO: &str = "library/busybox";
const SIZE: usize = 300_000;

/// A stand-in with one image, and a lanyard that has all of the image.
fn house() -> (Hub, Image, Lanyard) {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(SIZE as u64).publish();
    let lanyard = mirror(&hub);
    for path in [manifest(REPO, "latest"), blob(REPO, image.layer(0)), blob(REPO, image.config())] {
        assert_eq!(get(lanyard.port(), &path).status, 200);
        eventually("it is stored", || get(lanyard.port(), &path).outcome() == "hit");
    }
    (hub, image, lanyard)
}

/// Status and headers without the date, in one order.
fn head_of(answer: &Answer) -> (u16, Vec<(String, String)>) {
    let named = answer.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    let mut headers: Vec<_> = named.filter(|(name, _)| name != "date").collect();
    headers.sort();
    (answer.status, headers)
}

/// HEAD has exactly the status and headers of GET, and no body.
#[track_caller]
fn assert_head_equals_get(lanyard: &Lanyard, path: &str, headers: &[(&str, &str)]) {
    let get = ask(lanyard.port(), "GET", path, headers);
    let head = ask(lanyard.port(), "HEAD", path, headers);
    assert_eq!(head_of(&get), head_of(&head), "{path}");
    assert!(head.body.is_empty(), "{path}");
    assert!(get.looks_complete() || get.status == 304, "{path}: {get:?}");
}

/// The code of an error in the specification's JSON.
#[track_caller]
fn error_code(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.text());
    let error = &answer.json()["errors"][0];
    assert!(error["message"].is_string() && error.get("detail").is_some(), "{error}");
    error["code"].as_str().unwrap().to_owned()
}

/// WIRE.md: `/v2/` is 200 at once, anonymous, in every state of the upstream.
#[test]
fn ping_is_anonymous_and_waits_for_nobody() {
    let hub = Hub::start();
    let lanyard = mirror(&hub);
    hub.go_deaf(true);
    for path in ["/v2/", "/v2", "/docker.io/v2/", "/docker.io/v2", "/v2/?ns=docker.io"] {
        let answer = ask(lanyard.port(), "GET", path, &[("Authorization", "Basic Y2FuYXJ5OmNhbmFyeQ==")]);
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "{path}");
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
        assert!(answer.header("x-lanyard-cache").is_some() && answer.header("www-authenticate").is_none());
        assert_head_equals_get(&lanyard, path, &[]);
    }
    assert_eq!(get(lanyard.port(), "/evil.example/v2/").status, 404);
    assert_eq!(hub.connections_accepted(), 0);
}

#[test]
fn head_equals_get_everywhere() {
    let (_hub, image, lanyard) = house();
    let (by_tag, by_digest) = (manifest(REPO, "latest"), manifest(REPO, &image.digest));
    let (tags, referrers) = (format!("/v2/{REPO}/tags/list"), format!("/v2/{REPO}/referrers/{}", image.digest));
    for path in [&tags, &referrers] {
        assert_eq!(get(lanyard.port(), path).outcome(), "filled");
    }
    let escaped = by_digest.replace("sha256:", "sha256%3A");
    for path in [&by_tag, &by_digest, &escaped, &tags, &referrers, &blob(REPO, image.layer(0))] {
        assert_head_equals_get(&lanyard, path, &[]);
        assert_eq!(get(lanyard.port(), path).outcome(), "hit", "{path}");
    }
    for path in ["/", "/livez", "/readyz", "/v2/_catalog"] {
        assert_head_equals_get(&lanyard, path, &[]);
    }
    let answer = get(lanyard.port(), &by_tag);
    assert_eq!(answer.header("content-type"), Some(image.media_type.as_str()), "no charset");
    assert_eq!(answer.header("docker-content-digest"), Some(image.digest.as_str()));
    assert_eq!(answer.header("etag"), Some(format!("\"{}\"", image.digest).as_str()));
}

#[test]
fn errors_are_the_specifications_json() {
    let (hub, _image, lanyard) = house();
    let missing = blob(REPO, &digest_of(b"nobody has this"));
    for (path, status, code) in [
        (manifest(REPO, "missing").as_str(), 404, "MANIFEST_UNKNOWN"),
        (missing.as_str(), 404, "BLOB_UNKNOWN"),
        ("/v2/nothing/here/tags/list", 404, "NAME_UNKNOWN"),
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
        let answer = get(lanyard.port(), path);
        assert_eq!((answer.status, error_code(&answer).as_str()), (status, code), "{path}");
        assert_head_equals_get(&lanyard, path, &[]);
    }
    assert_eq!(hub.count(|r| r.path.contains(&digest_of(b"nobody has this")) && r.status == 404), 1, "asked once");
    hub.fault(On::any_manifest().any_method(), Fault::too_many_requests(Some("70")));
    let limited = get(lanyard.port(), &manifest(REPO, "limited"));
    assert_eq!((limited.status, limited.header("retry-after")), (503, Some("70")), "{}", limited.text());
    hub.go_down();
    let dead = blob("library/other", &digest_of(b"something"));
    eventually("the circuit is open", || get(lanyard.port(), &dead).status == 503);
    assert_eq!(error_code(&get(lanyard.port(), &dead)), "UNAVAILABLE");
    assert_head_equals_get(&lanyard, &dead, &[]);
}

#[test]
fn other_methods_are_405() {
    let hub = Hub::start();
    let lanyard = mirror(&hub);
    let empty = blob("x", &digest_of(b""));
    for (method, path, allow) in [
        ("POST", "/v2/x/manifests/latest", "GET, HEAD, PUT, DELETE"),
        ("PUT", empty.as_str(), "GET, HEAD, DELETE"),
        ("POST", "/v2/", "GET, HEAD"),
        ("OPTIONS", "/v2/x/tags/list", "GET, HEAD"),
        ("TRACE", "/metrics", "GET, HEAD"),
    ] {
        let answer = ask(lanyard.port(), method, path, &[("Content-Length", "0")]);
        assert_eq!((answer.status, error_code(&answer).as_str()), (405, "UNSUPPORTED"), "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    assert_eq!(hub.connections_accepted(), 0);
}

/// RFC 9110, sections 13 and 14.
#[test]
fn blobs_whole_and_in_part() {
    let (hub, image, lanyard) = house();
    let (path, digest) = (blob(REPO, image.layer(0)), image.layer(0));
    let bytes = hub.blob(digest).unwrap();
    let asked = |headers: &[(&str, &str)]| ask(lanyard.port(), "GET", &path, headers);
    let whole = asked(&[]);
    assert_eq!((whole.status, whole.body == bytes), (200, true));
    assert_eq!(whole.header("content-type"), Some("application/octet-stream"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.header("docker-content-digest"), Some(digest));

    let etag = format!("\"{digest}\"");
    for (range, condition, from, to) in [
        ("bytes=0-99", None, 0, 100),
        ("bytes=-500", None, SIZE - 500, SIZE),
        ("bytes=299990-400000", None, 299_990, SIZE),
        ("bytes=100000-", Some(etag.as_str()), 100_000, SIZE),
    ] {
        let mut headers = vec![("Range", range)];
        headers.extend(condition.map(|etag| ("If-Range", etag)));
        let part = asked(&headers);
        assert_eq!((part.status, part.body == bytes[from..to]), (206, true), "{headers:?}");
        assert_eq!(part.header("content-range"), Some(format!("bytes {from}-{}/{SIZE}", to - 1).as_str()));
    }
    for headers in [
        &[("Range", "bytes=0-99"), ("If-Range", "\"sha256:other\"")][..],
        &[("Range", "bytes=0-99"), ("If-Range", "Wed, 21 Oct 2015 07:28:00 GMT")],
        &[("Range", "lines=0-1")],
    ] {
        let answer = asked(headers);
        assert_eq!((answer.status, answer.body.len()), (200, SIZE), "{headers:?}");
    }
    for beyond in ["bytes=300000-", "bytes=500-0", "bytes=-0"] {
        let answer = asked(&[("Range", beyond)]);
        assert_eq!((answer.status, error_code(&answer).as_str()), (416, "RANGE_INVALID"), "{beyond}");
        assert_eq!(answer.header("content-range"), Some(format!("bytes */{SIZE}").as_str()));
    }
    assert_eq!(hub.blob_gets(digest), 1);
}

#[test]
fn an_empty_blob_has_no_bytes() {
    let hub = Hub::start();
    let empty = hub.put_blob(Vec::new());
    assert_eq!(empty, digest_of(b""));
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    let path = blob(REPO, &empty);
    let mut connection = Connection::open(lanyard.port());
    // On one connection, so that a byte too many or too few would change the next answer.
    let mut asked = || {
        connection.request("GET", &path, &[]);
        let answer = connection.answer("GET").unwrap();
        assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, Some("0"), 0));
        answer.outcome().to_owned()
    };
    assert_eq!(asked(), "filled");
    eventually("it is stored", || asked() == "hit");
    assert_head_equals_get(&lanyard, &path, &[]);
    assert_eq!(ask(lanyard.port(), "GET", &path, &[("Range", "bytes=0-")]).status, 416);
    assert_eq!(hub.blob_gets(&empty), 1);
    assert!(get(lanyard.port(), "/metrics").text().contains("lanyard_requests_aborted_total 0"));
}

#[test]
fn head_and_304_never_start_a_download() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1000).publish();
    let lanyard = mirror(&hub);
    let (digest, path) = (image.layer(0), blob(REPO, image.layer(0)));
    let head = ask(lanyard.port(), "HEAD", &path, &[]);
    assert_eq!((head.status, head.header("content-length")), (200, Some("1000")));
    let known = |digest: &str| vec![("If-None-Match".to_owned(), format!("\"{digest}\""))];
    let asked = |path: &str, headers: &[(String, String)]| {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        ask(lanyard.port(), "GET", path, &headers)
    };
    let answer = asked(&path, &known(digest));
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    // A client that knows a digest has not thereby shown that this repository has it.
    let missing = digest_of(b"missing");
    assert_eq!(asked(&blob(REPO, &missing), &known(&missing)).status, 404);
    assert_eq!(hub.any_blob_gets(), 0);
    let answer = asked(&manifest(REPO, "latest"), &known(&image.digest));
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    assert_eq!(answer.header("etag"), Some(format!("\"{}\"", image.digest).as_str()));
}

/// F2: before the first byte an error can be told; after it, only by an answer that is short of its
/// length.
#[test]
fn a_body_that_fails_first_is_502_and_later_is_cut_short() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1).layer(4 << 20).publish();
    let lanyard = mirror(&hub);
    hub.fault(On::blob(image.layer(0)), Fault::FlipByte { at: 0 });
    let answer = get(lanyard.port(), &blob(REPO, image.layer(0)));
    assert_eq!((answer.status, error_code(&answer).as_str()), (502, "UNAVAILABLE"), "{}", answer.text());
    hub.fault(On::blob(image.layer(1)), Fault::FlipByte { at: 100 });
    let answer = get(lanyard.port(), &blob(REPO, image.layer(1)));
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("4194304")));
    assert!(!answer.body.is_empty() && answer.body.len() < 4 << 20, "{} bytes, then the end", answer.body.len());
}

#[test]
fn tag_pages_follow_their_links() {
    let hub = Hub::start();
    for tag in ["1", "2", "3", "4", "5"] {
        hub.image("library/x", tag).publish();
    }
    let lanyard = mirror(&hub);
    get(lanyard.port(), "/v2/x/tags/list");
    for (start, name) in [
        ("/docker.io/v2/library/x/tags/list?n=2", "library/x"),
        ("/v2/docker.io/x/tags/list?n=2&ns=docker.io", "docker.io/x"),
        ("/v2/x/tags/list?n=2&ns=docker.io", "x"),
    ] {
        let (mut path, mut seen, mut pages) = (start.to_owned(), Vec::new(), 0);
        loop {
            let answer = get(lanyard.port(), &path);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_head_equals_get(&lanyard, &path, &[]);
            let json = answer.json();
            assert!(name.ends_with(json["name"].as_str().unwrap()), "{start}: {json}");
            seen.extend(json["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()));
            pages += 1;
            let Some(link) = answer.header("link") else { break };
            assert!(link.ends_with("; rel=\"next\"") && link.contains("ns=docker.io") == start.contains("ns="));
            path = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
        }
        assert_eq!((seen, pages), (["1", "2", "3", "4", "5"].map(str::to_owned).to_vec(), 3), "{start}");
    }
    // S9: requests that distribution clamps or crashes on.
    let all = get(lanyard.port(), "/v2/x/tags/list?n=1000000000000000000");
    assert_eq!((all.status, all.json()["tags"].as_array().unwrap().len()), (200, 5));
    assert_eq!(get(lanyard.port(), "/v2/x/tags/list?n=0").json(), serde_json::json!({ "name": "x", "tags": [] }));
}

/// Referrers are filtered here, whether upstream filters by `artifactType` or not.
#[test]
fn referrers_are_filtered_on_demand() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").oci().publish();
    for kind in ["a/b", "c/d"] {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","artifactType":"{kind}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"{}"}},"layers":[],"subject":{{"mediaType":"{}","size":{},"digest":"{}"}}}}"#,
            digest_of(b"{}"),
            image.media_type,
            image.bytes.len(),
            image.digest
        );
        hub.put_untagged(REPO, OCI_MANIFEST, text.as_bytes());
    }
    let lanyard = mirror(&hub);
    let path = format!("/v2/{REPO}/referrers/{}", image.digest);
    let kinds = |answer: &Answer| -> Vec<String> {
        let all = answer.json()["manifests"].as_array().unwrap().clone();
        let mut kinds: Vec<_> = all.iter().map(|m| m["artifactType"].as_str().unwrap().to_owned()).collect();
        kinds.sort();
        kinds
    };
    let all = get(lanyard.port(), &path);
    assert_eq!((all.status, all.header("content-type")), (200, Some(OCI_INDEX)));
    assert_eq!((kinds(&all), all.header("oci-filters-applied")), (vec!["a/b".to_owned(), "c/d".to_owned()], None));
    for (query, left) in [("a%2Fb", vec!["a/b".to_owned()]), ("no/such", vec![])] {
        let path = format!("{path}?artifactType={query}");
        let some = get(lanyard.port(), &path);
        assert_eq!((kinds(&some), some.header("oci-filters-applied")), (left, Some("artifactType")));
        assert_head_equals_get(&lanyard, &path, &[]);
    }
    assert_eq!(hub.count(|r| r.path.contains("/referrers/") && r.status == 200), 1, "asked once");
    hub.go_down();
    assert_eq!(kinds(&get(lanyard.port(), &path)).len(), 2, "and cached");
}

#[test]
fn health_metrics_and_home() {
    let hub = Hub::start();
    let lanyard = mirror_with(&hub, "[cache]\nnegative_ttl = \"0s\"");
    hub.go_down();
    for (path, text) in [("/livez", "ok\n"), ("/readyz", "ready\n")] {
        let answer = get(lanyard.port(), path);
        assert_eq!((answer.status, answer.text().as_str()), (200, text), "health does not hang on upstream");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert!(get(lanyard.port(), "/").text().contains("registry-mirrors"));
    assert_eq!(get(lanyard.port(), "/v2/_catalog").text(), r#"{"repositories":[]}"#);
    get(lanyard.port(), "/v2/X/manifests/latest");
    let metrics = get(lanyard.port(), "/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(metrics.text().ends_with("# EOF\n"));
}

/// S29: a request for websocket would have a body without an end. It is refused at once, and the
/// bytes after it on the connection are not read as a part of it.
#[test]
fn s29_a_request_for_websocket_is_refused() {
    let (_hub, _image, lanyard) = house();
    for (method, path, value) in [
        ("POST", "/token", "websocket"),
        ("POST", "/v2/team/app/blobs/uploads/", "WebSocket"),
        ("GET", "/v2/", " websocket "),
    ] {
        let mut connection = crate::wire::Connection::open(lanyard.port());
        connection.request(method, path, &[("Upgrade", value), ("Content-Length", "5")]);
        connection.send(b"HELLOGET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = connection.answer(method).unwrap();
        assert_eq!(answer.status, 400, "{method} {path} {value}: {}", answer.text());
        assert!(connection.answer("GET").is_err(), "nothing follows");
    }
}
