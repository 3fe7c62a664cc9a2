//! Which requests count as this machine's (S32).

use actix_web::test::TestRequest;

use super::*;
use crate::runtime::BlockingPool;

fn site(names: &[&str]) -> Site {
    Site {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        machine: "build-01.corp.example".to_owned(),
        proxies: Vec::new(),
        public_url: None,
        certificate: None,
    }
}

fn from_here(headers: &[(&'static str, &str)]) -> HttpRequest {
    let mut request = TestRequest::default().peer_addr("127.0.0.1:1".parse().unwrap());
    for (name, value) in headers {
        request = request.append_header((*name, *value));
    }
    request.to_http_request()
}

#[test]
fn s32_this_machine_is_who_asks_it_by_a_name_that_is_its_own() {
    let site = site(&["registry.corp.example"]);
    for host in [
        "127.0.0.1",
        "127.0.0.1:5000",
        "192.0.2.1:5000",
        "0.0.0.0:5000",
        "[::1]",
        "[::1]:5000",
        "[fe80::1%eth0]:5000",
        "[fe80::1%25eth0]",
        "localhost",
        "localhost:5000",
        "LOCALHOST:5000",
        "localhost.",
        "localhost.:5000",
        "a.localhost",
        "a.b.localhost:5000",
        "registry",
        "registry:5000",
        "reg_istry-1",
        "Registry.Local",
        "registry.local.:5000",
        "build-01.corp.example",
        "BUILD-01.corp.example.:5000",
        "registry.corp.example",
        "registry.corp.example.",
        "Registry.Corp.Example:5000",
    ] {
        assert_eq!(site.locality(&from_here(&[("host", host)])), Locality::Here, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:5000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1.nip.io",
        "127.1",
        "xlocalhost.example",
        "local.example",
        "x.locality",
        ".local",
        ".localhost",
        "x.registry.corp.example",
        "corp.example",
        "registry.corp.example.evil",
        "ai.",
        "registry.",
        "a..localhost",
        "registry..",
        ".",
        "",
        ":5000",
        "user@localhost",
        "localhost:5000:5000",
        "localhost:x",
        "localhost:0",
        "localhost:99999",
        "::1",
        "[::1",
        "[::1]x",
        "[evil.example]",
        "[::1].evil.example",
        "localhost/",
        "localhost,evil.example",
        "local host",
        "http://localhost",
        "xn--e1afmkfd.example",
        "bücher",
    ] {
        let request = from_here(&[("host", host)]);
        assert!(matches!(site.locality(&request), Locality::HereByName(_)), "{host}");
        assert_eq!(site.principal(&request), Principal::Anonymous, "{host}");
    }
    assert!(matches!(site.locality(&from_here(&[])), Locality::HereByName(_)), "no Host");
    let two = from_here(&[("host", "localhost"), ("host", "localhost")]);
    assert!(matches!(site.locality(&two), Locality::HereByName(_)), "two of them");
}

#[test]
fn s32_a_proxy_and_a_browser_on_this_machine_are_not_this_machine() {
    let site = site(&[]);
    let peer = |name, value| site.locality(&from_here(&[("host", "localhost:5000"), (name, value)]));
    for name in [
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-anything",
        "x-real-ip",
        "origin",
    ] {
        for value in ["", "null", "127.0.0.1", "http://localhost:5000"] {
            assert_eq!(peer(name, value), Locality::Elsewhere, "{name}: {value}");
        }
    }
    for value in ["cross-site", "same-site", "Cross-Site", "", "x", "same-origin, cross-site"] {
        assert_eq!(peer("sec-fetch-site", value), Locality::Elsewhere, "{value}");
    }
    for value in ["same-origin", "none", "Same-Origin"] {
        assert_eq!(peer("sec-fetch-site", value), Locality::Here, "{value}");
    }
    // An upstream's redirect may lead lanyard to itself.
    assert_eq!(peer("user-agent", concat!("lanyard/", env!("CARGO_PKG_VERSION"))), Locality::Elsewhere);
    for value in ["", "docker/28.5.2", "not lanyard/0.1.0"] {
        assert_eq!(peer("user-agent", value), Locality::Here, "{value}");
    }
    let two = [("host", "localhost"), ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
    assert_eq!(site.locality(&from_here(&two)), Locality::Elsewhere);
    for address in ["192.0.2.1:1", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:1"] {
        let request = TestRequest::default().peer_addr(address.parse().unwrap()).append_header(("host", "localhost"));
        assert_eq!(site.locality(&request.to_http_request()), Locality::Elsewhere, "{address}");
    }
    for address in ["127.1.2.3:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        let request = TestRequest::default().peer_addr(address.parse().unwrap()).append_header(("host", "localhost"));
        assert_eq!(site.locality(&request.to_http_request()), Locality::Here, "{address}");
    }
}

#[test]
fn the_certificates_names_are_this_machines() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["shown.example".to_owned(), "*.wild.example".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let files = crate::config::Tls { cert: folder.path().join("cert"), key: folder.path().join("key") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let pool = BlockingPool::new(runtime.handle().clone(), 1);
    let site = Site { certificate: Some(Certificate::open(&files, pool).unwrap()), ..site(&[]) };
    for (host, expected) in [
        ("shown.example", true),
        ("Shown.Example:5000", true),
        ("x.wild.example", true),
        ("x.y.wild.example", false),
        ("wild.example", false),
        ("x.shown.example", false),
        ("evil.example", false),
    ] {
        let here = site.locality(&from_here(&[("host", host)])) == Locality::Here;
        assert_eq!(here, expected, "{host}");
    }
}

#[test]
fn the_address_to_sign_in_at_is_the_one_that_was_asked() {
    let origin = |public: Option<&str>, lines: &[(&'static str, &str)]| {
        let site = Site { public_url: public.map(str::to_owned), ..site(&[]) };
        site.origin(&from_here(lines))
    };
    let host = ("host", "inner:5000");
    for (lines, expected) in [
        (&[host][..], Some("http://inner:5000")),
        (&[host, ("x-forwarded-proto", "https,http")], Some("https://inner:5000")),
        (&[host, ("x-forwarded-proto", "https"), ("x-forwarded-host", "r.lan")], Some("https://r.lan")),
        (&[host, ("forwarded", "for=1.1.1.1;proto=https;host=\"r.lan:8443\"")], Some("https://r.lan:8443")),
        (&[host, ("x-forwarded-host", "a\"b")], Some("http://inner:5000")),
        (&[("host", "a\"b"), ("x-forwarded-host", "r.lan")], Some("http://r.lan")),
        (&[("host", "a\"b")], None),
        (&[], None),
    ] {
        assert_eq!(origin(None, lines).as_deref(), expected, "{lines:?}");
        assert_eq!(origin(Some("https://public.example"), lines).as_deref(), Some("https://public.example"));
    }
}
