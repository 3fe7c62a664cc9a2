//! Registries that hide from anonymous clients that they have a sign-in.

use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

use futures_util::future::join_all;

use super::*;
use crate::upstream::script::{refused, status};

const REALM: &str = "https://auth.registry.example/token";

/// Answers `code` without a challenge to anonymous requests. `/v2/` sends `challenge`.
fn hiding(code: u16, challenge: String) -> impl Fn(&Request) -> Act + Send + Sync + 'static {
    move |r| match (r.url.host_str(), r.url.path(), authorization(r)) {
        (Some("auth.registry.example"), _, Some(shown)) if shown == basic("right") => {
            status(200).body(r#"{"token":"t"}"#).reply()
        }
        (Some("auth.registry.example"), ..) => status(401).reply(),
        (_, "/v2/", None) => status(401).header("www-authenticate", &challenge).reply(),
        (_, _, Some(shown)) if shown == "Bearer t" || shown == basic("right") => status(200).body(image()).reply(),
        (..) => status(code).reply(),
    }
}

fn bearer() -> String {
    format!(r#"Bearer realm="{REALM}",service="s",scope="registry:catalog:*""#)
}

#[tokio::test(start_paused = true)]
async fn with_credentials_the_challenge_is_fetched_first_and_once() {
    for code in [404, 403, 401] {
        for (challenge, tokens) in [(bearer(), 1), ("Basic realm=\"r\"".to_owned(), 0)] {
            let (upstream, script) = upstream_of(signed_in("right"), Mode::Auto, hiding(code, challenge.clone()));
            for result in join_all((0..50).map(|_| pull(&upstream, "library/x"))).await {
                result.unwrap_or_else(|error| panic!("{code} {challenge}: {error:?}"));
            }
            assert_eq!(script.asked()[0], "GET /v2/");
            assert_eq!(script.asked().iter().filter(|line| *line == "GET /v2/").count(), 1, "{code} {challenge}");
            assert_eq!((script.count("/token"), script.count("manifests")), (tokens, 50), "no request is anonymous");
        }
    }
    // Every kind of request brings the credentials along.
    let (upstream, script) = upstream_of(signed_in("right"), Mode::Auto, hiding(404, bearer()));
    upstream.head_manifest(&repository(), &tag()).await.unwrap();
    upstream.head_blob(&repository(), &digest(b"")).await.unwrap();
    upstream.blob(&repository(), &digest(b""), 0, None).await.unwrap();
    assert_eq!((script.count("/token"), script.asked().len()), (1, 5));
    assert!(script.asked()[1].contains("scope=repository%3Alibrary%2Fx%3Apull"), "{:?}", script.asked());
}

#[tokio::test(start_paused = true)]
async fn without_credentials_nothing_is_fetched_first() {
    let (upstream, script) = upstream(hiding(404, bearer()));
    assert!(matches!(pull(&upstream, "library/x").await, Err(UpstreamError::NotFound { .. })));
    assert_eq!(script.asked(), ["GET /v2/library/x/manifests/latest"]);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_wants_nothing_is_asked_plainly() {
    for code in [200, 404, 302] {
        let (upstream, script) = upstream_of(signed_in("right"), Mode::Auto, move |r| match r.url.path() {
            "/v2/" => status(code).reply(),
            path if path.contains("missing") => status(404).reply(),
            _ => status(200).body(image()).reply(),
        });
        for _ in 0..20 {
            pull(&upstream, "library/x").await.unwrap();
        }
        assert_eq!((script.count("manifests"), script.asked().len()), (20, 21), "{code}");
        // Missing content costs a question a second at most.
        for _ in 0..20 {
            assert!(matches!(pull(&upstream, "library/missing").await, Err(UpstreamError::NotFound { .. })));
        }
        assert!(script.asked().len() <= 42, "{code}: {}", script.asked().len());
        assert!(script.requests().iter().all(|r| authorization(r).is_none()));
    }
}

/// While `/v2/` or the token server does not answer, a 404 to an anonymous request proves nothing.
#[tokio::test(start_paused = true)]
async fn what_a_stranger_is_told_in_an_outage_is_not_believed() {
    for (ping, token) in [(503, 200), (0, 200), (429, 200), (401, 503), (401, 0)] {
        let code = Arc::new(AtomicU16::new(1));
        let healed = Arc::clone(&code);
        let usual = hiding(404, bearer());
        let (upstream, _) = upstream_of(signed_in("right"), Mode::Auto, move |r| {
            let fault = match (healed.load(SeqCst), r.url.path()) {
                (0, _) => 200,
                (_, "/v2/") if ping != 401 => ping,
                (_, "/token") => token,
                _ => 200,
            };
            match fault {
                0 => refused(),
                200 => usual(r),
                code => status(code).reply(),
            }
        });
        for _ in 0..3 {
            let error = pull(&upstream, "library/x").await.unwrap_err();
            assert!(
                !matches!(error, UpstreamError::NotFound { .. } | UpstreamError::Denied { .. }),
                "{ping} {token}: {error:?}"
            );
        }
        code.store(0, SeqCst);
        let begun = tokio::time::Instant::now();
        while let Err(error) = pull(&upstream, "library/x").await {
            assert!(begun.elapsed() < Duration::from_secs(10), "{ping} {token}: {error:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        upstream.transport.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s1_a_foreign_realm_at_the_first_look_is_never_asked() {
    for code in [404, 401, 403] {
        let foreign = r#"Bearer realm="https://evil.example/token""#.to_owned();
        let (upstream, script) = upstream_of(signed_in("CANARY"), Mode::Auto, hiding(code, foreign));
        let error = pull(&upstream, "library/x").await.unwrap_err();
        assert!(error.message().contains("evil.example") && error.message().contains("token_hosts"), "{error:?}");
        assert!(script.requests().iter().all(|r| authorization(r).is_none()), "{:?}", script.asked());
        assert!(script.requests().iter().all(|r| r.url.host_str() == Some("registry.example")));
    }
}

#[tokio::test(start_paused = true)]
async fn s3_a_first_look_that_is_redirected_shows_nothing() {
    let (upstream, script) = upstream_of(signed_in("CANARY"), Mode::Auto, |r| match r.url.path() {
        "/v2/" => status(401).header("www-authenticate", "Basic realm=x").from("https://evil.example/v2/").reply(),
        _ => status(200).body(image()).reply(),
    });
    pull(&upstream, "library/x").await.unwrap();
    assert!(script.requests().iter().all(|r| authorization(r).is_none()));
}
