//! Puts the layers together: defaults, file, environment, flags, each over the one before. The
//! command line calls [`Config::load`] once at the start, and again for `config check` and
//! `config show`.

use super::{
    check, environment, file,
    freeze::Freeze,
    inputs::Inputs,
    keys::Config,
    layer::{Layer, LayerKind, Layers},
    lock_file::LockFile,
    problem::{Problem, Provenance, Source},
    schema, show,
};

/// A configuration without a problem.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The checked values.
    pub config: Config,
    /// Where each of them was said.
    pub provenance: Provenance,
}

impl Loaded {
    /// A problem for each rule of tags whose lock file cannot be read (T5). Blocks.
    pub fn unread_lock_files(&self) -> Vec<Problem> {
        let mut unread = Vec::new();
        for (index, rule) in self.config.tag_rules.iter().enumerate() {
            if let Some(Freeze::File(path)) = &rule.freeze
                && let Err(error) = LockFile::of_rule(path)
            {
                let source = self.provenance.tag_rule(index, "freeze").cloned().unwrap_or(Source::Default);
                unread.push(Problem::new(source, format!("tags[{index}].freeze"), error.to_string()));
            }
        }
        unread
    }

    /// Every value in force as TOML, with its source as a comment. It holds no secrets, so it may
    /// go into a bug report.
    pub fn show(&self) -> String {
        show::show(&self.provenance)
    }
}

impl Config {
    /// Reads every source and the files they name (passwords, trust anchors).
    ///
    /// # Errors
    /// Every problem, sorted by source and line. If the file is not TOML, only its syntax errors
    /// are known.
    pub fn load(inputs: &Inputs) -> Result<Loaded, Vec<Problem>> {
        let mut problems = Vec::new();
        let file = match &inputs.file {
            Some(path) => file::read(path, &mut problems),
            None => Layer::new(LayerKind::File),
        };
        let file_is_whole = problems.is_empty();
        let environment = environment::read(&inputs.environment, &mut problems);
        let mut layers = Layers([Layer::defaults(Config::KEYS), file, environment, Layer::flags(&inputs.flags)]);
        for layer in &mut layers.0 {
            schema::prune(layer, &mut problems);
        }
        match check::check(&layers) {
            Ok((config, provenance)) if problems.is_empty() => return Ok(Loaded { config, provenance }),
            Ok(_) => {}
            // A variable may name an upstream of the file that could not be read.
            Err(more) if !file_is_whole => problems.extend(more.into_iter().filter(|p| p.key != "default_upstream")),
            Err(more) => problems.extend(more),
        }
        problems.sort();
        Err(problems)
    }
}
