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
