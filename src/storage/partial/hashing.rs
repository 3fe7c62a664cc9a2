//! The hash of the bytes that were written to a partial file.
//!
//! Promises: the hash covers exactly the written bytes, in order. A caller that wants the hash
//! waits until it has caught up.
//!
//! Hashing takes as long as writing, or longer. So a large file gets a thread beside its writer,
//! which hashes the written bytes while the next are being written. A small file has none. Nor has
//! a large one while there are as many such threads as processors, or where there is one processor.
//! One batch is being hashed, one waits, and the writer waits with a third. Callers: `PartialFile`.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use bytes::Bytes;

use crate::oci::Hasher;

/// From this many bytes on a file gets the thread.
const LARGE: u64 = 4 << 20;

/// Batches that wait to be hashed.
const AHEAD: usize = 1;

/// How many files have the thread. One value for all partial files of a data folder: they share
/// the processors. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub(in crate::storage) struct HashThreads(Arc<AtomicUsize>);

/// See the module.
pub(super) struct Hashing {
    hashed: u64,
    by: By,
    threads: HashThreads,
}

enum By {
    /// The writer itself.
    Writer(Box<Hasher>),
    Thread(SyncSender<Order>),
}

enum Order {
    Take(Vec<Bytes>),
    /// Asks for the hash of all bytes taken before.
    Tell(SyncSender<Hasher>),
}

impl Hashing {
    /// Goes on from here.
    pub(super) fn new(hasher: Hasher, threads: HashThreads) -> Hashing {
        Hashing { hashed: 0, by: By::Writer(Box::new(hasher)), threads }
    }

    /// Begins again with this hash.
    pub(super) fn restart(&mut self, hasher: Hasher) {
        *self = Hashing::new(hasher, self.threads.clone());
    }

    /// Hashes the next written bytes.
    pub(super) fn update(&mut self, written: Vec<Bytes>) {
        self.hashed += written.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        match &mut self.by {
            By::Writer(hasher) => {
                written.iter().for_each(|bytes| hasher.update(bytes));
                if self.hashed >= LARGE
                    && let Some(thread) = beside(Hasher::clone(hasher), &self.threads)
                {
                    self.by = By::Thread(thread);
                }
            }
            // A thread that has ended is noticed when the hash is wanted.
            By::Thread(thread) => drop(thread.send(Order::Take(written))),
        }
    }

    /// The hash of everything so far.
    pub(super) fn hasher(&self) -> io::Result<Hasher> {
        let thread = match &self.by {
            By::Writer(hasher) => return Ok(Hasher::clone(hasher)),
            By::Thread(thread) => thread,
        };
        let (tell, told) = mpsc::sync_channel(1);
        let asked = thread.send(Order::Tell(tell));
        let hasher = asked.ok().and_then(|()| told.recv().ok());
        hasher.ok_or_else(|| io::Error::other("the thread that hashes is gone"))
    }
}

/// A thread that goes on with this hash. `None` if it would share the writer's processor, or cannot
/// be started.
fn beside(hasher: Hasher, threads: &HashThreads) -> Option<SyncSender<Order>> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let permit = threads.take(processors).filter(|_| processors > 1)?;
    let (orders, received) = mpsc::sync_channel(AHEAD);
    let body = move || {
        let _permit = permit;
        run(hasher, &received);
    };
    thread::Builder::new().name("lanyard-hash".to_owned()).spawn(body).is_ok().then_some(orders)
}

/// The right to one of the threads.
struct Permit(HashThreads);

impl HashThreads {
    fn take(&self, most: usize) -> Option<Permit> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < most).then_some(n + 1));
        taken.is_ok().then(|| Permit(self.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Hashes until the file is closed.
fn run(mut hasher: Hasher, orders: &Receiver<Order>) {
    for order in orders {
        match order {
            Order::Take(written) => written.iter().for_each(|bytes| hasher.update(bytes)),
            // The caller may have left.
            Order::Tell(tell) => drop(tell.send(hasher.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn the_hash_is_that_of_everything_in_order_whoever_makes_it() {
        let mut hashing = Hashing::new(Hasher::new(Algorithm::Sha256), HashThreads::default());
        let mut expected = Hasher::new(Algorithm::Sha256);
        for n in 0..40_u8 {
            let batch: Vec<Bytes> = (0..3).map(|m| Bytes::from(vec![n ^ m; 100_000 + usize::from(n)])).collect();
            batch.iter().for_each(|bytes| expected.update(bytes));
            hashing.update(batch);
            if n % 7 == 0 {
                assert_eq!(hashing.hasher().unwrap().finish(), expected.clone().finish());
            }
        }
        assert_eq!(hashing.hasher().unwrap().finish(), expected.clone().finish());
        // Whether it got a thread depends on the number of processors; this part has one for sure.
        let (orders, received) = mpsc::sync_channel(AHEAD);
        let seed = expected.clone();
        let thread = thread::spawn(move || run(seed, &received));
        hashing.by = By::Thread(orders);
        hashing.update(vec![Bytes::from_static(b"more")]);
        expected.update(b"more");
        assert_eq!(hashing.hasher().unwrap().finish(), expected.finish());
        drop(hashing);
        thread.join().unwrap();
    }

    #[test]
    fn a_thread_that_is_gone_is_an_error_and_no_wrong_hash() {
        let (orders, received) = mpsc::sync_channel(AHEAD);
        drop(received);
        let mut hashing = Hashing { hashed: 0, by: By::Thread(orders), threads: HashThreads::default() };
        hashing.update(vec![Bytes::from_static(b"x")]);
        assert!(hashing.hasher().is_err());
    }
}
