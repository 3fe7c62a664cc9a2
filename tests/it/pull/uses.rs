//! What counts as a use of stored content.

use std::{
    fs::{self, File, FileTimes},
    time::{Duration, SystemTime},
};

use super::mirror;
use crate::{
    hub::Hub,
    wire::{blob, eventually, get, manifest},
};

const REPO: &str = "library/busybox";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Clients that have all layers ask for the manifest alone, and that is answered from memory. The
/// layers are in use all the same, and their files show it (K12).
#[test]
fn k12_a_manifest_alone_keeps_its_image_in_use() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1000).layer(2000).publish();
    let mut lanyard = mirror(&hub);
    get(lanyard.port(), &manifest(REPO, "latest"));
    let blobs = lanyard.data_dir().join("blobs/sha256");
    let file = |digest: &str| {
        let hex = digest.trim_start_matches("sha256:");
        blobs.join(&hex[..2]).join(hex)
    };
    for digest in image.blobs() {
        get(lanyard.port(), &blob(REPO, digest));
        eventually("it is stored", || file(digest).exists());
    }
    let files: Vec<_> = image.blobs().into_iter().chain([image.digest.as_str()]).map(file).collect();
    lanyard.stop();
    let came = SystemTime::now() - 10 * DAY;
    for file in &files {
        let times = FileTimes::new().set_modified(came).set_accessed(SystemTime::now() - 2 * DAY);
        File::open(file).unwrap().set_times(times).unwrap();
    }
    lanyard.restart();
    for _ in 0..3 {
        assert_eq!(get(lanyard.port(), &manifest(REPO, &image.digest)).outcome(), "hit");
    }
    let accessed = |file| fs::metadata(file).unwrap().accessed().unwrap();
    eventually("its parts are in use", || files.iter().all(|file| accessed(file) > SystemTime::now() - DAY / 24));
    for file in &files {
        assert!(fs::metadata(file).unwrap().modified().unwrap() < SystemTime::now() - 9 * DAY, "it came then");
    }
}
