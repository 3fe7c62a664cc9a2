//! `/api/v1/digests/D`: every reason for which one digest is on disk, and its place in the order of
//! eviction.
//!
//! Reads the manifests of the repositories that link it, and scans the uses of all blobs once. The
//! place is that of this moment, among the blobs that no hosted repository has; manifests and kept
//! content are among them, though they stay. `http/api/` calls it.

use super::{
    Admin, RetentionError,
    views::{DigestReport, FillView, Place, RepositoryView},
    why::Why,
};
use crate::{
    oci::{Digest, Namespace, Repository},
    retention::{Resident, Turn},
    runtime::clock,
    storage::{BlobUse, Relation, Respect},
};

impl Admin {
    /// What is known of a digest; `None`: nothing.
    ///
    /// # Errors
    /// The disk's.
    pub async fn digest(&self, digest: &Digest) -> Result<Option<DigestReport>, RetentionError> {
        self.storage.count_served().await?;
        let size = self.storage.size(digest).await?;
        let used = match size {
            Some(_) => self.storage.use_of(digest).await?,
            None => None,
        };
        let mut relations = Vec::new();
        for holder in self.storage.holders(digest).await? {
            let relation = self.storage.relation(&holder.repository, digest).await?;
            relations.push((holder.repository, relation));
        }
        let promised_for = self.storage.protection(digest, Respect::Promises).filter(|_| size.is_some());
        let filling = self.pull.fills().into_iter().find(|fill| fill.digest == *digest);
        let parked = if filling.is_none() { self.storage.leftover(digest).await? } else { None };
        if size.is_none() && relations.is_empty() && filling.is_none() && parked.is_none() {
            return Ok(None);
        }
        let mut why = Vec::new();
        for (repository, relation) in &relations {
            why.extend(reasons(repository, relation));
            let kept = self.kept_images(repository).await?;
            let tags = relation.tags.iter().map(Some).chain([None]);
            why.extend(tags.filter_map(|tag| kept.why(tag, digest)));
        }
        why.extend(promised_for.map(|_| Why::Promised));
        why.extend(filling.as_ref().map(|_| Why::Filling));
        why.extend(parked.map(|_| Why::Parked));
        if relations.is_empty() && size.is_some() {
            why.push(Why::Orphan);
        }
        why.sort_unstable_by_key(|why| *why as u8);
        why.dedup();
        let is_manifest = relations.iter().any(|(_, relation)| relation.link.as_ref().is_some_and(|l| l.is_manifest()));
        let is_kept = self.kept.view().await?.keeps(digest);
        let stays = self.evictor.is_none() || is_manifest || is_kept || why.iter().any(|why| why.keeps());
        let place = match used {
            Some(used) if !stays => Some(self.place(digest, used).await?),
            Some(_) | None => None,
        };
        Ok(Some(DigestReport {
            digest: *digest,
            size,
            why,
            repositories: relations.into_iter().map(repository_view).collect(),
            promised_for: promised_for.map(|time| time.as_secs()),
            filling: filling.map(|fill| FillView {
                repository: fill.repository.to_string(),
                bytes: fill.bytes,
                of: fill.of,
                clients: fill.clients as u64,
            }),
            parked,
            last_used: used.map(|used| used.last / 1000),
            uses: used.map_or(0, |used| used.uses),
            served: used.map_or(0, |used| used.served),
            place,
        }))
    }

    /// Its place in the order of eviction, by one scan.
    async fn place(&self, digest: &Digest, used: BlobUse) -> Result<Place, RetentionError> {
        let (turn, now) = (self.turn(), clock::milliseconds());
        let score = turn.score(&resident(*digest, used), now);
        let (this, storage) = ((score, used.last, *digest), (*self.storage).clone());
        let counted = self.storage.residents((1_u64, 0_u64, 0_u64), move |(place, of, before), digest, used| {
            if storage.is_hosted(&digest) {
                return;
            }
            *of += 1;
            let other = (turn.score(&resident(digest, used), now), used.last, digest);
            if other.2 != this.2 && other < this {
                *place += 1;
                *before += used.size;
            }
        });
        let (place, of, before) = counted.await?;
        // A turn from now a blob goes whose score is today's time.
        let left = turn.age().map(|turn| (score + turn - now as f64).max(0.0));
        Ok(Place {
            place,
            of,
            bytes_before: before,
            minutes: left.map(|milliseconds| (milliseconds / 60_000.0) as u64),
        })
    }

    /// The turn of the cache, as far as it is known.
    fn turn(&self) -> Turn {
        let seconds = self.evictor.as_ref().and_then(|evictor| evictor.status().turn);
        seconds.map_or_else(Turn::default, |seconds| Turn::of(seconds as f64 * 1000.0))
    }
}

fn resident(digest: Digest, BlobUse { size, last, uses, .. }: BlobUse) -> Resident<Digest> {
    Resident { key: digest, size, last, uses }
}

/// Why a repository that links the digest keeps it.
fn reasons(repository: &Repository, relation: &Relation) -> Vec<Why> {
    if repository.namespace == Namespace::Hosted {
        return vec![Why::Hosted];
    }
    let is_referrer = relation.link.as_ref().is_some_and(|link| link.subject.is_some());
    let reasons = [
        (!relation.tags.is_empty(), Why::Tagged),
        (is_referrer, Why::Referrer),
        (!relation.named_by.is_empty(), Why::Part),
    ];
    let mut reasons: Vec<_> = reasons.into_iter().filter_map(|(holds, why)| holds.then_some(why)).collect();
    if reasons.is_empty() {
        reasons.push(Why::Digest);
    }
    reasons
}

fn repository_view((repository, relation): (Repository, Relation)) -> RepositoryView {
    RepositoryView {
        repository: repository.to_string(),
        held: relation.link.as_ref().is_some_and(|link| link.is_held()),
        tags: relation.tags.iter().map(ToString::to_string).collect(),
        named_by: relation.named_by,
    }
}
