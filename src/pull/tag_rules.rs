//! The rules of `[[tags]]` in force: which one is about a tag, what it is frozen at, and what the
//! rules keep.
//!
//! Promises: of several rules that match a tag the first one counts (T4). A lock file that cannot
//! be read is an error at the start; later the last good one stays in force, and the log says so
//! (T5). Nothing here asks an upstream or writes. `app` makes it; the pull goes by it, and the
//! retention asks it what is kept (T2), by way of `app/tag_keeper.rs`.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;

use crate::{
    config::{Config, Day, Freeze, ImagePattern, LockFile, LockFileError, LockedImage, TagRule, TagTtl, Unlisted},
    oci::{Digest, Reference, Repository, Tag},
    runtime::{BlockingPool, FileWatch, Reading},
    storage::TagHistory,
};

/// The shortest time between two looks at a lock file.
const FRESH: Duration = Duration::from_secs(1);

/// All rules, in their order.
pub struct TagRules {
    rules: Vec<Rule>,
    /// How often a lock file was read anew.
    changes: Arc<AtomicU64>,
}

/// One rule.
pub(super) struct Rule {
    images: Vec<ImagePattern>,
    pub(super) ttl: Option<TagTtl>,
    pub(super) freeze: Option<FrozenAt>,
    pub(super) unlisted: Unlisted,
    keep: usize,
    pub(super) warm: Option<Duration>,
}

/// What the tags of a rule are frozen at.
pub(super) enum FrozenAt {
    /// What they named at the end of this day.
    Day(Day),
    /// What this file says.
    File(Arc<Lock>),
}

/// A lock file and its last good content.
pub(super) struct Lock {
    path: PathBuf,
    file: RwLock<Arc<LockFile>>,
    watch: FileWatch,
    changes: Arc<AtomicU64>,
}

impl Rule {
    fn keeps(&self) -> bool {
        self.keep > 0 || self.freeze.is_some()
    }
}

impl TagRules {
    /// The rules of the configuration. Reads the lock files that they name, each of which is
    /// watched on a thread of its own from then on. Blocks.
    ///
    /// # Errors
    /// A lock file cannot be read (T5).
    pub fn open(config: &Config, one_thread: impl Fn() -> BlockingPool) -> Result<TagRules, LockFileError> {
        let changes = Arc::new(AtomicU64::new(0));
        let mut rules: Vec<Rule> = Vec::with_capacity(config.tag_rules.len());
        for TagRule { images, ttl, freeze, unlisted, keep, warm } in config.tag_rules.iter().cloned() {
            let freeze = match freeze {
                None => None,
                Some(Freeze::Day(day)) => Some(FrozenAt::Day(day)),
                Some(Freeze::File(path)) => {
                    // Rules that name one file share it, so that they agree at every moment.
                    let known = rules.iter().find_map(|rule| match &rule.freeze {
                        Some(FrozenAt::File(lock)) if lock.path == path => Some(Arc::clone(lock)),
                        Some(FrozenAt::File(_) | FrozenAt::Day(_)) | None => None,
                    });
                    let lock = known.map_or_else(|| Lock::open(path, one_thread(), &changes).map(Arc::new), Ok)?;
                    Some(FrozenAt::File(lock))
                }
            };
            rules.push(Rule { images, ttl, freeze, unlisted, keep: keep.unwrap_or(0), warm });
        }
        Ok(TagRules { rules, changes })
    }

    /// The rule about this tag. Hosted tags have none.
    pub(super) fn of(&self, repository: &Repository, tag: &Tag) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.images.iter().any(|image| image.matches(repository, tag)))
    }

    /// The lock files, each as often as rules name it.
    fn locks(&self) -> impl Iterator<Item = (&Rule, &Arc<Lock>)> {
        self.rules.iter().filter_map(|rule| match &rule.freeze {
            Some(FrozenAt::File(lock)) => Some((rule, lock)),
            Some(FrozenAt::Day(_)) | None => None,
        })
    }

    /// Whether a rule names a lock file.
    pub(super) fn have_locks(&self) -> bool {
        self.locks().next().is_some()
    }

    /// Looks at the lock files. A request for a tag looks at its own.
    pub(super) async fn refresh(&self) {
        for (_, lock) in self.locks() {
            lock.refresh().await;
        }
    }

    /// How often one of the rules is warmed, at least; `None`: none is.
    pub(super) fn shortest_warm(&self) -> Option<Duration> {
        self.rules.iter().filter_map(|rule| rule.warm).min()
    }

    /// The single tags that warm rules name without a wildcard, whether they are here or not.
    pub(super) fn named_warm(&self) -> impl Iterator<Item = (Repository, Tag)> {
        let images = self.rules.iter().filter(|rule| rule.warm.is_some()).flat_map(|rule| &rule.images);
        images.filter_map(ImagePattern::exact)
    }

    /// Whether the rules keep anything from being evicted.
    pub fn keep_anything(&self) -> bool {
        self.rules.iter().any(Rule::keeps)
    }

    /// Whether a rule may keep something of this repository.
    pub fn keep_in(&self, repository: &Repository) -> bool {
        let fits = |rule: &Rule| rule.images.iter().any(|images| images.holds(repository));
        self.rules.iter().any(|rule| rule.keeps() && fits(rule))
    }

    /// A number that rises whenever [`frozen`](Self::frozen) may answer otherwise for the same
    /// histories: a lock file has changed.
    pub fn generation(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The frozen tags of a repository, and the manifests that they are frozen at: these must not
    /// be evicted, nor the records of these tags removed (T1, T2). Pure: `histories` are those of
    /// the repository's tags ([`Storage::tag_histories`](crate::storage::Storage::tag_histories)).
    /// A tag of a lock file may have none.
    pub fn frozen(&self, repository: &Repository, histories: &[TagHistory]) -> Vec<Reference> {
        let by_day = histories.iter().filter_map(|seen| {
            let tag = &seen.record.tag;
            match self.of(repository, tag)?.freeze.as_ref()? {
                FrozenAt::Day(day) => Some((tag.clone(), seen.at(day.end())?)),
                FrozenAt::File(_) => None,
            }
        });
        references(by_day.chain(self.locked(repository).into_iter().map(|(tag, image)| (tag, image.digest))))
    }

    /// The tags of which a rule keeps the last digests, and these digests. They must not be
    /// evicted, nor the records of these tags removed (T2). Pure, as [`frozen`](Self::frozen).
    pub fn last(&self, repository: &Repository, histories: &[TagHistory]) -> Vec<Reference> {
        let last = histories.iter().flat_map(|seen| {
            let keep = self.of(repository, &seen.record.tag).map_or(0, |rule| rule.keep);
            seen.last(keep).into_iter().map(|digest| (seen.record.tag.clone(), digest))
        });
        references(last)
    }

    /// The tags of a repository that lock files freeze, as these have them.
    pub(super) fn locked(&self, repository: &Repository) -> Vec<(Tag, LockedImage)> {
        let own = format!("{repository}:");
        let mut locked = Vec::new();
        for (rule, lock) in self.locks() {
            for image in lock.content().below(&own) {
                let Ok(tag) = image.name[own.len()..].parse() else { continue };
                if self.of(repository, &tag).is_some_and(|of| std::ptr::eq(of, rule)) {
                    locked.push((tag, image.clone()));
                }
            }
        }
        locked
    }
}

/// The tags and the digests, each once.
fn references(named: impl Iterator<Item = (Tag, Digest)>) -> Vec<Reference> {
    let (tags, digests): (BTreeSet<_>, BTreeSet<_>) = named.unzip();
    tags.into_iter().map(Reference::from).chain(digests.into_iter().map(Reference::from)).collect()
}

impl Lock {
    fn open(path: PathBuf, threads: BlockingPool, changes: &Arc<AtomicU64>) -> Result<Lock, LockFileError> {
        let watch = FileWatch::new(&[&path], FRESH, threads);
        let file = RwLock::new(Arc::new(LockFile::of_rule(&path)?));
        Ok(Lock { path, file, watch, changes: Arc::clone(changes) })
    }

    /// Looks at the file, unless that was done within the last second.
    pub(super) async fn refresh(self: &Arc<Self>) {
        if self.watch.is_due() {
            let lock = Arc::clone(self);
            self.watch.look(false, move || lock.read()).await;
        }
    }

    /// The last good content.
    pub(super) fn content(&self) -> Arc<LockFile> {
        Arc::clone(&self.file.read())
    }

    /// The file's name without its folder: clients are not told a path of this machine.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Blocking. A file that cannot be read counts as read: it is read again when it has changed.
    fn read(&self) -> Reading {
        match LockFile::of_rule(&self.path) {
            Ok(file) => {
                tracing::info!(file = %self.path.display(), images = file.images().count(), "a lock file has changed");
                *self.file.write() = Arc::new(file);
                self.changes.fetch_add(1, Ordering::AcqRel);
            }
            Err(error) => tracing::warn!("tags stay frozen at what the lock file said before: {error}"),
        }
        Reading::Known
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Inputs;

    fn digest(fill: char) -> Digest {
        format!("sha256:{}", fill.to_string().repeat(64)).parse().unwrap()
    }

    /// The rules of this text, in which DIR is the folder.
    async fn rules(folder: &tempfile::TempDir, text: &str) -> TagRules {
        let file = folder.path().join("lanyard.toml");
        fs::write(&file, text.replace("DIR", folder.path().to_str().unwrap())).unwrap();
        let config = Config::load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap().config;
        let handle = tokio::runtime::Handle::current();
        TagRules::open(&config, || BlockingPool::new(handle.clone(), 1)).unwrap()
    }

    /// A tag that has named these digests, each from that time on.
    fn history(tag: &str, named: &[(char, u64)]) -> TagHistory {
        let past = named.windows(2).map(|two| {
            let [(fill, from), (_, until)] = two else { unreachable!() };
            serde_json::json!({ "digest": digest(*fill), "media_type": "", "size": 1, "from": from, "until": until })
        });
        let (fill, since) = named[named.len() - 1];
        let before: Vec<_> = past.collect();
        serde_json::from_value(serde_json::json!({
            "tag": tag, "digest": digest(fill), "media_type": "", "size": 1, "updated": since, "since": since,
            "before": before,
        }))
        .unwrap()
    }

    fn busybox() -> Repository {
        Repository {
            namespace: crate::oci::Namespace::Upstream("docker.io".parse().unwrap()),
            name: "library/busybox".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn t2_the_rules_keep_what_is_frozen_and_the_last_digests() {
        let folder = tempfile::tempdir().unwrap();
        let lock = |digest| {
            let name = "docker.io/library/busybox";
            format!(
                "[[image]]\nname = \"{name}:l1\"\ndigest = \"{digest}\"\n[[image]]\nname = \"{name}:v1\"\ndigest = \"{digest}\"\n"
            )
        };
        fs::write(folder.path().join("build.lock"), lock(digest('e'))).unwrap();
        let text = "[[tags]]\nmatch = [\"**:v*\"]\nkeep = 2\n[[tags]]\nmatch = [\"**:d*\"]\nfreeze = \"1970-01-01\"\n\
                    [[tags]]\nmatch = [\"**:l*\", \"**:v*\"]\nfreeze = \"DIR/build.lock\"\n";
        let rules = rules(&folder, text).await;
        assert!(rules.keep_anything());
        let references = |tags: &[&str], fills: &[char]| -> Vec<Reference> {
            let tags = tags.iter().map(|tag| tag.parse::<Tag>().unwrap().into());
            tags.chain(fills.iter().map(|fill| digest(*fill).into())).collect()
        };
        let kept = |histories: &[TagHistory]| (rules.frozen(&busybox(), histories), rules.last(&busybox(), histories));
        let moves = [('a', 10), ('b', 90_000), ('c', 100_000)];
        // Locked ones are kept whether or not the tag was asked for; v1 has another rule (T4).
        let locked = references(&["l1"], &['e']);
        assert_eq!(kept(&[]), (locked.clone(), vec![]));
        assert_eq!(kept(&[history("v1", &moves)]), (locked.clone(), references(&["v1"], &['b', 'c'])));
        let by_day = references(&["d1", "l1"], &['a', 'e']);
        assert_eq!(kept(&[history("d1", &moves)]), (by_day, vec![]), "the day ends at 86,400");
        let late = history("d1", &[('a', 90_000)]);
        assert_eq!(kept(&[late]), (locked.clone(), vec![]), "a tag that was not seen by then has nothing to keep");
        assert_eq!(kept(&[history("l1", &moves), history("other", &moves)]), (locked, vec![]));
        let other = Repository { name: "library/busy".parse().unwrap(), ..busybox() };
        assert_eq!((rules.frozen(&other, &[]), rules.last(&other, &[])), (vec![], vec![]));
        // A changed lock file is another generation.
        let before = rules.generation();
        fs::write(folder.path().join("build.lock"), lock(digest('f'))).unwrap();
        let Some(FrozenAt::File(lock)) = &rules.rules[2].freeze else { panic!() };
        assert_eq!(lock.read(), Reading::Known);
        assert_eq!((kept(&[]).0, rules.generation()), (references(&["l1"], &['f']), before + 1));
    }

    #[tokio::test]
    async fn the_first_rule_that_matches_counts() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[[tags]]\nmatch = [\"docker.io/library/busybox:edge\"]\nwarm = \"1m\"\n[[tags]]\nmatch = [\"**:e*\"]\nkeep = 1\nwarm = \"5s\"\n";
        let rules = rules(&folder, text).await;
        let of = |tag: &str| rules.of(&busybox(), &tag.parse().unwrap()).map(|rule| rule.keep);
        assert_eq!((of("edge"), of("e"), of("latest")), (Some(0), Some(1), None));
        assert_eq!(rules.shortest_warm(), Some(Duration::from_secs(5)));
        assert_eq!(rules.named_warm().collect::<Vec<_>>(), [(busybox(), "edge".parse().unwrap())]);
        let none = self::rules(&folder, "").await;
        assert!(!none.keep_anything() && none.shortest_warm().is_none() && none.frozen(&busybox(), &[]).is_empty());
    }
}
