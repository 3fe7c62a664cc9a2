//! The bytes that answers hold in memory, bounded for all of them together (S28).
//!
//! An answer of more than a few bytes is counted from the moment it is made until its last byte has
//! left. The same bytes are counted once, however many clients get them. Beyond the bounds a list
//! is answered 503, and a manifest is sent from its file.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

/// The most bytes of all answers together, and of those to one owner.
const MOST: usize = 64 << 20;
const OF_ONE: usize = MOST / 2;

/// The counts of all answers. Shared by all connections.
#[derive(Default, Debug)]
pub(crate) struct AnswerMemory(Mutex<HoldTable>);

#[derive(Default, Debug)]
struct HoldTable {
    total: usize,
    owners: HashMap<IpAddr, usize>,
    /// By the address of the first byte.
    held: HashMap<usize, HeldBytes>,
}

#[derive(Debug)]
struct HeldBytes {
    /// The first client that asked for them; they count for it.
    owner: IpAddr,
    length: usize,
    answers: usize,
}

/// The counted bytes of one answer, while it lives.
#[derive(Debug)]
pub(crate) struct AnswerHold {
    loads: Arc<AnswerMemory>,
    place: usize,
}

impl AnswerMemory {
    /// Counts these bytes, which must live at least as long as the hold. `None`: they are too many.
    pub(crate) fn take(self: &Arc<Self>, owner: IpAddr, bytes: &Bytes) -> Option<AnswerHold> {
        let (place, length) = (bytes.as_ptr() as usize, bytes.len());
        let mut table = self.lock();
        if let Some(held) = table.held.get_mut(&place) {
            held.answers += 1;
        } else {
            let theirs = table.owners.get(&owner).copied().unwrap_or_default();
            if table.total + length > MOST || theirs + length > OF_ONE {
                return None;
            }
            table.total += length;
            *table.owners.entry(owner).or_default() += length;
            table.held.insert(place, HeldBytes { owner, length, answers: 1 });
        }
        drop(table);
        Some(AnswerHold { loads: Arc::clone(self), place })
    }

    fn lock(&self) -> MutexGuard<'_, HoldTable> {
        self.0.lock()
    }
}

impl Drop for AnswerHold {
    fn drop(&mut self) {
        let mut table = self.loads.lock();
        let Some(held) = table.held.get_mut(&self.place) else { return };
        held.answers -= 1;
        if held.answers > 0 {
            return;
        }
        let (owner, length) = (held.owner, held.length);
        table.held.remove(&self.place);
        table.total -= length;
        if let Some(theirs) = table.owners.get_mut(&owner) {
            *theirs -= length;
            if *theirs == 0 {
                table.owners.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    fn piece() -> Bytes {
        Bytes::from(vec![0; OF_ONE / 4])
    }

    #[test]
    fn the_same_bytes_count_once() {
        let (loads, bytes) = (Arc::new(AnswerMemory::default()), piece());
        let many: Vec<_> = (0..1000).map(|n| loads.take(owner(n as u8), &bytes).unwrap()).collect();
        assert_eq!(loads.lock().total, bytes.len());
        drop(many);
        let table = loads.lock();
        assert!(table.total == 0 && table.owners.is_empty() && table.held.is_empty());
    }

    #[test]
    fn nobody_has_more_than_half() {
        let (loads, pieces) = (Arc::new(AnswerMemory::default()), (0..10).map(|_| piece()).collect::<Vec<_>>());
        let mut theirs: Vec<_> = pieces[..4].iter().map(|bytes| loads.take(owner(1), bytes).unwrap()).collect();
        assert!(loads.take(owner(1), &pieces[4]).is_none());
        let others: Vec<_> = pieces[4..8].iter().map(|bytes| loads.take(owner(2), bytes).unwrap()).collect();
        assert!(loads.take(owner(3), &pieces[8]).is_none(), "all together have enough");
        theirs.pop();
        let third = loads.take(owner(3), &pieces[8]);
        assert!(third.is_some());
        drop((theirs, others, third));
        assert_eq!(loads.lock().total, 0);
    }
}
