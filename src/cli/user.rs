//! `lanyard user`: the file of users. A password is typed where nobody sees it, or comes on standard input; never as an
//! argument, which every other user of the machine could read.

use std::{
    io::{self, BufRead, IsTerminal, Write, stderr, stdin},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{Settings, fail, print, told};
use crate::access::edit;

#[derive(Subcommand, Debug)]
pub(super) enum User {
    /// Add a user, or change a user's password
    ///
    /// Asks for the password twice; where standard input is no terminal, its first line is the password. A running lanyard
    /// knows within seconds.
    Add {
        /// The user's name
        name: String,
        #[command(flatten)]
        file: UserFile,
    },
    /// Take a user away
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

/// Which file of users.
#[derive(Args, Debug)]
pub(super) struct UserFile {
    /// The file of users; it is made where it is missing
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The configuration file whose `[auth] htpasswd` is meant where there is no --file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl UserFile {
    fn path(self) -> Result<PathBuf, String> {
        if let Some(path) = self.file {
            return Ok(path);
        }
        let settings = Settings { config: self.config, ..Settings::default() };
        let loaded = settings.load().map_err(|problems| told(&problems))?;
        loaded.config.auth.htpasswd.ok_or_else(|| {
            "lanyard: which file? Say it with --file, or name the configuration that has it with --config\n".to_owned()
        })
    }
}

impl User {
    pub(super) fn run(self) -> ExitCode {
        let (done, path) = match self {
            User::Add { name, file } => with(file, |path| {
                let password = password().map_err(|error| format!("no password: {error}"))?;
                let was_there = edit::set(path, &name, &password).map_err(|error| error.to_string())?;
                Ok(if was_there { format!("{name} has a new password\n") } else { format!("{name} was added\n") })
            }),
            User::Rm { name, file } => with(file, |path| match edit::remove(path, &name) {
                Ok(true) => Ok(format!("{name} was taken away\n")),
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

/// What was done with the file, and which it is, where that is known.
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
    if first == second { Ok(first) } else { Err(io::Error::other("the two are not the same")) }
}

fn asked(prompt: &str) -> io::Result<String> {
    let mut terminal = stderr();
    terminal.write_all(prompt.as_bytes())?;
    terminal.flush()?;
    let line = line();
    // The key that ended the line was not shown either.
    terminal.write_all(b"\n")?;
    line
}

fn line() -> io::Result<String> {
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// A terminal that does not show what is typed, while this lives.
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
