//! The real binary, run as its user runs it: `lanyard serve --config FILE`, on a free port of 127.0.0.1.
//!
//! The data folder belongs to the value and outlives the process, so that a test can stop or kill the server and
//! start it again on what it left. The port stays the same then, as clients have it in their configuration.
//! Everything the server says is kept and shown when the test fails; dropped, the server is killed.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long the server may take to say that it listens, or to end. Spent only when something hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the server prints before its address once it is ready.
const READY: &str = "listening on http://";

/// A lanyard and its data folder.
pub(crate) struct Lanyard {
    process: Option<Process>,
    folder: tempfile::TempDir,
    config: String,
    port: u16,
    said: Arc<Mutex<Vec<String>>>,
}

struct Process {
    child: Child,
    readers: Vec<JoinHandle<()>>,
}

impl Lanyard {
    /// Starts a server on an empty data folder. `config` is TOML without `listen` and `data_dir`. Panics with
    /// everything the server said unless it becomes ready.
    pub(crate) fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = config.to_owned();
        let mut lanyard = Lanyard { process: None, folder, config, port: 0, said: Arc::default() };
        lanyard.run();
        lanyard
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process, or `None` while it is stopped.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Its data folder.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Everything it has written to its standard output and error so far, in the order in which it arrived.
    pub(crate) fn logs(&self) -> String {
        self.said.lock().expect("no reader panics").join("\n")
    }

    /// Asks it to end (SIGTERM) and waits until it has. Panics when it takes longer than the patience of this module,
    /// or is not running.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.end(Signal::TERM)
    }

    /// Kills it as a power cut would: it gets no chance to tidy up.
    pub(crate) fn kill9(&mut self) {
        self.end(Signal::KILL);
    }

    /// Starts it again on the same data folder and port, after [`Lanyard::stop`] if it is still running.
    pub(crate) fn restart(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
        self.run();
    }

    /// Changes the configuration for the next start.
    pub(crate) fn reconfigure(&mut self, config: &str) {
        config.clone_into(&mut self.config);
    }

    fn run(&mut self) {
        let file = self.folder.path().join("lanyard.toml");
        let head = format!("listen = \"{}\"\ndata_dir = {:?}\n", self.host(), self.data_dir());
        fs::write(&file, head + &self.config).expect("a file in the temporary folder");
        let mut child = Command::new(env!("CARGO_BIN_EXE_lanyard"))
            .args(["serve", "--config"])
            .arg(&file)
            // Neither settings nor proxies of the person who runs the suite reach it.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_BACKTRACE", "1")
            .envs(self.room())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary under test can be started");
        // What an earlier run said stays, but does not count as this one being ready.
        let before = self.said.lock().expect("no reader panics").len();
        let out = child.stdout.take().map(|pipe| self.keep(pipe));
        let err = child.stderr.take().map(|pipe| self.keep(pipe));
        self.process = Some(Process { child, readers: [out, err].into_iter().flatten().collect() });
        self.port = self.wait_until_ready(before);
    }

    /// The disk of whoever runs the suite may be nearly full, which is no reason to store nothing; unless the test is about
    /// that.
    fn room(&self) -> Option<(&'static str, &'static str)> {
        (!self.config.contains("min_free")).then_some(("LANYARD__CACHE__MIN_FREE", "0%"))
    }

    fn keep(&self, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        let said = self.said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                said.lock().expect("no reader panics").push(String::from_utf8_lossy(&line).into_owned());
            }
        })
    }

    fn wait_until_ready(&mut self, before: usize) -> u16 {
        let until = Instant::now() + PATIENCE;
        loop {
            let port = self.said.lock().expect("no reader panics").iter().skip(before).find_map(|line| port_in(line));
            if let Some(port) = port {
                return port;
            }
            let ended = self.process.as_mut().and_then(|process| process.child.try_wait().ok()?);
            assert!(ended.is_none(), "lanyard ended with {ended:?} before it was ready");
            assert!(Instant::now() < until, "lanyard never said that it is {READY}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        let mut process = self.process.take().expect("lanyard is running");
        kill_process(Pid::from_child(&process.child), signal).expect("a child can be signalled");
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = process.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if Instant::now() >= until {
                self.process = Some(process);
                panic!("lanyard did not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        process.readers.into_iter().for_each(|reader| reader.join().expect("no reader panics"));
        status
    }
}

/// The port in a line that says that the server is ready.
fn port_in(line: &str) -> Option<u16> {
    let address = line.split_once(READY)?.1;
    let address = address.split(|end: char| end.is_whitespace() || end == '/').next()?;
    address.rsplit_once(':')?.1.parse().ok()
}

impl Drop for Lanyard {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.child.kill();
            let _ = process.child.wait();
            process.readers.into_iter().for_each(|reader| drop(reader.join()));
        }
        if std::thread::panicking() {
            eprintln!("lanyard said:\n{}", self.logs());
        }
    }
}

/// The driver keeps its own promises: the same port and folder after a restart, and nothing left when dropped.
#[test]
fn lanyard_comes_back_where_it_was() {
    let mut lanyard = Lanyard::start("");
    let (port, first) = (lanyard.port(), lanyard.pid());
    assert!(lanyard.logs().contains(&format!("{READY}127.0.0.1:{port}")), "{}", lanyard.logs());
    assert!(lanyard.data_dir().is_dir());

    lanyard.restart();
    assert_eq!(lanyard.port(), port);
    assert_ne!(lanyard.pid(), first);
    assert!(std::net::TcpStream::connect(lanyard.host()).is_ok(), "nothing listens at {}", lanyard.url());

    lanyard.kill9();
    assert_eq!(lanyard.pid(), None);
    lanyard.restart();
    let (host, folder) = (lanyard.host(), lanyard.data_dir());
    drop(lanyard);
    assert!(std::net::TcpStream::connect(host).is_err(), "something still listens");
    assert!(!folder.exists());
}
