//! The machine that a client believes it runs on: a mount and a process namespace of its own over
//! one temporary folder.
//!
//! A client in a cell leaves nothing behind, however the test ends: its mounts and processes go
//! with the namespaces, its files with the folder. None of the machine's own configuration reaches
//! it either: `/run`, `/var/lib`, `/opt` and `/dev/shm` are empty, `/etc/docker` and
//! `/etc/containers` are folders of the cell, and Docker Hub's names lead to a [`HubWatch`]. A cell
//! needs root. Only the drivers of this folder use it.
//!
//! A cell shares this machine's network, or it is another host behind a [`Link`], whose connections
//! do not come from this machine.
//!
//! A cell's process is killed when the thread that started it ends, so a killed suite leaves
//! nothing running. A daemon must therefore be started by a thread that outlives it.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::child::{PATIENCE, end_family, eventually, wait};
use super::link::Link;
use super::watch::HubWatch;

/// Furnishes the cell from inside its namespaces, and then becomes the client.
const FURNISH: &str = r#"set -e
mount --bind "$CELL/etc/hosts" /etc/hosts
for folder in /run /var/lib /opt /dev/shm; do
    if [ -d "$folder" ]; then mount -t tmpfs cell "$folder"; fi
done
mkdir /run/lock
for name in docker containers; do
    if [ -d "/etc/$name" ]; then mount --bind "$CELL/etc/$name" "/etc/$name"; fi
done
exec "$@""#;

/// Where podman, buildah and skopeo keep their logins. Their default is below `/run`, which is new
/// for each run.
const SIGNED_IN: &str = "auth.json";

/// See the module.
pub(crate) struct Cell {
    watch: HubWatch,
    folder: tempfile::TempDir,
    runs: AtomicUsize,
    /// The link to it, if it is another host.
    link: Option<Link>,
}

impl Cell {
    /// An empty cell.
    pub(crate) fn new() -> Self {
        Cell::with(HubWatch::start(), None)
    }

    /// An empty cell at the far end of this link.
    pub(crate) fn behind(link: Link) -> Self {
        Cell::with(HubWatch::start_on(link.near()), Some(link))
    }

    fn with(watch: HubWatch, link: Option<Link>) -> Self {
        // Unix sockets below it must stay under 108 bytes, so the name is short.
        let folder = tempfile::Builder::new().prefix("cell").tempdir().expect("a temporary folder");
        let cell = Cell { watch, folder, runs: AtomicUsize::new(0), link };
        for name in ["etc/docker", "etc/containers", "home", "tmp"] {
            fs::create_dir_all(cell.path(name)).expect("a folder in the cell");
        }
        cell.write("etc/hosts", &cell.watch.hosts_file());
        cell.write(SIGNED_IN, "{}");
        cell
    }

    /// A path in the cell's folder. It is the same inside and outside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same path as text, for configuration files and arguments.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("temporary folders have UTF-8 names").to_owned()
    }

    /// Writes a file in the cell's folder, with the folders it needs, and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a folder in the cell");
        fs::write(path, text).expect("a file in the cell");
        self.text(name)
    }

    /// How many times a client in this cell went to Docker Hub itself.
    pub(crate) fn hub_asked(&self) -> usize {
        self.watch.asked()
    }

    /// Whether overlay filesystems can be mounted here; they cannot on top of another overlay, as
    /// in most containers.
    pub(crate) fn overlay(&self) -> bool {
        let script = r#"cd "$CELL/tmp" && mkdir l u w m && mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m"#;
        self.run("sh", &["-c", script]).is_ok()
    }

    /// Runs a program to its end and returns its standard output; the error holds all of its
    /// output. A program that hangs is killed after [`PATIENCE`].
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let number = self.runs.fetch_add(1, Ordering::SeqCst);
        let (out, err) = (self.path(&format!("out{number}")), self.path(&format!("err{number}")));
        let mut child = Running(self.spawn(program, args, &out, &err));
        let status = wait(&mut child.0, PATIENCE);
        let said = read(&out);
        match status {
            Some(status) if status.success() => Ok(said),
            Some(status) => Err(format!("{program} {args:?} ended with {status}:\n{said}{}", read(&err))),
            None => Err(format!("{program} {args:?} hung and was killed:\n{said}{}", read(&err))),
        }
    }

    /// Starts a daemon and waits until it accepts connections on the Unix socket `socket`.
    pub(crate) fn daemon(&self, program: &str, args: &[&str], socket: &str) -> Daemon {
        let name = Path::new(program).file_name().expect("a program has a name").to_string_lossy();
        let log = self.path(&format!("{name}.log"));
        let mut daemon = Daemon { process: Running(self.spawn(program, args, &log, &log)), log };
        let ready = eventually(PATIENCE, || match daemon.process.0.try_wait() {
            Ok(None) => UnixStream::connect(socket).is_ok().then_some(true),
            _ => Some(false),
        });
        assert_eq!(ready, Some(true), "{program} did not start:\n{}", read(&daemon.log));
        daemon
    }

    fn spawn(&self, program: &str, args: &[&str], out: &Path, err: &Path) -> Child {
        let open = |path: &Path| File::options().create(true).append(true).open(path).expect("a log in the cell");
        let elsewhere = self.link.iter().flat_map(|link| ["nsenter".to_owned(), format!("--net={}", link.namespace())]);
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(elsewhere)
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", FURNISH, "sh", program])
            .args(args)
            .env_clear()
            .env("PATH", search_path())
            .env("CELL", self.folder.path())
            .env("HOME", self.path("home"))
            // docker 20.10 builds with BuildKit only when this says so; no other program reads it.
            .env("DOCKER_BUILDKIT", "1")
            .env("TMPDIR", self.path("tmp"))
            .env("REGISTRY_AUTH_FILE", self.path(SIGNED_IN))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(open(out))
            .stderr(open(err))
            .spawn()
            .expect("setpriv and unshare (Debian package util-linux) can be started")
    }
}

/// The search path for programs: the distribution's own come first, as their behaviour is known.
pub(crate) fn search_path() -> std::ffi::OsString {
    let mut path = std::ffi::OsString::from("/usr/sbin:/usr/bin:/sbin:/bin:");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// A process of a cell. Dropping it ends it and all its children.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            end_family(&mut self.0);
        }
    }
}

/// A daemon of a cell, ended when dropped. A test that fails shows its log.
pub(crate) struct Daemon {
    process: Running,
    log: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), read(&self.log));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::{available, child::eventually};

    /// How many processes have the cell's name in their environment, as all processes of the cell
    /// do.
    fn alive(cell: &Path) -> usize {
        let cell = format!("CELL={}", cell.display());
        let processes = fs::read_dir("/proc").expect("there is a /proc").flatten();
        let environments = processes.filter_map(|process| fs::read(process.path().join("environ")).ok());
        environments.filter(|environment| String::from_utf8_lossy(environment).contains(&cell)).count()
    }

    #[test]
    fn a_cell_takes_its_processes_and_files_with_it() {
        if !available(&[("sh", "dash")]) {
            return;
        }
        let cell = Cell::new();
        let (folder, log) = (cell.folder.path().to_owned(), cell.path("log"));
        let script = r#"mkdir "$CELL/m" && mount -t tmpfs t "$CELL/m" && touch "$CELL/m/x"; sleep 600 & sleep 600"#;
        let running = Running(cell.spawn("sh", &["-c", script], &log, &log));
        // setpriv's process becomes unshare's; below it are the shell and its two sleeps.
        assert!(eventually(PATIENCE, || (alive(&folder) == 4).then_some(())).is_some(), "{}", read(&log));
        drop(running);
        assert_eq!(alive(&folder), 0);
        assert!(!cell.path("m/x").exists(), "a mount of the cell is seen outside");
        drop(cell);
        assert!(!folder.exists());
    }
}
