//! Referrers are listed in pages that a client can hold.

use serde_json::{Value, json};

use super::{OCI_IMAGE, OCI_INDEX, Pusher, image, registry};
use crate::{
    hub::digest_of,
    wire::{get, manifest},
};

const REPO: &str = "team/app";

/// One page, and the path of the next one.
fn page(port: u16, path: &str) -> (Vec<Value>, Option<String>) {
    let answer = get(port, path);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(OCI_INDEX)));
    assert!(answer.body.len() <= 4 << 20, "{} bytes are no index that a client takes", answer.body.len());
    let applied = path.contains("artifactType=example").then_some("artifactType");
    assert_eq!(answer.header("oci-filters-applied"), applied);
    let next = answer.header("link").map(|link| {
        let (path, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
        assert_eq!(rest, "; rel=\"next\"");
        path.to_owned()
    });
    (answer.json()["manifests"].as_array().unwrap().clone(), next)
}

/// Follows the links. Returns the digests, and the number of pages.
fn follow(port: u16, path: &str) -> (Vec<String>, usize) {
    let (mut seen, mut pages, mut next) = (Vec::new(), 0, Some(path.to_owned()));
    while let Some(path) = next {
        let (descriptors, link) = page(port, &path);
        seen.extend(descriptors.iter().map(|of| of["digest"].as_str().unwrap().to_owned()));
        (pages, next) = (pages + 1, link);
    }
    (seen, pages)
}

#[test]
fn thousands_with_large_annotations_come_page_by_page_each_once() {
    const MANY: usize = 2000;
    let lanyard = registry("");
    let (port, client) = (lanyard.port(), Pusher(lanyard.port()));
    let subject = client.image(REPO, "v1", b"layer");
    let (config, text) = (client.blob(REPO, b"{}"), "x".repeat(10_000));
    let push = |n: usize| {
        let mut artifact = image(&config, &[]);
        artifact["artifactType"] = json!(["example/sbom", "example/signature"][n % 2]);
        artifact["annotations"] = json!({ "n": n.to_string(), "text": text });
        artifact["subject"] = json!({ "mediaType": OCI_IMAGE, "digest": subject, "size": 1 });
        let bytes = artifact.to_string();
        let digest = digest_of(bytes.as_bytes());
        assert_eq!(client.manifest(REPO, &digest, OCI_IMAGE, bytes.as_bytes()).status, 201);
        digest
    };
    let mut all: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|first| scope.spawn(move || (first..MANY).step_by(8).map(push).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_unstable();
    let path = format!("/v2/{REPO}/referrers/{subject}");
    assert_eq!(follow(port, &path), (all.clone(), 5));
    assert_eq!(follow(port, &format!("{path}?n=300")), (all.clone(), 7));
    let (signatures, pages) = follow(port, &format!("{path}?artifactType=example/signature&n=600"));
    assert_eq!((signatures.len(), pages), (MANY / 2, 3), "the links keep the filter");
    let (first, next) = page(port, &format!("{path}?n=1&artifactType="));
    assert_eq!(first[0]["annotations"]["text"], json!(text));
    assert!(next.unwrap().contains("n=1"));
    assert_eq!(page(port, &format!("{path}?last={}", all[MANY - 2])).0.len(), 1);
    assert_eq!(page(port, &format!("{path}?n=0")), (vec![], None));
    // A deleted referrer is on no page.
    assert_eq!(client.delete(&manifest(REPO, &all[0])), 202);
    assert_eq!(page(port, &format!("{path}?n=1")).0[0]["digest"], json!(all[1]));
}
