//! The room as its callers see it, over a scripted network.

mod content;
mod faults;
mod hiding;
mod lists;
mod outage;
mod prefix;
mod redirected;
mod renewed;
mod tokens;

use std::{sync::Arc, time::Duration};

use super::{
    Registry, Spend, UpstreamError,
    fetcher::Request,
    network::Network,
    script::{Act, Script},
};
use crate::{
    config::{self, Credentials, Mode},
    oci::{Algorithm, Digest, Hasher, OCI_IMAGE, Reference, RepositoryName},
};

const BASE: &str = "https://registry.example";

fn config(base: &str) -> config::Upstream {
    config::Upstream::new("registry.example".parse().unwrap(), base.parse().unwrap())
}

fn upstream_of(
    config: config::Upstream,
    mode: Mode,
    handler: impl Fn(&Request) -> Act + Send + Sync + 'static,
) -> (Arc<Registry>, Arc<Script>) {
    let script = Script::new(handler);
    let network = Network::Script(Arc::clone(&script));
    let runtime = tokio::runtime::Handle::current();
    (Arc::new(Registry::new(config, Duration::from_secs(60), mode, network, runtime)), script)
}

fn upstream(handler: impl Fn(&Request) -> Act + Send + Sync + 'static) -> (Arc<Registry>, Arc<Script>) {
    upstream_of(config(BASE), Mode::Auto, handler)
}

fn repository() -> RepositoryName {
    "library/x".parse().unwrap()
}

fn tag() -> Reference {
    "latest".parse().unwrap()
}

fn image() -> Vec<u8> {
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_IMAGE}","layers":[]}}"#).into_bytes()
}

fn digest(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}

fn authorization(request: &Request) -> Option<String> {
    request.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned())
}

/// Pulls a manifest.
async fn pull(upstream: &Registry, name: &str) -> Result<(), UpstreamError> {
    upstream.manifest(&name.parse().unwrap(), &tag(), Spend::Needed).await.map(drop)
}

/// A configuration with user `robot` and this password.
fn signed_in(password: &str) -> config::Upstream {
    let mut config = config(BASE);
    config.credentials = Some(Credentials { username: "robot".into(), password: password.into() });
    config
}

/// The header that `robot` sends with a password.
fn basic(password: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("robot:{password}")))
}

#[test]
fn futures_may_travel() {
    fn travels<T: Send>(_: impl FnOnce(&'static Registry, &'static RepositoryName, &'static Digest) -> T) {}
    fn shared<T: Send + Sync>() {}
    shared::<Registry>();
    shared::<super::Upstreams>();
    travels(|u, r, d| u.blob(r, d, 0, None));
    travels(|u, r, d| u.head_blob(r, d));
    travels(|u, r, d| u.referrers(r, d));
    travels(|u, r, _| u.tags(r));
    travels(|u, r, _| async move { u.head_manifest(r, &tag()).await });
    travels(|u, r, _| async move { u.manifest(r, &tag(), Spend::Needed).await });
}
