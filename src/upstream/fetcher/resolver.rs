//! Names to addresses: looked up on a blocking thread, kept for 30 s, and ordered so that neither
//! IPv4 nor IPv6 blocks the other.
//!
//! The first caller starts a name's lookup, and all callers wait for it. The lookup goes on when
//! its caller gives up: a name server that does not answer for one upstream must not use up the
//! threads for the others.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, ToSocketAddrs},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{network::literal, runtime::detach};

/// How long an answer is used. getaddrinfo does not tell the record's own time to live.
const KEPT: Duration = Duration::from_secs(30);
/// The most names that are remembered. Redirects may name many hosts.
const MOST: usize = 512;

/// The source of addresses. It blocks, so it is called on a blocking thread.
#[derive(Clone)]
pub struct Lookup(Arc<Function>);

type Function = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

impl Lookup {
    /// The operating system's resolver.
    pub fn system() -> Self {
        Lookup::from_fn(|host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    /// Any other source, such as a table in a test.
    pub fn from_fn(lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Lookup(Arc::new(lookup))
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

/// The resolver that all threads and upstreams share.
#[derive(Clone)]
pub(super) struct Resolver {
    lookup: Lookup,
    names: Arc<Mutex<HashMap<String, Name>>>,
}

/// A name's state: found, or being asked for.
enum Name {
    Found(Instant, Vec<IpAddr>),
    Asked(watch::Receiver<Option<Resolved>>),
}

/// The addresses, or in words why there are none.
type Resolved = Result<Vec<IpAddr>, String>;

impl Resolver {
    /// A resolver that knows no names yet.
    pub(super) fn new(lookup: Lookup) -> Self {
        Resolver { lookup, names: Arc::default() }
    }

    /// The addresses of a name or of a literal address (brackets allowed), at least one.
    pub(super) async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Some(address) = literal(host) {
            return Ok(vec![address]);
        }
        let mut asked = match self.found_or_asked(host) {
            Name::Found(_, addresses) => return Ok(addresses),
            Name::Asked(asked) => asked,
        };
        match asked.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(answer)) => answer.clone().map_err(io::Error::other),
            Ok(None) | Err(_) => Err(io::Error::other("the lookup was given up")),
        }
    }

    /// Forgets addresses that did not answer. The next caller looks them up again.
    pub(super) fn forget(&self, host: &str) {
        let mut names = self.names.lock();
        if let Some(Name::Found(..)) = names.get(host) {
            names.remove(host);
        }
    }

    fn found_or_asked(&self, host: &str) -> Name {
        let mut names = self.names.lock();
        match names.get(host) {
            Some(Name::Found(since, addresses)) if since.elapsed() < KEPT => {
                return Name::Found(*since, addresses.clone());
            }
            // An error here means that the lookup died with its thread.
            Some(Name::Asked(asked)) if asked.has_changed().is_ok() => return Name::Asked(asked.clone()),
            Some(Name::Found(..) | Name::Asked(_)) | None => {}
        }
        if names.len() >= MOST {
            names.retain(|_, name| matches!(name, Name::Asked(_)));
        }
        let (answer, asked) = watch::channel(None);
        names.insert(host.to_owned(), Name::Asked(asked.clone()));
        let (resolver, host) = (self.clone(), host.to_owned());
        // The callers wait at the channel, and may leave.
        detach(move || {
            let found = resolver.look_up(&host);
            match &found {
                Ok(addresses) => resolver.names.lock().insert(host, Name::Found(Instant::now(), addresses.clone())),
                Err(_) => resolver.names.lock().remove(&host),
            };
            answer.send_replace(Some(found));
        });
        Name::Asked(asked)
    }

    fn look_up(&self, host: &str) -> Resolved {
        match (self.lookup.0)(host) {
            Ok(found) if found.is_empty() => Err("it has no address".to_owned()),
            Ok(found) => Ok(alternate(found)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The resolver's order, but IPv4 and IPv6 take turns, so that a network without IPv6 costs one
/// attempt instead of five.
fn alternate(found: Vec<IpAddr>) -> Vec<IpAddr> {
    let v6_first = found.first().is_some_and(IpAddr::is_ipv6);
    let mut unique: Vec<IpAddr> = Vec::with_capacity(found.len());
    for address in found {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    let (first, second): (Vec<_>, Vec<_>) = unique.into_iter().partition(|address| address.is_ipv6() == v6_first);
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let (a, b) = (first.next(), second.next());
        if a.is_none() && b.is_none() {
            return ordered;
        }
        ordered.extend(a);
        ordered.extend(b);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;

    use super::*;

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_in_the_resolvers_order() {
        assert_eq!(alternate(ips("::1 ::2 ::2 ::3 1.1.1.1 2.2.2.2")), ips("::1 1.1.1.1 ::2 2.2.2.2 ::3"));
        assert_eq!(alternate(ips("1.1.1.1 2.2.2.2 ::1")), ips("1.1.1.1 ::1 2.2.2.2"));
    }

    #[tokio::test]
    async fn a_name_is_asked_once_until_it_is_forgotten() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let resolver = Resolver::new(Lookup::from_fn(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(ips("10.0.0.1"))
        }));
        for _ in 0..3 {
            assert_eq!(resolver.addresses("a.example").await.unwrap(), ips("10.0.0.1"));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        resolver.forget("a.example");
        resolver.addresses("a.example").await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!(resolver.addresses("[::1]").await.unwrap(), ips("::1"));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn failures_are_not_kept() {
        let resolver = Resolver::new(Lookup::from_fn(|_| Ok(Vec::new())));
        assert!(resolver.addresses("a.example").await.is_err());
        assert!(resolver.names.lock().is_empty());
    }

    #[tokio::test]
    async fn a_lookup_that_hangs_is_not_joined_by_a_second_one() {
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let (gate, asked) = (Mutex::new(gate), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        let resolver = Resolver::new(Lookup::from_fn(move |host| {
            if host == "slow.example" {
                count.fetch_add(1, Ordering::Relaxed);
                gate.lock().recv().unwrap();
            }
            Ok(ips("10.0.0.1"))
        }));
        for _ in 0..50 {
            assert!(resolver.addresses("slow.example").now_or_never().is_none());
        }
        assert_eq!(resolver.addresses("quick.example").await.unwrap(), ips("10.0.0.1"));
        go.send(()).unwrap();
        assert_eq!(resolver.addresses("slow.example").await.unwrap(), ips("10.0.0.1"));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
