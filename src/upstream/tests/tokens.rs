//! Which server sees which credentials: tokens, Basic, and the trust boundary.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use futures_util::future::join_all;

use super::*;
use crate::{
    config::Credentials,
    upstream::{
        RequestKind, Spend, UpstreamError,
        script::{broken, status},
    },
};

const REALM: &str = "https://auth.registry.example/token";

fn challenge(realm: &str, repository: &str) -> Act {
    let value = format!(r#"Bearer realm="{realm}",service="s",scope="repository:{repository}:pull""#);
    status(401).header("www-authenticate", value).reply()
}

/// A registry whose token server at [`REALM`] gives `t0`, `t1` and so on. The registry takes the
/// tokens that `good` names.
fn guarded(good: impl Fn(u32) -> bool + Send + Sync + 'static) -> impl Fn(&Request) -> Act + Send + Sync + 'static {
    let issued = AtomicU32::new(0);
    move |request| {
        let ms = Duration::from_millis(10);
        if request.url.host_str() == Some("auth.registry.example") {
            let token = issued.fetch_add(1, SeqCst);
            return status(200).after(ms).body(format!(r#"{{"token":"t{token}","expires_in":300}}"#)).reply();
        }
        let token = authorization(request).and_then(|a| a.strip_prefix("Bearer t")?.parse().ok());
        match token {
            Some(token) if good(token) => status(200).after(ms).body(image()).reply(),
            _ => challenge(REALM, request.url.path().strip_prefix("/v2/").unwrap().split("/manifests").next().unwrap()),
        }
    }
}

async fn get(upstream: &Registry, name: &str) -> Result<(), UpstreamError> {
    upstream.manifest(&name.parse().unwrap(), &tag(), Spend::Needed).await.map(drop)
}

fn with_credentials() -> config::Upstream {
    let mut config = config(BASE);
    config.credentials = Some(Credentials { username: "robot".into(), password: "CANARY-PASSWORD".into() });
    config
}

#[tokio::test(start_paused = true)]
async fn a_challenge_is_answered_and_remembered() {
    let (upstream, script) = upstream(guarded(|_| true));
    get(&upstream, "library/x").await.unwrap();
    get(&upstream, "library/x").await.unwrap();
    get(&upstream, "library/y").await.unwrap();
    assert_eq!(
        script.asked(),
        [
            "GET /v2/library/x/manifests/latest",
            "GET /token?service=s&scope=repository%3Alibrary%2Fx%3Apull",
            "GET /v2/library/x/manifests/latest",
            "GET /v2/library/x/manifests/latest",
            "GET /token?service=s&scope=repository%3Alibrary%2Fy%3Apull",
            "GET /v2/library/y/manifests/latest",
        ]
    );
    assert!(authorization(&script.requests()[1]).is_none(), "no credentials, none sent");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_fetched_once_for_all_who_wait() {
    let (upstream, script) = upstream(guarded(|_| true));
    let results = join_all((0..200).map(|_| get(&upstream, "library/x"))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(script.count("/token"), 1);
    // The token is revoked during 200 pulls: one renewal.
    let (upstream, script) = self::upstream(guarded(|token| token == 1));
    join_all((0..200).map(|_| get(&upstream, "library/x"))).await;
    assert!(join_all((0..200).map(|_| get(&upstream, "library/x"))).await.iter().all(Result::is_ok));
    assert!(script.count("/token") <= 2, "{}", script.count("/token"));
}

#[tokio::test(start_paused = true)]
async fn two_hundred_stale_tokens_cause_one_call() {
    let revoked = Arc::new(AtomicU32::new(0));
    let first_good = Arc::clone(&revoked);
    let (upstream, script) = upstream(guarded(move |token| token >= first_good.load(SeqCst)));
    get(&upstream, "library/x").await.unwrap();
    revoked.store(1, SeqCst);
    assert!(join_all((0..200).map(|_| get(&upstream, "library/x"))).await.iter().all(Result::is_ok));
    assert_eq!(script.count("/token"), 2);
    assert_eq!(upstream.snapshot().requests(RequestKind::Token), 2);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_renewed_before_it_is_sent() {
    let (upstream, script) = upstream(guarded(|_| true));
    get(&upstream, "library/x").await.unwrap();
    tokio::time::sleep(Duration::from_secs(284)).await;
    get(&upstream, "library/x").await.unwrap();
    assert_eq!(script.count("/token"), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    get(&upstream, "library/x").await.unwrap();
    assert_eq!((script.count("/token"), script.count("manifests")), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn what_a_fresh_token_does_not_open_is_denied() {
    let (upstream, script) = upstream(guarded(|_| false));
    for _ in 0..2 {
        let denied = get(&upstream, "library/x").await.unwrap_err();
        assert!(matches!(denied, UpstreamError::Denied { status: 401, .. }) && !denied.is_outage(), "{denied:?}");
    }
    assert_eq!((script.count("/token"), script.count("manifests")), (2, 3), "nothing is asked in vain");
}

#[tokio::test(start_paused = true)]
async fn a_token_server_may_deny_or_fail() {
    for (code, denied) in [(403, true), (401, true), (503, false), (429, false)] {
        let (upstream, script) = upstream(move |r| match r.url.path() {
            "/token" => status(code).body(r#"{"errors":[{"code":"DENIED","message":"requested access"}]}"#).reply(),
            _ => challenge(REALM, "library/x"),
        });
        let results = join_all((0..50).map(|_| get(&upstream, "library/x"))).await;
        let calls = script.count("/token");
        assert!(calls <= 3, "{calls} calls for {code}: a failure is shared");
        for error in results.into_iter().map(Result::unwrap_err) {
            assert_eq!(matches!(error, UpstreamError::Denied { .. }), denied, "{error:?}");
            assert_eq!((error.is_outage(), error.message().as_str()), (!denied, "requested access"));
        }
    }
    let (upstream, _) = upstream(|r| match r.url.path() {
        "/token" => Act::Fail(broken()),
        _ => challenge(REALM, "library/x"),
    });
    assert!(get(&upstream, "library/x").await.unwrap_err().is_outage());
}

#[tokio::test]
async fn s1_a_foreign_realm_is_never_asked() {
    for realm in ["https://evil.example/token", "http://auth.registry.example/token", "https://127.0.0.1/", "nonsense"]
    {
        let (upstream, script) = upstream_of(with_credentials(), Mode::Auto, move |_| challenge(realm, "library/x"));
        let denied = get(&upstream, "library/x").await.unwrap_err();
        assert!(matches!(denied, UpstreamError::Denied { .. }), "{denied:?}");
        assert!(script.requests().iter().all(|r| r.url.host_str() == Some("registry.example")), "{:?}", script.asked());
        assert!(script.requests().iter().all(|r| authorization(r).is_none()));
    }
    let mut trusting = config(BASE);
    trusting.token_hosts = vec!["tokens.elsewhere.example".into()];
    let elsewhere = |r: &Request| match r.url.host_str() {
        Some("tokens.elsewhere.example") => status(200).body(r#"{"token":"t"}"#).reply(),
        _ if authorization(r).is_some() => status(200).body(image()).reply(),
        _ => challenge("https://tokens.elsewhere.example/", "library/x"),
    };
    get(&upstream_of(trusting, Mode::Auto, elsewhere).0, "library/x").await.unwrap();
}

#[tokio::test]
async fn s1_a_challenge_from_where_a_redirect_led_is_not_answered() {
    let (upstream, script) = upstream_of(with_credentials(), Mode::Auto, |_| {
        let basic = status(401).header("www-authenticate", "Basic realm=x");
        basic.from("https://cdn.elsewhere.example/x").reply()
    });
    assert!(matches!(get(&upstream, "library/x").await, Err(UpstreamError::Failed { status: 401, .. })));
    assert_eq!(script.asked(), ["GET /v2/", "GET /v2/library/x/manifests/latest"]);
    assert!(script.requests().iter().all(|r| authorization(r).is_none()));
}

#[tokio::test]
async fn credentials_go_to_the_token_server_or_by_basic() {
    let (bearer, script) = upstream_of(with_credentials(), Mode::Auto, guarded(|_| true));
    get(&bearer, "library/x").await.unwrap();
    let sent: Vec<_> = script.requests().iter().map(authorization).collect();
    let basic = Some("Basic cm9ib3Q6Q0FOQVJZLVBBU1NXT1JE".to_owned());
    assert_eq!(sent, [None, basic.clone(), Some("Bearer t0".into())]);

    let wants_basic = |r: &Request| match authorization(r) {
        Some(_) => status(200).body(image()).reply(),
        None => status(401).header("www-authenticate", r#"Basic realm="x""#).reply(),
    };
    let (upstream, script) = upstream_of(with_credentials(), Mode::Auto, wants_basic);
    get(&upstream, "library/x").await.unwrap();
    get(&upstream, "library/y").await.unwrap();
    let sent: Vec<_> = script.requests().iter().map(authorization).collect();
    assert_eq!(sent, [None, basic.clone(), basic], "the second request brings them along");
    let (anonymous, _) = self::upstream(wants_basic);
    assert!(matches!(get(&anonymous, "library/x").await, Err(UpstreamError::Denied { status: 401, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_scope_for_all_repositories_is_one_token() {
    let (upstream, script) = upstream(|r| match (r.url.path(), authorization(r)) {
        ("/token", _) => status(200).body(r#"{"token":"t"}"#).reply(),
        (_, Some(_)) => status(200).body(image()).reply(),
        (_, None) => {
            let aws = format!(r#"Bearer realm="{REALM}",service="public.ecr.aws",scope="aws""#);
            status(401).header("www-authenticate", aws).reply()
        }
    });
    get(&upstream, "library/x").await.unwrap();
    get(&upstream, "library/y").await.unwrap();
    assert_eq!(script.asked()[1], "GET /token?service=public.ecr.aws&scope=aws");
    assert_eq!(script.asked().len(), 4);
}

#[tokio::test]
async fn s18_an_upstream_that_echoes_secrets_is_not_passed_on() {
    let echo = |r: &Request| match (r.url.path(), authorization(r)) {
        ("/token", Some(basic)) => status(200).body(format!(r#"{{"token":"CANARY-TOKEN","x":"{basic}"}}"#)).reply(),
        (_, Some(bearer)) => {
            status(403).header("content-type", "text/plain").body(format!("{bearer} CANARY-PASSWORD")).reply()
        }
        _ => challenge(REALM, "library/x"),
    };
    let (upstream, script) = upstream_of(with_credentials(), Mode::Auto, echo);
    let denied = get(&upstream, "library/x").await.unwrap_err();
    assert_eq!(denied.message(), "Bearer [secret] [secret]");
    let shown = format!("{denied:?} {denied} {:?} {:?}", script.requests(), script.requests()[1].headers);
    for canary in ["CANARY", "cm9ib3Q6Q0FOQVJZ"] {
        assert!(!shown.contains(canary), "{shown}");
    }
    let (silly, _) = upstream_of(with_credentials(), Mode::Auto, |r: &Request| match r.url.path() {
        "/token" => status(401).body(format!(r#"{{"details":"bad: {}"}}"#, authorization(r).unwrap())).reply(),
        _ => challenge(REALM, "library/x"),
    });
    let denied = get(&silly, "library/x").await.unwrap_err();
    assert!(!format!("{denied:?}").contains("cm9ib3Q6Q0FOQVJZ"), "{denied:?}");
}
