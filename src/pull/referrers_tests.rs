use std::path::Path;

use super::*;
use crate::{
    oci::{Algorithm, Hasher, Namespace, OCI_IMAGE},
    storage::{LinkRight, testing::Folder},
};

fn open(dir: &Path) -> (Folder, Repository) {
    (Folder::open(dir), Repository { namespace: Namespace::Hosted, name: "a".parse().unwrap() })
}

fn subject() -> Digest {
    Hasher::digest(Algorithm::Sha256, b"subject")
}

/// Stores a manifest about the subject.
fn put(storage: &Folder, repo: &Repository, media_type: &str, mut manifest: Value) -> Digest {
    manifest["subject"] = json!({ "digest": subject(), "size": 1 });
    let bytes = manifest.to_string();
    assert!(bytes.len() <= MAX_MANIFEST_BYTES);
    let digest = Hasher::digest(Algorithm::Sha256, bytes.as_bytes());
    storage.blobs.put(&digest, bytes.as_bytes()).unwrap();
    let (media_type, size) = (media_type.to_owned(), bytes.len() as u64);
    let link = LinkRecord { digest, media_type, size, subject: Some(subject()), right: LinkRight::Pushed, created: 1 };
    storage.catalog.put_links(repo, &[link]).unwrap();
    digest
}

fn image(config: &str) -> Value {
    json!({ "schemaVersion": 2, "config": { "mediaType": config, "digest": subject(), "size": 1 }, "layers": [] })
}

/// All pages from the first on, each as its descriptors.
fn walk(storage: &Folder, repo: &Repository, mut wanted: Selection, look: usize) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    loop {
        let subject = subject();
        let links = Links::new(&storage.storage, repo, &subject, wanted.last.clone());
        let pool = BlockingPool::new(storage.runtime.handle().clone(), 1);
        let describe = async |link: LinkRecord| described(&storage.storage, &pool, &link).await;
        let (index, next) = storage.runtime.block_on(page(describe, links, &wanted, look)).unwrap();
        assert!(index.len() <= MAX_MANIFEST_BYTES, "{}", index.len());
        let index: Value = serde_json::from_slice(&index).unwrap();
        assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(OCI_INDEX)));
        pages.push(index["manifests"].as_array().unwrap().clone());
        let Some(last) = next else { return pages };
        assert!(wanted.last.is_none_or(|before| before < last), "each page goes on");
        wanted.last = Some(last);
    }
}

fn digests(pages: &[Vec<Value>]) -> Vec<&str> {
    pages.iter().flatten().map(|of| of["digest"].as_str().unwrap()).collect()
}

#[test]
fn pages_meet_without_gap_or_overlap_by_number_size_and_work() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, repo) = open(dir.path());
    let mut all = Vec::new();
    for n in 0..40 {
        let mut manifest = image(["a/even", "a/odd"][n % 2]);
        manifest["annotations"] = json!({ "n": n.to_string(), "text": "x".repeat(300_000) });
        all.push(put(&storage, &repo, OCI_IMAGE, manifest).to_string());
    }
    all.sort_unstable();
    let pages = walk(&storage, &repo, Selection::default(), LOOK);
    assert_eq!((digests(&pages), pages.len()), (all.iter().map(String::as_str).collect(), 4), "13 fit into one");
    for n in [1, 7, 20, 40, 41] {
        let pages = walk(&storage, &repo, Selection { n: Some(n), ..Selection::default() }, LOOK);
        assert_eq!(digests(&pages), all, "n={n}");
        assert!(pages.iter().all(|page| !page.is_empty() && page.len() <= n), "n={n}");
    }
    assert_eq!(walk(&storage, &repo, Selection { n: Some(0), ..Selection::default() }, LOOK), [Vec::<Value>::new()]);
    let odd = Selection { artifact_type: Some("a/odd".to_owned()), n: Some(5), last: None };
    let pages = walk(&storage, &repo, odd.clone(), LOOK);
    assert_eq!((pages.len(), digests(&pages).len()), (4, 20), "filtered first");
    assert!(pages.iter().flatten().all(|of| of["artifactType"] == "a/odd"));
    // A page for which enough was read ends, with whatever it has.
    assert_eq!(digests(&walk(&storage, &repo, odd, 1)), digests(&pages));
    let none = Selection { artifact_type: Some("a/none".to_owned()), ..Selection::default() };
    assert_eq!(walk(&storage, &repo, none, 1_000_000).len(), 10);
}

#[test]
fn a_type_is_the_manifests_own_or_an_images_configs() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, repo) = open(dir.path());
    let with = |mut manifest: Value, artifact_type: &str| {
        manifest["artifactType"] = json!(artifact_type);
        manifest
    };
    let index = json!({ "schemaVersion": 2, "manifests": [] });
    let mut ill = image("a/config");
    ill["annotations"] = json!({ "n": 1 });
    for (media_type, manifest, expected) in [
        (OCI_IMAGE, image("a/config"), Some("a/config")),
        (OCI_IMAGE, with(image("a/config"), ""), Some("a/config")),
        (OCI_IMAGE, with(image("a/config"), "a/own"), Some("a/own")),
        (OCI_IMAGE, with(image(""), ""), None),
        (OCI_INDEX, index.clone(), None),
        (OCI_INDEX, with(index.clone(), ""), None),
        (OCI_INDEX, with(index, "a/own"), Some("a/own")),
        (OCI_IMAGE, ill, Some("a/config")),
    ] {
        let digest = put(&storage, &repo, media_type, manifest.clone()).to_string();
        let pages = walk(&storage, &repo, Selection::default(), LOOK);
        let found = pages.iter().flatten().find(|of| of["digest"] == digest).unwrap();
        assert_eq!(found.get("artifactType").and_then(Value::as_str), expected, "{manifest}");
        assert_eq!(found.get("annotations"), None, "what are no annotations are left out");
    }
}

/// The largest manifest may say so much of itself that an index of it alone is too large.
#[test]
fn one_that_is_too_much_for_a_page_says_less() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, repo) = open(dir.path());
    let mut manifest =
        json!({ "manifests": [], "annotations": { "text": "" }, "subject": { "digest": subject(), "size": 1 } });
    let room = MAX_MANIFEST_BYTES - manifest.to_string().len();
    manifest["annotations"]["text"] = json!("x".repeat(room));
    let large = put(&storage, &repo, OCI_INDEX, manifest).to_string();
    let small = put(&storage, &repo, OCI_IMAGE, image("a/b")).to_string();
    let pages = walk(&storage, &repo, Selection::default(), LOOK);
    let mut both = [large.as_str(), small.as_str()];
    both.sort_unstable();
    assert_eq!(digests(&pages), both);
}

#[test]
fn what_an_upstream_told_is_selected_from() {
    let index = br#"{"schemaVersion":2,"manifests":[{"digest":"c","artifactType":"a/b","size":1},{"digest":"b","artifactType":"c"},
        {"digest":"a","artifactType":"a/b"},{}],"annotations":{"k":"v"}}"#;
    let select = |artifact_type: Option<&str>, last: Option<&str>, n| {
        let wanted = Selection { artifact_type: artifact_type.map(str::to_owned), last: last.map(str::to_owned), n };
        let (index, next) = selected(index, &wanted).unwrap();
        (serde_json::from_slice::<Value>(&index).unwrap(), next)
    };
    let of = |digest: &str, more: Value| {
        let mut all = json!({ "digest": digest, "artifactType": "a/b" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let expected =
        |manifests: &[Value]| json!({ "schemaVersion": 2, "manifests": manifests, "annotations": { "k": "v" } });
    let (a, c) = (of("a", json!({})), of("c", json!({ "size": 1 })));
    assert_eq!(select(Some("a/b"), None, None), (expected(&[a.clone(), c.clone()]), None));
    assert_eq!(select(Some("a/b"), None, Some(1)), (expected(&[a]), Some("a".to_owned())));
    assert_eq!(select(Some("a/b"), Some("a"), Some(1)), (expected(&[c]), None));
    assert_eq!(select(None, None, Some(0)), (expected(&[]), None));
    assert!(selected(b"<html>", &Selection::default()).is_err());
    assert!(selected(b"[1]", &Selection::default()).is_ok());
}
