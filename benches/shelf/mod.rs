//! A data folder of a large company's size, in the form that lanyard writes: records with their
//! checksums, manifests whose bytes have their digest. Filling it takes about a minute, and
//! removing it as long.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use lanyard::{
    oci::{Algorithm, Digest, Hasher, OCI_IMAGE},
    storage::{LinkRecord, LinkRight, TagRecord},
};
use serde::Serialize;

/// How many tags [`LARGE`] has.
pub(crate) const TAGS: usize = 100_000;
/// How many links there are in all.
pub(crate) const LINKS: usize = 1_000_000;
/// How many blobs have a file.
pub(crate) const BLOBS: usize = 100_000;
/// The repository that has all tags and half of the links.
pub(crate) const LARGE: &str = "bench/large";
/// How many other repositories share the other half.
const REPOSITORIES: usize = 2_000;
/// How many manifests have [`few`] as their subject, and how many [`many`].
pub(crate) const FEW: usize = 10;
pub(crate) const MANY: usize = 1_000;

/// The subject of [`FEW`] manifests.
pub(crate) fn few() -> Digest {
    digest(b"few")
}

/// The subject of [`MANY`] manifests.
pub(crate) fn many() -> Digest {
    digest(b"many")
}

/// The tag with this number.
pub(crate) fn tag(n: usize) -> String {
    format!("v{n:06}")
}

/// Fills a data folder that lanyard has made, and removes its index.
pub(crate) fn fill(data: &Path) {
    for gone in ["index", "index.clean"] {
        let path = data.join(gone);
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
    thread::scope(|scope| {
        scope.spawn(|| large(data));
        scope.spawn(|| others(data));
        scope.spawn(|| {
            for n in 0..BLOBS {
                let bytes = format!("blob {n}");
                blob(data, bytes.as_bytes());
            }
        });
    });
}

fn large(data: &Path) {
    let (tags, links) = folders(data, LARGE);
    let named = digest(b"named");
    for n in 0..TAGS {
        let record = TagRecord {
            tag: tag(n).parse().unwrap(),
            digest: named,
            media_type: OCI_IMAGE.to_owned(),
            size: 1,
            updated: 1_700_000_000,
        };
        write(&tags.join(tag(n)), &record);
    }
    for (subject, count) in [(few(), FEW), (many(), MANY)] {
        for n in 0..count {
            let manifest = serde_json::json!({
                "schemaVersion": 2, "mediaType": OCI_IMAGE, "artifactType": "application/vnd.example.sbom",
                "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2 },
                "layers": [], "subject": { "mediaType": OCI_IMAGE, "digest": subject, "size": 1 },
                "annotations": { "org.example.number": n.to_string() },
            });
            let bytes = manifest.to_string();
            let link = LinkRecord { subject: Some(subject), ..link(blob(data, bytes.as_bytes()), bytes.len()) };
            put(&links, &link);
        }
    }
    (0..LINKS / 2 - FEW - MANY).for_each(|n| put(&links, &link(digest(format!("large {n}").as_bytes()), 1)));
}

fn others(data: &Path) {
    for repository in 0..REPOSITORIES {
        let (_, links) = folders(data, &format!("team-{}/app-{repository:04}", repository % 7));
        let content = |n: usize| digest(format!("{repository} {n}").as_bytes());
        (0..LINKS / 2 / REPOSITORIES).for_each(|n| put(&links, &link(content(n), 1)));
    }
}

fn link(digest: Digest, size: usize) -> LinkRecord {
    LinkRecord {
        digest,
        media_type: OCI_IMAGE.to_owned(),
        size: size as u64,
        subject: None,
        right: LinkRight::Pushed,
        created: 1_700_000_000,
    }
}

pub(crate) fn put(links: &Path, link: &LinkRecord) {
    write(&links.join(link.digest.to_string().replace(':', "-")), link);
}

/// Writes a record file in the form of `storage/record.rs`.
pub(crate) fn write(path: &Path, record: &impl Serialize) {
    let mut text = serde_json::to_value(record).unwrap();
    text["v"] = 1.into();
    let text = text.to_string();
    fs::write(path, format!("{text}\ncrc32 {:08x}\n", crc32fast::hash(text.as_bytes()))).unwrap();
}

/// The folders of a repository's tags and links.
fn folders(data: &Path, name: &str) -> (PathBuf, PathBuf) {
    let folder = data.join("repos/_hosted").join(name.replace('/', "+"));
    let both = (folder.join("tags"), folder.join("links"));
    fs::create_dir_all(&both.0).unwrap();
    fs::create_dir_all(&both.1).unwrap();
    both
}

pub(crate) fn blob(data: &Path, bytes: &[u8]) -> Digest {
    let digest = digest(bytes);
    let hex = digest.hex();
    let folder = data.join("blobs/sha256").join(&hex[..2]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(hex), bytes).unwrap();
    digest
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}
