//! `_catalog` where there are users: a client that has a password sends its token only when it is
//! asked for it.

use super::{ANN, BOB, ELSEWHERE, House, Small, basic, send};

const RULES: &str = r#"
[[access]]
who = ["anonymous"]
repositories = ["open/**"]
actions = ["pull"]
[[access]]
who = ["user:ann"]
repositories = ["**"]
actions = ["pull", "push"]
"#;

const SCOPE: &str = "registry:catalog:*";

/// As oras and regctl do it: ask, read in the challenge where to get a token and for which scope,
/// get that token, ask again.
#[test]
fn a_client_is_asked_for_a_token_and_lists_what_it_may_pull() {
    let house = House::start("[hosted]\nnamespaces = [\"open/**\", \"team/**\"]", RULES);
    let ann = basic(ANN);
    for repo in ["open/app", "team/app"] {
        let pushed = Small::new(repo).push(house.port(), repo, "v1", &[ELSEWHERE, ("Authorization", &ann)]);
        assert_eq!(pushed, 201, "{repo}");
    }
    for (user, expected) in
        [(Some(ANN), &["open/app", "team/app"][..]), (Some(BOB), &["open/app"]), (None, &["open/app"])]
    {
        for here in [&[ELSEWHERE][..], &[]] {
            for method in ["GET", "HEAD"] {
                let told = house.ask(method, "/v2/_catalog?n=10", here);
                let challenge = told.header("www-authenticate").unwrap_or_default();
                let expected =
                    format!("Bearer realm=\"http://127.0.0.1/v2/token\",service=\"lanyard\",scope=\"{SCOPE}\"");
                assert_eq!((told.status, challenge), (401, expected.as_str()), "{method}");
            }
            let authorization = user.map(basic);
            let mut headers = here.to_vec();
            headers.extend(authorization.as_deref().map(|value| ("Authorization", value)));
            for path in ["/v2/token", "/token"] {
                let issued =
                    house.ask("GET", &format!("{path}?service=lanyard&scope=registry%3Acatalog%3A%2A"), &headers);
                assert_eq!(issued.status, 200, "{user:?}");
                let bearer = format!("Bearer {}", issued.json()["token"].as_str().unwrap());
                let headers = [here, &[("Authorization", &*bearer)]].concat();
                let listed = house.ask("GET", "/v2/_catalog?n=10", &headers);
                assert_eq!(listed.json()["repositories"], serde_json::json!(expected), "{user:?}");
                let head = house.ask("HEAD", "/v2/_catalog?n=10", &headers);
                assert_eq!((head.status, head.header("content-length")), (200, listed.header("content-length")));
            }
        }
    }
    // A form works as well.
    let form = format!("grant_type=password&username=bob&password={}&scope={SCOPE}", BOB.1);
    let issued = send(house.port(), "POST", "/v2/token", &[ELSEWHERE], form.as_bytes());
    let bearer = format!("Bearer {}", issued.json()["access_token"].as_str().unwrap());
    let listed = house.ask("GET", "/v2/_catalog", &[("Authorization", &bearer)]);
    assert_eq!(listed.json()["repositories"], serde_json::json!(["open/app"]));
}

/// A token for another scope does not list, and a token for the catalogue opens nothing else.
#[test]
fn a_token_lists_only_when_it_was_asked_for_that() {
    let house = House::start("", "");
    let list = |user, scopes: &[&str]| {
        let (status, token) = house.token(user, scopes);
        assert_eq!(status, 200, "{scopes:?}");
        let bearer = format!("Bearer {token}");
        house.ask("GET", "/v2/_catalog", &[ELSEWHERE, ("Authorization", &bearer)]).status
    };
    for user in [Some(ANN), None] {
        assert_eq!(list(user, &[SCOPE]), 200);
        assert_eq!(list(user, &[SCOPE, SCOPE, "repository:a:pull"]), 200);
        for scopes in [
            &[][..],
            &["repository:catalog:*"],
            &["repository:catalog:pull"],
            &["registry:catalog:pull"],
            &["registry:catalog:"],
            &["registry:other:*"],
            &["repository:registry:catalog:*"],
            &["registry:catalog:*,pull"],
        ] {
            assert_eq!(list(user, scopes), 401, "{user:?} {scopes:?}");
        }
    }
    let (_, token) = house.token(Some(ANN), &[SCOPE]);
    let bearer = format!("Bearer {token}");
    for repo in ["team/app", "catalog", "registry"] {
        let pushed = Small::new("x").push(house.port(), repo, "v1", &[ELSEWHERE, ("Authorization", &bearer)]);
        assert_eq!(pushed, 401, "{repo}");
    }
    for wrong in [basic(("ann", "wrong")), "Bearer x".to_owned(), "Digest x".to_owned()] {
        let headers = [ELSEWHERE, ("Authorization", wrong.as_str())];
        assert_eq!(house.ask("GET", "/v2/_catalog", &headers).status, 401, "a wrong password is not nobody");
    }
    assert_eq!(house.token(Some(("ann", "wrong again")), &[SCOPE]).0, 401);
}
