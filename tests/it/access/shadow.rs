//! N1, N2: a push never stands in for an image of the default upstream where clients of the mirror
//! pull.

use super::{ANN, ELSEWHERE, House, MANIFEST, Small, basic, mirror::mirror_port, send};
use crate::{
    hub::Hub,
    pull::config,
    wire::{Connection, blob, eventually, get, manifest},
};

/// N1: a client of the mirror never gets content that was pushed under a name that the operator did
/// not claim.
#[test]
fn n1_a_push_never_stands_in_for_an_image_of_the_mirror() {
    let hub = Hub::start();
    let names = ["grafana/grafana", "library/redis", "redis", "deep/er/name"];
    let honest: Vec<_> = names
        .iter()
        .map(|name| {
            let repo = if name.contains('/') { (*name).to_owned() } else { format!("library/{name}") };
            hub.image(&repo, "latest").layer(100).publish()
        })
        .collect();
    let before = "mirror_listen = \"127.0.0.1:0\"\n[hosted]\nreserved = []\nnamespaces = [\"claimed/**\"]";
    let house = House::start(before, &config(&hub, ""));
    let mirror = mirror_port(&house);
    let ann = basic(ANN);
    let forged = Small::new("forged");
    // Before any client has pulled the names, so that lanyard does not know them yet.
    for name in names.iter().chain(&["claimed/app", "nowhere/app"]) {
        let headers = [ELSEWHERE, ("Authorization", ann.as_str())];
        assert_eq!(forged.push(house.port(), name, "latest", &headers), 201, "{name}");
    }
    for (name, honest) in names.iter().zip(&honest) {
        let spelt = [(*name).to_owned(), format!("docker.io/{name}")];
        for (path, query) in spelt.iter().flat_map(|name| [(name, ""), (name, "?ns=docker.io")]) {
            for reference in ["latest", honest.digest.as_str()] {
                let answer = send(mirror, "GET", &format!("{}{query}", manifest(path, reference)), &[], b"");
                assert_eq!((answer.status, &answer.body), (200, &honest.bytes), "{path}{query} {reference}");
            }
            for digest in [forged.digest(), forged.blob()] {
                assert_eq!(send(mirror, "GET", &blob(path, &digest), &[], b"").status, 404, "{path}");
                assert_eq!(send(mirror, "GET", &manifest(path, &digest), &[], b"").status, 404, "{path}");
            }
        }
        let tags = send(mirror, "GET", &format!("/v2/{name}/tags/list"), &[], b"");
        assert_eq!(tags.json()["tags"], serde_json::json!(["latest"]), "{name}");
        assert_eq!(
            get(house.port(), &manifest(name, "latest")).body,
            forged.manifest,
            "at the other address it is the team's"
        );
    }
    assert_eq!(send(mirror, "GET", &manifest("nowhere/app", "latest"), &[], b"").status, 404);
    assert_eq!(send(mirror, "GET", &manifest("claimed/app", "latest"), &[], b"").body, forged.manifest);
    let listed = send(mirror, "GET", "/v2/_catalog", &[], b"").json();
    assert_eq!(listed["repositories"], serde_json::json!(["claimed/app"]));
}

/// N2: a name that the mirror knows takes no first push from another machine, unless the operator
/// claimed the name.
#[test]
fn n2_a_mirrored_name_takes_no_first_push_from_others() {
    let hub = Hub::start();
    for repo in ["grafana/grafana", "claimed/app", "grafana/other"] {
        hub.image(repo, "latest").layer(100).publish();
    }
    hub.image("library/redis", "latest").layer(100).publish();
    let before = "[hosted]\nreserved = []\nnamespaces = [\"claimed/**\"]";
    let mut house = House::start(before, &config(&hub, ""));
    let ann = basic(ANN);
    let elsewhere = [ELSEWHERE, ("Authorization", ann.as_str())];
    let image = Small::new("pushed");
    for name in ["grafana/grafana", "docker.io/library/redis", "docker.io/claimed/app"] {
        assert_eq!(get(house.port(), &manifest(name, "latest")).status, 200);
    }
    for round in 0..2 {
        for name in ["grafana/grafana", "redis", "library/redis"] {
            assert_eq!(image.push(house.port(), name, "latest", &elsewhere), 403, "{name}");
            for (method, path) in [
                ("POST", format!("/v2/{name}/blobs/uploads/")),
                ("POST", format!("/v2/{name}/blobs/uploads/?mount={}", image.blob())),
                ("PUT", manifest(name, "latest")),
                ("PUT", manifest(name, &image.digest())),
            ] {
                let typed = [&elsewhere[..], &[("Content-Type", MANIFEST)]].concat();
                let answer =
                    send(house.port(), method, &path, &typed, if method == "PUT" { &image.manifest } else { b"" });
                assert_eq!((answer.status, answer.error_code()), (403, "DENIED".to_owned()), "{method} {path}");
                assert!(answer.text().contains("hosted.namespaces"), "it says what to do: {}", answer.text());
            }
        }
        // Names that the mirror does not know, and names that the operator claimed.
        for name in ["grafana/other", "claimed/app", "ann/app"] {
            assert_eq!(image.push(house.port(), name, &format!("v{round}"), &elsewhere), 201, "{name}");
        }
        house.lanyard.restart();
    }
    // This machine may push to it, and afterwards a push is no first push.
    assert_eq!(image.push(house.port(), "grafana/grafana", "latest", &[("Authorization", &ann)]), 201);
    assert_eq!(image.push(house.port(), "grafana/grafana", "next", &elsewhere), 201);
    assert_eq!(get(house.port(), &manifest("grafana/grafana", "latest")).body, image.manifest);
}

/// N2 is checked again when a manifest commits: the mirror may get to know the name while the body
/// comes in, by a manifest or only by a blob.
#[test]
fn n2_a_name_that_becomes_known_while_a_push_comes_in_is_not_taken() {
    let hub = Hub::start();
    let house = House::start("mirror_listen = \"127.0.0.1:0\"\n[hosted]\nreserved = []", &config(&hub, ""));
    let mirror = mirror_port(&house);
    let ann = basic(ANN);
    let forged = Small::new("forged");
    for (number, pulls) in ["a manifest", "a blob", "nothing"].into_iter().enumerate() {
        for (kind, reference) in [("tag", "latest".to_owned()), ("digest", forged.digest())] {
            let name = format!("grafana/{kind}{number}");
            let honest = hub.image(&name, "latest").layer(100).publish();
            let elsewhere = [ELSEWHERE, ("Authorization", ann.as_str())];
            let uploaded = format!("/v2/{name}/blobs/uploads/?digest={}", forged.blob());
            assert_eq!(send(house.port(), "POST", &uploaded, &elsewhere, &forged.layer).status, 201);
            let mut connection = Connection::open(house.port());
            let length = forged.manifest.len().to_string();
            let own = [("Content-Type", MANIFEST), ("Content-Length", &length)];
            connection.request("PUT", &manifest(&name, &reference), &[&elsewhere[..], &own].concat());
            let (beginning, rest) = forged.manifest.split_at(10);
            connection.send(beginning);
            eventually("the push has begun", || {
                get(house.port(), "/metrics").text().contains("lanyard_requests_in_flight 2\n")
            });
            match pulls {
                "a manifest" => assert_eq!(get(mirror, &manifest(&name, "latest")).body, honest.bytes),
                "a blob" => {
                    assert_eq!(get(mirror, &blob(&name, honest.layer(0))).status, 200);
                    // A moment after the last byte has been sent.
                    eventually("the mirror knows the name", || {
                        send(house.port(), "POST", &uploaded, &elsewhere, &forged.layer).status == 403
                    });
                }
                _ => {}
            }
            connection.send(rest);
            let answer = connection.answer("PUT").unwrap();
            let expected = if pulls == "nothing" { 201 } else { 403 };
            assert_eq!(answer.status, expected, "{kind}, {pulls}: {}", answer.text());
            if expected == 403 {
                let again = send(house.port(), "POST", &uploaded, &elsewhere, &forged.layer).status;
                assert_eq!(again, 403, "{kind}, {pulls}: nor is a next one");
                assert_eq!(get(house.port(), &manifest(&name, "latest")).body, honest.bytes, "{kind}, {pulls}");
            }
        }
    }
}

/// Users without `mirror_listen` make both cases possible: the log and `config check` warn of it.
#[test]
fn users_without_a_mirror_are_warned_of() {
    let house = House::start("", "");
    assert!(house.lanyard.logs().contains("set mirror_listen"), "{}", house.lanyard.logs());
    let check = |config: &std::path::Path| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lanyard"))
            .args(["config", "check", "--config"])
            .arg(config)
            .env_clear()
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = check(&house.lanyard.config_file());
    assert!(code == Some(0) && told.contains("warning") && told.contains("set mirror_listen"), "{told}");
    let house = House::start("mirror_listen = \"127.0.0.1:0\"", "");
    assert_eq!(check(&house.lanyard.config_file()), (Some(0), String::new()));
    assert!(!house.lanyard.logs().contains("set mirror_listen"));
}
