//! How many bytes a cache has on disk, looked at again and again while it works.
//!
//! A walk through a folder takes a moment in which files come and go. So two sums are kept of each
//! walk: of all files that it saw, which may count a file that went and the one that took its
//! place; and of the files that the walk before saw too, each by the smaller of its two sizes.
//! Those were all there between the two walks: this many bytes were certainly on disk.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::proxies::Cache;

/// The pause between two walks.
const EVERY: Duration = Duration::from_millis(5);

/// How long a cache may take to come down to its cap.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most bytes that were seen.
#[derive(Clone, Copy, Default)]
pub(crate) struct Most {
    /// By the files' lengths: certainly at one moment.
    pub(crate) certain: u64,
    /// By their blocks: certainly at one moment.
    pub(crate) blocks: u64,
    /// By the files' lengths, in one walk.
    pub(crate) walked: u64,
    /// By lanyard's own count.
    pub(crate) own: Option<u64>,
    /// How often it was looked.
    pub(crate) looks: u64,
}

/// What a walk saw: length and blocks' bytes by inode.
type Seen = HashMap<u64, (u64, u64)>;

/// Samples while `work` runs. Returns the most that was seen, what `work` returned, and the time
/// from its end until the files' lengths are at most `cap`; `None`: they are not, after a while.
pub(crate) fn while_running<T>(cache: &Cache, cap: u64, work: impl FnOnce() -> T) -> (Most, T, Option<Duration>) {
    let folders = cache.content();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampling = scope.spawn(|| {
            let (mut most, mut before) = (Most::default(), Seen::new());
            while !stop.load(Ordering::Relaxed) {
                let seen = walk(&folders);
                let both = seen.iter().filter_map(|(inode, now)| Some((now, before.get(inode)?)));
                let (length, blocks) =
                    both.fold((0, 0), |sum, (now, then)| (sum.0 + now.0.min(then.0), sum.1 + now.1.min(then.1)));
                most.certain = most.certain.max(length);
                most.blocks = most.blocks.max(blocks);
                most.walked = most.walked.max(length_of(&seen));
                most.own = most.own.max(cache.own_count());
                most.looks += 1;
                before = seen;
                thread::sleep(EVERY);
            }
            most
        });
        let done = work();
        let ended = Instant::now();
        let freed = loop {
            if length_of(&walk(&folders)) <= cap {
                break Some(ended.elapsed());
            }
            if ended.elapsed() > PATIENCE || cache.proxy == super::proxies::Proxy::Distribution {
                break None;
            }
        };
        stop.store(true, Ordering::Relaxed);
        (sampling.join().unwrap(), done, freed)
    })
}

/// The lengths of the files that the cap is for, together.
pub(crate) fn bytes(cache: &Cache) -> u64 {
    length_of(&walk(&cache.content()))
}

fn length_of(seen: &Seen) -> u64 {
    seen.values().map(|(length, _)| length).sum()
}

fn walk(folders: &[PathBuf]) -> Seen {
    let mut seen = Seen::new();
    folders.iter().for_each(|folder| look_into(folder, &mut seen));
    seen
}

fn look_into(folder: &Path, seen: &mut Seen) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => look_into(&entry.path(), seen),
            // The few bytes beside a download that say how far it is.
            Ok(_) if entry.file_name() == "state" => {}
            Ok(metadata) => _ = seen.insert(metadata.ino(), (metadata.len(), metadata.blocks() * 512)),
            // It went meanwhile.
            Err(_) => {}
        }
    }
}
