//! S18: secrets are planted wherever lanyard gets to know one, and everything is made to fail. Then
//! no output of lanyard holds any of them: the log in both formats and at every level, answers,
//! `/metrics`, `config show`.

use std::{fs, path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    hub::{Cut, Fault, Flaw, Hub, On, Origin, digest_of, proxy::Proxy},
    lanyard::Lanyard,
    wire::{Connection, ask, blob, eventually, manifest},
};

const REPO: &str = "library/busybox";
/// Every secret here begins so, in clear. No part of it changes in base64 or in a URL.
const CANARY: &str = "Canary";
const USER: &str = "me";
const PASSWORD: &str = "CanaryPassword";
/// The beginning of the stand-in's tokens.
const TOKEN: &str = "stand-in.token.";

/// The stand-ins behind one lanyard.
struct World {
    /// Gives tokens to the account, through a proxy that also wants credentials.
    hub: Hub,
    basic: Hub,
    strange_realm: Hub,
    untrusted: Hub,
    proxy: Proxy,
    /// Object stores quote the header that they do not accept.
    quoting: Hub,
}

/// The step at which a fault strikes.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Token,
    Registry,
    Cdn,
}

/// The faults, each at an upstream of its own, which has its own circuit.
fn faults(world: &World) -> Vec<(Place, Fault)> {
    let echo = |status, kind: &str| Fault::Status {
        status,
        headers: vec![("Content-Type".into(), kind.into())],
        body: format!("{PASSWORD} {}", pair(USER, PASSWORD)),
    };
    let json = |status| Fault::Status {
        status,
        headers: vec![
            ("Content-Type".into(), "application/json".into()),
            ("Www-Authenticate".into(), format!("Basic realm=\"{PASSWORD}\"")),
            ("Set-Cookie".into(), "session=CanaryCookie".into()),
        ],
        body: format!(r#"{{"errors":[{{"code":"X","message":"you sent {PASSWORD} as {}"}}]}}"#, pair(USER, PASSWORD)),
    };
    let signed = |place: &str| Fault::RedirectTo(format!("{place}/blob?X-Signature=CanarySignature&Key=CanaryKey"));
    vec![
        (Place::Token, Fault::status(500)),
        (Place::Token, json(401)),
        (Place::Token, echo(403, "text/plain")),
        (Place::Token, Fault::Replace(br#"{"token":"CanaryToken\n"}"#.to_vec())),
        (Place::Token, Fault::Replace(br#"{"token":"CanaryToken","expires_in":"CanaryToken"}"#.to_vec())),
        (Place::Token, Fault::HtmlPage),
        (Place::Token, signed("http://127.0.0.1:1")),
        (Place::Registry, json(401)),
        (Place::Registry, echo(403, "text/plain")),
        (Place::Registry, json(404)),
        (Place::Registry, echo(500, "text/plain")),
        (Place::Registry, Fault::Drop(Cut::Rst)),
        (Place::Cdn, Fault::Drop(Cut::Fin)),
        (Place::Cdn, echo(503, "application/xml")),
        (Place::Cdn, Fault::CutAfter { bytes: 0, how: Cut::Rst }),
        (Place::Cdn, Fault::Garbage(b"CanaryGarbage\r\n\r\n".to_vec())),
        (Place::Cdn, Fault::ClaimGzip),
        (Place::Cdn, Fault::Replace(b"wrong".to_vec())),
        (Place::Cdn, Fault::RedirectLoop),
        (Place::Cdn, signed("http://127.0.0.1:1")),
        (Place::Cdn, signed("http://me:CanaryUserinfo@127.0.0.1:1")),
        (Place::Cdn, signed("ftp://127.0.0.1")),
        (Place::Cdn, signed("http://169.254.169.254")),
        (Place::Cdn, Fault::RedirectTo("http://[CanaryNonsense".into())),
        (Place::Registry, signed(world.quoting.cdn_url())),
    ]
}

fn pair(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

/// The texts that no output may hold, and the reason for each.
fn secrets(world: &World) -> Vec<(String, &'static str)> {
    let mut secrets = vec![
        (CANARY.to_owned(), "a secret in clear"),
        (TOKEN.to_owned(), "a token"),
        (pair(USER, PASSWORD), "an upstream's credentials"),
        (pair(USER, "CanaryProxy"), "the proxy's credentials"),
        (pair(USER, "CanaryWrong"), "other credentials for the proxy"),
        (pair("client", "CanaryClient"), "a client's credentials"),
    ];
    for record in world.hub.requests().iter().filter(|record| record.origin == Origin::Cdn) {
        secrets.push((record.query.clone(), "a signed query"));
    }
    assert!(secrets.len() > 6, "no signed address was ever followed");
    secrets
}

impl World {
    fn new() -> World {
        let world = World {
            hub: Hub::builder().account(USER, PASSWORD).start(),
            basic: Hub::builder().basic(USER, PASSWORD).start(),
            strange_realm: Hub::builder()
                .account(USER, PASSWORD)
                .realm("http://auth.example/token?k=CanaryRealm")
                .start(),
            untrusted: Hub::builder().basic(USER, PASSWORD).tls_flawed(Flaw::SelfSigned).start(),
            proxy: Proxy::start().with_login(USER, "CanaryProxy"),
            quoting: Hub::builder().open().start(),
        };
        let quote = "no match: CanarySignature of CanaryKey in X-Signature=CanarySignature&Key=CanaryKey".to_owned();
        let plain = vec![("Content-Type".to_owned(), "text/plain".to_owned())];
        let refusal = Fault::Status { status: 403, headers: plain, body: quote };
        world.quoting.fault(On::anything().at(Origin::Cdn).always(), refusal);
        for hub in [&world.hub, &world.basic, &world.strange_realm, &world.untrusted] {
            hub.image(REPO, "latest").layer(1000).publish();
        }
        world
    }

    fn config(&self, secrets: &Path, format: &str) -> String {
        let proxy = |password: &str| self.proxy.url().replace("http://", &format!("http://{USER}:{password}@"));
        let (right, wrong) = (proxy("CanaryProxy"), proxy("CanaryWrong"));
        let mut text = format!("[log]\nformat = \"{format}\"\n[cache]\nnegative_ttl = \"0s\"\n");
        let mut upstream = |name: &str, url: &str, proxy: Option<&str>| {
            let proxy = proxy.map(|proxy| format!("proxy = \"{proxy}\"\n")).unwrap_or_default();
            text.push_str(&format!(
                "[[upstream]]\nname = \"{name}\"\nurl = \"{url}\"\nusername = \"{USER}\"\npassword_file = {secrets:?}\nallow = [\"**\"]\n{proxy}"
            ));
        };
        upstream("docker.io", self.hub.url(), Some(&right));
        upstream("basic.test", self.basic.url(), None);
        upstream("realm.test", self.strange_realm.url(), None);
        upstream("untrusted.test", self.untrusted.url(), None);
        upstream("refused.test", "http://127.0.0.1:1", None);
        upstream("wrong.test", self.hub.url(), Some(&wrong));
        for number in 0..faults(self).len() {
            upstream(&format!("fault{number}.test"), self.hub.url(), None);
        }
        text
    }
}

/// Asks as the worst of clients, which sends all its credentials to a mirror. Returns the whole
/// answer.
fn asked(lanyard: &Lanyard, method: &str, path: &str) -> (u16, String) {
    let separator = if path.contains('?') { '&' } else { '?' };
    let answer = ask(
        lanyard.port(),
        method,
        &format!("{path}{separator}token=CanaryQuery"),
        &[
            ("Authorization", &format!("Basic {}", pair("client", "CanaryClient"))),
            ("Cookie", "session=CanaryCookie"),
            ("Proxy-Authorization", "Bearer CanaryBearer"),
            ("X-Registry-Auth", "CanaryAuth"),
        ],
    );
    // An answer that is cut short of its length counts as an error.
    let status = if method == "HEAD" || answer.looks_complete() { answer.status } else { 599 };
    (status, format!("{:?}\n{}\n", answer.headers, answer.text()))
}

/// All answers while everything fails; faults that do not concern tokens run at the same time.
/// `run` makes each run's content new.
fn all_faults(world: &World, lanyard: &Lanyard, run: &str) -> String {
    let ask = |number: usize, place: Place, fault: Fault| {
        let digest = world.hub.put_blob(format!("{run} {number}").into_bytes());
        let told = format!("{fault:?}");
        let on = match place {
            Place::Token => On::token(),
            Place::Registry => On::redirect_of(&digest).any_method(),
            Place::Cdn => On::blob(&digest).at(Origin::Cdn),
        };
        world.hub.fault(on.always(), fault);
        let (status, answer) = asked(lanyard, "GET", &format!("{}?ns=fault{number}.test", blob(REPO, &digest)));
        assert!(status >= 500 || status == 404, "{told}: {status}");
        answer
    };
    let (first, rest): (Vec<_>, Vec<_>) =
        faults(world).into_iter().enumerate().partition(|(_, (place, _))| *place == Place::Token);
    let mut seen = String::new();
    for (number, (place, fault)) in first {
        seen.push_str(&ask(number, place, fault));
        world.hub.clear_faults();
    }
    std::thread::scope(|scope| {
        let ask = &ask;
        let all: Vec<_> =
            rest.into_iter().map(|(number, (place, fault))| scope.spawn(move || ask(number, place, fault))).collect();
        seen.extend(all.into_iter().map(|one| one.join().unwrap()));
    });
    world.hub.clear_faults();
    seen
}

/// Everything that lanyard has written after all faults have happened to it.
fn everything(world: &World, format: &str, variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let config = world.config(&password, format);
    let mut lanyard = Lanyard::start_with(&config, variables);
    let mut seen = String::new();
    let mut ask = |method: &str, path: &str| {
        let (status, answer) = asked(&lanyard, method, path);
        seen.push_str(&answer);
        status
    };
    let layer = world.hub.image(REPO, "latest").layer(1000).publish().layer(0).to_owned();
    for method in ["HEAD", "GET"] {
        for ns in ["docker.io", "basic.test"] {
            for path in [manifest(REPO, "latest"), blob(REPO, &layer), format!("/v2/{REPO}/tags/list")] {
                assert_eq!(ask(method, &format!("{path}?ns={ns}")), 200, "{method} {path} at {ns}");
            }
        }
        for ns in ["realm.test", "untrusted.test", "refused.test", "wrong.test"] {
            for path in [manifest(REPO, "latest"), blob(REPO, &digest_of(b"other"))] {
                let status = ask(method, &format!("{path}?ns={ns}"));
                assert!(status >= 500 || status == 404, "{method} {path} at {ns}: {status}");
            }
        }
        ask(method, &manifest(REPO, "missing"));
        ask(method, "http://me:CanaryUserinfo@127.0.0.1/v2/");
        ask(method, "/v2/X/manifests/y?ns=nobody.test");
    }
    seen.push_str(&all_faults(world, &lanyard, &format!("{format} {variables:?}")));
    let mut ask = |method: &str, path: &str| seen.push_str(&asked(&lanyard, method, path).1);
    ask("GET", "/metrics");
    ask("GET", "/");
    for request in [
        "GET /v2/ HTTP/1.1\r\nAuthorization : Basic CanarySpace\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic \u{1}CanaryControl\r\n\r\n",
        "GET CanaryLine\r\n\r\n",
        "\u{16}\u{3}\u{1}CanaryHello",
    ] {
        let mut connection = Connection::open(lanyard.port());
        connection.send(request.as_bytes());
        seen.push_str(&String::from_utf8_lossy(&connection.read_body(12)));
    }
    eventually("the log has come", || lanyard.logs().contains("/metrics"));
    let shown = Command::new(env!("CARGO_BIN_EXE_lanyard"))
        .args(["config", "show", "--config"])
        .arg(lanyard.config_file())
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(shown.status.success());
    seen.push_str(&String::from_utf8_lossy(&shown.stdout));
    assert!(lanyard.stop().success());
    seen + &lanyard.logs()
}

fn assert_no_secret(world: &World, seen: &str) {
    for (secret, what) in secrets(world) {
        let lines: Vec<_> = seen.lines().filter(|line| line.contains(&secret)).take(5).collect();
        assert!(lines.is_empty(), "{what} is shown:\n{}", lines.join("\n"));
    }
}

#[test]
fn s18_no_secret_is_in_a_text_log() {
    let world = World::new();
    let seen = everything(&world, "text", &[("HTTPS_PROXY", "socks5://me:CanaryEnvironment@127.0.0.1:1")]);
    assert_no_secret(&world, &seen);
    assert!(seen.contains("https_proxy"), "a variable that is not used is told by its name");
}

#[test]
fn s18_no_secret_is_in_a_json_log() {
    let world = World::new();
    let seen = everything(&world, "json", &[("HTTP_PROXY", "http://me:CanaryEnvironment@127.0.0.1:1")]);
    assert_no_secret(&world, &seen);
}

#[test]
fn s18_no_secret_is_in_a_log_of_everything() {
    let world = World::new();
    let seen = everything(&world, "text", &[("RUST_LOG", "trace")]);
    assert!(seen.contains("TRACE") && seen.contains("DEBUG"), "everything is logged");
    assert_no_secret(&world, &seen);
}
