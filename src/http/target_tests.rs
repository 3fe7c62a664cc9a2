use proptest::prelude::*;
use regex::Regex;

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A target in one line, so that tables stay readable.
fn read(path: &str) -> Result<String, (ErrorCode, u16)> {
    let spelled = |s: &Spelling| match &s.host {
        Some(host) => format!("[{host}] {}", s.name),
        None => s.name.to_string(),
    };
    match Target::parse(path) {
        Ok(Target::Manifest(s, reference)) => Ok(format!("manifest {} {reference}", spelled(&s))),
        Ok(Target::Blob(s, _)) => Ok(format!("blob {}", spelled(&s))),
        Ok(Target::Tags(s)) => Ok(format!("tags {}", spelled(&s))),
        Ok(Target::Referrers(s, _)) => Ok(format!("referrers {}", spelled(&s))),
        Ok(Target::Uploads(s)) => Ok(format!("uploads {}", spelled(&s))),
        Ok(Target::Upload(s, id)) => Ok(format!("upload {} {id}", spelled(&s))),
        Ok(Target::Ping(host)) => Ok(format!("ping {host:?}")),
        Ok(own @ (Target::Home | Target::Live | Target::Ready | Target::Metrics | Target::Token | Target::Catalog)) => {
            Ok(format!("{own:?}"))
        }
        Ok(Target::Admin(page)) => Ok(format!("admin {page:?}")),
        Err(error) => Err((error.code, error.status)),
    }
}

#[test]
fn reads_every_end_point() {
    for (path, means) in [
        ("/", "Home"),
        ("/livez", "Live"),
        ("/readyz", "Ready"),
        ("/metrics", "Metrics"),
        ("/token", "Token"),
        ("/api/v1/status", "admin Status"),
        ("/api/v1/repositories", "admin Repositories"),
        ("/api/v1/gc", "admin Collect"),
        ("/api/v1/trim", "admin Trim"),
        ("/v2/token", "Token"),
        ("/v2", "ping None"),
        ("/v2/", "ping None"),
        ("/docker.io/v2", "ping Some(docker.io)"),
        ("/docker.io/v2/", "ping Some(docker.io)"),
        ("/v2/_catalog", "Catalog"),
        ("/v2/a/manifests/latest", "manifest a latest"),
        ("/v2/library/busybox/manifests/1.36-musl", "manifest library/busybox 1.36-musl"),
        ("/docker.io/v2/library/busybox/manifests/latest", "manifest [docker.io] library/busybox latest"),
        ("/v2/localhost:5000/a/manifests/x", "manifest [localhost:5000] a x"),
        ("/localhost:5000/v2/a/manifests/x", "manifest [localhost:5000] a x"),
        ("/v2/docker.io/library/x/tags/list", "tags docker.io/library/x"),
        ("/v2/a/tags/list", "tags a"),
        ("/v2/a/blobs/uploads", "uploads a"),
        ("/v2/a/blobs/uploads/", "uploads a"),
        (
            "/v2/a/b/blobs/uploads/0b1fe0c8-7d4e-4b3a-9a52-6c1d8f0e2b47",
            "upload a/b 0b1fe0c8-7d4e-4b3a-9a52-6c1d8f0e2b47",
        ),
        ("/v2/v2/v2/manifests/v2", "manifest v2/v2 v2"),
    ] {
        assert_eq!(read(path).as_deref(), Ok(means), "{path}");
    }
    for (colon, name) in [(":", "a"), ("%3a", "a"), ("%3A", "a/b")] {
        let path = |word: &str| format!("/v2/{name}/{word}/sha256{colon}{HEX}");
        assert_eq!(read(&path("blobs")), Ok(format!("blob {name}")));
        assert_eq!(read(&path("referrers")), Ok(format!("referrers {name}")));
        assert_eq!(read(&path("manifests")), Ok(format!("manifest {name} sha256:{HEX}")));
    }
}

#[test]
fn the_last_keyword_splits() {
    for (path, means) in [
        ("/v2/a/manifests/b/tags/list", "tags a/manifests/b"),
        ("/v2/a/tags/list/manifests/x", "manifest a/tags/list x"),
        ("/v2/a/blobs/uploads/manifests/x", "manifest a/blobs/uploads x"),
        ("/v2/a/blobs/uploads/blobs/uploads/", "uploads a/blobs/uploads"),
        ("/v2/a/blobs/uploads/tags/list", "tags a/blobs/uploads"),
        ("/v2/manifests/manifests/manifests/manifests", "manifest manifests/manifests manifests"),
        ("/v2/a/manifests/uploads/manifests/list", "manifest a/manifests/uploads list"),
        ("/v2/a/manifests/blobs/uploads", "uploads a/manifests"),
    ] {
        assert_eq!(read(path).as_deref(), Ok(means), "{path}");
    }
}

#[test]
fn s13_refuses_what_is_no_path_of_the_specification() {
    use ErrorCode::*;
    let long = format!("/v2/{}/tags/list", "a".repeat(254));
    let digest = format!("sha256:{HEX}");
    for (path, error) in [
        ("", (Unsupported, 404)),
        ("*", (Unsupported, 404)),
        ("v2/", (Unsupported, 404)),
        ("//v2/", (Unsupported, 404)),
        ("/v2//", (Unsupported, 404)),
        ("/V2/", (Unsupported, 404)),
        ("/v3/", (Unsupported, 404)),
        ("/v2/a", (Unsupported, 404)),
        ("/v2/manifests/x", (Unsupported, 404)),
        ("/v2/a/tags/lists", (Unsupported, 404)),
        ("/v2/a/tags/list/", (Unsupported, 404)),
        ("/v2/a/uploads/x", (Unsupported, 404)),
        ("/livez/", (Unsupported, 404)),
        ("/../etc/passwd", (Unsupported, 404)),
        ("/Docker.io/v2/", (Unsupported, 404)),
        ("/docker.io/v2x/", (Unsupported, 404)),
        ("/v2//a/tags/list", (NameInvalid, 400)),
        ("/v2/a//tags/list", (NameInvalid, 400)),
        ("/v2/a//b/tags/list", (NameInvalid, 400)),
        ("/v2/A/tags/list", (NameInvalid, 400)),
        ("/v2/../tags/list", (NameInvalid, 400)),
        ("/v2/a/../b/tags/list", (NameInvalid, 400)),
        ("/v2/a%2fb/tags/list", (NameInvalid, 400)),
        ("/v2/%2e%2e/tags/list", (NameInvalid, 400)),
        ("/v2/a%5cb/tags/list", (NameInvalid, 400)),
        ("/v2/a%00/tags/list", (NameInvalid, 400)),
        ("/v2/a\\b/tags/list", (NameInvalid, 400)),
        ("/v2/ä/tags/list", (NameInvalid, 400)),
        ("/v2/a%3ab/tags/list", (NameInvalid, 400)),
        ("/v2/a:b/tags/list", (NameInvalid, 400)),
        ("/v2/a:99999/b/tags/list", (NameInvalid, 400)),
        (&long, (NameInvalid, 400)),
        ("/v2/a/manifests/", (ManifestInvalid, 400)),
        ("/v2/a/manifests/.x", (ManifestInvalid, 400)),
        ("/v2/a/manifests/..", (ManifestInvalid, 400)),
        ("/v2/a/manifests/a%20b", (ManifestInvalid, 400)),
        ("/v2/a/manifests/%2e%2e", (ManifestInvalid, 400)),
        ("/v2/a/manifests/sha256:baddigeststring", (DigestInvalid, 400)),
        ("/v2/a/manifests/sha256%3abad", (DigestInvalid, 400)),
        ("/v2/a/blobs/", (DigestInvalid, 400)),
        ("/v2/a/blobs/latest", (DigestInvalid, 400)),
        ("/v2/a/blobs/sha256:..%2f..", (DigestInvalid, 400)),
        ("/v2/a/referrers/x", (DigestInvalid, 400)),
        ("/v2/a/blobs/uploads/%2e%2e", (BlobUploadUnknown, 404)),
        ("/v2/a/blobs/uploads/a\\b", (BlobUploadUnknown, 404)),
    ] {
        assert_eq!(read(path), Err(error), "{path:?}");
    }
    let twice = digest.replace(':', "%3a%3a");
    assert_eq!(read(&format!("/v2/a/blobs/{twice}")), Err((DigestInvalid, 400)));
    assert_eq!(read(&format!("/v2/a/blobs/{digest}/")), Err((Unsupported, 404)));
}

/// The distribution project's route table, as one regex each, anchored.
struct Model(Vec<(&'static str, Regex)>);

impl Model {
    fn new() -> Self {
        let part = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*";
        let name = format!("({part}(?:/{part})*)");
        let tag = "([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})";
        let digest = "(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})";
        let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
        let route = |tail: &str| Regex::new(&format!("^/v2/{name}{tail}$")).unwrap();
        Model(vec![
            ("tags", route("/tags/list")),
            ("manifest", route(&format!("/manifests/(?:{tag}|{digest})"))),
            ("blob", route(&format!("/blobs/{digest}"))),
            ("referrers", route(&format!("/referrers/{digest}"))),
            ("uploads", route("/blobs/uploads/?")),
            ("upload", route(&format!("/blobs/uploads/({uuid})"))),
        ])
    }

    fn read(&self, path: &str) -> Option<String> {
        self.0.iter().find_map(|(kind, route)| {
            let found = route.captures(path)?;
            let name = found.get(1)?.as_str();
            Some(match (*kind, found.iter().skip(2).flatten().next()) {
                ("manifest" | "upload", Some(which)) => format!("{kind} {name} {}", which.as_str()),
                _ => format!("{kind} {name}"),
            })
        })
    }
}

/// Paths that are nearly right: words of the grammar and of attackers, in any order.
fn near_misses() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        8 => proptest::sample::select(vec![
            "a", "library", "manifests", "blobs", "uploads", "tags", "list", "referrers", "v2", "latest", "b.c", "_catalog",
        ]).prop_map(str::to_owned),
        2 => Just(format!("sha256:{HEX}")),
        2 => Just("0b1fe0c8-7d4e-4b3a-9a52-6c1d8f0e2b47".to_owned()),
        1 => proptest::sample::select(vec!["", "..", ".", "%2f", "%3a", "sha256:zz", "A", "a b", "\\", "ä", "a..b", "-"])
            .prop_map(str::to_owned),
        1 => "[a-z0-9._%:/-]{0,6}",
    ];
    proptest::collection::vec(word, 0..8).prop_map(|words| format!("/v2/{}", words.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50_000))]

    #[test]
    fn s13_agrees_with_the_model(path in near_misses()) {
        thread_local!(static MODEL: Model = Model::new());
        // Hosts with a port, `_catalog`, `/v2/` and escaped colons are lanyard's own; the model has
        // none.
        let ours = path.strip_prefix("/v2/").is_some_and(|rest| rest.split('/').next().is_some_and(|s| s.contains(':')))
            || path.contains("%3a") || path == "/v2/" || path == "/v2/_catalog";
        if !ours {
            prop_assert_eq!(read(&path).ok(), MODEL.with(|model| model.read(&path)), "{}", path);
        }
    }

    #[test]
    fn s13_never_panics_and_never_lets_an_escape_through(path in "(/(v2|[a-z.]{1,9}/v2)?)?[/a-zA-Z0-9._%:\\\\\\x00-\\x1f\u{80}-\u{2fff}-]{0,80}") {
        if let Ok(target) = Target::parse(&path) && let Some(s) = target.spelling() {
            prop_assert!(!s.name.as_str().contains("..") && !s.name.as_str().contains(['%', '\\', '\0']));
        }
    }
}

/// The paths in a `Location` are in the client's own spelling, also if its name contains such
/// words.
#[test]
fn the_base_is_the_path_up_to_the_end_of_the_name() {
    for (base, tail) in [
        ("/v2/a", "/blobs/uploads"),
        ("/v2/a", "/blobs/uploads/"),
        ("/v2/a/b", "/blobs/uploads/0b1fe0c8-7d4e-4b3a-9a52-6c1d8f0e2b47"),
        ("/v2/blobs/uploads", "/blobs/uploads/"),
        ("/v2/manifests/blobs/uploads", "/manifests/uploads"),
        ("/docker.io/v2/x/manifests", "/manifests/latest"),
        ("/v2/a", "/blobs/sha256:00"),
        ("/v2/blobs", "/blobs/sha256%3A00"),
    ] {
        assert_eq!(super::base(&format!("{base}{tail}")), base);
    }
}
