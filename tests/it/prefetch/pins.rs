//! `--pin`: what is whole is pinned, for the platforms that were fetched.

use super::*;

/// The pins, each with its platforms and who ordered it.
fn pins(server: &Lanyard) -> Vec<(String, Vec<String>, String)> {
    let listed = crate::admin::ask(server, "GET", "/api/v1/pins").json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pins = listed["pins"].as_array().unwrap().iter();
    let platforms = |pin: &Value| pin["platforms"].as_array().unwrap().iter().map(text).collect();
    pins.map(|pin| (text(&pin["image"]), platforms(pin), text(&pin["by"]))).collect()
}

#[test]
fn what_is_whole_is_pinned_for_the_platforms_that_were_fetched() {
    let hub = Hub::start();
    hub.image(REPO, "1").layer(10).platforms(&["linux/amd64", "linux/arm64"]).publish();
    let server = mirror(&hub);
    let image = "docker.io/library/busybox:1".to_owned();
    assert_eq!(code(&pull(&server, &["busybox:1", "--pin", "--dry-run"])), 0);
    assert_eq!(pins(&server), [], "a dry run pins nothing");

    let mut words = words(&server, &["busybox:1", "busybox:none", "--pin", "--platform", "linux/arm64"]);
    let run = |words: &[String]| {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        lanyard(Path::new("/"), &words, &[("USER", "ann")])
    };
    let output = run(&words);
    assert_eq!(code(&output), 1, "one is unknown: {}", stderr(&output));
    assert!(stderr(&output).lines().any(|line| line.ends_with(", pinned")), "{}", stderr(&output));
    assert_eq!(pins(&server), [(image.clone(), vec!["linux/arm64".to_owned()], "ann".to_owned())]);

    words.pop();
    words.push("all".to_owned());
    words.push("--json".to_owned());
    let events = events(&run(&words));
    let whole = events.iter().find(|event| event["state"] == "whole").unwrap();
    assert_eq!(whole["pinned"], true);
    assert_eq!(pins(&server), [(image, Vec::new(), "ann".to_owned())], "all of them now");
}

/// A pull by another operator, or by a nightly job, narrows no pin.
#[test]
fn a_pull_adds_to_the_pin_that_an_image_has() {
    let hub = Hub::start();
    let two = ["linux/amd64", "linux/arm64"];
    hub.image(REPO, "1").layer(10).platforms(&two).publish();
    let server = mirror(&hub);
    let run = |command: &[&str]| {
        let output = crate::admin::command(&server, command);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let listed = crate::admin::ask(&server, "GET", "/api/v1/pins").json();
        (listed["pins"][0]["platforms"].clone(), listed["pins"][0]["note"].clone())
    };
    let pulled = |platform: &str| run(&["pull", "busybox:1", "--pin", "--platform", platform]);
    let all = || serde_json::json!([]);
    let note = || Value::from("release 1");
    assert_eq!(run(&["pin", "busybox:1", "--note", "release 1"]), (all(), note()));
    assert_eq!(pulled("linux/amd64"), (all(), note()), "all of them stay");
    let words = ["pin", "busybox:1", "--platform", "linux/arm64", "--note", "release 1"];
    assert_eq!(run(&words), (serde_json::json!(["linux/arm64"]), note()), "an order to pin says it anew");
    assert_eq!(pulled("linux/amd64"), (serde_json::json!(two), note()));
    assert_eq!(pulled("all"), (all(), note()));
}

/// K6: what a pull says is whole and pinned is here afterwards, whatever else came meanwhile.
#[test]
fn k6_what_is_pinned_by_a_pull_was_not_let_go_meanwhile() {
    let hub = Hub::start();
    let image = (0..6).fold(hub.image(REPO, "1"), |image, _| image.layer(60 << 10)).publish();
    let noise: Vec<_> = (0..40).map(|n| hub.image("library/noise", &n.to_string()).layer(60 << 10).publish()).collect();
    let server = mirror_with(&hub, "[cache]\nmax_size = \"600 KiB\"\nmin_free = \"0%\"");
    for digest in image.blobs() {
        hub.fault(On::blob(digest), Fault::Slow { bytes_per_second: 1 << 20 });
    }
    let port = server.port();
    std::thread::scope(|scope| {
        let pulls = scope.spawn(|| {
            for image in &noise {
                get(port, &manifest(&image.repo, &image.tag));
                image.blobs().iter().for_each(|digest| drop(get(port, &blob(&image.repo, digest))));
            }
        });
        let output = pull(&server, &["busybox:1", "--pin", "--jobs", "1"]);
        assert!(pulls.join().is_ok());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    });
    let data_dir = server.data_dir();
    let words = ["ls", "busybox:1", "--json", "--data-dir", data_dir.to_str().unwrap()];
    let listed = stdout(&lanyard(Path::new("/"), &words, &[]));
    assert!(listed.contains("\"whole\"") && listed.contains("\"pinned\""), "{listed}");
    is_here(&server, &image);
}

#[test]
fn an_image_that_is_larger_than_the_cache_is_not_pinned() {
    let hub = Hub::start();
    let image = (0..4).fold(hub.image(REPO, "1"), |image, _| image.layer(300 << 10)).publish();
    let server = mirror_with(&hub, "[cache]\nmax_size = \"1 MiB\"\nmin_free = \"0%\"");
    let output = pull(&server, &["busybox:1", "--pin"]);
    assert_eq!(code(&output), 75, "{}", stderr(&output));
    assert!(stderr(&output).contains("failed: no room for it"), "{}", stderr(&output));
    assert_eq!(pins(&server), []);
    assert_eq!(get(server.port(), &blob(REPO, image.layer(3))).status, 200, "clients get it all the same");
}

/// Two images that do not fit together: the first was whole, and is so no more at the end.
#[test]
fn images_that_push_each_other_out_are_told() {
    let hub = Hub::start();
    let layers = |tag: &str| (0..3).fold(hub.image(REPO, tag), |image, _| image.layer(250 << 10)).publish();
    for tag in ["1", "2"] {
        layers(tag);
    }
    let server = mirror_with(&hub, "[cache]\nmax_size = \"1 MiB\"\nmin_free = \"0%\"");
    let output = pull(&server, &["busybox:1", "busybox:2", "--jobs", "1"]);
    assert_eq!(code(&output), 75, "{}", stderr(&output));
    assert!(stderr(&output).contains("docker.io/library/busybox:1: failed: it was whole"), "{}", stderr(&output));
    assert!(stdout(&output).contains("1 image whole, 1 failed."), "{}", stdout(&output));
}
