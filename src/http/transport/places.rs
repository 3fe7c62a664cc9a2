//! The places of connections, and which connection goes when descriptors are short (S28).
//!
//! A connection has a [`Place`] from its acceptance to its end. Three bounds follow from the number
//! of descriptors that the process may have, of which a quarter is left to files and upstreams:
//!
//! | bound | beyond it |
//! |---|---|
//! | all connections | the longest idle of the owner with the most goes; else the new one |
//! | those of one owner: three quarters | the same among its own |
//! | those without any request yet: a half | the oldest of them goes |
//!
//! A connection that is being served never goes. A connection *idles* while it has no request, and
//! while its client has neither sent nor taken a byte for [`STILL`].

use std::{
    collections::{BTreeMap, HashMap},
    future::poll_fn,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};

use crate::http::transport::{
    answer_memory::{AnswerHold, AnswerMemory},
    request_memory::{BudgetShare, GatheredBody, NoShare, RequestMemory},
};

/// The descriptors that files, upstreams and the runtime have at least.
const OTHERS: usize = 96;

/// The most connections without any request yet, however many descriptors there are: each costs
/// memory.
const UNFINISHED: usize = 8_192;

/// A client that is waited for idles after this time without a byte.
const STILL: Duration = Duration::from_secs(5);

/// The owner of a connection or an upload, by its address. All loopback addresses are one owner,
/// and so are the addresses of one IPv6 network: a single machine has billions of them.
pub(crate) fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(network.into())
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// The places of all connections of the process.
#[derive(Debug)]
pub(crate) struct Places {
    table: Mutex<PlaceTable>,
    most: usize,
    accepted: usize,
    began: Instant,
    /// The memory of their answers.
    loads: Arc<AnswerMemory>,
    /// The memory of their requests.
    held: RequestMemory,
}

#[derive(Default, Debug)]
struct PlaceTable {
    next: u64,
    seats: BTreeMap<u64, Arc<Seat>>,
    owners: HashMap<IpAddr, usize>,
    unfinished: usize,
}

/// The state of one connection.
#[derive(Debug)]
struct Seat {
    owner: IpAddr,
    /// It has sent a request.
    finished: AtomicBool,
    /// Since when it idles, in milliseconds since `began`; [`BUSY`] while it is served.
    still: AtomicU64,
    /// Its client is waited for in the middle of a request.
    amid: AtomicBool,
    gone: AtomicBool,
    waker: AtomicWaker,
}

const BUSY: u64 = u64::MAX;

/// The place of one connection, while it lives.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    seat: Arc<Seat>,
    places: Arc<Places>,
}

impl Places {
    /// For a process that may have this many descriptors.
    pub(crate) fn new(descriptors: usize) -> Arc<Places> {
        let most = descriptors.saturating_sub((descriptors / 4).max(OTHERS)).max(8);
        Arc::new(Places {
            table: Mutex::default(),
            most,
            accepted: most + descriptors.saturating_sub(most) / 3,
            began: Instant::now(),
            loads: Arc::default(),
            held: RequestMemory::default(),
        })
    }

    /// The number of connections that may have a descriptor: those with a place, and those that
    /// have just come or are about to go. Others wait in the kernel's queue.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted
    }

    fn of_one(&self) -> usize {
        self.most - self.most / 4
    }

    fn unfinished(&self) -> usize {
        (self.most / 2).min(UNFINISHED)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(BUSY - 1)
    }

    /// A place for a new connection from `address`; `None` if the connection has to go.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let (owner, now) = (owner(address), self.now());
        let mut table = self.lock();
        if table.owners.get(&owner).is_some_and(|count| *count >= self.of_one()) {
            table.make_room(now, Some(owner))?;
        } else if table.seats.len() >= self.most {
            table.make_room(now, None)?;
        }
        if table.unfinished >= self.unfinished() {
            table.drop_oldest_unfinished();
        }
        let seat = Arc::new(Seat {
            owner,
            finished: AtomicBool::new(false),
            still: AtomicU64::new(now),
            amid: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let number = table.next;
        table.next += 1;
        table.seats.insert(number, Arc::clone(&seat));
        *table.owners.entry(owner).or_default() += 1;
        table.unfinished += 1;
        Some(Place { number, seat, places: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, PlaceTable> {
        self.table.lock()
    }
}

impl PlaceTable {
    /// Sends away the connection that idles longest, of this owner or else of the one with the
    /// most. `None`: no connection idles.
    fn make_room(&mut self, now: u64, owner: Option<IpAddr>) -> Option<()> {
        let mut owners: Vec<_> = match owner {
            Some(owner) => vec![(0, owner)],
            None => self.owners.iter().map(|(owner, count)| (*count, *owner)).collect(),
        };
        owners.sort_unstable_by_key(|(count, _)| std::cmp::Reverse(*count));
        let stillest = owners.into_iter().find_map(|(_, owner)| {
            let theirs = self.seats.iter().filter(|(_, seat)| seat.owner == owner);
            let still = theirs.filter_map(|(number, seat)| Some((seat.still_since(now)?, *number)));
            still.min().map(|(_, number)| number)
        })?;
        self.send_away(stillest);
        Some(())
    }

    fn drop_oldest_unfinished(&mut self) {
        let oldest = self.seats.iter().find(|(_, seat)| !seat.finished.load(Ordering::Relaxed));
        if let Some(number) = oldest.map(|(number, _)| *number) {
            self.send_away(number);
        }
    }

    fn send_away(&mut self, number: u64) {
        if let Some(seat) = self.remove(number) {
            seat.gone.store(true, Ordering::Release);
            seat.waker.wake();
        }
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Seat>> {
        let seat = self.seats.remove(&number)?;
        if !seat.finished.load(Ordering::Relaxed) {
            self.unfinished -= 1;
        }
        if let Some(count) = self.owners.get_mut(&seat.owner) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&seat.owner);
            }
        }
        Some(seat)
    }
}

impl Seat {
    /// Since when it idles, if that counts yet.
    fn still_since(&self, now: u64) -> Option<u64> {
        let since = self.still.load(Ordering::Relaxed);
        let counts = !self.amid.load(Ordering::Relaxed) || now.saturating_sub(since) >= STILL.as_millis() as u64;
        (since != BUSY && counts).then_some(since)
    }
}

impl Place {
    /// A request is in progress.
    pub(crate) fn busy(&self) {
        self.seat.still.store(BUSY, Ordering::Relaxed);
        if !self.seat.finished.load(Ordering::Relaxed) {
            let mut table = self.places.lock();
            // A connection that was sent away meanwhile is counted already.
            if table.seats.contains_key(&self.number) {
                table.unfinished -= 1;
            }
            self.seat.finished.store(true, Ordering::Relaxed);
        }
    }

    /// No request is in progress.
    pub(crate) fn idle(&self) {
        self.seat.amid.store(false, Ordering::Relaxed);
        self.seat.still.store(self.places.now(), Ordering::Relaxed);
    }

    /// The client is waited for in the middle of a request.
    pub(crate) fn waits(&self) {
        if self.seat.still.load(Ordering::Relaxed) == BUSY {
            self.seat.amid.store(true, Ordering::Relaxed);
            self.seat.still.store(self.places.now(), Ordering::Relaxed);
        }
    }

    /// The client has sent or taken something.
    pub(crate) fn goes_on(&self) {
        if self.seat.amid.load(Ordering::Relaxed) {
            self.seat.still.store(BUSY, Ordering::Relaxed);
        }
    }

    /// Counts bytes that an answer holds in memory. `None`: they are too many.
    pub(crate) fn hold(&self, bytes: &Bytes) -> Option<AnswerHold> {
        self.places.loads.take(self.seat.owner, bytes)
    }

    /// A share of memory for a long head.
    pub(crate) fn room_for_head(&self) -> Option<BudgetShare> {
        self.places.held.head(self.seat.owner)
    }

    /// Memory for a body that is gathered, as [`RequestMemory::room`].
    pub(crate) async fn room_for_body(
        &self,
        gathered: &mut GatheredBody,
        length: usize,
        longest: usize,
    ) -> Result<(), NoShare> {
        self.places.held.room(self.seat.owner, gathered, length, longest).await
    }

    /// Whether the connection has to go.
    pub(crate) fn is_gone(&self) -> bool {
        self.seat.gone.load(Ordering::Acquire)
    }

    /// Ready when the connection has to go.
    pub(crate) fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        self.seat.waker.register(cx.waker());
        if self.is_gone() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until the connection has to go.
    pub(crate) async fn gone(&self) {
        poll_fn(|cx| self.poll_gone(cx)).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    /// 192 descriptors: 96 places, 72 for one owner, 48 without a request.
    fn places() -> Arc<Places> {
        Places::new(192)
    }

    fn asked(places: &Arc<Places>, n: u8, count: usize) -> Vec<Place> {
        let enter = || {
            let place = places.enter(address(n)).unwrap();
            place.busy();
            place
        };
        (0..count).map(|_| enter()).collect()
    }

    #[test]
    fn addresses_have_owners() {
        for (address, expected) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.3.2.1", "127.0.0.1"),
            ("::1", "127.0.0.1"),
            ("::ffff:127.0.0.9", "127.0.0.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ] {
            assert_eq!(owner(address.parse().unwrap()).to_string(), expected, "{address}");
        }
    }

    #[test]
    fn one_owner_never_has_every_place() {
        let places = places();
        let busy = asked(&places, 1, 72);
        assert!(places.enter(address(1)).is_none(), "what is served does not go");
        let other = places.enter(address(2)).unwrap();
        assert!(!busy.iter().any(Place::is_gone) && !other.is_gone());
        busy[7].idle();
        assert!(places.enter(address(1)).is_some());
        assert!(busy[7].is_gone(), "its own idle one goes");
        assert_eq!(busy.iter().filter(|place| place.is_gone()).count(), 1);
    }

    #[test]
    fn the_greediest_owner_makes_room_for_others() {
        let places = places();
        let (many, few) = (asked(&places, 1, 70), asked(&places, 2, 26));
        few.iter().for_each(Place::idle);
        many[3].idle();
        let new = places.enter(address(3)).unwrap();
        assert!(many[3].is_gone() && !few.iter().any(Place::is_gone), "the idle one of the owner with the most");
        let newer = places.enter(address(3)).unwrap();
        assert!(few.iter().filter(|place| place.is_gone()).count() == 1, "it has no other: the next owner's");
        drop((new, newer, many, few));
        let table = places.lock();
        assert!(table.seats.is_empty() && table.owners.is_empty() && table.unfinished == 0, "{table:?}");
    }

    #[test]
    fn a_client_that_is_waited_for_goes_after_a_while() {
        let places = places();
        let busy = asked(&places, 1, 72);
        busy[5].waits();
        assert!(places.enter(address(1)).is_none(), "it may be slow for a moment");
        busy[5].seat.still.store(0, Ordering::Relaxed);
        let later = 2 * STILL.as_millis() as u64;
        assert_eq!(busy[5].seat.still_since(later), Some(0));
        busy[5].goes_on();
        assert_eq!(busy[5].seat.still_since(later), None);
        assert_eq!(busy[6].seat.still_since(later), None);
    }

    #[test]
    fn the_oldest_that_asks_for_nothing_goes() {
        let places = places();
        let first = asked(&places, 1, 1);
        let silent: Vec<_> = (0..50).map(|n| places.enter(address(n)).unwrap()).collect();
        assert!(
            silent[0].is_gone()
                && silent[1].is_gone()
                && !silent[2..].iter().any(Place::is_gone)
                && !first[0].is_gone()
        );
        silent[0].busy();
        silent[2].busy();
        assert_eq!(places.lock().unfinished, 47);
        drop((first, silent));
        assert_eq!(places.lock().unfinished, 0);
    }
}
