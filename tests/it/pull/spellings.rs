//! Three spellings of one name, one port, one store; and requests that are invalid.

use super::{mirror, mirror_with};
use crate::{
    hub::{Hub, digest_of},
    wire::{Connection, ask, blob, get},
};

const REPO: &str = "library/busybox";

/// Seen in other caches: "one port, one root: dockerd mirror, containerd ns=, podman prefix".
#[test]
fn every_spelling_means_the_same_content() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1000).publish();
    let lanyard = mirror(&hub);
    let paths = [
        "/v2/library/busybox",
        "/v2/busybox",
        "/v2/docker.io/library/busybox",
        "/v2/docker.io/busybox",
        "/docker.io/v2/library/busybox",
    ];
    for path in paths {
        for query in ["", "?ns=docker.io"] {
            if path.contains("docker.io") && path.starts_with("/v2") && query.is_empty() || !path.contains("docker.io")
            {
                let answer = get(lanyard.port(), &format!("{path}/manifests/latest{query}"));
                assert_eq!((answer.status, &answer.body), (200, &image.bytes), "{path}{query}");
                let answer = get(lanyard.port(), &format!("{path}/blobs/{}{query}", image.layer(0)));
                assert_eq!((answer.status, digest_of(&answer.body)), (200, image.layer(0).to_owned()));
            }
        }
    }
    // containerd with override_path sends both.
    let both = get(lanyard.port(), "/v2/docker.io/library/busybox/manifests/latest?ns=docker.io");
    assert_eq!((both.status, both.body), (200, image.bytes.clone()));
    assert_eq!(get(lanyard.port(), "/docker.io/v2/").status, 200);
    assert_eq!((hub.manifest_gets(), hub.blob_gets(image.layer(0))), (1, 1), "one download for all spellings");
}

/// distribution-spec, "Registry Proxying": the answer to a request with `ns=` says that the
/// parameter counted, and no other answer does.
#[test]
fn a_namespace_that_counted_is_told_back() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1000).publish();
    let lanyard = mirror_with(&hub, "[hosted]\nnamespaces = [\"team/**\"]");
    let missing = digest_of(b"nobody has this");
    let ends = [
        ("manifests/latest".to_owned(), 200),
        (format!("manifests/{}", image.digest), 200),
        (format!("blobs/{}", image.layer(0)), 200),
        ("tags/list".to_owned(), 200),
        (format!("referrers/{}", image.digest), 200),
        ("manifests/none".to_owned(), 404),
        (format!("blobs/{missing}"), 404),
    ];
    let bases = ["/v2/library/busybox", "/v2/busybox", "/v2/docker.io/library/busybox", "/docker.io/v2/busybox"];
    for (base, (end, status)) in bases.iter().flat_map(|base| ends.iter().map(move |end| (base, end))) {
        for method in ["GET", "HEAD"] {
            for (query, told) in [
                ("?ns=docker.io", Some("docker.io")),
                ("?x=y&ns=docker%2eio", Some("docker.io")),
                // The value as it was sent, also where it is another name of the same upstream.
                ("?ns=index.docker.io", Some("index.docker.io")),
                ("", None),
                ("?x=ns", None),
            ] {
                let path = format!("{base}/{end}{query}");
                let answer = ask(lanyard.port(), method, &path, &[]);
                // HEAD of a blob under a name that can be pushed to has other rules.
                assert!(answer.status == *status || method == "HEAD", "{method} {path}: {}", answer.status);
                assert_eq!(answer.header("oci-namespace"), told, "{method} {path}");
            }
        }
    }
    let path = format!("/v2/{REPO}/blobs/{}?ns=docker.io", image.layer(0));
    for (header, value, status) in [
        ("Range", "bytes=0-9".to_owned(), 206),
        ("Range", "bytes=0-9,20-29".to_owned(), 206),
        ("Range", "bytes=5000-".to_owned(), 416),
        ("If-None-Match", format!("\"{}\"", image.layer(0)), 304),
    ] {
        let answer = ask(lanyard.port(), "GET", &path, &[(header, &value)]);
        assert_eq!((answer.status, answer.header("oci-namespace")), (status, Some("docker.io")), "{header}: {value}");
    }
    // It did not count where the upstream does not exist, and where nothing is looked up.
    for path in [
        &*format!("/v2/{REPO}/manifests/latest?ns=evil.example.com"),
        "/v2/",
        "/v2/?ns=docker.io",
        "/livez?ns=docker.io",
    ] {
        assert_eq!(get(lanyard.port(), path).header("oci-namespace"), None, "{path}");
    }
    let push = ask(lanyard.port(), "POST", &format!("/v2/{REPO}/blobs/uploads/?ns=docker.io"), &[]);
    assert_eq!((push.status, push.header("oci-namespace")), (403, Some("docker.io")));
    hub.go_down();
    let answer = get(lanyard.port(), &format!("/v2/{REPO}/manifests/other?ns=docker.io"));
    assert_eq!((answer.status >= 500, answer.header("oci-namespace")), (true, Some("docker.io")), "an outage");
}

/// S4: the list of upstreams is closed.
#[test]
fn an_unknown_upstream_is_404_and_nobody_is_asked() {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    let lanyard = mirror(&hub);
    for ns in ["evil.example.com", "127.0.0.1:1", "169.254.169.254", "localhost", "docker.io.example.com", "%00", "a/b"]
    {
        let answer = get(lanyard.port(), &format!("/v2/{REPO}/manifests/latest?ns={ns}"));
        assert!(matches!(answer.status, 400 | 404), "{ns}: {}", answer.status);
    }
    let answer = get(lanyard.port(), &format!("/v2/{REPO}/manifests/latest?ns=evil.example.com"));
    assert_eq!((answer.status, answer.error_code()), (404, "NAME_UNKNOWN".to_owned()));
    assert_eq!(hub.requests().len(), 0);
}

/// Seen in other caches: "dockerd sends Hub credentials to mirrors".
#[test]
fn foreign_credentials_are_ignored() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(100).publish();
    let lanyard = mirror(&hub);
    for value in ["Basic dXNlcjpwYXNz", "Bearer nonsense", "Basic Og==", "rubbish"] {
        for path in ["/v2/".to_owned(), format!("/v2/{REPO}/manifests/latest"), blob(REPO, image.layer(0))] {
            assert_eq!(ask(lanyard.port(), "GET", &path, &[("Authorization", value)]).status, 200, "{path}");
        }
    }
    assert!(!lanyard.logs().contains("dXNlcjpwYXNz"), "S18");
    let leaked = hub.count(|r| r.header("authorization").is_some_and(|a| a.contains("dXNlcjpwYXNz")));
    assert_eq!(leaked, 0, "nor are they passed on");
}

/// S5, S16: hosted names are never looked up upstream.
#[test]
fn a_hosted_namespace_never_reaches_upstream() {
    let hub = Hub::start();
    hub.image("team/app", "latest").publish();
    let lanyard = mirror_with(&hub, "[hosted]\nnamespaces = [\"team/**\"]");
    assert_eq!(get(lanyard.port(), "/v2/team/app/manifests/latest").status, 404);
    assert_eq!(hub.requests().len(), 0);
}

/// S5: a digest that one repository brought does not belong to another.
#[test]
fn a_digest_is_given_out_only_where_its_repository_has_it() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1000).publish();
    hub.image("library/other", "latest").layer(7).publish();
    hub.set_private("library/secret");
    let lanyard = mirror(&hub);
    get(lanyard.port(), &format!("/v2/{REPO}/manifests/latest"));
    assert_eq!(get(lanyard.port(), &blob(REPO, image.layer(0))).status, 200);
    let secret = get(lanyard.port(), &blob("library/secret", image.layer(0)));
    assert_eq!(secret.status, 404, "{}", secret.text());
    assert_eq!(get(lanyard.port(), &format!("/v2/library/secret/manifests/{}", image.digest)).status, 404);
}

/// "bad names, digests, ranges and paths are 400/404/416 in the spec's JSON, never a panic".
#[test]
fn bad_input_gets_the_specification_s_errors() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(100).publish();
    let lanyard = mirror(&hub);
    get(lanyard.port(), &blob(REPO, image.layer(0)));
    for (path, status) in [
        ("/v2/UPPER/manifests/latest", 400),
        ("/v2/a//b/manifests/latest", 400),
        ("/v2/../../etc/passwd", 400),
        ("/v2/a/../b/manifests/latest", 400),
        ("/v2/a%2fb/manifests/latest", 400),
        ("/v2/a%00/manifests/latest", 400),
        ("/v2/library/busybox/manifests/.bad", 400),
        ("/v2/library/busybox/manifests/sha256:zz", 400),
        ("/v2/library/busybox/blobs/sha256:zz", 400),
        ("/v2/library/busybox/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400),
        ("/v2/library/busybox/tags/list?n=-1", 400),
        ("/v2/library/busybox/tags/list?n=x", 400),
        ("/v2/library/busybox/nothing/here", 404),
        ("/nothing", 404),
    ] {
        let answer = get(lanyard.port(), path);
        assert!(answer.status == status || (status == 400 && answer.status == 404), "{path}: {}", answer.status);
        assert!(!answer.error_code().is_empty(), "{path}: {}", answer.text());
    }
    let answer = ask(lanyard.port(), "GET", &blob(REPO, image.layer(0)), &[("Range", "bytes=100-")]);
    assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */100")));
    let answer = ask(lanyard.port(), "PUT", "/v2/library/busybox/manifests/latest", &[]);
    assert_eq!((answer.status, answer.error_code()), (403, "DENIED".to_owned()));
    let answer = ask(lanyard.port(), "POST", "/v2/library/busybox/tags/list", &[]);
    assert_eq!((answer.status, answer.error_code()), (405, "UNSUPPORTED".to_owned()));
    assert!(!lanyard.logs().contains("panicked"));
}

/// WIRE.md: a TLS hello on the plain port must be answered with bytes that begin `HTTP/1.1 400`.
#[test]
fn a_tls_hello_is_answered_in_plain_http() {
    let hub = Hub::start();
    let lanyard = mirror(&hub);
    let mut connection = Connection::open(lanyard.port());
    let mut hello = vec![0x16, 0x03, 0x01, 0x00, 0xf4, 0x01, 0x00, 0x00, 0xf0, 0x03, 0x03];
    hello.resize(249, 0x11);
    connection.send(&hello);
    assert!(connection.read_body(12).starts_with(b"HTTP/1.1 400"));
}

/// Tag lists are passed through, cached and paged.
#[test]
fn tags_are_listed_and_paged() {
    let hub = Hub::start();
    for n in 0..150 {
        hub.image(REPO, &format!("v{n:03}")).publish();
    }
    let lanyard = mirror(&hub);
    let all = get(lanyard.port(), "/v2/library/busybox/tags/list");
    assert_eq!(all.json()["tags"].as_array().unwrap().len(), 150);
    let page = get(lanyard.port(), "/v2/library/busybox/tags/list?n=10&last=v004");
    assert_eq!(page.json()["tags"][0], "v005");
    assert_eq!(page.json()["tags"].as_array().unwrap().len(), 10);
    assert!(page.header("link").is_some_and(|l| l.contains("last=v014") && l.contains("rel=\"next\"")));
    assert_eq!(page.outcome(), "hit");
}
