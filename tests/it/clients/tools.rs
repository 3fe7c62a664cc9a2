//! oras and helm: clients of things that are no images. Debian has neither, so their tests run where they are on the path.

use std::fs;

use super::Program;
use super::cell::Cell;

pub(crate) const ORAS: &[Program] = &[("oras", "https://oras.land")];
pub(crate) const HELM: &[Program] = &[("helm", "https://helm.sh")];

/// One of them, in an empty folder.
pub(crate) struct Tool {
    program: &'static str,
    cell: Cell,
}

impl Tool {
    pub(crate) fn new(programs: &[Program]) -> Self {
        Tool { program: programs[0].0, cell: Cell::new() }
    }

    /// Runs it; panics with all it said when it fails.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        self.cell.run(self.program, args).unwrap_or_else(|said| panic!("{said}"))
    }

    /// The same for a command whose answer is JSON.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let said = self.run(args);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error} in {said}"))
    }

    /// Writes a file into its folder. It runs there, so the file's name is enough for it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.cell.write(name, text);
    }

    /// A file of its folder.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.cell.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}
