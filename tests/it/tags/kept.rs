//! What the rules of tags keep is not evicted (T2).

use super::{REPO, day, digest, mirror, rewrite, tag};
use crate::{
    hub::Hub,
    pull::config,
    wire::{blob, eventually, get},
};

const MIB: usize = 1 << 20;
const OTHER: &str = "library/other";

/// Room for four layers of a MiB, and a rule.
fn small(rule: &str) -> String {
    format!(
        "[cache]\nmax_size = \"4500 KiB\"\nmin_free = \"0%\"\ntag_ttl = \"0s\"\n[[tags]]\n\
         match = [\"docker.io/{REPO}:kept\"]\n{rule}\n"
    )
}

/// Pulls more than fits, until what came first is not here any more.
fn fill_up(hub: &Hub, port: u16) {
    hub.image(OTHER, "latest").publish();
    let digests: Vec<_> = (0_u32..12).map(|n| hub.put_blob(n.to_le_bytes().repeat(MIB / 4))).collect();
    for digest in &digests {
        eventually("it is kept", || get(port, &blob(OTHER, digest)).outcome() == "hit");
    }
    let asked = hub.blob_gets(&digests[0]);
    assert_eq!(get(port, &blob(OTHER, &digests[0])).status, 200);
    assert!(hub.blob_gets(&digests[0]) > asked, "the first one has made room");
}

#[test]
fn t2_the_last_digests_of_a_tag_are_not_evicted() {
    let hub = Hub::start();
    let lanyard = mirror(&hub, &small("keep = 2"));
    let images = [1, 2, 3].map(|n| {
        let image = hub.image(REPO, "kept").layer((MIB + n) as u64).publish();
        assert_eq!(digest(&tag(&lanyard, "kept")), image.digest);
        eventually("it is kept", || get(lanyard.port(), &blob(REPO, image.layer(0))).outcome() == "hit");
        image
    });
    let list = crate::admin::ask(&lanyard, "GET", "/api/v1/images").json();
    let why = |digest: &str| {
        let rows = list["images"].as_array().unwrap();
        rows.iter().find(|row| row["digest"] == digest).unwrap()["why"].clone()
    };
    let words = [0, 1, 2].map(|at| why(&images[at].digest));
    assert_eq!(words, ["superseded", "pinned", "pinned"], "no rule freezes the tag");
    fill_up(&hub, lanyard.port());
    for image in &images[1..] {
        assert_eq!(get(lanyard.port(), &blob(REPO, image.layer(0))).outcome(), "hit");
        assert_eq!(hub.blob_gets(image.layer(0)), 1);
    }
    assert_ne!(get(lanyard.port(), &blob(REPO, images[0].layer(0))).outcome(), "hit", "the third last has gone");
}

#[test]
fn t2_what_a_frozen_tag_names_is_not_evicted() {
    let hub = Hub::start();
    let mut lanyard = mirror(&hub, &small("keep = 1"));
    let images = [1, 2].map(|n| {
        let image = hub.image(REPO, "kept").layer((MIB + n) as u64).publish();
        assert_eq!(digest(&tag(&lanyard, "kept")), image.digest);
        eventually("it is kept", || get(lanyard.port(), &blob(REPO, image.layer(0))).outcome() == "hit");
        image
    });
    lanyard.stop();
    rewrite(&lanyard, "kept", |record| record["before"][0]["from"] = day("2026-10-01").into());
    lanyard.reconfigure(&config(&hub, &small("freeze = \"2026-11-01\"")));
    lanyard.restart();
    fill_up(&hub, lanyard.port());
    let [frozen, newer] = images.map(|image| image.layer(0).to_owned());
    assert_eq!(get(lanyard.port(), &blob(REPO, &frozen)).outcome(), "hit");
    assert_ne!(get(lanyard.port(), &blob(REPO, &newer)).outcome(), "hit", "what it named later has gone");
}
