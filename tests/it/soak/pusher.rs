//! A client that pushes as docker does: HEAD, mount or upload for each layer, then the manifest. It
//! deletes some of its images later.

use std::{
    sync::{Arc, RwLock, atomic::Ordering},
    time::Instant,
};

use lanyard::oci::{Algorithm, Digest, Hasher, OCI_IMAGE};
use rand::{Rng, rngs::StdRng};

use super::{GRACE, Soak, client::Client};

/// Contents that all pushers share, so that garbage of one is a layer of another.
const LAYERS: u64 = 16;

/// An image that exists while the lock says so.
pub(super) struct Image {
    pub(super) repo: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
    pub(super) parts: Vec<(Digest, Vec<u8>)>,
    pub(super) alive: RwLock<bool>,
}

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}

fn layer(number: u64) -> Vec<u8> {
    format!("layer {number} ").repeat(64 << (number % 10)).into_bytes()
}

pub(super) struct Pusher<'a> {
    pub(super) soak: &'a Soak,
    pub(super) client: Client,
    pub(super) rng: StdRng,
    pub(super) name: u64,
}

impl Pusher<'_> {
    pub(super) fn run(mut self) {
        let mut number = 0;
        let mut mine = Vec::new();
        while !self.soak.stop.load(Ordering::Relaxed) {
            number += 1;
            mine.extend(self.push(number));
            while mine.len() > self.rng.random_range(0..6) {
                let image: Arc<Image> = mine.swap_remove(self.rng.random_range(0..mine.len()));
                self.delete(&image);
            }
        }
    }

    fn push(&mut self, number: u64) -> Option<Arc<Image>> {
        let repo = format!("soak/r{}", self.rng.random_range(0..4));
        let mut parts = vec![format!("{{\"config\":\"{} {number}\"}}", self.name).into_bytes()];
        parts.extend((0..self.rng.random_range(1..4)).map(|_| layer(self.rng.random_range(0..LAYERS))));
        let mut parts: Vec<_> = parts.into_iter().map(|bytes| (digest(&bytes), bytes)).collect();
        parts.dedup();
        // The moment at which the registry said that the first part is here: that word is valid for
        // the grace.
        let mut told = None;
        for (digest, bytes) in &parts {
            let from = format!("soak/r{}", self.rng.random_range(0..4));
            self.blob(&repo, digest, bytes, &from);
            told.get_or_insert_with(Instant::now);
        }
        if self.rng.random_bool(0.15) {
            return None; // It ends here, and leaves garbage.
        }
        self.image(repo, number, parts, told)
    }

    /// Pushes the manifest of parts of which the first was `told` to be here.
    pub(super) fn image(
        &mut self,
        repo: String,
        number: u64,
        parts: Vec<(Digest, Vec<u8>)>,
        told: Option<Instant>,
    ) -> Option<Arc<Image>> {
        let bytes = manifest(&parts);
        let digest = digest(&bytes);
        let tag = self.rng.random_bool(0.5).then(|| format!("t{}-{number}", self.name));
        let path = format!("/v2/{repo}/manifests/{}", tag.clone().unwrap_or_else(|| digest.to_string()));
        let answer = self.client.call("PUT", &path, OCI_IMAGE, &bytes);
        if answer.status != 201 {
            let late = told.is_some_and(|told| told.elapsed() >= GRACE);
            if late && answer.text().contains("BLOB_UNKNOWN") {
                self.soak.late.fetch_add(1, Ordering::Relaxed);
            } else {
                self.soak.violation(format!("PUT {path} within the grace: {} {}", answer.status, answer.text()));
            }
            return None;
        }
        self.soak.pushed.fetch_add(1, Ordering::Relaxed);
        let image = Arc::new(Image { repo, tag, digest, bytes, parts, alive: RwLock::new(true) });
        self.soak.images.lock().unwrap().push(Arc::clone(&image));
        Some(image)
    }

    /// Brings a layer into a repository: it is there, or mounted from another one, or uploaded.
    pub(super) fn blob(&mut self, repo: &str, digest: &Digest, bytes: &[u8], from: &str) {
        let head = self.client.call("HEAD", &format!("/v2/{repo}/blobs/{digest}"), "", &[]);
        if head.status == 200 {
            self.soak.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mount = format!("/v2/{repo}/blobs/uploads/?mount={digest}&from={from}");
        let begun = self.client.call("POST", &mount, "", &[]);
        if begun.status == 201 {
            self.soak.mounted.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut at = begun.location().to_owned();
        let mut rest = bytes;
        if self.rng.random_bool(0.3) {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let patched = self.client.call("PATCH", &at, "application/octet-stream", first);
            at = patched.location().to_owned();
            rest = second;
        }
        if self.rng.random_bool(0.03) {
            // Cancelled, and begun anew without any of its bytes.
            assert_eq!(self.client.call("DELETE", &at, "", &[]).status, 204);
            at = self.client.call("POST", &format!("/v2/{repo}/blobs/uploads/"), "", &[]).location().to_owned();
            rest = bytes;
        }
        let join = if at.contains('?') { '&' } else { '?' };
        let done = self.client.call("PUT", &format!("{at}{join}digest={digest}"), "application/octet-stream", rest);
        if done.status != 201 {
            self.soak.violation(format!("PUT {at}: {} {}", done.status, done.text()));
        }
    }

    pub(super) fn delete(&mut self, image: &Arc<Image>) {
        if let (Some(tag), true) = (&image.tag, self.rng.random_bool(0.3)) {
            // Without its tag the manifest exists as before.
            let answer = self.client.call("DELETE", &format!("/v2/{}/manifests/{tag}", image.repo), "", &[]);
            if answer.status != 202 {
                self.soak.violation(format!("DELETE of the tag {tag}: {} {}", answer.status, answer.text()));
            }
        }
        *image.alive.write().unwrap() = false;
        self.soak.images.lock().unwrap().retain(|other| !Arc::ptr_eq(other, image));
        let answer = self.client.call("DELETE", &format!("/v2/{}/manifests/{}", image.repo, image.digest), "", &[]);
        if answer.status != 202 {
            self.soak.violation(format!("DELETE of {}: {} {}", image.digest, answer.status, answer.text()));
        }
        self.soak.deleted.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn manifest(parts: &[(Digest, Vec<u8>)]) -> Vec<u8> {
    let descriptor = |(digest, bytes): &(Digest, Vec<u8>)| serde_json::json!({ "mediaType": "application/octet-stream", "digest": digest, "size": bytes.len() });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": descriptor(&parts[0]),
        "layers": parts[1..].iter().map(descriptor).collect::<Vec<_>>(),
    });
    manifest.to_string().into_bytes()
}
