//! An outage, and an image of which only some parts are here: they are served, and a client that
//! needs no more than those parts sees no error.

use serde_json::json;

use super::dockerd::{self, Dockerd};
use super::skopeo::{self, Skopeo};
use super::tools::{COSIGN, CRANE, ORAS, Tool};
use super::{Client as _, Pushes as _, available, available_extra};
use crate::hub::{Entry, Hub, digest_of};
use crate::lanyard::Lanyard;
use crate::wire::{eventually, get, manifest};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A lanyard that revalidates every tag, so that each pull meets the outage.
fn before(hub: &Hub) -> Lanyard {
    Lanyard::start(&format!("[cache]\ntag_ttl = \"0s\"\n[[upstream]]\nname = \"docker.io\"\nurl = \"{}\"\n", hub.url()))
}

/// docker has the base image already, so no client has ever asked lanyard for its layer.
#[test]
fn docker_pulls_an_image_whose_base_it_has() {
    if !available(dockerd::PROGRAMS) {
        return;
    }
    let hub = Hub::builder().open().start();
    let system = vec![Entry::file("etc/motd", "hello\n"), Entry::program("bin/run", "#!/bin/sh\n")];
    let base = hub.image("library/base", "latest").files(system.clone()).publish();
    let app = hub.image("library/app", "latest").files(system).real_layer(100_000).publish();
    assert_eq!(base.layer(0), app.layer(0));
    let lanyard = before(&hub);
    let docker = Dockerd::start(&lanyard.url());
    // From the stand-in's own address, past lanyard.
    docker.docker(&["pull", "--quiet", &format!("{}/library/base:latest", hub.address())]).unwrap();
    let first = docker.pull("docker.io/library/app:latest").unwrap();
    assert_eq!(hub.blob_gets(base.layer(0)), 1, "lanyard has never been asked for the base: {:#?}", hub.requests());

    docker.docker(&["rmi", "--force", "library/app:latest"]).unwrap();
    hub.go_down();
    let again = docker.pull("docker.io/library/app:latest").unwrap_or_else(|said| panic!("{said}\n{}", lanyard.logs()));
    assert_eq!((again.tag, again.unpacked), (first.tag, first.unpacked));
    assert_eq!(docker.hub_asked(), 0);
}

/// An artifact: oras fetches the manifest and the file, never the configuration.
#[test]
fn oras_pulls_an_artifact_whose_configuration_nobody_fetched() {
    if !available_extra(ORAS) {
        return;
    }
    let hub = Hub::start();
    let descriptor = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": hub.put_blob(bytes.to_vec()), "size": bytes.len() });
    let mut report = descriptor("text/plain", b"all is well\n");
    report["annotations"] = json!({ "org.opencontainers.image.title": "report.txt" });
    let artifact = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.example.config.v1+json", b"{\"by\": \"ann\"}"),
        "layers": [report],
    });
    hub.put_manifest("library/report", "v1", MANIFEST, artifact.to_string().as_bytes());
    let lanyard = before(&hub);
    let oras = Tool::new(ORAS);
    let name = format!("{}/docker.io/library/report:v1", lanyard.host());
    oras.run(&["pull", "--plain-http", "--output", "first", &name]);
    hub.go_down();
    oras.run(&["pull", "--plain-http", "--output", "again", &name]);
    for folder in ["first", "again"] {
        assert_eq!(oras.read(&format!("{folder}/report.txt")), b"all is well\n");
    }
}

/// A signature needs the image's manifest and none of its layers.
#[test]
fn cosign_verifies_an_image_whose_layers_nobody_fetched() {
    if !available(skopeo::PROGRAMS) || !available_extra(COSIGN) {
        return;
    }
    // The team's own lanyard, where the image is signed, and another lanyard in front of it.
    let hub = Hub::start();
    hub.image("library/app", "latest").real_layer(100_000).oci().publish();
    let mut team = before(&hub);
    let skopeo = Skopeo::new(&team.host(), false);
    skopeo.push("docker.io/library/app:latest", &format!("{}/team/app:v1", team.host())).unwrap();
    let cosign = Tool::new(COSIGN);
    cosign.run_with("COSIGN_PASSWORD=canary", &["generate-key-pair"]);
    let offline = ["--tlog-upload=false", "--use-signing-config=false"];
    let sign = [&["sign", "--yes", "--allow-http-registry", "--key", "cosign.key"], &offline[..]].concat();
    cosign.run_with("COSIGN_PASSWORD=canary", &[&sign[..], &[&format!("{}/team/app:v1", team.host())]].concat());

    let lanyard = Lanyard::start(&format!(
        "[cache]\ntag_ttl = \"0s\"\n[[upstream]]\nname = \"team.lan\"\nurl = \"{}\"\n",
        team.url()
    ));
    let name = format!("{}/team.lan/team/app:v1", lanyard.host());
    let offline = ["--insecure-ignore-tlog=true", "--allow-http-registry"];
    let verify = [&["verify", "--key", "cosign.pub"], &offline[..], &[&name]].concat();
    cosign.run(&verify);
    assert!(team.stop().success());
    cosign.attempt(&verify).unwrap_or_else(|said| panic!("{said}\n{}", lanyard.logs()));
}

/// Only the manifest is here. It is served, and the error of the missing layer names the layer.
#[test]
fn crane_reads_a_manifest_without_its_layers_and_is_told_which_is_missing() {
    if !available_extra(CRANE) {
        return;
    }
    let hub = Hub::start();
    let image = hub.image("library/app", "latest").real_layer(300_000).publish();
    let lanyard = before(&hub);
    let crane = Tool::new(CRANE);
    let name = format!("{}/docker.io/library/app:latest", lanyard.host());
    crane.run(&["manifest", &name]);
    // The configuration may be fetched in the background; the layer is not.
    eventually("the manifest is stored", || {
        get(lanyard.port(), &manifest("library/app", &image.digest)).outcome() == "hit"
    });
    hub.go_down();
    assert_eq!(digest_of(crane.run(&["manifest", &name]).trim_end().as_bytes()), image.digest);
    assert_eq!(crane.run(&["digest", &name]).trim(), image.digest);
    let said = crane.attempt(&["pull", &name, "image.tar"]).expect_err("the layer is not here");
    let told = lanyard.logs() + &said;
    assert!(told.contains("503") || told.contains("502"), "{told}");
    let answer = get(lanyard.port(), &format!("/v2/docker.io/library/app/blobs/{}", image.layer(0)));
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains(image.layer(0)), "it says which: {}", answer.text());
}
