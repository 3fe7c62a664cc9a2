//! The second look: if an address asks again for a blob within a minute after it was given all of
//! it, the blob is read and hashed before it is given again. A client whose digest check failed
//! asks again at once: so rotten bytes reach it once, not every time.
//!
//! | | |
//! |---|---|
//! | given whole | one answer, or ranges in any order, have brought the address every byte |
//! | asks again | by GET, from any byte; a HEAD does not count |
//! | proven | one proof of a digest at a time, for all requests that wait, on its own threads |
//! | rotten | the store moves it away: it is fetched again, or is 404 if it was pushed |
//!
//! Many clients behind one address ask for the same blob for good reasons. So a proof is good for
//! [`LASTS`], or for twenty times as long as it took, if that is longer. While it is good and the
//! file is unchanged, nothing is proven again: the proofs of one blob use at most a twentieth of a
//! thread. `again` calls this before each blob answer.
//!
//! An answer that ends because its file cannot be read has its blob proven at once.

use std::{
    fs::File,
    io,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    oci::Digest,
    runtime::{BlockingPool, Flight, SingleFlight, Tasks},
    storage::{Finder, Storage, StorageError},
};

/// How long it is remembered that an address was given a blob.
const REMEMBERED: Duration = Duration::from_secs(60);

/// For how many pairs of address and blob that is remembered.
const MOST: u64 = 1 << 15;

/// How many separate pieces of a blob are remembered. Beyond that, the two that are closest become
/// one, with the bytes between them: at worst that costs a proof too early.
const PIECES: usize = 32;

/// How long a proof is good, at least.
const LASTS: Duration = Duration::from_secs(10);

/// How long a client waits for a proof. Clients give up when no head comes within half a minute.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many proofs there are at a time.
const THREADS: usize = 2;

type Quick = foldhash::fast::RandomState;

/// Which blobs were given, and which are being proven.
pub(super) struct SecondLook {
    given: moka::sync::Cache<(IpAddr, Digest), Arc<Mutex<Given>>, Quick>,
    proven: moka::sync::Cache<Digest, Proven, Quick>,
    proofs: SingleFlight<Digest, ()>,
    /// On threads of its own: a proof takes long.
    storage: Storage,
    tasks: Tasks,
}

/// The bytes of a blob that an address was given.
#[derive(Default)]
struct Given {
    /// Each from its first byte to past its last. They ascend, and none touches another.
    pieces: Vec<(u64, u64)>,
    whole: Option<Instant>,
}

/// A blob that was proven.
#[derive(Clone, Copy)]
struct Proven {
    mark: Mark,
    when: Instant,
    lasts: Duration,
}

/// The facts of a file that change when it is written to. Rot changes none of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

/// An answer on its way to a client. The sender says how it [ended](Giving::ended).
pub struct Giving {
    look: Arc<SecondLook>,
    to: IpAddr,
    digest: Digest,
    first: u64,
    size: u64,
    /// The first byte and the end of each of several ranges; empty if there is one range.
    parts: Vec<(u64, u64)>,
    /// The bytes need not come from upstream for this answer.
    saves: bool,
}

/// The blob is being read again, which takes longer than a client waits.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "this blob was just given, and is read again from the disk before it is given once more; ask again in a moment"
)]
pub struct StillProving;

impl SecondLook {
    pub(super) fn new(storage: &Storage, pool: &BlockingPool, tasks: &Tasks) -> Arc<SecondLook> {
        Arc::new(SecondLook {
            given: remembering(REMEMBERED),
            proven: remembering(10 * REMEMBERED),
            proofs: SingleFlight::new(),
            storage: storage.on(pool.apart(THREADS)),
            tasks: tasks.clone(),
        })
    }

    /// Whether this address was just given all bytes of the blob.
    pub(super) fn was_given(&self, to: IpAddr, digest: &Digest) -> bool {
        let given = self.given.get(&(to, *digest));
        given.is_some_and(|given| given.lock().whole.is_some_and(|when| when.elapsed() < REMEMBERED))
    }

    /// Begins to count anew what the address is given.
    fn forget(&self, to: IpAddr, digest: &Digest) {
        if let Some(given) = self.given.get(&(to, *digest)) {
            *given.lock() = Given::default();
        }
    }

    fn gave(&self, to: IpAddr, digest: Digest, piece: (u64, u64), size: u64) {
        let given = self.given.get_with((to, digest), Arc::default);
        given.lock().add(piece, size);
    }

    /// The mark of a blob whose proof is still good.
    pub(super) fn known(&self, digest: &Digest) -> Option<Mark> {
        let proven = self.proven.get(digest)?;
        (proven.when.elapsed() < proven.lasts).then_some(proven.mark)
    }

    /// Proves a blob that this address was just given, once for all requests that wait. Then it
    /// counts anew what the address is given.
    pub(super) async fn prove(self: &Arc<Self>, to: IpAddr, digest: Digest) -> Result<(), StillProving> {
        // A proof that panicked has proven nothing, and is in the log.
        let _ = tokio::time::timeout(PATIENCE, self.begin_proof(digest).result()).await.map_err(|_| StillProving)?;
        self.forget(to, &digest);
        Ok(())
    }

    fn begin_proof(self: &Arc<Self>, digest: Digest) -> Flight<()> {
        let this = Arc::clone(self);
        self.proofs.join(&self.tasks, digest, || this.prove_again(digest))
    }

    async fn prove_again(self: Arc<Self>, digest: Digest) {
        match self.proof_of(&digest).await {
            Ok(Some(proven)) => self.proven.insert(digest, proven),
            Ok(None) | Err(StorageError::Lost) => {}
            Err(error) => tracing::warn!(%digest, %error, "a blob that is asked for again could not be proven"),
        }
    }

    async fn proof_of(&self, digest: &Digest) -> Result<Option<Proven>, StorageError> {
        let Some(found) = self.storage.content(digest).await? else { return Ok(None) };
        // Taken before the proof, so that a change during it does not count as proven.
        let mark = Mark::of(&found.file).ok();
        if mark.is_none() || mark == self.known(digest) {
            return Ok(None);
        }
        let when = Instant::now();
        let sound = self.storage.prove(digest, Finder::SecondLook).await?;
        let lasts = LASTS.max(20 * when.elapsed());
        Ok(sound.and(mark).map(|mark| Proven { mark, when, lasts }))
    }
}

impl Giving {
    /// This address is about to be given a blob, or a range of it from `first` on.
    pub(super) fn one(look: Arc<SecondLook>, to: IpAddr, digest: Digest, first: u64, size: u64) -> Giving {
        Giving { look, to, digest, first, size, parts: Vec::new(), saves: false }
    }

    /// The same for an answer with several ranges, which count when all of it went out.
    pub(super) fn several(
        look: Arc<SecondLook>,
        to: IpAddr,
        digest: Digest,
        parts: Vec<(u64, u64)>,
        size: u64,
    ) -> Giving {
        Giving { look, to, digest, first: 0, size, parts, saves: false }
    }

    /// The same, of bytes that need not come from upstream for this answer: they count as served.
    pub fn saving(self, saves: bool) -> Giving {
        Giving { saves, ..self }
    }

    /// The last of `bytes` bytes are about to go out. After that the client may ask again.
    pub fn ends(&self, bytes: u64) {
        if self.parts.is_empty() {
            self.look.gave(self.to, self.digest, (self.first, self.first + bytes), self.size);
        }
        self.parts.iter().for_each(|part| self.look.gave(self.to, self.digest, *part, self.size));
    }

    /// The answer ended after `sent` bytes. `told`: [`ends`](Giving::ends) was called.
    /// `unreadable`: it ended because the file could not be read.
    pub fn ended(self, sent: u64, told: bool, unreadable: bool) {
        let Giving { look, to, digest, first, size, parts, saves } = self;
        if sent > 0 && !told && parts.is_empty() {
            look.gave(to, digest, (first, first + sent), size);
        }
        if sent > 0 && saves {
            look.storage.note_served(&digest, sent);
        }
        if unreadable {
            look.proven.invalidate(&digest);
            // The next request waits for this only if its address was given the whole.
            drop(look.begin_proof(digest));
        }
    }
}

impl Given {
    /// A piece was given. Pieces that touch become one.
    fn add(&mut self, (mut first, mut end): (u64, u64), size: u64) {
        self.pieces.retain(|piece| {
            let apart = piece.1 < first || end < piece.0;
            if !apart {
                (first, end) = (first.min(piece.0), end.max(piece.1));
            }
            apart
        });
        if first == 0 && end >= size {
            *self = Given { pieces: Vec::new(), whole: Some(Instant::now()) };
            return;
        }
        let at = self.pieces.partition_point(|piece| piece.0 < first);
        self.pieces.insert(at, (first, end));
        if self.pieces.len() > PIECES {
            let gaps = self.pieces.windows(2).map(|two| two[1].0 - two[0].1);
            if let Some((closest, _)) = gaps.enumerate().min_by_key(|(_, gap)| *gap) {
                self.pieces[closest].1 = self.pieces.remove(closest + 1).1;
            }
        }
    }
}

impl Mark {
    pub(super) fn of(file: &File) -> io::Result<Mark> {
        let metadata = file.metadata()?;
        Ok(Mark {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

fn remembering<K, V>(time: Duration) -> moka::sync::Cache<K, V, Quick>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let cache = moka::sync::Cache::builder().max_capacity(MOST).time_to_idle(time);
    cache.eviction_policy(moka::policy::EvictionPolicy::lru()).build_with_hasher(Quick::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_is_every_byte_in_any_order_and_nothing_less() {
        for (pieces, whole) in [
            (&[(0, 100)][..], true),
            (&[(0, 99)], false),
            (&[(1, 100)], false),
            (&[(0, 0)], false),
            (&[(0, 60), (60, 100)], true),
            (&[(0, 60), (50, 100)], true),
            (&[(50, 100), (0, 50)], true),
            (&[(0, 20), (80, 100), (40, 60), (20, 40), (60, 80)], true),
            (&[(0, 20), (80, 100), (40, 60), (20, 40), (61, 80)], false),
            (&[(0, 50), (0, 50)], false),
            (&[(0, 50), (51, 100), (10, 70)], true),
        ] {
            let mut given = Given::default();
            pieces.iter().for_each(|piece| given.add(*piece, 100));
            assert_eq!(given.whole.is_some(), whole, "{pieces:?}");
        }
        // The same with many pieces.
        for count in [33, 100, 1000, 10_000] {
            let mut given = Given::default();
            (0..count).map(|n| n * 7919 % count * 10).for_each(|first| given.add((first, first + 10), 10 * count));
            assert!(given.whole.is_some(), "{count} pieces");
        }
        let mut given = Given::default();
        (0..10_000).for_each(|n| given.add((2 * n, 2 * n + 1), 1 << 40));
        assert_eq!(given.pieces.len(), PIECES);
    }
}
