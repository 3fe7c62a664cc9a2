//! The layers put together.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{
    Config, Problem, Provenance, check, environment, file,
    layer::{Layer, Layers, Origin},
    schema, show,
};

/// Where the configuration is read from. The default is nowhere: then every value is its default.
#[derive(Clone, Default, Debug)]
pub struct Sources {
    /// The file of `--config`. None: no file is read.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not begin with `LANYARD__` are passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// What stands on the command line.
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

/// A configuration without a problem.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The checked values.
    pub config: Config,
    /// Who said each of them.
    pub provenance: Provenance,
}

impl Loaded {
    /// Every value in force as TOML, with who said it as a comment. Without secrets: it may go into a bug report.
    pub fn show(&self) -> String {
        show::show(&self.provenance)
    }
}

impl Config {
    /// Reads every source and the files they name (passwords, trust anchors).
    ///
    /// # Errors
    /// Every problem there is, sorted by source and line. Of a file that is not TOML only the syntax errors are known.
    pub fn load(sources: &Sources) -> Result<Loaded, Vec<Problem>> {
        let mut problems = Vec::new();
        let file = match &sources.file {
            Some(path) => file::read(Path::new(path), &mut problems),
            None => Layer::new(Origin::File),
        };
        let file_is_whole = problems.is_empty();
        let environment = environment::read(&sources.environment, &mut problems);
        let mut layers = Layers([Layer::defaults(), file, environment, Layer::flags(&sources.flags)]);
        for layer in &mut layers.0 {
            schema::prune(layer, &mut problems);
        }
        match check::check(&layers) {
            Ok(loaded) if problems.is_empty() => return Ok(loaded),
            Ok(_) => {}
            // Without its file, a configuration lacks upstreams that a variable may rightly name.
            Err(more) if !file_is_whole => problems.extend(more.into_iter().filter(|p| p.key != "default_upstream")),
            Err(more) => problems.extend(more),
        }
        problems.sort();
        Err(problems)
    }
}
