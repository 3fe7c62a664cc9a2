//! `lanyard healthcheck`, with the real binary: its request, the certificates that it trusts, and
//! how long it waits.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Output,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    cli::{lanyard, stderr, stdout},
    lanyard::Lanyard,
};

const OFFLINE: &str = "mode = \"offline\"\n";

fn check(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    lanyard(folder.path(), &[&["healthcheck"], arguments].concat(), &[])
}

#[track_caller]
fn healthy(output: &Output, line: &str) {
    assert_eq!((output.status.code(), stdout(output).as_str()), (Some(0), line), "{}", stderr(output));
    assert_eq!(stderr(output), "");
}

/// One line on standard error that holds all of `words`.
#[track_caller]
fn unhealthy(output: &Output, words: &[&str]) {
    let said = stderr(output);
    assert_eq!((output.status.code(), stdout(output).as_str(), said.lines().count()), (Some(1), "", 1), "{said}");
    assert!(said.starts_with("lanyard: ") && words.iter().all(|word| said.contains(word)), "{words:?} in {said}");
}

#[test]
fn a_running_lanyard_is_ready_wherever_its_address_is_said() {
    let mut server = Lanyard::start(OFFLINE);
    // From now on the configuration file has the port.
    server.restart();
    let (port, here) = (server.port(), server.host());
    let file = server.config_file().display().to_string();
    healthy(&check(&["--config", &file]), &format!("{here} is ready\n"));
    healthy(&check(&["--config", &file, "--live"]), &format!("{here} is alive\n"));
    // Addresses that stand for all of them. On the second one nothing listens at ::1.
    for all in ["0.0.0.0", "[::]"] {
        healthy(&check(&["--listen", &format!("{all}:{port}")]), &format!("{here} is ready\n"));
    }
    let folder = tempfile::tempdir().unwrap();
    let output = lanyard(folder.path(), &["healthcheck"], &[("LANYARD__LISTEN", &here)]);
    healthy(&output, &format!("{here} is ready\n"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it makes no folder");

    server.stop();
    unhealthy(&check(&["--config", &file]), &["nothing answers at", &here]);
    server.restart();
    healthy(&check(&["--config", &file]), &format!("{here} is ready\n"));
}

/// A certificate and its key for `name`, as files of the folder.
fn certificate(folder: &Path, name: &str) -> String {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    format!("{OFFLINE}[tls]\ncert = {:?}\nkey = {:?}\n", folder.join("cert.pem"), folder.join("key.pem"))
}

/// Over TLS the certificate itself counts, and not the name in it.
#[test]
fn over_tls_only_the_certificate_of_the_configuration_is_believed() {
    let (folder, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = certificate(folder.path(), "registry.example.com");
    let server = Lanyard::start(&config);
    let here = server.host();
    let with = |name: &str, config: &str| {
        let file = folder.path().join(name);
        fs::write(&file, config).unwrap();
        check(&["--config", file.to_str().unwrap(), "--listen", &here])
    };
    healthy(&with("own.toml", &config), &format!("{here} is ready\n"));
    let other = with("other.toml", &certificate(others.path(), "registry.example.com"));
    unhealthy(&other, &["nothing answers at", &here, "certificate"]);
    // HTTP against an HTTPS server, and the other way round.
    let plain = with("plain.toml", OFFLINE);
    assert_eq!((plain.status.code(), stderr(&plain).lines().count()), (Some(1), 1), "{}", stderr(&plain));
    let plain_server = Lanyard::start(OFFLINE);
    let file = folder.path().join("own.toml");
    let secured = check(&["--config", file.to_str().unwrap(), "--listen", &plain_server.host()]);
    unhealthy(&secured, &["nothing answers at", &plain_server.host()]);
}

/// A listener that does this with the one connection that it accepts.
fn something(act: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        assert!(request.starts_with(b"GET /readyz HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&request));
        act(stream);
    });
    (address, thread)
}

/// A lanyard that is starting or stopping answers 503. A server that is not lanyard is unhealthy,
/// whatever it answers.
#[test]
fn what_is_not_ready_and_what_is_not_lanyard_is_told() {
    for (answer, word) in [
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 10\r\n\r\nnot ready\n", "answers 503"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answers 404"),
        ("HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n", "answers 302"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi\n", "is not lanyard"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "is not lanyard"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n", "is not lanyard"),
        ("HTTP/1.1 é00 OK\r\n\r\nready\n", "is not lanyard"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "is not lanyard"),
        ("", "nothing answers at"),
    ] {
        let (address, thread) = something(move |mut stream| stream.write_all(answer.as_bytes()).unwrap());
        unhealthy(&check(&["--listen", &address.to_string()]), &[&address.to_string(), word]);
        thread.join().unwrap();
    }
}

/// Three seconds, whether no byte comes or one now and then.
#[test]
fn silence_and_a_trickle_end_in_time() {
    let silent = |mut stream: TcpStream| drop(stream.read(&mut [0]));
    let trickling = |mut stream: TcpStream| {
        while stream.write_all(b"H").is_ok() {
            // The rate of the trickle: fifty bytes a second.
            thread::sleep(Duration::from_millis(20));
        }
    };
    let endless = |mut stream: TcpStream| while stream.write_all(&[b'x'; 4096]).is_ok() {};
    for (address, thread) in [something(silent), something(trickling), something(endless)] {
        let begun = Instant::now();
        let output = check(&["--listen", &address.to_string()]);
        assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(1), 1), "{}", stderr(&output));
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        thread.join().unwrap();
    }
}

#[test]
fn what_cannot_be_asked_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    unhealthy(&check(&["--listen", "127.0.0.1:0"]), &["port 0", "--listen"]);
    let bad = folder.path().join("bad.toml");
    fs::write(&bad, "mode = \"fast\"\ncolour = 1\n").unwrap();
    unhealthy(&check(&["--config", bad.to_str().unwrap()]), &["2 problems", "lanyard config check"]);
    fs::write(folder.path().join("key.pem"), "no key").unwrap();
    fs::write(folder.path().join("cert.pem"), "no certificate").unwrap();
    let config =
        format!("[tls]\ncert = {:?}\nkey = {:?}\n", folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&bad, config).unwrap();
    let output = check(&["--config", bad.to_str().unwrap()]);
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(1), 1), "{}", stderr(&output));
}
