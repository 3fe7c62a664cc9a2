//! `lanyard user`: the file of users.
//!
//! A password is typed on a terminal that does not show it, or is the first line of standard input.
//! It is never an argument, which every other user of the machine could read.

use std::{
    io::{self, BufRead, IsTerminal, Write, stderr, stdin},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{
    config_args::{ConfigArgs, told},
    exit::{fail, print},
};
use crate::access::edit;

/// What to do with the file.
#[derive(Subcommand, Debug)]
pub(super) enum User {
    /// Add a user, or change a user's password
    ///
    /// Asks for the password twice. If standard input is not a terminal, its first line is the
    /// password. A running lanyard knows the change within seconds.
    Add {
        /// The user's name
        name: String,
        #[command(flatten)]
        file: UserFile,
    },
    /// Remove a user
    Rm {
        /// The user's name
        name: String,
        #[command(flatten)]
        file: UserFile,
    },
    /// Print the names of all users
    Ls {
        #[command(flatten)]
        file: UserFile,
    },
}

/// The arguments that name the file of users.
#[derive(Args, Debug)]
pub(super) struct UserFile {
    /// The file of users; it is created if it is missing
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Without --file: the configuration file whose `[auth] htpasswd` names the file of users
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl UserFile {
    fn path(self) -> Result<PathBuf, String> {
        if let Some(path) = self.file {
            return Ok(path);
        }
        let loaded = ConfigArgs::of_file(self.config).load().map_err(|problems| told(&problems))?;
        loaded.config.auth.htpasswd.ok_or_else(|| {
            "lanyard: which file? Name it with --file, or with --config a configuration that sets auth.htpasswd\n"
                .to_owned()
        })
    }
}

impl User {
    pub(super) fn run(self) -> ExitCode {
        let (done, path) = match self {
            User::Add { name, file } => with(file, |path| {
                let password = password().map_err(|error| format!("cannot read the password: {error}"))?;
                let was_there = edit::set(path, &name, &password).map_err(|error| error.to_string())?;
                Ok(if was_there {
                    format!("Changed the password of user {name}.\n")
                } else {
                    format!("Added user {name}.\n")
                })
            }),
            User::Rm { name, file } => with(file, |path| match edit::remove(path, &name) {
                Ok(true) => Ok(format!("Removed user {name}.\n")),
                Ok(false) => Err(format!("there is no user {name:?}")),
                Err(error) => Err(error.to_string()),
            }),
            User::Ls { file } => with(file, |path| {
                let names = edit::names(path).map_err(|error| error.to_string())?;
                Ok(names.iter().map(|name| format!("{name}\n")).collect())
            }),
        };
        match (done, path) {
            (Ok(text), _) => print(&text),
            (Err(error), Some(path)) => fail(&format!("lanyard: {}: {error}\n", path.display())),
            (Err(error), None) => fail(&error),
        }
    }
}

/// What `work` did with the file, and the file's path if it is known.
fn with(
    file: UserFile,
    work: impl FnOnce(&std::path::Path) -> Result<String, String>,
) -> (Result<String, String>, Option<PathBuf>) {
    match file.path() {
        Ok(path) => (work(&path), Some(path)),
        Err(error) => (Err(error), None),
    }
}

fn password() -> io::Result<String> {
    if !stdin().is_terminal() {
        return line();
    }
    let unseen = Unseen::begin()?;
    let first = asked("Password: ")?;
    let second = asked("Once more: ")?;
    drop(unseen);
    if first == second { Ok(first) } else { Err(io::Error::other("the two entries differ")) }
}

fn asked(prompt: &str) -> io::Result<String> {
    let mut terminal = stderr();
    terminal.write_all(prompt.as_bytes())?;
    terminal.flush()?;
    let line = line();
    // The terminal did not show the key that ended the line.
    terminal.write_all(b"\n")?;
    line
}

fn line() -> io::Result<String> {
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// While this lives, the terminal does not show what is typed.
struct Unseen(Termios);

impl Unseen {
    fn begin() -> io::Result<Unseen> {
        let before = tcgetattr(stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Unseen(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.0);
    }
}
