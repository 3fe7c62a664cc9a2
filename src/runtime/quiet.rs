//! Threads whose work can wait for requests.
//!
//! [`run_quietly`] makes the calling thread one that takes the processor from no other thread when
//! it wakes: it runs when its turn comes (`SCHED_BATCH`, sched(7)). Its share of the processors
//! stays. Without it each step of an eviction interrupts a thread that answers a client, where all
//! processors are busy. A hint: where the system has no such thing, nothing happens.
//!
//! Callers: the threads of the retention, of the index, and of the uses, each for itself.

/// See the module.
pub(crate) fn run_quietly() {
    #[cfg(target_os = "linux")]
    batch();
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the scheduler can be asked in no other way")]
fn batch() {
    // SAFETY: all zeros is a value of this C structure, which has numbers alone.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live structure, and the kernel reads it alone. 0 is this thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn a_quiet_thread_is_quiet_alone() {
        // SAFETY: no pointer. 0 is this thread.
        #[allow(unsafe_code, reason = "the scheduler can be asked in no other way")]
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let quiet = std::thread::spawn(move || {
            super::run_quietly();
            policy()
        });
        assert_eq!((quiet.join().unwrap(), policy()), (libc::SCHED_BATCH, libc::SCHED_OTHER));
    }
}
