//! The servers that are measured, each with the same content, on one half of the machine.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::content::{Blob, Content};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// lanyard or a peer. All but `Logging` have their access log off.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Lanyard,
    Nginx,
    Distribution,
    /// lanyard with its access log, written to nowhere.
    Logging,
    /// nginx without `open_file_cache`: it opens the file for each request.
    Opening,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Lanyard, Kind::Nginx, Kind::Distribution];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Lanyard => "lanyard",
            Kind::Nginx => "nginx",
            Kind::Distribution => "docker-registry",
            Kind::Logging => "lanyard, access log on",
            Kind::Opening => "nginx without open_file_cache",
        }
    }

    /// Whether this machine has the program.
    pub(crate) fn is_here(self) -> bool {
        match self {
            Kind::Lanyard | Kind::Logging => true,
            Kind::Nginx | Kind::Opening => finds("nginx"),
            Kind::Distribution => finds("docker-registry"),
        }
    }
}

/// Whether a program is on the path.
pub(crate) fn finds(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The servers whose programs are here. Names the others on standard error.
pub(crate) fn here() -> Vec<Kind> {
    let (here, missing): (Vec<_>, Vec<_>) = Kind::ALL.into_iter().partition(|kind| kind.is_here());
    missing.iter().for_each(|kind| eprintln!("left out: {} is not here", kind.name()));
    here
}

/// A running server. Dropping it ends it.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server, with or without TLS, on the processors `cpus`. Its folder is on the disk
    /// that `TMPDIR` names.
    pub(crate) fn start(kind: Kind, content: &Content, tls: bool, cpus: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let command = match kind {
            Kind::Lanyard | Kind::Logging => {
                let mut command = lanyard(folder.path(), port, &content.lanyard(), &of_hosted(content, tls));
                command.env("RUST_LOG", if kind == Kind::Logging { "info" } else { "warn" });
                command
            }
            Kind::Nginx => nginx(folder.path(), port, content, tls, "open_file_cache max=100;"),
            Kind::Opening => nginx(folder.path(), port, content, tls, ""),
            Kind::Distribution => distribution(folder.path(), port, content, tls),
        };
        Server { kind, port, child: spawn(&command, cpus), _folder: folder }.listening()
    }

    /// A lanyard with this data folder and these lines of configuration.
    pub(crate) fn lanyard(data: &Path, config: &str, cpus: &str) -> Server {
        Server::lanyard_with(data, config, &[], cpus)
    }

    /// The same with variables of the environment.
    pub(crate) fn lanyard_with(data: &Path, config: &str, variables: &[(&str, String)], cpus: &str) -> Server {
        let make = |folder: &Path, port| {
            let mut command = lanyard(folder, port, data, config);
            command.env("RUST_LOG", "warn").envs(variables.iter().map(|(name, value)| (*name, value)));
            command
        };
        Server::of(Kind::Lanyard, make, cpus)
    }

    /// A server whose command is made for a folder of its own and a free port.
    pub(crate) fn of(kind: Kind, make: impl FnOnce(&Path, u16) -> Command, cpus: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let command = make(folder.path(), port);
        Server { kind, port, child: spawn(&command, cpus), _folder: folder }
    }

    /// An nginx with the content's blobs, for use as lanyard's upstream. `rate` is in bytes per
    /// second and connection.
    pub(crate) fn upstream(content: &Content, rate: Option<u64>, cpus: &str) -> Server {
        Server::of(Kind::Nginx, |folder, port| upstream(folder, port, content, rate), cpus).listening()
    }

    /// Waits until the server accepts connections.
    pub(crate) fn listening(self) -> Server {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "{} does not listen", self.kind.name());
            std::thread::yield_now();
        }
        self
    }

    /// The path of a blob.
    pub(crate) fn blob(&self, digest: &str) -> String {
        match self.kind {
            Kind::Nginx | Kind::Opening => format!("/{}", digest.replace(':', "-")),
            Kind::Lanyard | Kind::Logging | Kind::Distribution => format!("/v2/bench/image/blobs/{digest}"),
        }
    }

    /// The path of a manifest, by its digest.
    pub(crate) fn manifest(&self, digest: &str) -> String {
        match self.kind {
            Kind::Nginx | Kind::Opening => format!("/{}", digest.replace(':', "-")),
            Kind::Lanyard | Kind::Logging | Kind::Distribution => format!("/v2/bench/image/manifests/{digest}"),
        }
    }

    /// Has the kernel drop a blob's pages from the page cache, in the file where this server keeps
    /// it.
    pub(crate) fn forget(&self, content: &Content, blob: &Blob) {
        let hex = blob.digest.trim_start_matches("sha256:");
        let path = match self.kind {
            Kind::Lanyard | Kind::Logging => content.lanyard().join(format!("blobs/sha256/{}/{hex}", &hex[..2])),
            Kind::Nginx | Kind::Opening => content.file(blob),
            Kind::Distribution => {
                content.distribution().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
            }
        };
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }

    /// The processor time that the server and its children have used so far.
    pub(crate) fn cpu(&self) -> Duration {
        self.family().iter().map(|pid| cpu_of(*pid)).sum()
    }

    /// Resident memory in MiB, without the pages of files, which belong to the machine's cache.
    pub(crate) fn memory(&self) -> f64 {
        self.family().iter().map(|pid| memory_of(*pid)).sum()
    }

    /// The processor time of those of its threads whose name begins so.
    pub(crate) fn cpu_of_threads(&self, named: &str) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().flatten();
        let named = threads
            .filter(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.starts_with(named)));
        // In nanoseconds; the ticks of `stat` are too coarse for one thread.
        let of = |thread: fs::DirEntry| {
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            text.split_whitespace().next().and_then(|ran| ran.parse::<u64>().ok()).unwrap_or_default()
        };
        Duration::from_nanos(named.map(of).sum())
    }

    fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let text = fs::read_to_string(children).unwrap_or_default();
        family.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        family
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

fn cpu_of(pid: u32) -> Duration {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return Duration::ZERO };
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    // proc(5): a tick is a hundredth of a second on every Linux that this runs on.
    Duration::from_millis(ticks * 10)
}

fn memory_of(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Starts the command on these processors.
fn spawn(command: &Command, cpus: &str) -> Child {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", cpus]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        pinned.env(name, value.unwrap_or_default());
    }
    pinned.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The configuration of a lanyard that has only pushed content.
fn of_hosted(content: &Content, tls: bool) -> String {
    let tls = match tls {
        true => format!("[tls]\ncert = {:?}\nkey = {:?}\n", content.cert(), content.key()),
        false => String::new(),
    };
    format!("mode = \"offline\"\n{tls}")
}

fn lanyard(folder: &Path, port: u16, data: &Path, more: &str) -> Command {
    let config = format!("listen = \"127.0.0.1:{port}\"\ndata_dir = {data:?}\n{more}\n[cache]\nmin_free = \"0%\"\n");
    fs::write(folder.join("lanyard.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanyard"));
    command.args(["serve", "--config"]).arg(folder.join("lanyard.toml"));
    command
}

fn nginx(folder: &Path, port: u16, content: &Content, tls: bool, cache: &str) -> Command {
    let listen = match tls {
        true => format!(
            "listen 127.0.0.1:{port} ssl backlog=4096; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;\n\
             ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;",
            content.cert().display(),
            content.key().display()
        ),
        false => format!("listen 127.0.0.1:{port} backlog=4096;"),
    };
    run_nginx(folder, &format!("{cache} server {{ {listen} root {}; }}", content.files().display()))
}

fn upstream(folder: &Path, port: u16, content: &Content, rate: Option<u64>) -> Command {
    let rate = rate.map_or(String::new(), |rate| format!("limit_rate {rate};"));
    let files = content.files();
    let blobs =
        format!("location ~ ^/v2/bench/image/blobs/sha256:([0-9a-f]+)$ {{ alias {}/sha256-$1; }}", files.display());
    run_nginx(folder, &format!("server {{ listen 127.0.0.1:{port} backlog=4096; {rate} {blobs} }}"))
}

/// nginx with one worker and `http` as its `http` block.
pub(crate) fn run_nginx(folder: &Path, http: &str) -> Command {
    let here = folder.display();
    let config = format!(
        "daemon off; worker_processes 1; pid {here}/pid; error_log {here}/error.log crit;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
           default_type application/octet-stream;\n\
           client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f;\n\
           uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
           {http} }}\n"
    );
    fs::write(folder.join("nginx.conf"), config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    command
}

fn distribution(folder: &Path, port: u16, content: &Content, tls: bool) -> Command {
    let tls = match tls {
        true => format!(
            "  tls:\n    certificate: {}\n    key: {}\n    minimumtls: tls1.3\n",
            content.cert().display(),
            content.key().display()
        ),
        false => String::new(),
    };
    let config = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
         \x20 cache:\n    blobdescriptor: inmemory\nhttp:\n  addr: 127.0.0.1:{port}\n{tls}",
        content.distribution().display()
    );
    fs::write(folder.join("config.yml"), config).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(folder.join("config.yml"));
    command
}

/// The version that a program prints.
pub(crate) fn version(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let Ok(output) = output else { return "not here".to_owned() };
    let said = [output.stdout, output.stderr].concat();
    let line = BufReader::new(&*said).lines().map_while(Result::ok).next().unwrap_or_default();
    line.split_whitespace().find(|word| word.contains(|c: char| c.is_ascii_digit())).unwrap_or("?").to_owned()
}
