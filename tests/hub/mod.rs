//! A stand-in for Docker Hub: a registry, its token endpoint and its CDN on loopback. It counts the
//! requests, and misbehaves at the socket when a test tells it to. It knows nothing of lanyard.
//!
//! ```ignore
//! let hub = Hub::start();               // anonymous tokens, blobs by 307 to a CDN, no TLS
//! let image = hub.image("library/busybox", "latest").layer(1 << 20).publish();
//! hub.fault(On::blob(image.layer(0)).times(2), Fault::CutAfter { bytes: 1000, how: Cut::Rst });
//! // ... pull through lanyard, whose upstream is hub.url() ...
//! assert_eq!(hub.blob_gets(image.layer(0)), 3);
//! assert_eq!(hub.manifest_gets(), 1);
//! ```
//!
//! - **Start**: [`Hub::start`], or [`Hub::builder`] with [`HubBuilder`]: `open()`, `basic(u, p)`,
//!   `account(u, p)`, `member(u, p)`, `token_ttl(d)`, `token_uses(n)`, `tokens(|t| ..)`,
//!   `realm(url)`, `token_listener()`, `without_cdn()`, `link_ttl(d)`, `without_ranges()`,
//!   `without_referrers()`, `rate_limit(100, 76)`, `bytes_per_second(n)`, `port(n)`, `host(name)`,
//!   `tls()`, `tls_flawed(Flaw::Expired)`, `without_close_notify()`.
//! - **Content**: [`Hub::image`] with `layer(size)`, `layer_of(bytes)`, `real_layer(size)`,
//!   `files(..)`, `platforms(&[..])`, `oci()`, `publish()` gives an [`Image`]; [`Hub::put_blob`],
//!   [`Hub::put_manifest`], [`Hub::put_untagged`], [`Hub::move_tag`], [`Hub::delete_tag`],
//!   [`Hub::delete_repo`], [`Hub::set_private`], [`Hub::load_oci_layout`].
//! - **Counts**: [`Hub::requests`] gives every [`Record`]; [`Hub::count`], [`Hub::blob_gets`],
//!   [`Hub::any_blob_gets`], [`Hub::manifest_gets`], [`Hub::manifest_heads`], [`Hub::token_calls`],
//!   [`Hub::body_bytes_sent`], [`Hub::blob_bytes_sent`], [`Hub::credentials_at_cdn`],
//!   [`Hub::connections_accepted`], [`Hub::connections_open`], [`Hub::most_connections`],
//!   [`Hub::most_at_once`], [`Hub::reset_counts`]; [`Hub::wait_for`] waits without sleeping.
//! - **Faults**: [`Hub::fault`] with [`On`] (which requests) and [`Fault`] (what happens); a
//!   [`Gate`] holds an answer until the test opens it; [`Hub::set_rate`], [`Hub::set_quota`],
//!   [`Hub::set_ranges`], [`Hub::revoke_tokens`], [`Hub::go_down`] and [`Hub::come_back`] (same
//!   port; `_at` for one origin), [`Hub::go_deaf`], [`Hub::end_connections`].
//! - **Beside it**: [`proxy::Proxy`] (CONNECT, may lead foreign names here), [`silent::Silent`]
//!   (an address that never answers a connect), [`silent::Refusing`] (one that refuses it),
//!   [`Authority`] (for several stand-ins with one CA).
//!
//! Dropping a [`Hub`] closes every socket and ends its threads.

// Every test and the example use a part of this module, and each compiles the whole of it.
#![allow(dead_code, unused_imports, unreachable_pub)]
// A fixture cannot return an error to a caller: it panics, and the test fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod archive;
mod auth;
mod body;
mod builder;
mod content;
mod deliver;
mod faults;
mod gate;
mod images;
mod layout;
pub mod proxy;
mod quota;
mod record;
mod reply;
mod request;
mod routes;
mod server;
mod shared;
pub mod silent;
mod tls;
mod wire;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use archive::Entry;
pub use auth::{Access, Tokens};
pub use body::{Body, digest_of};
pub use builder::HubBuilder;
pub use content::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
pub use faults::{Fault, On};
pub use gate::Gate;
pub use images::{Image, ImageBuilder, PlatformImage};
pub use quota::Quota;
pub use record::{Origin, Record};
pub use request::{Request, Target};
pub use tls::{Authority, Flaw};
pub use wire::Cut;

use server::Listener;
use shared::Shared;

/// A running stand-in.
pub struct Hub {
    shared: Arc<Shared>,
    registry: Listener,
    cdn: Listener,
    token: Option<Listener>,
    authority: Option<Arc<Authority>>,
}

/// Starting, and addresses.
impl Hub {
    /// Docker Hub's own behaviour, without TLS and without a rate limit.
    pub fn start() -> Hub {
        Hub::builder().start()
    }

    /// The same with other settings.
    pub fn builder() -> HubBuilder {
        HubBuilder::default()
    }

    /// The registry's URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.shared.urls.registry
    }

    /// The CDN's URL.
    pub fn cdn_url(&self) -> &str {
        &self.shared.urls.cdn
    }

    /// The token endpoint's URL, with its path.
    pub fn token_url(&self) -> &str {
        &self.shared.urls.token
    }

    /// The registry's address.
    pub fn address(&self) -> SocketAddr {
        self.registry.address()
    }

    /// The CDN's address.
    pub fn cdn_address(&self) -> SocketAddr {
        self.cdn.address()
    }

    /// The authority that clients have to trust. Panics without TLS.
    pub fn ca_pem(&self) -> &str {
        self.authority.as_ref().expect("a stand-in with TLS").pem()
    }
}

/// Content.
impl Hub {
    /// Begins an image; [`ImageBuilder::publish`] puts it here.
    pub fn image(&self, repo: &str, tag: &str) -> ImageBuilder<'_> {
        ImageBuilder::new(self, repo, tag)
    }

    /// Puts a blob, which every repository then has. Returns its digest.
    pub fn put_blob(&self, bytes: impl Into<Body>) -> String {
        self.shared.content.lock().unwrap().put_blob(bytes.into())
    }

    /// Removes a blob.
    pub fn drop_blob(&self, digest: &str) {
        self.shared.content.lock().unwrap().drop_blob(digest);
    }

    /// A blob's bytes.
    pub fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        self.shared.content.lock().unwrap().blob(digest).map(|body| body.to_vec())
    }

    /// Puts a manifest under a tag and gives its digest.
    pub fn put_manifest(&self, repo: &str, tag: &str, media_type: &str, bytes: &[u8]) -> String {
        self.shared.content.lock().unwrap().put_manifest(repo, Some(tag), media_type, bytes)
    }

    /// Puts a manifest without a tag.
    pub fn put_untagged(&self, repo: &str, media_type: &str, bytes: &[u8]) -> String {
        self.shared.content.lock().unwrap().put_manifest(repo, None, media_type, bytes)
    }

    /// Lets a tag point to another manifest.
    pub fn move_tag(&self, repo: &str, tag: &str, digest: &str) {
        self.shared.content.lock().unwrap().move_tag(repo, tag, digest);
    }

    /// Removes a tag; the manifest stays.
    pub fn delete_tag(&self, repo: &str, tag: &str) {
        self.shared.content.lock().unwrap().delete_tag(repo, tag);
    }

    /// Removes a repository.
    pub fn delete_repo(&self, repo: &str) {
        self.shared.content.lock().unwrap().delete_repo(repo);
    }

    /// Makes a repository private; without the account it then looks as if it were missing.
    pub fn set_private(&self, repo: &str) {
        self.shared.content.lock().unwrap().set_private(repo);
    }

    /// Puts an image from an OCI layout folder under this name. Returns the digest that the tag
    /// points to. The media types stay as they are in the layout.
    pub fn load_oci_layout(&self, dir: &Path, repo: &str, tag: &str) -> std::io::Result<String> {
        layout::load(self, dir, repo, tag)
    }

    /// All tags as `repo:tag`.
    pub fn listing(&self) -> Vec<String> {
        self.shared.content.lock().unwrap().listing()
    }
}

/// Counts. They include a request when its answer begins.
impl Hub {
    /// Every request so far.
    pub fn requests(&self) -> Vec<Record> {
        self.shared.journal.read(<[Record]>::to_vec)
    }

    /// How many requests satisfy `test`.
    pub fn count(&self, test: impl Fn(&Record) -> bool) -> usize {
        self.shared.journal.read(|records| records.iter().filter(|record| test(record)).count())
    }

    /// GETs of this blob that were meant to be answered with its bytes (not the 401, not the 307).
    pub fn blob_gets(&self, digest: &str) -> usize {
        self.count(|record| record.is_blob_get(digest))
    }

    /// The same for all blobs.
    pub fn any_blob_gets(&self) -> usize {
        self.count(Record::is_any_blob_get)
    }

    /// GETs of manifests, without those answered 401.
    pub fn manifest_gets(&self) -> usize {
        self.count(|record| record.is_manifest("GET"))
    }

    /// HEADs of manifests, without those answered 401.
    pub fn manifest_heads(&self) -> usize {
        self.count(|record| record.is_manifest("HEAD"))
    }

    /// Requests to the token endpoint.
    pub fn token_calls(&self) -> usize {
        self.count(|record| record.origin == Origin::Token)
    }

    /// Requests to the CDN that had credentials.
    pub fn credentials_at_cdn(&self) -> usize {
        self.count(|record| record.origin == Origin::Cdn && record.header("authorization").is_some())
    }

    /// Body bytes written, of all answers.
    pub fn body_bytes_sent(&self) -> u64 {
        self.shared.journal.read(|records| records.iter().map(|record| record.bytes_sent).sum())
    }

    /// Body bytes written in answer to [`Hub::blob_gets`].
    pub fn blob_bytes_sent(&self, digest: &str) -> u64 {
        let of = |record: &&Record| record.is_blob_get(digest);
        self.shared.journal.read(|records| records.iter().filter(of).map(|record| record.bytes_sent).sum())
    }

    /// Connections accepted so far, on all listeners.
    pub fn connections_accepted(&self) -> u64 {
        self.shared.connections.accepted()
    }

    /// Connections that are open now.
    pub fn connections_open(&self) -> u64 {
        self.shared.connections.open()
    }

    /// The most connections that were open at once.
    pub fn most_connections(&self) -> u64 {
        self.shared.connections.most()
    }

    /// The most of these requests that were being answered at the same time.
    pub fn most_at_once(&self, test: impl Fn(&Record) -> bool) -> usize {
        self.shared.journal.read(|records| record::most_at_once(records.iter().filter(|record| test(record))))
    }

    /// Resets the counts.
    pub fn reset_counts(&self) {
        self.shared.journal.reset();
        self.shared.connections.reset();
    }

    /// Waits until the records satisfy `enough`; false if `patience` ends first.
    pub fn wait_for(&self, patience: Duration, enough: impl FnMut(&[Record]) -> bool) -> bool {
        self.shared.journal.wait(patience, enough)
    }
}

/// Misbehaviour.
impl Hub {
    /// Adds a fault to the script. Each matching request spends one use of the oldest fault that
    /// fits it.
    pub fn fault(&self, on: On, fault: Fault) {
        self.shared.script.add(on, fault);
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.shared.script.clear();
    }

    /// How many faults have uses left.
    pub fn faults_left(&self) -> usize {
        self.shared.script.left()
    }

    /// From now on all bodies together go out at this many bytes per second; zero removes the
    /// limit.
    pub fn set_rate(&self, bytes_per_second: u64) {
        self.shared.rate.set(bytes_per_second);
    }

    /// Changes the rate limit, or removes it.
    pub fn set_quota(&self, quota: Option<Quota>) {
        *self.shared.quota.lock().unwrap() = quota;
    }

    /// How much of the rate limit is left.
    pub fn quota_left(&self) -> Option<u32> {
        self.shared.quota.lock().unwrap().as_ref().map(|quota| quota.remaining)
    }

    /// Answers Range from now on, or ignores it.
    pub fn set_ranges(&self, on: bool) {
        self.shared.switches.lock().unwrap().ranges = on;
    }

    /// Makes all tokens that were given out invalid.
    pub fn revoke_tokens(&self) {
        self.shared.door.revoke();
    }

    /// Refuses connections on all listeners and ends those that are open.
    pub fn go_down(&self) {
        self.listeners().for_each(Listener::go_down);
        self.end_connections();
    }

    /// Listens again, on the same ports.
    pub fn come_back(&self) {
        self.listeners().for_each(|listener| listener.come_back().expect("the port is still ours"));
    }

    /// With true: accepts connections and never reads from them, until the next call.
    pub fn go_deaf(&self, deaf: bool) {
        self.shared.deaf.store(deaf, Ordering::Relaxed);
    }

    /// Ends every open connection.
    pub fn end_connections(&self) {
        self.shared.connections.end_all();
    }

    /// Refuses connections at one origin only; connections that are open there stay.
    pub fn go_down_at(&self, origin: Origin) {
        self.listener(origin).go_down();
    }

    /// Listens again at one origin.
    pub fn come_back_at(&self, origin: Origin) {
        self.listener(origin).come_back().expect("the port is still ours");
    }

    fn listener(&self, origin: Origin) -> &Listener {
        match origin {
            Origin::Registry => &self.registry,
            Origin::Cdn => &self.cdn,
            Origin::Token => self.token.as_ref().unwrap_or(&self.registry),
        }
    }

    fn listeners(&self) -> impl Iterator<Item = &Listener> {
        [Some(&self.registry), Some(&self.cdn), self.token.as_ref()].into_iter().flatten()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.go_down();
        self.shared.connections.wait_gone(Duration::from_secs(5));
    }
}
