//! How often an address may be wrong (S17): ten times a minute. Passwords of one address are checked a few at a time; the
//! others queue, so that a farm that signs in at once is not refused.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Failures that are let through in each [`WINDOW`].
pub(super) const FAILURES: usize = 10;
/// How long a failure counts.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Passwords of one address that are checked at a time.
const AT_ONCE: usize = 4;
/// Addresses that are remembered; past it, those without recent failures are forgotten first.
const ADDRESSES: usize = 10_000;

#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<IpAddr, Address>>);

struct Address {
    failures: VecDeque<Instant>,
    running: usize,
    gate: Arc<Semaphore>,
}

/// The permission to check one password. Dropped without a word it counts as neither right nor wrong.
pub(super) struct Attempt<'a> {
    throttle: &'a Throttle,
    address: IpAddr,
    _turn: OwnedSemaphorePermit,
}

impl Throttle {
    /// Waits for a turn of this address.
    ///
    /// # Errors
    /// It has been wrong too often: when it may try again.
    pub(super) async fn turn(&self, address: IpAddr) -> Result<Attempt<'_>, Duration> {
        let address = network(address);
        let gate = {
            let mut addresses = self.lock();
            let entry = entry(&mut addresses, address);
            entry.refused()?;
            Arc::clone(&entry.gate)
        };
        // The semaphore is never closed.
        let turn = gate.acquire_owned().await.map_err(|_| WINDOW)?;
        let mut addresses = self.lock();
        let entry = entry(&mut addresses, address);
        entry.refused()?;
        entry.running += 1;
        Ok(Attempt { throttle: self, address, _turn: turn })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Address>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// The password was wrong.
    pub(super) fn failed(self) {
        if let Some(entry) = self.throttle.lock().get_mut(&self.address) {
            entry.failures.push_back(Instant::now());
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.throttle.lock().get_mut(&self.address) {
            entry.running = entry.running.saturating_sub(1);
        }
    }
}

impl Address {
    /// Those that are being checked may all turn out wrong.
    fn refused(&mut self) -> Result<(), Duration> {
        while self.failures.front().is_some_and(|failure| failure.elapsed() >= WINDOW) {
            self.failures.pop_front();
        }
        if self.failures.len() + self.running < FAILURES {
            return Ok(());
        }
        let oldest = self.failures.front().map_or(Duration::ZERO, Instant::elapsed);
        Err(WINDOW.saturating_sub(oldest).max(Duration::from_secs(1)))
    }
}

fn entry(addresses: &mut HashMap<IpAddr, Address>, address: IpAddr) -> &mut Address {
    if addresses.len() >= ADDRESSES && !addresses.contains_key(&address) {
        let recent = |entry: &Address| entry.failures.back().is_some_and(|failure| failure.elapsed() < WINDOW);
        addresses.retain(|_, entry| entry.running > 0 || recent(entry));
        if addresses.len() >= ADDRESSES {
            addresses.clear();
        }
    }
    addresses.entry(address).or_insert_with(|| Address {
        failures: VecDeque::new(),
        running: 0,
        gate: Arc::new(Semaphore::new(AT_ONCE)),
    })
}

/// Whoever has one IPv6 address has all of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => (address & std::net::Ipv6Addr::from_bits(!0 << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[tokio::test(start_paused = true)]
    async fn s17_ten_failures_a_minute_and_address() {
        let throttle = Throttle::default();
        for _ in 0..FAILURES {
            throttle.turn(ONE).await.unwrap().failed();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(throttle.turn(ONE).await.err(), Some(Duration::from_secs(50)));
        assert!(throttle.turn(OTHER).await.is_ok(), "others have nothing to do with it");
        tokio::time::advance(Duration::from_secs(50)).await;
        throttle.turn(ONE).await.unwrap().failed();
        assert!(throttle.turn(ONE).await.is_err(), "one failure has left the window, and one has come");
        tokio::time::advance(WINDOW).await;
        for _ in 0..100 {
            assert!(throttle.turn(ONE).await.is_ok(), "who is right is not counted");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn s17_failures_under_way_count_and_right_ones_queue() {
        let throttle = Arc::new(Throttle::default());
        for _ in 0..FAILURES - 1 {
            throttle.turn(ONE).await.unwrap().failed();
        }
        let under_way = throttle.turn(ONE).await.unwrap();
        assert!(throttle.turn(ONE).await.is_err());
        drop(under_way);
        assert!(throttle.turn(ONE).await.is_ok());

        let mut turns = Vec::new();
        for _ in 0..AT_ONCE {
            turns.push(throttle.turn(OTHER).await.unwrap());
        }
        let next = tokio::spawn({
            let throttle = Arc::clone(&throttle);
            async move { throttle.turn(OTHER).await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        turns.clear();
        assert!(next.await.unwrap());
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let net = |text: &str| network(text.parse().unwrap());
        assert_eq!(net("2001:db8:1:2:3::4"), net("2001:db8:1:2:ffff::"));
        assert_ne!(net("2001:db8:1:2::"), net("2001:db8:1:3::"));
        assert_eq!(net("::ffff:192.0.2.1"), ONE);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let throttle = Throttle::default();
        for n in 0..3 * ADDRESSES as u32 {
            throttle.turn(IpAddr::V4(n.into())).await.unwrap().failed();
        }
        assert!(throttle.lock().len() <= ADDRESSES);
    }
}
