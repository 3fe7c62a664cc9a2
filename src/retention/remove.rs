//! `rm`: an operator lets images of upstreams go, by name or only their bytes.
//!
//! By name: tags, links and manifests go that only these images kept known, and then the content
//! that no repository links any more. With [`RemoveOptions::bytes_only`] the names stay, and the
//! content of these images goes that no other tagged image needs. Promises:
//! - An image that is pinned or fits `cache.keep` is refused, unless the order is forced: then its
//!   pins go first. So is a tag that a rule of `[[tags]]` freezes or keeps digests of: forced, it
//!   goes with its history. Bytes that are kept are refused without the name, also by force (K6).
//! - What stays for its own sake stays with everything it needs, whatever leads to it: a child of
//!   an index that goes, a signature of an image that goes (K6, T2).
//! - A dry run says exactly what the order would do, and changes nothing (K14).
//! - An image that fails stops no other one.
//!
//! Callers: the administration.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{KeptSet, Reason, RetentionError};
use crate::{
    oci::{Digest, Namespace, Reference, Repository, Tag},
    storage::{Gone, Leaving, Prospect, Storage, StorageError, TagRecord, Unsure},
};

/// An operator's order says that the content is not wanted: its uses count for nothing.
const NOT_REMEMBERED: u64 = 0;

/// How images are removed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RemoveOptions {
    /// Names stay; only content goes.
    pub bytes_only: bool,
    /// Images that are pinned or that a pattern or a rule keeps go too.
    pub force: bool,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// An image to remove.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The repository.
    pub repository: Repository,
    /// The tag.
    pub tag: Option<Tag>,
    /// The digest; with a tag it says what the tag must name.
    pub digest: Option<Digest>,
    /// The image, as it is shown.
    pub shown: String,
}

/// What was removed, or would be.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Removals {
    /// What became of each image, in the order in which they were named.
    pub images: Vec<RemovedImage>,
    /// Tags that are gone.
    pub tags: u64,
    /// Manifests that are gone.
    pub manifests: u64,
    /// Links of repositories that are gone, those of manifests included.
    pub links: u64,
    /// Stored contents that are gone.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Contents that stay since other images or repositories need them.
    pub shared: u64,
    /// Contents that stay since a client reads them, or was just told of them.
    pub in_use: u64,
}

/// What became of one image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RemovedImage {
    /// The image, in full.
    pub image: String,
    /// Why it was not removed; `None`: it was.
    #[serde(default)]
    pub error: Option<String>,
}

/// The images of one repository that may go.
#[derive(Default)]
struct Order {
    leaving: Leaving,
    /// The pins that a forced order removes.
    unpin: Vec<Reference>,
    /// The manifests, for an order about bytes.
    manifests: Vec<(Digest, String)>,
}

/// Removes images, or says what that would do.
///
/// # Errors
/// The disk's; the steps so far are done.
pub async fn remove(
    storage: &Storage,
    kept: &KeptSet,
    images: Vec<Named>,
    options: RemoveOptions,
) -> Result<Removals, RetentionError> {
    let mut removals = Removals::default();
    let mut orders: BTreeMap<Repository, Order> = BTreeMap::new();
    for image in images {
        let refused = accept(storage, kept, &image, options, &mut orders).await?;
        removals.images.push(RemovedImage { image: image.shown, error: refused });
    }
    if !options.bytes_only {
        orders = settled(kept, orders, &mut removals).await?;
    }
    if !options.dry_run {
        for (repository, order) in &orders {
            for reference in &order.unpin {
                storage.unpin(repository, reference).await?;
            }
        }
    }
    if options.bytes_only {
        let_go(storage, kept, &orders, options.dry_run, &mut removals).await?;
    } else {
        forget(storage, orders, options.dry_run, &mut removals).await?;
    }
    let Removals { tags, manifests, links, blobs, bytes, .. } = removals;
    if !options.dry_run && (links > 0 || tags > 0 || blobs > 0) {
        tracing::info!(tags, manifests, links, blobs, bytes, "images were removed");
    }
    Ok(removals)
}

/// Takes an image into the orders, or says why it may not go.
async fn accept(
    storage: &Storage,
    kept: &KeptSet,
    image: &Named,
    options: RemoveOptions,
    orders: &mut BTreeMap<Repository, Order>,
) -> Result<Option<String>, RetentionError> {
    let Named { repository, tag, digest, shown } = image;
    if repository.namespace == Namespace::Hosted {
        return Ok(Some(format!("{shown} was pushed here: delete it through the registry")));
    }
    let records = storage.tag_records(repository).await?;
    let found = match find(storage, image, &records).await? {
        Ok(found) => found,
        // A lock file may freeze a tag that has no record.
        Err(why) => {
            let reason = kept.reason(repository, tag.as_ref(), None).await?;
            return Ok(Some(if reason == Some(Reason::Frozen) { frozen(shown) } else { why }));
        }
    };
    let Some(pins) = storage.pins_of(repository).await? else {
        return Ok(Some(format!("a pin of {repository} cannot be read: pin it again, or run `lanyard check`")));
    };
    let of_it: Vec<_> = pins
        .iter()
        .map(|pin| &pin.reference)
        .filter(|reference| match reference {
            Reference::Tag(pinned) => Some(pinned) == tag.as_ref(),
            Reference::Digest(pinned) => Some(*pinned) == found.as_ref().map(|(digest, _)| *digest),
        })
        .cloned()
        .collect();
    match kept.reason(repository, tag.as_ref(), found.as_ref().map(|(digest, _)| digest)).await? {
        Some(Reason::Pattern(pattern)) if options.bytes_only || !options.force => {
            return Ok(Some(format!("{shown} is kept by {pattern:?} of cache.keep")));
        }
        Some(Reason::Pinned) if options.bytes_only || !options.force => {
            return Ok(Some(format!("{shown} is pinned: unpin it first, or use --force to forget it with its pins")));
        }
        Some(Reason::Frozen) if options.bytes_only || !options.force => return Ok(Some(frozen(shown))),
        Some(Reason::Last) if options.bytes_only || !options.force => return Ok(Some(by_rule(shown))),
        Some(Reason::Untold(why)) if options.bytes_only || !options.force => {
            return Ok(Some(format!("{shown}: what stays of its repository is not known: {why}; run `lanyard check`")));
        }
        Some(Reason::Pattern(_) | Reason::Pinned | Reason::Frozen | Reason::Last | Reason::Untold(_)) | None => {}
    }
    let order = orders.entry(repository.clone()).or_default();
    order.unpin.extend(of_it);
    match (tag, digest) {
        (Some(tag), digest) => order.leaving.tags.push((tag.clone(), *digest)),
        (None, Some(digest)) => order.leaving.digests.push(*digest),
        (None, None) => {}
    }
    order.manifests.extend(found);
    Ok(None)
}

fn frozen(shown: &str) -> String {
    format!("{shown} is frozen by a rule of [[tags]]: change the rule first")
}

fn by_rule(shown: &str) -> String {
    format!("{shown} is kept by a rule of [[tags]]: change the rule first")
}

/// The orders that can be carried out, each with the manifests that stay whatever names them. A
/// digest that something else keeps than a pin of its own is refused here, also by force.
async fn settled(
    kept: &KeptSet,
    orders: BTreeMap<Repository, Order>,
    removals: &mut Removals,
) -> Result<BTreeMap<Repository, Order>, RetentionError> {
    let mut settled = BTreeMap::new();
    for (repository, mut order) in orders {
        let tags = order.leaving.tags.iter().map(|(tag, _)| tag.clone()).collect();
        let stays = match kept.manifests_without(&repository, &tags, &order.unpin).await {
            Ok(stays) => stays,
            Err(Unsure::Storage(error)) => return Err(error.into()),
            Err(unsure) => {
                removals.fail(&repository, &unsure);
                continue;
            }
        };
        order.unpin.retain(|pin| !matches!(pin, Reference::Digest(digest) if stays.contains(digest)));
        for digest in order.leaving.digests.extract_if(.., |digest| stays.contains(digest)) {
            let shown = format!("{repository}@{digest}");
            let images = removals.images.iter_mut().filter(|image| image.error.is_none() && image.image == shown);
            images.for_each(|image| image.error = Some(by_rule(&shown)));
        }
        order.leaving.pinned = stays;
        settled.insert(repository, order);
    }
    Ok(settled)
}

/// The manifest of an image and its type; `Ok(None)`: the record of its tag is damaged. Otherwise
/// why it cannot be removed.
async fn find(
    storage: &Storage,
    image: &Named,
    records: &[TagRecord],
) -> Result<Result<Option<(Digest, String)>, String>, StorageError> {
    let Named { repository, tag, digest, shown } = image;
    if let Some(tag) = tag {
        return Ok(match (records.iter().find(|record| record.tag == *tag), digest) {
            (Some(record), Some(digest)) if record.digest != *digest => {
                Err(format!("{repository}:{tag} names {}, not {digest}", record.digest))
            }
            (Some(record), _) => Ok(Some((record.digest, record.media_type.clone()))),
            (None, None) if storage.tag_names(repository).await?.contains(tag) => Ok(None),
            (None, _) => Err(format!("{shown} is not here")),
        });
    }
    let Some(digest) = digest else { return Ok(Err(format!("{shown} is not here"))) };
    let tags: Vec<_> =
        records.iter().filter(|record| record.digest == *digest).map(|record| record.tag.as_str()).collect();
    if !tags.is_empty() {
        return Ok(Err(format!("{shown} is what these tags name; remove them instead: {}", tags.join(", "))));
    }
    let link = storage.link(repository, digest).await?.filter(|link| link.is_manifest());
    Ok(link.map(|link| Some((*digest, link.media_type))).ok_or_else(|| format!("{shown} is not here")))
}

/// Forgets the images, and then frees what no repository links any more.
async fn forget(
    storage: &Storage,
    orders: BTreeMap<Repository, Order>,
    dry_run: bool,
    removals: &mut Removals,
) -> Result<(), RetentionError> {
    let mut holders: HashMap<Digest, Vec<Repository>> = HashMap::new();
    for (repository, order) in orders {
        let gone = match dry_run {
            true => storage.plan_to_forget(&repository, order.leaving).await,
            false => storage.forget(&repository, order.leaving).await,
        };
        match gone {
            Ok(Gone { tags, links, manifests }) => {
                removals.tags += tags.len() as u64;
                removals.manifests += manifests as u64;
                removals.links += links.len() as u64;
                for digest in links {
                    holders.entry(digest).or_default().push(repository.clone());
                }
            }
            Err(Unsure::Storage(error)) => return Err(error.into()),
            Err(unsure) => removals.fail(&repository, &unsure),
        }
    }
    let mut digests: Vec<_> = holders.into_iter().collect();
    digests.sort_unstable();
    for (digest, without) in digests {
        let prospect = match dry_run {
            true => storage.plan_to_free(&digest, without).await?,
            false => storage.free(&digest).await?,
        };
        removals.count(prospect);
    }
    Ok(())
}

/// Evicts the content of the images that no other tagged image and no pin needs.
async fn let_go(
    storage: &Storage,
    kept: &KeptSet,
    orders: &BTreeMap<Repository, Order>,
    dry_run: bool,
    removals: &mut Removals,
) -> Result<(), RetentionError> {
    let mut parts = HashSet::new();
    for (repository, order) in orders {
        match storage.needed_by(order.manifests.clone()).await {
            Ok(needed) => parts.extend(needed),
            Err(Unsure::Storage(error)) => return Err(error.into()),
            Err(unsure) => removals.fail(repository, &unsure),
        }
    }
    let others = match needed_elsewhere(storage, &parts, orders).await {
        Ok(others) => others,
        Err(Unsure::Storage(error)) => return Err(error.into()),
        Err(unsure) => {
            orders.keys().for_each(|repository| removals.fail(repository, &unsure));
            return Ok(());
        }
    };
    let mut parts: Vec<_> = parts.into_iter().collect();
    parts.sort_unstable();
    for digest in parts {
        // The view lives until the content is gone, so that no pin comes between.
        let view = kept.view().await?;
        if others.contains(&digest) || view.keeps(&digest) {
            if storage.size(&digest).await?.is_some() {
                removals.count(Prospect::Linked);
            }
            continue;
        }
        let prospect = match dry_run {
            true => storage.plan_to_evict(&digest).await?,
            false => storage.evict(&digest, NOT_REMEMBERED).await?.into(),
        };
        removals.count(prospect);
    }
    Ok(())
}

/// What the other tagged images need of the repositories that link one of these parts.
async fn needed_elsewhere(
    storage: &Storage,
    parts: &HashSet<Digest>,
    orders: &BTreeMap<Repository, Order>,
) -> Result<HashSet<Digest>, Unsure> {
    let mut repositories: HashSet<Repository> = orders.keys().cloned().collect();
    for part in parts {
        repositories.extend(storage.holders(part).await?.into_iter().map(|holder| holder.repository));
    }
    let mut needed = HashSet::new();
    for repository in repositories {
        let leaving = orders.get(&repository).map(|order| &order.leaving.tags);
        let leaves = |tag: &Tag| leaving.is_some_and(|leaving| leaving.iter().any(|(name, _)| name == tag));
        let records = storage.tag_records(&repository).await?.into_iter();
        let staying = records.filter(|record| !leaves(&record.tag)).map(|record| (record.digest, record.media_type));
        needed.extend(storage.needed_by(staying.collect()).await?);
    }
    Ok(needed)
}

impl Removals {
    fn count(&mut self, prospect: Prospect) {
        match prospect {
            Prospect::Free(bytes) => {
                self.blobs += 1;
                self.bytes += bytes;
            }
            Prospect::Absent => {}
            Prospect::Linked => self.shared += 1,
            Prospect::InUse => self.in_use += 1,
        }
    }

    /// The images of a repository stay.
    fn fail(&mut self, repository: &Repository, why: &Unsure) {
        let begins = format!("{repository}");
        let of_it = |image: &&mut RemovedImage| {
            image.error.is_none() && image.image.strip_prefix(&begins).is_some_and(|rest| rest.starts_with([':', '@']))
        };
        for image in self.images.iter_mut().filter(of_it) {
            image.error = Some(format!("{}: what its repository needs is not known: {why}", image.image));
        }
    }
}
