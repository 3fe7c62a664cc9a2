//! Which request downloads a digest, and which read along.
//!
//! [`Fills::claim`] makes the first request for a digest its leader, and every later one a
//! follower, until the leader settles. Called by `blobs` and `stored`.

use std::{collections::HashMap, sync::Arc};

use super::{follower::Follower, leader::Leader, progress::Fill, sources::SourceState, table::Table};
use crate::oci::Digest;

/// The fills under way. `S` is a source: where the content can be had, and for which repository.
pub(in crate::pull) struct Fills<S> {
    pub(super) table: Table<S>,
}

/// The outcome of a claim.
pub(in crate::pull) enum Claim<S, T> {
    /// No fill was under way. The caller must see that the leader is driven, and may follow.
    Lead(Leader<S>, Follower<S>),
    /// A fill is under way.
    Follow {
        /// Its reader.
        follower: Follower<S>,
        /// Whether this claim's source has not been asked yet. The caller then asks it, and reports
        /// with [`Follower::agree`].
        unverified: bool,
    },
    /// The content has been stored meanwhile.
    Stored(T),
}

impl<S: Clone + PartialEq> Fills<S> {
    /// An empty table.
    pub(in crate::pull) fn new() -> Self {
        Fills { table: Table::default() }
    }

    /// Claims `digest`, which `source` should have. `sure`: it is known to have it, and a fill
    /// under way may then resume from it too (F6). Before any byte is given out,
    /// [`Follower::source_state`] says whether this source has the content.
    ///
    /// `stored` looks into the store. Only a claim that would lead awaits it. A fill that ended
    /// between the caller's own look and this claim has committed before it left the table (F3), so
    /// `stored` finds its content.
    pub(in crate::pull) async fn claim<T, E>(
        &self,
        digest: Digest,
        source: S,
        sure: bool,
        stored: impl Future<Output = Result<Option<T>, E>>,
    ) -> Result<Claim<S, T>, E> {
        let fill = {
            let mut table = self.table.lock();
            if let Some(fill) = table.get(&digest) {
                if sure {
                    fill.sources.note(&source, SourceState::Has);
                }
                let unverified = matches!(fill.sources.state(&source), None | Some(SourceState::Offered));
                return Ok(Claim::Follow { follower: Follower::new(fill, source), unverified });
            }
            let state = if sure { SourceState::Has } else { SourceState::Asked };
            let fill = Arc::new(Fill::new(digest, source.clone(), state));
            table.insert(digest, Arc::clone(&fill));
            fill
        };
        let leader = Leader::new(self.table.clone(), Arc::clone(&fill));
        match stored.await? {
            Some(found) => {
                leader.withdraw();
                Ok(Claim::Stored(found))
            }
            None => Ok(Claim::Lead(leader, Follower::new(&fill, source))),
        }
    }

    /// The length in bytes that readers of a fill were told, if `source` is known to have its
    /// content.
    pub(in crate::pull) fn size(&self, digest: &Digest, source: &S) -> Option<u64> {
        let table = self.table.lock();
        table.get(digest)?.size().filter(|_| has(&table, digest, source))
    }

    /// Whether a fill has proven its digest and is about to write its links, one of them that of
    /// `source`.
    pub(in crate::pull) fn vouches(&self, digest: &Digest, source: &S) -> bool {
        let table = self.table.lock();
        table.get(digest).is_some_and(|fill| fill.sources.is_proven()) && has(&table, digest, source)
    }

    /// How many fills are under way.
    pub(in crate::pull) fn active(&self) -> usize {
        self.table.lock().len()
    }
}

fn has<S: Clone + PartialEq>(table: &HashMap<Digest, Arc<Fill<S>>>, digest: &Digest, source: &S) -> bool {
    let fill = table.get(digest);
    fill.is_some_and(|fill| matches!(fill.sources.state(source), Some(SourceState::Has)))
}

impl<S> Clone for Fills<S> {
    fn clone(&self) -> Self {
        Fills { table: self.table.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::FutureExt as _;

    use super::{
        super::{failure::FillFailure, progress::Progress},
        *,
    };
    use crate::{
        oci::{Algorithm, Hasher},
        upstream::UpstreamError,
    };

    fn digest() -> Digest {
        Hasher::digest(Algorithm::Sha256, b"x")
    }

    fn claim(fills: &Fills<u8>) -> Claim<u8, ()> {
        fills.claim(digest(), 1, false, async { Ok::<_, Infallible>(None) }).now_or_never().unwrap().unwrap()
    }

    fn lead(fills: &Fills<u8>) -> (Leader<u8>, Follower<u8>) {
        match claim(fills) {
            Claim::Lead(leader, follower) => (leader, follower),
            Claim::Follow { .. } | Claim::Stored(()) => panic!("another claim leads"),
        }
    }

    #[test]
    fn one_leader_per_digest() {
        let fills = Fills::new();
        let barrier = std::sync::Barrier::new(16);
        let leaders: Vec<_> = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        claim(&fills)
                    })
                })
                .collect();
            claims.into_iter().map(|c| c.join().unwrap()).filter(|c| matches!(c, Claim::Lead(..))).collect()
        });
        assert_eq!(leaders.len(), 1);
        assert_eq!(fills.active(), 1);
    }

    #[test]
    fn joining_adds_a_sure_source_once() {
        let fills = Fills::new();
        let (leader, _) = lead(&fills);
        for (source, sure, expect) in [(3, false, true), (2, true, false), (1, false, false), (2, false, false)] {
            let joined = fills
                .claim(digest(), source, sure, async { Ok::<Option<()>, Infallible>(None) })
                .now_or_never()
                .unwrap()
                .unwrap();
            assert!(matches!(joined, Claim::Follow { unverified, .. } if unverified == expect), "{source}");
        }
        assert_eq!(leader.sources(), [1, 2]);
    }

    /// S5: only a source that has the content vouches for the requests that named it.
    #[test]
    fn a_source_that_refuses_vouches_for_nobody() {
        let fills = Fills::new();
        let (leader, first) = lead(&fills);
        assert!(matches!(first.source_state(), Some(SourceState::Asked)));
        let joined = fills
            .claim(digest(), 2, true, async { Ok::<Option<()>, Infallible>(None) })
            .now_or_never()
            .unwrap()
            .unwrap();
        let Claim::Follow { follower: second, .. } = joined else { panic!("the first leads") };
        leader.refused(&1, Arc::new(UpstreamError::NotFound { message: "no".into(), told: true }));
        assert!(matches!(first.source_state(), Some(SourceState::Refused(_))));
        assert!(matches!(second.source_state(), Some(SourceState::Has)));
        assert_eq!((leader.sources(), leader.sure_sources()), (vec![2], vec![2]));
        leader.has(&1);
        assert_eq!(leader.sure_sources(), [1, 2]);
    }

    #[test]
    fn a_dropped_leader_has_failed() {
        let fills = Fills::new();
        let (leader, follower) = lead(&fills);
        drop(leader);
        assert!(matches!(follower.now(), Progress::Failed(FillFailure::Abandoned)));
        assert_eq!(fills.active(), 0);
        lead(&fills);
    }

    #[test]
    fn a_claim_looks_again_before_it_leads() {
        let fills = Fills::new();
        let found =
            fills.claim(digest(), 1, false, async { Ok::<_, Infallible>(Some(7)) }).now_or_never().unwrap().unwrap();
        assert!(matches!(found, Claim::Stored(7)));
        assert_eq!(fills.active(), 0);
    }

    #[test]
    fn commit_precedes_removal() {
        let fills = Fills::new();
        let (leader, follower) = lead(&fills);
        let file = Arc::new(tempfile::tempfile().unwrap());
        leader.tell(file, 1);
        leader.complete(1);
        assert!(matches!(follower.now(), Progress::Complete { size: 1 }));
        assert_eq!(fills.active(), 0);
    }

    #[test]
    fn advertises_only_what_is_readable() {
        let fills = Fills::new();
        let (leader, follower) = lead(&fills);
        let file = || Arc::new(tempfile::tempfile().unwrap());
        let now = |readable| matches!(follower.now(), Progress::Streaming { readable: r, total: 10 } if r == readable);
        leader.advance(5);
        assert!(matches!(follower.now(), Progress::Waiting), "no reader was told a length");
        leader.tell(file(), 10);
        assert!(now(0));
        leader.advance(5);
        leader.advance(3);
        assert!(now(5), "progress goes forward only");
        leader.tell(file(), 5);
        assert!(now(5), "what was told stays");
    }

    /// The last byte of a length waits for the proof, however many bytes are in the file.
    #[test]
    fn f2_the_last_byte_is_withheld() {
        for (here, size, readable) in [(10, 10, 10), (12, 12, 9), (10, 9, 9), (3, 3, 3)] {
            let fills = Fills::new();
            let (leader, follower) = lead(&fills);
            let file = Arc::new(tempfile::tempfile().unwrap());
            leader.tell(Arc::clone(&file), 10);
            leader.advance(here);
            let now = || match follower.now() {
                Progress::Streaming { readable, .. } => readable,
                other => panic!("{other:?}"),
            };
            assert_eq!(now(), here.min(9));
            leader.proven(file, size);
            assert_eq!(now(), readable, "{here} bytes, proven as {size}");
        }
    }
}
