//! `/api/v1/digests/D`: every reason for which one digest is on disk, and its place in the order of
//! eviction.
//!
//! Reads the manifests of the repositories that link it. For the place it reads the links of all
//! mirrored repositories and scans the uses of all blobs, each once. The place is that of this
//! moment, among the content that the eviction may take: not hosted, kept or promised content, no
//! manifest, and nothing that no repository links. Content whose upstreams fail goes after all
//! else. An upstream that was not asked for a while counts as one that answers; the eviction would
//! ask it first. `http/api/` calls it.

use std::collections::{HashMap, HashSet};

use super::{
    Admin, RetentionError,
    views::{DigestReport, FillView, Place, RepositoryView},
    why::Why,
};
use crate::{
    oci::{Digest, Namespace, Repository, UpstreamName},
    retention::{Resident, Turn},
    runtime::clock,
    storage::{BlobUse, Relation, Respect},
};

/// How mirrored repositories link content. Of several the greatest counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Linked {
    /// As a blob, all of upstreams that fail.
    Failing,
    /// As a blob, and an upstream can give it again.
    Answering,
    /// As a manifest, which is not evicted.
    Manifest,
}

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
        let links = self.links_of_all().await?;
        let is_last = links.get(&digest.beginning()) == Some(&Linked::Failing);
        let score = turn.score(&resident(*digest, used), now);
        let (this, storage) = ((is_last, score, used.last, *digest), (*self.storage).clone());
        // As in a scan of the eviction, a pin that comes meanwhile does not count.
        let kept = self.kept.view().await?.loosened();
        let counted = self.storage.residents((1_u64, 0_u64, 0_u64), move |(place, of, before), digest, used| {
            let is_last = match links.get(&digest.beginning()) {
                Some(Linked::Manifest) | None => return,
                Some(linked) => *linked == Linked::Failing,
            };
            let is_promised = || storage.protection(&digest, Respect::Promises).is_some();
            if storage.is_hosted(&digest) || kept.keeps(&digest) || is_promised() {
                return;
            }
            *of += 1;
            let other = (is_last, turn.score(&resident(digest, used), now), used.last, digest);
            if other.3 != this.3 && other < this {
                *place += 1;
                *before += used.size;
            }
        });
        let (place, of, before) = counted.await?;
        // A turn from now a blob goes whose score is today's time. For content of failing upstreams
        // that is not known.
        let left = turn.age().filter(|_| !is_last).map(|turn| (score + turn - now as f64).max(0.0));
        Ok(Place {
            place,
            of: of.max(place),
            bytes_before: before,
            minutes: left.map(|milliseconds| (milliseconds / 60_000.0) as u64),
        })
    }

    /// How mirrored repositories link their content, by the beginnings of the digests.
    async fn links_of_all(&self) -> Result<HashMap<[u8; 16], Linked>, RetentionError> {
        let failing = (self.sample)().upstreams.into_iter().filter(|upstream| upstream.circuit_open);
        let failing: HashSet<UpstreamName> = failing.map(|upstream| upstream.name).collect();
        let mut links = HashMap::new();
        for namespace in self.storage.namespaces().await? {
            let as_blob = match &namespace {
                Namespace::Hosted => continue,
                Namespace::Upstream(upstream) if failing.contains(upstream) => Linked::Failing,
                Namespace::Upstream(_) => Linked::Answering,
            };
            for name in self.storage.repositories(&namespace, None, usize::MAX).await? {
                let repository = Repository { namespace: namespace.clone(), name };
                for link in self.storage.links(&repository).await? {
                    let linked = if link.is_manifest() { Linked::Manifest } else { as_blob };
                    let strongest = links.entry(link.digest.beginning()).or_insert(linked);
                    *strongest = linked.max(*strongest);
                }
            }
        }
        Ok(links)
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
