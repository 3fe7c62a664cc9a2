//! Without upstream: offline by configuration, gone, or a black hole.

use std::time::{Duration, Instant};

use super::{config, mirror, mirror_with};
use crate::{
    hub::Hub,
    lanyard::Lanyard,
    wire::{blob, eventually, get, manifest},
};

const REPO: &str = "library/busybox";

/// Seen in other caches: "the proxy calls upstream at boot and panics without it".
#[test]
fn it_starts_and_pings_without_any_upstream() {
    let lanyard = Lanyard::start("[[upstream]]\nname = \"docker.io\"\nurl = \"http://127.0.0.1:1\"\n");
    let ping = get(lanyard.port(), "/v2/");
    assert_eq!((ping.status, ping.text().trim()), (200, "{}"));
    assert_eq!(ping.header("docker-distribution-api-version"), Some("registry/2.0"));
    let answer = get(lanyard.port(), &manifest(REPO, "latest"));
    assert!((502..=504).contains(&answer.status), "{}", answer.text());
}

#[test]
fn what_was_pulled_stays_available() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(10_000).platforms(&["linux/amd64", "linux/arm64"]).publish();
    let mut lanyard = mirror_with(&hub, "[cache]\ntag_ttl = \"0s\"");
    let pull = |port| {
        let mut all = vec![manifest(REPO, "latest"), manifest(REPO, &image.platforms[0].digest)];
        all.extend(image.blobs().iter().map(|digest| blob(REPO, digest)));
        all.iter().map(|path| get(port, path).status).collect::<Vec<_>>()
    };
    assert_eq!(pull(lanyard.port()), [200; 4]);
    hub.go_down();
    assert_eq!(pull(lanyard.port()), [200; 4]);
    lanyard.restart();
    assert_eq!(pull(lanyard.port()), [200; 4]);
    // sled may still be writing there.
    eventually("the index is gone", || {
        let index = lanyard.data_dir().join("index");
        std::fs::remove_dir_all(&index).is_ok() || !index.exists()
    });
    assert_eq!(pull(lanyard.port()), [200; 4], "the index is deleted while lanyard runs");
    lanyard.kill9();
    let _ = std::fs::remove_dir_all(lanyard.data_dir().join("index"));
    lanyard.restart();
    assert_eq!(pull(lanyard.port()), [200; 4], "and while it does not");
    // The other platform was never pulled.
    let missing = get(lanyard.port(), &manifest(REPO, &image.platforms[1].digest));
    assert!((502..=504).contains(&missing.status), "{}", missing.text());
}

#[test]
fn offline_asks_nobody() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1000).publish();
    let partly = hub.image("library/partly", "latest").layer(2000).publish();
    let mut lanyard = mirror(&hub);
    get(lanyard.port(), &manifest(REPO, "latest"));
    for digest in image.blobs() {
        assert_eq!(get(lanyard.port(), &blob(REPO, digest)).status, 200);
    }
    get(lanyard.port(), &manifest("library/partly", "latest"));
    lanyard.reconfigure(&config(&hub, "mode = \"offline\"\n[cache]\ntag_ttl = \"0s\""));
    lanyard.restart();
    hub.reset_counts();
    let before = hub.connections_accepted();
    assert_eq!(get(lanyard.port(), &manifest(REPO, "latest")).outcome(), "hit");
    assert_eq!(get(lanyard.port(), &blob(REPO, image.layer(0))).outcome(), "hit");
    assert_eq!(get(lanyard.port(), &manifest(REPO, "other")).status, 404);
    // A client may have the layers already, so a manifest that is here is served; the error of a
    // missing part names it.
    assert_eq!(get(lanyard.port(), &manifest("library/partly", "latest")).outcome(), "hit");
    let missing = get(lanyard.port(), &blob("library/partly", partly.layer(0)));
    assert!(missing.status == 503 && missing.text().contains(partly.layer(0)), "{}", missing.text());
    assert_eq!(get(lanyard.port(), "/v2/library/busybox/tags/list").json()["tags"][0], "latest");
    assert_eq!((hub.requests().len(), hub.connections_accepted()), (0, before), "nobody was asked");
}

/// The referrers of an image are passed through, kept for their TTL, and served from the disk when
/// upstream is gone.
#[test]
fn referrers_stay_available() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(10).publish();
    let signature = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"example/signature",
        "config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{empty}","size":2}},"layers":[],
        "subject":{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}},"annotations":{{"by":"someone"}}}}"#,
        empty = hub.put_blob(b"{}".to_vec()),
        media_type = image.media_type,
        digest = image.digest,
        size = image.bytes.len(),
    );
    let signature = hub.put_untagged(REPO, "application/vnd.oci.image.manifest.v1+json", signature.as_bytes());
    let mut lanyard = mirror_with(&hub, "[cache]\ntag_ttl = \"0s\"");
    let path = format!("/v2/{REPO}/referrers/{}", image.digest);
    let online = get(lanyard.port(), &path);
    assert_eq!(online.json()["manifests"][0]["digest"], signature.as_str());
    assert_eq!(get(lanyard.port(), &manifest(REPO, &signature)).status, 200);
    hub.go_down();
    let stale = get(lanyard.port(), &path);
    assert_eq!((stale.outcome(), &stale.body), ("stale", &online.body));
    lanyard.restart();
    let from_disk = get(lanyard.port(), &path).json();
    let found = &from_disk["manifests"][0];
    assert_eq!((&found["digest"], &found["artifactType"]), (&signature.as_str().into(), &"example/signature".into()));
    assert_eq!(found["annotations"]["by"], "someone");
}

/// Seen in other caches: "a black-holed upstream queues all requests behind one another".
#[test]
fn a_black_hole_costs_one_request_its_patience() {
    let hub = Hub::start();
    let images: Vec<_> = (0..40).map(|n| hub.image(REPO, &format!("v{n}")).layer(100 + n).publish()).collect();
    let lanyard = mirror_with(&hub, "[cache]\ntag_ttl = \"0s\"");
    for image in &images {
        assert_eq!(get(lanyard.port(), &manifest(REPO, &image.tag)).status, 200);
        for digest in image.blobs() {
            assert_eq!(get(lanyard.port(), &blob(REPO, digest)).status, 200);
        }
    }
    hub.go_deaf(true);
    hub.end_connections();
    let mut slow = 0;
    for n in 0..40 {
        let started = Instant::now();
        let answer = get(lanyard.port(), &manifest(REPO, &format!("v{n}")));
        assert_eq!((answer.status, answer.outcome()), (200, "stale"));
        if started.elapsed() > Duration::from_secs(1) {
            slow += 1;
        }
    }
    assert!(slow <= 1, "{slow} of 40 cached pulls waited for a black hole");
}

/// A manifest that is here is served although parts of it are missing: the client may have them. A
/// missing part is answered with 503 and its digest. A config that no client fetched is fetched for
/// later.
#[test]
fn a_part_that_is_not_here_is_said_and_configs_are_fetched_for_later() {
    let hub = Hub::start();
    let image =
        hub.image(REPO, "latest").layer(10_000).layer(20_000).platforms(&["linux/amd64", "linux/arm64"]).publish();
    let child = &image.platforms[0];
    let (config, fetched, missing) = (&child.config, &child.layers[0], &child.layers[1]);
    let mut lanyard = mirror_with(&hub, "[cache]\ntag_ttl = \"0s\"");
    for path in [manifest(REPO, "latest"), manifest(REPO, &child.digest), blob(REPO, fetched)] {
        assert_eq!(get(lanyard.port(), &path).status, 200, "{path}");
    }
    let asked = |records: &[crate::hub::Record]| records.iter().any(|record| record.is_blob_get(config));
    assert!(hub.wait_for(Duration::from_secs(60), asked), "nobody asked for the config");
    eventually("the config is here", || get(lanyard.port(), &blob(REPO, config)).outcome() == "hit");
    assert_eq!(hub.blob_gets(config), 1);
    hub.go_down();
    for mode in ["", "mode = \"offline\""] {
        for reference in ["latest", child.digest.as_str()] {
            let answer = get(lanyard.port(), &manifest(REPO, reference));
            assert_eq!(answer.status, 200, "{mode} {reference}: {}", answer.text());
        }
        for digest in [config, fetched] {
            assert_eq!(get(lanyard.port(), &blob(REPO, digest)).outcome(), "hit", "{mode}");
        }
        for path in [blob(REPO, missing), manifest(REPO, &image.platforms[1].digest)] {
            let answer = get(lanyard.port(), &path);
            let said = path.rsplit('/').next().unwrap();
            assert!(answer.status == 503 && answer.text().contains(said), "{mode} {path}: {}", answer.text());
            for query in ["", "?ns=docker.io"] {
                assert_eq!(crate::wire::head(lanyard.port(), &format!("{path}{query}")).status, 503, "{mode} {path}");
            }
        }
        // A digest that no manifest here names is unknown.
        let unknown = blob(REPO, &crate::hub::digest_of(b"unknown"));
        assert_eq!(get(lanyard.port(), &unknown).status == 404, !mode.is_empty());
        lanyard.reconfigure(&config_of(&hub));
        lanyard.restart();
    }
}

fn config_of(hub: &Hub) -> String {
    config(hub, "mode = \"offline\"\n[cache]\ntag_ttl = \"0s\"")
}
