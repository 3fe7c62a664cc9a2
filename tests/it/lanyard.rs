//! The real binary, run as its user runs it: `lanyard serve --config FILE`, on a free port of
//! 127.0.0.1.
//!
//! The data folder belongs to the value and outlives the process, so a test can stop or kill the
//! server and start it again on the same folder. The port then stays the same, as clients have it
//! in their configuration. All output of the server is kept, and shown when the test fails.
//! Dropping the value kills the server.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long the server may take to be ready, or to end. The whole time passes only when it hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the server is looked at while a test waits for its start or its end.
const POLL: Duration = Duration::from_millis(5);
/// The text before the address in the line that says that the server is ready.
const READY: &str = "listening on http";
/// The variable with the path of the configuration file, for a server that is a test of this
/// binary.
pub(crate) const CONFIG: &str = "LANYARD_TEST_CONFIG";

/// A lanyard and its data folder.
pub(crate) struct Lanyard {
    process: Option<Process>,
    folder: tempfile::TempDir,
    config: String,
    variables: Vec<(String, String)>,
    /// The words before the server's command: a program that changes the surroundings and becomes
    /// the server (`exec`).
    through: Vec<String>,
    /// The command of the server: a program and its arguments.
    server: Vec<String>,
    port: u16,
    said: Arc<Mutex<Vec<String>>>,
}

struct Process {
    child: Child,
    readers: Vec<JoinHandle<()>>,
}

impl Lanyard {
    /// Starts a server on an empty data folder. `config` is TOML without `listen` and `data_dir`.
    /// Unless the server becomes ready, panics with all of its output.
    pub(crate) fn start(config: &str) -> Self {
        Lanyard::start_with(config, &[])
    }

    /// The same with variables in its environment, which is otherwise almost empty.
    pub(crate) fn start_with(config: &str, variables: &[(&str, &str)]) -> Self {
        let mut lanyard = Lanyard::prepare(config);
        lanyard.variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        lanyard.run();
        lanyard
    }

    /// The same, not started yet: [`Lanyard::restart`] starts it.
    pub(crate) fn prepare(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut lanyard = Lanyard {
            process: None,
            folder,
            config: config.to_owned(),
            variables: Vec::new(),
            through: Vec::new(),
            server: Vec::new(),
            port: 0,
            said: Arc::default(),
        };
        let file = lanyard.config_file().display().to_string();
        lanyard.server = [env!("CARGO_BIN_EXE_lanyard"), "serve", "--config", &file].map(str::to_owned).to_vec();
        lanyard
    }

    /// Makes the next starts through this program and its arguments, which must become the server
    /// by `exec`, so that it keeps its process id. Without words: as usual.
    pub(crate) fn through(&mut self, words: &[&str]) {
        self.through = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Makes the next starts run an ignored test of this binary. That test serves by the file that
    /// the variable [`CONFIG`] names, and says that it is ready as the real server does.
    pub(crate) fn as_test(&mut self, name: &str) {
        let this = std::env::current_exe().expect("a test has a path");
        let this = this.to_str().expect("its path is UTF-8");
        self.server = [this, "--exact", name, "--ignored", "--nocapture"].map(str::to_owned).to_vec();
        self.variables.push((CONFIG.to_owned(), self.config_file().display().to_string()));
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

    /// Its process id, or `None` while it is stopped.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Its configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("lanyard.toml")
    }

    /// Its data folder.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// All of its standard output and error so far, in the order in which it arrived.
    pub(crate) fn logs(&self) -> String {
        self.said.lock().expect("no reader panics").join("\n")
    }

    /// Asks it to end (SIGTERM) and waits until it has. Panics when it takes longer than the
    /// patience of this module, or is not running.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.end(Signal::TERM)
    }

    /// Kills it by SIGKILL: it has no chance to tidy up.
    pub(crate) fn kill9(&mut self) {
        self.end(Signal::KILL);
    }

    /// Starts it again on the same data folder and port, after [`Lanyard::stop`] if it is still
    /// running.
    pub(crate) fn restart(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
        self.run();
    }

    /// Starts it as [`Lanyard::restart`] does, but an end before it is ready is a result and not a
    /// failure.
    pub(crate) fn try_restart(&mut self) -> Result<(), ExitStatus> {
        if self.process.is_some() {
            self.stop();
        }
        self.try_run()
    }

    /// Its exit status, if it has ended by itself or by another's signal; from then on it is
    /// stopped.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.child.try_wait().expect("a child can be waited for")?;
        let process = self.process.take()?;
        process.readers.into_iter().for_each(|reader| reader.join().expect("no reader panics"));
        Some(status)
    }

    /// Changes the configuration for the next start.
    pub(crate) fn reconfigure(&mut self, config: &str) {
        config.clone_into(&mut self.config);
    }

    /// Starts it again by the test's own command, which becomes the server with
    /// [`Lanyard::config_file`].
    pub(crate) fn restart_as(&mut self, command: Command) {
        if let Err(ended) = self.run_as(command) {
            panic!("lanyard ended with {ended} before it was ready");
        }
    }

    fn run(&mut self) {
        if let Err(ended) = self.try_run() {
            panic!("lanyard ended with {ended} before it was ready");
        }
    }

    fn try_run(&mut self) -> Result<(), ExitStatus> {
        let mut words = self.through.iter().chain(&self.server);
        let mut command = Command::new(words.next().expect("a program"));
        // Neither settings nor proxies of the person who runs the suite reach it.
        command.args(words).env_clear();
        self.run_as(command)
    }

    fn run_as(&mut self, mut command: Command) -> Result<(), ExitStatus> {
        let head = format!("listen = \"{}\"\ndata_dir = {:?}\n", self.host(), self.data_dir());
        fs::write(self.config_file(), head + &self.config).expect("a file in the temporary folder");
        let mut child = command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_BACKTRACE", "1")
            .envs(self.roomy())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary under test can be started");
        // The output of an earlier run stays, but does not make this run ready.
        let before = self.said.lock().expect("no reader panics").len();
        let out = child.stdout.take().map(|pipe| self.keep(pipe));
        let err = child.stderr.take().map(|pipe| self.keep(pipe));
        self.process = Some(Process { child, readers: [out, err].into_iter().flatten().collect() });
        self.port = self.wait_until_ready(before)?;
        Ok(())
    }

    /// The free space on this machine's disk matters only to a test that sets a limit of its own.
    fn roomy(&self) -> Option<(&str, &str)> {
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

    fn wait_until_ready(&mut self, before: usize) -> Result<u16, ExitStatus> {
        let until = Instant::now() + PATIENCE;
        loop {
            let port = self.said.lock().expect("no reader panics").iter().skip(before).find_map(|line| port_in(line));
            if let Some(port) = port {
                return Ok(port);
            }
            if let Some(ended) = self.ended() {
                return Err(ended);
            }
            assert!(Instant::now() < until, "lanyard never said that it is {READY}");
            std::thread::sleep(POLL);
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
            std::thread::sleep(POLL);
        };
        process.readers.into_iter().for_each(|reader| reader.join().expect("no reader panics"));
        status
    }
}

/// The port in a line that says that the server is ready.
fn port_in(line: &str) -> Option<u16> {
    let address = line.split_once(READY)?.1.split_once("://")?.1;
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

/// The driver keeps its own promises: the same port and folder after a restart, and no process when
/// dropped.
#[test]
fn lanyard_comes_back_where_it_was() {
    let mut lanyard = Lanyard::start("");
    let (port, first) = (lanyard.port(), lanyard.pid());
    assert!(lanyard.logs().contains(&format!("{READY}://127.0.0.1:{port}")), "{}", lanyard.logs());
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
