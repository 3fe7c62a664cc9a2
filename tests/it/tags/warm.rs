//! Warm tags: checked and fetched in the background.

use super::{REPO, digest, mirror, tag};
use crate::{
    hub::Hub,
    wire::{blob, eventually, get, manifest},
};

const WARM: &str =
    "[cache]\ntag_ttl = \"1h\"\n[[tags]]\nmatch = [\"docker.io/library/busybox:latest\"]\nwarm = \"1s\"\n";

fn blob_gets(hub: &Hub, digest: &str) -> usize {
    hub.count(|request| request.is_blob_get(digest))
}

#[test]
fn a_named_tag_is_here_before_anybody_asks_and_stays_fresh() {
    let hub = Hub::start();
    let old = hub.image(REPO, "latest").layer(1_000).publish();
    let lanyard = mirror(&hub, WARM);
    eventually("it is fetched", || blob_gets(&hub, old.layer(0)) == 1 && blob_gets(&hub, old.config()) == 1);
    let new = hub.image(REPO, "latest").layer(2_000).publish();
    eventually("the new one is fetched", || blob_gets(&hub, new.layer(0)) == 1 && blob_gets(&hub, new.config()) == 1);
    let is_here = |part: &str| get(lanyard.port(), &blob(REPO, part)).outcome() == "hit";
    eventually("nothing is under way", || is_here(new.layer(0)) && is_here(new.config()));
    hub.go_down();
    let answer = tag(&lanyard, "latest");
    assert_eq!((answer.outcome(), digest(&answer)), ("hit", new.digest.as_str()));
    assert!(is_here(new.layer(0)) && is_here(new.config()));
    assert_eq!(blob_gets(&hub, new.layer(0)), 1, "each part came once");
}

#[test]
fn the_platforms_that_are_here_are_kept_warm() {
    let hub = Hub::start();
    let platforms = ["linux/amd64", "linux/s390x", "windows/amd64"];
    let old = hub.image(REPO, "latest").layer(1_000).platforms(&platforms).publish();
    let rule = "[cache]\ntag_ttl = \"1h\"\n[[tags]]\nmatch = [\"**:latest\"]\nwarm = \"1s\"\n";
    let lanyard = mirror(&hub, rule);
    // A pattern with a wildcard is about tags that are here.
    let second = &old.platforms[1];
    assert_eq!(tag(&lanyard, "latest").status, 200);
    assert_eq!(get(lanyard.port(), &manifest(REPO, &second.digest)).status, 200);
    eventually("the platform that a client has asked for is whole", || blob_gets(&hub, &second.layers[0]) == 1);
    let new = hub.image(REPO, "latest").layer(2_000).platforms(&platforms).publish();
    eventually("so is its successor", || blob_gets(&hub, &new.platforms[1].layers[0]) == 1);
    eventually("the tag names it", || digest(&tag(&lanyard, "latest")) == new.digest);
    assert_eq!(hub.count(|request| request.is_blob_get(&new.platforms[2].layers[0])), 0, "nobody has asked for it");
}
