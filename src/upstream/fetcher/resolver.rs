//! Names to addresses: looked up on the blocking pool, kept for 30 s, ordered so that no family can block the other.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long an answer is believed. getaddrinfo does not tell the record's own time to live.
const KEPT: Duration = Duration::from_secs(30);
/// An upper bound of the memory that names out of redirects can take.
const MOST: usize = 512;

/// Where addresses come from. Blocks, so it is called on a thread that may.
#[derive(Clone)]
pub struct Lookup(Arc<Function>);

type Function = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

impl Lookup {
    /// The operating system's resolver.
    pub fn system() -> Self {
        Lookup::from_fn(|host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    /// Any other, such as a table in a test.
    pub fn from_fn(lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Lookup(Arc::new(lookup))
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

/// Shared by all threads and upstreams.
#[derive(Clone)]
pub(super) struct Resolver {
    lookup: Lookup,
    known: Arc<Mutex<Known>>,
}

/// By name: when it was looked up, and what was found.
type Known = HashMap<String, (Instant, Vec<IpAddr>)>;

impl Resolver {
    /// Knows nothing yet.
    pub(super) fn new(lookup: Lookup) -> Self {
        Resolver { lookup, known: Arc::default() }
    }

    /// The addresses of a name or of a literal address (brackets allowed), at least one.
    pub(super) async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Some(address) = literal(host) {
            return Ok(vec![address]);
        }
        if let Some(addresses) = self.known(host) {
            return Ok(addresses);
        }
        let (lookup, name) = (self.lookup.clone(), host.to_owned());
        let found = tokio::task::spawn_blocking(move || (lookup.0)(&name)).await.map_err(io::Error::other)??;
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        let addresses = alternate(found);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, (since, _)| since.elapsed() < KEPT);
        }
        if known.len() < MOST {
            known.insert(host.to_owned(), (Instant::now(), addresses.clone()));
        }
        Ok(addresses)
    }

    /// Nobody answered at these addresses: the next to ask looks them up again.
    pub(super) fn forget(&self, host: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
    }

    fn known(&self, host: &str) -> Option<Vec<IpAddr>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(host).filter(|(since, _)| since.elapsed() < KEPT).map(|(_, addresses)| addresses.clone())
    }
}

/// A literal address, in a URL's spelling.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The resolver's order, but the families take turns, so that a network without IPv6 costs one attempt and not five.
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
        assert!(resolver.known("a.example").is_none());
    }
}
