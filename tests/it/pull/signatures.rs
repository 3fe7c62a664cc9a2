//! Referrers of an upstream's image. An empty list means "no signatures" to a client, so lanyard
//! answers with one only where it is true.

use serde_json::{Value, json};

use super::{config, mirror_with};
use crate::{
    hub::{Fault, Hub, Image, OCI_INDEX, OCI_MANIFEST, On},
    wire::{Answer, get, manifest},
};

const REPO: &str = "library/busybox";
const ALWAYS_DUE: &str = "[cache]\ntag_ttl = \"0s\"\nnegative_ttl = \"0s\"";

fn page(status: u16) -> Fault {
    let headers = vec![("Content-Type".into(), "text/html".into())];
    Fault::Status { status, headers, body: "<!doctype html><html>Packages</html>".into() }
}

fn index(media_type: &str, body: &str) -> Fault {
    let headers = vec![("Content-Type".into(), media_type.into())];
    Fault::Status { status: 200, headers, body: body.into() }
}

fn path(image: &Image) -> String {
    format!("/v2/{REPO}/referrers/{}", image.digest)
}

fn listed(answer: &Answer) -> usize {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(OCI_INDEX)), "{}", answer.text());
    assert_eq!(answer.json()["schemaVersion"], json!(2));
    answer.json()["manifests"].as_array().unwrap().len()
}

/// A hub whose image has a signature that only the API lists.
fn signed() -> (Hub, Image, String) {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(10).publish();
    let signature = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "example/signature",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": hub.put_blob(b"{}".to_vec()), "size": 2 },
        "layers": [], "subject": { "mediaType": image.media_type, "digest": image.digest, "size": image.bytes.len() },
    });
    let digest = hub.put_untagged(REPO, OCI_MANIFEST, signature.to_string().as_bytes());
    (hub, image, digest)
}

/// The answers of a registry without the API.
fn no_api() -> Vec<(&'static str, Fault)> {
    vec![
        ("a page", page(200)),
        ("404", Fault::status(404)),
        ("404 with a page", page(404)),
        ("405", page(405)),
        ("400", page(400)),
        ("403", page(403)),
        ("501", page(501)),
        ("303 to nowhere", Fault::Status { status: 303, headers: Vec::new(), body: String::new() }),
        ("an empty object", index(OCI_INDEX, "{}")),
        ("nothing", index(OCI_INDEX, "")),
        ("errors", index(OCI_INDEX, r#"{"errors":[{"code":"UNSUPPORTED"}]}"#)),
        ("half a list", index(OCI_INDEX, r#"{"schemaVersion":2,"manifests":[{"#)),
        ("an image", index(OCI_MANIFEST, r#"{"schemaVersion":2,"config":{},"layers":[]}"#)),
        ("another list", index("application/vnd.docker.distribution.manifest.list.v2+json", r#"{"manifests":[]}"#)),
        (
            "a list that calls itself an image",
            index(OCI_INDEX, &json!({"mediaType": OCI_MANIFEST, "manifests": []}).to_string()),
        ),
    ]
}

#[test]
fn without_the_api_the_tag_is_asked_for_and_no_list_is_invented() {
    for (n, (name, fault)) in no_api().into_iter().enumerate() {
        let (hub, image, signature) = signed();
        let lanyard = mirror_with(&hub, ALWAYS_DUE);
        hub.fault(On::referrers().always(), fault.clone());
        let tag = image.digest.replace(':', "-");
        let unclear = [page(200), page(404), page(503), Fault::status(500)].into_iter().nth(n % 4).unwrap();
        // An unclear answer about the tag does not lead to an empty list.
        hub.fault(On::manifest(&tag).always(), unclear.clone());
        let nothing = get(lanyard.port(), &path(&image));
        assert!((502..=504).contains(&nothing.status), "{name} {unclear:?}: {}", nothing.text());
        hub.clear_faults();
        hub.fault(On::referrers().always(), fault.clone());
        // The registry itself says that the tag does not exist.
        assert_eq!(listed(&get(lanyard.port(), &path(&image))), 0, "{name}");
        hub.fault(On::manifest(&tag).always(), unclear.clone());
        let known = get(lanyard.port(), &path(&image));
        assert_eq!((listed(&known), known.outcome()), (0, "stale"), "{name} {unclear:?}: what was told a moment ago");
        hub.clear_faults();
        hub.fault(On::referrers().always(), fault);
        let list = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX,
            "manifests": [{ "mediaType": OCI_MANIFEST, "digest": signature, "size": 1 }] });
        hub.put_manifest(REPO, &tag, OCI_INDEX, list.to_string().as_bytes());
        // The tag has failed so often that it is not asked for a while.
        crate::wire::eventually("the tag is found", || listed(&get(lanyard.port(), &path(&image))) == 1);
        hub.put_manifest(REPO, &tag, OCI_MANIFEST, &image.bytes);
        let fresh = mirror_with(&hub, ALWAYS_DUE);
        let image_there = get(fresh.port(), &path(&image));
        assert!((502..=504).contains(&image_there.status), "{name}: {}", image_there.text());
    }
}

#[test]
fn in_an_outage_what_is_known_is_told_and_nothing_else() {
    for trouble in [Fault::status(500), Fault::status(503), page(502), Fault::too_many_requests(None)] {
        let (hub, image, _) = signed();
        let lanyard = mirror_with(&hub, ALWAYS_DUE);
        hub.fault(On::referrers().always(), trouble.clone());
        let nothing = get(lanyard.port(), &path(&image));
        assert!((502..=504).contains(&nothing.status), "{trouble:?}: {} {}", nothing.status, nothing.text());
        assert!(nothing.json()["errors"].is_array());
    }
    let (hub, image, signature) = signed();
    let mut lanyard = mirror_with(&hub, ALWAYS_DUE);
    hub.go_down();
    let nothing = get(lanyard.port(), &path(&image));
    assert!((502..=504).contains(&nothing.status), "{}", nothing.text());
    hub.come_back();
    crate::wire::eventually("it is back", || get(lanyard.port(), &path(&image)).status == 200);
    assert_eq!(get(lanyard.port(), &manifest(REPO, &signature)).status, 200);
    hub.go_down();
    let known = get(lanyard.port(), &path(&image));
    assert_eq!((listed(&known), known.outcome()), (1, "stale"));
    // After a restart lanyard knows the content on the disk.
    lanyard.restart();
    let known = get(lanyard.port(), &path(&image));
    assert_eq!((listed(&known), known.outcome()), (1, "stale"));
    let other: Value = get(lanyard.port(), &path(&image).replace(&image.digest, &signature)).json();
    assert!(other["errors"].is_array(), "of that image nothing is known: {other}");
    // An offline lanyard asks no upstream: the referrers that are here are the whole list.
    lanyard.reconfigure(&config(&hub, "mode = \"offline\""));
    lanyard.restart();
    let here = get(lanyard.port(), &path(&image));
    assert_eq!((listed(&here), here.outcome()), (1, "hit"));
    assert_eq!(listed(&get(lanyard.port(), &path(&image).replace(&image.digest, &signature))), 0);
}
