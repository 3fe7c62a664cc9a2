//! Evictions under faults: of the process, the disk, the clock and the index; while the content is
//! read; and where nothing may go.

mod disk;
mod forget;
mod freed;
mod kept;
mod kill;
mod operator;
mod order;
mod power;
mod race;
mod room;
mod together;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    shelf::{self, blob_file, check_blobs, digests, list},
    strace::died,
};
use crate::{
    faults::series,
    hub::{Hub, Image, digest_of},
    lanyard::Lanyard,
    raw,
    wire::{blob, eventually, get, manifest, try_get},
};

const REPO: &str = "library/busybox";
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A client waits so long for room at most (K9), and a moment more on a machine with much to do.
const WAIT: Duration = Duration::from_secs(10);

/// An order may wait so long for a disk that others keep busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// `[cache]` with this `max_size`, and no `min_free`.
fn cap(max_size: &str) -> String {
    format!("[cache]\nmax_size = \"{max_size}\"\nmin_free = \"0%\"\n")
}

/// A stand-in with a repository that all its blobs can be asked for in.
fn hub() -> Hub {
    let hub = Hub::start();
    hub.image(REPO, "latest").publish();
    hub
}

/// Different blobs of `length` bytes at the stand-in.
fn contents(hub: &Hub, numbers: std::ops::Range<usize>, length: usize) -> Vec<String> {
    let bytes = |n: usize| (n as u64 + 1).to_le_bytes().repeat(length / 8);
    numbers.map(|n| hub.put_blob(bytes(n))).collect()
}

/// Gets a blob: all of it, or the reason why not. The outcome word.
fn fetch(lanyard: &Lanyard, digest: &str) -> Result<String, String> {
    let answer = try_get(lanyard.port(), &blob(REPO, digest)).map_err(|error| error.to_string())?;
    if answer.status != 200 || digest_of(&answer.body) != digest {
        return Err(format!("{}, {} bytes", answer.status, answer.body.len()));
    }
    Ok(answer.outcome().to_owned())
}

/// Gets a blob, and waits until it is stored.
fn keep(lanyard: &Lanyard, digest: &str) {
    fetch(lanyard, digest).unwrap();
    eventually("it is stored", || blob_file(&lanyard.data_dir(), digest).exists());
    is_idle(lanyard);
}

/// Waits until no download is under way. Its last step is the link, without which content is the
/// collector's, and stays for an hour.
fn is_idle(lanyard: &Lanyard) {
    eventually("no download is under way", || series(lanyard, "lanyard_fills_active") == 0);
}

/// Which of them are on disk, by their numbers.
fn here(lanyard: &Lanyard, digests: &[String]) -> Vec<usize> {
    (0..digests.len()).filter(|n| blob_file(&lanyard.data_dir(), &digests[*n]).exists()).collect()
}

/// Sets the last use of stored content so many hours back, and its arrival too. The server is
/// stopped.
fn used(lanyard: &Lanyard, digest: &str, hours: u64) {
    let then = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
    let file = fs::File::open(blob_file(&lanyard.data_dir(), digest)).unwrap();
    file.set_times(fs::FileTimes::new().set_accessed(then).set_modified(then)).unwrap();
}

/// The cached bytes that it counts.
fn counted(lanyard: &Lanyard) -> u64 {
    series(lanyard, "lanyard_cache_bytes{part=\"cached\"}")
}

/// How often the log has this text.
fn said(lanyard: &Lanyard, text: &str) -> usize {
    lanyard.logs().matches(text).count()
}

/// Gives an order on the administration's socket in this data folder. `None`: no answer came.
fn give_order(data: &Path, method: &str, path: &str) -> Option<raw::Answer> {
    let mut stream = UnixStream::connect(data.join("lanyard.sock")).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(raw::request(method, path, &[], true).as_bytes()).ok()?;
    Some(raw::finish(&mut stream)).filter(|answer| answer.status > 0)
}

/// What it tells.
fn told(data: &Path, path: &str) -> serde_json::Value {
    give_order(data, "GET", path).unwrap().json()
}

/// Removes an image of [`REPO`] by its tag or digest (`:1`). Whether it is done; `None`: no answer
/// came.
fn remove(data: &Path, reference: &str) -> Option<bool> {
    let answer = give_order(data, "POST", &format!("/api/v1/rm?image=busybox{reference}"))?;
    Some(answer.status == 200 && answer.json()["images"][0]["error"].is_null())
}

/// Pins an image of [`REPO`]. Whether it is done; `None`: no answer came.
fn pin(data: &Path, reference: &str) -> Option<bool> {
    Some(give_order(data, "PUT", &format!("/api/v1/pins/busybox{reference}"))?.status == 200)
}

/// The bytes that were evicted since the start, whatever for.
fn evicted(lanyard: &Lanyard) -> u64 {
    let of = |why: &&str| series(lanyard, &format!("lanyard_evicted_bytes_total{{why=\"{why}\"}}"));
    ["cap", "floor", "trim"].iter().map(of).sum()
}

/// Pulls all of an image, of every platform, and waits until its repository links all of it.
fn keep_image(lanyard: &Lanyard, image: &Image) {
    shelf::keep(lanyard.port(), image);
    for platform in &image.platforms {
        assert_eq!(get(lanyard.port(), &manifest(&image.repo, &platform.digest)).status, 200);
        for part in platform.layers.iter().chain([&platform.config]) {
            assert_eq!(get(lanyard.port(), &blob(&image.repo, part)).status, 200);
        }
    }
    is_idle(lanyard);
}

/// Whether it has died. An order or a pull that got no answer says that it has to.
fn has_died(lanyard: &mut Lanyard, unanswered: bool, point: &str) -> bool {
    if unanswered {
        eventually(&format!("{point}: it is dead, as an answer failed"), || died(lanyard));
        return true;
    }
    died(lanyard)
}

/// Points of death: a kind of call, and which one of a thread, up to its `last`; again and again,
/// since each time other threads make the calls.
fn points(calls: &'static [&'static str], last: usize) -> impl Iterator<Item = (&'static str, usize)> {
    (0..).flat_map(move |round| calls.iter().map(move |call| (*call, round % last + 1)))
}

/// Starts it after a death or a power cut; the folder is seen as `data`. What is here is whole and
/// counted, what was going is away, and the start took no time and no content.
fn starts_again(lanyard: &mut Lanyard, data: &Path, point: &str) -> Duration {
    let before = check_blobs(data);
    starts_with(lanyard, data, before, point)
}

/// The same with so many blobs, whose content was looked at.
fn starts_with(lanyard: &mut Lanyard, data: &Path, before: usize, point: &str) -> Duration {
    let began = Instant::now();
    lanyard.restart();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{point}: started after {took:?}");
    assert_eq!(list(&data.join("tmp")), Vec::<std::path::PathBuf>::new(), "{point}");
    assert_eq!(digests(data).len(), before, "{point}: a start evicts nothing");
    eventually(&format!("{point}: all is counted"), || counted(lanyard) == on_disk(data));
    took
}

/// The bytes of the files under `blobs`.
fn on_disk(data: &Path) -> u64 {
    let length = |digest: &String| fs::metadata(blob_file(data, digest)).map_or(0, |file| file.len());
    digests(data).iter().map(length).sum()
}

/// The folder of a mirrored repository: `REPO` is `library+busybox`.
fn folder(data: &Path, repository: &str) -> std::path::PathBuf {
    data.join("repos/docker.io").join(repository.replace('/', "+"))
}

/// The names of the files in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    list(folder).iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// K5, by the files: each tag of the repository names a manifest that it links and that is here.
/// Returns the tags.
fn tags_name_what_is_here(data: &Path, repository: &str, point: &str) -> BTreeSet<String> {
    let folder = folder(data, repository);
    let (tags, links) = (names(&folder.join("tags")), names(&folder.join("links")));
    for tag in &tags {
        let record = fs::read_to_string(folder.join("tags").join(tag)).unwrap();
        let digest = record.split('"').find(|text| text.starts_with("sha256:"));
        let digest = digest.unwrap_or_else(|| panic!("{point}: {tag} names nothing: {record}"));
        assert!(links.contains(&digest.replace(':', "-")), "{point}: the manifest of {tag} has no link");
        assert!(blob_file(data, digest).exists(), "{point}: the manifest of {tag} is gone");
    }
    tags
}
