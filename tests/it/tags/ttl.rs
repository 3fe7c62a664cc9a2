//! How long a tag is believed by its rule.

use super::{ALWAYS_DUE, REPO, mirror, rule, tag};
use crate::hub::Hub;

#[test]
fn the_ttl_of_a_rule_counts_and_only_for_its_tags() {
    let hub = Hub::start();
    hub.image(REPO, "v1").layer(10).publish();
    hub.image(REPO, "edge").layer(20).publish();
    let rules = "[[tags]]\nmatch = [\"**:edge\"]\nttl = \"0s\"\n[[tags]]\nmatch = [\"**:e*\"]\nttl = \"never\"\n";
    let lanyard = mirror(&hub, rules);
    for name in ["v1", "edge"] {
        assert_eq!(tag(&lanyard, name).outcome(), "filled");
    }
    for _ in 0..3 {
        assert_eq!(tag(&lanyard, "v1").outcome(), "hit", "no rule is about it (T3)");
        assert_eq!(tag(&lanyard, "edge").outcome(), "revalidated", "the first rule that matches counts (T4)");
    }
}

#[test]
fn never_is_asked_once_also_after_a_restart() {
    let hub = Hub::start();
    let old = hub.image(REPO, "v1").layer(10).publish();
    let mut lanyard = mirror(&hub, &(ALWAYS_DUE.to_owned() + &rule("ttl = \"never\"")));
    assert_eq!(tag(&lanyard, "v1").outcome(), "filled");
    hub.image(REPO, "v1").layer(20).publish();
    for _ in 0..2 {
        let known = tag(&lanyard, "v1");
        assert_eq!((known.outcome(), &known.body), ("hit", &old.bytes));
        lanyard.restart();
    }
    assert_eq!((hub.manifest_gets(), hub.manifest_heads()), (1, 0));
}
