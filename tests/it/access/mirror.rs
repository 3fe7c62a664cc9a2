//! `mirror_listen`: an address that only pulls, never challenges and never reads a password.

use super::{ANN, House, Small, basic, send};
use crate::{
    hub::Hub,
    pull::config,
    wire::{blob, get, manifest},
};

/// The port on which the log says that it pulls, since the last start.
pub(super) fn mirror_port(house: &House) -> u16 {
    let logs = house.lanyard.logs();
    let line = logs.lines().rev().find_map(|line| line.split_once("pulls only on http://")).expect("it says so");
    line.1.rsplit_once(':').unwrap().1.trim().parse().unwrap()
}

const RULES: &str = r#"
[[access]]
who = ["anonymous"]
repositories = ["docker.io/**", "open/**"]
actions = ["pull"]
[[access]]
who = ["users", "loopback"]
repositories = ["**"]
actions = ["pull", "push", "delete"]
"#;

#[test]
fn the_mirror_pulls_what_anybody_may_and_nothing_else() {
    let hub = Hub::start();
    let image = hub.image("library/busybox", "latest").layer(100).publish();
    let before = "mirror_listen = \"127.0.0.1:0\"\n[hosted]\nnamespaces = [\"closed/**\", \"open/**\"]";
    let house = House::start(before, &config(&hub, RULES));
    let mirror = mirror_port(&house);
    let (open, closed) = (Small::new("open"), Small::new("closed"));
    assert_eq!(open.push(house.port(), "open/app", "latest", &[]), 201);
    assert_eq!(closed.push(house.port(), "closed/app", "latest", &[]), 201);

    let (ann, wrong) = (basic(ANN), basic(("ann", "wrong")));
    assert_eq!(get(house.port(), "/v2/").status, 401, "where people sign in");
    // Twelve wrong passwords would be too many, if they were read.
    for authorization in ["", &ann, "Bearer x", "Basic Og=="].into_iter().chain(vec![&*wrong; 12]) {
        let header = [("Authorization", authorization)];
        let header = if authorization.is_empty() { &[][..] } else { &header[..] };
        let ask = |method: &str, path: &str| send(mirror, method, path, header, b"");
        for path in [
            "/v2/".to_owned(),
            "/docker.io/v2/".to_owned(),
            manifest("library/busybox", "latest"),
            blob("library/busybox", image.layer(0)),
            format!("{}?ns=docker.io", manifest("library/busybox", "latest")),
            manifest("open/app", "latest"),
            blob("open/app", &open.blob()),
            "/readyz".to_owned(),
        ] {
            assert_eq!(ask("GET", &path).status, 200, "{path} {authorization}");
            assert_eq!(ask("HEAD", &path).status, 200, "{path} {authorization}");
        }
        for path in [
            manifest("closed/app", "latest"),
            blob("closed/app", &closed.blob()),
            "/v2/closed/app/tags/list".to_owned(),
        ] {
            let answer = ask("GET", &path);
            assert_eq!((answer.status, answer.header("www-authenticate")), (404, None), "{path} {authorization}");
        }
        let listed = ask("GET", "/v2/_catalog").json();
        assert_eq!(listed["repositories"], serde_json::json!(["open/app"]));
        for (method, path) in [
            ("POST", "/v2/open/app/blobs/uploads/".to_owned()),
            ("PUT", manifest("open/app", "latest")),
            ("DELETE", manifest("open/app", "latest")),
            ("DELETE", blob("open/app", &open.blob())),
            ("PATCH", "/v2/open/app/blobs/uploads/0b1f6f0e-4a55-4f7a-9d3e-5f2f3a1c2b4d".to_owned()),
        ] {
            let answer = ask(method, &path);
            assert_eq!((answer.status, answer.header("www-authenticate")), (405, None), "{method} {path}");
            assert!(answer.text().contains("only pulls"), "it says what to do: {}", answer.text());
        }
        assert_eq!(ask("GET", "/token").status, 404);
        assert_eq!(ask("POST", "/token").status, 404);
    }
    assert_eq!(send(house.port(), "GET", "/v2/", &[("Authorization", &ann)], b"").status, 200, "nothing was counted");
}
