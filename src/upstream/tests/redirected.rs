//! Registries that redirect: to a content network, which does not speak for them, or with their
//! whole API to another registry.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::*;
use crate::upstream::{
    fetcher::FetchError,
    script::{Scripted, status},
};

const CDN: &str = "https://cdn.example/data/ab/abcd?sig=CANARY";
const REAL: &str = "https://real.example/v2/project/x/";

/// Answers `bad` to the first `times` requests for content, then the right content.
fn sometimes(times: u32, bad: impl Fn() -> Scripted + Send + Sync + 'static) -> (Arc<Registry>, Arc<Script>) {
    let left = AtomicU32::new(times);
    upstream(move |_| {
        let fails = left.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok();
        if fails { bad().reply() } else { status(200).body(image()).reply() }
    })
}

async fn manifest(upstream: &Registry) -> Result<(), UpstreamError> {
    pull(upstream, "library/x").await
}

async fn blob(upstream: &Registry) -> Result<(), UpstreamError> {
    upstream.blob(&repository(), &digest(b""), 0, None).await.map(drop)
}

async fn part(upstream: &Registry) -> Result<(), UpstreamError> {
    upstream.blob(&repository(), &digest(b""), 0, Some(image().len() as u64 - 1)).await.map(drop)
}

async fn head_blob(upstream: &Registry) -> Result<(), UpstreamError> {
    upstream.head_blob(&repository(), &digest(b"")).await.map(drop)
}

async fn head_manifest(upstream: &Registry) -> Result<(), UpstreamError> {
    upstream.head_manifest(&repository(), &tag()).await.map(drop)
}

/// Runs an expression for every kind of question.
macro_rules! for_each_way {
    ($ask:ident => $body:expr) => {{
        macro_rules! one {
            ($way:ident) => {{
                async fn $ask(upstream: &Registry) -> Result<(), UpstreamError> {
                    $way(upstream).await
                }
                let name = stringify!($way);
                ($body)(name).await;
            }};
        }
        one!(manifest);
        one!(blob);
        one!(part);
        one!(head_blob);
        one!(head_manifest);
    }};
}

#[tokio::test(start_paused = true)]
async fn a_content_networks_no_is_asked_about_once_more_at_the_registry() {
    for code in [404, 403, 410, 401, 400] {
        for_each_way!(ask => |name: &'static str| async move {
            // The address is signed for GET alone: the registry has the blob and does not tell its
            // size.
            let told = name == "head_blob" && matches!(code, 401 | 403);
            let (upstream, script) = sometimes(1, move || status(code).from(CDN));
            ask(&upstream).await.unwrap_or_else(|error| panic!("{name} {code}: {error:?}"));
            assert_eq!(script.asked().len(), if told { 1 } else { 2 }, "{name} {code}");
            let (upstream, script) = sometimes(9, move || status(code).from(CDN).body("<e>CANARY</e>"));
            let result = ask(&upstream).await;
            if told {
                return result.unwrap();
            }
            let error = result.unwrap_err();
            assert!(matches!(error, UpstreamError::Failed { status, .. } if status == code), "{name}: {error:?}");
            assert!(error.message().contains("cdn.example") && !format!("{error:?}").contains("CANARY"), "{error:?}");
            assert_eq!(script.asked().len(), 2, "{name} {code}: once more, and no oftener");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn the_registrys_own_no_is_an_answer() {
    let api = |answer: Scripted| answer.header("docker-distribution-api-version", "registry/2.0");
    for_each_way!(ask => |name: &'static str| async move {
        let thing = if name.contains("manifest") { "manifests/latest".into() } else { format!("blobs/{}", digest(b"")) };
        let real = format!("{REAL}{thing}");
        let answers: [Box<dyn Fn() -> Scripted + Send + Sync>; 4] = [
            Box::new(|| status(404)),
            // registry.k8s.io, or a vanity name: only the last answer exists.
            Box::new(move || status(404).from(&real)),
            Box::new(move || api(status(404)).from(CDN)),
            Box::new(|| status(404).from("https://registry.example/elsewhere")),
        ];
        for answer in answers {
            let (upstream, script) = sometimes(9, answer);
            let error = ask(&upstream).await.unwrap_err();
            assert!(matches!(error, UpstreamError::NotFound { .. }), "{name}: {error:?}");
            assert_eq!(script.asked().len(), 1, "{name}");
        }
    });
}

/// `registry.example` redirects everything to `real.example`, which wants a token from `realm`.
fn vanity(realm: &'static str) -> impl Fn(&Request) -> Act + Send + Sync + 'static {
    move |r| {
        let challenge = || {
            let line = format!(r#"Bearer realm="{realm}",service="s",scope="repository:project/x:pull""#);
            status(401).header("www-authenticate", line)
        };
        match (r.url.host_str().unwrap(), r.url.path(), authorization(r)) {
            (_, "/token", _) => status(200).body(r#"{"token":"t"}"#).reply(),
            // As the fetcher follows it: credentials do not survive.
            ("registry.example", path, _) => {
                let thing = path.rsplit_once("/x/").map_or("", |(_, thing)| thing);
                challenge().from(&format!("{REAL}{thing}")).reply()
            }
            ("real.example", _, Some(token)) if token == "Bearer t" => status(200).body(image()).reply(),
            _ => challenge().reply(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_elsewhere_is_shown_a_token_where_token_hosts_says_so() {
    let cases: &[(&str, &[&str], bool, &str)] = &[
        // Realm, token_hosts, with credentials; and a part of the error, if there is one.
        ("https://real.example/token", &["real.example"], false, ""),
        ("https://real.example/token", &["real.example"], true, ""),
        ("https://real.example/token", &["real.example:443"], true, ""),
        ("https://auth.other.example/token", &["auth.other.example"], false, ""),
        ("https://auth.other.example/token", &["auth.other.example", "real.example"], true, ""),
        ("https://registry.example/token", &[], false, ""),
        ("https://real.example/token", &[], false, "real.example"),
        ("https://real.example/token", &[], true, "real.example"),
        ("https://real.example/token", &["unreal.example", "example"], true, "real.example"),
        ("https://auth.other.example/token", &["real.example"], true, "auth.other.example"),
        // A token that was got with credentials would go to a host that the operator has not named.
        ("https://auth.other.example/token", &["auth.other.example"], true, "real.example"),
        ("https://registry.example/token", &[], true, "real.example"),
        ("http://real.example/token", &["real.example"], true, "https"),
    ];
    for (realm, token_hosts, credentials, named) in cases {
        let what = format!("{realm} {token_hosts:?} {credentials}");
        let mut config = if *credentials { signed_in("CANARY") } else { config(BASE) };
        config.token_hosts = token_hosts.iter().map(|host| (*host).to_owned()).collect();
        let (upstream, script) = upstream_of(config, Mode::Auto, vanity(realm));
        for_each_way!(ask => |name: &'static str| {
            let (upstream, what) = (Arc::clone(&upstream), what.clone());
            async move {
                let result = ask(&upstream).await;
                match named.is_empty() {
                    true => result.unwrap_or_else(|error| panic!("{what} {name}: {error:?}")),
                    false => {
                        let error = result.unwrap_err();
                        assert!(matches!(error, UpstreamError::Unreachable(FetchError::Redirect { .. })), "{error:?}");
                        let message = error.message();
                        assert!(message.contains(named), "{what} {name}: {message}");
                        assert!(message.contains("token_hosts") || *named == "https", "{what} {name}: {message}");
                    }
                }
            }
        });
        let shown: Vec<_> = script.requests().into_iter().filter(|r| authorization(r).is_some()).collect();
        assert_eq!(shown.is_empty(), !named.is_empty(), "{what}");
        for request in shown {
            let (host, token) = (request.url.host_str().unwrap().to_owned(), request.url.path() == "/token");
            let expected = if token { basic("CANARY") } else { "Bearer t".to_owned() };
            assert_eq!(authorization(&request), Some(expected), "{what}: {request:?}");
            assert!(host == "real.example" || token && realm.contains(&host), "{what}: {request:?}");
        }
        assert!(script.count("/token") <= 1, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_elsewhere_that_takes_no_token_is_not_asked_for_ever() {
    let mut config = config(BASE);
    config.token_hosts = vec!["real.example".into()];
    let (upstream, script) = upstream_of(config, Mode::Auto, |r| match r.url.path() {
        "/token" => status(200).body(r#"{"token":"t"}"#).reply(),
        _ => {
            let challenge = status(401).header("www-authenticate", r#"Bearer realm="https://real.example/token""#);
            challenge.from(&format!("{REAL}manifests/latest")).reply()
        }
    });
    manifest(&upstream).await.unwrap_err();
    assert!(script.asked().len() <= 4, "{:?}", script.asked());
}
