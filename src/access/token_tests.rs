//! Tokens that this key issued, and forged ones (S8).

use super::*;

fn grant(name: &str) -> ResourceActions {
    ResourceActions { kind: "repository".to_owned(), name: name.to_owned(), actions: vec!["pull".to_owned()] }
}

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn claims(now: u64) -> serde_json::Value {
    serde_json::json!({
        "iss": "lanyard", "sub": "ann", "aud": "lanyard", "exp": now + 300, "nbf": now, "iat": now, "access": [],
    })
}

#[test]
fn a_token_is_what_was_issued_for_five_minutes() {
    let tokens = TokenIssuer::new(&SecretKey::fresh());
    let now = SystemTime::now();
    let token = tokens.issue(Some("ann"), vec![grant("team/app")], now).unwrap();
    let bearer = VerifiedToken { user: Some("ann".to_owned()), access: vec![grant("team/app")] };
    let later = |seconds| tokens.verify(&token.text, now + Duration::from_secs(seconds));
    assert_eq!(later(0), Some(bearer.clone()));
    assert_eq!(later(298), Some(bearer.clone()));
    assert_eq!(later(300), None);
    assert_eq!(
        tokens.verify(&token.text, now - Duration::from_secs(30)),
        Some(bearer),
        "a clock was set back a little"
    );
    assert_eq!(tokens.verify(&token.text, now - Duration::from_secs(90)), None);
    let anonymous = tokens.issue(None, Vec::new(), now).unwrap();
    assert_eq!(tokens.verify(&anonymous.text, now), Some(VerifiedToken { user: None, access: Vec::new() }));
    assert_eq!(tokens.issue(None, vec![grant(&"x".repeat(9000))], now).err(), Some(TooLarge));
}

#[test]
fn s8_twelve_forged_tokens_are_none() {
    let (key, other) = (SecretKey::fresh(), SecretKey::fresh());
    let tokens = TokenIssuer::new(&key);
    let time = SystemTime::now();
    let now = seconds(time);
    let signed = |header: &str, claims: &serde_json::Value, key: &SecretKey| {
        let text = format!("{}.{}", encode(header), encode(claims.to_string()));
        format!("{text}.{}", encode(hmac::sign(&key.hmac(), text.as_bytes())))
    };
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = claims(now);
        claims[name] = value;
        signed(HEADER, &claims, &key)
    };
    let good = signed(HEADER, &claims(now), &key);
    assert!(tokens.verify(&good, time).is_some(), "the forger knows the form");

    let (head, tail) = good.rsplit_once('.').unwrap();
    let raised = encode(
        serde_json::json!({ "iss": "lanyard", "sub": "root", "aud": "lanyard", "exp": now + 300,
        "nbf": now, "iat": now, "access": [] })
        .to_string(),
    );
    let mut padded = claims(now);
    padded["pad"] = "x".repeat(9000).into();
    for (name, forged) in [
        ("alg none", format!("{}.{}.", encode(r#"{"alg":"none","typ":"JWT"}"#), encode(claims(now).to_string()))),
        ("no signature", format!("{head}.")),
        ("another key", signed(HEADER, &claims(now), &other)),
        ("claims changed", format!("{}.{raised}.{tail}", encode(HEADER))),
        ("signature cut", good[..good.len() - 4].to_owned()),
        ("another algorithm", signed(r#"{"alg":"HS512","typ":"JWT"}"#, &claims(now), &key)),
        (
            "a key of its own (jwk)",
            signed(
                &format!(r#"{{"alg":"HS256","typ":"JWT","jwk":{{"kty":"oct","k":"{}"}}}}"#, encode([0; 32])),
                &claims(now),
                &SecretKey::fresh(),
            ),
        ),
        ("a key elsewhere (jku)", signed(r#"{"alg":"HS256","jku":"http://127.0.0.1/"}"#, &claims(now), &key)),
        ("a certificate elsewhere (x5u)", signed(r#"{"alg":"RS256","x5u":"http://127.0.0.1/"}"#, &claims(now), &key)),
        ("a file for a key (kid)", signed(r#"{"alg":"HS256","typ":"JWT","kid":"/dev/null"}"#, &claims(now), &key)),
        ("expired", with("exp", (now - 1).into())),
        ("not yet", with("nbf", (now + 3600).into())),
        ("for another service", with("aud", "registry.docker.io".into())),
        ("a list of services", with("aud", serde_json::json!(["lanyard"]))),
        ("of another issuer", with("iss", "elsewhere".into())),
        ("no expiry", with("exp", serde_json::Value::Null)),
        ("expiry as text", with("exp", "9999999999".into())),
        ("too long", signed(HEADER, &padded, &key)),
        ("not a token", "a.b.c".to_owned()),
        ("nothing", String::new()),
        ("four parts", format!("{good}.x")),
        ("with padding", format!("{good}=")),
    ] {
        assert_eq!(tokens.verify(&forged, time), None, "{name}");
    }
}
