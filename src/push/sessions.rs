//! Counts the open uploads of each owner and bounds them (SECURITY.md S14).
//!
//! One owner may have `hosted.uploads_per_user`, all owners together `hosted.uploads`. At a limit
//! an idle upload, one that no request is writing, is discarded for the new one:
//!
//! | limit | discarded |
//! |---|---|
//! | one owner's | the owner's longest idle upload |
//! | all owners' | one of an earlier process; else the longest idle of the owner with the most |
//!
//! An upload that is being written is never discarded. If all are being written, the new one is
//! refused. A [`SingleUpload`](super::SingleUpload) does not count: its connection bounds it. In
//! memory only; called by `uploads.rs` and `writer.rs`.
//!
//! States of an upload: permitted (no name yet) → open, idle or in use → removed.

use std::{cmp::Reverse, collections::HashMap, sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::PushError;
use crate::storage::UploadId;

/// The open uploads.
pub(super) struct Sessions {
    table: Arc<Mutex<Uploads>>,
    per_owner: usize,
    in_total: usize,
    /// Notified each time a request has closed an upload.
    pub(super) released: Arc<Notify>,
}

#[derive(Default)]
struct Uploads {
    /// The uploads of an earlier process have been added.
    leftovers_known: bool,
    open: HashMap<UploadId, Open>,
    counts: HashMap<Arc<str>, usize>,
    /// Permits of uploads that have no name yet.
    opening: usize,
}

struct Open {
    /// `None`: an earlier process began it.
    owner: Option<Arc<str>>,
    /// When a request last began or ended to use it.
    used: Instant,
    /// How many requests use it or wait for it.
    writing: usize,
}

/// The right to begin one upload. Dropped unused, it is given back.
pub(super) struct UploadPermit {
    table: Arc<Mutex<Uploads>>,
    owner: Arc<str>,
    used: bool,
}

/// A limit is reached.
pub(super) struct Full {
    /// An idle upload that may be discarded for the new one.
    pub(super) idle: Option<UploadId>,
    /// The error for the client if no upload may be discarded.
    pub(super) error: PushError,
}

impl Sessions {
    pub(super) fn new(per_owner: usize, in_total: usize) -> Self {
        Sessions { table: Arc::default(), per_owner, in_total, released: Arc::default() }
    }

    /// Whether the uploads of an earlier process have yet to be added.
    pub(super) fn lacks_leftovers(&self) -> bool {
        !self.table.lock().leftovers_known
    }

    /// Adds the uploads that are on disk, once. Those unknown so far are of an earlier process.
    pub(super) fn add_leftovers(&self, found: Vec<UploadId>) {
        let mut table = self.table.lock();
        if !std::mem::replace(&mut table.leftovers_known, true) {
            let used = Instant::now();
            for id in found {
                table.open.entry(id).or_insert(Open { owner: None, used, writing: 0 });
            }
        }
    }

    /// A permit for one more upload of `owner`.
    pub(super) fn permit(&self, owner: &str) -> Result<UploadPermit, Full> {
        let mut table = self.table.lock();
        if table.counts.get(owner).is_some_and(|count| *count >= self.per_owner) {
            let error = PushError::TooMany("you have too many uploads open; finish or cancel some of them");
            return Err(Full { idle: table.idle_of(Some(owner)), error });
        }
        if table.open.len() + table.opening >= self.in_total {
            let error = PushError::TooMany("too many uploads are open; finish or cancel some, or try again later");
            return Err(Full { idle: table.idle_of(None).or_else(|| table.idle_of_the_largest_owner()), error });
        }
        let owner: Arc<str> = owner.into();
        *table.counts.entry(Arc::clone(&owner)).or_default() += 1;
        table.opening += 1;
        drop(table);
        Ok(UploadPermit { table: Arc::clone(&self.table), owner, used: false })
    }

    /// A request uses the upload, or waits for it.
    pub(super) fn begin_use(&self, id: &UploadId) {
        if let Some(open) = self.table.lock().open.get_mut(id) {
            open.used = Instant::now();
            open.writing += 1;
        }
    }

    /// The request does not use the upload any more.
    pub(super) fn end_use(&self, id: &UploadId) {
        if let Some(open) = self.table.lock().open.get_mut(id) {
            open.used = Instant::now();
            open.writing = open.writing.saturating_sub(1);
        }
    }

    /// The upload is finished, cancelled or discarded.
    pub(super) fn removed(&self, id: &UploadId) {
        let mut table = self.table.lock();
        if let Some(Open { owner: Some(owner), .. }) = table.open.remove(id) {
            table.uncount(&owner);
        }
    }
}

impl UploadPermit {
    /// The upload is on disk and has a name: it counts as open from here on.
    pub(super) fn opened(mut self, id: UploadId) {
        let open = Open { owner: Some(Arc::clone(&self.owner)), used: Instant::now(), writing: 0 };
        self.table.lock().open.insert(id, open);
        self.used = true;
    }
}

impl Drop for UploadPermit {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        table.opening -= 1;
        if !self.used {
            table.uncount(&self.owner);
        }
    }
}

impl Uploads {
    /// The longest idle upload of this owner; of an earlier process if `owner` is `None`.
    fn idle_of(&self, owner: Option<&str>) -> Option<UploadId> {
        let theirs = self.open.iter().filter(|(_, open)| open.owner.as_deref() == owner && open.writing == 0);
        theirs.min_by_key(|(_, open)| open.used).map(|(id, _)| *id)
    }

    /// The longest idle upload of the owner with the most uploads that has an idle one.
    fn idle_of_the_largest_owner(&self) -> Option<UploadId> {
        let mut owners: Vec<_> = self.counts.iter().collect();
        owners.sort_unstable_by_key(|(_, count)| Reverse(**count));
        owners.into_iter().find_map(|(owner, _)| self.idle_of(Some(owner)))
    }

    fn uncount(&mut self, owner: &Arc<str>) {
        if let Some(count) = self.counts.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> UploadId {
        format!("00000000-0000-4000-8000-{n:012x}").parse().unwrap()
    }

    fn open(sessions: &Sessions, owner: &str, ids: std::ops::Range<u64>) {
        for n in ids {
            sessions.permit(owner).unwrap_or_else(|_| panic!("no permit for {owner}")).opened(id(n));
        }
    }

    /// The upload that is discarded for a new one of `owner`; an error if the new one is refused.
    fn discards(sessions: &Sessions, owner: &str) -> Result<Option<UploadId>, ()> {
        match sessions.permit(owner) {
            Ok(_) => Ok(None),
            Err(Full { idle: Some(idle), .. }) => Ok(Some(idle)),
            Err(Full { idle: None, .. }) => Err(()),
        }
    }

    #[test]
    fn s14_the_longest_idle_of_an_owner_makes_place_for_its_next() {
        let sessions = Sessions::new(4, 100);
        open(&sessions, "a", 0..4);
        assert_eq!(discards(&sessions, "a"), Ok(Some(id(0))));
        assert_eq!(discards(&sessions, "b"), Ok(None), "another owner is not held up");
        sessions.begin_use(&id(0));
        sessions.begin_use(&id(1));
        sessions.end_use(&id(1));
        assert_eq!(discards(&sessions, "a"), Ok(Some(id(2))), "an upload that is being written stays");
        (2..4).for_each(|n| sessions.begin_use(&id(n)));
        assert_eq!(discards(&sessions, "a"), Ok(Some(id(1))));
        sessions.begin_use(&id(1));
        assert_eq!(discards(&sessions, "a"), Err(()), "all are being written");
        sessions.end_use(&id(0));
        sessions.removed(&id(0));
        sessions.removed(&id(0));
        let permit = sessions.permit("a").ok().unwrap();
        assert!(sessions.permit("a").is_err(), "a permit counts before it is used");
        drop(permit);
        (1..4).for_each(|n| sessions.removed(&id(n)));
        let table = sessions.table.lock();
        assert!(table.open.is_empty() && table.counts.is_empty() && table.opening == 0);
    }

    /// Each line: the owners with their uploads and how many of these are being written, the owner
    /// that asks, and the owner whose upload is discarded.
    #[test]
    fn s14_no_owner_blocks_another() {
        for (owners, asks, expected) in [
            (&[("a", 6, 0), ("b", 4, 0)][..], "c", Ok("a")),
            (&[("a", 6, 6), ("b", 4, 0)], "c", Ok("b")),
            (&[("a", 6, 5), ("b", 4, 0)], "c", Ok("a")),
            (&[("a", 6, 6), ("b", 4, 4)], "c", Err(())),
            (&[("a", 6, 0), ("b", 4, 0)], "b", Ok("a")),
            (&[("a", 6, 0), ("b", 4, 0)], "a", Ok("a")),
            (&[("", 9, 0), ("b", 1, 0)], "b", Ok("")),
            (&[("", 4, 4), ("b", 6, 0)], "c", Ok("b")),
            (&[("", 10, 0)], "c", Ok("")),
        ] {
            let sessions = Sessions::new(6, 10);
            let mut whose = HashMap::new();
            for (owner, count, writing) in owners {
                let first = whose.len() as u64;
                let ids = first..first + count;
                match *owner {
                    "" => sessions.add_leftovers(ids.clone().map(id).collect()),
                    owner => open(&sessions, owner, ids.clone()),
                }
                ids.clone().take(*writing).for_each(|n| sessions.begin_use(&id(n)));
                whose.extend(ids.map(|n| (id(n), *owner)));
            }
            let found = discards(&sessions, asks).map(|idle| idle.map_or("nobody's", |idle| whose[&idle]));
            assert_eq!(found, expected, "{owners:?}, and {asks} asks");
        }
    }

    #[test]
    fn leftovers_are_added_once_and_count() {
        let sessions = Sessions::new(4, 4);
        open(&sessions, "a", 0..1);
        assert!(sessions.lacks_leftovers());
        sessions.add_leftovers((0..3).map(id).collect());
        sessions.add_leftovers((3..9).map(id).collect());
        assert!(!sessions.lacks_leftovers());
        open(&sessions, "a", 3..4);
        assert!(matches!(discards(&sessions, "b"), Ok(Some(idle)) if idle == id(1) || idle == id(2)));
    }
}
