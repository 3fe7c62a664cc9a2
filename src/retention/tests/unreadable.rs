//! What cannot be read costs only itself its turn, and nothing that it may hold.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use super::*;
use crate::{
    oci::{Namespace, Repository},
    storage::{LinkRecord, LinkRight},
};

fn hosted(name: &str) -> Repository {
    Repository { namespace: Namespace::Hosted, name: name.parse().unwrap() }
}

fn push(storage: &Folder, repository: &Repository, bytes: &[u8], media_type: &str) -> Digest {
    let digest = digest(bytes);
    storage.blobs.put(&digest, bytes).unwrap();
    let (media_type, size) = (media_type.to_owned(), bytes.len() as u64);
    let link = LinkRecord { digest, media_type, size, subject: None, right: LinkRight::Pushed, created: 1 };
    storage.catalog.put_links(repository, &[link]).unwrap();
    digest
}

/// What takes the place of a folder that the disk does not give: not even the superuser can open
/// it.
struct Lost {
    path: PathBuf,
    aside: PathBuf,
}

impl Lost {
    fn new(dir: &tempfile::TempDir, path: &str) -> Lost {
        let (path, aside) = (dir.path().join(path), dir.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        symlink(&path, &path).unwrap();
        Lost { path, aside }
    }

    fn come_back(self) {
        fs::remove_file(&self.path).unwrap();
        fs::rename(&self.aside, &self.path).unwrap();
    }
}

#[test]
fn a_repository_that_cannot_be_read_stops_no_other_and_loses_nothing() {
    for lost in ["links", "tags", ""] {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path());
        let (sick, well) = (hosted("a/sick"), hosted("z/well"));
        let layer = push(&storage, &sick, b"layer", "");
        let manifest = push(&storage, &sick, &image(&[layer]), OCI_IMAGE);
        let garbage = push(&storage, &well, b"garbage", "");
        push(&storage, &well, &image(&[]), OCI_IMAGE);
        let upload = storage.uploads.begin(&well).unwrap();
        let data = dir.path().join(format!("uploads/{upload}/data"));
        let yesterday = std::time::SystemTime::now() - Duration::from_secs(25 * 3600);
        fs::File::options().write(true).open(data).unwrap().set_modified(yesterday).unwrap();
        drop(storage);
        let lost = Lost::new(&dir, format!("repos/_hosted/a+sick/{lost}").trim_end_matches('/'));
        let storage = open(dir.path());
        for mode in [PassMode::Plan, PassMode::Remove] {
            let (done, _) = pass(&storage, mode, SettledRepositories::default());
            assert!((done.links, done.uploads) == (1, 1) && done.skipped >= 1, "{lost:?} {done:?}", lost = lost.path);
        }
        assert!(storage.catalog.link(&well, &garbage).unwrap().is_none());
        drop(storage);
        lost.come_back();
        let storage = open(dir.path());
        for digest in [layer, manifest] {
            assert!(storage.blobs.size(&digest).unwrap().is_some(), "it may be held");
            assert!(storage.catalog.link(&sick, &digest).unwrap().is_some());
        }
        let (done, _) = pass(&storage, PassMode::Remove, SettledRepositories::default());
        assert_eq!(done.skipped, 0);
        assert!(storage.blobs.size(&garbage).unwrap().is_none() && storage.blobs.size(&layer).unwrap().is_some());
    }
}

#[test]
fn a_namespace_that_cannot_be_read_costs_no_blob() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let repository = hosted("app");
    let layer = push(&storage, &repository, b"layer", "");
    push(&storage, &repository, &image(&[layer]), OCI_IMAGE);
    drop(storage);
    for lost in ["repos/_hosted", "repos"] {
        let storage = open(dir.path());
        let lost = Lost::new(&dir, lost);
        let (done, _) = pass(&storage, PassMode::Remove, SettledRepositories::default());
        assert!((done.blobs, done.links) == (0, 0) && done.skipped >= 1, "{done:?}");
        drop(storage);
        lost.come_back();
    }
}
