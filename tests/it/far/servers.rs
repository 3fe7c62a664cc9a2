//! Real object stores on this machine: versitygw and moto for S3, azurite for Azure Blob.
//!
//! They are found in `$LANYARD_STORES/bin`, or in the search path. A store that this machine does
//! not have is left out, and its test says so on the real standard error; with
//! `LANYARD_REQUIRE_STORES=1` that is a failure.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// How long a server may take until it listens.
const STARTS: Duration = Duration::from_secs(60);

/// The account of azurite, and its key. Both are in its documentation.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A store that runs, with a bucket `registry`.
pub(super) struct Server {
    child: Child,
    /// `[storage]` for it.
    pub(super) config: String,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `[storage]` of an S3 store, with credentials in files of `folder`.
pub(super) fn s3_config(folder: &Path, address: SocketAddr) -> String {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    format!(
        "[storage]\nkind = \"s3\"\nbucket = \"registry\"\nprefix = \"lanyard/a\"\nendpoint = \"http://{address}\"\n\
         access_key_id_file = \"{}\"\nsecret_access_key_file = \"{}\"\n",
        write("id", "lanyardkey\n"),
        write("secret", "lanyardsecret\n"),
    )
}

fn program(name: &str) -> Option<PathBuf> {
    let own = std::env::var_os("LANYARD_STORES").map(|folder| PathBuf::from(folder).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    own.into_iter().chain(std::env::split_paths(&path)).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Says why the test is not run.
fn left_out(reason: &str) {
    assert!(std::env::var_os("LANYARD_REQUIRE_STORES").is_none(), "{reason}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = std::io::stderr().write_all(format!("left out: {reason}; {test} was not run\n").as_bytes());
}

/// Starts a program that is told a port, until one is free for it. None where there is no such
/// program, or where it does not run.
fn start(name: &str, arguments: impl Fn(u16, &Path) -> Vec<String>) -> Option<(Child, SocketAddr, tempfile::TempDir)> {
    let Some(program) = program(name) else {
        left_out(&format!("{name} is not on this machine"));
        return None;
    };
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        // A port that the kernel gives to nobody: between a look for a free one and its use,
        // another test would get it, and be taken for this server.
        let address = SocketAddr::from(([127, 0, 0, 1], rand::random_range(20_000..32_000)));
        if TcpListener::bind(address).is_err() {
            continue;
        }
        let mut command = Command::new(&program);
        // A proxy or a trust of this machine is none of theirs.
        for variable in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "AWS_CA_BUNDLE"] {
            command.env_remove(variable);
        }
        let mut child = command
            .args(arguments(address.port(), folder.path()))
            .env("ROOT_ACCESS_KEY", "lanyardkey")
            .env("ROOT_SECRET_KEY", "lanyardsecret")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + STARTS;
        while child.try_wait().unwrap().is_none() && Instant::now() < until {
            if TcpStream::connect(address).is_ok() {
                return Some((child, address, folder));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    left_out(&format!("{name} does not run"));
    None
}

/// versitygw over a folder: it checks signatures, and refuses small parts.
pub(super) fn versitygw() -> Option<Server> {
    let (child, address, folder) = start("versitygw", |port, folder| {
        let kept = folder.join("buckets");
        fs::create_dir_all(kept.join("registry")).unwrap();
        ["--port", &format!("127.0.0.1:{port}"), "posix", kept.to_str().unwrap()].map(str::to_owned).to_vec()
    })?;
    Some(Server { child, config: s3_config(folder.path(), address), _folder: folder })
}

/// moto, which keeps everything in memory.
pub(super) fn moto() -> Option<Server> {
    let (child, address, folder) =
        start("moto_server", |port, _| ["-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec())?;
    let made = crate::raw::finish(&mut crate::raw::send(address, "PUT", "/registry", &[("Content-Length", "0")]));
    assert_eq!(made.status, 200);
    Some(Server { child, config: s3_config(folder.path(), address), _folder: folder })
}

/// azurite, Microsoft's emulator.
pub(super) fn azurite() -> Option<Server> {
    let (child, address, folder) = start("azurite-blob", |port, folder| {
        let port = port.to_string();
        let location = folder.join("azurite");
        [
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            &port,
            "--location",
            location.to_str().unwrap(),
            "--skipApiVersionCheck",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain(["--silent".to_owned(), "--disableTelemetry".to_owned()])
        .collect()
    })?;
    make_container(address);
    let key = folder.path().join("key");
    fs::write(&key, ACCOUNT_KEY).unwrap();
    let config = format!(
        "[storage]\nkind = \"azure\"\nbucket = \"registry\"\nprefix = \"lanyard/a\"\naccount = \"{ACCOUNT}\"\n\
         endpoint = \"http://{address}/{ACCOUNT}\"\naccount_key_file = \"{}\"\n",
        key.display()
    );
    Some(Server { child, config, _folder: folder })
}

/// Makes the container, with a signature of the account's key.
fn make_container(address: SocketAddr) {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let signed = format!(
        "PUT{}x-ms-date:{date}\nx-ms-version:2021-08-06\n/{ACCOUNT}/{ACCOUNT}/registry\nrestype:container",
        "\n".repeat(12)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(ACCOUNT_KEY).unwrap());
    let signature = STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
    let headers = [
        ("x-ms-date", date.as_str()),
        ("x-ms-version", "2021-08-06"),
        ("Authorization", &format!("SharedKey {ACCOUNT}:{signature}")),
        ("Content-Length", "0"),
    ];
    let path = format!("/{ACCOUNT}/registry?restype=container");
    let made = crate::raw::finish(&mut crate::raw::send(address, "PUT", &path, &headers));
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.rest));
}
