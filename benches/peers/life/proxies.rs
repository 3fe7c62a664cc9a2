//! The servers that are compared, as caches with the same upstream and the same cap.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::{
    fast_clock::{self, FastClock},
    folder::NAMESPACE,
};
use crate::servers::{Kind, Server, finds, run_nginx};

/// How long a lanyard may take to open its socket.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server caches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    Lanyard,
    /// lanyard with a wall clock that is [`fast_clock::RATE`] times as fast: it counts a use once a
    /// minute, and a replay of days takes a minute.
    Hurried,
    Nginx,
    Distribution,
}

impl Proxy {
    pub(crate) fn name(self) -> String {
        match self {
            Proxy::Lanyard => "lanyard".to_owned(),
            Proxy::Hurried => format!("lanyard, its clock {} times as fast", fast_clock::RATE),
            Proxy::Nginx => "nginx, proxy_cache".to_owned(),
            Proxy::Distribution => "docker-registry, proxy".to_owned(),
        }
    }

    fn is_lanyard(self) -> bool {
        matches!(self, Proxy::Lanyard | Proxy::Hurried)
    }

    /// Those of the servers that this machine has.
    pub(crate) fn here(all: &[Proxy]) -> Vec<Proxy> {
        let is_here = |proxy: &Proxy| match proxy {
            Proxy::Lanyard => true,
            Proxy::Hurried => FastClock::is_here(),
            Proxy::Nginx => finds("nginx"),
            Proxy::Distribution => finds("docker-registry"),
        };
        let (here, missing): (Vec<_>, Vec<_>) = all.iter().copied().partition(is_here);
        missing.iter().for_each(|proxy| eprintln!("left out: {} (its program is not here)", proxy.name()));
        here
    }
}

/// A running cache with an empty folder of its own.
pub(crate) struct Cache {
    pub(crate) proxy: Proxy,
    pub(crate) server: Server,
    data: tempfile::TempDir,
    _clock: Option<FastClock>,
}

impl Cache {
    /// Starts it; `cap` in bytes, `connections` to the upstream at a time for lanyard.
    pub(crate) fn start(proxy: Proxy, upstream: u16, cap: u64, connections: usize, cpus: &str) -> Cache {
        let data = tempfile::tempdir().unwrap();
        let clock = (proxy == Proxy::Hurried).then(FastClock::start);
        let server = match proxy {
            Proxy::Lanyard | Proxy::Hurried => {
                let mut variables = vec![("LANYARD__CACHE__MAX_SIZE", format!("{cap} B"))];
                variables.extend(clock.iter().flat_map(FastClock::variables));
                Server::lanyard_with(data.path(), &mirror(upstream, connections), &variables, cpus)
            }
            Proxy::Nginx => Server::of(
                Kind::Nginx,
                |folder, port| run_nginx(folder, &proxy_cache(data.path(), port, upstream, cap)),
                cpus,
            ),
            Proxy::Distribution => {
                Server::of(Kind::Distribution, |folder, port| registry_proxy(folder, data.path(), port, upstream), cpus)
            }
        };
        let cache = Cache { proxy, server: server.listening(), data, _clock: clock };
        if proxy.is_lanyard() {
            wait_until_counted(cache.data.path(), true);
        }
        cache
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// The folders whose bytes the cap is for.
    pub(crate) fn content(&self) -> Vec<PathBuf> {
        match self.proxy {
            Proxy::Lanyard | Proxy::Hurried => {
                ["blobs", "fills", "tmp"].map(|name| self.data.path().join(name)).to_vec()
            }
            Proxy::Nginx | Proxy::Distribution => vec![self.data.path().to_owned()],
        }
    }

    /// The sum of lanyard's metrics whose lines begin so; 0 for the others.
    pub(crate) fn metric(&self, named: &str) -> u64 {
        if !self.proxy.is_lanyard() {
            return 0;
        }
        let text = ask(self.server.port, "GET", "/metrics");
        let numbers = text.lines().filter(|line| line.starts_with(named));
        numbers.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// The most bytes that lanyard itself counts against its cap.
    pub(crate) fn own_count(&self) -> Option<u64> {
        self.proxy.is_lanyard().then(|| self.metric("lanyard_cache_bytes{"))
    }
}

/// Configuration of a lanyard with this upstream.
pub(crate) fn mirror(upstream: u16, connections: usize) -> String {
    format!(
        "[[upstream]]\nname = \"{NAMESPACE}\"\nurl = \"http://127.0.0.1:{upstream}\"\nconnections = {connections}\n"
    )
}

/// Waits until the blobs are counted, and until the index is there if there is to be one.
pub(crate) fn wait_until_counted(data: &Path, with_index: bool) {
    loop {
        let status = ask_socket(data, "GET", "/api/v1/status");
        if status.contains("\"counted\":true") && (status.contains("\"index\":true") || !with_index) {
            return;
        }
        // The interval of the poll; it is not a part of a measurement.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One request to a lanyard's own socket. Returns the whole answer.
pub(crate) fn ask_socket(data: &Path, method: &str, target: &str) -> String {
    let socket = data.join(lanyard::admin::SOCKET);
    // A lanyard that has just begun to listen opens it a moment later.
    let until = Instant::now() + PATIENCE;
    let mut stream = loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < until, "{}: {error}", socket.display()),
        }
        std::thread::yield_now();
    };
    exchange(&mut stream, method, target)
}

fn ask(port: u16, method: &str, target: &str) -> String {
    exchange(&mut TcpStream::connect(("127.0.0.1", port)).unwrap(), method, target)
}

fn exchange(stream: &mut (impl Read + Write), method: &str, target: &str) -> String {
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn proxy_cache(data: &Path, port: u16, upstream: u16, cap: u64) -> String {
    format!(
        "proxy_cache_path {} levels=1:2 keys_zone=all:50m max_size={cap} inactive=30d use_temp_path=off;\n\
         upstream registry {{ server 127.0.0.1:{upstream}; keepalive 64; }}\n\
         server {{ listen 127.0.0.1:{port} backlog=4096; location / {{\n\
           proxy_pass http://registry; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
           proxy_cache all; proxy_cache_key $uri; proxy_cache_valid 200 30d; proxy_cache_lock on;\n\
           proxy_cache_lock_timeout 60s; proxy_cache_lock_age 60s; }} }}",
        data.display()
    )
}

fn registry_proxy(folder: &Path, data: &Path, port: u16, upstream: u16) -> Command {
    // It has no cap. Later versions than 2.8.2 have `ttl`; this one ignores the key, and removes
    // each blob a week after it came.
    let config = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n\
         storage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
         \x20 cache:\n    blobdescriptor: inmemory\n\
         http:\n  addr: 127.0.0.1:{port}\nproxy:\n  remoteurl: http://127.0.0.1:{upstream}\n  ttl: 10s\n",
        data.display()
    );
    fs::write(folder.join("config.yml"), config).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(folder.join("config.yml"));
    command
}
