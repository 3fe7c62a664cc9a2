//! Data folders of a lanyard that has pulled much, in the form that it writes.

use std::{
    fs::{self, File, FileTimes},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use lanyard::{
    oci::{Digest, OCI_IMAGE},
    storage::{LinkRecord, LinkRight, TagRecord},
};
use rustix::fs::{FallocateFlags, fallocate};

use super::upstream::REPOSITORY;
use crate::shelf;

/// The upstream's name, which stands in `ns=`.
pub(crate) const NAMESPACE: &str = "up.test:1";

/// When the records were written, in seconds since 1970.
const CAME: u64 = 1_700_000_000;

/// Layers of an image of [`images`], and images of a repository.
const LAYERS: usize = 5;
const TAGS: usize = 10;

/// Makes `count` blobs of `size` bytes, which [`REPOSITORY`] links. Their blocks are allocated and
/// not written; their digests are not those of their bytes, which an eviction does not read.
pub(crate) fn blobs(data: &Path, count: usize, size: u64) {
    let (_, links) = folders(data, REPOSITORY);
    let used = SystemTime::now() - Duration::from_secs(24 * 3600);
    for n in 0..count {
        let digest = shelf::digest(format!("cached {n}").as_bytes());
        let file = File::create(path(data, &digest)).unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, size).unwrap();
        file.set_times(FileTimes::new().set_accessed(used).set_modified(used)).unwrap();
        shelf::put(&links, &link(digest, size, ""));
    }
}

/// Makes `count` tagged images with a manifest, a config and [`LAYERS`] small layers each.
pub(crate) fn images(data: &Path, count: usize) {
    for n in 0..count {
        let (tags, links) = folders(data, &format!("bench/app-{:04}", n / TAGS));
        let part = |kind: &str, name: String| {
            let digest = shelf::blob(data, name.as_bytes());
            shelf::put(&links, &link(digest, name.len() as u64, ""));
            let media_type = format!("application/vnd.oci.image.{kind}");
            serde_json::json!({ "mediaType": media_type, "digest": digest, "size": name.len() })
        };
        let layers: Vec<_> = (0..LAYERS).map(|layer| part("layer.v1.tar", format!("layer {layer} of {n}"))).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_IMAGE, "config": part("config.v1+json", format!("config of {n}")),
            "layers": layers,
        });
        let bytes = manifest.to_string();
        let (digest, size) = (shelf::blob(data, bytes.as_bytes()), bytes.len() as u64);
        shelf::put(&links, &link(digest, size, OCI_IMAGE));
        let tag = format!("v{}", n % TAGS);
        let record =
            TagRecord { tag: tag.parse().unwrap(), digest, media_type: OCI_IMAGE.to_owned(), size, updated: CAME };
        shelf::write(&tags.join(tag), &record);
    }
}

/// Stores bytes that [`REPOSITORY`] has: a manifest if there is a media type.
pub(crate) fn pulled(data: &Path, bytes: &[u8], media_type: &str) -> Digest {
    let (_, links) = folders(data, REPOSITORY);
    let digest = shelf::blob(data, bytes);
    shelf::put(&links, &link(digest, bytes.len() as u64, media_type));
    digest
}

fn link(digest: Digest, size: u64, media_type: &str) -> LinkRecord {
    let right = LinkRight::Fetched;
    LinkRecord { digest, media_type: media_type.to_owned(), size, subject: None, right, created: CAME }
}

/// The path of a blob, in a folder that is there.
fn path(data: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    let folder = data.join("blobs/sha256").join(&hex[..2]);
    fs::create_dir_all(&folder).unwrap();
    folder.join(hex)
}

/// The folders of a mirrored repository's tags and links.
fn folders(data: &Path, name: &str) -> (PathBuf, PathBuf) {
    let folder = data.join("repos").join(NAMESPACE.replace(':', "+")).join(name.replace('/', "+"));
    let both = (folder.join("tags"), folder.join("links"));
    fs::create_dir_all(&both.0).unwrap();
    fs::create_dir_all(&both.1).unwrap();
    both
}
