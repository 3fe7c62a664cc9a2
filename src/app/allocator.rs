//! Gives freed memory back to the kernel when a crowd of clients has left (S28). One of the
//! background tasks.
//!
//! glibc gives back large pieces of their own, and memory at the end of a heap. It raises what
//! counts as large, up to 32 MiB, as such pieces are freed, and keeps twice that at the end of each
//! heap; [`bound`] keeps both small. Memory that is freed below a piece in use stays with the
//! process, however much it is. So when the process has grown and grows no more, the allocator is
//! told to let go of all free pages. Without glibc nothing is done.

use std::{fs::File, io::Read as _, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::runtime::BlockingPool;

/// How often the process's size is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// With fewer resident bytes than this, a search is not worth its time.
const ENOUGH: u64 = 56 << 20;

/// A difference in size up to this counts as none, in bytes.
const SAME: u64 = 1 << 20;

/// The most looks that are skipped after a search that found nothing.
const RESTS: u32 = 12;

/// A piece of so many bytes is one of its own.
const LARGE: i32 = 1 << 20;

/// Bounds what the allocator keeps for later. Before the first thread is begun.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the allocator can be asked in no other way")]
pub(super) fn bound() {
    // SAFETY: mallopt(3) takes no pointer, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * LARGE);
    }
}

#[cfg(not(target_env = "gnu"))]
pub(super) fn bound() {}

/// Looks at the process's size until `stop`. Searches run on `pool`.
pub(super) async fn tend(pool: BlockingPool, stop: CancellationToken) {
    let (mut last, mut rests, mut resting) = (0, 0, 0);
    while tokio::time::timeout(EVERY, stop.cancelled()).await.is_err() {
        let Some(now) = resident() else { return };
        let grows = now > last + SAME;
        last = now;
        if grows {
            (rests, resting) = (0, 0);
        } else if resting > 0 {
            resting -= 1;
        } else if now >= ENOUGH {
            if pool.run(trim).await.is_err() {
                return;
            }
            last = resident().unwrap_or(now);
            rests = if last + SAME < now { 0 } else { (2 * rests + 1).min(RESTS) };
            resting = rests;
            tracing::debug!(before = now, after = last, "freed memory was given back");
        }
    }
}

/// The resident bytes of the process: the second field of `statm` (proc(5)), which is in pages.
fn resident() -> Option<u64> {
    let mut sizes = String::new();
    // `fs::read_to_string` would ask for the length first, and proc has none.
    File::open("/proc/self/statm").ok()?.take(128).read_to_string(&mut sizes).ok()?;
    let pages: u64 = sizes.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the allocator can be asked in no other way")]
fn trim() {
    // SAFETY: malloc_trim(3) takes no pointer, is MT-safe, and touches free memory alone.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
