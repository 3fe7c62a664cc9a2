//! The arguments that name a configuration, and the configuration that they lead to.
//!
//! All values are checked together, so that all problems are told at once, each with its source.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use clap::Args;

use super::exit::fail;
use crate::{
    access,
    config::{Config, Flags, Inputs, Loaded, Problem, Source},
};

/// The arguments of every command that reads the whole configuration.
#[derive(Args, Debug, Default)]
pub(super) struct ConfigArgs {
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

impl ConfigArgs {
    /// The arguments of a command that takes the file alone.
    pub(super) fn of_file(config: Option<PathBuf>) -> ConfigArgs {
        ConfigArgs { config, ..ConfigArgs::default() }
    }

    /// The configuration from the arguments, the environment and the file.
    pub(super) fn load(self) -> Result<Loaded, Vec<Problem>> {
        Config::load(&Inputs {
            file: self.config,
            environment: std::env::vars_os().collect(),
            flags: Flags { listen: self.listen, data_dir: self.data_dir, mode: self.mode },
        })
    }

    /// As [`ConfigArgs::load`]. A file of users or a lock file that is not one is a problem too.
    pub(super) fn load_with_files(self) -> Result<Loaded, Vec<Problem>> {
        let loaded = self.load()?;
        let key = "auth.htpasswd";
        let checked = loaded.config.auth.htpasswd.as_deref().map_or(Ok(()), access::check);
        checked.map_err(|error| {
            let source = loaded.provenance.source(key).cloned().unwrap_or(Source::Default);
            vec![Problem { source, key: key.to_owned(), what: format!("the file {error}") }]
        })?;
        let unread = loaded.unread_lock_files();
        if unread.is_empty() { Ok(loaded) } else { Err(unread) }
    }
}

/// The arguments of commands that work on a data folder.
#[derive(Args, Debug)]
pub(super) struct FolderArgs {
    /// The configuration file of the lanyard in question; without it none is read
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its data folder
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// Print JSON, for programs
    #[arg(long)]
    pub(super) json: bool,
}

impl FolderArgs {
    /// The configuration. On problems, prints them and returns the exit code.
    pub(super) fn config(self) -> Result<Config, ExitCode> {
        let args = ConfigArgs { data_dir: self.data_dir, ..ConfigArgs::of_file(self.config) };
        args.load().map(|loaded| loaded.config).map_err(|problems| fail(&told(&problems)))
    }
}

/// One line for each problem, and a last line with their number.
pub(super) fn told(problems: &[Problem]) -> String {
    let mut text = problems.iter().fold(String::new(), |mut text, problem| {
        let _ = writeln!(text, "{problem}");
        text
    });
    let noun = if problems.len() == 1 { "problem" } else { "problems" };
    let _ = writeln!(text, "lanyard: {} {noun} in the configuration", problems.len());
    text
}
