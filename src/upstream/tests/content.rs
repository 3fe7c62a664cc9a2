//! Manifests and blobs: which answers are believed.

use super::*;
use crate::{
    oci::{DOCKER_IMAGE, OCI_INDEX},
    upstream::{
        RequestKind, Spend, UpstreamError,
        fetcher::FetchError,
        script::{Scripted, status},
    },
};

fn manifest_answer(bytes: &[u8]) -> Scripted {
    status(200).header("content-type", OCI_IMAGE).header("docker-content-digest", digest(bytes)).body(bytes)
}

async fn fetch(
    reference: &Reference,
    answer: impl Fn() -> Scripted + Send + Sync + 'static,
) -> Result<super::super::FetchedManifest, UpstreamError> {
    let (upstream, _) = upstream(move |_| answer().reply());
    upstream.manifest(&repository(), reference, Spend::Needed).await
}

fn is_untrue<T: std::fmt::Debug>(result: Result<T, UpstreamError>) {
    match result {
        Err(error @ UpstreamError::Untrue { .. }) => assert!(!error.is_outage()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_manifest_is_asked_for_in_all_types_under_the_prefix() {
    let base = config("https://registry.example/artifactory/docker/");
    let (upstream, script) = upstream_of(base, Mode::Auto, |_| manifest_answer(&image()).reply());
    let manifest = upstream.manifest(&repository(), &tag(), Spend::Needed).await.unwrap();
    assert_eq!((manifest.digest, manifest.media_type.as_str()), (digest(&image()), OCI_IMAGE));
    assert_eq!(manifest.bytes, image());
    assert_eq!(script.asked(), ["GET /artifactory/docker/v2/library/x/manifests/latest"]);
    let request = &script.requests()[0];
    let accept = request.headers["accept"].to_str().unwrap();
    assert!(accept.contains(OCI_INDEX) && accept.contains(DOCKER_IMAGE));
    assert_eq!(request.headers["accept-encoding"], "identity");
    assert!(request.headers["user-agent"].to_str().unwrap().starts_with("lanyard/"));
    let seen = upstream.snapshot();
    assert_eq!((seen.requests(RequestKind::Manifest), seen.bytes_in), (1, image().len() as u64));
}

#[tokio::test]
async fn s11_a_manifest_is_what_it_was_asked_as() {
    let by_digest = Reference::Digest(digest(&image()));
    assert!(fetch(&by_digest, || status(200).header("content-type", OCI_IMAGE).body(image())).await.is_ok());
    let other = || br#"{"schemaVersion":2,"layers":[1]}"#.to_vec();
    is_untrue(fetch(&by_digest, move || manifest_answer(&other())).await);
    // A wrong header does not matter if the digest is known, and does if it is not.
    let lies = move || status(200).header("docker-content-digest", digest(b"x")).body(image());
    assert!(fetch(&by_digest, lies).await.is_ok());
    is_untrue(fetch(&tag(), lies).await);
    let (upstream, _) = upstream(move |_| lies().reply());
    is_untrue(upstream.manifest(&repository(), &tag(), Spend::Needed).await);
    assert_eq!(upstream.snapshot().untrue, 1);
}

#[tokio::test]
async fn sha512_is_proven_as_well() {
    let long = Hasher::digest(Algorithm::Sha512, &image());
    let answer = move || status(200).header("docker-content-digest", long).body(image());
    assert_eq!(fetch(&Reference::Digest(long), answer).await.unwrap().digest, long);
    assert_eq!(fetch(&tag(), answer).await.unwrap().digest, long);
}

#[tokio::test]
async fn a_manifest_without_digest_needs_an_end() {
    assert!(fetch(&tag(), || status(200).body(image())).await.is_ok());
    let chunked = || status(200).without_length().header("transfer-encoding", "chunked").body(image());
    assert!(fetch(&tag(), chunked).await.is_ok());
    is_untrue(fetch(&tag(), || status(200).without_length().body(image())).await);
}

#[tokio::test]
async fn types_are_plain_or_taken_from_the_json() {
    let typed = |t: &'static str| move || status(200).header("content-type", t).body(image());
    let charset = "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8";
    assert_eq!(fetch(&tag(), typed(charset)).await.unwrap().media_type, DOCKER_IMAGE);
    assert_eq!(fetch(&tag(), typed("text/plain")).await.unwrap().media_type, OCI_IMAGE);
    assert_eq!(fetch(&tag(), || status(200).body(image())).await.unwrap().media_type, OCI_IMAGE);
    let bare = || status(200).body(r#"{"schemaVersion":2,"manifests":[]}"#);
    assert_eq!(fetch(&tag(), bare).await.unwrap().media_type, OCI_INDEX);
    is_untrue(fetch(&tag(), || status(200).header("content-type", "text/html").body("<html>")).await);
    is_untrue(fetch(&tag(), || status(200).body("{}")).await);
    is_untrue(fetch(&tag(), || status(200).body(r#"{"schemaVersion":1,"fsLayers":[]}"#)).await);
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    is_untrue(fetch(&tag(), typed(old)).await);
}

#[tokio::test]
async fn s9_a_manifest_has_a_limit() {
    let full = || format!(r#"{{"layers":[],"x":"{}"}}"#, "x".repeat((4 << 20) - 20)).into_bytes();
    assert_eq!(full().len(), 4 << 20);
    assert!(fetch(&tag(), move || status(200).body(full())).await.is_ok());
    is_untrue(fetch(&tag(), move || status(200).body(full()).body(" ")).await);
    let chunked = move || status(200).without_length().header("transfer-encoding", "chunked").body(full()).body(" ");
    is_untrue(fetch(&tag(), chunked).await);
    is_untrue(fetch(&tag(), || status(200).header("content-encoding", "gzip").body(image())).await);
}

#[tokio::test(start_paused = true)]
async fn a_truncated_manifest_is_asked_for_again() {
    let (upstream, script) = upstream(|_| status(200).body("{").breaks_off().reply());
    let result = upstream.manifest(&repository(), &tag(), Spend::Needed).await;
    assert!(matches!(result, Err(UpstreamError::Unreachable(FetchError::Broken { .. }))), "{result:?}");
    assert_eq!(script.count("GET"), 3);
    let short = fetch(&tag(), || status(200).without_length().header("content-length", "99").body(image())).await;
    assert!(matches!(short, Err(UpstreamError::Unreachable(FetchError::Broken { .. }))), "{short:?}");
}

#[tokio::test]
async fn a_head_tells_without_proof() {
    let (upstream, script) = upstream(|_| {
        let head = status(200).header("content-type", "a/b; charset=x").header("content-length", "7");
        head.header("docker-content-digest", digest(b"x")).reply()
    });
    let head = upstream.head_manifest(&repository(), &tag()).await.unwrap();
    assert_eq!((head.digest, head.media_type.as_deref(), head.size), (Some(digest(b"x")), Some("a/b"), Some(7)));
    assert_eq!(script.asked(), ["HEAD /v2/library/x/manifests/latest"]);
}

/// HEADs differ in worth: if a HEAD is about something else, a GET decides whether the repository
/// has the manifest.
#[tokio::test]
async fn a_head_that_is_refused_or_lies_is_followed_by_one_get() {
    let size = image().len() as u64;
    let head = |status_: u16, told: Option<Digest>, length: Option<u64>| {
        let mut answer = status(status_).header("content-type", OCI_IMAGE);
        if let Some(told) = told {
            answer = answer.header("docker-content-digest", told);
        }
        if let Some(length) = length {
            answer = answer.header("content-length", length);
        }
        answer
    };
    let it = Some(digest(&image()));
    for (status_, told, length, gets) in [
        (200, it, Some(size), 0),
        (200, it, None, 1),
        (200, it, Some(7), 1),
        (200, None, Some(size), 0),
        (200, None, None, 1),
        (200, None, Some(7), 1),
        (200, Some(digest(b"x")), Some(size), 1),
        (400, None, None, 1),
        (403, None, None, 1),
        (404, None, None, 1),
        (405, None, None, 1),
        (500, None, None, 1),
        (501, None, None, 1),
    ] {
        for has in [true, false] {
            let (upstream, script) = upstream(move |r| match (r.method.as_str(), has) {
                ("HEAD", _) => head(status_, told, length).reply(),
                (_, true) => manifest_answer(&image()).reply(),
                (_, false) => status(404).reply(),
            });
            let told = upstream.has_manifest(&repository(), &digest(&image()), size).await;
            assert_eq!(script.count("GET"), gets, "{status_} {length:?}");
            match told {
                Ok(media_type) => assert!(media_type.as_deref() == Some(OCI_IMAGE) && (has || gets == 0)),
                Err(error) => assert!(!has && matches!(error, UpstreamError::NotFound { .. }), "{status_}: {error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_blob_comes_whole_or_in_part() {
    let blob = b"0123456789";
    let (upstream, script) = upstream(move |r| match r.headers.get("range").map(|range| range.to_str().unwrap()) {
        None => status(200).body(blob).reply(),
        Some("bytes=4-") => status(206).header("content-range", "bytes 4-9/10").body(&blob[4..]).reply(),
        Some("bytes=2-3") => status(206).header("content-range", "bytes 2-3/10").body(&blob[2..4]).reply(),
        Some("bytes=5-") => status(200).body(blob).reply(),
        Some("bytes=6-") => status(206).header("content-range", "bytes 5-9/10").body(&blob[5..]).reply(),
        Some("bytes=7-") => status(206).body(&blob[7..]).reply(),
        Some(_) => status(416).header("content-range", "bytes */10").reply(),
    });
    let (repository, digest) = (repository(), digest(blob));
    for (from, to, offset, expected) in [
        (0, None, 0, &blob[..]),
        (4, None, 4, &blob[4..]),
        (2, Some(3), 2, &blob[2..4]),
        (5, None, 0, blob), // the source ignored the range
    ] {
        let mut answer = upstream.blob(&repository, &digest, from, to).await.unwrap();
        assert_eq!((answer.total, answer.offset, answer.length), (Some(10), offset, Some(expected.len() as u64)));
        assert_eq!(answer.body.chunk().await.unwrap().unwrap(), expected);
        assert!(answer.body.chunk().await.is_none());
    }
    assert!(script.requests()[0].headers.get("range").is_none());
    is_untrue(upstream.blob(&repository, &digest, 6, None).await);
    is_untrue(upstream.blob(&repository, &digest, 7, None).await);
    let past = upstream.blob(&repository, &digest, 10, None).await;
    assert!(matches!(past, Err(UpstreamError::RangeNotSatisfiable)), "{past:?}");
    assert_eq!(upstream.snapshot().bytes_in, 10 + 6 + 2 + 10);
}

/// The size from a blob's HEAD, and from a GET of one byte if the HEAD tells nothing.
#[tokio::test]
async fn a_size_is_believed_where_it_can_be() {
    type Size = Result<Option<u64>, ()>;
    type Case = (&'static str, fn() -> Scripted, Size, Size);
    let page = || status(200).header("content-type", "text/html; charset=utf-8");
    let cases: [Case; 7] = [
        ("a size", || status(200).without_length().header("content-length", "9"), Ok(Some(9)), Ok(Some(1))),
        ("none", || status(200).without_length(), Ok(None), Ok(Some(1))),
        ("0", || status(200).without_length().header("content-length", "0"), Ok(None), Ok(Some(1))),
        ("refused", || status(405), Ok(None), Ok(Some(1))),
        ("a page", || status(200).header("content-type", "text/html"), Ok(Some(1)), Ok(Some(1))),
        ("pages", || status(200).header("content-type", "Text/HTML"), Err(()), Err(())),
        ("nothing", || status(200).header("content-length", "0").without_length(), Ok(None), Err(())),
    ];
    for (name, head, by_head, by_a_byte) in cases {
        let (upstream, _) = upstream(move |r| match (r.method == http::Method::HEAD, name) {
            (true, _) => head().reply(),
            (false, "pages") => page().body("<html>").reply(),
            (false, "nothing") => status(200).reply(),
            (false, _) => status(200).body("x").reply(),
        });
        let (repository, digest) = (repository(), digest(b"x"));
        let told = |size: Result<Option<u64>, UpstreamError>| size.map_err(|error| is_untrue::<()>(Err(error)));
        assert_eq!(told(upstream.head_blob(&repository, &digest).await), by_head, "{name}");
        assert_eq!(told(upstream.blob_size_by_a_byte(&repository, &digest).await), by_a_byte, "{name}");
    }
    let (upstream, _) = upstream(|_| status(200).without_length().header("content-length", "0").reply());
    assert_eq!(upstream.head_blob(&repository(), &digest(b"")).await.unwrap(), Some(0), "nothing is empty");
}

#[tokio::test]
async fn a_blob_body_is_never_short_nor_long() {
    let (upstream, _) = upstream(|r| {
        let told = if r.url.path().ends_with(&digest(b"short").hex()) { "9" } else { "1" };
        status(200).without_length().header("content-length", told).body("ab").reply()
    });
    let mut short = upstream.blob(&repository(), &digest(b"short"), 0, None).await.unwrap();
    assert!(short.body.chunk().await.unwrap().is_ok());
    assert!(matches!(short.body.chunk().await, Some(Err(FetchError::Broken { .. }))));
    let mut long = upstream.blob(&repository(), &digest(b"long"), 0, None).await.unwrap();
    assert!(matches!(long.body.chunk().await, Some(Err(FetchError::Protocol { .. }))));
}

#[tokio::test]
async fn a_content_networks_refusal_is_not_the_registrys() {
    let (upstream, _) =
        upstream(|_| status(403).from("https://cdn.example/x?sig=CANARY").body("<e>CANARY</e>").reply());
    let (repository, digest) = (repository(), digest(b""));
    assert_eq!(upstream.head_blob(&repository, &digest).await.unwrap(), None);
    let refused = upstream.blob(&repository, &digest, 0, None).await.unwrap_err();
    assert!(matches!(refused, UpstreamError::Failed { status: 403, .. }), "{refused:?}");
    assert!(!format!("{refused:?} {refused}").contains("CANARY"));
}

#[tokio::test]
async fn answers_are_told_in_upstreams_words() {
    let errors = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such tag"}]}"#;
    let (upstream, script) = upstream(move |_| status(404).body(errors).reply());
    let missing = upstream.manifest(&repository(), &tag(), Spend::Needed).await.unwrap_err();
    assert!(matches!(missing, UpstreamError::NotFound { .. }) && !missing.is_outage());
    assert_eq!(missing.message(), "no such tag");
    assert_eq!(script.count("GET"), 1, "an answer is not asked for twice");
    assert_eq!(upstream.head_blob(&repository(), &digest(b"")).await.unwrap_err().message(), "not found");
}

#[tokio::test]
async fn what_is_not_allowed_is_not_asked() {
    let mut blocking = config(BASE);
    blocking.block = vec!["library/x".parse().unwrap()];
    let (upstream, script) = upstream_of(blocking, Mode::Auto, |_| status(200).reply());
    let blocked = upstream.tags(&repository()).await.unwrap_err();
    assert!(matches!(blocked, UpstreamError::Blocked) && !blocked.is_outage());
    assert!(upstream.allows(&"library/y".parse().unwrap()) && !upstream.allows(&repository()));
    let (upstream, offline) = upstream_of(config(BASE), Mode::Offline, |_| status(200).reply());
    assert!(upstream.tags(&repository()).await.unwrap_err().is_outage());
    assert_eq!(script.asked().len() + offline.asked().len(), 0);
}
