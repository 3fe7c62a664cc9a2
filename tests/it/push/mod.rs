//! The push through the real binary, on raw sockets.

mod algorithms;
mod catalog;
mod deletes;
mod durable;
mod manifests;
mod mounts;
mod names;
mod referrers;
mod scene;
mod uploads;

use serde_json::{Value, json};

use crate::{
    hub::digest_of,
    lanyard::Lanyard,
    wire::{Answer, ask, head, send},
};

pub(crate) const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A lanyard without upstreams of its own configuration, which asks none.
fn registry(more: &str) -> Lanyard {
    Lanyard::start(&format!("mode = \"offline\"\n{more}"))
}

/// One client of one lanyard, with the requests that pushing takes.
#[derive(Clone, Copy)]
pub(crate) struct Pusher(pub(crate) u16);

impl Pusher {
    /// Begins an upload. Returns its location.
    pub(crate) fn begin(self, repo: &str) -> String {
        let answer = send(self.0, "POST", &format!("/v2/{repo}/blobs/uploads/"), &[], b"");
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.header("location").expect("a place").to_owned()
    }

    /// One PATCH, with a `Content-Range` from `at` on if it is given.
    pub(crate) fn patch(self, place: &str, at: Option<usize>, bytes: &[u8]) -> Answer {
        let range = at.map(|at| format!("{at}-{}", at + bytes.len() - 1));
        let headers: Vec<_> = range.iter().map(|range| ("Content-Range", range.as_str())).collect();
        send(self.0, "PATCH", place, &headers, bytes)
    }

    /// The closing PUT of an upload.
    fn close(self, place: &str, digest: &str, bytes: &[u8]) -> Answer {
        send(self.0, "PUT", &format!("{place}?digest={digest}"), &[], bytes)
    }

    /// Pushes a whole blob. Returns its digest.
    pub(crate) fn blob(self, repo: &str, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        let answer = self.close(&self.begin(repo), &digest, bytes);
        assert_eq!(answer.status, 201, "{}", answer.text());
        digest
    }

    pub(crate) fn manifest(self, repo: &str, reference: &str, media_type: &str, bytes: &[u8]) -> Answer {
        send(self.0, "PUT", &format!("/v2/{repo}/manifests/{reference}"), &[("Content-Type", media_type)], bytes)
    }

    /// Pushes a whole image with a layer of these bytes, under a tag. Returns its manifest's
    /// digest.
    pub(crate) fn image(self, repo: &str, tag: &str, layer: &[u8]) -> String {
        let bytes = image(&self.blob(repo, b"{}"), &[&self.blob(repo, layer)]).to_string();
        let answer = self.manifest(repo, tag, OCI_IMAGE, bytes.as_bytes());
        assert_eq!(answer.status, 201, "{}", answer.text());
        digest_of(bytes.as_bytes())
    }

    pub(crate) fn delete(self, path: &str) -> u16 {
        ask(self.0, "DELETE", path, &[]).status
    }

    fn head(self, path: &str) -> u16 {
        head(self.0, path).status
    }
}

/// An image's manifest. The registry does not check the sizes in it.
pub(crate) fn image(config: &str, layers: &[&str]) -> Value {
    let part = |kind: &str, digest: &str| json!({ "mediaType": kind, "digest": digest, "size": 2 });
    let layers: Vec<_> = layers.iter().map(|d| part("application/vnd.oci.image.layer.v1.tar", d)).collect();
    let config = part("application/vnd.oci.image.config.v1+json", config);
    json!({ "schemaVersion": 2, "mediaType": OCI_IMAGE, "config": config, "layers": layers })
}
