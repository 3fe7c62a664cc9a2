//! Acknowledged content is synced, whichever request wrote it first.

use super::{Pusher, registry};
use crate::{
    faults::{Ambush, available},
    hub::digest_of,
    wire::send,
};

const REPO: &str = "team/app";

/// The writer of an existing link may have failed, or died, between its rename and the sync of the
/// folder. A push that finds the link is acknowledged only when the folder has been synced.
#[test]
fn a_link_that_is_there_is_synced_before_it_is_acknowledged_again() {
    if !available() {
        return;
    }
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let digest = client.blob(REPO, b"layer");
    let repos = lanyard.data_dir().join("repos");
    let folder = |entry: std::fs::DirEntry| entry.path();
    let namespace = std::fs::read_dir(&repos).unwrap().map(|entry| folder(entry.unwrap())).next().unwrap();
    let repository = std::fs::read_dir(namespace).unwrap().map(|entry| folder(entry.unwrap())).next().unwrap();
    let links = repository.join("links");
    let again = || client.close(&client.begin(REPO), &digest, b"layer").status;
    let mount = || send(lanyard.port(), "POST", &format!("/v2/{REPO}/blobs/uploads/?mount={digest}"), &[], b"").status;
    assert_eq!((digest_of(b"layer"), again(), mount()), (digest.clone(), 201, 201));

    let ambush = Ambush::lay_at(&lanyard, "fsync", "error=EIO", links.to_str().unwrap());
    assert_eq!((again(), mount()), (500, 500), "the folder cannot be synced");
    drop(ambush);
    assert_eq!((again(), mount()), (201, 201));
}
