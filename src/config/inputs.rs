//! The inputs that a configuration is read from. The command line fills them in for `load.rs`.

use std::{ffi::OsString, path::PathBuf};

/// The file, the environment and the flags. The default is empty: then every value is its default.
#[derive(Clone, Default, Debug)]
pub struct Inputs {
    /// The file of `--config`. None: no file is read.
    pub file: Option<PathBuf>,
    /// Environment variables. Those that do not begin with `LANYARD__` are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// The settings on the command line.
    pub flags: Flags,
}

/// Flags that are settings, as they were written.
#[derive(Clone, Default, Debug)]
pub struct Flags {
    /// `--listen`
    pub listen: Option<String>,
    /// `--data-dir`
    pub data_dir: Option<String>,
    /// `--mode`
    pub mode: Option<String>,
}
