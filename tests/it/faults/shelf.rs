//! Images at a stand-in, clients that pull them and check every byte, and the same check of a data
//! folder.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    hub::{Hub, Image, digest_of},
    wire::{blob, manifest, try_get},
};

/// No answer may take longer than this, in any state of the disk.
const HANG: Duration = Duration::from_secs(30);

/// `count` images with these layers, in bytes, in one repository; their tags are `PREFIX0`,
/// `PREFIX1` and so on.
pub(super) fn images(hub: &Hub, prefix: &str, count: usize, layers: &[u64]) -> Vec<Image> {
    let image = |number| {
        let image = hub.image("library/busybox", &format!("{prefix}{number}"));
        layers.iter().fold(image, |image, size| image.layer(*size)).publish()
    };
    (0..count).map(image).collect()
}

/// Gets one manifest or blob. A whole answer must be the right one, and any answer must come in
/// time; other answers are honest errors. Returns the outcome word.
pub(super) fn fetch(port: u16, path: &str, digest: &str) -> Result<String, String> {
    let began = Instant::now();
    let answer = try_get(port, path);
    assert!(began.elapsed() < HANG, "{path} took {:?}", began.elapsed());
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("{} {}", answer.status, answer.text()));
    }
    if !answer.looks_complete() {
        return Err(format!("cut at {} bytes", answer.body.len()));
    }
    assert_eq!(digest_of(&answer.body), digest, "{path} was answered with other content");
    Ok(answer.outcome().to_owned())
}

/// Pulls an image by its tag: every part of it, or the first error. Returns the outcome words.
pub(super) fn pull(port: u16, image: &Image) -> Result<Vec<String>, String> {
    let mut outcomes = vec![fetch(port, &manifest(&image.repo, &image.tag), &image.digest)?];
    for digest in image.blobs() {
        outcomes.push(fetch(port, &blob(&image.repo, digest), digest)?);
    }
    Ok(outcomes)
}

/// Pulls an image until all of it comes from the disk: a client has its last byte a moment before
/// the commit is over.
pub(super) fn keep(port: u16, image: &Image) {
    let until = Instant::now() + HANG;
    loop {
        let outcomes = pull(port, image).unwrap_or_else(|error| panic!("{}: {error}", image.name()));
        if cached(&outcomes) {
            return;
        }
        assert!(Instant::now() < until, "{} is never kept: {outcomes:?}", image.name());
    }
}

/// Whether all of it came from the disk.
pub(super) fn cached(outcomes: &[String]) -> bool {
    outcomes.iter().all(|outcome| matches!(outcome.as_str(), "hit" | "stale" | "revalidated"))
}

/// Checks every file under `blobs`, and panics unless it has the digest that it is named after.
/// Returns the number of files.
pub(super) fn check_blobs(data: &Path) -> usize {
    let digests = digests(data);
    for digest in &digests {
        let file = blob_file(data, digest);
        assert_eq!(digest_of(&fs::read(&file).unwrap()), *digest, "{} is not what its name says", file.display());
    }
    digests.len()
}

/// The digests that the files under `blobs` are named after.
pub(super) fn digests(data: &Path) -> BTreeSet<String> {
    let files = list(&data.join("blobs/sha256")).into_iter().flat_map(|shard| list(&shard));
    files.map(|file| format!("sha256:{}", file.file_name().unwrap().to_string_lossy())).collect()
}

/// The entries of a folder, sorted; none if there is no such folder.
pub(super) fn list(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
    let mut entries: Vec<_> = entries.unwrap_or_default();
    entries.sort();
    entries
}

/// Where a blob lies.
pub(crate) fn blob_file(data: &Path, digest: &str) -> std::path::PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    data.join("blobs/sha256").join(&hex[..2]).join(hex)
}

/// Copies a folder with everything below it.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in list(from) {
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() { copy(&entry, &target) } else { fs::copy(&entry, target).map(drop).unwrap() }
    }
}
