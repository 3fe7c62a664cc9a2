//! An upstream whose repositories live below a prefix that clients do not write.

use super::*;
use crate::upstream::{RequestKind, script::status};

fn below(prefix: &str) -> config::Upstream {
    config::Upstream { prefix: Some(prefix.parse().unwrap()), ..config("https://registry.example/base/") }
}

fn registry(request: &Request) -> Act {
    match (request.url.path(), authorization(request)) {
        ("/token", _) => status(200).body(r#"{"token":"t"}"#).reply(),
        (path, Some(_)) if path.ends_with("/tags/list") => match request.url.query() {
            Some("n=1000") => status(200)
                .header("link", r#"</v2/team/proxy/library/x/tags/list?n=2&last=a>; rel="next""#)
                .body(r#"{"name":"team/proxy/library/x","tags":["a"]}"#)
                .reply(),
            _ => status(200).body(r#"{"name":"team/proxy/library/x","tags":["b"]}"#).reply(),
        },
        (path, Some(_)) if path.contains("/referrers/") => {
            status(200).header("content-type", crate::oci::OCI_INDEX).body(r#"{"manifests":[]}"#).reply()
        }
        (_, Some(_)) => status(200).body(image()).reply(),
        (_, None) => status(401)
            .header("www-authenticate", r#"Bearer realm="https://registry.example/token",service="s""#)
            .reply(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_prefix_is_in_every_request_and_scope() {
    let (upstream, script) = upstream_of(below("team/proxy"), Mode::Auto, registry);
    upstream.manifest(&repository(), &tag(), Spend::Needed).await.unwrap();
    upstream.head_manifest(&repository(), &tag()).await.unwrap();
    upstream.blob(&repository(), &digest(b""), 0, None).await.unwrap();
    upstream.head_blob(&repository(), &digest(b"")).await.unwrap();
    let tags = upstream.tags(&repository()).await.unwrap();
    assert_eq!(tags.iter().collect::<Vec<_>>(), ["a", "b"]);
    upstream.referrers(&repository(), &digest(b"")).await.unwrap();
    pull(&upstream, "other").await.unwrap();
    let (blob, at) = (digest(b""), "/base/v2/team/proxy");
    assert_eq!(
        script.asked(),
        [
            format!("GET {at}/library/x/manifests/latest"),
            "GET /token?service=s&scope=repository%3Ateam%2Fproxy%2Flibrary%2Fx%3Apull".to_owned(),
            format!("GET {at}/library/x/manifests/latest"),
            format!("HEAD {at}/library/x/manifests/latest"),
            format!("GET {at}/library/x/blobs/{blob}"),
            format!("HEAD {at}/library/x/blobs/{blob}"),
            format!("GET {at}/library/x/tags/list?n=1000"),
            format!("GET {at}/library/x/tags/list?n=2&last=a"),
            format!("GET {at}/library/x/referrers/{blob}"),
            "GET /token?service=s&scope=repository%3Ateam%2Fproxy%2Fother%3Apull".to_owned(),
            format!("GET {at}/other/manifests/latest"),
        ]
    );
    assert_eq!(upstream.snapshot().requests(RequestKind::Token), 2);
}

#[tokio::test]
async fn the_probe_and_the_first_look_are_above_the_prefix() {
    let mut config = below("team");
    config.credentials = Some(Credentials { username: "robot".into(), password: "x".into() });
    let (upstream, script) = upstream_of(config, Mode::Auto, |_| status(200).body(image()).reply());
    pull(&upstream, "library/x").await.unwrap();
    assert_eq!(script.asked(), ["GET /base/v2/", "GET /base/v2/team/library/x/manifests/latest"]);
}

#[tokio::test]
async fn allow_and_block_are_about_the_names_that_clients_use() {
    let mut config = below("team");
    config.allow = vec!["library/*".parse().unwrap()];
    config.block = vec!["library/secret".parse().unwrap()];
    let (upstream, script) = upstream_of(config, Mode::Auto, |_| status(200).body(image()).reply());
    pull(&upstream, "library/x").await.unwrap();
    for blocked in ["library/secret", "team/library/x", "other/x"] {
        assert!(matches!(pull(&upstream, blocked).await, Err(UpstreamError::Blocked)), "{blocked}");
    }
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test]
async fn a_name_that_grows_too_long_is_the_registrys_to_refuse() {
    let (upstream, script) = upstream_of(below("team"), Mode::Auto, |_| status(404).reply());
    let long = "a".repeat(crate::oci::RepositoryName::MAX);
    assert!(matches!(pull(&upstream, &long).await, Err(UpstreamError::NotFound { .. })));
    assert!(script.asked()[0].contains(&format!("/team/{long}/")));
}
