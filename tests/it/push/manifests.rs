//! Manifests: which are accepted, which are refused, and with which answer.

use serde_json::json;

use super::{OCI_IMAGE, OCI_INDEX, Pusher, image, registry};
use crate::{
    hub::digest_of,
    wire::{ask, get, head, manifest, send},
};

const REPO: &str = "team/app";

#[test]
fn a_pushed_image_is_pulled_by_tag_and_digest_and_survives() {
    let mut lanyard = registry("");
    let client = Pusher(lanyard.port());
    let bytes = image(&client.blob(REPO, b"{}"), &[&client.blob(REPO, b"layer")]).to_string();
    let digest = digest_of(bytes.as_bytes());
    let answer = client.manifest(REPO, "v1", OCI_IMAGE, bytes.as_bytes());
    assert_eq!((answer.status, answer.header("docker-content-digest")), (201, Some(digest.as_str())));
    assert_eq!(answer.header("location"), Some(manifest(REPO, &digest).as_str()));
    lanyard.kill9();
    std::fs::remove_dir_all(lanyard.data_dir().join("index")).unwrap();
    lanyard.restart();
    for reference in ["v1", &digest] {
        let answer = get(lanyard.port(), &manifest(REPO, reference));
        assert_eq!((answer.status, answer.text()), (200, bytes.clone()));
        assert_eq!(answer.header("content-type"), Some(OCI_IMAGE));
        assert_eq!(
            head(lanyard.port(), &manifest(REPO, reference)).header("content-length"),
            answer.header("content-length")
        );
    }
    let tags = get(lanyard.port(), &format!("/v2/{REPO}/tags/list")).json();
    assert_eq!(tags, json!({ "name": REPO, "tags": ["v1"] }));
}

#[test]
fn what_is_missing_is_named() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let (here, gone) = (client.blob(REPO, b"{}"), digest_of(b"never pushed"));
    let elsewhere = client.blob("other/secret", b"of another repository");
    for missing in [&gone, &elsewhere] {
        let answer = client.manifest(REPO, "v1", OCI_IMAGE, image(&here, &[missing]).to_string().as_bytes());
        assert_eq!((answer.status, answer.error_code()), (404, "MANIFEST_BLOB_UNKNOWN".to_owned()));
        assert!(answer.text().contains(missing.as_str()), "{}", answer.text());
    }
    assert_eq!(client.head(&manifest(REPO, "v1")), 404, "nothing of it is kept");
    // A non-distributable layer may be missing.
    let mut foreign = image(&here, &[&gone]);
    foreign["layers"][0]["urls"] = json!(["https://store.example.com/layer"]);
    assert_eq!(client.manifest(REPO, "v1", OCI_IMAGE, foreign.to_string().as_bytes()).status, 201);
    assert_eq!(get(lanyard.port(), &manifest(REPO, "v1")).status, 200);
    // An index needs its images as manifests; a blob with the same bytes does not count (S10).
    let bytes = image(&here, &[]).to_string();
    let child = client.blob(REPO, bytes.as_bytes());
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{ "mediaType": OCI_IMAGE, "digest": child, "size": bytes.len() }] });
    assert_eq!(client.manifest(REPO, "all", OCI_INDEX, index.to_string().as_bytes()).status, 404);
    assert_eq!(client.head(&manifest(REPO, &child)), 404, "a blob is not served as a manifest");
    assert_eq!(client.manifest(REPO, &child, OCI_IMAGE, bytes.as_bytes()).status, 201);
    assert_eq!(client.manifest(REPO, "all", OCI_INDEX, index.to_string().as_bytes()).status, 201);
    // Pushed once more as a blob, it stays a manifest.
    client.blob(REPO, bytes.as_bytes());
    assert_eq!(get(lanyard.port(), &manifest(REPO, &child)).header("content-type"), Some(OCI_IMAGE));
}

/// BuildKit's `--cache-to type=registry`: an index whose entries are layers and a config of its
/// own, all pushed as blobs.
#[test]
fn a_build_cache_is_an_index_of_blobs() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let parts = [
        ("application/vnd.oci.image.layer.v1.tar+gzip", &b"a layer"[..]),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", b"another"),
        ("application/vnd.buildkit.cacheconfig.v0", br#"{"layers":[{"blob":"sha256:"}]}"#),
    ];
    let list = |part: &(&str, &[u8])| json!({ "mediaType": part.0, "digest": digest_of(part.1), "size": part.1.len() });
    let index =
        json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": parts.each_ref().map(list) }).to_string();
    for (_, bytes) in &parts {
        let answer = client.manifest(REPO, "cache", OCI_INDEX, index.as_bytes());
        assert_eq!((answer.status, answer.error_code().as_str()), (404, "MANIFEST_BLOB_UNKNOWN"), "a part is missing");
        client.blob(REPO, bytes);
    }
    let answer = client.manifest(REPO, "cache", OCI_INDEX, index.as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(get(lanyard.port(), &manifest(REPO, "cache")).text(), index);
    for (_, bytes) in &parts {
        assert_eq!(get(lanyard.port(), &format!("/v2/{REPO}/blobs/{}", digest_of(bytes))).body, *bytes);
    }
}

#[test]
fn sparse_takes_manifests_without_their_parts() {
    let lanyard = registry("[hosted]\nsparse = true\n");
    let client = Pusher(lanyard.port());
    let bytes = image(&digest_of(b"no config"), &[&digest_of(b"no layer")]).to_string();
    assert_eq!(client.manifest(REPO, "v1", OCI_IMAGE, bytes.as_bytes()).status, 201);
    assert_eq!(get(lanyard.port(), &manifest(REPO, "v1")).text(), bytes);
}

#[test]
fn s9_s10_what_is_no_manifest_is_refused() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let good = image(&client.blob(REPO, b"{}"), &[]);
    let mut both = good.clone();
    both["manifests"] = json!([]);
    let mut padded = good.clone();
    padded["annotations"] = json!({ "a": "x".repeat(4 << 20) });
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let good = good.to_string();
    for (media_type, bytes, status) in [
        (OCI_INDEX, good.as_str(), 400),
        (OCI_IMAGE, &both.to_string(), 400),
        (OCI_IMAGE, "{}", 400),
        (OCI_INDEX, "{}", 400),
        (OCI_IMAGE, "nonsense", 400),
        (OCI_IMAGE, "", 400),
        ("text/html", &good, 400),
        (schema1, &good, 400),
        (OCI_IMAGE, &padded.to_string(), 413),
    ] {
        let answer = client.manifest(REPO, "v1", media_type, bytes.as_bytes());
        assert_eq!((answer.status, answer.error_code()), (status, "MANIFEST_INVALID".to_owned()), "{media_type}");
    }
    let wrong = client.manifest(REPO, &digest_of(b"something else"), OCI_IMAGE, good.as_bytes());
    assert_eq!((wrong.status, wrong.error_code()), (400, "DIGEST_INVALID".to_owned()));
    assert_eq!(client.head(&manifest(REPO, "v1")), 404);
    // A manifest of the largest size is accepted. For a Content-Type with parameters, or without
    // one, the manifest's own type counts.
    padded["annotations"] = json!({ "a": "" });
    let room = (4 << 20) - padded.to_string().len();
    padded["annotations"] = json!({ "a": "x".repeat(room) });
    assert_eq!(padded.to_string().len(), 4 << 20);
    assert_eq!(
        client.manifest(REPO, "v1", &format!("{OCI_IMAGE}; charset=utf-8"), padded.to_string().as_bytes()).status,
        201
    );
    assert_eq!(send(lanyard.port(), "PUT", &manifest(REPO, "v2"), &[], good.as_bytes()).status, 201);
    for tag in ["v1", "v2"] {
        assert_eq!(get(lanyard.port(), &manifest(REPO, tag)).header("content-type"), Some(OCI_IMAGE));
    }
}

#[test]
fn tags_come_with_the_push() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let bytes = image(&client.blob(REPO, b"{}"), &[]).to_string();
    let digest = digest_of(bytes.as_bytes());
    let answer = client.manifest(REPO, &format!("{digest}?tag=a&tag=b.1&tag=a"), OCI_IMAGE, bytes.as_bytes());
    assert_eq!(answer.status, 201);
    let told: Vec<_> = answer.header("oci-tag").unwrap().split(", ").collect();
    assert!(told.contains(&"a") && told.contains(&"b.1"), "{told:?}");
    let list = get(lanyard.port(), &format!("/v2/{REPO}/tags/list")).json();
    assert_eq!(list["tags"], json!(["a", "b.1"]));
    for (bad, status) in [("tag=.x".to_owned(), 400), ("tag=x&".repeat(65), 414)] {
        assert_eq!(client.manifest(REPO, &format!("{digest}?{bad}"), OCI_IMAGE, bytes.as_bytes()).status, status);
    }
}

/// S7: in no way does an immutable tag move or disappear.
#[test]
fn s7_immutable_tags_hold_on_every_path() {
    let lanyard = registry("[hosted]\nimmutable_tags = [\"**:v*\"]\n");
    let client = Pusher(lanyard.port());
    let first = client.image(REPO, "v1", b"first");
    assert_eq!(client.image(REPO, "v1", b"first"), first, "the same again is no change");
    let other = image(&client.blob(REPO, b"{}"), &[]).to_string();
    let digest = digest_of(other.as_bytes());
    for reference in ["v1".to_owned(), format!("{digest}?tag=v1"), "latest?tag=v1".to_owned()] {
        let answer = client.manifest(REPO, &reference, OCI_IMAGE, other.as_bytes());
        assert_eq!((answer.status, answer.error_code()), (403, "DENIED".to_owned()), "{reference}");
    }
    assert_eq!(client.head(&manifest(REPO, "latest")), 404, "all or nothing");
    for path in [manifest(REPO, "v1"), manifest(REPO, &first), format!("/v2/{REPO}/blobs/{first}")] {
        let answer = ask(lanyard.port(), "DELETE", &path, &[]);
        assert_eq!((answer.status, answer.error_code()), (403, "DENIED".to_owned()), "{path}");
    }
    assert_eq!(get(lanyard.port(), &manifest(REPO, "v1")).header("docker-content-digest"), Some(first.as_str()));
    client.image(REPO, "latest", b"first");
    client.image(REPO, "latest", b"others move");
}

/// S7: nor does anything that it needs disappear, however deep in it: an index, its image, the
/// image's layers.
#[test]
fn s7_what_an_immutable_tag_needs_stays() {
    let lanyard = registry("[hosted]\nimmutable_tags = [\"**:v*\"]\n");
    let client = Pusher(lanyard.port());
    let index = |child: &str| {
        let child = json!({ "digest": child, "size": 1 });
        json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child] }).to_string()
    };
    let kept = client.image(REPO, "kept", b"needed");
    let free = client.image(REPO, "free", b"not needed");
    let middle = index(&kept);
    assert_eq!(client.manifest(REPO, "middle", OCI_INDEX, middle.as_bytes()).status, 201);
    let whole = index(&digest_of(middle.as_bytes()));
    assert_eq!(client.manifest(REPO, "v1", OCI_INDEX, whole.as_bytes()).status, 201);
    let blob = |bytes: &[u8]| format!("/v2/{REPO}/blobs/{}", digest_of(bytes));
    let refused = [blob(b"needed"), blob(b"{}"), manifest(REPO, &kept), manifest(REPO, &digest_of(middle.as_bytes()))];
    for path in &refused {
        let answer = ask(lanyard.port(), "DELETE", path, &[]);
        assert_eq!(answer.status, 403, "{path}");
        assert_eq!(answer.error_code(), "DENIED", "{path}");
        assert_eq!(client.head(path), 200, "{path}");
    }
    assert_eq!(client.head(&manifest(REPO, "kept")), 200, "other tags of what it needs stay where it is not deleted");
    for path in [manifest(REPO, &free), blob(b"not needed"), manifest(REPO, "kept"), manifest(REPO, "middle")] {
        assert_eq!(client.delete(&path), 202, "{path}");
    }
    // In another repository no immutable tag needs it.
    client.image("team/other", "latest", b"needed");
    assert_eq!(client.delete(&format!("/v2/team/other/blobs/{}", digest_of(b"needed"))), 202);
}

#[test]
fn what_refers_to_an_image_is_found() {
    let lanyard = registry("");
    let client = Pusher(lanyard.port());
    let subject = client.image(REPO, "v1", b"layer");
    let mut made = Vec::new();
    for (kind, note) in [("application/sbom", "a"), ("application/signature", "b")] {
        let mut artifact = image(&client.blob(REPO, b"{}"), &[&client.blob(REPO, note.as_bytes())]);
        artifact["artifactType"] = json!(kind);
        artifact["annotations"] = json!({ "note": note });
        artifact["subject"] = json!({ "mediaType": OCI_IMAGE, "digest": subject, "size": 1 });
        let bytes = artifact.to_string();
        made.push(digest_of(bytes.as_bytes()));
        let answer = client.manifest(REPO, &digest_of(bytes.as_bytes()), OCI_IMAGE, bytes.as_bytes());
        assert_eq!((answer.status, answer.header("oci-subject")), (201, Some(subject.as_str())));
    }
    let path = format!("/v2/{REPO}/referrers/{subject}");
    let all = get(lanyard.port(), &path);
    assert_eq!((all.status, all.header("content-type")), (200, Some(OCI_INDEX)));
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    let one = get(lanyard.port(), &format!("{path}?artifactType=application/signature"));
    assert_eq!(one.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(one.json()["manifests"][0]["digest"], json!(made[1]));
    assert_eq!(one.json()["manifests"][0]["annotations"], json!({ "note": "b" }));
    // The next check does not find the deleted manifest.
    assert_eq!(client.delete(&manifest(REPO, &made[1])), 202);
    assert_eq!(get(lanyard.port(), &path).json()["manifests"].as_array().unwrap().len(), 1);
    let nobody = get(lanyard.port(), &format!("/v2/never/heard-of/referrers/{subject}"));
    assert_eq!((nobody.status, nobody.json()["manifests"].clone()), (200, json!([])));
}
