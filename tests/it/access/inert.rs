//! The limits of a browser at the registry (S32): it can do nothing with the content, and nothing
//! with this machine's rights.

use super::{ANN, ELSEWHERE, House, MANIFEST, Small, basic, send};
use crate::{
    hub::{Hub, digest_of},
    lanyard::Lanyard,
    pull::config,
    wire::{Answer, Connection, blob, manifest},
};

const SANDBOX: &str = "sandbox; default-src 'none'";

/// A method, a path and headers.
type Request<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

fn is_inert(answer: &Answer) -> bool {
    answer.header("x-content-type-options") == Some("nosniff")
        && answer.header("content-security-policy") == Some(SANDBOX)
}

/// Every answer: both spellings, both addresses, errors too.
#[test]
fn s32_every_answer_of_the_registry_is_inert() {
    let hub = Hub::start();
    let image = hub.image("library/busybox", "latest").layer(1000).publish();
    let house = House::start("mirror_listen = \"127.0.0.1:0\"", &config(&hub, ""));
    let logs = house.lanyard.logs();
    let line = logs.lines().find_map(|line| line.split_once("pulls only on http://")).unwrap().1;
    let mirror: u16 = line.rsplit_once(':').unwrap().1.trim().parse().unwrap();
    let (by_tag, layer) = (manifest("library/busybox", "latest"), blob("library/busybox", image.layer(0)));
    let missing = blob("library/busybox", &digest_of(b"nobody has this"));
    let wrong = basic(("ann", "wrong"));
    let etag = format!("\"{}\"", image.digest);
    let upload = "/v2/team/app/blobs/uploads/0b1f6f0e-4a55-4f7a-9d3e-5f2f3a1c2b4d";
    let many: &[Request<'_>] = &[
        ("GET", "/v2/", &[]),
        ("GET", "/v2", &[]),
        ("GET", "/docker.io/v2/", &[]),
        ("GET", &by_tag, &[]),
        ("GET", &by_tag, &[("If-None-Match", &etag)]),
        ("GET", &format!("/docker.io{by_tag}"), &[]),
        ("GET", &layer, &[]),
        ("GET", &layer, &[("Range", "bytes=1-3")]),
        ("GET", &layer, &[("Range", "bytes=5000-")]),
        ("GET", &missing, &[]),
        ("GET", "/v2/library/busybox/tags/list", &[]),
        ("GET", &format!("/v2/library/busybox/referrers/{}", image.digest), &[]),
        ("GET", "/v2/_catalog", &[]),
        ("GET", "/v2/_catalog", &[("Authorization", &wrong)]),
        ("GET", "/v2/token?service=lanyard", &[]),
        ("GET", "/v2/token?service=lanyard", &[("Authorization", &wrong)]),
        ("GET", "/v2/%3Cscript%3Ealert(1)%3C/script%3E", &[]),
        ("GET", "/v2/X/manifests/latest", &[]),
        ("GET", "/evil.example/v2/", &[]),
        ("GET", "/evil.example/v2/x/manifests/latest", &[]),
        ("GET", "/v2/x/manifests/latest?ns=evil.example", &[]),
        ("GET", "http://x/v2/", &[]),
        ("PUT", "/v2/", &[]),
        ("POST", "/v2/team/app/blobs/uploads/", &[ELSEWHERE]),
        ("POST", "/v2/team/app/blobs/uploads/", &[]),
        ("PATCH", upload, &[]),
        ("DELETE", &by_tag, &[]),
        ("OPTIONS", &by_tag, &[]),
    ];
    for port in [house.port(), mirror] {
        for (method, path, headers) in many {
            let answer = send(port, method, path, headers, b"");
            assert!(is_inert(&answer), "{method} {path}: {} {:?}", answer.status, answer.headers);
            if *method == "GET" {
                assert!(is_inert(&send(port, "HEAD", path, headers, b"")), "HEAD {path}");
            }
        }
        for path in
            ["/", "/livez", "/readyz", "/metrics", "/token", "/token?service=lanyard", "/nowhere", "/favicon.ico"]
        {
            let answer = send(port, "GET", path, &[], b"");
            assert!(is_inert(&answer), "{path}: {} {:?}", answer.status, answer.headers);
        }
    }
}

/// Content of a type that a browser would show or run is sent as bytes, by GET and by HEAD. The
/// types that clients use are unchanged.
#[test]
fn s32_content_of_another_type_is_told_as_bytes() {
    let page = br#"{"schemaVersion":2,"mediaType":"text/html","x":"<script>alert(1)</script>"}"#.to_vec();
    for (content_type, told) in [
        ("text/html", "application/octet-stream"),
        ("text/html; charset=utf-8", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("TEXT/javascript", "application/octet-stream"),
        ("application/vnd.example.thing+json", "application/vnd.example.thing+json"),
    ] {
        let hub = Hub::start();
        let digest = hub.put_manifest("library/page", "latest", content_type, &page);
        let lanyard = Lanyard::start(&config(&hub, ""));
        for reference in ["latest", digest.as_str()] {
            let path = manifest("library/page", reference);
            for round in 0..2 {
                for method in ["GET", "HEAD"] {
                    let answer = send(lanyard.port(), method, &path, &[], b"");
                    let seen = (answer.status, answer.header("content-type"));
                    assert_eq!(seen, (200, Some(told)), "{content_type} {method} {path} {round}");
                    assert!(is_inert(&answer));
                }
            }
        }
    }
}

/// One request with this `Host`, or without any.
fn by_host(port: u16, method: &str, path: &str, host: Option<&str>, body: &[u8]) -> Answer {
    let mut connection = Connection::open(port);
    let host = host.map_or_else(String::new, |host| format!("Host: {host}\r\n"));
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\n{host}Content-Type: {MANIFEST}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    connection.send(&[head.as_bytes(), body].concat());
    connection.answer(method).unwrap_or_else(|error| panic!("{method} {path} {host}: {error}"))
}

/// A web page whose name resolves to this machine pushes nothing, and reads nothing that needs this
/// machine's rights.
#[test]
fn s32_this_machines_rights_need_a_name_of_its_own() {
    const RULES: &str = "[[access]]\nwho = [\"anonymous\"]\nrepositories = [\"docker.io/**\"]\nactions = [\"pull\"]\n\
                         [[access]]\nwho = [\"loopback\"]\nrepositories = [\"**\"]\nactions = [\"pull\", \"push\", \"delete\"]\n";
    let lanyard =
        Lanyard::start(&format!("names = [\"registry.example\"]\n[hosted]\nnamespaces = [\"team/**\"]\n{RULES}"));
    let image = Small::new("here");
    assert_eq!(image.push(lanyard.port(), "team/app", "v1", &[]), 201);
    let port = lanyard.port();
    let (path, upload) = (manifest("team/app", "v1"), "/v2/team/new/blobs/uploads/");
    for (host, own) in [
        ("127.0.0.1", true),
        ("localhost:5000", true),
        ("LOCALHOST.", true),
        ("[::1]:5000", true),
        ("[fe80::1%25eth0]", true),
        ("a.localhost", true),
        ("registry", true),
        ("printer.local", true),
        ("Registry.Example:5000", true),
        ("registry.example.", true),
        ("evil.example", false),
        ("evil.example:5000", false),
        ("registry.example.evil", false),
        ("x.registry.example", false),
        ("127.0.0.1.nip.io", false),
        ("localhost.evil.example", false),
        ("ai.", false),
        ("user@localhost", false),
        ("localhost,evil.example", false),
        ("", false),
    ] {
        let ask = |method: &str, path: &str, body: &[u8]| by_host(port, method, path, Some(host), body);
        for method in ["GET", "HEAD"] {
            // An invalid Host may be refused as a bad request.
            let status = ask(method, &path, b"").status;
            assert_eq!(status == 200, own, "{method} {host:?}: {status}");
        }
        let begun = ask("POST", upload, b"");
        assert_eq!(begun.status == 202, own, "{host:?}: {}", begun.text());
        let put = ask("PUT", &manifest("team/app", "v2"), &image.manifest);
        assert_eq!(put.status == 201, own, "{host:?}");
        if !own && begun.status == 403 {
            assert!(begun.text().contains("names"), "it says what to do: {}", begun.text());
        }
        let deleted = ask("DELETE", &manifest("team/app", "v2"), b"");
        assert_eq!(deleted.status == 202, own, "{host:?}");
    }
    assert_eq!(by_host(port, "POST", upload, Some("evil.example"), b"").error_code(), "DENIED");
    assert_ne!(by_host(port, "GET", &path, None, b"").status, 200, "no Host");
    let headers = |more: &[(&str, &str)]| send(port, "GET", &path, more, b"").status;
    for site in ["cross-site", "same-site", "x"] {
        assert_eq!(headers(&[("Sec-Fetch-Site", site)]), 404, "{site}");
    }
    for site in ["same-origin", "none"] {
        assert_eq!(headers(&[("Sec-Fetch-Site", site)]), 200, "{site}");
    }
    assert_eq!(headers(&[("Origin", "http://127.0.0.1")]), 404);
    assert_ne!(headers(&[("Host", "evil.example")]), 200, "two of them");
}

/// With users, a client that asks by an unknown name signs in like any other.
#[test]
fn s32_a_user_pushes_by_any_name() {
    let house = House::start("", "");
    let ann = basic(ANN);
    let mut connection = Connection::open(house.port());
    for (authorization, status) in [("", 401), (&*format!("Authorization: {ann}\r\n"), 202)] {
        connection.send(
            format!("POST /v2/team/app/blobs/uploads/ HTTP/1.1\r\nHost: strange.example\r\n{authorization}Content-Length: 0\r\n\r\n")
                .as_bytes(),
        );
        let answer = connection.answer("POST").unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(status == 401, answer.text().contains("names"), "{}", answer.text());
    }
}
