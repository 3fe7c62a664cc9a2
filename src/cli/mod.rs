//! The command line. [`run`] promises: what was asked for goes to standard output, what went wrong to standard
//! error, and the exit code is 0, or what `serve` answers, or one of these:
//!
//! | code | when |
//! |---|---|
//! | 1 | it failed; `check`: something is damaged, and is not repaired; `healthcheck`: not ready |
//! | 64 | the command or the configuration has to be changed |
//! | 69 | no lanyard runs on the data folder |
//! | 74 | the answer cannot be written |
//! | 75 | not now: the data folder is in use, or takes no change |

mod check;
mod healthcheck;
mod manage;
pub mod setup;
mod socket;
mod user;

use std::{
    ffi::OsString,
    fmt::Write as _,
    io::{self, ErrorKind, Write, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    access,
    config::{Config, Flags, Loaded, Problem, Source, Sources},
};
use setup::{Client, Server};
use user::User;

/// `EX_USAGE` of sysexits.h: the command or the configuration has to be changed.
const USAGE: u8 = 64;
/// `EX_UNAVAILABLE` of sysexits.h: nobody is there to do it.
const UNAVAILABLE: u8 = 69;
/// `EX_IOERR` of sysexits.h: the answer could not be written.
const OUTPUT: u8 = 74;
/// `EX_TEMPFAIL` of sysexits.h: the same command may work later.
const SUSPENDED: u8 = 75;
/// It failed.
const FAILED: u8 = 1;

/// A pull-through caching container registry for a LAN.
///
/// Without a command it runs the registry: a mirror of Docker Hub on port 5000 that keeps everything in ./data.
#[derive(Parser, Debug)]
#[command(name = "lanyard", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the registry; the same as no command at all
    Serve(Settings),
    /// Look at the configuration without running anything
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Say what a running lanyard keeps and does
    Status(manage::StatusOf),
    /// Remove what was pushed and is not needed any more
    ///
    /// A running lanyard does the same by itself every ten minutes: links of hosted repositories to blobs that none of
    /// their manifests needs, blobs that no repository holds, uploads abandoned for a day. Manifests are never removed,
    /// tagged or not, nor is anything that was uploaded, mounted or asked for within
    /// `hosted.gc_grace` (an hour by default) unless `--now` is given, and nothing that was pulled
    /// from upstream.
    Gc(manage::Gc),
    /// Verify everything in the data folder; lanyard must not be running on it
    ///
    /// Reads every blob and compares it with its digest, reads every tag and link, and looks for what they need. Exits
    /// with 0 when all is well, with 1 when something is damaged, with 75 when a running lanyard has the folder.
    Check(check::Check),
    /// Ask the running lanyard whether it is ready for clients
    ///
    /// One request to the address that the configuration has, for a container's health check:
    /// 0.0.0.0 is asked at loopback, and over TLS only the certificate of `tls.cert` is taken.
    /// Exits with 0 when lanyard is ready, else with 1.
    Healthcheck(healthcheck::Healthcheck),
    /// Manage the file of users
    User {
        #[command(subcommand)]
        command: User,
    },
    /// Print the configuration that points a client at lanyard
    Setup {
        /// Whose configuration to print
        client: Client,
        /// Where the client reaches lanyard, like `https://registry.lan`
        #[arg(long, value_name = "URL", default_value = Server::DEFAULT)]
        server: String,
    },
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Report every problem, each with where it was said
    Check(Settings),
    /// Print every value in force and where it was said, without secrets
    Show(Settings),
}

/// What every command takes that reads the configuration. Values are checked with the rest of it, so that all
/// problems are told at once.
#[derive(Args, Debug, Default)]
struct Settings {
    /// The configuration file; without it none is read
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on, like 0.0.0.0:5000
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The folder where everything is kept
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// When upstreams are asked: auto, online or offline
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
}

impl Settings {
    fn load(self) -> Result<Loaded, Vec<Problem>> {
        Config::load(&Sources {
            file: self.config,
            environment: std::env::vars_os().collect(),
            flags: Flags { listen: self.listen, data_dir: self.data_dir, mode: self.mode },
        })
    }

    /// The same with a look into the file of users, for whoever is about to serve them.
    fn load_with_users(self) -> Result<Loaded, Vec<Problem>> {
        let loaded = self.load()?;
        let key = "auth.htpasswd";
        let checked = loaded.config.auth.htpasswd.as_deref().map_or(Ok(()), access::check);
        checked.map_err(|error| {
            let source = loaded.provenance.source(key).cloned().unwrap_or(Source::Default);
            vec![Problem { source, key: key.to_owned(), what: format!("the file {error}") }]
        })?;
        Ok(loaded)
    }
}

/// Which data folder, for commands that look after one.
#[derive(Args, Debug)]
struct Folder {
    /// The configuration file of the lanyard in question; without it none is read
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its data folder
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Folder {
    /// The configuration, or the exit code after its problems were told.
    fn config(self) -> Result<Config, ExitCode> {
        let settings = Settings { config: self.config, data_dir: self.data_dir, ..Settings::default() };
        settings.load().map(|loaded| loaded.config).map_err(|problems| fail(&told(&problems)))
    }
}

/// Does what the arguments say; the first is the program's name. `serve` runs the registry and is called at most once.
pub fn run(arguments: impl IntoIterator<Item = OsString>, serve: impl FnOnce(Loaded) -> ExitCode) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(answer) if answer.use_stderr() => return fail(&answer.render().to_string()),
        Err(answer) => return print(&answer.render().to_string()),
    };
    match arguments.command.unwrap_or(Command::Serve(arguments.settings)) {
        Command::Serve(settings) => match settings.load_with_users() {
            Ok(loaded) => serve(loaded),
            Err(problems) => fail(&told(&problems)),
        },
        Command::Config { command: ConfigCommand::Check(settings) } => match settings.load_with_users() {
            Ok(loaded) => {
                for word in loaded.advice() {
                    let _ = writeln!(stderr(), "warning: {word}");
                }
                print("The configuration is good.\n")
            }
            Err(problems) => fail(&told(&problems)),
        },
        Command::Config { command: ConfigCommand::Show(settings) } => match settings.load() {
            Ok(loaded) => print(&loaded.show()),
            Err(problems) => fail(&told(&problems)),
        },
        Command::Status(status) => status.run(),
        Command::Gc(gc) => gc.run(),
        Command::Check(check) => check.run(),
        Command::Healthcheck(healthcheck) => healthcheck.run(),
        Command::User { command } => command.run(),
        Command::Setup { client, server } => match server.parse::<Server>() {
            Ok(server) => {
                let setup = client.setup(&server);
                let _ = stderr().write_all(setup.notes.as_bytes());
                print(&setup.text)
            }
            Err(error) => fail(&format!("lanyard: --server: {error}\n")),
        },
    }
}

/// One line for each problem, and their number.
fn told(problems: &[Problem]) -> String {
    let mut text = problems.iter().fold(String::new(), |mut text, problem| {
        let _ = writeln!(text, "{problem}");
        text
    });
    let noun = if problems.len() == 1 { "problem" } else { "problems" };
    let _ = writeln!(text, "lanyard: {} {noun} in the configuration", problems.len());
    text
}

/// A reader that has seen enough, like `head`, is no error.
fn print(text: &str) -> ExitCode {
    let written: io::Result<()> = stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(stderr(), "lanyard: standard output cannot be written: {error}");
            ExitCode::from(OUTPUT)
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

fn fail(text: &str) -> ExitCode {
    fail_with(USAGE, text)
}

/// Where standard error is closed there is nobody left to tell; the exit code still says it.
fn fail_with(code: u8, text: &str) -> ExitCode {
    let _ = stderr().write_all(text.as_bytes());
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_command_is_serve() {
        for line in [vec!["lanyard", "--listen", "127.0.0.1:0"], vec!["lanyard", "serve", "--listen", "127.0.0.1:0"]] {
            let mut listen = None;
            run(line.into_iter().map(OsString::from), |loaded| {
                listen = Some(loaded.config.listen);
                ExitCode::SUCCESS
            });
            assert_eq!(listen, Some("127.0.0.1:0".parse().unwrap()));
        }
    }
}
