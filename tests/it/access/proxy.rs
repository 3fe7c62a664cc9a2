//! docs/PROXY.md, word for word: nginx in front of lanyard, with TLS.
//!
//! Without nginx the test is left out and says so; with `LANYARD_REQUIRE_CLIENTS=1` that is a
//! failure.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};

use super::{ANN, BOB, House, MANIFEST, Small, basic};

const BOOK: &str = include_str!("../../../docs/PROXY.md");

/// The block of docs/PROXY.md in this language.
fn block(language: &str) -> &'static str {
    let (_, rest) = BOOK.split_once(&format!("```{language}\n")).expect("the book has such a block");
    rest.split_once("```").expect("the block ends").0
}

/// A running nginx. Dropping it ends it.
struct Nginx {
    process: Child,
    port: u16,
    roots: RootCertStore,
    _folder: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program, or none with the reason why the test is left out.
fn nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join("nginx")).find(|file| file.is_file());
    if found.is_none() {
        let reason = "nginx is not installed (Debian package nginx-light)";
        assert!(std::env::var("LANYARD_REQUIRE_CLIENTS").as_deref() != Ok("1"), "{reason}");
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // The output of eprintln! would be captured when the test passes.
        let _ = std::io::stderr().write_all(format!("left out: {reason}; {test} was not run\n").as_bytes());
    }
    found
}

/// The block of the document, with this machine's addresses and files in place of the document's.
fn configuration(folder: &Path, port: u16, lanyard: u16) -> String {
    let mut server = block("nginx").to_owned();
    for (theirs, ours) in [
        ("listen 443 ssl;", format!("listen 127.0.0.1:{port} ssl;")),
        ("/etc/nginx/registry.crt", folder.join("cert.pem").display().to_string()),
        ("/etc/nginx/registry.key", folder.join("key.pem").display().to_string()),
        ("http://127.0.0.1:5000;", format!("http://127.0.0.1:{lanyard};")),
    ] {
        assert_eq!(server.matches(theirs).count(), 1, "{theirs} is in the book");
        server = server.replace(theirs, &ours);
    }
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}{server}}}\n"
    )
}

impl Nginx {
    fn start(program: &Path, lanyard: u16) -> Nginx {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["registry.example.com".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        // nginx does not accept port 0, so a free port is looked for. nginx exits when another
        // process takes that port first.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (file, log) = (folder.path().join("nginx.conf"), folder.path().join("error.log"));
        fs::write(&file, configuration(folder.path(), port, lanyard)).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file).arg("-e").arg(&log);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut nginx = Nginx { process, port, roots, _folder: folder };
        let until = Instant::now() + Duration::from_secs(20);
        while nginx.process.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return nginx;
            }
            assert!(Instant::now() < until, "nginx does not listen");
            std::thread::yield_now();
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        assert!(said.contains("Address already in use"), "{said}");
        Nginx::start(program, lanyard)
    }

    /// One request over TLS, from this address of the machine: its status, its head in lower case,
    /// and its body.
    fn ask(&self, from: u8, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String, Vec<u8>) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0)).into()).unwrap();
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).into()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(self.roots.clone()).with_no_client_auth();
        let session = ClientConnection::new(Arc::new(config), "registry.example.com".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(session, TcpStream::from(socket));
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: registry.example.com:{}\r\nContent-Length: {}\r\nConnection: close\r\n",
            self.port,
            body.len()
        );
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(&[head.as_bytes(), b"\r\n", body].concat()).unwrap();
        let mut answer = Vec::new();
        // nginx may end the connection without close_notify.
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, answer[end + 4..].to_vec())
    }

    /// The requests of a client that wants to push: it asks, reads in the challenge where to sign
    /// in, and signs in there.
    fn token(&self, from: u8, login: (&str, &str), spoofed: &[(&str, &str)]) -> Result<String, u16> {
        let (status, head, _) = self.ask(from, "POST", "/v2/team/app/blobs/uploads/", spoofed, b"");
        assert_eq!(status, 401);
        let realm = format!("realm=\"https://registry.example.com:{}/v2/token\"", self.port);
        assert!(head.contains(&realm), "{realm} in {head}");
        let path = "/v2/token?service=lanyard&scope=repository:team/app:pull,push";
        let authorization = basic(login);
        let headers = [spoofed, &[("Authorization", authorization.as_str())]].concat();
        match self.ask(from, "GET", path, &headers, b"") {
            (200, _, body) => {
                let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
                Ok(format!("Bearer {}", answer["token"].as_str().unwrap()))
            }
            (status, ..) => Err(status),
        }
    }
}

/// lanyard as the document configures it, at a port of its own.
fn house() -> House {
    let settings = block("toml").lines().filter(|line| !line.starts_with('#') && !line.starts_with("listen"));
    House::start(&settings.collect::<Vec<_>>().join("\n"), "")
}

#[test]
fn the_book_puts_nginx_with_tls_in_front() {
    let Some(program) = nginx() else { return };
    let house = house();
    let nginx = Nginx::start(&program, house.port());
    // A client can neither send others to another address nor pretend to be another client.
    let spoofed = [
        ("Forwarded", "for=192.0.2.1;proto=http;host=evil.example"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "evil.example"),
    ];
    for more in [&[][..], &spoofed] {
        let token = nginx.token(1, ANN, more).unwrap();
        let image = Small::new("through nginx");
        let post = format!("/v2/team/app/blobs/uploads/?digest={}", image.blob());
        let signed = [("Authorization", token.as_str())];
        assert_eq!(nginx.ask(1, "POST", &post, &signed, &image.layer).0, 201);
        // In two steps, as docker does it: the upload goes on below the same host.
        let (status, head, _) = nginx.ask(1, "POST", "/v2/team/app/blobs/uploads/", &signed, b"");
        let place = head.lines().find_map(|line| line.to_lowercase().strip_prefix("location: ").map(str::to_owned));
        let place = place.expect("a place");
        assert!(status == 202 && place.starts_with("/v2/team/app/blobs/uploads/"), "{place}");
        let layer = vec![7; 3 << 20];
        assert_eq!(nginx.ask(1, "PATCH", &place, &signed, &layer).0, 202);
        let digest = crate::hub::digest_of(&layer);
        assert_eq!(nginx.ask(1, "PUT", &format!("{place}?digest={digest}"), &signed, b"").0, 201);
        let typed = [signed[0], ("Content-Type", MANIFEST)];
        assert_eq!(nginx.ask(1, "PUT", "/v2/team/app/manifests/v1", &typed, &image.manifest).0, 201);
        let (status, _, body) = nginx.ask(1, "GET", "/v2/team/app/manifests/v1", more, b"");
        assert_eq!((status, body), (200, image.manifest.clone()));
        let (status, _, body) = nginx.ask(1, "GET", &format!("/v2/team/app/blobs/{digest}"), more, b"");
        assert!(status == 200 && body == layer);
    }
    // Ten wrong passwords of one client behind the proxy, which claims another address each time.
    for guess in 0..10 {
        let spoofed = [("X-Forwarded-For", &*format!("198.51.100.{guess}"))];
        assert_eq!(nginx.token(2, ("ann", &format!("guess{guess}")), &spoofed), Err(401));
    }
    assert_eq!(nginx.token(2, ANN, &[("X-Forwarded-For", "198.51.100.99")]), Err(429));
    assert!(nginx.token(2, BOB, &[]).is_ok() && nginx.token(3, ANN, &[]).is_ok(), "nobody else notices");
    assert_eq!(nginx.ask(1, "GET", "/metrics", &[], b"").0, 404, "only the registry is passed on");
}

/// The other keys in the document exist.
#[test]
fn the_book_is_a_configuration() {
    let text = block("toml").replace("#public_url", "public_url");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lanyard.toml");
    fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lanyard"))
        .args(["config", "check", "--config"])
        .arg(&file)
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `public_url` comes before everything that a request states.
#[test]
fn public_url_comes_before_every_header() {
    let house = House::start("public_url = \"https://registry.example.com:8443/\"", "");
    for headers in
        [&[][..], &[("Forwarded", "proto=http;host=x")], &[("X-Forwarded-Host", "x"), ("X-Forwarded-Proto", "http")]]
    {
        let told = house.ask("GET", "/v2/", headers);
        let expected = "Bearer realm=\"https://registry.example.com:8443/v2/token\",service=\"lanyard\"";
        assert_eq!((told.status, told.header("www-authenticate")), (401, Some(expected)), "{headers:?}");
    }
}
