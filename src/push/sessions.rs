//! How many uploads are open, and whose (SECURITY.md S14).
//!
//! One owner may have `hosted.uploads_per_user`, all together `hosted.uploads`. At a limit an
//! upload that no request is writing makes place for the new one:
//!
//! | limit | goes |
//! |---|---|
//! | the owner's | its own that has been idle for longest |
//! | that of all | one that was found at the start and is nobody's; else the longest idle of the owner that has the most |
//!
//! An upload that is being written never goes. Only where all are, the new one is refused. One that
//! a single request does from begin to end takes no place: its connection bounds it.

use std::{cmp::Reverse, collections::HashMap, sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::PushError;
use crate::storage::UploadId;

/// The uploads that wait for a next request, or have one.
pub(super) struct Sessions {
    table: Arc<Mutex<Table>>,
    of_one: usize,
    in_all: usize,
    /// Told each time a request is done with an upload.
    pub(super) released: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    /// Those of an earlier process are known.
    stocked: bool,
    open: HashMap<UploadId, Open>,
    counts: HashMap<Arc<str>, usize>,
    /// Slots taken by uploads that have no name yet.
    opening: usize,
}

struct Open {
    /// None: it was found.
    owner: Option<Arc<str>>,
    /// When a request last had it.
    used: Instant,
    /// How many requests have it, or wait for it.
    writing: usize,
}

/// The right to begin one upload. Given back when dropped, unless it was used.
pub(super) struct Slot {
    table: Arc<Mutex<Table>>,
    owner: Arc<str>,
    used: bool,
}

/// There is no slot.
pub(super) struct Full {
    /// What may go to make one.
    pub(super) idle: Option<UploadId>,
    /// What the client is told where nothing may.
    pub(super) error: PushError,
}

impl Sessions {
    pub(super) fn new(of_one: usize, in_all: usize) -> Self {
        Sessions { table: Arc::default(), of_one, in_all, released: Arc::default() }
    }

    /// Whether the uploads of an earlier process are still to be told.
    pub(super) fn is_unstocked(&self) -> bool {
        !self.table.lock().stocked
    }

    /// These uploads were found: all but those that are known here are of an earlier process.
    pub(super) fn stock(&self, found: Vec<UploadId>) {
        let mut table = self.table.lock();
        if !std::mem::replace(&mut table.stocked, true) {
            let used = Instant::now();
            for id in found {
                table.open.entry(id).or_insert(Open { owner: None, used, writing: 0 });
            }
        }
    }

    /// A slot for `owner`.
    pub(super) fn slot(&self, owner: &str) -> Result<Slot, Full> {
        let mut table = self.table.lock();
        if table.counts.get(owner).is_some_and(|count| *count >= self.of_one) {
            let error = PushError::TooMany("you have too many uploads open; finish or cancel some of them");
            return Err(Full { idle: table.idle_of(Some(owner)), error });
        }
        if table.open.len() + table.opening >= self.in_all {
            let error = PushError::TooMany("too many uploads are open; finish or cancel some, or try again later");
            return Err(Full { idle: table.idle_of(None).or_else(|| table.idle_of_the_greediest()), error });
        }
        let owner: Arc<str> = owner.into();
        *table.counts.entry(Arc::clone(&owner)).or_default() += 1;
        table.opening += 1;
        drop(table);
        Ok(Slot { table: Arc::clone(&self.table), owner, used: false })
    }

    /// A request has the upload, or waits for it.
    pub(super) fn taken(&self, id: &UploadId) {
        if let Some(open) = self.table.lock().open.get_mut(id) {
            open.used = Instant::now();
            open.writing += 1;
        }
    }

    /// It has it no more.
    pub(super) fn left(&self, id: &UploadId) {
        if let Some(open) = self.table.lock().open.get_mut(id) {
            open.used = Instant::now();
            open.writing = open.writing.saturating_sub(1);
        }
    }

    /// The upload is no more.
    pub(super) fn gone(&self, id: &UploadId) {
        let mut table = self.table.lock();
        if let Some(Open { owner: Some(owner), .. }) = table.open.remove(id) {
            table.less(&owner);
        }
    }
}

impl Slot {
    /// The upload is on disk and has a name.
    pub(super) fn used_by(mut self, id: UploadId) {
        let open = Open { owner: Some(Arc::clone(&self.owner)), used: Instant::now(), writing: 0 };
        self.table.lock().open.insert(id, open);
        self.used = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        table.opening -= 1;
        if !self.used {
            table.less(&self.owner);
        }
    }
}

impl Table {
    /// The upload of this owner that has been idle for longest.
    fn idle_of(&self, owner: Option<&str>) -> Option<UploadId> {
        let theirs = self.open.iter().filter(|(_, open)| open.owner.as_deref() == owner && open.writing == 0);
        theirs.min_by_key(|(_, open)| open.used).map(|(id, _)| *id)
    }

    /// The same of the owner that has the most, or the next where all of those are being written.
    fn idle_of_the_greediest(&self) -> Option<UploadId> {
        let mut owners: Vec<_> = self.counts.iter().collect();
        owners.sort_unstable_by_key(|(_, count)| Reverse(**count));
        owners.into_iter().find_map(|(owner, _)| self.idle_of(Some(owner)))
    }

    fn less(&mut self, owner: &Arc<str>) {
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
            sessions.slot(owner).unwrap_or_else(|_| panic!("no slot for {owner}")).used_by(id(n));
        }
    }

    /// What makes place for an upload of `owner`; an error where it is refused.
    fn makes_place(sessions: &Sessions, owner: &str) -> Result<Option<UploadId>, ()> {
        match sessions.slot(owner) {
            Ok(_) => Ok(None),
            Err(Full { idle: Some(idle), .. }) => Ok(Some(idle)),
            Err(Full { idle: None, .. }) => Err(()),
        }
    }

    #[test]
    fn s14_the_longest_idle_of_an_owner_makes_place_for_its_next() {
        let sessions = Sessions::new(4, 100);
        open(&sessions, "a", 0..4);
        assert_eq!(makes_place(&sessions, "a"), Ok(Some(id(0))));
        assert_eq!(makes_place(&sessions, "b"), Ok(None), "another owner is not held up");
        sessions.taken(&id(0));
        sessions.taken(&id(1));
        sessions.left(&id(1));
        assert_eq!(makes_place(&sessions, "a"), Ok(Some(id(2))), "what is being written stays");
        (2..4).for_each(|n| sessions.taken(&id(n)));
        assert_eq!(makes_place(&sessions, "a"), Ok(Some(id(1))));
        sessions.taken(&id(1));
        assert_eq!(makes_place(&sessions, "a"), Err(()), "all are being written");
        sessions.left(&id(0));
        sessions.gone(&id(0));
        sessions.gone(&id(0));
        let slot = sessions.slot("a").ok().unwrap();
        assert!(sessions.slot("a").is_err(), "a slot counts before it is used");
        drop(slot);
        (1..4).for_each(|n| sessions.gone(&id(n)));
        let table = sessions.table.lock();
        assert!(table.open.is_empty() && table.counts.is_empty() && table.opening == 0);
    }

    /// Each line: who has how many, how many of them are being written, who asks, and whose makes
    /// place.
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
                    "" => sessions.stock(ids.clone().map(id).collect()),
                    owner => open(&sessions, owner, ids.clone()),
                }
                ids.clone().take(*writing).for_each(|n| sessions.taken(&id(n)));
                whose.extend(ids.map(|n| (id(n), *owner)));
            }
            let found = makes_place(&sessions, asks).map(|idle| idle.map_or("nobody's", |idle| whose[&idle]));
            assert_eq!(found, expected, "{owners:?}, and {asks} asks");
        }
    }

    #[test]
    fn what_was_found_is_told_once_and_counts() {
        let sessions = Sessions::new(4, 4);
        open(&sessions, "a", 0..1);
        assert!(sessions.is_unstocked());
        sessions.stock((0..3).map(id).collect());
        sessions.stock((3..9).map(id).collect());
        assert!(!sessions.is_unstocked());
        open(&sessions, "a", 3..4);
        assert!(matches!(makes_place(&sessions, "b"), Ok(Some(idle)) if idle == id(1) || idle == id(2)));
    }
}
