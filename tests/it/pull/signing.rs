//! How lanyard signs in at upstreams, and where their repositories are, through the real binary.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{config, mirror, mirror_with};
use crate::{
    hub::{Fault, Hub, On, Origin, Target},
    lanyard::Lanyard,
    wire::{Answer, blob, eventually, get, head, manifest},
};

const REPO: &str = "library/busybox";

/// Another upstream, with more lines of configuration.
fn upstream(name: &str, hub: &Hub, more: &str) -> String {
    format!("[[upstream]]\nname = \"{name}\"\nurl = \"{}\"\n{more}\n", hub.url())
}

fn dead_realm() -> Fault {
    let challenge = "Bearer realm=\"http://127.0.0.1:1/token\",service=\"x\"";
    Fault::Status { status: 401, headers: vec![("WWW-Authenticate".into(), challenge.into())], body: String::new() }
}

#[test]
fn an_upstream_that_challenged_with_a_dead_realm_works_again_within_ten_seconds() {
    for warm in [true, false] {
        let hub = Hub::start();
        for name in ["library/first", REPO] {
            hub.image(name, "latest").layer(100).publish();
        }
        let lanyard = mirror_with(&hub, "[cache]\ntag_ttl = \"0s\"");
        if warm {
            assert_eq!(get(lanyard.port(), &manifest("library/first", "latest")).status, 200);
        }
        hub.fault(On::when(|_, target| *target != Target::Token).any_method().challenges().always(), dead_realm());
        for _ in 0..3 {
            let broken = get(lanyard.port(), &manifest(REPO, "latest"));
            assert!((500..505).contains(&broken.status), "{}", broken.text());
        }
        assert!(hub.requests().len() < 60, "{} requests", hub.requests().len());
        hub.clear_faults();
        let healed = Instant::now();
        eventually("it works again", || get(lanyard.port(), &manifest(REPO, "latest")).status == 200);
        assert!(healed.elapsed() < Duration::from_secs(10), "{:?}", healed.elapsed());
        assert_eq!(get(lanyard.port(), &manifest("library/first", "latest")).status, 200);
    }
}

#[test]
fn only_the_registrys_own_404_is_told_and_remembered() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(1000).layer(2000).layer(3000).publish();
    let lanyard = mirror(&hub);
    assert_eq!(get(lanyard.port(), &manifest(REPO, "latest")).status, 200);
    let at_cdn = |digest: &str| On::blob(digest).at(Origin::Cdn);
    for (layer, status) in [(0, 404), (1, 403), (2, 410)] {
        let digest = image.layer(layer);
        hub.fault(at_cdn(digest).always(), Fault::status(status));
        let failed = get(lanyard.port(), &blob(REPO, digest));
        assert_eq!(failed.status, 502, "{status}: {}", failed.text());
        hub.clear_faults();
        // lanyard does not remember the refusal, and no client sees a single one.
        hub.fault(at_cdn(digest), Fault::status(status));
        let answer = get(lanyard.port(), &blob(REPO, digest));
        assert_eq!((answer.status, answer.body), (200, hub.blob(digest).unwrap()), "{status}");
    }
    let missing = format!("sha256:{}", "0".repeat(64));
    for _ in 0..3 {
        let answer = get(lanyard.port(), &blob(REPO, &missing));
        assert_eq!((answer.status, answer.error_code().as_str()), (404, "BLOB_UNKNOWN"));
        assert_eq!(head(lanyard.port(), &blob(REPO, &missing)).status, 404);
    }
    assert_eq!(hub.count(|record| record.path.contains(&missing)), 1, "the registry's word is remembered");
}

/// registry.k8s.io and vanity names: every request is redirected to another registry, whose answer
/// counts.
#[test]
fn a_registry_that_redirects_everything() {
    let (vanity, real) = (Hub::builder().open().start(), Hub::start());
    let image = real.image(REPO, "latest").layer(1000).publish();
    for (path, target) in [("latest", "latest"), ("missing", "missing")] {
        let there = format!("{}/v2/{REPO}/manifests/{target}", real.url());
        // A request for missing content is redirected as well.
        let on = On::when(move |_, t| matches!(t, Target::Manifest { reference, .. } if reference == path));
        vanity.fault(on.any_method().challenges().always(), Fault::RedirectTo(there));
    }
    let there = format!("{}/v2/{REPO}/blobs/{}", real.url(), image.layer(0));
    vanity.fault(On::blob(image.layer(0)).any_method().always(), Fault::RedirectTo(there));
    let told = |answer: &Answer| answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();

    // Its realm is at 127.0.0.1 too, so the vanity registry may give anonymous tokens itself. With
    // another name it may not.
    let elsewhere = real.token_url().replace("127.0.0.1", "localhost");
    let strange = Hub::builder().realm(&elsewhere).start();
    strange.image(REPO, "latest").publish();
    let leading = Hub::builder().open().start();
    leading.fault(
        On::manifest("latest").always(),
        Fault::RedirectTo(format!("{}/v2/{REPO}/manifests/latest", strange.url())),
    );
    let lanyard = Lanyard::start(&format!("{}{}", config(&vanity, ""), upstream("leading.lan", &leading, "")));
    assert_eq!(get(lanyard.port(), &manifest(REPO, "latest")).body, image.bytes);
    let answer = get(lanyard.port(), &blob(REPO, image.layer(0)));
    assert_eq!((answer.status, answer.body), (200, real.blob(image.layer(0)).unwrap()));
    assert_eq!(get(lanyard.port(), &manifest(REPO, "missing")).status, 404, "the last answer is the answer");
    let refused = get(lanyard.port(), &manifest(&format!("leading.lan/{REPO}"), "latest"));
    assert_eq!(refused.status, 502, "{}", refused.text());
    assert!(told(&refused).contains("localhost") && told(&refused).contains("token_hosts"), "{}", refused.text());
}

#[test]
fn a_password_that_is_renewed_in_its_file_needs_no_restart() {
    for basic in [true, false] {
        let hub = match basic {
            true => Hub::builder().basic("company", "CANARY-new").start(),
            false => Hub::builder().account("company", "CANARY-new").start(),
        };
        hub.image(REPO, "latest").publish();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "CANARY-old\n").unwrap();
        let more = format!("username = \"company\"\npassword_file = {file:?}\nallow = [\"**\"]");
        let lanyard = Lanyard::start(&format!("[cache]\nnegative_ttl = \"0s\"\n{}", upstream("a.lan", &hub, &more)));
        let name = format!("a.lan/{REPO}");
        let refused = get(lanyard.port(), &manifest(&name, "latest"));
        assert_ne!(refused.status, 200);
        fs::remove_file(&file).unwrap();
        assert_ne!(get(lanyard.port(), &manifest(&name, "latest")).status, 200);
        fs::write(folder.path().join("new"), "CANARY-new\n").unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
        let renewed = Instant::now();
        eventually("the new password counts", || get(lanyard.port(), &manifest(&name, "latest")).status == 200);
        assert!(renewed.elapsed() < Duration::from_secs(5), "{:?}", renewed.elapsed());
        let said = lanyard.logs();
        assert!(said.contains("the password has changed") && !said.contains("CANARY"), "{said}");
        assert_eq!(said.matches("the password stays as it was").count(), 1, "{said}");
    }
}

#[test]
fn a_registry_that_hides_behind_404_is_shown_the_credentials() {
    let hub = Hub::builder().account("company", "secret").start();
    let image = hub.image(REPO, "latest").layer(100).publish();
    let stranger = On::when(|request, target| {
        request.header("authorization").is_none() && !matches!(target, Target::Ping | Target::Token)
    });
    hub.fault(stranger.at(Origin::Registry).any_method().challenges().always(), Fault::status(404));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "secret").unwrap();
    let more = format!("username = \"company\"\npassword_file = {:?}\nallow = [\"**\"]", file.path());
    let lanyard = Lanyard::start(&upstream("a.lan", &hub, &more));
    let name = format!("a.lan/{REPO}");
    assert_eq!(head(lanyard.port(), &blob(&name, image.layer(0))).status, 200);
    assert_eq!(get(lanyard.port(), &manifest(&name, "latest")).body, image.bytes);
    assert_eq!(get(lanyard.port(), &blob(&name, image.layer(0))).status, 200);
    assert_eq!((hub.token_calls(), hub.credentials_at_cdn()), (1, 0));
    assert_eq!(hub.count(|record| record.path == "/v2/"), 1);
}

/// Two projects of one registry, and the registry as a whole.
#[test]
fn a_prefix_stands_before_the_names_at_the_upstream_alone() {
    let hub = Hub::start();
    let ours = hub.image("ours/proxy/library/x", "latest").layer(1000).publish();
    let theirs = hub.image("theirs/library/x", "latest").layer(2000).publish();
    hub.image("library/x", "latest").layer(3000).publish();
    hub.image("ours/proxy/library/secret", "latest").publish();
    for n in 0..2500 {
        hub.move_tag("ours/proxy/library/x", &format!("t{n:04}"), &ours.digest);
    }
    let lanyard = Lanyard::start(&format!(
        "{}{}{}",
        upstream("ours.lan", &hub, "prefix = \"ours/proxy\"\nblock = [\"library/secret\"]"),
        upstream("theirs.lan", &hub, "prefix = \"theirs\""),
        upstream("all.lan", &hub, ""),
    ));
    let port = lanyard.port();
    assert_eq!(get(port, &manifest("ours.lan/library/x", "latest")).body, ours.bytes);
    assert_eq!(get(port, "/v2/library/x/manifests/latest?ns=theirs.lan").body, theirs.bytes);
    assert_ne!(get(port, &manifest("all.lan/library/x", "latest")).body, ours.bytes);
    assert_eq!(get(port, &manifest("all.lan/theirs/library/x", "latest")).body, theirs.bytes);
    for (name, image) in [("ours.lan/library/x", &ours), ("theirs.lan/library/x", &theirs)] {
        let answer = get(port, &blob(name, image.layer(0)));
        assert_eq!((answer.status, answer.body), (200, hub.blob(image.layer(0)).unwrap()), "{name}");
        assert_eq!(get(port, &manifest(name, &image.digest)).status, 200);
    }
    // No prefix is added twice, and a block is by the name that clients use.
    assert_eq!(get(port, &manifest("ours.lan/ours/proxy/library/x", "latest")).status, 404);
    assert_eq!(get(port, &manifest("ours.lan/library/secret", "latest")).status, 404);
    assert_eq!(get(port, &manifest("all.lan/ours/proxy/library/secret", "latest")).status, 200);
    // All pages, under the clients' name.
    let tags = get(port, "/v2/ours.lan/library/x/tags/list").json();
    assert_eq!(tags["tags"].as_array().unwrap().len(), 2501);
    assert!(!tags["name"].as_str().unwrap().contains("proxy"), "{}", tags["name"]);
    assert_eq!(get(port, &format!("/v2/ours.lan/library/x/referrers/{}", ours.digest)).status, 200);
    let catalog = get(port, "/v2/_catalog").text();
    assert!(!catalog.contains("proxy/library/x") && !catalog.contains("theirs/library/x\""), "{catalog}");
    // Each of the three decides for itself what it gives out: the manifest of one is missing in
    // another.
    let asked = hub.requests().len();
    assert_eq!(get(port, &manifest("theirs.lan/library/x", &ours.digest)).status, 404);
    assert_eq!(get(port, &manifest("ours.lan/library/x", &theirs.digest)).status, 404);
    assert!(hub.requests().len() >= asked + 2, "each upstream is asked");
    let scopes =
        hub.count(|record| record.target == Target::Token && record.query.contains("ours%2Fproxy%2Flibrary%2Fx"));
    assert!(scopes >= 1, "the scope has the prefix");
    let metrics = get(port, "/metrics").text();
    assert!(metrics.contains("ours.lan") && !metrics.contains("ours/proxy"));
}
