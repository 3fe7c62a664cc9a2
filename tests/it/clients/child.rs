//! Child processes that cannot outlive their test: waits are bounded, and a kill ends a process
//! with all its children.

use std::fs;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a test waits for any one event before it fails. Generous: the whole time passes only
/// when a process hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Calls `done` until it gives a value, or gives up after `patience`.
pub(crate) fn eventually<T>(patience: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + patience;
    loop {
        if let Some(answer) = done() {
            return Some(answer);
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for the end of `child`; `None` when it is still running after `patience`.
pub(crate) fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    eventually(patience, || child.try_wait().expect("a child can be waited for"))
}

/// Ends a cell's process and all its children, and returns when they are gone.
///
/// `child` is `unshare`, and its only child is the first process of a process namespace: when that
/// one dies, the kernel kills everything else in the namespace before it lets `unshare` reap it.
pub(crate) fn end_family(child: &mut Child) {
    let id = child.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    let first = children.split_whitespace().find_map(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    if let Some(first) = first {
        let _ = kill_process(first, Signal::KILL);
        if wait(child, Duration::from_secs(30)).is_some() {
            return;
        }
    }
    // `unshare` has not forked yet, or is stuck: `--kill-child` then ends the processes that exist.
    let _ = child.kill();
    let _ = child.wait();
}
