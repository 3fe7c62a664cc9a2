//! S5 inside the fill: one download serves many repositories, and no repository gets content that
//! only another one may have.

use std::{thread, time::Duration};

use super::{mirror, mirror_with};
use crate::{
    hub::{Fault, Gate, Hub, On, digest_of},
    wire::{Connection, blob, get, manifest},
};

const REPO: &str = "library/busybox";
const OTHER: &str = "library/other";
const PATIENCE: Duration = Duration::from_secs(60);

/// The leftover of another repository's download is given to no client before upstream has been
/// asked.
#[test]
fn s5_a_leftover_is_not_given_to_another_repository() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(4 << 20).publish();
    let layer = image.layer(0).to_owned();
    hub.set_private("library/secret");
    let mut lanyard = mirror(&hub);
    get(lanyard.port(), &manifest(REPO, "latest"));
    let gate = Gate::shut();
    hub.fault(On::blob(&layer), Fault::StallAt { bytes: 3 << 20, gate: gate.clone() });
    let mut client = Connection::open(lanyard.port());
    client.request("GET", &blob(REPO, &layer), &[]);
    assert_eq!(client.head().unwrap().0, 200);
    assert_eq!(client.read_body(3 << 20).len(), 3 << 20);
    lanyard.kill9();
    lanyard.restart();
    let secret = get(lanyard.port(), &blob("library/secret", &layer));
    assert_eq!(secret.status, 404, "{} bytes of somebody else's", secret.body.len());
    hub.reset_counts();
    let mine = get(lanyard.port(), &blob(REPO, &layer));
    assert_eq!((mine.status, digest_of(&mine.body)), (200, layer.clone()));
    assert!(hub.blob_bytes_sent(&layer) <= 1 << 20, "and it is still there for who may have it");
}

/// A client whose own upstream refused the download does not get the bytes through another client
/// that joined it, and that client is not refused in its place.
#[test]
fn s5_a_refusal_is_for_the_repository_that_was_asked() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1 << 20).publish();
    hub.image(OTHER, "latest").publish();
    let layer = image.layer(0).to_owned();
    for linked in [true, false] {
        let lanyard = mirror_with(&hub, "[cache]\nnegative_ttl = \"0s\"");
        if linked {
            get(lanyard.port(), &manifest(REPO, "latest"));
        }
        let gate = Gate::shut();
        let refusal = Fault::All(vec![Fault::status(404), Fault::HoldHead(gate.clone())]);
        hub.fault(On::redirect_of(&layer).in_repo(OTHER).any_method().always(), refusal);
        hub.fault(On::blob(&layer).in_repo(OTHER).head().always(), Fault::status(404));
        thread::scope(|scope| {
            let first = scope.spawn(|| get(lanyard.port(), &blob(OTHER, &layer)));
            assert!(gate.wait_for_arrivals(1, PATIENCE));
            let second = scope.spawn(|| get(lanyard.port(), &blob(REPO, &layer)));
            if linked {
                crate::wire::eventually("the second has joined", || {
                    get(lanyard.port(), "/metrics").text().lines().any(|l| l.contains("join") && l.ends_with(" 1"))
                });
            } else {
                let asked = |r: &[crate::hub::Record]| r.iter().any(|r| r.method == "HEAD" && r.path.contains(REPO));
                assert!(hub.wait_for(PATIENCE, asked));
            }
            gate.open();
            let (first, second) = (first.join().unwrap(), second.join().unwrap());
            assert_eq!(first.status, 404, "{} bytes (linked: {linked})", first.body.len());
            assert_eq!((second.status, digest_of(&second.body)), (200, layer.clone()));
        });
        assert_eq!(get(lanyard.port(), &blob(OTHER, &layer)).status, 404, "nor is it given out from the store");
        hub.clear_faults();
        hub.reset_counts();
    }
}

/// Content that is no manifest may be a blob: containerd asks for one after the other.
#[test]
fn what_is_no_manifest_may_be_a_blob() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(5 << 20).publish();
    let lanyard = mirror(&hub);
    for digest in [image.config(), image.layer(0)] {
        for _ in 0..2 {
            let answer = get(lanyard.port(), &manifest(REPO, digest));
            assert_eq!((answer.status, answer.error_code()), (404, "MANIFEST_UNKNOWN".to_owned()));
            assert_eq!(get(lanyard.port(), &blob(REPO, digest)).status, 200);
            get(lanyard.port(), &manifest(REPO, "latest"));
        }
    }
}

/// S2, S5: naming a layer that another repository has is no proof of having it.
#[test]
fn s5_a_foreign_layer_is_no_claim() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(10_000).publish();
    let layer = image.layer(0).to_owned();
    let thief = format!(
        r#"{{"schemaVersion":2,"mediaType":"{t}","config":{{"mediaType":"c","digest":"{c}","size":2}},
        "layers":[{{"mediaType":"l","digest":"{layer}","size":10000,"urls":["https://example.com/x"]}}]}}"#,
        t = crate::hub::DOCKER_MANIFEST,
        c = hub.put_blob(b"{}".to_vec()),
    );
    hub.put_manifest(OTHER, "latest", crate::hub::DOCKER_MANIFEST, thief.as_bytes());
    hub.fault(On::redirect_of(&layer).in_repo(OTHER).any_method().always(), Fault::status(404));
    hub.fault(On::blob(&layer).in_repo(OTHER).head().always(), Fault::status(404));
    let lanyard = mirror(&hub);
    assert_eq!(get(lanyard.port(), &blob(REPO, &layer)).status, 200);
    assert_eq!(get(lanyard.port(), &manifest(OTHER, "latest")).status, 200);
    assert_eq!(get(lanyard.port(), &blob(OTHER, &layer)).status, 404);
}
