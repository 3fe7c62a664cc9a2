//! A fault teaches nothing that lasts. Whatever an upstream answered while it was broken, within 10
//! s of its recovery lanyard asks it in the right way, and no client's request becomes a storm
//! meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use futures_util::future::join_all;

use super::*;
use crate::upstream::{
    fetcher::FetchError,
    script::{Scripted, status},
};

const REALM: &str = "https://auth.registry.example/token";

/// How a working upstream wants to be asked.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Open,
    Tokens,
    Password,
    /// With tokens. Only `/v2/` says so.
    Hiding,
}

/// How the upstream is broken.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    /// Challenges whose realm does not listen, never answers, or belongs to another registry.
    DeadRealm,
    HangingRealm,
    ForeignRealm,
    /// A realm that sends a web page, an error, or useless tokens.
    PageForToken,
    ErrorForToken,
    BadToken,
    /// Challenges that say too little, or the wrong thing.
    NoRealm,
    NoChallenge,
    Basic,
    OtherScope,
    /// Refusals without a challenge.
    Forbidden,
    Missing,
    /// A guest network's page, with status 200.
    Page,
    Broken,
}

const FAULTS: [Fault; 14] = [
    Fault::DeadRealm,
    Fault::HangingRealm,
    Fault::ForeignRealm,
    Fault::PageForToken,
    Fault::ErrorForToken,
    Fault::BadToken,
    Fault::NoRealm,
    Fault::NoChallenge,
    Fault::Basic,
    Fault::OtherScope,
    Fault::Forbidden,
    Fault::Missing,
    Fault::Page,
    Fault::Broken,
];

fn bearer(realm: &str, rest: &str) -> Scripted {
    status(401).header("www-authenticate", format!(r#"Bearer realm="{realm}",service="s"{rest}"#))
}

fn broken(fault: Fault, host: &str) -> Act {
    match (fault, host) {
        (_, "dead.registry.example") => {
            let host = "dead.registry.example:443".into();
            Act::Fail(FetchError::Connect { host, reason: "refused".into() })
        }
        (_, "hanging.registry.example") => Act::Hang,
        (Fault::PageForToken, "auth.registry.example") => status(200).body("<html>").reply(),
        (Fault::ErrorForToken, "auth.registry.example") => status(503).reply(),
        (_, "auth.registry.example") => status(200).body(r#"{"token":"bad","expires_in":86400}"#).reply(),
        (Fault::DeadRealm, _) => bearer("https://dead.registry.example/token", "").reply(),
        (Fault::HangingRealm, _) => bearer("https://hanging.registry.example/token", "").reply(),
        (Fault::ForeignRealm, _) => bearer("https://evil.example/token", "").reply(),
        (Fault::PageForToken | Fault::ErrorForToken | Fault::BadToken, _) => bearer(REALM, "").reply(),
        (Fault::NoRealm, _) => status(401).header("www-authenticate", "Bearer").reply(),
        (Fault::NoChallenge, _) => status(401).reply(),
        (Fault::Basic, _) => status(401).header("www-authenticate", "Basic realm=\"guests\"").reply(),
        (Fault::OtherScope, _) => bearer(REALM, r#",scope="repository:other/y:pull""#).reply(),
        (Fault::Forbidden, _) => status(403).reply(),
        (Fault::Missing, _) => status(404).reply(),
        (Fault::Page, _) => status(200).header("content-type", "text/html").body("<html>").reply(),
        (Fault::Broken, _) => status(500).reply(),
    }
}

/// A working upstream's answer. Its tokens are `good:` and their scope. With credentials, only
/// `robot` gets them.
fn well(way: Way, signed_in: bool, request: &Request) -> Act {
    let shown = authorization(request);
    if request.url.host_str() == Some("auth.registry.example") {
        if signed_in && shown != Some(basic("right")) {
            return status(401).reply();
        }
        let scope = request.url.query_pairs().find(|(name, _)| name == "scope").map(|(_, scope)| scope.into_owned());
        return status(200).body(format!(r#"{{"token":"good:{}"}}"#, scope.unwrap_or_default())).reply();
    }
    let content = request.url.path().contains("/manifests/");
    let repository = request.url.path().trim_start_matches("/v2/").split("/manifests").next().unwrap().to_owned();
    let good = match way {
        Way::Open => true,
        Way::Password => shown == Some(basic("right")),
        Way::Tokens | Way::Hiding => shown == Some(format!("Bearer good:repository:{repository}:pull")),
    };
    match (good, way) {
        (true, _) => status(200).body(image()).reply(),
        (false, Way::Hiding) if content => status(404).reply(),
        (false, Way::Password) => status(401).header("www-authenticate", "Basic realm=\"r\"").reply(),
        (false, Way::Open | Way::Tokens | Way::Hiding) => bearer(REALM, "").reply(),
    }
}

/// One case: first working, if it is `warm`; then broken for a while; then working again.
async fn case(way: Way, fault: Fault, signed_in: bool, warm: bool) {
    let what = format!("{way:?} {fault:?} signed in: {signed_in} warm: {warm}");
    let (is_broken, asked) = (Arc::new(AtomicBool::new(!warm)), Arc::new(AtomicUsize::new(0)));
    let (breaking, counting) = (Arc::clone(&is_broken), Arc::clone(&asked));
    let config = if signed_in { super::signed_in("right") } else { config(BASE) };
    let (upstream, script) = upstream_of(config, Mode::Auto, move |request| {
        counting.fetch_add(1, SeqCst);
        match breaking.load(SeqCst) {
            true => broken(fault, request.url.host_str().unwrap()),
            false => well(way, signed_in, request),
        }
    });
    if warm {
        pull(&upstream, "library/x").await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        is_broken.store(true, SeqCst);
    }
    for pause in [0, 0, 1500, 1500, 700] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let before = asked.load(SeqCst);
        assert!(pull(&upstream, "library/x").await.is_err(), "{what}");
        let cost = asked.load(SeqCst) - before;
        assert!(cost <= 12, "{what}: {cost} requests for one: {:?}", script.asked());
    }
    let before = asked.load(SeqCst);
    join_all((0..50).map(|_| pull(&upstream, "library/x"))).await;
    let cost = asked.load(SeqCst) - before;
    assert!(cost <= 50 * 3 + 30, "{what}: {cost} requests for 50");
    is_broken.store(false, SeqCst);
    let healed = tokio::time::Instant::now();
    loop {
        let before = asked.load(SeqCst);
        let Err(error) = pull(&upstream, "library/x").await else { break };
        assert!(asked.load(SeqCst) - before <= 12, "{what}");
        assert!(healed.elapsed() < Duration::from_secs(10), "{what}: {error:?} {:?}", script.asked());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    pull(&upstream, "library/y").await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let foreign = |r: &Request| r.url.host_str() == Some("evil.example");
    assert!(!script.requests().iter().any(foreign), "{what}");
    upstream.transport.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_healed_upstream_works_within_seconds_whatever_the_fault_taught() {
    for fault in FAULTS {
        for warm in [false, true] {
            for (way, signed_in) in [
                (Way::Open, false),
                (Way::Open, true),
                (Way::Tokens, false),
                (Way::Tokens, true),
                (Way::Password, true),
                (Way::Hiding, true),
            ] {
                // An open registry asks for nothing while a fault sends challenges.
                case(way, fault, signed_in, warm).await;
            }
        }
    }
}

/// lanyard remembers a challenge, and the registry no longer wants its credentials.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_is_replaced_once() {
    for code in [401, 403, 404] {
        let refusing = Arc::new(AtomicBool::new(false));
        let refuses = Arc::clone(&refusing);
        let (upstream, script) = upstream(move |r| match (r.url.path(), authorization(r)) {
            ("/token", _) => status(200).body(r#"{"token":"t","expires_in":86400}"#).reply(),
            (_, Some(_)) if refuses.load(SeqCst) => status(code).reply(),
            (_, Some(_)) => status(200).body(image()).reply(),
            (_, None) => bearer(REALM, "").reply(),
        });
        pull(&upstream, "library/x").await.unwrap();
        refusing.store(true, SeqCst);
        tokio::time::sleep(Duration::from_secs(2)).await;
        for _ in 0..3 {
            let before = script.asked().len();
            pull(&upstream, "library/x").await.unwrap_err();
            let cost = script.asked().len() - before;
            assert!(cost <= 5, "{code}: {cost} requests");
        }
        assert!(script.count("/token") <= 4, "{code}: {} tokens", script.count("/token"));
    }
}

/// Of several challenges the good one is taken, at any position.
#[tokio::test(start_paused = true)]
async fn a_challenge_that_cannot_be_answered_hides_no_other() {
    for challenges in [
        vec![r#"Bearer realm="https://evil.example/t""#, r#"Bearer realm="https://auth.registry.example/token""#],
        vec!["Negotiate", "Bearer", r#"Bearer realm="https://auth.registry.example/token""#],
        vec![
            r#"Bearer realm="https://evil.example/t", Basic realm="r", Bearer realm="https://auth.registry.example/token""#,
        ],
    ] {
        let (upstream, _) = upstream(move |r| match (r.url.path(), authorization(r)) {
            ("/token", _) => status(200).body(r#"{"token":"t"}"#).reply(),
            (_, Some(_)) => status(200).body(image()).reply(),
            (_, None) => {
                challenges.iter().fold(status(401), |answer, line| answer.header("www-authenticate", line)).reply()
            }
        });
        pull(&upstream, "library/x").await.unwrap();
    }
}
