use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::{
    oci::{Algorithm, Hasher, Namespace, OCI_IMAGE},
    storage::{
        LinkRecord, LinkRight, Respect, TagRecord, record,
        tests::{content, digest, hosted, link_record, open, open_ready, repository, tag},
    },
};

const LOOK: CheckOptions = CheckOptions { repair: false, sparse: false, threads: 4 };
const REPAIR: CheckOptions = CheckOptions { repair: true, ..LOOK };

fn run(dir: &Path, options: CheckOptions) -> CheckReport {
    check(dir, options, &|_| ()).unwrap()
}

fn pushed(content: &[u8], media_type: &str) -> LinkRecord {
    LinkRecord { right: LinkRight::Pushed, media_type: media_type.to_owned(), ..link_record(content) }
}

/// The manifest of the image in the repository `team/app`, whose layers are these.
fn image(layers: &[&[u8]]) -> Vec<u8> {
    let layers: Vec<String> = layers
        .iter()
        .map(|layer| format!(r#"{{"mediaType":"l","digest":"{}","size":{}}}"#, digest(layer), layer.len()))
        .collect();
    let config = format!(r#"{{"mediaType":"c","digest":"{}","size":2}}"#, digest(b"{}"));
    let elsewhere =
        format!(r#"{{"mediaType":"l","digest":"{}","size":9,"urls":["https://x/y"]}}"#, digest(b"elsewhere"));
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_IMAGE}","config":{config},"layers":[{},{elsewhere}],
        "subject":{{"mediaType":"{OCI_IMAGE}","digest":"{}","size":1}}}}"#,
        layers.join(","),
        digest(b"subject"),
    )
    .into_bytes()
}

const APP: &str = "team/app";

/// A hosted image of a layer in SHA-256 and one in SHA-512, and a mirrored one of which half is
/// here.
fn fill(dir: &Path) -> Vec<u8> {
    let storage = open_ready(dir);
    let layer = content(3 << 20);
    let manifest = image(&[&layer]);
    let app = hosted(APP);
    for (bytes, media_type) in [(&layer[..], ""), (b"{}", ""), (&manifest, OCI_IMAGE)] {
        storage.blobs.put(&digest(bytes), bytes).unwrap();
        storage.catalog.put_links(&app, &[pushed(bytes, media_type)]).unwrap();
    }
    let long = Hasher::digest(Algorithm::Sha512, b"long");
    storage.blobs.put(&long, b"long").unwrap();
    storage.catalog.put_links(&app, &[LinkRecord { digest: long, ..pushed(b"long", "") }]).unwrap();
    let record = TagRecord {
        tag: tag("V1"),
        digest: digest(&manifest),
        media_type: OCI_IMAGE.to_owned(),
        size: manifest.len() as u64,
        updated: 1,
    };
    storage.catalog.put_tag(&app, &record).unwrap();
    let named = LinkRecord { right: LinkRight::Named(digest(b"m")), ..link_record(b"not here") };
    storage.catalog.put_links(&repository("a"), &[link_record(b"m"), named]).unwrap();
    storage.blobs.put(&digest(b"m"), b"m").unwrap();
    storage.close();
    manifest
}

fn file(dir: &Path, folder: &str, digest: &Digest) -> PathBuf {
    dir.join(format!("repos/_hosted/team+app/{folder}/sha256-{}", digest.hex()))
}

fn blob(dir: &Path, digest: &Digest) -> PathBuf {
    Layout::new(dir).blob(digest)
}

/// Every file of the folder with its content, but for the lock.
fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut files, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in entries(&folder).unwrap() {
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("LOCK") {
                let bytes = fs::read(&path).unwrap();
                files.push((path, bytes));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn what_is_in_order_is_said_to_be_so_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let before = snapshot(dir.path());
    let read = AtomicU64::new(0);
    let report = check(dir.path(), LOOK, &|bytes| {
        read.fetch_add(bytes, Ordering::Relaxed);
    })
    .unwrap();
    assert!(report.is_sound() && report.strays.is_empty() && !report.index_filled, "{report:?}");
    assert_eq!((report.blobs, report.records, report.absent), (5, 7, 1));
    assert_eq!(report.bytes, read.load(Ordering::Relaxed));
    assert!(snapshot(dir.path()) == before, "a look changes nothing");
    open_ready(dir.path()).close();
}

#[test]
fn a_folder_that_is_open_or_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = check(&dir.path().join("x"), LOOK, &|_| ()).unwrap_err();
    assert!(matches!(error, CheckError::NoData(_)), "{error}");
    assert!(!dir.path().join("x").exists());
    let storage = open(dir.path());
    for options in [LOOK, REPAIR] {
        let error = check(dir.path(), options, &|_| ()).unwrap_err();
        assert!(matches!(error, CheckError::Open(OpenError::Locked { .. })), "{error}");
    }
    drop(storage);
    run(dir.path(), LOOK);
}

#[test]
fn a_corrupt_blob_is_found_and_goes_to_the_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = fill(dir.path());
    let layer = digest(&content(3 << 20));
    let mut rotten = content(3 << 20);
    rotten[1 << 20] ^= 1;
    fs::write(blob(dir.path(), &layer), &rotten).unwrap();
    let before = snapshot(dir.path());
    let report = run(dir.path(), LOOK);
    assert!(snapshot(dir.path()) == before);
    assert_eq!((report.corrupt.len(), report.corrupt[0].digest, report.corrupt[0].quarantined), (1, layer, false));
    let missing = |needed| Missing { repository: hosted(APP), digest: layer, needed };
    let expected = [missing(Needed::ForItself), missing(Needed::ByManifest(digest(&manifest)))];
    assert_eq!(report.missing, expected);
    let report = run(dir.path(), REPAIR);
    assert!(report.corrupt[0].quarantined && report.index_filled && report.missing == expected, "{report:?}");
    assert!(fs::read(dir.path().join(format!("quarantine/sha256-{}", layer.hex()))).unwrap() == rotten);
    // It is as if it had never been here, and can be pushed again.
    let storage = open(dir.path());
    assert!(storage.index_is_ready() || storage.disk.index.settled() == crate::storage::index::Settled::Ready);
    assert!(storage.blobs.open(&layer).unwrap().is_none());
    storage.blobs.put(&layer, &content(3 << 20)).unwrap();
    storage.close();
    drop(storage);
    assert!(run(dir.path(), LOOK).is_sound());
}

#[test]
fn damaged_links_are_written_anew_and_damaged_tags_removed() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = fill(dir.path());
    let (layer, name) = (digest(&content(3 << 20)), digest(&manifest));
    let tag_file = dir.path().join("repos/_hosted/team+app/tags/v1+1");
    let upstream = dir.path().join(format!("repos/docker.io/a/links/sha256-{}", digest(b"not here").hex()));
    let links = [file(dir.path(), "links", &layer), file(dir.path(), "links", &name)];
    fs::write(&links[0], b"").unwrap();
    fs::write(&links[1], fs::read(file(dir.path(), "links", &digest(b"{}"))).unwrap()).unwrap();
    fs::write(&upstream, b"torn").unwrap();
    let torn_tag = &fs::read(&tag_file).unwrap()[..20];
    fs::write(&tag_file, torn_tag).unwrap();
    let newer = br#"{"v":2,"tag":"new"}"#;
    let newer = [&newer[..], format!("\ncrc32 {:08x}\n", crc32fast::hash(newer)).as_bytes()].concat();
    fs::write(dir.path().join("repos/_hosted/team+app/tags/new"), &newer).unwrap();

    let report = run(dir.path(), LOOK);
    assert!(report.damaged.len() == 5 && report.damaged.iter().all(|damaged| damaged.mended == Mended::Left));
    let report = run(dir.path(), REPAIR);
    let mended = |path: &Path| report.damaged.iter().find(|damaged| damaged.path == path).unwrap().mended;
    assert_eq!(links.each_ref().map(|path| mended(path)), [Mended::Renewed; 2]);
    assert_eq!((mended(&tag_file), mended(&upstream)), (Mended::Removed, Mended::Removed));
    assert_eq!(mended(&dir.path().join("repos/_hosted/team+app/tags/new")), Mended::Left);
    assert!(report.missing.is_empty() && report.corrupt.is_empty(), "{report:?}");
    fs::remove_file(dir.path().join("repos/_hosted/team+app/tags/new")).unwrap();
    assert!(run(dir.path(), LOOK).is_sound());

    let storage = open_ready(dir.path());
    let link = storage.catalog.link(&hosted(APP), &name).unwrap().unwrap();
    assert_eq!(
        (link.media_type.as_str(), link.right, link.size),
        (OCI_IMAGE, LinkRight::Pushed, manifest.len() as u64)
    );
    assert_eq!(storage.catalog.referrers_after(&hosted(APP), &digest(b"subject"), None, 9).unwrap().0, [link]);
    assert!(storage.catalog.link(&hosted(APP), &layer).unwrap().is_some_and(|link| link.media_type.is_empty()));
    assert_eq!(storage.catalog.tags(&hosted(APP)).unwrap(), []);
}

#[test]
fn what_a_hosted_repository_needs_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = fill(dir.path());
    let storage = open_ready(dir.path());
    // The layer is here, but the repository does not hold it: nobody would get it.
    let layer = digest(&content(3 << 20));
    storage.catalog.delete_link(&hosted(APP), &layer).unwrap();
    storage.catalog.delete_link(&hosted(APP), &digest(&manifest)).unwrap();
    storage.close();
    drop(storage);
    let report = run(dir.path(), LOOK);
    let by_tag = Missing { repository: hosted(APP), digest: digest(&manifest), needed: Needed::ByTag(tag("V1")) };
    assert_eq!(report.missing, std::slice::from_ref(&by_tag));
    let storage = open_ready(dir.path());
    storage.catalog.put_links(&hosted(APP), &[pushed(&manifest, OCI_IMAGE)]).unwrap();
    drop(storage);
    let report = run(dir.path(), LOOK);
    let by_manifest = Missing { digest: layer, needed: Needed::ByManifest(digest(&manifest)), ..by_tag };
    assert_eq!(report.missing, [by_manifest]);
    assert!(report.missing[0].to_string().starts_with("team/app: sha256:"), "{}", report.missing[0]);
    assert!(run(dir.path(), CheckOptions { sparse: true, ..LOOK }).is_sound());
}

#[test]
fn strays_are_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let strays =
        ["repos/x y", "repos/_hosted/Capital", "repos/_hosted/team+app/tags/T", "repos/docker.io/a/links/.nfs01"];
    for stray in strays {
        fs::write(dir.path().join(stray), b"?").unwrap();
    }
    for options in [LOOK, REPAIR] {
        let mut report = run(dir.path(), options);
        report.strays.sort();
        let mut expected = strays.map(|stray| dir.path().join(stray));
        expected.sort();
        assert_eq!(report.strays, expected);
        assert!(report.is_sound());
    }
}

/// A rotten folder of any kind comes out of the repair as one that has no damage left, and nothing
/// good is lost.
#[test]
fn a_repair_leaves_no_damage_behind() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let links = entries(&dir.path().join("repos/_hosted/team+app/links")).unwrap();
    for (at, path) in links.iter().enumerate() {
        let mut text = fs::read(path).unwrap();
        match at % 3 {
            0 => text.truncate(30),
            1 => text[10] ^= 0x20,
            _ => text = vec![0; 100],
        }
        fs::write(path, text).unwrap();
    }
    fs::write(dir.path().join("index/db"), b"garbage").unwrap();
    let report = run(dir.path(), REPAIR);
    assert_eq!(report.damaged.len(), 4);
    assert!(report.index_filled && report.missing.is_empty());
    assert!(run(dir.path(), LOOK).is_sound());
    let storage = open_ready(dir.path());
    storage.leases.set_grace(std::time::Duration::ZERO);
    for digest in storage.blobs.all() {
        let removal = storage.blobs.remove_unheld(&digest.unwrap(), &storage.catalog, Respect::All).unwrap();
        assert_eq!(removal, crate::storage::Removal::Held);
    }
    assert_eq!(storage.catalog.repositories(&Namespace::Hosted).unwrap(), [hosted(APP).name]);
    assert!(record::read::<TagRecord>(&dir.path().join("repos/_hosted/team+app/tags/v1+1")).unwrap().is_some());
}

/// S23: a mended record does not turn what another repository brought into this one's own.
#[test]
fn a_repair_makes_no_possession_of_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_ready(dir.path());
    for (bytes, holders) in [(b"shared", vec!["a", "b"]), (b"lonely", vec!["a"])] {
        storage.blobs.put(&digest(bytes), bytes).unwrap();
        for holder in holders {
            storage.catalog.put_links(&repository(holder), &[link_record(bytes)]).unwrap();
        }
    }
    storage.close();
    drop(storage);
    let link = |bytes: &[u8]| dir.path().join(format!("repos/docker.io/a/links/sha256-{}", digest(bytes).hex()));
    for bytes in [b"shared", b"lonely"] {
        fs::write(link(bytes), b"torn").unwrap();
    }
    let report = run(dir.path(), REPAIR);
    let mended = |path: &Path| report.damaged.iter().find(|damaged| damaged.path == path).unwrap().mended;
    assert_eq!((mended(&link(b"shared")), mended(&link(b"lonely"))), (Mended::Removed, Mended::Renewed));
}

#[test]
fn a_damaged_pin_is_found_and_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let reference: crate::oci::Reference = "V1".parse().unwrap();
    let path = Layout::new(dir.path()).pin(&repository("a"), &reference);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"torn").unwrap();
    fs::write(path.with_file_name("Stray"), b"").unwrap();
    let found = run(dir.path(), LOOK);
    assert_eq!((found.damaged.len(), &found.damaged[0].path, found.damaged[0].mended), (1, &path, Mended::Left));
    assert_eq!((found.strays, fs::read(&path).unwrap()), (vec![path.with_file_name("Stray")], b"torn".to_vec()));
    assert_eq!(run(dir.path(), REPAIR).damaged[0].mended, Mended::Renewed);
    assert!(run(dir.path(), LOOK).damaged.is_empty());
    let pins = open(dir.path()).pins.all();
    let [pin] = &pins.pins[..] else { panic!("{pins:?}") };
    assert_eq!((&pin.repository, &pin.reference, pin.platforms.len()), (&repository("a"), &reference, 0));
}
