//! Which answers promise that content stays (K7): principals x names x requests. A promise is a
//! lease that an eviction respects, so whoever can make one can fill the cache for an hour.

use super::{ANN, BOB, ELSEWHERE, House, Small, basic, mirror::mirror_port, send};
use crate::{
    admin,
    cli::stderr,
    hub::{Hub, digest_of},
    lanyard::Lanyard,
    pull::{config, mirror_with},
    push::{OCI_IMAGE, Pusher},
    wire::{ask, blob, eventually, get},
};

const RULES: &str = r#"
[[access]]
who = ["anonymous"]
repositories = ["**"]
actions = ["pull"]
[[access]]
who = ["loopback"]
repositories = ["here/**"]
actions = ["push"]
[[access]]
who = ["user:ann"]
repositories = ["ann/**", "other/**"]
actions = ["pull", "push", "delete"]
"#;

/// Whether a client was promised that the content stays.
fn promised(lanyard: &Lanyard, digest: &str) -> bool {
    let output = admin::command(lanyard, &["ls", "--json", "--digest", digest]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["why"].as_array().unwrap().contains(&"promised".into())
}

/// Which digest of the house a request asks for.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Of {
    /// ann/app holds it.
    Ann,
    /// here/app holds it.
    Here,
    /// docker.io/library/base holds it, and no hosted repository does.
    Cached,
}

use Of::{Ann, Cached, Here};

/// Who, the request, its answer's status, and whether it promises. `{}` is the digest.
type Row = (&'static str, Of, &'static str, u16, bool);

const TABLE: &[Row] = &[
    // Whoever may push, and is told by HEAD that the hosted repository has it.
    ("ann", Ann, "HEAD /v2/ann/app/blobs/{}", 200, true),
    ("ann by token", Ann, "HEAD /v2/ann/app/blobs/{}", 200, true),
    ("loopback", Here, "HEAD /v2/here/app/blobs/{}", 200, true),
    // The same, and the answer is no.
    ("ann", Cached, "HEAD /v2/ann/app/blobs/{}", 404, false),
    ("ann", Here, "HEAD /v2/ann/app/blobs/{}", 404, false),
    ("ann", Ann, "HEAD /v2/other/app/blobs/{}", 404, false),
    ("loopback", Cached, "HEAD /v2/here/app/blobs/{}", 404, false),
    // Whoever may only pull.
    ("anonymous", Ann, "HEAD /v2/ann/app/blobs/{}", 200, false),
    ("anonymous", Cached, "HEAD /v2/ann/app/blobs/{}", 404, false),
    ("bob", Ann, "HEAD /v2/ann/app/blobs/{}", 200, false),
    ("wrong", Ann, "HEAD /v2/ann/app/blobs/{}", 200, false),
    ("loopback", Ann, "HEAD /v2/ann/app/blobs/{}", 200, false),
    ("ann", Here, "HEAD /v2/here/app/blobs/{}", 200, false),
    ("bob by token", Ann, "HEAD /v2/ann/app/blobs/{}", 200, false),
    // A pull promises nothing to anybody.
    ("ann", Ann, "GET /v2/ann/app/blobs/{}", 200, false),
    ("ann that has it", Ann, "GET /v2/ann/app/blobs/{}", 304, false),
    ("ann", Cached, "GET /v2/ann/app/blobs/{}", 404, false),
    ("ann", Ann, "GET /v2/ann/app/manifests/{}", 404, false),
    ("ann", Ann, "HEAD /v2/ann/app/manifests/{}", 404, false),
    // The name of an upstream takes no push, however it is spelled.
    ("ann", Cached, "HEAD /v2/library/base/blobs/{}", 200, false),
    ("ann", Cached, "HEAD /v2/base/blobs/{}", 200, false),
    ("ann", Cached, "HEAD /v2/docker.io/library/base/blobs/{}", 200, false),
    ("ann", Cached, "HEAD /docker.io/v2/library/base/blobs/{}", 200, false),
    ("ann", Cached, "HEAD /v2/library/base/blobs/{}?ns=docker.io", 200, false),
    ("ann", Cached, "HEAD /v2/ann/app/blobs/{}?ns=docker.io", 404, false),
    // Nor does an address that only pulls.
    ("mirror", Ann, "HEAD /v2/ann/app/blobs/{}", 200, false),
    ("mirror", Cached, "HEAD /v2/ann/app/blobs/{}", 404, false),
    ("mirror", Cached, "HEAD /v2/library/base/blobs/{}", 200, false),
    // A mount, and one that fails.
    ("ann", Cached, "POST /v2/ann/app/blobs/uploads/?mount={}&from=library/base", 201, true),
    ("ann", Cached, "POST /v2/ann/app/blobs/uploads/?mount={}", 201, true),
    ("ann", Cached, "POST /v2/ann/app/blobs/uploads/?mount={}&from=library/none", 202, false),
    ("bob", Cached, "POST /v2/ann/app/blobs/uploads/?mount={}&from=library/base", 403, false),
    ("loopback", Cached, "POST /v2/ann/app/blobs/uploads/?mount={}&from=library/base", 401, false),
    // An upload whose bytes are others.
    ("ann", Cached, "POST /v2/ann/app/blobs/uploads/?digest={}", 400, false),
    ("ann", Cached, "DELETE /v2/ann/app/blobs/{}", 404, false),
];

#[test]
fn k7_only_who_may_push_and_is_told_yes_is_promised_anything() {
    let hub = Hub::start();
    let layers = TABLE.iter().filter(|row| row.1 == Cached).count();
    let image = (0..layers).fold(hub.image("library/base", "1"), |image, n| image.layer(1000 + n as u64)).publish();
    let before = "mirror_listen = \"127.0.0.1:0\"\n[hosted]\nnamespaces = [\"ann/**\", \"here/**\", \"other/**\"]";
    let mut house = House::start(before, &config(&hub, RULES));
    let (ann, bob, wrong) = (basic(ANN), basic(BOB), basic(("ann", "wrong")));
    get(house.port(), "/v2/library/base/manifests/1");
    let mut cached: Vec<_> = image.platforms[0].layers.iter().collect();
    for digest in &cached {
        assert_eq!(digest_of(&get(house.port(), &blob("library/base", digest)).body), **digest);
    }
    let digests: Vec<String> = TABLE
        .iter()
        .enumerate()
        .map(|(n, row)| {
            let small = Small::new(&format!("content {n}"));
            let as_ann = [ELSEWHERE, ("Authorization", ann.as_str())];
            let (repo, headers) = match row.1 {
                Ann => ("ann/app", &as_ann[..]),
                Here => ("here/app", &[][..]),
                Cached => return cached.pop().unwrap().clone(),
            };
            assert_eq!(small.push(house.port(), repo, &format!("v{n}"), headers), 201);
            small.blob()
        })
        .collect();
    // The leases of the pushes are in memory.
    house.lanyard.restart();
    let mirror = mirror_port(&house);
    for ((who, of, request, status, promises), digest) in TABLE.iter().zip(&digests) {
        assert!(!promised(&house.lanyard, digest), "nobody was told of it yet: {who} {request}");
        let (method, path) = request.split_once(' ').unwrap();
        let (port, path) = (if *who == "mirror" { mirror } else { house.port() }, path.replace("{}", digest));
        let scope = ["repository:ann/app:pull,push"];
        let known = format!("\"{digest}\"");
        let bearer = |user| format!("Bearer {}", house.token(Some(user), &scope).1);
        let (authorization, more) = match *who {
            "ann" => (ann.clone(), Some(ELSEWHERE)),
            "ann that has it" => (ann.clone(), Some(("If-None-Match", known.as_str()))),
            "bob" => (bob.clone(), Some(ELSEWHERE)),
            "wrong" => (wrong.clone(), Some(ELSEWHERE)),
            "ann by token" => (bearer(ANN), Some(ELSEWHERE)),
            "bob by token" => (bearer(BOB), Some(ELSEWHERE)),
            "anonymous" => (String::new(), Some(ELSEWHERE)),
            "loopback" => (String::new(), None),
            "mirror" => (ann.clone(), None),
            unknown => panic!("who is {unknown}?"),
        };
        let mut headers: Vec<_> = more.into_iter().collect();
        if !authorization.is_empty() {
            headers.push(("Authorization", &authorization));
        }
        let answer = send(port, method, &path, &headers, b"");
        assert_eq!(answer.status, *status, "{who} {of:?} {request}: {}", answer.text());
        assert_eq!(promised(&house.lanyard, digest), *promises, "{who} {of:?} {request}");
    }
}

/// Without users, whoever may push at this address is promised what it is told.
#[test]
fn k7_without_users_this_machine_alone_is_promised_anything() {
    let mut lanyard = Lanyard::start("mode = \"offline\"");
    let digests = ["a", "b"].map(|text| Pusher(lanyard.port()).blob("team/app", text.as_bytes()));
    Pusher(lanyard.port()).image("team/app", "v1", b"layer");
    lanyard.restart();
    for (headers, digest, promises) in [(&[ELSEWHERE][..], &digests[0], false), (&[], &digests[1], true)] {
        assert_eq!(ask(lanyard.port(), "HEAD", &blob("team/app", digest), headers).status, 200);
        assert_eq!(promised(&lanyard, digest), promises, "{headers:?}");
    }
}

/// A manifest that is refused promises none of the parts that its repository does not hold.
#[test]
fn k7_a_refused_manifest_promises_nothing_that_is_cached() {
    let hub = Hub::start();
    let image = hub.image("lib/base", "1").layer(1000).layer(2000).publish();
    let lanyard = mirror_with(&hub, "");
    let port = lanyard.port();
    get(port, "/v2/lib/base/manifests/1");
    for digest in image.blobs() {
        assert_eq!(get(port, &blob("lib/base", digest)).status, 200);
    }
    let unknown = digest_of(b"nowhere");
    let parts = [image.layer(0), image.layer(1), &unknown];
    let manifest = crate::push::image(image.config(), &parts).to_string();
    for repo in ["team/app", "lib/base"] {
        let answer = Pusher(port).manifest(repo, "v1", OCI_IMAGE, manifest.as_bytes());
        assert!(answer.status == 400 || answer.status == 404, "{repo} {}: {}", answer.status, answer.text());
        for digest in image.blobs() {
            // While its download ends it is held for a moment. A promise lasts for an hour.
            eventually(&format!("{digest} may go after {repo}"), || !promised(&lanyard, digest));
        }
    }
}

/// A storm of HEADs that are answered 404 keeps nothing in a full cache: new content is cached.
#[test]
fn k7_a_storm_of_questions_holds_nothing() {
    let hub = Hub::start();
    let old = (0..6).fold(hub.image("library/old", "1"), |image, n| image.layer(500_000 + n)).publish();
    let new = (0..4).fold(hub.image("library/new", "1"), |image, n| image.layer(510_000 + n)).publish();
    let lanyard = mirror_with(&hub, "[cache]\nmax_size = \"3 MiB\"\nmin_free = \"1 MiB\"\n");
    let port = lanyard.port();
    Pusher(port).image("team/app", "v1", b"layer");
    for digest in &old.platforms[0].layers {
        assert_eq!(get(port, &blob("library/old", digest)).status, 200);
    }
    for _ in 0..20 {
        for digest in &old.platforms[0].layers {
            for headers in [&[ELSEWHERE][..], &[]] {
                assert_eq!(ask(port, "HEAD", &blob("team/app", digest), headers).status, 404);
            }
        }
    }
    for digest in &new.platforms[0].layers {
        assert_eq!(get(port, &blob("library/new", digest)).outcome(), "filled");
        eventually("it is stored", || get(port, &blob("library/new", digest)).outcome() == "hit");
    }
}
