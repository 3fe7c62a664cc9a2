//! Opening sled, which may return an error, panic or hang over files that it wrote itself.
//!
//! An index is believed only if the last process closed it in order and it opens at the first try
//! with the right token. Any other is set aside, and a fresh one is filled from the files.
//! (Deleting sled's snapshots makes some damaged folders open again; but their content would have
//! to be compared with every file, which is what filling does.) Callers: the index's thread.

use std::{
    fs, io,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::mpsc::sync_channel,
    time::Duration,
};

use crate::{
    runtime::clock,
    storage::{durable, layout},
};

/// How long sled may take to open.
const DEADLINE: Duration = Duration::from_secs(10);

/// Bytes of pages that sled keeps, by their size on disk; in memory they take several times that,
/// for good (sled's default is 1 GiB). As many as the index has on disk when it is opened, within
/// these bounds: a registry that begins small stays small, and 40 MiB are held after 10,000 pushes
/// to new repositories instead of 59. Where not all pages fit, a page of a list costs three times
/// the processor time; an index that has grown has room for them from its next start on.
const CACHE: RangeInclusive<u64> = 2 << 20..=64 << 20;

/// The key of the token. It has a number so that an index with other trees or values than these is
/// not believed.
pub(super) const TOKEN: &[u8] = b"token 6";

/// An open sled. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Trees {
    pub(super) db: sled::Db,
    pub(super) tags: sled::Tree,
    pub(super) links: sled::Tree,
    pub(super) holders: sled::Tree,
    pub(super) referrers: sled::Tree,
    pub(super) blobs: sled::Tree,
}

/// How it opened.
pub(super) enum Opened {
    /// It is the index that was closed in order.
    Believed(Trees),
    /// It is new and empty.
    Fresh(Trees),
}

/// Opens the index that is there if `token` proves it, or else a fresh one. The error says why
/// there is no index.
pub(super) fn open(folder: &Path, token: Option<u64>) -> Result<Opened, String> {
    let cache = cache(folder);
    if let Some(token) = token {
        match within_deadline(folder, cache) {
            Ok(trees) => match guarded(|| trees.db.get(TOKEN)) {
                Ok(Some(held)) if *held == token.to_be_bytes() => return Ok(Opened::Believed(trees)),
                Ok(_) => tracing::warn!("the index is not the one that was closed in order; it is filled anew"),
                Err(why) => tracing::warn!(%why, "the index cannot be read; it is filled anew"),
            },
            Err(Refusal::Hangs) => return Err(Refusal::Hangs.to_string()),
            Err(Refusal::Fails(why)) => tracing::warn!(%why, "the index does not open; it is filled anew"),
        }
        set_aside(folder).map_err(|error| error.to_string())?;
    }
    discard(folder).map_err(|error| error.to_string())?;
    durable::ensure_dir(folder).map_err(|error| error.to_string())?;
    within_deadline(folder, cache).map(Opened::Fresh).map_err(|refusal| refusal.to_string())
}

/// Flushes, with a new token that no other state of the index has.
pub(super) fn seal(trees: &Trees) -> sled::Result<u64> {
    let token: u64 = rand::random();
    trees.db.insert(TOKEN, &token.to_be_bytes())?;
    trees.db.flush()?;
    Ok(token)
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Fails(String),
    #[error("sled does not open within {} s", DEADLINE.as_secs())]
    Hangs,
}

/// Opens sled on a thread of its own. A thread that hangs is abandoned with sled's files; it holds
/// nothing else.
fn within_deadline(folder: &Path, cache: u64) -> Result<Trees, Refusal> {
    let (sender, receiver) = sync_channel(1);
    let folder = folder.to_owned();
    let opening = std::thread::Builder::new().name("lanyard-index-open".to_owned()).spawn(move || {
        let _ = sender.send(guarded(|| trees(&folder, cache)));
    });
    let opening = opening.map_err(|error| Refusal::Fails(error.to_string()))?;
    let opened = receiver.recv_timeout(DEADLINE).map_err(|_| Refusal::Hangs)?;
    let _ = opening.join();
    opened.map_err(Refusal::Fails)
}

/// How many bytes to keep in memory. The size of an index that is gone is not known: it depends on
/// the repositories.
fn cache(folder: &Path) -> u64 {
    let files = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let has_repositories = || folder.parent().is_some_and(|data| files(&data.join(layout::REPOS)).next().is_some());
    let size: u64 = files(folder).filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
    match size {
        0 if has_repositories() => *CACHE.end(),
        size => size.clamp(*CACHE.start(), *CACHE.end()),
    }
}

fn trees(folder: &Path, cache: u64) -> sled::Result<Trees> {
    // Never flushed by a clock: an index that is not closed in order is filled anew, so a flush in
    // between gains nothing.
    let db = sled::Config::new().path(folder).cache_capacity(cache).flush_every_ms(None).open()?;
    Ok(Trees {
        tags: db.open_tree("tags")?,
        links: db.open_tree("links")?,
        holders: db.open_tree("holders")?,
        referrers: db.open_tree("referrers")?,
        blobs: db.open_tree("blobs")?,
        db,
    })
}

/// Runs sled and turns errors and panics into a reason.
pub(super) fn guarded<T>(run: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("sled panicked".to_owned()),
    }
}

/// Keeps a closed index that cannot be believed, so that a developer can look at it. Only the last
/// one is kept.
fn set_aside(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().unwrap_or(folder);
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("index.bad-") {
            discard(&entry.path())?;
        }
    }
    let bad = parent.join(format!("index.bad-{}", clock::now()));
    match fs::rename(folder, bad) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn discard(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_kept_in_memory_as_the_index_has() {
        let dir = tempfile::tempdir().unwrap();
        let index = dir.path().join("index");
        assert_eq!(cache(&index), 2 << 20, "a new data folder");
        fs::create_dir_all(dir.path().join("repos")).unwrap();
        assert_eq!(cache(&index), 2 << 20, "without a repository");
        fs::create_dir(dir.path().join("repos/_hosted")).unwrap();
        assert_eq!(cache(&index), 64 << 20, "an index that is gone");
        fs::create_dir(&index).unwrap();
        for (size, kept) in [(1, 2 << 20), (5 << 20, 5 << 20), (1 << 40, 64 << 20)] {
            fs::File::create(index.join("db")).unwrap().set_len(size).unwrap();
            assert_eq!(cache(&index), kept, "{size}");
        }
    }
}
