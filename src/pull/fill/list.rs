//! What fills are under way, as plain values for an operator.

use tokio::time::Instant;

use super::{claim::Fills, origin::Origin};
use crate::oci::{Digest, Repository};

/// One fill under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FillStatus {
    /// The repository that it was begun for. It may serve others too.
    pub repository: Repository,
    /// What is downloaded.
    pub digest: Digest,
    /// How many bytes are on disk.
    pub bytes: u64,
    /// How many bytes there will be; absent until that is sure enough to be told to clients.
    pub of: Option<u64>,
    /// Bytes a second, over the last five to ten seconds.
    pub rate: u64,
    /// How many requests wait for its bytes.
    pub clients: usize,
}

impl Fills<Origin> {
    /// The fills under way, by repository and digest.
    pub(in crate::pull) fn list(&self) -> Vec<FillStatus> {
        let fills: Vec<_> = self.table.lock().values().cloned().collect();
        let now = Instant::now();
        let mut list: Vec<_> = fills
            .into_iter()
            .filter_map(|fill| {
                let repository = fill.sources.first()?.repository();
                let (bytes, rate) = {
                    let meter = fill.meter.lock();
                    (meter.here(), meter.rate(now))
                };
                let (of, clients) = (fill.size(), fill.progress.receiver_count());
                Some(FillStatus { repository, digest: fill.digest, bytes, of, rate, clients })
            })
            .collect();
        list.sort_by_cached_key(|fill| (fill.repository.to_string(), fill.digest.to_string()));
        list
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc, time::Duration};

    use futures_util::FutureExt as _;

    use super::{
        super::{claim::Claim, folder::Folder},
        *,
    };
    use crate::oci::{Algorithm, Hasher};

    #[tokio::test(start_paused = true)]
    async fn the_list_says_what_is_under_way() {
        let fills = Fills::new();
        assert_eq!(fills.list(), []);
        let folder = |name| Folder::new("nowhere".into(), "folder.example", name);
        let digest = Hasher::digest(Algorithm::Sha256, b"x");
        let claim = |name| {
            let origin = Origin::Folder(folder(name));
            let claim = fills.claim(digest, origin, true, async { Ok::<Option<()>, Infallible>(None) });
            claim.now_or_never().unwrap().unwrap()
        };
        let Claim::Lead(leader, first) = claim("app") else { panic!("no other claim leads") };
        let Claim::Follow { follower: second, .. } = claim("other") else { panic!("the first claim leads") };
        let status = |bytes, of, rate, clients| {
            let repository = folder("app").repository();
            vec![FillStatus { repository, digest, bytes, of, rate, clients }]
        };
        assert_eq!(fills.list(), status(0, None, 0, 2));
        leader.resumes_at(400);
        assert_eq!(fills.list(), status(400, None, 0, 2));
        leader.tell(Arc::new(tempfile::tempfile().unwrap()), 1_000);
        leader.advance(600);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(fills.list(), status(600, Some(1_000), 100, 2));
        drop(second);
        assert_eq!(fills.list()[0].clients, 1);
        drop(first);
        assert_eq!(fills.list()[0].clients, 0, "it goes on without clients");
        leader.complete(1_000);
        assert_eq!(fills.list(), []);
    }
}
