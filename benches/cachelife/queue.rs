//! A queue of blobs that can leave it anywhere, each step in constant time.

/// No blob.
const NONE: u32 = u32::MAX;

/// A doubly linked list over the numbers of the blobs. A blob is in it at most once.
pub(crate) struct Queue {
    links: Vec<Link>,
    oldest: u32,
    youngest: u32,
}

#[derive(Clone)]
struct Link {
    older: u32,
    younger: u32,
    here: bool,
}

impl Queue {
    /// An empty queue for the blobs `0..blobs`.
    pub(crate) fn new(blobs: usize) -> Queue {
        Queue { links: vec![Link { older: NONE, younger: NONE, here: false }; blobs], oldest: NONE, youngest: NONE }
    }

    pub(crate) fn has(&self, blob: u32) -> bool {
        self.links[blob as usize].here
    }

    pub(crate) fn oldest(&self) -> Option<u32> {
        some(self.oldest)
    }

    /// The one that came after `blob`.
    pub(crate) fn younger(&self, blob: u32) -> Option<u32> {
        some(self.links[blob as usize].younger)
    }

    /// Adds a blob that is not in the queue.
    pub(crate) fn push(&mut self, blob: u32) {
        let before = std::mem::replace(&mut self.youngest, blob);
        self.links[blob as usize] = Link { older: before, younger: NONE, here: true };
        match some(before) {
            Some(before) => self.links[before as usize].younger = blob,
            None => self.oldest = blob,
        }
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let oldest = self.oldest()?;
        self.remove(oldest);
        Some(oldest)
    }

    /// Takes `blob` out. Whether it was there.
    pub(crate) fn remove(&mut self, blob: u32) -> bool {
        let Link { older, younger, here } = self.links[blob as usize];
        if !here {
            return false;
        }
        self.links[blob as usize].here = false;
        match some(older) {
            Some(older) => self.links[older as usize].younger = younger,
            None => self.oldest = younger,
        }
        match some(younger) {
            Some(younger) => self.links[younger as usize].older = older,
            None => self.youngest = older,
        }
        true
    }
}

fn some(blob: u32) -> Option<u32> {
    (blob != NONE).then_some(blob)
}
