//! The settings of a stand-in, before it starts.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Hub;
use super::auth::{Access, Door, Tokens};
use super::gate::Rate;
use super::quota::Quota;
use super::record::Origin;
use super::server::Listener;
use super::shared::{Options, Shared, Switches, Urls};
use super::tls::{Authority, Flaw};

/// Settings of a stand-in. The default is Docker Hub: anonymous tokens, blobs by way of a CDN, no
/// TLS, no rate limit.
pub struct HubBuilder {
    access: Access,
    tokens: Tokens,
    token_listener: bool,
    port: u16,
    quota: Option<Quota>,
    rate: u64,
    ranges: bool,
    tls: Option<(Flaw, Option<Arc<Authority>>)>,
    options: Options,
}

impl Default for HubBuilder {
    fn default() -> HubBuilder {
        HubBuilder {
            access: Access::AnonymousToken,
            tokens: Tokens::default(),
            token_listener: false,
            port: 0,
            quota: None,
            rate: 0,
            ranges: true,
            tls: None,
            options: Options {
                cdn: true,
                referrers: true,
                link_ttl: Duration::from_secs(1200),
                host: None,
                rude_tls: false,
                print: false,
            },
        }
    }
}

impl HubBuilder {
    /// No authentication at all.
    pub fn open(mut self) -> Self {
        self.access = Access::Open;
        self
    }

    /// Basic authentication on every registry request.
    pub fn basic(mut self, user: &str, password: &str) -> Self {
        self.access = Access::Basic(user.into(), password.into());
        self
    }

    /// Tokens only for this account.
    pub fn account(mut self, user: &str, password: &str) -> Self {
        self.access = Access::AccountToken(user.into(), password.into());
        self
    }

    /// Tokens for every client, and for this account also those of private repositories.
    pub fn member(mut self, user: &str, password: &str) -> Self {
        self.tokens.account = Some((user.into(), password.into()));
        self
    }

    /// Changes how tokens are given out.
    pub fn tokens(mut self, change: impl FnOnce(&mut Tokens)) -> Self {
        change(&mut self.tokens);
        self
    }

    /// Tokens are valid for this long, and say so (in whole seconds, at least one).
    pub fn token_ttl(self, ttl: Duration) -> Self {
        self.tokens(|tokens| {
            tokens.ttl = ttl;
            tokens.expires_in = Some(ttl.as_secs().max(1));
        })
    }

    /// Tokens are valid for this many registry requests, and do not say so.
    pub fn token_uses(self, uses: u32) -> Self {
        self.tokens(|tokens| tokens.uses = Some(uses))
    }

    /// Names this realm in the challenge, without a check.
    pub fn realm(self, realm: &str) -> Self {
        self.tokens(|tokens| tokens.realm = Some(realm.into()))
    }

    /// Puts the token endpoint on a listener of its own.
    pub fn token_listener(mut self) -> Self {
        self.token_listener = true;
        self
    }

    /// Serves blobs from the registry itself.
    pub fn without_cdn(mut self) -> Self {
        self.options.cdn = false;
        self
    }

    /// Links to the CDN stop working after this time.
    pub fn link_ttl(mut self, ttl: Duration) -> Self {
        self.options.link_ttl = ttl;
        self
    }

    /// Ignores Range.
    pub fn without_ranges(mut self) -> Self {
        self.ranges = false;
        self
    }

    /// Knows no referrers API (404).
    pub fn without_referrers(mut self) -> Self {
        self.options.referrers = false;
        self
    }

    /// Docker Hub's rate limit per six hours, and how much of it is left.
    pub fn rate_limit(mut self, limit: u32, remaining: u32) -> Self {
        self.quota = Some(Quota { limit, window: 21600, remaining, retry_after: None });
        self
    }

    /// All bodies together go out at this many bytes per second.
    pub fn bytes_per_second(mut self, rate: u64) -> Self {
        self.rate = rate;
        self
    }

    /// The registry listens at this port instead of any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// URLs (in [`Hub::url`], redirects and realms) name this host instead of 127.0.0.1. The test
    /// must make the name lead here, for example by a [`super::proxy::Proxy`].
    pub fn host(mut self, host: &str) -> Self {
        self.options.host = Some(host.into());
        self
    }

    /// HTTPS on all listeners, with a certificate for 127.0.0.1, localhost and [`HubBuilder::host`]
    /// by an authority of the stand-in's own ([`Hub::ca_pem`]).
    pub fn tls(self) -> Self {
        self.tls_flawed(Flaw::None)
    }

    /// HTTPS with this flaw in the certificate.
    pub fn tls_flawed(mut self, flaw: Flaw) -> Self {
        self.tls = Some((flaw, None));
        self
    }

    /// HTTPS with a certificate by an authority that several stand-ins share.
    pub fn tls_by(mut self, authority: &Arc<Authority>) -> Self {
        self.tls = Some((Flaw::None, Some(authority.clone())));
        self
    }

    /// Under TLS, closes connections without close_notify.
    pub fn without_close_notify(mut self) -> Self {
        self.options.rude_tls = true;
        self
    }

    /// Prints a line per request.
    pub fn print(mut self) -> Self {
        self.options.print = true;
        self
    }

    /// Starts it. Panics if the port is taken.
    pub fn start(self) -> Hub {
        self.try_start().expect("free ports on loopback")
    }

    /// Starts it, or returns the error of listening.
    pub fn try_start(self) -> std::io::Result<Hub> {
        let mut registry = Listener::bind(self.port)?;
        let mut cdn = Listener::bind(0)?;
        let mut token = self.token_listener.then(|| Listener::bind(0)).transpose()?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let host = self.options.host.clone().unwrap_or_else(|| "127.0.0.1".into());
        let url = |listener: &Listener| format!("{scheme}://{host}:{}", listener.address().port());
        let urls = Urls {
            registry: url(&registry),
            cdn: url(&cdn),
            token: format!("{}/token", url(token.as_ref().unwrap_or(&registry))),
        };
        let tls = self.tls.map(|(flaw, authority)| {
            let authority = authority.unwrap_or_else(|| Arc::new(Authority::new()));
            let config = authority.server(&host, flaw);
            (authority, config)
        });
        let (authority, tls) = tls.unzip();
        let shared = Arc::new(Shared {
            options: self.options,
            switches: Mutex::new(Switches { ranges: self.ranges }),
            urls,
            content: Mutex::default(),
            door: Door::new(self.access, self.tokens),
            script: Default::default(),
            journal: Default::default(),
            quota: Mutex::new(self.quota),
            rate: Rate::of(self.rate),
            connections: Default::default(),
            tls,
            stopping: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            born: Instant::now(),
        });
        registry.serve(shared.clone(), Origin::Registry);
        cdn.serve(shared.clone(), Origin::Cdn);
        if let Some(token) = &mut token {
            token.serve(shared.clone(), Origin::Token);
        }
        Ok(Hub { shared, registry, cdn, token, authority })
    }
}
