//! Signing in, by Bearer and Basic, as clients do it (DESIGN.md section 1, WIRE.md "Auth").

use super::{ANN, BOB, ELSEWHERE, House, Small, basic, send};
use crate::{
    hub::Hub,
    lanyard::Lanyard,
    pull::config,
    wire::{Connection, blob, eventually, get, manifest},
};

#[test]
fn without_users_nobody_is_challenged() {
    let lanyard = Lanyard::start("");
    for headers in [&[][..], &[("Authorization", "Basic Zm9yZWlnbjp4")], &[ELSEWHERE]] {
        assert_eq!(send(lanyard.port(), "GET", "/v2/", headers, b"").status, 200);
    }
    assert_eq!(get(lanyard.port(), "/token").status, 404);
    let refused = send(lanyard.port(), "POST", "/v2/team/app/blobs/uploads/", &[ELSEWHERE], b"");
    assert_eq!((refused.status, refused.error_code()), (403, "DENIED".to_owned()));
    assert!(refused.text().contains("lanyard user add"), "it says what to do: {}", refused.text());
}

#[test]
fn the_first_push_from_this_machine_needs_nothing() {
    let lanyard = Lanyard::start("");
    let image = Small::new("first");
    assert_eq!(image.push(lanyard.port(), "team/app", "latest", &[]), 201);
    for name in ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Host", "Origin"] {
        assert_eq!(image.push(lanyard.port(), "team/app", "latest", &[(name, "x")]), 403, "{name}");
    }
    assert_eq!(get(lanyard.port(), &manifest("team/app", "latest")).body, image.manifest);
}

/// With users, docker is challenged on this machine too: it asks for a token without a name, and
/// that token pushes.
#[test]
fn a_token_without_a_name_pushes_from_this_machine_only() {
    let house = House::start("", "");
    let answer = house.ask("GET", "/token?service=lanyard&scope=repository:team/app:push,pull", &[]);
    let bearer = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
    let image = Small::new("local");
    assert_eq!(house.ask("GET", "/v2/", &[("Authorization", &bearer)]).status, 200);
    assert_eq!(image.push(house.port(), "team/app", "latest", &[("Authorization", &bearer)]), 201);
    assert_eq!(image.push(house.port(), "team/app", "latest", &[ELSEWHERE, ("Authorization", &bearer)]), 401);
}

/// Every client's parser can read the challenge: one scheme, quoted values, the host that was
/// asked.
#[test]
fn the_challenge_names_the_way_to_a_token() {
    let house = House::start("", "");
    let port = house.port();
    let challenge = |path: &str, method: &str, host: &str, more: &[(&str, &str)]| {
        let mut connection = Connection::open(port);
        let more: String = more.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        connection
            .send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}Content-Length: 0\r\n\r\n").as_bytes());
        let answer = connection.answer(method).unwrap();
        assert_eq!((answer.status, answer.header("x-lanyard-cache")), (401, Some("bypassed")));
        if method != "HEAD" {
            assert_eq!(answer.error_code(), "UNAUTHORIZED");
        }
        answer.header("www-authenticate").unwrap().to_owned()
    };
    for host in ["registry.lan:5000", "[::1]:5000"] {
        let told = challenge("/v2/", "GET", host, &[]);
        assert_eq!(told, format!("Bearer realm=\"http://{host}/v2/token\",service=\"lanyard\""));
    }
    let mut connection = Connection::open(port);
    connection.send(b"GET /v2/ HTTP/1.1\r\nHost: a\"b\r\n\r\n");
    assert_eq!(connection.answer("GET").unwrap().status, 400);
    assert!(challenge("/v2/", "GET", "x", &[("X-Forwarded-Proto", "https")]).contains("\"https://x/v2/token\""));
    for (more, realm) in [
        (&[("X-Forwarded-Proto", "https,http")][..], "https://x/v2/token"),
        (&[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "r.lan:8443")], "https://r.lan:8443/v2/token"),
        (&[("Forwarded", "for=192.0.2.1;proto=https;host=r.lan, proto=http")], "https://r.lan/v2/token"),
        (&[("Forwarded", "proto=https;host=\"r.lan:8443\"")], "https://r.lan:8443/v2/token"),
        (&[("X-Forwarded-Host", "user@evil.example")], "http://x/v2/token"),
        (&[("X-Forwarded-Host", "evil\",scope=\"x")], "http://x/v2/token"),
        (&[("X-Forwarded-Host", "evil/path")], "http://x/v2/token"),
    ] {
        let told = challenge("/v2/", "GET", "x", more);
        assert_eq!(told, format!("Bearer realm=\"{realm}\",service=\"lanyard\""), "{more:?}");
    }
    let told = challenge("/v2/team/app/blobs/uploads/", "POST", "x", &[ELSEWHERE]);
    assert!(told.ends_with(",scope=\"repository:team/app:pull,push\""), "{told}");
    let told = challenge("/v2/team/app/manifests/latest", "DELETE", "x", &[ELSEWHERE]);
    assert!(told.ends_with(",scope=\"repository:team/app:delete\""), "{told}");
    let told = challenge("/v2/", "HEAD", "x", &[("Authorization", "Bearer nonsense")]);
    assert!(told.ends_with(",error=\"invalid_token\""), "{told}");
}

#[test]
fn docker_login_tells_right_from_wrong() {
    let house = House::start("", "");
    let login = "/token?account=ann&client_id=docker&offline_token=true&service=lanyard";
    let right = house.ask("GET", login, &[("Authorization", &basic(ANN))]);
    assert_eq!(right.status, 200);
    let said = right.json();
    assert_eq!((&said["token"], said["expires_in"].as_u64()), (&said["access_token"], Some(300)));
    let bearer = format!("Bearer {}", said["token"].as_str().unwrap());
    assert_eq!(house.ask("GET", "/v2/", &[("Authorization", &bearer)]).status, 200);
    for wrong in [basic(("ann", "wrong")), basic(("nobody", "x")), "Basic !!!".to_owned(), "Negotiate x".to_owned()] {
        let answer = house.ask("GET", login, &[("Authorization", &wrong)]);
        assert_eq!((answer.status, answer.error_code()), (401, "UNAUTHORIZED".to_owned()), "{wrong}");
        assert!(answer.header("www-authenticate").is_some());
        assert_eq!(house.ask("GET", "/v2/", &[("Authorization", &wrong)]).status, 401, "{wrong}");
    }
    // Basic is accepted wherever Bearer is.
    assert_eq!(house.ask("GET", "/v2/", &[("Authorization", &basic(BOB))]).status, 200);
    // Anonymous clients get a token too, and podman's empty name and password count as anonymous.
    for headers in [&[][..], &[("Authorization", "Basic Og==")]] {
        let answer = house.ask("GET", "/v2/token?service=lanyard", headers);
        let bearer = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
        assert_eq!(house.ask("GET", "/v2/", &[("Authorization", &bearer)]).status, 200);
        assert_eq!(house.ask("GET", "/v2/", headers).status, 401);
    }
}

/// containerd, docker with the containerd store, and BuildKit post a form.
#[test]
fn a_form_is_as_good_as_basic() {
    let house = House::start("", "");
    let post = |form: &str| {
        let typed = [ELSEWHERE, ("Content-Type", "application/x-www-form-urlencoded")];
        send(house.port(), "POST", "/token", &typed, form.as_bytes())
    };
    let form = "grant_type=password&service=lanyard&client_id=containerd-client&access_type=offline\
                &username=ann&password=canary-ann%3Atail-4711&scope=repository%3Aann%2Fa%3Apull%2Cpush+repository%3Aann%2Fb%3Apull";
    let answer = post(form);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let bearer = format!("Bearer {}", answer.json()["access_token"].as_str().unwrap());
    let headers = [ELSEWHERE, ("Authorization", &*bearer)];
    assert_eq!(Small::new("form").push(house.port(), "ann/a", "latest", &headers), 201);
    assert_eq!(Small::new("form").push(house.port(), "ann/b", "latest", &headers), 401, "only to pull from");
    assert_eq!(post(&form.replace("tail-4711", "tail-4712")).status, 401);
    assert_eq!(post("grant_type=refresh_token&refresh_token=x&service=lanyard").status, 401);
    assert_eq!(post(&format!("username=ann&password={}", "x".repeat(70_000))).status, 413);
    assert_eq!(post("").status, 200, "nobody in particular");
}

/// Scopes are united, whether they are repeated or joined by spaces.
#[test]
fn a_token_is_for_what_it_was_asked_for() {
    let house = House::start("", "");
    let image = Small::new("scopes");
    let push = |scopes: &[&str], user, repo: &str| {
        let (status, token) = house.token(user, scopes);
        assert_eq!(status, 200, "{scopes:?}");
        let bearer = format!("Bearer {token}");
        image.push(house.port(), repo, "latest", &[ELSEWHERE, ("Authorization", &bearer)])
    };
    assert_eq!(push(&["repository:a:push,pull"], Some(ANN), "a"), 201);
    assert_eq!(push(&["repository:a:pull", "repository:a:pull,push"], Some(ANN), "a"), 201);
    assert_eq!(push(&["repository:b:pull+repository:a:push"], Some(ANN), "a"), 201);
    assert_eq!(push(&["repository:a:*"], Some(ANN), "a"), 201);
    assert_eq!(push(&["repository:a:pull"], Some(ANN), "a"), 401);
    assert_eq!(push(&["repository:b:push"], Some(ANN), "a"), 401);
    assert_eq!(push(&[], Some(ANN), "a"), 401);
    assert_eq!(push(&["repository:a:pull,push"], None, "a"), 401);
    let (_, token) = house.token(None, &["repository:a:pull,push"]);
    let bearer = format!("Bearer {token}");
    let told = send(house.port(), "POST", "/v2/a/blobs/uploads/", &[ELSEWHERE, ("Authorization", &bearer)], b"");
    assert!(told.header("www-authenticate").unwrap().contains("scope=\"repository:a:pull,push\""));
    let many = vec!["repository:some/long/name:pull"; 400];
    assert_eq!(house.token(Some(ANN), &many).0, 200, "the same thing many times is one thing");
}

/// Seen in other caches: "dockerd sends Hub credentials to mirrors". WIRE.md: never 401, 403 or 429
/// for a pull.
#[test]
fn foreign_credentials_never_stand_in_the_way_of_a_pull() {
    let hub = Hub::start();
    let image = hub.image("library/busybox", "latest").layer(100).publish();
    let house = House::start("", &config(&hub, ""));
    let foreign = basic(("hub-user", "canary-hub-password"));
    for round in 0..15 {
        // With a token endpoint that asks for a password, dockerd sends this request first.
        let (status, token) =
            house.token(Some(("hub-user", "canary-hub-password")), &["repository:library/busybox:pull"]);
        assert_eq!(status, 200, "round {round}: an anonymous token, and nothing is counted");
        for value in
            [&*foreign, &format!("Bearer {token}"), "Bearer nonsense", "Basic Og==", "rubbish", "Digest x=\"y\""]
        {
            for path in [manifest("library/busybox", "latest"), blob("library/busybox", image.layer(0))] {
                let answer = house.ask("GET", &path, &[ELSEWHERE, ("Authorization", value)]);
                assert_eq!(answer.status, 200, "{path} {value}");
            }
        }
    }
    let (status, _) = house.token(Some(("hub-user", "canary-hub-password")), &["repository:library/busybox:pull,push"]);
    assert_eq!(status, 401, "a push with them is told");
    assert!(hub.count(|request| request.header("authorization").is_some_and(|a| a.contains("Basic"))) == 0);
}

/// A push from this machine needs no name, but a push with a wrong password is refused also from
/// here.
#[test]
fn a_wrong_password_is_not_made_good_by_the_address() {
    let house = House::start("", "");
    let image = Small::new("here");
    assert_eq!(image.push(house.port(), "team/app", "latest", &[]), 201);
    assert_eq!(image.push(house.port(), "team/app", "latest", &[("Authorization", &basic(("ann", "guess")))]), 401);
    assert_eq!(image.push(house.port(), "team/app", "latest", &[("Authorization", &basic(ANN))]), 201);
    let (_, token) = house.token(Some(ANN), &["repository:other:pull"]);
    let bearer = format!("Bearer {token}");
    let status = image.push(house.port(), "team/app", "latest", &[("Authorization", &bearer)]);
    assert_eq!(status, 201, "a token that is for less takes nothing away that this machine may do");
}

#[test]
fn edits_of_the_file_count_within_seconds() {
    let house = House::start("", "");
    let (_, token) = house.token(Some(ANN), &["repository:team/app:pull,push"]);
    let bearer = format!("Bearer {token}");
    let push =
        || Small::new("edits").push(house.port(), "team/app", "latest", &[ELSEWHERE, ("Authorization", &bearer)]);
    assert_eq!(push(), 201);
    std::fs::write(house.users.path(), "this is no list\n").unwrap();
    eventually("the log tells of a broken file", || {
        push();
        house.lanyard.logs().contains("the users stay as they were")
    });
    assert_eq!(push(), 201, "a broken file changes nothing");
    std::fs::write(house.users.path(), format!("carl:{}\n", bcrypt::hash("c", 4).unwrap())).unwrap();
    eventually("the user is gone, and the token with it", || push() == 401);
    assert_eq!(house.ask("GET", "/v2/", &[("Authorization", &basic(("carl", "c")))]).status, 200);
}

/// A client in the middle of a push continues with its token.
#[test]
fn a_token_outlives_a_restart() {
    let mut house = House::start("", "");
    let (_, token) = house.token(Some(ANN), &["repository:team/app:pull,push"]);
    house.lanyard.kill9();
    house.lanyard.restart();
    let bearer = format!("Bearer {token}");
    let status =
        Small::new("restart").push(house.port(), "team/app", "latest", &[ELSEWHERE, ("Authorization", &bearer)]);
    assert_eq!(status, 201);
}
