//! Content that is no image: artifacts, referrers of images, and charts, pushed and pulled by real
//! clients.
//!
//! skopeo pushes a manifest unchanged, with a subject that it does not understand; that test always
//! runs. oras and helm understand theirs, and their tests run where they are installed.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::skopeo::Skopeo;
use super::tools::{HELM, ORAS, Tool};
use super::{Pushes, available, available_extra, skopeo};
use crate::hub::{Hub, Image, digest_of};
use crate::lanyard::Lanyard;
use crate::wire::{get, manifest};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SIGNATURE: &str = "application/vnd.example.signature.v1";

/// A lanyard with `team/app:v1`, which skopeo pushed from a Docker Hub that is gone now.
fn stage() -> (Image, Lanyard, Skopeo) {
    let hub = Hub::start();
    let image = hub.image("library/app", "latest").real_layer(100_000).oci().publish();
    let lanyard = Lanyard::start(&format!("[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n", hub.url()));
    let skopeo = Skopeo::new(&lanyard.host(), false);
    skopeo.push("docker.io/library/app:latest", &format!("{}/team/app:v1", lanyard.host())).unwrap();
    assert_eq!(get(lanyard.port(), &manifest("team/app", "v1")).body, image.bytes);
    (image, lanyard, skopeo)
}

/// The referrers of a manifest, as lanyard lists them.
fn referrers(lanyard: &Lanyard, repo: &str, digest: &str, query: &str) -> Vec<Value> {
    let answer = get(lanyard.port(), &format!("/v2/{repo}/referrers/{digest}{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/vnd.oci.image.index.v1+json"));
    answer.json()["manifests"].as_array().unwrap().clone()
}

/// The tags of a repository. A client that finds no referrers API leaves tags of its own.
fn tags(lanyard: &Lanyard, repo: &str) -> Value {
    get(lanyard.port(), &format!("/v2/{repo}/tags/list")).json()["tags"].take()
}

/// An OCI image layout with one manifest and its blobs.
fn write_layout(folder: &Path, manifest: &[u8], blobs: &[&[u8]]) {
    let digests = folder.join("blobs/sha256");
    fs::create_dir_all(&digests).unwrap();
    for bytes in blobs.iter().chain([&manifest]) {
        fs::write(digests.join(digest_of(bytes).trim_start_matches("sha256:")), bytes).unwrap();
    }
    let one = json!({ "mediaType": MANIFEST, "digest": digest_of(manifest), "size": manifest.len() });
    let index = json!({ "schemaVersion": 2, "manifests": [one] });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
}

#[test]
fn skopeo_pushes_a_referrer() {
    if !available(skopeo::PROGRAMS) {
        return;
    }
    let (image, mut lanyard, skopeo) = stage();
    let (empty, signature): (&[u8], &[u8]) = (b"{}", b"signed by ann");
    let blob = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": digest_of(bytes), "size": bytes.len() });
    let artifact = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": SIGNATURE,
        "config": blob("application/vnd.oci.empty.v1+json", empty),
        "layers": [blob("text/plain", signature)],
        "subject": { "mediaType": MANIFEST, "digest": image.digest, "size": image.bytes.len() },
        "annotations": { "org.example.signed-by": "ann" },
    });
    // With spaces, so that a client that writes it anew changes the bytes.
    let artifact = serde_json::to_vec_pretty(&artifact).unwrap();
    write_layout(&skopeo.path("layout"), &artifact, &[empty, signature]);
    let name = format!("{}/team/app@{}", lanyard.host(), digest_of(&artifact));
    skopeo.push_layout("layout", &name).unwrap_or_else(|said| panic!("{said}\n{}", lanyard.logs()));

    let expected = json!([{
        "mediaType": MANIFEST,
        "digest": digest_of(&artifact),
        "size": artifact.len(),
        "artifactType": SIGNATURE,
        "annotations": { "org.example.signed-by": "ann" },
    }]);
    assert_eq!(json!(referrers(&lanyard, "team/app", &image.digest, "")), expected);
    lanyard.kill9();
    lanyard.restart();
    let filtered = |kind: &str| referrers(&lanyard, "team/app", &image.digest, &format!("?artifactType={kind}"));
    assert_eq!(json!(filtered(SIGNATURE)), expected);
    assert_eq!(filtered("application/vnd.example.other"), [] as [Value; 0]);

    let pulled = skopeo.pull_back(&name).unwrap_or_else(|said| panic!("{said}\n{}", lanyard.logs()));
    let held = pulled.held.unwrap();
    assert!(held.contains(&digest_of(&artifact)), "the manifest is another: {held:?}");
    assert_eq!(skopeo.pulled_file(&digest_of(signature)), signature);
    assert_eq!(tags(&lanyard, "team/app"), json!(["v1"]));
}

#[test]
fn oras_attaches_finds_and_copies_referrers() {
    if !available(skopeo::PROGRAMS) || !available_extra(ORAS) {
        return;
    }
    let (image, mut lanyard, _) = stage();
    let oras = Tool::new(ORAS);
    let name = |repo: &str| format!("{}/{repo}", lanyard.host());
    let (app, report, copy) = (name("team/app:v1"), name("team/report:v1"), name("archive/app:v1"));
    oras.write("report.txt", "all is well\n");
    oras.write("signature.txt", "signed by ann\n");
    let kind = ["--artifact-type", "application/vnd.example.report.v1"];
    oras.run(&[&["push", "--plain-http"], &kind[..], &[&report, "report.txt:text/plain"]].concat());
    let annotation = ["--annotation", "org.example.signed-by=ann"];
    let attach = ["attach", "--plain-http", "--artifact-type", SIGNATURE];
    oras.run(&[&attach[..], &annotation, &[&app, "signature.txt:text/plain"]].concat());
    lanyard.kill9();
    lanyard.restart();

    oras.run(&["pull", "--plain-http", "--output", "pulled", &report]);
    assert_eq!(oras.read("pulled/report.txt"), b"all is well\n");
    let copying = ["copy", "--recursive", "--from-plain-http", "--to-plain-http"];
    oras.run(&[&copying[..], &[&app, &copy]].concat());
    lanyard.restart();
    for (repo, tag) in [("team/app", &app), ("archive/app", &copy)] {
        let listed = referrers(&lanyard, repo, &image.digest, "");
        assert_eq!(listed.len(), 1, "{listed:?}");
        let signature = &listed[0];
        assert_eq!(signature["artifactType"], SIGNATURE);
        assert_eq!(signature["annotations"]["org.example.signed-by"], "ann");
        let found = oras.json(&["discover", "--plain-http", "--format", "json", tag]);
        // Before 1.3 the list had the name that the specification gives it.
        let found = found.get("referrers").or(found.get("manifests")).unwrap();
        assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
        assert_eq!(
            (&found[0]["digest"], &found[0]["artifactType"]),
            (&signature["digest"], &signature["artifactType"])
        );
        let by_digest = format!("{}@{}", tag.strip_suffix(":v1").unwrap(), signature["digest"].as_str().unwrap());
        oras.run(&["pull", "--plain-http", "--output", repo, &by_digest]);
        assert_eq!(oras.read(&format!("{repo}/signature.txt")), b"signed by ann\n");
        assert_eq!(tags(&lanyard, repo), json!(["v1"]));
    }
}

/// A lanyard in a network without the internet: a push must succeed without a request there.
fn alone() -> Lanyard {
    let hub = Hub::start();
    hub.go_down();
    Lanyard::start(&format!("[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n", hub.url()))
}

#[test]
fn helm_pushes_and_pulls_a_chart() {
    if !available_extra(HELM) {
        return;
    }
    let mut lanyard = alone();
    let helm = Tool::new(HELM);
    helm.write("chart/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.2.3\ndescription: of the team\n");
    helm.write("chart/templates/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app\n");
    helm.run(&["package", "chart"]);
    helm.run(&["push", "--plain-http", "app-1.2.3.tgz", &format!("oci://{}/charts", lanyard.host())]);
    lanyard.kill9();
    lanyard.restart();
    let name = format!("oci://{}/charts/app", lanyard.host());
    helm.run(&["pull", "--plain-http", "--destination", "tmp", "--version", "1.2.3", &name]);
    assert_eq!(helm.read("tmp/app-1.2.3.tgz"), helm.read("app-1.2.3.tgz"));
    assert_eq!(tags(&lanyard, "charts/app"), json!(["1.2.3"]));
}
