//! S16: from which moment on a name is hosted, and that it stays so.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use super::*;
use crate::{
    oci::OCI_IMAGE,
    storage::check::{CheckOptions, check},
};

fn pushed(content: &[u8], media_type: &str) -> LinkRecord {
    LinkRecord { right: LinkRight::Pushed, media_type: media_type.to_owned(), ..link_record(content) }
}

fn push(storage: &Files, content: &[u8], media_type: &str) {
    storage.blobs.put(&digest(content), content).unwrap();
    storage.catalog.put_links(&hosted("app"), &[pushed(content, media_type)]).unwrap();
}

/// Whether the name is known, and whether it is listed.
fn known(storage: &Files) -> (bool, bool) {
    let names = storage.catalog.repositories(&Namespace::Hosted).unwrap();
    (storage.catalog.knows(&hosted("app")), names == [hosted("app").name])
}

fn folder(storage: &Files) -> PathBuf {
    storage.disk.layout.repository(&hosted("app"))
}

const MANIFEST: &[u8] = br#"{"layers":[],"config":{"mediaType":"c","digest":"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","size":1}}"#;

#[test]
fn a_name_is_known_from_its_first_manifest_on_and_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    assert_eq!(known(&storage), (false, false));
    push(&storage, b"x", "");
    assert!(
        storage.catalog.holds(&hosted("app"), &digest(b"x")) && !storage.catalog.holds(&hosted("b"), &digest(b"x"))
    );
    assert_eq!(known(&storage), (false, true), "a push that breaks off here leaves the name to the mirror");
    push(&storage, MANIFEST, OCI_IMAGE);
    assert_eq!(known(&storage), (true, true));
    // Killed between the two, or copied without empty folders: the manifest itself says so.
    fs::remove_dir(folder(&storage).join("tags")).unwrap();
    assert_eq!(known(&storage), (true, true));
    push(&storage, MANIFEST, OCI_IMAGE);
    // Whoever pushes it again makes up for it, and so does whoever deletes it.
    fs::remove_dir(folder(&storage).join("tags")).unwrap();
    storage.catalog.delete_link(&hosted("app"), &digest(MANIFEST)).unwrap();
    storage.catalog.delete_link(&hosted("app"), &digest(b"x")).unwrap();
    assert_eq!(known(&storage), (true, false));
    drop(storage);
    let storage = open_ready(dir.path());
    assert_eq!(known(&storage), (true, false));
    storage.catalog.put_tag(&hosted("b"), &tag_record("t", b"x")).unwrap();
    assert!(storage.catalog.knows(&hosted("b")), "a tag alone does as well");
}

#[test]
fn a_repository_without_an_image_is_counted_checked_and_collected() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    push(&storage, b"x", "");
    drop(storage);
    let storage = open_ready(dir.path());
    assert!(!folder(&storage).join("tags").exists());
    eventually(|| storage.usage() == Usage { blobs: 1, bytes: 1, hosted: 1, hosted_blobs: 1, complete: true });
    assert_eq!(storage.catalog.links(&hosted("app")).unwrap(), [pushed(b"x", "")], "from the index");
    assert_eq!(storage.catalog.folders(&Namespace::Hosted).unwrap(), [hosted("app").name]);
    assert_eq!(storage.catalog.tags(&hosted("app")).unwrap(), []);
    assert!(!storage.catalog.delete_tag(&hosted("app"), &tag("t")).unwrap());
    assert!(!storage.catalog.has_damaged_link(&hosted("app")).unwrap());
    storage.leases.set_grace(Duration::ZERO);
    assert_eq!(storage.blobs.remove_unheld(&digest(b"x"), &storage.catalog, Respect::All).unwrap(), Removal::Held);
    push(&storage, MANIFEST, OCI_IMAGE);
    fs::remove_dir(folder(&storage).join("tags")).unwrap();
    drop(storage);
    for repair in [false, true] {
        let report = check(dir.path(), CheckOptions { repair, sparse: false, threads: 1 }, &|_| ()).unwrap();
        assert!(report.is_sound() && report.strays.is_empty(), "{report:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_looked_at_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    push(&storage, MANIFEST, OCI_IMAGE);
    let folder = folder(&storage);
    let tags = folder.join("tags");
    fs::remove_dir(&tags).unwrap();
    // Neither "there" nor "not there": not even the superuser gets another answer.
    symlink(&tags, &tags).unwrap();
    assert!(storage.catalog.knows(&hosted("app")));
    fs::remove_dir_all(&folder).unwrap();
    symlink(&folder, &folder).unwrap();
    assert!(storage.catalog.knows(&hosted("app")) && storage.catalog.holds(&hosted("app"), &digest(b"x")));
    fs::remove_file(&folder).unwrap();
    fs::write(&folder, b"").unwrap();
    assert!(!storage.catalog.knows(&hosted("app")), "a stray file is no repository");
    assert!(!storage.catalog.holds(&hosted("app"), &digest(b"x")));
    fs::remove_file(&folder).unwrap();
    assert!(!storage.catalog.knows(&hosted("app")));
}
