//! Gives the content to the registries: each starts once, and is pushed to.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::{
    client,
    content::{Blob, Content, OCI_IMAGE},
    servers::{Kind, Server},
};

/// Pushes the content to every registry whose program is here.
pub(crate) fn fill(content: &Content) {
    for kind in [Kind::Lanyard, Kind::Distribution] {
        if kind.is_here() {
            push(content, kind);
        }
    }
}

fn push(content: &Content, kind: Kind) {
    let server = Server::start(kind, content, false, "0-1");
    for blob in [&content.config, &content.small, &content.middle, &content.large] {
        client::push(server.port, &content.file(blob), blob);
    }
    let bytes = fs::read(content.file(&content.manifest)).unwrap();
    let path = format!("/v2/bench/image/manifests/{}", content.manifest.digest);
    let answer = client::put(server.port, &path, OCI_IMAGE, &bytes);
    assert_eq!(answer, 201, "{} does not take the manifest", kind.name());
}

/// Makes `count` other blobs of 1 GB for lanyard and nginx, which share one file of each.
pub(crate) fn fill_more(content: &Content, count: usize) -> Vec<Blob> {
    let server = Server::start(Kind::Lanyard, content, false, "0-1");
    let push = |n: usize| {
        let blob = content.variant(n);
        client::push(server.port, &content.file(&blob), &blob);
        fs::remove_file(content.file(&blob)).unwrap();
        let hex = blob.digest.trim_start_matches("sha256:");
        let pushed = content.lanyard().join(format!("blobs/sha256/{}/{hex}", &hex[..2]));
        // nginx reads as a user of its own.
        fs::set_permissions(&pushed, fs::Permissions::from_mode(0o644)).unwrap();
        fs::hard_link(pushed, content.file(&blob)).unwrap();
        blob
    };
    (0..count).map(push).collect()
}
