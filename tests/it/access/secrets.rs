//! S18: names and passwords that clients send to sign in are in no log, no metric and no answer.

use super::{ANN, BOB, ELSEWHERE, House, Small, basic, send};
use crate::wire::get;

#[test]
fn s18_no_secret_is_logged_counted_or_told() {
    let house = House::start("", "[log]\nformat = \"json\"\n");
    let port = house.port();
    let (status, token) = house.token(Some(ANN), &["repository:team/app:pull,push"]);
    assert_eq!(status, 200);
    let bearer = format!("Bearer {token}");
    assert_eq!(Small::new("secrets").push(port, "team/app", "latest", &[ELSEWHERE, ("Authorization", &bearer)]), 201);
    let right = [basic(ANN), basic(BOB)];
    let wrong = [basic(("ann", "canary-wrong")), "Bearer canary-token".to_owned(), "canary-scheme x".to_owned()];
    let mut answers = String::new();
    for authorization in right.iter().chain(&wrong) {
        for (method, path) in [
            ("GET", "/v2/"),
            ("GET", "/token?account=ann&password=canary-query&token=canary-query"),
            ("POST", "/v2/team/app/blobs/uploads/?token=canary-query"),
            ("GET", "/v2/team/app/manifests/missing?access_token=canary-query"),
            ("DELETE", "/v2/team/app/manifests/missing"),
        ] {
            let answer = send(port, method, path, &[ELSEWHERE, ("Authorization", authorization)], b"");
            answers.push_str(&format!("{:?} {}\n", answer.headers, answer.text()));
        }
    }
    let form = b"grant_type=password&username=ann&password=canary-form&scope=repository:a:push";
    answers.push_str(&send(port, "POST", "/token", &[ELSEWHERE], form).text());
    let metrics = get(port, "/metrics").text();
    let logs = house.lanyard.logs();
    assert!(logs.contains("/v2/team/app/manifests/latest"), "there is a log to look at: {logs}");
    assert!(logs.contains("\"user\":\"ann\""), "and it says who pushed: {logs}");
    let hash = std::fs::read_to_string(house.users.path()).unwrap();
    // The part of a password after its colon, too.
    let mut secrets = vec!["canary", "tail-4711", token.as_str(), "Basic ", "eyJ"];
    secrets.extend(right.iter().chain(&wrong[..1]).filter_map(|value| value.strip_prefix("Basic ")));
    secrets.extend(hash.lines().filter_map(|line| line.split_once(':')).map(|(_, hash)| hash));
    for secret in secrets {
        for (place, text) in [("the log", &logs), ("the metrics", &metrics)] {
            assert!(!text.contains(secret), "{secret} is in {place}");
        }
        // A token that was asked for is the one secret that is given out, and `Basic` is the name
        // of a scheme.
        assert!(matches!(secret, "eyJ" | "Basic ") || !answers.contains(secret), "{secret} is in an answer");
    }
}
