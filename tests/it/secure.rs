//! The connection to an upstream, by the real binary: through a proxy, over TLS, with an authority
//! of one's own. A server that cannot prove its identity is not asked (S19).

use std::fs;

use crate::{
    hub::{Flaw, Hub, Image, digest_of, proxy::Proxy},
    lanyard::Lanyard,
    wire::{blob, get, manifest},
};

const REPO: &str = "library/busybox";

/// A lanyard in front of `hub`. If `ca`, it trusts the hub's authority. The second value holds its
/// files.
fn mirror(hub: &Hub, url: &str, ca: bool, more: &str) -> (Lanyard, tempfile::TempDir) {
    mirror_in(hub, url, ca, more, &[])
}

/// The same with variables in its environment.
fn mirror_in(hub: &Hub, url: &str, ca: bool, more: &str, variables: &[(&str, &str)]) -> (Lanyard, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = format!("[[upstream]]\nname = \"docker.io\"\nurl = \"{url}\"\n{more}\n");
    if ca {
        let file = folder.path().join("ca.pem");
        fs::write(&file, hub.ca_pem()).unwrap();
        config.push_str(&format!("ca_file = {file:?}\n"));
    }
    (Lanyard::start_with(&config, variables), folder)
}

fn publish(hub: &Hub) -> Image {
    hub.image(REPO, "latest").layer(1 << 20).layer(1000).publish()
}

fn pull(lanyard: &Lanyard, image: &Image) {
    let answer = get(lanyard.port(), &manifest(REPO, "latest"));
    assert_eq!((answer.status, &answer.body), (200, &image.bytes), "{}", answer.text());
    for digest in image.blobs() {
        let answer = get(lanyard.port(), &blob(REPO, digest));
        assert_eq!((answer.status, digest_of(&answer.body).as_str()), (200, digest));
    }
}

/// The registry, its token endpoint and its CDN over TLS, by an authority that only `ca_file`
/// names.
#[test]
fn an_image_comes_over_tls_from_registry_and_cdn() {
    let hub = Hub::builder().tls().token_listener().start();
    let image = publish(&hub);
    assert!(hub.url().starts_with("https://") && hub.cdn_url().starts_with("https://"));
    let (lanyard, _files) = mirror(&hub, hub.url(), true, "");
    pull(&lanyard, &image);
    assert_eq!((hub.token_calls(), hub.any_blob_gets(), hub.credentials_at_cdn()), (1, 3, 0));
}

#[test]
fn an_image_comes_through_a_proxy() {
    let hub = Hub::start();
    let image = publish(&hub);
    let proxy = Proxy::start().with_login("me", "p@ss");
    let url = proxy.url().replace("http://", "http://me:p%40ss@");
    let (lanyard, _files) = mirror(&hub, hub.url(), false, &format!("proxy = \"{url}\""));
    pull(&lanyard, &image);
    assert!(proxy.tunnels() > 0 && proxy.asked().iter().all(|asked| asked.line.starts_with("CONNECT ")));
    assert_eq!(proxy.tunnels() as u64, hub.connections_accepted(), "nothing goes past the proxy");
    assert!(proxy.bytes_down() > hub.body_bytes_sent());
    let others = proxy.asked().iter().filter(|asked| asked.header("authorization").is_some()).count();
    assert_eq!(others, 0, "the proxy sees no token");
    // The proxy's refusal is told to the client, and the upstream is not asked directly.
    proxy.refuse_with(Some(403));
    hub.end_connections();
    let before = hub.connections_accepted();
    let answer = get(lanyard.port(), &manifest(REPO, "other"));
    assert_eq!((answer.status, answer.error_code()), (502, "UNAVAILABLE".to_owned()), "{}", answer.text());
    assert!(answer.text().contains("the proxy") && answer.text().contains("forbids"), "{}", answer.text());
    assert_eq!(hub.connections_accepted(), before);
}

/// The proxy resolves names: lanyard itself could not.
#[test]
fn tls_goes_through_the_proxy_to_a_name_that_only_it_knows() {
    let hub = Hub::builder().tls().host("registry.example").start();
    let image = publish(&hub);
    let (registry, cdn) = (target(hub.url()), target(hub.cdn_url()));
    let proxy = Proxy::start().lead(&registry, hub.address()).lead(&cdn, hub.cdn_address());
    let url = proxy.url();
    let (in_config, in_environment) = (format!("proxy = \"{url}\""), [("HTTPS_PROXY", url.as_str())]);
    for (more, variables) in [(in_config.as_str(), &[][..]), ("", &in_environment[..])] {
        let (lanyard, _files) = mirror_in(&hub, hub.url(), true, more, variables);
        let before = proxy.asked().len();
        pull(&lanyard, &image);
        let asked: Vec<_> = proxy.asked().iter().skip(before).map(|asked| asked.target().to_owned()).collect();
        assert!(asked.contains(&registry) && asked.contains(&cdn), "{variables:?}: {asked:?}");
        assert_eq!(proxy.tunnels() as u64, hub.connections_accepted());
    }
}

/// Host and port of a URL.
fn target(url: &str) -> String {
    url.trim_start_matches("https://").to_owned()
}

/// S19: three refusals, each with the reason in the answer, and not a byte of a request sent.
#[test]
fn s19_who_cannot_prove_who_it_is_is_not_asked() {
    for (flaw, ca, reason) in [
        (Flaw::Expired, true, "its certificate has expired"),
        (Flaw::WrongHost, true, "its certificate is for another host"),
        (Flaw::SelfSigned, true, "is not signed by an authority that is trusted here"),
        (Flaw::None, false, "is not signed by an authority that is trusted here"),
    ] {
        let hub = Hub::builder().tls_flawed(flaw).start();
        publish(&hub);
        let (lanyard, _files) = mirror(&hub, hub.url(), ca, "");
        let answer = get(lanyard.port(), &manifest(REPO, "latest"));
        assert_eq!((answer.status, answer.error_code()), (502, "UNAVAILABLE".to_owned()), "{flaw:?}");
        let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(reason) && message.contains(&target(hub.url())), "{flaw:?}: {message}");
        assert_eq!(hub.requests().len(), 0, "{flaw:?}");
        assert_eq!(get(lanyard.port(), "/v2/").status, 200);
    }
}

/// S19: a registry that speaks no TLS is not asked in plain text, nor a plain one over TLS.
#[test]
fn s19_tls_is_not_given_up() {
    let plain = Hub::start();
    let (lanyard, _files) = mirror(&plain, &plain.url().replace("http:", "https:"), false, "");
    let answer = get(lanyard.port(), &manifest(REPO, "latest"));
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("TLS"), "{}", answer.text());
    assert_eq!(plain.requests().len(), 0);
}
