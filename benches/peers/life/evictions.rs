//! lanyard on a folder with much cached content: how fast it evicts, finds what goes next, and
//! lists images, and what memory it takes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use super::{
    folder,
    proxies::{mirror, wait_until_counted},
};
use crate::{
    measuring::{Cpus, ROUNDS, settle},
    report::{Figures, Goal, Section},
    servers::{Server, finds},
};

/// The blobs of a round of evictions, and their size: the mean of the IBM registries.
const EVICTED: usize = 2_000;
const SIZE: u64 = 14_000_000;

/// How often an eviction is measured: each round makes a folder anew.
const FOLDERS: usize = 3;

/// The blobs of the folder that is scanned, and of the one that the goals are for.
const SCANNED: usize = 100_000;
const GOAL_BLOBS: usize = 1_000_000;

const IMAGES: usize = 5_000;

/// A block of most file systems.
const BLOCK: u64 = 4096;

pub(crate) fn run(cpus: &Cpus) -> Section {
    let mut table = Table { rows: Vec::new() };
    evictions(&mut table, cpus);
    scans(&mut table, cpus);
    list(&mut table, cpus);
    let head = ["what", "seen", "goal"];
    Section {
        title: "lanyard's evictions, scans and lists, on the processors of the servers".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        rows: table.rows,
    }
}

struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn add(&mut self, what: &str, seen: &Figures, digits: usize, unit: &str, goal: Option<Goal>) {
        let met = goal.map_or(String::new(), |goal| goal.met(seen.median()));
        self.rows.push(vec![what.to_owned(), format!("{} {unit}", seen.text(digits)), met]);
    }
}

/// A lanyard on a folder that `fill` fills, once it has counted everything.
fn started(data: &Path, cpus: &str, fill: impl FnOnce()) -> Server {
    // The first start makes the folder.
    let start = || Server::lanyard(data, &mirror(1, 1), cpus).listening();
    drop(start());
    fill();
    for gone in ["index", "index.clean"] {
        let path = data.join(gone);
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
    let server = start();
    wait_until_counted(data, true);
    server
}

fn lanyard(data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanyard"));
    command.args(words).arg("--data-dir").arg(data).stderr(Stdio::inherit());
    command
}

fn evictions(table: &mut Table, cpus: &Cpus) {
    on_disk(table, &file_system(&std::env::temp_dir()), &std::env::temp_dir(), cpus);
    if !finds("mkfs.xfs") {
        eprintln!("left out: mkfs.xfs is not here (Debian package xfsprogs)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (image, mounted) = (folder.path().join("image"), folder.path().join("xfs"));
    fs::File::create(&image).unwrap().set_len(EVICTED as u64 * SIZE * 5 / 4).unwrap();
    fs::create_dir(&mounted).unwrap();
    let made = Command::new("mkfs.xfs").arg("-q").arg(&image).status().unwrap();
    // In the mount namespace of this run: it ends with the run at the latest.
    let made = made.success()
        && Command::new("mount").arg("-o").arg("loop").args([&image, &mounted]).status().unwrap().success();
    if !made {
        eprintln!("left out: xfs cannot be mounted on a loop device here");
        return;
    }
    on_disk(table, "xfs on a loop device", &mounted, cpus);
    assert!(Command::new("umount").arg(&mounted).status().unwrap().success());
}

fn file_system(folder: &Path) -> String {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(folder).output().unwrap();
    match String::from_utf8_lossy(&output.stdout).trim() {
        "ext2/ext3" => "ext4".to_owned(),
        name => name.to_owned(),
    }
}

/// `lanyard cache trim --to 0`, beginning and end of the command included.
fn on_disk(table: &mut Table, name: &str, parent: &Path, cpus: &Cpus) {
    let (mut blobs, mut bytes) = (Figures::default(), Figures::default());
    for _ in 0..FOLDERS {
        let data = tempfile::tempdir_in(parent).unwrap();
        let server = started(data.path(), &cpus.servers, || folder::blobs(data.path(), EVICTED, SIZE));
        rustix::fs::sync();
        let began = Instant::now();
        let output = lanyard(data.path(), &["cache", "trim", "--to", "0"]).output().unwrap();
        let seconds = began.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.starts_with(&format!("Let {EVICTED} blobs go")), "{said}");
        blobs.push(EVICTED as f64 / seconds);
        bytes.push((EVICTED as u64 * SIZE) as f64 / 1e9 / seconds);
        drop(server);
    }
    let what = format!("{EVICTED} blobs of {} MB are evicted, {name}", SIZE / 1_000_000);
    table.add(&what, &blobs, 0, "blobs/s", Some(Goal::AtLeast(2_000.0)));
    table.add(&what, &bytes, 1, "GB/s", Some(Goal::AtLeast(10.0)));
}

/// The next blobs to go, and the memory that the blobs take.
fn scans(table: &mut Table, cpus: &Cpus) {
    let empty = tempfile::tempdir().unwrap();
    let server = started(empty.path(), &cpus.servers, || {});
    let nothing = memory(&server, empty.path());
    drop(server);
    let data = tempfile::tempdir().unwrap();
    let server = started(data.path(), &cpus.servers, || folder::blobs(data.path(), SCANNED, BLOCK));
    let scaled = GOAL_BLOBS as f64 / SCANNED as f64;
    let filled = memory(&server, data.path());
    let indexed = plans(data.path(), scaled);
    drop(server);
    let server = Server::lanyard(data.path(), &mirror(1, 1), &cpus.servers).listening();
    wait_until_counted(data.path(), true);
    let again = memory(&server, data.path());
    drop(server);
    let name = |what: &str| format!("a scan of {SCANNED} blobs for what goes next, {what}, times {scaled}");
    table.add(&name("by the index"), &indexed, 2, "s", None);
    let mut memories = vec![("which has just filled its index", filled), ("after a stop and a start", again)];
    match without_index(data.path()) {
        Ok(unmount) => {
            let server = Server::lanyard(data.path(), &mirror(1, 1), &cpus.servers).listening();
            wait_until_counted(data.path(), false);
            let files = plans(data.path(), scaled);
            table.add(&name("from the files, no index"), &files, 2, "s", Some(Goal::AtMost(20.0)));
            memories.push(("without an index", memory(&server, data.path())));
            drop(server);
            drop(unmount);
        }
        Err(why) => eprintln!("left out: a scan without the index: {why}"),
    }
    for (what, seen) in memories {
        let mut more = Figures::default();
        more.push(seen - nothing);
        let what =
            format!("memory of a lanyard with {SCANNED} blobs, {what}, less that of an empty one ({nothing:.1} MiB)");
        table.add(&what, &more, 1, "MiB", Some(Goal::AtMost(8.0)));
    }
}

/// Seconds of a command that plans an eviction, `scaled`.
fn plans(data: &Path, scaled: f64) -> Figures {
    let mut seen = Figures::default();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let output = lanyard(data, &["cache", "trim", "1 B", "--dry-run"]).output().unwrap();
        seen.push(began.elapsed().as_secs_f64() * scaled);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.starts_with("Would let 1 blobs go"), "{said}");
    }
    seen
}

/// The memory at rest, after a scan for what goes next.
fn memory(server: &Server, data: &Path) -> f64 {
    assert!(lanyard(data, &["cache", "trim", "1 B", "--dry-run"]).output().unwrap().status.success());
    settle();
    server.memory()
}

/// A mount that is gone with this.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.join("index")).status();
    }
}

/// Takes the place of the index, which then cannot be made: something is mounted there that cannot
/// be written.
fn without_index(data: &Path) -> Result<Mounted<'_>, String> {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "ro", "none"]).arg(data.join("index")).status();
    match mounted {
        Ok(status) if status.success() => Ok(Mounted(data)),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn list(table: &mut Table, cpus: &Cpus) {
    let data = tempfile::tempdir().unwrap();
    let server = started(data.path(), &cpus.servers, || folder::images(data.path(), IMAGES));
    let (mut first, mut whole) = (Figures::default(), Figures::default());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let mut child = lanyard(data.path(), &["ls"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let head = lines.next().unwrap();
        assert!(head.starts_with("IMAGE"), "{head}");
        assert!(lines.next().unwrap().starts_with(folder::NAMESPACE));
        first.push(began.elapsed().as_secs_f64() * 1e3);
        assert!(lines.count() >= IMAGES, "a line for each image, and a last one");
        assert!(child.wait().unwrap().success());
        whole.push(began.elapsed().as_secs_f64() * 1e3);
    }
    drop(server);
    let what = |of: &str| format!("`lanyard ls` of {IMAGES} images, {of}");
    table.add(&what("the first image"), &first, 0, "ms", Some(Goal::AtMost(200.0)));
    table.add(&what("all"), &whole, 0, "ms", None);
}
