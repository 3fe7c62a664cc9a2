//! oras, helm, regctl, crane and cosign: tools for registries. Debian has none of them, so their
//! tests run where the tools are on the path.

use std::fs;

use super::Program;
use super::cell::Cell;

pub(crate) const ORAS: &[Program] = &[("oras", "https://oras.land")];
pub(crate) const HELM: &[Program] = &[("helm", "https://helm.sh")];
pub(crate) const REGCTL: &[Program] = &[("regctl", "https://regclient.org")];
pub(crate) const COSIGN: &[Program] = &[("cosign", "https://github.com/sigstore/cosign")];
pub(crate) const CRANE: &[Program] = &[("crane", "https://github.com/google/go-containerregistry")];

/// One of the tools, in an empty folder.
pub(crate) struct Tool {
    program: &'static str,
    cell: Cell,
}

impl Tool {
    pub(crate) fn new(programs: &[Program]) -> Self {
        Tool { program: programs[0].0, cell: Cell::new() }
    }

    /// Runs it; panics with all of its output when it fails.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        self.attempt(args).unwrap_or_else(|said| panic!("{said}"))
    }

    /// Runs it with a variable, `NAME=VALUE`; panics with all of its output when it fails.
    pub(crate) fn run_with(&self, variable: &str, args: &[&str]) {
        self.cell.run("env", &[&[variable, self.program], args].concat()).unwrap_or_else(|said| panic!("{said}"));
    }

    /// Runs it when it may fail; the error is all of its output.
    pub(crate) fn attempt(&self, args: &[&str]) -> Result<String, String> {
        self.cell.run(self.program, args)
    }

    /// The same for a command whose answer is JSON.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let said = self.run(args);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error} in {said}"))
    }

    /// Writes a file into its folder. The tool runs there, so the file's name is enough for it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.cell.write(name, text);
    }

    /// A file of its folder.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.cell.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}
