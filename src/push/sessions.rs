//! How many uploads are open, and whose: at most 64 for one client and 1,024 in all (SECURITY.md S14).
//!
//! Whose an upload is lives in memory. After a restart those that were open before count only in all; they still go on. A
//! client that has 64 open gets another one where one of them has been idle for a while: pushes that break off, again and
//! again, must not keep it from pushing for a day.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::PushError;
use crate::{oci::Repository, storage::UploadId};

/// The most that one client may have open.
pub(super) const OF_ONE: usize = 64;
/// The most that may be open in all.
pub(super) const IN_ALL: usize = 1024;

/// The uploads of this process.
pub(super) struct Sessions {
    table: Arc<Mutex<Table>>,
    /// Told each time a request is done with an upload.
    pub(super) released: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    open: HashMap<UploadId, Open>,
    counts: HashMap<Arc<str>, usize>,
    /// Slots taken by uploads that have no name yet.
    opening: usize,
}

struct Open {
    owner: Arc<str>,
    repo: Repository,
    /// When a request last asked for it.
    used: Instant,
}

/// The right to begin one upload. Given back when dropped, unless it was used.
pub(super) struct Slot {
    table: Arc<Mutex<Table>>,
    owner: Arc<str>,
    used: bool,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Sessions { table: Arc::default(), released: Arc::default() }
    }

    /// A slot for `owner`, where `open` uploads are on disk.
    pub(super) fn slot(&self, owner: &str, open: usize) -> Result<Slot, PushError> {
        let mut table = lock(&self.table);
        if open + table.opening >= IN_ALL {
            return Err(PushError::TooMany("too many uploads are open; finish or cancel some, or try again later"));
        }
        let owner: Arc<str> = owner.into();
        let count = table.counts.entry(Arc::clone(&owner)).or_default();
        if *count >= OF_ONE {
            return Err(PushError::TooMany("you have too many uploads open; finish or cancel some of them"));
        }
        *count += 1;
        table.opening += 1;
        drop(table);
        Ok(Slot { table: Arc::clone(&self.table), owner, used: false })
    }

    /// A request asks for the upload.
    pub(super) fn used(&self, id: &UploadId) {
        if let Some(open) = lock(&self.table).open.get_mut(id) {
            open.used = Instant::now();
        }
    }

    /// The upload is no more.
    pub(super) fn gone(&self, id: &UploadId) {
        let mut table = lock(&self.table);
        if let Some(open) = table.open.remove(id) {
            table.less(&open.owner);
        }
    }

    /// The uploads of `owner`, each with the repository it goes to, and since when no request has asked for it; the longest
    /// idle first.
    pub(super) fn of(&self, owner: &str) -> Vec<(UploadId, Repository, Duration)> {
        let table = lock(&self.table);
        let mine = table.open.iter().filter(|(_, open)| *open.owner == *owner);
        let mut mine: Vec<_> = mine.map(|(id, open)| (*id, open.repo.clone(), open.used.elapsed())).collect();
        mine.sort_unstable_by_key(|(_, _, idle)| std::cmp::Reverse(*idle));
        mine
    }
}

impl Slot {
    /// The upload is on disk and has a name.
    pub(super) fn used_by(mut self, id: UploadId, repo: Repository) {
        let open = Open { owner: Arc::clone(&self.owner), repo, used: Instant::now() };
        lock(&self.table).open.insert(id, open);
        self.used = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        table.opening -= 1;
        if !self.used {
            table.less(&self.owner);
        }
    }
}

impl Table {
    fn less(&mut self, owner: &Arc<str>) {
        if let Some(count) = self.counts.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(owner);
            }
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> UploadId {
        format!("00000000-0000-4000-8000-{n:012x}").parse().unwrap()
    }

    fn repo() -> Repository {
        Repository { namespace: crate::oci::Namespace::Hosted, name: "a".parse().unwrap() }
    }

    #[test]
    fn s14_one_client_has_64_and_all_have_1024() {
        let sessions = Sessions::new();
        for n in 0..OF_ONE as u64 {
            sessions.slot("a", n as usize).unwrap().used_by(id(n), repo());
        }
        assert!(matches!(sessions.slot("a", 64), Err(PushError::TooMany(_))));
        assert!(sessions.slot("b", 64).is_ok(), "another client is not held up");
        assert!(matches!(sessions.slot("b", IN_ALL), Err(PushError::TooMany(_))));
        sessions.gone(&id(0));
        sessions.gone(&id(0));
        let slot = sessions.slot("a", 63).unwrap();
        assert!(sessions.slot("a", 63).is_err(), "a slot counts before it is used");
        drop(slot);
        sessions.used(&id(1));
        let mine = sessions.of("a");
        assert_eq!((mine.len(), mine[62].0), (63, id(1)), "the longest idle first");
        for n in 1..64 {
            sessions.gone(&id(n));
        }
        let table = lock(&sessions.table);
        assert!(table.open.is_empty() && table.counts.is_empty() && table.opening == 0);
    }
}
