//! Tags that are frozen at what a lock file says.

use std::fs;

use super::{ALWAYS_DUE, REPO, asked_by_tag, digest, rule, tag};
use crate::{hub::Hub, lanyard::Lanyard, pull::config, wire::eventually};

fn lock(name: &str, digest: &str) -> String {
    format!("[[image]]\nname = \"docker.io/{REPO}:{name}\"\ndigest = \"{digest}\"\n")
}

/// A lanyard with a lock file of this text in its folder, not started.
fn prepared(hub: &Hub, text: &str, more: &str) -> Lanyard {
    let mut lanyard = Lanyard::prepare("");
    let file = lanyard.config_file().with_file_name("build.lock");
    fs::write(&file, text).unwrap();
    let freeze = format!("freeze = {file:?}\n{more}");
    lanyard.reconfigure(&config(hub, &(ALWAYS_DUE.to_owned() + &rule(&freeze))));
    lanyard
}

#[test]
fn t1_a_locked_tag_is_what_the_file_says() {
    let hub = Hub::start();
    let old = hub.image(REPO, "v1").layer(10).publish();
    hub.image(REPO, "v1").layer(20).publish();
    hub.image(REPO, "v2").layer(30).publish();
    let mut lanyard = prepared(&hub, &lock("v1", &old.digest), "");
    lanyard.restart();
    for outcome in ["filled", "hit", "hit"] {
        let answer = tag(&lanyard, "v1");
        assert_eq!((answer.status, answer.outcome(), digest(&answer)), (200, outcome, old.digest.as_str()));
        assert_eq!(answer.header("x-lanyard-frozen"), Some("build.lock"), "no path of the machine");
    }
    let refused = tag(&lanyard, "v2");
    assert_eq!((refused.status, refused.error_code().as_str()), (404, "MANIFEST_UNKNOWN"));
    assert!(refused.text().contains("frozen at build.lock, which does not list it"), "{}", refused.text());
    assert_eq!(asked_by_tag(&hub), 0);

    let mut passing = prepared(&hub, &lock("v1", &old.digest), "unlisted = \"pass\"");
    passing.restart();
    assert_eq!(tag(&passing, "v2").outcome(), "filled");
}

#[test]
fn t5_the_last_good_lock_file_stays_in_force() {
    let hub = Hub::start();
    let [one, two] = [10, 20].map(|size| hub.image(REPO, "v1").layer(size).publish().digest);
    let mut lanyard = prepared(&hub, &lock("v1", &one), "");
    lanyard.restart();
    let file = lanyard.config_file().with_file_name("build.lock");
    assert_eq!(digest(&tag(&lanyard, "v1")), one);
    fs::write(&file, lock("v1", &two)).unwrap();
    eventually("a changed file counts", || digest(&tag(&lanyard, "v1")) == two);
    // The first two are what `lanyard lock > build.lock` is at first, and what a cut leaves of it.
    for (bad, told) in [
        ("", "it names no image"),
        ("# What tags named", "it names no image"),
        ("[[image]\n", "line 1: "),
        ("\n[[image]]\nname = \"x\"\n", "missing field"),
    ] {
        let lines = || {
            let logs = lanyard.logs();
            let said = |line: &&str| {
                line.contains("tags stay frozen at what the lock file said before") && line.contains(told)
            };
            logs.lines().filter(said).count()
        };
        let before = lines();
        fs::write(&file, bad).unwrap();
        eventually("the log says so", || {
            tag(&lanyard, "v1");
            lines() > before
        });
        assert_eq!(digest(&tag(&lanyard, "v1")), two);
    }
    fs::remove_file(&file).unwrap();
    eventually("the log says that it cannot be read", || {
        tag(&lanyard, "v1");
        lanyard.logs().contains("build.lock: cannot be read")
    });
    assert_eq!(digest(&tag(&lanyard, "v1")), two);
    fs::write(&file, lock("v1", &one)).unwrap();
    eventually("a good file counts again", || digest(&tag(&lanyard, "v1")) == one);
}

#[test]
fn t5_a_lock_file_that_cannot_be_read_is_an_error_at_the_start() {
    let hub = Hub::start();
    for (text, told) in [
        (Some("[[image]\n"), "is no lock file: line 1"),
        (Some("# later\n"), "is no lock file: it names no image"),
        (None, "cannot be read"),
    ] {
        let mut lanyard = prepared(&hub, text.unwrap_or_default(), "");
        if text.is_none() {
            fs::remove_file(lanyard.config_file().with_file_name("build.lock")).unwrap();
        }
        assert_eq!(lanyard.try_restart().unwrap_err().code(), Some(64));
        let logs = lanyard.logs();
        assert!(logs.contains("tags[0].freeze: ") && logs.contains(told), "{logs}");
    }
}
