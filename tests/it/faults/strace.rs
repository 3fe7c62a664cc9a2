//! Death and errors at every system call of a pull, by strace's injection.
//!
//! strace counts per thread, so a point is "the first thread that makes its Nth call of this kind".
//! It attaches when the server is ready. For the calls of a start, lanyard starts under strace
//! (`-D` keeps the server our child).

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    figure, left_out, long,
    shelf::{cached, check_blobs, images, keep, pull},
};
use crate::{
    hub::{Hub, Image},
    lanyard::Lanyard,
    pull::config,
};

/// The calls by which a pull changes the disk.
const CALLS: &[&str] = &["openat", "write", "pwrite64", "fdatasync", "fsync", "rename", "mkdir", "unlink", "ftruncate"];

pub(crate) fn available() -> bool {
    let runs = Command::new("strace").args(["-f", "-e", "inject=fdatasync:error=EIO:when=1", "true"]).output();
    let runs = runs.is_ok_and(|output| output.status.success());
    if !runs {
        left_out("strace cannot inject here (Debian package strace; ptrace must be allowed)");
    }
    runs
}

/// An strace that is attached to a running server and waits for its point.
pub(crate) struct Ambush(Child);

impl Ambush {
    pub(super) fn lay(lanyard: &Lanyard, call: &str, what: &str) -> Ambush {
        Ambush::set(lanyard, call, what, &[])
    }

    /// The same for calls on this path only.
    pub(crate) fn lay_at(lanyard: &Lanyard, call: &str, what: &str, path: &str) -> Ambush {
        Ambush::set(lanyard, call, what, &["-P", path])
    }

    /// The same for calls on any of these paths.
    pub(super) fn lay_at_any(lanyard: &Lanyard, call: &str, what: &str, paths: &[String]) -> Ambush {
        let more: Vec<_> = paths.iter().flat_map(|path| ["-P", path]).collect();
        Ambush::set(lanyard, call, what, &more)
    }

    fn set(lanyard: &Lanyard, call: &str, what: &str, more: &[&str]) -> Ambush {
        let pid = lanyard.pid().unwrap().to_string();
        let inject = format!("inject={call}:{what}");
        let mut strace = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, "-p", &pid])
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(strace.stderr.take().unwrap());
        let mut line = String::new();
        // "strace: Process 17 attached with 18 threads"
        while !line.contains("attached") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "strace does not attach");
        }
        // Its other output is read and dropped, so that it never blocks on us.
        thread::spawn(move || said.lines().for_each(drop));
        Ambush(strace)
    }
}

impl Drop for Ambush {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::TERM);
        // Once in some hundred deaths strace waits for a thread that is gone, and reacts only to
        // SIGKILL. Its end is polled every millisecond for two seconds: `Child` has no wait with a
        // limit.
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            if self.0.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The points of one kind: all of them, or a few at the beginning and some scattered ones.
fn points(short: &'static [usize]) -> Box<dyn Iterator<Item = usize>> {
    if long() { Box::new(1..=1000) } else { Box::new(short.iter().copied()) }
}

/// Whether it was killed within a moment: its end is polled for 50 ms.
pub(super) fn died(lanyard: &mut Lanyard) -> bool {
    let until = Instant::now() + Duration::from_millis(50);
    loop {
        if lanyard.ended().is_some() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// After a death at any point: it starts, pulls, and has the content that it pulled, with upstream
/// or without.
fn comes_back(lanyard: &mut Lanyard, hub: &Hub, image: &Image, point: &str) {
    check_blobs(&lanyard.data_dir());
    lanyard.through(&[]);
    let began = Instant::now();
    if let Err(ended) = lanyard.try_restart() {
        panic!("{point}: does not start: {ended}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{point}: started after {:?}", began.elapsed());
    keep(lanyard.port(), image);
    hub.go_down();
    let again = pull(lanyard.port(), image);
    hub.come_back();
    assert!(again.as_ref().is_ok_and(|outcomes| cached(outcomes)), "{point}: {again:?}");
    check_blobs(&lanyard.data_dir());
}

/// SIGKILL at the Nth call of each kind during a pull, until the pull survives.
#[test]
fn kill_at_every_call_of_a_pull() {
    if !available() {
        return;
    }
    let points: Vec<_> = thread::scope(|scope| {
        let kinds: Vec<_> = CALLS.chunks(3).map(|calls| scope.spawn(|| kill_at(calls))).collect();
        kinds.into_iter().flat_map(|kind| kind.join().unwrap()).collect()
    });
    figure(&format!("points until the pull survived: {points:?}"));
    assert!(points.iter().map(|(_, deaths)| deaths).sum::<usize>() >= 10, "hardly a call was met: {points:?}");
}

fn kill_at(calls: &[&'static str]) -> Vec<(&'static str, usize)> {
    let hub = Hub::start();
    let image = images(&hub, "small", 1, &[500, 400 << 10]).remove(0);
    let mut met = Vec::new();
    for &call in calls {
        let (mut deaths, mut survived) = (0, 0);
        for n in points(&[1, 2, 3, 5, 8]) {
            let mut lanyard = Lanyard::start(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
            let ambush = Ambush::lay(&lanyard, call, &format!("signal=KILL:when={n}"));
            let _ = pull(lanyard.port(), &image);
            let dead = died(&mut lanyard);
            drop(ambush);
            if !dead {
                lanyard.kill9();
            }
            comes_back(&mut lanyard, &hub, &image, &format!("{call} {n}"));
            deaths += usize::from(dead);
            // The threads make other calls each time, so one survival is not the end.
            survived = if dead { 0 } else { survived + 1 };
            if survived == 3 || (survived > 0 && !long()) {
                break;
            }
        }
        met.push((call, deaths));
    }
    met
}

/// SIGKILL at the Nth call of a start on a folder with data, index and a parked download.
#[test]
fn kill_at_every_call_of_a_start() {
    if !available() {
        return;
    }
    let hub = Hub::start();
    let image = images(&hub, "small", 1, &[500, 400 << 10]).remove(0);
    let mut lanyard = Lanyard::start(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
    keep(lanyard.port(), &image);
    let mut deaths = Vec::new();
    for call in ["fsync", "rename", "unlink", "rmdir", "mkdir", "pwrite64", "fdatasync"] {
        let mut met = 0;
        for n in points(&[1, 3]) {
            lanyard.stop();
            let inject = format!("inject={call}:signal=KILL:when={n}");
            let trace = format!("trace={call}");
            lanyard.through(&["strace", "-D", "-f", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
            let started = lanyard.try_restart().is_ok();
            let dead = !started || died(&mut lanyard);
            if !dead {
                lanyard.kill9();
            }
            comes_back(&mut lanyard, &hub, &image, &format!("start, {call} {n}"));
            if !dead {
                break;
            }
            met += 1;
        }
        deaths.push((call, met));
    }
    figure(&format!("points of a start: {deaths:?}"));
}

/// EIO at the Nth sync: right bytes or an honest error, no unverified content is stored, and the
/// process lives.
#[test]
fn eio_at_every_sync() {
    if !available() {
        return;
    }
    let hub = Hub::start();
    let mut figures = Vec::new();
    for call in ["fdatasync", "fsync"] {
        let (mut whole, mut failed) = (0, 0);
        for n in points(&[1, 2, 3, 6]).take(40) {
            let image = images(&hub, &format!("{call}{n}-"), 1, &[500, 400 << 10]).remove(0);
            let mut lanyard = Lanyard::start(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
            let ambush = Ambush::lay(&lanyard, call, &format!("error=EIO:when={n}"));
            match pull(lanyard.port(), &image) {
                Ok(_) => whole += 1,
                Err(_) => failed += 1,
            }
            assert!(lanyard.ended().is_none(), "an error of the disk ended the process");
            drop(ambush);
            check_blobs(&lanyard.data_dir());
            keep(lanyard.port(), &image);
            check_blobs(&lanyard.data_dir());
        }
        figures.push((call, whole, failed));
    }
    figure(&format!("(call, whole pulls, honest errors): {figures:?}"));
}
