//! FAULTS.md, "kill -9 at every write step" and "EIO on fsync": what was acknowledged is there,
//! nothing partial shows.

mod forget;
mod push;
mod uses;

use std::process::{Command, Stdio};

use super::*;

const PULL: &str = "storage::tests::killed::child_that_works";
const PUSH: &str = "storage::tests::killed::push::child_that_pushes";

/// The system calls of the commit protocol, in the spellings of the architectures.
const STEPS: [&str; 5] = [
    "?fdatasync,?fsync",
    "?rename,?renameat,?renameat2",
    "?write,?pwrite64",
    "?unlink,?unlinkat,?rmdir",
    "?mkdir,?mkdirat,?fallocate",
];

/// Runs the child's work with a fault at the `nth` of these calls of a thread. Gives back what was
/// acknowledged, and whether the work came to its end.
fn work(child_test: &str, dir: &Path, steps: &str, fault: &str, nth: usize) -> (Vec<String>, bool) {
    let inject = format!("inject={steps}:{fault}:when={nth}");
    let trace = format!("trace={steps}");
    let words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let output = child(child_test, dir, &words).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let acknowledged = text.lines().filter_map(|line| line.strip_prefix("acknowledged ")).map(str::to_owned).collect();
    (acknowledged, text.lines().any(|line| line == "at the end"))
}

fn strace_is_missing() -> bool {
    let runs = Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|o| o.status.success());
    if !runs {
        left_out("strace does not run (Debian package strace)");
    }
    !runs
}

fn check(dir: &Path, acknowledged: &[String], why: &str) {
    let storage = open(dir);
    let a = repository("a");
    for n in 0..3_u8 {
        let name = digest(&[n]);
        let acked = |what: &str| acknowledged.contains(&format!("{what} {n}"));
        let blob = storage.blobs.read(&name, 9).unwrap();
        assert!(blob.is_some() || !acked("blob"), "{why}: blob {n}");
        assert!(blob.is_none_or(|bytes| bytes == [n][..]), "{why}");
        let link = storage.catalog.link(&a, &name).unwrap();
        assert!(link.is_some() || !acked("link"), "{why}: link {n}");
        let tagged = storage.catalog.tag(&a, &tag("t")).unwrap();
        assert!(!acked("tag") || tagged.is_some_and(|record| (n..3).any(|m| record.digest == digest(&[m]))), "{why}");
    }
    let bytes = content(1 << 20);
    let whole = storage.blobs.open(&digest(&bytes)).unwrap();
    assert!(whole.is_some() || !acknowledged.iter().any(|what| what == "part"), "{why}");
    if whole.is_some() {
        assert!(storage.blobs.read(&digest(&bytes), 1 << 20).unwrap().is_some(), "{why}: a blob is never partial");
    } else {
        // Whatever the fault left, the download can be brought to its end.
        let mut part = storage.downloads.open(digest(&bytes), None).unwrap();
        part.append(batch(&bytes[part.offset() as usize..])).unwrap();
        assert!(part.verify().unwrap(), "{why}");
        part.commit().unwrap();
    }
    eventually(|| storage.index_is_ready());
    assert_eq!(
        storage.catalog.tags(&a).unwrap().len(),
        usize::from(storage.catalog.tag(&a, &tag("t")).unwrap().is_some())
    );
}

/// Kills the work at every `stride`th of each kind of step. Says how often, and what the
/// longest-lived acknowledged.
fn killed(test: &str, stride: usize, check: impl Fn(&Path, &[String], &str)) -> (usize, usize) {
    let (mut kills, mut last) = (0, 0);
    for steps in STEPS {
        for nth in (1..400).step_by(stride) {
            let dir = tempfile::tempdir().unwrap();
            let (acknowledged, ended) = work(test, dir.path(), steps, "signal=KILL", nth);
            check(dir.path(), &acknowledged, &format!("killed at {steps} {nth}"));
            if ended {
                break;
            }
            kills += 1;
            last = last.max(acknowledged.len());
        }
    }
    eprintln!("{kills} kills");
    (kills, last)
}

/// Fails every `stride`th sync of the work. At the end it acknowledges as much as `everything`.
fn unsynced(test: &str, stride: usize, everything: usize, check: impl Fn(&Path, &[String], &str)) {
    for nth in (1..400).step_by(stride) {
        let dir = tempfile::tempdir().unwrap();
        let (acknowledged, ended) = work(test, dir.path(), STEPS[0], "error=EIO", nth);
        check(dir.path(), &acknowledged, &format!("EIO at {nth}"));
        if ended && acknowledged.len() == everything {
            assert!(nth > 3, "the faults do not fire");
            eprintln!("{} failed syncs", nth / stride);
            return;
        }
    }
    panic!("the work never ends");
}

/// Every step is too much for each run of the suite; a stride that shares no factor with the
/// protocol's own rhythm walks through all its phases.
#[test]
fn killed_at_any_step_it_keeps_what_it_acknowledged() {
    if strace_is_missing() {
        return;
    }
    let (kills, last) = killed(PULL, 7, check);
    assert!(kills >= 8 && last >= 5, "the faults do not fire: {kills} {last}");
}

#[test]
fn a_failed_sync_is_never_acknowledged() {
    if strace_is_missing() {
        return;
    }
    unsynced(PULL, 3, 10, check);
}

#[test]
#[ignore = "run, and killed, by the tests above"]
fn child_that_works() {
    let Ok(storage) = Files::open(&child_dir(), LIMITS) else {
        return;
    };
    let a = repository("a");
    let say = |what: String, result: Result<(), StorageError>| {
        if result.is_ok() {
            println!("acknowledged {what}");
        }
    };
    println!();
    for n in 0..3_u8 {
        say(format!("blob {n}"), storage.blobs.put(&digest(&[n]), &[n]));
        say(format!("link {n}"), storage.catalog.put_links(&a, &[link_record(&[n])]));
        say(format!("tag {n}"), storage.catalog.put_tag(&a, &tag_record("t", &[n])));
    }
    let bytes = content(1 << 20);
    let download = || {
        let mut part = storage.downloads.open(digest(&bytes), Some(bytes.len() as u64))?;
        part.append(batch(&bytes))?;
        part.verify()?;
        part.commit().map(drop)
    };
    say("part".to_owned(), download());
    storage.close();
    println!("at the end");
}
