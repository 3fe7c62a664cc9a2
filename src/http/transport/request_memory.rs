//! The bytes that clients have sent and lanyard holds in memory, bounded for all together (S28).
//!
//! | held | in all | beyond it |
//! |---|---|---|
//! | first [`FIRST`] bytes of each gathered body | 32 MiB | a wait, then 429 |
//! | longer bodies, at the length they may reach | 64 MiB | a wait, then 429 |
//! | heads beyond [`HEAD`], at the length they may reach | 16 MiB | the connection ends |
//!
//! One owner has at most half of each. A long body must bring its first bytes before it takes its
//! share, so an announced length alone costs no other client anything. A body that holds a share
//! never waits for a second one of the same kind, so no two bodies wait for each other.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::Instant};

/// The bytes of a body that are gathered before it needs a share for long bodies.
pub(crate) const FIRST: usize = 16 << 10;

/// The longest head without a share, in bytes, and the longest with one: actix-http refuses longer
/// ones.
pub(crate) const HEAD: usize = 16 << 10;
const LONGEST_HEAD: usize = 128 << 10;

/// How long a body waits for its share.
const WAIT: Duration = Duration::from_secs(10);

/// A body beyond [`LARGE`] bytes gets [`ROOMY`] bytes of address space. Only written pages cost
/// memory, and the allocator gives so large a piece back at its end.
const LARGE: usize = 256 << 10;
const ROOMY: usize = 33 << 20;

/// The three budgets. Shared by all connections.
#[derive(Debug)]
pub(crate) struct RequestMemory {
    beginnings: Arc<MemoryBudget>,
    bodies: Arc<MemoryBudget>,
    heads: Arc<MemoryBudget>,
}

impl Default for RequestMemory {
    fn default() -> Self {
        let shares = |most: usize| Arc::new(MemoryBudget { table: Mutex::default(), most, changed: Notify::new() });
        RequestMemory { beginnings: shares(32 << 20), bodies: shares(64 << 20), heads: shares(16 << 20) }
    }
}

/// A number of bytes for all clients.
#[derive(Debug)]
struct MemoryBudget {
    table: Mutex<BudgetTable>,
    most: usize,
    changed: Notify,
}

#[derive(Default, Debug)]
struct BudgetTable {
    total: usize,
    owners: HashMap<IpAddr, usize>,
}

/// The share of one client, while it lives.
#[derive(Debug)]
pub(crate) struct BudgetShare {
    shares: Arc<MemoryBudget>,
    owner: IpAddr,
    bytes: usize,
}

/// A body that is gathered in memory, with its shares.
#[derive(Default, Debug)]
pub(crate) struct GatheredBody {
    bytes: Vec<u8>,
    first: Option<BudgetShare>,
    rest: Option<BudgetShare>,
}

/// There is no share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoShare;

impl RequestMemory {
    /// A share for a long head.
    pub(crate) fn head(&self, owner: IpAddr) -> Option<BudgetShare> {
        self.heads.take(owner, LONGEST_HEAD)
    }

    /// Makes room in `gathered` for the `length` bytes that have come of a body that may reach
    /// `longest`. Waits a while for shares of others.
    pub(crate) async fn room(
        &self,
        owner: IpAddr,
        gathered: &mut GatheredBody,
        length: usize,
        longest: usize,
    ) -> Result<(), NoShare> {
        if gathered.first.is_none() {
            gathered.first = Some(self.beginnings.wait(owner, longest.min(FIRST)).await?);
        }
        if length > FIRST && gathered.rest.is_none() {
            gathered.rest = Some(self.bodies.wait(owner, longest).await?);
        }
        Ok(())
    }
}

impl MemoryBudget {
    fn take(self: &Arc<Self>, owner: IpAddr, bytes: usize) -> Option<BudgetShare> {
        let mut table = self.lock();
        let theirs = table.owners.get(&owner).copied().unwrap_or_default();
        if table.total + bytes > self.most || theirs + bytes > self.most / 2 {
            return None;
        }
        table.total += bytes;
        table.owners.insert(owner, theirs + bytes);
        Some(BudgetShare { shares: Arc::clone(self), owner, bytes })
    }

    async fn wait(self: &Arc<Self>, owner: IpAddr, bytes: usize) -> Result<BudgetShare, NoShare> {
        let until = Instant::now() + WAIT;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on a share that is given back is noticed.
            changed.as_mut().enable();
            if let Some(share) = self.take(owner, bytes) {
                return Ok(share);
            }
            tokio::time::timeout_at(until, changed).await.map_err(|_| NoShare)?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BudgetTable> {
        self.table.lock()
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        let mut table = self.shares.lock();
        table.total -= self.bytes;
        if let Some(theirs) = table.owners.get_mut(&self.owner) {
            *theirs -= self.bytes;
            if *theirs == 0 {
                table.owners.remove(&self.owner);
            }
        }
        drop(table);
        self.shares.changed.notify_waiters();
    }
}

impl GatheredBody {
    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a piece of a body that may reach `longest` bytes.
    pub(crate) fn push(&mut self, piece: &[u8], longest: usize) {
        let length = self.bytes.len() + piece.len();
        if length <= FIRST {
            self.bytes.reserve_exact(longest.clamp(length, FIRST) - self.bytes.len());
        } else if self.bytes.capacity() <= FIRST {
            let room = if longest > LARGE { ROOMY } else { longest.max(length) };
            // Without such address space it grows as any vector does.
            let _ = self.bytes.try_reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
    }

    /// The body. Its shares are given back with its last copy.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for GatheredBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: usize = 4 << 20;

    fn owner(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    /// A body of which `length` bytes have come.
    async fn body(held: &RequestMemory, n: u8, length: usize, longest: usize) -> Result<GatheredBody, NoShare> {
        let mut gathered = GatheredBody::default();
        held.room(owner(n), &mut gathered, length.min(FIRST), longest).await?;
        held.room(owner(n), &mut gathered, length, longest).await?;
        gathered.push(&vec![7; length], longest);
        Ok(gathered)
    }

    fn totals(held: &RequestMemory) -> [usize; 3] {
        [&held.beginnings, &held.bodies, &held.heads].map(|shares| {
            let table = shares.lock();
            assert_eq!(table.total, table.owners.values().sum::<usize>());
            table.total
        })
    }

    #[tokio::test(start_paused = true)]
    async fn s28_no_owner_has_more_than_half_of_what_bodies_may_hold() {
        let held = RequestMemory::default();
        let mut theirs = Vec::new();
        while let Ok(body) = body(&held, 1, FIRST + 1, MANIFEST).await {
            theirs.push(body);
        }
        assert_eq!(theirs.len(), 8);
        assert_eq!(body(&held, 1, FIRST + 1, MANIFEST).await.err(), Some(NoShare), "it has waited");
        assert!(body(&held, 1, 2000, 2000).await.is_ok(), "a small one of the same owner");
        assert!(body(&held, 1, FIRST, MANIFEST).await.is_ok(), "and one that only says that it is long");
        let others: Vec<_> = futures_util::future::join_all((0..8).map(|_| body(&held, 2, MANIFEST, MANIFEST))).await;
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(body(&held, 3, MANIFEST, MANIFEST).await.err(), Some(NoShare), "all have enough");
        theirs.pop();
        assert!(body(&held, 3, MANIFEST, MANIFEST).await.is_ok(), "what one gives back another takes");
        drop((theirs, others));
        assert_eq!(totals(&held), [0; 3]);
    }

    /// More bodies come at once than fit, and all are gathered, one after the other.
    #[tokio::test(start_paused = true)]
    async fn s28_bodies_wait_for_their_turn() {
        let held = RequestMemory::default();
        let all = (0..40).map(|_| async {
            let body = body(&held, 1, MANIFEST, MANIFEST).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, NoShare>(body.into_bytes().len())
        });
        let began = Instant::now();
        let all = futures_util::future::join_all(all).await;
        assert!(all.iter().all(|length| *length == Ok(MANIFEST)), "{all:?}");
        assert_eq!(began.elapsed().as_secs(), 5);
        assert_eq!(totals(&held), [0; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn shares_are_kept_by_the_last_copy_and_given_back_by_who_leaves() {
        let held = RequestMemory::default();
        let bytes = body(&held, 1, MANIFEST, MANIFEST).await.unwrap().into_bytes();
        let copy = bytes.slice(5..10);
        drop(bytes);
        assert_eq!(totals(&held), [FIRST, MANIFEST, 0]);
        drop(copy);
        assert_eq!(totals(&held), [0; 3]);
        let heads: Vec<_> = (0..100).map_while(|_| held.head(owner(1))).collect();
        assert_eq!((heads.len(), held.head(owner(2)).is_some()), (64, true));
        drop(heads);
        assert_eq!(totals(&held), [0; 3]);
    }
}
