//! The one thread that changes sled.
//!
//! Promises: operations are applied in the order in which they were queued (I1). After an error, a
//! panic or a nearly full disk the index is off and the thread ends (I4, I5). Callers:
//! `Index::start`.

use std::{
    path::Path,
    sync::{
        atomic::Ordering,
        mpsc::{Receiver, SyncSender},
    },
};

use super::{
    entry::{self, Entry, RepositoryKey, Tree},
    open::{self, Opened, Trees, guarded},
    shared::{Shared, State},
};
use crate::{
    oci::Digest,
    storage::{BlobUse, space::Space},
};

/// With fewer bytes free on the disk the index is off: sled does not survive a full disk.
const RESERVE: u64 = 64 << 20;

/// An order for the thread.
#[derive(Debug)]
pub(super) enum Operation {
    /// A change that the files have already.
    Write { repository: Option<RepositoryKey>, entries: Vec<Entry> },
    /// Records that the rebuild has read; `applied` is told when they are in.
    Feed { entries: Vec<Entry>, applied: SyncSender<()> },
    /// A blob was used, at this time in milliseconds.
    Touch { digest: Digest, now: u64 },
    /// A manifest that names these blobs was used, at this time in milliseconds.
    Name { digests: Vec<Digest>, now: u64 },
    /// Last uses in the future go back by so many milliseconds.
    SetBack { digests: Vec<Digest>, by: u64, now: u64 },
    /// Clients were given so many bytes of these blobs.
    Serve { served: Vec<(Digest, u64)> },
    /// The rebuild has fed everything.
    Complete,
    /// The state has changed: read it again.
    Wake,
    /// Flush, answer with the token, and end.
    Close { reply: SyncSender<Option<u64>> },
}

/// Opens sled and applies operations until the index is closed or off, or its handle is gone.
pub(super) fn run(shared: &Shared, operations: &Receiver<Operation>, folder: &Path, token: Option<u64>, space: &Space) {
    let opened = if nearly_full(space) { Err(FULL.to_owned()) } else { open::open(folder, token) };
    let trees = match opened {
        Ok(Opened::Believed(trees)) => {
            shared.enter(State::Ready(trees.clone()));
            trees
        }
        Ok(Opened::Fresh(trees)) => {
            shared.enter(State::Rebuilding);
            trees
        }
        Err(why) => {
            shared.off(&why);
            shared.settle();
            return;
        }
    };
    shared.settle();
    for operation in operations {
        if shared.is_off() {
            break;
        }
        if nearly_full(space) {
            shared.off(&FULL);
            break;
        }
        match guarded(|| apply(shared, &trees, operation)) {
            Ok(Next::Go) => {}
            Ok(Next::End) => break,
            Err(why) => {
                shared.off(&why);
                break;
            }
        }
    }
    // Off first, so that the last handle of sled is dropped here: sled flushes when it is dropped,
    // and panics where it cannot return an error.
    shared.off_quietly();
    let _ = guarded(|| {
        drop(trees);
        Ok(())
    });
}

const FULL: &str = "the disk is nearly full";

enum Next {
    Go,
    End,
}

fn nearly_full(space: &Space) -> bool {
    space.file_system().is_some_and(|fs| fs.free < RESERVE)
}

fn apply(shared: &Shared, trees: &Trees, operation: Operation) -> sled::Result<Next> {
    match operation {
        Operation::Write { repository, entries } => {
            store(trees, entries)?;
            if let Some(repository) = repository {
                shared.applied(&repository);
            }
        }
        Operation::Feed { entries, applied } => {
            store(trees, entries)?;
            // The rebuild may have been told to stop meanwhile.
            let _ = applied.send(());
        }
        Operation::Touch { digest, now } => {
            shared.hints.fetch_sub(1, Ordering::Relaxed);
            note(trees, &digest, |blob| blob.used(now))?;
        }
        Operation::Name { digests, now } => {
            shared.hints.fetch_sub(1, Ordering::Relaxed);
            for digest in digests {
                note(trees, &digest, |blob| blob.named(now))?;
            }
        }
        Operation::SetBack { digests, by, now } => {
            shared.hints.fetch_sub(1, Ordering::Relaxed);
            for digest in digests {
                note(trees, &digest, |blob| blob.set_back(by, now))?;
            }
        }
        Operation::Serve { served } => {
            shared.hints.fetch_sub(1, Ordering::Relaxed);
            for (digest, bytes) in served {
                note(trees, &digest, |blob| blob.given(bytes))?;
            }
        }
        Operation::Complete => shared.enter(State::Ready(trees.clone())),
        Operation::Wake => {}
        Operation::Close { reply } => {
            // An error here means that the caller no longer waits.
            let _ = reply.send(if shared.ready().is_some() { Some(open::seal(trees)?) } else { None });
            return Ok(Next::End);
        }
    }
    Ok(Next::Go)
}

fn store(trees: &Trees, entries: Vec<Entry>) -> sled::Result<()> {
    for Entry { tree, key, value } in entries {
        match tree {
            Tree::Tags => drop(put(&trees.tags, key, value)?),
            Tree::Links => store_link(trees, key, value)?,
            Tree::Blobs => store_blob(trees, key, value)?,
        }
    }
    Ok(())
}

/// A blob. One that is here already keeps its uses.
fn store_blob(trees: &Trees, key: Vec<u8>, value: Option<Vec<u8>>) -> sled::Result<()> {
    let value = match value {
        Some(value) => {
            let before = trees.blobs.get(&key)?.and_then(|before| entry::parse_blob(&before));
            let merged = entry::parse_blob(&value).zip(before).map(|(blob, before)| blob.over(before));
            Some(merged.map_or(value, entry::blob_value))
        }
        None => None,
    };
    put(&trees.blobs, key, value).map(drop)
}

/// Changes what is known of a blob's use. A blob without an entry is gone, or the rebuild has yet
/// to read its file, whose access time shows this use.
fn note(trees: &Trees, digest: &Digest, change: impl FnOnce(BlobUse) -> BlobUse) -> sled::Result<()> {
    let key = entry::blob_key(digest);
    let before = trees.blobs.get(&key)?.and_then(|value| entry::parse_blob(&value));
    match before.map(|before| (before, change(before))) {
        Some((before, after)) if after != before => put(&trees.blobs, key, Some(entry::blob_value(after))).map(drop),
        Some(_) | None => Ok(()),
    }
}

/// A link, and its entries in `holders` and `referrers`.
fn store_link(trees: &Trees, key: Vec<u8>, value: Option<Vec<u8>>) -> sled::Result<()> {
    let there = value.as_ref().map(|_| Vec::new());
    if let Some(holder) = entry::holder_key(&key) {
        put(&trees.holders, holder, there.clone())?;
    }
    let referrer = value.as_ref().and_then(|text| entry::referrer_key(&key, text));
    let before = put(&trees.links, key.clone(), value)?;
    let before = before.and_then(|text| entry::referrer_key(&key, &text));
    if let Some(before) = before.filter(|before| Some(before) != referrer.as_ref()) {
        put(&trees.referrers, before, None)?;
    }
    if let Some(referrer) = referrer {
        put(&trees.referrers, referrer, there)?;
    }
    Ok(())
}

/// Sets or removes a value. Returns the one before.
fn put(tree: &sled::Tree, key: Vec<u8>, value: Option<Vec<u8>>) -> sled::Result<Option<sled::IVec>> {
    match value {
        Some(value) => tree.insert(key, value),
        None => tree.remove(key),
    }
}
