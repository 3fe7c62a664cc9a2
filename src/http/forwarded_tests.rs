//! Which entries of these headers are believed.

use actix_web::http::header::HeaderValue;

use super::*;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    headers
}

const XFF: &str = "x-forwarded-for";
const FWD: &str = "forwarded";
/// Two configured proxies.
const PROXIES: [&str; 2] = ["10.0.0.1", "10.0.0.2"];

#[test]
fn a_proxy_of_ours_says_who_asks_and_nobody_else_does() {
    let client = |peer: &str, lines: &[(&'static str, &str)]| {
        let trusted = |address: IpAddr| PROXIES.iter().any(|proxy| proxy.parse() == Ok(address));
        let client = super::client(&headers(lines), peer.parse().unwrap(), trusted);
        let perhaps = client.perhaps.map_or_else(String::new, |perhaps| format!(" or {perhaps}"));
        format!("{}{perhaps}", client.address)
    };
    for (peer, lines, expected) in [
        // A peer that is no configured proxy counts as itself.
        ("192.0.2.9", &[(XFF, "198.51.100.1")][..], "192.0.2.9"),
        ("192.0.2.9", &[(FWD, "for=198.51.100.1")], "192.0.2.9"),
        ("::ffff:192.0.2.9", &[], "192.0.2.9"),
        ("10.0.0.1", &[], "10.0.0.1"),
        // An open quote hides nothing, nor do bytes after an address.
        ("10.0.0.1", &[(XFF, "\"1.1.1.1:, 198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[(XFF, "\"1.1.1.1%, 198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[(XFF, "\"[2001:db8::1], 198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[(XFF, "\", 198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[(XFF, "\"1.1.1.1\", 198.51.100.1, 10.0.0.2")], "198.51.100.1"),
        ("10.0.0.1", &[(FWD, "for=\"1.1.1.1:, for=198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[(FWD, "for=\"x, for=\"[2001:db8::9]\"")], "2001:db8::9"),
        ("10.0.0.1", &[(FWD, "for=\"x\\, for=\"[2001:db8::9]\"")], "2001:db8::9"),
        ("10.0.0.1", &[(FWD, "for=\"1.1.1.1\";a=\", for=198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[(XFF, "198.51.100.1:x y")], "10.0.0.1"),
        ("10.0.0.1", &[(XFF, "[2001:db8::1]x")], "10.0.0.1"),
        // The last entry that is no configured proxy.
        ("10.0.0.1", &[(XFF, "198.51.100.1")], "198.51.100.1"),
        ("::ffff:10.0.0.1", &[(XFF, "198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[(XFF, "1.1.1.1, 198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[(XFF, "1.1.1.1, 198.51.100.1 , 10.0.0.2")], "198.51.100.1"),
        ("10.0.0.1", &[(XFF, "1.1.1.1"), (XFF, "198.51.100.1,10.0.0.2")], "198.51.100.1"),
        ("10.0.0.1", &[(XFF, "10.0.0.1, 10.0.0.2")], "10.0.0.1"),
        // Entries before a hop that says nothing are not believed.
        ("10.0.0.1", &[(XFF, "198.51.100.1, unknown")], "10.0.0.1"),
        ("10.0.0.1", &[(XFF, "198.51.100.1, unknown, 10.0.0.2")], "10.0.0.2"),
        ("10.0.0.1", &[(XFF, "198.51.100.1, <script>")], "10.0.0.1"),
        ("10.0.0.1", &[(XFF, ",, ")], "10.0.0.1"),
        ("10.0.0.1", &[(FWD, "for=_hidden")], "10.0.0.1"),
        ("10.0.0.1", &[(FWD, "proto=https")], "10.0.0.1"),
        // Ways to write an address.
        ("10.0.0.1", &[(XFF, "198.51.100.1:4711")], "198.51.100.1"),
        ("10.0.0.1", &[(XFF, "2001:db8::1")], "2001:db8::1"),
        ("10.0.0.1", &[(XFF, "[2001:db8::1]:4711")], "2001:db8::1"),
        ("10.0.0.1", &[(XFF, "fe80::1%eth0")], "fe80::1"),
        ("10.0.0.1", &[(XFF, "::ffff:198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[(FWD, "for=198.51.100.1;proto=https")], "198.51.100.1"),
        ("10.0.0.1", &[(FWD, "FOR=\"[2001:db8::1]:4711\"; proto=https")], "2001:db8::1"),
        ("10.0.0.1", &[(FWD, "for=1.1.1.1, for=198.51.100.1;by=\"a,b\", for=10.0.0.2")], "198.51.100.1"),
        // Two headers: one of them may be the client's own.
        ("10.0.0.1", &[(XFF, "198.51.100.1"), (FWD, "for=198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[(XFF, "198.51.100.1"), (FWD, "for=1.1.1.1")], "10.0.0.1 or 198.51.100.1"),
        ("10.0.0.1", &[(FWD, "for=1.1.1.1"), (XFF, "198.51.100.1")], "10.0.0.1 or 198.51.100.1"),
        ("10.0.0.1", &[(XFF, "198.51.100.1"), (FWD, "for=_hidden")], "10.0.0.1 or 198.51.100.1"),
        ("10.0.0.1", &[(XFF, "198.51.100.1"), (FWD, "proto=https")], "10.0.0.1 or 198.51.100.1"),
        ("10.0.0.1", &[(XFF, "198.51.100.1"), (FWD, "")], "198.51.100.1"),
        ("10.0.0.1", &[(XFF, "unknown"), (FWD, "for=1.1.1.1")], "10.0.0.1"),
        ("10.0.0.1", &[(XFF, ""), (FWD, "for=198.51.100.1")], "198.51.100.1"),
        ("192.0.2.9", &[(XFF, "198.51.100.1"), (FWD, "for=1.1.1.1")], "192.0.2.9"),
    ] {
        assert_eq!(client(peer, lines), expected, "{peer} {lines:?}");
    }
}

#[test]
fn the_first_proxy_says_what_was_asked() {
    const PROTO: &str = "x-forwarded-proto";
    const HOST: &str = "x-forwarded-host";
    for (lines, secure, host) in [
        (&[][..], None, None),
        (&[(PROTO, "https")], Some(true), None),
        (&[(PROTO, "HTTPS")], Some(true), None),
        (&[(PROTO, "https,http")], Some(true), None),
        (&[(PROTO, "https, http"), (PROTO, "http")], Some(true), None),
        (&[(PROTO, "http,https")], Some(false), None),
        (&[(PROTO, "http")], Some(false), None),
        (&[(PROTO, "wss")], Some(false), None),
        (&[(HOST, "registry.lan")], None, Some("registry.lan")),
        (&[(HOST, "registry.lan:8443, inner:80")], None, Some("registry.lan:8443")),
        (&[(FWD, "proto=https;host=registry.lan")], Some(true), Some("registry.lan")),
        (&[(FWD, "Proto=\"https\";Host=\"registry.lan:8443\"")], Some(true), Some("registry.lan:8443")),
        (&[(FWD, "for=1.1.1.1;host=a.lan;proto=https, host=b.lan;proto=http")], Some(true), Some("a.lan")),
        (&[(FWD, "for=\"a,b;c\";host=\"a\\.lan\"")], None, Some("a.lan")),
        (&[(FWD, "for=1.1.1.1, host=b.lan;proto=https")], None, None),
        (&[(FWD, "proto=https"), (HOST, "x.lan")], Some(true), Some("x.lan")),
        (&[(FWD, "proto=http"), (PROTO, "https")], Some(true), None),
        (&[(FWD, "host=\"evil\\\"x\""), (HOST, "x.lan")], None, Some("x.lan")),
        (&[(HOST, "user@evil.example")], None, None),
    ] {
        assert_eq!(asked(&headers(lines)), (secure, host.map(str::to_owned)), "{lines:?}");
    }
}

#[test]
fn a_host_is_a_host_and_a_port() {
    for yes in
        ["x", "registry.lan", "registry.lan.", "a_b:5000", "192.0.2.1:80", "[::1]", "[2001:db8::1]:5000", "X:65535"]
    {
        assert!(is_host(yes), "{yes}");
    }
    for no in [
        "",
        ":5000",
        "x:",
        "x:0",
        "x:65536",
        "x:+1",
        "x:y",
        "x:1:2",
        "::1",
        "[::1",
        "[::1]x",
        "[x]",
        "[::1]:",
        "a b",
        "a\"b",
        "user@x",
        "x/y",
        "x?y",
        "x#y",
        "x\\y",
        "a,b",
        "x\r\ny",
        "ä.lan",
        "http://x",
        "[fe80::1%25eth0]",
    ] {
        assert!(!is_host(no), "{no:?}");
    }
    assert!(!is_host(&"x".repeat(254)));
}
